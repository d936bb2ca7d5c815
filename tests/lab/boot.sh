#!/bin/bash
# The router as a service of systemd, which starts it before dockerd: h1 and h2 are hosts whose
# init is a real systemd, and dockerd its docker.service. On h2 the router is a container.
export LAB_INIT=systemd
source "$(dirname "$0")/lib.sh"
boot 2
launch 2
systemctl() { on 1 systemctl "$@"; }
hidden() {  # hidden PROGRAM ARGS... : run where systemd does not see the program
  on 1 unshare --mount sh -c 'mount -t tmpfs none /mnt && cp "$(command -v "$0")" /mnt/weave && exec /mnt/weave "$@"' "$@"
}
other() { on 1 sh -c "cp $LAB_BIN/weave $LAB_BIN/$1 && echo $1 >>$LAB_BIN/$1"; }  # another build of weave

echo "-- launched as a service"
check "a router that does not come up says why" fails 1 'weave.service' hidden weave launch --systemd --password "$PASSWORD"
check "and leaves no unit" fails 1 'could not be found|No files found' systemctl cat weave.service
on 1 sh -c 'echo "[Unit]" >/etc/systemd/system/weave.service'
check "a unit of somebody else is left alone" fails 1 'error: /etc/systemd/system/weave.service was not made by .weave launch --systemd.' weave 1 launch --systemd --password "$PASSWORD"
on 1 rm /etc/systemd/system/weave.service
check "weave launch --systemd works" says 'weave is ready' weave 1 launch --systemd --password "$PASSWORD" "$(ip_of 2)"
check "the unit is sound" says '^$' on 1 systemd-analyze verify /etc/systemd/system/weave.service
check "it is started at every boot" says '^enabled$' systemctl is-enabled weave
check "before dockerd, which waits until it is ready" says 'docker.service' systemctl show weave --property=Before
check "no secret is in it" refuse on 1 grep -r "$PASSWORD" /etc/systemd/system
check "it is connected" eventually 10 established 2 2
check "the network is there" says 'weavemesh' docker_ 1 network ls
check "launched again it has nothing to do" says 'nothing to do' weave 1 launch --systemd --password "$PASSWORD" "$(ip_of 2)"
check "other options are named" fails 1 '--port: running with 6783, now 7000' weave 1 launch --systemd --password "$PASSWORD" --port 7000 "$(ip_of 2)"
check "it is not launched as a container beside" fails 1 'error: a router is already running as a service of systemd' weave 1 launch
check "nor as a service beside a container" fails 1 'already running as a container' weave 2 launch --systemd

echo "-- restarts"
docker_ 1 run -d --restart=always --name=db --net=weave --ip 10.40.7.7 bb sh -c 'trap "exit 0" TERM; while :; do echo here | nc -l -p 4242 & wait; done' >/dev/null
docker_ 1 run -d --restart=always --name=plain --net=weave bb sleep 100000 >/dev/null
docker_ 1 run -d --restart=always --name=old --net=weave --dns=172.17.0.1 --dns-search=weave.local bb sleep 100000 >/dev/null
docker_ 2 run -d --restart=always --name=far --net=weave bb sleep 100000 >/dev/null
reached() { says here docker_ 2 exec far sh -c "nc -w 2 db 4242 </dev/null" && says ' 0% packet loss' docker_ 2 exec far ping -c1 -W1 plain; }
after() {  # after "what" : within 5 s of dockerd's readiness all is as it was
  local t; t=$(date +%s%N)
  check "$1: containers are reached from the other host within 5 s of dockerd's readiness" eventually 5 reached
  echo "        $(since "$t") after dockerd was ready"
  check "$1: the container with --ip has its address" same "$(address 1 db)" 10.40.7.7
  check "$1: Docker's bridge answers queries" eventually 5 says ' 0% packet loss' docker_ 1 exec old ping -c1 -W1 far
  check "$1: dockerd never waited for the plugin" refuse says 'Unable to locate plugin' on 1 journalctl -u docker
}
check "containers are reached from the other host" eventually 5 reached
T=$(date +%s%N); scripts/lab dockerd 1 restart; echo "        dockerd was away for $(since "$T")"
after "dockerd restarted"
scripts/lab dockerd 1 kill
check "dockerd killed: the other host does not notice" reached
T=$(date +%s%N); scripts/lab dockerd 1 start; echo "        dockerd took $(since "$T") to start"
after "dockerd killed"
check "the router never warned" refuse says ' (WARN|ERROR) |panicked' on 1 journalctl -u weave
scripts/lab kill 1
T=$(date +%s%N); scripts/lab start 1 2>/dev/null; echo "        the host took $(since "$T") to start"
after "power cut"
check "the router was ready before dockerd was started" says '^ordered$' on 1 sh -c '
  ready=$(systemctl show weave --property=ActiveEnterTimestampMonotonic --value)
  started=$(systemctl show docker --property=ExecMainStartTimestampMonotonic --value)
  [ "$ready" -gt 0 ] && [ "$ready" -le "$started" ] && echo ordered || echo "$ready is not before $started"'
# more often than systemd would start a service that has no say in it
for _ in 1 2 3 4 5 6 7 8; do systemctl kill --kill-who=main --signal=KILL weave; sleep 0.5; done
check "killed again and again it comes back" eventually 5 established 2 2
check "and containers are reached" eventually 5 reached
check "it never warned since" refuse says ' (WARN|ERROR) |panicked' on 1 journalctl -u weave

echo "-- upgrade"
other weave-other
check "another build replaces it" says 'replacing weave .* with another build' on 1 weave-other launch --systemd
check "it runs" says "weave-other$" on 1 sh -c 'readlink /proc/$(systemctl show weave --property=MainPID --value)/exe'
check "with the peers of before" eventually 10 established 2 2
check "containers are reached" eventually 5 reached
other weave-hidden
check "one that does not come up is taken back" fails 1 'the former one runs again' hidden weave-hidden launch --systemd
check "the former one is connected" eventually 10 established 2 2
check "containers are reached" eventually 5 reached

echo "-- end"
docker_ 1 rm -f plain old >/dev/null
check "weave stop ends it" says 'weave launch --systemd. resumes' weave 1 stop
check "nothing answers any more" fails 3 'router' weave 1 status
scripts/lab kill 1; scripts/lab start 1 2>/dev/null
check "no boot brings it back" fails 3 'router' weave 1 status
check "another launch resumes with the same address" weave 1 launch --systemd "$(ip_of 2)"
docker_ 1 start db >/dev/null 2>&1
check "containers too" eventually 20 says here docker_ 2 exec far sh -c "nc -w 2 db 4242 </dev/null"
docker_ 1 rm -f db >/dev/null
check "weave reset removes it" weave 1 reset
check "with its unit" fails 1 'could not be found|No files found' systemctl cat weave.service
check "and all else" refuse on 1 sh -c 'ls -d /run/weave /run/docker/plugins/weavemesh.sock 2>/dev/null; ls -A /var/lib/weave; ip -br link | grep -E "weave|vethw"; docker network ls | grep weave' 
finish
