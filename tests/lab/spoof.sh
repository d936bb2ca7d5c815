#!/bin/bash
# Nobody speaks for another: forged frames, strict networks, closed ports, networks that stay apart, and a container
# that moves to another host.
source "$(dirname "$0")/lib.sh"
# the namespace that moves: made first, so that all hosts see it
MOVER=$LAB_NAME-mover MOUNTED=$LAB_DIR.mover
trap 'kill "${SERVER:-}" 2>/dev/null; umount "$MOUNTED" 2>/dev/null; rm -f "$MOUNTED"; ip netns del "$MOVER" 2>/dev/null; down' EXIT
ip netns del "$MOVER" 2>/dev/null; umount "$MOUNTED" 2>/dev/null
ip netns add "$MOVER" && ip -n "$MOVER" link set lo up && touch "$MOUNTED" &&
  mount --bind "/run/netns/$MOVER" "$MOUNTED" || { echo "error: no namespace"; exit 1; }
boot 3
for h in 1 3; do on $h sh -c "touch /run/netns/mover && mount --bind $MOUNTED /run/netns/mover"; done
launch 1 --status-addr 0.0.0.0:6782 & launch 2 "$(ip_of 1)" & launch 3 --strict --trusted-subnets 10.0.0.0/8 "$(ip_of 1)" & wait
eventually 15 established 3 6 || { echo "error: the mesh did not form"; weave 1 status; routers_say; exit 1; }
check "--trusted-subnets is accepted and said to do nothing" says 'trusted-subnets does nothing: all traffic is encrypted' cat "$WORK/launch.3"

cat >"$WORK/frames.py" <<'PY'
# say INTERFACE OWN-MAC OWN-IP THEIR-MAC THEIR-IP : one frame of each kind, with its name in it
# hear INTERFACE FILE : names of the frames that come in
import re, socket, struct, sys
what, interface, rest = sys.argv[1], sys.argv[2], sys.argv[3:]
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
raw.bind((interface, 0))
if what == 'hear':
    with open(rest[0], 'w', buffering=1) as file:
        print('ready', file=file)
        while True:
            frame, (_, _, kind, *_) = raw.recvfrom(2048)
            if kind != 4:   # PACKET_OUTGOING
                for name in re.findall(rb'<([a-z0-9-]+)>', frame): print(name.decode(), file=file)
pack = lambda text: bytes(int(b, 16) for b in text.split(':'))
me, my_ip = pack(rest[0]), socket.inet_aton(rest[1])
them, their_ip = pack(rest[2]), socket.inet_aton(rest[3])
STRANGER, VIP = pack('02:99:00:00:00:01'), socket.inet_aton(rest[1].rsplit('.', 1)[0] + '.253')
ALL = b'\xff' * 6
def sum16(data):
    total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    while total >> 16: total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff
def local(mac): return socket.inet_pton(socket.AF_INET6, 'fe80::') [:8] + bytes([mac[0] ^ 2]) + mac[1:3] + b'\xff\xfe' + mac[3:]
def ip4(src, ip, name, ports=(4000, 4001), dst=ALL):
    udp = struct.pack('!4H', *ports, 8 + len(name), 0) + name
    head = struct.pack('!BBHHHBBH', 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0) + ip + b'\xff' * 4
    return dst + src + b'\x08\0' + head[:10] + struct.pack('!H', sum16(head)) + head[12:] + udp
def ip6(src, ip, name, next=59, before=b''):
    body = before + name
    group = socket.inet_pton(socket.AF_INET6, 'ff02::1')
    if next == 58:
        body += b'\0' * (len(body) % 2)
        pseudo = ip + group + struct.pack('!I3xB', len(body), 58)
        body = body[:2] + struct.pack('!H', sum16(pseudo + body)) + body[4:]
    return pack('33:33:00:00:00:01') + src + b'\x86\xdd' + struct.pack('!IHBB', 6 << 28, len(body), next, 255) + ip + group + body
def arp(op, mac, ip, target, name, kind=1, src=me):
    return ALL + src + b'\x08\x06' + struct.pack('!HHBBH', kind, 0x800, 6, 4, op) + mac + ip + ALL + target + name
