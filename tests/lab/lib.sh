# What the lab tests share. Each test is a bash script that boots the Docker
# hosts it needs, checks behaviour with `check`, and ends with `finish`.
# shellcheck shell=bash
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
[ "$(id -u)" = 0 ] || { echo "error: lab tests need root" >&2; exit 1; }
: "${WEAVE_BIN:?path of the static weave binary}"
export PATH=$PATH:/usr/sbin:/sbin
export LAB_NAME=${LAB_NAME:-weavetest} LAB_NET=${LAB_NET:-10.98.0} LAB_HOSTNAMES=${LAB_HOSTNAMES:-"nyc lon mac"}
export LAB_DIR=${LAB_DIR:-/var/tmp/$LAB_NAME}
export LAB_BIN=$LAB_DIR/bin
PASSWORD=3UnFh4jhahFC
PASSED=0 FAILED=0 FAILURES=()
WORK=$(mktemp -d)

on() { local host=$1; shift; scripts/lab exec "$host" "$@"; }
weave() { local host=$1; shift; scripts/lab exec "$host" weave "$@"; }
docker_() { local host=$1; shift; scripts/lab exec "$host" docker "$@"; }
ip_of() { echo "${LAB_IPV6:-$LAB_NET.}$1"; }
address() {  # address HOST CONTAINER [NETWORK]
  docker_ "$1" inspect -f "{{(index .NetworkSettings.Networks \"${3:-weave}\").IPAddress}}" "$2"
}
kill_routers() {  # kill_routers HOST... : docker starts them again
  local h; for h in "$@"; do on "$h" kill -9 "$(docker_ "$h" inspect -f '{{.State.Pid}}' weave)"; done
}
since() { echo "$((($(date +%s%N) - $1) / 1000000)) ms"; }  # since NANOSECONDS

down() { scripts/lab down >/dev/null 2>&1; rm -rf "$WORK"; }
trap down EXIT
trap 'exit 130' INT TERM

boot() {  # boot N : N hosts with the binary in their PATH
  scripts/lab down >/dev/null 2>&1
  mkdir -p "$LAB_BIN" && cp "$WEAVE_BIN" "$LAB_BIN/weave"
  scripts/lab up "$1" >"$WORK/boot.log" 2>&1 || { cat "$WORK/boot.log"; echo "error: the lab did not boot"; exit 1; }
}
launch() {  # launch HOST [args...]
  local host=$1; shift
  weave "$host" launch --password "$PASSWORD" "$@" >"$WORK/launch.$host" 2>&1 ||
    { cat "$WORK/launch.$host"; echo "error: weave launch failed on h$host"; routers_say; exit 1; }
}
mesh() {  # mesh N : N launched hosts, all connected to the first
  local h
  for ((h = 1; h <= $1; h++)); do launch "$h" $([ "$h" = 1 ] || ip_of 1) & done; wait
  eventually 15 established "$1" $(($1 * ($1 - 1))) || { echo "error: the mesh did not form"; weave 1 status; weave 1 status connections; routers_say; exit 1; }
}
established() {  # established PEERS CONNECTIONS : every one of the first PEERS hosts says so
  local h; for ((h = 1; h <= $1; h++)); do weave "$h" status 2>/dev/null | grep -q "Peers: $1 (with $2 established connections)" || return 1; done
}
routers_say() { local h; for h in 1 2 3; do docker_ "$h" logs --tail 20 weave 2>&1 | sed "s/^/  h$h: /"; done; }

