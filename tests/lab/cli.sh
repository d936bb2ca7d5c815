#!/bin/bash
# Every command and every flag of the command line, on three hosts: what it prints, how it ends, and
# what it says when it fails. The last check fails when `weave --help` names one that was not walked.
source "$(dirname "$0")/lib.sh"
boot 3
weave() { local host=$1; shift; printf '%s\n' "$*" >>"$WORK/walked"; scripts/lab exec "$host" weave "$@"; }
json() {  # json EXPRESSION COMMAND... : its output is JSON for which this Python expression on `it` holds
  local expression=$1; shift
  "$@" | python3 -c "import json, sys; it = json.load(sys.stdin); print(it); assert $expression"
}
out() {  # out REGEX COMMAND... : it succeeds, says nothing on standard error, and all of its output matches
  local re=$1 out; shift; out=$("$@" 2>"$WORK/err") || { cat "$WORK/err"; return 1; }
  echo "$out"; [ ! -s "$WORK/err" ] && python3 -c 'import re, sys; sys.exit(not re.fullmatch(sys.argv[1], sys.argv[2], re.S))' "$re" "$out"
}
IP='10\.[0-9.]+' NAME='([0-9a-f]{2}:){5}[0-9a-f]{2}'
echo "$PASSWORD" >"$WORK/password"; echo another-Fine-password-17 >"$WORK/password.new"

echo "-- without a router"
check "a command that asks the router ends with 3 and says how to start one" \
  fails 3 'error: the router is not running.*' weave 1 status
check "its hint names launch" says 'hint: start it with `weave launch`' weave 1 ps
check "no command is a usage error with the help" fails 2 'Usage: weave' weave 1
check "a typo names the right word" fails 2 "'status'" weave 1 statsu
check "a typo in a flag too" fails 2 "'--replace'" weave 1 connect --relpace x
for gone in run start restart launch-router launch-proxy launch-plugin stop-router stop-proxy stop-plugin setup-cni docker-bridge-ip attach-bridge bridge-type; do
  check "weave $gone is gone, and says so in one line" eval 'fails 1 "^error: .weave $gone. is gone; instead: " weave 1 "$gone" --flag && same "$(weave 1 "$gone" 2>&1 | wc -l)" 1'
done
for unneeded in env config setup; do
  check "weave $unneeded is not needed: success, and nothing on standard output" \
    eval 'same "$(weave 1 "$unneeded" 2>/dev/null)" "" && says "^not needed any more: " weave 1 "$unneeded"'
done
check "version says that no router runs" out 'weave [0-9.]+\nrouter not running' weave 1 version
check "the same as JSON" json 'it["router"] is None' weave 1 version --json
check "--version of the program" out 'weave [0-9.]+' weave 1 --version
check "logs of nobody" fails 1 'no router was launched on this host' weave 1 logs
check "a password is made" out '[a-z0-9-]{20,}' weave 1 password generate
check "not without randomness" fails 1 'the system has no randomness: ' on 1 unshare --mount sh -c 'mount -t tmpfs none /dev && exec weave password generate'
check "completions for each shell" eval 'for shell in bash zsh fish; do weave 1 completions "$shell" | grep -q rmpeer || exit 1; done'
check "manual pages" eval 'weave 1 man "$WORK/man" && grep -q rmpeer "$WORK/man/weave.1" && test -s "$WORK/man/weave-password-add.1"'
check "a directory that cannot be" fails 1 'error: write the manual pages to /proc/x: ' weave 1 man /proc/x

echo "-- launch"
check "options that contradict each other" fails 2 'cannot be used with' weave 1 launch --password a --password-file b
check "--resume takes no peers" fails 2 'cannot be used with' weave 1 launch --resume 192.0.2.1
check "--systemd where there is none" fails 1 'systemd does not run on this host' weave 1 launch --systemd --password-file "$WORK/password"
check "a range that is none" fails 2 'ipalloc-range: ' weave 1 launch --ipalloc-range 10.0.0.0/33
check "a subnet outside of the range" fails 2 'is not within --ipalloc-range' weave 1 launch --ipalloc-default-subnet 10.1.0.0/16
check "a password file that is missing" fails 1 '/nosuch' weave 1 launch --password-file /nosuch
check "another socket" fails 2 'always uses its own socket' weave 1 --socket $WORK/x.sock launch
SHARED=(--ipalloc-range 10.40.0.0/14 --ipalloc-default-subnet 10.40.0.0/16 --port 7000 --pq prefer --cipher auto --conn-limit 60 --dns-domain weave.local)
check "the first host, with all options that it can have" says '^sudo weave launch' \
  weave 1 launch --password-file "$WORK/password" --password-generation 0 --nickname one --status-addr 127.0.0.1:7782 "${SHARED[@]}" \
  --no-offloads --log-level debug --no-restart
