//! Addresses: who owns which part of the range, and who uses which address.
//!
//! One peer founds the range and owns all of its chunks; grants in the signed logs move chunks
//! from owner to owner. An owner gives out the addresses of its chunks by itself, and lends
//! single addresses to peers that ask. Owns the tables of addresses held and lent, the requests
//! to and from other peers, and what of that must survive a restart. Does not own the logs, the
//! sessions or the disk: it asks for them through [`IpamAction`].
//!
//! Invariants: an address is given out only by the owner of its chunk, and while no peer shows a
//! container that has it; a decision is durable before anybody hears of it; every request is
//! answered within five seconds.

mod ask;
mod borrow;
mod chunks;
mod deadline;
mod error;
mod found;
mod genesis;
mod grant;
mod ledger;
mod merge;
mod pool;
mod recover;
mod restore;
mod serve;
mod span;
mod stage;
mod status;
mod store;
mod succession;

#[cfg(test)]
mod mesh_tests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;
use std::time::Duration;

use weave_wire::proto::{self, control_message, entry};
use weave_wire::{Cidr, PeerId, Time};

pub use error::IpamError;
pub use status::{Allocated, IpamStatus, PeerShare};
pub use succession::TakeBack;

use ask::{Ask, AskKey};
use borrow::Returning;
use chunks::{ChunkMap, Grant, Run};
use found::Founding;
use genesis::{Genesis, GenesisId};
use grant::Deferred;
use ledger::{Ledger, Touched};
use merge::Foundlings;
use pool::{Loan, Pool};
use recover::Recovery;
use serve::Pending;
use span::Span;
use stage::Staged;
use store::granted_chunks;
use succession::Succession;

/// Owner of an address of the range that is a number in an IPv6 address: filed under the range.
pub const NUMBER_OF_IPV6: &str = "an IPv6 address of a container";

/// Requests are answered after this long at most, a little before the five seconds promised.
const ANSWER_WITHIN: Duration = Duration::from_millis(4800);
/// At most this many requests wait at a time.
const MAX_PENDING: usize = 4096;

/// What an address allocator is told at start.
#[derive(Debug, Clone, Default)]
pub struct IpamConfig {
    /// Range that addresses come from; none: addresses are not allocated here.
    pub range: Option<Cidr>,
    /// Subnet of those who ask for no other; for `status`.
    pub default_subnet: Option<Cidr>,
    /// Counts the starts of this peer: tells this run's requests from earlier ones'.
    pub boot: u64,
    /// Unix milliseconds when time was zero, as this host sees it: a label for foundings, and tells
    /// how long this host was down.
    pub wall_ms: u64,
    /// When space is taken back from peers that are gone.
    pub take_back: TakeBack,
    /// A bug put in on purpose.
    #[cfg(feature = "seeded-bugs")]
    pub seeded_bug: Option<crate::seeded::SeededBug>,
}

/// What the allocator wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum IpamAction {
    /// Set or remove an entry of our own log.
    SetEntry {
        /// Names the entry, the same each time it is set.
        key: String,
        /// What it says; none removes it.
        body: Option<entry::Body>,
    },
    /// Send a message to a peer, if it has a session.
    Send {
        /// The peer.
        to: PeerId,
        /// The message.
        body: control_message::Body,
    },
    /// Make these writes durable, all or none, and say so with the token.
    Persist {
        /// Names the writes.
        token: u64,
        /// Keys with their values, or none to remove them.
        writes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    },
    /// Answer a request.
    Answer {
        /// The request.
        ticket: u64,
        /// The address, or why there is none.
        result: Result<Ipv4Addr, IpamError>,
    },
}

