//! Space of peers that are gone: who takes it back, and when an owner may not use its own.
//!
//! A peer is gone once it is banned: then the nearest peer up the chain of its chunks that is not
//! gone takes them back, with a grant to itself that says from whom. Or it is gone when it has not
//! been live for a week: then the top of the chain does. The top of all chains is the founder or,
//! once that is banned, the first peer that it granted to and that is not (its heir); where all of
//! these are banned, the first that they granted to. Whoever has had no contact with the top for
//! three days leaves its space alone: it is *fenced*, and gives out, lends, grants and takes back
//! nothing. Contact is what lasts for long enough to hear all news. So whoever is taken for gone
//! has stopped to give out long before; and once it is in contact again, it has heard what was
//! taken from it. The top itself is never fenced, and only a ban makes it gone.
//!
//! Owns the times of contact. They are counted by the node's clock; across a restart by the wall
//! clock, where a clock that went back counts as no contact.

#[cfg(test)]
mod exhaustive;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use weave_wire::{PeerId, Time};

use super::Ipam;
use super::chunks::{Grant, Run};
use super::genesis::{Genesis, GenesisId};
use super::pool::{Lent, Phase};
use super::span::Span;
use super::store::contact_write;

/// An owner without contact to its chain leaves its space alone after this long.
const FENCE_AFTER: Duration = Duration::from_secs(3 * 86_400);
/// Space of a peer without a sign of life is taken back after this long.
const TAKE_BACK_AFTER: Duration = Duration::from_secs(7 * 86_400);
/// Contact is written down this often, more often where the times are shorter than usual.
const NOTE_CONTACT: Duration = Duration::from_secs(3600);

/// Whoever is in contact for so long has heard all news: lost ones are repaired every ten seconds.
pub(super) const LISTEN: Duration = Duration::from_secs(20);
/// While it is not settled which founding is in force.
const SOON: Duration = Duration::from_secs(1);
/// A live peer's log has been heard so long after the start.
const HEARD_AFTER: Duration = Duration::from_secs(60);

/// After how long without contact what happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TakeBack {
    /// An owner leaves its space alone.
    pub fence_after: Duration,
    /// Space is taken back from its owner. Well after the former: it takes half a minute until
    /// silence is noticed.
    pub take_after: Duration,
}

impl Default for TakeBack {
    fn default() -> Self {
        Self {
            fence_after: FENCE_AFTER,
            take_after: TAKE_BACK_AFTER,
        }
    }
}

impl TakeBack {
    /// The usual times, shortened so that space is taken back after this long.
    pub fn after(take_after: Duration) -> Self {
        Self {
            fence_after: take_after * 3 / 7,
            take_after,
        }
    }

    fn note_every(&self) -> Duration {
        NOTE_CONTACT.min(self.fence_after / 8)
    }
}

/// Who is there, who was when, and who never comes back.
#[derive(Debug, Clone)]
pub(super) struct Succession {
    banned: BTreeSet<PeerId>,
    live: BTreeSet<PeerId>,
    /// Since when peers that were live here are not.
    left: BTreeMap<PeerId, Time>,
    /// Since when the live ones are.
    came: BTreeMap<PeerId, Time>,
    /// When the last contact ended that was long enough for both to hear all that the other knew.
    heard: BTreeMap<PeerId, Time>,
    /// Nothing is known of contacts before this.
    since: Time,
    /// How long the last contact with the top of the chains was ago then.
    contact_age: Duration,
    noted_at: Option<Time>,
    /// The top of the chains that this host knows of last, and since when where it is not the
    /// founder.
    top: Option<PeerId>,
    top_since: Option<Time>,
    /// Nothing is taken back before this: the disk refused, or others have not been heard yet.
    not_before: Time,
    /// Nobody looks before this, unless something changes.
    look_at: Option<Time>,
}

impl Succession {
    pub(super) const fn new(since: Time) -> Self {
        Self {
            banned: BTreeSet::new(),
            live: BTreeSet::new(),
            left: BTreeMap::new(),
            came: BTreeMap::new(),
            heard: BTreeMap::new(),
            since,
            contact_age: Duration::ZERO,
            noted_at: None,
            not_before: Time::ZERO,
            top: None,
            top_since: None,
            look_at: None,
        }
    }

    /// The disk says when there was contact last, in Unix milliseconds; none: it does not know.
    pub(super) fn restore(&mut self, contact_ms: Option<u64>, wall_ms: u64) {
        let age = contact_ms.and_then(|at| wall_ms.checked_sub(at));
        self.contact_age = age.map_or(Duration::MAX, Duration::from_millis);
        // what others say of their space was forgotten in the restart
        self.not_before = self.since + LISTEN;
    }

