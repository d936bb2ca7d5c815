#!/bin/bash
# Networks with IPv6 addresses, between hosts that reach each other over IPv6 only.
export LAB_IPV6=${LAB_IPV6:-fd77:6783::}
source "$(dirname "$0")/lib.sh"
make() { local h=$1 name=$2; shift 2; docker_ "$h" network create -d weavemesh --ipam-driver weavemesh "$@" "$name"; }
boot 3
launch 3 "$(ip_of 99)"
check "a host that reaches nobody cannot know the subnet of its mesh" fails 1 'no IPv6 subnet can be derived yet' make 3 early --ipv6 --subnet 10.41.0.0/16
weave 3 reset --force >/dev/null 2>&1
mesh 3
run() { local h=$1 name=$2 net=$3; shift 3; docker_ "$h" run -d --name "$name" --net="$net" "$@" bb sleep 10000; }
address6() { docker_ "$1" inspect -f "{{(index .NetworkSettings.Networks \"$3\").GlobalIPv6Address}}" "$2"; }  # address6 HOST CONTAINER NETWORK
subnet6() { docker_ "$1" network inspect -f '{{range .IPAM.Config}}{{println .Subnet}}{{end}}' "$2" | grep :; }
pings6() { says ' 0% packet loss' docker_ "$1" exec "$2" ping -6 -c 3 -i 0.2 -w 10 "$3"; }
used() { weave "$1" status ipam --json | python3 -c 'import json,sys; print(json.load(sys.stdin)["active"])'; }
drops() { weave "$1" report | python3 -c "import json,sys; print(json.load(sys.stdin)['drops'].get('$2', 0))"; }

echo "-- the underlay"
check "hosts have nothing but IPv6 on it" refuse says 'inet ' on 1 ip -4 addr show eth0
check "the mesh is connected over IPv6" says "established.*${LAB_IPV6}|${LAB_IPV6}.*established" weave 1 status connections

echo "-- a network with an IPv6 subnet"
check "a subnet with no room for numbers is refused" fails 1 'no room for the numbers' make 1 odd --ipv6 --subnet 10.45.0.0/16 --subnet fd00:9::/97
check "so is one that is not for networks" fails 1 'neither unique local nor global' make 1 odd --ipv6 --subnet 10.45.0.0/16 --subnet fe80::/64
check "so is a part of one" fails 1 'ip-range fd00:9::.* is IPv6' make 1 odd --ipv6 --subnet 10.45.0.0/16 --subnet fd00:9::/64 --ip-range fd00:9::/112
check "so is a gateway that containers may get" fails 1 'which containers may get' make 1 odd --ipv6 --subnet 10.45.0.0/16 --subnet fd00:9::/64 --gateway fd00:9::a20:5
check "so are two" fails 1 'one IPv6 subnet at most' make 1 odd --ipv6 --subnet 10.45.0.0/16 --subnet fd00:9::/64 --subnet fd00:a::/64
for h in 1 2; do check "h$h: it is made" make $h six --ipv6 --subnet 10.40.0.0/16 --subnet fd00:5::/64; done
check "h3: another IPv6 subnet for it is refused, with a peer named" eventually 5 fails 1 'has the IPv6 subnet fd00:5::/64 on peer .*give the same' make 3 six --ipv6 --subnet 10.40.0.0/16 --subnet fd00:6::/64
check "h3: without one it is given the same" eval 'make 3 six --ipv6 --subnet 10.40.0.0/16 && same "$(subnet6 3 six)" fd00:5::/64'
check "the IPv6 subnet again is refused" fails 1 'already in use by network' make 1 again --ipv6 --subnet 10.46.0.0/16 --subnet fd00:5::/64
EMPTY="$(used 1) $(used 2)"
{ run 1 ant six; run 1 ape six; } >/dev/null & run 2 bee six >/dev/null & run 3 cat six >/dev/null & wait
ALL=$(for c in "1 ant" "1 ape" "2 bee" "3 cat"; do address6 $c six; done)
check "every container has an address of it" same "$(grep -c '^fd00:5::a[23]' <<<"$ALL")" 4
check "of its own" same "$(sort -u <<<"$ALL" | wc -l)" 4
check "besides IPv4" pings 1 ant bee
check "it is reached by name, on another host" pings6 1 ant bee
check "on a third one" pings6 2 bee cat
check "on the same host" pings6 1 ant ape
check "by address, both ways" eval 'pings6 1 ant "$(address6 3 cat six)" && pings6 3 cat "$(address6 1 ant six)"'
check "a big packet passes" says ' 0% packet loss' docker_ 1 exec ant ping -6 -s 8000 -c 2 -w 10 bee

