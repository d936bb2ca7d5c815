# shellcheck shell=bash
DESCRIPTION="vpncloud as a switch, AES-128-GCM"
MODE="l2"
MTU="1400"
CRATES="vpncloud:vpncloud@2.3.0"
version() { vpncloud --version; }
start() {
  # it looks for its own address by the default routes
  ip route add default via "$REMOTE"
  ip -6 route add default dev underlay
  daemon vpncloud --type tap --device tap0 --mode switch --listen "$LOCAL:3210" --peer "$REMOTE:3210" \
    --password benchmark-only --algorithm "${CIPHER:-aes128}" --no-port-forwarding
  plug tap0
}
