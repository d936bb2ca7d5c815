//! Ethernet addresses.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use crate::WireError;

/// An Ethernet (MAC-48) address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// All stations.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Whether this addresses a group; broadcast is one.
    pub const fn is_multicast(&self) -> bool {
        self.0[0] & 1 == 1
    }

    /// Whether this addresses all stations.
    pub fn is_broadcast(&self) -> bool {
        *self == Self::BROADCAST
    }

    /// The link-local IPv6 address that a station makes of its own (RFC 4291, appendix A).
    pub const fn link_local(&self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        let interface = [a ^ 2, b, c, 0xff, 0xfe, d, e, f];
        Ipv6Addr::from_bits((0xfe80_u128 << 112) | u64::from_be_bytes(interface) as u128)
    }

    /// The station that makes this address of its own, if it is such a one.
    pub const fn of_link_local(ip: Ipv6Addr) -> Option<Self> {
        match ip.octets() {
            [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a, b, c, 0xff, 0xfe, d, e, f] => {
                Some(Self([a ^ 2, b, c, d, e, f]))
            }
            _ => None,
        }
    }

    /// The six bytes in transmission order.
    pub const fn as_bytes(&self) -> &[u8; 6] {
        &self.0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mac({self})")
    }
}

impl FromStr for Mac {
    type Err = WireError;

    fn from_str(text: &str) -> Result<Self, WireError> {
        parse(text).ok_or_else(|| WireError::Text {
            input: text.to_owned(),
            expected: "a MAC address such as `02:42:0a:20:00:01`",
        })
    }
}

fn parse(text: &str) -> Option<Mac> {
    let mut bytes = [0; 6];
    let mut groups = text.split(':');
    for byte in &mut bytes {
        let digits = groups.next()?;
        if digits.len() != 2 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    groups.next().is_none().then_some(Mac(bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_link_local_address_has_the_interface_identifier_of_the_rfc() {
        let mac = Mac([0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde]);
        assert_eq!(mac.link_local().to_string(), "fe80::3656:78ff:fe9a:bcde");
        assert_eq!(Mac::of_link_local(mac.link_local()), Some(mac));
        for other in [
            "fe80::1",
            "fd00::3656:78ff:fe9a:bcde",
            "fe80:0:0:1:3656:78ff:fe9a:bcde",
        ] {
            assert_eq!(Mac::of_link_local(other.parse().unwrap()), None, "{other}");
        }
    }

    #[test]
    fn group_addresses_are_recognised() {
        assert!(Mac::BROADCAST.is_multicast() && Mac::BROADCAST.is_broadcast());
        let mdns = Mac([0x01, 0x00, 0x5e, 0, 0, 0xfb]);
        assert!(mdns.is_multicast() && !mdns.is_broadcast());
        assert!(!Mac([0x02, 0x42, 0, 0, 0, 1]).is_multicast());
    }

    #[test]
    fn sloppy_text_is_refused() {
        for text in [
            "",
            "2:42:a:20:0:1",
            "02:42:0a:20:00",
            "02:42:0a:20:00:01:02",
            "+2:42:0a:20:00:01",
        ] {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
        assert_eq!(
            "02:42:0A:20:00:01".parse(),
            Ok(Mac([2, 0x42, 0x0a, 0x20, 0, 1]))
        );
    }

    proptest! {
        #[test]
        fn every_address_survives_text(bytes: [u8; 6]) {
            prop_assert_eq!(Mac(bytes).to_string().parse(), Ok(Mac(bytes)));
        }

        #[test]
        fn arbitrary_text_never_panics(text: String) {
            let _ = text.parse::<Mac>();
        }
    }
}
