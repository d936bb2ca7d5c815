#!/bin/bash
# Two versions side by side: one that is a version newer in wire and disk lives with this one, a
# router is upgraded and set back under running containers, and a disk that is too new is refused.
# WEAVE_NEXT_BIN is that newer one: cargo build -p weave --features next-format
source "$(dirname "$0")/lib.sh"
: "${WEAVE_NEXT_BIN:?path of a weave built with the feature next-format}"
boot 3; cp "$WEAVE_NEXT_BIN" "$LAB_BIN/weave-next"
A=10.41.1.1 C=10.41.1.3
report() { weave "$1" report; }
speaks() {  # speaks HOST HIGHEST : what the router that runs there speaks
  report "$1" | python3 -c 'import json, sys; r = json.load(sys.stdin)["router"]; print(r["protocol_min_version"], r["protocol_max_version"])' >"$WORK/speaks"
  same "$(cat "$WORK/speaks")" "1 $2"
}
session() {  # session HOST OTHER VERSION : they are connected, in this version
  report "$1" | python3 -c '
import json, sys
other, version = sys.argv[1], int(sys.argv[2])
found = {(c["state"], c.get("protocol_version")) for c in json.load(sys.stdin)["router"]["connections"] if c["address"].startswith(other + ":")}
print(found); sys.exit(found != {("established", version)})' "$(ip_of "$2")" "$3"
}
launch_with() {  # launch_with BINARY HOST VERSION : that binary runs there, whatever ran before
  local binary=$1 host=$2 version=$3 options=(--ipalloc-range 10.40.0.0/14); [ "$host" = 1 ] || options+=("$(ip_of 1)")
  local run=(on "$host" "$binary" launch --password "$PASSWORD" "${options[@]}")
  # host 1 names its options but once: an upgrade keeps them
  local upgrade=("${run[@]}"); [ "$host" = 1 ] && docker_ 1 inspect weave >/dev/null 2>&1 && upgrade=(on 1 "$binary" launch)
  "${upgrade[@]}" >"$WORK/launch.$host" 2>&1 && speaks "$host" "$version" >/dev/null && return
  on "$host" "$binary" stop >>"$WORK/launch.$host" 2>&1
  "${run[@]}" >>"$WORK/launch.$host" 2>&1 || { cat "$WORK/launch.$host"; return 1; }
  speaks "$host" "$version"
}
inside() { local h=$1 c=$2; shift 2; on "$h" nsenter -t "$(docker_ "$h" inspect -f '{{.State.Pid}}' "$c")" -n "$@"; }
keeps() {  # keeps CONTAINER ADDRESS : on host 1, and the others know it by its name
  same "$(address 1 "$1")" "$2" && same "$(weave 2 dns-lookup "$1")" "$2" && same "$(weave 3 dns-lookup "$1")" "$2"
}
addresses() {  # of all containers that run, one a line
  local h c
  for h in 1 2 3; do for c in $(docker_ $h ps -q); do
    docker_ $h inspect -f '{{with .NetworkSettings.Networks.weave}}{{.IPAddress}}{{end}}' "$c"
  done; done | grep .
}
new_container() {  # new_container HOST NAME : its address is its own, and bb1 on host 2 reaches it
  docker_ "$1" run -d --name "$2" --net=weave bb sleep 100000 >/dev/null || return 1
  addresses | sort | tee "$WORK/addresses"
  [ -z "$(uniq -d "$WORK/addresses")" ] && eventually 5 pings 2 bb1 "$2" 1
}
log_is_clean() { docker_ "$1" logs weave 2>&1 | grep -E ' (WARN|ERROR) |panicked' && return 1; true; }
says_starts() { says "started in the next format.*starts.*=.*$1" docker_ 1 logs weave; }
cat >"$WORK/talk.py" <<'PY'
# one TCP connection to PORT 4300, a word every 100 ms, until the file is gone: the longest pause
import os, socket, sys, time
tcp = socket.create_connection((sys.argv[1], 4300), timeout=30)
gap, last, file = 0.0, time.monotonic(), sys.argv[2]
while os.path.exists(file):
    tcp.sendall(b'word')
    if tcp.recv(100) == b'': sys.exit('the connection broke')
    now = time.monotonic(); gap = max(gap, now - last); last = now
    time.sleep(0.1)
