//! Replication: every peer writes one signed log, and everyone holds all logs.
//!
//! [`Logs`] owns the logs of all peers, our own included, and what it takes to keep them equal
//! everywhere: news are flooded to neighbours, digests find what was lost, pulls fetch it. It
//! does not know what the entries mean, and who is alive is decided elsewhere.
//!
//! Invariants: only what its origin signed is applied, in order and without gaps, once. A newer
//! run of a log replaces the older one in one step. Bad input is dropped and counted, and ends
//! nothing. No clock decides which of two states is the newer one.

mod batch;
mod drops;
mod early;
mod log;
mod neighbours;
mod own;
mod receive;
mod resync;
mod summary;
mod sync;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod version;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use rand_chacha::ChaCha12Rng;
use weave_crypto::Identity;
use weave_wire::proto::control_message::Body;
use weave_wire::proto::{PeerRecord, SignedBatch, entry};
use weave_wire::{PeerId, Time, Versions};

use batch::ParsedBatch;
use early::Early;
use log::OriginLog;
use neighbours::Neighbours;
use own::{OwnLog, PEER_SLOT};
use receive::Passed;
use resync::Resync;
use summary::Sums;
use sync::Want;
use version::Merge;

use crate::next_format;

pub(crate) use drops::{GossipDrop, GossipDrops};
pub(crate) use log::Table;
pub(crate) use own::{PEER_KEY, SetError};
pub(crate) use version::Version;

/// Changes of our own log wait this long for others to share a batch with.
const FLUSH_DELAY: Duration = Duration::from_millis(20);
/// Our own news go to all neighbours when there are at most this many.
const ALL_FOR_OWN: usize = 50;
/// The news of others are passed on to all neighbours when there are at most this many.
const ALL_FOR_OTHERS: usize = 12;

static NOTHING: Table = Table::new();

/// What the node must do for the logs.
#[derive(Debug)]
pub(crate) enum GossipAction {
    /// Send this to a neighbour; it may be lost.
    Send {
        /// The neighbour.
        to: PeerId,
        /// The message.
        body: Body,
    },
    /// A slot of a table has changed; the table itself shows it already.
    Changed {
        /// Whose table.
        origin: PeerId,
        /// The slot.
        slot: u64,
        /// What it held.
        old: Option<entry::Body>,
        /// What it holds.
        new: Option<entry::Body>,
    },
    /// A peer has begun its log anew: it has started as this.
    Started {
        /// Who.
        origin: PeerId,
        /// Number of the start.
        boot: u64,
    },
    /// Others know of a later start of ours than we do: our state was set back. Our log goes on
    /// beyond it; `boot` must be stored so that the next start is later still.
    BootBehind {
        /// The start that others know of.
        seen: u64,
        /// The start that our log goes on with.
        boot: u64,
    },
    /// Others know more of us than we do: what we said before is being asked for.
    Resyncing,
    /// All that the peers know of what we said before this start. Our log goes on at
    /// [`Logs::resume`].
    Former(Vec<entry::Body>),
}

/// The logs of all peers.
#[derive(Debug)]
pub(crate) struct Logs {
    me: PeerId,
    identity: Arc<Identity>,
    versions: Versions,
    merge: Merge,
    own: OwnLog,
    resync: Option<Resync>,
    logs: BTreeMap<PeerId, OriginLog>,
    early: Early,
    bytes: usize,
    summary: Sums,
    neighbours: Neighbours,
    wants: BTreeMap<PeerId, Want>,
    /// No want is due before.
    wants_at: Option<Time>,
    /// A neighbour has told what it has.
    compared: bool,
    actions: VecDeque<GossipAction>,
    drops: GossipDrops,
    /// Batches of others that were taken in.
    taken: u64,
    rng: ChaCha12Rng,
    flush_at: Option<Time>,
    hold_until: Time,
    digest_at: Option<Time>,
    /// Until then we compare often: we have just come.
    young_until: Time,
    spread_at: Option<Time>,
    passed: Passed,
}

