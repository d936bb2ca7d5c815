//! Asking other peers for space: one owner after the other, the one with most space first.
//!
//! What counts is the record in the owner's signed log; its reply only tells how to go on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use weave_wire::proto::{SpaceReply, SpaceRequest, control_message, space_reply::Outcome};
use weave_wire::{Cidr, PeerId, Time};

use super::Ipam;
use super::pool::Loan;
use super::serve::whole_chunks_owned;
use super::span::Span;
use super::store::ip_bits;
use super::succession::LISTEN;

/// A request is sent again after this long without an answer.
const RESEND: Duration = Duration::from_millis(300);
/// The next owner is asked after this long without an answer.
const SILENCE: Duration = Duration::from_secs(1);
/// Owners may have come or changed after this long.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// The same where no request waits for it.
const LOOK_AGAIN_LATER: Duration = Duration::from_secs(30);
/// After a prefetch that brought nothing, none for this long.
const PREFETCH_PAUSE: Duration = Duration::from_secs(30);
/// Most chunks asked for at a time.
const MAX_CHUNKS: u64 = 32;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum AskKey {
    /// Any space of a subnet.
    Subnet(Cidr),
    /// This very address.
    Address(Cidr, u32),
}

/// How asking ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// No owner has anything left.
    Full,
    /// Somebody uses the address.
    Taken { holder: String },
    /// These owners have no session, and the others nothing left.
    Unreachable(Vec<PeerId>),
}

/// One thing asked for, of one owner at a time.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    state: AskState,
    /// Owners that have nothing left.
    full: BTreeSet<PeerId>,
    /// Owners that did not answer this time round.
    silent: BTreeSet<PeerId>,
    /// Owners that have no whole chunk to give, but perhaps an address.
    no_chunks: BTreeSet<PeerId>,
}

#[derive(Debug, Clone)]
enum AskState {
    /// The next owner is to be chosen.
    Choosing,
    Waiting(Waiting),
    Done {
        verdict: Verdict,
        at: Time,
    },
    /// A record has come that answers the request.
    Satisfied,
    /// The owner's view of who owns what differs from ours; look again then.
    Resting(Time),
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    peer: PeerId,
    request_id: u64,
    chunks: u32,
    resend_at: Time,
    next_at: Time,
}

impl Ask {
    const fn new() -> Self {
        Self {
            state: AskState::Choosing,
            full: BTreeSet::new(),
            silent: BTreeSet::new(),
            no_chunks: BTreeSet::new(),
        }
    }

    /// Owners that were asked and did not answer.
    pub(super) fn unheard(&self) -> Vec<PeerId> {
        let mut peers = self.silent.clone();
        if let AskState::Waiting(waiting) = &self.state {
            peers.insert(waiting.peer);
        }
        peers.into_iter().collect()
    }

    /// An owner has nothing left of the kind that it was asked for.
    fn note_full(&mut self, peer: PeerId) {
        let AskState::Waiting(waiting) = &self.state else {
            return;
        };
        if waiting.chunks > 0 {
            self.no_chunks.insert(peer);
        } else {
            self.full.insert(peer);
        }
        self.state = AskState::Choosing;
    }

    fn start_over(&mut self) {
        *self = Self::new();
    }
}

impl Ipam {
    /// How asking for this ended, if it has ended since the request was made. Asks if nobody
    /// did yet.
    pub(super) fn verdict(&mut self, key: AskKey, since: Time) -> Option<Verdict> {
        let ask = self.asks.entry(key).or_insert_with(Ask::new);
        if let AskState::Done { verdict, at } = &ask.state {
            if *at >= since {
                return Some(verdict.clone());
            }
            ask.start_over();
        }
        None
    }

    /// Looks for more space in a subnet although nobody waits for it yet.
    pub(super) fn start_prefetch(&mut self, subnet: Cidr) {
        self.prefetch_after
            .insert(subnet, self.now + PREFETCH_PAUSE);
        self.ask(AskKey::Subnet(subnet));
        self.drive_asks();
    }

    /// Asks for this.
    pub(super) fn ask(&mut self, key: AskKey) {
        self.asks.entry(key).or_insert_with(Ask::new);
    }

    /// How asking for this has ended.
    pub(super) fn concluded(&self, key: AskKey) -> Option<&Verdict> {
        match &self.asks.get(&key)?.state {
            AskState::Done { verdict, .. } => Some(verdict),
            AskState::Choosing
            | AskState::Waiting(_)
            | AskState::Satisfied
            | AskState::Resting(_) => None,
        }
    }

    /// Whether this is being asked for.
    pub(super) fn is_under_way(&self, key: AskKey) -> bool {
        self.asks.contains_key(&key) && self.concluded(key).is_none()
    }

