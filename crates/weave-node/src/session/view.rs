//! What others see of the sessions: the data path its keys, people their status.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use weave_wire::{Circuit, PeerId, Time};

use super::outbound::Outbound;
use super::peer::{Session, Slots};
use super::targets::{Dial, DialState, Failure, Lookup, no_answer};
use super::{ConnectionState, ConnectionStatus, Retry, Sessions, Trouble};
use crate::forward::{FibSession, OpenLane};

/// The sessions as the data path needs them.
#[derive(Debug)]
pub(crate) struct SessionFib {
    /// Where to send to, at most one per connected peer, ordered by peer; circuits are yet to be
    /// followed.
    pub(crate) sessions: Vec<FibSession>,
    /// What may be opened; also of sessions that are not used for sending.
    pub(crate) open: Vec<Arc<OpenLane>>,
    /// Where peers are, and where they are dialled; in order, and not circuits.
    pub(crate) known: Vec<IpAddr>,
}

impl Sessions {
    /// Everything that frames are sealed and opened with.
    pub(crate) fn fib_view(&self) -> SessionFib {
        let carrying = self.peers.values().filter_map(|slots| self.carrying(slots));
        let sessions = carrying.map(|session| FibSession {
            peer: session.peer(),
            addr: session.addr,
            hops: Vec::new(),
            max_datagram: session.path.max_datagram().into(),
            data: Arc::clone(session.keys.data()),
            traffic: Arc::clone(session.keys.traffic()),
        });
        let established = self
            .sessions
            .values()
            .flat_map(|session| session.keys.open_lanes());
        let unconfirmed = self.outbound.values().flat_map(Outbound::open_lanes);
        SessionFib {
            sessions: sessions.collect(),
            open: established.chain(unconfirmed).cloned().collect(),
            known: self.known_addresses(),
        }
    }

    fn known_addresses(&self) -> Vec<IpAddr> {
        let sessions = self.sessions.values().map(|session| session.addr);
        let all = sessions.chain(self.dials.addresses());
        let direct = all.filter(|addr| Circuit::of(addr).is_none());
        let known: BTreeSet<_> = direct.map(|addr| addr.ip()).collect();
        known.into_iter().collect()
    }

    /// Every connection and every attempt at one.
    pub(crate) fn connections(&self, now: Time) -> Vec<ConnectionStatus> {
        let connected = self
            .in_use()
            .map(|session| self.connected_status(session, now));
        let dialled = self
            .dials
            .wanted()
            .filter_map(|(addr, dial)| self.dial_status(addr, dial));
        let unresolved = self.dials.unresolved();
        let unresolved = unresolved.map(|(name, lookup)| lookup_status(name, lookup));
        connected.chain(dialled).chain(unresolved).collect()
    }

    /// The session of each connected peer, ordered by peer.
    pub(super) fn in_use(&self) -> impl Iterator<Item = &Session> {
        self.peers
            .values()
            .filter_map(|slots| self.sessions.get(&slots.in_use))
    }

    /// The session that frames are sent in: the one in use, or while frames wait for keys of that
    /// the one before.
    fn carrying(&self, slots: &Slots) -> Option<&Session> {
        let mut sessions = slots.all().filter_map(|slot| self.sessions.get(&slot));
        sessions.find(|session| session.carries_frames())
    }

    fn carries_no_frames(&self, peer: &PeerId) -> bool {
        let slots = self.peers.get(peer);
        slots.is_none_or(|slots| self.carrying(slots).is_none())
    }

    fn is_quiet(&self, session: &Session, now: Time) -> bool {
        now.saturating_sub(self.peer_alive_at(&session.peer())) >= self.config.timers.quiet
    }