echo "-- names"
BEE=$(address6 2 bee six)
check "AAAA is answered" says "$BEE" docker_ 1 exec ant nslookup -type=aaaa bee.weave.local
check "A is, too" says "$(address 2 bee six)" docker_ 1 exec ant nslookup -type=a bee.weave.local
check "the reverse leads back to the name" says 'bee.weave.local' docker_ 1 exec ant nslookup "$BEE"
check "the router knows both" says "$BEE" weave 3 dns-lookup bee
check "names of the outside world resolve" says 192.0.2.53 docker_ 1 exec ant nslookup -type=a upstream.example
check "ps shows it" says "$BEE/64" weave 2 ps
check "ping finds the way to it" says 'bee|reached|ok' weave 1 ping "$BEE"

echo "-- TCP"
docker_ 2 exec -d bee nc -l -p 98 -e sh -c 'cat >/tmp/got'
eventually 5 docker_ 2 exec bee sh -c 'netstat -ltn | grep -q :98'
docker_ 1 exec ant sh -c "head -c 3000000 /dev/urandom >/tmp/sent; nc -w 5 $BEE 98 </tmp/sent" >/dev/null
sum() { docker_ "$1" exec "$2" md5sum "$3" | cut -d' ' -f1; }
check "3 MB arrive over IPv6" eventually 10 eval '[ "$(sum 1 ant /tmp/sent)" = "$(sum 2 bee /tmp/got)" ]'

echo "-- an address that is asked for"
check "is given" eval 'run 1 wish six --ip6 fd00:5::10.32.77.7 && same "$(address6 1 wish six)" fd00:5::a20:4d07'
check "and is reached" pings6 3 cat fd00:5::a20:4d07
check "not twice, on another host" says 'number it ends in: .*(in use|taken|held)' docker_ 2 run --rm --net=six --ip6 fd00:5::a20:4d07 bb true
check "not one that ends in no address of the range" says 'ends in one of the range 10.32.0.0/12' docker_ 2 run --rm --net=six --ip6 fd00:5::77 bb true
docker_ 2 rm -f $(docker_ 2 ps -aq --filter status=created) >/dev/null 2>&1
docker_ 1 rm -f wish >/dev/null
check "once it is free another host has it" eventually 10 eval 'docker_ 2 rm -f wish >/dev/null 2>&1; run 2 wish six --ip6 fd00:5::a20:4d07'
docker_ 2 rm -f wish >/dev/null

echo "-- what a container sends in the name of others"
cat >"$WORK/frames.py" <<'PY'
# hear FILE | say MAC ADDRESS OTHER : as ADDRESS, as OTHER, and an advertisement of OTHER; to all nodes
import re, socket, struct, sys
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
raw.bind(('ethwe0', 0))
if sys.argv[1] == 'hear':
    with open(sys.argv[2], 'w', buffering=1) as file:
        print('ready', file=file)
        while True:
            frame, (_, _, kind, *_) = raw.recvfrom(2048)
            if kind != 4:   # PACKET_OUTGOING
                for name in re.findall(rb'<([a-z]+)>', frame): print(name.decode(), file=file)
mac = bytes(int(b, 16) for b in sys.argv[2].split(':'))
own, other, group = (socket.inet_pton(socket.AF_INET6, ip) for ip in (*sys.argv[3:5], 'ff02::1'))
def sum16(data):
    total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    while total >> 16: total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff
def ip6(source, next, body):
    return bytes.fromhex('333300000001') + mac + b'\x86\xdd' + struct.pack('!IHBB', 6 << 28, len(body), next, 255) + source + group + body
advert = b'\x88\0\0\0\x20\0\0\0' + other + b'<advert>'
advert = advert[:2] + struct.pack('!H', sum16(own + group + struct.pack('!I3xB', len(advert), 58) + advert)) + advert[4:]
for _ in range(3):
    for frame in ip6(other, 59, b'<forged>'), ip6(own, 58, advert), ip6(own, 59, b'<own>'): raw.send(frame)
