#!/usr/bin/env python3
"""A flood of datagrams, and a sink for one. Used by `cargo xtask bench flood` and tests/lab/flood.sh.

flood.py garbage|handshakes ADDRESS PORT [--rate N] [--seconds N] [--sources one|random]
flood.py sink PORT

garbage: half of it random bytes, half with the header of some datagram of weave. handshakes: first messages
that are good in every respect that can be checked without an operation on curves. Without --rate as fast as
sendmmsg takes them. random: each datagram has another source (raw socket, IPv4 only), which repeats
after 65,536. At the end it prints how many were sent in how many seconds.
"""
import argparse, ctypes, ctypes.util, hashlib, random, socket, struct, sys, time

BATCH = 64
LIBC = ctypes.CDLL(ctypes.util.find_library("c") or "libc.so.6", use_errno=True)


class Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]


class Message(ctypes.Structure):  # struct mmsghdr
    _fields_ = [("name", ctypes.c_void_p), ("namelen", ctypes.c_uint32), ("iov", ctypes.POINTER(Iovec)),
                ("iovlen", ctypes.c_size_t), ("control", ctypes.c_void_p), ("controllen", ctypes.c_size_t),
                ("flags", ctypes.c_int), ("len", ctypes.c_uint)]


def messages(buffers, name=None):
    """An array of mmsghdr over these ctypes buffers."""
    iovecs = (Iovec * len(buffers))(*[Iovec(ctypes.addressof(b), len(b)) for b in buffers])
    array = (Message * len(buffers))()
    for message, iovec in zip(array, iovecs):
        message.iov, message.iovlen = ctypes.pointer(iovec), 1
        if name:
            message.name, message.namelen = ctypes.addressof(name), len(name)
    array.keep = (buffers, iovecs, name)
    return array


def labelled(label, *parts):  # as weave-crypto/src/kdf.rs feeds its hash
    return b"".join(struct.pack("<Q", len(part)) + part for part in (label, *parts))


def handshake(rng):
    """HandshakeInit: header, versions 1 to 1, both ciphers, noise, mac1 (proto/wire.md), no cookie."""
    header = struct.pack("<BBHIII", 1 << 4 | 1, 0, 0, rng.randrange(1, 1 << 24), 0, 0)
    covered = header + bytes([1, 1, 3]) + bytes(61) + rng.randbytes(96)
    key = hashlib.blake2s(labelled(b"weave/v1 mesh", b"weave")).digest()
    mac1 = hashlib.blake2s(labelled(b"weave/v1 mac1", covered), key=key).digest()[:16]
    return covered + mac1 + bytes(16)


def garbage(rng):
    data = bytearray(rng.randbytes(rng.randrange(1, 400)))
    if rng.random() < 0.5:
        ty = rng.choice([0, 1, 2, 3, 4, 5, 8, 9])
        if ty == 1:
            data = bytearray(handshake(rng))
            data[100] ^= 1
        elif len(data) >= 16:
            data[0], data[1] = ty << 4 | 1, 0
            if 1 <= ty <= 5:
                data[12:16] = bytes(4)
    return bytes(data)


def raw(payload, source, to, port):
    udp = struct.pack("!HHHH", 6783, port, 8 + len(payload), 0) + payload
    return struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0) + source + to + udp


def flood(options):
    rng = random.Random(1)
    make = {"garbage": garbage, "handshakes": handshake}[options.what]
    pool = [make(rng) for _ in range(4096)]
    to = socket.inet_aton(options.address)
    if options.sources == "random":
        udp = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        # unicast addresses that nobody here has
        pool = [raw(pool[n % 4096], bytes([11 + n % 80]) + rng.randbytes(3), to, options.port) for n in range(65536)]
    else:
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    name = ctypes.create_string_buffer(struct.pack("=HH4s8x", socket.AF_INET, socket.htons(options.port), to), 16)
    array = messages([(ctypes.c_char * len(data)).from_buffer_copy(data) for data in pool], name)
    size, base, fd = ctypes.sizeof(Message), ctypes.addressof(array), udp.fileno()
    sent, at, start = 0, 0, time.monotonic()
    begin = start
    while (elapsed := time.monotonic() - begin) < options.seconds:
        count = BATCH
        if options.rate:
            due = int(options.rate * elapsed) - sent
            if due > options.rate // 20:  # was held up: no burst of what was missed
                begin += (due - BATCH) / options.rate
                options.seconds -= (due - BATCH) / options.rate
            count = min(due, BATCH)
            if count < 8:
                time.sleep(0.0002)
                continue
        count = min(count, len(pool) - at)
        done = LIBC.sendmmsg(fd, ctypes.c_void_p(base + at * size), count, 0)
        sent += max(done, 0)
        at = (at + max(done, 1)) % len(pool)
    print(f"{sent} in {time.monotonic() - start:.1f} s")


def sink(options):
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("", options.port))
    array = messages([ctypes.create_string_buffer(2048) for _ in range(BATCH)])
    print("ready", flush=True)
    while True:
        LIBC.recvmmsg(udp.fileno(), ctypes.byref(array), BATCH, 0x10000, None)  # MSG_WAITFORONE


parser = argparse.ArgumentParser()
parser.add_argument("what", choices=["garbage", "handshakes", "sink"])
if "sink" not in sys.argv:
    parser.add_argument("address")
parser.add_argument("port", type=int)
parser.add_argument("--rate", type=int)
parser.add_argument("--seconds", type=float, default=10)
parser.add_argument("--sources", choices=["one", "random"], default="one")
options = parser.parse_args()
sink(options) if options.what == "sink" else flood(options)
