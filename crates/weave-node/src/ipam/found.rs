//! Which founding is in force here, and when to found one.
//!
//! Nothing is founded before somebody needs an address. A host without targets founds then; one
//! with targets first listens for ten seconds and asks the peers it reaches, and founds only if
//! its key is the lowest of them. It does not while it or a peer that it reaches has connected to
//! less than the majority of what it was told of, nor in the ten seconds after, nor while such a
//! peer has said nothing since it started: a founding may be there. Of two foundings that meet,
//! one that gave out nothing yields; when both or neither gave out anything, the one with the
//! higher label does (`merge.rs`). A founder that left its founding, and has none, founds anew once
//! somebody is found to go on with the one that it left.
//!
//! ```text
//!   none ──(asked)──▶ storing ──(durable)──▶ settling ──▶ in force
//!    ▲                                                     │ another is heard, nothing given out
//!    └────────(durable)──── withdrawing ◀── contested ◀────┘
//! ```
//! A follower keeps no founding on its disk until something depends on it, so it can follow
//! another one at any time before that.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use weave_wire::proto::entry::Body;
use weave_wire::proto::{FoundRequest, control_message};
use weave_wire::{PeerId, Time};

use super::Ipam;
use super::genesis::{Genesis, GenesisId};
use super::merge::GIVE_WAY;

/// A host with targets listens this long for a founding before it makes one.
const LISTEN: Duration = Duration::from_secs(10);
/// A host with targets founds only this long after it was first asked: one without targets may
/// have been asked too, and comes first.
const DEFER: Duration = Duration::from_millis(2500);
/// Peers are asked to found this often.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Being asked counts for this long.
const ASKED_FOR: Duration = Duration::from_secs(3);
/// A new founding gives out nothing for this long while peers are connected: another one may
/// have been made at the same moment.
const SETTLE: Duration = Duration::from_millis(500);
/// How long a founding that nobody used yet waits for one with a higher label to yield.
const CONTEST: Duration = Duration::from_secs(2);

/// What is known about foundings apart from the one in force.
#[derive(Debug, Clone)]
pub(super) struct Founding {
    /// Targets, and how many of them are connected.
    pub(super) targets: (usize, usize),
    pub(super) withdrawing: bool,
    /// Since when a better founding than ours, which is in use, has been known.
    pub(super) outranked_since: Option<Time>,
    /// Nothing new is begun: what is in force now is about to be given up.
    pub(super) is_merging: bool,
    /// Peers that know no founding, and are not connected to most of their targets.
    awaiting: BTreeSet<PeerId>,
    /// Which founding peers take part in.
    parts: BTreeMap<PeerId, GenesisId>,
    /// A peer that has said nothing since it started: it may know a founding.
    unheard: Option<PeerId>,
    /// A founding of ours is on its way to the disk.
    storing: bool,
    /// A founding would have been heard of if made before this.
    listening_since: Time,
    /// Whether this host, or a peer that it reaches, awaits its targets.
    is_awaited: bool,
    first_asked: Option<Time>,
    last_asked: Option<Time>,
    sent_at: Option<Time>,
    settled_at: Time,
    /// Since when another founding has been known beside our unused one.
    contested_since: Option<Time>,
    /// The disk refused; not again before this.
    pub(super) not_before: Time,
}

impl Founding {
    pub(super) const fn new(now: Time) -> Self {
        Self {
            targets: (0, 0),
            awaiting: BTreeSet::new(),
            parts: BTreeMap::new(),
            unheard: None,
            withdrawing: false,
            outranked_since: None,
            is_merging: false,
            storing: false,
            listening_since: now,
            is_awaited: false,
            first_asked: None,
            last_asked: None,
            sent_at: None,
            settled_at: Time::ZERO,
            contested_since: None,
            not_before: Time::ZERO,
        }
    }

    /// Whether this host and its connected targets are at most half of all that it was told of.
    pub(super) const fn lacks_majority(&self) -> bool {
        let (all, connected) = self.targets;
        2 * (connected + 1) <= all + 1
    }

