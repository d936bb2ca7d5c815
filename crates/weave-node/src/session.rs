//! Sessions with other peers: dialling, handshakes, keys, signs of life, loss.
//!
//! Owns who is connected and under which keys; knows nothing of frames, logs or addresses of
//! containers. The data path opens and seals with the keys of [`Sessions::fib_view`], hands
//! opened control messages to [`Sessions::handle_control`] and notes in `OpenLane::heard` when a
//! peer was last heard. `path_mtu` finds out how long the datagrams of a session may be.
//!
//! ```text
//!   dialler                                                responder
//!   Waiting ── msg1 ──────────────────────────────────────▶ (stateless under load: cookie)
//!   ExpectReply ◀───────────────────────────────── msg2 ── half-open
//!   ExpectConfirm ── msg3, Hello ─────────────────────────▶ established, unconfirmed
//!   established ◀────────────────────── Hello (sealed) ──     │ first sealed datagram
//!      │  Ping ────────────────────────────────────────────▶ established, confirmed
//!      │
//!      ├─ another session with the peer is preferred ─▶ replaced: receivable for the grace
//!      ├─ another password is in use ─▶ a handshake beside it, which replaces it (`rotation`)
//!      ├─ nothing heard for 10 s ─▶ still in use, shown as `no answer`; for 20 s ─▶ lost
//!      └─ Goodbye, newer boot, ban ─▶ gone
//! ```
//!
//! Invariants: bad input is dropped and counted, and never ends a session or a handshake; a peer
//! has at most one session in use; a session the peer may not have never displaces one it has;
//! what strangers can make us keep or compute is bounded.

mod backoff;
mod config;
mod control;
mod drops;
mod established;
mod hello;
mod inbound;
mod keepalive;
mod keys;
mod knocks;
mod limits;
mod outbound;
mod path_mtu;
mod paths;
mod peer;
mod rekey;
mod rotation;
mod rtt;
mod standing;
mod status;
mod targets;
mod view;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::RngCore as _;
use weave_wire::proto::control_message::Body;
use weave_wire::{DatagramType, HandshakeHeader, PeerId, ReceiverIndex, Time};

pub(crate) use config::SessionConfig;
pub(crate) use drops::{SessionCounts, SessionDrop, SessionDrops};
pub use status::{ConnectionState, ConnectionStatus, GenerationStatus, Retry, Trouble};
pub(crate) use view::attempt_status;

use crate::clones::Clones;
use crate::forward::{Counts, Traffic};
use inbound::Inbound;
pub use knocks::Knock;
use knocks::Knocks;
use limits::canonical;
use outbound::Outbound;
use peer::{Session, Slots};
use targets::Dials;

/// What the session layer wants done, or tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SessionAction {
    /// Find the addresses of a target; [`Sessions::set_target_addresses`] takes them.
    Resolve {
        /// The target as it was named.
        target: String,
    },
    /// The peer has a session now, or a new one after it restarted.
    Established {
        /// Who.
        peer: PeerId,
    },
    /// The peer has no session any more.
    Lost {
        /// Who.
        peer: PeerId,
        /// It is up: the session was not needed.
        stays: bool,
    },
    /// Nothing was heard of the peer for a while: its path may be broken.
    Silent {
        /// Who.
        peer: PeerId,
    },
    /// The session with the peer leads through a relay now, or no longer.
    Rerouted {
        /// Who.
        peer: PeerId,
    },
    /// A peer sees us at this address.
    Observed(SocketAddr),
    /// [`Sessions::fib_view`] has changed; to be followed before anything is transmitted.
    FibDirty,
}

/// When an address is dialled.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Haste {
    /// Never waits long between two attempts.
    pub(crate) eagerly: bool,
    /// The first attempt is made so much later,
    pub(crate) after: Duration,
    /// and at a random moment within so much more.
    pub(crate) within: Duration,
}

/// A datagram to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub to: SocketAddr,
    /// UDP payload.
    pub datagram: Vec<u8>,
    /// It arrives whole or not at all: it is to find out which.
    pub dont_fragment: bool,
}

/// All sessions of this peer, and the attempts to have more.
#[derive(Debug)]
pub(crate) struct Sessions {
    config: SessionConfig,
    rng: ChaCha12Rng,
    dials: Dials,
    /// How many addresses the data path was told that are dialled.
    dialled: usize,
    /// Handshakes that we began, by our slot.
    outbound: BTreeMap<u32, Outbound>,
    /// Handshakes that others began.
    inbound: Inbound,
    knocks: Knocks,
    /// Established sessions by our slot, also those that are not in use.
    sessions: BTreeMap<u32, Session>,
    /// None of them is to be looked at before.
    check_at: Option<Time>,
    /// Which of them belong to a peer.
    peers: BTreeMap<PeerId, Slots>,
    /// Frames that passed between here and each peer that there ever was a session with.
    traffic: BTreeMap<PeerId, Arc<Traffic>>,
    banned: BTreeSet<PeerId>,
    clones: Clones,
    /// Where peers last saw us.
    observed: BTreeMap<PeerId, SocketAddr>,
    actions: VecDeque<SessionAction>,
    transmits: VecDeque<Transmit>,
    drops: SessionDrops,
    /// Handshakes that ended in a session, and sessions with peers that ended.
    counts: SessionCounts,
    #[cfg(feature = "seeded-bugs")]
    seeded_bug: Option<crate::seeded::SeededBug>,
}

