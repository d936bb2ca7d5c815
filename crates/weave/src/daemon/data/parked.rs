//! Frames for peers without a session: in a large mesh one is made when there is something to
//! send, which takes a round trip or two. Meanwhile the frames wait here.
//!
//! Invariants: what waits is bounded in number, bytes and time; the control loop is asked for each
//! peer now and then, not for each frame.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use weave_wire::offload::VnetHeader;
use weave_wire::{PeerId, SegmentId, Time};

/// Frames that wait at most, and their bytes.
const MOST_FRAMES: usize = 256;
const MOST_BYTES: usize = 1 << 20;
/// A frame waits no longer than this.
const PATIENCE: Duration = Duration::from_secs(2);
/// The control loop is asked for the same again after this long.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Peers and segments asked for that are remembered.
const MOST_ASKED: usize = 4_096;

/// What the control loop is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wanted {
    /// A session with this peer.
    Peer(PeerId),
    /// Sessions with all members of this segment.
    Segment(SegmentId),
}

/// A frame that waits.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) since: Time,
    pub(super) segment: SegmentId,
    pub(super) header: VnetHeader,
    pub(super) bytes: Vec<u8>,
}

/// The frames that wait.
#[derive(Debug, Default)]
pub(super) struct Parked {
    frames: VecDeque<Frame>,
    bytes: usize,
    asked: BTreeMap<Wanted, Time>,
}

impl Parked {
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Lets a frame wait; false when there is no room.
    pub(super) fn keep(&mut self, frame: Frame) -> bool {
        let bytes = self.bytes + frame.bytes.len();
        if self.frames.len() >= MOST_FRAMES || bytes > MOST_BYTES {
            return false;
        }
        self.bytes = bytes;
        self.frames.push_back(frame);
        true
    }

    /// All frames, the oldest first.
    pub(super) fn take(&mut self) -> VecDeque<Frame> {
        self.bytes = 0;
        std::mem::take(&mut self.frames)
    }

    /// Whether the control loop is to be asked for this now.
    pub(super) fn is_to_be_asked(&mut self, wanted: Wanted, now: Time) -> bool {
        if self
            .asked
            .get(&wanted)
            .is_some_and(|at| now < *at + ASK_EVERY)
        {
            return false;
        }
        if self.asked.len() >= MOST_ASKED {
            self.asked.retain(|_, at| now < *at + ASK_EVERY);
        }
        if self.asked.len() >= MOST_ASKED {
            return false;
        }
        self.asked.insert(wanted, now);
        true
    }
}

impl Frame {
    /// Whether it has waited too long.
    pub(super) fn is_late(&self, now: Time) -> bool {
        now >= self.since + PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(len: usize) -> Frame {
        Frame {
            since: Time::from_secs(5),
            segment: SegmentId(1),
            header: VnetHeader::default(),
            bytes: vec![0; len],
        }
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut parked = Parked::default();
        let kept = (0..2 * MOST_FRAMES)
            .filter(|_| parked.keep(frame(60)))
            .count();
        assert_eq!(kept, MOST_FRAMES);
        assert_eq!(parked.take().len(), MOST_FRAMES);
        let kept = (0..100).filter(|_| parked.keep(frame(60_000))).count();
        assert_eq!(kept, MOST_BYTES / 60_000);
        let late = frame(1);
        assert!(!late.is_late(Time::from_secs(6)) && late.is_late(Time::from_secs(7)));
    }

    #[test]
    fn the_same_is_asked_for_once_a_second() {
        let mut parked = Parked::default();
        let wanted = Wanted::Segment(SegmentId(7));
        let at = Time::from_secs(1);
        assert!(parked.is_to_be_asked(wanted, at) && !parked.is_to_be_asked(wanted, at));
        assert!(parked.is_to_be_asked(Wanted::Peer(PeerId([1; 32])), at));
        assert!(parked.is_to_be_asked(wanted, at + ASK_EVERY));
        for number in 0..2 * MOST_ASKED {
            let segment = SegmentId(u32::try_from(number).expect("small"));
            parked.is_to_be_asked(Wanted::Segment(segment), at + ASK_EVERY);
        }
        assert!(parked.asked.len() <= MOST_ASKED);
    }
}
