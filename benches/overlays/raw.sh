# shellcheck shell=bash
DESCRIPTION="the underlay itself, host to host"
MODE="none"
MTU="1500"
version() { uname -r; }
start() { :; }
