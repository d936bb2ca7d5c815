//! Between a router and the world: what reaches it, what it puts out, its timer.

use std::net::SocketAddr;

use weave_node::forward::Fib;
use weave_node::{Node, Transmit, drain};
use weave_wire::{PeerId, Time};

use crate::containers::network;
use crate::frames;
use crate::host::{Inbound, Inbox, Outbox, Output};
use crate::trace::{Step, clock};
use crate::world::{Event, World};

/// Writes after which a backup is made, of a thousand.
const BACKUP_PERMILLE: u64 = 300;
/// Datagrams of one host in a second for each host there is, at most.
const MOST_SENT: u64 = 1000;
/// Calls of one timer at one moment that are taken for an endless loop.
const MAX_SPINS: u32 = 1000;

impl World {
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
        let _host = tracing::error_span!("host", index, at = %clock(now)).entered();
        act(&mut router.node, router.clock.shows(now));
        self.settle(index);
    }

    /// Hands a datagram to the network.
    pub(crate) fn transmit(&mut self, from: usize, transmit: Transmit) {
        let Transmit {
            to,
            datagram: bytes,
            dont_fragment,
        } = transmit;
        if frames::is_readable(&bytes) {
            let what = format!("host {from} sent {to} a datagram that anybody can read");
            self.oracle.violation(what);
        }
        if self.is_storm(from) {
            return;
        }
        let (now, counters) = (self.now, &mut self.counters);
        let Some(source) = self.network.source_of(from, to, now, counters) else {
            return;
        };
        let Some(host) = self.network.receiver_of(source, to, now, counters) else {
            return;
        };
        let shape = (bytes.len(), dont_fragment);
        // neither the stranger nor a script is a way around a narrow link
        let fits = self.network.fits(from, host, shape);
        if self.attack_every.is_some() && fits {
            self.attacker.hear(source, to, &bytes);
        }
        if let Some(held) = &mut self.held {
            if fits {
                held.push(source, host, bytes);
            }
            return;
        }
        let Some(wait) = self.network.queue(from, host, bytes.len(), now) else {
            self.counters.queued_out += 1;
            return;
        };
        for arrival in self.network.carry(from, host, shape, &mut self.counters) {
            let mut bytes = bytes.clone();
            self.network.corrupt(&mut bytes, arrival.flips);
            let event = Event::Datagram {
                from: source,
                to: host,
                bytes,
            };
            self.after(wait + arrival.delay, event);
        }
    }

    /// Whether a host sends so much that something answers itself; what is more is not sent.
    fn is_storm(&mut self, host: usize) -> bool {
        let second = self.now.as_nanos() / 1_000_000_000;
        let (since, sent) = self.sent.entry(host).or_insert((second, 0));
        if *since != second {
            (*since, *sent) = (second, 0);
        }
        *sent += 1;
        let most = MOST_SENT * self.plan.peers as u64;
        if *sent == most {
            let what = format!("host {host} sent {most} datagrams in a second");
            self.oracle.violation(what);
        }
        *sent >= most
    }

    pub(crate) fn receive(&mut self, from: SocketAddr, to: usize, mut bytes: Vec<u8>) {
        self.trace.note_datagram(self.now, from, to, &bytes);
        let now = self.now;
        let Some(router) = self.hosts.get_mut(to).and_then(|host| host.router.as_mut()) else {
            return;
        };
        let now = router.clock.shows(now);
        let mut inbox = Inbox::default();
        router
            .receiver
            .receive_datagram(&router.fib, from, &mut bytes, now, &mut inbox);
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

    pub(crate) fn written(&mut self, index: usize, life: u64) {
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

    pub(crate) fn timer(&mut self, index: usize, life: u64) {
        let now = self.now;
        let Some(host) = self.hosts.get_mut(index).filter(|host| host.life == life) else {
            return;
        };
        let Some(router) = host
            .router
            .as_mut()
            .filter(|router| router.timer.is_some_and(|due| due <= now))
        else {
            return;
        };
        router.timer = None;
        self.trace.note(now, Step::Timer, index, &[]);
        self.with_node(index, |node, now| node.handle_timeout(now));
    }

    pub(crate) fn resolved(&mut self, index: usize, life: u64, target: &str) {
        if self.hosts.get(index).is_none_or(|host| host.life != life) {
            return;
        }
        let number = target
            .strip_prefix("host")
            .and_then(|number| number.parse().ok());
        let address = number.and_then(|number| self.network.address_of(number));
        let addresses = address.into_iter().collect();
        self.with_node(index, |node, now| {
            node.set_target_addresses(target, addresses, now)
        });
    }

    /// Carries out everything that a node wants, and sets its timer.
    pub(crate) fn settle(&mut self, index: usize) {
        let mut outbox = Outbox::default();
        let now = self.now;
        let Some(host) = self.hosts.get_mut(index) else {
            return;
        };
        let life = host.life;
        let Some(router) = host.router.as_mut() else {
            return;
        };
        drain(&mut router.node, router.clock.shows(now), &mut outbox);
        let (mut is_new, mut lost) = (false, Vec::new());
        if let Some(fib) = outbox.fib {
            let (begun, ended) = (difference(&fib, &router.fib), difference(&router.fib, &fib));
            self.counters.sessions_begun += begun.len() as u64;
            self.counters.sessions_ended += ended.len() as u64;
            router.fib = fib;
            (is_new, lost) = (true, ended);
        }
        if let Some(names) = outbox.names {
            self.oracle.shown(index, life, &router.names, &names);
            router.names = names;
        }
        for output in outbox.outputs {
            self.put_out(index, life, output);
        }
        self.set_timer(index);
        if is_new {
            self.check_lost(index, &lost);
            self.send_parked(index);
        }
    }

    /// While everything is well but for the stranger's garbage, no session ends.
    fn check_lost(&mut self, index: usize, ended: &[PeerId]) {
        // in a large mesh sessions end that nobody needs
        let is_small = self.plan.conn_limit >= self.plan.peers;
        if !self.is_besieged || !is_small || self.network.is_hidden(index) {
            return;
        }
        // through a NAT the way changes when one end is at another address, and a host that was
        // set back counts its starts anew
        let may_end = |peer: &&PeerId| {
            let mut hosts = (0..).zip(&self.hosts);
            let its = hosts.find(|(_, host)| host.id() == Some(**peer));
            its.is_some_and(|(host, at)| self.network.is_hidden(host) || at.was_set_back)
        };
        let lost = ended.iter().find(|peer| !may_end(peer));
        if let Some(peer) = lost.map(PeerId::name) {
            let what = format!("host {index} lost its session with {peer} to garbage");
            self.oracle.violation(what);
        }
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
        let due = router.clock.reaches(due).max(now);
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
        self.with_node(index, |node, now| node.names_are_complete(now));
    }
}

/// Peers that have a session in the first table and none in the other.
fn difference(fib: &Fib, other: &Fib) -> Vec<PeerId> {
    let has = |peer: &PeerId| {
        other
            .sessions
            .binary_search_by_key(peer, |it| it.peer)
            .is_ok()
    };
    let peers = fib.sessions.iter().map(|session| session.peer);
    peers.filter(|peer| !has(peer)).collect()
}
