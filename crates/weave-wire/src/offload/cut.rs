//! A super-frame cut into segments.

use super::headers::{CWR, FIN, Layout, PSH};
use super::{Gso, OffloadError};

/// The segments of a super-frame, each written when it is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Cutter<'a> {
    frame: &'a [u8],
    layout: Layout,
    size: usize,
    count: usize,
}

impl<'a> Cutter<'a> {
    /// Cuts `frame`, whose TCP or UDP header is at `start`, in segments with `size` bytes of
    /// payload each; the last has what is left.
    ///
    /// # Errors
    /// When the headers are not there or there is nothing to cut.
    pub fn new(frame: &'a [u8], gso: Gso, size: usize, start: usize) -> Result<Self, OffloadError> {
        let layout = Layout::found(frame)
            .filter(|layout| (layout.gso, layout.transport) == (gso, start))
            .ok_or(OffloadError::Headers)?;
        let payload = frame.len() - layout.payload;
        if size == 0 || payload == 0 {
            return Err(OffloadError::Size);
        }
        Ok(Self {
            frame,
            layout,
            size,
            count: payload.div_ceil(size),
        })
    }

    /// The same in shorter segments, so that none is longer than `longest` bytes with its headers.
    /// `None` when that cannot be: UDP datagrams stay what they are.
    pub fn narrowed(self, longest: usize) -> Option<Self> {
        if self.longest() <= longest {
            return Some(self);
        }
        let size = longest.checked_sub(self.layout.payload)?;
        let payload = self.frame.len() - self.layout.payload;
        (self.layout.gso == Gso::Tcp && size > 0).then(|| Self {
            size,
            count: payload.div_ceil(size),
            ..self
        })
    }

    /// Number of segments, at least 1.
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Length of the longest segment, in bytes: of all but the last.
    pub fn longest(&self) -> usize {
        self.frame.len().min(self.layout.payload + self.size)
    }

    /// Length of a segment, in bytes; 0 beyond the last.
    pub fn len_of(&self, index: usize) -> usize {
        match self.payload_of(index) {
            [] => 0,
            payload => self.layout.payload + payload.len(),
        }
    }

    /// Writes a segment: headers of its own with a partial checksum, and its payload. What does
    /// not fit in `into` is left out.
    pub fn write(&self, index: usize, into: &mut [u8]) {
        let payload = self.payload_of(index);
        let headers = self.frame.get(..self.layout.payload).unwrap_or_default();
        let Some((head, tail)) = into.split_at_mut_checked(headers.len()) else {
            return;
        };
        head.copy_from_slice(headers);
        if let Some(to) = tail.get_mut(..payload.len()) {
            to.copy_from_slice(payload);
        }
        let former = self.frame.len() - self.layout.payload;
        self.layout.set_payload_len(head, former, payload.len());
        let position = u16::try_from(index).unwrap_or(u16::MAX);
        let id = self.layout.id(head).wrapping_add(position);
        self.layout.set_id(head, id);
        if self.layout.gso == Gso::Tcp {
            self.write_tcp(index, head);
        }
        self.layout.finish_network(head);
    }

    fn write_tcp(&self, index: usize, head: &mut [u8]) {
        let before = u32::try_from(index * self.size).unwrap_or(u32::MAX);
        let sequence = self.layout.sequence(head).wrapping_add(before);
        self.layout.set_sequence(head, sequence);
        let mut flags = self.layout.tcp_flags(head);
        if index + 1 < self.count {
            flags &= !(FIN | PSH);
        }
        if index > 0 {
            flags &= !CWR;
        }
        self.layout.set_tcp_flags(head, flags);
    }

    fn payload_of(&self, index: usize) -> &'a [u8] {
        let payload = self.frame.get(self.layout.payload..).unwrap_or_default();
        payload.chunks(self.size).nth(index).unwrap_or_default()
    }
}
