#!/bin/bash
# Days in the life of a host: the router, dockerd and the power go and come back.
# The router runs as a container; tests/lab/systemd.sh has it as a process of the host.
source "$(dirname "$0")/lib.sh"
boot 3
mesh 3
# ends at once when it is stopped, as a well-behaved server does
SERVE='trap "exit 0" TERM; while :; do echo here | nc -l -p 4242 & wait; done'
docker_ 1 run -d --restart=always --name=db --net=weave --ip 10.40.7.7 --network-alias=store bb sh -c "$SERVE" >/dev/null
docker_ 1 run -d --restart=unless-stopped --name=web --net=weave bb sh -c "$SERVE" >/dev/null
docker_ 2 run -d --restart=always --name=far --net=weave bb sleep 100000 >/dev/null
docker_ 3 run -d --restart=always --name=other --net=weave bb sleep 100000 >/dev/null
calls() { says here docker_ "$1" exec "$2" sh -c "nc -w 2 $3 4242 </dev/null"; }
ready_then() {  # ready_then SECONDS NAME : reached from the other hosts that soon after dockerd's readiness
  local t; t=$(date +%s%N)
  check "$2 is reached from lon within $1 s of dockerd's readiness" eventually "$1" calls 2 far "$2"
  check "and from mac" eventually "$1" calls 3 other "$2"
  echo "        reached $(since "$t") after dockerd was ready"
}
quiet_elsewhere() {  # the others saw the loss of one peer, nothing else
  local h
  for h in 2 3; do docker_ $h logs weave 2>&1 | grep -E ' (WARN|ERROR) ' && return 1; done
  true
}
clean_log() { docker_ 1 logs weave 2>&1 | grep -E ' ERROR |panicked' && return 1; true; }
# with one network dockerd's own retries take 15 s
LIMIT=25

echo "-- dockerd restarts"
T=$(date +%s%N); scripts/lab dockerd 1 restart; echo "        dockerd was away for $(since "$T")"
ready_then $LIMIT db
ready_then $LIMIT web
check "the container with --ip has its address" same "$(address 1 db)" 10.40.7.7
check "its alias leads to it" eventually 5 same 10.40.7.7 "$(weave 3 dns-lookup store)"
check "nothing waited for a driver that was gone when dockerd stopped" refuse grep -E "release.*plugin|Failed deleting endpoint" "$LAB_DIR/h1/log/dockerd.log"

echo "-- dockerd is killed"
scripts/lab dockerd 1 kill
check "the other hosts do not notice" calls 2 far db
check "names stay while dockerd is away" same 10.40.7.7 "$(weave 2 dns-lookup db)"
T=$(date +%s%N); scripts/lab dockerd 1 start; echo "        dockerd took $(since "$T") to start"
ready_then $LIMIT db
check "the container with --ip has its address" same "$(address 1 db)" 10.40.7.7

echo "-- the power of a host is cut"
docker_ 1 start web >/dev/null
scripts/lab kill 1
T=$(date +%s%N); scripts/lab start 1 2>/dev/null; echo "        the host took $(since "$T") to start"
ready_then $((LIMIT + 30)) db
check "the container with --ip has its address" same "$(address 1 db)" 10.40.7.7
check "all hosts are connected" eventually 10 established 3 6
check "the other hosts noticed no more than the loss" quiet_elsewhere
check "no error in the router's log" clean_log

echo "-- the router is killed under a connection and a stream"
cat >"$WORK/idle.py" <<'PY'
# an idle TCP connection over PORT 4300, and a packet every 20 ms over UDP: the longest gap
import socket, sys, threading, time
peer, seconds = sys.argv[1], float(sys.argv[2])
tcp = socket.create_connection((peer, 4300), timeout=5)
tcp.sendall(b'before'); assert tcp.recv(100) == b'before'
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); udp.settimeout(0.02)
last, gap, end = time.monotonic(), 0.0, time.monotonic() + seconds
while time.monotonic() < end:
    udp.sendto(b'x', (peer, 4300))
    try: udp.recv(10)
    except TimeoutError: continue
    now = time.monotonic(); gap = max(gap, now - last); last = now
    time.sleep(0.02)
tcp.settimeout(5); tcp.sendall(b'after'); assert tcp.recv(100) == b'after', 'the idle connection broke'
print(f'longest gap {gap * 1000:.0f} ms')
sys.exit(gap > 3)
PY
cat >"$WORK/echo.py" <<'PY'
import socket, threading
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); udp.bind(('', 4300))
tcp = socket.create_server(('', 4300))
def serve():
    while True:
        c, _ = tcp.accept()
        def one(c=c):
            while (b := c.recv(100)): c.sendall(b)
        threading.Thread(target=one, daemon=True).start()
threading.Thread(target=serve, daemon=True).start()
while True: d, a = udp.recvfrom(100); udp.sendto(d, a)
PY
inside() { local h=$1 c=$2; shift 2; on "$h" nsenter -t "$(docker_ "$h" inspect -f '{{.State.Pid}}' "$c")" -n "$@"; }
inside 2 far python3 "$WORK/echo.py" & inside 2 far iperf3 -s >/dev/null &
docker_ 1 run -d --name plain bb sleep 100000 >/dev/null
PLAIN=$(weave 1 attach plain)
plain_is_known() { same "$PLAIN" "$(weave 3 dns-lookup plain)"; }
check "an attached container has its name" eventually 3 plain_is_known
FAR=$(address 2 far)
sleep 1
STREAM=${STREAM_SECONDS:-10}
under_traffic() {  # under_traffic "what" COMMAND... : done in the midst of a stream and an idle connection
  local what=$1 iperf idle; shift
  inside 1 db iperf3 -c "$FAR" -t "$STREAM" >"$WORK/stream" 2>&1 & iperf=$!
  inside 1 db python3 "$WORK/idle.py" "$FAR" "$((STREAM - 2))" >"$WORK/idle" 2>&1 & idle=$!
  sleep 3
  "$@"
  check "$what: the idle connection lives and no gap is longer than 3 s" wait $idle; sed 's/^/        /' "$WORK/idle"
  check "$what: the stream goes on" wait $iperf; grep -E 'sender|receiver' "$WORK/stream" | sed 's/^/        /'
}
under_traffic "the router is killed" kill_routers 1
# another build: the same program with other bytes at its end
{ cat "$LAB_BIN/weave"; echo more; } >"$LAB_BIN/weave.new" && chmod +x "$LAB_BIN/weave.new" && mv "$LAB_BIN/weave.new" "$LAB_BIN/weave"
replace_router() { check "launch by another binary replaces the router" says 'replacing weave' weave 1 launch; }
under_traffic "the router is replaced" replace_router
check "launch once more does nothing" says 'nothing to do' weave 1 launch --password "$PASSWORD"
check "the old image is gone" same "$(docker_ 1 images -q weave | wc -l)" 1
check "all hosts are connected again" eventually 5 established 3 6
check "the container kept its address" same "$(address 1 db)" 10.40.7.7
check "the attached container kept address and name" eventually 5 plain_is_known
check "and is reached" eventually 3 says ' 0% packet loss' docker_ 3 exec other ping -c1 -W1 plain
finish
