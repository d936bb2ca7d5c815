//! Routers that do nothing for a while, as when their machine is stopped and goes on later.
//!
//! Datagrams wait for them as in the buffer of a socket; timers and the disk's answers wait too.

use std::collections::VecDeque;

use weave_wire::Time;

use crate::trace::Step;
use crate::world::{Event, World};

/// Datagrams that wait; more are lost.
const SOCKET_BUFFER: usize = 64;

/// What a router has missed.
#[derive(Debug)]
pub(crate) struct Pause {
    until: Time,
    missed: VecDeque<Event>,
    datagrams: usize,
}

impl World {
    /// Some router does nothing for a while.
    pub(crate) fn pause(&mut self) {
        let index = self.chance.index(self.hosts.len());
        let time = self.chance.millis(100, 15_000);
        let until = self.now + time;
        let Some(host) = self.hosts.get_mut(index).filter(|host| host.is_ready()) else {
            return;
        };
        host.pause = Some(Pause {
            until,
            missed: VecDeque::new(),
            datagrams: 0,
        });
        self.counters.pauses += 1;
        self.oracle.paused(index, time);
        self.trace.note(self.now, Step::Fault, index, b"pause");
        self.after(time, Event::Resume(index));
    }

    /// Keeps what reaches a router that is paused. Returns everything else.
    pub(crate) fn defer(&mut self, event: Event) -> Option<Event> {
        let index = match &event {
            Event::Datagram { to, .. } => *to,
            Event::Written { host, .. }
            | Event::Timer { host, .. }
            | Event::Resolved { host, .. } => *host,
            Event::Launch(_)
            | Event::Work
            | Event::Fault
            | Event::Ban
            | Event::Mtu
            | Event::Crash { .. }
            | Event::Attack
            | Event::Resume(_)
            | Event::Mend => return Some(event),
        };
        let pause = self
            .hosts
            .get_mut(index)
            .and_then(|host| host.pause.as_mut());
        let Some(pause) = pause else {
            return Some(event);
        };
        if matches!(event, Event::Datagram { .. }) {
            if pause.datagrams == SOCKET_BUFFER {
                self.counters.buffer_overruns += 1;
                return None;
            }
            pause.datagrams += 1;
        }
        pause.missed.push_back(event);
        None
    }

    /// A router goes on, if its time has come.
    pub(crate) fn resume(&mut self, index: usize) {
        let is_over = |pause: &mut Pause| pause.until <= self.now;
        let Some(host) = self.hosts.get_mut(index) else {
            return;
        };
        let Some(pause) = host.pause.take_if(is_over) else {
            return;
        };
        self.trace.note(self.now, Step::Fault, index, b"resume");
        for event in pause.missed {
            self.handle(event);
        }
    }

    /// All routers go on.
    pub(crate) fn resume_all(&mut self) {
        for index in 0..self.hosts.len() {
            if let Some(pause) = self
                .hosts
                .get_mut(index)
                .and_then(|host| host.pause.as_mut())
            {
                pause.until = self.now;
            }
            self.resume(index);
        }
    }
}
