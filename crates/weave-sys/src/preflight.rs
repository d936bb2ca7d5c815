//! What must be there before a router can run: checks that say what is missing.

use std::net::IpAddr;
use std::path::Path;

use crate::netlink::{Netlink, RouteInfo};
use crate::tap::TUN_DEVICE;
use crate::{Error, Result};

/// Oldest kernel with all that we use (isolated bridge ports).
pub const OLDEST_KERNEL: (u32, u32) = (4, 18);

/// Bit of CAP_NET_ADMIN in a capability mask.
const CAP_NET_ADMIN: u32 = 12;

/// A host route that a new network would collide with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteConflict {
    /// The route's network.
    pub network: IpAddr,
    /// Its prefix length.
    pub prefix_len: u8,
    /// The link it goes out of.
    pub link: String,
}

/// Whether this process may make interfaces.
///
/// # Errors
/// [`Error::MissingCapability`], or when /proc cannot be read.
pub fn check_net_admin() -> Result<()> {
    let path = "/proc/thread-self/status";
    let status = std::fs::read_to_string(path).map_err(|source| Error::os("read", path, source))?;
    if has_capability(&status, CAP_NET_ADMIN) {
        return Ok(());
    }
    Err(Error::MissingCapability {
        capability: "CAP_NET_ADMIN",
    })
}

/// Whether TAP devices can be made.
///
/// # Errors
/// [`Error::NoTunDevice`].
pub fn check_tun() -> Result<()> {
    match Path::new(TUN_DEVICE).metadata() {
        Ok(_) => Ok(()),
        Err(source) => Err(Error::NoTunDevice { source }),
    }
}

/// The running kernel's version, for example (6, 18).
///
/// # Errors
/// When /proc cannot be read or says something else.
pub fn kernel_version() -> Result<(u32, u32)> {
    let path = "/proc/sys/kernel/osrelease";
    let text = std::fs::read_to_string(path).map_err(|source| Error::os("read", path, source))?;
    parse_version(&text).ok_or_else(|| {
        Error::os(
            "understand kernel version",
            text.trim(),
            std::io::ErrorKind::InvalidData.into(),
        )
    })
}

/// The most specific host route that overlaps a network, other than default routes and routes
/// out of `our_links`.
///
/// # Errors
/// The kernel's refusal to list routes.
pub async fn route_conflict(
    netlink: &Netlink,
    network: IpAddr,
    prefix_len: u8,
    our_links: &[&str],
) -> Result<Option<RouteConflict>> {
    let links = netlink.links().await?;
    let name_of = |route: &RouteInfo| {
        let link = links.iter().find(|link| Some(link.index) == route.link);
        link.map_or_else(String::new, |link| link.name.clone())
    };
    let conflicts = netlink.routes().await?.into_iter().filter(|route| {
        route.prefix_len > 0
            && overlap((route.network, route.prefix_len), (network, prefix_len))
            && !our_links.contains(&name_of(route).as_str())
    });
    Ok(conflicts
        .max_by_key(|route| route.prefix_len)
        .map(|route| RouteConflict {
            network: route.network,
            prefix_len: route.prefix_len,
            link: name_of(&route),
        }))
}

/// Two networks overlap when they agree in the shorter of their prefixes.
fn overlap(a: (IpAddr, u8), b: (IpAddr, u8)) -> bool {
    let shared = u32::from(a.1.min(b.1));
    match (a.0, b.0) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            (u32::from(a) ^ u32::from(b)).leading_zeros() >= shared.min(32)
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            (u128::from(a) ^ u128::from(b)).leading_zeros() >= shared.min(128)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

fn has_capability(status: &str, bit: u32) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> bit & 1 == 1)
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let (major, rest) = text.trim().split_once('.')?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((major.parse().ok()?, digits.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> (IpAddr, u8) {
        let (ip, len) = text.split_once('/').unwrap();
        (ip.parse().unwrap(), len.parse().unwrap())
    }

    #[test]
    fn networks_overlap_when_one_holds_the_other() {
        assert!(overlap(net("10.32.0.0/12"), net("10.40.0.0/16")));
        assert!(overlap(net("10.40.0.0/16"), net("10.32.0.0/12")));
        assert!(!overlap(net("10.32.0.0/12"), net("10.48.0.0/12")));
        assert!(!overlap(net("10.32.0.0/12"), net("fd00::/8")));
        assert!(overlap(net("fd00::/8"), net("fd00:5::/64")));
    }

    #[test]
    fn kernel_versions_are_understood_with_any_suffix() {
        assert_eq!(parse_version("6.18.44-fc-v669\n"), Some((6, 18)));
        assert_eq!(parse_version("5.4-rc1"), Some((5, 4)));
        assert_eq!(parse_version("linux"), None);
    }

    #[test]
    fn a_capability_is_read_from_its_bit() {
        assert!(has_capability(
            "Name:\tx\nCapEff:\t0000000000001000\n",
            CAP_NET_ADMIN
        ));
        assert!(!has_capability(
            "CapEff:\t0000000000000fff\n",
            CAP_NET_ADMIN
        ));
    }
}
