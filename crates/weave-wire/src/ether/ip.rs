//! IPv4 (RFC 791) and IPv6 (RFC 8200) headers, as far as forwarding decides on them.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{EtherType, EthernetView};

const UDP: u8 = 17;
const DHCP_V4: (u16, u16) = (67, 68);
const DHCP_V6: (u16, u16) = (547, 546);
const MAX_EXTENSION_HEADERS: usize = 8;

/// An IPv4 packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv4View<'a> {
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// Number of the protocol carried.
    pub proto: u8,
    /// Whether this is a fragment other than the first: the payload has no protocol header.
    pub is_later_fragment: bool,
    /// What follows the header, padding of the frame included.
    pub payload: &'a [u8],
}

impl<'a> Ipv4View<'a> {
    /// Reads the payload of a frame of type [`EtherType::IPV4`].
    ///
    /// `None` when the header is incomplete or of another version.
    pub fn parse(packet: &'a [u8]) -> Option<Self> {
        let [
            version_ihl,
            _,
            _,
            _,
            _,
            _,
            f0,
            f1,
            _,
            proto,
            _,
            _,
            rest @ ..,
        ] = packet
        else {
            return None;
        };
        let header_len = usize::from(version_ihl & 0x0f) * 4;
        if version_ihl >> 4 != 4 || header_len < 20 {
            return None;
        }
        let payload = packet.get(header_len..)?;
        let (src, rest) = rest.split_first_chunk::<4>()?;
        let (dst, _) = rest.split_first_chunk::<4>()?;
        Some(Self {
            src: Ipv4Addr::from(*src),
            dst: Ipv4Addr::from(*dst),
            proto: *proto,
            is_later_fragment: u16::from_be_bytes([*f0, *f1]) & 0x1fff != 0,
            payload,
        })
    }

    /// The packet of a frame, when it is one.
    pub fn of(frame: &EthernetView<'a>) -> Option<Self> {
        (frame.ethertype() == EtherType::IPV4)
            .then(|| Self::parse(frame.payload()))
            .flatten()
    }
}

/// An IPv6 packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv6View<'a> {
    /// Source address.
    pub src: Ipv6Addr,
    /// Destination address.
    pub dst: Ipv6Addr,
    /// Number of the protocol or extension header that follows the fixed header.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// What follows the fixed header, padding of the frame included.
    pub payload: &'a [u8],
}

impl<'a> Ipv6View<'a> {
    /// Reads the payload of a frame of type [`EtherType::IPV6`].
    ///
    /// `None` when the header is incomplete or of another version.
    pub fn parse(packet: &'a [u8]) -> Option<Self> {
        let [version, _, _, _, _, _, next_header, hop_limit, rest @ ..] = packet else {
            return None;
        };
        if version >> 4 != 6 {
            return None;
        }
        let (src, rest) = rest.split_first_chunk::<16>()?;
        let (dst, payload) = rest.split_first_chunk::<16>()?;
        Some(Self {
            src: Ipv6Addr::from(*src),
            dst: Ipv6Addr::from(*dst),
            next_header: *next_header,
            hop_limit: *hop_limit,
            payload,
        })
    }

    /// The packet of a frame, when it is one.
    pub fn of(frame: &EthernetView<'a>) -> Option<Self> {
        (frame.ethertype() == EtherType::IPV6)
            .then(|| Self::parse(frame.payload()))
            .flatten()
    }

    /// Number and bytes of the protocol behind the extension headers.
    ///
    /// `None` in later fragments, behind encryption, and where the chain is incomplete or longer
    /// than eight headers.
    pub fn upper(&self) -> Option<(u8, &'a [u8])> {
        let (mut number, mut rest) = (self.next_header, self.payload);
        for _ in 0..=MAX_EXTENSION_HEADERS {
            let len = match (number, rest) {
                // Hop-by-hop options, routing, destination options: in units of 8, first uncounted.
                (0 | 43 | 60, [_, units, ..]) => (usize::from(*units) + 1) * 8,
                // Authentication header (RFC 4302): in units of 4, minus 2.
                (51, [_, units, ..]) => (usize::from(*units) + 2) * 4,
                (44, [_, _, o0, o1, ..]) if u16::from_be_bytes([*o0, *o1]) >> 3 == 0 => 8,
                (0 | 43 | 60 | 51 | 44 | 50 | 59, _) => return None,
                _ => return Some((number, rest)),
            };
            number = *rest.first()?;
            rest = rest.get(len..)?;
        }
        None
    }
}

/// Whether the frame is from a DHCP server to a client, of either IP version.
pub fn is_dhcp_server(frame: &EthernetView<'_>) -> bool {
    if let Some(packet) = Ipv4View::of(frame) {
        return packet.proto == UDP
            && !packet.is_later_fragment
            && udp_ports(packet.payload) == Some(DHCP_V4);
    }
    let upper = Ipv6View::of(frame).and_then(|packet| packet.upper());
    matches!(upper, Some((UDP, datagram)) if udp_ports(datagram) == Some(DHCP_V6))
}

