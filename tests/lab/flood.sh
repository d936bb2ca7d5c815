#!/bin/bash
# Strangers flood a router with handshakes, from one address and then from ever other ones: members keep their
# sessions and change their keys, and new hosts join. Routers without Docker, each in a network
# namespace of its own. FLOOD_SECONDS is the length of each flood: together longer than keys live (110 s).
source "$(dirname "$0")/lib.sh"
FLOOD_SECONDS=${FLOOD_SECONDS:-60} FLOOD_RATE=${FLOOD_RATE:-50000}
N=4 SW=$LAB_NAME-flood STRANGER=66
down() { unwire; }
routers_say() { local h; for h in $(seq $N); do [ ! -e "$WORK/log$h" ] || tail -n 20 "$WORK/log$h" | sed "s/^/  m$h: /"; done; }
of() {  # of HOST PEER FIELD : of its established connection
  w "$1" status --json | jq -re ".router.connections[] | select(.state == \"established\" and .nickname == \"m$2\") | .$3"
}
have() { of "$1" "$2" age_ms; }  # have A B : A has a session with B
resident() { w "$1" status --json | jq -re .process.resident_bytes; }
command -v jq >/dev/null || { echo "error: this test needs jq" >&2; exit 1; }

wire $(seq $N) $STRANGER
for h in $(seq $N) $STRANGER; do ns "$h" sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0; done
start 1; start 2 "$(ip_of 1)"
check "two routers are connected" eventually 15 have 2 1
for h in 1 2; do
  contain "$h"
  w $h attach "192.168.77.$h/24" --netns "/run/netns/$SW-c$h" >/dev/null
done
answers() { ip netns exec "$SW-c$1" ping -c1 -W1 "192.168.77.$2"; }
check "and their containers" eventually 10 answers 1 2
sleep 2
BEGUN=$(date +%s%3N) REKEYS=$(of 1 2 rekeys) RESIDENT=$(resident 1)

flooded() {  # flooded SOURCES NEWCOMER : floods the first router while another joins
  local flood
  ip netns exec "$SW$STRANGER" python3 benches/flood.py handshakes "$(ip_of 1)" 6783 --rate "$FLOOD_RATE" --seconds "$FLOOD_SECONDS" \
    --sources "$1" >"$WORK/flood" & flood=$!
  sleep 3
  local t; t=$(date +%s%N)
  start "$2" "$(ip_of 1)"
  check "a host joins" eventually 60 have "$2" 1
  echo "        within $(since "$t")"
  check "the containers reach each other" eventually 5 answers 1 2
  check "the router answers who asks it" eventually 5 w 1 status
  check "the flood ends by itself" wait $flood
  echo "        $(cat "$WORK/flood") sent"
}
echo "-- handshakes from one address"
flooded one 3
echo "-- handshakes from ever other addresses"
flooded random 4

echo "-- afterwards"
stayed() { local age; age=$(of "$1" "$2" age_ms); echo "$age ms"; ((age >= $(date +%s%3N) - BEGUN)); }
check "the members kept their session" stayed 1 2
check "on both sides" stayed 2 1
changed() { local now; now=$(of "$1" "$2" rekeys); echo "$REKEYS, then $now"; ((now > REKEYS)); }
if ((FLOOD_SECONDS < 57)); then echo "        not looked at its keys: they live longer than these floods"
else check "and have changed its keys" eventually 15 changed 1 2; fi
refused() { local n; n=$(w 1 report | jq '[.drops.handshake_rate, .drops.no_cookie] | add'); echo "$n"; ((n > FLOOD_RATE)); }
check "the flood was dropped" refused
flat() { local now; now=$(resident 1); echo "$RESIDENT, then $now bytes"; ((now < RESIDENT + (16 << 20))); }
check "the router's memory did not grow" flat; sed 's/^/        /' "$WORK/out"
check "no router warned of anything" refuse grep -hE "WARN|ERROR|panicked" "$WORK"/log*
finish
