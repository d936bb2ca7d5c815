//! What goes wrong: routers die or are stopped, the network breaks.

use std::time::Duration;

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
        match self.chance.below(10) {
            0..=4 => {
                let index = self.chance.index(self.hosts.len());
                let back = self.chance.millis(100, 9000);
                self.crash(index);
                self.after(back, Event::Launch(index));
            }
            5 | 6 => {
                let index = self.chance.index(self.hosts.len());
                let back = self.chance.millis(100, 5000);
                self.stop(index);
                self.after(back, Event::Launch(index));
            }
            kind => self.split(kind == 9),
        }
    }

    /// Everything that is broken is mended, and everybody is back who is not dead for good.
    pub(crate) fn end_faults(&mut self) {
        self.is_churning = false;
        for _ in 0..self.plan.dead {
            let index = self.chance.index(self.hosts.len());
            // whoever has just started knows only the hosts that it was told of
            if self.plan.is_needed(index) {
                continue;
            }
            self.crash(index);
            if let Some(host) = self.hosts.get_mut(index) {
                host.is_dead = true;
            }
        }
        self.network.mend();
        self.network.stop_losing();
        for index in 0..self.hosts.len() {
            self.launch(index);
        }
    }

    /// A router dies at once; its containers run on.
    fn crash(&mut self, index: usize) {
        let survivors = self.chance.index(3);
        let Some(host) = self.hosts.get_mut(index) else {
            return;
        };
        if host.router.take().is_none() {
            return;
        }
        self.counters.crashes += 1;
        self.counters.writes_lost += host.disk.crash(survivors);
        self.oracle.router_gone(index);
        self.trace.note(self.now, Step::Fault, index, b"crash");
    }

    /// A router is stopped and says so.
    fn stop(&mut self, index: usize) {
        if !self
            .hosts
            .get(index)
            .is_some_and(crate::host::Host::is_ready)
        {
            return;
        }
        self.with_node(index, |node, now| node.goodbye(now));
        let Some(host) = self.hosts.get_mut(index) else {
            return;
        };
        host.router = None;
        // a router that is stopped waits for its disk
        while host.disk.complete().is_some() {}
        self.counters.stops += 1;
        self.oracle.router_gone(index);
        self.trace.note(self.now, Step::Fault, index, b"stop");
    }

    fn split(&mut self, one_way: bool) {
        self.counters.partitions += u64::from(!one_way);
        self.counters.one_way += u64::from(one_way);
        self.network.split(one_way);
        let mended: Duration = self.chance.millis(500, 12_000);
        self.after(mended, Event::Mend);
    }
}