print(f'longest pause {gap * 1000:.0f} ms')
PY
cat >"$WORK/echo.py" <<'PY'
import socket
tcp = socket.create_server(('', 4300)); c, _ = tcp.accept()
while (b := c.recv(100)): c.sendall(b)
PY

echo "-- two of this version and a newer one"
check "this version starts" launch_with weave 1 1
check "and on a second host" launch_with weave 2 1
check "the newer one starts on the third" launch_with weave-next 3 2
check "all are connected" eventually 15 established 3 6
check "this version and the newer one talk in the version they share" session 1 3 1
check "seen from the newer one, too" session 3 1 1
docker_ 1 run -d --name aa --net=weave --ip $A bb sleep 100000 >/dev/null
docker_ 2 run -d --name bb1 --net=weave bb sleep 100000 >/dev/null
docker_ 3 run -d --name cc --net=weave --ip $C bb sleep 100000 >/dev/null
check "containers reach each other by name, old to new" eventually 5 pings 1 aa cc
check "new to old" pings 3 cc aa
check "old to old" pings 2 bb1 aa
touch "$WORK/talking"
inside 3 cc python3 "$WORK/echo.py" & sleep 0.5
inside 1 aa python3 "$WORK/talk.py" $C "$WORK/talking" >"$WORK/talk" 2>&1 & TALK=$!

echo "-- a router is upgraded"
check "the newer version takes over on the first host" launch_with weave-next 1 2
check "all are connected" eventually 15 established 3 6
check "the two newer ones talk in the newer version" eventually 5 session 1 3 2
check "the one left behind in its own" session 1 2 1
check "the container has its address and name" eventually 5 keeps aa $A
check "it is reached" pings 2 bb1 aa
check "a new container gets an address of its own" new_container 1 aa2
check "the newer version wrote what this one does not know" says_starts 1

echo "-- and set back"
check "this version takes over from what the newer one left" launch_with weave 1 1
check "all are connected" eventually 15 established 3 6
check "in the version they share" eventually 5 session 1 3 1
check "the container has its address and name" eventually 5 keeps aa $A
check "it is reached" pings 3 cc aa
check "a new container gets an address of its own" new_container 1 aa3
check "one on the newer host, too" new_container 3 cc2
check "no warning in its log" log_is_clean 1

echo "-- and upgraded again"
check "the newer version takes over once more" launch_with weave-next 1 2
check "and finds what it had written" says_starts 2
check "all are connected" eventually 15 established 3 6
check "the container has its address and name" eventually 5 keeps aa $A
rm "$WORK/talking"
check "a connection between containers lived through all of it" wait $TALK; sed 's/^/        /' "$WORK/talk"
check "no warning in the log of the newer host" log_is_clean 3
check "nor in that of the one that stayed" log_is_clean 2

echo "-- a disk two formats newer"
weave 1 stop >/dev/null 2>&1
on 1 env WEAVE_MARK_FORMAT=3 timeout -s TERM 3 weave-next router --no-docker --ipalloc-range 10.40.0.0/14 >"$WORK/mark" 2>&1
refused() { local out; out=$(on 1 "$1" launch --password "$PASSWORD" 2>&1; docker_ 1 logs --tail 3 weave 2>&1); docker_ 1 rm -f weave >/dev/null 2>&1; echo "$out"; grep -qE -- "$2" <<<"$out"; }
check "this version refuses it, with the file, both formats and what to do" refused weave "/var/lib/weave/weave.redb has format 3.*this is weave of format 1: run the newer weave again, or .weave reset"
check "so does one that is a format newer" refused weave-next "has format 3.*this is weave of format 2"
finish