    fn connected_status(&self, session: &Session, now: Time) -> ConnectionStatus {
        let quiet = self.is_quiet(session, now);
        let (state, info) = if quiet {
            (ConnectionState::Pending, no_answer(session.addr))
        } else if self.carries_no_frames(&session.peer()) {
            let info = match (session.is_outlived(), session.standing.confirmed) {
                (true, _) => "the peer has restarted",
                (false, false) => "waits for the peer's first answer",
                (false, true) => "waits for the post-quantum key exchange",
            };
            (ConnectionState::Pending, info.to_owned())
        } else {
            (ConnectionState::Established, String::from("encrypted"))
        };
        ConnectionStatus {
            relay: None,
            lost_mtu: session.path.lost_mtu(),
            trouble: quiet.then_some(Trouble::NoAnswer),
            address: session.addr.to_string(),
            outbound: session.outbound,
            state,
            info,
            peer: Some(session.peer()),
            nickname: session.who.nickname.clone(),
            version: Some(session.keys.version()),
            generation: Some(session.rotation.generation),
            warning: session.rotation.refused.map(|reason| {
                let generation = session.rotation.generation;
                format!("stays on password generation {generation}, refused: {reason}")
            }),
            cipher: Some(session.keys.suite()),
            pq: Some(session.keys.has_kem()),
            mtu: session.path.mtu(),
            rtt: session.rtt.smoothed(),
            age: Some(now.saturating_sub(session.standing.since)),
            rekeys: Some(session.keys.rekeys()),
            retry: None,
        }
    }

    /// The line of a dial; none when it is connected, for its session has one.
    fn dial_status(&self, addr: SocketAddr, dial: &Dial) -> Option<ConnectionStatus> {
        let (state, retry) = match &dial.state {
            DialState::Connected { .. } => return None,
            DialState::Attempting { slot } if self.is_unconfirmed(*slot) => {
                (ConnectionState::Pending, None)
            }
            DialState::Attempting { .. } if dial.failure.is_some() => {
                (ConnectionState::Retrying, None)
            }
            DialState::Attempting { .. } => (ConnectionState::Connecting, None),
            DialState::Waiting { at } if dial.failure.is_some() => {
                (ConnectionState::Failed, Some(Retry::At(*at)))
            }
            DialState::Waiting { at } => (ConnectionState::Connecting, Some(Retry::At(*at))),
            DialState::Resting { .. } => (ConnectionState::Resting, None),
            DialState::Never => (ConnectionState::Failed, Some(Retry::Never)),
        };
        let info = dial
            .failure
            .as_ref()
            .map(|failure| failure.text(addr))
            .unwrap_or_default();
        let trouble = match &dial.failure {
            Some(Failure::NoAnswer) => Some(Trouble::NoAnswer),
            Some(Failure::Refused(reason)) => Some(Trouble::Refused(*reason)),
            Some(Failure::Ourself | Failure::Banned | Failure::Left | Failure::Parted) | None => {
                None
            }
        };
        Some(ConnectionStatus {
            trouble,
            ..attempt_status(addr.to_string(), state, info, retry, dial.peer)
        })
    }

    fn is_unconfirmed(&self, slot: u32) -> bool {
        self.outbound
            .get(&slot)
            .is_some_and(Outbound::awaits_confirmation)
    }
}

fn lookup_status(name: &str, lookup: &Lookup) -> ConnectionStatus {
    let (state, info, retry) = match lookup {
        Lookup::Literal(_) | Lookup::Asked { .. } | Lookup::Known { .. } => (
            ConnectionState::Connecting,
            format!("resolving {name}"),
            None,
        ),
        Lookup::Failed { why, again } => (
            ConnectionState::Failed,
            why.clone(),
            Some(Retry::At(*again)),
        ),
    };
    attempt_status(name.to_owned(), state, info, retry, None)
}

/// The line of an attempt.
pub(crate) const fn attempt_status(
    address: String,
    state: ConnectionState,
    info: String,
    retry: Option<Retry>,
    peer: Option<PeerId>,
) -> ConnectionStatus {
    ConnectionStatus {
        relay: None,
        address,
        outbound: true,
        state,
        info,
        peer,
        nickname: String::new(),
        version: None,
        generation: None,
        warning: None,
        cipher: None,
        pq: None,
        mtu: None,
        lost_mtu: None,
        trouble: None,
        rtt: None,
        age: None,
        rekeys: None,
        retry,
    }
}
