#!/bin/bash
# A host whose kernel was booted without IPv6 (ipv6.disable=1) meshes with one that has it.
# A host here cannot have a kernel of its own: its /proc/sys/net/ipv6 is empty, and a seccomp
# filter lets the router make no IPv6 socket.
source "$(dirname "$0")/lib.sh"
boot 2
on 1 mount -t tmpfs none /proc/sys/net/ipv6
cat >"$LAB_BIN/noipv6" <<'PY'
#!/usr/bin/python3
"""noipv6 PROGRAM ARGS...: runs it where socket(AF_INET6, ...) fails with EAFNOSUPPORT."""
import ctypes, errno, os, platform, socket, struct, sys
NO_NEW_PRIVS, SECCOMP, FILTER = 38, 22, 2
CALL = {"x86_64": 41, "aarch64": 198}[platform.machine()]
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
program = [(LOAD, 0, 0, 0), (EQUAL, 0, 3, CALL),               # which call?
           (LOAD, 0, 0, 16), (EQUAL, 0, 1, socket.AF_INET6),   # its first argument
           (RETURN, 0, 0, 0x00050000 | errno.EAFNOSUPPORT), (RETURN, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
prog = ctypes.create_string_buffer(struct.pack("HL", len(program), ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
for call in (NO_NEW_PRIVS, 1, 0, 0, 0), (SECCOMP, FILTER, prog, 0, 0):
    if libc.prctl(*call):
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
os.execv(sys.argv[1], sys.argv[1:])
PY
chmod +x "$LAB_BIN/noipv6"
check "the filter works" fails 1 'Address family not supported' on 1 noipv6 /usr/bin/python3 -c 'import socket; socket.socket(socket.AF_INET6)'
on 1 sh -c "umask 077; mkdir -p /etc/weave; echo $PASSWORD >/etc/weave/password"
scripts/lab bg 1 router noipv6 "$LAB_BIN/weave" router --password-file /etc/weave/password "$(ip_of 2)"
LOG=$LAB_DIR/h1/log/router.log
launch 2
check "the router starts, and the mesh forms" eventually 15 established 2 2
check "it listens on IPv4" says '0\.0\.0\.0:6783' on 1 ss -Hlun
check "and on no IPv6 port" refuse says '(\[::\]|\*):6783' on 1 ss -Hlun
check "h1: a Docker network" docker_ 1 network create -d weavemesh --ipam-driver weavemesh --subnet 10.32.0.0/12 weave
for h in 1 2; do check "h$h: a container starts" docker_ $h run -d --name "c$h" --net=weave bb sleep 100000; done
both() { docker_ 1 exec c1 ping -c1 -W1 c2 && docker_ 2 exec c2 ping -c1 -W1 c1; }
check "containers reach each other by name" eventually 5 both
T=$(date +%s%N); on 1 ip link del weave; on 1 iptables -F
check "a deleted bridge and rules are back within 10 s" eventually 10 both
echo "        after $((($(date +%s%N) - T) / 1000000)) ms"
sleep 10  # the keeper of settings and rules has been round
check "no warning in the router's log" refuse grep -E ' (WARN|ERROR) |panicked' "$LOG"
finish
