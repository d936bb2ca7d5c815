//! Who is in the mesh right now.
//!
//! A peer lives when it can be reached from here: over our own sessions, and from each peer
//! reached over the sessions that its record names. The edges are directed, so what a vanished
//! peer once said about its sessions keeps nobody alive: nobody who is reached names it.
//!
//! Does not know why a session ended, and removes nothing: a peer that is not live is hidden.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use weave_wire::codec::MAX_NEIGHBOURS;
use weave_wire::proto::PeerRecord;
use weave_wire::{PeerId, from_proto_addr};

use crate::gossip::Logs;
use crate::ring::Ring;

/// Places in a record that peers with few sessions may take; hardly anyone else names them.
const FOR_LONELY: usize = MAX_NEIGHBOURS / 2;
/// Sessions of a peer that are few, where everybody is to have one with everybody, and where not.
const FEW: u32 = 16;
const FEW_OF_MANY: u32 = 3;

/// What peers say about themselves.
pub(crate) trait Records {
    /// The record of a peer.
    fn record(&self, peer: &PeerId) -> Option<&PeerRecord>;
}

impl Records for Logs {
    fn record(&self, peer: &PeerId) -> Option<&PeerRecord> {
        self.peer_record(peer)
    }
}

/// The sessions that each peer's record names, by the beginnings of their keys: close together, for
/// in a large mesh they are walked often.
#[derive(Debug, Default)]
pub(crate) struct Edges(BTreeMap<PeerId, Vec<[u8; 8]>>);

impl Edges {
    /// A peer says this of itself now.
    pub(crate) fn set(&mut self, peer: PeerId, record: Option<&PeerRecord>) {
        let Some(record) = record else {
            self.0.remove(&peer);
            return;
        };
        let named = record.neighbours.iter();
        let named = named.filter_map(|short| short.as_slice().try_into().ok());
        self.0.insert(peer, named.collect());
    }

    /// The live peers: those that can be reached from `me`, itself included, and are not
    /// `banned`.
    pub(crate) fn live(
        &self,
        me: &PeerId,
        sessions: &BTreeSet<PeerId>,
        banned: impl Fn(&PeerId) -> bool,
    ) -> BTreeSet<PeerId> {
        let mut reached = BTreeSet::from([*me]);
        reached.extend(sessions);
        let mut edge: Vec<PeerId> = sessions.iter().copied().collect();
        let known = self.0.keys().filter(|peer| !banned(peer));
        let mut others: BTreeMap<[u8; 8], Vec<PeerId>> = BTreeMap::new();
        for peer in known.filter(|peer| !reached.contains(peer)) {
            others.entry(peer.short()).or_default().push(*peer);
        }
        // mostly everybody has a session with everybody, and there is nobody else to look for
        while !others.is_empty()
            && let Some(peer) = edge.pop()
        {
            for short in self.0.get(&peer).into_iter().flatten() {
                let found = others.remove(short).unwrap_or_default();
                reached.extend(&found);
                edge.extend(found);
            }
        }
        reached
    }
}

/// Where others say that they have seen this peer.
pub(crate) fn addresses(records: &impl Records, peer: &PeerId) -> Vec<SocketAddr> {
    let addresses = records
        .record(peer)
        .map_or(&[][..], |record| &record.addresses);
    addresses
        .iter()
        .filter_map(|addr| from_proto_addr(addr).ok())
        .collect()
}

/// The sessions that our record names: those with peers that have few others, with our neighbours
/// on the ring, and with the nearest on it.
pub(crate) fn named_neighbours(
    me: &PeerId,
    sessions: &BTreeSet<PeerId>,
    is_large: bool,
    records: &impl Records,
) -> Vec<Vec<u8>> {
    let mut named = sessions.clone();
    if sessions.len() > MAX_NEIGHBOURS {
        named = lonely(sessions, is_large, records).into_iter().collect();
        let mut others: Ring = sessions.difference(&named).copied().collect();
        for peer in others.neighbours(me) {
            if named.len() < MAX_NEIGHBOURS {
                named.insert(peer);
                others.remove(&peer);
            }
        }
        named.extend(others.nearest(me, MAX_NEIGHBOURS - named.len()));
    }
    named.iter().map(|peer| peer.short().to_vec()).collect()
}

/// Whether hardly anyone else has a session with this peer, as far as it says.
pub(crate) fn is_lonely(peer: &PeerId, is_large: bool, records: &impl Records) -> bool {
    let few = if is_large { FEW_OF_MANY } else { FEW };
    records
        .record(peer)
        .is_none_or(|record| record.sessions <= few)
}

