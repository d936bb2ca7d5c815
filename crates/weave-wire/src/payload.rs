//! What stands inside the seal, in front of a frame or a part of one.

use crate::offload::Checksum;
use crate::{DatagramError, SegmentId};

/// Bytes in front of a sealed frame: its segment.
pub const FRAME_HEADER_LEN: usize = 4;

/// Bytes in front of a sealed part of a frame.
pub const FRAGMENT_HEADER_LEN: usize = 12;

/// Bytes in front of each frame where several share a datagram.
pub const RECORD_HEADER_LEN: usize = 2;

/// Longest frame that shares a datagram, in bytes.
pub const MAX_RECORD: u16 = 0x7fff;

/// A frame is cut in at most this many fragments.
pub const MAX_FRAGMENTS: u8 = 4;

/// Splits the plaintext of a sealed frame in its segment and the Ethernet frame.
///
/// # Errors
/// [`DatagramError::TooShort`] when the segment is not complete.
pub const fn decode_frame(plaintext: &mut [u8]) -> Result<(SegmentId, &mut [u8]), DatagramError> {
    let Some((segment, frame)) = plaintext.split_first_chunk_mut::<FRAME_HEADER_LEN>() else {
        return Err(DatagramError::TooShort);
    };
    Ok((SegmentId(u32::from_le_bytes(*segment)), frame))
}

/// In front of each of several frames that share a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RecordHeader {
    /// Length of the frame, at most [`MAX_RECORD`]; longer ones are cut off.
    pub len: u16,
    /// Whether its checksum is complete.
    pub checksum: Checksum,
}

impl RecordHeader {
    /// The header as it travels.
    pub const fn encode(&self) -> [u8; RECORD_HEADER_LEN] {
        let len = self.len & MAX_RECORD;
        match self.checksum {
            Checksum::Complete => len.to_le_bytes(),
            Checksum::Partial => (len | !MAX_RECORD).to_le_bytes(),
        }
    }

    /// Splits the first frame off what is left of a datagram with several: its header, its bytes,
    /// and the rest.
    ///
    /// # Errors
    /// [`DatagramError::TooShort`] when the frame is not complete, or empty.
    pub const fn take(bytes: &mut [u8]) -> Result<(Self, &mut [u8], &mut [u8]), DatagramError> {
        let Some((header, rest)) = bytes.split_first_chunk_mut::<RECORD_HEADER_LEN>() else {
            return Err(DatagramError::TooShort);
        };
        let bits = u16::from_le_bytes(*header);
        let header = Self {
            len: bits & MAX_RECORD,
            checksum: match bits & !MAX_RECORD {
                0 => Checksum::Complete,
                _ => Checksum::Partial,
            },
        };
        match rest.split_at_mut_checked(header.len as usize) {
            Some((frame, rest)) if !frame.is_empty() => Ok((header, frame, rest)),
            Some(_) | None => Err(DatagramError::TooShort),
        }
    }
}

impl SegmentId {
    /// The bytes in front of a sealed frame of this segment.
    pub const fn encode(self) -> [u8; FRAME_HEADER_LEN] {
        self.0.to_le_bytes()
    }
}

/// In front of a sealed part of an Ethernet frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FragmentHeader {
    /// Segment of the frame.
    pub segment: SegmentId,
    /// The same in all parts of a frame; differs between frames that are under way.
    pub id: u32,
    /// Position of this part, below `count`.
    pub index: u8,
    /// Number of parts, 2 to [`MAX_FRAGMENTS`].
    pub count: u8,
}

impl FragmentHeader {
    /// The header as it travels.
    pub const fn encode(&self) -> [u8; FRAGMENT_HEADER_LEN] {
        let [s0, s1, s2, s3] = self.segment.encode();
        let [i0, i1, i2, i3] = self.id.to_le_bytes();
        [s0, s1, s2, s3, i0, i1, i2, i3, self.index, self.count, 0, 0]
    }

