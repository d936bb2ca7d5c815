//! What goes wrong: routers die or are stopped, the network breaks.

use std::time::Duration;

use crate::host::Host;
use crate::trace::Step;
use crate::world::{Event, World};

impl World {
    /// One thing that goes wrong, and when it will be right again.
    pub(crate) fn fault(&mut self) {
        if !self.is_churning {
            return;
        }
        let pause = self.plan.fault_every + self.chance.millis(0, 1000);
        self.after(pause, Event::Fault);
        // whoever knows better than a disk that was set back must be there to say so
        if self.is_recovering() {
            return;
        }
        let kind = match std::mem::replace(&mut self.has_faulted, true) {
            true => self.chance.below(19),
            // so that a few seeds in a row see every kind
            false => self.plan.seed % 8,
        };
        match kind {
            0 => self.split(true),
            1 | 8 => self.fill_disk(),
            2 | 9 => self.pause(),
            3 | 10 => self.roam(),
            4 | 11 => self.split(false),
            5 | 12 | 13 => self.set_back(),
            6 | 14 => {
                let index = self.chance.index(self.hosts.len());
                let back = self.chance.millis(100, 5000);
                self.stop(index);
                self.after(back, Event::Launch(index));
            }
            _ => {
                let index = self.chance.index(self.hosts.len());
                let back = self.chance.millis(100, 9000);
                self.crash(index);
                self.after(back, Event::Launch(index));
            }
        }
    }

    /// A link takes longer datagrams, or no longer such long ones. Nobody is told.
    pub(crate) fn change_mtu(&mut self) {
        if self.is_churning {
            self.after(self.plan.mtu_every, Event::Mtu);
            self.network.change_mtu();
            self.counters.mtu_changes += 1;
        }
    }

    /// Everything that is broken is mended, and everybody is back who is not dead for good.
    pub(crate) fn end_faults(&mut self) {
        self.is_churning = false;
        let spared = self.is_recovering();
        for _ in 0..self.plan.dead {
            if spared {
                break;
            }
            let index = self.chance.index(self.hosts.len());
            // whoever has just started knows only the hosts that it was told of
            if self.plan.is_needed(index) || self.alone_knows_ban(index) {
                continue;
            }
            self.crash(index);
            if let Some(host) = self.hosts.get_mut(index) {
                host.is_dead = true;
            }
        }
        self.resume_all();
        self.network.mend();
        self.network.stop_losing();
        for host in &mut self.hosts {
            host.disk.refuses_until = self.now;
        }
        for index in 0..self.hosts.len() {
            self.launch(index);
        }
    }

    /// A router dies at once; its containers run on.
    pub(crate) fn crash(&mut self, index: usize) {
        if !self.remove_router(index) {
            return;
        }
        self.counters.crashes += 1;
        if let Some(host) = self.hosts.get_mut(index) {
            host.disk.crash(&mut self.chance, &mut self.counters);
        }
        self.oracle.router_gone(index);
        self.trace.note(self.now, Step::Fault, index, b"crash");
    }

    /// A router dies while something is on its way to the disk.
    pub(crate) fn crash_in_mid_write(&mut self, index: usize, life: u64) {
        let is_same = self.hosts.get(index).is_some_and(|host| host.life == life);
        let is_time = self.has_faulted && self.is_churning;
        if !is_time || !is_same || self.is_recovering() {
            return;
        }
        let back = self.chance.millis(100, 5000);
        self.crash(index);
        self.after(back, Event::Launch(index));
    }

    /// A router is stopped and says so.
    fn stop(&mut self, index: usize) {
        if !self.hosts.get(index).is_some_and(Host::is_ready) {
            return;
        }
        self.with_node(index, |node, now| node.goodbye(now));
        self.remove_router(index);
        // a router that is stopped waits for its disk
        let mut disk = self.hosts.get_mut(index).map(|host| &mut host.disk);
        while disk.as_mut().is_some_and(|disk| disk.complete().is_some()) {}
        self.counters.stops += 1;
        self.oracle.router_gone(index);
        self.trace.note(self.now, Step::Fault, index, b"stop");
    }

    /// A router dies, and is started again on its disk as it was some time before.
    fn set_back(&mut self) {
        let index = self.chance.index(self.hosts.len());
        let is_up = self.hosts.get(index).is_some_and(Host::is_ready);
        let is_all_awake = self.hosts.iter().all(|host| host.pause.is_none());
        let is_calm = is_all_awake && self.network.is_whole();
        if !is_up || !is_calm || self.alone_knows_ban(index) || !self.is_known_elsewhere(index) {
            return;
        }
        let back = self.chance.millis(2000, 9000);
        self.crash(index);
        self.after(back, Event::Launch(index));
        let Some(host) = self.hosts.get_mut(index) else {
            return;
        };
        if host.disk.set_back(&mut self.chance) {
            host.is_set_back = true;
            host.was_set_back = true;
            self.counters.disks_set_back += 1;
            self.trace.note(self.now, Step::Fault, index, b"set back");
        }
    }

    /// Whether another host holds all that this one has said: whatever its disk forgets is lost
    /// with the last of those.
    fn is_known_elsewhere(&self, index: usize) -> bool {
        let own = self.hosts.get(index).and_then(|host| host.router.as_ref());
        let Some(own) = own else { return false };
        let (peer, said) = (own.node.id(), own.node.log_version(&own.node.id()));
        let mut others = (0..).zip(&self.hosts).filter(|(other, _)| *other != index);
        others.any(|(_, host)| {
            let router = host.router.as_ref();
            router.is_some_and(|router| router.node.log_version(&peer) == said)
        })
    }

    /// Whether a router has yet to hear what its disk forgot.
    fn is_recovering(&mut self) -> bool {
        for host in self.hosts.iter_mut().filter(|host| host.is_set_back) {
            let Some(router) = host.router.as_ref().filter(|router| router.is_ready) else {
                return true;
            };
            if router.node.is_recovering() {
                return true;
            }
            let noticed = router.node.ipam_status().recovered.is_some();
            self.counters.set_backs_noticed += u64::from(noticed);
            host.is_set_back = false;
        }
        false
    }

    /// A disk takes no more writes for a while.
    fn fill_disk(&mut self) {
        let index = self.chance.index(self.hosts.len());
        let until = self.now + self.chance.millis(500, 8000);
        if let Some(host) = self.hosts.get_mut(index) {
            host.disk.refuses_until = until;
            self.counters.disks_full += 1;
            self.trace.note(self.now, Step::Fault, index, b"full");
        }
    }

    /// Some host is at another address all at once, or its NAT gives it another port.
    pub(crate) fn roam(&mut self) {
        let index = self.chance.index(self.hosts.len());
        let keeps_ip = self.chance.permille(500);
        let address = self.network.roam(index, keeps_ip);
        self.counters.rebindings += u64::from(keeps_ip);
        self.counters.roamings += u64::from(!keeps_ip);
        let what = format!("now at {address}");
        self.trace
            .note(self.now, Step::Fault, index, what.as_bytes());
    }

    fn split(&mut self, one_way: bool) {
        self.counters.partitions += u64::from(!one_way);
        self.counters.one_way += u64::from(one_way);
        self.network.split(one_way);
        let mended: Duration = self.chance.millis(500, 12_000);
        self.after(mended, Event::Mend);
    }
}
