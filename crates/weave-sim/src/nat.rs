//! Network address translators in front of some hosts, of the kinds of RFC 4787.
//!
//! Each host behind one is alone there. A mapping is made by what the host sends, and forgotten
//! when it has sent nothing for long; what comes from outside does not keep it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use weave_node::ConnectionState;
use weave_wire::Time;

use crate::world::World;

/// The first port that is given out; no router listens there.
const FIRST_PORT: u16 = 20_000;

/// Whom a mapping is for (RFC 4787, section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NatMapping {
    /// One for all destinations.
    EndpointIndependent,
    /// One for each address and port: the "symmetric" NAT.
    AddressAndPortDependent,
}

/// From whom datagrams are let in (RFC 4787, section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NatFiltering {
    /// From anybody.
    EndpointIndependent,
    /// From addresses that the host has sent to.
    AddressDependent,
    /// From addresses and ports that it has sent to.
    AddressAndPortDependent,
}

/// What a translator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NatKind {
    /// Whom its mappings are for.
    pub mapping: NatMapping,
    /// From whom it lets datagrams in.
    pub filtering: NatFiltering,
    /// How long a mapping that is not used stays.
    pub idle: Duration,
}

/// A port of the translator that stands for the host.
#[derive(Debug)]
struct Mapping {
    /// The only destination that it is for, if it is for one.
    only: Option<SocketAddr>,
    /// To whom the host has sent through it.
    contacts: Vec<SocketAddr>,
    used: Time,
}

/// A translator.
#[derive(Debug)]
pub(crate) struct Nat {
    kind: NatKind,
    ip: Ipv4Addr,
    next_port: u16,
    mappings: BTreeMap<u16, Mapping>,
}

impl Nat {
    pub(crate) const fn new(kind: NatKind, ip: Ipv4Addr) -> Self {
        Self {
            kind,
            ip,
            next_port: FIRST_PORT,
            mappings: BTreeMap::new(),
        }
    }

    /// Where it is reached from outside.
    pub(crate) const fn ip(&self) -> Ipv4Addr {
        self.ip
    }

    /// The port that its newest mapping has, or would have.
    pub(crate) fn newest(&self) -> SocketAddr {
        let port = self.mappings.last_key_value().map(|(port, _)| *port);
        SocketAddr::from((self.ip, port.unwrap_or(self.next_port)))
    }

    /// It loses all mappings, and is at this address from now on.
    pub(crate) fn renew(&mut self, ip: Ipv4Addr) {
        self.ip = ip;
        self.mappings.clear();
    }

    /// What a datagram to `to` comes from outside, and whether a mapping was made for it.
    pub(crate) fn send(&mut self, to: SocketAddr, now: Time) -> (SocketAddr, bool) {
        let idle = self.kind.idle;
        self.mappings
            .retain(|_, mapping| now.saturating_sub(mapping.used) <= idle);
        let only = (self.kind.mapping == NatMapping::AddressAndPortDependent).then_some(to);
        let known = self.mappings.iter().find(|(_, one)| one.only == only);
        let (port, is_new) = match known {
            Some((port, _)) => (*port, false),
            None => (self.next_port, true),
        };
        if is_new {
            self.next_port = self.next_port.checked_add(1).unwrap_or(FIRST_PORT);
        }
        let mapping = self.mappings.entry(port).or_insert(Mapping {
            only,
            contacts: Vec::new(),
            used: now,
        });
        mapping.used = now;
        if !mapping.contacts.contains(&to) {
            mapping.contacts.push(to);
        }
        (SocketAddr::from((self.ip, port)), is_new)
    }

    /// Whether a datagram from `from` to this port of the translator reaches the host.
    pub(crate) fn admits(&self, from: SocketAddr, port: u16, now: Time) -> bool {
        let mapping = self.mappings.get(&port);
        let alive = mapping.filter(|one| now.saturating_sub(one.used) <= self.kind.idle);
        alive.is_some_and(|mapping| {
            let is_at = |ip: IpAddr| mapping.contacts.iter().any(|contact| contact.ip() == ip);
            match self.kind.filtering {
                NatFiltering::EndpointIndependent => true,
                NatFiltering::AddressDependent => is_at(from.ip()),
                NatFiltering::AddressAndPortDependent => mapping.contacts.contains(&from),
            }
        })
    }
}

impl World {
    /// Counts which way the sessions of hosts behind NATs lead.
    pub(crate) fn count_through_nats(&mut self) {
        for (index, host) in self.hosts.iter().enumerate() {
            let Some(router) = host
                .router
                .as_ref()
                .filter(|_| self.network.is_hidden(index))
            else {
                continue;
            };
            for connection in router.node.connections(self.now) {
                let is_up = connection.state == ConnectionState::Established;
                match connection.relay {
                    _ if !is_up => {}
                    None => self.counters.direct_through_nats += 1,
                    Some(_) => self.counters.relayed_through_nats += 1,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nat(mapping: NatMapping, filtering: NatFiltering) -> Nat {
        let kind = NatKind {
            mapping,
            filtering,
            idle: Duration::from_secs(30),
        };
        Nat::new(kind, Ipv4Addr::new(172, 17, 0, 1))
    }

    fn peer(host: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([172, 16, 0, host], port))
    }

    #[test]
    fn one_mapping_serves_all_destinations_or_one_each() {
        let now = Time::from_secs(1);
        for (mapping, same) in [
            (NatMapping::EndpointIndependent, true),
            (NatMapping::AddressAndPortDependent, false),
        ] {
            let mut nat = nat(mapping, NatFiltering::EndpointIndependent);
            let (first, is_new) = nat.send(peer(1, 6783), now);
            assert!(is_new);
            assert_eq!(nat.send(peer(1, 6783), now), (first, false));
            assert_eq!(nat.send(peer(2, 6783), now).0 == first, same);
            assert_eq!(nat.send(peer(1, 7000), now).0 == first, same);
        }
    }

    #[test]
    fn strangers_are_let_in_as_the_filter_says() {
        let now = Time::from_secs(1);
        let cases = [
            (NatFiltering::EndpointIndependent, [true, true, true]),
            (NatFiltering::AddressDependent, [true, true, false]),
            (NatFiltering::AddressAndPortDependent, [true, false, false]),
        ];
        for (filtering, expected) in cases {
            let mut nat = nat(NatMapping::EndpointIndependent, filtering);
            let (outside, _) = nat.send(peer(1, 6783), now);
            let from = [peer(1, 6783), peer(1, 7000), peer(2, 6783)];
            let admitted = from.map(|from| nat.admits(from, outside.port(), now));
            assert_eq!(admitted, expected, "{filtering:?}");
            assert!(!nat.admits(peer(1, 6783), outside.port() + 1, now));
        }
    }

    #[test]
    fn a_mapping_without_use_is_forgotten_and_the_next_has_another_port() {
        let mut nat = nat(
            NatMapping::EndpointIndependent,
            NatFiltering::EndpointIndependent,
        );
        let to = peer(1, 6783);
        let (outside, _) = nat.send(to, Time::from_secs(1));
        assert!(nat.admits(to, outside.port(), Time::from_secs(31)));
        assert!(!nat.admits(to, outside.port(), Time::from_secs(32)));
        let (again, is_new) = nat.send(to, Time::from_secs(32));
        assert!(is_new);
        assert_ne!(again, outside);
        nat.renew(Ipv4Addr::new(172, 17, 0, 2));
        assert!(!nat.admits(to, again.port(), Time::from_secs(32)));
    }
}