/// The address allocator of one peer.
#[derive(Debug)]
// two of one peer would give the same address twice
#[cfg_attr(test, derive(Clone))]
pub struct Ipam {
    me: PeerId,
    config: IpamConfig,
    now: Time,
    /// What was read from disk contradicts itself or the configuration: nothing is given out.
    fault: Option<String>,
    /// The founding that everything else here refers to.
    genesis: Option<Genesis>,
    founding: Founding,
    recovery: Recovery,
    ledger: Ledger,
    reachable: BTreeSet<PeerId>,
    succession: Succession,
    deferred: Deferred,
    /// Grants of ours by first chunk and serial, with the request each answers.
    grants: BTreeMap<(u32, u32), OwnGrant>,
    /// Receipts of what came to us, by first chunk and serial.
    owned: BTreeMap<(u32, u32), Grant>,
    /// Grants to us that answer what we had just asked for, by first chunk and serial: the last chunk.
    expected: BTreeMap<(u32, u32), u32>,
    /// When chunks came to us otherwise: whoever gave them may have been taken for gone since. The
    /// top of the chains is listened to before they are used.
    turned_up: BTreeMap<(u32, u32), Time>,
    /// Those of `owned` that are not on disk yet.
    owned_unsaved: BTreeSet<(u32, u32)>,
    map: ChunkMap,
    map_stale: bool,
    /// Grants known that have no effect, because their grantor owned nothing.
    void_grants: usize,
    pool: Pool,
    foundlings: Foundlings,
    pending: Vec<Pending>,
    asks: BTreeMap<AskKey, Ask>,
    /// Loans to us that no request has taken yet.
    offers: BTreeMap<u32, Loan>,
    returning: BTreeMap<(GenesisId, PeerId, u32), Returning>,
    /// The last request that had been made when an address was last given back to a lender.
    returned: BTreeMap<(PeerId, u32), u32>,
    /// Subnets in which space may be running low.
    low: BTreeSet<Cidr>,
    /// No prefetch in these subnets before the given time.
    prefetch_after: BTreeMap<Cidr, Time>,
    next_request: u32,
    /// When requests were made lately.
    asked: BTreeMap<u64, Time>,
    staged: BTreeMap<u64, Staged>,
    next_token: u64,
    /// What failed to be stored is tried again then.
    retry_storage_at: Option<Time>,
    actions: VecDeque<IpamAction>,
    /// Something came in that has not been acted on.
    stirred: bool,
}

/// A grant of ours.
#[derive(Debug, Clone, Copy)]
struct OwnGrant {
    grant: Grant,
    request_id: u64,
    stored: bool,
}

impl Ipam {
    /// An allocator that remembers what `stored` holds: all keys of the store may be passed,
    /// those of others are left alone.
    pub fn new(me: PeerId, config: IpamConfig, stored: &[(Vec<u8>, Vec<u8>)], now: Time) -> Self {
        let mut ipam = Self {
            me,
            config,
            now,
            fault: None,
            genesis: None,
            founding: Founding::new(now),
            recovery: Recovery::default(),
            ledger: Ledger::new(me),
            reachable: BTreeSet::new(),
            succession: Succession::new(now),
            deferred: Deferred::default(),
            grants: BTreeMap::new(),
            owned: BTreeMap::new(),
            expected: BTreeMap::new(),
            turned_up: BTreeMap::new(),
            owned_unsaved: BTreeSet::new(),
            map: ChunkMap::default(),
            map_stale: true,
            void_grants: 0,
            pool: Pool::default(),
            foundlings: Foundlings::new(),
            pending: Vec::new(),
            asks: BTreeMap::new(),
            offers: BTreeMap::new(),
            returning: BTreeMap::new(),
            returned: BTreeMap::new(),
            low: BTreeSet::new(),
            prefetch_after: BTreeMap::new(),
            next_request: 0,
            asked: BTreeMap::new(),
            staged: BTreeMap::new(),
            next_token: 0,
            retry_storage_at: None,
            actions: VecDeque::new(),
            stirred: true,
        };
        ipam.restore(stored);
        ipam
    }

    /// Asks for an address of `subnet`: the wanted one, or any. `owner` is what errors name.
    ///
    /// The answer carries the ticket and comes within five seconds. The same ticket is answered
    /// with the same address; the same owner may hold many.
    pub fn allocate(
        &mut self,
        ticket: u64,
        owner: &str,
        subnet: Cidr,
        wanted: Option<Ipv4Addr>,
        now: Time,
    ) {
        self.stir(now);
        if self.repeats(ticket) {
            return;
        }
        let refusal = self.check(subnet, wanted).err();
        let refusal =
            refusal.or_else(|| (self.pending.len() >= MAX_PENDING).then_some(IpamError::TooMany));
        if let Some(refusal) = refusal {
            self.answer(ticket, Err(refusal));
            return;
        }
        self.pending.push(Pending {
            ticket,
            owner: owner.to_owned(),
            subnet,
            wanted: wanted.map(Ipv4Addr::to_bits),
            since: now,
        });
    }

