//! The forwarding table: an immutable snapshot of everything that the data path decides on.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use weave_crypto::{OpenKey, SendLane};
use weave_wire::{Lane, Mac, PeerId, ReceiverIndex, SegmentId};

use super::Traffic;

/// A table that frames are looked up in: seeded differently in each, and cheap for short keys.
pub type Lookup<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;

/// What the data path knows. Built once by the control side, then only looked up.
///
/// Indexes into [`Self::sessions`] are valid within one snapshot.
#[derive(Debug, Default)]
pub struct Fib {
    /// Sessions that frames can be sent in.
    pub sessions: Vec<FibSession>,
    /// Every key under which datagrams may arrive, by receiver index.
    pub open: Lookup<u32, Arc<OpenLane>>,
    /// Circuits that pass or end here, by slot.
    pub circuits: Lookup<u32, FibCircuit>,
    /// Segments that have members somewhere.
    pub segments: Lookup<SegmentId, FibSegment>,
    /// Announced stations.
    pub macs: Lookup<(SegmentId, Mac), Owner>,
    /// Announced addresses, with the station that has each.
    pub ips: Lookup<(SegmentId, IpAddr), (Mac, Owner)>,
    /// Stations heard without announcement, with the index of the session they are behind. Only
    /// a direction to send in: they are nobody's, and an announcement goes before.
    pub learned: Lookup<(SegmentId, Mac), usize>,
    /// Addresses that every host has for itself, of which nothing may cross the overlay.
    pub ignored_ips: Vec<IpAddr>,
    /// Where peers are that there is a session with, and where one is dialled; in order.
    pub known: Vec<IpAddr>,
}

/// A session that frames can be sent in.
#[derive(Debug)]
pub struct FibSession {
    /// The other side.
    pub peer: PeerId,
    /// Where its datagrams go: to the peer, or to the first relay.
    pub addr: SocketAddr,
    /// What they are wrapped in before, the innermost first; empty on a direct path.
    pub hops: Vec<Hop>,
    /// Longest datagram that gets there, in bytes of UDP payload.
    pub max_datagram: usize,
    /// Seals frames; the same `Arc` in every snapshot.
    pub data: Arc<SendLane>,
    /// Counts them; one for each peer.
    pub traffic: Arc<Traffic>,
}

/// A relay on the way to a peer: datagrams are sealed for it, too.
#[derive(Debug, Clone)]
pub struct Hop {
    /// The relay lane of the session with it; shared by all threads.
    pub lane: Arc<SendLane>,
    /// Names the circuit there.
    pub slot: u32,
}

/// What happens to the datagrams of a circuit.
#[derive(Debug)]
pub struct FibCircuit {
    /// Slot of the session in which they come.
    pub session: u32,
    /// Where they go.
    pub end: CircuitEnd,
}

/// Where a circuit leads.
#[derive(Debug)]
pub enum CircuitEnd {
    /// It ends here: what comes is as if received from this address.
    Here(SocketAddr),
    /// It leads on, wrapped for these hops (at least one), to that address.
    On(Vec<Hop>, SocketAddr),
}

/// A key under which datagrams may arrive.
///
/// Make one for each key and keep the `Arc`: the receiver tells by the pointer whether a replay
/// window belongs to it, and a new one for an old key would accept its datagrams once more.
#[derive(Debug)]
pub struct OpenLane {
    /// Protocol version of its session.
    pub version: u8,
    /// Opens them.
    pub key: OpenKey,
    /// The index they carry.
    pub receiver: ReceiverIndex,
    /// Who seals them.
    pub peer: PeerId,
    /// What they are for.
    pub lane: Lane,
    /// When the last one was opened, in nanoseconds of our time. One for each session.
    pub heard: Arc<AtomicU64>,
    /// Counts the frames in them; one for each peer.
    pub traffic: Arc<Traffic>,
}

/// A segment.
#[derive(Debug, Default)]
pub struct FibSegment {
    /// Whether frames from stations without announcement are dropped.
    pub strict: bool,
    /// Whether this host has a bridge for it.
    pub local: bool,
    /// Indexes of the sessions of all peers that have a bridge for it.
    pub members: Vec<usize>,
    /// Whether there are peers among them that there is no session with.
    pub lacks_members: bool,
}

/// Who announced a station or an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// This host.
    Local,
    /// A live peer.
    Remote {
        /// The peer.
        peer: PeerId,
        /// Index of the session with it, unless there is none.
        session: Option<usize>,
    },
}

impl Owner {
    /// Whether frames of this owner may arrive from `peer`.
    pub(super) fn is(&self, peer: &PeerId) -> bool {
        match self {
            Self::Local => false,
            Self::Remote { peer: owner, .. } => owner == peer,
        }
    }
}

impl Fib {
    /// Whether `mac` is a station of a peer that there is no session with.
    pub fn is_unreached(&self, segment: SegmentId, mac: Mac) -> bool {
        let owner = self.macs.get(&(segment, mac));
        matches!(owner, Some(Owner::Remote { session: None, .. }))
    }

    /// Whether `ip` was announced by someone else than `peer`, or is the link-local address of such a
    /// station.
    pub(super) fn is_anothers_ip(&self, segment: SegmentId, ip: IpAddr, peer: &PeerId) -> bool {
        match self.ips.get(&(segment, ip)) {
            Some((_, owner)) => !owner.is(peer),
            None => match ip {
                IpAddr::V4(_) => false,
                IpAddr::V6(ip) => Mac::of_link_local(ip)
                    .is_some_and(|mac| self.is_anothers_mac(segment, mac, peer)),
            },
        }
    }

    /// Whether `mac` was announced by someone else than `peer`.
    pub(super) fn is_anothers_mac(&self, segment: SegmentId, mac: Mac, peer: &PeerId) -> bool {
        self.macs
            .get(&(segment, mac))
            .is_some_and(|owner| !owner.is(peer))
    }
}
