# shellcheck shell=bash
# What the files in benches/overlays share. The harness sources this, then the overlay's file, and calls
#
#   version       any time: prints one line
#   prepare       once, before the first `start`: keys and the like; may be left out
#   start         on host 1, then on host 2; does not wait for the other host
#
# with: HOST (1 or 2)      LOCAL, REMOTE  addresses of this and the other host on the underlay
#       OTHER (2 or 1)     ADDRESS        address on the overlay, without prefix length (/24)
#       MODE, MTU          what the file says on top; MTU may be empty
#       WORK               directory that both hosts see; gone afterwards
#       WEAVE_BIN          the weave to be measured
# The header of an overlay's file, lines of the form NAME="value":
#   DESCRIPTION   for the report
#   MODE          none: no overlay, the hosts' own cable
#                 l2:   container - bridge - device, on each host
#                 l3:   the device takes the traffic of the host itself (a TUN device)
#   MTU           of the traffic inside; left out where the overlay chooses by itself
#   DEBIAN        commands it needs, as command:package
#   CRATES        the same from crates.io, as command:crate@version
# All processes that `start` leaves running are the overlay's daemons: their CPU time is counted.
set -euo pipefail

fail() { echo "$*" >&2; exit 1; }

# daemon COMMAND...: runs it in the background
daemon() { setsid "$@" </dev/null & }

# await COMMAND...: until it succeeds, 20 s at most
await() {
  local n
  for ((n = 0; n < 200; n++)); do "$@" >/dev/null 2>&1 && return; sleep 0.1; done
  fail "waited in vain for: $*"
}

# plug DEVICE: makes the device, once it is there, this host's end of the overlay
plug() {
  await ip link show "$1"
  ip link set "$1" mtu "$MTU" up
  if [ "$MODE" = l3 ]; then ip addr replace "$ADDRESS/24" dev "$1"; return; fi
  ip link add bridge type bridge stp_state 0 forward_delay 0
  ip link add port mtu "$MTU" type veth peer name eth0 mtu "$MTU" netns "container$HOST"
  ip link set "$1" master bridge
  ip link set port master bridge up
  ip link set bridge up
  ip -n "container$HOST" addr add "$ADDRESS/24" dev eth0
  ip -n "container$HOST" link set eth0 up
}

# For implementations of WireGuard: keys, then the device wg$HOST made known to the other host.
wireguard_keys() {
  local n
  for n in 1 2; do wg genkey >"$WORK/key$n"; wg pubkey <"$WORK/key$n" >"$WORK/public$n"; done
}
wireguard_configure() {
  await wg show "wg$HOST"
  wg set "wg$HOST" listen-port 51820 private-key "$WORK/key$HOST" peer "$(cat "$WORK/public$OTHER")" \
    endpoint "$REMOTE:51820" allowed-ips 198.51.100.0/24
  plug "wg$HOST"
}
