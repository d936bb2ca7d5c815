//! The namespace that the DNS server listens in.
//!
//! Containers of every weave network reach the server at one address, [`DNS_ADDRESS`], whatever
//! their network's subnet, and the host itself gets no address, no route and no setting for it.
//! So the address lives on the loopback of an unnamed namespace, which has one veth per weave
//! bridge. The namespace is held open by [`DnsNamespace`] alone: when the process dies, so do
//! the namespace and its veths.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use crate::netlink::{Netlink, PortFlags, Route, VethPeer};
use crate::{Error, MacBytes, NetNs, Result, bridge, linkname, sysctl, veth};

/// Where containers reach the DNS server of their own host.
///
/// Link-local, so no weave subnet and no container's default route leads there, and apart from
/// what clouds serve in that range (169.254.169.x, .170.x, .20.x, .25.x). 53.53 as in port 53.
pub const DNS_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 53, 53);

/// The server's hardware address on every bridge: locally administered, `w dns 5`. Fixed, so a
/// container's ARP entry outlives a restart of the router.
pub const DNS_MAC: MacBytes = [0x02, b'w', b'd', b'n', b's', 0x35];

/// Flags of the server's port: as a container's, but isolated.
pub const PORT_FLAGS: PortFlags = PortFlags {
    isolated: Some(true),
    ..veth::PORT_FLAGS
};

const HOST_PREFIX: &str = "vethwd";
const INSIDE_PREFIX: &str = "dns-";
const MTU: u32 = 1370;

/// The DNS namespace, with its veths.
#[derive(Debug)]
pub struct DnsNamespace {
    netns: NetNs,
    inside: Netlink,
    outside: Netlink,
    ports: BTreeMap<String, Port>,
}

#[derive(Debug, Clone)]
struct Port {
    host: String,
    inside: String,
}

impl DnsNamespace {
    /// Makes the namespace, with the address in it and no bridge yet. `host` is the namespace of
    /// the bridges.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub async fn create(host: &NetNs) -> Result<Self> {
        let netns = NetNs::unnamed()?;
        sysctl::write_all(&netns, &SETTINGS)?;
        let inside = Netlink::open(&netns)?;
        inside
            .add_address("lo", IpAddr::V4(DNS_ADDRESS), 32)
            .await?;
        inside.set_up("lo").await?;
        let outside = Netlink::open(host)?;
        Ok(Self {
            netns,
            inside,
            outside,
            ports: BTreeMap::new(),
        })
    }

    /// The namespace itself, for [`udp_socket`] and [`tcp_listener`].
    pub fn netns(&self) -> &NetNs {
        &self.netns
    }

    /// Bridges that are connected.
    pub fn bridges(&self) -> impl Iterator<Item = &str> {
        self.ports.keys().map(String::as_str)
    }

    /// Name of the port by which a bridge is connected.
    pub fn port(&self, bridge: &str) -> Option<&str> {
        self.ports.get(bridge).map(|port| port.host.as_str())
    }

    /// Connects a bridge whose containers have addresses in `subnets`. May be called again with
    /// more subnets.
    ///
    /// # Errors
    /// When the bridge is missing, or the kernel's refusal. On failure nothing stays of a bridge
    /// that was not connected before.
    pub async fn add_bridge(&mut self, bridge: &str, subnets: &[(Ipv4Addr, u8)]) -> Result<()> {
        if let Some(port) = self.ports.get(bridge) {
            return self.add_routes(port, subnets).await;
        }
        let port = Port {
            host: linkname::derived(HOST_PREFIX, bridge),
            inside: linkname::derived(INSIDE_PREFIX, bridge),
        };
        // That of a router that died: its namespace goes away a moment after it.
        self.outside.delete_link(&port.host).await?;
        let peer = VethPeer {
            name: &port.inside,
            mac: Some(DNS_MAC),
            netns: Some(&self.netns),
        };
        self.outside.add_veth(&port.host, MTU, peer).await?;
        let connected = self.connect(bridge, &port, subnets).await;
        if connected.is_err() {
            self.outside.delete_link(&port.host).await?;
        } else {
            self.ports.insert(bridge.to_owned(), port);
        }
        connected
    }

    /// Disconnects a bridge; says whether it was connected.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub async fn remove_bridge(&mut self, bridge: &str) -> Result<bool> {
        let Some(port) = self.ports.remove(bridge) else {
            return Ok(false);
        };
        self.outside.delete_link(&port.host).await?;
        Ok(true)
    }

    async fn connect(&self, bridge: &str, port: &Port, subnets: &[(Ipv4Addr, u8)]) -> Result<()> {
        bridge::keep_host_out(&self.outside, &port.host)?;
        self.outside.set_master(&port.host, bridge).await?;
        self.outside
            .set_port_flags(&port.host, veth::PORT_FLAGS)
            .await?;
        bridge::isolate(&self.outside, &port.host).await?;
        self.outside.pin_mac(&port.host, DNS_MAC).await?;
        self.outside.set_up(&port.host).await?;
        self.inside.set_up(&port.inside).await?;
        self.add_routes(port, subnets).await
    }

    async fn add_routes(&self, port: &Port, subnets: &[(Ipv4Addr, u8)]) -> Result<()> {
        for &(network, prefix_len) in subnets {
            let mut route = Route::on_link(network.into(), prefix_len);
            route.source = Some(DNS_ADDRESS.into());
            self.inside.add_route(&port.inside, route).await?;
        }
        Ok(())
    }
}

/// A fresh namespace takes over the host's settings, so each that matters is set. No forwarding:
/// the namespace must not become a path between networks.
const SETTINGS: [(&str, &str); 9] = [
    ("net/ipv4/ip_forward", "0"),
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    ("net/ipv4/conf/all/arp_ignore", "0"),
    ("net/ipv4/conf/default/arp_ignore", "0"),
    ("net/ipv4/conf/all/arp_announce", "0"),
    ("net/ipv4/conf/all/arp_filter", "0"),
    ("net/ipv6/conf/all/disable_ipv6", "1"),
    ("net/ipv6/conf/default/disable_ipv6", "1"),
];

/// A UDP socket bound in `netns`, non-blocking.
///
/// # Errors
/// When the address is not there or taken.
pub fn udp_socket(netns: &NetNs, addr: SocketAddr) -> Result<UdpSocket> {
    let bound = netns.run_in(|| {
        let socket = UdpSocket::bind(addr)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    })?;
    bound.map_err(|source| Error::os("bind UDP", addr.to_string(), source))
}

/// A TCP listener bound in `netns`, non-blocking.
///
/// # Errors
/// When the address is not there or taken.
pub fn tcp_listener(netns: &NetNs, addr: SocketAddr) -> Result<TcpListener> {
    let bound = netns.run_in(|| {
        let listener = TcpListener::bind(addr)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    })?;
    bound.map_err(|source| Error::os("bind TCP", addr.to_string(), source))
}
