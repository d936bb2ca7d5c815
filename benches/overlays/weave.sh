# shellcheck shell=bash
DESCRIPTION="this project, the cipher that the peers choose"
MODE="l2"
version() { "$WEAVE_BIN" --version; }
# The router makes bridge and TAP by itself, and plugs the container in.
start() {
  local socket=$WORK/socket$HOST
  daemon "$WEAVE_BIN" --socket "$socket" router --no-docker --no-dns --state-dir "$WORK/state$HOST" \
    --password benchmark-only --nickname "host$HOST" ${CIPHER:+--cipher "$CIPHER"} "$REMOTE"
  await "$WEAVE_BIN" --socket "$socket" status
  "$WEAVE_BIN" --socket "$socket" attach "$ADDRESS/24" --netns "/run/netns/container$HOST"
}
