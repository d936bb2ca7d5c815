# shellcheck shell=bash
DESCRIPTION="OpenVPN with a TAP device, AES-256-GCM"
MODE="l2"
MTU="1400"
DEBIAN="openvpn:openvpn openssl:openssl"
version() { openvpn --version | cut -d' ' -f1,2 || true; }
prepare() {
  local n
  for n in 1 2; do
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj "/CN=host$n" \
      -keyout "$WORK/host$n.key" -out "$WORK/host$n.crt"
    openssl x509 -in "$WORK/host$n.crt" -noout -fingerprint -sha256 | cut -d= -f2 >"$WORK/print$n"
  done
}
start() {
  local role=(--tls-server --dh none)
  if [ "$HOST" = 2 ]; then role=(--tls-client); fi
  daemon openvpn --dev tap0 --dev-type tap --proto udp4 --local "$LOCAL" --remote "$REMOTE" 1194 --port 1194 \
    "${role[@]}" --key "$WORK/host$HOST.key" --cert "$WORK/host$HOST.crt" \
    --peer-fingerprint "$(cat "$WORK/print$OTHER")" --data-ciphers "${CIPHER:-AES-256-GCM}" \
    --tun-mtu "$MTU" --mssfix 0 --disable-dco --ping 10
  plug tap0
}
