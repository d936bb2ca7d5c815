# shellcheck shell=bash
DESCRIPTION="boringtun, WireGuard in Rust, ChaCha20-Poly1305"
MODE="l3"
MTU="1400"
DEBIAN="wg:wireguard-tools"
CRATES="boringtun-cli:boringtun-cli@0.7.1"
version() { boringtun-cli --version; }
prepare() { wireguard_keys; }
start() {
  daemon boringtun-cli --foreground --disable-drop-privileges "wg$HOST"
  wireguard_configure
}
