//! The ring: an order of all peers by a hash of their keys, from which everybody computes alone,
//! without negotiation, who is whose neighbour.
//!
//! A peer's neighbours are the next ones on the ring, the one before it, and fingers at halved
//! distances: about log2 N of them, so that news reach everybody in about as many hops, and so
//! that a mesh of which any half is gone still hangs together (Chord, Stoica et al. 2001).
//!
//! Does not know who has a session or is alive: whoever holds a ring puts in whom it means.

use std::collections::BTreeSet;

use blake2::{Blake2s256, Digest};
use weave_wire::PeerId;

/// Next peers on the ring that are always neighbours.
const SUCCESSORS: usize = 3;
/// Neighbours at most.
const MAX_NEIGHBOURS: usize = 16;

/// Peers by their place on the ring.
#[derive(Debug, Default, Clone)]
pub(crate) struct Ring {
    /// Ascending.
    places: Vec<(u64, PeerId)>,
}

impl Ring {
    /// Puts a peer in, once.
    pub(crate) fn insert(&mut self, peer: PeerId) {
        let place = (position(&peer), peer);
        if let Err(index) = self.places.binary_search(&place) {
            self.places.insert(index, place);
        }
    }

    /// Takes a peer out.
    pub(crate) fn remove(&mut self, peer: &PeerId) {
        if let Ok(index) = self.places.binary_search(&(position(peer), *peer)) {
            self.places.remove(index);
        }
    }

    /// How many peers there are.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// The neighbours of a peer, be it on the ring itself or not.
    pub(crate) fn neighbours(&self, peer: &PeerId) -> BTreeSet<PeerId> {
        let here = position(peer);
        let others = self.len() - usize::from(self.places.binary_search(&(here, *peer)).is_ok());
        let nearest = self.after(here).filter(|other| other != peer);
        let mut chosen: BTreeSet<PeerId> = nearest.take(SUCCESSORS.min(others)).collect();
        if others <= SUCCESSORS {
            return chosen;
        }
        for bit in (0..u64::BITS).rev() {
            if chosen.len() + 1 >= MAX_NEIGHBOURS {
                break;
            }
            let mut finger = self.after(here.wrapping_add(1 << bit));
            chosen.extend(finger.find(|other| other != peer));
        }
        chosen.extend(self.before(here).find(|other| other != peer));
        chosen
    }

    /// The `count` peers nearest to one that is not on the ring, half of them on each side.
    pub(crate) fn nearest(&self, peer: &PeerId, count: usize) -> Vec<PeerId> {
        let here = position(peer);
        if self.len() <= count {
            return self.after(here).collect();
        }
        let behind = count / 2;
        let ahead = self.after(here).take(count - behind);
        ahead.chain(self.before(here).take(behind)).collect()
    }

    /// All peers once round the ring, from this place on.
    fn after(&self, place: u64) -> impl Iterator<Item = PeerId> + '_ {
        let index = self.places.partition_point(|(at, _)| *at < place);
        let (before, after) = self.places.split_at(index);
        after.iter().chain(before).map(|(_, peer)| *peer)
    }

    /// The same the other way round.
    fn before(&self, place: u64) -> impl Iterator<Item = PeerId> + '_ {
        let index = self.places.partition_point(|(at, _)| *at < place);
        let (before, after) = self.places.split_at(index);
        let backwards = before.iter().rev().chain(after.iter().rev());
        backwards.map(|(_, peer)| *peer)
    }
}

impl Extend<PeerId> for Ring {
    fn extend<T: IntoIterator<Item = PeerId>>(&mut self, peers: T) {
        peers.into_iter().for_each(|peer| self.insert(peer));
    }
}

impl FromIterator<PeerId> for Ring {
    fn from_iter<T: IntoIterator<Item = PeerId>>(peers: T) -> Self {
        let mut places: Vec<_> = peers
            .into_iter()
            .map(|peer| (position(&peer), peer))
            .collect();
        places.sort_unstable();
        places.dedup();
        Self { places }
    }
}

/// The place of a peer on the ring.
fn position(peer: &PeerId) -> u64 {
    let mut hash = Blake2s256::new();
    hash.update(b"weave/v1 ring");
    hash.update(peer.0);
    let hash: [u8; 32] = hash.finalize().into();
    let [a, b, c, d, e, f, g, h, ..] = hash;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
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

    fn ring(count: u16) -> Ring {
        (0..count).map(peer).collect()
    }

    #[test]
    fn everybody_is_a_neighbour_on_a_small_ring() {
        for count in 1..=4 {
            let neighbours = ring(count).neighbours(&peer(0));
            assert_eq!(neighbours, (1..count).map(peer).collect());
        }
    }

    #[test]
    fn on_a_large_ring_there_are_about_log2_neighbours() {
        let ring = ring(1_000);
        for number in 0..1_000 {
            let neighbours = ring.neighbours(&peer(number));
            assert!((8..=MAX_NEIGHBOURS).contains(&neighbours.len()));
            assert!(!neighbours.contains(&peer(number)));
        }
    }

    #[test]
    fn a_peer_that_is_not_on_the_ring_has_the_neighbours_it_would_have() {
        let mut ring = ring(300);
        let with = ring.neighbours(&peer(5));
        ring.remove(&peer(5));
        assert_eq!(ring.neighbours(&peer(5)), with);
        ring.insert(peer(5));
        ring.insert(peer(5));
        assert_eq!(ring.len(), 300);
    }

    #[test]
    fn following_neighbours_reaches_everyone_in_few_hops_and_nearly_so_when_half_are_gone() {
        let ring = ring(1_000);
        for (gone, hops, least) in [(0, 8, 1_000), (2, 12, 475)] {
            let alive = |peer: &PeerId| gone == 0 || peer.0[1].is_multiple_of(gone);
            let mut reached = BTreeSet::from([peer(0)]);
            let mut edge = vec![peer(0)];
            for _ in 0..hops {
                let next = edge.iter().flat_map(|peer| ring.neighbours(peer));
                edge = next
                    .filter(|peer| alive(peer) && reached.insert(*peer))
                    .collect();
            }
            assert!(reached.len() >= least, "{}", reached.len());
        }
    }

    #[test]
    fn the_nearest_lie_on_both_sides() {
        let mut ring = ring(100);
        ring.remove(&peer(0));
        let here = position(&peer(0));
        let near = ring.nearest(&peer(0), 16);
        assert_eq!(near.len(), 16);
        let ahead = |peer: &&PeerId| position(peer).wrapping_sub(here) < 1 << 63;
        assert_eq!(near.iter().filter(ahead).count(), 8);
        let few: Ring = (1..6).map(peer).collect();
        assert_eq!(few.nearest(&peer(0), 16).len(), 5);
    }
}