impl Logs {
    /// An empty table of our own, and nothing of others. `boot` grows with every start.
    pub(crate) fn new(identity: Arc<Identity>, boot: u64, rng: ChaCha12Rng) -> Self {
        let me = identity.peer_id();
        Self {
            me,
            identity,
            versions: Versions::SPOKEN,
            merge: Merge::default(),
            own: OwnLog::new(boot),
            resync: None,
            logs: BTreeMap::from([(me, OriginLog::default())]),
            early: Early::default(),
            bytes: 0,
            summary: Sums::EMPTY,
            neighbours: Neighbours::new(&me),
            wants: BTreeMap::new(),
            wants_at: None,
            compared: false,
            actions: VecDeque::new(),
            drops: GossipDrops::default(),
            taken: 0,
            rng,
            flush_at: None,
            hold_until: Time::ZERO,
            digest_at: None,
            young_until: Time::ZERO,
            spread_at: None,
            passed: Passed::default(),
        }
    }

    /// Speaks these protocol versions.
    pub(crate) fn speak(&mut self, versions: Versions) {
        self.versions = versions;
    }

    /// Builds in a fault, for the simulator to find.
    #[cfg(feature = "seeded-bugs")]
    pub(crate) fn seed_bug(&mut self, bug: Option<crate::seeded::SeededBug>) {
        self.merge.older_boot_accepted = bug == Some(crate::seeded::SeededBug::Merge);
    }

    /// Whether a neighbour has told what it has, and nothing of that is lacking here.
    pub(crate) fn has_caught_up(&self) -> bool {
        self.compared && self.wants.is_empty()
    }

    /// Writes nothing before this time, so that the first words after a start are complete.
    /// What is set until then replaces what the former start said, in one step.
    pub(crate) fn hold_until(&mut self, until: Time) {
        let former = std::mem::replace(&mut self.hold_until, until);
        self.flush_at = self.flush_at.map(|at| match at <= former {
            true => until,
            false => at.max(until),
        });
    }

    /// Sets or removes an entry of our own log. The same body again is no change.
    ///
    /// # Errors
    /// When the entry cannot be announced; nothing has changed then.
    pub(crate) fn set(
        &mut self,
        key: &str,
        body: Option<entry::Body>,
        now: Time,
    ) -> Result<(), SetError> {
        let table = self
            .logs
            .get(&self.me)
            .and_then(OriginLog::table)
            .unwrap_or(&NOTHING);
        self.own.stage(key, body, table)?;
        if self.own.is_staged() {
            self.flush_at
                .get_or_insert_with(|| (now + FLUSH_DELAY).max(self.hold_until));
        }
        Ok(())
    }

    /// Writes and floods all changes of our own log now, unless it is held.
    pub(crate) fn flush(&mut self, now: Time) {
        if now < self.hold_until || self.resync.is_some() {
            return;
        }
        self.flush_at = None;
        let table = self
            .logs
            .get(&self.me)
            .and_then(OriginLog::table)
            .unwrap_or(&NOTHING);
        let Some(flush) = self.own.flush(table) else {
            return;
        };
        let mut batches = batch::write(&self.identity, flush.at, flush.changes);
        if next_format::is_spoken(self.versions) {
            batch::extend(&self.identity, &mut batches);
        }
        for signed in &batches {
            if let Ok(parsed) = ParsedBatch::read(signed) {
                self.take(parsed, signed.clone());
            }
        }
        self.flood(&batches);
        let len: usize = batches.iter().map(SignedBatch::encoded_len).sum();
        if len > sync::PUSH_LEN {
            // so much at once may be too much for somebody's line
            self.spread_at.get_or_insert(now + receive::SPREAD_DELAY);
        }
    }

    /// The start that our own log is written under.
    pub(crate) fn boot(&self) -> u64 {
        self.own.run().boot
    }

    /// The table of an origin; empty when nothing is known of it.
    pub(crate) fn table(&self, origin: &PeerId) -> &Table {
        self.logs
            .get(origin)
            .and_then(OriginLog::table)
            .unwrap_or(&NOTHING)
    }