PY
pid() { docker_ "$1" inspect -f '{{.State.Pid}}' "$2"; }
for c in "1 ape" "2 bee"; do
  read -r h name <<<"$c"
  scripts/lab bg "$h" "hear-$name" nsenter -t "$(pid "$h" "$name")" -n python3 "$WORK/frames.py" hear "$WORK/$name"
  eventually 5 grep -qs ready "$WORK/$name"
done
MAC=$(docker_ 1 inspect -f '{{(index .NetworkSettings.Networks "six").MacAddress}}' ant)
FORGED=$(drops 1 guard_ipv6_source) ADVERTS=$(drops 1 guard_neighbour)
on 1 nsenter -t "$(pid 1 ant)" -n python3 "$WORK/frames.py" say "$MAC" "$(address6 1 ant six)" "$(address6 3 cat six)"
hears() { eventually 5 grep -q own "$WORK/$1" && sleep 0.3 && same "$(sed 1d "$WORK/$1" | sort -u)" own; }
check "does not reach the container beside it" hears ape
check "nor one on another host" hears bee
check "it is counted" eventually 10 eval '[ "$(drops 1 guard_ipv6_source)" -ge $((FORGED + 3)) ] && [ "$(drops 1 guard_neighbour)" -ge $((ADVERTS + 3)) ]'

echo "-- restarts"
BEFORE=$ALL
all() { for c in "1 ant" "1 ape" "2 bee" "3 cat"; do address6 $c six; done; }
USED="$(used 1) $(used 2)"
kill_routers 1 2 3
check "routers that were killed are back" eventually 30 established 3 6
check "containers have what they had" same "$(all)" "$BEFORE"
check "they reach each other" eventually 10 pings6 1 ant bee
check "names, too" eventually 10 says "$BEE" docker_ 3 exec cat nslookup -type=aaaa bee.weave.local
check "nothing was given back" same "$(used 1) $(used 2)" "$USED"
check "a new container has a new address" eval 'run 1 new six && ! grep -qx "$(address6 1 new six)" <<<"$BEFORE"'
docker_ 1 rm -f new >/dev/null
docker_ 2 restart -t 0 bee >/dev/null
check "a container that is started again is reached" eventually 10 pings6 1 ant bee
scripts/lab dockerd 1 kill; scripts/lab dockerd 1 start
check "after dockerd was killed containers start again" eval 'docker_ 1 start ant ape && eventually 20 pings6 1 ant bee'
check "and are reached" eventually 10 pings6 3 cat ape

echo "-- a network with no IPv6 subnet given"
for h in 1 2 3; do check "h$h: it is made" make $h derived --ipv6 --subnet 10.41.0.0/16; done
ULA=$(subnet6 1 derived)
check "its subnet is a unique local /64" says '^fd[0-9a-f:]+::/64$' echo "$ULA"
check "the same on all hosts" same "$(subnet6 2 derived) $(subnet6 3 derived)" "$ULA $ULA"
run 1 dog derived >/dev/null; run 3 eel derived >/dev/null
check "containers reach each other" eventually 5 pings6 1 dog eel
make 1 other --ipv6 --subnet 10.42.0.0/16 >/dev/null
check "another network has another one of the same mesh" eval '[ "$(subnet6 1 other)" != "$ULA" ] && same "$(subnet6 1 other | cut -d: -f1-3)" "$(cut -d: -f1-3 <<<"$ULA")"'

echo "-- the end"
docker_ 1 rm -f ant ape dog >/dev/null; docker_ 2 rm -f bee >/dev/null; docker_ 3 rm -f cat eel >/dev/null
# dockerd, when it was killed, has forgotten what it had: that is freed by comparison
check "containers that are gone hold no address" eventually 90 eval 'same "$(used 1) $(used 2)" "$EMPTY"'
check "nor does the guard know them" eventually 90 refuse says 'fd00:5::|vethwl[0-9a-f]' on 1 nft list table bridge weave
check "nor the names" eventually 5 same "$(weave 3 dns-lookup bee)" ""
check "the networks are removed" docker_ 1 network rm six derived other
finish
