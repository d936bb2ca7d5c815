#!/bin/bash
# Twelve faults on real hosts: `weave doctor` names the cause of each, and where a container is not
# reached for it, `weave ping` the layer. A healthy mesh has neither error nor warning.
source "$(dirname "$0")/lib.sh"
STATE=/var/lib/weave
boot 3
mesh 3
for h in 1 2 3; do docker_ $h run -d --name "c$h" --net=weave bb sleep 100000 >/dev/null; done
diagnosed() {  # diagnosed HOST LEVEL CHECK REGEX : the doctor there has found that
  local out; out=$(weave "$1" doctor --json 2>/dev/null); shift
  python3 -c '
import json, re, sys
level, check, text = sys.argv[2:]
found = json.loads(sys.argv[1])["findings"]
for f in found: print(f)
sys.exit(not any(f["level"] == level and f["check"] == check and re.search(text, f["message"]) and f.get("fix") for f in found))' "$out" "$@"
}
well() {  # well HOST : neither error nor warning
  local out; out=$(weave "$1" doctor --json) || { echo "$out"; return 1; }
  echo "$out"; grep -q '"errors": 0' <<<"$out" && grep -q '"warnings": 0' <<<"$out"
}
all_well() { local h; for h in 1 2 3; do well $h || return 1; done; }
inside() { local h=$1 c=$2; shift 2; on "$h" nsenter -t "$(docker_ "$h" inspect -f '{{.State.Pid}}' "$c")" -n "$@"; }
interrupted() { on 1 timeout -s INT 2 weave test >/dev/null 2>&1; ! weave 1 ps | grep -q /proc; }
healthy() { check "all is well again" eventually "${1:-60}" all_well; }

echo "-- a healthy mesh"
check "nothing is wrong" eventually 30 all_well
check "the doctor says so in words" says 'nothing is wrong|note' weave 1 doctor
check "every layer to a container of another host is well" says 'ok +container +answers ARP in .*ping in' weave 1 ping c3 -c 1
check "also by its address" weave 1 ping "$(address 2 c2)" -c 1
check "and on this host" says 'ok +container' weave 1 ping c1 -c 1
check "a peer is reached by its nickname" says 'ok +router +answers in' weave 1 ping lon -c 1
check "rounds are summed up" says '4 of 4 rounds' weave 1 ping c2 -c 4
check "JSON has every layer" says '"layer": "container"' weave 1 ping c2 -c 1 --json
check "a name that nobody has fails at the name" fails 1 'FAILED +name +no host of the mesh announces' weave 1 ping nosuch -c 1
check "every peer carries every kind of traffic" says 'names: ok' weave 1 test
sed 's/^/        /' "$WORK/out"
check "also for programs" says '"multicast": true' weave 1 test lon --json
check "nothing of it stays" eventually 10 same "$(weave 1 ps | grep -c /proc)" 0
check "an interrupted test leaves nothing either" interrupted
check "the mesh is drawn" says '── direct  .*\(lon\)' weave 1 graph
check "an address that nobody has fails at the address" fails 1 'FAILED +address +no live host announces' weave 1 ping 10.47.1.1 -c 1

echo "-- 1. UDP 6783 is blocked one way"
on 2 iptables -I INPUT -s "$(ip_of 1)" -p udp --dport 6783 -j DROP
check "who hears nothing says that the other hears it" eventually 120 diagnosed 2 warning udp-blocked 'one way: .*\(nyc\).* hears this host'
check "who is not heard says so" eventually 60 diagnosed 1 warning udp-blocked 'one way: this host hears .*\(lon\)'
check "the mesh is drawn with the relay" says '╌╌ relay +.*\(nyc\)|╌╌ relay +.*\(lon\)' weave 2 graph
check "a test goes through it" weave 2 test nyc
check "ping goes through the relay and says why" says 'through the relay' weave 2 ping c1 -c 1
on 2 iptables -D INPUT -s "$(ip_of 1)" -p udp --dport 6783 -j DROP
healthy 150

echo "-- 2. UDP 6783 is blocked both ways"
scripts/lab udpblock 1 2 6783
check "one end says so" eventually 150 diagnosed 1 warning udp-blocked 'both ways: .*\(lon\)'
check "and the other" eventually 60 diagnosed 2 warning udp-blocked 'both ways: .*\(nyc\)'
scripts/lab udpblock 1 3 6783
check "a host that has no relay left is an error" eventually 120 diagnosed 1 error peer-unreachable 'nothing comes from'
check "ping fails for it" fails 1 'FAILED +(name|address|path)' weave 1 ping c2 -c 1
scripts/lab heal
healthy 150

echo "-- 3. another password"
weave 3 stop >/dev/null 2>&1
weave 3 launch --password another-password "$(ip_of 1)" >/dev/null 2>&1
check "who has it is told" eventually 60 diagnosed 3 error wrong-password 'refused this host: wrong password'
check "who refused it says from where" eventually 60 diagnosed 1 warning wrong-password "$(ip_of 3) wants to connect with another password"
check "ping says that nobody has the name" fails 1 'FAILED +name' weave 1 ping c3 -c 1
weave 3 stop >/dev/null 2>&1
launch 3 "$(ip_of 1)"
healthy 150

