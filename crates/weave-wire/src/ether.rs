//! Views of Ethernet frames and what they carry: ARP, IPv4, IPv6, neighbour discovery; and the
//! two answers that a router builds.
//!
//! A view borrows the frame and reads what forwarding decides on; nothing else is verified,
//! checksums in particular. A view exists only when all it gives access to is there.

mod arp;
mod flow;
mod ip;
mod nd;

pub use arp::{ARP_REPLY_LEN, ArpOp, ArpView, arp_reply};
pub use flow::flow_hash;
pub use ip::{Ipv4View, Ipv6View, is_dhcp_server};
pub use nd::{NEIGHBOUR_ADVERTISEMENT_LEN, NdView, neighbour_advertisement};

use crate::Mac;

/// Length of an Ethernet header without VLAN tags, in bytes.
pub const ETHERNET_HEADER_LEN: usize = 14;

const MAX_VLAN_TAGS: usize = 2;

/// What the payload of a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EtherType(pub u16);

impl EtherType {
    /// IPv4.
    pub const IPV4: Self = Self(0x0800);
    /// ARP.
    pub const ARP: Self = Self(0x0806);
    /// IPv6.
    pub const IPV6: Self = Self(0x86dd);

    const fn is_vlan_tag(self) -> bool {
        matches!(self.0, 0x8100 | 0x88a8)
    }
}

/// An Ethernet frame, without preamble and check sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EthernetView<'a> {
    dst: Mac,
    src: Mac,
    ethertype: EtherType,
    tags: usize,
    payload: &'a [u8],
}

impl<'a> EthernetView<'a> {
    /// Reads a frame, looking behind up to two VLAN tags.
    ///
    /// `None` when headers are incomplete, or behind the second tag is a third.
    pub fn parse(frame: &'a [u8]) -> Option<Self> {
        let (dst, rest) = frame.split_first_chunk::<6>()?;
        let (src, rest) = rest.split_first_chunk::<6>()?;
        let (mut ethertype, mut payload) = take_ethertype(rest)?;
        let mut tags = 0;
        while ethertype.is_vlan_tag() {
            tags += 1;
            if tags > MAX_VLAN_TAGS {
                return None;
            }
            let (_, rest) = payload.split_first_chunk::<2>()?;
            (ethertype, payload) = take_ethertype(rest)?;
        }
        Some(Self {
            dst: Mac(*dst),
            src: Mac(*src),
            ethertype,
            tags,
            payload,
        })
    }

    /// Destination address.
    pub const fn dst(&self) -> Mac {
        self.dst
    }

    /// Source address.
    pub const fn src(&self) -> Mac {
        self.src
    }

    /// Type of the payload behind all VLAN tags; below 1536 it is an IEEE 802.3 length.
    pub const fn ethertype(&self) -> EtherType {
        self.ethertype
    }

    /// Whether there is a VLAN tag.
    pub const fn is_tagged(&self) -> bool {
        self.tags > 0
    }

    /// Whether there is a VLAN tag behind another one (IEEE 802.1ad).
    pub const fn is_stacked(&self) -> bool {
        self.tags > 1
    }

    /// What follows the Ethernet header and VLAN tags.
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Whether the destination is one that no bridge passes on: STP, LLDP, LACP and their like.
    pub const fn is_link_local(&self) -> bool {
        matches!(self.dst.0, [0x01, 0x80, 0xc2, 0x00, 0x00, 0x00..=0x0f])
    }
}

fn take_ethertype(bytes: &[u8]) -> Option<(EtherType, &[u8])> {
    let (ethertype, rest) = bytes.split_first_chunk::<2>()?;
    Some((EtherType(u16::from_be_bytes(*ethertype)), rest))
}

/// Writes the parts behind one another; what does not fit is left out.
fn fill(buffer: &mut [u8], parts: &[&[u8]]) {
    for (to, from) in buffer.iter_mut().zip(parts.iter().copied().flatten()) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(types: &[u16], payload: &[u8]) -> Vec<u8> {
        let mut bytes = [[0xff; 6], [0x02, 0x42, 0x0a, 0x20, 0, 1]].concat();
        for (index, ethertype) in types.iter().enumerate() {
            if index > 0 {
                bytes.extend([0, 0]);
            }
            bytes.extend(ethertype.to_be_bytes());
        }
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn a_plain_frame_shows_its_addresses_and_payload() {
        let bytes = frame(&[0x0800], b"payload");
        let view = EthernetView::parse(&bytes).expect("a frame");
        assert_eq!(view.dst(), Mac::BROADCAST);
        assert_eq!(view.src().to_string(), "02:42:0a:20:00:01");
        assert_eq!(view.ethertype(), EtherType::IPV4);
        assert_eq!(view.payload(), b"payload");
        assert!(!view.is_tagged() && !view.is_link_local());
    }

    #[test]
    fn vlan_tags_are_looked_behind_but_not_without_end() {
        let one = frame(&[0x8100, 0x0806], b"x");
        let view = EthernetView::parse(&one).expect("one tag");
        assert_eq!((view.ethertype(), view.is_tagged()), (EtherType::ARP, true));
        let two = frame(&[0x88a8, 0x8100, 0x86dd], b"x");
        let view = EthernetView::parse(&two).expect("two tags");
        assert_eq!(
            (view.ethertype(), view.payload()),
            (EtherType::IPV6, &b"x"[..])
        );
        assert_eq!(
            EthernetView::parse(&frame(&[0x8100, 0x8100, 0x8100, 0x0800], b"x")),
            None
        );
    }

    #[test]
    fn incomplete_headers_are_no_frame() {
        let bytes = frame(&[0x8100, 0x0800], b"");
        for len in 0..bytes.len() {
            assert_eq!(EthernetView::parse(&bytes[..len]), None, "{len}");
        }
    }

    #[test]
    fn bridge_protocols_are_link_local() {
        let mut bytes = frame(&[0x0026], b"stp");
        bytes[..6].copy_from_slice(&[0x01, 0x80, 0xc2, 0, 0, 0]);
        assert!(
            EthernetView::parse(&bytes)
                .expect("a frame")
                .is_link_local()
        );
        bytes[5] = 0x0e;
        assert!(
            EthernetView::parse(&bytes)
                .expect("a frame")
                .is_link_local()
        );
        bytes[5] = 0x10;
        assert!(
            !EthernetView::parse(&bytes)
                .expect("a frame")
                .is_link_local()
        );
    }
}
