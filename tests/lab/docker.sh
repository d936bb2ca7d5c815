#!/bin/bash
# The Docker driver: every way a container can come and go.
source "$(dirname "$0")/lib.sh"
boot 2
mesh 2
run() { local h=$1 name=$2; shift 2; docker_ "$h" run -d --name "$name" --net=weave "$@" bb sleep 10000; }

echo "-- names and addresses"
run 1 ant --network-alias=alias-of-ant >/dev/null; run 2 bee --ip 10.40.1.99 >/dev/null
check "--ip gives that address" same "$(address 2 bee)" 10.40.1.99
check "--ip of a used address is refused by another host, with its holder named" says 'in use|taken|holds|held' docker_ 1 run --rm --net=weave --ip 10.40.1.99 bb true
docker_ 1 rm -f $(docker_ 1 ps -aq --filter status=created) >/dev/null 2>&1
check "the container's name resolves everywhere" eventually 3 says '^10\.' weave 2 dns-lookup ant
check "its alias resolves on the other host" pings 2 bee alias-of-ant 1
check "a bare name resolves without --dns" pings 1 ant bee 1
check "PTR leads back to a name" says 'bee.weave.local' docker_ 1 exec ant nslookup 10.40.1.99
check "an unknown name in the domain is NXDOMAIN" says 'NXDOMAIN|can.t resolve' docker_ 1 exec ant nslookup nosuch.weave.local
check "AAAA of a known name is empty, not an error" refuse says 'NXDOMAIN|SERVFAIL' docker_ 1 exec ant nslookup -type=aaaa bee.weave.local
check "names of the outside world resolve" says 192.0.2.53 docker_ 1 exec ant nslookup upstream.example
check "names are case-insensitive" pings 1 ant BEE.Weave.Local 1

echo "-- connect, disconnect, rename"
docker_ 1 network create beside >/dev/null
docker_ 1 run -d --name late --net=beside bb sleep 10000 >/dev/null
docker_ 1 network connect --alias web weave late
check "network connect gives an address and the names" eventually 3 says '^10\.' weave 2 dns-lookup web
check "it is reached from the other host" pings 2 bee late 1
docker_ 1 network disconnect weave late
check "network disconnect takes the names away" eventually 3 same "" "$(sleep 1; weave 2 dns-lookup late)"
check "and leaves the container the resolvers that it had" says 192.0.2.53 docker_ 1 exec late nslookup upstream.example
docker_ 1 rename ant ant2
check "rename moves the name" eventually 3 says '^10\.' weave 2 dns-lookup ant2
check "the old name is gone" same "" "$(weave 2 dns-lookup ant)"

echo "-- stop, start, restart, kill, pause"
docker_ 2 restart -t 0 bee >/dev/null
check "restart keeps an --ip address" same "$(address 2 bee)" 10.40.1.99
check "and is reached again" eventually 3 pings 1 ant2 bee 1
docker_ 2 stop -t 0 bee >/dev/null
check "a stopped container's name is gone within 1 s" eventually 2 says '^$' weave 1 dns-lookup bee
docker_ 2 start bee >/dev/null
check "start brings it back" eventually 3 pings 1 ant2 bee 1
docker_ 2 kill bee >/dev/null; docker_ 2 start bee >/dev/null
check "so does start after kill" eventually 3 pings 1 ant2 bee 1
docker_ 2 restart -t 0 bee >/dev/null

echo "-- several networks"
for h in 1 2; do docker_ $h network create -d weavemesh --ipam-driver weavemesh --subnet 10.33.0.0/24 side >/dev/null; done
docker_ 1 run -d --name s1 --net=side bb sleep 10000 >/dev/null; docker_ 2 run -d --name s2 --net=side bb sleep 10000 >/dev/null
check "a second network carries traffic between hosts" eventually 5 pings 1 s1 "$(address 2 s2 side)" 1
check "its names resolve inside it" pings 1 s1 s2 1
check "networks are separate segments" refuse docker_ 1 exec s1 ping -c1 -W1 10.40.1.99
check "the same subnet twice on one host is refused" says 'already|overlap|in use' docker_ 1 network create -d weavemesh --ipam-driver weavemesh --subnet 10.33.0.0/24 twice
check "a subnet outside the range is refused with the range named" says '10.32.0.0/12' docker_ 1 network create -d weavemesh --ipam-driver weavemesh --subnet 172.30.0.0/24 outside
check "a network without --subnet is refused with what to do" says '\-\-subnet' docker_ 1 network create -d weavemesh --ipam-driver weavemesh nosubnet
docker_ 1 rm -f s1 >/dev/null; docker_ 2 rm -f s2 >/dev/null
check "a network is removed" docker_ 1 network rm side
check "with its bridge" says '^1$' on 1 sh -c 'ip -br link show type bridge | grep -c weave'
docker_ 2 network rm side >/dev/null

echo "-- 100 quick containers on each of two hosts, 4 at a time"
used() { weave "$1" status ipam --json | python3 -c 'import json,sys; print(json.load(sys.stdin)["active"])'; }
BEFORE="$(used 1) $(used 2)"
cat >"$WORK/churn.sh" <<'SH'
seq 1 "$2" | xargs -P 4 -I{} sh -c "docker run --rm --net=weave bb sh -c 'ip -4 -o addr show ethwe0 | busybox awk \"{print \\\$4}\"; sleep 0.\$((RANDOM % 9))' || echo FAILED"
SH
RUNS=${CHURN_RUNS:-100}
for h in 1 2; do on $h bash "$WORK/churn.sh" $h "$RUNS" >"$WORK/churn.$h" 2>&1 & done; wait
check "none fails" refuse grep -v '^10\.' "$WORK/churn.1" "$WORK/churn.2"
check "all ran" same "$(cat "$WORK"/churn.? | wc -l)" $((2 * RUNS))
check "no address is given on both hosts" same "$(sort -u "$WORK/churn.1" | comm -12 - <(sort -u "$WORK/churn.2"))" ""
check "no address is leaked" eventually 5 eval '[ "$(used 1) $(used 2)" = "'"$BEFORE"'" ]'
check "no veth is leaked" same "$(on 1 sh -c 'ip -o link show type veth | grep -c "vethwl.*master weave"')" "$(docker_ 1 ps -q --filter network=weave | wc -l)"

echo "-- what is left after reset"
docker_ 1 rm -f ant2 late >/dev/null; docker_ 2 rm -f bee >/dev/null
for h in 1 2; do weave $h reset --force >/dev/null 2>&1; done
check "no interface is left" refuse on 1 sh -c 'ip -o link | grep -E "weave|vethwe|vwt"'
check "no rule is left" refuse on 1 sh -c 'iptables-save | grep -i weave'
check "no Docker network or container is left" refuse on 1 sh -c 'docker network ls | grep weave; docker ps -a | grep weave'
check "no state is left" refuse on 1 sh -c 'ls /var/lib/weave/* /run/weave /run/docker/plugins/weavemesh.sock 2>/dev/null | grep .'
finish
