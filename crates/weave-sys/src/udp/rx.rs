//! Batched receive: up to [`BATCH`] datagrams by one recvmmsg, into buffers that are reused.
//!
//! With UDP_GRO (udp(7)) a buffer holds a run of equal datagrams of one sender, of which the last
//! may be shorter; their length comes in a control message. Callers iterate datagrams, not buffers.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use super::Underlay;
use super::addr::RawAddr;

/// Messages taken by one system call.
const BATCH: usize = 32;

/// Bytes of one receive buffer: the longest run.
const BUFFER_LEN: usize = 64 << 10;

/// The receiving side of the underlay, for one thread.
pub struct UdpRx {
    underlay: Underlay,
    arena: Box<[u8]>,
    slots: Vec<Slot>,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    from: SocketAddr,
    len: usize,
    /// Bytes of each datagram but the last; not 0.
    size: usize,
}

/// Room for one control message with an int.
#[derive(Clone, Copy, Default)]
#[repr(C, align(8))]
struct Control {
    len: usize,
    level: libc::c_int,
    kind: libc::c_int,
    size: libc::c_int,
    padding: libc::c_int,
}

impl Control {
    /// The length of the datagrams that a message was joined of.
    fn segment(&self) -> Option<usize> {
        let is_gro = (self.level, self.kind) == (libc::SOL_UDP, libc::UDP_GRO);
        let whole = self.len >= std::mem::offset_of!(Self, padding);
        let size = usize::try_from(self.size).ok()?;
        (is_gro && whole && size > 0).then_some(size)
    }
}

impl UdpRx {
    pub(super) fn new(underlay: Underlay) -> Self {
        Self {
            underlay,
            arena: vec![0; BATCH * BUFFER_LEN].into_boxed_slice(),
            slots: Vec::with_capacity(BATCH),
        }
    }

    /// Forgets the last batch and receives what is waiting, without blocking; gives the number
    /// of datagrams, 0 when none waits.
    ///
    /// # Errors
    /// When the socket itself is broken. A pending ICMP error is no error.
    pub fn recv_batch(&mut self) -> io::Result<usize> {
        self.slots.clear();
        let mut addrs = [RawAddr::zeroed(); BATCH];
        let mut controls = [Control::default(); BATCH];
        // SAFETY: iovec and mmsghdr are plain data for which zeroes are valid.
        let (mut iovecs, mut messages): ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) =
            unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        let buffers = self.arena.chunks_exact_mut(BUFFER_LEN);
        let parts = messages.iter_mut().zip(&mut iovecs).zip(&mut addrs);
        let parts = parts.zip(&mut controls).zip(buffers);
        for ((((message, iovec), addr), control), buffer) in parts {
            iovec.iov_base = buffer.as_mut_ptr().cast();
            iovec.iov_len = buffer.len();
            message.msg_hdr.msg_name = (&raw mut *addr).cast();
            message.msg_hdr.msg_namelen = RawAddr::LEN;
            message.msg_hdr.msg_iov = iovec;
            message.msg_hdr.msg_iovlen = 1;
            message.msg_hdr.msg_control = (&raw mut *control).cast();
            message.msg_hdr.msg_controllen = size_of::<Control>();
        }
        let count = self.receive(&mut messages)?;
        let received = messages.iter().zip(&addrs).zip(&controls).take(count);
        for ((message, addr), control) in received {
            let len = usize::try_from(message.msg_len).unwrap_or(0);
            let size = control.segment().unwrap_or(len).max(1);
            let whole = message.msg_hdr.msg_flags & libc::MSG_TRUNC == 0;
            // A slot per buffer, in order: what cannot be used keeps its place with no length.
            let slot = match addr.to_socket_addr() {
                Some(from) if whole => Slot { from, len, size },
                Some(from) => Slot { from, len: 0, size },
                None => Slot {
                    from: SocketAddr::from(([0, 0, 0, 0], 0)),
                    len: 0,
                    size,
                },
            };
            self.slots.push(slot);
        }
        Ok(self.slots.len())
    }

    /// Whether the last batch was as large as can be, so that more may wait.
    pub fn is_full(&self) -> bool {
        self.slots.len() == BATCH
    }

    /// Bytes of the last batch.
    pub fn bytes(&self) -> usize {
        self.slots.iter().map(|slot| slot.len).sum()
    }

    /// The datagrams of the last batch, in order of arrival, with their senders. They may be
    /// changed (opened) where they lie. One without bytes, or too long for its buffer, is left out.
    pub fn datagrams(&mut self) -> impl Iterator<Item = (SocketAddr, &mut [u8])> {
        let buffers = self.arena.chunks_exact_mut(BUFFER_LEN);
        self.slots.iter().zip(buffers).flat_map(|(slot, buffer)| {
            let run = buffer.get_mut(..slot.len).unwrap_or_default();
            run.chunks_mut(slot.size).map(|one| (slot.from, one))
        })
    }

    fn receive(&self, messages: &mut [libc::mmsghdr; BATCH]) -> io::Result<usize> {
        let wanted = libc::c_uint::try_from(BATCH).unwrap_or(1);
        // SAFETY: every message points to live, distinct buffers that the caller holds across
        // this call; the count is that of the array.
        let count = unsafe {
            libc::recvmmsg(
                self.underlay.as_raw_fd(),
                messages.as_mut_ptr(),
                wanted,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let Ok(count) = usize::try_from(count) else {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                Some(
                    libc::EAGAIN
                    | libc::EINTR
                    | libc::ECONNREFUSED
                    | libc::EHOSTUNREACH
                    | libc::ENETUNREACH,
                ) => Ok(0),
                Some(_) | None => Err(error),
            };
        };
        Ok(count)
    }
}

impl std::fmt::Debug for UdpRx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UdpRx")
            .field("underlay", &self.underlay)
            .finish_non_exhaustive()
    }
}
