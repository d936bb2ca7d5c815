//! Frames to a TAP: neighbouring segments of a super-frame in one write, headers of the first and
//! all payloads from where they lie.
//!
//! Invariant: what goes to a TAP without virtio headers has a complete checksum.

use std::io::{self, IoSlice};

use weave_sys::Tap;
use weave_wire::offload::{self, Checksum, Joiner};

/// Segments of one write.
const MOST: usize = 64;

/// Neighbouring segments that wait to be written together.
pub(super) struct Run<'d> {
    joiner: Joiner,
    first: &'d mut [u8],
    /// Payloads of the others.
    others: [&'d [u8]; MOST],
}

impl<'d> Run<'d> {
    /// Begins with a frame whose checksum is partial; gives it back when nothing can follow it.
    pub(super) fn begin(first: &'d mut [u8]) -> Result<Self, &'d mut [u8]> {
        match Joiner::begin(first) {
            Some(joiner) => Ok(Self {
                joiner,
                first,
                others: [&[]; MOST],
            }),
            None => Err(first),
        }
    }

    /// Adds the neighbour of the last frame; gives any other frame back.
    pub(super) fn add(&mut self, frame: &'d mut [u8]) -> Result<(), &'d mut [u8]> {
        let Some(slot) = self.others.get_mut(self.joiner.segments() - 1) else {
            return Err(frame);
        };
        let Some(payload) = self.joiner.add(self.first, frame) else {
            return Err(frame);
        };
        let frame: &'d [u8] = frame;
        *slot = frame.get(payload).unwrap_or_default();
        Ok(())
    }

    /// Writes them as one super-frame.
    pub(super) fn write_to(self, tap: &Tap) -> io::Result<()> {
        let header = self.joiner.finish(self.first).encode();
        let mut parts = [IoSlice::new(&[]); MOST + 2];
        let slices = [&header[..], &*self.first];
        let others = self.others.get(..self.joiner.segments() - 1);
        let slices = slices.iter().chain(others.unwrap_or_default());
        let mut count = 0;
        for (part, slice) in parts.iter_mut().zip(slices) {
            *part = IoSlice::new(slice);
            count += 1;
        }
        tap.send_parts(parts.get(..count).unwrap_or_default())
    }
}

/// Writes one frame.
pub(super) fn write(tap: &Tap, frame: &mut [u8], checksum: Checksum) -> io::Result<()> {
    if checksum == Checksum::Complete {
        return tap.send(frame);
    }
    let header = Joiner::alone(frame).map_err(io::Error::other)?;
    if tap.has_headers() {
        return tap.send_parts(&[IoSlice::new(&header.encode()), IoSlice::new(frame)]);
    }
    let (start, offset) = (header.csum_start.into(), header.csum_offset.into());
    offload::complete(frame, start, offset).map_err(io::Error::other)?;
    tap.send(frame)
}