    fn look_again(&self, key: AskKey) -> Duration {
        match self.is_waited_for(key) {
            true => LOOK_AGAIN,
            false => LOOK_AGAIN_LATER,
        }
    }

    /// Sends, repeats and ends what is asked of other peers.
    pub(super) fn drive_asks(&mut self) {
        if self.genesis.is_none() || self.is_unsettled() {
            return;
        }
        let mut asks = std::mem::take(&mut self.asks);
        asks.retain(|key, ask| self.drive_ask(*key, ask));
        self.asks = asks;
    }

    /// When an ask or a return needs attention next.
    pub(super) fn ask_deadline(&self) -> Option<Time> {
        let returns = self
            .returning
            .values()
            .map(|returning| returning.next_at)
            .min();
        if self.genesis.is_none() || self.is_unsettled() {
            return returns;
        }
        let asks = self.asks.iter().filter_map(|(key, ask)| match &ask.state {
            AskState::Choosing | AskState::Satisfied => None,
            AskState::Waiting(waiting) => Some(waiting.resend_at.min(waiting.next_at)),
            AskState::Done { at, .. } => Some(*at + self.look_again(*key)),
            AskState::Resting(until) => Some(*until),
        });
        asks.chain(returns).min()
    }

    /// A record that answers this request has come.
    pub(super) fn fulfilled(&mut self, request_id: u64) {
        for ask in self.asks.values_mut() {
            if matches!(&ask.state, AskState::Waiting(waiting) if waiting.request_id == request_id)
            {
                ask.state = AskState::Satisfied;
            }
        }
    }

    /// An answer to one of our requests.
    pub(super) fn space_replied(&mut self, from: PeerId, reply: &SpaceReply) {
        let now = self.now;
        let expected = |ask: &Ask| match &ask.state {
            AskState::Waiting(waiting) => {
                waiting.peer == from && waiting.request_id == reply.request_id
            }
            AskState::Choosing
            | AskState::Done { .. }
            | AskState::Satisfied
            | AskState::Resting(_) => false,
        };
        let Some((key, ask)) = self.asks.iter_mut().find(|(_, ask)| expected(ask)) else {
            return;
        };
        match (reply.outcome(), key) {
            (Outcome::Granted, _) => {
                let lent = ip_bits(&reply.address);
                if lent.is_some() {
                    ask.state = AskState::Satisfied;
                } else if let AskState::Waiting(waiting) = &mut ask.state {
                    // the record is still on its way: the owner is asked for it again
                    waiting.next_at = now + SILENCE;
                }
                if let Some(ip) = lent {
                    self.consider_loan(
                        ip,
                        Loan {
                            lender: from,
                            request_id: reply.request_id,
                        },
                    );
                }
            }
            (Outcome::Full, AskKey::Subnet(_)) => ask.note_full(from),
            (Outcome::Taken, AskKey::Address(..)) => {
                let holder = match reply.holder.as_str() {
                    "" => format!("peer {}", self.ledger.label(from)),
                    holder => format!("{holder} on peer {}", self.ledger.label(from)),
                };
                ask.state = AskState::Done {
                    verdict: Verdict::Taken { holder },
                    at: now,
                };
            }
            (Outcome::Full | Outcome::Taken | Outcome::NotOwner, _) => {
                ask.state = AskState::Resting(now + RESEND);
            }
        }
    }

    /// One step of one ask; whether it is to be kept.
    fn drive_ask(&mut self, key: AskKey, ask: &mut Ask) -> bool {
        let needed = self.is_needed(key);
        loop {
            match &mut ask.state {
                AskState::Done { at, .. } => {
                    let fresh = self.now < *at + self.look_again(key);
                    if !fresh && needed {
                        ask.start_over();
                        continue;
                    }
                    return fresh && needed;
                }
                AskState::Resting(until) => {
                    if self.now < *until {
                        return needed;
                    }
                    ask.state = AskState::Choosing;
                }
                AskState::Satisfied => {
                    if !needed {
                        return false;
                    }
                    ask.start_over();
                }
                AskState::Waiting(waiting) => {
                    let wanted = needed || (waiting.chunks > 0 && self.now < waiting.next_at);
                    if self.now < waiting.next_at && wanted {
                        if waiting.resend_at <= self.now {
                            waiting.resend_at = self.now + RESEND;
                            let waiting = *waiting;
                            self.send_request(key, &waiting);
                        }
                        return true;
                    }
                    if !wanted {
                        return false;
                    }
                    ask.silent.insert(waiting.peer);
                    ask.state = AskState::Choosing;
                }
                AskState::Choosing => {
                    if !self.choose(key, ask, needed) {
                        return false;
                    }
                    if matches!(ask.state, AskState::Done { .. }) {
                        return needed;
                    }
                }
            }
        }
    }

