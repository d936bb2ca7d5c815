//! One weave network on this host: a bridge, and the TAP by which the router hangs on it.
//!
//! The host itself takes no part unless the bridge is given an address: it has no IPv6, and speaks
//! ARP for its own addresses alone. Known MACs of containers are pinned to their ports (see
//! [`veth`](crate::veth)), so unknown unicast can only be somebody elsewhere: it is flooded to the
//! TAP alone.

use std::time::Duration;

use crate::netlink::{Netlink, PortFlags};
use crate::{Error, MacBytes, Result, Tap, linkname, sysctl};

/// A router that was killed has let go of its TAPs after this long.
const PREDECESSOR_ENDS: Duration = Duration::from_secs(3);
const BUSY_POLL: Duration = Duration::from_millis(50);

/// Flags of a TAP as a port: the way to whoever is elsewhere.
pub const TAP_FLAGS: PortFlags = PortFlags {
    unicast_flood: Some(true),
    learning: Some(true),
    isolated: Some(true),
    hairpin: None,
};

/// What a network looks like on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSpec {
    /// The bridge's name.
    pub bridge: String,
    /// The TAP's name.
    pub tap: String,
    /// The bridge's hardware address. Fixed, else it would change with every port.
    pub mac: MacBytes,
    /// MTU of bridge, TAP and containers.
    pub mtu: u32,
    /// Why the TAP is to have no offloads, if it is.
    pub plain: Option<String>,
}

/// Makes the bridge and the TAP, or brings those that are there into shape, and opens the TAP.
///
/// # Errors
/// [`Error::WrongKind`] when another interface has the bridge's name, [`Error::TapBusy`] when
/// another router runs, otherwise the kernel's refusal. A bridge made stays; it is harmless.
pub async fn ensure_network(netlink: &Netlink, spec: &NetworkSpec) -> Result<Tap> {
    ensure_bridge(netlink, spec).await?;
    let tap = open_tap(netlink, spec).await?;
    plug_tap(netlink, spec).await?;
    Ok(tap)
}

/// Opens (and so makes) the TAP. It stays when this process ends: a router that is restarted finds
/// it on its bridge.
///
/// # Errors
/// [`Error::TapBusy`] when another router has it, and goes on having it for some seconds; one that
/// was killed lets go of it a moment later.
pub async fn open_tap(netlink: &Netlink, spec: &NetworkSpec) -> Result<Tap> {
    let deadline = tokio::time::Instant::now() + PREDECESSOR_ENDS;
    loop {
        let open = || match &spec.plain {
            Some(why) => Tap::open_plain(&spec.tap, why.clone()),
            None => Tap::open(&spec.tap),
        };
        match netlink.netns().run_in(open)? {
            Err(Error::TapBusy { .. }) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(BUSY_POLL).await;
            }
            Err(error) => return Err(error),
            Ok(tap) => {
                tap.set_persistent(true)?;
                return Ok(tap);
            }
        }
    }
}

/// The bridge alone, made or brought into shape, and up.
///
/// # Errors
/// As [`ensure_network`].
pub async fn ensure_bridge(netlink: &Netlink, spec: &NetworkSpec) -> Result<()> {
    let name = spec.bridge.as_str();
    let present = netlink.find_link(name).await?;
    if let Some(link) = &present {
        let kind = link.kind.as_deref().unwrap_or("hardware interface");
        if kind != "bridge" {
            let (name, found) = (name.to_owned(), kind.to_owned());
            return Err(Error::WrongKind {
                name,
                wanted: "bridge",
                found,
            });
        }
    } else {
        netlink.add_bridge(name, spec.mac, spec.mtu).await?;
    }
    if present
        .as_ref()
        .is_some_and(|link| link.mac != Some(spec.mac))
    {
        netlink.set_mac(name, spec.mac).await?;
    }
    if present.as_ref().is_some_and(|link| link.mtu != spec.mtu) {
        netlink.set_mtu(name, spec.mtu).await?;
    }
    keep_host_out(netlink, name)?;
    netlink.set_up(name).await
}

/// The open TAP put on its bridge with the right flags, and up. Also repairs it after somebody
/// changed it.
///
/// # Errors
/// When bridge or TAP is missing, or the kernel's refusal.
pub async fn plug_tap(netlink: &Netlink, spec: &NetworkSpec) -> Result<()> {
    let tap = spec.tap.as_str();
    keep_host_out(netlink, tap)?;
    netlink.set_mtu(tap, spec.mtu).await?;
    netlink.set_master(tap, &spec.bridge).await?;
    let flags = PortFlags {
        isolated: None,
        ..TAP_FLAGS
    };
    netlink.set_port_flags(tap, flags).await?;
    isolate(netlink, tap).await?;
    netlink.set_up(tap).await
}

/// Removes a network's bridge and TAP; says whether anything was there. Ports of containers stay
/// with their containers, off the bridge.
///
/// # Errors
/// The kernel's refusal.
pub async fn remove_network(netlink: &Netlink, bridge: &str, tap: &str) -> Result<bool> {
    let tap_was_there = netlink.delete_link(tap).await?;
    Ok(netlink.delete_link(bridge).await? || tap_was_there)
}

/// Names of the ports of `bridge`.
///
/// # Errors
/// When the bridge is missing, or the kernel's refusal.
pub async fn ports(netlink: &Netlink, bridge: &str) -> Result<Vec<String>> {
    linkname::validate(bridge)?;
    let index = netlink.link(bridge).await?.index;
    let links = netlink.links().await?;
    let ports = links.into_iter().filter(|link| link.master == Some(index));
    Ok(ports.map(|link| link.name).collect())
}

/// Marks a port isolated: it reaches containers, but no other isolated port. TAP and DNS server
/// are isolated, so one host's DNS server is never heard on another host.
///
/// A kernel without that flag is tolerated: the router drops such frames as well.
pub(crate) async fn isolate(netlink: &Netlink, port: &str) -> Result<()> {
    let flags = PortFlags {
        isolated: Some(true),
        ..PortFlags::default()
    };
    match netlink.set_port_flags(port, flags).await {
        Err(error) if matches!(error.errno(), Some(libc::EOPNOTSUPP | libc::EINVAL)) => {
            tracing::debug!(port, %error, "bridge port isolation is not available");
            Ok(())
        }
        result => result,
    }
}

/// Host ends of ours take no part in IP: no IPv6 (so no RA, no fe80::), and no ARP answers for
/// addresses of other interfaces, nor questions in their name.
pub(crate) fn keep_host_out(netlink: &Netlink, link: &str) -> Result<()> {
    keep_hosts_out(netlink, &[link.to_owned()])
}

/// As when they were made: bridges, TAPs and host ends of ours take no part in IP, whatever
/// somebody set since. Interfaces that are gone are no error.
///
/// # Errors
/// The kernel's refusal.
pub fn keep_hosts_out(netlink: &Netlink, links: &[String]) -> Result<()> {
    let settings: Vec<_> = links.iter().flat_map(|link| settings_of(link)).collect();
    sysctl::write_all(netlink.netns(), &settings).map(|_| ())
}

fn settings_of(link: &str) -> [(String, &'static str); 5] {
    [
        (format!("net/ipv6/conf/{link}/disable_ipv6"), "1"),
        (format!("net/ipv6/conf/{link}/accept_ra"), "0"),
        (format!("net/ipv6/conf/{link}/autoconf"), "0"),
        (format!("net/ipv4/conf/{link}/arp_ignore"), "1"),
        (format!("net/ipv4/conf/{link}/arp_announce"), "2"),
    ]
}
