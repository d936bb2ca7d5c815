#!/bin/bash
# Hosts behind NATs: they reach each other directly where the NATs allow it, through a third one
# where they do not, and an address that changes costs seconds.
source "$(dirname "$0")/lib.sh"
boot 3
path() {  # path HOST NICKNAME WORD : how HOST reaches NICKNAME
  says "established $3.* [0-9a-f:]+\\($2\\)" weave "$1" status connections
}
direct() { path 1 mac direct && path 3 nyc direct; }
relayed() { path 1 mac 'relay [0-9a-f:]+\(lon\)' && path 3 nyc 'relay [0-9a-f:]+\(lon\)'; }

echo "-- nyc and mac are each behind a NAT that hands out one port for all destinations"
scripts/lab nat 1; scripts/lab nat 3
launch 2; launch 1 "$(ip_of 2)"; launch 3 "$(ip_of 2)"
check "all three are connected" eventually 20 established 3 6
check "the two behind NATs are connected directly" eventually 20 direct
docker_ 1 run -d --name=db --net=weave --hostname=db.weave.local bb sleep 1000 >/dev/null
docker_ 3 run -d --name=app --net=weave bb sleep 1000 >/dev/null
check "their containers ping each other by name" pings 3 app db.weave.local

echo "-- the address of mac's NAT changes"
docker_ 2 run -d --name=www --net=weave --hostname=www.weave.local bb sleep 1000 >/dev/null
docker_ 3 exec app sh -c 'ping -i 0.1 www.weave.local >/tmp/pings 2>&1' & sleep 2
scripts/lab renat 3 "$LAB_NET.203"
sleep 6
docker_ 3 exec app killall ping
gap() {  # longest run of unanswered pings, in tenths of a second
  docker_ 3 exec app cat /tmp/pings | sed -nE 's/.*seq=([0-9]+).*/\1/p' |
    awk 'NR > 1 && $1 - last - 1 > most { most = $1 - last - 1 } { last = $1 } END { print most + 0; exit !(NR > 40) }'
}
echo "  the longest gap: $(gap) tenths of a second"
check "traffic with the host that is behind none goes on within 3 s" test "$(gap)" -lt 30
check "the two behind NATs reach each other again within 10 s" eventually 10 docker_ 3 exec app ping -c1 -W1 db.weave.local
check "and directly in a while" eventually 30 direct

echo "-- NATs that hand out another port for each destination"
scripts/lab renat 3 "$(ip_of 3)"
for h in 1 3; do weave "$h" stop >/dev/null 2>&1; scripts/lab nat "$h" symmetric; done
sleep 1
launch 1 "$(ip_of 2)"; launch 3 "$(ip_of 2)"
check "all three are connected" eventually 30 established 3 6
check "the two behind NATs are connected through the third" eventually 30 relayed
check "their containers ping each other by name" eventually 10 pings 3 app db.weave.local
finish