    /// Something has changed that decides who takes what.
    pub(super) const fn look_again(&mut self) {
        self.look_at = None;
    }

    /// The disk refused: nothing is taken back before this.
    pub(super) fn wait_until(&mut self, at: Time) {
        self.not_before = self.not_before.max(at);
    }

    /// How long a peer has not been live, as far as this start knows.
    fn silence(&self, peer: &PeerId, now: Time) -> Duration {
        if self.live.contains(peer) {
            return Duration::ZERO;
        }
        now.saturating_sub(self.left.get(peer).copied().unwrap_or(self.since))
    }

    /// Whether there is contact with a peer since then at the latest, for long enough to have heard
    /// everything.
    fn hears_since(&self, peer: &PeerId, at: Time, now: Time) -> bool {
        let came = self.came.get(peer);
        came.is_some_and(|came| now >= (*came).max(at) + LISTEN)
    }

    /// How long there has been no contact with a peer, for all that we know.
    fn without_contact(&self, peer: &PeerId, now: Time) -> Duration {
        if self.hears_since(peer, Time::ZERO, now) {
            return Duration::ZERO;
        }
        match self.heard.get(peer) {
            Some(heard) => now.saturating_sub(*heard),
            None => now
                .saturating_sub(self.since)
                .saturating_add(self.contact_age),
        }
    }
}

impl Ipam {
    /// The peers that live, this one included or not.
    pub fn set_live(&mut self, live: &BTreeSet<PeerId>, now: Time) {
        self.stir(now);
        let succession = &mut self.succession;
        for peer in succession.live.difference(live) {
            succession.left.insert(*peer, now);
            if succession.hears_since(peer, Time::ZERO, now) {
                succession.heard.insert(*peer, now);
            }
            succession.came.remove(peer);
        }
        for peer in live.difference(&succession.live) {
            succession.left.remove(peer);
            succession.came.insert(*peer, now);
        }
        succession.live.clone_from(live);
        succession.look_again();
    }

    /// A peer is banned: what it owns is others' to take.
    pub fn ban(&mut self, peer: PeerId, now: Time) {
        self.stir(now);
        if self.succession.banned.insert(peer) {
            self.succession.look_again();
            self.map_stale = true;
        }
    }

    pub(super) fn is_banned(&self, peer: &PeerId) -> bool {
        self.succession.banned.contains(peer)
    }

    /// Whether a peer is taken for gone: it is banned, or silent for too long.
    pub(super) fn is_gone(&self, peer: &PeerId) -> bool {
        let succession = &self.succession;
        // who does not know of a new top may be in contact with the former one
        let knows_top = || match succession.top_since {
            Some(since) => succession.left.get(peer).is_some_and(|left| *left >= since),
            None => true,
        };
        let is_silent = || succession.silence(peer, self.now) >= self.config.take_back.take_after;
        *peer != self.me && (self.is_banned(peer) || (is_silent() && knows_top()))
    }

    /// Whether space of ours is to be left alone, for want of contact.
    pub(super) fn is_fenced(&self) -> bool {
        #[cfg(feature = "seeded-bugs")]
        if self.config.seeded_bug == Some(crate::seeded::SeededBug::Fence) {
            return false;
        }
        let after = self.config.take_back.fence_after;
        let top = self.top().filter(|top| *top != self.me);
        top.is_some_and(|top| self.succession.without_contact(&top, self.now) >= after)
    }

    /// Whether the top of the chains has been listened to since then: it has said what it took.
    pub(super) fn hears_top_since(&self, at: Time) -> bool {
        let hears = |top: PeerId| self.succession.hears_since(&top, at, self.now);
        self.top().is_some_and(|top| top == self.me || hears(top))
    }