    /// Gives an address back. Unknown addresses are no error: the asker may have been told of a
    /// failure that was none.
    pub fn release(&mut self, subnet: Cidr, address: Ipv4Addr, now: Time) {
        self.stir(now);
        let ip = address.to_bits();
        self.recovery.forget_claim(ip);
        if self
            .pool
            .held
            .get(&ip)
            .is_some_and(|held| held.subnet == subnet)
        {
            self.foundlings.remove(&ip);
            self.stage_release(ip);
        }
    }

    /// Gives out nothing from now on, for this reason.
    pub fn refuse(&mut self, why: &str, now: Time) {
        self.stir(now);
        self.fault.get_or_insert_with(|| why.to_owned());
    }

    /// The addresses held for this owner, with their subnets.
    pub fn lookup(&self, owner: &str) -> Vec<Allocated> {
        self.allocated()
            .filter(|allocated| allocated.owner == owner)
            .collect()
    }

    /// Takes note of a change in a log: of foundings, grants, loans, subnets, and of peer
    /// records for the sake of nicknames.
    pub fn apply(
        &mut self,
        origin: PeerId,
        slot: u64,
        old: Option<&entry::Body>,
        new: Option<&entry::Body>,
        now: Time,
    ) {
        if let Some(entry::Body::Peer(_)) = new.or(old)
            && origin != self.me
            && self.founding.heard_record(origin, new)
        {
            self.stir(now);
        }
        let touched = self.ledger.apply(origin, slot, new);
        let only_stations = Touched {
            stations: true,
            ..Touched::default()
        };
        let concerns_nobody = touched == only_stations && self.pending.is_empty();
        if touched == Touched::default() || concerns_nobody {
            return;
        }
        self.stir(now);
        let loans_changed = touched.unlent_to_us || touched.lent_to_us.is_some();
        self.map_stale |= touched.grants || loans_changed;
        let is_current = |lender, ip| {
            let loan = self.ledger.loan_to_us(lender, ip);
            loan.is_some_and(|loan| Some(loan.genesis) == self.genesis_id())
        };
        if let Some((lender, ip, request_id)) = touched.lent_to_us
            && is_current(lender, ip)
        {
            self.consider_loan(ip, Loan { lender, request_id });
        }
        if let Some(request_id) = touched.fulfilled {
            if let Some(entry::Body::Grant(record)) = new
                && let Some(chunks) = granted_chunks(record)
                && self.was_asked_lately(request_id)
            {
                let key = (chunks.first, record.serial);
                self.expected.insert(key, chunks.last);
            }
            self.fulfilled(request_id);
        }
    }

    /// The peers that messages reach now.
    pub fn set_reachable(&mut self, peers: Vec<PeerId>, now: Time) {
        self.stir(now);
        if self.reachable.is_empty() && !peers.is_empty() {
            self.founding.listen_from(now);
        }
        self.reachable = peers.into_iter().collect();
    }

    /// How many peers this host was told to connect to, and how many of them are connected.
    pub fn set_targets(&mut self, all: usize, connected: usize, now: Time) {
        if self.founding.targets == (all, connected) {
            return;
        }
        self.stir(now);
        if all > self.founding.targets.0 {
            self.founding.listen_from(now);
        }
        self.founding.targets = (all, connected);
    }

    /// Whether this host knows no founding, and somebody waits for one.
    pub const fn is_asked_to_found(&self) -> bool {
        self.genesis.is_none() && self.founding.is_asked()
    }

    /// A peer that has said nothing since it started, if there is one.
    pub fn set_unheard(&mut self, peer: Option<PeerId>, now: Time) {
        if self.founding.set_unheard(peer) {
            self.stir(now);
        }
    }

    /// Whether this host knows no founding and may not make one, for most of its targets are not
    /// connected.
    pub fn awaits_targets(&self) -> bool {
        self.genesis.is_none() && self.founding.lacks_majority()
    }

