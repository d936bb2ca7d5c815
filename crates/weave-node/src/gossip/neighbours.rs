//! Who is told: the peers with a session, their places on the ring, and digest rounds with each.
//!
//! The ring orders all peers by a hash of their key. With many sessions, news go to the next
//! peers on it and to fingers at growing distances, about log2 N of them. Everybody computes
//! this alone; nothing is negotiated.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use blake2::{Blake2s256, Digest};
use weave_wire::{PeerId, Time};

/// Next peers on the ring that are always told.
const SUCCESSORS: usize = 3;
/// Targets on the ring at most.
const MAX_RING: usize = 16;
/// Pause between the windows of a digest round.
const WINDOW_PAUSE: Duration = Duration::from_millis(20);
/// Pause between rounds that a peer brings about.
const ROUND_PAUSE: Duration = Duration::from_secs(1);
/// Bytes per second that one neighbour may pull.
const PULL_RATE: u128 = 4 << 20;
/// Bytes that one neighbour may pull at once.
const PULL_BURST: usize = 256 << 10;
const START: PeerId = PeerId([0; 32]);

/// The place of a peer on the ring.
fn ring_position(peer: &PeerId) -> u64 {
    let mut hash = Blake2s256::new();
    hash.update(b"weave/v1 ring");
    hash.update(peer.0);
    let hash: [u8; 32] = hash.finalize().into();
    let [a, b, c, d, e, f, g, h, ..] = hash;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// Of these peers the `count` nearest to `me` on the ring, half of them on each side.
pub(crate) fn nearest_on_ring(me: &PeerId, peers: &[PeerId], count: usize) -> Vec<PeerId> {
    let here = ring_position(me);
    let mut by_distance: Vec<(u64, PeerId)> = peers
        .iter()
        .map(|peer| (ring_position(peer).wrapping_sub(here), *peer))
        .collect();
    by_distance.sort_unstable();
    if by_distance.len() > count {
        let behind = count / 2;
        let skipped = by_distance.len() - behind;
        by_distance.drain(count - behind..skipped);
    }
    by_distance.into_iter().map(|(_, peer)| peer).collect()
}

#[derive(Debug)]
struct Neighbour {
    /// First key of the next window of the round in progress.
    round: Option<PeerId>,
    window_at: Time,
    /// Begin another round after this one.
    again: bool,
    begun: Time,
    credit: usize,
    credited: Time,
}

/// The peers with a session.
#[derive(Debug)]
pub(super) struct Neighbours {
    me: u64,
    peers: BTreeMap<PeerId, Neighbour>,
    /// All peers by their distance on the ring, in its direction.
    ring: Vec<(u64, PeerId)>,
}

impl Neighbours {
    pub(super) fn new(me: &PeerId) -> Self {
        Self {
            me: ring_position(me),
            peers: BTreeMap::new(),
            ring: Vec::new(),
        }
    }

    pub(super) fn contains(&self, peer: &PeerId) -> bool {
        self.peers.contains_key(peer)
    }

    pub(super) fn peers(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.peers.keys().copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// Adds a peer and begins a digest round with it.
    pub(super) fn add(&mut self, peer: PeerId, now: Time) {
        let neighbour = Neighbour {
            round: Some(START),
            window_at: now,
            again: false,
            begun: now,
            credit: PULL_BURST,
            credited: now,
        };
        self.peers.insert(peer, neighbour);
        let place = (ring_position(&peer).wrapping_sub(self.me), peer);
        if let Err(index) = self.ring.binary_search(&place) {
            self.ring.insert(index, place);
        }
    }

    pub(super) fn remove(&mut self, peer: &PeerId) {
        self.peers.remove(peer);
        self.ring.retain(|(_, held)| held != peer);
    }

    /// All neighbours when there are at most `all`, else those on the ring and the `lonely` ones.
    pub(super) fn targets(&self, all: usize, lonely: impl Fn(&PeerId) -> bool) -> Vec<PeerId> {
        if self.peers.len() <= all {
            return self.peers.keys().copied().collect();
        }
        let on_ring = self.ring_targets();
        let told = self
            .peers
            .keys()
            .filter(|peer| on_ring.contains(peer) || lonely(peer));
        told.copied().collect()
    }

    /// Begins a digest round, after the one in progress if there is one.
    pub(super) fn begin_round(&mut self, peer: &PeerId, now: Time) {
        if let Some(neighbour) = self.peers.get_mut(peer) {
            neighbour.begin_round(now);
        }
    }

    /// Begins a digest round with one neighbour, whichever `pick` hits.
    pub(super) fn begin_round_with_any(&mut self, pick: u64, now: Time) {
        let count = u64::try_from(self.peers.len()).unwrap_or(u64::MAX).max(1);
        let index = usize::try_from(pick % count).unwrap_or(0);
        if let Some(neighbour) = self.peers.values_mut().nth(index) {
            neighbour.begin_round(now);
        }
    }

    /// Begins a digest round, but not soon after the last one.
    pub(super) fn begin_round_later(&mut self, peer: &PeerId, now: Time) {
        if let Some(neighbour) = self.peers.get_mut(peer) {
            neighbour.begin_round(now.max(neighbour.begun + ROUND_PAUSE));
        }
    }

    /// The neighbours whose next digest window is due, and its first key.
    pub(super) fn due_windows(&self, now: Time) -> Vec<(PeerId, PeerId)> {
        let due = self
            .peers
            .iter()
            .filter(|(_, neighbour)| neighbour.window_at <= now);
        due.filter_map(|(peer, neighbour)| Some((*peer, neighbour.round?)))
            .collect()
    }

    /// A window was sent; the round goes on with `next`.
    pub(super) fn window_sent(&mut self, peer: &PeerId, next: Option<PeerId>, now: Time) {
        let Some(neighbour) = self.peers.get_mut(peer) else {
            return;
        };
        neighbour.round = next;
        neighbour.window_at = now + WINDOW_PAUSE;
        if next.is_none() && std::mem::take(&mut neighbour.again) {
            neighbour.begin_round(now + WINDOW_PAUSE);
        }
    }

    /// When the next window is due.
    pub(super) fn next_window(&self) -> Option<Time> {
        let rounds = self
            .peers
            .values()
            .filter(|neighbour| neighbour.round.is_some());
        rounds.map(|neighbour| neighbour.window_at).min()
    }

    /// Takes the length of an answer from a neighbour's share; false when it has none left.
    pub(super) fn spend(&mut self, peer: &PeerId, len: usize, now: Time) -> bool {
        let Some(neighbour) = self.peers.get_mut(peer) else {
            return false;
        };
        let earned = now.saturating_sub(neighbour.credited).as_nanos() * PULL_RATE / 1_000_000_000;
        let earned = usize::try_from(earned).unwrap_or(PULL_BURST);
        let credit = neighbour.credit.saturating_add(earned).min(PULL_BURST);
        neighbour.credited = now;
        neighbour.credit = credit.saturating_sub(len);
        credit >= len
    }

    fn ring_targets(&self) -> BTreeSet<PeerId> {
        let ring = &self.ring;
        let mut targets: BTreeSet<PeerId> = ring
            .iter()
            .take(SUCCESSORS)
            .chain(ring.last())
            .map(|(_, peer)| *peer)
            .collect();
        for bit in (0..u64::BITS).rev() {
            let finger = ring.partition_point(|(distance, _)| *distance < 1 << bit);
            if targets.len() >= MAX_RING || finger < SUCCESSORS {
                break;
            }
            targets.extend(ring.get(finger).map(|(_, peer)| *peer));
        }
        targets
    }
}

impl Neighbour {
    fn begin_round(&mut self, at: Time) {
        if self.round == Some(START) {
            self.window_at = self.window_at.min(at);
            return;
        }
        if self.round.is_some() {
            self.again = true;
            return;
        }
        self.round = Some(START);
        self.window_at = at;
        self.begun = at;
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
    fn in_a_large_mesh_about_log2_are_told_and_the_lonely_ones() {
        let neighbours = mesh(1_000);
        let told = neighbours.targets(50, |_| false);
        assert!((8..=MAX_RING).contains(&told.len()), "{}", told.len());
        let lonely = neighbours
            .peers
            .keys()
            .find(|peer| !told.contains(peer))
            .copied();
        let lonely = lonely.expect("not all are told");
        assert!(
            neighbours
                .targets(50, |peer| *peer == lonely)
                .contains(&lonely)
        );
    }

    #[test]
    fn following_the_ring_reaches_every_peer_in_few_hops() {
        let peers: Vec<_> = (0..300).map(peer).collect();
        let told = |me: &PeerId| {
            let mut neighbours = Neighbours::new(me);
            for other in peers.iter().filter(|other| *other != me) {
                neighbours.add(*other, Time::ZERO);
            }
            neighbours.targets(12, |_| false)
        };
        let mut reached = BTreeSet::from([peer(0)]);
        let mut edge = vec![peer(0)];
        for _ in 0..9 {
            edge = edge
                .iter()
                .flat_map(&told)
                .filter(|peer| reached.insert(*peer))
                .collect();
        }
        assert_eq!(reached.len(), peers.len());
    }

    #[test]
    fn the_nearest_on_the_ring_lie_on_both_sides() {
        let peers: Vec<_> = (1..100).map(peer).collect();
        let here = ring_position(&peer(0));
        let near = nearest_on_ring(&peer(0), &peers, 16);
        assert_eq!(near.len(), 16);
        let ahead = |peer: &&PeerId| ring_position(peer).wrapping_sub(here) < 1 << 63;
        assert_eq!(near.iter().filter(ahead).count(), 8);
        assert_eq!(nearest_on_ring(&peer(0), &peers[..5], 16).len(), 5);
    }

    #[test]
    fn a_neighbour_gets_no_more_than_its_share() {
        let mut neighbours = mesh(3);
        let answer = 16 << 10;
        let granted = (0..100)
            .filter(|_| neighbours.spend(&peer(1), answer, Time::ZERO))
            .count();
        assert_eq!(granted, 16);
        assert!(neighbours.spend(&peer(2), answer, Time::ZERO));
        assert!(neighbours.spend(&peer(1), answer, Time::from_secs(1)));
        assert!(!neighbours.spend(&peer(9), 1, Time::from_secs(1)));
    }

    #[test]
    fn a_round_asked_for_during_a_round_follows_it() {
        let mut neighbours = mesh(2);
        let second = Time::from_secs(1);
        assert_eq!(neighbours.due_windows(Time::ZERO), [(peer(1), START)]);
        neighbours.window_sent(&peer(1), Some(peer(9)), Time::ZERO);
        neighbours.begin_round(&peer(1), Time::ZERO);
        assert_eq!(neighbours.due_windows(second), [(peer(1), peer(9))]);
        neighbours.window_sent(&peer(1), None, Time::ZERO);
        assert_eq!(neighbours.due_windows(second), [(peer(1), START)]);
        neighbours.window_sent(&peer(1), None, second);
        assert!(neighbours.due_windows(Time::from_secs(2)).is_empty());
    }

    #[test]
    fn a_round_put_off_begins_at_once_when_we_have_news_ourselves() {
        let mut neighbours = mesh(2);
        neighbours.window_sent(&peer(1), None, Time::ZERO);
        let now = Time::from_millis(100);
        neighbours.begin_round_later(&peer(1), now);
        assert!(neighbours.due_windows(now).is_empty());
        assert_eq!(neighbours.next_window(), Some(Time::from_secs(1)));
        neighbours.begin_round(&peer(1), now);
        assert_eq!(neighbours.due_windows(now), [(peer(1), START)]);
    }
}
