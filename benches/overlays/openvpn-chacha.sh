# shellcheck shell=bash
DESCRIPTION="OpenVPN with a TAP device, ChaCha20-Poly1305"
MODE="l2"
MTU="1400"
DEBIAN="openvpn:openvpn openssl:openssl"
. benches/overlays/openvpn.sh
CIPHER=CHACHA20-POLY1305
