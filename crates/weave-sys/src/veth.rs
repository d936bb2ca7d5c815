//! The cable between a container and a bridge.
//!
//! A veth is made with both ends in the host's namespace. Docker moves and configures the guest
//! end itself; for any other namespace [`attach`] does.

use std::net::IpAddr;
use std::time::Duration;

use crate::netlink::{Netlink, PortFlags, Route, VethPeer};
use crate::{MacBytes, NetNs, Result, bridge, sysctl};

/// How long a bridge port may take to forward frames. Usually it is a few milliseconds.
const CABLE_PATIENCE: Duration = Duration::from_secs(2);

/// Flags of a container's port: no unicast but for the MAC pinned to it.
pub const PORT_FLAGS: PortFlags = PortFlags {
    unicast_flood: Some(false),
    learning: None,
    isolated: None,
    hairpin: None,
};

/// A veth to be made for one endpoint.
#[derive(Debug, Clone, Copy)]
pub struct EndpointVeth<'a> {
    /// The end that stays on the host's bridge.
    pub host: &'a str,
    /// The end that the container gets, under its first name.
    pub guest: &'a str,
    /// The bridge.
    pub bridge: &'a str,
    /// MTU of both ends.
    pub mtu: u32,
    /// The container's hardware address.
    pub mac: MacBytes,
}

/// How a guest end is set up in its namespace.
#[derive(Debug, Clone, Copy)]
pub struct Attachment<'a> {
    /// Its name there, for example `ethwe`.
    pub name: &'a str,
    /// Addresses with prefix lengths; they bring the routes to their networks.
    pub addresses: &'a [(IpAddr, u8)],
    /// More routes, for example [`Route::multicast_v4`].
    pub routes: &'a [Route],
}

/// Makes the veth and puts its host end on the bridge. The container's MAC is pinned to that
/// port, which gets no other unicast, and frames of others cannot draw the MAC away.
///
/// # Errors
/// EEXIST when an end exists, or the kernel's refusal. On failure nothing stays.
pub async fn create_endpoint_veth(netlink: &Netlink, veth: EndpointVeth<'_>) -> Result<()> {
    let guest = VethPeer {
        name: veth.guest,
        mac: Some(veth.mac),
        netns: None,
    };
    netlink.add_veth(veth.host, veth.mtu, guest).await?;
    let plugged = plug(netlink, &veth).await;
    if plugged.is_err() {
        undo(netlink, veth.host).await;
    }
    plugged
}

/// Moves the guest end into `netns` and sets it up there; the container's very first frame finds
/// the bridge port open.
///
/// # Errors
/// EEXIST when the namespace has an interface of that name, or the kernel's refusal. On failure
/// the veth is deleted, so nothing stays.
pub async fn attach(
    netlink: &Netlink,
    guest: &str,
    netns: &NetNs,
    attachment: Attachment<'_>,
) -> Result<()> {
    let inside = Netlink::open(netns)?;
    let host = host_end(netlink, guest).await?;
    if let Err(error) = netlink.move_to(guest, netns, attachment.name).await {
        // A taken name is noticed only after the move: the end may be on either side.
        undo(netlink, guest).await;
        undo(&inside, guest).await;
        return Err(error);
    }
    let done = match configure(&inside, attachment).await {
        Ok(()) => wait_for_port(netlink, host.as_deref()).await,
        Err(error) => Err(error),
    };
    if done.is_err() {
        undo(&inside, attachment.name).await;
    }
    done
}

/// Adds addresses and routes to an interface that is attached already.
///
/// # Errors
/// When there is no such interface, or the kernel's refusal; addresses before the refused one
/// stay.
pub async fn extend(netns: &NetNs, attachment: Attachment<'_>) -> Result<()> {
    let inside = Netlink::open(netns)?;
    add_addresses_and_routes(&inside, attachment).await
}

/// Removes addresses from an attached interface; gives those that were there.
///
/// # Errors
/// When there is no such interface, or the kernel's refusal.
pub async fn remove_addresses(
    netns: &NetNs,
    name: &str,
    addresses: &[(IpAddr, u8)],
) -> Result<Vec<(IpAddr, u8)>> {
    let inside = Netlink::open(netns)?;
    let mut removed = Vec::new();
    for &(ip, prefix_len) in addresses {
        if inside.remove_address(name, ip, prefix_len).await? {
            removed.push((ip, prefix_len));
        }
    }
    Ok(removed)
}

/// Deletes an attached interface with the host end of its veth; says whether it was there.
///
/// # Errors
/// The kernel's refusal.
pub async fn detach(netns: &NetNs, name: &str) -> Result<bool> {
    Netlink::open(netns)?.delete_link(name).await
}

/// Puts the host end on its bridge with all settings of its port. Also repairs it after somebody
/// changed it, or after the bridge was made anew.
///
/// # Errors
/// When bridge or veth is missing, or the kernel's refusal.
pub async fn plug(netlink: &Netlink, veth: &EndpointVeth<'_>) -> Result<()> {
    bridge::keep_host_out(netlink, veth.host)?;
    netlink.set_master(veth.host, veth.bridge).await?;
    netlink.set_port_flags(veth.host, PORT_FLAGS).await?;
    netlink.pin_mac(veth.host, veth.mac).await?;
    netlink.set_up(veth.host).await
}

/// Name of the bridge port at the other end of `guest`, if it is one.
async fn host_end(netlink: &Netlink, guest: &str) -> Result<Option<String>> {
    let peer = netlink.link(guest).await?.peer;
    let links = netlink.links().await?;
    let port = links
        .into_iter()
        .find(|link| Some(link.index) == peer && link.master.is_some());
    Ok(port.map(|link| link.name))
}

async fn wait_for_port(netlink: &Netlink, port: Option<&str>) -> Result<()> {
    if let Some(port) = port
        && !netlink.wait_forwarding(port, CABLE_PATIENCE).await?
    {
        tracing::warn!(
            port,
            "the bridge port of a new container does not forward yet"
        );
    }
    Ok(())
}

async fn configure(inside: &Netlink, attachment: Attachment<'_>) -> Result<()> {
    let name = attachment.name;
    let settings = [
        (format!("net/ipv6/conf/{name}/accept_ra"), "0"),
        (format!("net/ipv6/conf/{name}/autoconf"), "0"),
    ];
    sysctl::write_all(inside.netns(), &settings)?;
    inside.set_up(name).await?;
    add_addresses_and_routes(inside, attachment).await
}

async fn add_addresses_and_routes(inside: &Netlink, attachment: Attachment<'_>) -> Result<()> {
    for &(ip, prefix_len) in attachment.addresses {
        inside.add_address(attachment.name, ip, prefix_len).await?;
    }
    for &route in attachment.routes {
        inside.add_route(attachment.name, route).await?;
    }
    Ok(())
}

/// Takes back what a failed operation made; its own failure must not hide the first one.
async fn undo(netlink: &Netlink, link: &str) {
    if let Err(error) = netlink.delete_link(link).await {
        tracing::warn!(link, %error, "an interface of a failed operation stays");
    }
}
