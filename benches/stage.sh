# shellcheck shell=bash
# The stage of one overlay: process 1 of fresh mount and PID namespaces. It makes the network
# namespaces host1 and host2, joined by one cable, the underlay, and container1 and container2, which
# the overlay plugs in. It ends when its standard input does; then the kernel ends every process on the
# stage, and all namespaces and files go with them.
#
# Takes: LOSS (percent, 0 for none)
set -euo pipefail
mount -t tmpfs tmpfs /run
mkdir /run/netns /run/work
for n in 1 2; do
  for name in host$n container$n; do
    ip netns add $name
    ip -n $name link set lo up
  done
done
ip -n host1 link add underlay type veth peer name underlay netns host2
for n in 1 2; do
  ip -n host$n addr add 192.0.2.$n/24 dev underlay
  ip -n host$n link set underlay mtu 1500 up
  [ "$LOSS" = 0 ] && continue
  # each packet of its own is lost, not a whole train; fragments before they are joined
  ip netns exec host$n ethtool -K underlay gro off gso off tso off tx-udp-segmentation off
  ip netns exec host$n nft -f - <<NFT
table ip lossy {
  chain underlay {
    type filter hook prerouting priority -450;
    iifname "underlay" numgen random mod 100000 < $(awk -v p="$LOSS" 'BEGIN {printf "%d", p * 1000}') drop
  }
}
NFT
done
echo ready
exec cat >/dev/null