impl Sessions {
    /// No sessions and nobody to dial.
    pub(crate) fn new(config: SessionConfig, mut rng: ChaCha12Rng) -> Self {
        Self {
            dials: Dials::new(config.timers.clone(), config.port),
            dialled: 0,
            outbound: BTreeMap::new(),
            inbound: Inbound::new(&config, &mut rng),
            knocks: Knocks::default(),
            sessions: BTreeMap::new(),
            check_at: None,
            peers: BTreeMap::new(),
            traffic: BTreeMap::new(),
            banned: BTreeSet::new(),
            clones: Clones::default(),
            observed: BTreeMap::new(),
            actions: VecDeque::new(),
            transmits: VecDeque::new(),
            drops: SessionDrops::default(),
            counts: SessionCounts::default(),
            #[cfg(feature = "seeded-bugs")]
            seeded_bug: None,
            config,
            rng,
        }
    }

    #[cfg(feature = "seeded-bugs")]
    pub(crate) fn seed_bug(&mut self, bug: Option<crate::seeded::SeededBug>) {
        self.seeded_bug = bug;
    }

    #[cfg(feature = "seeded-bugs")]
    fn believe_reject(&mut self, from: SocketAddr, now: Time) {
        let believed = self.seeded_bug == Some(crate::seeded::SeededBug::Reject);
        let session = self.in_use().find(|session| session.addr == from);
        if let Some(peer) = session.filter(|_| believed).map(Session::peer) {
            self.lose(peer, &targets::Failure::Left, now);
        }
    }

    /// Connects to a target, for good: `host`, `host:port` or an address. Named again, it is
    /// tried again at once.
    pub(crate) fn add_target(&mut self, name: &str, now: Time) {
        if self.dials.add_target(name, now) {
            self.resolve(name);
        }
        self.dial_due(now);
    }

    /// The addresses of a target that was to be resolved; none if it has none.
    pub(crate) fn set_target_addresses(
        &mut self,
        name: &str,
        addresses: Vec<SocketAddr>,
        now: Time,
    ) {
        let addresses: Vec<_> = addresses.into_iter().map(canonical).collect();
        let abandoned = self.dials.set_target_addresses(name, &addresses, now);
        self.abandon(&abandoned);
        self.dial_due(now);
    }

    /// How many targets there are that are not ourselves, and how many of them are connected and
    /// were heard just now.
    pub(crate) fn count_targets(
        &self,
        is_own: impl Fn(&SocketAddr) -> bool,
        now: Time,
    ) -> (usize, usize) {
        self.dials
            .count_targets(is_own, |peer| !self.is_silent(peer, now))
    }

    /// Forgets a target; a session that it led to stays.
    pub(crate) fn remove_target(&mut self, name: &str) {
        let abandoned = self.dials.remove_target(name);
        self.abandon(&abandoned);
    }

    /// Connects to addresses that others named, until told [`Sessions::undial`].
    pub(crate) fn dial(&mut self, addrs: &[(SocketAddr, Haste)], now: Time) {
        for (addr, haste) in addrs {
            self.dials
                .dial(canonical(*addr), *haste, now, &mut self.rng);
        }
        self.dial_due(now);
    }

    /// Stops trying an address; a session that it led to stays.
    pub(crate) fn undial(&mut self, addr: SocketAddr) {
        let abandoned = self.dials.undial(canonical(addr));
        self.abandon(&abandoned);
    }

    /// Ends the sessions of a peer, dials it no more, and admits it no more.
    pub(crate) fn ban(&mut self, peer: PeerId, now: Time) {
        self.say_goodbye(&peer, "banned", false, now);
        self.banned.insert(peer);
        let abandoned = self.dials.banned(peer);
        self.abandon(&abandoned);
        self.lose(peer, &targets::Failure::Banned, now);
    }

    /// Takes its leave of every peer.
    pub(crate) fn goodbye(&mut self, now: Time) {
        let peers: Vec<_> = self.peers.keys().copied().collect();
        for peer in peers {
            self.say_goodbye(&peer, "stopped", false, now);
        }
    }

    /// Ends the session with a peer that stays in the mesh: neither needs it.
    pub(crate) fn part(&mut self, peer: PeerId, now: Time) {
        self.say_goodbye(&peer, "not needed", true, now);
        self.lose(peer, &targets::Failure::Parted, now);
    }

    fn say_goodbye(&mut self, peer: &PeerId, reason: &str, stays: bool, now: Time) {
        // Twice, in case one is lost; the peer ignores the other.
        for _ in 0..2 {
            let reason = reason.to_owned();
            let goodbye = weave_wire::proto::Goodbye { reason, stays };
            self.send(peer, Body::Goodbye(goodbye), now);
        }
    }