    /// A peer says how it is. Returns whether that changes anything.
    pub(super) fn heard_record(&mut self, peer: PeerId, body: Option<&Body>) -> bool {
        let record = match body {
            Some(Body::Peer(record)) => Some(record),
            Some(_) | None => None,
        };
        let changes = match record {
            Some(record) if record.awaits_targets => self.awaiting.insert(peer),
            Some(_) | None => self.awaiting.remove(&peer),
        };
        let part = record.and_then(|record| Some(Genesis::told(record.founding.as_ref()?)?.id));
        let before = match part {
            Some(part) => self.parts.insert(peer, part),
            None => self.parts.remove(&peer),
        };
        changes || before != part
    }

    /// Peers that say to take part in a founding, or did when they were heard last.
    pub(super) fn members_of(&self, id: GenesisId) -> impl Iterator<Item = &PeerId> {
        let members = self.parts.iter().filter(move |(_, part)| **part == id);
        members.map(|(peer, _)| peer)
    }

    /// Whether somebody waits for a founding.
    pub(super) const fn is_asked(&self) -> bool {
        self.first_asked.is_some()
    }

    /// This peer has yet to say anything, or none. Returns whether that changes anything.
    pub(super) fn set_unheard(&mut self, peer: Option<PeerId>) -> bool {
        std::mem::replace(&mut self.unheard, peer) != peer
    }

    /// From now on a founding of the mesh can be heard of.
    pub(super) fn listen_from(&mut self, now: Time) {
        self.listening_since = now;
    }

    /// A peer asked for a founding.
    pub(super) fn asked_by(&mut self, from: PeerId, now: Time) {
        tracing::debug!(from = %from.name(), "asked to found the address range");
        self.last_asked = Some(now);
    }

    /// Our founding is durable.
    pub(super) fn founded(&mut self, now: Time, peers_connected: bool) {
        self.storing = false;
        self.settled_at = if peers_connected { now + SETTLE } else { now };
    }

    /// What is in force is not about to be given up for a better one.
    pub(super) const fn keep(&mut self) {
        self.outranked_since = None;
        self.is_merging = false;
    }

    /// Whether the founding in force is about to be that no more.
    pub(super) const fn is_given_up(&self) -> bool {
        self.withdrawing || self.is_merging
    }

    /// The disk refused; try again then.
    pub(super) const fn failed(&mut self, not_before: Time) {
        self.storing = false;
        self.not_before = not_before;
    }
}

impl Ipam {
    /// Whether nothing may be given out now, because the founding in force may yet yield.
    pub(super) fn is_unsettled(&self) -> bool {
        self.recovery.is_awaited()
            || self.now < self.founding.settled_at
            || self.founding.contested_since.is_some()
            || self.founding.is_given_up()
    }

    /// Chooses the founding to follow among those heard of.
    pub(super) fn drive_genesis(&mut self) {
        if self.founding.withdrawing || self.founding.storing {
            return;
        }
        if self.genesis.is_some() && self.has_stake() {
            self.founding.contested_since = None;
            self.drive_merge();
            return;
        }
        // the last of what we had may have been given back while another founding was awaited
        self.founding.keep();
        let ours = self.genesis.as_ref();
        if ours.is_some_and(|genesis| genesis.founder == self.me) {
            self.contest();
            return;
        }
        self.founding.contested_since = None;
        let best = self.best_heard();
        if best.as_ref().map(|genesis| genesis.id) == self.genesis_id() {
            return;
        }
        if let Some(genesis) = &best {
            tracing::info!(founder = %genesis.founder.name(), range = %genesis.range, "following an address range");
        }
        self.genesis = best;
        self.pool.forget_freed();
        self.offers.clear();
        self.asks.clear();
        self.map_stale = true;
    }

