//! What is looked at while the model mesh runs, and once it is quiet.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use weave_wire::{Cidr, PeerId};

use super::mesh::{Mesh, Peer};
use crate::ipam::Ipam;
use crate::ipam::ask::{AskKey, Verdict};
use crate::ipam::chunks::Run;
use crate::ipam::pool::Held;
use crate::ipam::span::{Span, total};

/// Chunks with their owner and serial.
type Owners = Vec<(Span, PeerId, u32)>;

impl Mesh {
    pub(super) fn foundings(&self) -> usize {
        let of = |peer: &Peer| peer.ipam.as_ref()?.genesis_id();
        self.peers
            .iter()
            .filter_map(of)
            .collect::<BTreeSet<_>>()
            .len()
    }

    /// After a quiet time: all views agree, no address is lost, what is free can be had.
    pub(super) fn check_converged(&mut self) {
        let moment = Duration::from_secs(1);
        let ipams = self.peers.iter().filter_map(|peer| peer.ipam.as_ref());
        let mut lent = ipams.flat_map(|ipam| ipam.pool.lent.values());
        // who was told that an address is taken asks again half a minute later: it may be just now
        if lent.any(|lent| self.now < lent.since + moment) {
            self.run_for(moment);
        }
        let maps: Vec<(usize, Option<[u8; 16]>, Owners)> = self
            .left()
            .map(|node| {
                let ipam = self.peers[node].ipam.as_ref().expect("all peers are up");
                (node, ipam.genesis_id(), merged(ipam.map.runs()))
            })
            .collect();
        // who follows a founder that is gone stands in its log: a known limit (docs/adr/0017)
        let may_differ = self.is_founders_log_lost();
        for (node, genesis, runs) in maps.iter().filter(|_| !may_differ) {
            let other = maps
                .iter()
                .find(|(_, id, _)| id == genesis)
                .expect("itself");
            if runs != &other.2 {
                self.oracle
                    .violation(format!("{node} and {} differ on owners", other.0));
            }
        }
        if !may_differ {
            self.check_owners();
        }
        self.check_books();
        self.check_loans(may_differ);
        let foundings = self.foundings();
        if foundings > 1 {
            self.oracle
                .violation(format!("{foundings} foundings are left"));
        } else if foundings == 1 && !may_differ {
            self.check_free_space();
        }
    }

    /// Whether all who are left have restarted since the founder is gone, or somebody that followed
    /// it and is gone as well: who follows next stood in that log.
    fn is_founders_log_lost(&self) -> bool {
        let of = |id: &PeerId| self.peers.iter().position(|peer| peer.id == *id);
        let is_held = |node: usize| {
            let mut left = self.left();
            left.any(|other| self.peers[other].views.contains_key(&node))
        };
        let ipams = self
            .left()
            .filter_map(|node| self.peers[node].ipam.as_ref());
        let mut lines = ipams.filter_map(|ipam| Some(ipam.line_of(ipam.genesis.as_ref()?)));
        lines.any(|line| {
            let line: Vec<usize> = line.iter().filter_map(of).collect();
            let all_gone = line.iter().all(|node| self.peers[*node].is_gone);
            all_gone && line.iter().any(|node| !is_held(*node))
        })
    }

    /// Peers that are not gone for good.
    fn left(&self) -> impl Iterator<Item = usize> + use<> {
        let left = |node: &usize| !self.peers[*node].is_gone;
        (0..self.peers.len())
            .filter(left)
            .collect::<Vec<_>>()
            .into_iter()
    }

    /// Nothing belongs to a peer that is gone.
    fn check_owners(&mut self) {
        let mut lost = Vec::new();
        for peer in &self.peers {
            let Some(ipam) = &peer.ipam else { continue };
            let gone = self.peers.iter().filter(|peer| peer.is_gone);
            lost.extend(gone.flat_map(|gone| ipam.map.owned_by(gone.id)));
        }
        if let Some(chunks) = lost.first() {
            self.oracle
                .violation(format!("{chunks:?} belong to a peer that is gone"));
        }
    }

    /// Every address that was promised is still held by the peer that got it.
    fn check_books(&mut self) {
        for node in 0..self.peers.len() {
            let Some(ipam) = &self.peers[node].ipam else {
                continue;
            };
            let held: BTreeSet<Ipv4Addr> = ipam.allocated().map(|held| held.ip).collect();
            let promised: BTreeSet<Ipv4Addr> = self
                .oracle
                .held_by(node)
                .into_iter()
                .map(|(ip, _)| ip)
                .collect();
            for ip in promised.difference(&held) {
                self.oracle.violation(format!("{node} lost {ip}"));
            }
        }
    }