    /// What an origin says about itself.
    pub(crate) fn peer_record(&self, origin: &PeerId) -> Option<&PeerRecord> {
        as_peer(self.table(origin).get(&PEER_SLOT)?)
    }

    /// The peers whose tables are known, ourselves included once we have written, by key.
    pub(crate) fn origins(&self) -> impl Iterator<Item = PeerId> {
        self.logs
            .iter()
            .filter(|(_, log)| log.table().is_some())
            .map(|(origin, _)| *origin)
    }

    /// How many logs are held, at least in part.
    pub(crate) fn len(&self) -> usize {
        self.logs.len()
    }

    /// The known peers whose keys begin like this; nearly always one.
    pub(crate) fn with_short_key(&self, short: &[u8]) -> impl Iterator<Item = &PeerId> {
        let mut from = [0; 32];
        for (to, byte) in from.iter_mut().zip(short) {
            *to = *byte;
        }
        let range = self.logs.range(PeerId(from)..).map(|(origin, _)| origin);
        range.take_while(move |origin| origin.0.starts_with(short))
    }

    /// How far the table of an origin is.
    pub(crate) fn version(&self, origin: &PeerId) -> Version {
        self.logs
            .get(origin)
            .map_or(Version::NONE, OriginLog::version)
    }

    /// The latest batches of a log, at most `most` bytes of them, to send along with an answer.
    pub(crate) fn tail(&self, origin: &PeerId, most: usize) -> Vec<SignedBatch> {
        let held = self.logs.get(origin).map_or(&[][..], |log| log.tail(most));
        held.iter().map(|held| held.signed.clone()).collect()
    }

    /// Drops so far, by reason.
    pub(crate) const fn taken(&self) -> u64 {
        self.taken
    }

    /// Why messages, batches and entries were dropped.
    pub(crate) fn drops(&self) -> &GossipDrops {
        &self.drops
    }

    /// What to do next.
    pub(crate) fn poll_action(&mut self) -> Option<GossipAction> {
        self.actions.pop_front()
    }

    /// When [`Self::handle_timeout`] is due.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        [
            self.flush_at.filter(|_| self.resync.is_none()),
            self.resync.as_ref().and_then(Resync::deadline),
            self.digest_at,
            self.spread_at,
            self.passed.due_at(),
            self.wants_at,
            self.neighbours.next_due(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Time) {
        if self.flush_at.is_some_and(|at| at <= now) {
            self.flush(now);
        }
        self.pass_on(now);
        self.send_digests(now);
        self.send_pulls(now);
        self.drive_resync(now);
    }

    /// Applies a batch that is known to be the next one of its log.
    fn take(&mut self, parsed: ParsedBatch, signed: SignedBatch) {
        let origin = parsed.origin;
        let log = self.logs.entry(origin).or_default();
        let (before, version) = (log.bytes(), log.version());
        let changes = log.apply(parsed, signed, self.merge);
        let boot = log.version().run.boot;
        self.summary.replace(&origin, version, log.version());
        if boot != version.run.boot && origin != self.me {
            self.actions
                .push_back(GossipAction::Started { origin, boot });
        }
        self.bytes = (self.bytes + log.bytes()).saturating_sub(before);
        self.actions
            .extend(changes.into_iter().map(|change| GossipAction::Changed {
                origin,
                slot: change.slot,
                old: change.old,
                new: change.new,
            }));
    }

    fn send(&mut self, to: PeerId, body: Body) {
        self.actions.push_back(GossipAction::Send { to, body });
    }
}

/// What a peer says of itself, if this is that.
pub(crate) const fn as_peer(body: &entry::Body) -> Option<&PeerRecord> {
    match body {
        entry::Body::Peer(record) => Some(record),
        entry::Body::Subnet(_)
        | entry::Body::Endpoint(_)
        | entry::Body::Name(_)
        | entry::Body::Genesis(_)
        | entry::Body::Grant(_)
        | entry::Body::Loan(_)
        | entry::Body::Ban(_) => None,
    }
}