    /// Founds the range, or asks others to, when somebody waits for it.
    pub(super) fn drive_founding(&mut self) {
        let now = self.now;
        let is_awaited = self.who_awaits_targets().is_some();
        if std::mem::replace(&mut self.founding.is_awaited, is_awaited) || is_awaited {
            self.founding.listen_from(now);
        }
        let asked = !self.pending.is_empty()
            || self
                .founding
                .last_asked
                .is_some_and(|at| now.saturating_sub(at) < ASKED_FOR);
        let may_found = self.genesis.is_none() && !self.founding.storing && self.fault.is_none();
        let is_missed = may_found && self.is_missed();
        if !may_found || !(asked || is_missed) {
            self.founding.first_asked = None;
            return;
        }
        let since = *self.founding.first_asked.get_or_insert(now);
        if self.founding_obstacle().is_some() || now < self.founding.not_before {
            return;
        }
        let lowest = self.reachable.first().copied();
        let heard_nothing = now >= self.founding.listening_since + LISTEN
            && now >= since + DEFER
            && self.founding.unheard.is_none();
        let is_chosen = is_missed || lowest.is_some_and(|lowest| self.me < lowest);
        let is_ours = self.founding.targets.0 == 0
            || (heard_nothing && is_chosen && self.who_awaits_targets().is_none());
        if is_ours {
            self.found();
        } else {
            self.ask_for_founding(lowest);
        }
    }

    /// When founding needs attention next.
    pub(super) fn founding_deadline(&self) -> Option<Time> {
        let founding = &self.founding;
        let mut due = vec![founding.settled_at, founding.not_before];
        due.extend(founding.contested_since.map(|since| since + CONTEST));
        due.extend(founding.outranked_since.map(|since| since + GIVE_WAY));
        if let Some(since) = founding.first_asked {
            due.push((founding.listening_since + LISTEN).max(since + DEFER));
            due.extend(founding.sent_at.map(|at| at + ASK_EVERY));
            due.extend(founding.last_asked.map(|at| at + ASKED_FOR));
        }
        due.into_iter().filter(|at| *at > self.now).min()
    }

    /// Why there is no founding to work with.
    pub(super) fn not_ready(&self) -> String {
        if self.recovery.is_awaited() {
            return "this host has just started and hears from its peers first what it gave out \
                    before: try again in a few seconds"
                .to_owned();
        }
        if let Some(obstacle) = self.founding_obstacle() {
            return obstacle;
        }
        if self.founding.is_merging {
            return "another founding of the address range has been met, and this host goes on \
                    with it: try again in a few seconds"
                .to_owned();
        }
        if self.genesis.is_some() {
            return "two foundings of the address range have met and one is about to yield: \
                    try again"
                .to_owned();
        }
        if self.founding.storing {
            return "the founding of the address range is being stored".to_owned();
        }
        let Some(lowest) = self.reachable.first() else {
            return "nobody has founded it yet, and none of the targets is connected \
                    (see `weave status connections`)"
                .to_owned();
        };
        if let Some(waiting) = self.who_awaits_targets() {
            let who = match waiting == self.me {
                true => "this host".to_owned(),
                false => format!("peer {}", self.ledger.label(waiting)),
            };
            return format!(
                "nobody has founded it yet, and {who} is not connected to most of its targets: \
                 they must be, or be forgotten (see `weave status connections`, `weave forget`)"
            );
        }
        if let Some(peer) = self.founding.unheard {
            let peer = self.ledger.label(peer);
            return format!(
                "nobody has founded it yet, and peer {peer} has just started and may know of a \
                 founding: try again in a few seconds"
            );
        }
        if self.now < self.founding.listening_since + LISTEN {
            return "just connected, waiting to hear of it from the peers: try again in a few \
                    seconds"
                .to_owned();
        }
        let chosen = self.ledger.label(*lowest.min(&self.me));
        format!("nobody has founded it yet, waiting for peer {chosen} to do so: try again")
    }

    /// Who is kept from hearing of a founding: this host, or a peer that it reaches.
    fn who_awaits_targets(&self) -> Option<PeerId> {
        if self.founding.lacks_majority() {
            return Some(self.me);
        }
        let mut awaiting = self.founding.awaiting.iter();
        awaiting
            .find(|peer| self.reachable.contains(*peer))
            .copied()
    }

    /// Whether somebody within reach goes on with a founding of ours that we left, perhaps for one
    /// of which nobody is left: nobody gives out addresses in it until we found the range anew.
    fn is_missed(&self) -> bool {
        let members = |genesis: &Genesis| self.founding.members_of(genesis.id);
        let mut ours = self.ledger.own_geneses();
        ours.any(|genesis| members(genesis).any(|peer| self.reachable.contains(peer)))
    }

