#!/bin/bash
# weave expose and hide: the host itself on the network, and its neighbours through it.
source "$(dirname "$0")/lib.sh"
boot 3
scripts/lab harden 1
mesh 3
# The neighbour: a machine on the same switch, without Docker and weave, with a route by host 1.
NEAR=$LAB_NAME-near
trap 'ip netns del "$NEAR" 2>/dev/null; down' EXIT
ip netns del "$NEAR" 2>/dev/null
ip netns add "$NEAR" &&
  ip -n "$LAB_NAME-sw" link add vnear type veth peer name eth0 netns "$NEAR" &&
  ip -n "$LAB_NAME-sw" link set vnear master br0 up &&
  ip -n "$NEAR" addr add "$(ip_of 100)/24" dev eth0 && ip -n "$NEAR" link set eth0 up &&
  ip -n "$NEAR" route add 10.32.0.0/12 via "$(ip_of 1)" || { echo "error: no neighbour"; exit 1; }
near() { ip netns exec "$NEAR" "$@"; }
reaches() { says ' 0% packet loss' "$@" -c 2 -i 0.2 -w 4 -W 1; }   # reaches CMD... ping ADDRESS
rules() { on "$1" iptables-save | sed '/^#/d; s/ \[[0-9:]*\]//' | sort; }
unchanged() { diff <(echo "$2") <(rules "$1"); }
# who: a UDP server that answers everybody with the address that it sees him under
cat >"$WORK/who.py" <<'PY'
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
if sys.argv[1] == 'serve':
    s.bind(('', 98))
    while True:
        _, asker = s.recvfrom(9)
        s.sendto(asker[0].encode(), asker)
s.settimeout(1)
for _ in range(3):
    s.sendto(b'?', (sys.argv[1], 98))
    try: print(s.recv(99).decode()); break
    except TimeoutError: pass
PY
inside() { local h=$1 c=$2 pid; shift 2; pid=$(docker_ "$h" inspect -f '{{.State.Pid}}' "$c"); on "$h" nsenter -t "$pid" -n "$@"; }
ip netns exec "$NEAR" python3 "$WORK/who.py" serve >/dev/null 2>&1 &
SERVER=$!; disown
trap 'kill $SERVER 2>/dev/null; ip netns del "$NEAR" 2>/dev/null; down' EXIT
docker_ 1 run -d --name ant --net=weave bb sleep 10000 >/dev/null
docker_ 2 run -d --name bee --net=weave bb sleep 10000 >/dev/null
scripts/lab bg 2 who nsenter -t "$(docker_ 2 inspect -f '{{.State.Pid}}' bee)" -n python3 "$WORK/who.py" serve
eventually 5 weave 1 dns-lookup bee >/dev/null
ANT=$(weave 1 dns-lookup ant) BEE=$(weave 1 dns-lookup bee)
BEFORE=$(rules 1)

echo "-- a hardened host: rp_filter=1, INPUT and FORWARD drop"
check "without expose the host reaches no container" refuse reaches on 1 busybox ping "$BEE"
GW=$(weave 1 expose -h gw.weave.local)
check "expose prints one address" says '^10\.[0-9.]+$' echo "$GW"
check "again: the same address" same "$(weave 1 expose)" "$GW"
check "the host reaches its own container" reaches on 1 busybox ping "$ANT"
check "and a container of another host" reaches on 1 busybox ping "$BEE"
check "what may enter the host is for its own firewall" refuse reaches docker_ 2 exec bee ping "$GW"
on 1 iptables -I INPUT -i weave -p icmp -j ACCEPT
BEFORE=$(sort <<<"$BEFORE"$'\n'"-A INPUT -i weave -p icmp -j ACCEPT")
check "its own container reaches the host, by name" reaches docker_ 1 exec ant ping gw
check "a container of another host too" reaches docker_ 2 exec bee ping gw
check "the name is filed under weave:expose" says "^gw +$GW +weave:expose" weave 3 status dns
weave 1 expose -h two.weave.local >/dev/null
check "a second name is added" eventually 3 eval '[ "$(weave 3 dns-lookup two) $(weave 3 dns-lookup gw)" = "$GW $GW" ]'
check "ps shows the host first" says "^weave:expose 02:[0-9a-f:]+ $GW/12\$" eval 'weave 1 ps | head -n 1'
check "nobody else gets the address; the error names its holder" fails 1 'weave:expose' weave 2 expose "$GW/12"
check "a neighbour on the LAN reaches a container of this host" reaches near busybox ping "$ANT"
check "and one of another host, which sees this host" same "$(near python3 "$WORK/who.py" "$BEE")" "$GW"
inside 2 bee ip route add "$LAB_NET.100" via "$GW"
check "a container calls the neighbour, which sees this host" same "$(inside 2 bee python3 "$WORK/who.py" "$LAB_NET.100")" "$(ip_of 1)"

