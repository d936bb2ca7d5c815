#!/bin/bash
# A host is banned: cut off everywhere within 3 s, out for good, and the status of each side says so.
source "$(dirname "$0")/lib.sh"
boot 3
mesh 3
for h in 1 2 3; do docker_ $h run -d --name="c$h" --net=weave bb sleep 10000 >/dev/null; done
IP1=$(address 1 c1) IP3=$(address 3 c3)

cut_off() {  # cut_off HOST... : they have no session with mac, and do not know its names
  local h; for h in "$@"; do
    weave "$h" status connections | grep -q 'established.*(mac)' && return 1
    [ -z "$(weave "$h" dns-lookup c3)" ] || return 1
  done
}
key_of() { weave "$1" status peers --json | python3 -c 'import json, sys; print([p["key"] for p in json.load(sys.stdin) if "banned" in p][0])'; }

echo "-- what is refused"
check "containers of all hosts reach each other" eventually 10 pings 1 c1 c3
check "an unknown peer is an error with a hint" fails 1 'no peer `nosuch` is known' weave 1 rmpeer nosuch
check "no host bans itself" fails 1 'this host itself' weave 1 rmpeer nyc
check "nobody is banned by that" eventually 5 established 3 6

echo "-- lon bans mac"
docker_ 1 exec c1 ping -i 0.2 -w 10 c2 >"$WORK/undisturbed" 2>&1 &
PING=$!
sleep 1
check "rmpeer takes a nickname and says what to do besides" says 'change it' weave 2 rmpeer mac --reason 'stolen from the van'
BEGUN=$(date +%s%N)
check "mac is cut off everywhere within 3 s" eventually 3 cut_off 1 2
echo "        after $(since "$BEGUN")"
wait "$PING"
check "the traffic of the others is not disturbed" grep -q ' 0% packet loss' "$WORK/undisturbed"
check "the others do not reach its container" refuse docker_ 1 exec c1 ping -c2 -W1 "$IP3"
check "its container does not reach the others" refuse docker_ 3 exec c3 ping -c2 -W1 "$IP1"

echo "-- what is shown"
check "who banned it and why, on the host that was told" says '\(mac\) banned by .*\(lon\): stolen from the van' weave 1 status peers
check "the same as JSON" says '"reason": ?"stolen from the van"' weave 1 status peers --json
check "the status has a line" says 'Banned: 1 ' weave 1 status
check "its address is listed with the reason, and not dialled" eventually 15 says 'the peer there is banned, not tried again' sh -c "scripts/lab exec 1 weave connect $(ip_of 3); sleep 1; scripts/lab exec 1 weave status connections"
check "mac is told that it is banned" eventually 60 says 'refused: banned from this mesh' weave 3 status connections
check "mac heard who banned it" says 'Banned: this host, by .*\(lon\): stolen from the van' weave 3 status
check "typed again on another host it is harmless" says 'banned already' weave 1 rmpeer "$(key_of 1)"

echo "-- all routers are killed"
kill_routers 1 2 3
check "the others are connected again" eventually 30 established 2 2
sleep 10
check "mac stays out" cut_off 1 2
check "they know why" says 'Banned: 1 ' weave 2 status
check "it is told again" eventually 60 says 'refused: banned from this mesh' weave 3 status connections
check "containers of the others reach each other" eventually 10 pings 1 c1 c2

echo "-- the host that banned it is gone for ever"
scripts/lab kill 2 >/dev/null 2>&1
kill_routers 1 3
check "nyc is back" eventually 20 says 'Peers: 1' weave 1 status
sleep 15
check "mac stays out" cut_off 1
check "nyc knows who banned it and why" says 'banned by .*: stolen from the van' weave 1 status peers

echo "-- a reset makes a new peer of it"
docker_ 3 rm -f c3 >/dev/null
check "mac is reset" weave 3 reset --force
launch 3 "$(ip_of 1)"
check "with its new key it is in" eventually 20 says 'Peers: 2 ' weave 1 status
finish
