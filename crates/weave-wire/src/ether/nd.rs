//! Neighbour discovery of IPv6 (RFC 4861).

use std::net::Ipv6Addr;

use super::{ETHERNET_HEADER_LEN, EtherType, Ipv6View};
use crate::Mac;

/// Length of the frame that [`neighbour_advertisement`] builds, in bytes.
pub const NEIGHBOUR_ADVERTISEMENT_LEN: usize = ETHERNET_HEADER_LEN + 40 + ICMP_LEN as usize;

const ICMP_V6: u8 = 58;
const HOP_LIMIT: u8 = 255;
/// The advertisement and its one option.
const ICMP_LEN: u8 = 24 + 8;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: Mac = Mac([0x33, 0x33, 0, 0, 0, 1]);
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// A message of neighbour discovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NdView {
    /// A router says that it is there.
    RouterAdvertisement,
    /// Who has the target address? The IP source is `::` in a probe (RFC 4862).
    NeighbourSolicitation {
        /// The address asked for.
        target: Ipv6Addr,
    },
    /// The sender has the target address.
    NeighbourAdvertisement {
        /// The address that the sender has.
        target: Ipv6Addr,
    },
    /// A router names a better next hop.
    Redirect,
}

impl NdView {
    /// Reads a packet, looking behind extension headers.
    ///
    /// `None` when it is not neighbour discovery, incomplete, or came through a router (hop
    /// limit other than 255), in which case every receiver ignores it.
    pub fn of(packet: &Ipv6View<'_>) -> Option<Self> {
        let (ICMP_V6, icmp) = packet.upper()? else {
            return None;
        };
        if packet.hop_limit != HOP_LIMIT {
            return None;
        }
        let target = || {
            let octets = icmp.get(8..24)?.first_chunk::<16>()?;
            Some(Ipv6Addr::from(*octets))
        };
        match icmp.first()? {
            134 => Some(Self::RouterAdvertisement),
            135 => target().map(|target| Self::NeighbourSolicitation { target }),
            136 => target().map(|target| Self::NeighbourAdvertisement { target }),
            137 => Some(Self::Redirect),
            _ => None,
        }
    }
}

/// The frame that answers a solicitation for `target` from `asker` at `to`: `mac` has it.
///
/// A probe (asker `::`) is answered to all nodes, as RFC 4861 §7.2.4 says.
pub fn neighbour_advertisement(
    asker: Ipv6Addr,
    to: Mac,
    target: Ipv6Addr,
    mac: Mac,
) -> [u8; NEIGHBOUR_ADVERTISEMENT_LEN] {
    let (dst, dst_mac, flags) = if asker.is_unspecified() {
        (ALL_NODES, ALL_NODES_MAC, OVERRIDE)
    } else {
        (asker, to, SOLICITED | OVERRIDE)
    };
    let mut icmp = [0; ICMP_LEN as usize];
    super::fill(
        &mut icmp,
        &[
            &[136, 0, 0, 0, flags, 0, 0, 0],
            &target.octets(),
            &[2, 1],
            &mac.0,
        ],
    );
    let [c0, c1] = checksum(target, dst, &icmp).to_be_bytes();
    [icmp[2], icmp[3]] = [c0, c1];

    let mut frame = [0; NEIGHBOUR_ADVERTISEMENT_LEN];
    let parts: [&[u8]; 7] = [
        &dst_mac.0,
        &mac.0,
        &EtherType::IPV6.0.to_be_bytes(),
        &[0x60, 0, 0, 0, 0, ICMP_LEN, ICMP_V6, HOP_LIMIT],
        &target.octets(),
        &dst.octets(),
        &icmp,
    ];
    super::fill(&mut frame, &parts);
    frame
}

