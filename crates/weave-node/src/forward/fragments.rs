//! Frames that do not fit one datagram: cut by the sender, put together by the receiver.
//!
//! The receiver keeps incomplete frames for two seconds, at most 64 of a session and 256 in all;
//! the oldest gives way. Buffers are used again, so that nothing is allocated in steady state.

use weave_wire::{FragmentHeader, MAX_FRAGMENTS, SegmentId, Time};

use std::time::Duration;

use super::{DropCounters, DropReason};

const KEPT_FOR: Duration = Duration::from_secs(2);
const MOST_OF_A_SESSION: usize = 64;
const MOST: usize = 256;
/// Longest frame that is put together: an IP packet of greatest length with its headers.
const LONGEST_FRAME: usize = 65_535 + 22;
/// Buffers longer than this in sum are not kept for the next frame.
const KEPT_BUFFER: usize = 16 * 1024;

/// The parts of a frame, all but the last equally long.
#[derive(Debug)]
pub(super) struct Cuts<'a> {
    next: FragmentHeader,
    part: usize,
    rest: &'a [u8],
}

impl<'a> Cuts<'a> {
    /// Cuts a frame in parts of at most `room` bytes; `None` when that makes too many.
    pub(super) fn new(segment: SegmentId, id: u32, frame: &'a [u8], room: usize) -> Option<Self> {
        if room == 0 {
            return None;
        }
        let count = frame.len().div_ceil(room).max(2);
        let part = frame.len().div_ceil(count);
        let count = u8::try_from(count)
            .ok()
            .filter(|count| *count <= MAX_FRAGMENTS)?;
        Some(Self {
            next: FragmentHeader {
                segment,
                id,
                index: 0,
                count,
            },
            part,
            rest: frame,
        })
    }
}

impl<'a> Iterator for Cuts<'a> {
    type Item = (FragmentHeader, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let header = self.next;
        if header.index >= header.count {
            return None;
        }
        self.next.index += 1;
        let (part, rest) = self.rest.split_at(self.part.min(self.rest.len()));
        self.rest = rest;
        Some((header, part))
    }
}

/// Puts frames together.
#[derive(Debug, Default)]
pub(super) struct Reassembly {
    incomplete: Vec<Incomplete>,
    spare: Vec<Parts>,
    whole: Vec<u8>,
}

type Parts = [Vec<u8>; MAX_FRAGMENTS as usize];

#[derive(Debug)]
struct Incomplete {
    session: u32,
    header: FragmentHeader,
    since: Time,
    /// One bit for each part that is here.
    here: u8,
    parts: Parts,
}

impl Incomplete {
    fn is_for(&self, session: u32, header: &FragmentHeader) -> bool {
        self.session == session && self.header.id == header.id
    }

    fn len(&self) -> usize {
        self.parts.iter().map(Vec::len).sum()
    }

    /// Takes a part; answers whether it fits what is here.
    fn add(&mut self, header: &FragmentHeader, part: &[u8]) -> bool {
        let bit = 1 << header.index;
        let Some(slot) = self.parts.get(usize::from(header.index)) else {
            return false;
        };
        let same = self.header.segment == header.segment && self.header.count == header.count;
        if !same || self.here & bit != 0 || self.len() + part.len() > LONGEST_FRAME {
            return false;
        }
        debug_assert!(slot.is_empty(), "a part that is not here is empty");
        self.here |= bit;
        if let Some(slot) = self.parts.get_mut(usize::from(header.index)) {
            slot.extend_from_slice(part);
        }
        true
    }

    const fn is_complete(&self) -> bool {
        self.here == (1 << self.header.count) - 1
    }
}

impl Reassembly {
    /// Takes a fragment of a session; answers the frame when it is complete with it.
    pub(super) fn add(
        &mut self,
        session: u32,
        header: FragmentHeader,
        part: &[u8],
        now: Time,
        drops: &DropCounters,
    ) -> Option<&mut [u8]> {
        self.expire(now, drops);
        let at = self.find_or_begin(session, header, now, drops);
        let incomplete = self.incomplete.get_mut(at)?;
        if !incomplete.add(&header, part) {
            drops.count(DropReason::FragmentMismatch);
            return None;
        }
        if !incomplete.is_complete() {
            return None;
        }
        let done = self.incomplete.swap_remove(at);
        self.whole.clear();
        for part in &done.parts {
            self.whole.extend_from_slice(part);
        }
        self.keep(done.parts);
        Some(&mut self.whole)
    }

