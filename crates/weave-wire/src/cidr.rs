//! Networks and interface addresses in CIDR notation.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::WireError;

/// An IP network: an address whose host bits are all zero, and a prefix length.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    network: IpAddr,
    prefix_len: u8,
}

impl Cidr {
    /// The network of this address and length.
    ///
    /// # Errors
    /// When the prefix is too long for the address, or host bits are set.
    pub fn new(network: IpAddr, prefix_len: u8) -> Result<Self, WireError> {
        let cidr = Self::containing(network, prefix_len)?;
        if cidr.network != network {
            return Err(WireError::HostBits {
                given: format!("{network}/{prefix_len}"),
                network: cidr.to_string(),
            });
        }
        Ok(cidr)
    }

    /// The network of this length that holds `ip`.
    ///
    /// # Errors
    /// When the prefix is too long for the address.
    pub fn containing(ip: IpAddr, prefix_len: u8) -> Result<Self, WireError> {
        let most = bits_of(ip);
        if prefix_len > most {
            return Err(WireError::PrefixLen {
                given: u32::from(prefix_len),
                most,
            });
        }
        Ok(Self {
            network: masked(ip, prefix_len),
            prefix_len,
        })
    }

    /// The network address.
    pub const fn network(&self) -> IpAddr {
        self.network
    }

    /// Length of the prefix in bits.
    pub const fn prefix_len(&self) -> u8 {
        self.prefix_len
    }

    /// Network address and prefix length, when this is an IPv4 network.
    pub const fn v4(&self) -> Option<(Ipv4Addr, u8)> {
        match self.network {
            IpAddr::V4(network) => Some((network, self.prefix_len)),
            IpAddr::V6(_) => None,
        }
    }

    /// Whether the address lies in this network. Families never mix.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.network.is_ipv4() == ip.is_ipv4() && masked(ip, self.prefix_len) == self.network
    }

    /// Whether every address of `other` lies in this network.
    pub fn covers(&self, other: &Self) -> bool {
        self.prefix_len <= other.prefix_len && self.contains(other.network)
    }

    /// Whether the two networks share an address.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// The lowest address: the network address itself.
    pub const fn first(&self) -> IpAddr {
        self.network
    }

    /// The highest address; in IPv4 the broadcast address.
    pub fn last(&self) -> IpAddr {
        match self.network {
            IpAddr::V4(ip) => {
                let host = u32::MAX
                    .checked_shr(u32::from(self.prefix_len))
                    .unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() | host))
            }
            IpAddr::V6(ip) => {
                let host = u128::MAX
                    .checked_shr(u32::from(self.prefix_len))
                    .unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() | host))
            }
        }
    }

    /// Number of addresses, network and broadcast included; saturates for `::/0`.
    pub fn size(&self) -> u128 {
        let host_bits = u32::from(bits_of(self.network) - self.prefix_len);
        1u128.checked_shl(host_bits).unwrap_or(u128::MAX)
    }

    /// The address of this IPv6 network that ends in the 32 bits of an IPv4 address; nothing in
    /// IPv4, and where the prefix leaves no room for them.
    pub const fn numbered(&self, number: Ipv4Addr) -> Option<Ipv6Addr> {
        match self.network {
            IpAddr::V6(network) if self.prefix_len <= 96 => Some(Ipv6Addr::from_bits(
                network.to_bits() | number.to_bits() as u128,
            )),
            IpAddr::V6(_) | IpAddr::V4(_) => None,
        }
    }
}

/// The number of an address: an IPv4 address itself, the last 32 bits of an IPv6 one, see
/// [`Cidr::numbered`].
pub const fn number_of(ip: IpAddr) -> Ipv4Addr {
    match ip {
        IpAddr::V4(ip) => ip,
        IpAddr::V6(ip) => {
            let [.., a, b, c, d] = ip.octets();
            Ipv4Addr::new(a, b, c, d)
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix_len)
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cidr({self})")
    }
}

impl FromStr for Cidr {
    type Err = WireError;

    fn from_str(text: &str) -> Result<Self, WireError> {
        let (ip, prefix_len) = split(text).ok_or_else(|| WireError::Text {
            input: text.to_owned(),
            expected: "a network such as `10.32.0.0/12`",
        })?;
        Self::new(ip, prefix_len)
    }
}

/// An address as an interface has it: the address, and the prefix of the network it is on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceAddr {
    ip: IpAddr,
    prefix_len: u8,
}

impl InterfaceAddr {
    /// An address on a network of this prefix length.
    ///
    /// # Errors
    /// When the prefix is too long for the address.
    pub fn new(ip: IpAddr, prefix_len: u8) -> Result<Self, WireError> {
        Cidr::containing(ip, prefix_len)?;
        Ok(Self { ip, prefix_len })
    }

    /// The address itself.
    pub const fn ip(&self) -> IpAddr {
        self.ip
    }

    /// Length of the prefix in bits.
    pub const fn prefix_len(&self) -> u8 {
        self.prefix_len
    }

    /// The network that the address is on.
    pub fn network(&self) -> Cidr {
        Cidr {
            network: masked(self.ip, self.prefix_len),
            prefix_len: self.prefix_len,
        }
    }
}

impl fmt::Display for InterfaceAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix_len)
    }
}

impl fmt::Debug for InterfaceAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InterfaceAddr({self})")
    }
}

