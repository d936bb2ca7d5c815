//! The 16-byte headers that open every datagram. All of their bytes are authenticated.
//!
//! Byte 0 holds the type in its high and a version in its low nibble, so that a reader can tell
//! what it has without knowing anything else: of a sealed datagram the protocol version of its
//! session, which the receiver compares with what the handshake chose; of a handshake datagram
//! [`HANDSHAKE_LAYOUT`], for nothing is chosen yet.

use crate::{DatagramError, HANDSHAKE_LAYOUT};

/// Length of the header of sealed and relayed datagrams, in bytes.
pub const SEALED_HEADER_LEN: usize = 16;

/// Length of the header of handshake datagrams, in bytes.
pub const HANDSHAKE_HEADER_LEN: usize = 16;

/// What a datagram is: the high nibble of its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum DatagramType {
    /// First handshake message, from the dialler.
    HandshakeInit = 1,
    /// Second handshake message.
    HandshakeReply = 2,
    /// Third handshake message.
    HandshakeFinish = 3,
    /// Sent instead of a reply by a responder under load.
    CookieReply = 4,
    /// Sent by a responder that refuses.
    Reject = 5,
    /// Sealed payload of an established session.
    Sealed = 8,
    /// Another datagram on its way through a relay.
    Relay = 9,
}

impl DatagramType {
    /// Reads the type of a datagram from its first byte.
    ///
    /// # Errors
    /// [`DatagramError::TooShort`] when empty, [`DatagramError::Type`] when the type is unknown,
    /// [`DatagramError::Version`] when a handshake has another layout, or there is no version.
    pub const fn of(datagram: &[u8]) -> Result<Self, DatagramError> {
        let [first, ..] = *datagram else {
            return Err(DatagramError::TooShort);
        };
        let version = first & 0x0f;
        let ty = match first >> 4 {
            1 => Self::HandshakeInit,
            2 => Self::HandshakeReply,
            3 => Self::HandshakeFinish,
            4 => Self::CookieReply,
            5 => Self::Reject,
            8 => Self::Sealed,
            9 => Self::Relay,
            _ => return Err(DatagramError::Type),
        };
        if version == 0 || (ty.is_handshake() && version != HANDSHAKE_LAYOUT) {
            return Err(DatagramError::Version);
        }
        Ok(ty)
    }

    /// Whether this belongs to the establishment of a session.
    pub const fn is_handshake(self) -> bool {
        match self {
            Self::HandshakeInit
            | Self::HandshakeReply
            | Self::HandshakeFinish
            | Self::CookieReply
            | Self::Reject => true,
            Self::Sealed | Self::Relay => false,
        }
    }

    /// Bits of `version` above the fourth are cut off.
    const fn first_byte(self, version: u8) -> u8 {
        (self as u8) << 4 | version & 0x0f
    }
}

/// What the sealed payload of a datagram holds: the low nibble of the flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum PayloadKind {
    /// One Ethernet frame.
    Frame = 0,
    /// A part of an Ethernet frame.
    Fragment = 1,
    /// One control message.
    Control = 2,
    /// Several Ethernet frames of one segment.
    Frames = 3,
    /// One Ethernet frame whose checksum is partial.
    UnsummedFrame = 4,
    /// A part of an Ethernet frame whose checksum is partial.
    UnsummedFragment = 5,
}

impl PayloadKind {
    const fn from_flags(flags: u8) -> Result<Self, DatagramError> {
        match flags {
            0 => Ok(Self::Frame),
            1 => Ok(Self::Fragment),
            2 => Ok(Self::Control),
            3 => Ok(Self::Frames),
            4 => Ok(Self::UnsummedFrame),
            5 => Ok(Self::UnsummedFragment),
            6..16 => Err(DatagramError::Kind),
            _ => Err(DatagramError::Reserved),
        }
    }
}

/// One of the independent streams of a session, each with its own key and counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Lane {
    /// Frames, sent by the thread that reads the containers' interfaces.
    Data = 0,
    /// Control messages, sent by the control thread.
    Control = 1,
    /// Relayed datagrams, sent by the thread that reads the network.
    Relay = 2,
}

