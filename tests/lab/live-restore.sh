#!/bin/bash
# dockerd with live-restore: containers run on while it is away, and so does the network.
export LAB_DOCKERD_ARGS=--live-restore
source "$(dirname "$0")/lib.sh"
boot 2
mesh 2
docker_ 1 run -d --restart=always --name=db --net=weave --ip 10.40.7.7 bb sh -c 'trap "exit 0" TERM; while :; do echo here | nc -l -p 4242 & wait; done' >/dev/null
docker_ 2 run -d --restart=always --name=far --net=weave bb sleep 100000 >/dev/null
reached() { says here docker_ 2 exec far sh -c "nc -w 2 db 4242 </dev/null"; }
out() { docker_ 1 exec db ping -c1 -W2 far; }
check "containers are reached from the other host" eventually 5 reached
UP=$(docker_ 1 inspect -f '{{.State.StartedAt}}' db)
scripts/lab dockerd 1 stop
check "dockerd stopped: the container is reached" reached
T=$(date +%s%N); scripts/lab dockerd 1 start;  echo "        dockerd took $(since "$T") to start"
check "dockerd back: it is reached" eventually 5 reached
check "it reaches others" eventually 5 out
check "it was not restarted" same "$UP" "$(docker_ 1 inspect -f '{{.State.StartedAt}}' db)"
check "nor was the router cut off" established 2 2
scripts/lab dockerd 1 kill
check "dockerd killed: the container is reached" reached
T=$(date +%s%N); scripts/lab dockerd 1 start;  echo "        dockerd took $(since "$T") to start"
check "dockerd back: it is reached" eventually 5 reached
check "it was not restarted" same "$UP" "$(docker_ 1 inspect -f '{{.State.StartedAt}}' db)"
sleep 65   # two looks at Docker
check "a minute later it is still reached" reached
check "and reaches others" out
docker_ 1 restart -t 1 db
check "restarted itself, it is reached again" eventually 5 reached
check "and reaches others by name" pings 1 db far
docker_ 1 rm -f db >/dev/null
check "removed, it leaves no address" says "\(0 active\)" weave 1 status ipam
finish
