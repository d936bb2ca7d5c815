#!/bin/bash
# Hosts that cannot reach each other: the third one relays, and reads nothing.
source "$(dirname "$0")/lib.sh"
boot 3
# through LON in status connections of host 1, or of host 3 to host 1
relayed() { says 'established relay [0-9a-f:]+\(lon\)' weave "$1" status connections; }
both_relayed() { relayed 1 && relayed 3; }
both_direct() { local h; for h in 1 3; do refuse relayed "$h" && says "established direct .*$([ "$h" = 1 ] && echo mac || echo nyc)" weave "$h" status connections || return 1; done; }

echo "-- nyc and mac have no direct path from the start"
scripts/lab partition 1 3
launch 1; launch 2 "$(ip_of 1)"; launch 3 "$(ip_of 2)"
check "both are connected through the host that reaches both" eventually 20 both_relayed
check "everybody counts three peers and six sessions" eventually 15 established 3 6
check "what does not work is said" eventually 15 says 'no answer on UDP 6783' weave 1 status connections
docker_ 1 run -d --name=db --net=weave --hostname=db.weave.local bb sh -c 'while true; do echo PlainTextPayload | nc -l -p 4242; done' >/dev/null
docker_ 3 run -d --name=app --net=weave bb sleep 1000 >/dev/null
DB_IP=$(address 1 db)
scripts/lab bg 2 tcpdump tcpdump -i eth0 -w "$WORK/relay.pcap" -U
sleep 1
check "containers of both ping each other by name" pings 3 app db.weave.local
check "TCP crosses" says PlainTextPayload docker_ 3 exec app sh -c 'nc -w 3 db.weave.local 4242 </dev/null'
check "frames of full length cross" docker_ 3 exec app ping -c 3 -W 2 -s 1342 db.weave.local
sleep 1; on 2 pkill -f "$WORK/relay.pcap"; sleep 0.3
cat >"$WORK/leaks.py" <<'PY'
import sys
wire = open(sys.argv[1], 'rb').read()
ip = bytes(int(x) for x in sys.argv[2].split('.'))
assert len(wire) > 5000, f'the capture holds only {len(wire)} bytes'
sys.exit(any(b in wire for b in (ip, b'PlainTextPayload')))
PY
check "what passes the relay cannot be read on the wire" python3 "$WORK/leaks.py" "$WORK/relay.pcap" "$DB_IP"
in_memory() {  # of the router on host 2: the payload stands in its memory
  on 2 python3 - "$(docker_ 2 inspect -f '{{.State.Pid}}' weave)" <<'PY'
import re, sys
pid = sys.argv[1]
maps = open(f'/proc/{pid}/maps').read()
mem = open(f'/proc/{pid}/mem', 'rb')
read = 0
for start, end in re.findall(r'^([0-9a-f]+)-([0-9a-f]+) rw', maps, re.M):
    start, end = int(start, 16), int(end, 16)
    try:
        mem.seek(start); block = mem.read(end - start)
    except (OSError, ValueError):
        continue
    read += len(block)
    if b'PlainTextPayload' in block:
        sys.exit(0)
assert read > 1 << 20, f'only {read} bytes of its memory were read'
sys.exit(1)
PY
}
check "nor does it stand in the memory of the relay" fails 1 '' in_memory

echo "-- the relay restarts"
docker_ 3 exec app ping -i 0.2 db.weave.local >/dev/null 2>&1 &
on 2 pkill -KILL -x weave
check "the path through it comes back" eventually 40 docker_ 3 exec app ping -c1 -W1 db.weave.local
check "it is the relay again" eventually 30 both_relayed

echo "-- a direct path opens, and breaks again"
scripts/lab heal
check "the direct path takes over within 10 s" eventually 10 both_direct
check "pings cross" pings 3 app db.weave.local
scripts/lab partition 1 3
check "when it breaks the relay takes over within 10 s" eventually 10 docker_ 3 exec app ping -c1 -W1 db.weave.local
check "status says so" eventually 10 both_relayed
finish
