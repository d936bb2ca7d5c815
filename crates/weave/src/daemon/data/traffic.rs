//! How many frames passed in each direction: one addition for a batch of frames.

use std::sync::atomic::{AtomicU64, Ordering};

/// Frames and their bytes since the start. A super-frame counts as one.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    /// From containers to other hosts.
    pub(crate) sent: Tally,
    /// From other hosts to containers.
    pub(crate) received: Tally,
}

/// Frames of one direction.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    frames: AtomicU64,
    bytes: AtomicU64,
}

impl Tally {
    /// Adds a batch.
    pub(super) fn add(&self, batch: Batch) {
        if batch.frames > 0 {
            self.frames.fetch_add(batch.frames, Ordering::Relaxed);
            self.bytes.fetch_add(batch.bytes, Ordering::Relaxed);
        }
    }

    /// Frames, and their bytes.
    pub(crate) fn read(&self) -> (u64, u64) {
        let read = |of: &AtomicU64| of.load(Ordering::Relaxed);
        (read(&self.frames), read(&self.bytes))
    }
}

/// Frames that were read or written together.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Batch {
    frames: u64,
    bytes: u64,
}

impl Batch {
    /// One more, of this many bytes.
    pub(super) fn note(&mut self, len: usize) {
        self.frames += 1;
        self.bytes += len as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_add_up() {
        let traffic = Traffic::default();
        let mut batch = Batch::default();
        traffic.sent.add(batch);
        assert_eq!(traffic.sent.read(), (0, 0));
        batch.note(60);
        batch.note(1500);
        traffic.sent.add(batch);
        traffic.sent.add(batch);
        assert_eq!(traffic.sent.read(), (4, 3120));
        assert_eq!(traffic.received.read(), (0, 0));
    }
}