/// Tells the receiver under which key a datagram was sealed: a slot that the receiver chose, the
/// parity of the key epoch, and the lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReceiverIndex(u32);

impl ReceiverIndex {
    /// Slots are below this number.
    pub const SLOT_LIMIT: u32 = 1 << 29;

    /// The index of a lane; bits of `slot` above the limit are cut off.
    pub const fn new(slot: u32, epoch: u32, lane: Lane) -> Self {
        Self(slot << 3 | (epoch & 1) << 2 | lane as u32)
    }

    /// The index as it travels.
    pub const fn as_u32(self) -> u32 {
        self.0
    }

    /// The index that travels as this number. Whether its lane exists shows [`Self::lane`].
    pub const fn from_u32(bits: u32) -> Self {
        Self(bits)
    }

    /// The slot that the receiver gave to this session.
    pub const fn slot(self) -> u32 {
        self.0 >> 3
    }

    /// The lowest bit of the key epoch.
    pub const fn epoch_parity(self) -> u32 {
        self.0 >> 2 & 1
    }

    /// The lane, unless its bits have no meaning.
    pub const fn lane(self) -> Option<Lane> {
        match self.0 & 3 {
            0 => Some(Lane::Data),
            1 => Some(Lane::Control),
            2 => Some(Lane::Relay),
            _ => None,
        }
    }
}

/// Header of a sealed datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SealedHeader {
    /// Protocol version of the session, 1 to 15.
    pub version: u8,
    /// What the payload holds.
    pub kind: PayloadKind,
    /// Which key opens it.
    pub receiver: ReceiverIndex,
    /// Counts the datagrams under that key; the nonce follows from it.
    pub counter: u64,
}

impl SealedHeader {
    /// The header as it travels; also the additional data of the seal.
    pub const fn encode(&self) -> [u8; SEALED_HEADER_LEN] {
        let first = DatagramType::Sealed.first_byte(self.version);
        encode_sealed(first, self.kind, self.receiver, self.counter)
    }

    /// Reads the header of a sealed datagram; what follows it is not looked at.
    ///
    /// # Errors
    /// When the datagram is too short, of another version or type, or uses reserved bits.
    pub const fn decode(datagram: &[u8]) -> Result<Self, DatagramError> {
        match decode_sealed(datagram, DatagramType::Sealed) {
            Ok((version, kind, receiver, counter)) => Ok(Self {
                version,
                kind,
                receiver,
                counter,
            }),
            Err(error) => Err(error),
        }
    }
}

/// Header of a datagram that holds another datagram, for a relay to pass on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RelayHeader {
    /// Protocol version of the session with the relay, 1 to 15.
    pub version: u8,
    /// Names a circuit of the relay.
    pub circuit: ReceiverIndex,
    /// Counts the datagrams under the key of this hop.
    pub counter: u64,
}

impl RelayHeader {
    /// The header as it travels.
    pub const fn encode(&self) -> [u8; SEALED_HEADER_LEN] {
        let first = DatagramType::Relay.first_byte(self.version);
        encode_sealed(first, PayloadKind::Frame, self.circuit, self.counter)
    }

    /// Reads the header of a relayed datagram; what follows it is not looked at.
    ///
    /// # Errors
    /// When the datagram is too short, of another version or type, or uses reserved bits.
    pub const fn decode(datagram: &[u8]) -> Result<Self, DatagramError> {
        match decode_sealed(datagram, DatagramType::Relay) {
            Ok((version, PayloadKind::Frame, circuit, counter)) => Ok(Self {
                version,
                circuit,
                counter,
            }),
            Ok((
                _,
                PayloadKind::Fragment
                | PayloadKind::Control
                | PayloadKind::Frames
                | PayloadKind::UnsummedFrame
                | PayloadKind::UnsummedFragment,
                ..,
            )) => Err(DatagramError::Kind),
            Err(error) => Err(error),
        }
    }
}

/// Header of a handshake datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HandshakeHeader {
    /// Which message of the handshake this is; never a sealed type.
    pub ty: DatagramType,
    /// Generation of the password, 0 until it was rotated.
    pub generation: u16,
    /// Slot of the sender.
    pub sender: u32,
    /// Slot of the receiver, 0 in the first message.
    pub receiver: u32,
}

