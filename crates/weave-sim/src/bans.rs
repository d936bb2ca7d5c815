//! A host is banned while everything goes wrong: in the end it must be out everywhere, and stay
//! out when all routers start anew with nothing but their disks.

use std::collections::BTreeSet;
use std::time::Duration;

use weave_node::BanProgress;
use weave_node::forward::Owner;
use weave_wire::PeerId;

use crate::containers::Container;
use crate::host::{Host, Router};
use crate::trace::Step;
use crate::world::{Event, World};

/// The operator looks this much later whether it is done, and types it anew where it is not.
const LOOK: Duration = Duration::from_secs(1);
/// The peers are looked at for this long once the ban is in force everywhere.
const STAYS: Duration = Duration::from_secs(40);
/// Frames that the banned host sends then.
const FRAMES: usize = 20;

/// Who is banned, and who typed it.
#[derive(Debug)]
pub(crate) struct Banned {
    pub(crate) host: usize,
    pub(crate) peer: PeerId,
    by: usize,
    /// Whoever typed it was told that it is done.
    is_done: bool,
    /// Frames that it has sent since.
    frames: BTreeSet<u64>,
}

impl World {
    /// An operator bans a host, or looks whether that is done.
    pub(crate) fn ban(&mut self) {
        if self.is_ban_in_force() {
            self.counters.bans += 1;
            if let Some(banned) = &mut self.banned {
                banned.is_done = true;
            }
            return;
        }
        if self.banned.is_none() && !self.is_churning {
            return;
        }
        self.after(LOOK, Event::Ban);
        let by = self.chance.index(self.hosts.len());
        if self.banned.is_none() {
            self.banned = self.pick_banned();
        }
        let is_up = self.is_up(by);
        let Some(banned) = self
            .banned
            .as_mut()
            .filter(|banned| banned.host != by && is_up)
        else {
            return;
        };
        banned.by = by;
        let (host, peer) = (banned.host, banned.peer);
        self.oracle.banned(host);
        self.trace.note(self.now, Step::Fault, by, b"ban");
        self.with_node(by, |node, now| node.ban(peer, "simulated", now));
    }

    /// Whether a ban was typed, and whoever typed it has yet to be told that it is done.
    pub(crate) fn is_ban_under_way(&self) -> bool {
        self.banned.as_ref().is_some_and(|banned| !banned.is_done)
    }

    /// Notes a frame that a host sends.
    pub(crate) fn note_sender(&mut self, host: usize, frame: u64) {
        if let Some(banned) = self.banned.as_mut().filter(|banned| banned.host == host) {
            banned.frames.insert(frame);
        }
    }

    /// Whoever knows of a ban takes no frame of the banned.
    pub(crate) fn check_sender(&mut self, host: usize, frame: u64) {
        let Some(banned) = self
            .banned
            .as_ref()
            .filter(|one| one.frames.contains(&frame))
        else {
            return;
        };
        let router = self.hosts.get(host).and_then(|host| host.router.as_ref());
        if host != banned.host && router.is_some_and(|router| knows(router, banned.peer)) {
            let what =
                format!("host {host} took frame {frame} of a peer that it knows to be banned");
            self.oracle.violation(what);
        }
    }

    /// Whether somebody has typed that this host is banned.
    pub(crate) fn is_to_be_out(&self, host: usize) -> bool {
        self.banned
            .as_ref()
            .is_some_and(|banned| banned.host == host)
    }

    /// Whether this host is banned, and whoever typed it was told that it is done.
    pub(crate) fn is_out(&self, host: usize) -> bool {
        let banned = self.banned.as_ref();
        banned.is_some_and(|banned| banned.host == host && banned.is_done)
    }

    /// Whether only this host knows of a ban: then it must not be lost.
    pub(crate) fn alone_knows_ban(&self, host: usize) -> bool {
        let Some(banned) = self.banned.as_ref().filter(|banned| banned.by == host) else {
            return false;
        };
        let mut others = (0..).zip(&self.hosts).filter(|(index, _)| *index != host);
        !others.any(|(_, other)| {
            let router = other.router.as_ref();
            router.is_some_and(|router| knows(router, banned.peer))
        })
    }

