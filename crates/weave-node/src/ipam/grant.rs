//! Giving space of ours to peers that ask: whole chunks where there are many, single addresses
//! where there are few.
//!
//! A request is answered once its record is durable, and a repeated one is answered the same.

use std::collections::VecDeque;
use std::time::Duration;

use weave_wire::proto::{
    LoanReturn, SpaceReply, SpaceRequest, control_message, space_reply::Outcome,
};
use weave_wire::{Cidr, PeerId, ip_from_bytes};

use super::Ipam;
use super::chunks::Grant;
use super::pool::{Phase, Pick};
use super::serve::reserved;
use super::span::{Span, subtract, total};
use super::store::ip_bits;

/// A loan this young is not ended: the message may be an old one about an earlier loan of the
/// same address, and a borrower repeats itself.
const LOAN_MIN_AGE: Duration = Duration::from_secs(2);
/// Most chunks given at a time.
const MAX_CHUNKS: u32 = 32;
/// Requests kept while it is not settled whose founding is in force.
const MAX_DEFERRED: usize = 64;
/// A text for people is cut to this many bytes.
const MAX_TEXT: usize = 200;

/// Requests that came while nothing could be given out.
#[derive(Debug, Clone, Default)]
pub(super) struct Deferred(VecDeque<(PeerId, SpaceRequest)>);

#[cfg(test)]
impl Deferred {
    pub(super) fn is_some_waiting(&self) -> bool {
        !self.0.is_empty()
    }
}

impl Ipam {
    /// A peer asks for space.
    pub(super) fn space_requested(&mut self, from: PeerId, request: SpaceRequest) {
        let queue = &mut self.deferred.0;
        if !queue
            .iter()
            .any(|(peer, waiting)| *peer == from && waiting.request_id == request.request_id)
            && queue.len() < MAX_DEFERRED
        {
            queue.push_back((from, request));
        }
    }

    /// Answers what peers asked, as far as it is settled what is ours.
    pub(super) fn answer_deferred(&mut self) {
        if self.is_unsettled() {
            return;
        }
        while let Some((from, request)) = self.deferred.0.pop_front() {
            self.answer_request(from, &request);
            self.refresh_map();
        }
    }

    /// A borrower gives an address back.
    pub(super) fn loan_returned(&mut self, from: PeerId, message: &LoanReturn) {
        let ours = self.genesis_id().is_some_and(|id| message.genesis == id);
        let Some(ip) = ip_bits(&message.address).filter(|_| ours) else {
            return;
        };
        let Some(lent) = self.pool.lent.get(&ip) else {
            return;
        };
        let old = self.now.saturating_sub(lent.since) >= LOAN_MIN_AGE;
        if lent.borrower == from && lent.phase == Phase::Kept && old {
            self.stage_loan_end(ip);
        }
    }

    fn answer_request(&mut self, from: PeerId, request: &SpaceRequest) {
        let id = request.request_id;
        let current = self
            .genesis_id()
            .is_some_and(|genesis| request.genesis == genesis);
        let Some(subnet) = requested_subnet(request).filter(|_| current && self.fault.is_none())
        else {
            self.reply(from, id, Outcome::NotOwner, None);
            return;
        };
        if self.answered_before(from, id) {
            return;
        }
        if !request.address.is_empty() {
            match ip_bits(&request.address) {
                Some(ip) => self.lend_wanted(from, id, subnet, ip),
                None => self.reply(from, id, Outcome::NotOwner, None),
            }
        } else if request.chunks > 0 {
            self.give_chunks(from, id, subnet, request.chunks.min(MAX_CHUNKS));
        } else {
            self.lend_any(from, id, subnet);
        }
    }

    /// Whether this request was served already, or is about to be; repeats the answer.
    fn answered_before(&mut self, from: PeerId, id: u64) -> bool {
        let grant = self
            .grants
            .values()
            .find(|own| own.grant.grantee == from && own.request_id == id);
        if let Some(own) = grant {
            if own.stored {
                self.reply(from, id, Outcome::Granted, None);
            }
            return true;
        }
        let loan = self
            .pool
            .lent
            .iter()
            .find(|(_, lent)| lent.borrower == from && lent.request_id == id);
        let Some((ip, lent)) = loan else { return false };
        let ip = *ip;
        if lent.phase == Phase::Kept {
            self.reply(from, id, Outcome::Granted, Some(ip));
        }
        true
    }

    fn lend_wanted(&mut self, from: PeerId, id: u64, subnet: Cidr, ip: u32) {
        let run = self.run_at(ip);
        let is_ours = run.is_some_and(|run| !self.is_fenced() && self.is_surely_ours(run));
        let reserved = Span::of(subnet).is_some_and(|subnet| reserved(subnet).any(|r| r == ip));
        if !is_ours {
            self.reply(from, id, Outcome::NotOwner, None);
        } else if reserved {
            self.reply_taken(from, id, "the network itself");
        } else if let Some(held) = self.pool.held.get(&ip) {
            let holder = held.owner.clone();
            self.reply_taken(from, id, &holder);
        } else if let Some(lent) = self.pool.lent.get(&ip) {
            if lent.borrower == from || self.is_gone(&lent.borrower) {
                // an earlier loan to the same peer, or to one that is gone: it asks again
                self.reply(from, id, Outcome::NotOwner, None);
            } else {
                let holder = format!("peer {}, by leave of it,", self.ledger.label(lent.borrower));
                self.reply_taken(from, id, &holder);
            }
        } else if let Some(user) = self.other_user(ip, from) {
            let holder = format!("a container of peer {}", self.ledger.label(user));
            self.reply_taken(from, id, &holder);
        } else {
            self.stage_loan(ip, from, id);
        }
    }

