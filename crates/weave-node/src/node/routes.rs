//! Routes between the parts: what one part puts out is another's input.

use weave_wire::codec::MAX_NEIGHBOURS;
use weave_wire::proto::control_message::Body;
use weave_wire::proto::{PeerRecord, entry};
use weave_wire::{Cidr, PeerId, Time};

use super::{BOOT_KEY, Event, Node, PersistToken, TokenOwner};
use crate::endpoints::EndpointAction;
use crate::gossip::{GossipAction, as_peer};
use crate::ipam::IpamAction;
use crate::session::SessionAction;

/// Bytes of our own log that go with an answer about address space.
const REPLY_BATCHES: usize = 900;

impl Node {
    /// Hands a control message to the part that it is for.
    pub(super) fn route_message(&mut self, from: PeerId, body: Body, now: Time) {
        match body {
            Body::Delta(delta) => self.logs.handle_delta(from, delta, now),
            Body::Digest(digest) => self.logs.handle_digest(from, digest, now),
            Body::Summary(summary) => self.logs.handle_summary(from, &summary, now),
            Body::Pull(pull) => self.logs.handle_pull(from, pull, now),
            Body::FoundRequest(_) => self.ipam.handle_found_request(from, now),
            Body::SpaceRequest(request) => self.ipam.handle_space_request(from, request, now),
            Body::SpaceReply(mut reply) => {
                let batches = std::mem::take(&mut reply.batches);
                if !batches.is_empty() {
                    let delta = weave_wire::proto::Delta { batches };
                    self.logs.handle_delta(from, delta, now);
                    // the reply is about records that came with it
                    self.route(now);
                }
                self.ipam.handle_space_reply(from, reply, now);
            }
            Body::LoanReturn(message) => self.ipam.handle_loan_return(from, message, now),
            Body::CircuitRequest(request) => {
                let direct = self.direct(now);
                self.relays.handle_request(from, &request, &direct, now);
            }
            Body::CircuitReply(reply) => self.relays.handle_reply(from, &reply, now),
            Body::Inquiry(inquiry) => self.handle_inquiry(from, &inquiry, now),
            Body::InquiryReply(reply) => self.handle_inquiry_reply(from, reply),
            // the session layer keeps these to itself
            Body::Hello(_)
            | Body::Ping(_)
            | Body::Pong(_)
            | Body::Goodbye(_)
            | Body::RekeyRequest(_)
            | Body::RekeyReply(_)
            | Body::PathProbe(_)
            | Body::PathProbeAck(_) => {}
        }
    }

    /// Carries every waiting action to where it belongs, until none is left.
    pub(super) fn route(&mut self, now: Time) {
        loop {
            if let Some(action) = self.sessions.poll_action() {
                self.route_session(action, now);
            } else if let Some(action) = self.logs.poll_action() {
                self.route_gossip(action, now);
            } else if let Some(action) = self.ipam.poll_action() {
                self.route_ipam(action, now);
            } else if let Some(action) = self.endpoints.poll_action() {
                self.route_endpoint(action, now);
            } else if let Some(action) = self.relays.poll_action() {
                self.route_relay(action, now);
            } else {
                return;
            }
        }
    }

    fn route_session(&mut self, action: SessionAction, now: Time) {
        match action {
            SessionAction::Resolve { target } => self.events.push_back(Event::Resolve { target }),
            SessionAction::Established { peer } => {
                if self.reached.is_empty() {
                    // others may say what no log held says
                    self.bans.look_for_orphans(now);
                }
                self.reached.insert(peer);
                self.logs.neighbour_up(peer, now);
                self.reached_changed(now);
            }
            SessionAction::Lost { peer, stays } => {
                if !stays {
                    self.vanished.insert(peer);
                }
                self.reached.remove(&peer);
                self.silent.remove(&peer);
                self.relays.lost(&peer, now);
                self.logs.neighbour_down(&peer);
                self.reached_changed(now);
            }
            SessionAction::Silent { peer } => {
                if self.silent.insert(peer) {
                    self.dirty.live = true;
                    if self.neighbourhood.is_large() {
                        self.hurry_record();
                    }
                }
            }
            SessionAction::Rerouted { .. } => {
                self.dirty.live = true;
                self.hurry_record();
            }
            SessionAction::Observed(address) => self.observed(address),
            SessionAction::FibDirty => self.dirty.fib = true,
        }
    }

    /// Tells the allocator how much of what this host was told of is connected.
    pub(super) fn count_targets(&mut self, now: Time) {
        let (all, connected) = match self.started {
            true => self.sessions.count_targets(|addr| self.is_own(addr), now),
            false => (self.targets.len(), 0),
        };
        self.ipam.set_targets(all, connected, now);
        let mut reached = self
            .reached
            .iter()
            .filter(|_| self.ipam.is_asked_to_found());
        let has_spoken =
            |peer: &PeerId| self.logs.version(peer).run.boot >= self.sessions.boot_of(peer);
        let unheard = reached.find(|peer| !has_spoken(peer)).copied();
        self.ipam.set_unheard(unheard, now);
        self.check_record();
    }

