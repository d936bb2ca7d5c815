//! What only a program of the next format says, so that tests see how this one takes it: unknown
//! fields in control messages and signed batches, an unknown key in the store.
//!
//! Does nothing without the feature `next-format`, which no release build has, and nothing in a
//! node that speaks no more than this program does.

use weave_wire::Versions;

/// Field 1000 with value 1, which no message of this version has.
const UNKNOWN_FIELD: [u8; 3] = [0xc0, 0x3e, 0x01];

/// A key of the store that this version does not know: the number of starts in the next format.
pub(crate) const KEY: &[u8] = b"next-format";

/// Whether a node that speaks these is one of the next format.
pub(crate) const fn is_spoken(versions: Versions) -> bool {
    cfg!(feature = "next-format") && versions.highest > Versions::SPOKEN.highest
}

/// Adds to an encoded message what older peers do not know.
pub(crate) fn extend(message: &mut Vec<u8>) {
    message.extend_from_slice(&UNKNOWN_FIELD);
}

/// What [`KEY`] holds after one more start.
pub(crate) fn count_start(stored: Option<&[u8]>) -> u64 {
    let before = stored.and_then(|bytes| <[u8; 8]>::try_from(bytes).ok());
    before.map_or(0, u64::from_le_bytes).saturating_add(1)
}