check "with another option they differ" fails 1 '^error: weave is already running with other options$' \
  weave 1 launch --password-file "$WORK/password" --nickname uno "${SHARED[@]}" --no-offloads --log-level debug --no-restart
check "Docker does not start it again" says '^no$' docker_ 1 inspect -f '{{.HostConfig.RestartPolicy.Name}}' weave
check "again with the same: nothing to do" says 'nothing to do' \
  weave 1 launch --password-file "$WORK/password" --password-generation 0 --nickname one --status-addr 127.0.0.1:7782 "${SHARED[@]}" --no-offloads --log-level debug --no-restart
check "again with another option: named, and nothing is changed" fails 1 '-nickname: running with one, now uno' \
  weave 1 launch --password-file "$WORK/password" --nickname uno "${SHARED[@]}" --no-offloads --log-level debug --no-restart
check "the second, by WEAVE_*, with options of Weave Net" says 'warning: --no-fastdp does nothing: there is one data path' \
  on 2 env WEAVE_NICKNAME=two WEAVE_MTU=9000 weave launch --password-file "$WORK/password" "${SHARED[@]}" --no-fastdp --proxy=false --mtu 1400 "$(ip_of 1):7000"
check "the third" says 'warning: --trusted-subnets does nothing' \
  weave 3 launch --password "$PASSWORD" --nickname three "${SHARED[@]}" --strict --no-guard --no-discovery --no-dns --trusted-subnets 10.0.0.0/8 "$(ip_of 1):7000" "$(ip_of 2):7000"
check "prime waits until addresses can be given out" out '' weave 1 prime --timeout 20
check "all are connected" eventually 20 says 'Peers: 3 \(with 6 established connections\)' weave 1 status

echo "-- the state"
check "a verdict first" eventually 20 says '^well: this host and 2 others are connected' weave 1 status
check "on one screen" eval '[ "$(weave 1 status | wc -l)" -lt 35 ]'
check "status as JSON" json 'it["ready"] and len(it["router"]["peers"]) == 3' weave 1 status --json
check "connections" out "(<-|->) [0-9.:]+ +established direct +$NAME\(two\).*" eval 'weave 1 status connections | grep two'
for part in targets connections peers dns ipam; do
  check "status $part as JSON" json 'it is not None' weave 1 status $part --json
done
check "no such part" fails 2 "invalid value 'nosuch'" weave 1 status nosuch
check "targets as typed" out "$(ip_of 1):7000" weave 2 status targets
check "names, without DNS" out 'DNS is off: the router was launched with --no-dns' weave 3 status dns
check "the report" json 'it["router"]["nickname"] == "one"' weave 1 report
check "the same with --json" json 'it["counters"]["sessions_made"] >= 2' weave 1 report --json
check "the log has nothing of what Docker answers, as it may be secret" refuse says 'Decoded into string' weave 1 logs
check "a field of it" out 'one' weave 1 report --format router.nickname
check "as Weave Net had it" out "$NAME 7000" weave 1 report -f '{{.Router.Name}} {{json .Router.Port}}'
check "no such field" fails 2 'the report has no `nosuch`; `it` has' weave 1 report -f nosuch
check "no templates of Go" fails 2 'is no field of the report' weave 1 report -f '{{range .Router.Peers}}{{end}}'
check "both versions" out 'weave ([0-9.]+)\nrouter \1' weave 1 version
check "the log" says 'router ready' weave 1 logs --since 1h --tail 1000
check "where the docker command is missing" fails 1 'error: cannot run docker: No such file' on 1 env PATH="$LAB_BIN" weave logs
check "from a time on that is to come" out '' weave 1 logs --since 2099-01-01
check "followed" eval 'timeout 3 scripts/lab exec 1 weave logs --follow --tail 1; [ $? = 124 ]'; echo "logs --follow" >>"$WORK/walked"
check "no time" fails 2 'neither such as 10m' weave 1 logs --since yesterday

