//! Why frames and datagrams go nowhere, and how many did.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Why a frame or datagram went nowhere.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl DropReason {
            /// Every reason there is, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The name in metrics and status.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

drop_reasons! {
    /// Datagram shorter than its headers.
    TooShort = "too_short",
    /// Datagram of another protocol version, or not ours.
    BadVersion = "bad_version",
    /// Datagram with an unknown type, kind or lane, reserved bits set, or a length that its type never has.
    BadHeader = "bad_header",
    /// Datagram from an address that nobody has.
    BadSource = "bad_source",
    /// Datagram of a handshake, over what its source or all strangers may send.
    HandshakeRate = "handshake_rate",
    /// Relayed datagram that this host has no circuit for, or wrapped too often.
    NoCircuit = "no_circuit",
    /// Datagram for a key that we do not have (any more).
    UnknownReceiver = "unknown_receiver",
    /// Datagram that was received before, or is too old to tell.
    Replayed = "replayed",
    /// Datagram whose seal does not fit.
    OpenFailed = "open_failed",
    /// Datagram sealed for another lane than its payload belongs to.
    WrongLane = "wrong_lane",
    /// Sealed payload that is incomplete or contradicts itself.
    BadPayload = "bad_payload",
    /// Fragment that does not belong to the others of its frame.
    FragmentMismatch = "fragment_mismatch",
    /// Incomplete frame given up after its time.
    FragmentTimeout = "fragment_timeout",
    /// Incomplete frame given up for newer ones.
    FragmentEvicted = "fragment_evicted",
    /// Frame of a segment that this host does not know or has no bridge for.
    UnknownSegment = "unknown_segment",
    /// Frame without complete headers, or from a group address.
    MalformedFrame = "malformed_frame",
    /// STP, LLDP and other protocols between bridges.
    BridgeProtocol = "bridge_protocol",
    /// Frame with a VLAN tag behind another one.
    StackedVlan = "stacked_vlan",
    /// IPv6 router advertisement.
    RouterAdvertisement = "router_advertisement",
    /// Answer of a DHCP server.
    DhcpServer = "dhcp_server",
    /// Frame to or from an address that every host has for itself.
    IgnoredAddress = "ignored_address",
    /// Frame from a local container with the source of a remote one.
    SourceIsRemote = "source_is_remote",
    /// Frame from a peer with a source that another peer or this host announced.
    SpoofedSource = "spoofed_source",
    /// Frame from a peer that claims an address that another peer or this host announced.
    SpoofedAddress = "spoofed_address",
    /// Frame from an unannounced source on a strict segment.
    UnannouncedSource = "unannounced_source",
    /// Frame on a strict segment that claims an address which its sender has not announced.
    UnannouncedAddress = "unannounced_address",
    /// Frame for a station that nobody has announced, on a strict segment.
    UnannouncedDestination = "unannounced_destination",
    /// Frame or question for a station of this host: the bridge has delivered it.
    LocalDestination = "local_destination",
    /// Frame from a peer for a station of another peer.
    RemoteDestination = "remote_destination",
    /// Frame for a peer without session.
    NoSession = "no_session",
    /// Frame for a session whose key may not be used any more.
    LaneClosed = "lane_closed",
    /// No room to send.
    EgressFull = "egress_full",
    /// Super-frame or long datagram given up because too much waits, so that its sender slows down.
    Congested = "congested",
    /// Frame that the bridge did not take.
    TapRefused = "tap_refused",
    /// Frame that does not fit the path, even in fragments.
    TooBig = "too_big",
    /// Broadcast, frame for an unknown station, or question for an unknown address, over the limit.
    FloodLimited = "flood_limited",
}

/// How many frames and datagrams went nowhere, by reason. Clones share the counters.
#[derive(Clone)]
pub struct DropCounters(Arc<[AtomicU64]>);

impl DropCounters {
    /// Counters that stand at zero.
    pub fn new() -> Self {
        Self(DropReason::ALL.iter().map(|_| AtomicU64::new(0)).collect())
    }

    /// Counts one more.
    pub fn count(&self, reason: DropReason) {
        if let Some(counter) = self.0.get(usize::from(reason as u8)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many there were so far.
    pub fn read(&self, reason: DropReason) -> u64 {
        self.0
            .get(usize::from(reason as u8))
            .map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    /// All reasons with their numbers.
    pub fn snapshot(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL
            .iter()
            .map(|reason| (*reason, self.read(*reason)))
    }
}

impl Default for DropCounters {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for DropCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counted = self.snapshot().filter(|(_, count)| *count > 0);
        f.debug_map()
            .entries(counted.map(|(reason, count)| (reason.name(), count)))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_counter_and_name() {
        let drops = DropCounters::new();
        for (times, reason) in DropReason::ALL.iter().enumerate() {
            (0..times).for_each(|_| drops.count(*reason));
        }
        let counted: Vec<u64> = drops.snapshot().map(|(_, count)| count).collect();
        assert!(
            counted
                .iter()
                .zip(0..)
                .all(|(count, times)| *count == times),
            "{counted:?}"
        );
        let mut names: Vec<_> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DropReason::ALL.len());
    }

    #[test]
    fn clones_share_their_counters() {
        let drops = DropCounters::new();
        let other = drops.clone();
        other.count(DropReason::Replayed);
        assert_eq!(drops.read(DropReason::Replayed), 1);
        assert_eq!(format!("{drops:?}"), r#"{"replayed": 1}"#);
    }
}