def icmp(kind, target): return bytes([kind]) + b'\0' * 7 + target
frames = {
    'own-ipv4': lambda n: ip4(me, my_ip, n),
    'own-ipv6': lambda n: ip6(me, local(me), n),
    'own-arp': lambda n: arp(2, me, my_ip, my_ip, n),
    'mac': lambda n: ip4(them, their_ip, n),
    'ipv4': lambda n: ip4(me, their_ip, n),
    'ipv6': lambda n: ip6(me, local(them), n),
    'arp-reply': lambda n: arp(2, me, their_ip, my_ip, n),
    'gratuitous-arp': lambda n: arp(1, me, their_ip, their_ip, n),
    'arp-hardware': lambda n: arp(2, me, their_ip, my_ip, n, kind=32),
    'advertisement': lambda n: ip6(me, local(me), n, 58, icmp(136, local(them))),
    'router': lambda n: ip6(me, local(me), n, 58, icmp(134, b'\0' * 8)),
    'dhcp': lambda n: ip4(me, my_ip, n, (67, 68)),
    'stp': lambda n: pack('01:80:c2:00:00:00') + me + struct.pack('!H', 3 + len(n)) + b'\x42\x42\x03' + n,
    'lldp': lambda n: pack('01:80:c2:00:00:0e') + me + b'\x88\xcc' + n,
    'tagged-twice': lambda n: ALL + me + b'\x88\xa8\0\x05\x81\0\0\x07' + ip4(me, my_ip, n)[12:],
    'stranger': lambda n: ip4(STRANGER, VIP, n),
    'vip': lambda n: ip4(me, VIP, n),
    'to-stranger': lambda n: ip4(me, my_ip, n, dst=pack('02:99:00:00:00:02')),
}
for name, frame in frames.items():
    for _ in range(2): raw.send(frame(b'<%s>' % name.encode()))
PY
OWN="own-arp own-ipv4 own-ipv6"
FORGED="advertisement arp-hardware arp-reply dhcp gratuitous-arp ipv4 mac router stp tagged-twice"
inside() { local h=$1 c=$2; shift 2; on "$h" nsenter -t "$(docker_ "$h" inspect -f '{{.State.Pid}}' "$c")" -n "$@"; }
mac() { docker_ "$1" inspect -f "{{(index .NetworkSettings.Networks \"$3\").MacAddress}}" "$2"; }
run() { docker_ "$1" run -d --name "$2" --net="$3" bb sleep 10000 >/dev/null || echo "error: no container $2"; }
listen() {  # listen HOST CONTAINER [FILE] : names of what it hears go to $WORK/FILE
  local file=${3:-$2}
  scripts/lab bg "$1" "hear-$file" nsenter -t "$(docker_ "$1" inspect -f '{{.State.Pid}}' "$2")" -n python3 "$WORK/frames.py" hear ethwe0 "$WORK/$file"
  eventually 5 grep -qs ready "$WORK/$file"
}
forge() {  # forge HOST CONTAINER NETWORK HOST CONTAINER : the first one sends as itself and as the second one
  inside "$1" "$2" python3 "$WORK/frames.py" say ethwe0 "$(mac "$1" "$2" "$3")" "$(address "$1" "$2" "$3")" "$(mac "$4" "$5" "$3")" "$(address "$4" "$5" "$3")"
}
heard() { sed 1d "$WORK/$1" | sort -u | tr '\n' ' '; }
hears() { eventually 5 eval '[[ "$(heard '"$1"')" == *"own-ipv4"* ]]'; sleep 0.3; same "$(heard "$1")" "$2 "; }   # hears CONTAINER NAMES
drops() { weave "$1" report | python3 -c "import json,sys; print(json.load(sys.stdin)['drops'].get('$2', 0))"; }
dropped() { local n; n=$(drops "$1" "$2"); echo "$n"; [ "$n" -gt "${3:-0}" ]; }
guard() { on "$1" nft list table bridge weave; }
guards() { guard "$1" | grep " . $2"; }  # guards HOST ADDRESS; reads all, for `grep -q` would make nft fail

echo "-- a network as it is by default: the kernel guards the ports of containers"
for h in 1 2; do
  docker_ $h network create -d weavemesh --ipam-driver weavemesh --subnet 10.33.0.0/24 -o weave.guard=false open >/dev/null
