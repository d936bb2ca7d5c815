//! With whom there is to be a session.
//!
//! In a small mesh: everybody that is known. In a large one: the neighbours on the ring of live
//! peers, those that have vanished and were neighbours, so that two halves find each other again,
//! and those that there is something to send to ([`Node::handle_wanted`]), for as long as there
//! is. What is not needed any more is ended by the side that dialled.
//!
//! Does not dial: `session` does, at the addresses that are named here.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use weave_wire::{PeerId, SegmentId, Time};

use super::Node;
use crate::membership;
use crate::ring::Ring;
use crate::session::Haste;

/// A large mesh is a small one again when it has shrunk to this share of the limit.
const SMALL_AGAIN: (usize, usize) = (4, 5);
/// How often a large mesh is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// After the last frame a session stays for this long,
const USED: Duration = Duration::from_secs(300);
/// and this long when nothing but a request was to be sent.
const ASKED: Duration = Duration::from_secs(60);
/// A session that nobody needs is ended after this long.
const SPARE: Duration = Duration::from_secs(20);
/// So many peers on the ring are very near.
const NEAR: usize = 4;
/// Whoever vanished is looked for eagerly for this long.
const MISSED: Duration = Duration::from_secs(600);
/// When there is no session with a peer after so long, one with its neighbours is wanted: they
/// can relay.
const DETOUR: Duration = Duration::from_secs(3);
/// So many of them.
const DETOURS: usize = 2;
/// Peers that something is to be sent to, at most.
const MOST_WANTED: usize = 4_096;
/// First attempts are spread over this long for each peer that is known, within the limit: who
/// joins does not dial everybody at once.
const JITTER_PER_PEER: Duration = Duration::from_millis(20);
const JITTER: Duration = Duration::from_secs(1);
/// Of two that want each other the one with the higher key waits, for the other may come first.
const DEFER_PER_PEER: Duration = Duration::from_millis(30);
const DEFER: Duration = Duration::from_millis(1_500);

/// The places of the peers around this one, and who is needed.
#[derive(Debug, Default)]
pub(super) struct Neighbourhood {
    is_large: bool,
    /// The live peers.
    ring: Ring,
    /// Known peers that are not, and since when.
    away: Ring,
    away_since: BTreeMap<PeerId, Time>,
    demand: BTreeMap<PeerId, Demand>,
    /// Since when nobody needs a session.
    spare_since: BTreeMap<PeerId, Time>,
    look_at: Option<Time>,
}

/// Something is to be sent to a peer.
#[derive(Debug, Clone, Copy)]
struct Demand {
    since: Time,
    until: Time,
    /// Frames sealed in its session at the last look.
    sealed: u64,
}

impl Neighbourhood {
    /// Whether there are too many peers for a session with each.
    pub(super) const fn is_large(&self) -> bool {
        self.is_large
    }

    pub(super) fn up(&mut self, peer: PeerId) {
        self.ring.insert(peer);
        if self.away_since.remove(&peer).is_some() {
            self.away.remove(&peer);
        }
    }

    pub(super) fn down(&mut self, peer: PeerId, now: Time) {
        self.ring.remove(&peer);
        self.missed(peer, now);
    }

    /// Notes how many peers live; whether that makes a large mesh of a small one or the reverse.
    pub(super) fn resize(&mut self, live: usize, limit: usize) -> bool {
        let (share, of) = SMALL_AGAIN;
        let most = if self.is_large {
            limit * share / of
        } else {
            limit
        };
        let is_large = limit > 0 && live > most;
        if !is_large {
            self.spare_since.clear();
        }
        std::mem::replace(&mut self.is_large, is_large) != is_large
    }

    /// Whether a peer is one of the very nearest on the ring.
    pub(super) fn is_near(&self, peer: &PeerId, me: &PeerId) -> bool {
        self.ring.nearest(me, NEAR).contains(peer)
    }

    /// When it is to be looked at.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.look_at
    }

    fn missed(&mut self, peer: PeerId, now: Time) {
        if let Entry::Vacant(vacant) = self.away_since.entry(peer) {
            vacant.insert(now);
            self.away.insert(peer);
        }
    }

    /// Whether that is news.
    fn want(&mut self, peer: PeerId, until: Time, now: Time) -> bool {
        if let Some(demand) = self.demand.get_mut(&peer) {
            demand.until = until.max(demand.until);
            return false;
        }
        if self.demand.len() >= MOST_WANTED {
            return false;
        }
        let demand = Demand {
            since: now,
            until,
            sealed: 0,
        };
        self.demand.insert(peer, demand);
        true
    }
}

impl Node {
    /// The data path has frames for a peer without a session.
    pub fn handle_wanted(&mut self, peer: PeerId, now: Time) {
        self.want(peer, now);
        self.route(now);
    }

    /// The data path has frames for all members of a segment, and not with all there is a session.
    pub fn handle_segment_wanted(&mut self, segment: SegmentId, now: Time) {
        let segments = self.endpoints.segments();
        let members = segments
            .get(&segment)
            .map(|segment| segment.members.clone());
        for peer in members.into_iter().flatten() {
            self.want(peer, now);
        }
        self.route(now);
    }

    /// Something is to be sent to a peer; there is a session soon if there can be one.
    pub(super) fn want(&mut self, peer: PeerId, now: Time) {
        if self.neighbourhood.is_large
            && peer != self.me
            && self.live.contains(&peer)
            && self.neighbourhood.want(peer, now + ASKED, now)
        {
            self.settle_discovery(now);
        }
    }

