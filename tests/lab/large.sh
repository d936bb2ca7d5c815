#!/bin/bash
# A mesh larger than its connection limit: everybody knows everybody, and connections to others
# than the neighbours are made when there is something to send. Routers without Docker, each in a
# network namespace of its own.
source "$(dirname "$0")/lib.sh"
N=16 LIMIT=5
SW=$LAB_NAME-large
ROUTER_OPTIONS=(--conn-limit $LIMIT)
down() { unwire; }
routers_say() { local h; for h in 1 2 3; do tail -n 20 "$WORK/log$h" | sed "s/^/  m$h: /"; done; }
connected() { w "$1" status connections | grep -cE " established "; }
have() { w "$1" status connections | grep -E " established .*\(m$2\)"; }  # have A B : A has a connection with B

wire $(seq $N)
# each is told of the first and of the one before it: whose keys make a neighbour of all others is chance
for ((h = 1; h <= N; h++)); do start "$h" $([ "$h" = 1 ] || ip_of 1) $([ "$h" -le 2 ] || ip_of $((h - 1))); done
check "$N routers that are told of one or two know each other" eventually 30 know $N $(seq $N)

echo "-- connections"
# now and then the keys are such that one of them is a neighbour of all others
few() { local h all=0; for ((h = 1; h <= N; h++)); do all=$((all + $(connected "$h"))); done; echo "$((all / 2)) of $((N * (N - 1) / 2))"; ((all * 4 < N * (N - 1) * 3)); }
check "not everybody stays connected to everybody" eventually 120 few; tail -n 1 "$WORK/out" | sed 's/^/        /'
check "a target without a connection is said to rest" eventually 60 says 'resting .*in the mesh' sh -c "for h in $(seq -s' ' 2 $N); do ip netns exec $SW\$h $WEAVE_BIN --socket $WORK/\$h.sock status connections; done"
declare -A ADDRESSES
for ((h = 1; h <= N; h++)); do
  contain "$h"
  ADDRESSES[$h]=$(w "$h" attach --netns "/run/netns/$SW-c$h")
done
sleep 2  # whom they asked for addresses they are connected to
A=0
for ((a = 1; a <= N && A == 0; a++)); do for ((b = N; b > a; b--)); do
  have "$a" "$b" >/dev/null || { A=$a B=$b ADDRESS=${ADDRESSES[$b]}; break; }
done; done
check "two routers without a connection are found" test $A != 0
check "the first packet between them arrives" ip netns exec "$SW-c$A" ping -c1 -W3 "$ADDRESS"; sed 's/^/        /' "$WORK/out"
check "for which a connection was made" have $A $B

echo "-- to all at once"
answers() {  # distinct stations that answer the multicast of all nodes
  ip netns exec "$SW-c$A" sysctl -qw net.ipv6.conf.ethwe.disable_ipv6=0
  local got; got=$(ip netns exec "$SW-c$A" ping -6 -c 8 -i 1 ff02::1%ethwe | grep -oE 'from fe80[^ ]+' | sort -u | wc -l)
  echo "$got answered"; [ "$got" = $N ]
}
for ((h = 1; h <= N; h++)); do ip netns exec "$SW-c$h" sysctl -qw net.ipv6.conf.ethwe.disable_ipv6=0; done; sleep 2
check "a multicast reaches all $N" eventually 30 answers

echo "-- a router dies"
kill -9 "${PIDS[$B]}"; wait "${PIDS[$B]}" 2>/dev/null
OTHERS=$(seq $N | grep -vx "$B")
t=$(date +%s%N)
check "all others notice" eventually 15 know $((N - 1)) $OTHERS; echo "        after $(since "$t")"
start "$B"
check "it comes back by itself" eventually 20 know $N $(seq $N)
check "and is reached again" eventually 10 ip netns exec "$SW-c$A" ping -c1 -W2 "$ADDRESS"
check "no router warned of anything" refuse grep -hE "WARN|ERROR|panicked" "$WORK"/log*
finish