done
docker_ 3 network create -d weavemesh --ipam-driver weavemesh --subnet 10.33.0.0/24 open >/dev/null
docker_ 1 network create -d weavemesh --ipam-driver weavemesh --subnet 10.34.0.0/24 -o weave.guard=false sealed >/dev/null
docker_ 2 network create -d weavemesh --ipam-driver weavemesh --subnet 10.34.0.0/24 -o weave.strict=true sealed >/dev/null
check "an option that is neither true nor false is refused" fails 1 'weave.strict is .maybe.; it is true or false' docker_ 2 network create -d weavemesh --ipam-driver weavemesh --subnet 10.35.0.0/24 -o weave.strict=maybe odd
{ run 1 mal weave; run 1 ann weave; run 1 mal-open open; run 1 ann-open open; run 1 mal-sealed sealed; } &
{ run 2 bob weave; run 2 bob-open open; run 2 bob-sealed sealed; } &
{ run 3 cat weave; run 3 cat-open open; } & wait
check "guarded containers reach each other by name" pings 1 mal bob
check "on one host too" pings 1 mal ann
check "and one on a host that is strict" pings 2 bob cat
for c in "1 ann" "2 bob" "3 cat" "1 ann-open" "2 bob-open" "2 bob-sealed"; do listen $c; done
forge 1 mal weave 3 cat
check "no forged frame reaches a container on another host" hears bob "$OWN"
check "nor the one that is spoken for" hears cat "$OWN"
check "nor a container on the same host" hears ann "$OWN"
check "the report counts them" eventually 10 dropped 1 guard_ipv4_source
forge 1 mal-open open 3 cat-open
check "the forged frames are real: without the guard the same host hears them" hears ann-open "advertisement arp-hardware arp-reply dhcp gratuitous-arp ipv4 ipv6 mac $OWN router stp stranger tagged-twice vip"
check "and still another host hears nobody speak for a third one" hears bob-open "$OWN stranger vip"

echo "-- a strict network"
SOURCE=$(drops 2 unannounced_source) ADDRESS=$(drops 2 unannounced_address)
forge 1 mal-sealed sealed 2 bob-sealed
check "hears neither a strange station nor a strange address" hears bob-sealed "$OWN"
check "they are counted by their reasons" eval 'dropped 2 unannounced_source $SOURCE && dropped 2 unannounced_address $ADDRESS'
inside 2 bob-sealed ip neigh replace 10.34.0.250 lladdr 02:99:00:00:00:01 dev ethwe0 nud permanent
inside 2 bob-sealed busybox ping -c 1 -W 1 10.34.0.250 >/dev/null
check "the station was not learnt, and nothing is flooded for it" dropped 2 unannounced_destination
check "launch --strict is in force for every network" eventually 5 eval 'forge 1 mal-open open 2 bob-open; dropped 3 unannounced_source'

echo "-- ports of the router, and of the host"
GW=$(weave 1 expose) GW_OPEN=$(weave 1 expose net:10.33.0.0/24)
scripts/lab bg 1 web python3 -m http.server 8098 --directory "$WORK"
echo 'import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=2).read(400).decode())' >"$WORK/fetch.py"
web() { local url=$1; shift; "$@" python3 "$WORK/fetch.py" "$url"; }
check "the host is reached by the bridge" eventually 5 eval 'web "http://$GW:8098/" inside 1 ann && web "http://$GW:8098/" inside 2 bob'
check "it reads its state itself" says 'Version' web "http://$GW:6782/status" on 1
check "containers do not" eval 'refuse web "http://$GW:6782/status" inside 1 ann && refuse web "http://$GW:6782/status" inside 2 bob'
SHORT=$(drops 1 too_short) CLOSED=$(drops 1 guard_router_port)
for c in "1 ann" "2 bob"; do inside $c python3 -c "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('$GW', 6783))"; done
check "nor do they reach the port of the mesh" eventually 10 eval '[ "$(drops 1 guard_router_port)" -ge "$((CLOSED + 2))" ]'
check "which heard nothing" same "$(drops 1 too_short)" "$SHORT"
check "names are answered" says "$(address 1 ann)" docker_ 1 exec mal nslookup ann

