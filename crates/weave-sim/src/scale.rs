//! How a mesh without faults grows with the number of its peers: times, traffic, mistakes.
//!
//! Measures only. The bars are what the design asks for at 1,000 peers.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use weave_wire::PeerId;

use crate::measured::{Figure, Measured, Progress, Stage};
use crate::plan::Plan;
use crate::world::{Event, World};

/// Hosts start within this long.
const LAUNCH_MS: u64 = 2_000;
/// What has not happened after this long is not waited for.
const PATIENCE: Duration = Duration::from_secs(180);
/// How often it is looked whether something has happened.
const LOOK: Duration = Duration::from_millis(5);
const LOOK_SELDOM: Duration = Duration::from_millis(100);
/// After the start paths are probed, and sessions that were only for the start end.
const REST: Duration = Duration::from_secs(90);
/// Nothing happens for this long, and the traffic is counted.
const IDLE: Duration = Duration::from_secs(60);
const LOSS_PERMILLE: u64 = 50;
/// Datagrams are lost for this long, and the peers that somebody shows as down are counted.
const LOSSY: Duration = Duration::from_secs(600);
/// The halves are apart for this long.
const SPLIT: Duration = Duration::from_secs(60);
/// The name that changes are seen by.
const NAME: &str = "change";

/// What is measured.
#[derive(Debug, Clone)]
pub struct Scale {
    /// Number of hosts.
    pub peers: usize,
    /// The seed.
    pub seed: u64,
    /// Changes whose spreading is measured, without and with loss.
    pub changes: u32,
    /// Crashes of one peer.
    pub crashes: u32,
}

