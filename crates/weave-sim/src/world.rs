//! The world: all hosts, the network between them, and the queue of what happens next.

use std::collections::BTreeMap;
use std::time::Duration;

use weave_crypto::{Passwords, StretchedPassword};
use weave_node::{Node, NodeConfig, Transmit, drain};
use weave_wire::{Cidr, Time, Versions};

use crate::bans::Banned;
use crate::chance::Chance;
use crate::containers::network;
use crate::counters::Counters;
use crate::host::{Host, Inbound, Inbox, Outbox, Output, Router};
use crate::network::{Network, address_of, host_at};
use crate::oracle::Oracle;
use crate::plan::{Options, Plan};
use crate::trace::{Step, Trace};
use crate::{Report, verdict};

/// Unix milliseconds at the start of every run.
const WALL_MS: u64 = 1_750_000_000_000;
/// Work begins after this long, when most hosts are up.
const LAUNCH: Duration = Duration::from_secs(3);
/// Faults begin this long after work, when the range is founded.
const QUIET: Duration = Duration::from_secs(8);
/// A router that cannot start is started again after this long.
const RESTART: Duration = Duration::from_secs(1);
/// Writes after which a backup is made, of a thousand.
const BACKUP_PERMILLE: u64 = 300;
/// Calls of one timer at one moment that are taken for an endless loop.
const MAX_SPINS: u32 = 1000;

/// Something that will happen.
#[derive(Debug)]
pub(crate) enum Event {
    Launch(usize),
    Datagram {
        from: usize,
        to: usize,
        bytes: Vec<u8>,
    },
    Written {
        host: usize,
        life: u64,
    },
    Timer {
        host: usize,
        life: u64,
    },
    Resolved {
        host: usize,
        life: u64,
        target: String,
    },
    Work,
    Fault,
    /// An operator bans a host, or looks whether that is done.
    Ban,
    /// The MTU of a link changes.
    Mtu,
    /// Power fails while something is being written.
    Crash {
        host: usize,
        life: u64,
    },
    Mend,
}

/// Everything there is.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) plan: Plan,
    #[cfg(feature = "seeded-bugs")]
    bug: Option<weave_node::seeded::SeededBug>,
    pub(crate) now: Time,
    pub(crate) hosts: Vec<Host>,
    pub(crate) network: Network,
    pub(crate) chance: Chance,
    pub(crate) oracle: Oracle,
    pub(crate) counters: Counters,
    pub(crate) trace: Trace,
    pub(crate) subnets: Vec<Cidr>,
    pub(crate) next_container: u64,
    pub(crate) banned: Option<Banned>,
    /// Work and faults go on.
    pub(crate) is_churning: bool,
    queue: BTreeMap<(Time, u64), Event>,
    next_event: u64,
    spins: (Time, u32),
}

impl World {
    pub(crate) fn new(options: &Options) -> Self {
        let plan = Plan::of(options);
        let mut world = Self {
            #[cfg(feature = "seeded-bugs")]
            bug: options.bug,
            now: Time::ZERO,
            hosts: plan.versions().into_iter().map(Host::new).collect(),
            network: Network::new(&plan),
            chance: Chance::new(plan.seed, 3),
            oracle: Oracle::default(),
            counters: Counters::default(),
            trace: Trace::default(),
            subnets: plan
                .subnets
                .iter()
                .filter_map(|subnet| subnet.parse().ok())
                .collect(),
            next_container: 0,
            banned: None,
            is_churning: true,
            queue: BTreeMap::new(),
            next_event: 0,
            spins: (Time::ZERO, 0),
            plan,
        };
        for host in 0..world.plan.peers {
            let delay = world.chance.millis(0, 2000);
            world.after(delay, Event::Launch(host));
        }
        world.after(LAUNCH, Event::Work);
        world.after(LAUNCH + QUIET, Event::Fault);
        world.after(LAUNCH + QUIET, Event::Mtu);
        if let Some(later) = world.plan.ban_after {
            world.after(LAUNCH + QUIET + later, Event::Ban);
        }
        world
    }

    /// Runs from start to end.
    pub(crate) fn run(mut self) -> Report {
        self.run_for(LAUNCH + QUIET + self.plan.churn);
        self.end_faults();
        verdict::judge(&mut self);
        Report {
            violations: self.oracle.into_violations(),
            counters: self.counters,
            trace: self.trace.finish(),
            plan: self.plan,
        }
    }

