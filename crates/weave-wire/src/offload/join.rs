//! Neighbouring segments of one super-frame made one again.

use std::ops::Range;

use super::headers::{CWR, FIN, Layout, PSH};
use super::virtio::VnetHeader;
use super::{Gso, OffloadError};

/// Longest packet: what its length field can say.
const MAX_PACKET: usize = 65_535;

/// A run of segments that is being joined. It keeps no bytes: the headers are those of the first
/// segment, the payloads stay where they are.
#[derive(Debug, Clone, Copy)]
pub struct Joiner {
    layout: Layout,
    /// Payload of the first segment.
    size: usize,
    /// Payload of all segments so far.
    payload: usize,
    segments: usize,
    last_flags: u8,
    is_closed: bool,
}

impl Joiner {
    /// Begins a run with a frame whose checksum is partial. `None` when nothing can follow it: it
    /// is neither TCP nor UDP, or has no payload.
    pub fn begin(frame: &[u8]) -> Option<Self> {
        let layout = Layout::found(frame)?;
        let size = frame.len() - layout.payload;
        let last_flags = layout.tcp_flags(frame);
        (size > 0).then_some(Self {
            layout,
            size,
            payload: size,
            segments: 1,
            last_flags,
            is_closed: layout.gso == Gso::Tcp && last_flags & (FIN | PSH) != 0,
        })
    }

    /// Number of segments.
    pub const fn segments(&self) -> usize {
        self.segments
    }

    /// Where the payload of each segment begins: the length of its headers.
    pub const fn headers_len(&self) -> usize {
        self.layout.payload
    }

    /// Adds the next segment, when it is the neighbour of the last one in their super-frame; gives
    /// where its payload is. `first` is the frame that the run began with.
    pub fn add(&mut self, first: &[u8], frame: &[u8]) -> Option<Range<usize>> {
        let len = frame.len().checked_sub(self.layout.payload)?;
        let packet = frame.len() + self.payload - self.layout.network;
        if self.is_closed || len == 0 || len > self.size || packet > MAX_PACKET {
            return None;
        }
        if !self.is_next(first, frame) {
            return None;
        }
        self.payload += len;
        self.segments += 1;
        self.last_flags = self.layout.tcp_flags(frame);
        let is_marked = self.layout.gso == Gso::Tcp && self.last_flags & (FIN | PSH) != 0;
        self.is_closed = len < self.size || is_marked;
        Some(self.layout.payload..frame.len())
    }

    /// Makes the headers of the first frame those of the whole, and gives the header that tells
    /// the kernel what is left to do.
    pub fn finish(&self, first: &mut [u8]) -> VnetHeader {
        let layout = &self.layout;
        let vnet = VnetHeader::checksum(layout.transport, layout.checksum_offset());
        if self.segments == 1 {
            return vnet;
        }
        let flags = layout.tcp_flags(first);
        layout.set_payload_len(first, self.size, self.payload);
        let is_tcp = layout.gso == Gso::Tcp;
        if is_tcp {
            layout.set_tcp_flags(first, flags | self.last_flags & (FIN | PSH));
        }
        layout.finish_network(first);
        let has_cwr = is_tcp && flags & CWR != 0;
        vnet.cut(layout.gso, layout.is_v6, has_cwr, layout.payload, self.size)
    }

    /// The header for a frame by itself whose checksum is partial.
    ///
    /// # Errors
    /// When it is neither TCP nor UDP.
    pub fn alone(frame: &[u8]) -> Result<VnetHeader, OffloadError> {
        let layout = Layout::found(frame).ok_or(OffloadError::Headers)?;
        Ok(VnetHeader::checksum(
            layout.transport,
            layout.checksum_offset(),
        ))
    }

    fn is_next(&self, first: &[u8], frame: &[u8]) -> bool {
        let layout = &self.layout;
        let position = u16::try_from(self.segments).unwrap_or(u16::MAX);
        if Layout::found(frame) != Some(*layout) || !layout.is_alike(first, frame) {
            return false;
        }
        if !layout.is_v6 && layout.id(frame) != layout.id(first).wrapping_add(position) {
            return false;
        }
        let before = u32::try_from(self.payload).unwrap_or(u32::MAX);
        let marks = FIN | PSH | CWR;
        let (begun, here) = (layout.tcp_flags(first), layout.tcp_flags(frame));
        layout.gso == Gso::Udp
            || (layout.sequence(frame) == layout.sequence(first).wrapping_add(before)
                && begun & !marks == here & !marks
                && here & CWR == 0)
    }
}
