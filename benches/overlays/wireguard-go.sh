# shellcheck shell=bash
DESCRIPTION="wireguard-go of Debian, ChaCha20-Poly1305"
MODE="l3"
MTU="1400"
DEBIAN="wireguard-go:wireguard-go wg:wireguard-tools"
version() { dpkg-query -W -f '${Version}\n' wireguard-go; }
prepare() { wireguard_keys; }
start() {
  daemon wireguard-go -f "wg$HOST"
  wireguard_configure
}
