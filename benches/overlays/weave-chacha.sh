# shellcheck shell=bash
DESCRIPTION="this project, ChaCha20-Poly1305 forced"
MODE="l2"
. benches/overlays/weave.sh
CIPHER=chacha20-poly1305
prepare() {
  "$WEAVE_BIN" router --help | grep -q -- --cipher || fail "this weave has no option --cipher of \`weave router\`"
}
