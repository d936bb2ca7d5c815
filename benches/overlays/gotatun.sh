# shellcheck shell=bash
DESCRIPTION="gotatun, Mullvad's WireGuard in Rust, ChaCha20-Poly1305"
MODE="l3"
MTU="1400"
DEBIAN="wg:wireguard-tools"
CRATES="gotatun:gotatun-cli@0.10.2"
version() { gotatun --version; }
prepare() { wireguard_keys; }
start() {
  daemon gotatun --foreground --disable-drop-privileges "wg$HOST"
  wireguard_configure
}