impl FromStr for InterfaceAddr {
    type Err = WireError;

    fn from_str(text: &str) -> Result<Self, WireError> {
        let (ip, prefix_len) = split(text).ok_or_else(|| WireError::Text {
            input: text.to_owned(),
            expected: "an address with prefix length such as `10.32.0.1/12`",
        })?;
        Self::new(ip, prefix_len)
    }
}

fn split(text: &str) -> Option<(IpAddr, u8)> {
    let (ip, len) = text.split_once('/')?;
    if len.is_empty() || !len.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    Some((ip.parse().ok()?, len.parse().ok()?))
}

const fn bits_of(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// Clears the host bits; a prefix longer than the address keeps all bits.
fn masked(ip: IpAddr, prefix_len: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = !u32::MAX.checked_shr(u32::from(prefix_len)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() & mask))
        }
        IpAddr::V6(ip) => {
            let mask = !u128::MAX.checked_shr(u32::from(prefix_len)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & mask))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().expect("a network")
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn host_bits_are_refused_and_the_network_is_named() {
        let error = "10.32.0.1/12"
            .parse::<Cidr>()
            .expect_err("host bits are set");
        assert_eq!(
            error.to_string(),
            "`10.32.0.1/12` has host bits set; the network is `10.32.0.0/12`"
        );
    }

    #[test]
    fn sloppy_text_is_refused() {
        for text in [
            "",
            "10.32.0.0",
            "10.32.0.0/",
            "10.32.0.0/+8",
            "10.32.0.0/33",
            "::/129",
            "10.0/8",
        ] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
            assert!(text.parse::<InterfaceAddr>().is_err(), "{text}");
        }
    }

    #[test]
    fn bounds_and_sizes_are_those_of_the_textbook() {
        assert_eq!(cidr("10.32.0.0/12").last(), ip("10.47.255.255"));
        assert_eq!(cidr("10.32.0.0/12").size(), 1 << 20);
        assert_eq!(cidr("10.0.0.7/32").last(), ip("10.0.0.7"));
        assert_eq!(cidr("0.0.0.0/0").last(), ip("255.255.255.255"));
        assert_eq!(cidr("fd00::/64").last(), ip("fd00::ffff:ffff:ffff:ffff"));
        assert_eq!(cidr("::/0").size(), u128::MAX);
        assert_eq!(cidr("::1/128").size(), 1);
    }

    #[test]
    fn families_never_mix() {
        assert!(!cidr("0.0.0.0/0").contains(ip("::1")));
        assert!(!cidr("::/0").contains(ip("127.0.0.1")));
        assert!(!cidr("::/0").overlaps(&cidr("0.0.0.0/0")));
    }

    #[test]
    fn an_address_has_room_for_a_number_behind_a_prefix_of_96_bits() {
        let number = Ipv4Addr::new(10, 32, 0, 5);
        for (network, address) in [
            ("fd00:5::/64", Some("fd00:5::a20:5")),
            ("fd00:5::1:0:0/96", Some("fd00:5::1:a20:5")),
            ("fd00:5::/97", None),
            ("10.32.0.0/12", None),
        ] {
            let numbered = cidr(network).numbered(number).map(IpAddr::from);
            assert_eq!(numbered, address.map(ip), "{network}");
        }
        assert_eq!(number_of(number.into()), number);
    }

    #[test]
    fn an_interface_address_knows_its_network() {
        let addr: InterfaceAddr = "10.32.0.1/12".parse().expect("an address");
        assert_eq!(addr.network(), cidr("10.32.0.0/12"));
        assert_eq!(addr.to_string(), "10.32.0.1/12");
    }

    fn any_cidr() -> impl Strategy<Value = Cidr> {
        prop_oneof![
            (any::<Ipv4Addr>(), 0..=32u8).prop_map(|(ip, len)| (IpAddr::V4(ip), len)),
            (any::<Ipv6Addr>(), 0..=128u8).prop_map(|(ip, len)| (IpAddr::V6(ip), len)),
        ]
        .prop_map(|(ip, len)| Cidr::containing(ip, len).expect("length in range"))
    }

    proptest! {
        #[test]
        fn every_network_survives_text(net in any_cidr()) {
            prop_assert_eq!(net.to_string().parse(), Ok(net));
        }

        #[test]
        fn a_network_holds_its_bounds(net in any_cidr()) {
            prop_assert!(net.contains(net.first()) && net.contains(net.last()));
            prop_assert!(net.covers(&net) && net.overlaps(&net));
        }

        #[test]
        fn addresses_with_a_number_lie_in_their_network_and_differ_as_the_numbers_do(
            prefix: Ipv6Addr, len in 0..=96u8, number: Ipv4Addr,
        ) {
            let net = Cidr::containing(prefix.into(), len).expect("length in range");
            let address = IpAddr::from(net.numbered(number).expect("there is room"));
            prop_assert!(net.contains(address));
            prop_assert_eq!(number_of(address), number);
        }

        #[test]
        fn overlap_means_that_one_covers_the_other(a in any_cidr(), b in any_cidr()) {
            let shares = a.contains(b.first()) || b.contains(a.first());
            prop_assert_eq!(a.overlaps(&b), shares);
        }

        #[test]
        fn arbitrary_text_never_panics(text: String) {
            let _ = text.parse::<Cidr>();
            let _ = text.parse::<InterfaceAddr>();
        }
    }
}
