//! One established session, and which sessions a peer has.

use std::net::SocketAddr;

use weave_wire::{PeerId, Time};

use super::config::Timers;
use super::hello::Introduction;
use super::keys::Keys;
use super::path_mtu::PathMtu;
use super::rotation::Rotation;
use super::rtt::Rtt;
use super::standing::Standing;

/// A session: keys shared with a peer that proved who it is.
#[derive(Debug)]
pub(super) struct Session {
    /// Where the peer is seen.
    pub(super) addr: SocketAddr,
    /// Whether we dialled.
    pub(super) outbound: bool,
    /// What the peer proved and said of itself.
    pub(super) who: Introduction,
    /// Static key of the peer.
    pub(super) remote_static: [u8; 32],
    /// What it is judged by beside another session with the peer.
    pub(super) standing: Standing,
    /// The password that it rests on.
    pub(super) rotation: Rotation,
    /// Keys and lanes.
    pub(super) keys: Keys,
    /// Set until the peer has shown that it has the session: the last handshake message and our
    /// answer to it, which may both have to be repeated.
    pub(super) answer: Option<Answer>,
    /// Since when another session is used in its place.
    pub(super) replaced_at: Option<Time>,
    /// The last `Ping`.
    pub(super) ping: Ping,
    /// An address that the peer seems to have moved to.
    pub(super) challenge: Option<Challenge>,
    /// How long answers take.
    pub(super) rtt: Rtt,
    /// How long datagrams to the peer may be.
    pub(super) path: PathMtu,
    /// When a new handshake was last tried beside the session.
    pub(super) probed_at: Time,
    /// A later start that the peer says it has made since. It may still have this session: a log
    /// that others know better than its own disk begins anew, too.
    pub(super) outlived_by: Option<u64>,
    /// When to look at it again.
    pub(super) next_check: Time,
}

/// How to repeat the end of a handshake.
#[derive(Debug)]
pub(super) struct Answer {
    /// The peer's message 3.
    pub(super) finish: Vec<u8>,
    /// Our `Hello`, encoded.
    pub(super) hello: Vec<u8>,
}

/// The last `Ping` of a session.
#[derive(Debug)]
pub(super) struct Ping {
    /// What the answer must repeat.
    pub(super) nonce: u64,
    /// When it was sent.
    pub(super) sent_at: Time,
    /// Whether no answer has come yet.
    pub(super) is_open: bool,
    /// Whether it is repeated until it is answered.
    pub(super) insist: bool,
}

/// A `PathProbe` to another address than the one where the peer was seen so far.
#[derive(Debug)]
pub(super) struct Challenge {
    /// That address.
    pub(super) addr: SocketAddr,
    /// What the answer from there must repeat.
    pub(super) nonce: u64,
    /// When it was sent.
    pub(super) sent_at: Time,
}

/// The sessions of one peer.
#[derive(Debug)]
pub(super) struct Slots {
    /// The one that is used for sending.
    pub(super) in_use: u32,
    /// Those that are only received: replaced, or not yet confirmed.
    pub(super) others: Vec<u32>,
}

impl Session {
    /// Whether frames may be sent in it. The peer must have it, for a frame that overtakes our
    /// `Hello` cannot be opened, and must not have started anew.
    pub(super) fn carries_frames(&self) -> bool {
        self.standing.confirmed && !self.is_outlived() && self.keys.carries_frames()
    }

    /// Whether the peer has started anew since, as far as is known.
    pub(super) const fn is_outlived(&self) -> bool {
        self.outlived_by.is_some()
    }

    /// The peer has answered in this session. Returns whether it was taken for outlived.
    pub(super) fn note_answer(&mut self) -> bool {
        let boot = self.outlived_by.take();
        self.standing.boot = boot.unwrap_or(self.standing.boot);
        boot.is_some()
    }

    /// Who is there.
    pub(super) const fn peer(&self) -> PeerId {
        self.who.peer
    }

    /// When the peer was last heard in this session, at least at its start.
    pub(super) fn alive_at(&self) -> Time {
        self.keys
            .heard()
            .map_or(self.standing.since, |heard| heard.max(self.standing.since))
    }

    /// When something is to be done for its keys: nothing any more once it is replaced. It ends
    /// before they do, and an exchange would look as if the peer used it.
    pub(super) fn keys_due_at(&self) -> Option<Time> {
        let keys = self.keys.poll_timeout();
        keys.filter(|_| self.replaced_at.is_none())
    }

    /// When a session that is not in use is given up.
    pub(super) fn forget_at(&self, timers: &Timers) -> Time {
        match self.replaced_at {
            Some(at) => at + timers.grace,
            None => self.standing.since + timers.give_up * 2,
        }
    }
}

impl Slots {
    /// All slots, the one in use first.
    pub(super) fn all(&self) -> impl Iterator<Item = u32> {
        [self.in_use].into_iter().chain(self.others.iter().copied())
    }
}
