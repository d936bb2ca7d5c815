//! What the session layer is told at start: who we are, and its time constants.

use std::time::Duration;

use weave_crypto::HandshakeConfig;

use crate::post_quantum::PostQuantum;

/// Who we are and how we behave towards other peers.
#[derive(Debug)]
pub(crate) struct SessionConfig {
    /// Keys, passwords and mesh that handshakes are made with.
    pub(crate) handshake: HandshakeConfig,
    /// Number of this start; larger than that of every earlier start of this peer.
    pub(crate) boot: u64,
    /// Name of this host for people.
    pub(crate) nickname: String,
    /// Version of the program, for people.
    pub(crate) version: String,
    /// Whether keys are to withstand quantum computers.
    pub(crate) pq: PostQuantum,
    /// Port of targets that name none.
    pub(crate) port: u16,
    /// Time constants.
    pub(crate) timers: Timers,
}

impl SessionConfig {
    /// The usual configuration of a peer without a name.
    pub(crate) fn new(handshake: HandshakeConfig, boot: u64) -> Self {
        Self {
            handshake,
            boot,
            nickname: String::new(),
            version: String::new(),
            pq: PostQuantum::default(),
            port: weave_wire::PORT,
            timers: Timers::default(),
        }
    }
}

/// Time constants of sessions and dials.
#[derive(Debug, Clone)]
pub(crate) struct Timers {
    /// A peer not heard for this long is asked for a sign of life by the side that dialled, and
    /// again after as long.
    pub(crate) keepalive: Duration,
    /// The question is repeated this fast until `probe`, for one may be lost.
    pub(crate) insist: Duration,
    /// A peer not heard for this long is sent a new handshake beside the session, in case it
    /// has restarted and knows the session no more; and again after `give_up`.
    pub(crate) probe: Duration,
    /// A peer not heard for this long is shown as not answering.
    pub(crate) quiet: Duration,
    /// A peer not heard for this long is lost.
    pub(crate) lost: Duration,
    /// An unanswered handshake message is sent again after this long.
    pub(crate) resend: Duration,
    /// A handshake without progress for this long is given up.
    pub(crate) give_up: Duration,
    /// Two sessions established within this long of each other count as simultaneous.
    pub(crate) simultaneous: Duration,
    /// A session that another one replaced stays receivable for this long.
    pub(crate) grace: Duration,
    /// First wait before dialling again.
    pub(crate) backoff: Duration,
    /// Longest wait before dialling again.
    pub(crate) backoff_cap: Duration,
    /// The same for a peer that is reached only through a relay.
    pub(crate) eager_cap: Duration,
    /// Longest wait before dialling a peer again that refused us.
    pub(crate) refused_cap: Duration,
    /// Between two attempts at an address that seems to be our own.
    pub(crate) ourself: Duration,
    /// Between two attempts to move a session to another password: longer than `simultaneous`,
    /// so that the later session is preferred to the one it is to replace.
    pub(crate) move_again: Duration,
    /// A peer that took its leave is not dialled for this long, unless it is a target.
    pub(crate) left: Duration,
    /// The name of a target is resolved again after this long without a connection.
    pub(crate) resolve: Duration,
}

impl Timers {
    /// After how much silence one side of a session asks: not both at once.
    pub(super) fn keepalive_of(&self, outbound: bool) -> Duration {
        match outbound {
            true => self.keepalive,
            false => self.keepalive + self.insist,
        }
    }

    /// When to repeat a question that was asked after so much silence.
    pub(super) fn ping_again(&self, silence: Duration) -> Duration {
        let first_ones = silence >= self.keepalive && silence + self.insist < self.probe;
        if first_ones {
            self.insist
        } else {
            self.keepalive
        }
    }
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            keepalive: Duration::from_millis(2_500),
            insist: Duration::from_millis(300),
            probe: Duration::from_secs(4),
            quiet: Duration::from_secs(10),
            lost: Duration::from_secs(20),
            resend: Duration::from_secs(1),
            give_up: Duration::from_secs(5),
            simultaneous: Duration::from_secs(10),
            grace: Duration::from_secs(30),
            backoff: Duration::from_secs(1),
            backoff_cap: Duration::from_secs(60),
            eager_cap: Duration::from_secs(5),
            refused_cap: Duration::from_secs(30),
            ourself: Duration::from_secs(600),
            move_again: Duration::from_secs(15),
            left: Duration::from_secs(2),
            resolve: Duration::from_secs(30),
        }
    }
}
