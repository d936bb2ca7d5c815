//! The tables that follow from everything else: who is live, our own record,
//! the forwarding table, the names. Built anew only when something changed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use weave_wire::proto::{PeerRecord, entry};
use weave_wire::{Mac, PeerId, SegmentId, Time, proto_addr};

use super::{Event, LEARNED_FOR, Node};
use crate::gossip::PEER_KEY;
use crate::inquiries::ANSWERS;
use crate::membership;

/// At most this many addresses of ourselves are told to others.
const MAX_OBSERVED: usize = 4;
/// Our record changes once in this long for each peer known, within the two limits below.
const RECORD_PAUSE_PER_PEER: Duration = Duration::from_millis(60);
const RECORD_PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(3));
/// The same in a large mesh, for what must be known soon,
const RECORD_PAUSE_PER_PEER_OF_MANY: Duration = Duration::from_millis(3);
/// and for what nobody waits for.
const CALM_RECORD_PAUSE_PER_PEER: Duration = Duration::from_millis(10);
const CALM_RECORD_PAUSE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(60));
/// Who is near a peer on the ring has so long to tell of it.
const FOR_THE_NEAR: Duration = Duration::from_secs(3);
/// How often a large mesh is asked who lives: a pause for each peer known, within two limits.
const LIVE_PAUSE_PER_PEER: Duration = Duration::from_micros(500);
const LIVE_PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// How long what others announce may wait, in a large mesh, until frames follow it.
const FIB_PAUSE: Duration = Duration::from_millis(50);
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
        let is_over = |due: Option<Time>| due.is_none_or(|at| now >= at);
        let live_due = |node: &Self| node.dirty.live && is_over(node.live_due);
        let record_due = |node: &Self| node.dirty.record && is_over(node.record_due);
        while live_due(self) || record_due(self) {
            if live_due(self) {
                self.dirty.live = false;
                self.settle_live(now);
                self.live_due = self.live_pause().map(|pause| now + pause);
            }
            if record_due(self) {
                self.dirty.record = false;
                self.settle_record(now);
            }
            self.route(now);
        }
        if std::mem::take(&mut self.dirty.names)
            && let Some(table) = self.names.take_changed()
        {
            self.events.push_back(Event::Names(table));
        }
        self.dirty.announced |= self.endpoints.take_changed();
        if self.dirty.fib || (self.dirty.announced && is_over(self.announced_due)) {
            (self.dirty.fib, self.dirty.announced) = (false, false);
            self.settle_fib();
            self.announced_due = self.neighbourhood.is_large().then_some(now + FIB_PAUSE);
        }
    }

    /// Our record has changed in a way that others should know soon.
    pub(super) fn hurry_record(&mut self) {
        self.dirty.record = true;
        let soon = self.record_written.map(|at| at + self.record_pause());
        self.record_due = self.record_due.min(soon);
    }

    /// How long our record stays as it is: every change goes to everybody, and the larger the
    /// mesh, the more changes one record sums up.
    fn record_pause(&self) -> Duration {
        let per_peer = match self.neighbourhood.is_large() {
            true => RECORD_PAUSE_PER_PEER_OF_MANY,
            false => RECORD_PAUSE_PER_PEER,
        };
        self.pause(per_peer, RECORD_PAUSE)
    }

    /// The same in a large mesh, for what nobody waits for.
    fn calm_record_pause(&self) -> Duration {
        self.pause(CALM_RECORD_PAUSE_PER_PEER, CALM_RECORD_PAUSE)
    }

    /// How long it is at least until it is looked again who lives.
    fn live_pause(&self) -> Option<Duration> {
        let is_large = self.neighbourhood.is_large();
        is_large.then(|| self.pause(LIVE_PAUSE_PER_PEER, LIVE_PAUSE))
    }

    /// A pause that grows with the number of peers known, between two limits.
    fn pause(&self, per_peer: Duration, (least, most): (Duration, Duration)) -> Duration {
        let known = u32::try_from(self.logs.len()).unwrap_or(u32::MAX);
        per_peer.saturating_mul(known).clamp(least, most)
    }

    fn settle_live(&mut self, now: Time) {
        // in a large mesh others tell whether a peer that is silent here is up
        let roots = match self.neighbourhood.is_large() {
            true => self.reached.difference(&self.silent).copied().collect(),
            false => self.reached.clone(),
        };
        if self.dirty.edges || roots != self.roots {
            let live = self
                .edges
                .live(&self.me, &roots, |peer| self.bans.contains(peer));
            (self.roots, self.dirty.edges) = (roots, false);
            if live != self.live {
                self.set_live(live, now);
            }
        }
        self.settle_discovery(now);
        self.settle_relays(now);
    }

    fn set_live(&mut self, live: BTreeSet<PeerId>, now: Time) {
        for peer in live.difference(&self.live) {
            tracing::info!(peer = %peer.name(), "peer up");
            self.neighbourhood.up(*peer);
        }
        for peer in self.live.difference(&live) {
            tracing::info!(peer = %peer.name(), "peer down");
            self.neighbourhood.down(*peer, now);
        }
        self.live = live;
        let limit = match self.config.discovery {
            true => self.config.conn_limit,
            false => 0,
        };
        if self.neighbourhood.resize(self.live.len(), limit) {
            self.dirty.record = true;
        }
        self.names.set_live(&self.live);
        self.ipam.set_live(&self.live, now);
        self.endpoints.set_live(&self.live);
        self.logs.set_live(&self.live);
        self.set_reachable(now);
        self.sessions.wake_resting(&self.live, now);
        self.route(now);
        self.dirty.names = true;
    }

    /// Tells the allocator whom it can ask: in a large mesh a session is made when it does.
    pub(super) fn set_reachable(&mut self, now: Time) {
        let reachable = match self.neighbourhood.is_large() {
            true => self
                .live
                .iter()
                .filter(|peer| **peer != self.me)
                .copied()
                .collect(),
            false => self.reached.iter().copied().collect(),
        };
        self.ipam.set_reachable(reachable, now);
    }

    fn settle_record(&mut self, now: Time) {
        let is_large = self.neighbourhood.is_large();
        let is_named = |peer: &&PeerId| {
            self.sessions.is_direct(peer) && !(is_large && self.silent.contains(peer))
        };
        let direct: BTreeSet<PeerId> = self.reached.iter().filter(is_named).copied().collect();
        let record = PeerRecord {
            static_key: self.sessions.static_public().to_vec(),
            nickname: self.config.nickname.clone(),
            addresses: self
                .observed
                .iter()
                .map(|address| proto_addr(*address))
                .collect(),
            sessions: u32::try_from(self.reached.len()).unwrap_or(u32::MAX),
            neighbours: membership::named_neighbours(&self.me, &direct, is_large, &self.logs),
            min_protocol: self.config.versions.lowest.into(),
            max_protocol: self.config.versions.highest.into(),
            capabilities: self.config.pq.capabilities() | ANSWERS,
            version: self.config.version.clone(),
            awaits_targets: self.ipam.awaits_targets(),
            founding: self.ipam.part_in(),
        };
        if let Some(written) = self.record_written.filter(|_| is_large) {
            let calm = written + self.calm_record_pause();
            if now < calm && !self.is_urgent(&record, &direct, now) {
                self.dirty.record = true;
                self.record_due = Some(calm);
                return;
            }
        }
        self.record_written = Some(now);
        self.vanished.clear();
        self.record_due = Some(now + self.record_pause());
        self.write(PEER_KEY, Some(entry::Body::Peer(record)), now);
    }

    /// Whether a peer has just come, and its neighbours on the ring tell the others of it; further
    /// ones leave that to them for a while.
    fn is_known_by_us_only(&self, peer: &PeerId, now: Time) -> bool {
        let since = self.sessions.established_at(peer).unwrap_or(now);
        membership::is_lonely(peer, true, &self.logs)
            && (self.neighbourhood.is_near(peer, &self.me) || since + FOR_THE_NEAR <= now)
    }

    /// Whether others should soon know what our record is to say: in a large mesh it is no news
    /// that other sessions are named, unless somebody has vanished or is known by us only.
    fn is_urgent(&self, new: &PeerRecord, direct: &BTreeSet<PeerId>, now: Time) -> bool {
        let Some(old) = self.logs.peer_record(&self.me) else {
            return true;
        };
        let apart = |record: &PeerRecord| PeerRecord {
            sessions: 0,
            neighbours: Vec::new(),
            ..record.clone()
        };
        if apart(old) != apart(new) {
            return true;
        }
        let known = |short: &Vec<u8>| self.logs.with_short_key(short).copied().collect::<Vec<_>>();
        let mut named = old.neighbours.iter().flat_map(known);
        let added = new
            .neighbours
            .iter()
            .filter(|short| !old.neighbours.contains(short));
        let mut added = direct
            .iter()
            .filter(|peer| added.clone().any(|short| *short == peer.short()));
        named.any(|peer| self.vanished.contains(&peer) || self.silent.contains(&peer))
            || added.any(|peer| self.is_known_by_us_only(peer, now))
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
        if !known {
            self.hurry_record();
        }
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
