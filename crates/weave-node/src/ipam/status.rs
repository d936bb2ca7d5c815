//! What `status ipam` shows.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use weave_wire::{Cidr, PeerId};

use super::Ipam;
use super::pool::Phase;
use super::span::{Span, ip_of, total};

/// An address that is held here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocated {
    /// The address.
    pub ip: Ipv4Addr,
    /// The subnet it was asked for in.
    pub subnet: Cidr,
    /// Who asked for it.
    pub owner: String,
    /// The peer that lent it, when it is not of our own space.
    pub lender: Option<PeerId>,
    /// Ticket of the request that it answered; none from before a restart. Tells one time that an
    /// address was given out from another.
    pub ticket: Option<u64>,
}

/// What a peer owns of the range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerShare {
    /// The peer.
    pub peer: PeerId,
    /// Addresses in its chunks, those it lent included.
    pub ips: u64,
    /// Addresses that it lent to others.
    pub lent: u64,
    /// It is this peer, or has a session with it.
    pub reachable: bool,
}

/// The state of address allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpamStatus {
    /// Range that addresses come from; none: addresses are not allocated here.
    pub range: Option<Cidr>,
    /// Subnet of those who ask for no other.
    pub default_subnet: Option<Cidr>,
    /// In words: `idle`, `ready`, or what is awaited or wrong.
    pub state: String,
    /// What an operator should know beside the state.
    pub notes: Vec<String>,
    /// What this start took over from its peers because the disk did not know of it, in words.
    pub recovered: Option<String>,
    /// Who founded the range.
    pub founder: Option<PeerId>,
    /// Addresses in the range.
    pub total_ips: u64,
    /// Addresses in chunks of ours.
    pub owned_ips: u64,
    /// Addresses that containers of this host hold.
    pub active_ips: u64,
    /// Those of `active_ips` that other peers lent.
    pub borrowed_ips: u64,
    /// Requests that wait.
    pub pending: usize,
    /// Of those, requests for a certain address.
    pub pending_claims: usize,
    /// All owners, this peer first.
    pub shares: Vec<PeerShare>,
}

impl Ipam {
    /// The state of address allocation.
    pub fn status(&self) -> IpamStatus {
        let shares = self.shares();
        let borrowed = self
            .pool
            .held
            .values()
            .filter(|held| held.loan.is_some())
            .count();
        IpamStatus {
            range: self.config.range,
            default_subnet: self.config.default_subnet,
            state: self.state(&shares),
            notes: self.notes(),
            recovered: self.recovery.summary(),
            founder: self.genesis.as_ref().map(|genesis| genesis.founder),
            total_ips: self.config.range.and_then(Span::of).map_or(0, Span::len),
            owned_ips: shares
                .iter()
                .filter(|s| s.peer == self.me)
                .map(|s| s.ips)
                .sum(),
            active_ips: u64::try_from(self.pool.held.len()).unwrap_or(u64::MAX),
            borrowed_ips: u64::try_from(borrowed).unwrap_or(u64::MAX),
            pending: self.pending.len(),
            pending_claims: self
                .pending
                .iter()
                .filter(|one| one.wanted.is_some())
                .count(),
            shares,
        }
    }

    /// All addresses held here, lowest first.
    pub fn allocated(&self) -> impl Iterator<Item = Allocated> + '_ {
        let kept = self
            .pool
            .held
            .iter()
            .filter(|(_, held)| held.phase == Phase::Kept);
        kept.map(|(ip, held)| Allocated {
            ip: ip_of(*ip),
            subnet: held.subnet,
            owner: held.owner.clone(),
            lender: held.loan.map(|loan| loan.lender),
            ticket: held.ticket,
        })
    }

    fn shares(&self) -> Vec<PeerShare> {
        let Some(genesis) = &self.genesis else {
            return Vec::new();
        };
        let mut ips: BTreeMap<PeerId, u64> = BTreeMap::new();
        for run in self.map.runs() {
            *ips.entry(run.owner).or_default() += total(&[genesis.addresses(run.chunks)]);
        }
        let mut lent: BTreeMap<PeerId, u64> = BTreeMap::new();
        for (lender, _, _) in self.ledger.loans(genesis.id) {
            *lent.entry(lender).or_default() += 1;
        }
        lent.insert(
            self.me,
            u64::try_from(self.pool.lent.len()).unwrap_or(u64::MAX),
        );
        let mut shares: Vec<PeerShare> = ips
            .into_iter()
            .map(|(peer, ips)| PeerShare {
                peer,
                ips,
                lent: lent.get(&peer).copied().unwrap_or(0),
                reachable: peer == self.me || self.reachable.contains(&peer),
            })
            .collect();
        shares.sort_by_key(|share| (share.peer != self.me, share.peer));
        shares
    }

    fn state(&self, shares: &[PeerShare]) -> String {
        if self.config.range.is_none() {
            return "disabled".to_owned();
        }
        if let Some(fault) = &self.fault {
            return format!("failed: {fault}");
        }
        if self.genesis.is_none() || self.is_unsettled() {
            let idle = self.pending.is_empty()
                && !self.recovery.is_awaited()
                && self.mismatched_ranges().next().is_none();
            return if idle {
                "idle".to_owned()
            } else {
                format!("waiting: {}", self.not_ready())
            };
        }
        if shares.iter().all(|share| !share.reachable) {
            return "all IP ranges owned by unreachable peers, and nobody else gives them out: \
                    bring one of them back"
                .to_owned();
        }
        if self.pending.is_empty() {
            "ready".to_owned()
        } else {
            "waiting for IP(s) to become available".to_owned()
        }
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for other in self.mismatched_ranges() {
            notes.push(format!(
                "peer {} founded the range {}, which is not the one of this host: neither gives \
                 addresses to the other",
                self.ledger.label(other.founder),
                other.range
            ));
        }
        notes.extend(self.merge_notes());
        notes.extend(self.fenced_note());
        notes.extend(self.unclaimable());
        if self.void_grants > 0 {
            notes.push(format!(
                "{} grants by peers that were not the owner",
                self.void_grants
            ));
        }
        notes
    }
}
