//! Frames that were read from a TAP and are not sent yet.
//!
//! What a TAP queues is first in, first out, and megabytes long: without this, a ping would wait
//! for all of a bulk transfer that is before it. So everything that waits is read at once; flows
//! of super-frames (bulk) are kept here, and all others pass them. When even this does not empty
//! the TAP's queue, a super-frame is given up now and then, which tells its sender to slow down.
//!
//! Invariant: frames of one flow leave in the order in which they were read.

use std::collections::VecDeque;

use weave_sys::tap::FrameBatch;
use weave_wire::Time;
use weave_wire::ether::flow_hash;
use weave_wire::offload::VnetHeader;

use super::congestion::Congestion;

/// Frames of one batch: one bit each.
const FRAMES: usize = 64;
/// Room for the largest frame: an IP packet of greatest length, Ethernet header and VLAN tags.
const MAX_FRAME: usize = 65_535 + 22;
/// Bytes of one batch: a few super-frames, so that they stay in the cache.
const ARENA: usize = 256 << 10;
/// Batches that are kept: what is read before something must be sent.
pub(super) const BATCHES: usize = 4;

/// A frame, with what is left to do for it.
type Unfinished<'a> = (VnetHeader, &'a [u8]);

/// Frames of one TAP at a time.
#[derive(Debug)]
pub(super) struct Backlog {
    free: Vec<FrameBatch>,
    waiting: VecDeque<Batch>,
    bulk: Flows,
    congestion: Congestion,
}

/// Frames that were read together.
#[derive(Debug)]
pub(super) struct Batch {
    frames: FrameBatch,
    /// One bit for each that is bulk.
    bulk: u64,
}

impl Backlog {
    pub(super) fn new() -> Self {
        Self {
            free: (0..BATCHES)
                .map(|_| FrameBatch::packed(FRAMES, MAX_FRAME, ARENA))
                .collect(),
            waiting: VecDeque::with_capacity(BATCHES),
            bulk: Flows::default(),
            congestion: Congestion::default(),
        }
    }

    /// A batch to read into; `None` when enough waits.
    pub(super) fn take_free(&mut self) -> Option<FrameBatch> {
        let mut batch = self.free.pop()?;
        batch.clear();
        Some(batch)
    }

    /// Takes a batch that was read into: tells which of its frames wait.
    pub(super) fn sort(&mut self, frames: FrameBatch) -> Batch {
        let mut bulk = 0;
        // every frame of a batch without super-frames passes, unless such a flow waits
        if !self.bulk.is_empty() || unfinished(&frames).any(|(header, _)| is_super(&header)) {
            for (at, (header, frame)) in unfinished(&frames).enumerate() {
                let flow = flow_hash(frame);
                if is_super(&header) {
                    self.bulk.insert(flow);
                }
                if self.bulk.contains(flow) {
                    bulk |= 1 << at;
                }
            }
        }
        Batch { frames, bulk }
    }

    /// Keeps the bulk of a batch, the rest of which is sent.
    pub(super) fn keep(&mut self, batch: Batch) {
        match batch.bulk {
            0 => self.free.push(batch.frames),
            _ => self.waiting.push_back(batch),
        }
    }

    /// The batch whose bulk is to be sent next; give it back by [`Self::done`].
    pub(super) fn next(&mut self) -> Option<Batch> {
        self.waiting.pop_front()
    }

    /// Takes back a batch of which everything is sent.
    pub(super) fn done(&mut self, batch: Batch) {
        self.free.push(batch.frames);
        if self.waiting.is_empty() {
            self.bulk.clear();
        }
    }

    /// Gives up the oldest super-frame, unless that was done a moment ago; answers whether it did.
    pub(super) fn give_one_up(&mut self, now: Time) -> bool {
        match self.waiting.front_mut() {
            Some(oldest) if self.congestion.is_to_be_told(now) => {
                oldest.bulk &= oldest.bulk - 1;
                true
            }
            Some(_) | None => false,
        }
    }
}

impl Batch {
    /// What need not wait.
    pub(super) fn others(&self) -> impl Iterator<Item = Unfinished<'_>> {
        self.chosen(!self.bulk)
    }

    /// What had to wait.
    pub(super) fn bulk(&self) -> impl Iterator<Item = Unfinished<'_>> {
        self.chosen(self.bulk)
    }

    fn chosen(&self, bits: u64) -> impl Iterator<Item = Unfinished<'_>> {
        unfinished(&self.frames)
            .enumerate()
            .filter(move |(at, _)| bits >> at & 1 == 1)
            .map(|(_, frame)| frame)
    }
}

fn unfinished(frames: &FrameBatch) -> impl Iterator<Item = Unfinished<'_>> {
    frames
        .with_headers()
        .map(|(header, frame)| (VnetHeader::decode(header), frame))
}

const fn is_super(header: &VnetHeader) -> bool {
    header.gso_type != 0
}

