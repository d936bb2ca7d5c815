//! One key epoch of a session: its secret, and both ends of its lanes, made once.

use std::sync::Arc;
use std::time::Duration;

use weave_wire::{Lane, ReceiverIndex, Time};

use crate::aead::{OpenKey, Suite};
use crate::chain::{Chain, Role};
use crate::lane::SendLane;

/// No key seals anything after this long.
pub(super) const STOP_AFTER: Duration = Duration::from_secs(180);

/// What every epoch of a session has in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionShape {
    /// Protocol version that the handshake agreed on.
    pub version: u8,
    /// Cipher that the handshake agreed on.
    pub suite: Suite,
    /// Whether every exchange of keys has an ML-KEM-768 half: both sides announced it.
    pub kem: bool,
    /// Our role in the handshake.
    pub role: Role,
    /// Slot under which datagrams reach us.
    pub local_slot: u32,
    /// Slot under which datagrams reach the peer.
    pub remote_slot: u32,
}

/// Both ends of the lanes of one epoch.
#[derive(Debug)]
pub struct Epoch {
    number: u32,
    kem: bool,
    local_slot: u32,
    send: [Arc<SendLane>; 3],
    open: [OpenKey; 3],
    created: Time,
}

impl Epoch {
    /// Counted from 0, the epoch of the handshake.
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// Whether its keys were agreed on with a KEM: those of the handshake never are.
    pub const fn has_kem(&self) -> bool {
        self.kem
    }

    /// When this side made the keys; they seal for 180 s.
    pub const fn created(&self) -> Time {
        self.created
    }

    /// The sending end of a lane.
    pub const fn send(&self, lane: Lane) -> &Arc<SendLane> {
        &self.send[lane as usize]
    }

    /// The key that opens what the peer seals on a lane.
    pub const fn open_key(&self, lane: Lane) -> &OpenKey {
        &self.open[lane as usize]
    }

    /// The index under which datagrams of a lane arrive here.
    pub const fn receiver(&self, lane: Lane) -> ReceiverIndex {
        ReceiverIndex::new(self.local_slot, self.number, lane)
    }
}

/// One epoch with the secret from which the next one is made.
pub(super) struct Held {
    pub(super) chain: Chain,
    pub(super) lanes: Arc<Epoch>,
}

impl Held {
    pub(super) fn new(shape: SessionShape, chain: Chain, kem: bool, now: Time) -> Self {
        let number = chain.epoch();
        let keys = |lane| {
            let (seal, open) = chain.lane_keys(shape.suite, shape.role, lane);
            let receiver = ReceiverIndex::new(shape.remote_slot, number, lane);
            (
                Arc::new(SendLane::new(
                    seal,
                    shape.version,
                    receiver,
                    now + STOP_AFTER,
                )),
                open,
            )
        };
        let [data, control, relay] = [Lane::Data, Lane::Control, Lane::Relay].map(keys);
        let lanes = Epoch {
            number,
            kem,
            local_slot: shape.local_slot,
            send: [data.0, control.0, relay.0],
            open: [data.1, control.1, relay.1],
            created: now,
        };
        Self {
            chain,
            lanes: Arc::new(lanes),
        }
    }
}
