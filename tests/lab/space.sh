#!/bin/bash
# Addresses: both sides of a cut give out, space of a destroyed host comes back, a host is banned from two hosts at once,
# another range, a full subnet, and two meshes that are connected.
source "$(dirname "$0")/lib.sh"
LAB_HOSTNAMES="nyc lon mac rio"
boot 4
RANGE=10.40.0.0/24  # four chunks, so that who owns what can be seen; times are those of days, made short
SHORT=(--ipalloc-range "$RANGE" --ipalloc-take-back 60)
# keep HOST NAME [docker run options]: a container there, in 5 s
keep() { local h=$1 name=$2; shift 2; timeout 5 scripts/lab exec "$h" docker run -d --name "$name" --net=weave "$@" bb sleep 100000; }
many() { local h=$1 n; for ((n = $3; n <= $4; n++)); do keep "$h" "$2$n" || return 1; done; }  # many HOST NAME FROM TO
addresses() {  # addresses HOST... : of all containers that run there
  local h; for h in "$@"; do docker_ "$h" ps -q | xargs -r scripts/lab exec "$h" docker inspect -f '{{with .NetworkSettings.Networks.weave}}{{.IPAddress}}{{end}}' | grep .; done
}
unique() { local all; all=$(addresses "$@" | sort); echo "$all"; [ -n "$all" ] && same "$(uniq -d <<<"$all")" ""; }
ipam() { weave "$1" status ipam --json | jq -e "$2"; }  # ipam HOST FILTER
owned() { ipam "$1" "[.entries[] | select(.nickname == \"$2\") | .size] | add // 0" || true; }  # owned HOST NICKNAME
all_owned_by() {  # all_owned_by HOST NICKNAME... : the whole range, and nothing by anybody else
  local h=$1; shift; ipam "$h" '.range_size == ([.entries[].size] | add)' && same "$(weave "$h" status ipam --json | jq -r '[.entries[] | select(.size > 0) | .nickname] | sort | join(" ")')" "$*"
}
refused_for_contact() {
  says 'contact' keep 3 late; local rc=$?
  docker_ 3 rm -f late >/dev/null 2>&1; return $rc
}
mesh_of() { local first=$1 h; launch "$first" "${OPTIONS[@]}"; shift; for h in "$@"; do launch "$h" "${OPTIONS[@]}" "$(ip_of "$first")"; done; }
connected() { local n=$#; local h; for h in "$@"; do weave "$h" status | grep -q "Peers: $n (with $((n * (n - 1))) established" || return 1; done; }

echo "-- a cut: each side gives out addresses"
OPTIONS=("${SHORT[@]}"); mesh_of 1 2 3
check "three hosts are connected" eventually 15 connected 1 2 3
for h in 1 2 3; do check "h$h: a container" keep $h "c$h"; done
scripts/lab partition 1,2 3
check "nyc and lon see that mac is gone" eventually 30 connected 1 2
check "on their side containers get addresses" many 2 a 1 3
check "on the other side, too" many 3 b 1 3
check "meanwhile a subnet of mac's own space is not given out elsewhere" unique 1 2 3
scripts/lab heal
check "the cut heals" eventually 70 connected 1 2 3
check "no address is there twice" unique 1 2 3
check "nor is one told of as a conflict" refuse says conflict weave 1 status ipam
check "containers of both sides reach each other" eventually 10 pings 2 a1 b1

echo "-- a host without contact for long gives out nothing new"
scripts/lab partition 1,2 3
check "it says so within 5 s, in Docker's own words" eventually 60 refused_for_contact

check "and in its status" says 'contact' weave 3 status
check "its containers keep their addresses" pings 3 b1 b2
scripts/lab heal
check "once it is back" eventually 70 connected 1 2 3
check "it gives out again" eventually 40 keep 3 again
check "no address is there twice" unique 1 2 3

echo "-- a host is destroyed for good"
GONE=$(address 3 b1)
check "it owns space" test "$(owned 1 mac)" -gt 0
scripts/lab kill 3; BEGUN=$(date +%s%N)
check "nyc sees that it is gone" eventually 40 connected 1 2
check "after the time for that its space is of the others" eventually 100 all_owned_by 1 lon nyc
echo "        after $(since "$BEGUN")"
check "both say so" all_owned_by 2 lon nyc
check "an address of mac's is given out by others" keep 1 heir --ip "$GONE"
check "and no other host gives it out, too" says "address $GONE .*nyc" keep 2 second --ip "$GONE"
docker_ 2 rm -f second >/dev/null
check "all containers reach each other" pings 2 c2 heir

echo "-- it comes back with its old disk"
scripts/lab start 3
check "it is connected" eventually 60 connected 1 2 3
check "and gets addresses as any other" eventually 60 keep 3 back
check "no running container has the address of another" unique 1 2 3

echo "-- rmpeer of it on two hosts at once"
docker_ 3 rm -f $(docker_ 3 ps -aqf name='^(b|c|again|back)') >/dev/null 2>&1
scripts/lab kill 3
weave 1 rmpeer mac >"$WORK/r1" 2>&1 & A=$!; weave 2 rmpeer mac >"$WORK/r2" 2>&1 & B=$!
check "nyc says that it is done" wait $A
check "lon, too" wait $B
check "they say what was taken over" says '[0-9]+ IPs taken over from .*mac' cat "$WORK/r1" "$WORK/r2"
check "its space is of the others at once" eventually 5 all_owned_by 1 lon nyc
check "as lon sees it, too" all_owned_by 2 lon nyc
check "containers go on" eventually 10 pings 1 c1 c2
check "and get addresses on both" keep 1 g1
check "on lon" keep 2 g2
check "none twice" unique 1 2

echo "-- another range"
launch 4 --ipalloc-range 10.50.0.0/16 "$(ip_of 1)"
check "a host with another range is told both" eventually 20 says 'mesh uses the range 10\.40\.0\.0/24, .*this host 10\.50\.0\.0/16: launch with' weave 4 status
check "so does Docker there, within 5 s" says 'mesh uses the range 10\.40\.0\.0/24' keep 4 alien
docker_ 4 rm -f alien >/dev/null
check "the others go on with their containers" pings 1 g1 g2
check "and their space" all_owned_by 1 lon nyc
weave 4 reset --force >/dev/null 2>&1

echo "-- a full /29"
docker_ 1 network create -d weavemesh --ipam-driver weavemesh --subnet 10.40.0.248/29 small >/dev/null
N=0; while timeout 5 scripts/lab exec 1 docker run -d --name "s$N" --net=small bb sleep 100000 >"$WORK/small" 2>&1; do N=$((N + 1)); ((N < 9)) || break; done
check "some fit" test "$N" -ge 4 -a "$N" -le 6
docker_ 1 rm -f "s$N" >/dev/null 2>&1; BEGUN=$(date +%s%N)
check "the next fails within 5 s with the reason" says 'no free address left in subnet 10\.40\.0\.248/29' timeout 5 scripts/lab exec 1 docker run -d --name late --net=small bb sleep 100000
echo "        after $(since "$BEGUN")"
docker_ 1 rm -f late s0 >/dev/null 2>&1
check "one is freed, and it fits" eventually 40 timeout 5 scripts/lab exec 1 sh -c 'docker rm -f late >/dev/null 2>&1; docker run -d --name late --net=small bb sleep 100000'
for h in 1 2; do
  docker_ $h rm -f $(docker_ $h ps -aqf network=weave -f network=small) >/dev/null
  weave $h reset --force >/dev/null 2>&1
done

echo "-- two meshes with containers are connected"
OPTIONS=()
scripts/lab start 3; weave 3 reset --force >/dev/null 2>&1
mesh_of 1 2; mesh_of 3 4
check "the first mesh" eventually 15 connected 1 2
check "the second" eventually 15 connected 3 4
for h in 1 2 3 4; do check "h$h: two containers" many $h "d$h" 1 2; done
TWICE=$(addresses 1 2 3 4 | sort | uniq -d)
check "both gave out the same addresses" test -n "$TWICE"
docker_ 1 exec d11 ping -i 0.2 -w 60 "$(address 2 d21)" >"$WORK/first" 2>&1 & A=$!
docker_ 3 exec d31 ping -i 0.2 -w 60 "$(address 4 d41)" >"$WORK/second" 2>&1 & B=$!
sleep 1
check "they are connected" weave 3 connect "$(ip_of 1)"
check "all four know each other" eventually 20 connected 1 2 3 4
conflicts() {  # every address that was there twice is told of, by some host
  local told ip; told=$(for h in 1 2 3 4; do weave $h status ipam; done); echo "$told"
  for ip in $TWICE; do grep -q "conflict: address $ip " <<<"$told" || return 1; done
}
check "every address that is there twice is listed as a conflict" eventually 40 conflicts
wait $A $B
check "no ping in the first mesh was lost" says ' 0% packet loss' cat "$WORK/first"
check "none in the second" says ' 0% packet loss' cat "$WORK/second"
check "one allocator remains: the range is owned once" ipam 1 '.range_size == ([.entries[].size] | add)'
check "as on the other side" ipam 3 '.range_size == ([.entries[].size] | add)'
check "new containers get addresses of their own" many 3 n 1 2
check "on the other side, too" many 1 n 1 2
check "and reach each other" eventually 10 pings 3 n1 "$(address 1 n1)"
same_twice() { same "$(addresses 1 2 3 4 | sort | uniq -d)" "$1"; }
check "nothing more is there twice" same_twice "$TWICE"
for h in 1 2; do docker_ $h restart -t0 $(docker_ $h ps -qf name=d) >/dev/null; done
check "started anew, they get others: no conflict is left" eventually 45 same_twice ""
check "and none is told" eventually 45 refuse conflicts
finish
