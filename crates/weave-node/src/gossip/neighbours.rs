//! Who is told: the peers with a session, their places on the ring, and what is to be compared
//! with each.
//!
//! With many sessions, news go to the neighbours on the ring only. What was lost on the way is
//! found by comparing: a summary shows in which parts of the key space two peers differ, and
//! digests of these parts show where.

use std::collections::BTreeMap;
use std::time::Duration;

use weave_wire::{PeerId, Time};

use super::summary::{first_key, last_key, part_of};
use crate::ring::Ring;

/// Pause between the windows of a round of digests.
const WINDOW_PAUSE: Duration = Duration::from_millis(20);
/// Pause between rounds that a peer brings about.
const ROUND_PAUSE: Duration = Duration::from_secs(1);
/// Neighbours that digests are sent to at a time: in a mesh that has just started all differ from
/// all, and what one sends settles most of what is to be said to the others.
const COMPARED: usize = 4;
/// Bytes per second that one neighbour may pull, and all together.
const PULL_RATE: u128 = 4 << 20;
const PULL_RATE_OF_ALL: u128 = 16 << 20;
/// Bytes that one neighbour may pull at once, and all together.
const PULL_BURST: usize = 256 << 10;
const PULL_BURST_OF_ALL: usize = 4 << 20;
/// Neighbours that are few.
const FEW: usize = 12;
/// Peers beside the ring that are told because hardly anyone else would, at most.
const MAX_LONELY: usize = 32;

/// What is to be sent to a neighbour next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// What we hold, in short.
    Summary,
    /// How far we hold the logs between two keys.
    Window(PeerId, PeerId),
}

#[derive(Debug)]
struct Neighbour {
    summary_at: Option<Time>,
    /// The parts, as bits, whose digests are to be sent.
    parts: u64,
    /// Where the lowest of them goes on.
    next: Option<PeerId>,
    window_at: Time,
    /// Parts to be sent once the pause since `begun` is over.
    later: u64,
    begun: Time,
    budget: Budget,
}

/// Bytes that may be sent on request.
#[derive(Debug)]
struct Budget {
    credit: usize,
    at: Time,
    rate: u128,
    burst: usize,
}

/// The peers with a session.
#[derive(Debug)]
pub(super) struct Neighbours {
    me: PeerId,
    peers: BTreeMap<PeerId, Neighbour>,
    /// Nothing is to be sent to any of them before.
    due_at: Option<Time>,
    ring: Ring,
    budget: Budget,
}

impl Neighbours {
    pub(super) fn new(me: &PeerId) -> Self {
        Self {
            me: *me,
            peers: BTreeMap::new(),
            due_at: None,
            ring: Ring::default(),
            budget: Budget::new(PULL_RATE_OF_ALL, PULL_BURST_OF_ALL, Time::ZERO),
        }
    }

    pub(super) fn contains(&self, peer: &PeerId) -> bool {
        self.peers.contains_key(peer)
    }

    pub(super) fn peers(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.peers.keys().copied()
    }

