//! ARP for IPv4 over Ethernet (RFC 826).

use std::net::Ipv4Addr;

use super::{ETHERNET_HEADER_LEN, EtherType, EthernetView};
use crate::Mac;

/// Length of the frame that [`arp_reply`] builds, in bytes.
pub const ARP_REPLY_LEN: usize = ETHERNET_HEADER_LEN + 28;

/// Hardware type Ethernet, protocol type IPv4, and the lengths of their addresses.
const ETHERNET_IPV4: [u8; 6] = [0, 1, 0x08, 0x00, 6, 4];

/// Operation of an ARP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ArpOp {
    /// Who has the target address?
    Request,
    /// The sender has its address.
    Reply,
    /// Anything else, such as reverse ARP.
    Other(u16),
}

/// An ARP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArpView {
    /// What it asks or says.
    pub op: ArpOp,
    /// Ethernet address of the sender.
    pub sender_mac: Mac,
    /// Address of the sender; `0.0.0.0` in a probe (RFC 5227).
    pub sender_ip: Ipv4Addr,
    /// Address that is asked for, or of the receiver.
    pub target_ip: Ipv4Addr,
}

impl ArpView {
    /// Reads the payload of a frame of type [`EtherType::ARP`].
    ///
    /// `None` when it is incomplete, or not about Ethernet and IPv4.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let (kind, rest) = payload.split_first_chunk::<6>()?;
        if *kind != ETHERNET_IPV4 {
            return None;
        }
        let (op, rest) = rest.split_first_chunk::<2>()?;
        let (sender_mac, rest) = rest.split_first_chunk::<6>()?;
        let (sender_ip, rest) = rest.split_first_chunk::<4>()?;
        let (_, rest) = rest.split_first_chunk::<6>()?;
        let (target_ip, _) = rest.split_first_chunk::<4>()?;
        Some(Self {
            op: match u16::from_be_bytes(*op) {
                1 => ArpOp::Request,
                2 => ArpOp::Reply,
                other => ArpOp::Other(other),
            },
            sender_mac: Mac(*sender_mac),
            sender_ip: Ipv4Addr::from(*sender_ip),
            target_ip: Ipv4Addr::from(*target_ip),
        })
    }

    /// The packet of a frame, when it is one.
    pub fn of(frame: &EthernetView<'_>) -> Option<Self> {
        (frame.ethertype() == EtherType::ARP)
            .then(|| Self::parse(frame.payload()))
            .flatten()
    }
}

/// The frame that answers `request`, sent to `to`: `mac` has the address asked for.
pub fn arp_reply(request: &ArpView, to: Mac, mac: Mac) -> [u8; ARP_REPLY_LEN] {
    let mut frame = [0; ARP_REPLY_LEN];
    let parts: [&[u8]; 9] = [
        &to.0,
        &mac.0,
        &EtherType::ARP.0.to_be_bytes(),
        &ETHERNET_IPV4,
        &[0, 2],
        &mac.0,
        &request.target_ip.octets(),
        &request.sender_mac.0,
        &request.sender_ip.octets(),
    ];
    super::fill(&mut frame, &parts);
    frame
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_reply_says_that_the_given_station_has_the_address() {
        let request = ArpView {
            op: ArpOp::Request,
            sender_mac: Mac([2, 0, 0, 0, 0, 1]),
            sender_ip: Ipv4Addr::new(10, 32, 0, 1),
            target_ip: Ipv4Addr::new(10, 32, 0, 2),
        };
        let mac = Mac([2, 0, 0, 0, 0, 2]);
        let frame = arp_reply(&request, request.sender_mac, mac);
        let view = EthernetView::parse(&frame).expect("a frame");
        assert_eq!((view.dst(), view.src()), (request.sender_mac, mac));
        let reply = ArpView::of(&view).expect("an ARP packet");
        assert_eq!(reply.op, ArpOp::Reply);
        assert_eq!(
            (reply.sender_mac, reply.sender_ip),
            (mac, request.target_ip)
        );
        assert_eq!(reply.target_ip, request.sender_ip);
        assert_eq!(frame[32..38], request.sender_mac.0);
    }

    proptest! {
        #[test]
        fn arbitrary_payloads_never_panic(bytes: Vec<u8>, mac: [u8; 6]) {
            let _ = ArpView::parse(&bytes);
            if let Some(view) = ArpView::parse(&[&ETHERNET_IPV4[..], &bytes].concat()) {
                let frame = arp_reply(&view, Mac(mac), Mac(mac));
                let reply = ArpView::parse(&frame[ETHERNET_HEADER_LEN..]).expect("own reply");
                prop_assert_eq!(reply.sender_ip, view.target_ip);
            }
        }
    }
}
