#!/bin/bash
# The MTU of the underlay: found, and found again when it changes under a transfer, also
# where nothing says so and longer datagrams just vanish.
source "$(dirname "$0")/lib.sh"
boot 2
launch 1 --no-guard && launch 2 --no-guard "$(ip_of 1)"  # for the IPv6 addresses that are set by hand below
check "two hosts are connected" eventually 15 established 2 2
docker_ 1 run -d --name near --net=weave bb sleep 100000 >/dev/null
docker_ 2 run -d --name far --net=weave bb sleep 100000 >/dev/null
FAR=$(address 2 far)
inside() { local h=$1 c=$2; shift 2; on "$h" nsenter -t "$(docker_ "$h" inspect -f '{{.State.Pid}}' "$c")" -n "$@"; }
inside 2 far iperf3 -s >/dev/null &
underlay() { local h; for h in 1 2; do scripts/lab mtu $h "$1"; done; }
narrow() { scripts/lab mtu 1 "$1"; }  # only at one end: what the other sends too long vanishes
port() { ip -n "$LAB_NAME-sw" link set v2 mtu "$1"; }  # of the switch: drops what is longer, both ways
shows() { local h; for h in 1 2; do weave $h status connections | grep -E " mtu=($1) rtt=[0-9.]+ms" || return 1; done; }
# The router notices within 5 s, which is also what is printed; a busy machine gets more before the test fails.
noticed() {  # noticed "what" SECONDS MTUS : both ends show it
  local t; t=$(date +%s%N)
  check "$1: noticed within $2 s" eventually "$2" shows "$3"
  echo "        after $(since "$t")"
}
cat >"$WORK/gap.py" <<'PY'
import json, sys
rates = [i['sum']['bits_per_second'] for i in json.load(open(sys.argv[1]))['intervals']]
gap = longest = 0
for rate in rates:
    gap = gap + 1 if rate == 0 else 0
    longest = max(longest, gap)
print(f'longest gap {longest / 2} s; Mbit/s:', *(round(rate / 1e6) for rate in rates))
sys.exit(longest / 2 > float(sys.argv[2]))
PY
transfer() { inside 1 near iperf3 -c "$FAR" -t "$1" -i 0.5 -J >"$WORK/stream" & STREAM=$!; sleep 3; }
goes_on() {  # goes_on "what" SECONDS : the transfer ends well, and never stood still for longer
  check "$1: the transfer ends well" wait "$STREAM"
  check "$1: it never stood still for more than $2 s" python3 "$WORK/gap.py" "$WORK/stream" "$2"; sed 's/^/        /' "$WORK/out"
}

check "the MTU of the path and its round trip are shown" eventually 5 shows 1500
check "so they are with --json" says '"mtu": ?1500' weave 1 status connections --json

echo "-- the underlay changes under a transfer"
transfer 75
narrow 700; noticed "one end has 700" 15 700
underlay 9000; noticed "both have 9000" 50 9000
underlay 1500; noticed "both have 1500 again" 15 1500
goes_on "1500, 700, 9000, 1500" 5

echo "-- longer datagrams vanish on the way"
UP_TO_1200='10..|11..|120[0-4]'
transfer 25
port 1200; noticed "1200 at a port of the switch" 15 "$UP_TO_1200"
goes_on "a black hole" 5
port 1500
docker_ 1 exec near ping -w 50 -i 0.5 "$FAR" >/dev/null & PING=$!
noticed "1500 again, with few frames" 50 1500
wait "$PING"; sleep 8
port 1200; sleep 15
check "an idle session does not look" shows 1500
docker_ 1 exec near ping -w 18 -i 0.1 -s 1300 "$FAR" >/dev/null & PING=$!
noticed "its first use" 15 "$UP_TO_1200"
wait "$PING"; port 1500

echo "-- datagrams of every length across an underlay of 700"
underlay 700
for at in 1:near:fd00:9::1 2:far:fd00:9::2; do
  IFS=: read -r h c v6 <<<"$at"
  inside "$h" "$c" sysctl -qw net.ipv6.conf.ethwe0.disable_ipv6=0
  inside "$h" "$c" ip -6 addr add "$v6/64" dev ethwe0 nodad
done
cat >"$WORK/whole.py" <<'PY'
import socket, sys, zlib
def payload(n): return bytes((n + i * 7) % 251 for i in range(n))
if sys.argv[1] == 'serve':
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.bind(('::', 4400))
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    while True:
        data, who = s.recvfrom(70000)
        s.sendto(b'%d %d' % (len(data), zlib.crc32(data)), who)
family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET
s = socket.socket(family, socket.SOCK_DGRAM); s.settimeout(0.5)
s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
s.connect((sys.argv[1], 4400))
sizes = [*range(1, 3000, 7), *range(3000, 65507, 1777), 1342, 1343, 1344, 1450, 1472, 65506, 65507]
lost, again = [], 0
for size in sizes:
    data = payload(size)
    want = b'%d %d' % (size, zlib.crc32(data))
    for attempt in range(4):
        s.send(data)
        try:
            while (got := s.recv(100)) != want:
                assert int(got.split()[0]) in sizes and got == b'%d %d' % (n := int(got.split()[0]), zlib.crc32(payload(n))), f'{size}: {got} came'
            break
        except TimeoutError: again += 1
    else: lost.append(size)
print(f'{len(sizes)} lengths, {again} sent again, never came: {lost}')
sys.exit(bool(lost) or again > 20)
PY
inside 2 far python3 "$WORK/whole.py" serve & sleep 1
for to in "$FAR" fd00:9::2; do
  check "UDP of 1 to 65,507 bytes to $to arrives whole" inside 1 near python3 "$WORK/whole.py" "$to"; sed 's/^/        /' "$WORK/out"
done
check "the path is found to be one of 700 by then" eventually 5 shows 700
underlay 1500
check "no warning in a router's log" refuse says 'WARN|ERROR|panicked' docker_ 1 logs weave
finish