    /// The founding that this host depends on, if any.
    pub fn part_in(&self) -> Option<Box<proto::Founding>> {
        let genesis = self.genesis.as_ref().filter(|_| self.has_stake());
        genesis.map(Genesis::to_tell)
    }

    /// Asks for a founding ahead of need; says why there is none yet, or nothing when there is.
    pub fn prime(&mut self, now: Time) -> Option<String> {
        if self.genesis.is_some() && !self.is_unsettled() {
            return None;
        }
        self.handle_found_request(self.me, now);
        Some(self.not_ready())
    }

    /// The IPv6 subnet that goes with an IPv4 one unless somebody chose another, the same on all
    /// peers; nothing until a founding is in force.
    pub fn ipv6_subnet(&self, subnet: Cidr) -> Option<Cidr> {
        self.genesis.as_ref()?.ipv6_subnet(subnet)
    }

    /// A peer asks that somebody found the range.
    pub fn handle_found_request(&mut self, from: PeerId, now: Time) {
        self.stir(now);
        self.founding.asked_by(from, now);
    }

    /// A peer asks for address space.
    pub fn handle_space_request(&mut self, from: PeerId, request: proto::SpaceRequest, now: Time) {
        self.stir(now);
        self.space_requested(from, request);
    }

    /// A peer answers a request for space. Records that came with it have been applied before.
    pub fn handle_space_reply(&mut self, from: PeerId, reply: proto::SpaceReply, now: Time) {
        self.stir(now);
        self.space_replied(from, &reply);
    }

    /// A peer gives back an address that was lent to it.
    pub fn handle_loan_return(&mut self, from: PeerId, message: proto::LoanReturn, now: Time) {
        self.stir(now);
        self.loan_returned(from, &message);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Time) {
        self.stir(now);
    }

    /// The next thing that the allocator wants done.
    pub fn poll_action(&mut self) -> Option<IpamAction> {
        if self.stirred {
            self.stirred = false;
            self.run();
        }
        self.actions.pop_front()
    }

    fn stir(&mut self, now: Time) {
        self.now = self.now.max(now);
        self.stirred = true;
    }

    /// Acts on everything that came in since the last time.
    fn run(&mut self) {
        self.refresh_map();
        if self.recovery.is_awaited() {
            self.expire();
            self.retry_storage();
            return;
        }
        self.drive_genesis();
        self.drive_founding();
        self.refresh_map();
        self.recover();
        self.drive_succession();
        self.answer_deferred();
        self.serve();
        self.adopt();
        self.drive_asks();
        self.serve();
        self.return_leftovers();
        self.expire();
        self.prefetch();
        self.retry_storage();
    }

    fn act(&mut self, action: IpamAction) {
        self.actions.push_back(action);
    }

    fn answer(&mut self, ticket: u64, result: Result<Ipv4Addr, IpamError>) {
        self.act(IpamAction::Answer { ticket, result });
    }

    fn send(&mut self, to: PeerId, body: control_message::Body) {
        self.act(IpamAction::Send { to, body });
    }

    /// Whether this peer depends on the founding in force: anything given out, or received.
    fn has_stake(&self) -> bool {
        !(self.pool.is_unused() && self.grants.is_empty() && self.owned.is_empty())
    }

    fn genesis_id(&self) -> Option<GenesisId> {
        self.genesis.as_ref().map(|genesis| genesis.id)
    }

    /// The chunks that an address of the range lies in, with their owner.
    fn run_at(&self, ip: u32) -> Option<&Run> {
        let chunk = self.genesis.as_ref()?.chunk_of(ip)?;
        self.map.run_of(chunk)
    }

    /// Owners of all chunks, from the grants known by now.
    fn refresh_map(&mut self) {
        if !self.map_stale {
            return;
        }
        self.map_stale = false;
        self.succession.look_again();
        let Some(genesis) = &self.genesis else {
            self.map = ChunkMap::default();
            self.find_foundlings();
            return;
        };
        let mut map = ChunkMap::founded(genesis.chunks(), genesis.founder);
        let mut grants: Vec<Grant> = self.ledger.grants(genesis.id).collect();
        if !self.forgets_grants() {
            grants.extend(self.grants.values().map(|own| own.grant));
        }
        grants.extend(self.owned.values());
        self.void_grants = map.apply_all(grants, |peer| self.is_banned(peer));
        self.map = map;
        self.forget_lost();
        self.note_owned();
        self.find_foundlings();
    }