    /// Dials whoever is to have a session and has no direct one, at the addresses that its record
    /// names.
    pub(super) fn settle_discovery(&mut self, now: Time) {
        let mut wanted: BTreeMap<PeerId, Vec<SocketAddr>> = BTreeMap::new();
        if self.config.discovery {
            for peer in self.find_wanted(now) {
                let is_wanted = !self.sessions.is_direct(&peer) && !self.bans.contains(&peer);
                let addresses = membership::addresses(&self.logs, &peer);
                if peer != self.me && is_wanted && self.fits(&peer) && !addresses.is_empty() {
                    wanted.insert(peer, addresses);
                }
            }
        }
        let is_stale = |(peer, address): &(PeerId, SocketAddr)| {
            let addresses = wanted.get(peer);
            !addresses.is_some_and(|addresses| addresses.contains(address))
        };
        let dialled = self.dialled.iter();
        let stale: Vec<_> = dialled
            .flat_map(|(peer, addresses)| addresses.iter().map(move |address| (*peer, *address)))
            .filter(is_stale)
            .collect();
        for (_, address) in stale {
            self.sessions.undial(address);
        }
        let mut dials = Vec::new();
        for (peer, addresses) in &wanted {
            let haste = self.haste(peer, now);
            dials.extend(addresses.iter().map(|address| (*address, haste)));
        }
        self.sessions.dial(&dials, now);
        self.forget_remembered(&wanted);
        self.dialled = wanted;
    }

    /// The peers that there is to be a session with.
    pub(super) fn find_wanted(&mut self, now: Time) -> BTreeSet<PeerId> {
        if !self.neighbourhood.is_large {
            return self.logs.origins().collect();
        }
        for origin in self.logs.origins() {
            if !self.live.contains(&origin) && !self.bans.contains(&origin) {
                self.neighbourhood.missed(origin, now);
            }
        }
        let near = &self.neighbourhood;
        let mut wanted = near.ring.neighbours(&self.me);
        wanted.extend(near.away.neighbours(&self.me));
        for (peer, demand) in &near.demand {
            wanted.insert(*peer);
            if demand.since + DETOUR <= now && !self.reached.contains(peer) {
                let record = self.logs.peer_record(peer);
                let named = record.map_or(&[][..], |record| &record.neighbours);
                let known = named
                    .iter()
                    .flat_map(|short| self.logs.with_short_key(short));
                let live = known.filter(|peer| self.live.contains(*peer));
                wanted.extend(live.take(DETOURS));
            }
        }
        wanted
    }

    /// Looks which sessions are used, and ends those that nobody needs.
    pub(super) fn look_around(&mut self, now: Time) {
        let is_large = self.neighbourhood.is_large;
        if self.neighbourhood.look_at.is_some_and(|at| at > now) && is_large {
            return;
        }
        self.neighbourhood.look_at = is_large.then_some(now + LOOK);
        if !is_large {
            return;
        }
        // whoever was silent may be heard again
        self.dirty.live |= !self.silent.is_empty();
        self.dirty.record |= !self.silent.is_empty();
        self.note_use(now);
        let spare: Vec<PeerId> = self.spare(now);
        for peer in spare {
            self.sessions.part(peer, now);
        }
    }

    /// A session in which frames are sent is wanted for a while.
    fn note_use(&mut self, now: Time) {
        let before = self.neighbourhood.demand.len();
        for peer in &self.reached {
            let sealed = self.sessions.frames_sealed(peer);
            let known = self.neighbourhood.demand.get(peer);
            let last = known.map_or(0, |demand| demand.sealed);
            if sealed > 0 && sealed != last {
                self.neighbourhood.want(*peer, now + USED, now);
            }
            if let Some(demand) = self.neighbourhood.demand.get_mut(peer) {
                demand.sealed = sealed;
            }
        }
        let live = &self.live;
        let demand = &mut self.neighbourhood.demand;
        demand.retain(|peer, demand| demand.until > now && live.contains(peer));
        self.dirty.live |= demand.len() != before || !demand.is_empty();
    }

    /// The sessions that we dialled and that nobody has needed for long.
    fn spare(&mut self, now: Time) -> Vec<PeerId> {
        let relaying: BTreeSet<PeerId> = self.relays.circuits().map(|(_, peer, _)| peer).collect();
        let near = &self.neighbourhood;
        let ours = near.ring.neighbours(&self.me);
        let is_needed = |peer: &PeerId| {
            ours.contains(peer)
                || near.demand.contains_key(peer)
                || relaying.contains(peer)
                || !self.live.contains(peer)
                || !self.sessions.is_dialler(peer)
                || near.ring.neighbours(peer).contains(&self.me)
        };
        let spare: BTreeSet<PeerId> = self
            .reached
            .iter()
            .filter(|peer| !is_needed(peer))
            .copied()
            .collect();
        let since = &mut self.neighbourhood.spare_since;
        since.retain(|peer, _| spare.contains(peer));
        for peer in spare {
            since.entry(peer).or_insert(now);
        }
        let over = since.iter().filter(|(_, at)| **at + SPARE <= now);
        over.map(|(peer, _)| *peer).collect()
    }

    fn haste(&self, peer: &PeerId, now: Time) -> Haste {
        let near = &self.neighbourhood;
        let is_missed = near.is_large
            && near
                .away_since
                .get(peer)
                .is_some_and(|since| now.saturating_sub(*since) < MISSED);
        let eagerly = self.reached.contains(peer) || is_missed || near.demand.contains_key(peer);
        let known = u32::try_from(near.ring.len()).unwrap_or(u32::MAX);
        let (mut after, mut within) = (Duration::ZERO, Duration::ZERO);
        if !near.demand.contains_key(peer) {
            within = JITTER_PER_PEER.saturating_mul(known).min(JITTER);
            if self.me > *peer && !near.is_large {
                after = DEFER_PER_PEER.saturating_mul(known).min(DEFER);
            }
        }
        Haste {
            eagerly,
            after,
            within,
        }
    }
}
