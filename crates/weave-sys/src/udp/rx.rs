//! Batched receive: up to [`BATCH`] datagrams by one recvmmsg, into buffers that are reused.
//!
//! With UDP_GRO a buffer will hold a run of equal datagrams, whose segment size comes in a control
//! message. Callers already iterate datagrams, not buffers.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use super::addr::RawAddr;
use super::{BATCH, Underlay};

/// Bytes of one receive buffer: a sealed frame of the largest underlay MTU we meet, with room.
const BUFFER_LEN: usize = 9216;

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
        // SAFETY: iovec and mmsghdr are plain data for which zeroes are valid.
        let (mut iovecs, mut messages): ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) =
            unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        let buffers = self.arena.chunks_exact_mut(BUFFER_LEN);
        for (((message, iovec), addr), buffer) in messages
            .iter_mut()
            .zip(&mut iovecs)
            .zip(&mut addrs)
            .zip(buffers)
        {
            iovec.iov_base = buffer.as_mut_ptr().cast();
            iovec.iov_len = buffer.len();
            message.msg_hdr.msg_name = (&raw mut *addr).cast();
            message.msg_hdr.msg_namelen = RawAddr::LEN;
            message.msg_hdr.msg_iov = iovec;
            message.msg_hdr.msg_iovlen = 1;
        }
        let count = self.receive(&mut messages)?;
        for (message, addr) in messages.iter().zip(&addrs).take(count) {
            let len = usize::try_from(message.msg_len).unwrap_or(0);
            let whole = message.msg_hdr.msg_flags & libc::MSG_TRUNC == 0;
            // A slot per buffer, in order: what cannot be used keeps its place with no length.
            let slot = match addr.to_socket_addr() {
                Some(from) if whole => Slot { from, len },
                Some(from) => Slot { from, len: 0 },
                None => Slot {
                    from: SocketAddr::from(([0, 0, 0, 0], 0)),
                    len: 0,
                },
            };
            self.slots.push(slot);
        }
        Ok(self.slots.len())
    }

    /// The datagrams of the last batch, in order of arrival, with their senders. They may be
    /// changed (opened) where they lie. A datagram too long for its buffer comes as an empty one.
    pub fn datagrams(&mut self) -> impl Iterator<Item = (SocketAddr, &mut [u8])> {
        let buffers = self.arena.chunks_exact_mut(BUFFER_LEN);
        self.slots
            .iter()
            .zip(buffers)
            .filter_map(|(slot, buffer)| Some((slot.from, buffer.get_mut(..slot.len)?)))
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
