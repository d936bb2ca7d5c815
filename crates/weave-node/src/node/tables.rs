//! The tables that follow from everything else: who is live, our own record,
//! the forwarding table, the names. Built anew only when something changed.

use std::collections::BTreeMap;
use std::time::Duration;

use weave_wire::proto::{PeerRecord, entry};
use weave_wire::{Mac, PeerId, SegmentId, Time, proto_addr};

use super::banning::Admitted;
use super::{Event, LEARNED_FOR, Node};
use crate::gossip::PEER_KEY;
use crate::membership;

/// At most this many addresses of ourselves are told to others.
const MAX_OBSERVED: usize = 4;
/// Our record changes once in this long for each peer known, within the two limits below.
const RECORD_PAUSE_PER_PEER: Duration = Duration::from_millis(60);
const RECORD_PAUSE_MIN: Duration = Duration::from_millis(500);
const RECORD_PAUSE_MAX: Duration = Duration::from_secs(3);
/// At most this many MACs are learnt in a segment for one peer.
const MAX_LEARNED: usize = 32;

impl Node {
    /// Brings every table up to date and queues what changed. Called by the drain.
    pub(crate) fn settle(&mut self, now: Time) {
        if !self.started {
            return;
        }
        self.save_bans(now);
        // a change of our own record may change who is live, and so on; both are
        // monotone in this loop, so it ends after a few rounds
        let record_due =
            |node: &Self| node.dirty.record && node.record_due.is_none_or(|at| now >= at);
        while self.dirty.live || record_due(self) {
            if std::mem::take(&mut self.dirty.live) {
                self.settle_live(now);
            }
            if record_due(self) {
                self.dirty.record = false;
                self.record_due = Some(now + self.record_pause());
                self.settle_record(now);
            }
            self.route(now);
        }
        if std::mem::take(&mut self.dirty.names)
            && let Some(table) = self.names.take_changed()
        {
            self.events.push_back(Event::Names(table));
        }
        self.dirty.fib |= self.endpoints.take_changed();
        if std::mem::take(&mut self.dirty.fib) {
            self.settle_fib();
        }
    }

    /// How long our record stays as it is: every change goes to everybody, and the larger the
    /// mesh, the more changes one record sums up.
    fn record_pause(&self) -> Duration {
        let known = u32::try_from(self.logs.origins().count()).unwrap_or(u32::MAX);
        let pause = RECORD_PAUSE_PER_PEER.saturating_mul(known);
        pause.clamp(RECORD_PAUSE_MIN, RECORD_PAUSE_MAX)
    }

    fn settle_live(&mut self, now: Time) {
        let records = Admitted {
            logs: &self.logs,
            bans: &self.bans,
        };
        let live = membership::live(&self.me, &self.reached, &records);
        if live != self.live {
            for peer in live.difference(&self.live) {
                tracing::info!(peer = %peer.name(), "peer up");
            }
            for peer in self.live.difference(&live) {
                tracing::info!(peer = %peer.name(), "peer down");
            }
            self.live = live;
            self.names.set_live(&self.live);
            self.endpoints.set_live(&self.live);
            self.logs.set_live(&self.live);
            self.route(now);
            self.dirty.names = true;
            self.dirty.fib = true;
        }
        self.settle_discovery(now);
        self.settle_relays(now);
    }

    /// Dials every known peer without a direct session, at the addresses its record names.
    fn settle_discovery(&mut self, now: Time) {
        let mut wanted: BTreeMap<PeerId, Vec<std::net::SocketAddr>> = BTreeMap::new();
        for origin in self.logs.origins().filter(|_| self.config.discovery) {
            let is_wanted = !self.sessions.is_direct(&origin) && !self.bans.contains(&origin);
            if origin != self.me && is_wanted && self.fits(&origin) {
                let addresses = membership::addresses(&self.logs, &origin);
                if !addresses.is_empty() {
                    wanted.insert(origin, addresses);
                }
            }
        }
        let stale: Vec<_> = self
            .dialled
            .iter()
            .flat_map(|(peer, addresses)| addresses.iter().map(move |address| (*peer, *address)))
            .filter(|(peer, address)| {
                !wanted
                    .get(peer)
                    .is_some_and(|addresses| addresses.contains(address))
            })
            .collect();
        for (_, address) in stale {
            self.sessions.undial(address);
        }
        for (peer, addresses) in &wanted {
            let is_relayed = self.reached.contains(peer);
            for address in addresses {
                self.sessions.dial(*address, is_relayed, now);
            }
        }
        self.forget_remembered(&wanted);
        self.dialled = wanted;
    }

    fn settle_record(&mut self, now: Time) {
        let is_direct = |peer: &&PeerId| self.sessions.is_direct(peer);
        let direct = self.reached.iter().filter(is_direct).copied().collect();
        let record = PeerRecord {
            static_key: self.sessions.static_public().to_vec(),
            nickname: self.config.nickname.clone(),
            addresses: self
                .observed
                .iter()
                .map(|address| proto_addr(*address))
                .collect(),
            sessions: u32::try_from(self.reached.len()).unwrap_or(u32::MAX),
            neighbours: membership::named_neighbours(&self.me, &direct, &self.logs),
            min_protocol: self.config.versions.lowest.into(),
            max_protocol: self.config.versions.highest.into(),
            capabilities: self.config.pq.capabilities(),
            version: self.config.version.clone(),
            awaits_targets: self.ipam.awaits_targets(),
        };
        self.write(PEER_KEY, Some(entry::Body::Peer(record)), now);
    }

    fn settle_fib(&mut self) {
        let fib = self.build_fib();
        self.fib = std::sync::Arc::new(fib);
        self.events
            .push_back(Event::Fib(std::sync::Arc::clone(&self.fib)));
        self.remember_peers();
    }

    /// A peer told us where it sees us.
    pub(super) fn observed(&mut self, address: std::net::SocketAddr) {
        if self.observed.back() == Some(&address) {
            return;
        }
        let known = self.observed.contains(&address);
        self.observed.retain(|known| *known != address);
        self.observed.push_back(address);
        if self.observed.len() > MAX_OBSERVED {
            self.observed.pop_front();
        }
        self.dirty.record |= !known;
    }
}

/// Unannounced source MACs of remote peers.
#[derive(Debug, Default)]
pub(super) struct Learned {
    macs: BTreeMap<(SegmentId, Mac), (PeerId, Time)>,
}

impl Learned {
    /// Whether the table changed.
    pub(super) fn learn(&mut self, segment: SegmentId, mac: Mac, peer: PeerId, now: Time) -> bool {
        if let Some((owner, seen)) = self.macs.get_mut(&(segment, mac)) {
            let moved = *owner != peer;
            (*owner, *seen) = (peer, now);
            return moved;
        }
        let held = self
            .macs
            .iter()
            .filter(|((held_in, _), (owner, _))| *held_in == segment && *owner == peer)
            .count();
        if held >= MAX_LEARNED {
            return false;
        }
        self.macs.insert((segment, mac), (peer, now));
        true
    }

    /// Forgets what was not seen for long; whether the table changed.
    pub(super) fn expire(&mut self, now: Time) -> bool {
        let before = self.macs.len();
        self.macs.retain(|_, (_, seen)| *seen + LEARNED_FOR > now);
        self.macs.len() != before
    }

    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.macs
            .values()
            .map(|(_, seen)| *seen + LEARNED_FOR)
            .min()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SegmentId, Mac, PeerId)> + '_ {
        self.macs
            .iter()
            .map(|((segment, mac), (peer, _))| (*segment, *mac, *peer))
    }
}
