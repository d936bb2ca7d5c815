//! What crosses the overlay in neither direction: protocols between bridges, and answers of
//! routers and DHCP servers that would reconfigure containers of other hosts.

use std::net::IpAddr;

use weave_wire::Mac;
use weave_wire::ether::{
    ArpView, EtherType, EthernetView, Ipv4View, Ipv6View, NdView, is_dhcp_server,
};

use super::{DropReason, Fib};

/// A frame that was looked into, with what later decisions need.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame<'a> {
    pub(super) ethernet: EthernetView<'a>,
    pub(super) packet: Packet,
}

/// What a frame says about addresses.
#[derive(Debug, Clone, Copy)]
pub(super) enum Packet {
    Arp(ArpView),
    Ip {
        src: IpAddr,
    },
    /// Neighbour discovery, other than a router's.
    Neighbour {
        src: IpAddr,
        message: NdView,
    },
    /// Nothing that concerns us.
    Other,
}

/// Multicast groups of routers: all of them (RFC 4291, RFC 1112), and those that listen to reports of
/// membership (RFC 3810, RFC 3376).
const ROUTERS: [Mac; 4] = [
    Mac([0x33, 0x33, 0, 0, 0, 0x02]),
    Mac([0x33, 0x33, 0, 0, 0, 0x16]),
    Mac([0x01, 0x00, 0x5e, 0, 0, 0x02]),
    Mac([0x01, 0x00, 0x5e, 0, 0, 0x16]),
];

impl Frame<'_> {
    /// Whether it is what each interface sends when it comes up, to whoever may care: it says
    /// nothing that a session would have to be made for.
    pub(super) fn is_announcement(&self) -> bool {
        match self.packet {
            Packet::Neighbour {
                src: IpAddr::V6(src),
                ..
            } => src.is_unspecified(),
            Packet::Neighbour { .. } | Packet::Arp(_) | Packet::Ip { .. } | Packet::Other => {
                ROUTERS.contains(&self.ethernet.dst())
            }
        }
    }
}

/// Looks into a frame that may cross the overlay.
///
/// # Errors
/// The reason why it may not.
pub(super) fn admit<'a>(fib: &Fib, frame: &'a [u8]) -> Result<Frame<'a>, DropReason> {
    let ethernet = EthernetView::parse(frame).ok_or(DropReason::MalformedFrame)?;
    if ethernet.src().is_multicast() {
        return Err(DropReason::MalformedFrame);
    }
    if ethernet.is_link_local() {
        return Err(DropReason::BridgeProtocol);
    }
    // what a switch would strip may lead into another network
    if ethernet.is_stacked() {
        return Err(DropReason::StackedVlan);
    }
    let packet = match ethernet.ethertype() {
        EtherType::ARP => admit_arp(fib, &ethernet)?,
        EtherType::IPV4 => admit_v4(fib, &ethernet)?,
        EtherType::IPV6 => admit_v6(fib, &ethernet)?,
        EtherType(_) => Packet::Other,
    };
    Ok(Frame { ethernet, packet })
}

fn admit_arp(fib: &Fib, ethernet: &EthernetView<'_>) -> Result<Packet, DropReason> {
    // of hardware other than Ethernet, or incomplete
    let arp = ArpView::of(ethernet).ok_or(DropReason::MalformedFrame)?;
    neither_ignored(fib, arp.sender_ip.into(), arp.target_ip.into())?;
    Ok(Packet::Arp(arp))
}

fn admit_v4(fib: &Fib, ethernet: &EthernetView<'_>) -> Result<Packet, DropReason> {
    let packet = Ipv4View::of(ethernet).ok_or(DropReason::MalformedFrame)?;
    neither_ignored(fib, packet.src.into(), packet.dst.into())?;
    if is_dhcp_server(ethernet) {
        return Err(DropReason::DhcpServer);
    }
    Ok(Packet::Ip {
        src: packet.src.into(),
    })
}

fn admit_v6(fib: &Fib, ethernet: &EthernetView<'_>) -> Result<Packet, DropReason> {
    let packet = Ipv6View::of(ethernet).ok_or(DropReason::MalformedFrame)?;
    neither_ignored(fib, packet.src.into(), packet.dst.into())?;
    if is_dhcp_server(ethernet) {
        return Err(DropReason::DhcpServer);
    }
    let src = packet.src.into();
    let Some(message) = NdView::of(&packet) else {
        return Ok(Packet::Ip { src });
    };
    match message {
        NdView::RouterAdvertisement => return Err(DropReason::RouterAdvertisement),
        NdView::NeighbourSolicitation { target } | NdView::NeighbourAdvertisement { target } => {
            neither_ignored(fib, target.into(), target.into())?;
        }
        NdView::Redirect => {}
    }
    Ok(Packet::Neighbour { src, message })
}

fn neither_ignored(fib: &Fib, one: IpAddr, other: IpAddr) -> Result<(), DropReason> {
    if fib.ignored_ips.iter().any(|ip| *ip == one || *ip == other) {
        return Err(DropReason::IgnoredAddress);
    }
    Ok(())
}
