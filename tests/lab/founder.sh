#!/bin/bash
# The host that founded the address range is gone for good: the others go on, also after all of them were restarted, and
# new hosts join. Routers without Docker, each in a network namespace of its own.
source "$(dirname "$0")/lib.sh"
SW=$LAB_NAME-founder
down() { unwire; }
routers_say() { local h; for h in 2 3 4; do tail -n 20 "$WORK/log$h" | sed "s/^/  m$h: /"; done; }
attach() { w "$1" attach --netns "/run/netns/$SW-c$1"; }
end() { local h; for h in "$@"; do kill -9 "${PIDS[$h]}"; wait "${PIDS[$h]}" 2>/dev/null; unset "PIDS[$h]"; done; }

wire 1 2 3 4 5
start 1; start 2 "$(ip_of 1)"; start 3 "$(ip_of 1)" "$(ip_of 2)"
check "three routers know each other" eventually 30 know 3 1 2 3
for h in 1 2 3 4 5; do contain "$h"; done
for h in 1 2 3; do check "host $h gives out an address" attach "$h"; done

echo "-- the founder is gone, the others were restarted at once, and a host is new"
end 1
check "it is banned" w 2 rmpeer m1
end 2 3
start 2 "$(ip_of 3)"; start 3 "$(ip_of 2)"; start 4 "$(ip_of 2)" "$(ip_of 3)"
check "the three know each other" eventually 30 know 3 2 3 4
check "the new host gives out an address of the range" eventually 60 says '^10\.32\.' attach 4
for h in 2 3; do check "it reaches the container of host $h" inside 4 ping -c1 -W3 "$(w "$h" ps | grep -oE '10\.32\.[0-9.]+' | head -n 1)"; done

echo "-- all that used the range are gone"
start 5 "$(ip_of 2)" "$(ip_of 3)"
check "a host without containers knows the three" eventually 30 know 4 5
end 2 3 4
for h in 2 3; do check "it forgets where host $h was" w 5 forget "$(ip_of "$h")"; done
check "with some of them banned it waits for the last" eval 'w 5 rmpeer m2 m3 && fails 1 "m4" attach 5'
check "with all of them banned it founds the range anew" eval 'w 5 rmpeer m4 && eventually 20 says "^10\.32\." attach 5'
finish