impl HandshakeHeader {
    /// The header as it travels.
    pub const fn encode(&self) -> [u8; HANDSHAKE_HEADER_LEN] {
        let [g0, g1] = self.generation.to_le_bytes();
        let [s0, s1, s2, s3] = self.sender.to_le_bytes();
        let [r0, r1, r2, r3] = self.receiver.to_le_bytes();
        [
            self.ty.first_byte(HANDSHAKE_LAYOUT),
            0,
            g0,
            g1,
            s0,
            s1,
            s2,
            s3,
            r0,
            r1,
            r2,
            r3,
            0,
            0,
            0,
            0,
        ]
    }

    /// Reads the header of a handshake datagram; what follows it is not looked at.
    ///
    /// # Errors
    /// When the datagram is too short, of another version or type, or uses reserved bits.
    pub const fn decode(datagram: &[u8]) -> Result<Self, DatagramError> {
        let ty = match DatagramType::of(datagram) {
            Ok(ty) if ty.is_handshake() => ty,
            Ok(_) => return Err(DatagramError::Type),
            Err(error) => return Err(error),
        };
        let [
            _,
            flags,
            g0,
            g1,
            s0,
            s1,
            s2,
            s3,
            r0,
            r1,
            r2,
            r3,
            z0,
            z1,
            z2,
            z3,
            ..,
        ] = *datagram
        else {
            return Err(DatagramError::TooShort);
        };
        if flags | z0 | z1 | z2 | z3 != 0 {
            return Err(DatagramError::Reserved);
        }
        Ok(Self {
            ty,
            generation: u16::from_le_bytes([g0, g1]),
            sender: u32::from_le_bytes([s0, s1, s2, s3]),
            receiver: u32::from_le_bytes([r0, r1, r2, r3]),
        })
    }
}

const fn encode_sealed(
    first: u8,
    kind: PayloadKind,
    receiver: ReceiverIndex,
    counter: u64,
) -> [u8; SEALED_HEADER_LEN] {
    let [r0, r1, r2, r3] = receiver.0.to_le_bytes();
    let [c0, c1, c2, c3, c4, c5, c6, c7] = counter.to_le_bytes();
    [
        first, kind as u8, 0, 0, r0, r1, r2, r3, c0, c1, c2, c3, c4, c5, c6, c7,
    ]
}