    /// Every loan is in use at its borrower, and every borrowed address is on loan. Where nobody
    /// knows who follows the founder, its space stays its own, and so do its loans.
    fn check_loans(&mut self, is_founders_log_lost: bool) {
        let mut lent = BTreeSet::new();
        let mut borrowed = BTreeSet::new();
        for peer in &self.peers {
            let Some(ipam) = &peer.ipam else { continue };
            lent.extend(
                ipam.pool
                    .lent
                    .iter()
                    .map(|(ip, lent)| (peer.id, lent.borrower, *ip)),
            );
            // what somebody else has by now stays here, and is told
            let is_conflict = |ip: u32, held: &Held| {
                let key = AskKey::Address(held.subnet, ip);
                matches!(ipam.concluded(key), Some(Verdict::Taken { .. }))
            };
            let loans = ipam
                .pool
                .held
                .iter()
                .filter(|(ip, held)| !is_conflict(**ip, held))
                .filter_map(|(ip, held)| Some((ip, held.loan?)));
            borrowed.extend(loans.map(|(ip, loan)| (loan.lender, peer.id, *ip)));
        }
        let gone = |id: &PeerId| self.peers.iter().any(|peer| peer.id == *id && peer.is_gone);
        for entry in lent.symmetric_difference(&borrowed) {
            let (lender, borrower, ip) = entry;
            if is_founders_log_lost && gone(lender) {
                continue;
            }
            let ip = Ipv4Addr::from_bits(*ip);
            let known = if lent.contains(entry) {
                "lender"
            } else {
                "borrower"
            };
            let gone = (gone(lender), gone(borrower));
            self.oracle.violation(format!(
                "loan of {ip} by {lender:?} to {borrower:?} is known to the {known} only, gone: {gone:?}"
            ));
        }
    }

    /// With everybody connected an address is refused only if there is none. Of thirty thousand
    /// requests one fails by chance where every third message is lost, so none is.
    fn check_free_space(&mut self) {
        self.lose_nothing();
        let subnet = self.subnets[0];
        for node in self.left() {
            let ipams = self.peers.iter().filter_map(|peer| peer.ipam.as_ref());
            let free: u64 = ipams.map(|ipam| free_within(ipam, subnet)).sum();
            let (granted, refused) = (self.oracle.granted, self.oracle.refused);
            self.allocate(node, subnet, None);
            self.run_for(Duration::from_secs(5));
            if free > 0 && self.oracle.granted == granted {
                let founded = self.foundings();
                self.oracle
                    .violation(format!("{node}: refused with {free} free, {founded}"));
            }
            if free == 0 && self.oracle.refused == refused {
                self.oracle
                    .violation(format!("{node}: got an address when none was free"));
            }
        }
    }

    /// No chunk is owned by two peers that may use it, in their own eyes.
    pub(super) fn check_chunks(&mut self) {
        if !self.next_event.is_multiple_of(16) {
            return;
        }
        let mut seen: BTreeMap<([u8; 16], u32), (u32, usize)> = BTreeMap::new();
        for (node, peer) in self.peers.iter_mut().enumerate() {
            let Some(ipam) = &mut peer.ipam else { continue };
            ipam.refresh_map();
            let Some(genesis) = ipam.genesis_id() else {
                continue;
            };
            for span in ipam.usable_runs().map(|run| run.chunks) {
                seen.insert((genesis, span.first), (span.last, node));
            }
        }
        let mut end: Option<([u8; 16], u32, usize)> = None;
        for ((genesis, first), (last, node)) in seen {
            if let Some((before, reached, other)) = end
                && before == genesis
                && first <= reached
                && !self.is_unheard_grant(first, node)
                && !self.is_unheard_grant(first, other)
            {
                self.oracle
                    .violation(format!("chunk {first} is owned by {node} and {other}"));
            }
            end = Some((genesis, last, node));
        }
    }
}

/// Addresses of its own space that a peer can give out: no container that met it with another
/// founding has them.
fn free_within(ipam: &Ipam, subnet: Cidr) -> u64 {
    let space = ipam.own_space(subnet);
    let used = space.iter().flat_map(|span| ipam.users(*span));
    let used: BTreeSet<u32> = used.map(|(ip, _)| ip).collect();
    let others = used.iter().filter(|ip| !ipam.pool.is_busy(**ip));
    total(&space) - ipam.pool.busy_within(&space) - others.count() as u64
}

/// Who owns what, neighbours with the same owner as one.
fn merged<'a>(runs: impl Iterator<Item = &'a Run>) -> Owners {
    let mut merged: Owners = Vec::new();
    for run in runs {
        match merged.last_mut() {
            Some((chunks, owner, serial)) if *owner == run.owner && *serial == run.serial => {
                chunks.last = run.chunks.last;
            }
            _ => merged.push((run.chunks, run.owner, run.serial)),
        }
    }
    merged
}
