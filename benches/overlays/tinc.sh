# shellcheck shell=bash
DESCRIPTION="tinc 1.0 as a switch, AES-256-CBC with HMAC-SHA256"
MODE="l2"
MTU="1400"
DEBIAN="tincd:tinc"
version() { tincd --version | head -1; }
prepare() {
  local n dir
  for n in 1 2; do
    dir=$WORK/tinc$n; mkdir -p "$dir/hosts"
    printf 'Name=host%s\nMode=switch\nDeviceType=tap\nInterface=tap0\nConnectTo=host%s\n' $n $((3 - n)) >"$dir/tinc.conf"
    echo "Address=192.0.2.$n" >"$dir/hosts/host$n"
    tincd -c "$dir" -K2048 </dev/null
  done
  cp "$WORK/tinc1/hosts/host1" "$WORK/tinc2/hosts/"
  cp "$WORK/tinc2/hosts/host2" "$WORK/tinc1/hosts/"
}
start() {
  daemon tincd -c "$WORK/tinc$HOST" -D --pidfile="$WORK/tinc$HOST/pid"
  plug tap0
}