/// The Internet checksum over pseudo header and message (RFC 8200 §8.1).
fn checksum(src: Ipv6Addr, dst: Ipv6Addr, icmp: &[u8; ICMP_LEN as usize]) -> u16 {
    let words = |bytes: &[u8]| -> u32 {
        bytes
            .as_chunks::<2>()
            .0
            .iter()
            .map(|word| u32::from(u16::from_be_bytes(*word)))
            .sum()
    };
    let mut sum = words(&src.octets()) + words(&dst.octets()) + words(icmp);
    sum += u32::from(ICMP_LEN) + u32::from(ICMP_V6);
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    let [_, _, high, low] = sum.to_be_bytes();
    !u16::from_be_bytes([high, low])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ether::EthernetView;

    const TARGET: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
    const ASKER: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
    const MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);
    const TO: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn message(ty: u8, hop_limit: u8) -> Vec<u8> {
        let mut bytes = vec![0x60, 0, 0, 0, 0, 24, 58, hop_limit];
        bytes.extend(ASKER.octets());
        bytes.extend(ALL_NODES.octets());
        bytes.extend([ty, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend(TARGET.octets());
        bytes
    }

    fn read(packet: &[u8]) -> Option<NdView> {
        NdView::of(&Ipv6View::parse(packet)?)
    }

    #[test]
    fn the_advertisement_answers_the_asker() {
        let frame = neighbour_advertisement(ASKER, TO, TARGET, MAC);
        let view = EthernetView::parse(&frame).expect("a frame");
        assert_eq!((view.dst(), view.src()), (TO, MAC));
        let packet = Ipv6View::of(&view).expect("a packet");
        assert_eq!((packet.src, packet.dst), (TARGET, ASKER));
        assert_eq!(
            NdView::of(&packet),
            Some(NdView::NeighbourAdvertisement { target: TARGET })
        );
        assert_eq!(packet.payload[4], 0x60);
        assert_eq!(packet.payload[24..], [2, 1, 2, 0, 0, 0, 0, 2]);
    }

    #[test]
    fn a_probe_is_answered_to_all_nodes() {
        let frame = neighbour_advertisement(Ipv6Addr::UNSPECIFIED, TO, TARGET, MAC);
        let view = EthernetView::parse(&frame).expect("a frame");
        let packet = Ipv6View::of(&view).expect("a packet");
        assert_eq!((view.dst(), packet.dst), (ALL_NODES_MAC, ALL_NODES));
        assert_eq!(packet.payload[4], 0x20);
    }

    #[test]
    fn the_types_are_told_apart() {
        assert_eq!(read(&message(134, 255)), Some(NdView::RouterAdvertisement));
        assert_eq!(
            read(&message(135, 255)),
            Some(NdView::NeighbourSolicitation { target: TARGET })
        );
        assert_eq!(
            read(&message(136, 255)),
            Some(NdView::NeighbourAdvertisement { target: TARGET })
        );
        assert_eq!(read(&message(137, 255)), Some(NdView::Redirect));
        assert_eq!(read(&message(128, 255)), None);
        assert_eq!(read(&message(135, 254)), None);
        let whole = message(135, 255);
        assert_eq!(read(&whole[..whole.len() - 1]), None);
    }

    proptest! {
        #[test]
        fn the_checksum_adds_up(asker: u128, target: u128, mac: [u8; 6]) {
            let frame = neighbour_advertisement(asker.into(), TO, target.into(), Mac(mac));
            let packet = Ipv6View::parse(&frame[14..]).expect("a packet");
            let icmp = packet.payload.first_chunk().expect("a whole message");
            prop_assert_eq!(checksum(packet.src, packet.dst, icmp), 0);
        }

        #[test]
        fn arbitrary_messages_never_panic(next_header in prop_oneof![Just(58u8), any::<u8>()], rest: Vec<u8>) {
            let mut bytes = vec![0x60, 0, 0, 0, 0, 0, next_header, 255];
            bytes.extend([0; 32]);
            bytes.extend(rest);
            let _ = read(&bytes);
        }
    }
}