    fn find_or_begin(
        &mut self,
        session: u32,
        header: FragmentHeader,
        now: Time,
        drops: &DropCounters,
    ) -> usize {
        if let Some(at) = self
            .incomplete
            .iter()
            .position(|frame| frame.is_for(session, &header))
        {
            return at;
        }
        self.make_room(session, drops);
        let parts = self.spare.pop().unwrap_or_default();
        self.incomplete.push(Incomplete {
            session,
            header,
            since: now,
            here: 0,
            parts,
        });
        self.incomplete.len() - 1
    }

    /// Gives up the oldest frame of the session, or of all, where there are too many.
    fn make_room(&mut self, session: u32, drops: &DropCounters) {
        let of_session = self
            .incomplete
            .iter()
            .filter(|frame| frame.session == session)
            .count();
        if of_session < MOST_OF_A_SESSION && self.incomplete.len() < MOST {
            return;
        }
        let oldest = self
            .incomplete
            .iter()
            .enumerate()
            .filter(|(_, frame)| of_session < MOST_OF_A_SESSION || frame.session == session)
            .min_by_key(|(_, frame)| frame.since)
            .map(|(at, _)| at);
        if let Some(at) = oldest {
            self.give_up(at, DropReason::FragmentEvicted, drops);
        }
    }

    fn expire(&mut self, now: Time, drops: &DropCounters) {
        let mut at = 0;
        while let Some(frame) = self.incomplete.get(at) {
            if frame.since + KEPT_FOR <= now {
                self.give_up(at, DropReason::FragmentTimeout, drops);
            } else {
                at += 1;
            }
        }
    }

    fn give_up(&mut self, at: usize, reason: DropReason, drops: &DropCounters) {
        let frame = self.incomplete.swap_remove(at);
        drops.count(reason);
        self.keep(frame.parts);
    }