    /// Splits the plaintext of a sealed fragment in its header and the bytes of the frame.
    ///
    /// # Errors
    /// When the plaintext is shorter than the header, index and count contradict each other or
    /// the limit, or reserved bytes are not zero.
    pub const fn decode(plaintext: &[u8]) -> Result<(Self, &[u8]), DatagramError> {
        let Some((header, part)) = plaintext.split_first_chunk::<FRAGMENT_HEADER_LEN>() else {
            return Err(DatagramError::TooShort);
        };
        let [s0, s1, s2, s3, i0, i1, i2, i3, index, count, z0, z1] = *header;
        if z0 | z1 != 0 {
            return Err(DatagramError::Reserved);
        }
        if count < 2 || count > MAX_FRAGMENTS || index >= count {
            return Err(DatagramError::Fragment);
        }
        let segment = SegmentId(u32::from_le_bytes([s0, s1, s2, s3]));
        let id = u32::from_le_bytes([i0, i1, i2, i3]);
        Ok((
            Self {
                segment,
                id,
                index,
                count,
            },
            part,
        ))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn impossible_fragments_are_refused() {
        let header = FragmentHeader {
            segment: SegmentId(1),
            id: 2,
            index: 3,
            count: 4,
        };
        let with = |index, count| {
            FragmentHeader {
                index,
                count,
                ..header
            }
            .encode()
        };
        assert!(FragmentHeader::decode(&with(3, 4)).is_ok());
        for (index, count) in [(0, 0), (0, 1), (2, 2), (4, 4), (0, 5), (255, 255)] {
            assert_eq!(
                FragmentHeader::decode(&with(index, count)),
                Err(DatagramError::Fragment)
            );
        }
        let mut reserved = header.encode();
        reserved[11] = 1;
        assert_eq!(
            FragmentHeader::decode(&reserved),
            Err(DatagramError::Reserved)
        );
        assert_eq!(
            FragmentHeader::decode(&reserved[..11]),
            Err(DatagramError::TooShort)
        );
        assert_eq!(decode_frame(&mut [1, 2, 3]), Err(DatagramError::TooShort));
    }

    proptest! {
        #[test]
        fn a_fragment_survives_the_wire(
            segment: u32, id: u32, count in 2..=MAX_FRAGMENTS, index in 0..MAX_FRAGMENTS,
            part: Vec<u8>,
        ) {
            let index = index % count;
            let header = FragmentHeader { segment: SegmentId(segment), id, index, count };
            let bytes = [&header.encode()[..], &part].concat();
            prop_assert_eq!(FragmentHeader::decode(&bytes), Ok((header, &part[..])));
        }

        #[test]
        fn a_frame_survives_the_wire(segment: u32, frame: Vec<u8>) {
            let mut bytes = [&SegmentId(segment).encode()[..], &frame].concat();
            let mut frame = frame;
            prop_assert_eq!(decode_frame(&mut bytes), Ok((SegmentId(segment), &mut frame[..])));
        }

        #[test]
        fn frames_that_share_a_datagram_survive_the_wire(
            frames in proptest::collection::vec(
                (proptest::collection::vec(any::<u8>(), 1..200), any::<bool>()), 1..20),
        ) {
            let frames: Vec<_> = frames
                .into_iter()
                .map(|(frame, partial)| {
                    (frame, if partial { Checksum::Partial } else { Checksum::Complete })
                })
                .collect();
            let mut bytes = Vec::new();
            for (frame, checksum) in &frames {
                let len = u16::try_from(frame.len()).expect("short");
                bytes.extend(RecordHeader { len, checksum: *checksum }.encode());
                bytes.extend(frame);
            }
            let mut rest = bytes.as_mut_slice();
            let mut out = Vec::new();
            while !rest.is_empty() {
                let (header, frame, left) = RecordHeader::take(rest).expect("a record");
                out.push((frame.to_vec(), header.checksum));
                rest = left;
            }
            prop_assert_eq!(out, frames);
        }

        #[test]
        fn arbitrary_plaintext_never_panics(mut bytes: Vec<u8>) {
            let _ = decode_frame(&mut bytes);
            let mut rest = bytes.as_mut_slice();
            while let Ok((_, _, left)) = RecordHeader::take(rest) {
                rest = left;
            }
            let _ = FragmentHeader::decode(&bytes);
        }
    }
}