/// A set of flows, of which it may hold some more than were inserted.
#[derive(Debug, Default)]
struct Flows([u64; 16]);

impl Flows {
    fn insert(&mut self, flow: u32) {
        if let Some(word) = self.0.get_mut(flow as usize / 64 % 16) {
            *word |= 1 << (flow % 64);
        }
    }

    fn contains(&self, flow: u32) -> bool {
        let word = self.0.get(flow as usize / 64 % 16);
        word.is_some_and(|word| word >> (flow % 64) & 1 == 1)
    }

    fn is_empty(&self) -> bool {
        self.0 == [0; 16]
    }

    fn clear(&mut self) {
        self.0 = [0; 16];
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::congestion::PATIENCE;
    use super::*;

    const NOW: Time = Time::from_secs(1);

    /// A UDP packet of a flow, with a number; padded to make a super-frame.
    fn frame(flow: u8, number: u16) -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend([8, 0, 0x45, 0, 0, 30, 0, 0, 0x40, 0, 64, 17, 0, 0]);
        frame.extend([10, 0, 0, 1, 10, 0, 0, 2, 0x12, flow, 0, 53, 0, 10, 0, 0]);
        frame.extend(number.to_be_bytes());
        frame
    }

    fn read(backlog: &mut Backlog, frames: &[(bool, Vec<u8>)]) -> Batch {
        let mut batch = backlog.take_free().expect("a free batch");
        for (is_super, frame) in frames {
            let header = VnetHeader {
                gso_type: u8::from(*is_super),
                ..VnetHeader::default()
            };
            assert!(batch.push_with_header(&header.encode(), frame));
        }
        backlog.sort(batch)
    }

    fn bytes<'a>(frames: impl Iterator<Item = Unfinished<'a>>) -> Vec<Vec<u8>> {
        frames.map(|(_, frame)| frame.to_vec()).collect()
    }

    #[test]
    fn others_pass_the_bulk_that_was_before_them_also_in_later_batches() {
        let mut backlog = Backlog::new();
        let (bulk, ping) = (frame(1, 0), frame(2, 0));
        let batch = read(&mut backlog, &[(true, bulk.clone()), (false, ping.clone())]);
        assert_eq!(bytes(batch.others()), std::slice::from_ref(&ping));
        backlog.keep(batch);
        let end_of_bulk = frame(1, 1);
        let later = read(
            &mut backlog,
            &[(false, end_of_bulk.clone()), (false, ping.clone())],
        );
        assert_eq!(bytes(later.others()), [ping], "the end of the flow waits");
        backlog.keep(later);
        for expected in [bulk, end_of_bulk.clone()] {
            let next = backlog.next().expect("bulk");
            assert_eq!(bytes(next.bulk()), [expected]);
            backlog.done(next);
        }
        let after = read(&mut backlog, &[(false, end_of_bulk.clone())]);
        assert_eq!(
            bytes(after.others()),
            [end_of_bulk],
            "nothing of it waits any more"
        );
        backlog.keep(after);
        assert!(backlog.next().is_none());
    }

    #[test]
    fn a_super_frame_is_given_up_once_in_a_while() {
        let mut backlog = Backlog::new();
        assert!(!backlog.give_one_up(NOW));
        let frames: Vec<_> = (0..3).map(|number| (true, frame(1, number))).collect();
        let batch = read(&mut backlog, &frames);
        backlog.keep(batch);
        assert!(backlog.give_one_up(NOW));
        assert!(!backlog.give_one_up(NOW + PATIENCE / 2));
        assert!(backlog.give_one_up(NOW + PATIENCE));
        let left = backlog.next().expect("the rest");
        assert_eq!(bytes(left.bulk()), [frame(1, 2)]);
    }

    proptest! {
        #[test]
        fn each_flow_keeps_its_order_and_nothing_is_lost(
            batches in prop::collection::vec(
                prop::collection::vec((any::<bool>(), 0..4u8), 0..20), 1..=BATCHES),
        ) {
            let mut backlog = Backlog::new();
            let mut sent = Vec::new();
            let mut number = 0;
            let mut expected: Vec<Vec<Vec<u8>>> = vec![Vec::new(); 4];
            for batch in &batches {
                let frames: Vec<_> = batch.iter().map(|(is_super, flow)| {
                    number += 1;
                    let frame = frame(*flow, number);
                    expected[usize::from(*flow)].push(frame.clone());
                    (*is_super, frame)
                }).collect();
                let batch = read(&mut backlog, &frames);
                sent.extend(bytes(batch.others()));
                backlog.keep(batch);
            }
            while let Some(next) = backlog.next() {
                sent.extend(bytes(next.bulk()));
                backlog.done(next);
            }
            for (flow, expected) in (0..).zip(expected) {
                let of_flow: Vec<_> = sent.iter().filter(|frame| frame[35] == flow).cloned().collect();
                prop_assert_eq!(of_flow, expected);
            }
        }
    }
}