    /// What the peers say that keeps us from founding the range, whatever the time.
    fn founding_obstacle(&self) -> Option<String> {
        let Some(range) = self.config.range else {
            return Some("address allocation is switched off here".to_owned());
        };
        if let Some(other) = self.mismatched_ranges().next()
            && self.genesis.is_none()
        {
            let peer = self.ledger.label(other.founder);
            return Some(format!(
                "the mesh uses the range {}, founded by {peer}, this host {range}: launch with \
                 `--ipalloc-range {}`",
                other.range, other.range
            ));
        }
        (self.genesis.is_none() && self.ledger.names_unknown_genesis()).then(|| {
            "peers use a range whose founder has not been heard of since this host started"
                .to_owned()
        })
    }

    /// Foundings of other peers that somebody is left of.
    fn living_foundings(&self) -> impl Iterator<Item = &Genesis> {
        let foundings = self.ledger.geneses();
        foundings.filter(|genesis| !self.is_dead(genesis))
    }

    /// Foundings of other peers over another range than ours.
    pub(super) fn mismatched_ranges(&self) -> impl Iterator<Item = &Genesis> {
        self.living_foundings()
            .filter(|genesis| Some(genesis.range) != self.config.range)
    }

    /// Foundings of other peers over our range, beside the one in force.
    pub(super) fn rival_foundings(&self) -> impl Iterator<Item = &Genesis> {
        let current = self.genesis_id();
        self.living_foundings().filter(move |genesis| {
            Some(genesis.range) == self.config.range && Some(genesis.id) != current
        })
    }

    /// Our founding, of which nothing was given out, meets another.
    ///
    /// One that nobody shows to use and whose founder is away is no rival yet: who knows whether
    /// it will ever come back.
    fn contest(&mut self) {
        let Some(ours) = &self.genesis else { return };
        let present = |rival: &&Genesis| {
            let is_shown = self.ledger.is_used(rival.id) || self.is_present(rival);
            is_shown && !self.ledger.is_left(rival)
        };
        let order = |genesis: &&Genesis| (!self.ledger.is_used(genesis.id), genesis.label());
        let Some(rival) = self.rival_foundings().filter(present).min_by_key(order) else {
            self.founding.contested_since = None;
            return;
        };
        let stays = rival.label() < ours.label() || self.ledger.is_used(rival.id);
        let since = *self.founding.contested_since.get_or_insert(self.now);
        // a rival that neither yields nor shows use has given out addresses of its own
        let insists = self.now >= since + CONTEST;
        if (stays || insists) && self.now >= self.founding.not_before {
            self.founding.contested_since = None;
            self.stage_withdraw();
        }
    }

    fn best_heard(&self) -> Option<Genesis> {
        let ours = |genesis: &&Genesis| Some(genesis.range) == self.config.range;
        // the log of a founder that is gone for good is held for long
        let order = |genesis: &&Genesis| {
            let is_used = self.ledger.is_used(genesis.id);
            let is_left = self.ledger.is_left(genesis);
            (
                !self.is_present(genesis),
                is_left,
                !is_used,
                genesis.label(),
            )
        };
        self.living_foundings()
            .filter(ours)
            .min_by_key(order)
            .cloned()
    }

    fn found(&mut self) {
        let founded_at = self.wall_ms();
        let range = self.config.range;
        if let Some(genesis) = range.and_then(|range| Genesis::found(self.me, range, founded_at)) {
            self.founding.storing = true;
            self.stage_found(genesis);
        }
    }

    /// Whoever waits itself asks all peers, once a second; who was only asked passes it on to
    /// the lowest key, so that the request ends there.
    fn ask_for_founding(&mut self, lowest: Option<PeerId>) {
        if self
            .founding
            .sent_at
            .is_some_and(|at| self.now < at + ASK_EVERY)
        {
            return;
        }
        let to: Vec<PeerId> = if self.pending.is_empty() {
            lowest
                .filter(|lowest| *lowest < self.me)
                .into_iter()
                .collect()
        } else {
            self.reachable.iter().copied().collect()
        };
        if to.is_empty() {
            return;
        }
        self.founding.sent_at = Some(self.now);
        for peer in to {
            self.send(peer, control_message::Body::FoundRequest(FoundRequest {}));
        }
    }
}
