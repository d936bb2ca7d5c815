//! Links: look up, make, change, move, delete; and the flags of bridge ports.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the kernel's attributes are an open set, of which we read a few"
)]

use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use netlink_packet_route::link::{
    BridgePortState, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoVeth, LinkAttribute,
    LinkFlags, LinkInfo as InfoAttribute, LinkMessage,
};
use rtnetlink::{LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth};

use super::{Netlink, failed};
use crate::{Error, MacBytes, NetNs, Result, linkname};

/// Pause between two looks at a port's state.
const FORWARDING_POLL: Duration = Duration::from_millis(2);

/// One network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkInfo {
    /// Kernel index, unique in the namespace.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Hardware address, where it has one of six bytes.
    pub mac: Option<MacBytes>,
    /// Largest IP packet, bytes.
    pub mtu: u32,
    /// Whether it is set up (not whether it has carrier).
    pub up: bool,
    /// Index of the bridge it is a port of.
    pub master: Option<u32>,
    /// Whether it is a port of a bridge and forwards frames.
    pub forwarding: bool,
    /// Its flags as a port of a bridge, those that this kernel tells.
    pub port: PortFlags,
    /// Index of a veth's other end, in the namespace where that is.
    pub peer: Option<u32>,
    /// `bridge`, `veth`, `tun` …; `None` for hardware and loopback.
    pub kind: Option<String>,
    /// What it has carried.
    pub traffic: LinkTraffic,
}

/// What an interface has carried since it was made. What the kernel hands on in one piece is one
/// packet, though it be a super-frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkTraffic {
    /// Packets that came in by it: of a veth, those that its other end sent.
    pub received_packets: u64,
    /// Their bytes, with Ethernet headers.
    pub received_bytes: u64,
    /// Packets that went out by it.
    pub sent_packets: u64,
    /// Their bytes.
    pub sent_bytes: u64,
}

/// The other end of a veth that is being made.
#[derive(Debug, Clone, Copy)]
pub struct VethPeer<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its hardware address; `None` lets the kernel choose.
    pub mac: Option<MacBytes>,
    /// The namespace it is born in; `None` for that of the first end.
    pub netns: Option<&'a NetNs>,
}

/// Flags of a bridge port; `None` leaves one as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PortFlags {
    /// Whether unicast frames to unknown MACs go out of this port.
    pub unicast_flood: Option<bool>,
    /// Whether source MACs seen on this port are learned.
    pub learning: Option<bool>,
    /// Isolated ports do not reach each other.
    pub isolated: Option<bool>,
    /// Whether a frame may leave by the port that it came from.
    pub hairpin: Option<bool>,
}

