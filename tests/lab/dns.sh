#!/bin/bash
# Names as Docker gives and takes them, across hosts, and while routers and hosts die.
source "$(dirname "$0")/lib.sh"
boot 2
mesh 2
docker_ 1 run -d --name web --network-alias shop --net=weave bb sleep 100000 >/dev/null
docker_ 1 run -d --name gone --net=weave bb sleep 100000 >/dev/null
docker_ 1 run -d --name plain bb sleep 100000 >/dev/null
docker_ 2 run -d --name asker --net=weave bb sleep 100000 >/dev/null
docker_ 1 run -d --name local --net=weave bb sleep 100000 >/dev/null
WEB=$(address 1 web) GONE=$(address 1 gone)
looked_up() { says "^$1\$" weave "$2" dns-lookup "$3"; }  # looked_up ADDRESS HOST NAME
absent() { local out; out=$(weave "$1" dns-lookup "$2") && same "" "$out"; }  # absent HOST NAME

# asks for names again and again, from within a container: a line for each answer
cat >"$WORK/probe.py" <<'PY'
import os, socket, struct, sys, time
names, log = sys.argv[3:], open(sys.argv[1], "w", buffering=1)
number = 0
while not os.path.exists(sys.argv[2]):
    for name in names:
        number = (number + 1) % 65536
        question = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0\0\1\0\1"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
            asked.settimeout(2)
            try:
                asked.sendto(struct.pack(">6H", number, 0x100, 1, 0, 0, 0) + question, ("127.0.0.11", 53))
                answer = asked.recv(4096)
                count = struct.unpack(">H", answer[6:8])[0]
                ips = [socket.inet_ntoa(answer[at + 12:at + 16]) for at in [12 + len(question) + 16 * n for n in range(count)]]
                said = {0: "found" if ips else "empty", 2: "failed", 3: "denied"}.get(answer[3] & 15, "odd")
            except OSError:
                said, ips = "silence", []
        print(f"{time.time():.3f} {name} {said} {' '.join(ips)}", file=log)
    time.sleep(0.05)
PY
probe() {  # probe HOST CONTAINER NAME... : into $WORK/probed.HOST, until `probed`
  local h=$1 pid; pid=$(docker_ "$h" inspect -f '{{.State.Pid}}' "$2"); shift 2
  on "$h" nsenter --net --target "$pid" python3 "$WORK/probe.py" "$WORK/probed.$h" "$WORK/enough" "$@" & PROBES+=($!)
}
probed() { touch "$WORK/enough"; wait "${PROBES[@]}"; PROBES=(); rm "$WORK/enough"; }
PROBES=()
seen() { grep -c " $2 $3" "$WORK/probed.$1"; }                 # seen HOST NAME WHAT : how often
never() { refuse grep -E " $2 ($3)" "$WORK/probed.$1"; }        # never HOST NAME WHAT

echo "-- what Docker calls a container"
check "its name and its alias are known on the other host" eventually 1 eval "looked_up $WEB 2 web && looked_up $WEB 2 shop"
check "a running container joins the network" docker_ 1 network connect --alias cellar weave plain
PLAIN=$(address 1 plain)
check "its names are there within 1 s" eventually 1 eval "looked_up $PLAIN 2 plain && looked_up $PLAIN 2 cellar"
docker_ 1 rename plain simple
check "renamed, it is known by the new name within 1 s" eventually 1 looked_up "$PLAIN" 2 simple
check "and by the former no more" eventually 1 absent 2 plain
check "it leaves the network" docker_ 1 network disconnect weave simple
check "its names are gone within 1 s" eventually 1 eval "absent 2 simple && absent 2 cellar"
check "it is attached in another way" weave 1 attach simple
check "and known again within 1 s" eventually 1 refuse absent 2 simple
docker_ 1 rename simple plain
check "renamed, too" eventually 1 eval "absent 2 simple && ! absent 2 plain"
weave 1 detach plain >/dev/null
docker_ 1 run -d --name odd --network-alias odd.example.com --net=weave bb sleep 100000 >/dev/null
check "an alias outside of the domain is left out, and the log says so" eventually 2 says 'outside of the domain.*odd.example.com' docker_ 1 logs weave
docker_ 1 rm -f odd >/dev/null

echo "-- a router is killed, and containers end while it is dead"
check "a container that will end has another name" weave 1 dns-add gone -h bygone.weave.local
check "which is known" eventually 1 looked_up "$GONE" 2 bygone
docker_ 1 update --restart no weave >/dev/null
probe 1 local web.weave.local; probe 2 asker web.weave.local
sleep 1
kill_routers 1
# its process ends now; dockerd then waits for the driver, longer than hosts wait for each other
docker_ 1 rm -f gone >/dev/null & REMOVAL=$!
sleep 3
docker_ 1 start weave >/dev/null
docker_ 1 update --restart always weave >/dev/null
until weave 1 dns-lookup web >"$WORK/first" 2>&1; do sleep 0.02; done
for name in gone bygone; do weave 1 dns-lookup $name; done >"$WORK/early" 2>&1
check "the first answers of the new router know nothing of what has ended" refuse grep "$GONE" "$WORK/early"
check "hosts are connected again" eventually 15 established 2 2
check "the other host knows neither any more, once Docker has told" eventually 12 eval "absent 2 gone && absent 2 bygone"
sleep 2; probed
wait $REMOVAL
for h in 1 2; do
  check "host $h was answered, before and after ($(seen $h web.weave.local found) times)" eval "[ $(seen $h web.weave.local found) -gt 10 ]"
  check "host $h was never told that a running container does not exist" never $h web.weave.local 'denied|empty|odd'
  check "nor given a wrong address" refuse eval "grep found $WORK/probed.$h | grep -v '$WEB\$'"
done

echo "-- a router is killed and comes back at once"
probe 1 local web.weave.local asker.weave.local; probe 2 asker web.weave.local asker.weave.local
sleep 1
kill_routers 1
eventually 15 established 2 2
sleep 1; kill_routers 2
eventually 15 established 2 2
sleep 2; probed
for h in 1 2; do for name in web asker; do
  check "host $h: $name was never denied ($(seen $h $name.weave.local found) answers)" never $h $name.weave.local 'denied|empty|odd'
done; done

echo "-- a host crashes"
scripts/lab kill 1 >/dev/null 2>&1
BEGAN=$(date +%s%N)
check "its names are gone" eventually 22 absent 2 web
check "within 22 s ($(since "$BEGAN"))" eval "[ $((($(date +%s%N) - BEGAN) / 1000000)) -lt 22500 ]"
scripts/lab start 1 >/dev/null 2>&1
docker_ 1 start web >/dev/null
check "the host is back" eventually 20 established 2 2
check "and its names with it, within 1 s" eventually 1 eval "looked_up \$(address 1 web) 2 web"
finish
