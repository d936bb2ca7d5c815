#!/bin/bash
# The mesh: connecting in every order, the wrong password, secrecy on the wire,
# silence, restarts of the router.
source "$(dirname "$0")/lib.sh"
boot 3
scripts/lab harden 2

echo "-- a chain: lon dials nyc, mac dials lon"
launch 1; launch 2 "$(ip_of 1)"; launch 3 "$(ip_of 2)"
check "hosts launched in a chain become fully connected" eventually 15 established 3 6
check "targets are shown as typed" same "$(weave 3 status targets)" "$(ip_of 2)"
check "launched again with the same options, nothing happens" says 'already' weave 3 launch --password "$PASSWORD" "$(ip_of 2)"
check "launched again with other options, the difference is named" fails 1 'nickname' weave 3 launch --password "$PASSWORD" --nickname other "$(ip_of 2)"
check "where no systemd runs, --systemd says so" fails 1 'systemd does not run on this host' weave 3 launch --systemd

echo "-- nothing on the wire can be read"
docker_ 1 run -d --name=secret --net=weave --hostname=topsecret.weave.local bb sh -c 'while true; do echo PlainTextPayload | nc -l -p 4242; done' >/dev/null
docker_ 3 run -d --name=reader --net=weave bb sleep 1000 >/dev/null
SECRET_IP=$(address 1 secret)
SECRET_MAC=$(docker_ 1 inspect -f '{{.NetworkSettings.Networks.weave.MacAddress}}' secret)
scripts/lab bg 1 tcpdump tcpdump -i eth0 -w "$WORK/wire.pcap" -U
sleep 1
check "ping across hosts by name loses nothing" pings 3 reader topsecret.weave.local
check "netcat across hosts is answered" says PlainTextPayload docker_ 3 exec reader sh -c 'nc -w 3 topsecret.weave.local 4242 </dev/null'
sleep 1; on 1 pkill -f "$WORK/wire.pcap"; sleep 0.3
cat >"$WORK/leaks.py" <<'PY'
import sys
wire = open(sys.argv[1], 'rb').read()
ip = bytes(int(x) for x in sys.argv[2].split('.'))
mac = bytes.fromhex(sys.argv[3].replace(':', ''))
assert len(wire) > 1500, f'the capture holds only {len(wire)} bytes'
found = [n for n, b in dict(ip=ip, mac=mac, name=b'topsecret', payload=b'PlainTextPayload').items() if b in wire]
sys.exit(f'in clear on the wire: {found}' if found else 0)
PY
check "a capture of the underlay shows no inner MAC, IP, name or payload" python3 "$WORK/leaks.py" "$WORK/wire.pcap" "$SECRET_IP" "$SECRET_MAC"

echo "-- the router is killed"
PID=$(docker_ 1 inspect -f '{{.State.Pid}}' weave)
on 1 kill -9 "$PID"
check "docker restarts a killed router and pings cross within 5 s" eventually 5 docker_ 3 exec reader ping -c1 -W1 topsecret.weave.local
check "the container kept its address" same "$(address 1 secret)" "$SECRET_IP"
check "its name still leads to it" same "$(weave 3 dns-lookup topsecret.weave.local)" "$SECRET_IP"

echo "-- a wrong password"
weave 3 stop >/dev/null 2>&1
weave 3 launch --password wrong-password "$(ip_of 1)" >/dev/null 2>&1
check "a wrong password is named in the dialler's status" eventually 15 says 'refused: wrong password' weave 3 status connections
check "the wrong one is not admitted" eventually 5 established 2 2
weave 3 stop >/dev/null 2>&1
launch 3 "$(ip_of 1)"
check "with the right password it is in within 60 s" eventually 60 established 3 6

echo "-- a host falls silent"
scripts/lab partition 3 1,2
check "after 10 s of silence the status says so" eventually 16 says 'no answer on UDP 6783' weave 1 status connections
check "after 20 s the peer is down" eventually 16 says 'Peers: 2 ' weave 1 status
scripts/lab heal
check "it comes back when the network does" eventually 70 established 3 6

echo "-- three hosts dial each other at once"
for h in 1 2 3; do weave $h stop >/dev/null 2>&1 & done; wait
for h in 1 2 3; do launch $h "$(ip_of 1)" "$(ip_of 2)" "$(ip_of 3)" & done; wait
check "three hosts that dial each other at once become fully connected" eventually 15 established 3 6
check "pings cross after all this" eventually 10 pings 3 reader topsecret.weave.local
finish
