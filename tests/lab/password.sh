#!/bin/bash
# The password changes while the mesh runs: no session, connection or ping is lost by that, and who
# has but the former one is out.
source "$(dirname "$0")/lib.sh"
NEW=j5mkqzt3x2hvwcyd4n6a7rbeuf
boot 3
mesh 3
for h in 1 2 3; do docker_ $h run -d --name "c$h" --net=weave bb sleep 100000 >/dev/null; done
inside() { local h=$1 c=$2; shift 2; on "$h" nsenter -t "$(docker_ "$h" inspect -f '{{.State.Pid}}' "$c")" -n "$@"; }
file() { on "$1" stat -c '%a %s' /var/lib/weave/password; }
listed() {  # listed HOST : generations in use are marked, with the number of sessions: 0:0 1*:2
  weave "$1" password list --json | python3 -c '
import json, sys
for p in json.load(sys.stdin): p["in_use"] = "*" * p["in_use"]; print("{generation}{in_use}:{sessions}".format(**p), end=" ")' | xargs
}
lists() { same "$(listed "$1")" "$2"; }
lost() { local h; for h in 1 2 3; do docker_ $h logs weave 2>&1 | grep 'session lost'; done; true; }
in_clear() { local h; for h in 1 2 3; do docker_ $h logs weave 2>&1; weave $h report; on $h cat /var/lib/weave/password; done | grep -aE "$PASSWORD|$NEW"; }

echo "-- before"
check "one password is in use, and all sessions rest on it" lists 1 '0*:2'
check "it lies on disk as ever" same "$(file 1)" '600 32'
check "a new one is made" says '^[a-z2-7]{26}$' weave 1 password generate

