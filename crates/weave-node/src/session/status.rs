//! What people are shown of connections.

use std::fmt;
use std::time::Duration;

use weave_crypto::{RejectReason, Suite};
use weave_wire::{PeerId, Time};

/// One line of `status connections`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionStatus {
    /// Address of the other side, or of the relay; the name of a target that has no address.
    pub address: String,
    /// The peer that relays, if one does.
    pub relay: Option<PeerId>,
    /// Whether we dialled.
    pub outbound: bool,
    /// Where it stands.
    pub state: ConnectionState,
    /// Why it is not up, in words; how it is protected when it is. May be empty.
    pub info: String,
    /// Who is there, once that is proven.
    pub peer: Option<PeerId>,
    /// What the peer calls itself. Not to be trusted.
    pub nickname: String,
    /// Protocol version of the session, once there is one.
    pub version: Option<u8>,
    /// Generation of the password that the session rests on, once there is one.
    pub generation: Option<u16>,
    /// What is wrong although it is up.
    pub warning: Option<String>,
    /// Cipher of the session, once there is one.
    pub cipher: Option<Suite>,
    /// Whether its keys withstand quantum computers, once there is a session.
    pub pq: Option<bool>,
    /// MTU of the path in bytes of IP, once probes have found it.
    pub mtu: Option<u16>,
    /// The smallest packet in bytes of IP that got lost for its length, if any did.
    pub lost_mtu: Option<u16>,
    /// What keeps it from being up, where that is known.
    pub trouble: Option<Trouble>,
    /// Smoothed round trip time, once it was measured.
    pub rtt: Option<Duration>,
    /// How old the session is, once there is one.
    pub age: Option<Duration>,
    /// How often its keys were changed.
    pub rekeys: Option<u32>,
    /// When the next attempt is made, while none is under way.
    pub retry: Option<Retry>,
}

/// What keeps a connection from being up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing comes from there.
    NoAnswer,
    /// The peer refused, for this reason.
    Refused(RejectReason),
}

/// A generation of the password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GenerationStatus {
    /// Its number.
    pub generation: u16,
    /// Whether handshakes with it are accepted.
    pub held: bool,
    /// Whether it is dialled with.
    pub in_use: bool,
    /// Number of sessions in use that rest on it.
    pub sessions: usize,
}

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConnectionState {
    /// Proven from both sides, and heard of lately.
    Established,
    /// Almost up, or established and silent.
    Pending,
    /// The first attempt is under way.
    Connecting,
    /// Another attempt is under way.
    Retrying,
    /// The peer is up, and in a mesh as large as this no session with it is needed now.
    Resting,
    /// The last attempt failed.
    Failed,
}

/// When a failed connection is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// At this time.
    At(Time),
    /// Not before an operator asks for it.
    Never,
}

impl fmt::Display for ConnectionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Established => "established",
            Self::Pending => "pending",
            Self::Connecting => "connecting",
            Self::Retrying => "retrying",
            Self::Resting => "resting",
            Self::Failed => "failed",
        })
    }
}