    /// Whether a run is ours beyond doubt.
    fn is_surely_ours(&self, run: &Run) -> bool {
        run.owner == self.me
            && (run.serial == 0
                || lies_in(run.chunks, run.serial, &self.owned, |it| it.chunks.last))
    }

    /// Forgets chunks that were taken from us: a restart without peers would not know it.
    fn forget_lost(&mut self) {
        let gave = |run: &Run, serial: u32| {
            let first = Span::one(run.chunks.first);
            lies_in(first, serial + 1, &self.grants, |own| own.grant.chunks.last)
        };
        let is_lost =
            |run: &Run, serial| run.serial < serial || (run.owner != self.me && !gave(run, serial));
        let mut left = BTreeMap::new();
        for (key, receipt) in &self.owned {
            let runs = self.map.runs_within(receipt.chunks);
            let within = runs.filter_map(|run| Some((run, run.chunks.intersect(receipt.chunks)?)));
            let (lost, kept): (Vec<_>, Vec<_>) = within.partition(|(run, _)| is_lost(run, key.1));
            if lost.is_empty() {
                left.insert(*key, *receipt);
                continue;
            }
            left.extend(kept.iter().map(|(_, part)| {
                let chunks = *part;
                ((chunks.first, key.1), Grant { chunks, ..*receipt })
            }));
        }
        if left != self.owned {
            let keys = self.owned.keys().chain(left.keys());
            let changed = keys.filter(|key| self.owned.get(key) != left.get(key));
            self.owned_unsaved.extend(changed.copied());
            self.owned = left;
        }
    }

    /// Remembers chunks that have come to us, so that a restart without peers knows of them.
    fn note_owned(&mut self) {
        let new = |run: &Run| run.owner == self.me && !self.is_surely_ours(run);
        let new: Vec<Run> = self.map.runs().filter(|run| new(run)).cloned().collect();
        let turned_up = std::mem::take(&mut self.turned_up);
        for run in &new {
            let key = (run.chunks.first, run.serial);
            let take = self.own_take(run);
            // what we take ourselves is ours once that is on disk
            if take.is_some_and(|own| !own.stored) {
                continue;
            }
            if take.is_none() && !lies_in(run.chunks, run.serial, &self.expected, |last| *last) {
                let since = turned_up.get(&key).copied().unwrap_or(self.now);
                if !self.hears_top_since(since) {
                    self.turned_up.insert(key, since);
                    continue;
                }
            }
            let receipt = Grant::receipt(self.me, run.chunks, run.serial, run.taken_at);
            self.owned.insert(key, receipt);
            self.owned_unsaved.insert(key);
        }
        self.expected.retain(|(first, serial), _| {
            // it may be heard before what it follows from
            let run = self.map.run_of(*first);
            run.is_none_or(|run| run.serial < *serial)
        });
        self.stage_owned();
    }

    /// The grant by which we took this run.
    fn own_take(&self, run: &Run) -> Option<&OwnGrant> {
        let mut own = self.grants.values();
        own.find(|OwnGrant { grant, .. }| {
            let takes = grant.grantee == self.me && grant.serial == run.serial;
            takes && grant.chunks.contains(run.chunks.first)
        })
    }

    #[cfg(feature = "seeded-bugs")]
    fn forgets_grants(&self) -> bool {
        self.config.seeded_bug == Some(crate::seeded::SeededBug::Allocator)
    }

    #[cfg(not(feature = "seeded-bugs"))]
    const fn forgets_grants(&self) -> bool {
        false
    }
}

/// Whether one of these spans, by first chunk and serial, is of this serial and holds all of these
/// chunks.
fn lies_in<T>(
    chunks: Span,
    serial: u32,
    spans: &BTreeMap<(u32, u32), T>,
    last: impl Fn(&T) -> u32,
) -> bool {
    // the nearest is the one, mostly
    let mut before = spans.range(..=(chunks.first, serial)).rev();
    before.any(|((_, of), span)| *of == serial && chunks.last <= last(span))
}