echo "-- traffic that is to notice nothing"
cat >"$WORK/idle.py" <<'PY'
# an idle TCP connection, which must still be there when the file is gone
import os, socket, sys, time
tcp = socket.create_connection((sys.argv[1], 4300), timeout=10)
while os.path.exists(sys.argv[2]): time.sleep(0.2)
tcp.sendall(b'after'); assert tcp.recv(100) == b'after'
PY
cat >"$WORK/echo.py" <<'PY'
import socket
tcp = socket.create_server(('', 4300)); c, _ = tcp.accept()
while (b := c.recv(100)): c.sendall(b)
PY
touch "$WORK/talking"
A2=$(address 2 c2)
inside 2 c2 iperf3 -s >/dev/null 2>&1 & inside 2 c2 python3 "$WORK/echo.py" & sleep 1
inside 1 c1 python3 "$WORK/idle.py" "$A2" "$WORK/talking" & IDLE=$!
inside 1 c1 iperf3 -c "$A2" -t 600 --bitrate 50M -f m --forceflush >"$WORK/stream" 2>&1 & STREAM=$!
PINGS=()
for pair in 1:2 2:3 3:1 3:2; do
  from=${pair%:*} to=${pair#*:}
  docker_ "$from" exec "c$from" ping -i 0.2 -w 600 "$(address "$to" "c$to")" >"$WORK/ping.$pair" 2>&1 & PINGS+=($!)
done
sleep 2

echo "-- one host has the new password and uses it too early"
on 1 sh -c "umask 077; echo $NEW >/root/new"
check "it is accepted under the next number" same "$(weave 1 password add --password-file /root/new 2>/dev/null)" 1
check "nothing has moved" lists 1 '0*:2 1:0'
check "the same one again is refused, and by what number it goes" fails 1 'held already, as generation 1' weave 1 password add --password-file /root/new
check "a number that is taken is refused" fails 1 'generation 0 has another password' on 1 env WEAVE_PASSWORD=something-else weave password add --generation 0
check "what is in use is not removed" fails 1 'generation 0 is in use' weave 1 password remove 0
check "what is not there is not used" fails 1 'no password of generation 7' weave 1 password use 7
check "it is put in use" weave 1 password use 1
check "the peers that do not have it yet keep their sessions, and the status says so" eventually 5 says 'stays on password generation 0, refused: password of another generation: it has 0' weave 1 status connections
check "what sessions rest on is not removed" fails 1 '2 sessions rest on generation 0' weave 1 password remove 0
check "the status shows both" says 'Passwords: 0 \(2 sessions\), 1 in use \(0 sessions\)' weave 1 status

echo "-- the others get it"
check "from the environment" same "$(on 2 env WEAVE_PASSWORD=$NEW weave password add 2>/dev/null)" 1
check "by a pipe" same "$(echo $NEW | on 3 weave password add 2>/dev/null)" 1
check "the sessions of the first move up by themselves" eventually 20 lists 1 '0:0 1*:2'
check "the others accept both" lists 2 '0*:1 1:1'
check "the second puts it in use" weave 2 password use 1
check "the third, too" weave 3 password use 1
for h in 1 2 3; do check "no session of host $h rests on the former one" eventually 20 lists $h '0:0 1*:2'; done

echo "-- the former one is removed"
for h in 3 1 2; do check "host $h accepts it no more" weave $h password remove 0; done
for h in 1 2 3; do check "one password is left on host $h" lists $h '1*:2'; done
sleep 35
check "all hosts are connected" established 3 6
check "no session was lost" same "$(lost)" ''
rm "$WORK/talking"
check "an idle connection lived through all of it" wait $IDLE
for h in 1 2 3; do on $h pkill -INT -x ping; done; on 1 pkill -INT -f 'iperf3 -c'; wait $STREAM "${PINGS[@]}" 2>/dev/null
for pair in 1:2 2:3 3:1 3:2; do
  check "no ping of $pair was lost" says ' 0% packet loss' cat "$WORK/ping.$pair"
  grep -E 'packets|rtt|round' "$WORK/ping.$pair" | sed 's/^/        /'
done
cat >"$WORK/stream.py" <<'PY'
# no second of the stream without data
import re, sys
whole = r'(\d+)\.00-(\d+)\.00 +sec .* ([\d.]+) Mbits/sec'
seconds = [float(m[3]) for m in map(lambda l: re.search(whole, l), open(sys.argv[1])) if m and int(m[2]) - int(m[1]) == 1]
print(f'{len(seconds)} s, slowest {min(seconds):.0f} Mbit/s, {sum(seconds) / len(seconds):.0f} on average')
sys.exit(len(seconds) < 30 or min(seconds) < 1)
PY
check "the stream never stood still" python3 "$WORK/stream.py" "$WORK/stream"; sed 's/^/        /' "$WORK/out"

echo "-- it lasts"
on 2 kill -9 "$(docker_ 2 inspect -f '{{.State.Pid}}' weave)"
check "a router that was killed comes back with the new one in use" eventually 30 lists 2 '1*:2'
check "launched again with the new one, nothing happens" says 'nothing to do' weave 1 launch --password $NEW
check "the former one is another option" fails 1 'not the one it is running with' weave 1 launch --password "$PASSWORD"
check "it is on disk for root alone" says '^600 ' file 1
check "neither password is there in clear, nor in log or report" refuse in_clear

echo "-- who has only the former one"
weave 3 stop >/dev/null 2>&1
check "a launch with it says that it takes the place of the new one" says 'takes the place of those of before \(1\), as generation 0' weave 3 launch --password "$PASSWORD" "$(ip_of 1)"
check "it is refused with words" eventually 15 says 'refused: password of another generation: it has 1' weave 3 status connections
check "and is not admitted" established 2 2
weave 3 stop >/dev/null 2>&1
check "with the new one and its number it is in" weave 3 launch --password $NEW --password-generation 1 "$(ip_of 1)"
check "all hosts are connected" eventually 60 established 3 6
again() { weave 3 stop; weave 3 launch; }
check "launched with nothing it has it still, and tells the next host the number" says 'password-generation 1' again
check "and is in" eventually 60 established 3 6

echo "-- a host that is left behind"
check "another password on two hosts" same "$(on 1 env WEAVE_PASSWORD=third-password weave password add 2>/dev/null) $(on 2 env WEAVE_PASSWORD=third-password weave password add 2>/dev/null)" '2 2'
weave 1 password use 2 2>/dev/null; weave 2 password use 2 2>/dev/null
check "they use it between them, and the third stays" eventually 10 lists 1 '1:1 2*:1'
on 1 kill -9 "$(docker_ 1 inspect -f '{{.State.Pid}}' weave)"
check "a router that was killed comes back with both, and falls back for the third" eventually 30 lists 1 '1:1 2*:1'
check "it cannot be removed without force" fails 1 '1 session rests on generation 1' weave 1 password remove 1
check "with force it can" weave 1 password remove 1 --force
check "the session goes on for a while" says '"sessions": 1' weave 1 password list --json
check "the host is out within 30 s" eventually 35 lists 1 '2*:1'
check "and told why" eventually 60 says 'refused: password of another generation: it has 2' weave 3 status connections
check "given the password, it is back" same "$(on 3 env WEAVE_PASSWORD=third-password weave password add 2>/dev/null)" 2
check "all hosts are connected" eventually 60 established 3 6
finish
