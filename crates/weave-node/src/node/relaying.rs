//! What circuits mean for the rest of the node: who is to be reached through whom, and how
//! datagrams for the address of a circuit travel.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use weave_wire::{Circuit, PeerId, RELAY_LEN, Time};

use super::Node;
use crate::forward::{CircuitEnd, FibCircuit, Hop, MOST_HOPS, inner, wrap};
use crate::relays::{Lead, RelayAction};
use crate::session::{ConnectionState, ConnectionStatus, Transmit};

impl Node {
    /// The peers with a direct session that works.
    pub(super) fn direct(&self, now: Time) -> BTreeSet<PeerId> {
        let works =
            |peer: &&PeerId| self.sessions.is_direct(peer) && !self.sessions.is_silent(peer, now);
        self.reached.iter().filter(works).copied().collect()
    }

    pub(super) fn route_relay(&mut self, action: RelayAction, now: Time) {
        match action {
            RelayAction::Send { to, body } => {
                self.sessions.send(&to, body, now);
            }
            RelayAction::Dial { target, circuit } => {
                let works =
                    self.reached.contains(&target) && !self.sessions.is_silent(&target, now);
                if !works {
                    self.sessions.try_at(circuit.addr(), now);
                }
            }
            RelayAction::Changed => self.dirty.fib = true,
        }
    }

    /// Tells whom to reach through relays: known peers without a direct path, for each pair the
    /// one with the lower static key, which is also the one that decides which session is used.
    pub(super) fn settle_relays(&mut self, now: Time) {
        let sessions = &self.sessions;
        self.silent.retain(|peer| sessions.is_silent(peer, now));
        let direct = self.direct(now);
        let ours = self.sessions.static_public();
        // in a large mesh the other one may not want it
        let alone = self.neighbourhood.is_large();
        let peers = self.find_wanted(now);
        let lacking = peers.into_iter().filter(|origin| {
            let record = self.logs.peer_record(origin);
            let is_higher = record.is_some_and(|record| record.static_key.as_slice() > &ours[..]);
            let is_lacking = !direct.contains(origin) && !self.bans.contains(origin);
            *origin != self.me && is_lacking && (is_higher || alone) && self.fits(origin)
        });
        let wanted: BTreeMap<_, _> = lacking
            .map(|target| (target, self.relays_to(&target, now)))
            .filter(|(_, relays)| !relays.is_empty())
            .collect();
        self.relays.set_wanted(wanted, &self.reached, now);
    }

    /// Peers that have a direct session with this one, as they say, the nearest to us first.
    fn relays_to(&self, target: &PeerId, now: Time) -> Vec<PeerId> {
        let short = target.short();
        let names = |peer: &PeerId| {
            let record = self.logs.peer_record(peer);
            record.is_some_and(|record| record.neighbours.iter().any(|one| *one == short))
        };
        let works = |peer: &PeerId| peer != target && !self.sessions.is_silent(peer, now);
        let mut relays: Vec<_> = self
            .reached
            .iter()
            .filter(|peer| works(peer) && names(peer))
            .map(|peer| {
                (
                    !self.sessions.is_direct(peer),
                    self.sessions.rtt(peer),
                    *peer,
                )
            })
            .collect();
        relays.sort_unstable();
        relays.into_iter().map(|(.., peer)| peer).collect()
    }

    /// Where datagrams for an address are sent, and what they are wrapped in before; `None` when
    /// it is that of a circuit which is not open.
    pub(super) fn way_to(&self, mut addr: SocketAddr) -> Option<(SocketAddr, Vec<Hop>)> {
        let mut hops = Vec::new();
        while let Some(circuit) = Circuit::of(&addr) {
            if hops.len() == MOST_HOPS {
                return None;
            }
            let (relay, slot) = self.relays.route(circuit)?;
            let relaying = self.sessions.relaying(&relay)?;
            let lane = relaying.lane;
            hops.push(Hop { lane, slot });
            addr = relaying.addr;
        }
        Some((addr, hops))
    }

    /// A datagram as it leaves.
    pub(super) fn wrapped(&self, transmit: Transmit, now: Time) -> Option<Transmit> {
        let (to, hops) = self.way_to(transmit.to)?;
        if hops.is_empty() {
            return Some(transmit);
        }
        let mut datagram = vec![0; transmit.datagram.len() + hops.len() * RELAY_LEN];
        inner(&mut datagram, hops.len()).copy_from_slice(&transmit.datagram);
        wrap(&hops, now, &mut datagram).ok()?;
        Some(Transmit {
            to,
            datagram,
            ..transmit
        })
    }

    /// Replaces the addresses of circuits by their relays, and says why there is a detour.
    pub(super) fn name_relays(&self, connections: &mut [ConnectionStatus]) {
        let failures: BTreeMap<_, _> = connections
            .iter()
            .filter(|one| one.state != ConnectionState::Established && !one.info.is_empty())
            .map(|one| (one.address.clone(), one.info.clone()))
            .collect();
        for connection in connections {
            let addr = connection.address.parse().ok();
            let circuit = addr.as_ref().and_then(Circuit::of);
            let Some(relay) = circuit.and_then(|circuit| self.relays.relay_of(circuit)) else {
                continue;
            };
            connection.relay = Some(relay);
            if let Some(relaying) = self.sessions.relaying(&relay) {
                connection.address = relaying.addr.to_string();
            }
            let dialled = connection.peer.and_then(|peer| self.dialled.get(&peer));
            let mut dialled = dialled.into_iter().flatten();
            let why = dialled.find_map(|addr| failures.get(&addr.to_string()));
            connection.info = match why {
                Some(why) => format!("no direct path: {why}"),
                None => String::from("no direct path"),
            };
        }
    }

    /// The circuits as the data path needs them.
    pub(super) fn fib_circuits(&self) -> impl Iterator<Item = (u32, FibCircuit)> + '_ {
        self.relays.circuits().filter_map(|(slot, peer, lead)| {
            let session = self.sessions.relaying(&peer)?.slot;
            let end = match lead {
                Lead::Here(circuit) => CircuitEnd::Here(circuit.addr()),
                Lead::On(to, slot) => {
                    let on = self.sessions.relaying(&to)?;
                    // an asker may be behind a relay itself
                    let (addr, outer) = self.way_to(on.addr)?;
                    let lane = on.lane;
                    let hops = std::iter::once(Hop { lane, slot }).chain(outer);
                    CircuitEnd::On(hops.collect(), addr)
                }
            };
            Some((slot, FibCircuit { session, end }))
        })
    }
}
