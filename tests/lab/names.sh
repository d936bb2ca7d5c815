#!/bin/bash
# Names that operators give: dns-add and dns-remove.
source "$(dirname "$0")/lib.sh"
boot 2
mesh 2
docker_ 1 run -d --name web --net=weave bb sleep 100000 >/dev/null
docker_ 2 run -d --name lonely bb sleep 100000 >/dev/null
docker_ 2 run -d --name asker --net=weave bb sleep 100000 >/dev/null
WEB=$(address 1 web)
looked_up() { says "^$1\$" weave "$2" dns-lookup "$3"; }  # looked_up ADDRESS HOST NAME
gone() { local out; out=$(weave "$1" dns-lookup "$2") && same "" "$out"; }

echo "-- what Weave Net's scripts call"
check "prime returns once addresses can be given out" timeout 5 scripts/lab exec 1 weave prime
check "dns-args give a container of another network our DNS server" says "$WEB" on 1 sh -c 'docker run --rm $(weave dns-args) bb nslookup web.weave.local'
check "env does nothing to a shell that evaluates it" same "" "$(weave 1 env 2>"$WORK/env")"
check "and says why it is not needed" says 'not needed any more: .*--net=weave' cat "$WORK/env"
check "config does so, too" says 'not needed any more' weave 1 config
check "and setup, whatever its options" says 'not needed any more' weave 1 setup --x y
check "completions know every command" says 'dns-remove' weave 1 completions bash

echo "-- names of a container"
check "a container is given a name" weave 1 dns-add web -h shop.weave.local
check "which the other host has within 1 s" eventually 1 looked_up "$WEB" 2 shop.weave.local
check "and its containers reach" pings 2 asker shop 1
check "again is no error" weave 1 dns-add web -h shop.weave.local
check "a name for one address only" weave 1 dns-add 10.40.9.9 web
check "is the container's own by default" eventually 1 looked_up 10.40.9.9 2 web.weave.local
check "beside the address that it has" looked_up "$WEB" 2 web.weave.local
check "status dns shows it" says 'shop +'"$WEB" weave 2 status dns
check "one of them is removed" weave 1 dns-remove 10.40.9.9 web
check "that one is gone within 1 s" eventually 1 refuse looked_up 10.40.9.9 2 web.weave.local
check "the other stays" looked_up "$WEB" 2 shop.weave.local

echo "-- names of no container"
check "addresses outside of the network are given a name" weave 2 dns-add 192.0.2.8 192.0.2.9 -h db.weave.local
check "the other host has both" eventually 1 same "192.0.2.8 192.0.2.9" "$(sleep 0.5; weave 1 dns-lookup db | sort | xargs)"
check "containers resolve it" says 192.0.2.9 docker_ 2 exec asker nslookup db.weave.local

echo "-- restarts"
kill_routers 1 2
check "after a router was killed on both" eventually 20 established 2 2
check "the container's name is there" eventually 3 looked_up "$WEB" 2 shop.weave.local
check "so is that of no container" eventually 3 looked_up 192.0.2.8 1 db.weave.local
docker_ 1 rm -f web >/dev/null
check "the names of a container go with it within 1 s" eventually 1 gone 2 shop.weave.local
check "a container without the network is given a name for an address" eventually 5 eval 'docker_ 1 run -d --name plain bb sleep 100000 >/dev/null; weave 1 dns-add 192.0.2.7 plain'
check "which goes with it, too" eventually 2 looked_up 192.0.2.7 2 plain.weave.local
docker_ 1 rm -f plain >/dev/null
check "within 1 s" eventually 1 gone 2 plain.weave.local
check "names of no container are removed" weave 2 dns-remove -h db.weave.local
check "and are gone on the other host within 1 s" eventually 1 gone 1 db.weave.local

echo "-- what makes no sense"
check "a name outside of the domain" fails 1 'no name under weave.local' weave 2 dns-add asker -h shop.example.com
check "no such container" fails 1 'nosuch' weave 2 dns-add nosuch
check "a container without addresses of ours" fails 1 'has no address on a network of weave' weave 2 dns-add lonely
check "neither container nor address" fails 2 'neither a container' weave 2 dns-add -h x.weave.local
check "an address with a length" fails 2 'no address' weave 2 dns-add 10.0.0.1/8 -h x.weave.local
check "what was not added cannot be removed" fails 1 'no such name was added' weave 2 dns-remove asker
check "nor what the container has by itself" fails 1 'no such name' weave 2 dns-remove asker -h asker.weave.local
finish
