//! What must hold at any time, whatever goes wrong; looked at when a phase of a run ends.

use std::collections::BTreeMap;

use crate::world::World;

impl World {
    /// Looks at everything that must hold now.
    pub(crate) fn check_always(&mut self, phase: &str) {
        let mut wrong = Vec::new();
        self.check_live_names(&mut wrong);
        self.check_sessions(&mut wrong);
        self.check_holders(&mut wrong);
        for what in wrong {
            self.oracle
                .violation(format!("at the end of {phase}: {what}"));
        }
        for index in 0..self.hosts.len() {
            if self.hosts.get(index).is_some_and(|host| host.is_ready()) {
                self.check_kept(index);
            }
        }
        self.counters.phases += 1;
        self.keep_trace();
    }

    /// Names are shown while their origin lives, and no longer.
    fn check_live_names(&self, wrong: &mut Vec<String>) {
        for (index, host) in self.hosts.iter().enumerate() {
            let Some(router) = &host.router else { continue };
            let live = router.node.live();
            let names = router.names.all();
            if let Some(dead) = names.iter().find(|entry| !live.contains(&entry.origin)) {
                let name = &dead.name;
                wrong.push(format!("host {index} shows {name} of a peer that is gone"));
            }
        }
    }

    /// Nobody has a session with itself, or sends what no path takes.
    fn check_sessions(&self, wrong: &mut Vec<String>) {
        for (index, host) in self.hosts.iter().enumerate() {
            let Some(router) = &host.router else { continue };
            for session in &router.fib.sessions {
                if session.peer == router.node.id() {
                    wrong.push(format!("host {index} has a session with itself"));
                }
                if !(500..=9_000).contains(&session.max_datagram) {
                    let size = session.max_datagram;
                    wrong.push(format!("host {index} sends datagrams of {size} bytes"));
                }
            }
        }
    }

    /// No two hosts hold one address. One whose disk was set back may not know better yet; what a
    /// banned one holds is others' to give out.
    fn check_holders(&self, wrong: &mut Vec<String>) {
        let mut holders = BTreeMap::new();
        for (index, host) in self.hosts.iter().enumerate() {
            let is_exempt = host.was_set_back || self.is_to_be_out(index);
            let Some(router) = host.router.as_ref().filter(|_| !is_exempt) else {
                continue;
            };
            for held in router.node.allocated() {
                if let Some(other) = holders.insert(held.ip, index).filter(|it| *it != index) {
                    let ip = held.ip;
                    wrong.push(format!("{ip} is held by host {other} and by host {index}"));
                }
            }
        }
    }
}
