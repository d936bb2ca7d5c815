#!/bin/bash
# Bad disks: full, read-only, torn, corrupted, set back. The router says so with file and cause,
# goes on forwarding, and never gives an address twice.
source "$(dirname "$0")/lib.sh"
STATE=/var/lib/weave FILE=/var/lib/weave/weave.redb
LOOP=
clean() { scripts/lab down >/dev/null 2>&1; [ -z "$LOOP" ] || losetup -d "$LOOP" 2>/dev/null; rm -rf "$WORK"; }
trap clean EXIT
boot 2
# two disks that can be spoilt: a small one, and one whose file system turns read-only
on 1 mount -t tmpfs -o size=12m tmpfs "$STATE"
truncate -s 24M "$WORK/disk" && mkfs.ext4 -q "$WORK/disk" && LOOP=$(losetup -f --show "$WORK/disk")
on 2 mount -o errors=remount-ro "$LOOP" "$STATE"
mesh 2

# a name such as b7 alone would also remove a container whose id begins so
run() { local h=$1 name=$2; shift 2; docker_ "$h" rm -f $(docker_ "$h" ps -aq --filter "name=^/$name\$") >/dev/null 2>&1; docker_ "$h" run -d --name "$name" --net=weave "$@" bb sleep 10000; }
until_refused() {  # until_refused HOST REGEX : runs containers until one is refused, with this text
  local n out t; for n in $(seq 1 60); do
    t=$SECONDS; out=$(run "$1" "x$n" 2>&1) && continue
    rm_created "$1"; echo "$out"; [ $((SECONDS - t)) -le 7 ] && grep -qE -- "$2" <<<"$out"; return
  done; echo "none of 60 was refused"; return 1
}
rm_created() { docker_ "$1" rm -f $(docker_ "$1" ps -aq --filter status=created) >/dev/null 2>&1; }
addresses() {  # every address of every container that runs, on both hosts
  local h c
  for h in 1 2; do for c in $(docker_ "$h" ps -q); do
    docker_ "$h" inspect -f '{{range $n, $e := .NetworkSettings.Networks}}{{if or (eq $n "weave") (eq $n "side")}}{{println $e.IPAddress}}{{end}}{{end}}' "$c"
  done; done | grep .
}
unique() { addresses >"$WORK/all"; sort "$WORK/all"; [ "$(wc -l <"$WORK/all")" -ge "$1" ] && [ -z "$(sort "$WORK/all" | uniq -d)" ]; }
relaunch() { if [ "$1" = 1 ]; then launch 1; else launch 2 "$(ip_of 1)"; fi; eventually 20 established 2 2; }
refused() {  # refused HOST REGEX : no router starts there, and says why
  local out; out=$(weave "$1" launch --password "$PASSWORD" $([ "$1" = 1 ] || ip_of 1) 2>&1; docker_ "$1" logs --tail 5 weave 2>&1)
  weave "$1" stop >/dev/null 2>&1; docker_ "$1" rm -f weave >/dev/null 2>&1
  echo "$out"; grep -qE -- "$2" <<<"$out"
}

run 1 a1 >/dev/null; run 2 b1 >/dev/null

echo "-- full"
on 1 sh -c "dd if=/dev/zero of=$STATE/filler bs=64k; sync" >/dev/null 2>&1
check "a container is refused within seconds, with file and cause" until_refused 1 "weave.redb.*No space left on device"
check "the status names file and cause" says "$FILE.*No space left" weave 1 status
check "an address outside the range cannot be had either" fails 1 "error: cannot store it: .*weave.redb.*No space left" weave 1 expose 192.168.78.1/24
check "it lends nothing to test with" fails 1 'it lends no station to test with: .*No space left' weave 2 test nyc
check "containers that run are reached all the while" pings 2 b1 a1
check "the other host gives out addresses" run 2 b2
on 1 rm "$STATE/filler"
check "once there is room, it goes on by itself" eventually 10 run 1 a2
check "and the status is clean" eventually 5 refuse says "No space" weave 1 status
check "the log has a line for the beginning, and one for the end" same "$(docker_ 1 logs weave 2>&1 | grep -cE 'cannot write the store|store can be written again')" 2

echo "-- a disk that takes its time"
STRANGER=$(printf 'ab%.0s' {1..32})
hangs() { on 2 sh -c "fsfreeze -f $STATE; weave rmpeer $STRANGER; code=\$?; fsfreeze -u $STATE; exit \$code"; }
check "a ban that is not stored yet is not in force" fails 1 'error: the disk has not taken the ban yet; it will be in force once it has' hangs
check "it is once the disk has taken it" eventually 10 says 'Banned: 1 ' weave 2 status

