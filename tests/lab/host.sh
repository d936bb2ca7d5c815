#!/bin/bash
# Hosts that are not clean: what others delete, flush or set is put back, and
# what others have stays. h1 has iptables-nft, h2 iptables-legacy.
source "$(dirname "$0")/lib.sh"
boot 2
on 2 mount --bind /usr/sbin/xtables-legacy-multi /usr/sbin/xtables-nft-multi
# dockerd makes its rules anew with the other program
on 2 nft flush ruleset; scripts/lab dockerd 2 restart
on 2 iptables -V | grep -q legacy || { echo "error: h2 is not a legacy host"; exit 1; }
# somebody else's rules, in a table and a chain of their own
on 1 nft -f - <<'NFT'
table inet others { chain c { type filter hook input priority 5; ip saddr 192.0.2.7 drop; }; }
NFT
for h in 1 2; do on $h iptables -N OTHERS; on $h iptables -A OTHERS -s 192.0.2.8 -j DROP; on $h iptables -A INPUT -j OTHERS; done
rules() {  # the ruleset of host $1, without counters
  case $1 in
    1) on 1 nft list ruleset | sed -E 's/counter packets [0-9]+ bytes [0-9]+/counter/' ;;
    2) on 2 sh -c 'iptables-save; ip6tables-save' | grep -v '^#' | sed -E 's/\[[0-9]+:[0-9]+\]//' ;;
  esac
}
# dockerd makes this network for containers on any network of a driver; here it is there before
for h in 1 2; do docker_ $h network create --subnet 172.18.0.0/16 -o com.docker.network.bridge.name=docker_gwbridge -o com.docker.network.bridge.enable_icc=false docker_gwbridge >/dev/null
  docker_ $h run --rm bb true; rules $h >"$WORK/rules$h"; done

echo "-- nothing of ours is left after reset, everything of others is"
mesh 2
for h in 1 2; do docker_ $h run --rm --net=weave bb true; weave $h expose >/dev/null; rules $h >"$WORK/with$h"; done
check "the rules of others stand beside ours" sh -c "grep -q 192.0.2.7 $WORK/with1 && grep -q 192.0.2.8 $WORK/with1 && grep -q 192.0.2.8 $WORK/with2 && grep -qi weave $WORK/with1 && grep -qi weave $WORK/with2"
for h in 1 2; do
  check "h$h: reset works" weave $h reset --force
  rules $h >"$WORK/after$h"
  check "h$h: the ruleset is what it was before launch" diff "$WORK/rules$h" "$WORK/after$h"
  check "h$h: no interface is left" refuse on $h sh -c 'ip -br link | grep -E "weave|vethw"'
done

mesh 2
for h in 1 2; do docker_ $h network create -d weavemesh --ipam-driver weavemesh --subnet 10.33.0.0/24 side >/dev/null
  docker_ $h run -d --name "c$h" --net=weave bb sleep 100000 >/dev/null; docker_ $h run -d --name "s$h" --net=side bb sleep 100000 >/dev/null; done
SIDE2=$(address 2 s2 side)
docker_ 1 run -d --name near --net=weave bb sleep 100000 >/dev/null
IP1=$(address 1 c1)
IP2=$(address 2 c2)
NEAR=$(address 1 near)
passes() {  # both networks, between hosts and on one
  docker_ 1 exec c1 ping -c1 -W1 "$IP2" && docker_ 2 exec c2 ping -c1 -W1 "$IP1" && docker_ 1 exec s1 ping -c1 -W1 "$SIDE2" && docker_ 1 exec c1 ping -c1 -W1 "$NEAR"
}
names() { docker_ 1 exec c1 ping -c1 -W1 c2 && docker_ 2 exec c2 ping -c1 -W1 c1; }
check "traffic passes at the beginning" eventually 5 passes
echo "-- what the router opens and tells"
listens() { on 1 ss -Hlntup | awk '/"weave"/ {print $1, $5}' | LC_ALL=C sort -u | tr '\n' ' '; }
LISTENS=$(listens)
check "it listens on the mesh's port, for its status, and for DNS of containers" same "$LISTENS" "tcp 127.0.0.1:6782 tcp 172.17.0.1:53 udp *:6783 udp 172.17.0.1:53 "
status_page() { on 1 busybox wget -qO- "http://127.0.0.1:6782/$1"; }
check "its status is read by HTTP" says 'Peers: 2 \(with 2 established connections\)' status_page status
check "its report too" says '"nickname":"nyc"' status_page report
check "nothing else is" says 404 status_page forget
check "nor is anything changed there" says 405 on 1 busybox wget -qO- --post-data= http://127.0.0.1:6782/status
check "other hosts reach none of it" refuse on 2 busybox nc -w 2 "$(ip_of 1)" 6782
check "its sockets are for root alone" same "$(on 1 stat -c %a /run/weave/weave.sock /run/docker/plugins/weavemesh.sock /run/weave | tr '\n' ' ')" "600 600 700 "
check "so is what it stores" same "" "$(on 1 find /var/lib/weave -type f ! -perm 600)"
cat >"$WORK/secrets.py" <<'PY'
# whether the password, or the key made of it, stands in what is read, in any form
import base64, sys
key = open('/var/lib/weave/password', 'rb').read()
forms = [sys.argv[1].encode(), key.strip(), key.hex().encode(), base64.b64encode(key).rstrip(b'=')]
shown = sys.stdin.buffer.read()
assert len(key) >= 32 and len(shown) > 500, (len(key), len(shown))
sys.exit(any(form.lower() in shown.lower() for form in forms))
PY
shown() { on 1 sh -c 'weave report; weave status --json; docker inspect weave; docker logs weave 2>&1; wget -qO- http://127.0.0.1:6782/report; tr "\0" " " </proc/$(docker inspect -f {{.State.Pid}} weave)/cmdline'; }
no_secret() { shown >"$WORK/shown"; on 1 python3 "$WORK/secrets.py" "$PASSWORD" <"$WORK/shown"; }
check "neither report nor log, status, container or command line holds a secret" no_secret
weave 1 stop >/dev/null 2>&1
check "the status is switched off" weave 1 launch --status-addr off
LISTENS=$(listens)
check "and nothing listens for it" same "$LISTENS" "tcp 172.17.0.1:53 udp *:6783 udp 172.17.0.1:53 "
weave 1 stop >/dev/null 2>&1
on 1 python3 -c 'import socket; socket.create_server(("127.0.0.1", 6782)).accept()' & sleep 0.5
check "a port that is taken does not keep the router from starting" weave 1 launch
check "but is told" says 'WARN.*no status by HTTP.*127.0.0.1:6782' docker_ 1 logs weave
on 1 busybox nc -w 1 127.0.0.1 6782 </dev/null; wait %% 2>/dev/null
check "traffic passes again" eventually 15 passes

