//! Identities that more than one host uses, because the disk of one was copied to another.
//!
//! A peer that moves or restarts is seen in another place, or in another life, once. Clones take
//! turns: each new life displaces one that is still heard.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use weave_wire::{PeerId, Time};

/// So many turns within [`WINDOW`] are no coincidence.
const TURNS: usize = 3;
const WINDOW: Duration = Duration::from_secs(300);
/// Peers that are looked after at most.
const MOST_PEERS: usize = 256;

/// Who displaced whom lately.
#[derive(Debug, Default)]
pub(crate) struct Clones {
    turns: BTreeMap<PeerId, VecDeque<Turn>>,
}

#[derive(Debug, Clone, Copy)]
struct Turn {
    at: Time,
    places: Option<[SocketAddr; 2]>,
}

/// An identity in use by more than one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clone {
    /// The identity.
    pub peer: PeerId,
    /// Where its hosts are; none when it is ours.
    pub places: Vec<SocketAddr>,
}

impl Clones {
    /// One life of a peer has displaced another one that was still heard. Of our own we do not
    /// know the places.
    pub(crate) fn note(&mut self, peer: PeerId, places: Option<[SocketAddr; 2]>, now: Time) {
        if self.turns.len() >= MOST_PEERS {
            self.turns
                .retain(|_, turns| turns.back().is_some_and(|turn| is_recent(turn, now)));
        }
        if self.turns.len() >= MOST_PEERS && !self.turns.contains_key(&peer) {
            return;
        }
        let turns = self.turns.entry(peer).or_default();
        turns.push_back(Turn { at: now, places });
        if turns.len() > TURNS {
            turns.pop_front();
        }
        if turns.len() == TURNS {
            tracing::warn!(peer = %peer.name(), "more than one host uses this identity");
        }
    }

    /// The identities that more than one host uses now.
    pub(crate) fn found(&self, now: Time) -> Vec<Clone> {
        let found = self.turns.iter().filter(|(_, turns)| {
            turns.len() == TURNS && turns.iter().all(|turn| is_recent(turn, now))
        });
        found
            .map(|(peer, turns)| {
                let mut places: Vec<_> = turns
                    .iter()
                    .filter_map(|turn| turn.places)
                    .flatten()
                    .collect();
                places.sort_unstable();
                places.dedup();
                Clone {
                    peer: *peer,
                    places,
                }
            })
            .collect()
    }
}

fn is_recent(turn: &Turn, now: Time) -> bool {
    now.saturating_sub(turn.at) < WINDOW
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: PeerId = PeerId([7; 32]);

    fn places() -> Option<[SocketAddr; 2]> {
        Some(["10.0.0.1:6783", "10.0.0.2:6783"].map(|addr| addr.parse().expect("an address")))
    }

    #[test]
    fn a_restart_and_a_move_are_no_clones_and_taking_turns_is() {
        let mut clones = Clones::default();
        for secs in [1, 2] {
            clones.note(PEER, places(), Time::from_secs(secs));
        }
        assert!(clones.found(Time::from_secs(3)).is_empty());
        clones.note(PEER, places(), Time::from_secs(4));
        let found = clones.found(Time::from_secs(5));
        assert_eq!(found[0].places, places().expect("two"));
        assert!(clones.found(Time::from_secs(1) + WINDOW).is_empty());
    }

    #[test]
    fn restarts_over_the_days_do_not_add_up() {
        let mut clones = Clones::default();
        for hour in 1..100 {
            let now = Time::from_secs(hour * 3600);
            clones.note(PEER, places(), now);
            assert!(clones.found(now).is_empty());
        }
    }

    #[test]
    fn what_others_can_make_us_remember_is_bounded() {
        let mut clones = Clones::default();
        for number in 0..2_000_u16 {
            let [a, b] = number.to_be_bytes();
            let mut key = [0; 32];
            key[..2].copy_from_slice(&[a, b]);
            clones.note(PeerId(key), places(), Time::from_secs(1));
        }
        assert_eq!(clones.turns.len(), MOST_PEERS);
    }
}
