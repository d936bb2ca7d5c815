//! How many frames passed in each direction.

use std::sync::atomic::{AtomicU64, Ordering};

/// Frames between containers of this host and other hosts, or one of them, since the start.
#[derive(Debug, Default)]
pub struct Traffic {
    /// From containers of this host.
    pub sent: Tally,
    /// To containers of this host.
    pub received: Tally,
}

/// Frames of one direction. One thread at a time adds, so that no addition has to be atomic; the
/// other direction may be another thread's, so that each has cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Tally {
    frames: AtomicU64,
    bytes: AtomicU64,
}

/// A number of frames, and their bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// How many.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A [`Count`] for each direction.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// From containers of this host.
    pub sent: Count,
    /// To containers of this host.
    pub received: Count,
}

impl Traffic {
    /// What passed so far.
    pub fn read(&self) -> Counts {
        Counts {
            sent: self.sent.read(),
            received: self.received.read(),
        }
    }
}

impl Tally {
    /// Adds frames.
    pub fn add(&self, more: Count) {
        let add = |to: &AtomicU64, more| {
            let sum = to.load(Ordering::Relaxed) + more;
            to.store(sum, Ordering::Relaxed);
        };
        add(&self.frames, more.frames);
        add(&self.bytes, more.bytes);
    }

    /// What was added so far.
    pub fn read(&self) -> Count {
        Count {
            frames: self.frames.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}

impl Count {
    /// So many frames with so many bytes in all.
    pub const fn new(frames: usize, bytes: usize) -> Self {
        Self {
            frames: frames as u64,
            bytes: bytes as u64,
        }
    }

    /// One more, of this many bytes.
    pub const fn note(&mut self, len: usize) {
        self.frames += 1;
        self.bytes += len as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_add_up_by_direction() {
        let traffic = Traffic::default();
        let mut batch = Count::default();
        traffic.sent.add(batch);
        assert_eq!(traffic.read(), Counts::default());
        batch.note(60);
        batch.note(1500);
        traffic.sent.add(batch);
        traffic.sent.add(batch);
        traffic.received.add(Count::new(1, 60));
        let counts = Counts {
            sent: Count::new(4, 3120),
            received: Count::new(1, 60),
        };
        assert_eq!(traffic.read(), counts);
    }

    #[test]
    fn directions_share_no_cache_line() {
        let traffic = Traffic::default();
        let [sent, received] =
            [&traffic.sent, &traffic.received].map(|tally| std::ptr::from_ref(tally).addr());
        assert!(sent.abs_diff(received) >= 128);
    }
}
