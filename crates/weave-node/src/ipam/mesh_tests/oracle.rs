//! What must never happen, whatever the faults.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use weave_wire::{Cidr, Time};

use crate::ipam::IpamError;
use crate::ipam::genesis::GenesisId;

/// A request that a peer's container made.
#[derive(Debug)]
struct Request {
    node: usize,
    since: Time,
    /// The host had space of its own for it, under this founding.
    alone_in: Option<GenesisId>,
}

/// A host that has space of its own asks nobody: so long takes a slow disk at most.
const ALONE: u128 = 200;

/// What the peers themselves say about an address that is given to another.
#[derive(Debug, Default)]
pub(super) struct Others {
    /// They hold it under the same founding.
    pub(super) rightful: Vec<usize>,
    /// They have been out of contact with whoever gave it for so long that they leave it alone.
    pub(super) apart: Vec<usize>,
    /// A banned host lent it to them, and whoever gave it has not heard of that; or they have gone
    /// over to another founding.
    pub(super) excused: Vec<usize>,
}

/// Keeps the books that no peer has: who was promised what.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    violations: Vec<String>,
    open: BTreeMap<u64, Request>,
    /// Addresses in use and who uses them: under which founding each was given.
    holders: BTreeMap<(Ipv4Addr, usize), (GenesisId, Cidr)>,
    pub(super) granted: usize,
    pub(super) refused: usize,
    /// Requests of hosts with space of their own.
    pub(super) alone: usize,
}

impl Oracle {
    pub(super) fn violations(&self) -> &[String] {
        &self.violations
    }

    pub(super) fn violation(&mut self, text: String) {
        if self.violations.len() < 10 {
            self.violations.push(text);
        }
    }

    pub(super) fn asked(
        &mut self,
        node: usize,
        ticket: u64,
        alone_in: Option<GenesisId>,
        now: Time,
    ) {
        let request = Request {
            node,
            since: now,
            alone_in,
        };
        self.open.insert(ticket, request);
        self.alone += usize::from(alone_in.is_some());
    }

    /// The host refuses, and has space of its own.
    pub(super) fn refused_alone(&mut self, ticket: u64, why: &IpamError) {
        if self
            .open
            .get(&ticket)
            .is_some_and(|open| open.alone_in.is_some())
        {
            self.violation(format!("request {ticket} of a host with space: {why}"));
        }
    }

    pub(super) fn answered(
        &mut self,
        ticket: u64,
        genesis: Option<GenesisId>,
        subnet: Cidr,
        result: &Result<Ipv4Addr, IpamError>,
        others: &Others,
        now: Time,
    ) {
        let Some(request) = self.open.remove(&ticket) else {
            self.violation(format!("request {ticket} answered twice"));
            return;
        };
        let took = now.saturating_sub(request.since).as_millis();
        if took > 5000 {
            self.violation(format!("request {ticket} took {took} ms"));
        }
        let (Ok(ip), Some(genesis)) = (result, genesis) else {
            self.refused += 1;
            return;
        };
        self.granted += 1;
        if request.alone_in == Some(genesis) && took > ALONE {
            self.violation(format!(
                "request {ticket} took {took} ms at a host with space"
            ));
        }
        if !subnet.contains((*ip).into()) {
            self.violation(format!("{ip} is not in {subnet}"));
        }
        let node = request.node;
        // who got it under another founding and has not taken it over has a conflict to tell of
        // so has who was lent it by a banned host: what that one gave last counts once it is heard
        // of; and who has gone over to another founding: its loan is gone from the logs, and the
        // containers that it shows, which nobody takes an address from, are not part of the model
        let same = |holder: usize, (of, _): &(GenesisId, Cidr)| {
            (*of == genesis || others.rightful.contains(&holder))
                && !others.apart.contains(&holder)
                && !others.excused.contains(&holder)
        };
        let before = self.holders.range((*ip, 0)..=(*ip, usize::MAX));
        let before = before.filter(|((_, holder), given)| same(*holder, given));
        if let Some(((_, before), _)) = before.into_iter().next() {
            let text = format!("{ip} given to {node} while {before} holds it");
            self.violation(text);
        }
        // nobody gave it to those that were taken for gone, as far as the others know
        for ((_, holder), (of, _)) in self.holders.range_mut((*ip, 0)..=(*ip, usize::MAX)) {
            if others.apart.contains(holder) {
                *of = [0; 16];
            }
        }
        self.holders.insert((*ip, node), (genesis, subnet));
    }

    /// Requests of a peer that died are never answered.
    pub(super) fn crashed(&mut self, node: usize) {
        self.open.retain(|_, request| request.node != node);
    }

    /// A host is gone for good.
    pub(super) fn gone(&mut self, node: usize) {
        self.holders.retain(|(_, holder), _| *holder != node);
    }

    pub(super) fn released(&mut self, node: usize, ip: Ipv4Addr) {
        self.holders.remove(&(ip, node));
    }

    pub(super) fn held_by(&self, node: usize) -> Vec<(Ipv4Addr, Cidr)> {
        let own = self.holders.iter().filter(|((_, of), _)| *of == node);
        own.map(|((ip, _), (_, subnet))| (*ip, *subnet)).collect()
    }

    /// Addresses that several peers use: only foundings that met may have given them.
    pub(super) fn conflicts(&self) -> usize {
        let ips: Vec<Ipv4Addr> = self.holders.keys().map(|(ip, _)| *ip).collect();
        ips.windows(2).filter(|pair| pair[0] == pair[1]).count()
    }

    pub(super) fn overdue(&mut self, now: Time) {
        let late = |request: &Request| now.saturating_sub(request.since).as_millis() > 5000;
        let overdue: Vec<u64> = self
            .open
            .iter()
            .filter(|(_, r)| late(r))
            .map(|(ticket, _)| *ticket)
            .collect();
        for ticket in overdue {
            self.open.remove(&ticket);
            self.violation(format!("request {ticket} was not answered in five seconds"));
        }
    }
}
