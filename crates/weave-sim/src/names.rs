//! Many names: how long it takes until all have them, what one change costs, and a host that joins.
//!
//! Measures only, on a mesh without faults whose lines have a bandwidth.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::measured::{Figure, Measured, Progress, Stage};
use crate::plan::Plan;
use crate::world::{Event, World};

/// What has not happened after this long is not waited for.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(10);
/// The mesh comes to rest.
const REST: Duration = Duration::from_secs(20);
/// What names are filed under.
const OWNER: &str = "c0ffee";

/// What is measured.
#[derive(Debug, Clone)]
pub struct ManyNames {
    /// Hosts; the last one joins when the others have all names.
    pub peers: usize,
    /// Names, the same number at each of the others.
    pub names: usize,
    /// The seed.
    pub seed: u64,
    /// Megabits per second of each host's line.
    pub mbit: u64,
}

/// Measures it; `tell` hears of each figure at once.
pub fn measure_names(names: &ManyNames, tell: &mut dyn FnMut(Progress<'_>)) -> Vec<Figure> {
    let mut world = World::still(Plan::quiet(names.peers, names.seed));
    let rate = names.mbit.saturating_mul(1_000_000);
    world.network.lines_carry(rate);
    let settled = names.peers.saturating_sub(1);
    let zones = Zones {
        settled,
        each: names.names.div_ceil(settled.max(1)),
    };
    Measured::new(world, zones, PATIENCE).run(&STAGES, tell)
}

const STAGES: [Stage<Zones>; 3] = [
    ("announce", |it| it.announce()),
    ("change", |it| it.change()),
    ("join", |it| it.join()),
];

struct Zones {
    /// Hosts that are there from the beginning.
    settled: usize,
    /// Names of each of them.
    each: usize,
}

impl Measured<Zones> {
    /// Each host is given its names at once, as one that finds its containers running.
    fn announce(&mut self) {
        for host in 0..self.of.settled {
            self.world.after(Duration::ZERO, Event::Launch(host));
        }
        let hosts = self.of.settled;
        self.until(LOOK, |it| {
            let mut routers = it.world.hosts.iter().take(hosts);
            routers.all(|host| {
                let router = host.router.as_ref();
                router.is_some_and(|router| router.node.live().len() == hosts)
            })
        });
        self.world.run_for(REST);
        let bytes = self.world.counters.bytes;
        for host in 0..self.of.settled {
            let names = self.names_of(host, 0);
            self.world
                .with_node(host, |node, now| node.set_names(OWNER, &names, now));
        }
        let all = self.all();
        let took = self.until(LOOK, |it| {
            (0..hosts).all(|host| known(&it.world, host) == all)
        });
        self.time("names known to all, from when they were set", took, None);
        let sent = (self.world.counters.bytes - bytes) as f64 / self.of.settled as f64;
        self.figure("sent by a peer for it", sent / 1e6, "MB", None);
    }

    /// One name of one host belongs to another address now.
    fn change(&mut self) {
        self.world.run_for(REST);
        let idle = self.world.counters.bytes;
        self.world.run_for(REST);
        let idle = (self.world.counters.bytes - idle) as f64 / REST.as_secs_f64();
        let names = self.names_of(0, 1);
        let Some((_, ip)) = names.first().cloned() else {
            return;
        };
        let (hosts, bytes, began) = (self.of.settled, self.world.counters.bytes, self.world.now);
        self.world
            .with_node(0, |node, now| node.set_names(OWNER, &names, now));
        let took = self.until(LOOK, |it| {
            (0..hosts).all(|host| is_known(&it.world, host, ip))
        });
        self.time("change of one name seen by all", took, Some(1.0));
        // what is passed on later, too
        self.world.run_for(Duration::from_secs(2));
        let passed = self.world.now.saturating_sub(began).as_secs_f64();
        let sent = (self.world.counters.bytes - bytes) as f64 - idle * passed;
        let each = sent.max(0.0) / self.of.settled as f64;
        self.figure("sent by a peer for it", each / 1e3, "kB", None);
    }

    fn join(&mut self) {
        let (bytes, host, all) = (self.world.counters.bytes, self.of.settled, self.all());
        self.world.after(Duration::ZERO, Event::Launch(host));
        let took = self.until(LOOK, |it| known(&it.world, host) == all);
        self.time("joiner has all names, from its launch", took, Some(5.0));
        let sent = (self.world.counters.bytes - bytes) as f64;
        self.figure("sent by all for it", sent / 1e6, "MB", None);
    }

    fn all(&self) -> usize {
        self.of.each * self.of.settled
    }

    /// The names of a host; the first of them, `changed` times moved to another address.
    fn names_of(&self, host: usize, changed: u32) -> Vec<(String, IpAddr)> {
        let first = u32::try_from(host * self.of.each).unwrap_or(u32::MAX);
        let numbers = (0_u32..).take(self.of.each);
        let mut names: Vec<_> = numbers
            .map(|number| {
                let name = format!("service-{number}.host{host}.weave.local");
                (name, address(first.saturating_add(number)))
            })
            .collect();
        if let Some((_, ip)) = names.first_mut().filter(|_| changed > 0) {
            *ip = address(u32::from(u16::MAX) * 15 + changed);
        }
        names
    }
}

fn known(world: &World, host: usize) -> usize {
    let router = world.hosts.get(host).and_then(|host| host.router.as_ref());
    router.map_or(0, |router| router.names.len())
}

fn is_known(world: &World, host: usize, ip: IpAddr) -> bool {
    let router = world.hosts.get(host).and_then(|host| host.router.as_ref());
    router.is_some_and(|router| router.names.reverse(ip).next().is_some())
}

fn address(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(0x0a20_0000 + number).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_joiner_has_a_thousand_names_in_time_and_a_change_costs_little() {
        let names = ManyNames {
            peers: 6,
            names: 1_000,
            seed: 1,
            mbit: 100,
        };
        let figures = measure_names(&names, &mut |_| {});
        let value = |what: &str| {
            let mut found = figures.iter().filter(|figure| figure.what.contains(what));
            found.next_back().and_then(|figure| figure.value)
        };
        assert!(
            value("joiner has all").is_some_and(|took| took < 5.0),
            "{figures:?}"
        );
        assert!(
            value("seen by all").is_some_and(|took| took < 1.0),
            "{figures:?}"
        );
        let cost = value("sent by a peer").unwrap();
        assert!(
            cost < 10.0,
            "200 names of the host would be more: {figures:?}"
        );
    }

    #[test]
    fn a_slow_line_takes_its_time() {
        let names = ManyNames {
            peers: 3,
            names: 2_000,
            seed: 1,
            mbit: 1,
        };
        let figures = measure_names(&names, &mut |_| {});
        let joined = figures
            .iter()
            .find(|it| it.what.contains("joiner"))
            .unwrap();
        // 2,000 names are more than 100 kB
        assert!(joined.value.is_some_and(|took| took > 0.8), "{figures:?}");
    }
}