    pub(super) fn len(&self) -> usize {
        self.peers.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// Adds a peer, to be sent a summary: with many neighbours by the one with the lower key first,
    /// for it is enough that one side begins.
    pub(super) fn add(&mut self, peer: PeerId, now: Time) {
        let is_first = self.me < peer || self.peers.len() < FEW;
        let wait = if is_first {
            Duration::ZERO
        } else {
            ROUND_PAUSE
        };
        let neighbour = Neighbour {
            summary_at: Some(now + wait),
            parts: 0,
            next: None,
            window_at: now,
            later: 0,
            begun: now,
            budget: Budget::new(PULL_RATE, PULL_BURST, now),
        };
        self.due_at = earlier(self.due_at, neighbour.next_due());
        self.peers.insert(peer, neighbour);
        self.ring.insert(peer);
    }

    pub(super) fn remove(&mut self, peer: &PeerId) {
        self.peers.remove(peer);
        self.ring.remove(peer);
    }

    /// All neighbours when there are at most `all`, else those on the ring and `lonely` ones.
    pub(super) fn targets(&self, all: usize, lonely: impl Fn(&PeerId) -> bool) -> Vec<PeerId> {
        if self.peers.len() <= all {
            return self.peers.keys().copied().collect();
        }
        let on_ring = self.ring.neighbours(&self.me);
        let others = self.peers.keys().filter(|peer| !on_ring.contains(peer));
        let lonely = others.filter(|peer| lonely(peer)).take(MAX_LONELY);
        on_ring.iter().chain(lonely).copied().collect()
    }

    /// Sends a summary.
    pub(super) fn begin_round(&mut self, peer: &PeerId, now: Time) {
        if let Some(neighbour) = self.peers.get_mut(peer) {
            let at = neighbour.summary_at.get_or_insert(now);
            *at = now.min(*at);
            self.due_at = earlier(self.due_at, neighbour.next_due());
        }
    }

    /// Sends a summary to one neighbour, whichever `pick` hits.
    pub(super) fn begin_round_with_any(&mut self, pick: u64, now: Time) {
        let count = u64::try_from(self.peers.len()).unwrap_or(u64::MAX).max(1);
        let index = usize::try_from(pick % count).unwrap_or(0);
        if let Some(peer) = self.peers.keys().nth(index).copied() {
            self.begin_round(&peer, now);
        }
    }

    /// Sends digests of these parts, but not soon after the last ones. While a few others are sent
    /// some it waits, and begins with a summary again: by then there may be no difference any more.
    pub(super) fn send_parts(&mut self, peer: &PeerId, parts: u64, now: Time) {
        if parts == 0 {
            return;
        }
        let others = self.peers.iter().filter(|(other, _)| *other != peer);
        let are_enough = others.filter(|(_, it)| it.is_compared()).count() >= COMPARED;
        let Some(neighbour) = self.peers.get_mut(peer) else {
            return;
        };
        if are_enough && !neighbour.is_compared() {
            neighbour.summary_at.get_or_insert(now + ROUND_PAUSE);
        } else {
            neighbour.later |= parts;
            neighbour.begin_parts(now);
        }
        self.due_at = earlier(self.due_at, neighbour.next_due());
    }

    /// What is due, one message for each neighbour; of a window it is to be told that it was sent.
    pub(super) fn due(&mut self, now: Time) -> Vec<(PeerId, Due)> {
        if self.due_at.is_none_or(|at| at > now) {
            return Vec::new();
        }
        self.due_at = None;
        let mut all = Vec::new();
        for (peer, neighbour) in &mut self.peers {
            let due = neighbour.due(now);
            if !matches!(due, Some(Due::Window(..))) {
                self.due_at = earlier(self.due_at, neighbour.next_due());
            }
            all.extend(due.map(|due| (*peer, due)));
        }
        all
    }

    /// A window of a part was sent; it goes on with `next`.
    pub(super) fn window_sent(&mut self, peer: &PeerId, next: Option<PeerId>, now: Time) {
        if let Some(neighbour) = self.peers.get_mut(peer) {
            neighbour.window_at = now + WINDOW_PAUSE;
            neighbour.next = next;
            let done = match next {
                Some(next) => u64::MAX.checked_shl(part_of(&next)),
                None => u64::MAX.checked_shl(neighbour.run_end() + 1),
            };
            neighbour.parts &= done.unwrap_or(0);
            self.due_at = earlier(self.due_at, neighbour.next_due());
        }
    }

    /// All that there is to compare was sent.
    pub(super) fn all_sent(&mut self, peer: &PeerId, now: Time) {
        if let Some(neighbour) = self.peers.get_mut(peer) {
            neighbour.summary_at = None;
            (neighbour.parts, neighbour.next) = (0, None);
            neighbour.window_at = now + WINDOW_PAUSE;
            self.due_at = earlier(self.due_at, neighbour.next_due());
        }
    }

    /// When the next message is due.
    pub(super) fn next_due(&self) -> Option<Time> {
        self.due_at
    }

    /// Takes the length of an answer from a neighbour's share; false when it has none left.
    pub(super) fn spend(&mut self, peer: &PeerId, len: usize, now: Time) -> bool {
        let Some(neighbour) = self.peers.get_mut(peer) else {
            return false;
        };
        neighbour.budget.spend(len, now) && self.budget.spend(len, now)
    }
}

impl Neighbour {
    fn due(&mut self, now: Time) -> Option<Due> {
        if self.summary_at.is_some_and(|at| at <= now) {
            self.summary_at = None;
            return Some(Due::Summary);
        }
        self.begin_parts(now);
        if self.parts == 0 || self.window_at > now {
            return None;
        }
        let first = first_key(self.parts.trailing_zeros());
        let last = last_key(self.run_end());
        Some(Due::Window(self.next.unwrap_or(first), last))
    }

    /// Whether digests are being sent to it, or soon will be.
    const fn is_compared(&self) -> bool {
        (self.parts | self.later) != 0
    }

    /// The last of the parts to be sent that follow the lowest one without a gap.
    fn run_end(&self) -> u32 {
        let first = self.parts.trailing_zeros();
        let run = self.parts.checked_shr(first).unwrap_or(0);
        (first + run.trailing_ones()).saturating_sub(1)
    }

    fn next_due(&self) -> Option<Time> {
        let window = (self.parts != 0).then_some(self.window_at);
        let later = (self.later != 0).then_some(self.begun + ROUND_PAUSE);
        [self.summary_at, window, later].into_iter().flatten().min()
    }

    fn begin_parts(&mut self, now: Time) {
        if self.later == 0 || (self.begun + ROUND_PAUSE > now && self.begun > Time::ZERO) {
            return;
        }
        // the part in progress begins anew if it is among them
        let current = self.parts & self.parts.wrapping_neg();
        if self.later & current != 0 || self.later.trailing_zeros() < current.trailing_zeros() {
            self.next = None;
        }
        self.parts |= std::mem::take(&mut self.later);
        self.begun = now;
    }
}

/// The earlier of two times, if there is any.
fn earlier(one: Option<Time>, other: Option<Time>) -> Option<Time> {
    one.into_iter().chain(other).min()
}

impl Budget {
    const fn new(rate: u128, burst: usize, now: Time) -> Self {
        Self {
            credit: burst,
            at: now,
            rate,
            burst,
        }
    }

