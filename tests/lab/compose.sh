#!/bin/bash
# Docker Compose: projects on several hosts find each other by the names of their services.
source "$(dirname "$0")/lib.sh"
boot 2
mesh 2
compose() {  # compose HOST PROJECT ARGS... : docker-compose as Debian has it
  local h=$1 project=$2; shift 2
  on "$h" docker-compose --project-name "$project" --file "$WORK/$project.yml" "$@"
}
addresses() { weave "$1" dns-lookup "$2" | wc -l; }
settled() { eventually 5 eval "[ \"\$(addresses $1 $2)\" = $3 ]"; }   # settled HOST NAME COUNT
cat >"$WORK/shop.yml" <<'YML'
version: "3.5"
services:
  web:
    image: bb
    command: ["nc", "-ll", "-p", "80", "-e", "hostname"]
  till:
    image: bb
    command: ["sleep", "10000"]
    networks:
      default:
        aliases: [cashier, cash.weave.local]
networks:
  default:
    external:
      name: weave
YML
cat >"$WORK/visit.yml" <<'YML'
version: "3.5"
services:
  guest:
    image: bb
    command: ["sleep", "10000"]
networks:
  default:
    external:
      name: weave
YML
cat >"$WORK/own.yml" <<'YML'
version: "3.5"
services:
  one: {image: bb, command: ["sleep", "10000"]}
  two: {image: bb, command: ["sleep", "10000"]}
networks:
  default:
    driver: weavemesh
    ipam:
      driver: weavemesh
      config: [{subnet: 10.33.0.0/24}]
YML

echo "-- a project on each host, on the network weave"
check "a project comes up" compose 1 shop up -d
check "and one on the other host" compose 2 visit up -d
check "the service's name is known on both hosts" settled 2 web 1
check "a service reaches another of its project" pings 1 shop_till_1 web 1
check "and one of another host's project" pings 2 visit_guest_1 web 1
check "and back" pings 1 shop_till_1 guest 1
check "its port answers" says '^[0-9a-f]{12}$' docker_ 2 exec visit_guest_1 nc -w 3 web 80
check "aliases of the service work" pings 2 visit_guest_1 cashier 1
check "also within the domain" pings 2 visit_guest_1 cash.weave.local 1
check "the container's own name too" pings 2 visit_guest_1 shop_web_1 1

echo "-- scale, restart, down, up"
check "scale to three" compose 1 shop up -d --scale web=3
check "the name has three addresses, on both hosts" eval 'settled 2 web 3 && settled 1 web 3'
check "a client in a container sees all three" same "$(docker_ 2 exec visit_guest_1 nslookup web.weave.local | grep -c '^Address.* 10\.')" 3
check "each of the three answers" same "$(for ip in $(weave 2 dns-lookup web); do docker_ 2 exec visit_guest_1 nc -w 3 "$ip" 80; done | sort -u | wc -l)" 3
check "scale back" compose 1 shop up -d -t 0 --scale web=1
check "the name has one address" settled 2 web 1
check "restart" compose 1 shop restart -t 0
check "it is reached again" eventually 5 pings 2 visit_guest_1 web 1
check "down" compose 1 shop down -t 0
check "its names are gone, on both hosts" eval 'settled 2 web 0 && settled 1 web 0 && settled 2 cashier 0'
check "the network stays, and who else is on it" pings 2 visit_guest_1 guest 1
check "up again" compose 1 shop up -d
check "it is reached again by name" eventually 5 pings 2 visit_guest_1 web 1
compose 1 shop down -t 0 >/dev/null 2>&1; compose 2 visit down -t 0 >/dev/null 2>&1

echo "-- a network that the project makes itself"
for h in 1 2; do compose $h own up -d >"$WORK/own.$h" 2>&1 & done; wait
check "both hosts have the project" same "$(for h in 1 2; do docker_ $h ps -q --filter name=own_ | wc -l; done | xargs)" "2 2"
check "each name has an address on each host" settled 1 two 2
for h in 1 2; do
  check "host $h reaches both, whichever it asks for" eval "for ip in \$(weave $h dns-lookup two); do pings $h own_one_1 \$ip 1 || exit 1; done"
done
check "down removes the network" eval 'compose 1 own down -t 0 && compose 2 own down -t 0'
check "nothing is left of it" eventually 5 eval '! on 1 ip -br link | grep -E "weavet-|vethwl" && settled 1 two 0'
finish
