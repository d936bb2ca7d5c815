#!/bin/bash
# Without Docker: routers in the foreground, any network namespace attached.
source "$(dirname "$0")/lib.sh"
boot 3
start() {  # start HOST [args] : a router as a plain process
  local h=$1; shift
  on "$h" mkdir -p /run/w
  scripts/lab bg "$h" router weave router --no-docker --password "$PASSWORD" --state-dir /var/lib/weave --socket /run/w/weave.sock "$@"
  eventually 10 on "$h" weave --socket /run/w/weave.sock status >/dev/null 2>&1
}
w() { local h=$1; shift; on "$h" env WEAVE_SOCKET=/run/w/weave.sock weave "$@"; }
check "a router starts in the foreground without Docker" start 1
start 2 "$(ip_of 1)"; start 3 "$(ip_of 1)" --nickname lon
for h in 1 2 3; do on $h ip netns add ns; on $h ip -n ns link set lo up; done
check "attach joins a namespace and prints its address" says '^10\.[0-9.]+$' w 1 attach --netns /run/netns/ns
check "flags and addresses come in any order" says '^10\.33\.7\.9$' w 2 attach --netns /run/netns/ns ip:10.33.7.9/12
check "a CIDR outside the range works" says '^192\.168\.77\.1 192\.168\.77\.2$|^192\.168\.77\.1$' w 1 attach 192.168.77.1/24 --netns /run/netns/ns
w 3 attach 192.168.77.3/24 --netns /run/netns/ns >/dev/null
check "three namespaces ping each other, encrypted: allocated addresses" on 1 ip netns exec ns busybox ping -c3 -i0.2 -w5 10.33.7.9
check "and addresses outside the range" on 3 ip netns exec ns busybox ping -c3 -i0.2 -w5 192.168.77.1
check "frames larger than the path arrive" on 3 ip netns exec ns busybox ping -c2 -i0.2 -w5 -s 8000 192.168.77.1
check "the interface is ethwe" on 1 ip netns exec ns ip link show ethwe
check "a nickname that two hosts have is asked for the key, by ping" eventually 10 fails 1 'error: .lon. may be any of .*\(lon\) with key [0-9a-f]{64}, .*\(lon\) with key' w 1 ping lon -c 1
check "and by rmpeer" fails 1 'may be any of .*\(lon\) with key' w 1 rmpeer lon
on 1 ip netns add many; on 1 sh -c 'for n in "" $(seq 15); do ip -n many link add "ethwe$n" type bridge; done'
check "a namespace where no name of an interface is left" fails 1 'error: the namespace has too many interfaces' w 1 attach --netns /run/netns/many
check "detach takes it away and prints what it took" says '^192\.168\.77\.3$' w 3 detach 192.168.77.3/24 --netns /run/netns/ns
check "the socket flag stands before or after the verb" on 1 weave status --socket /run/w/weave.sock
check "status is JSON when asked" says '"name"' on 1 sh -c 'weave --socket /run/w/weave.sock status --json | python3 -m json.tool'
check "a second router on the same socket is refused" fails 1 'error: a router is already running: it answers on /run/w/weave.sock' on 1 weave router --no-docker --password "$PASSWORD" --state-dir /tmp/w2 --socket /run/w/weave.sock
check "a taken port is named" fails 1 '6783' on 1 weave router --no-docker --password "$PASSWORD" --state-dir /tmp/w2 --socket /run/w/2.sock
rm -rf /tmp/w2
check "no router: exit code 3 and a hint" fails 3 'hint' on 1 weave --socket /run/w/none.sock status
check "an unknown command is a usage error" fails 2 'unrecognized|unknown' weave 1 nosuch
check "an unknown container is named" fails 1 'error: cannot look up container .nosuch.: this router runs without Docker' w 1 attach nosuch
check "a bad address is a usage error" fails 2 'cidr|address' w 1 attach 10.300.1.1/12 --netns /run/netns/ns
check "a range over a host route is refused" fails 1 'error: the range 10.32.0.0/12 overlaps the route of this host to 10.32.0.0/16 by lo' on 1 sh -c 'ip route add 10.32.0.0/16 dev lo; weave launch --port 7000 --password 12345678; rc=$?; ip route del 10.32.0.0/16 dev lo; exit $rc'
check "version names itself" says '^weave [0-9]' weave 1 version
check "a generated password has 26 characters" says '^[a-z2-7A-Z]{26}$' weave 1 password generate
scripts/lab partition 1 2,3
check "a host that no peer hears does not leave" fails 1 'error: leave the mesh: no peer has acknowledged that this host leaves' w 1 reset
finish
