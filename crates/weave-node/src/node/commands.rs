//! What the shell asks of a node: subnets, endpoints, names, addresses, targets.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use weave_crypto::Passwords;
use weave_wire::proto::{SubnetRecord, entry};
use weave_wire::{Cidr, SegmentId, Time, ip_bytes};

use super::{Event, Node, PersistToken, TARGET_PREFIX, TokenOwner};
use crate::endpoints::{EndpointError, EndpointSpec};
use crate::names::name_record;

/// A subnet that this host has a bridge for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    /// Its addresses.
    pub cidr: Cidr,
    /// The segment that carries it.
    pub segment: SegmentId,
    /// Frames from unannounced source addresses are dropped.
    pub strict: bool,
    /// The IPv6 subnet beside it, if it has one.
    pub ipv6: Option<Cidr>,
}

impl Node {
    /// Adds targets, connects to them at once, and remembers them.
    pub fn connect(&mut self, target: &str, now: Time) {
        self.targets.insert(target.to_owned());
        if self.stored_targets.insert(target.to_owned()) {
            self.store_target(target, true);
        }
        if self.started {
            self.sessions.add_target(target, now);
        }
        self.count_targets(now);
        self.route(now);
    }

    /// Drops a target; whether it was one. An established session stays.
    pub fn forget(&mut self, target: &str, now: Time) -> bool {
        if !self.targets.remove(target) {
            return false;
        }
        if self.stored_targets.remove(target) {
            self.store_target(target, false);
        }
        self.sessions.remove_target(target);
        self.count_targets(now);
        self.route(now);
        true
    }

    /// The addresses of a target, in the order to try them; none if it does not resolve.
    pub fn set_target_addresses(&mut self, target: &str, addresses: Vec<SocketAddr>, now: Time) {
        self.sessions.set_target_addresses(target, addresses, now);
        self.route(now);
    }

    /// Accepts these passwords from now on and dials with the one in use, to which sessions move
    /// while they go on. One that rests on a password that is left out ends within 30 s, whether
    /// its peer knows another one or not.
    pub fn set_passwords(&mut self, passwords: Passwords, now: Time) {
        self.sessions.set_passwords(passwords, now);
        self.route(now);
    }

    /// Takes its leave of every peer.
    pub fn goodbye(&mut self, now: Time) {
        self.sessions.goodbye(now);
        self.route(now);
    }

    /// This host has a bridge for the subnet now.
    pub fn add_subnet(&mut self, subnet: Subnet, now: Time) {
        self.endpoints
            .add_subnet(subnet.segment, subnet.cidr, subnet.strict);
        let record = SubnetRecord {
            ip: ip_bytes(subnet.cidr.first()),
            prefix_len: u32::from(subnet.cidr.prefix_len()),
            segment: subnet.segment.0,
            strict: subnet.strict,
            ipv6: subnet
                .ipv6
                .map_or_else(Vec::new, |net| ip_bytes(net.first())),
            ipv6_prefix_len: subnet.ipv6.map_or(0, |net| u32::from(net.prefix_len())),
        };
        let key = format!("subnet/{}", subnet.cidr);
        self.write(&key, Some(entry::Body::Subnet(record)), now);
        self.dirty.fib = true;
        self.route(now);
    }

    /// The bridge of the subnet is gone.
    pub fn remove_subnet(&mut self, cidr: Cidr, now: Time) {
        self.endpoints.remove_subnet(cidr);
        self.write(&format!("subnet/{cidr}"), None, now);
        self.dirty.fib = true;
        self.route(now);
    }

    /// Tells the mesh of a local endpoint, before its first frame.
    ///
    /// # Errors
    /// When it cannot be announced; nothing has changed.
    pub fn announce_endpoint(
        &mut self,
        endpoint: EndpointSpec,
        now: Time,
    ) -> Result<(), EndpointError> {
        self.endpoints.announce(endpoint)?;
        self.route(now);
        self.logs.flush(now);
        self.route(now);
        Ok(())
    }

    /// A local endpoint is gone.
    pub fn withdraw_endpoint(&mut self, id: &str, now: Time) {
        self.endpoints.withdraw(id);
        self.route(now);
        self.logs.flush(now);
        self.route(now);
    }

    /// Files these names under `owner`, in place of those it had. Names that cannot be
    /// ones are left out, with a warning.
    pub fn set_names(&mut self, owner: &str, names: &[(String, IpAddr)], now: Time) {
        let mut keys = BTreeSet::new();
        for (name, ip) in names {
            match name_record(name, *ip, owner) {
                Ok((key, body)) => {
                    self.write(&key, Some(body), now);
                    keys.insert(key);
                }
                Err(error) => tracing::warn!(owner, %error, "name not announced"),
            }
        }
        let former = self.filed_names.remove(owner).unwrap_or_default();
        for key in former.difference(&keys) {
            self.write(key, None, now);
        }
        if !keys.is_empty() {
            self.filed_names.insert(owner.to_owned(), keys);
        }
        self.route(now);
        self.logs.flush(now);
        self.route(now);
    }

    /// All containers that run have been given their names, or cannot be: others may hear of us.
    pub fn names_are_complete(&mut self, now: Time) {
        self.logs.hold_until(self.first_words_at.max(now));
        self.route(now);
    }

    /// Whether we know what the others say, as far as can be told: what one of them has is here,
    /// too, or there are no others.
    pub fn has_caught_up(&self) -> bool {
        let is_alone = self.targets.is_empty() && self.remembered.is_empty();
        is_alone || self.logs.has_caught_up()
    }

    /// Asks for an address of `subnet`: the wanted one, or any. The answer with this
    /// ticket comes within five seconds, once it is durable. `owner` is what errors name.
    pub fn allocate(
        &mut self,
        ticket: u64,
        owner: &str,
        subnet: Cidr,
        wanted: Option<Ipv4Addr>,
        now: Time,
    ) {
        self.ipam.allocate(ticket, owner, subnet, wanted, now);
        self.route(now);
    }

    /// Sees to it that addresses can be given out at once; says what that waits for, if anything.
    pub fn prime(&mut self, now: Time) -> Option<String> {
        let awaited = self.ipam.prime(now);
        self.route(now);
        awaited
    }

    /// Says that a container of this host uses this address, as found at start: if nothing is
    /// known of it, it is held again, once it is known to be ours to hold.
    pub fn claim(&mut self, owner: &str, subnet: Cidr, address: Ipv4Addr, now: Time) {
        self.ipam.claim(owner, subnet, address, now);
        self.route(now);
    }

    /// Gives out no address from now on, for this reason; what is in use stays in use.
    pub fn refuse_addresses(&mut self, why: &str, now: Time) {
        self.ipam.refuse(why, now);
        self.route(now);
    }

    /// Gives an address back.
    pub fn release(&mut self, subnet: Cidr, address: Ipv4Addr, now: Time) {
        self.ipam.release(subnet, address, now);
        self.route(now);
    }

    /// Sets or removes an entry of our own log.
    pub(super) fn write(&mut self, key: &str, body: Option<entry::Body>, now: Time) {
        if let Err(error) = self.logs.set(key, body, now) {
            tracing::warn!(%error, "not announced");
        }
    }

    fn store_target(&mut self, target: &str, keep: bool) {
        let key = [TARGET_PREFIX, target.as_bytes()].concat();
        self.events.push_back(Event::Persist {
            token: PersistToken(TokenOwner::Targets),
            writes: vec![(key, keep.then(Vec::new))],
        });
    }
}