impl Netlink {
    /// All links of the namespace.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub async fn links(&self) -> Result<Vec<LinkInfo>> {
        let _one = self.listing.lock().await;
        let links: Vec<_> = self
            .handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(failed("list", "network interfaces"))?;
        Ok(links.iter().map(LinkInfo::from_message).collect())
    }

    /// The link called `name`, if there is one.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub async fn find_link(&self, name: &str) -> Result<Option<LinkInfo>> {
        linkname::validate(name)?;
        let mut found = Box::pin(self.handle.link().get().match_name(name).execute());
        match found
            .try_next()
            .await
            .map_err(failed("look up interface", name))
        {
            Ok(message) => Ok(message.as_ref().map(LinkInfo::from_message)),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The link called `name`.
    ///
    /// # Errors
    /// [`Error::NoSuchLink`], or the kernel's refusal.
    pub async fn link(&self, name: &str) -> Result<LinkInfo> {
        let found = self.find_link(name).await?;
        found.ok_or_else(|| Error::NoSuchLink {
            name: name.to_owned(),
        })
    }

    /// Makes a bridge, down, without multicast snooping and without spanning tree.
    ///
    /// # Errors
    /// EEXIST when the name is taken, or the kernel's refusal.
    pub async fn add_bridge(&self, name: &str, mac: MacBytes, mtu: u32) -> Result<()> {
        linkname::validate(name)?;
        let message = LinkMessageBuilder::<LinkBridge>::new(name)
            .mcast_snooping(false)
            .address(mac.to_vec())
            .mtu(mtu)
            .build();
        let done = self.handle.link().add(message).execute().await;
        done.map_err(failed("create bridge", name))
    }

    /// Makes a veth pair, both ends down.
    ///
    /// # Errors
    /// EEXIST when a name is taken, or the kernel's refusal.
    pub async fn add_veth(&self, name: &str, mtu: u32, peer: VethPeer<'_>) -> Result<()> {
        linkname::validate(name)?;
        linkname::validate(peer.name)?;
        let mut other = LinkMessageBuilder::<LinkUnspec>::new()
            .name(peer.name)
            .mtu(mtu);
        if let Some(mac) = peer.mac {
            other = other.address(mac.to_vec());
        }
        if let Some(netns) = peer.netns {
            other = other.setns_by_fd(netns.as_fd().as_raw_fd());
        }
        let message = LinkMessageBuilder::<LinkVeth>::new(name, peer.name)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(other.build())))
            .mtu(mtu)
            .build();
        let done = self.handle.link().add(message).execute().await;
        done.map_err(failed("create veth", format!("{name} with {}", peer.name)))
    }

    /// Makes `port` a port of `bridge`.
    ///
    /// # Errors
    /// When either is missing, or the kernel's refusal.
    pub async fn set_master(&self, port: &str, bridge: &str) -> Result<()> {
        let master = self.link(bridge).await?.index;
        let what = failed("attach to bridge", format!("{bridge} interface {port}"));
        self.change(port, |link| link.controller(master))
            .await
            .map_err(what)
    }

    /// Sets the link up.
    ///
    /// # Errors
    /// When it is missing, or the kernel's refusal.
    pub async fn set_up(&self, name: &str) -> Result<()> {
        let what = failed("set up interface", name);
        self.change(name, LinkMessageBuilder::up)
            .await
            .map_err(what)
    }

    /// Sets the link down.
    ///
    /// # Errors
    /// When it is missing, or the kernel's refusal.
    pub async fn set_down(&self, name: &str) -> Result<()> {
        let what = failed("set down interface", name);
        self.change(name, LinkMessageBuilder::down)
            .await
            .map_err(what)
    }

    /// Sets the hardware address.
    ///
    /// # Errors
    /// When the link is missing, or the kernel's refusal.
    pub async fn set_mac(&self, name: &str, mac: MacBytes) -> Result<()> {
        let what = failed("set the MAC of", name);
        self.change(name, |link| link.address(mac.to_vec()))
            .await
            .map_err(what)
    }

    /// Sets the MTU.
    ///
    /// # Errors
    /// When the link is missing, or the kernel's refusal.
    pub async fn set_mtu(&self, name: &str, mtu: u32) -> Result<()> {
        let what = failed("set the MTU of", name);
        self.change(name, |link| link.mtu(mtu)).await.map_err(what)
    }

    /// Gives a link (that is down) another name.
    ///
    /// # Errors
    /// When it is missing, the name is taken, or the kernel's refusal.
    pub async fn rename(&self, name: &str, new_name: &str) -> Result<()> {
        linkname::validate(new_name)?;
        let what = failed("rename interface", format!("{name} to {new_name}"));
        // By index, since the name is what changes.
        let index = self.link(name).await?.index;
        let message = LinkMessageBuilder::<LinkUnspec>::new()
            .index(index)
            .name(new_name)
            .build();
        self.handle
            .link()
            .change(message)
            .execute()
            .await
            .map_err(what)
    }

    /// Moves a link to another namespace, under another name. It arrives down.
    ///
    /// # Errors
    /// When it is missing, the name is taken over there, or the kernel's refusal.
    pub async fn move_to(&self, name: &str, netns: &NetNs, new_name: &str) -> Result<()> {
        linkname::validate(new_name)?;
        let index = self.link(name).await?.index;
        let message = LinkMessageBuilder::<LinkUnspec>::new()
            .index(index)
            .name(new_name)
            .setns_by_fd(netns.as_fd().as_raw_fd())
            .build();
        let what = failed(
            "move to another namespace interface",
            format!("{name} as {new_name}"),
        );
        self.handle
            .link()
            .change(message)
            .execute()
            .await
            .map_err(what)
    }

    /// Deletes a link (for a veth: both ends). Says whether it was there.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub async fn delete_link(&self, name: &str) -> Result<bool> {
        let Some(link) = self.find_link(name).await? else {
            return Ok(false);
        };
        let done = self.handle.link().del(link.index).execute().await;
        match done.map_err(failed("delete interface", name)) {
            Ok(()) => Ok(true),
            Err(error) if error.is_absent() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Sets flags of a bridge port.
    ///
    /// # Errors
    /// When it is no port of a bridge, or the kernel does not know a flag.
    pub async fn set_port_flags(&self, port: &str, flags: PortFlags) -> Result<()> {
        let mut builder = LinkBridgePort::new(self.link(port).await?.index);
        if let Some(on) = flags.unicast_flood {
            builder = builder.flood(on);
        }
        if let Some(on) = flags.learning {
            builder = builder.learning(on);
        }
        if let Some(on) = flags.isolated {
            builder = builder.isolated(on);
        }
        if let Some(on) = flags.hairpin {
            builder = builder.hairpin(on);
        }
        let done = self.handle.link().set_port(builder.build()).execute().await;
        done.map_err(failed("set flags of bridge port", port))
    }

    /// Waits until a bridge port forwards frames, which a port does a moment after both ends of
    /// its cable are up; says whether it does.
    ///
    /// # Errors
    /// When the port is missing, or the kernel's refusal.
    pub async fn wait_forwarding(&self, port: &str, patience: Duration) -> Result<bool> {
        let end = Instant::now() + patience;
        while !self.link(port).await?.forwarding {
            if Instant::now() >= end {
                return Ok(false);
            }
            tokio::time::sleep(FORWARDING_POLL).await;
        }
        Ok(true)
    }

    async fn change(
        &self,
        name: &str,
        with: impl FnOnce(LinkMessageBuilder<LinkUnspec>) -> LinkMessageBuilder<LinkUnspec>,
    ) -> Result<(), rtnetlink::Error> {
        let message = with(LinkUnspec::new_with_name(name)).build();
        self.handle.link().change(message).execute().await
    }
}