echo "-- the page and the socket"
api() { on "$1" curl -sS --max-time 10 --unix-socket /run/weave/weave.sock "${@:3}" "http://weave$2"; }
check "the status page" says '^well: ' on 1 busybox wget -qO- http://127.0.0.1:7782/status
check "metrics" says '^weave_connections\{state="established",type="direct",encryption="yes"\} 2' on 1 busybox wget -qO- http://127.0.0.1:7782/metrics
check "the default subnet" same "$(api 1 /ipinfo/defaultsubnet)" 10.40.0.0/16
check "the domain" same "$(api 1 /domain)" weave.local.
check "what is gone" says '/proxyaddrs is gone' api 1 /proxyaddrs

echo "-- containers, names and this host"
docker_ 1 run -d --name ant --net=weave bb sleep 10000 >/dev/null
docker_ 2 run -d --name bee bb sleep 10000 >/dev/null
check "attach prints an address" out "$IP" weave 2 attach bee
check "a second one as JSON" json 'it == ["10.41.0.9"]' weave 2 attach --json 10.41.0.9/16 bee
check "no such container" fails 1 'error: .*nosuch' weave 2 attach nosuch
check "no address" fails 2 'is no address: ' weave 2 attach 10.40.0.0/33 bee
check "two containers" fails 2 'two containers named' weave 2 attach bee ant
docker_ 2 create --name still bb true >/dev/null
check "one that was never started" fails 1 'error: container .still. is not running' weave 2 attach still
docker_ 2 rm still >/dev/null
on 2 ip netns add lab
check "a namespace" out "$IP" weave 2 attach --netns /run/netns/lab
check "both are listed" eval 'weave 2 ps | grep -q /run/netns/lab && weave 2 ps bee | grep -qE "^[0-9a-f]{12} $NAME .*10.41.0.9/16"'
check "as JSON" json 'len(it) == 1 and it[0]["name"] == "bee"' weave 2 ps --json bee
check "one of a network of Docker too, by name" eval '[ "$(weave 1 ps ant | wc -l)" = 1 ]'
check "an unknown one is left out" out '' weave 1 ps nosuch
check "GET /ip has its address" same "$(api 1 /ip/ant)" "$(weave 1 dns-lookup ant)/16"
check "POST /ip gives the same" same "$(api 1 /ip/ant -X POST)" "$(weave 1 dns-lookup ant)/16"
check "of nobody: 404" same "$(api 1 /ip/nosuch -o /dev/null -w '%{http_code}')" 404
check "detach prints what was removed" out '10\.41\.0\.9' weave 2 detach 10.41.0.9/16 bee
check "they talk" eventually 5 pings 1 ant bee
metric() { on 1 busybox wget -qO- http://127.0.0.1:7782/metrics | sed -n "s/^$1 //p"; }
check "which is counted in both directions" eval '[ "$(metric "weave_frames_total{direction=\"sent\"}")" -ge 3 ] && [ "$(metric "weave_frame_bytes_total{direction=\"received\"}")" -ge 200 ]'
check "as are queries for names" eval '[ "$(metric "weave_dns_queries_total{outcome=\"answered\"}")" -ge 1 ]'
check "and handshakes" eval '[ "$(metric "weave_handshakes_total{outcome=\"established\"}")" -ge 2 ]'
check "of a namespace, as JSON" json 'len(it) == 1' weave 2 detach --json --netns /run/netns/lab
check "expose, with a name" out "$IP" weave 1 expose -h gw.weave.local --without-masquerade
check "as JSON" json 'it == ["10.40.7.7"]' weave 1 expose --json 10.40.7.7/16
check "a name outside of the domain" fails 1 'is no name under weave.local' weave 1 expose -h gw.example.com
check "hide one" out '10\.40\.7\.7' weave 1 hide 10.40.7.7/16
check "an address outside of the range, by two hosts" out '192\.168\.77\.1' weave 2 expose 192.168.77.1/24
check "is told where it is in use" eventually 5 fails 1 'address 192\.168\.77\.1 is in use on peer .*\(' weave 1 expose 192.168.77.1/24
for n in 1 2 3 4 5 6 7 8; do weave 1 expose 10.43.0.$n/24 >/dev/null; done
check "no more of one subnet than can be announced" fails 1 'the host has 8 addresses of this subnet' weave 1 expose 10.43.0.9/24
check "a subnet that the host reaches otherwise" fails 1 'error: subnet .* overlaps the route of this host to .* by eth0' weave 1 expose "$(ip_of 77)/24"
check "hide them" says '10\.43\.0\.8' weave 1 hide 10.43.0.{1..8}/24
check "and the other" out '192\.168\.77\.1' weave 2 hide
check "hide the rest" json 'len(it) == 1' weave 1 hide --json
check "a further name" out '' weave 1 dns-add ant -h sql.weave.local
check "is seen elsewhere" eventually 5 out "$IP" weave 2 dns-lookup sql
check "as JSON" json 'len(it) == 1' weave 2 dns-lookup --json sql.weave.local
check "and taken away" out '' weave 1 dns-remove ant -h sql.weave.local
check "once" fails 1 'no such name was added on this host' weave 1 dns-remove ant -h sql.weave.local
check "more names than one container may have" fails 1 'ant has 1024 names that were added|has 1024 names that were added' weave 1 dns-add ant $(printf -- '-h n%d.weave.local ' {1..1025})
check "a name of nobody" fails 2 'neither a container' weave 1 dns-add
check "an unknown name has no addresses" out '' weave 2 dns-lookup nosuch
check "what docker run is given" out "--dns=$IP|--dns=172\.[0-9.]+ --dns-search=weave.local" weave 1 dns-args
check "as JSON" json 'it["dns_search"] == "weave.local"' weave 1 dns-args --json
check "no names without DNS" fails 1 'this router runs without DNS' weave 3 dns-lookup ant

echo "-- what passes"
check "top, where no terminal is, prints one table" says '^two +direct +[0-9.]+ ms ' weave 1 top
check "top, once: containers by their names" says '^ant +10\.40\.' weave 1 top --once
check "as JSON, after another interval" json 'it["seconds"] >= 2 and {p["nickname"] for p in it["peers"]} == {"two", "three"}' weave 1 top --json --interval 2
check "no interval" fails 2 '0 is not in 1\.\.=3600' weave 1 top --interval 0
weave 1 top --json >"$WORK/before"
docker_ 1 exec ant ping -c 20 -i 0.2 -s 1300 "$(weave 2 ps bee | grep -oE '10\.40\.[0-9.]+' | head -1)" >/dev/null
weave 1 top --json >"$WORK/after"
cat >"$WORK/grown.py" <<'PY'
# Pings of `ant` to `bee` count for peer `two` and for `ant`, and for nobody else.
import json, sys
before, after = ({it.get("nickname") or it["name"]: it for kind in ("peers", "containers") for it in json.load(open(path))[kind]} for path in sys.argv[1:])
for who, expected in (("two", 20), ("ant", 20), ("three", 0)):
    for way in ("sent", "received"):
        frames, size = (after[who][way][it] - before[who][way][it] for it in ("frames", "bytes"))
        print(who, way, frames, size)
        assert expected <= frames <= expected + 12 and expected * 1342 <= size <= expected * 1342 + 1500
PY
check "pings count for the peer and the container that they are of" python3 "$WORK/grown.py" "$WORK/before" "$WORK/after"
peer_bytes() { metric "weave_peer_frame_bytes_total{peer=\"$(weave "$1" report -f router.name)\",direction=\"$2\"}"; }
check "and in the metrics" eval '[ "$(peer_bytes 2 sent)" -ge 26000 ] && [ "$(peer_bytes 2 received)" -ge 26000 ] && [ "$(peer_bytes 3 sent)" -lt 26000 ]'
cat >"$WORK/screen.py" <<'PY'
# screen.py END COMMAND... : runs it on a terminal until its screen is there, ends it by the key END or the command that
# follows `run:`; the terminal is as before then
import fcntl, os, pty, select, struct, subprocess, sys, termios, time
end, command = sys.argv[1], sys.argv[2:]
ours, theirs = pty.openpty()
fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
before = termios.tcgetattr(theirs)
program = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
seen, limit, ended = b"", time.time() + 15, False
while program.poll() is None and time.time() < limit:
    if select.select([ours], [], [], .1)[0]: seen += os.read(ours, 65536)
    if not ended and b"two" in seen and b"ant" in seen:
        assert termios.tcgetattr(theirs) != before, "keys come one by one"
        ended = True
        if end.startswith("run:"): subprocess.run(end[4:].split(), check=True)
        else: os.write(ours, end.encode().decode("unicode_escape").encode())
while select.select([ours], [], [], .1)[0]: seen += os.read(ours, 65536)
print(seen[-300:], program.poll())
assert ended and program.poll() == 0
assert termios.tcgetattr(theirs) == before, "the terminal is not as before"
assert seen.rfind(b"\x1b[?1049h") < seen.rfind(b"\x1b[?1049l") and seen.rfind(b"\x1b[?25l") < seen.rfind(b"\x1b[?25h")
PY
for key in q '\x1b' '\x03'; do check "top on a terminal ends with the key $key" python3 "$WORK/screen.py" "$key" scripts/lab exec 1 weave top; done
check "a signal ends it, and leaves the terminal as it was" python3 "$WORK/screen.py" 'run:scripts/lab exec 1 pkill -TERM -f ^weave.top' scripts/lab exec 1 weave top

echo "-- peers and passwords"
check "connect is silent" out '' weave 1 connect "$(ip_of 2):7000"
check "as JSON" json 'it == [{"peer": "'"$(ip_of 3)"':7000"}]' weave 1 connect --json "$(ip_of 3):7000"
check "an unknown host" fails 1 'no-such-host.invalid' weave 1 connect no-such-host.invalid
check "forget what is no target" fails 1 'is no target' weave 1 forget 192.0.2.99
check "forget one" out '' weave 1 forget "$(ip_of 2):7000"
check "another as JSON" json 'len(it) == 1 and "error" not in it[0]' weave 1 forget --json "$(ip_of 3):7000"
check "replace all" out '' weave 2 connect --replace "$(ip_of 1):7000"
for h in 1 2 3; do check "a second password on host $h" says '1' weave $h password add --password-file "$WORK/password.new" --generation 1; done
cat >"$WORK/type.py" <<'PY'
# type.py COMMAND... : types two passwords that differ on a terminal; what it says, and how it ends
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0: os.execvp(sys.argv[1], sys.argv[1:])
seen, answers = b"", [(b"New password: ", b"a fine password\n"), (b"Once more: ", b"a fine passwort\n")]
while True:
    try: read = os.read(terminal, 4096)
    except OSError: break
    if not read: break
    seen += read
    if answers and seen.endswith(answers[0][0]): os.write(terminal, answers.pop(0)[1])
print(seen.decode())
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
PY
check "one that is typed is typed twice" fails 2 'error: the two passwords are not the same' python3 "$WORK/type.py" scripts/lab exec 1 weave password add
check "in use" weave 1 password use 1
check "listed" says '1 +in use' weave 1 password list
check "as JSON" json 'it[1]["in_use"]' weave 1 password list --json
check "the first one is not taken away while it is needed" fails 1 'generation|sessions|use' weave 2 password remove 0
check "one that is not there" fails 1 '7' weave 2 password remove --force 7
echo "-- what is wrong, and where"
check "every layer to a container of another host" says 'ok +container' weave 2 ping ant -c 1
check "several times, as JSON" json 'it["layers"][-1]["state"] == "ok"' weave 2 ping ant --count 2 --json
check "nobody has that name" fails 1 'FAILED +name' weave 1 ping nosuch -c 1
docker_ 3 kill --signal STOP weave >/dev/null
check "a router that does not answer, while its session is there yet" fails 1 'FAILED +router +no answer within 2 s' weave 1 ping three -c 1
docker_ 3 kill --signal CONT weave >/dev/null
check "it does again" eventually 20 says 'ok +router' weave 1 ping three -c 1
check "the doctor finds no error here" says 'nothing is wrong|warning|note' weave 1 doctor
check "the same as JSON" json 'it["errors"] == 0' weave 1 doctor --json
check "traffic to a peer" json 'len(it) > 0' weave 1 test two --json
check "no such peer" fails 1 'there is no such peer to test with' weave 1 test nosuch
check "the mesh as text" says 'direct' weave 1 graph
check "for graphviz" says '^graph |^digraph ' weave 1 graph --dot
check "as a picture" says '<svg' weave 1 graph --svg
check "as JSON" json 'it is not None' weave 1 graph --json

check "an unknown peer is not banned" fails 1 'nosuch' weave 1 rmpeer nosuch
check "a known one is" json 'it[0]["peer"]["nickname"] == "three"' weave 1 rmpeer --json --reason 'a test' three
check "and shown" says 'three\) banned by .*a test' weave 1 status peers

echo "-- the end"
check "stop" says '' weave 3 stop
check "again: nothing to stop" says 'nothing to stop|not running' weave 3 stop
check "resume with the peers on disk" says 'weave is ready' weave 3 launch --resume --nickname three "${SHARED[@]}" --strict --no-guard --no-discovery --no-dns
check "which are those of before" says "$(ip_of 1):7000" weave 3 status targets
check "reset needs no peer with --force" says '' weave 3 reset --force
check "nothing is left" fails 3 'not running' weave 3 status
ROUTER=(--no-docker --state-dir "$WORK/w" --password-generation 0 --password "$PASSWORD" --nickname r --status-addr off --no-dns
  --strict --no-guard --no-offloads --no-discovery --log-level warning "${SHARED[@]}")
echo "--socket $WORK/w.sock router --password-file "$WORK/password" ${ROUTER[*]}" >>"$WORK/walked"
scripts/lab bg 3 router weave router --socket $WORK/w.sock "${ROUTER[@]}"
check "a router in the foreground with all its options" eventually 15 says 'Name: .*\(r\)' weave 3 --socket $WORK/w.sock status
check "a second one is refused" fails 1 'already running' weave 3 router --socket $WORK/w.sock --no-docker
check "a state directory that cannot be" fails 1 'error: make the directory /proc/x: No such file' weave 3 router --socket $WORK/x.sock --no-docker --no-dns --status-addr off --port 7001 --password "$PASSWORD" --state-dir /proc/x
check "nobody but root asks a router" fails 1 'error: no permission to use /run/weave/weave.sock' on 1 setpriv --reuid 65534 --clear-groups weave status
check "nobody but root launches" fails 1 '.weave launch. must be run by root' on 3 setpriv --reuid 65534 --clear-groups weave launch
check "it ends by its socket" says '' weave 3 stop --socket $WORK/w.sock

echo "-- nothing is left out"
cat >"$WORK/surface.py" <<'PY'
# Commands and flags of `weave --help`, recursively, that no line of the file `walked` has.
import re, subprocess, sys
program, walked = sys.argv[1], open(sys.argv[2]).read().splitlines()
def help_of(path): return subprocess.run([program, *path, '--help'], capture_output=True, text=True).stdout
def parse(path):
    text = help_of(path); head = text.split('\nExample')[0]
    flags = re.findall(r'^ +(?:(-\w)(?:, )?)?(--[\w-]+)?', head.split('\nOptions:')[-1], re.M)
    commands = head.split('\nCommands:\n')[1].split('\n\n')[0] if '\nCommands:\n' in head else ''
    return [f for f in flags if any(f)], re.findall(r'^  ([a-z][\w-]*)', commands, re.M)
def words_of(line):
    words = [w.split('=')[0] for w in line.split()]
    while words[:1] == ['--socket']: words = words[2:]
    return words
missing = []
def walk(path):
    flags, commands = parse(path)
    lines = [words_of(line) for line in walked]
    lines = [words for words in lines if words[:len(path)] == path]
    if not lines: missing.append(' '.join(path))
    for short, long in flags:
        if long in ('--help', '--socket', '--version'): continue
        if not any(w in (short, long) for words in lines for w in words if w): missing.append(' '.join([*path, long or short]))
    for command in commands: walk([*path, command])
walk([])
print('not walked:', missing)
sys.exit(bool(missing))
PY
check "each command and flag of the help was walked" python3 "$WORK/surface.py" "$LAB_BIN/weave" "$WORK/walked"
check "that check finds what is left out" refuse python3 "$WORK/surface.py" "$LAB_BIN/weave" /dev/null
finish
