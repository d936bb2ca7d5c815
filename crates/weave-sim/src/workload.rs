//! What containers do: begin, end, and talk to each other.

use std::net::{IpAddr, Ipv4Addr};

use weave_node::ipam::IpamError;
use weave_wire::Cidr;

use crate::containers::{Container, owner_of};
use crate::trace::{Step, clock};
use crate::world::{Event, World};

/// Containers of one host, at most.
const MAX_CONTAINERS: usize = 8;

impl World {
    /// One thing that some container does.
    pub(crate) fn work(&mut self) {
        if !self.is_churning {
            return;
        }
        let pause = self.plan.work_every;
        let jitter = self.chance.millis(0, 20);
        self.after(pause + jitter, Event::Work);
        let index = self.chance.index(self.hosts.len());
        let Some(host) = self.hosts.get(index) else {
            return;
        };
        if host.pause.is_some() {
            return;
        }
        let running = host.containers.len();
        match self.chance.below(10) {
            // containers end also while the router is down; it hears of it when it is back
            _ if !host.is_ready() => self.end_one(index),
            0 if self.chance.permille(300) => self.release_strays(index),
            0..=4 if running < MAX_CONTAINERS => self.begin(index, false),
            5 if running < MAX_CONTAINERS => self.begin(index, true),
            0..=7 => self.end_one(index),
            _ => self.ping_someone(index),
        }
    }

    /// Asks for an address for a new container, perhaps a certain one.
    fn begin(&mut self, index: usize, wants: bool) {
        let Some(subnet) = self.chance.pick(&self.subnets).copied() else {
            return;
        };
        let wanted = subnet.v4().filter(|_| wants).map(|(network, _)| {
            let offset = u32::try_from(1 + self.chance.below(40)).unwrap_or(1);
            Ipv4Addr::from_bits(network.to_bits() + offset)
        });
        self.begin_in(index, subnet, wanted);
    }

    /// Asks for an address of this subnet for a new container.
    pub(crate) fn begin_in(&mut self, index: usize, subnet: Cidr, wanted: Option<Ipv4Addr>) {
        let number = self.next_container;
        self.next_container += 1;
        self.trace
            .note(self.now, Step::Work, index, &number.to_le_bytes());
        self.counters.asked += 1;
        self.oracle.asked(number, index, subnet, wanted, self.now);
        self.with_node(index, |node, now| {
            node.allocate(number, &owner_of(number), subnet, wanted, now);
        });
    }

    /// An answer to a request for an address: the container runs, or does not.
    pub(crate) fn allocated(
        &mut self,
        index: usize,
        number: u64,
        result: Result<IpAddr, IpamError>,
    ) {
        let text = format!("{number} {result:?}");
        self.trace
            .note(self.now, Step::Answer, index, text.as_bytes());
        let Some((subnet, ip)) = self.oracle.answered(number, index, &result, self.now) else {
            self.counters.refused += 1;
            return;
        };
        self.counters.given += 1;
        let container = Container { number, subnet, ip };
        if let Some(host) = self.hosts.get_mut(index) {
            host.containers.insert(number, container.clone());
        }
        self.announce(index, &container);
    }

    /// Tells a host's router of a container that runs.
    pub(crate) fn announce(&mut self, index: usize, container: &Container) {
        self.oracle.announced(container.number);
        let mut refusal = None;
        self.with_node(index, |node, now| {
            refusal = node.announce_endpoint(container.endpoint(), now).err();
        });
        self.name(index, container);
        if let Some(refusal) = refusal {
            self.oracle
                .violation(format!("host {index} cannot announce: {refusal}"));
        }
    }

    /// Tells a host's router what a container is called.
    pub(crate) fn name(&mut self, index: usize, container: &Container) {
        let names = container.names().into_iter();
        let names: Vec<(String, IpAddr)> = names.map(|name| (name, container.ip.into())).collect();
        self.with_node(index, |node, now| {
            node.set_names(&container.owner(), &names, now);
        });
    }

    /// Whether a router that starts has forgotten an address that a container of its host has.
    pub(crate) fn check_kept(&mut self, index: usize) {
        let Some(host) = self.hosts.get(index).filter(|host| !host.was_set_back) else {
            return;
        };
        let Some(router) = &host.router else { return };
        let held: Vec<_> = router.node.allocated().map(|held| held.ip).collect();
        for container in host.containers.values() {
            if !held.contains(&container.ip) {
                let ip = container.ip;
                self.oracle
                    .violation(format!("host {index} forgot {ip} in a restart"));
            }
        }
    }

    /// Gives back addresses that no container has, as the daemon does when it compares with
    /// Docker: the router died between storing and answering, or its disk was set back.
    pub(crate) fn release_strays(&mut self, index: usize) {
        let Some(host) = self.hosts.get(index) else {
            return;
        };
        let Some(router) = &host.router else { return };
        let is_stray = |ip| !host.containers.values().any(|container| container.ip == ip);
        let held = router.node.allocated().filter(|held| is_stray(held.ip));
        let strays: Vec<_> = held.map(|held| (held.subnet, held.ip)).collect();
        for (subnet, ip) in strays {
            self.with_node(index, |node, now| node.release(subnet, ip, now));
        }
    }

    /// One container of this host ends.
    pub(crate) fn end_one(&mut self, index: usize) {
        let Some(host) = self.hosts.get_mut(index) else {
            return;
        };
        let numbers: Vec<u64> = host.containers.keys().copied().collect();
        let Some(container) = self
            .chance
            .pick(&numbers)
            .and_then(|number| host.containers.remove(number))
        else {
            return;
        };
        self.counters.ended += 1;
        self.oracle.ended(container.number, container.ip);
        tracing::debug!(at = %clock(self.now), host = index, number = container.number, ip = %container.ip, "container ended");
        let Container { subnet, ip, .. } = container;
        self.with_node(index, |node, now| {
            node.withdraw_endpoint(&container.owner(), now);
            node.set_names(&container.owner(), &[], now);
            node.release(subnet, ip, now);
        });
    }

    fn ping_someone(&mut self, index: usize) {
        let all: Vec<(usize, Container)> = self.running().collect();
        let Some((_, from)) = all.iter().find(|(host, _)| *host == index).cloned() else {
            return;
        };
        let same = |(_, other): &&(usize, Container)| {
            other.subnet == from.subnet && other.number != from.number
        };
        let others: Vec<_> = all.iter().filter(same).cloned().collect();
        if let Some((_, to)) = self.chance.pick(&others).cloned() {
            self.ping(index, &from, &to);
        }
    }

    /// All containers that run, with their hosts.
    pub(crate) fn running(&self) -> impl Iterator<Item = (usize, Container)> + '_ {
        self.hosts.iter().enumerate().flat_map(|(index, host)| {
            host.containers
                .values()
                .map(move |container| (index, container.clone()))
        })
    }
}
