//! A run of Ethernet frames in one arena: what one drain of a TAP gives, or one write takes.
//!
//! Invariant: frames lie in the arena in order, without overlap, each after
//! [`VNET_HDR_ROOM`] bytes, the last ten of which are its virtio header: all zeroes for a frame
//! that is finished. A frame may be a super-frame of 64 KiB.

use std::ops::Range;

/// Length of a virtio header, in bytes.
pub const VNET_HDR_LEN: usize = 10;

/// Bytes before each frame: room for a virtio header, and 14 so that the IP header behind the 14
/// bytes of Ethernet starts on a multiple of four.
pub const VNET_HDR_ROOM: usize = 14;

/// Frames, in order.
#[derive(Debug)]
pub struct FrameBatch {
    arena: Box<[u8]>,
    frames: Vec<Range<usize>>,
    max_frames: usize,
    max_frame_len: usize,
    used: usize,
}

impl FrameBatch {
    /// Room for `max_frames` frames of up to `max_frame_len` bytes each, Ethernet header included.
    pub fn new(max_frames: usize, max_frame_len: usize) -> Self {
        let arena_len = slot_len(max_frame_len).saturating_mul(max_frames);
        Self::packed(max_frames, max_frame_len, arena_len)
    }

    /// As [`new`](Self::new), but with so much memory that it takes fewer frames of the greatest
    /// length, and at least one.
    pub fn packed(max_frames: usize, max_frame_len: usize, arena_len: usize) -> Self {
        let arena_len = arena_len.max(slot_len(max_frame_len));
        Self {
            arena: vec![0; arena_len].into_boxed_slice(),
            frames: Vec::with_capacity(max_frames),
            max_frames,
            max_frame_len,
            used: 0,
        }
    }

    /// Number of frames.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether it holds no frame.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether no further frame of the greatest length fits.
    pub fn is_full(&self) -> bool {
        self.next_slot().is_none()
    }

    /// Forgets all frames; keeps the memory.
    pub fn clear(&mut self) {
        self.frames.clear();
        self.used = 0;
    }

    /// The frames, in order.
    pub fn frames(&self) -> impl Iterator<Item = &[u8]> {
        self.frames
            .iter()
            .filter_map(|range| self.arena.get(range.clone()))
    }

    /// The frames, in order, each with its virtio header.
    pub fn with_headers(&self) -> impl Iterator<Item = (&[u8; VNET_HDR_LEN], &[u8])> {
        self.frames.iter().filter_map(|range| {
            let (before, frame) = self.arena.get(..range.end)?.split_at_checked(range.start)?;
            Some((before.last_chunk()?, frame))
        })
    }

    /// Adds a copy of `frame`; `false` (and no change) when the batch is full or the frame is
    /// longer than its limit.
    #[must_use]
    pub fn push(&mut self, frame: &[u8]) -> bool {
        self.push_with_header(&[0; VNET_HDR_LEN], frame)
    }

    /// As [`push`](Self::push), of a frame that its virtio header says is not finished.
    #[must_use]
    pub fn push_with_header(&mut self, header: &[u8; VNET_HDR_LEN], frame: &[u8]) -> bool {
        let Some(room) = self.room_with_header() else {
            return false;
        };
        let (to, rest) = room.split_at_mut(VNET_HDR_LEN);
        let Some(rest) = rest.get_mut(..frame.len()) else {
            return false;
        };
        to.copy_from_slice(header);
        rest.copy_from_slice(frame);
        self.commit(frame.len());
        true
    }

    /// Writable room for the next frame, which is finished; [`commit`](Self::commit) says how much
    /// of it became one.
    pub fn room(&mut self) -> Option<&mut [u8]> {
        let room = self.room_with_header()?;
        let (header, room) = room.split_first_chunk_mut::<VNET_HDR_LEN>()?;
        *header = [0; VNET_HDR_LEN];
        Some(room)
    }

    /// Writable room for a virtio header and the next frame; [`commit`](Self::commit) says how
    /// much behind the header became one.
    pub(super) fn room_with_header(&mut self) -> Option<&mut [u8]> {
        let slot = self.next_slot()?;
        self.arena.get_mut(slot.start - VNET_HDR_LEN..slot.end)
    }

    /// Makes the first `len` bytes of the last [`room`](Self::room) a frame.
    pub fn commit(&mut self, len: usize) {
        let Some(slot) = self.next_slot() else { return };
        let end = slot.start + len.min(self.max_frame_len);
        self.frames.push(slot.start..end);
        self.used = end.next_multiple_of(4);
    }

    fn next_slot(&self) -> Option<Range<usize>> {
        let start = self.used + VNET_HDR_ROOM;
        let end = start + self.max_frame_len;
        (self.frames.len() < self.max_frames && end <= self.arena.len()).then_some(start..end)
    }
}

fn slot_len(max_frame_len: usize) -> usize {
    (VNET_HDR_ROOM + max_frame_len).next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_batch_takes_exactly_as_many_longest_frames_as_it_was_made_for() {
        let mut batch = FrameBatch::new(3, 101);
        for _ in 0..3 {
            assert!(batch.push(&[1; 101]));
        }
        assert!(batch.is_full() && !batch.push(&[1]));
        batch.clear();
        assert!(batch.is_empty() && batch.push(&[2]));
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_and_changes_nothing() {
        let mut batch = FrameBatch::new(2, 60);
        assert!(!batch.push(&[0; 61]));
        assert_eq!(batch.len(), 0);
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
        ) {
            let mut batch = FrameBatch::new(20, 200);
            for frame in &frames {
                prop_assert!(batch.push(frame));
            }
            let out: Vec<Vec<u8>> = batch.frames().map(<[u8]>::to_vec).collect();
            prop_assert_eq!(out, frames);
        }
    }
}
