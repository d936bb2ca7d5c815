//! Names of peers and segments. All are derived, none is chosen: whoever holds the key or the
//! subnet computes the same identifier.

use std::fmt;
use std::str::FromStr;

use blake2::{Blake2s256, Digest};

use crate::{Cidr, Mac, WireError};

/// Identity of a peer: its Ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub [u8; 32]);

impl PeerId {
    /// The public key.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The short name that people see.
    pub fn name(&self) -> PeerName {
        let mut hash = Blake2s256::new();
        hash.update(b"weave/v1 peer name");
        hash.update(self.0);
        let hash: [u8; 32] = hash.finalize().into();
        let [first, b, c, d, e, f, ..] = hash;
        PeerName([(first | 0x02) & 0xfe, b, c, d, e, f])
    }

    /// The first eight bytes of the key, as peer records name their neighbours.
    pub fn short(&self) -> [u8; 8] {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        [a, b, c, d, e, f, g, h]
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId({})", self.name())
    }
}

impl FromStr for PeerId {
    type Err = WireError;

    fn from_str(text: &str) -> Result<Self, WireError> {
        let wrong = || WireError::Text {
            input: text.to_owned(),
            expected: "a peer key of 64 hexadecimal digits",
        };
        if text.len() != 64 || !text.is_ascii() {
            return Err(wrong());
        }
        let mut key = [0; 32];
        for (index, byte) in key.iter_mut().enumerate() {
            let digits = text.get(2 * index..2 * index + 2).ok_or_else(wrong)?;
            if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(wrong());
            }
            *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
        }
        Ok(Self(key))
    }
}

/// Short name of a peer, for people: 48 bits of a hash of its key, shown like a MAC address.
///
/// Not an identity: whatever decides anything uses the [`PeerId`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerName(pub [u8; 6]);

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Mac(self.0).fmt(f)
    }
}

impl fmt::Debug for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerName({self})")
    }
}

impl FromStr for PeerName {
    type Err = WireError;

    fn from_str(text: &str) -> Result<Self, WireError> {
        text.parse::<Mac>()
            .map(|mac| Self(mac.0))
            .map_err(|_| WireError::Text {
                input: text.to_owned(),
                expected: "a peer name such as `7a:16:dd:5b:a1:22`",
            })
    }
}

/// Names one layer-2 segment, that is, one Docker network, on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(pub u32);

impl SegmentId {
    /// The segment of a subnet; the same on every host, never 0.
    pub fn of_subnet(subnet: Cidr) -> Self {
        let hash: [u8; 32] = Blake2s256::digest(subnet.to_string()).into();
        let [a, b, c, d, ..] = hash;
        Self(u32::from_be_bytes([a, b, c, d]).max(1))
    }
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_name_is_a_locally_administered_unicast_address() {
        for byte in 0..=255 {
            let PeerName([first, ..]) = PeerId([byte; 32]).name();
            assert_eq!(first & 0x03, 0x02);
        }
    }

    #[test]
    fn names_and_keys_survive_text() {
        let peer = PeerId([0xa5; 32]);
        assert_eq!(peer.to_string().parse(), Ok(peer));
        assert_eq!(peer.name().to_string().parse(), Ok(peer.name()));
        assert!("+5".repeat(32).parse::<PeerId>().is_err());
        assert!("abcd".parse::<PeerId>().is_err());
        assert!("é".repeat(32).parse::<PeerId>().is_err());
    }

    #[test]
    fn a_short_key_is_its_prefix() {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(PeerId(key).short(), [1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn segments_differ_by_prefix_length() {
        let wide: Cidr = "10.32.0.0/12".parse().expect("a subnet");
        let narrow: Cidr = "10.32.0.0/16".parse().expect("a subnet");
        assert_ne!(SegmentId::of_subnet(wide), SegmentId::of_subnet(narrow));
    }
}
