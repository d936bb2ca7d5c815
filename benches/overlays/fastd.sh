# shellcheck shell=bash
DESCRIPTION="fastd with a TAP device, Salsa20/12 with UMAC"
MODE="l2"
MTU="1400"
DEBIAN="fastd:fastd"
version() { fastd --version; }
prepare() {
  local n
  for n in 1 2; do
    echo "secret \"$(fastd --generate-key --machine-readable)\";" >"$WORK/secret$n"
    fastd -c "$WORK/secret$n" --show-key --machine-readable >"$WORK/public$n"
  done
}
start() {
  cat >"$WORK/fastd$HOST.conf" <<CONF
mode tap;
interface "tap0";
method "salsa2012+umac";
mtu $MTU;
bind $LOCAL:10000;
include "$WORK/secret$HOST";
peer "other" { key "$(cat "$WORK/public$OTHER")"; remote $REMOTE:10000; }
CONF
  daemon fastd -c "$WORK/fastd$HOST.conf"
  plug tap0
}