    /// Whether our record still says what others go by when they found a range or follow one.
    fn check_record(&mut self) {
        let own = self.logs.peer_record(&self.me);
        if own.is_some_and(|own| {
            own.awaits_targets != self.ipam.awaits_targets() || own.founding != self.ipam.part_in()
        }) {
            self.hurry_record();
        }
    }

    /// Whether we are at this address, as this host or its peers see it.
    fn is_own(&self, addr: &std::net::SocketAddr) -> bool {
        let ip = addr.ip();
        ip.is_loopback() || self.config.local.contains(&ip) || self.observed.contains(addr)
    }

    fn is_first(&self, peer: &PeerId) -> bool {
        self.live.iter().find(|live| **live != self.me) == Some(peer)
    }

    fn reached_changed(&mut self, now: Time) {
        self.set_reachable(now);
        self.dirty.live = true;
        self.hurry_record();
    }

    fn route_gossip(&mut self, action: GossipAction, now: Time) {
        match action {
            GossipAction::Send { to, body } => {
                self.sessions.send(&to, body, now);
            }
            GossipAction::Changed {
                origin,
                slot,
                old,
                new,
            } => {
                self.record_changed(origin, slot, old.as_ref(), new.as_ref(), now);
            }
            GossipAction::Started { origin, boot } => {
                self.sessions.note_boot(origin, boot, now);
                self.dirty.edges_changed();
            }
            GossipAction::BootBehind { seen, boot } => {
                tracing::warn!(
                    seen,
                    boot = self.boot,
                    "peers know a later start of this peer: was its disk restored from a backup?"
                );
                self.boot = boot;
                self.sessions.set_boot(boot);
                self.sessions.note_clone(self.me, now);
                self.events.push_back(Event::Persist {
                    token: PersistToken(TokenOwner::BootAhead),
                    writes: vec![(BOOT_KEY.to_vec(), Some(boot.to_le_bytes().to_vec()))],
                });
            }
            GossipAction::Resyncing => {
                self.logs.set_live(&self.live);
                self.ipam.await_former(now);
            }
            GossipAction::Former(former) => {
                self.recover_bans(&former, now);
                self.ipam.adopt_former(former, self.boot, now);
                // what was adopted is part of our first words
                self.route(now);
                self.logs.resume(now);
            }
        }
    }

    fn record_changed(
        &mut self,
        origin: PeerId,
        slot: u64,
        old: Option<&entry::Body>,
        new: Option<&entry::Body>,
        now: Time,
    ) {
        // each part takes what it knows; a slot that changes its kind is thus cleared everywhere
        self.endpoints.apply(origin, slot, new);
        self.names.apply(origin, slot, new);
        self.ipam.apply(origin, slot, old, new, now);
        if let Some(banned) = self.bans.apply(origin, slot, new, now) {
            self.shut_out(banned, now);
        }
        let (was, is) = (old.and_then(as_peer), new.and_then(as_peer));
        let edges = |record: &PeerRecord| {
            let (neighbours, addresses) = (&record.neighbours, &record.addresses);
            (neighbours.clone(), addresses.clone(), record.capabilities)
        };
        if was.map(edges) != is.map(edges) {
            self.edges.set(origin, is);
            self.dirty.edges_changed();
        }
        for body in [old, new].into_iter().flatten() {
            match body {
                entry::Body::Peer(_) => {
                    // who is named in our record depends on how many sessions others have
                    self.dirty.record |= self.reached.len() > MAX_NEIGHBOURS;
                }
                entry::Body::Name(_) => self.dirty.names = true,
                // the endpoints say themselves when they change
                entry::Body::Subnet(_)
                | entry::Body::Endpoint(_)
                | entry::Body::Genesis(_)
                | entry::Body::Grant(_)
                | entry::Body::Loan(_)
                | entry::Body::Ban(_) => {}
            }
        }
    }

    fn route_ipam(&mut self, action: IpamAction, now: Time) {
        match action {
            IpamAction::SetEntry { key, body } => self.write(&key, body, now),
            IpamAction::Send { to, mut body } => {
                // the receiver must hold the records that the message is about
                self.logs.flush(now);
                self.route(now);
                if let Body::SpaceReply(reply) = &mut body {
                    reply.batches = self.logs.tail(&self.me, REPLY_BATCHES);
                }
                // the question for a founding goes to all, and matters to the first
                let matters = !matches!(body, Body::FoundRequest(_)) || self.is_first(&to);
                if !self.sessions.send(&to, body, now) && matters {
                    self.want(to, now);
                }
            }
            IpamAction::Persist { token, writes } => self.events.push_back(Event::Persist {
                token: PersistToken(TokenOwner::Ipam(token)),
                writes,
            }),
            IpamAction::Answer { ticket, result } => self.events.push_back(Event::Allocated {
                ticket,
                result: result.map(Into::into),
            }),
        }
        self.check_record();
    }

    fn route_endpoint(&mut self, action: EndpointAction, now: Time) {
        match action {
            EndpointAction::SetEntry { key, body } => self.write(&key, body, now),
            EndpointAction::Conflict(conflict) => {
                let message = conflict.to_string();
                self.events.push_back(Event::Conflict { message });
            }
        }
        self.dirty.fib = true;
    }

    /// Subnets that this host has a bridge for.
    pub fn local_subnets(&self) -> impl Iterator<Item = Cidr> + '_ {
        self.endpoints.own_subnets()
    }
}