    fn spend(&mut self, len: usize, now: Time) -> bool {
        let earned = now.saturating_sub(self.at).as_nanos() * self.rate / 1_000_000_000;
        let earned = usize::try_from(earned).unwrap_or(self.burst);
        let credit = self.credit.saturating_add(earned).min(self.burst);
        self.at = now;
        self.credit = credit.saturating_sub(len);
        credit >= len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u16) -> PeerId {
        let [a, b] = number.to_be_bytes();
        let mut key = [7; 32];
        key[..2].copy_from_slice(&[a, b]);
        PeerId(key)
    }

    fn mesh(count: u16) -> Neighbours {
        let mut neighbours = Neighbours::new(&peer(0));
        for number in 1..count {
            neighbours.add(peer(number), Time::ZERO);
        }
        neighbours
    }

    #[test]
    fn in_a_small_mesh_everyone_is_told() {
        assert_eq!(mesh(51).targets(50, |_| false).len(), 50);
    }

    #[test]
    fn in_a_large_mesh_about_log2_are_told_and_some_lonely_ones() {
        let neighbours = mesh(1_000);
        let told = neighbours.targets(50, |_| false);
        assert!((8..=16).contains(&told.len()), "{}", told.len());
        let others = neighbours.peers.keys().find(|peer| !told.contains(peer));
        let lonely = others.copied().expect("not all are told");
        let told = neighbours.targets(50, |peer| *peer == lonely);
        assert!(told.contains(&lonely));
        assert!(neighbours.targets(50, |_| true).len() <= 16 + MAX_LONELY);
    }

    #[test]
    fn a_neighbour_gets_no_more_than_its_share_and_all_no_more_than_theirs() {
        let mut neighbours = mesh(100);
        let answer = 16 << 10;
        let granted = |neighbours: &mut Neighbours, peer: PeerId, now| {
            let tries = 0..100;
            tries
                .filter(|_| neighbours.spend(&peer, answer, now))
                .count()
        };
        assert_eq!(granted(&mut neighbours, peer(1), Time::ZERO), 16);
        assert!(neighbours.spend(&peer(2), answer, Time::ZERO));
        assert!(neighbours.spend(&peer(1), answer, Time::from_secs(1)));
        assert!(!neighbours.spend(&peer(0), 1, Time::from_secs(1)));
        let now = Time::from_secs(2);
        let all: usize = (1..100)
            .map(|number| granted(&mut neighbours, peer(number), now))
            .sum();
        assert_eq!(all, PULL_BURST_OF_ALL / answer);
    }

    #[test]
    fn parts_are_sent_window_by_window_and_not_again_within_the_pause() {
        let mut neighbours = mesh(2);
        let (one, now) = (peer(1), Time::from_secs(5));
        assert_eq!(neighbours.due(now), [(one, Due::Summary)]);
        assert!(neighbours.due(now).is_empty() && neighbours.next_due().is_none());
        neighbours.send_parts(&one, 0b1011, now);
        let window = |first, last| (one, Due::Window(first, last_key(last)));
        assert_eq!(neighbours.due(now), [window(first_key(0), 1)]);
        neighbours.window_sent(&one, Some(first_key(1)), now);
        assert!(neighbours.due(now).is_empty());
        let now = now + WINDOW_PAUSE;
        assert_eq!(neighbours.due(now), [window(first_key(1), 1)]);
        neighbours.window_sent(&one, None, now);
        neighbours.send_parts(&one, 0b1, now);
        let now = now + WINDOW_PAUSE;
        assert_eq!(neighbours.due(now), [window(first_key(3), 3)]);
        neighbours.window_sent(&one, None, now);
        assert_eq!(neighbours.next_due(), Some(Time::from_secs(6)));
        let now = Time::from_secs(6);
        assert_eq!(neighbours.due(now), [window(first_key(0), 0)]);
        neighbours.all_sent(&one, now);
        assert!(neighbours.next_due().is_none());
    }

    #[test]
    fn a_few_are_compared_with_at_a_time_and_the_others_asked_again() {
        let mut neighbours = mesh(8);
        let now = Time::from_secs(5);
        neighbours.due(now);
        for number in 1..8 {
            neighbours.send_parts(&peer(number), 0b1, now);
        }
        let due = neighbours.due(now);
        let windows = due.iter().filter(|(_, due)| *due != Due::Summary);
        assert_eq!((due.len(), windows.count()), (COMPARED, COMPARED));
        for (peer, _) in due {
            neighbours.window_sent(&peer, None, now);
        }
        let next = now + ROUND_PAUSE;
        assert_eq!(neighbours.next_due(), Some(next));
        let due = neighbours.due(next);
        assert_eq!(due.len(), 7 - COMPARED);
        assert!(due.iter().all(|(_, due)| *due == Due::Summary));
        neighbours.send_parts(&peer(7), 0b1, next);
        assert!(!neighbours.due(next).is_empty(), "there is room now");
    }
}
