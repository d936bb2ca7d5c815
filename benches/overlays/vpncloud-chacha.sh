# shellcheck shell=bash
DESCRIPTION="vpncloud as a switch, ChaCha20-Poly1305"
MODE="l2"
MTU="1400"
CRATES="vpncloud:vpncloud@2.3.0"
. benches/overlays/vpncloud.sh
CIPHER=chacha20
