# What demo and test share: the tools of the machine, the build, a lab.
# shellcheck shell=bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
TOP=$PWD

say() { printf '%s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

need_root() { [ "$(id -u)" = 0 ] || die "this needs root: sudo $0"; }

# Debian packages that give the commands; installed only where one is missing.
install_tools() {
  local missing=() tool package
  for tool in dockerd:docker.io containerd:containerd iptables:iptables nft:nftables ip:iproute2 \
    nsenter:util-linux python3:python3 dnsmasq:dnsmasq-base tcpdump:tcpdump \
    iperf3:iperf3 docker-compose:docker-compose systemd-analyze:systemd cc:build-essential git:git \
    valgrind:valgrind jq:jq curl:curl ping:iputils-ping; do
    package=${tool#*:}; tool=${tool%%:*}
    PATH=$PATH:/usr/sbin:/sbin command -v "$tool" >/dev/null || missing+=("$package")
  done
  # the dynamic busybox would find no libraries in the lab's image
  dpkg -s busybox-static >/dev/null 2>&1 || missing+=(busybox-static)
  [ ${#missing[@]} = 0 ] || install_packages "${missing[@]}"
}

# install_packages PACKAGE...
install_packages() {
  say "installing: $*"
  apt-get update -qq
  # services of the packages must not start: the lab and the benchmark have their own
  local policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then printf '#!/bin/sh\nexit 101\n' >"$policy"; chmod +x "$policy"; trap 'rm -f /usr/sbin/policy-rc.d' EXIT; fi
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" >/dev/null
  if [ "$(cat "$policy" 2>/dev/null)" = $'#!/bin/sh\nexit 101' ]; then rm -f "$policy"; trap - EXIT; fi
}

# cargo of the user who called sudo, where root has none of its own
find_cargo() {
  export PATH=$PATH:/usr/sbin:/sbin
  command -v cargo >/dev/null && return
  local home; home=$(getent passwd "${SUDO_USER:-root}" | cut -d: -f6)
  [ -x "$home/.cargo/bin/cargo" ] || die "no cargo found; install Rust (rustup) first"
  export PATH=$home/.cargo/bin:$PATH CARGO_HOME=${CARGO_HOME:-$home/.cargo} RUSTUP_HOME=${RUSTUP_HOME:-$home/.rustup}
}

target_dir() { echo "${CARGO_TARGET_DIR:-$TOP/target}/x86_64-unknown-linux-gnu"; }

# put_weave FILE DIR: the binary as the lab's hosts find it
put_weave() { mkdir -p "$2" && cp "$1" "$2/weave.new" && mv "$2/weave.new" "$2/weave"; }