const fn decode_sealed(
    datagram: &[u8],
    expected: DatagramType,
) -> Result<(u8, PayloadKind, ReceiverIndex, u64), DatagramError> {
    match DatagramType::of(datagram) {
        Ok(ty) if ty as u8 == expected as u8 => {}
        Ok(_) => return Err(DatagramError::Type),
        Err(error) => return Err(error),
    }
    let [
        first,
        flags,
        z0,
        z1,
        r0,
        r1,
        r2,
        r3,
        c0,
        c1,
        c2,
        c3,
        c4,
        c5,
        c6,
        c7,
        ..,
    ] = *datagram
    else {
        return Err(DatagramError::TooShort);
    };
    if z0 | z1 != 0 {
        return Err(DatagramError::Reserved);
    }
    let kind = match PayloadKind::from_flags(flags) {
        Ok(kind) => kind,
        Err(error) => return Err(error),
    };
    let receiver = ReceiverIndex(u32::from_le_bytes([r0, r1, r2, r3]));
    if receiver.lane().is_none() {
        return Err(DatagramError::Kind);
    }
    Ok((
        first & 0x0f,
        kind,
        receiver,
        u64::from_le_bytes([c0, c1, c2, c3, c4, c5, c6, c7]),
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_kind() -> impl Strategy<Value = PayloadKind> {
        prop_oneof![
            Just(PayloadKind::Frame),
            Just(PayloadKind::Fragment),
            Just(PayloadKind::Control),
            Just(PayloadKind::Frames),
            Just(PayloadKind::UnsummedFrame),
            Just(PayloadKind::UnsummedFragment),
        ]
    }

    fn any_lane() -> impl Strategy<Value = Lane> {
        prop_oneof![Just(Lane::Data), Just(Lane::Control), Just(Lane::Relay)]
    }

    fn any_handshake_type() -> impl Strategy<Value = DatagramType> {
        prop_oneof![
            Just(DatagramType::HandshakeInit),
            Just(DatagramType::HandshakeReply),
            Just(DatagramType::HandshakeFinish),
            Just(DatagramType::CookieReply),
            Just(DatagramType::Reject),
        ]
    }

    #[test]
    fn reserved_bits_are_refused() {
        let header = SealedHeader {
            version: 1,
            kind: PayloadKind::Control,
            receiver: ReceiverIndex::new(7, 1, Lane::Control),
            counter: 5,
        };
        let good = header.encode();
        let broken = |index: usize, value: u8| {
            let mut bytes = good;
            bytes[index] = value;
            SealedHeader::decode(&bytes)
        };
        assert_eq!(SealedHeader::decode(&good), Ok(header));
        assert_eq!(broken(0, 0x80), Err(DatagramError::Version));
        assert_eq!(broken(0, 0x91), Err(DatagramError::Type));
        assert_eq!(broken(0, 0x01), Err(DatagramError::Type));
        assert_eq!(broken(0, 0x12), Err(DatagramError::Version));
        assert_eq!(broken(1, 6), Err(DatagramError::Kind));
        assert_eq!(broken(1, 0x12), Err(DatagramError::Reserved));
        assert_eq!(broken(2, 1), Err(DatagramError::Reserved));
        assert_eq!(broken(4, 3), Err(DatagramError::Kind));
        assert_eq!(
            SealedHeader::decode(&good[..15]),
            Err(DatagramError::TooShort)
        );
        assert_eq!(SealedHeader::decode(&[]), Err(DatagramError::TooShort));
        assert_eq!(HandshakeHeader::decode(&good), Err(DatagramError::Type));
    }

    proptest! {
        #[test]
        fn a_receiver_index_keeps_its_parts(
            slot in 0..ReceiverIndex::SLOT_LIMIT, epoch: u32, lane in any_lane(),
        ) {
            let index = ReceiverIndex::new(slot, epoch, lane);
            prop_assert_eq!(index.slot(), slot);
            prop_assert_eq!(index.epoch_parity(), epoch % 2);
            prop_assert_eq!(index.lane(), Some(lane));
            prop_assert_eq!(ReceiverIndex::from_u32(index.as_u32()), index);
        }

        #[test]
        fn a_sealed_header_survives_the_wire(
            version in 1..16u8, kind in any_kind(),
            slot: u32, epoch: u32, lane in any_lane(), counter: u64,
        ) {
            let receiver = ReceiverIndex::new(slot, epoch, lane);
            let header = SealedHeader { version, kind, receiver, counter };
            prop_assert_eq!(SealedHeader::decode(&header.encode()), Ok(header));
            let relay = RelayHeader { version, circuit: receiver, counter };
            prop_assert_eq!(RelayHeader::decode(&relay.encode()), Ok(relay));
        }

        #[test]
        fn a_handshake_header_survives_the_wire(
            ty in any_handshake_type(), generation: u16, sender: u32, receiver: u32,
        ) {
            let header = HandshakeHeader { ty, generation, sender, receiver };
            prop_assert_eq!(HandshakeHeader::decode(&header.encode()), Ok(header));
        }

        #[test]
        fn whatever_decodes_encodes_to_the_same_bytes(
            first in prop_oneof![any::<u8>(), Just(0x11), Just(0x81), Just(0x82), Just(0x91)],
            rest in proptest::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 0..40),
        ) {
            let bytes = [vec![first], rest].concat();
            if let Ok(header) = SealedHeader::decode(&bytes) {
                prop_assert_eq!(&header.encode(), &bytes[..16]);
            }
            if let Ok(header) = RelayHeader::decode(&bytes) {
                prop_assert_eq!(&header.encode(), &bytes[..16]);
            }
            if let Ok(header) = HandshakeHeader::decode(&bytes) {
                prop_assert_eq!(&header.encode(), &bytes[..16]);
            }
        }
    }
}