echo "-- networks stay apart"
inside 1 ann ip route add 10.33.0.0/24 via "$GW"
inside 1 ann-open ip route add "$(address 1 ann)/32" via "$GW_OPEN"
reaches() { says ' 0% packet loss' "$@" -c 2 -i 0.2 -w 2 -W 1; }
check "the host reaches both" eval 'reaches on 1 busybox ping "$(address 1 ann)" && reaches on 1 busybox ping "$(address 1 ann-open open)"'
check "it takes nobody from one to the other" eval 'refuse reaches inside 1 ann busybox ping "$(address 1 ann-open open)" && refuse reaches inside 1 ann-open busybox ping "$(address 1 ann)"'

echo "-- a move to another host"
MOVING=10.40.1.7
cat >"$WORK/talk.py" <<'PY'
# serve PORT | call ADDRESS PORT FILE : counts to the other side and back over one connection
import socket, sys, time
if sys.argv[1] == 'serve':
    connection, _ = socket.create_server(('', int(sys.argv[2]))).accept()
    while data := connection.recv(64): connection.sendall(data)
connection = socket.create_connection((sys.argv[2], int(sys.argv[3])), 10)
connection.settimeout(60)
for n in range(100000):
    connection.sendall(b'%08d' % n)
    assert connection.recv(8, socket.MSG_WAITALL) == b'%08d' % n
    with open(sys.argv[4], 'w') as file: print(n, file=file)
    time.sleep(0.05)
PY
check "a namespace is attached" same "$(weave 1 attach $MOVING/12 --netns /run/netns/mover)" "$MOVING"
ip netns exec "$MOVER" python3 "$WORK/talk.py" serve 98 & SERVER=$!; disown
grown() { local n; n=$(cat "$WORK/count"); eventually "$1" eval '[ "$(cat "$WORK/count")" -gt $(('"$n"' + 10)) ]'; }
eventually 5 eval 'ip netns exec "$MOVER" ss -ltn | grep -q :98'
scripts/lab bg 2 talk nsenter -t "$(docker_ 2 inspect -f '{{.State.Pid}}' bob)" -n python3 "$WORK/talk.py" call "$MOVING" 98 "$WORK/count"
eventually 10 test -s "$WORK/count"
check "a container talks to it" grown 10
check "its port is guarded" guards 1 "$MOVING"
weave 1 detach --netns /run/netns/mover >/dev/null
check "off the network its port is forgotten" refuse guards 1 "$MOVING"
MOVED=$(date +%s%N)
check "it moves to another host with its address" eventually 10 eval '[ "$(weave 3 attach $MOVING/12 --netns /run/netns/mover)" = "$MOVING" ]'
check "the connection goes on" grown 20
echo "        ($(since "$MOVED") after the attach)"

echo "-- the guard stays"
on 1 nft delete table bridge weave
check "removed, it is back within 10 s" eventually 10 guard 1
listen 1 ann ann-again; listen 2 bob bob-again
forge 1 mal weave 3 cat
check "and works" eval 'hears ann-again "$OWN" && hears bob-again "$OWN"'
docker_ 1 kill -s KILL weave >/dev/null
check "it stands while the router is down" guard 1
docker_ 1 start weave >/dev/null
check "a router that comes back takes it over, and cuts nobody off" eval 'eventually 20 weave 1 status && pings 1 mal bob'
PORTS=$(guard 1 | grep -o 'vethwl[0-9a-f]*"' | sort -u | wc -l)
check "it knows the ports of its containers" same "$PORTS" 5
docker_ 1 rm -f mal ann mal-open ann-open mal-sealed >/dev/null
check "those of containers that are gone are forgotten" same "$(guard 1 | grep -c 'vethwl[0-9a-f]')" 0
weave 1 hide >/dev/null
docker_ 1 network rm open sealed >/dev/null
check "reset leaves nothing of it" eval 'weave 1 reset --force && ! guard 1 && ! on 1 nft list ruleset | grep -i weave'

echo "-- a host without nft"
docker_ 3 rm -f cat cat-open >/dev/null; docker_ 3 network rm open >/dev/null
weave 3 reset --force >/dev/null 2>&1
on 3 mount --bind /dev/null "$(readlink -f "$(command -v nft)")"
launch 3 "$(ip_of 2)"
check "says what is missing" says 'not kept from spoofing: .*nft' weave 3 status
docker_ 3 run -d --name dog --net=weave bb sleep 10000 >/dev/null
check "and serves its containers" eventually 10 pings 2 bob dog
finish