    /// Chunks of ours that we may use.
    pub(super) fn usable_runs(&self) -> impl Iterator<Item = &Run> + '_ {
        let is_fenced = self.is_fenced();
        let own = move |run: &&Run| !is_fenced && self.is_surely_ours(run);
        self.map.runs().filter(own)
    }

    /// A peer that is not taken for gone and uses this address: its container has it, or it was
    /// lent by somebody else.
    pub(super) fn user_of(&self, ip: u32) -> Option<PeerId> {
        self.users(Span::one(ip)).next().map(|(_, user)| user)
    }

    /// Addresses between these that others use, with those peers.
    pub(super) fn users(&self, span: Span) -> impl Iterator<Item = (u32, PeerId)> + '_ {
        let genesis = self.genesis_id();
        let lent = self.ledger.borrowed(span);
        let lent =
            lent.filter(move |(_, id, borrower)| Some(*id) == genesis && *borrower != self.me);
        let used = self.ledger.used_by_others(span);
        used.chain(lent.map(|(ip, _, borrower)| (ip, borrower)))
            .filter(|(_, user)| !self.is_gone(user))
    }

    /// Takes back what peers that are gone owned or had borrowed, where that is for us to do.
    pub(super) fn drive_succession(&mut self) {
        let idle = self.succession.look_at.is_some_and(|at| self.now < at);
        if idle {
            return;
        }
        self.succession.look_at = None;
        if self.genesis.is_none() || self.fault.is_some() {
            return;
        }
        if self.is_unsettled() {
            self.succession.look_at = Some(self.now + SOON);
            return;
        }
        if self.now < self.succession.not_before {
            self.succession.look_at = Some(self.succession.not_before);
            return;
        }
        self.note_top();
        self.note_contact();
        if !self.turned_up.is_empty() {
            self.note_owned();
        }
        // a lender that was away, or had not been heard since the start, may have ended a loan
        self.find_foundlings();
        self.succession.look_at = Some(self.next_look());
        if self.is_fenced() {
            return;
        }
        let gone = self.map.runs().filter(|run| self.is_ours_to_take(run));
        let gone = gone.map(|run| (run.owner, run.chunks, run.serial + 1));
        // another grant of ours may stand there, made when less or more was in sight
        let takes = gone.filter(|(from, chunks, serial)| {
            let own = self.grants.get(&(chunks.first, *serial));
            !own.is_some_and(|own| {
                own.grant.taken_from == Some(*from) && own.grant.chunks.last >= chunks.last
            })
        });
        for (from, chunks, serial) in takes.collect::<Vec<_>>() {
            tracing::info!(from = %from.name(), chunks = chunks.len(), "taking address space back");
            let grant = Grant {
                serial,
                taken_from: Some(from),
                grantor: self.me,
                grantee: self.me,
                chunks,
                number: self.next_grant_number(),
                taken_at: 0,
            };
            self.stage_grant(grant, 0);
        }
        self.end_loans_of_the_gone();
    }

    fn is_ours_to_take(&self, run: &Run) -> bool {
        if run.owner == self.me || !self.is_gone(&run.owner) {
            return false;
        }
        #[cfg(feature = "seeded-bugs")]
        if self.config.seeded_bug == Some(crate::seeded::SeededBug::KeepsSpaceOfTheGone) {
            return false;
        }
        let top = self.top();
        // whoever comes back listens to the top: what another takes might not be known there yet
        let listened_to = top.filter(|top| !self.is_banned(&run.owner) && run.above.contains(top));
        let mut above = run.above.iter().rev().copied();
        let taker = listened_to.or_else(|| above.find(|peer| !self.is_gone(peer)));
        taker.or(top) == Some(self.me)
    }

    /// Who stands above all others: the last of the line, unless all of it is banned.
    fn top(&self) -> Option<PeerId> {
        let founder = self.genesis.as_ref()?.founder;
        if !self.is_banned(&founder) {
            return Some(founder);
        }
        let last = self.line_of(self.genesis.as_ref()?).pop();
        last.filter(|last| !self.is_banned(last))
    }

    /// Who is to take over what this owner has, if it is banned: whoever stands above all others, or
    /// else all that take part in the founding.
    pub(super) fn heirs_of(&self, owner: PeerId) -> Vec<PeerId> {
        if !self.is_banned(&owner) {
            return vec![owner];
        }
        if let Some(top) = self.top() {
            return vec![top];
        }
        let members = self.genesis_id().map(|id| self.founding.members_of(id));
        let members = members.into_iter().flatten().copied();
        let heirs: Vec<PeerId> = members.filter(|peer| !self.is_banned(peer)).collect();
        match heirs.is_empty() {
            true => vec![owner],
            false => heirs,
        }
    }

    /// The founder and those who follow it, up to the first that is not banned: whom the founder
    /// gave space to, then whom each of these did.
    pub(super) fn line_of(&self, genesis: &Genesis) -> Vec<PeerId> {
        let mut line = vec![genesis.founder];
        let mut at = 0;
        while let Some(peer) = line.get(at).copied() {
            at += 1;
            if !self.is_banned(&peer) {
                line.truncate(at);
                break;
            }
            for heir in self.given_to_by(peer, genesis.id) {
                if !line.contains(&heir) {
                    line.push(heir);
                }
            }
        }
        line
    }

    /// Whom a peer granted to, the first one first, and then whom it lent to. A log is heard from
    /// its beginning: whoever knows a later grant knows the first.
    fn given_to_by(&self, peer: PeerId, id: GenesisId) -> Vec<PeerId> {
        let is_current = self.genesis_id() == Some(id);
        let own = self.grants.values().filter(|_| is_current);
        let own = own.map(|own| own.grant);
        let granted = self.ledger.grants(id).chain(own);
        let mut granted: Vec<Grant> = granted
            .filter(|grant| grant.grantor == peer && !grant.is_receipt())
            .collect();
        granted.sort_unstable_by_key(|grant| (grant.number, grant.chunks.first));
        let lent = self.ledger.loans(id);
        let lent = lent.filter(|(lender, ..)| *lender == peer);
        let borrowers: BTreeSet<PeerId> = lent.map(|(_, borrower, _)| borrower).collect();
        let grantees = granted.into_iter().map(|grant| grant.grantee);
        grantees.chain(borrowers).collect()
    }

    /// Whether nobody is left of a founding: all that take part in it, or were given space by one
    /// of these, are banned.
    pub(super) fn is_dead(&self, genesis: &Genesis) -> bool {
        let is_banned = |peer: &PeerId| self.is_banned(peer);
        is_banned(&genesis.founder)
            && self.founding.members_of(genesis.id).all(is_banned)
            && self.line_of(genesis).iter().all(is_banned)
    }

    fn note_top(&mut self) {
        let top = self.top();
        if std::mem::replace(&mut self.succession.top, top) != top {
            let founder = self.genesis.as_ref().map(|genesis| genesis.founder);
            self.succession.top_since = (top != founder).then_some(self.now);
        }
    }

    fn end_loans_of_the_gone(&mut self) {
        let is_over = |lent: &Lent| lent.phase == Phase::Kept && self.is_gone(&lent.borrower);
        let over = self.pool.lent.iter().filter(|(_, lent)| is_over(lent));
        let over: Vec<u32> = over.map(|(ip, _)| *ip).collect();
        for ip in over {
            self.stage_loan_end(ip);
        }
    }

    /// Writes down when there was contact with the top of the chains last.
    fn note_contact(&mut self) {
        let due = self
            .succession
            .noted_at
            .map(|at| at + self.config.take_back.note_every());
        let Some(top) = self.top() else { return };
        let is_there = top == self.me || self.succession.live.contains(&top);
        if due.is_some_and(|due| self.now < due) || !self.has_stake() || !is_there {
            return;
        }
        let ago = match top == self.me {
            true => Duration::ZERO,
            false => self.succession.without_contact(&top, self.now),
        };
        let Some(at) = u64::try_from(ago.as_millis())
            .ok()
            .and_then(|ago| self.wall_ms().checked_sub(ago))
        else {
            return;
        };
        self.succession.noted_at = Some(self.now);
        self.stage_recovered(vec![contact_write(at)]);
    }

    /// Whether what a peer's log says now has probably been heard.
    pub(super) fn has_heard(&self, peer: &PeerId) -> bool {
        self.succession.live.contains(peer) && self.now >= self.succession.since + HEARD_AFTER
    }

    /// The time by this host's wall clock, Unix milliseconds.
    pub(super) fn wall_ms(&self) -> u64 {
        let millis = u64::try_from(Duration::from_nanos(self.now.as_nanos()).as_millis());
        self.config.wall_ms.saturating_add(millis.unwrap_or(0))
    }

    /// When time alone may change something.
    fn next_look(&self) -> Time {
        let TakeBack {
            fence_after,
            take_after,
        } = self.config.take_back;
        let succession = &self.succession;
        let heard = succession.since + HEARD_AFTER;
        let starts = succession
            .left
            .values()
            .chain(succession.heard.values())
            .copied();
        let starts = starts.chain([succession.since]);
        let times = starts.flat_map(|from| [from + fence_after, from + take_after]);
        let heard_since = succession.came.values().chain(self.turned_up.values());
        let times = times.chain(heard_since.map(|at| *at + LISTEN));
        let times = times.chain([heard]);
        let note = self.now + self.config.take_back.note_every();
        times.filter(|at| *at > self.now).fold(note, Time::min)
    }

    /// When to look again who is gone.
    pub(super) const fn succession_deadline(&self) -> Option<Time> {
        self.succession.look_at
    }

    /// Why space of ours is left alone, in words; none where it is not.
    pub(super) fn fenced_note(&self) -> Option<String> {
        let owns = self.map.runs().any(|run| run.owner == self.me);
        let peer = self.top().filter(|_| owns && self.is_fenced())?;
        let label = self.ledger.label(peer);
        if self.succession.live.contains(&peer) {
            return Some(format!(
                "this host has been without contact with peer {label} for so long that its address \
                 space may have been taken back: it hears of that first, try again in a few seconds"
            ));
        }
        Some(format!(
            "this host leaves its address space alone: it has not been in contact with peer {label}, \
             which all of it comes from, for too long. Connect them, or run `weave rmpeer {}` if that \
             one is gone for good",
            peer.name()
        ))
    }
}