    /// Lets virtual time pass.
    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(entry) = self.queue.first_entry() {
            let at = entry.key().0;
            if at > end || self.oracle.is_hopeless() {
                break;
            }
            let event = entry.remove();
            self.now = at;
            self.handle(event);
        }
        self.now = end;
        self.oracle.check_overdue(end);
    }

    /// Has something happen later.
    pub(crate) fn after(&mut self, delay: Duration, event: Event) {
        self.next_event += 1;
        self.queue
            .insert((self.now + delay, self.next_event), event);
    }

    /// Starts a host's router with what its disk holds.
    pub(crate) fn launch(&mut self, index: usize) {
        let seed = self.chance.seed();
        let now = self.now;
        let Some(host) = self.hosts.get_mut(index) else {
            return;
        };
        if host.router.is_some() || host.is_dead {
            return;
        }
        if now < host.disk.refuses_until {
            // its supervisor tries again
            self.counters.starts_refused += 1;
            self.after(RESTART, Event::Launch(index));
            return;
        }
        host.life += 1;
        self.change_version(index);
        let config = self.config(index);
        let Some(host) = self.hosts.get_mut(index) else {
            return;
        };
        let node = Node::new(config, seed, &host.disk.contents(), now);
        host.router = Some(Router::new(node));
        self.trace.note(now, Step::Fault, index, b"launch");
        self.settle(index);
    }

    /// Does something with a host's node, if it runs, and carries out what it wants.
    pub(crate) fn with_node(&mut self, index: usize, act: impl FnOnce(&mut Node, Time)) {
        let now = self.now;
        let Some(router) = self
            .hosts
            .get_mut(index)
            .and_then(|host| host.router.as_mut())
        else {
            return;
        };
        act(&mut router.node, now);
        self.settle(index);
    }

    /// Hands a datagram to the network.
    pub(crate) fn transmit(&mut self, from: usize, transmit: Transmit) {
        let Transmit {
            to,
            datagram: bytes,
            dont_fragment,
        } = transmit;
        let Some(to) = host_at(to).filter(|to| *to < self.hosts.len()) else {
            return;
        };
        let shape = (bytes.len(), dont_fragment);
        for delay in self.network.carry(from, to, shape, &mut self.counters) {
            self.after(
                delay,
                Event::Datagram {
                    from,
                    to,
                    bytes: bytes.clone(),
                },
            );
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Launch(host) => self.launch(host),
            Event::Datagram { from, to, bytes } => self.receive(from, to, bytes),
            Event::Written { host, life } => self.written(host, life),
            Event::Timer { host, life } => self.timer(host, life),
            Event::Resolved { host, life, target } => self.resolved(host, life, &target),
            Event::Work => self.work(),
            Event::Fault => self.fault(),
            Event::Mtu => self.change_mtu(),
            Event::Ban => self.ban(),
            Event::Crash { host, life } => self.crash_in_mid_write(host, life),
            Event::Mend => self.network.mend(),
        }
    }

    fn receive(&mut self, from: usize, to: usize, mut bytes: Vec<u8>) {
        self.trace.note_datagram(self.now, to, &bytes);
        let now = self.now;
        let Some(router) = self.hosts.get_mut(to).and_then(|host| host.router.as_mut()) else {
            return;
        };
        let mut inbox = Inbox::default();
        let source = address_of(from);
        router
            .receiver
            .receive_datagram(&router.fib, source, &mut bytes, now, &mut inbox);
        for inbound in inbox.0 {
            match inbound {
                Inbound::Frame(frame) => self.delivered(to, &frame),
                Inbound::Control(receiver, from, plaintext) => self.with_node(to, |node, now| {
                    node.handle_control(receiver, from, &plaintext, now);
                }),
                Inbound::Handshake(from, datagram) => self.with_node(to, |node, now| {
                    node.handle_handshake(from, &datagram, now);
                }),
                Inbound::Relayed(onward, datagram) => self.transmit(
                    to,
                    Transmit {
                        to: onward,
                        datagram,
                        dont_fragment: false,
                    },
                ),
                Inbound::Learned(segment, mac, peer) => self.with_node(to, |node, now| {
                    node.handle_learned(segment, mac, peer, now);
                }),
            }
        }
    }

    fn written(&mut self, index: usize, life: u64) {
        let now = self.now;
        let Some(host) = self.hosts.get_mut(index) else {
            return;
        };
        if host.life != life || host.router.is_none() {
            return;
        }
        let is_started = host
            .router
            .as_ref()
            .is_some_and(|router| router.node.is_started());
        let fails = now < host.disk.refuses_until
            || (self.is_churning && self.chance.permille(self.plan.disk_permille));
        if is_started && fails {
            let Some(token) = host.disk.refuse() else {
                return;
            };
            self.counters.writes_refused += 1;
            self.with_node(index, |node, now| {
                node.handle_persist_failed(token, "disk full", now)
            });
            return;
        }
        let Some(token) = host.disk.complete() else {
            return;
        };
        if self.chance.permille(BACKUP_PERMILLE) {
            host.disk.back_up();
        }
        self.trace.note(now, Step::Written, index, &[]);
        self.with_node(index, |node, now| node.handle_persisted(token, now));
        self.greet(index);
    }

    fn timer(&mut self, index: usize, life: u64) {
        let now = self.now;
        let Some(host) = self.hosts.get_mut(index).filter(|host| host.life == life) else {
            return;
        };
        let Some(router) = host
            .router
            .as_mut()
            .filter(|router| router.timer == Some(now))
        else {
            return;
        };
        router.timer = None;
        self.trace.note(now, Step::Timer, index, &[]);
        self.with_node(index, |node, now| node.handle_timeout(now));
    }

    fn resolved(&mut self, index: usize, life: u64, target: &str) {
        if self.hosts.get(index).is_none_or(|host| host.life != life) {
            return;
        }
        let number = target
            .strip_prefix("host")
            .and_then(|number| number.parse().ok());
        let addresses = number.map(address_of).into_iter().collect();
        self.with_node(index, |node, now| {
            node.set_target_addresses(target, addresses, now)
        });
    }

    /// Carries out everything that a node wants, and sets its timer.
    fn settle(&mut self, index: usize) {
        let mut outbox = Outbox::default();
        let now = self.now;
        let Some(host) = self.hosts.get_mut(index) else {
            return;
        };
        let life = host.life;
        let Some(router) = host.router.as_mut() else {
            return;
        };
        drain(&mut router.node, now, &mut outbox);
        if let Some(fib) = outbox.fib {
            router.fib = fib;
        }
        if let Some(names) = outbox.names {
            self.oracle.shown(index, life, &names);
            router.names = names;
        }
        for output in outbox.outputs {
            self.put_out(index, life, output);
        }
        self.set_timer(index);
    }

    fn put_out(&mut self, index: usize, life: u64, output: Output) {
        match output {
            Output::Transmit(transmit) => self.transmit(index, transmit),
            Output::Persist(token, writes) => {
                let delay = self.chance.millis(0, self.plan.disk_ms);
                if let Some(host) = self.hosts.get_mut(index) {
                    host.disk.submit(token, writes);
                }
                self.after(delay, Event::Written { host: index, life });
                if self.chance.permille(self.plan.power_cut_permille) {
                    let cut = self.chance.millis(0, self.plan.disk_ms);
                    self.after(cut, Event::Crash { host: index, life });
                }
            }
            Output::Allocated(ticket, result) => self.allocated(index, ticket, result),
            Output::Resolve(target) => {
                let delay = self.chance.millis(1, 20);
                self.after(
                    delay,
                    Event::Resolved {
                        host: index,
                        life,
                        target,
                    },
                );
            }
            Output::Conflict => self.counters.conflicts += 1,
        }
    }

    fn set_timer(&mut self, index: usize) {
        let now = self.now;
        let Some(host) = self.hosts.get_mut(index) else {
            return;
        };
        let life = host.life;
        let Some(router) = host.router.as_mut() else {
            return;
        };
        let Some(due) = router.node.poll_timeout() else {
            router.timer = None;
            return;
        };
        let due = due.max(now);
        if router.timer == Some(due) {
            return;
        }
        router.timer = Some(due);
        if due == now {
            self.spins = if self.spins.0 == now {
                (now, self.spins.1 + 1)
            } else {
                (now, 0)
            };
            if self.spins.1 > MAX_SPINS {
                self.oracle
                    .violation(format!("the timers of host {index} are due for ever"));
                return;
            }
        }
        let delay = due.saturating_sub(now);
        self.after(delay, Event::Timer { host: index, life });
    }

    /// Tells a router that has just started of the host's networks and containers.
    fn greet(&mut self, index: usize) {
        let Some(host) = self.hosts.get_mut(index) else {
            return;
        };
        let Some(router) = host.router.as_mut() else {
            return;
        };
        if router.is_ready || !router.node.is_started() {
            return;
        }
        router.is_ready = true;
        let containers: Vec<_> = host.containers.values().cloned().collect();
        for subnet in self.subnets.clone() {
            self.with_node(index, |node, now| node.add_subnet(network(subnet), now));
        }
        self.check_kept(index);
        self.release_strays(index);
        for container in &containers {
            let (owner, subnet, ip) = (container.owner(), container.subnet, container.ip);
            self.with_node(index, |node, now| node.claim(&owner, subnet, ip, now));
            self.announce(index, container);
        }
    }

    fn config(&self, index: usize) -> NodeConfig {
        NodeConfig {
            nickname: format!("host{index}"),
            version: "sim".to_owned(),
            versions: self
                .hosts
                .get(index)
                .map_or(Versions::SPOKEN, |host| host.versions),
            mesh_name: "weave".to_owned(),
            passwords: Passwords::new(0, StretchedPassword::from_bytes([7; 32])),
            prefer_aes: index.is_multiple_of(2),
            discovery: true,
            pq: self.plan.pq_of(index),
            port: weave_wire::PORT,
            range: "10.32.0.0/12".parse().ok(),
            default_subnet: None,
            targets: self
                .plan
                .target_of(index)
                .map(|target| format!("host{target}"))
                .into_iter()
                .collect(),
            anycast: Vec::new(),
            wall_ms: WALL_MS,
            #[cfg(feature = "seeded-bugs")]
            seeded_bug: self.bug,
        }
    }
}
