//! Batched send: datagrams are written into one arena, and leave by sendmmsg when it is flushed.
//!
//! Invariant: datagrams lie in the arena in the order they were made, without gaps. So a run of
//! equal ones to one peer, of which only the last may be shorter, is one message that the kernel
//! or the card cuts (UDP_SEGMENT, udp(7)).

use std::io;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut, Range};
use std::os::fd::AsRawFd;

use super::addr::RawAddr;
use super::{BATCH, Underlay};

/// Bytes of the arena: two super-frames' worth.
const ARENA_LEN: usize = 160 << 10;

/// Largest UDP payload over IPv4.
const MAX_DATAGRAM: usize = 65_507;

/// Datagrams that the kernel cuts one message into: UDP_MAX_SEGMENTS of older kernels.
const MAX_SEGMENTS: usize = 64;

/// Longest message to be cut: with IP and UDP headers it is one packet until then.
const MAX_RUN: usize = 65_000;

/// How long a full socket buffer is waited for, milliseconds, before the rest is dropped.
const FULL_WAIT_MS: libc::c_int = 20;

/// The sending side of the underlay, for one thread. Not flushed when dropped.
#[derive(Debug)]
pub struct UdpTx {
    underlay: Underlay,
    arena: Box<[u8]>,
    run: Vec<Item>,
    used: usize,
    cuts: bool,
    counts: SendCounts,
}

/// One message: a datagram, or several that the kernel cuts it into.
#[derive(Debug, Clone)]
struct Item {
    to: SocketAddr,
    bytes: Range<usize>,
    /// Bytes of each datagram but the last.
    size: usize,
    /// Bytes of the last one.
    last: usize,
    segments: usize,
}

/// What became of the datagrams so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SendCounts {
    /// Taken by the kernel.
    pub sent: u64,
    /// Larger than the path or the protocol allows (EMSGSIZE).
    pub too_big: u64,
    /// A port unreachable came back earlier (ECONNREFUSED).
    pub refused: u64,
    /// No route to the destination (ENETUNREACH, EHOSTUNREACH, no such family).
    pub unreachable: u64,
    /// The host's own firewall refused it (EPERM, EACCES).
    pub blocked: u64,
    /// The socket buffer or device queue stayed full (EAGAIN, ENOBUFS).
    pub full: u64,
    /// Any other reason.
    pub other: u64,
}

/// A datagram being written; it is taken back when dropped without [`commit`](Self::commit).
#[derive(Debug)]
pub struct Reservation<'a> {
    tx: &'a mut UdpTx,
    to: SocketAddr,
    bytes: Range<usize>,
}

impl UdpTx {
    pub(super) fn new(underlay: Underlay) -> Self {
        Self {
            cuts: underlay.cuts,
            underlay,
            arena: vec![0; ARENA_LEN].into_boxed_slice(),
            run: Vec::with_capacity(BATCH),
            used: 0,
            counts: SendCounts::default(),
        }
    }

    /// Whether runs of datagrams are cut by the kernel: until it says that it cannot.
    pub const fn cuts(&self) -> bool {
        self.cuts
    }

    /// Adds a datagram of `len` bytes for `to`, to be filled in by the caller before the flush;
    /// flushes by itself when there is no room. Its bytes are those of some earlier datagram.
    /// `None` when no datagram can be that long.
    pub fn datagram(&mut self, to: SocketAddr, len: usize) -> Option<&mut [u8]> {
        let bytes = self.make_room(to, len)?;
        self.add(to, bytes.clone());
        self.arena.get_mut(bytes)
    }