    /// Tells who is up: targets that rest although theirs is not are dialled again.
    pub(crate) fn wake_resting(&mut self, live: &BTreeSet<PeerId>, now: Time) {
        self.dials.wake_resting(live, now);
    }

    /// Frames that were sealed under the newest keys of the session with a peer.
    pub(crate) fn frames_sealed(&self, peer: &PeerId) -> u64 {
        let session = self.session_in_use(peer);
        session.map_or(0, |session| session.keys.data().sealed())
    }

    /// Frames that passed between here and a peer, in all sessions since the start.
    pub(crate) fn traffic(&self, peer: &PeerId) -> Counts {
        let traffic = self.traffic.get(peer);
        traffic.map(|traffic| traffic.read()).unwrap_or_default()
    }

    /// Whether there is a session with a peer, and we dialled.
    pub(crate) fn is_dialler(&self, peer: &PeerId) -> bool {
        self.session_in_use(peer)
            .is_some_and(|session| session.outbound)
    }

    /// Sends a control message; false when the peer has no session or the message is too long.
    pub(crate) fn send(&mut self, peer: &PeerId, body: Body, now: Time) -> bool {
        let Some(slots) = self.peers.get(peer) else {
            return false;
        };
        self.send_in(slots.in_use, body, now)
    }

    /// A handshake datagram arrived.
    pub(crate) fn handle_handshake(&mut self, from: SocketAddr, datagram: &[u8], now: Time) {
        let from = canonical(from);
        let Ok(header) = HandshakeHeader::decode(datagram) else {
            return self.drops.count(SessionDrop::Malformed);
        };
        match header.ty {
            DatagramType::HandshakeInit => self.handle_init(from, datagram, now),
            DatagramType::HandshakeReply => self.handle_reply(header, from, datagram, now),
            DatagramType::HandshakeFinish => self.handle_finish(header, from, datagram, now),
            DatagramType::CookieReply => self.handle_cookie(header, datagram, now),
            DatagramType::Reject => {
                #[cfg(feature = "seeded-bugs")]
                self.believe_reject(from, now);
                self.handle_reject(header, datagram, now);
            }
            DatagramType::Sealed | DatagramType::Relay => {
                self.drops.count(SessionDrop::Malformed);
            }
        }
    }

    /// The data path opened a control message of the session with this index. Returns what is
    /// not for the session layer.
    pub(crate) fn handle_control(
        &mut self,
        index: ReceiverIndex,
        from: SocketAddr,
        plaintext: &[u8],
        now: Time,
    ) -> Option<(PeerId, Body)> {
        let (slot, from) = (index.slot(), canonical(from));
        if self.outbound.contains_key(&slot) {
            self.handle_first_control(slot, from, plaintext, now);
            return None;
        }
        self.handle_session_control(index, from, plaintext, now)
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Time) {
        self.handle_backlog(now);
        self.inbound.expire(now);
        self.handle_outbound_timeout(now);
        self.handle_session_timeouts(now);
        for name in self.dials.lookups_due(now) {
            self.resolve(&name);
        }
        self.dial_due(now);
    }

    /// When [`Sessions::handle_timeout`] is due next.
    #[must_use]
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        let outbound = self.outbound.values().map(Outbound::due_at).min();
        let all = [
            self.dials.poll_timeout(),
            self.inbound.poll_timeout(),
            outbound,
            self.check_at,
        ];
        all.into_iter().flatten().min()
    }

    /// The next thing to do; to be polled after every other call.
    #[must_use]
    pub(crate) fn poll_action(&mut self) -> Option<SessionAction> {
        self.actions.pop_front()
    }

    /// The next datagram to send; to be polled when there is no more action.
    #[must_use]
    pub(crate) fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// Our own X25519 key.
    pub(crate) fn static_public(&self) -> [u8; 32] {
        self.config.handshake.identity.static_public()
    }

    /// Who began handshakes with us in the last minute.
    pub(crate) fn knocks(&self, now: Time) -> impl Iterator<Item = Knock> {
        self.knocks.lately(now)
    }

    /// How many datagrams were dropped, and why.
    pub(crate) const fn drops(&self) -> &SessionDrops {
        &self.drops
    }

    /// How many sessions there were.
    pub(crate) const fn counts(&self) -> SessionCounts {
        self.counts
    }

    fn resolve(&mut self, name: &str) {
        self.actions.push_back(SessionAction::Resolve {
            target: name.to_owned(),
        });
    }

    fn transmit(&mut self, to: SocketAddr, datagram: Vec<u8>) {
        self.transmits.push_back(Transmit {
            to,
            datagram,
            dont_fragment: false,
        });
    }

    /// A slot that nothing here uses, not to be guessed.
    fn free_slot(&mut self) -> u32 {
        loop {
            let slot = self.rng.next_u32() % ReceiverIndex::SLOT_LIMIT;
            let taken = slot == 0
                || self.outbound.contains_key(&slot)
                || self.sessions.contains_key(&slot)
                || self.inbound.contains(slot);
            if !taken {
                return slot;
            }
        }
    }
}
