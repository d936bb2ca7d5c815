//! Batched send: datagrams are written into one arena, and leave by sendmmsg when it is flushed.
//!
//! Invariant: datagrams lie in the arena in the order they were made, without gaps, so that the
//! offload path can send a run of equal ones to one peer with a single UDP_SEGMENT message.

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

/// How long a full socket buffer is waited for, milliseconds, before the rest is dropped.
const FULL_WAIT_MS: libc::c_int = 20;

/// The sending side of the underlay, for one thread. Not flushed when dropped.
#[derive(Debug)]
pub struct UdpTx {
    underlay: Underlay,
    arena: Box<[u8]>,
    run: Vec<Item>,
    used: usize,
    counts: SendCounts,
}

#[derive(Debug, Clone)]
struct Item {
    to: SocketAddr,
    bytes: Range<usize>,
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
            underlay,
            arena: vec![0; ARENA_LEN].into_boxed_slice(),
            run: Vec::with_capacity(BATCH),
            used: 0,
            counts: SendCounts::default(),
        }
    }

    /// Adds a datagram of `len` bytes for `to`, to be filled in by the caller before the flush;
    /// flushes by itself when there is no room. Its bytes are those of some earlier datagram.
    /// `None` when no datagram can be that long.
    pub fn datagram(&mut self, to: SocketAddr, len: usize) -> Option<&mut [u8]> {
        let bytes = self.make_room(len)?;
        self.run.push(Item {
            to,
            bytes: bytes.clone(),
        });
        self.used = bytes.end;
        self.arena.get_mut(bytes)
    }

    /// As [`datagram`](Self::datagram), but the datagram is only kept when committed.
    pub fn reserve(&mut self, to: SocketAddr, len: usize) -> Option<Reservation<'_>> {
        let bytes = self.make_room(len)?;
        Some(Reservation {
            tx: self,
            to,
            bytes,
        })
    }

    /// Takes the last unflushed datagram back.
    pub fn cancel_last(&mut self) {
        if let Some(item) = self.run.pop() {
            self.used = item.bytes.start;
        }
    }

    /// Number of datagrams that wait for the flush.
    pub fn pending(&self) -> usize {
        self.run.len()
    }

    /// Sends everything that waits, in order. What one destination refuses is counted and
    /// dropped, and does not keep the others.
    pub fn flush(&mut self) {
        let run = std::mem::take(&mut self.run);
        let mut rest = run.as_slice();
        while !rest.is_empty() {
            match self.send(rest.get(..BATCH).unwrap_or(rest)) {
                Ok(sent) => {
                    self.counts.sent += sent as u64;
                    rest = rest.get(sent..).unwrap_or_default();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !self.wait_writable() {
                        self.counts.full += rest.len() as u64;
                        break;
                    }
                }
                Err(error) => {
                    self.counts.add_failure(&error);
                    rest = rest.get(1..).unwrap_or_default();
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

    fn make_room(&mut self, len: usize) -> Option<Range<usize>> {
        if len > MAX_DATAGRAM {
            return None;
        }
        if self.run.len() >= BATCH || self.used + len > self.arena.len() {
            self.flush();
        }
        Some(self.used..self.used + len)
    }

    /// One sendmmsg: the number of datagrams taken, or the error of the first.
    fn send(&self, items: &[Item]) -> io::Result<usize> {
        let mut addrs = [RawAddr::zeroed(); BATCH];
        // SAFETY: iovec and mmsghdr are plain data for which zeroes are valid.
        let (mut iovecs, mut messages): ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) =
            unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        let parts = messages.iter_mut().zip(&mut iovecs).zip(&mut addrs);
        for (((message, iovec), addr), item) in parts.zip(items) {
            let bytes = self.arena.get(item.bytes.clone()).unwrap_or_default();
            let (raw, len) = RawAddr::new(item.to, self.underlay.family());
            *addr = raw;
            iovec.iov_base = bytes.as_ptr().cast_mut().cast();
            iovec.iov_len = bytes.len();
            message.msg_hdr.msg_name = (&raw mut *addr).cast();
            message.msg_hdr.msg_namelen = len;
            message.msg_hdr.msg_iov = iovec;
            message.msg_hdr.msg_iovlen = 1;
        }
        let count = libc::c_uint::try_from(items.len().min(BATCH)).unwrap_or(1);
        // SAFETY: every message points to an address, an iovec and arena bytes that live across
        // the call; the kernel only reads them.
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

    fn add_failure(&mut self, error: &io::Error) {
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
        *counter += 1;
    }
}

impl Reservation<'_> {
    /// Keeps the datagram for the next flush.
    pub fn commit(self) {
        self.tx.used = self.bytes.end;
        self.tx.run.push(Item {
            to: self.to,
            bytes: self.bytes,
        });
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