    /// Who uses this address, if it is not this peer.
    fn other_user(&self, ip: u32, peer: PeerId) -> Option<PeerId> {
        let mut users = self.users(Span::one(ip)).map(|(_, user)| user);
        users.find(|user| *user != peer)
    }

    fn lend_any(&mut self, from: PeerId, id: u64, subnet: Cidr) {
        let space = self.own_space(subnet);
        match self.pick(&space) {
            Some(Pick::Free(ip) | Pick::Quarantined(ip)) => self.stage_loan(ip, from, id),
            None => self.reply(from, id, Outcome::Full, None),
        }
    }

    fn give_chunks(&mut self, from: PeerId, id: u64, subnet: Cidr, wanted: u32) {
        match self.chunks_to_give(subnet, wanted) {
            Some((chunks, serial)) => self.give(from, id, chunks, serial),
            None => self.reply(from, id, Outcome::Full, None),
        }
    }

    /// Gives chunks of ours away, `serial` being the next of theirs.
    pub(super) fn give(&mut self, to: PeerId, request_id: u64, chunks: Span, serial: u32) {
        let grant = Grant {
            serial,
            taken_from: None,
            grantor: self.me,
            grantee: to,
            chunks,
            number: self.next_grant_number(),
            taken_at: 0,
        };
        self.stage_grant(grant, request_id);
    }

    /// A run of chunks of this subnet that we can do without, and its next serial: at most half
    /// of those that are wholly free, and not the lowest, which we fill next.
    fn chunks_to_give(&self, subnet: Cidr, wanted: u32) -> Option<(Span, u32)> {
        let genesis = self.genesis.as_ref()?;
        let within = Span::of(subnet)?;
        if genesis.lends_only(within) {
            return None;
        }
        let whole = genesis.whole_chunks(within)?;
        let busy = self
            .pool
            .occupied(self.now)
            .chain(self.users(within).map(|(ip, _)| ip))
            .filter_map(|ip| genesis.chunk_of(ip));
        let inner = self.ledger.subnets_inside(subnet).filter_map(Span::of);
        let inner = inner.filter_map(|inner| genesis.touched_chunks(inner));
        let holes: Vec<Span> = busy.map(Span::one).chain(inner).collect();
        let mut free: Vec<(Span, u32)> = Vec::new();
        for run in self.usable_runs() {
            let Some(chunks) = run.chunks.intersect(whole) else {
                continue;
            };
            let left = subtract(vec![chunks], holes.iter().copied());
            free.extend(left.into_iter().map(|chunks| (chunks, run.serial)));
        }
        let spans: Vec<Span> = free.iter().map(|(chunks, _)| *chunks).collect();
        let most = u32::try_from(total(&spans) / 2)
            .unwrap_or(u32::MAX)
            .min(wanted);
        if most == 0 {
            return None;
        }
        drop_lowest(&mut free);
        let len = |chunks: &Span| u32::try_from(chunks.len()).unwrap_or(u32::MAX);
        let fits = free.iter().find(|(chunks, _)| len(chunks) >= most);
        let (chunks, serial) =
            fits.or_else(|| free.iter().max_by_key(|(chunks, _)| len(chunks)))?;
        let last = chunks.first + (most.min(len(chunks)) - 1);
        Some((
            Span {
                first: chunks.first,
                last,
            },
            serial + 1,
        ))
    }

    fn reply_taken(&mut self, to: PeerId, request_id: u64, holder: &str) {
        let mut holder = holder.to_owned();
        if holder.len() > MAX_TEXT {
            holder.truncate(holder.floor_char_boundary(MAX_TEXT));
        }
        let reply = SpaceReply {
            request_id,
            outcome: Outcome::Taken.into(),
            holder,
            ..SpaceReply::default()
        };
        self.send(to, control_message::Body::SpaceReply(reply));
    }
}

/// Takes the lowest chunk away.
fn drop_lowest(free: &mut Vec<(Span, u32)>) {
    let Some((lowest, _)) = free.first_mut() else {
        return;
    };
    if lowest.first < lowest.last {
        lowest.first += 1;
    } else {
        free.remove(0);
    }
}

fn requested_subnet(request: &SpaceRequest) -> Option<Cidr> {
    let ip = ip_from_bytes(&request.subnet_ip).ok()?;
    let subnet = Cidr::new(ip, u8::try_from(request.subnet_prefix_len).ok()?).ok()?;
    (Span::of(subnet).is_some() && subnet.prefix_len() <= 30).then_some(subnet)
}