impl LinkInfo {
    fn from_message(message: &LinkMessage) -> Self {
        let mut info = Self {
            index: message.header.index,
            name: String::new(),
            mac: None,
            mtu: 0,
            up: message.header.flags.contains(LinkFlags::Up),
            master: None,
            forwarding: false,
            port: PortFlags::default(),
            peer: None,
            kind: None,
            traffic: LinkTraffic::default(),
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => info.name.clone_from(name),
                LinkAttribute::Address(bytes) => info.mac = bytes.as_slice().try_into().ok(),
                LinkAttribute::Mtu(mtu) => info.mtu = *mtu,
                LinkAttribute::Controller(index) => info.master = Some(*index),
                LinkAttribute::Link(index) => info.peer = Some(*index),
                LinkAttribute::Stats64(stats) => {
                    info.traffic = LinkTraffic {
                        received_packets: stats.rx_packets,
                        received_bytes: stats.rx_bytes,
                        sent_packets: stats.tx_packets,
                        sent_bytes: stats.tx_bytes,
                    };
                }
                LinkAttribute::LinkInfo(parts) => {
                    info.kind = kind_of(parts);
                    for attribute in parts.iter().flat_map(port_attributes) {
                        info.note_port(attribute);
                    }
                }
                _ => {}
            }
        }
        info
    }

    fn note_port(&mut self, attribute: &InfoBridgePort) {
        match attribute {
            InfoBridgePort::State(state) => {
                self.forwarding = *state == BridgePortState::Forwarding;
            }
            InfoBridgePort::UnicastFlood(on) => self.port.unicast_flood = Some(*on),
            InfoBridgePort::Learning(on) => self.port.learning = Some(*on),
            InfoBridgePort::Isolated(on) => self.port.isolated = Some(*on),
            InfoBridgePort::HairpinMode(on) => self.port.hairpin = Some(*on),
            _ => {}
        }
    }
}

impl PortFlags {
    /// Whether a port with these flags is as `wanted`; flags that either does not tell agree.
    #[must_use]
    pub fn agrees_with(&self, wanted: &Self) -> bool {
        let agree = |a: Option<bool>, b: Option<bool>| a.zip(b).is_none_or(|(a, b)| a == b);
        agree(self.unicast_flood, wanted.unicast_flood)
            && agree(self.learning, wanted.learning)
            && agree(self.isolated, wanted.isolated)
            && agree(self.hairpin, wanted.hairpin)
    }
}

fn port_attributes(part: &InfoAttribute) -> &[InfoBridgePort] {
    match part {
        InfoAttribute::PortData(InfoPortData::BridgePort(port)) => port,
        _ => &[],
    }
}

fn kind_of(parts: &[InfoAttribute]) -> Option<String> {
    parts.iter().find_map(|part| match part {
        InfoAttribute::Kind(InfoKind::Other(kind)) => Some(kind.clone()),
        InfoAttribute::Kind(kind) => Some(kind.to_string()),
        _ => None,
    })
}
