//! Runs that bytes decide step by step, for fuzzing: which datagram arrives when, and what else.
//!
//! Any bytes are a run. Time passes only when they say so, and nothing arrives by itself; when they
//! end, everything is mended, and everybody must come to agree as at the end of any run.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use crate::Report;
use crate::plan::Plan;
use crate::world::{Event, World};

/// Everybody is connected after this long.
const LAUNCH: Duration = Duration::from_secs(5);
/// Steps of one run, at most.
const MAX_STEPS: usize = 512;
/// Time that passes in all steps together, about.
const MAX_TIME: Duration = Duration::from_secs(120);
/// Datagrams on their way; of more the oldest are lost.
const MAX_HELD: usize = 256;

/// A datagram on its way: from, to, bytes.
type Packet = (SocketAddr, usize, Vec<u8>);

/// Datagrams that wait to be told what becomes of them.
#[derive(Debug, Default)]
pub(crate) struct Held(VecDeque<Packet>);

impl Held {
    /// A datagram was sent.
    pub(crate) fn push(&mut self, from: SocketAddr, to: usize, bytes: Vec<u8>) {
        if self.0.len() == MAX_HELD {
            self.0.pop_front();
        }
        self.0.push_back((from, to, bytes));
    }

    fn index(&self, number: usize) -> usize {
        number.checked_rem(self.0.len()).unwrap_or(0)
    }

    fn take(&mut self, number: usize) -> Option<Packet> {
        self.0.remove(self.index(number))
    }

    fn peek(&mut self, number: usize) -> Option<&mut Packet> {
        let index = self.index(number);
        self.0.get_mut(index)
    }
}

/// Runs what these bytes say: the first two are the number of hosts and the seed.
pub fn simulate_bytes(bytes: &[u8]) -> Report {
    let mut script = Script(bytes.iter());
    let (peers, seed) = (2 + script.number() % 3, script.number() as u64);
    let mut world = World::still(Plan::quiet(peers, seed));
    for host in 0..peers {
        world.launch(host);
    }
    world.run_for(LAUNCH);
    world.held = Some(Held::default());
    let end = world.now + MAX_TIME;
    for _ in 0..MAX_STEPS {
        let Some(step) = script.0.next().filter(|_| world.now < end) else {
            break;
        };
        world.step(*step, &mut script);
    }
    world.check_always("the script");
    world.mend_all();
    world.finish()
}

/// Bytes that have not been read yet; beyond the end they are zero.
struct Script<'a>(std::slice::Iter<'a, u8>);

impl Script<'_> {
    fn number(&mut self) -> usize {
        self.0.next().copied().map_or(0, usize::from)
    }
}

impl World {
    fn step(&mut self, step: u8, script: &mut Script<'_>) {
        let number = script.number();
        let host = number % self.hosts.len();
        match step % 16 {
            0..=2 => self.deliver(number),
            3 => self.deliver_all(),
            4 => {
                if let Some(held) = &mut self.held {
                    held.take(number);
                }
            }
            5 => self.duplicate(number),
            6 => self.spoil(number, script.number()),
            7 | 8 => self.run_for(Duration::from_millis(1 << (number % 14))),
            9 => self.crash(host),
            10 => self.launch(host),
            11 => self.network.part(number),
            12 => self.network.mend(),
            13 => self.ask(host),
            14 => self.end_one(host),
            _ => self.rename(host),
        }
    }

    fn ask(&mut self, index: usize) {
        let is_ready = self.hosts.get(index).is_some_and(|host| host.is_ready());
        if let Some(subnet) = self.subnets.first().copied().filter(|_| is_ready) {
            self.begin_in(index, subnet, None);
        }
    }

    /// The datagram with this number arrives, if nothing is between its ends.
    fn deliver(&mut self, number: usize) {
        let packet = self.held.as_mut().and_then(|held| held.take(number));
        if let Some(packet) = packet {
            self.arrive(packet);
        }
    }

    fn deliver_all(&mut self) {
        let packets = self.held.as_mut().map(std::mem::take).unwrap_or_default();
        for packet in packets.0 {
            self.arrive(packet);
        }
    }

    fn duplicate(&mut self, number: usize) {
        let packet = self
            .held
            .as_mut()
            .and_then(|held| held.peek(number).cloned());
        if let Some(packet) = packet {
            self.counters.doubled += 1;
            self.arrive(packet);
        }
    }

    fn spoil(&mut self, number: usize, place: usize) {
        let packet = self.held.as_mut().and_then(|held| held.peek(number));
        if let Some((_, _, bytes)) = packet {
            let index = place.checked_rem(bytes.len()).unwrap_or(0);
            if let Some(byte) = bytes.get_mut(index) {
                *byte ^= 1 << (place % 8);
                self.counters.corrupted += 1;
            }
        }
    }

    fn arrive(&mut self, (from, to, bytes): Packet) {
        let sender = self.network.host_at(from);
        if sender.is_some_and(|sender| self.network.is_blocked(sender, to)) {
            self.counters.blocked += 1;
        } else {
            self.handle(Event::Datagram { from, to, bytes });
        }
        self.keep_trace();
    }

    /// The names of some container go and come back.
    fn rename(&mut self, index: usize) {
        let container = self
            .hosts
            .get(index)
            .filter(|host| host.is_ready())
            .and_then(|host| host.containers.values().next().cloned());
        let Some(container) = container else { return };
        self.with_node(index, |node, now| {
            node.set_names(&container.owner(), &[], now)
        });
        self.name(index, &container);
    }

    /// Nothing is at fault any more, and whatever is on its way arrives.
    fn mend_all(&mut self) {
        self.network.mend();
        self.deliver_all();
        self.held = None;
        self.is_churning = false;
        for index in 0..self.hosts.len() {
            self.launch(index);
        }
    }
}
