#!/bin/bash
# Links that come and go: of all links between eight routers, 30 % are cut at any time, others every second, under
# streams. Then the mesh is whole again. FLAP_SECONDS says how long, FLAP_SEED which links. Routers
# without Docker, each in a network namespace of its own.
source "$(dirname "$0")/lib.sh"
FLAP_SECONDS=${FLAP_SECONDS:-30} FLAP_SEED=${FLAP_SEED:-1}
N=8 SW=$LAB_NAME-flap
declare -A ADDRESSES RESIDENT
down() { unwire; }
routers_say() { local h; for ((h = 1; h <= N; h++)); do tail -n 8 "$WORK/log$h" | sed "s/^/  m$h: /"; done; }
whole() {  # every router has a session with every other, without a relay
  local h
  for ((h = 1; h <= N; h++)); do
    w "$h" status | grep -q "Peers: $N (with $((N * (N - 1))) established connections)" || { w "$h" status; return 1; }
    w "$h" status connections | grep ' relay ' && return 1
  done
  true
}
reach() {  # every container every other
  local a b
  for ((a = 1; a <= N; a++)); do for ((b = 1; b <= N; b++)); do
    [ "$a" = "$b" ] || inside "$a" ping -q -c1 -W1 "${ADDRESSES[$b]}" >/dev/null || { echo "$a does not reach $b"; return 1; }
  done; done
}
resident() { awk '/^VmRSS/ {print $2}' "/proc/${PIDS[$1]}/status"; }

wire $(seq $N)
for ((h = 1; h <= N; h++)); do start "$h" $([ "$h" = 1 ] || ip_of 1); done
check "$N routers are connected" eventually 30 whole
for ((h = 1; h <= N; h++)); do
  contain "$h"
  ADDRESSES[$h]=$(w "$h" attach --netns "/run/netns/$SW-c$h")
done
check "all containers reach each other" eventually 15 reach

echo "-- links come and go for $FLAP_SECONDS s, seed $FLAP_SEED"
for ((h = 1; h <= N; h += 2)); do
  ip netns exec "$SW-c$((h + 1))" iperf3 -s >/dev/null 2>&1 & SERVERS+=($!)
done
sleep 1
for ((h = 1; h <= N; h++)); do RESIDENT[$h]=$(resident "$h"); done
for ((h = 1; h <= N; h += 2)); do
  ip netns exec "$SW-c$h" timeout $((FLAP_SECONDS + 20)) iperf3 -c "${ADDRESSES[$((h + 1))]}" -t "$FLAP_SECONDS" -f m >"$WORK/stream$h" 2>&1 & SERVERS+=($!)
done
cat >"$WORK/flap.py" <<'PY'
# flap.py HOSTS SECONDS SEED : cuts other links every second, by the port of the switch that a frame comes from
import itertools, random, subprocess, sys, time
hosts, seconds, seed = map(int, sys.argv[1:])
rng, links = random.Random(seed), list(itertools.combinations(range(1, hosts + 1), 2))
def cut(links):
    rules = ''.join(f'iifname "v{a}" oifname "v{b}" drop\niifname "v{b}" oifname "v{a}" drop\n' for a, b in links)
    subprocess.run(['nft', '-f', '-'], check=True, text=True, input='table bridge flap\ndelete table bridge flap\n'
                   f'table bridge flap {{ chain cut {{ type filter hook forward priority 0; policy accept;\n{rules}}}\n}}\n')
end = time.monotonic() + seconds
while time.monotonic() < end:
    cut(rng.sample(links, round(len(links) * .3)))
    time.sleep(1)
cut([])
PY
check "links are cut and joined" ns 0 python3 "$WORK/flap.py" $N "$FLAP_SECONDS" "$FLAP_SEED"
t=$(date +%s%N)
check "the mesh is whole again" eventually 30 whole; echo "        after $(since "$t")"
check "all containers reach each other" eventually 15 reach; echo "        after $(since "$t")"
alive() { local h; for ((h = 1; h <= N; h++)); do kill -0 "${PIDS[$h]}" || { echo "m$h has died"; return 1; }; done; }
check "no router has died" alive
flat() {
  local h now
  for ((h = 1; h <= N; h++)); do
    now=$(resident "$h"); echo "m$h: ${RESIDENT[$h]}, then $now KiB"
    ((now < ${RESIDENT[$h]} + 16384)) || return 1
  done
}
check "no router's memory grew" flat; sed 's/^/        /' "$WORK/out"
check "no router panicked" refuse grep -h panicked "$WORK"/log*
sleep 2
for ((h = 1; h <= N; h += 2)); do echo "        stream $h: $(grep receiver "$WORK/stream$h" || tail -n1 "$WORK/stream$h")"; done
finish