echo "-- 4. longer datagrams vanish on the way"
ip -n "$LAB_NAME-sw" link set v2 mtu 1200
docker_ 1 exec c1 ping -w 40 -i 0.1 -s 1300 "$(address 2 c2)" >/dev/null & PING=$!
check "the black hole is found" eventually 60 diagnosed 1 warning mtu-black-hole '\(lon\).* more than (10..|11..|120[0-4]) bytes vanish'
check "ping shows what passes" says 'path .* mtu (10..|11..|120[0-4])' weave 1 ping c2 -c 1
ip -n "$LAB_NAME-sw" link set v2 mtu 1500
kill $PING 2>/dev/null; wait $PING 2>/dev/null
# a path is looked at again while frames flow on it
for h in 1 3; do docker_ $h exec c$h ping -w 90 -i 0.2 -s 1300 "$(address 2 c2)" >/dev/null & PINGS[h]=$!; done
healthy 90
kill "${PINGS[@]}" 2>/dev/null; wait "${PINGS[@]}" 2>/dev/null

echo "-- 5. the firewall drops what passes the bridge, before the rule of weave"
on 2 iptables -I FORWARD -i weave -j DROP
check "the rule is named, and how to remove it" diagnosed 2 error forward-drop 'FORWARD -i weave -j DROP'
check "ping names the layer" fails 1 'FAILED +bridge +the firewall of that host drops' weave 1 ping c2 -c 1
on 2 iptables -D FORWARD -i weave -j DROP
healthy

echo "-- 6. a route into the range"
on 2 ip link add clash type bridge; on 2 ip addr add 10.40.1.1/24 dev clash; on 2 ip link set clash up
check "it is named" diagnosed 2 error route-clash '10.40.1.0/24 by clash'
on 2 ip link del clash
healthy

echo "-- 7. dockerd is down"
scripts/lab dockerd 2 stop
check "it is said" diagnosed 2 error docker 'Docker does not answer'
check "so is the router, which is gone with it" diagnosed 2 error router 'does not run'
check "ping from another host fails" fails 1 'FAILED +(name|path)' weave 1 ping c2 -c 1
scripts/lab dockerd 2 start
docker_ 2 start c2 >/dev/null
healthy 150

echo "-- 8. the plugin's socket is gone"
on 2 rm /run/docker/plugins/weavemesh.sock
check "it is said" diagnosed 2 error plugin-socket 'plugin socket .*weavemesh.sock is gone'
docker_ 2 restart weave >/dev/null
healthy 150

echo "-- 9. the DNS redirect of a container is gone"
unredirect() { inside 1 c1 iptables -t nat -F WEAVE-DNS && diagnosed 1 error dns-redirect "$(docker_ 1 inspect -f '{{.Id}}' c1 | cut -c1-12)"; }
check "the container is named" eventually 20 unredirect
check "the router puts it back" eventually 60 well 1

echo "-- 10. the clock of a peer is years off"
weave 3 stop >/dev/null 2>&1
scripts/lab bg 3 router env WEAVE_TEST_CLOCK_SHIFT=-100000000 weave router --nickname mac "$(ip_of 1)"
check "it is told, and is neither error nor warning" eventually 60 diagnosed 1 info clock '\(mac\) is 3 years behind'
check "nothing else is wrong" eventually 30 well 1
weave 3 stop >/dev/null 2>&1
launch 3 "$(ip_of 1)"
healthy 150

echo "-- 11. two hosts with one identity"
for h in 2 3; do weave $h stop >/dev/null 2>&1; done
on 2 cp -a "$STATE" "$WORK/copy"; on 3 cp -a "$STATE" "$WORK/own"
on 3 sh -c "rm -rf $STATE/* && cp -a $WORK/copy/. $STATE/"
launch 2 "$(ip_of 1)"; launch 3 "$(ip_of 1)"
check "others name it" eventually 120 diagnosed 1 error duplicate-identity '\(lon\) at '
check "one of the two knows it of itself" eventually 120 diagnosed 3 error duplicate-identity 'of this host'
for h in 2 3; do weave $h stop >/dev/null 2>&1; done
on 3 sh -c "rm -rf $STATE/* && cp -a $WORK/own/. $STATE/"
launch 2 "$(ip_of 1)"; launch 3 "$(ip_of 1)"
weave 1 stop >/dev/null 2>&1; launch 1  # which forgets what it saw of the two
healthy 150

echo "-- 12. a subnet without an address left"
docker_ 1 network create -d weavemesh --subnet 10.33.0.0/29 small >/dev/null
for n in 1 2 3 4 5; do docker_ 1 run -d --name "s$n" --net=small bb sleep 100000 >/dev/null; done
check "the subnet is named" eventually 20 diagnosed 1 error subnet-full '10.33.0.0/29 is full: 5 of the 5'
docker_ 1 rm -f s1 s2 s3 s4 s5 >/dev/null
docker_ 1 network rm small >/dev/null
healthy
finish
