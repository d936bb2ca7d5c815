//! Routes of the main table.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the kernel's attributes are an open set, of which we read a few"
)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteScope, RouteType,
};
use rtnetlink::RouteMessageBuilder;

use super::{Netlink, failed, unless};
use crate::Result;

/// A route that is to be made or removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Destination network.
    pub network: IpAddr,
    /// Its prefix length; 0 for the default route.
    pub prefix_len: u8,
    /// Next hop; `None`: the destination is on the link itself.
    pub gateway: Option<IpAddr>,
    /// Source address of packets that did not choose one.
    pub source: Option<IpAddr>,
}

/// A route that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteInfo {
    /// Destination network.
    pub network: IpAddr,
    /// Its prefix length; 0 for the default route.
    pub prefix_len: u8,
    /// Next hop.
    pub gateway: Option<IpAddr>,
    /// Index of the link it goes out of.
    pub link: Option<u32>,
}

impl Route {
    /// A route to a network on the link itself.
    pub fn on_link(network: IpAddr, prefix_len: u8) -> Self {
        Self {
            network,
            prefix_len,
            gateway: None,
            source: None,
        }
    }

    /// All of IPv4 multicast, on the link itself.
    pub fn multicast_v4() -> Self {
        Self::on_link(Ipv4Addr::new(224, 0, 0, 0).into(), 4)
    }

    fn message(&self, link: u32) -> RouteMessage {
        let scope = match self.gateway {
            Some(_) => RouteScope::Universe,
            None => RouteScope::Link,
        };
        match self.network {
            IpAddr::V4(network) => {
                let mut builder = RouteMessageBuilder::<Ipv4Addr>::new()
                    .destination_prefix(network, self.prefix_len)
                    .output_interface(link)
                    .scope(scope);
                if let Some(IpAddr::V4(gateway)) = self.gateway {
                    builder = builder.gateway(gateway);
                }
                if let Some(IpAddr::V4(source)) = self.source {
                    builder = builder.pref_source(source);
                }
                builder.build()
            }
            IpAddr::V6(network) => {
                let mut builder = RouteMessageBuilder::<Ipv6Addr>::new()
                    .destination_prefix(network, self.prefix_len)
                    .output_interface(link);
                if let Some(IpAddr::V6(gateway)) = self.gateway {
                    builder = builder.gateway(gateway);
                }
                if let Some(IpAddr::V6(source)) = self.source {
                    builder = builder.pref_source(source);
                }
                builder.build()
            }
        }
    }
}

impl std::fmt::Display for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix_len)
    }
}

impl Netlink {
    /// Unicast routes of the main table, both families.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub async fn routes(&self) -> Result<Vec<RouteInfo>> {
        let mut routes = Vec::new();
        let requests = [
            RouteMessageBuilder::<Ipv4Addr>::new().build(),
            RouteMessageBuilder::<Ipv6Addr>::new().build(),
        ];
        let _one = self.listing.lock().await;
        for request in requests {
            let found: Vec<_> = self
                .handle
                .route()
                .get(request)
                .execute()
                .try_collect()
                .await
                .map_err(failed("list", "routes"))?;
            routes.extend(found.iter().filter_map(RouteInfo::from_message));
        }
        Ok(routes)
    }

    /// Adds a route out of link `name`; fine when the very same is there. The link must be up.
    ///
    /// # Errors
    /// When the link is missing or down, or the kernel's refusal.
    pub async fn add_route(&self, name: &str, route: Route) -> Result<()> {
        let link = self.link(name).await?.index;
        let done = self.handle.route().add(route.message(link)).execute().await;
        let what = failed("add route", format!("{route} out of {name}"));
        match done.map_err(what) {
            // Another link may have the same route: only the very same one is fine.
            Err(error) if error.errno() == Some(libc::EEXIST) => {
                let same = |have: &RouteInfo| {
                    have.network == route.network
                        && have.prefix_len == route.prefix_len
                        && have.gateway == route.gateway
                        && have.link == Some(link)
                };
                if self.routes().await?.iter().any(same) {
                    Ok(())
                } else {
                    Err(error)
                }
            }
            other => other,
        }
    }

    /// Adds a route out of link `name`, in the place of any other to the same network.
    ///
    /// # Errors
    /// When the link is missing or down, or the kernel's refusal.
    pub async fn replace_route(&self, name: &str, route: Route) -> Result<()> {
        let link = self.link(name).await?.index;
        let done = self
            .handle
            .route()
            .add(route.message(link))
            .replace()
            .execute()
            .await;
        done.map_err(failed("set route", format!("{route} out of {name}")))
    }

    /// Removes a route out of link `name`; fine when it is gone.
    ///
    /// # Errors
    /// When the link is missing, or the kernel's refusal.
    pub async fn remove_route(&self, name: &str, route: Route) -> Result<()> {
        let link = self.link(name).await?.index;
        let done = self.handle.route().del(route.message(link)).execute().await;
        let what = failed("remove route", format!("{route} out of {name}"));
        unless(libc::ESRCH, done.map_err(what))
    }
}

impl RouteInfo {
    fn from_message(message: &RouteMessage) -> Option<Self> {
        let header = &message.header;
        if header.table != RouteHeader::RT_TABLE_MAIN || header.kind != RouteType::Unicast {
            return None;
        }
        let mut route = Self {
            network: match header.address_family {
                AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
                AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
                _ => return None,
            },
            prefix_len: header.destination_prefix_length,
            gateway: None,
            link: None,
        };
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(to) => route.network = ip_of(to)?,
                RouteAttribute::Gateway(via) => route.gateway = ip_of(via),
                RouteAttribute::Oif(link) => route.link = Some(*link),
                _ => {}
            }
        }
        Some(route)
    }
}

fn ip_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}
