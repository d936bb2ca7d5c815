#!/bin/bash
# Containers come and go by the thousand, while router and dockerd are restarted: nothing is left.
#   CALLS (20000): driver calls replayed against the real driver    CHURN (50): containers in all
source "$(dirname "$0")/lib.sh"
boot 2
mesh 2
CALLS=${CALLS:-20000} CHURN=${CHURN:-50}
state() {  # everything of host $1 that must be the same before and after
  local h=$1 pid; pid=$(docker_ "$h" inspect -f '{{.State.Pid}}' weave)
  echo "addresses $(weave "$h" status ipam --json | python3 -c 'import json,sys; print(json.load(sys.stdin)["active"])')"
  echo "endpoints $(weave "$h" ps | wc -l)"
  echo "veths $(on "$h" sh -c 'ip -o link show type veth | grep -c vethw')"
  echo "bridges $(on "$h" sh -c 'ip -o link show type bridge | grep -c weave')"
  echo "names $(weave "$h" status dns | sort | md5sum)"
  echo "rules $(on "$h" sh -c 'iptables-save | grep -i weave | sort | md5sum')"
}
resident() { on "$1" awk '/^VmRSS/ {print $2}' "/proc/$(docker_ "$1" inspect -f '{{.State.Pid}}' weave)/status"; }
descriptors() { on "$1" sh -c "ls /proc/$(docker_ "$1" inspect -f '{{.State.Pid}}' weave)/fd | wc -l"; }
as_before() { local h; for h in 1 2; do state "$h" >"$WORK/after$h"; diff "$WORK/before$h" "$WORK/after$h" || return 1; done; }

cat >"$WORK/replay.py" <<'PY'
# dockerd's calls for endpoints that come and go, as recorded from 20.10; some are lost or repeated, as
# when dockerd is killed. Prints the longest call and the addresses that were given out twice.
import http.client, json, random, socket, sys, threading, time
calls, net = int(sys.argv[1]), sys.argv[2]
class Unix(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX); self.sock.settimeout(30)
        self.sock.connect('/run/docker/plugins/weavemesh.sock')
left, lock, held, longest, failed, made, lost = calls, threading.Lock(), {}, [0.0], [], [0], [0]
class Caller:
    connection = None
    def __call__(self, method, **body):
        global left
        with lock: left -= 1
        t = time.monotonic()
        while True:
            try:
                if self.connection is None: self.connection = Unix('localhost')
                self.connection.request('POST', '/' + method, json.dumps(body))
                answer = json.loads(self.connection.getresponse().read()); break
            except (OSError, http.client.HTTPException):
                # as dockerd: the driver is away, try again for 15 s
                self.connection = None
                if time.monotonic() - t > 15: raise
                time.sleep(0.2)
        longest[0] = max(longest[0], time.monotonic() - t)
        return answer
pool = 'weave-10.44.0.0/16-10.44.0.0/16'
def work(seed):
    rng, call = random.Random(seed), Caller()
    while left > 0:
        got = call('IpamDriver.RequestAddress', PoolID=pool, Address='', Options=None)
        if got.get('Error'): failed.append(got['Error']); continue
        address = got['Address']; ip = address.split('/')[0]
        with lock:
            if ip in held: failed.append(f'{ip} was given out twice')
            held[ip] = True; made[0] += 1
        endpoint = ''.join(rng.choice('0123456789abcdef') for _ in range(64))
        ref = dict(NetworkID=net, EndpointID=endpoint)
        if rng.random() > 0.02:
            answer = call('NetworkDriver.CreateEndpoint', **ref, Interface={'Address': address, 'AddressIPv6': '', 'MacAddress': ''}, Options={})
            if answer.get('Err'): failed.append(answer['Err'])
            if rng.random() > 0.02:
                answer = call('NetworkDriver.Join', **ref, SandboxKey='/var/run/docker/netns/' + endpoint[:12], Options={})
                if answer.get('Err'): failed.append(answer['Err'])
                call('NetworkDriver.EndpointOperInfo', **ref)
                if rng.random() > 0.02: call('NetworkDriver.Leave', **ref)
            if rng.random() < 0.02: call('NetworkDriver.DeleteEndpoint', **ref)
            call('NetworkDriver.DeleteEndpoint', **ref)
        with lock: del held[ip]
        if rng.random() < 0.005: lost[0] += 1; continue     # dockerd died: the router finds out by itself
        call('IpamDriver.ReleaseAddress', PoolID=pool, Address=ip)
threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
begin = time.monotonic()
for t in threads: t.start()
for t in threads: t.join()
print(f'{calls - left} calls, {made[0]} endpoints in {time.monotonic() - begin:.0f} s, longest {longest[0] * 1000:.0f} ms, {lost[0]} never given back, failed: {failed[:5]}')
sys.exit(bool(failed))
PY
echo "-- $CALLS driver calls"
for h in 1 2; do state $h >"$WORK/before$h"; done
# a network of Docker's own: others would be taken for leaked
NET=$(docker_ 1 network create -d weavemesh --ipam-driver weavemesh --subnet 10.44.0.0/16 -o weave.dns=false replay)
on 1 python3 "$WORK/replay.py" 2000 "$NET" >/dev/null    # warm: memory is compared from here
RSS=$(resident 1) FDS=$(descriptors 1)
on 1 python3 "$WORK/replay.py" "$CALLS" "$NET" >"$WORK/replay" 2>&1 & REPLAY=$!
check "no call fails, no address is given out twice" wait $REPLAY; sed 's/^/        /' "$WORK/replay"
RSS2=$(resident 1) FDS2=$(descriptors 1); echo "        memory $RSS -> $RSS2 kB, descriptors $FDS -> $FDS2"
check "the router's memory is flat to 2 MB" [ $((RSS2 - RSS)) -le 2048 ]
check "and so are its descriptors" [ "$FDS2" -le $((FDS + 2)) ]
on 1 python3 "$WORK/replay.py" 2000 "$NET" >"$WORK/replay" 2>&1 & REPLAY=$!
sleep 1; on 1 kill -9 "$(docker_ 1 inspect -f '{{.State.Pid}}' weave)"
check "also when the router is killed in their midst" wait $REPLAY; sed 's/^/        /' "$WORK/replay"
docker_ 1 network rm replay >/dev/null

echo "-- $CHURN containers, with restarts of router and dockerd in between"
cat >"$WORK/churn.sh" <<'SH'
# starts $1 containers, 4 at a time; a start that fails because dockerd or the router is away is tried again
seq 1 "$1" | xargs -P 4 -I{} sh -c "for try in 1 2 3 4 5 6; do docker run --rm --net=weave bb sh -c 'ip -4 -o addr show ethwe0 | busybox awk \"{print \\\$4}\"; sleep 0.\$((RANDOM % 9))' 2>/dev/null && exit; sleep 5; done; echo FAILED"
SH
for h in 1 2; do on $h bash "$WORK/churn.sh" $((CHURN / 2)) >"$WORK/churn.$h" 2>&1 & JOBS+=($!); done
for ((round = 0; round <= CHURN / 250; round++)); do
  sleep 4
  on 2 kill -9 "$(docker_ 2 inspect -f '{{.State.Pid}}' weave)"
  sleep 1; scripts/lab dockerd 1 restart
done
for p in "${JOBS[@]}"; do wait "$p"; done
check "every container ran" same "$(grep -h '^10\.' "$WORK"/churn.? | wc -l)" "$((CHURN / 2 * 2))"
check "no address was on both hosts" same "$(comm -12 <(sort -u "$WORK/churn.1") <(sort -u "$WORK/churn.2"))" ""
echo "-- what is left, after two looks at Docker"
check "no address, endpoint, veth, bridge, name or rule" eventually 95 as_before
check "no error in any log" refuse sh -c "for h in 1 2; do scripts/lab exec \$h docker logs weave 2>&1; done | grep -E ' ERROR |panicked'"
finish
