#!/bin/bash
# The disk of one host is copied to another, and both run: the status of every host names the identity.
source "$(dirname "$0")/lib.sh"
STATE=/var/lib/weave
boot 3
mesh 3
name_of() { weave "$1" status --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["router"]["name"])'; }
warned() {  # warned HOST : of the identity of lon, by its name or as its own
  local whose="$LON\\(lon\\)"; [ "$1" = 1 ] || whose='of this host'
  says "Warning: more than one host uses the identity $whose" weave "$1" status
}
LON=$(name_of 2)

echo "-- before"
for h in 1 2 3; do check "host $h warns of nothing" refuse says Warning weave $h status; done

echo "-- mac gets the disk of lon, and both run"
for h in 2 3; do weave $h stop >/dev/null 2>&1; done
on 2 cp -a "$STATE" "$WORK/copy"
on 3 sh -c "rm -rf $STATE/* && cp -a $WORK/copy/. $STATE/"
launch 2 "$(ip_of 1)"; launch 3 "$(ip_of 1)"
check "they are one peer" same "$(name_of 3)" "$LON"
T=$(date +%s%N)
for h in 1 2 3; do check "the status of host $h names it" eventually 120 warned $h; done
echo "        named by all after $(since "$T")"
check "that of nyc says where they are" says "$(ip_of 2):6783.*$(ip_of 3):6783" weave 1 status

echo "-- mac is made a host of its own"
check "as the warning says, by weave reset" weave 3 reset --force
launch 3 "$(ip_of 1)"
check "all are connected" eventually 30 established 3 6
finish
