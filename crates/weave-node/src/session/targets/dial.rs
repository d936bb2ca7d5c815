//! One address and where the attempts at it stand.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;

use rand_core::RngCore;
use weave_crypto::RejectReason;
use weave_wire::{PeerId, Time};

use crate::session::backoff::Backoff;
use crate::session::config::Timers;

/// An address that somebody wants a connection to.
#[derive(Debug)]
pub(in crate::session) struct Dial {
    /// Targets that resolve to it.
    pub(in crate::session) targets: BTreeSet<String>,
    /// Whether gossip wants it.
    pub(in crate::session) discovered: bool,
    /// Whether waits are kept short.
    pub(in crate::session) eager: bool,
    /// Who is known or expected to be there.
    pub(in crate::session) peer: Option<PeerId>,
    /// Where the attempts stand.
    pub(in crate::session) state: DialState,
    /// What the last attempt failed of, until one succeeds.
    pub(in crate::session) failure: Option<Failure>,
    backoff: Backoff,
}

/// Where the attempts at one address stand.
///
/// ```text
///             time comes             handshake confirmed
///  ┌─ Waiting ──────────▶ Attempting ───────────────────▶ Connected
///  │     ▲ ▲                │   │                             │
///  │     │ └── gave up ─────┘   └── banned ──▶ Never          │
///  │     └─────────────── peer lost ──────────────────────────┘
///  └── peer connected by other means ──▶ Connected ── parted ─▶ Resting ── peer down ─▶ Waiting
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::session) enum DialState {
    /// The next attempt is made at this time.
    Waiting {
        /// When.
        at: Time,
    },
    /// A handshake is under way in this slot.
    Attempting {
        /// Our slot.
        slot: u32,
    },
    /// The peer there is connected, through this address or another.
    Connected {
        /// Who.
        peer: PeerId,
    },
    /// The peer there is up, and needs no session.
    Resting {
        /// Who.
        peer: PeerId,
    },
    /// There is no use in trying again.
    Never,
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::session) enum Failure {
    /// Nothing that proves the peer arrived.
    NoAnswer,
    /// The peer refused.
    Refused(RejectReason),
    /// It was our own address.
    Ourself,
    /// The peer there is banned.
    Banned,
    /// The peer took its leave.
    Left,
    /// The session was not needed any more.
    Parted,
}

impl Failure {
    /// The text that people see, for a peer at `addr`.
    pub(in crate::session) fn text(&self, addr: SocketAddr) -> String {
        match self {
            Self::NoAnswer => no_answer(addr),
            Self::Refused(reason) => format!("refused: {reason}"),
            Self::Ourself => "cannot connect to ourself".to_owned(),
            Self::Banned => "the peer there is banned".to_owned(),
            Self::Left => "the peer there was stopped".to_owned(),
            Self::Parted => "in the mesh, no session is needed now".to_owned(),
        }
    }
}

/// What is said of a peer that nothing is heard from.
pub(in crate::session) fn no_answer(addr: SocketAddr) -> String {
    format!("no answer on UDP {}", addr.port())
}

impl Dial {
    /// A dial that is first attempted `at` that time.
    pub(super) fn new(timers: &Timers, at: Time) -> Self {
        Self {
            targets: BTreeSet::new(),
            discovered: false,
            eager: false,
            peer: None,
            state: DialState::Waiting { at },
            failure: None,
            backoff: Backoff::new(timers.backoff),
        }
    }

    /// Who is connected, if anyone.
    pub(in crate::session) const fn connected_to(&self) -> Option<PeerId> {
        match self.state {
            DialState::Connected { peer } | DialState::Resting { peer } => Some(peer),
            DialState::Waiting { .. } | DialState::Attempting { .. } | DialState::Never => None,
        }
    }

    /// Ends a rest.
    pub(super) fn wake(&mut self, at: Time) {
        if let DialState::Resting { .. } = self.state {
            self.state = DialState::Waiting { at };
        }
    }

    /// Ends a wait: an operator asked.
    pub(super) fn retry_now(&mut self, now: Time) {
        match self.state {
            DialState::Waiting { .. } | DialState::Resting { .. } | DialState::Never => {
                self.backoff.reset();
                self.failure = None;
                self.state = DialState::Waiting { at: now };
            }
            DialState::Attempting { .. } | DialState::Connected { .. } => {}
        }
    }

    /// Shortens a wait.
    pub(super) fn wait_no_longer_than(&mut self, soon: Time) {
        if let DialState::Waiting { at } = &mut self.state {
            *at = soon.min(*at);
        }
    }

    /// Lengthens a wait, unless an operator wants the connection.
    pub(super) fn hold_until(&mut self, hold: Time) {
        if let DialState::Waiting { at } = &mut self.state
            && self.targets.is_empty()
        {
            *at = hold.max(*at);
        }
    }

    pub(super) fn transition_to_waiting(
        &mut self,
        failure: Failure,
        timers: &Timers,
        now: Time,
        rng: &mut impl RngCore,
    ) {
        let cap = match failure {
            Failure::Banned => {
                self.transition_to_never(failure);
                return;
            }
            Failure::Ourself => {
                self.backoff.put_off(timers.ourself);
                timers.ourself
            }
            Failure::Parted => return self.transition_to_resting(),
            Failure::Refused(_) => timers.refused_cap,
            Failure::NoAnswer | Failure::Left if self.eager => timers.eager_cap,
            Failure::NoAnswer | Failure::Left => timers.backoff_cap,
        };
        let at = now + self.backoff.wait(cap, rng);
        tracing::debug!(%failure, targets = ?self.targets, "dialled again later");
        self.failure = Some(failure);
        self.state = DialState::Waiting { at };
    }

    fn transition_to_resting(&mut self) {
        if let Some(peer) = self.connected_to() {
            self.failure = Some(Failure::Parted);
            self.state = DialState::Resting { peer };
        }
    }

    /// Returns the slot of the attempt that was under way.
    pub(super) fn transition_to_never(&mut self, failure: Failure) -> Option<u32> {
        tracing::info!(%failure, targets = ?self.targets, "not dialled again");
        self.failure = Some(failure);
        match std::mem::replace(&mut self.state, DialState::Never) {
            DialState::Attempting { slot } => Some(slot),
            DialState::Waiting { .. }
            | DialState::Connected { .. }
            | DialState::Resting { .. }
            | DialState::Never => None,
        }
    }

    /// Returns the slot of the attempt that was under way.
    pub(super) fn transition_to_connected(&mut self, peer: PeerId) -> Option<u32> {
        let slot = match self.state {
            DialState::Attempting { slot } => Some(slot),
            DialState::Waiting { .. }
            | DialState::Connected { .. }
            | DialState::Resting { .. }
            | DialState::Never => None,
        };
        self.backoff.reset();
        self.failure = None;
        self.peer = Some(peer);
        self.state = DialState::Connected { peer };
        slot
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAnswer => f.write_str("no answer"),
            Self::Refused(reason) => write!(f, "refused: {reason}"),
            Self::Ourself => f.write_str("ourself"),
            Self::Banned => f.write_str("banned"),
            Self::Left => f.write_str("left"),
            Self::Parted => f.write_str("not needed"),
        }
    }
}