/// Measures a mesh of this size; `tell` hears of each figure at once.
pub fn measure(scale: &Scale, tell: &mut dyn FnMut(Progress<'_>)) -> Vec<Figure> {
    let world = World::still(Plan::quiet(scale.peers, scale.seed));
    let growth = Growth {
        scale: scale.clone(),
        last_ip: 0x0a28_0000,
    };
    Measured::new(world, growth, PATIENCE).run(&STAGES, tell)
}

const STAGES: [Stage<Growth>; 7] = [
    ("launch", |it| it.launch()),
    ("idle", |it| it.idle("0 % loss", 16.0)),
    ("changes", |it| it.change("0 % loss", 1.0)),
    ("changes with loss", |it| {
        it.world.network.lose(LOSS_PERMILLE);
        it.change("5 % loss", 2.0);
    }),
    ("ten minutes with loss", |it| {
        it.lose();
        it.world.network.lose(0);
    }),
    ("crashes", |it| it.crash()),
    ("split", |it| it.split()),
];

struct Growth {
    scale: Scale,
    /// Each change is told by an address of its own.
    last_ip: u32,
}

impl Measured<Growth> {
    fn launch(&mut self) {
        for host in 0..self.of.scale.peers {
            let delay = self.world.chance.millis(0, LAUNCH_MS);
            self.world.after(delay, Event::Launch(host));
        }
        self.world.run_for(Duration::from_millis(LAUNCH_MS));
        let took = self.until(LOOK_SELDOM, Self::is_whole);
        self.time(
            "cold start, from the last launch until all show all",
            took,
            Some(30.0),
        );
    }

    fn idle(&mut self, loss: &str, bar: f64) {
        self.world.run_for(REST);
        let before = self.world.counters.bytes;
        self.world.run_for(IDLE);
        self.traffic(loss, self.world.counters.bytes - before, IDLE, bar);
    }

    /// One peer after the other changes its name, and each change spreads before the next.
    fn change(&mut self, loss: &str, bar: f64) {
        let (mut most, mut all) = (Vec::new(), Vec::new());
        for _ in 0..self.of.scale.changes {
            let (seen_by_most, seen_by_all) = self.spread();
            most.extend(seen_by_most);
            all.extend(seen_by_all);
        }
        let what = format!("change seen by 99.9 % of peers, {loss}");
        self.distribution(&what, &mut most, [None, Some(bar), None]);
        let what = format!("change seen by all peers, {loss}");
        self.distribution(&what, &mut all, [None; 3]);
        let missed = f64::from(self.of.scale.changes) - all.len() as f64;
        self.figure(
            &format!("changes not seen by all in 180 s, {loss}"),
            missed,
            "",
            None,
        );
    }

    /// How long one change takes until 99.9 % of the peers, and all, have it.
    fn spread(&mut self) -> (Option<Duration>, Option<Duration>) {
        let from = self.world.chance.index(self.of.scale.peers);
        self.of.last_ip += 1;
        let ip = IpAddr::from(Ipv4Addr::from_bits(self.of.last_ip));
        let names = [(format!("{NAME}.weave.local"), ip)];
        let began = self.world.now;
        self.world
            .with_node(from, |node, now| node.set_names(NAME, &names, now));
        let mut missing: Vec<usize> = (0..self.of.scale.peers).collect();
        let few = self.of.scale.peers / 1000;
        let mut most = None;
        loop {
            let hosts = &self.world.hosts;
            missing.retain(|index| {
                let router = hosts.get(*index).and_then(|host| host.router.as_ref());
                router.is_some_and(|router| router.names.reverse(ip).next().is_none())
            });
            let took = self.world.now.saturating_sub(began);
            if missing.len() <= few {
                most = most.or(Some(took));
            }
            if missing.is_empty() {
                break (most, Some(took));
            }
            if took >= PATIENCE {
                break (most, None);
            }
            self.world.run_for(LOOK);
        }
    }

    fn lose(&mut self) {
        let before = self.world.counters.bytes;
        let mut shown_down: Vec<PeerId> = Vec::new();
        let end = self.world.now + LOSSY;
        while self.world.now < end {
            self.world.run_for(LOOK_SELDOM);
            if !self.is_whole() {
                shown_down.extend(self.missing_somewhere());
                shown_down.sort_unstable();
                shown_down.dedup();
            }
        }
        let bytes = self.world.counters.bytes - before;
        self.traffic("5 % loss", bytes, LOSSY, 32.0);
        let peers = shown_down.len() as f64;
        let days = self.of.scale.peers as f64 * LOSSY.as_secs_f64() / 86_400.0;
        self.figure(
            "peers wrongly shown as down in 10 min, 5 % loss",
            peers,
            "",
            None,
        );
        let what = "the same for each peer and day";
        self.figure(what, peers / days, "", Some(0.01));
    }

    /// Crashes of one peer after the other, each back before the next.
    fn crash(&mut self) {
        let (mut each, mut last) = (Vec::new(), Vec::new());
        for _ in 0..self.of.scale.crashes {
            let index = self.world.chance.index(self.of.scale.peers);
            let gone = self.world.hosts.get(index).and_then(|host| host.id());
            let Some(gone) = gone else { continue };
            self.world.remove_router(index);
            let began = self.world.now;
            let mut noticed = vec![None; self.of.scale.peers];
            while self.world.now < began + PATIENCE
                && noticed.iter().flatten().count() + 1 < noticed.len()
            {
                self.world.run_for(LOOK_SELDOM);
                let took = self.world.now.saturating_sub(began);
                for (host, noticed) in self.world.hosts.iter().zip(&mut noticed) {
                    let shows = |router: &crate::host::Router| router.node.live().contains(&gone);
                    if noticed.is_none() && host.router.as_ref().is_some_and(|it| !shows(it)) {
                        *noticed = Some(took);
                    }
                }
            }
            last.extend(noticed.iter().flatten().max().copied());
            each.extend(noticed.into_iter().flatten());
            self.world.launch(index);
            self.until(LOOK_SELDOM, Self::is_whole);
        }
        self.distribution("crash noticed by a peer", &mut each, [None; 3]);
        let bars = [Some(5.0), Some(12.0), None];
        self.distribution("crash noticed by the last peer", &mut last, bars);
    }

    fn split(&mut self) {
        self.world.network.halve();
        self.world.run_for(SPLIT);
        self.world.network.mend();
        let took = self.until(LOOK_SELDOM, Self::is_whole);
        self.time(
            "split in halves healed, until all show all",
            took,
            Some(10.0),
        );
    }

    /// Everybody shows everybody.
    fn is_whole(&self) -> bool {
        let mut routers = self.world.hosts.iter().map(|host| host.router.as_ref());
        routers.all(|router| {
            router.is_some_and(|router| router.node.live().len() == self.of.scale.peers)
        })
    }

    /// Peers that somebody does not show.
    fn missing_somewhere(&self) -> Vec<PeerId> {
        let hosts = &self.world.hosts;
        let ids: BTreeSet<PeerId> = hosts.iter().filter_map(|host| host.id()).collect();
        let routers = hosts.iter().filter_map(|host| host.router.as_ref());
        let partial = routers.filter(|router| router.node.live().len() < ids.len());
        partial
            .flat_map(|router| ids.difference(router.node.live()))
            .copied()
            .collect()
    }

    fn traffic(&mut self, loss: &str, bytes: u64, time: Duration, bar: f64) {
        let bits = bytes as f64 * 8.0 / self.of.scale.peers as f64 / time.as_secs_f64();
        let what = format!("idle traffic sent by a peer, {loss}");
        self.figure(&what, bits / 1000.0, "kbit/s", Some(bar));
    }

    /// Median, 99th percentile and maximum, with their bars.
    fn distribution(&mut self, what: &str, times: &mut [Duration], bars: [Option<f64>; 3]) {
        times.sort_unstable();
        for ((name, percent), bar) in [("p50", 50), ("p99", 99), ("max", 100)]
            .into_iter()
            .zip(bars)
        {
            let rank = (times.len() * percent).div_ceil(100).saturating_sub(1);
            self.time(&format!("{what}, {name}"), times.get(rank).copied(), bar);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_mesh_is_measured_from_launch_to_heal() {
        let scale = Scale {
            peers: 4,
            seed: 1,
            changes: 3,
            crashes: 1,
        };
        let (mut stages, mut told) = (0, 0);
        let figures = measure(&scale, &mut |progress| match progress {
            Progress::Stage(_) => stages += 1,
            Progress::Figure(_) => told += 1,
        });
        assert_eq!((stages, told), (7, figures.len()));
        assert!(
            figures.iter().all(|figure| figure.value.is_some()),
            "{figures:?}"
        );
    }
}
