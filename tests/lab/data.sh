#!/bin/bash
# The data path carries what it is given, at speed: long transfers, datagrams of every
# size, IPv6, multicast, a router that dies in the middle. DATA_GB (1) is what each
# transfer moves, in units of 10^9 bytes.
source "$(dirname "$0")/lib.sh"
DATA_GB=${DATA_GB:-1}
boot 2
for h in 1 2; do
  on $h mkdir -p /run/w
  on $h ip netns add ns; on $h ip -n ns link set lo up
done
start() {  # start HOST [args]
  local h=$1; shift
  scripts/lab bg "$h" router weave router --no-docker --password "$PASSWORD" --state-dir /var/lib/weave --socket /run/w/weave.sock "$@"
  eventually 10 w "$h" status >/dev/null 2>&1
}
w() { local h=$1; shift; on "$h" env WEAVE_SOCKET=/run/w/weave.sock weave "$@"; }
in_ns() { local h=$1; shift; on "$h" ip netns exec ns "$@"; }
start 1; start 2 "$(ip_of 1)"
for h in 1 2; do w $h attach 192.168.77.$h/24 fd77::$h/64 --netns /run/netns/ns >/dev/null; done
check "two namespaces reach each other" eventually 10 in_ns 1 busybox ping -c1 -W1 192.168.77.2
check "super-frames and checksums are left to the kernel" says 'Offloads: .*tso.*uso.*checksum.*gso.*gro' w 1 status
check "the connection says cipher and offloads" says 'established .* cipher=.* offloads=gso,gro' w 1 status connections
check "its keys withstand quantum computers" says 'established .* pq=yes' w 1 status connections

cat >"$WORK/data.py" <<'PY'
# tcp-serve | tcp-send ADDRESS BYTES | udp-echo | udp-sizes ADDRESS | multicast-hear | multicast-say
import hashlib, os, random, socket, struct, sys, time
what, rest = sys.argv[1], sys.argv[2:]
def stream(connection):
    hash, count = hashlib.sha256(), 0
    while chunk := connection.recv(1 << 20):
        hash.update(chunk); count += len(chunk)
    return hash, count
if what == "tcp-serve":
    server = socket.create_server(("::", 4300), family=socket.AF_INET6, dualstack_ipv6=True)
    while True:
        connection, _ = server.accept()
        hash, count = stream(connection)
        connection.sendall(f"{count} {hash.hexdigest()}".encode()); connection.close()
elif what == "tcp-send":
    left, hash = int(float(rest[1])), hashlib.sha256()
    block = [random.Random(seed).randbytes(1 << 20) for seed in range(16)]
    with socket.create_connection((rest[0], 4300), timeout=60) as connection:
        sent = 0
        while sent < left:
            chunk = block[(sent >> 20) % 16][:left - sent]
            connection.sendall(chunk); hash.update(chunk); sent += len(chunk)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(200).decode()
    print(answer); sys.exit(answer != f"{sent} {hash.hexdigest()}")
elif what == "udp-echo":
    family = socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as udp:
        udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        udp.bind(("::", 4301))
        while True:
            data, peer = udp.recvfrom(70000)
            udp.sendto(struct.pack("!H", len(data)) + hashlib.sha256(data).digest(), peer)
elif what == "udp-sizes":
    # every size in the small, then ever larger steps: what arrives is whole
    sizes = [*range(1, 300), *range(1200, 1500), *range(1500, 65507, 977), 65506, 65507]
    family = socket.AF_INET6 if ":" in rest[0] else socket.AF_INET
    lost = 0
    with socket.socket(family, socket.SOCK_DGRAM) as udp:
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        udp.settimeout(1)
        for size in sizes:
            data = random.Random(size).randbytes(size)
            for attempt in range(3):
                udp.sendto(data, (rest[0], 4301))
                try: answer = udp.recv(100)
                except TimeoutError: lost += 1; continue
                if answer != struct.pack("!H", size) + hashlib.sha256(data).digest():
                    sys.exit(f"{size} bytes arrived as {struct.unpack('!H', answer[:2])[0]}, or changed")
                break
            else: sys.exit(f"{size} bytes never arrive")
    print(f"{len(sizes)} sizes, {lost} lost on the way")
elif what == "multicast-hear":
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("", 4302)); udp.settimeout(10)
        here = socket.inet_aton(rest[0])
        udp.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton("239.1.2.3") + here)
        print(udp.recv(9000).decode())
elif what == "multicast-say":
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(rest[0]))
        for _ in range(10): udp.sendto(b"to all", ("239.1.2.3", 4302)); time.sleep(.2)
PY
py() { local h=$1; shift; in_ns "$h" python3 "$WORK/data.py" "$@"; }
for h in 1 2; do
  scripts/lab bg $h tcp ip netns exec ns python3 "$WORK/data.py" tcp-serve
  scripts/lab bg $h udp ip netns exec ns python3 "$WORK/data.py" udp-echo
