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
}

/// Keeps the books that no peer has: who was promised what.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    violations: Vec<String>,
    open: BTreeMap<u64, Request>,
    /// Addresses in use: founding and address, with the peer that uses it.
    holders: BTreeMap<(GenesisId, Ipv4Addr), (usize, Cidr)>,
    pub(super) granted: usize,
    pub(super) refused: usize,
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

    pub(super) fn asked(&mut self, node: usize, ticket: u64, now: Time) {
        self.open.insert(ticket, Request { node, since: now });
    }

    pub(super) fn answered(
        &mut self,
        ticket: u64,
        genesis: Option<GenesisId>,
        subnet: Cidr,
        result: &Result<Ipv4Addr, IpamError>,
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
        if !subnet.contains((*ip).into()) {
            self.violation(format!("{ip} is not in {subnet}"));
        }
        let now = self.holders.insert((genesis, *ip), (request.node, subnet));
        if let Some((before, _)) = now {
            self.violation(format!(
                "{ip} given to {} while {before} holds it",
                request.node
            ));
        }
    }

    /// Requests of a peer that died are never answered.
    pub(super) fn crashed(&mut self, node: usize) {
        self.open.retain(|_, request| request.node != node);
    }

    pub(super) fn released(&mut self, genesis: GenesisId, ip: Ipv4Addr) {
        self.holders.remove(&(genesis, ip));
    }

    pub(super) fn held_by(&self, node: usize) -> Vec<(GenesisId, Ipv4Addr, Cidr)> {
        let own = self
            .holders
            .iter()
            .filter(|(_, (holder, _))| *holder == node);
        own.map(|((genesis, ip), (_, subnet))| (*genesis, *ip, *subnet))
            .collect()
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
