#!/bin/bash
# The router as a process of the host, started before dockerd, as the unit
# scripts/weave.service orders it. No systemd runs here: the order is kept by hand.
source "$(dirname "$0")/lib.sh"
UNIT=scripts/weave.service
verify() {  # the unit, with the binary where it is here
  mkdir -p "$WORK/unit" && sed "s|/usr/local/bin/weave|$LAB_BIN/weave|" $UNIT >"$WORK/unit/weave.service"
  says '^$' systemd-analyze verify "$WORK/unit/weave.service"
}
boot 2
check "the unit is sound" verify
check "and starts before dockerd, which waits until the router is ready" sh -c "grep -q '^Before=docker.service' $UNIT && grep -q '^Type=notify' $UNIT"
EXEC=$(sed -n 's/^ExecStart=//p' $UNIT | sed "s|/usr/local/bin/weave|$LAB_BIN/weave|")
on 1 sh -c "umask 077; mkdir -p /etc/weave; echo $PASSWORD >/etc/weave/password; cat >/etc/weave/weave.toml" <<TOML
password-file = "/etc/weave/password"
peers = ["$(ip_of 2)"]
TOML
# what systemd does: starts the router, waits for its READY=1, goes on to dockerd
cat >"$LAB_DIR/h1/boot" <<SH
#!/bin/bash
export NOTIFY_SOCKET=/run/notify
rm -f /run/notify
python3 -c "
import socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind('/run/notify'); s.settimeout(20)
print(s.recv(100).decode())" & ready=\$!
while [ ! -e /run/notify ]; do sleep 0.02; done
setsid $EXEC >>$LAB_DIR/h1/log/router.log 2>&1 </dev/null &
wait \$ready
SH
chmod +x "$LAB_DIR/h1/boot"
launch 2
scripts/lab stop 1; scripts/lab start 1 2>/dev/null
check "the router says READY=1, then dockerd starts" grep -q READY=1 "$LAB_DIR/h1/log/boot.log"
check "the router in the foreground is connected" eventually 10 established 2 2
check "it makes no difference to Docker" docker_ 1 network create -d weavemesh --ipam-driver weavemesh --subnet 10.32.0.0/12 weave
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
  check "$1: dockerd never waited for the plugin" refuse grep -q "Unable to locate plugin" "$LAB_DIR/h1/log/dockerd.log"
}
check "containers are reached from the other host" eventually 5 reached
T=$(date +%s%N); scripts/lab dockerd 1 restart; echo "        dockerd was away for $(since "$T")"
after "dockerd restarted"
scripts/lab dockerd 1 kill
check "dockerd killed: the other host does not notice" reached
T=$(date +%s%N); scripts/lab dockerd 1 start; echo "        dockerd took $(since "$T") to start"
after "dockerd killed"
scripts/lab kill 1
T=$(date +%s%N); scripts/lab start 1 2>/dev/null; echo "        the host took $(since "$T") to start"
after "power cut"
check "no warning in the router's log" refuse grep -E ' (WARN|ERROR) |panicked' "$LAB_DIR/h1/log/router.log"
check "weave stop ends it" weave 1 stop
check "and nothing answers any more" fails 3 'router' weave 1 status
finish
