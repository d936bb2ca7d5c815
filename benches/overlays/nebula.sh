# shellcheck shell=bash
DESCRIPTION="nebula, AES-256-GCM"
MODE="l3"
MTU="1400"
DEBIAN="nebula:nebula"
version() { nebula -version | cut -d' ' -f2; }
prepare() {
  cd "$WORK"
  nebula-cert ca -name benchmark
  local n
  for n in 1 2; do nebula-cert sign -name "host$n" -ip "198.51.100.$n/24"; done
}
start() {
  local lighthouse=true of=""
  if [ "$HOST" = 2 ]; then lighthouse=false of=198.51.100.1; fi
  cat >"$WORK/nebula$HOST.yml" <<YAML
pki: {ca: $WORK/ca.crt, cert: $WORK/host$HOST.crt, key: $WORK/host$HOST.key}
static_host_map: {"198.51.100.$OTHER": ["$REMOTE:4242"]}
lighthouse: {am_lighthouse: $lighthouse, hosts: [$of]}
listen: {host: $LOCAL, port: 4242}
cipher: ${CIPHER:-aes}
tun: {dev: nebula0, mtu: $MTU}
firewall:
  outbound: [{port: any, proto: any, host: any}]
  inbound: [{port: any, proto: any, host: any}]
YAML
  daemon nebula -config "$WORK/nebula$HOST.yml"
  plug nebula0
}