attack() {  # attack HOST "what" COMMAND... : traffic is back within 10 s
  local h=$1 what=$2 t; shift 2
  on "$h" "$@" || { echo "        the attack itself failed: $*"; }
  t=$(date +%s%N)
  check "h$h: $what: traffic is back within 10 s" eventually 10 passes
  echo "        after $(since "$t")"
}
for h in 1 2; do
  echo "-- attacks on h$h"
  attack $h "the bridge is deleted" ip link del weave
  attack $h "the TAP is deleted" ip link del weave-tap
  attack $h "the bridge is set down" ip link set weave down
  attack $h "the other network's bridge is deleted" sh -c 'ip link del $(ip -br link show type bridge | grep -o "^weave-[0-9a-f]*")'
  attack $h "a port is taken off its bridge" sh -c 'ip link set $(ip -br link show master weave | grep -o "^vethwl[^@ ]*" | head -n 1) nomaster'
  attack $h "a container's cable is cut" sh -c 'ip link del $(ip -br link show master weave | grep -o "^vethwl[^@ ]*" | head -n 1)'
  attack $h "the DNS server's cable is cut" sh -c 'ip link del $(ip -br link show master weave | grep -o "^vethwd[^@ ]*")'
  check "h$h: and names are" eventually 10 names
  attack $h "a firewall starts" sh -c 'iptables -F; iptables -X; iptables -t nat -F; iptables -P FORWARD DROP'
  attack $h "sysctls are set" sh -c 'for i in all default weave weave-tap; do sysctl -qw net.ipv4.conf.$i.rp_filter=1 net.ipv6.conf.$i.disable_ipv6=0; done; sysctl -qw net.bridge.bridge-nf-call-iptables=1 net.ipv4.ip_forward=0'
  MAC=$(docker_ $h inspect -f '{{.NetworkSettings.Networks.weave.MacAddress}}' c$h)
  pinned() { says "^$MAC dev vethwl.* master weave permanent|^$MAC dev vethwl.* master weave static" on $1 bridge fdb show br weave; }
  check "h$h: the bridge knows a container's MAC for good" pinned $h
  on $h bridge fdb del "$MAC" dev "$(on $h bridge fdb show br weave | sed -nE "s/^$MAC dev ([^ ]+).*/\1/p")" master
  check "h$h: it no longer does" refuse pinned $h
  check "h$h: it does again within 12 s" eventually 12 pinned $h
  check "h$h: the settings of our interfaces are put back" eventually 12 says '^1$' on $h cat /proc/sys/net/ipv6/conf/weave-tap/disable_ipv6
done
attack 1 "the TAP no longer floods" sh -c 'ip link set weave-tap down; ip link set weave-tap up; ip link set weave-tap type bridge_slave flood off'
attack 1 "another TAP has its name" sh -c 'ip link del weave-tap; ip tuntap add weave-tap mode tap; ip link set weave-tap master weave up'
docker_ 1 network create -d weavemesh --ipam-driver weavemesh --subnet 10.34.0.0/24 more >/dev/null
docker_ 1 network connect more s1
PID=$(docker_ 1 inspect -f '{{.State.Pid}}' s1)
on 1 nsenter -t "$PID" -n ip link del ethwe0
check "a container on two networks has its way to the DNS server after the first cable is cut" eventually 10 says 'dev ethwe' on 1 nsenter -t "$PID" -n ip route show 169.254.53.53
check "and names" says ' 0% packet loss' docker_ 1 exec s1 ping -c1 -W1 s2
# a bridge that cannot be put back
OTHER=$(on 1 ip -br link show type bridge | grep -o "^weave-[0-9a-f]*" | head -n 1)
on 1 sh -c "ip link del weave; ip link del $OTHER; ip link add $OTHER type veth peer name other0"
near() { docker_ 1 exec c1 ping -c1 -W1 "$IP2"; }
check "somebody else has the name of one bridge: the other one is put back" eventually 10 near
on 1 ip link del "$OTHER"
check "so is that one when its name is free" eventually 10 passes
attack 1 "the whole ruleset is flushed" nft flush ruleset
check "names of the outside resolve in containers" eventually 5 says 192.0.2.53 docker_ 1 exec c1 nslookup upstream.example

finish