done
sleep 1
transfer() {  # transfer FROM ADDRESS [GB] : arrives whole
  local t; t=$(date +%s%N)
  py "$1" tcp-send "$2" "${3:-$DATA_GB}e9" && echo "$((${3:-$DATA_GB} * 8000000 / (($(date +%s%N) - t) / 1000000))) Mbit/s"
}
check "$DATA_GB GB by TCP arrive whole" transfer 1 192.168.77.2
check "and the other way" transfer 2 192.168.77.1
check "and by IPv6" transfer 1 fd77::2
check "UDP of 1 to 65,507 bytes arrives whole" py 1 udp-sizes 192.168.77.2
check "and by IPv6" py 2 udp-sizes fd77::1
scripts/lab bg 2 hear ip netns exec ns python3 "$WORK/data.py" multicast-hear 192.168.77.2
sleep 0.5; py 1 multicast-say 192.168.77.1
check "multicast is heard" grep -q 'to all' "$LAB_DIR/h2/log/hear.log"
sums() { local h; for h in 1 2; do in_ns $h nstat -az TcpInCsumErrors UdpInCsumErrors | awk '/Csum/ && $2 > 0 {print; bad = 1} END {exit bad}' || return 1; done; }
check "no checksum was wrong" sums

echo "-- what passes is counted, for the right peer and the right container"
on 1 ip netns add idle; on 1 ip -n idle link set lo up
w 1 attach 192.168.77.9/24 --netns /run/netns/idle >/dev/null
cat >"$WORK/counted.py" <<'PY'
# counters PEERS PORTS | moved BYTES FROM-BEFORE FROM-AFTER TO-BEFORE TO-AFTER | rates TOP
import json, sys
what, *rest = sys.argv[1:]
def counters(peers, ports):  # of the other host, of the namespace `ns`, of the one that is idle
    [peer] = [it["traffic"] for it in json.loads(peers) if "traffic" in it]
    ports = {it["container"].rsplit("/", 1)[-1]: it["traffic"] for it in json.loads(ports)}
    return [peer, ports["ns"], ports.get("idle", {})]
if what == "counters": print(json.dumps(counters(*rest)))
elif what == "moved":
    count = float(rest[0])
    looks = [json.loads(it) for it in rest[1:]]
    grown = lambda before, after: {k: after[k] - before[k] for k in after}
    peer, port, idle = map(grown, looks[0], looks[1]); to_peer, to_port, _ = map(grown, looks[2], looks[3])
    print("at the sender", peer, port, idle, "at the receiver", to_peer, to_port, sep="\n")
    near = lambda it, least, most: least * count <= it <= most * count
    # each segment has its headers on the way; a super-frame in a container, once
    assert near(peer["bytes_sent"], 1.03, 1.08) and near(to_peer["bytes_received"], 1.03, 1.08)
    assert near(port["bytes_sent"], 1.0, 1.06) and near(to_port["bytes_received"], 1.0, 1.06)
    assert abs(peer["frames_sent"] - to_peer["frames_received"]) < .02 * peer["frames_sent"]
    assert peer["bytes_received"] < .05 * count and port["bytes_received"] < .05 * count
    assert idle["bytes_sent"] + idle["bytes_received"] < .001 * count
elif what == "rates":
    top = json.loads(rest[0]); print(rest[0])
    [peer] = top["peers"]; ports = {it["container"].rsplit("/", 1)[-1]: it for it in top["containers"]}
    out, there = (it["sent"]["bits_per_second"] for it in (peer, ports["ns"]))
    assert peer["path"] == "direct" and 1.9 < top["seconds"] < 4
    assert there > 20e6 and .9 < out / there < 1.15, (out, there)
    assert ports["idle"]["sent"]["bits_per_second"] < .01 * there
    assert top["containers"][0] is ports["ns"]
PY
counters() { python3 "$WORK/counted.py" counters "$(w "$1" status peers --json)" "$(w "$1" ps --json)"; }
from_before=$(counters 1) to_before=$(counters 2)
py 1 tcp-send 192.168.77.2 "${DATA_GB}e9" >/dev/null
check "the bytes of a transfer" python3 "$WORK/counted.py" moved "${DATA_GB}e9" "$from_before" "$(counters 1)" "$to_before" "$(counters 2)"
py 1 tcp-send 192.168.77.2 $((DATA_GB * 3))e9 >/dev/null &
sender=$!; sleep 0.5
check "and their rate, by weave top" python3 "$WORK/counted.py" rates "$(w 1 top --json --interval 2)"
wait $sender

echo "-- the router dies in the middle of a transfer"
(
  sleep 1; on 2 pkill -KILL -f 'weave router'
  eventually 5 refuse on 2 pgrep -f 'weave router' >/dev/null || echo "it did not die"
  start 2 || echo "it did not come back"
) >"$WORK/killed" 2>&1 &
killer=$!
check "the transfer goes on" transfer 1 192.168.77.2 $((DATA_GB * 3))
wait $killer
check "the router died, and came back" refuse grep -q 'it did not' "$WORK/killed"
check "it is another process" says '1' on 2 pgrep -c -f 'weave router'
check "no checksum was wrong" sums

echo "-- a host whose TAPs have no offloads"
check "the router says why" says 'Offloads: none on .*switched off' sh -c "
  scripts/lab exec 2 pkill -TERM -f 'weave router'; sleep 2
  scripts/lab bg 2 router weave router --no-docker --no-offloads --password $PASSWORD --state-dir /var/lib/weave --socket /run/w/weave.sock $(ip_of 1)
  sleep 2; scripts/lab exec 2 env WEAVE_SOCKET=/run/w/weave.sock weave status"
check "hosts with and without offloads reach each other" eventually 10 in_ns 1 busybox ping -c1 -W1 192.168.77.2
check "TCP arrives whole there" transfer 1 192.168.77.2 1
check "and from there" transfer 2 192.168.77.1 1
check "UDP of every size, too" py 1 udp-sizes 192.168.77.2
check "no checksum was wrong" sums
finish