/// Source and destination port.
fn udp_ports(datagram: &[u8]) -> Option<(u16, u16)> {
    let [s0, s1, d0, d1, ..] = datagram else {
        return None;
    };
    Some((
        u16::from_be_bytes([*s0, *s1]),
        u16::from_be_bytes([*d0, *d1]),
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v4(proto: u8, fragment: u16, options: usize, payload: &[u8]) -> Vec<u8> {
        let ihl = u8::try_from(5 + options).expect("a header length");
        let mut bytes = vec![0x40 | ihl, 0, 0, 0, 0, 0];
        bytes.extend(fragment.to_be_bytes());
        bytes.extend([64, proto, 0, 0, 10, 32, 0, 1, 10, 32, 0, 2]);
        bytes.extend(vec![0; options * 4]);
        bytes.extend(payload);
        bytes
    }

    fn v6(next_header: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x60, 0, 0, 0, 0, 0, next_header, 64];
        bytes.extend(Ipv6Addr::LOCALHOST.octets());
        bytes.extend(Ipv6Addr::UNSPECIFIED.octets());
        bytes.extend(payload);
        bytes
    }

    fn framed(ethertype: EtherType, packet: &[u8]) -> Vec<u8> {
        [&[0; 12][..], &ethertype.0.to_be_bytes(), packet].concat()
    }

    fn dhcp(frame: &[u8]) -> bool {
        is_dhcp_server(&EthernetView::parse(frame).expect("a frame"))
    }

    #[test]
    fn options_are_skipped_and_fragments_told_apart() {
        let bytes = v4(6, 0x2001, 2, b"data");
        let view = Ipv4View::parse(&bytes).expect("a packet");
        assert_eq!(
            (view.src, view.dst),
            (
                "10.32.0.1".parse().expect("ip"),
                "10.32.0.2".parse().expect("ip")
            )
        );
        assert_eq!((view.proto, view.payload), (6, &b"data"[..]));
        assert!(view.is_later_fragment);
        let first = v4(6, 0x2000, 0, b"");
        assert!(!Ipv4View::parse(&first).expect("a packet").is_later_fragment);
    }

    #[test]
    fn impossible_headers_are_refused() {
        let good = v4(6, 0, 0, b"");
        assert!(Ipv4View::parse(&good).is_some());
        assert_eq!(Ipv4View::parse(&good[..19]), None);
        for first in [0x65, 0x44, 0x46, 0x4f] {
            let mut bad = good.clone();
            bad[0] = first;
            assert_eq!(Ipv4View::parse(&bad), None, "{first:#x}");
        }
        assert_eq!(Ipv6View::parse(&v6(6, b"")[..39]), None);
        assert_eq!(Ipv6View::parse(&good), None);
    }

    #[test]
    fn extension_headers_lead_to_the_protocol() {
        let hop_by_hop = [60, 0, 0, 0, 0, 0, 0, 0];
        let options = [44, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let fragment = [58, 0, 0, 1, 0, 0, 0, 9];
        let chain = [&hop_by_hop[..], &options, &fragment, b"icmp"].concat();
        let bytes = v6(0, &chain);
        let view = Ipv6View::parse(&bytes).expect("a packet");
        assert_eq!(view.upper(), Some((58, &b"icmp"[..])));
        for cut in 0..chain.len() - 4 {
            let bytes = v6(0, &chain[..cut]);
            assert_eq!(
                Ipv6View::parse(&bytes).expect("a packet").upper(),
                None,
                "{cut}"
            );
        }
        let later = v6(44, &[58, 0, 0, 0x08, 0, 0, 0, 9, 1, 2]);
        assert_eq!(Ipv6View::parse(&later).expect("a packet").upper(), None);
        let endless = v6(60, &[60, 0, 0, 0, 0, 0, 0, 0].repeat(20));
        assert_eq!(Ipv6View::parse(&endless).expect("a packet").upper(), None);
    }

    #[test]
    fn dhcp_servers_are_told_from_clients() {
        let server = [0, 67, 0, 68, 0, 8, 0, 0];
        let client = [0, 68, 0, 67, 0, 8, 0, 0];
        assert!(dhcp(&framed(EtherType::IPV4, &v4(17, 0, 0, &server))));
        assert!(!dhcp(&framed(EtherType::IPV4, &v4(17, 0, 0, &client))));
        assert!(!dhcp(&framed(EtherType::IPV4, &v4(17, 9, 0, &server))));
        assert!(!dhcp(&framed(EtherType::IPV4, &v4(6, 0, 0, &server))));
        let server = [2, 35, 2, 34, 0, 8, 0, 0];
        assert!(dhcp(&framed(EtherType::IPV6, &v6(17, &server))));
        assert!(!dhcp(&framed(EtherType::IPV6, &v6(17, &client))));
        assert!(!dhcp(&framed(EtherType::ARP, &v6(17, &server))));
    }

    proptest! {
        #[test]
        fn arbitrary_packets_never_panic(bytes: Vec<u8>, next_header: u8) {
            let _ = Ipv4View::parse(&bytes);
            let _ = Ipv4View::parse(&[&[0x4f], &bytes[..]].concat());
            let packet = v6(next_header, &bytes);
            let _ = Ipv6View::parse(&packet).and_then(|view| view.upper());
            for ethertype in [EtherType::IPV4, EtherType::IPV6] {
                dhcp(&framed(ethertype, &bytes));
                dhcp(&framed(ethertype, &packet));
            }
        }
    }
}