    /// As [`datagram`](Self::datagram), but the datagram is only kept when committed.
    pub fn reserve(&mut self, to: SocketAddr, len: usize) -> Option<Reservation<'_>> {
        let bytes = self.make_room(to, len)?;
        Some(Reservation {
            tx: self,
            to,
            bytes,
        })
    }

    /// Takes the last unflushed datagram back.
    pub fn cancel_last(&mut self) {
        let Some(item) = self.run.last_mut() else {
            return;
        };
        self.used -= item.last;
        item.bytes.end = self.used;
        item.segments -= 1;
        item.last = item.size;
        if item.segments == 0 {
            self.run.pop();
        }
    }

    /// Number of datagrams that wait for the flush.
    pub fn pending(&self) -> usize {
        self.run.iter().map(|item| item.segments).sum()
    }

    /// Sends everything that waits, in order. What one destination refuses is counted and
    /// dropped, and does not keep the others.
    pub fn flush(&mut self) {
        let run = std::mem::take(&mut self.run);
        let mut rest = run.as_slice();
        while !rest.is_empty() {
            match self.send(rest.get(..BATCH).unwrap_or(rest)) {
                Ok(sent) => {
                    let (done, left) = rest.split_at(sent.min(rest.len()));
                    self.counts.sent += datagrams(done);
                    rest = left;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !self.wait_writable() {
                        self.counts.full += datagrams(rest);
                        break;
                    }
                }
                Err(error) => {
                    let (first, left) = rest.split_at(1);
                    for item in first {
                        self.fail(item, &error);
                    }
                    rest = left;
                }
            }
        }
        self.run = run;
        self.run.clear();
        self.used = 0;
    }

    /// What became of the datagrams so far.
    pub fn counts(&self) -> SendCounts {
        self.counts
    }

    fn make_room(&mut self, to: SocketAddr, len: usize) -> Option<Range<usize>> {
        if len > MAX_DATAGRAM {
            return None;
        }
        let is_full = self.run.len() >= BATCH && !self.joins(to, len);
        if is_full || self.used + len > self.arena.len() {
            self.flush();
        }
        Some(self.used..self.used + len)
    }

    /// Whether a datagram can be part of the last message.
    fn joins(&self, to: SocketAddr, len: usize) -> bool {
        self.run.last().is_some_and(|item| {
            self.cuts
                && item.to == to
                && item.last == item.size
                && (1..=item.size).contains(&len)
                && item.segments < MAX_SEGMENTS
                && item.bytes.len() + len <= MAX_RUN
        })
    }

    fn add(&mut self, to: SocketAddr, bytes: Range<usize>) {
        let len = bytes.len();
        self.used = bytes.end;
        let joins = self.joins(to, len);
        match self.run.last_mut() {
            Some(item) if joins => {
                item.bytes.end = bytes.end;
                item.last = len;
                item.segments += 1;
            }
            Some(_) | None => self.run.push(Item {
                to,
                bytes,
                size: len,
                last: len,
                segments: 1,
            }),
        }
    }

    /// What was refused. Of a run the datagrams are sent one by one: the path may have become
    /// narrower than they are (EINVAL, EMSGSIZE), or the card cannot cut (EIO), which it never will.
    fn fail(&mut self, item: &Item, error: &io::Error) {
        let errno = error.raw_os_error();
        if item.segments == 1 || !matches!(errno, Some(libc::EINVAL | libc::EMSGSIZE | libc::EIO)) {
            self.counts.add_failure(error, item.segments as u64);
            return;
        }
        self.cuts &= errno != Some(libc::EIO);
        let starts = item.bytes.clone().step_by(item.size.max(1));
        for start in starts {
            let bytes = start..item.bytes.end.min(start + item.size);
            let single = Item {
                last: bytes.len(),
                size: bytes.len(),
                segments: 1,
                to: item.to,
                bytes,
            };
            match self.send(std::slice::from_ref(&single)) {
                Ok(_) => self.counts.sent += 1,
                Err(error) => self.counts.add_failure(&error, 1),
            }
        }
    }

    /// One sendmmsg: the number of messages taken, or the error of the first.
    fn send(&self, items: &[Item]) -> io::Result<usize> {
        let mut addrs = [RawAddr::zeroed(); BATCH];
        let mut controls = [Control::default(); BATCH];
        // SAFETY: iovec and mmsghdr are plain data for which zeroes are valid.
        let (mut iovecs, mut messages): ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) =
            unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        let parts = messages.iter_mut().zip(&mut iovecs).zip(&mut addrs);
        let parts = parts.zip(&mut controls).zip(items);
        for ((((message, iovec), addr), control), item) in parts {
            let bytes = self.arena.get(item.bytes.clone()).unwrap_or_default();
            let (raw, len) = RawAddr::new(item.to, self.underlay.family());
            *addr = raw;
            iovec.iov_base = bytes.as_ptr().cast_mut().cast();
            iovec.iov_len = bytes.len();
            message.msg_hdr.msg_name = (&raw mut *addr).cast();
            message.msg_hdr.msg_namelen = len;
            message.msg_hdr.msg_iov = iovec;
            message.msg_hdr.msg_iovlen = 1;
            if item.segments > 1 {
                *control = Control::segment(item.size);
                message.msg_hdr.msg_control = (&raw mut *control).cast();
                message.msg_hdr.msg_controllen = size_of::<Control>();
            }
        }
        let count = libc::c_uint::try_from(items.len().min(BATCH)).unwrap_or(1);
        // SAFETY: every message points to an address, an iovec, a control message and arena bytes
        // that live across the call; the kernel only reads them.
        let sent =
            unsafe { libc::sendmmsg(self.underlay.as_raw_fd(), messages.as_mut_ptr(), count, 0) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    fn wait_writable(&self) -> bool {
        let fd = self.underlay.as_raw_fd();
        let mut poll = libc::pollfd {
            fd,
            events: libc::POLLOUT,
            revents: 0,
        };
        // SAFETY: poll is one live pollfd.
        unsafe { libc::poll(&raw mut poll, 1, FULL_WAIT_MS) == 1 }
    }
}