echo "-- without masquerade"
weave 2 expose >/dev/null; weave 3 expose >/dev/null
check "the address stays" same "$(weave 1 expose --without-masquerade)" "$GW"
check "the container sees the neighbour, whatever its own host exposes" same "$(near python3 "$WORK/who.py" "$BEE")" "$LAB_NET.100"
check "the neighbour sees the container" same "$(inside 2 bee python3 "$WORK/who.py" "$LAB_NET.100")" "$BEE"
check "hosts reach each other" reaches on 1 busybox ping "$(weave 2 expose)"

echo "-- it stays"
docker_ 1 kill -s KILL weave >/dev/null
check "the host is on the network while the router is down" reaches on 1 busybox ping "$ANT"
# as after a reboot: neither bridge nor rules
on 1 sh -c 'ip link del weave; ip link del weave-tap; iptables -F DOCKER-USER; iptables -F WEAVE-EXPOSE; iptables -X WEAVE-EXPOSE' >/dev/null 2>&1
docker_ 1 start weave >/dev/null 2>&1
check "the router comes back" eventually 20 weave 1 status
check "and the host is reached by its name" eventually 10 reaches docker_ 2 exec bee ping gw
check "the same address, still without masquerade" eventually 5 eval '[ "$(near python3 "$WORK/who.py" "$BEE")" = "$LAB_NET.100" ]'
on 1 ip addr flush dev weave; on 1 iptables -F DOCKER-USER; on 1 iptables -F WEAVE-EXPOSE
check "addresses and rules that somebody flushed are back within 10 s" eventually 10 reaches near busybox ping "$BEE"

check "launch does not mind the host's own route" eval 'weave 2 stop && weave 2 launch --password "$PASSWORD"'
check "and the host is still on the network" eventually 10 reaches on 2 busybox ping "$GW"

echo "-- another network"
for h in 1 2; do docker_ $h network create -d weavemesh --ipam-driver weavemesh --subnet 10.33.0.0/24 side >/dev/null; done
docker_ 2 run -d --name cat --net=side bb sleep 10000 >/dev/null
SIDE=$(rules 1)
check "a subnet of other hosts alone cannot be exposed" eventually 5 fails 1 'docker network create' weave 3 expose net:10.33.0.0/24
check "several addresses at once, in order" says '^10\.33\.0\.9 192\.168\.77\.1$' weave 1 expose 10.33.0.9/24 192.168.77.1/24
check "the host reaches a container of the other network" reaches on 1 busybox ping "$(address 2 cat side)"
check "hide takes a single address and prints it" same "$(weave 1 hide 192.168.77.1/24)" 192.168.77.1
docker_ 1 network rm side >/dev/null
check "what is exposed on a network goes with it" same "$(weave 1 ps | grep -c '10\.33\.')" 0
check "with its rules" refuse says '10\.33\.' on 1 iptables-save
docker_ 2 rm -f cat >/dev/null; docker_ 2 network rm side >/dev/null

echo "-- mistakes"
check "a subnet that the host reaches otherwise is refused" fails 1 'route of this host' weave 3 expose "$(ip_of 77)/24"
check "so is all that was asked for beside it" eval 'refuse weave 3 expose 192.168.78.1/24 net:10.40.0.0/24 "$(ip_of 77)/24" && refuse says "192.168.78|10.40.0" on 3 sh -c "ip addr; iptables-save; weave ps"'
check "a bad address is a usage error" fails 2 'cidr|CIDR' weave 3 expose 10.300.1.1/12
check "a name outside the domain is refused, with an example" fails 1 'gateway.weave.local' weave 3 expose -h gw.example.com
check "a container's address is refused, with its holder named" fails 1 'in use by .*bee|in use by .* on peer' weave 3 expose "$BEE/12"
check "no router: exit code 3" fails 3 'hint' weave 3 --socket /run/none.sock expose

echo "-- hide"
check "hide prints the addresses" same "$(weave 1 hide)" "$GW"
check "again: nothing, and no error" same "$(weave 1 hide; echo $?)" 0
check "no address is left" refuse says 'inet ' on 1 ip addr show dev weave
check "the names are gone" eventually 3 eval '[ -z "$(weave 3 dns-lookup gw)$(weave 3 dns-lookup two)" ]'
check "the firewall is as before" unchanged 1 "$BEFORE"
check "neighbours are outside again" refuse reaches near busybox ping "$ANT"
check "the address is free again" same "$(weave 3 expose "$GW/12")" "$GW"
weave 3 reset --force >/dev/null 2>&1
check "reset leaves nothing of it" refuse says -i 'weave|10\.32' on 3 sh -c 'iptables-save; ip addr; ip route'
finish