    /// Keeps the buffers for a later frame, unless they are unusually large or many.
    fn keep(&mut self, mut parts: Parts) {
        let capacity: usize = parts.iter().map(Vec::capacity).sum();
        if capacity <= KEPT_BUFFER && self.spare.len() < MOST_OF_A_SESSION {
            parts.iter_mut().for_each(Vec::clear);
            self.spare.push(parts);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SEGMENT: SegmentId = SegmentId(7);

    fn cut(frame: &[u8], id: u32, room: usize) -> Vec<(FragmentHeader, Vec<u8>)> {
        let cuts = Cuts::new(SEGMENT, id, frame, room).expect("a frame that can be cut");
        cuts.map(|(header, part)| (header, part.to_vec())).collect()
    }

    struct Bench {
        reassembly: Reassembly,
        drops: DropCounters,
    }

    impl Bench {
        fn new() -> Self {
            Self {
                reassembly: Reassembly::default(),
                drops: DropCounters::new(),
            }
        }

        fn add(
            &mut self,
            session: u32,
            (header, part): &(FragmentHeader, Vec<u8>),
            now: Time,
        ) -> Option<Vec<u8>> {
            let frame = self
                .reassembly
                .add(session, *header, part, now, &self.drops);
            frame.map(|frame| frame.to_vec())
        }
    }

    #[test]
    fn a_frame_that_needs_too_many_parts_is_not_cut() {
        assert!(Cuts::new(SEGMENT, 0, &[0; 400], 100).is_some());
        assert!(Cuts::new(SEGMENT, 0, &[0; 401], 100).is_none());
        assert!(Cuts::new(SEGMENT, 0, &[0; 401], 0).is_none());
    }

    #[test]
    fn an_incomplete_frame_is_given_up_after_two_seconds() {
        let mut bench = Bench::new();
        let parts = cut(&[1; 100], 0, 50);
        assert_eq!(bench.add(1, &parts[0], Time::ZERO), None);
        assert_eq!(bench.add(1, &parts[1], Time::from_secs(2)), None);
        assert_eq!(bench.drops.read(DropReason::FragmentTimeout), 1);
        assert_eq!(
            bench.add(1, &parts[0], Time::from_millis(3_999)),
            Some(vec![1; 100])
        );
    }

    #[test]
    fn a_session_holds_64_incomplete_frames_and_the_oldest_gives_way() {
        let mut bench = Bench::new();
        let frames: Vec<_> = (0..65).map(|id| cut(&[1; 100], id, 50)).collect();
        for (frame, at) in frames.iter().zip(0..) {
            assert_eq!(bench.add(1, &frame[0], Time::from_nanos(at)), None);
        }
        assert_eq!(bench.drops.read(DropReason::FragmentEvicted), 1);
        assert_eq!(bench.reassembly.incomplete.len(), 64);
        let now = Time::from_nanos(100);
        assert!(
            frames[1..]
                .iter()
                .all(|frame| bench.add(1, &frame[1], now).is_some())
        );
        assert_eq!(bench.add(1, &frames[0][1], now), None);
    }

    #[test]
    fn all_sessions_together_hold_256_incomplete_frames() {
        let mut bench = Bench::new();
        for session in 0..300 {
            bench.add(session, &cut(&[1; 100], 0, 50)[0], Time::ZERO);
        }
        assert_eq!(bench.reassembly.incomplete.len(), MOST);
        assert_eq!(bench.drops.read(DropReason::FragmentEvicted), 300 - 256);
    }

    #[test]
    fn parts_that_contradict_each_other_are_dropped() {
        let mut bench = Bench::new();
        let (header, part) = cut(&[1; 100], 0, 50)[0].clone();
        bench.add(1, &(header, part.clone()), Time::ZERO);
        let index = 1;
        let broken = [
            header,
            FragmentHeader {
                index,
                count: 3,
                ..header
            },
            FragmentHeader {
                index,
                segment: SegmentId(8),
                ..header
            },
        ];
        for header in broken {
            assert_eq!(bench.add(1, &(header, part.clone()), Time::ZERO), None);
        }
        let long = (FragmentHeader { index, ..header }, vec![0; LONGEST_FRAME]);
        assert_eq!(bench.add(1, &long, Time::ZERO), None);
        assert_eq!(bench.drops.read(DropReason::FragmentMismatch), 4);
        assert!(
            bench
                .add(1, &(FragmentHeader { index, ..header }, part), Time::ZERO)
                .is_some()
        );
    }

    #[test]
    fn sessions_do_not_mix() {
        let mut bench = Bench::new();
        let parts = cut(&[1; 100], 0, 50);
        assert_eq!(bench.add(1, &parts[0], Time::ZERO), None);
        assert_eq!(bench.add(2, &parts[1], Time::ZERO), None);
        assert_eq!(bench.add(2, &parts[0], Time::ZERO), Some(vec![1; 100]));
    }

    proptest! {
        #[test]
        fn any_frame_is_put_together_from_its_parts_in_any_order(
            frame in proptest::collection::vec(any::<u8>(), 2..4000),
            slack in 0..200usize,
            order in Just([0usize, 1, 2, 3]).prop_shuffle(),
        ) {
            let room = frame.len().div_ceil(4) + slack;
            let parts = cut(&frame, 9, room);
            prop_assert!(parts.iter().all(|(_, part)| part.len() <= room && !part.is_empty()));
            let order: Vec<_> = order.into_iter().filter(|at| *at < parts.len()).collect();
            let (last, first) = order.split_last().expect("at least two parts");
            let mut bench = Bench::new();
            for at in first {
                prop_assert_eq!(bench.add(1, &parts[*at], Time::ZERO), None);
            }
            prop_assert_eq!(bench.add(1, &parts[*last], Time::ZERO), Some(frame));
            prop_assert!(bench.reassembly.incomplete.is_empty());
        }

        #[test]
        fn arbitrary_fragments_stay_within_the_bounds(
            steps in proptest::collection::vec(
                (0..3u32, 0..100u32, 2..=4u8, 0..4u8, 0..100usize, 0..100u64), 0..400,
            ),
        ) {
            let mut bench = Bench::new();
            let mut now = Time::ZERO;
            for (session, id, count, index, len, pause) in steps {
                now += Duration::from_millis(pause);
                let index = index % count;
                let header = FragmentHeader { segment: SEGMENT, id, index, count };
                bench.add(session, &(header, vec![0; len]), now);
                for session in 0..3 {
                    let held = bench.reassembly.incomplete.iter();
                    prop_assert!(held.filter(|frame| frame.session == session).count() <= 64);
                }
            }
        }
    }
}
