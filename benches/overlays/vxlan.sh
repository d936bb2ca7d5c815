# shellcheck shell=bash
DESCRIPTION="VXLAN of the kernel, not encrypted"
MODE="l2"
MTU="1450"
version() { uname -r; }
start() {
  ip link add vxlan7 type vxlan id 7 dstport 4789 local "$LOCAL" remote "$REMOTE"
  plug vxlan7
}
