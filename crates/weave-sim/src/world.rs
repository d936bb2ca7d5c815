//! The world: all hosts, the network between them, and the queue of what happens next.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use weave_crypto::{Passwords, StretchedPassword};
use weave_node::forward::DropReason;
use weave_node::{Node, NodeConfig};
use weave_wire::{Cidr, Time, Versions};

use crate::attack::Attacker;
use crate::bans::Banned;
use crate::chance::Chance;
use crate::clock::Clock;
use crate::counters::Counters;
use crate::host::{Host, Router};
use crate::network::Network;
use crate::oracle::Oracle;
use crate::plan::{Options, Plan};
use crate::script::Held;
use crate::trace::{Step, Trace, clock};
use crate::{Report, verdict};

/// Work begins after this long, when most hosts are up.
const LAUNCH: Duration = Duration::from_secs(3);
/// Faults begin this long after work, when the range is founded.
const QUIET: Duration = Duration::from_secs(8);
/// Parts of the time of work and faults, after each of which all is looked at.
const CHURNS: u32 = 4;
/// A router that cannot start is started again after this long.
const RESTART: Duration = Duration::from_secs(1);

/// Something that will happen.
#[derive(Debug)]
pub(crate) enum Event {
    Launch(usize),
    Datagram {
        from: SocketAddr,
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
    /// The stranger sends something.
    Attack,
    /// A paused router goes on.
    Resume(usize),
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
    /// The first thing has gone wrong.
    pub(crate) has_faulted: bool,
    pub(crate) attacker: Attacker,
    /// How often the stranger sends something; never, if it is not there.
    pub(crate) attack_every: Option<Duration>,
    /// Nothing is at fault but the stranger: no session may end.
    pub(crate) is_besieged: bool,
    /// Datagrams wait to be told what becomes of them, if a script tells.
    pub(crate) held: Option<Held>,
    queue: BTreeMap<(Time, u64), Event>,
    next_event: u64,
    pub(crate) spins: (Time, u32),
    /// Datagrams of each host in this virtual second.
    pub(crate) sent: BTreeMap<usize, (u64, u64)>,
}

impl World {
    /// A world in which everything in the plan will happen.
    pub(crate) fn new(options: &Options) -> Self {
        let mut world = Self::still(Plan::of(options));
        #[cfg(feature = "seeded-bugs")]
        {
            world.bug = options.bug;
        }
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
        world.after(LAUNCH, Event::Attack);
        world
    }

    /// A world in which nothing happens by itself, not even a launch.
    pub(crate) fn still(plan: Plan) -> Self {
        Self {
            #[cfg(feature = "seeded-bugs")]
            bug: None,
            now: Time::ZERO,
            hosts: hosts(&plan),
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
            has_faulted: false,
            attacker: Attacker::new(&plan),
            attack_every: plan.attack_every,
            is_besieged: false,
            held: None,
            queue: BTreeMap::new(),
            next_event: 0,
            spins: (Time::ZERO, 0),
            sent: BTreeMap::new(),
            plan,
        }
    }

    /// Runs from start to end.
    pub(crate) fn run(mut self) -> Report {
        self.run_for(LAUNCH + QUIET);
        self.check_always("the launch");
        for _ in 0..CHURNS {
            self.run_for(self.plan.churn / CHURNS);
            self.check_always("some churn");
        }
        self.end_faults();
        self.finish()
    }

    /// The end: everybody must come to agree, with no fault any more.
    pub(crate) fn finish(mut self) -> Report {
        verdict::judge(&mut self);
        self.check_always("the run");
        for index in 0..self.hosts.len() {
            self.remove_router(index);
        }
        let events = match self.oracle.is_broken() {
            true => self.trace.told(),
            false => Vec::new(),
        };
        Report {
            violations: self.oracle.into_violations(),
            events,
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
            self.keep_trace();
        }
        self.now = end;
        self.oracle.check_overdue(end);
        self.keep_trace();
    }

    /// Whatever led to a violation stays to be read.
    pub(crate) fn keep_trace(&mut self) {
        if self.oracle.is_broken() {
            self.trace.freeze();
        }
    }

    /// Has something happen later.
    pub(crate) fn after(&mut self, delay: Duration, event: Event) {
        self.next_event += 1;
        self.queue
            .insert((self.now + delay, self.next_event), event);
    }

    /// Ends a host's router, which may say nothing more; whether there was one.
    pub(crate) fn remove_router(&mut self, index: usize) -> bool {
        let Some(host) = self.hosts.get_mut(index) else {
            return false;
        };
        host.pause = None;
        let Some(router) = host.router.take() else {
            return false;
        };
        let dropped = |reason| router.drops.read(reason);
        self.counters.replays_dropped += dropped(DropReason::Replayed);
        self.counters.forgeries_dropped += dropped(DropReason::OpenFailed);
        self.counters.keyless_dropped += dropped(DropReason::UnknownReceiver);
        let messages = router.node.status(router.clock.shows(self.now)).drops;
        self.counters.messages_dropped += messages.values().sum::<u64>();
        true
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
        let clock = Clock::start(now, host.clock_rate);
        let node = Node::new(config, seed, &host.disk.contents(), clock.shows(now));
        #[cfg_attr(
            not(feature = "seeded-bugs"),
            expect(unused_mut, reason = "bugs are seeded")
        )]
        let mut router = Router::new(node, clock);
        #[cfg(feature = "seeded-bugs")]
        router.receiver.seed_bug(self.bug);
        host.router = Some(router);
        self.trace.note(now, Step::Fault, index, b"launch");
        self.settle(index);
    }

    pub(crate) fn handle(&mut self, event: Event) {
        let Some(event) = self.defer(event) else {
            return;
        };
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
            Event::Attack => self.attack(),
            Event::Resume(host) => self.resume(host),
            Event::Mend => {
                tracing::info!(at = %clock(self.now), "the network is whole");
                self.network.mend();
            }
        }
    }

    fn config(&self, index: usize) -> NodeConfig {
        let host = self.hosts.get(index);
        let passed = self.now.as_nanos() / 1_000_000;
        NodeConfig {
            nickname: format!("host{index}"),
            version: "sim".to_owned(),
            versions: host.map_or(Versions::SPOKEN, |host| host.versions),
            mesh_name: "weave".to_owned(),
            passwords: Passwords::new(0, StretchedPassword::from_bytes([7; 32])),
            prefer_aes: index.is_multiple_of(2),
            discovery: true,
            pq: self.plan.pq_of(index),
            conn_limit: self.plan.conn_limit,
            port: weave_wire::PORT,
            range: "10.32.0.0/12".parse().ok(),
            default_subnet: None,
            take_back: weave_node::ipam::TakeBack::default(),
            targets: self
                .plan
                .target_of(index)
                .map(|target| format!("host{target}"))
                .into_iter()
                .collect(),
            awaits_names: true,
            local: self.network.local_ip(index).into_iter().collect(),
            anycast: Vec::new(),
            wall_ms: host.map_or(0, |host| host.wall_ms + passed),
            #[cfg(feature = "seeded-bugs")]
            seeded_bug: self.bug,
        }
    }
}

fn hosts(plan: &Plan) -> Vec<Host> {
    let all = plan.versions().into_iter().zip(plan.clocks());
    all.map(|(versions, clock)| Host::new(versions, clock))
        .collect()
}
