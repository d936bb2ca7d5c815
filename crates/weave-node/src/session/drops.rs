//! Why datagrams of the session layer are dropped, how often that happened, and how many sessions
//! there were.

use std::fmt;

/// How many sessions there were.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SessionCounts {
    /// Handshakes that ended in a session.
    pub(crate) made: u64,
    /// Peers that there was a session with, and then none.
    pub(crate) lost: u64,
}

/// Why a handshake or control datagram was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum SessionDrop {
    /// Not a datagram of this protocol version.
    Malformed,
    /// A first message whose sender does not know the name of the mesh.
    Stranger,
    /// A first message without a valid cookie, while one is required; it was sent one.
    NoCookie,
    /// A first message of a source that sent too many.
    SourceRate,
    /// A first message of a source that tried too many passwords.
    GuessRate,
    /// A first message while too many others wait.
    BacklogFull,
    /// A half-open handshake given up in favour of a newer one.
    HalfOpenEvicted,
    /// No handshake or session has this slot.
    UnknownSlot,
    /// A handshake message that does not fit the state of the handshake.
    Unexpected,
    /// A handshake message that does not verify.
    HandshakeInvalid,
    /// The proof of the password does not verify.
    WrongPassword,
    /// The other side is we.
    Ourself,
    /// The peer is banned.
    Banned,
    /// The peer did not prove who it is.
    BadHello,
    /// A control message that cannot be decoded.
    BadControl,
    /// A control message before the peer proved who it is.
    Unconfirmed,
    /// A rekey message that does not fit the epochs of the session.
    BadRekey,
    /// A `Hello` of a peer, where one side requires the post-quantum key exchange that the other
    /// has not.
    PqUnfit,
    /// The last message of a stranger's handshake, over what is computed for.
    FinishRate,
}

/// Number of reasons.
const REASONS: usize = SessionDrop::ALL.len();

impl SessionDrop {
    /// All reasons, in the order of their numbers.
    pub(crate) const ALL: [Self; 19] = [
        Self::Malformed,
        Self::Stranger,
        Self::NoCookie,
        Self::SourceRate,
        Self::GuessRate,
        Self::BacklogFull,
        Self::HalfOpenEvicted,
        Self::UnknownSlot,
        Self::Unexpected,
        Self::HandshakeInvalid,
        Self::WrongPassword,
        Self::Ourself,
        Self::Banned,
        Self::BadHello,
        Self::BadControl,
        Self::Unconfirmed,
        Self::BadRekey,
        Self::PqUnfit,
        Self::FinishRate,
    ];

    /// The name it is exported under.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Stranger => "stranger",
            Self::NoCookie => "no_cookie",
            Self::SourceRate => "source_rate",
            Self::GuessRate => "guess_rate",
            Self::BacklogFull => "backlog_full",
            Self::HalfOpenEvicted => "half_open_evicted",
            Self::UnknownSlot => "unknown_slot",
            Self::Unexpected => "unexpected",
            Self::HandshakeInvalid => "handshake_invalid",
            Self::WrongPassword => "wrong_password",
            Self::Ourself => "ourself",
            Self::Banned => "banned",
            Self::BadHello => "bad_hello",
            Self::BadControl => "bad_control",
            Self::Unconfirmed => "unconfirmed",
            Self::BadRekey => "bad_rekey",
            Self::PqUnfit => "pq_unfit",
            Self::FinishRate => "finish_rate",
        }
    }
}

impl fmt::Display for SessionDrop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How often each reason occurred.
#[derive(Debug, Default)]
pub(crate) struct SessionDrops([u64; REASONS]);

impl SessionDrops {
    /// Counts one.
    pub(super) fn count(&mut self, reason: SessionDrop) {
        tracing::trace!(%reason, "dropped a datagram");
        if let Some(count) = self.0.get_mut(usize::from(reason as u8)) {
            *count = count.saturating_add(1);
        }
    }

    /// How often `reason` occurred.
    pub(crate) fn of(&self, reason: SessionDrop) -> u64 {
        self.0.get(usize::from(reason as u8)).copied().unwrap_or(0)
    }

    /// All reasons with their counts.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (SessionDrop, u64)> {
        SessionDrop::ALL
            .into_iter()
            .map(|reason| (reason, self.of(reason)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_counter() {
        let mut drops = SessionDrops::default();
        for (times, reason) in SessionDrop::ALL.into_iter().enumerate() {
            (0..times).for_each(|_| drops.count(reason));
        }
        let counts: Vec<_> = drops.iter().map(|(_, count)| count).collect();
        assert_eq!(counts, (0..19).collect::<Vec<u64>>());
    }
}
