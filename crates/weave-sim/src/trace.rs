//! The hash over everything that happens, in order: equal runs have equal hashes.

use blake2::{Blake2s256, Digest};
use weave_wire::Time;

/// What kind of thing happened, and so what the bytes after it mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Step {
    Datagram = 1,
    Written = 2,
    Timer = 3,
    Answer = 4,
    Fault = 5,
    Work = 6,
    Frame = 7,
}

/// The hash so far.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    hash: Blake2s256,
    pub(crate) steps: u64,
}

impl Trace {
    /// Notes one thing that happened to one host.
    pub(crate) fn note(&mut self, at: Time, step: Step, host: usize, bytes: &[u8]) {
        self.steps += 1;
        self.hash.update(at.as_nanos().to_le_bytes());
        self.hash.update([step as u8]);
        self.hash.update((host as u64).to_le_bytes());
        self.hash.update((bytes.len() as u64).to_le_bytes());
        self.hash.update(bytes);
    }

    /// Notes a datagram: its ends are enough, for the tag at its end depends on all of it.
    pub(crate) fn note_datagram(&mut self, at: Time, host: usize, bytes: &[u8]) {
        let head = bytes.get(..16).unwrap_or(bytes);
        let tail = bytes
            .get(bytes.len().saturating_sub(16)..)
            .unwrap_or_default();
        self.note(at, Step::Datagram, host, head);
        self.hash.update((bytes.len() as u64).to_le_bytes());
        self.hash.update(tail);
    }

    /// The hash over all that was noted.
    pub(crate) fn finish(&self) -> [u8; 32] {
        self.hash.clone().finalize().into()
    }
}