    /// All containers on hosts whose router runs and is not banned, with their hosts.
    pub(crate) fn serving(&self) -> impl Iterator<Item = (usize, Container)> + '_ {
        self.running()
            .filter(|(index, _)| self.is_up(*index) && !self.is_out(*index))
    }

    /// Starts all routers at once with what their disks hold; perhaps without the host that
    /// typed the ban.
    pub(crate) fn restart_all(&mut self) {
        let by = self.banned.as_ref().map(|banned| banned.by);
        let leaves = self.chance.permille(500);
        for index in 0..self.hosts.len() {
            self.crash(index);
            let is_needed = self.plan.is_needed(index);
            if let Some(host) = self.hosts.get_mut(index) {
                host.is_dead |= leaves && by == Some(index) && !is_needed;
            }
        }
        for index in 0..self.hosts.len() {
            self.launch(index);
        }
    }

    /// Looks for a while whether the banned host stays out, and nobody takes its frames.
    pub(crate) fn check_stays_out(&mut self) {
        let Some(host) = self.banned.as_ref().map(|banned| banned.host) else {
            return;
        };
        let end = self.now + STAYS;
        while self.now < end {
            self.run_for(Duration::from_secs(1));
            if let Some(broken) = self.ban_broken() {
                return self.oracle.violation(broken);
            }
        }
        let all: Vec<(usize, Container)> = self.running().collect();
        let (out, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|(at, _)| *at == host);
        let mut sent = Vec::new();
        for _ in 0..FRAMES {
            let pair = (self.chance.pick(&out), self.chance.pick(&others));
            let (Some((_, from)), Some((_, to))) = pair else {
                return;
            };
            sent.push(self.ping(host, &from.clone(), &to.clone()));
        }
        self.run_for(Duration::from_secs(1));
        for number in sent {
            if self.oracle.arrivals(number) != (0, 0) {
                let what = format!("frame {number} of banned host {host} was taken");
                self.oracle.violation(what);
            }
        }
    }

    /// What a banned host still has at others.
    pub(crate) fn ban_broken(&self) -> Option<String> {
        let banned = self.banned.as_ref().filter(|banned| banned.is_done)?;
        let others = (0..).zip(&self.hosts);
        let mut others = others.filter(|(index, _)| *index != banned.host);
        let host = self.hosts.get(banned.host)?;
        others.find_map(|(index, other)| {
            let router = other.router.as_ref()?;
            let what = left_over(router, banned.peer, host)?;
            Some(format!("host {index}: {what} banned host {}", banned.host))
        })
    }

    /// A host that may be banned: whoever has just started knows only the hosts that it was told
    /// of.
    fn pick_banned(&mut self) -> Option<Banned> {
        let host = self.chance.index(self.hosts.len());
        let peer = self.hosts.get(host)?.id()?;
        let banned = Banned {
            host,
            peer,
            by: host,
            is_done: false,
            frames: BTreeSet::new(),
        };
        (!self.plan.is_needed(host)).then_some(banned)
    }

    fn is_ban_in_force(&self) -> bool {
        let Some(banned) = &self.banned else {
            return false;
        };
        let host = self.hosts.get(banned.by);
        let router = host.and_then(|host| host.router.as_ref());
        let progress = router.and_then(|router| router.node.ban_progress(&banned.peer));
        banned.by != banned.host && progress == Some(BanProgress::InForce)
    }

    fn is_up(&self, host: usize) -> bool {
        let host = self.hosts.get(host);
        host.is_some_and(|host| host.router.is_some())
    }
}

fn knows(router: &Router, peer: PeerId) -> bool {
    router.node.bans().any(|ban| ban.peer == peer)
}

fn left_over(router: &Router, peer: PeerId, host: &Host) -> Option<&'static str> {
    let fib = &router.fib;
    let is_shown = |container: &Container| {
        let owner = fib
            .macs
            .get(&(container.segment(), container.station().mac));
        owner.is_some_and(|owner| match owner {
            Owner::Local => false,
            Owner::Remote { peer: owner, .. } => *owner == peer,
        })
    };
    if !knows(router, peer) {
        Some("has not heard of")
    } else if fib.sessions.iter().any(|session| session.peer == peer) {
        Some("has a session with")
    } else if router.names.all().iter().any(|entry| entry.origin == peer) {
        Some("shows names of")
    } else if host.containers.values().any(is_shown) {
        Some("shows endpoints of")
    } else {
        None
    }
}