impl SendCounts {
    /// All that did not leave.
    pub fn failed(&self) -> u64 {
        self.too_big + self.refused + self.unreachable + self.blocked + self.full + self.other
    }

    fn add_failure(&mut self, error: &io::Error, datagrams: u64) {
        let counter = match error.raw_os_error() {
            Some(libc::EMSGSIZE) => &mut self.too_big,
            Some(libc::ECONNREFUSED) => &mut self.refused,
            Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EAFNOSUPPORT | libc::ENETDOWN) => {
                &mut self.unreachable
            }
            Some(libc::EPERM | libc::EACCES) => &mut self.blocked,
            Some(libc::ENOBUFS | libc::ENOMEM) => &mut self.full,
            Some(_) | None => &mut self.other,
        };
        *counter += datagrams;
    }
}

fn datagrams(items: &[Item]) -> u64 {
    items.iter().map(|item| item.segments as u64).sum()
}

/// The control message that says how long the datagrams are: cmsghdr and a u16, padded.
#[derive(Clone, Copy, Default)]
#[repr(C, align(8))]
struct Control {
    len: usize,
    level: libc::c_int,
    kind: libc::c_int,
    size: u16,
    padding: [u16; 3],
}

impl Control {
    fn segment(size: usize) -> Self {
        Self {
            // without the padding: CMSG_LEN(2)
            len: std::mem::offset_of!(Self, padding),
            level: libc::SOL_UDP,
            kind: libc::UDP_SEGMENT,
            size: u16::try_from(size).unwrap_or(u16::MAX),
            padding: [0; 3],
        }
    }
}

impl Reservation<'_> {
    /// Keeps the datagram for the next flush.
    pub fn commit(self) {
        self.tx.add(self.to, self.bytes);
    }
}

impl Deref for Reservation<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.tx.arena.get(self.bytes.clone()).unwrap_or_default()
    }
}

impl DerefMut for Reservation<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.tx
            .arena
            .get_mut(self.bytes.clone())
            .unwrap_or_default()
    }
}
