//! Partial checksums: where they are, and how they become complete.

use super::OffloadError;
use super::headers::{Layout, add};

/// Whether the TCP or UDP checksum of a frame is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Checksum {
    /// It is, or the frame has none.
    Complete,
    /// The field holds the sum of the pseudo-header, and nothing else is summed yet.
    Partial,
}

/// Whether a partial checksum of the header at `start` needs no word of where it is: it is that
/// of the TCP or UDP header that the packet itself leads to. Not so of a tunnel inside.
pub fn is_plain(frame: &[u8], start: usize, offset: usize) -> bool {
    Layout::found(frame).is_some_and(|layout| {
        layout.transport == start && usize::from(layout.checksum_offset()) == offset
    })
}

/// Sums what is behind `start` and puts the result `offset` bytes from there, where so far is the
/// sum of the pseudo-header. A result of zero is written as all ones, which means the same to TCP
/// and is not "none" to UDP (RFC 768).
///
/// # Errors
/// When the checksum would not be in the frame; nothing is changed then.
pub fn complete(frame: &mut [u8], start: usize, offset: usize) -> Result<(), OffloadError> {
    let summed = frame.get_mut(start..).ok_or(OffloadError::Headers)?;
    if offset.checked_add(2).is_none_or(|end| end > summed.len()) {
        return Err(OffloadError::Headers);
    }
    let sum = match !sum(summed) {
        0 => u16::MAX,
        sum => sum,
    };
    if let Some(field) = summed.get_mut(offset..offset + 2) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
    Ok(())
}

fn sum(bytes: &[u8]) -> u16 {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let sum = pairs
        .iter()
        .fold(0, |sum, pair| add(sum, u16::from_be_bytes(*pair)));
    match rest {
        [last] => add(sum, u16::from_be_bytes([*last, 0])),
        _ => sum,
    }
}