fn lonely(sessions: &BTreeSet<PeerId>, is_large: bool, records: &impl Records) -> Vec<PeerId> {
    let count = |peer: &PeerId| records.record(peer).map_or(0, |record| record.sessions);
    let lonely = sessions
        .iter()
        .filter(|peer| is_lonely(peer, is_large, records));
    let mut lonely: Vec<_> = lonely.map(|peer| (count(peer), *peer)).collect();
    lonely.sort_unstable();
    lonely.truncate(FOR_LONELY);
    lonely.into_iter().map(|(_, peer)| peer).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    type Map = BTreeMap<PeerId, PeerRecord>;

    impl Records for Map {
        fn record(&self, peer: &PeerId) -> Option<&PeerRecord> {
            self.get(peer)
        }
    }

    fn live(me: &PeerId, sessions: &BTreeSet<PeerId>, records: &Map) -> BTreeSet<PeerId> {
        let mut edges = Edges::default();
        for (peer, record) in records {
            edges.set(*peer, Some(record));
        }
        edges.live(me, sessions, |_| false)
    }

    fn peer(number: u8) -> PeerId {
        PeerId([number; 32])
    }

    fn peers(numbers: &[u8]) -> BTreeSet<PeerId> {
        numbers.iter().map(|number| peer(*number)).collect()
    }

    /// Each row: a peer, and whom its record names.
    fn records(rows: &[(u8, &[u8])]) -> Map {
        rows.iter()
            .map(|(number, named)| {
                let neighbours = named
                    .iter()
                    .map(|other| peer(*other).short().to_vec())
                    .collect();
                let sessions = u32::try_from(named.len()).unwrap();
                (
                    peer(*number),
                    PeerRecord {
                        neighbours,
                        sessions,
                        ..PeerRecord::default()
                    },
                )
            })
            .collect()
    }

    #[test]
    fn alone_only_we_are_live() {
        let records = records(&[(2, &[3]), (3, &[1, 2])]);
        assert_eq!(live(&peer(1), &peers(&[]), &records), peers(&[1]));
    }

    #[test]
    fn a_chain_is_reached_to_its_end() {
        let records = records(&[(2, &[1, 3]), (3, &[2, 4]), (4, &[3])]);
        assert_eq!(live(&peer(1), &peers(&[2]), &records), peers(&[1, 2, 3, 4]));
    }

    #[test]
    fn a_peer_with_a_session_lives_before_its_record_is_known() {
        assert_eq!(live(&peer(1), &peers(&[2]), &Map::new()), peers(&[1, 2]));
    }

    #[test]
    fn what_a_dead_peer_said_keeps_nobody_alive() {
        let records = records(&[(2, &[1]), (3, &[4, 1, 2]), (4, &[3, 2])]);
        assert_eq!(live(&peer(1), &peers(&[2]), &records), peers(&[1, 2]));
    }

    #[test]
    fn when_a_chain_breaks_everything_behind_is_hidden_and_comes_back_whole() {
        let mut known = records(&[(2, &[1, 3]), (3, &[2, 4]), (4, &[3])]);
        known.extend(records(&[(2, &[1])]));
        assert_eq!(live(&peer(1), &peers(&[2]), &known), peers(&[1, 2]));
        known.extend(records(&[(2, &[1, 3])]));
        assert_eq!(live(&peer(1), &peers(&[2]), &known), peers(&[1, 2, 3, 4]));
    }

    #[test]
    fn both_halves_of_a_split_mesh_see_themselves_only() {
        let left: &[u8] = &[1, 2, 3];
        let right: &[u8] = &[4, 5, 6];
        let rows: Vec<_> = left.iter().map(|n| (*n, left)).collect();
        let stale: Vec<_> = right
            .iter()
            .map(|n| (*n, &[1, 2, 3, 4, 5, 6][..]))
            .collect();
        let known = records(&[rows, stale].concat());
        assert_eq!(live(&peer(1), &peers(&[2, 3]), &known), peers(left));
    }

    #[test]
    fn malformed_names_of_neighbours_reach_nobody() {
        let mut known = records(&[(2, &[]), (3, &[])]);
        let two = known.get_mut(&peer(2)).expect("known");
        two.neighbours = vec![Vec::new(), vec![3], vec![3; 32]];
        assert_eq!(live(&peer(1), &peers(&[2]), &known), peers(&[1, 2]));
    }

    #[test]
    fn a_record_names_at_most_sixteen_sessions_the_lonely_ones_among_them() {
        let many: Vec<u8> = (1..=100).collect();
        let mut known: Map = many
            .iter()
            .flat_map(|number| records(&[(*number, &many)]))
            .collect();
        known.extend(records(&[(77, &[0])]));
        let named = named_neighbours(&peer(0), &peers(&many), false, &known);
        assert_eq!(named.len(), 16);
        assert!(named.contains(&peer(77).short().to_vec()));
        assert_eq!(
            named_neighbours(&peer(0), &peers(&many[..16]), false, &known).len(),
            16
        );
        assert!(named_neighbours(&peer(0), &peers(&[]), false, &known).is_empty());
    }

    #[test]
    fn a_fully_connected_mesh_reaches_everyone_though_records_name_only_some() {
        let all: BTreeSet<_> = (0..200).map(peer).collect();
        let mut known = Map::new();
        for me in &all {
            let mut sessions = all.clone();
            sessions.remove(me);
            let neighbours = named_neighbours(me, &sessions, false, &known);
            known.insert(
                *me,
                PeerRecord {
                    neighbours,
                    sessions: 199,
                    ..PeerRecord::default()
                },
            );
        }
        assert_eq!(live(&peer(0), &peers(&[1]), &known).len(), all.len());
    }

    #[test]
    fn unusable_addresses_of_a_peer_are_left_out() {
        let mut known = records(&[(2, &[])]);
        let good: SocketAddr = "192.0.2.7:6783".parse().expect("an address");
        let bad = weave_wire::proto::SocketAddress {
            ip: vec![1],
            port: 6783,
        };
        let two = known.get_mut(&peer(2)).expect("known");
        two.addresses = vec![bad, weave_wire::proto_addr(good)];
        assert_eq!(addresses(&known, &peer(2)), [good]);
        assert!(addresses(&known, &peer(3)).is_empty());
    }
}