echo "-- read-only"
echo test >"/sys/fs/ext4/$(basename "$LOOP")/trigger_fs_error"  # as after an error of the disk
check "a container is refused within seconds, with file and cause" until_refused 2 "weave.redb.*Read-only file system"
check "the status names file and cause" says "$FILE.*Read-only" weave 2 status
check "containers that run are reached all the while" pings 1 a1 b1
weave 2 stop >/dev/null 2>&1
on 2 umount "$STATE"; e2fsck -fy "$LOOP" >/dev/null 2>&1
on 2 mount -o ro "$LOOP" "$STATE"
check "a start on a read-only disk is refused with the cause" refused 2 "Read-only file system"
on 2 mount -o remount,rw "$STATE"
check "once it can be written, the router starts" relaunch 2
check "and gives out addresses" eventually 10 run 2 b3
check "no address is used twice" unique 5

echo "-- torn and corrupted"
weave 2 stop >/dev/null 2>&1
on 2 cp "$FILE" /tmp/good.redb.$$
on 2 sh -c "truncate -s \$((\$(stat -c %s $FILE) / 2)) $FILE"
check "a file cut short is refused, with its name and what to do" refused 2 "$FILE is damaged.*weave reset"
on 2 sh -c "cp /tmp/good.redb.$$ $FILE; for at in 64 4200 8200 12300 16500 20700 40000 66000; do printf XXXXXXXX | dd of=$FILE bs=1 seek=\$at conv=notrunc 2>/dev/null; done"
check "so is one with wrong bytes in it" refused 2 "$FILE is damaged.*weave reset"
on 2 sh -c ": >$FILE"
check "so is an empty one" refused 2 "$FILE is damaged: it is empty"
on 2 cp /tmp/good.redb.$$ "$FILE"; rm -f /tmp/good.redb.$$
check "with the copy put back it starts" relaunch 2
check "containers are reached again" eventually 5 docker_ 1 exec a1 ping -c1 -W1 b3

echo "-- set back: a host that was granted and lent addresses"
for h in 1 2; do docker_ $h network create -d weavemesh --ipam-driver weavemesh --subnet 10.33.0.0/24 side >/dev/null; done
weave 2 stop >/dev/null 2>&1; on 2 cp -a "$STATE" "$WORK/before2"; relaunch 2
for n in 4 5; do run 2 b$n >/dev/null; done
run 2 b6 --ip 10.40.0.77 >/dev/null
docker_ 2 run -d --name s2 --net=side bb sleep 10000 >/dev/null
weave 2 stop >/dev/null 2>&1
on 2 sh -c "rm -rf $STATE/*; cp -a $WORK/before2/. $STATE/"
relaunch 2
check "the status says that the disk came back older" eventually 5 says "came back older than it was" weave 2 status
check "containers that it forgot are reached by address" eventually 5 docker_ 1 exec a1 ping -c1 -W1 10.40.0.77
for n in 7 8 9; do run 2 b$n >/dev/null; done
docker_ 2 run -d --name s3 --net=side bb sleep 10000 >/dev/null
check "no address is used twice" unique 13
check "the borrowed address is still in use for its lender" says "in use by" docker_ 1 run --rm --net=weave --ip 10.40.0.77 bb true
rm_created 1

echo "-- set back: the founder, which granted and lent them"
weave 1 stop >/dev/null 2>&1; on 1 cp -a "$STATE" "$WORK/before1"; relaunch 1
run 2 c1 --ip 10.40.0.88 >/dev/null
for h in 1 2; do docker_ $h network create -d weavemesh --ipam-driver weavemesh --subnet 10.34.0.0/24 deep >/dev/null; done
docker_ 2 run -d --name d2 --net=deep bb sleep 10000 >/dev/null
GRANTED=$(address 2 d2 deep)
for n in 3 4; do run 1 a$n >/dev/null; done
weave 1 stop >/dev/null 2>&1
on 1 sh -c "rm -rf $STATE/*; cp -a $WORK/before1/. $STATE/"
relaunch 1
check "the status names what was taken over" eventually 5 says "came back older than it was.*grant.*loan" weave 1 status
check "an address that it lent and forgot is refused, with its holder" says "in use by" docker_ 1 run --rm --net=weave --ip 10.40.0.88 bb true
check "so is one that it granted and forgot" says "in use by|belongs to peer" docker_ 1 run --rm --net=deep --ip "$GRANTED" bb true
rm_created 1
for n in 5 6 7; do run 1 a$n >/dev/null; done
for n in 1 2; do docker_ 1 run -d --name e$n --net=deep bb sleep 10000 >/dev/null; done
check "no address is used twice" unique 19
check "everybody is reached" eventually 5 docker_ 1 exec a7 ping -c1 -W1 b9
finish
