#!/bin/bash
# Keys that withstand quantum computers: required by all, by one, and off on one.
source "$(dirname "$0")/lib.sh"
boot 3
relaunch() { local h=$1; shift; weave "$h" stop >/dev/null 2>&1; launch "$h" "$@" $([ "$h" = 1 ] || ip_of 1); }
pq() {  # pq HOST : what its established connections show, one word each, sorted
  weave "$1" status connections | grep established | grep -oE 'pq=[a-z]+' | sort | xargs
}
all_have() { local h; for h in 1 2 3; do same "$(pq $h)" 'pq=yes pq=yes' || return 1; done; }
of() {  # of HOST ADDRESS : the line of its connection to that host
  weave "$1" status connections | grep -F " $(ip_of "$2"):"
}
LACKS='failed .*it has no post-quantum key exchange, which this router requires \(--pq require\)'
REQUIRED='failed .*it requires the post-quantum key exchange, this router has --pq off'

echo "-- required by all"
for h in 1 2 3; do launch $h --pq require $([ $h = 1 ] || ip_of 1); done
check "all are connected" eventually 15 established 3 6
check "and all connections show it" eventually 5 all_have
check "the line for the next host repeats it" says 'weave launch .*--pq require' cat "$WORK/launch.1"
for h in 1 2 3; do docker_ $h run -d --name c$h --net=weave bb sleep 100000 >/dev/null; done
check "containers reach each other" eventually 5 pings 1 c1 c2
check "the other way round, too" pings 3 c3 c1 20

echo "-- required by one"
relaunch 1 --pq prefer; relaunch 3 --pq prefer
check "all are connected" eventually 15 established 3 6
check "and all connections show it" eventually 5 all_have
check "containers reach each other" eventually 5 pings 2 c2 c3

echo "-- required by one, off on another"
relaunch 3 --pq off
connected() { same "$(pq 1)" 'pq=no pq=yes' && same "$(pq 2)" pq=yes && same "$(pq 3)" pq=no; }
check "the third has connections with both" eventually 15 connected
check "who requires it says what the other lacks" eventually 10 says "$LACKS" of 2 3
check "who has it off says what the other requires" eventually 10 says "$REQUIRED" of 3 2
sleep 30
check "half a minute later nothing else is said or tried" says "$LACKS.*not tried again" of 2 3
check "there is no way around through the third" connected
check "that one reaches both" eventually 5 pings 1 c1 c2
check "that one reaches both" eventually 5 pings 1 c1 c3
check "the others do not reach each other" refuse docker_ 2 exec c2 ping -c2 -W1 "$(address 3 c3)"

echo "-- no longer off"
relaunch 3 --pq prefer
check "all are connected" eventually 15 established 3 6
check "and all connections show it" eventually 5 all_have
check "containers reach each other" eventually 5 pings 2 c2 c3
finish