    /// Chooses whom to ask next; whether the ask goes on.
    fn choose(&mut self, key: AskKey, ask: &mut Ask, needed: bool) -> bool {
        let owners = self.owners_for(key);
        let chunks = match key {
            AskKey::Subnet(subnet) => self.chunks_to_ask(subnet),
            AskKey::Address(..) => 0,
        };
        // a peer that only has single addresses left is of no use ahead of need
        let spent = |peer: &PeerId| {
            ask.full.contains(peer) || (!needed && (chunks == 0 || ask.no_chunks.contains(peer)))
        };
        let candidates: Vec<PeerId> = owners
            .iter()
            .filter(|peer| self.reachable.contains(peer) && !spent(peer))
            .copied()
            .collect();
        let unasked = candidates
            .iter()
            .find(|peer| !ask.silent.contains(peer))
            .copied();
        let next = unasked.or_else(|| candidates.first().copied().filter(|_| needed));
        let Some(peer) = next else {
            if !needed {
                return false;
            }
            let away: Vec<PeerId> = owners
                .iter()
                .filter(|peer| !self.reachable.contains(peer))
                .copied()
                .collect();
            let verdict = if away.is_empty() {
                Verdict::Full
            } else {
                Verdict::Unreachable(away)
            };
            ask.state = AskState::Done {
                verdict,
                at: self.now,
            };
            return true;
        };
        if ask.silent.remove(&peer) {
            ask.silent.clear();
        }
        let waiting = Waiting {
            peer,
            request_id: self.new_request_id(),
            chunks: if ask.no_chunks.contains(&peer) {
                0
            } else {
                chunks
            },
            resend_at: self.now,
            next_at: self.now + SILENCE,
        };
        ask.state = AskState::Waiting(waiting);
        true
    }

    /// The other owners of what is asked for, the one with most of it first.
    fn owners_for(&self, key: AskKey) -> Vec<PeerId> {
        let Some(genesis) = &self.genesis else {
            return Vec::new();
        };
        let within = match key {
            AskKey::Subnet(subnet) => Span::of(subnet),
            AskKey::Address(_, ip) => Some(Span::one(ip)),
        };
        let Some(within) = within else {
            return Vec::new();
        };
        let mut space: BTreeMap<PeerId, u64> = BTreeMap::new();
        for run in self.map.runs().filter(|run| run.owner != self.me) {
            if let Some(shared) = genesis.addresses(run.chunks).intersect(within) {
                *space.entry(run.owner).or_default() += shared.len();
            }
        }
        let mut owners: Vec<(u64, PeerId)> = space
            .into_iter()
            .map(|(peer, size)| (u64::MAX - size, peer))
            .collect();
        owners.sort_unstable();
        owners.into_iter().map(|(_, peer)| peer).collect()
    }

    /// As many chunks as we have already, so that the share doubles; none where single
    /// addresses are lent.
    fn chunks_to_ask(&self, subnet: Cidr) -> u32 {
        let (Some(genesis), Some(within)) = (&self.genesis, Span::of(subnet)) else {
            return 0;
        };
        if genesis.lends_only(within) {
            return 0;
        }
        let owned = whole_chunks_owned(genesis, &self.map.owned_by(self.me), within);
        u32::try_from(owned.clamp(1, MAX_CHUNKS)).unwrap_or(1)
    }

    fn send_request(&mut self, key: AskKey, waiting: &Waiting) {
        let Some(genesis) = self.genesis_id() else {
            return;
        };
        let (subnet, address) = match key {
            AskKey::Subnet(subnet) => (subnet, Vec::new()),
            AskKey::Address(subnet, ip) => (subnet, ip.to_be_bytes().to_vec()),
        };
        let request = SpaceRequest {
            request_id: waiting.request_id,
            genesis: genesis.to_vec(),
            subnet_ip: weave_wire::ip_bytes(subnet.first()),
            subnet_prefix_len: u32::from(subnet.prefix_len()),
            chunks: waiting.chunks,
            address,
        };
        self.send(waiting.peer, control_message::Body::SpaceRequest(request));
    }

    pub(super) fn new_request_id(&mut self) -> u64 {
        self.next_request = self.next_request.wrapping_add(1);
        let id = (self.boot_mark() << 32) | u64::from(self.next_request);
        self.asked.retain(|_, at| self.now < *at + LISTEN);
        self.asked.insert(id, self.now);
        id
    }

    /// Whether this request was made a moment ago: whoever grants it then was in contact with the
    /// top of the chains for long enough.
    pub(super) fn was_asked_lately(&self, request_id: u64) -> bool {
        let at = self.asked.get(&request_id);
        at.is_some_and(|at| self.now < *at + LISTEN)
    }

    /// The part of a request's number that is the same for this whole run of the program.
    pub(super) const fn boot_mark(&self) -> u64 {
        self.config.boot & 0xffff_ffff
    }
}