# Many routers without Docker: each in a namespace $SW1, $SW2, … that a switch in ${SW}0 joins, with its container in
# $SW-c1, $SW-c2, …. A test sets SW, and what is given to every router.
declare -A PIDS=()
ROUTER_OPTIONS=() SERVERS=()
ns() { local h=$1; shift; ip netns exec "$SW$h" "$@"; }
inside() { local h=$1; shift; ip netns exec "$SW-c$h" "$@"; }
w() { local h=$1; shift; ns "$h" "$WEAVE_BIN" --socket "$WORK/$h.sock" "$@"; }
wire() {  # wire NUMBER... : the switch, and these namespaces on it
  local h
  ip netns add "${SW}0"; ip -n "${SW}0" link add br0 type bridge; ip -n "${SW}0" link set br0 up
  for h in "$@"; do
    ip netns add "$SW$h"; ip -n "$SW$h" link set lo up
    ip -n "${SW}0" link add "v$h" type veth peer name eth0 netns "$SW$h"
    ip -n "${SW}0" link set "v$h" master br0 up
    ip -n "$SW$h" addr add "$LAB_NET.$h/24" dev eth0; ip -n "$SW$h" link set eth0 up
  done
}
start() {  # start NUMBER [PEER] : its router
  local h=$1; shift
  ip netns exec "$SW$h" "$WEAVE_BIN" router --no-docker --no-dns --password "$PASSWORD" --nickname "m$h" "${ROUTER_OPTIONS[@]}" \
    --state-dir "$WORK/state$h" --socket "$WORK/$h.sock" --status-addr off "$@" >>"$WORK/log$h" 2>&1 &
  PIDS[$h]=$!
}
know() {  # know PEERS NUMBER... : the routers of these show so many peers
  local peers=$1 h; shift
  for h in "$@"; do w "$h" status | grep -E "Peers: $peers " || { w "$h" status; return 1; }; done
}
contain() {  # contain NUMBER : a namespace for its container
  ip netns add "$SW-c$1"; ip -n "$SW-c$1" link set lo up
}
unwire() {  # ends the routers and SERVERS, and removes all of the namespaces
  local name
  kill "${PIDS[@]}" "${SERVERS[@]}" 2>/dev/null; wait "${PIDS[@]}" "${SERVERS[@]}" 2>/dev/null
  for name in $(ip netns list | awk '{print $1}' | grep -E "^$SW(-c)?[0-9]+$"); do ip netns del "$name"; done
  rm -rf "$WORK"
}

check() {  # check "sentence" COMMAND... : passes if the command succeeds
  local what=$1; shift
  if "$@" >"$WORK/out" 2>&1; then PASSED=$((PASSED + 1)); echo "  ok    $what"
  else FAILED=$((FAILED + 1)); FAILURES+=("$what"); echo "  FAIL  $what"; echo "        $*"; tail -n 15 "$WORK/out" | sed 's/^/        /'; fi
}
eventually() {  # eventually SECONDS COMMAND... : retried until it succeeds
  local end=$((SECONDS + $1)); shift
  until "$@"; do ((SECONDS < end)) || return 1; sleep 0.2; done
}
refuse() { ! "$@"; }
says() {  # says REGEX COMMAND... : its output (both streams) matches, whatever the exit code
  local re=$1 out; shift; out=$("$@" 2>&1); echo "$out"; grep -qE -- "$re" <<<"$out"
}
fails() {  # fails CODE REGEX COMMAND... : this exit code and this text
  local code=$1 re=$2 out rc; shift 2; out=$("$@" 2>&1); rc=$?; echo "exit $rc: $out"
  [ "$rc" = "$code" ] && grep -qE -- "$re" <<<"$out"
}
same() { [ "$1" = "$2" ] || { echo "'$1' is not '$2'"; return 1; }; }
pings() {  # pings HOST CONTAINER NAME [COUNT] : nothing lost
  says ' 0% packet loss' docker_ "$1" exec "$2" ping -c "${4:-3}" -i 0.2 -w 10 "$3"
}
finish() {
  local f
  [ "$FAILED" = 0 ] || routers_say
  for f in "${FAILURES[@]:-}"; do [ -z "$f" ] || echo "failed: $f"; done
  echo "$(basename "$0"): $PASSED passed, $FAILED failed"
  [ "$FAILED" = 0 ]
  exit $?
}
