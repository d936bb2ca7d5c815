//! The Docker driver: what dockerd asks, in terms of networks and addresses.
//!
//! Never calls Docker's API: dockerd holds locks while it waits for us.

mod ipv6;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use weave_docker::plugin::{
    CreateEndpoint, CreateNetwork, Driver, DriverError, EndpointRef, Join, Joined, Pool,
    ReleaseAddress, RequestAddress, RequestPool, Route, RouteKind,
};
use weave_docker::{dockerd_upstreams, host_resolv_conf_path};
use weave_sys::dnsns::DNS_ADDRESS;
use weave_wire::{Cidr, InterfaceAddr, Mac, SegmentId};

use self::ipv6::Creating;
use super::networks::{
    Address, EndpointRecord, Kind, NetworkError, NetworkRecord, Networks, gateway_of, mac_for,
};

const POOL_PREFIX: &str = "weave-";
/// Network option that leaves the resolvers of its containers alone: `-o weave.dns=false`.
const DNS_OPTION: &str = "weave.dns";
/// Network option that lets only announced stations and addresses in: `-o weave.strict=true`.
const STRICT_OPTION: &str = "weave.strict";
/// Network option that lets containers send with any address: `-o weave.guard=false`.
const GUARD_OPTION: &str = "weave.guard";

/// The driver.
#[derive(Debug)]
pub(crate) struct WeaveDriver {
    networks: Arc<Networks>,
    dns: bool,
    creating: Creating,
}

impl WeaveDriver {
    /// A driver for these networks; `dns`: containers are given our DNS server.
    pub(crate) fn new(networks: Arc<Networks>, dns: bool) -> Self {
        Self {
            networks,
            dns,
            creating: Creating::default(),
        }
    }

    async fn make_endpoint(&self, request: CreateEndpoint) -> Result<Option<Mac>, DriverError> {
        let network = self.networks.network(&request.endpoint.network_id).await?;
        let Some(address) = request.interface.address else {
            return Err(DriverError::new(
                "dockerd named no IPv4 address for the endpoint",
            ));
        };
        let IpAddr::V4(ip) = address.ip() else {
            return Err(DriverError::new("the endpoint's address is not IPv4"));
        };
        let addresses = [Some(address), request.interface.address_ipv6];
        let mac = request.interface.mac.unwrap_or_else(|| mac_for(ip));
        let record = EndpointRecord {
            id: request.endpoint.endpoint_id,
            segment: SegmentId::of_subnet(network.subnet).0,
            mac,
            // dockerd gives the addresses back itself
            addresses: addresses
                .into_iter()
                .flatten()
                .map(|address| Address {
                    address,
                    allocated: false,
                })
                .collect(),
            container: String::new(),
            kind: Kind::Docker {
                network: network.id,
                dns: request.options.dns_servers,
                sandbox: None,
            },
        };
        self.networks.add_endpoint(record).await?;
        Ok(request.interface.mac.is_none().then_some(mac))
    }

    async fn join_sandbox(&self, request: Join) -> Result<Joined, DriverError> {
        let network = self.networks.network(&request.endpoint.network_id).await?;
        let id = request.endpoint.endpoint_id;
        let sandbox = request.sandbox_key;
        let is_first = self.networks.shares_sandbox(&id, &sandbox).await.is_none();
        let joined = sandbox.clone();
        let record = self
            .networks
            .update_endpoint(&id, move |record| match &mut record.kind {
                Kind::Docker { sandbox, .. } => *sandbox = Some(joined),
                Kind::Attached { .. } | Kind::Exposed { .. } => {}
            })
            .await?;
        let guest = self.networks.plug(&record).await?;
        let with_dns = self.dns && network.dns;
        if with_dns && let Kind::Docker { dns, .. } = &record.kind {
            let (networks, upstreams) = (Arc::clone(&self.networks), upstreams(dns));
            tokio::spawn(async move { networks.redirect_dns_soon(&sandbox, upstreams).await });
        }
        // a second interface with the same routes would be refused by the kernel
        let routes = if is_first {
            static_routes(with_dns)?
        } else {
            Vec::new()
        };
        Ok(Joined {
            source_name: guest,
            target_prefix: "ethwe".to_owned(),
            gateway: None,
            routes,
            disable_gateway_service: network.internal,
        })
    }

    async fn leave_sandbox(&self, endpoint: EndpointRef) -> Result<(), DriverError> {
        let id = endpoint.endpoint_id;
        let Ok(record) = self.networks.endpoint(&id).await else {
            return Ok(());
        };
        self.networks.unplug(&id).await?;
        let Some(sandbox) = record.sandbox() else {
            return Ok(());
        };
        let kept = match self.networks.shares_sandbox(&id, sandbox).await {
            Some(other) => self.networks.route_through(sandbox, &other).await,
            None if self.dns => self.networks.stop_redirecting_dns(sandbox).await,
            None => Ok(()),
        };
        if let Err(error) = kept {
            tracing::warn!(%error, "a container lost its way to a DNS server");
        }
        self.networks
            .update_endpoint(&id, |record| match &mut record.kind {
                Kind::Docker { sandbox, .. } => *sandbox = None,
                Kind::Attached { .. } | Kind::Exposed { .. } => {}
            })
            .await?;
        Ok(())
    }

    async fn address(&self, request: RequestAddress) -> Result<InterfaceAddr, DriverError> {
        let pool = PoolId::parse(&request.pool_id)?;
        let ip = match (pool.subnet.first(), request.address) {
            (IpAddr::V4(_), None) => self.ipv4_address(pool, None, request.gateway).await?,
            (IpAddr::V4(_), Some(IpAddr::V4(ip))) => {
                self.ipv4_address(pool, Some(ip), request.gateway).await?
            }
            (IpAddr::V6(_), None) => {
                let subnet = pool.subnet;
                self.ipv6_address(subnet, None, request.gateway).await?
            }
            (IpAddr::V6(_), Some(IpAddr::V6(ip))) => {
                let subnet = pool.subnet;
                self.ipv6_address(subnet, Some(ip), request.gateway).await?
            }
            (IpAddr::V4(_) | IpAddr::V6(_), Some(ip)) => {
                return Err(DriverError::new(format!(
                    "{ip} is not of the kind of addresses that {} has",
                    pool.subnet
                )));
            }
        };
        InterfaceAddr::new(ip, pool.subnet.prefix_len())
            .map_err(|error| DriverError::new(error.to_string()))
    }

    async fn ipv4_address(
        &self,
        pool: PoolId,
        wanted: Option<Ipv4Addr>,
        gateway: bool,
    ) -> Result<IpAddr, DriverError> {
        if gateway {
            // the same on every host, lent to nobody
            let gateway = wanted.or_else(|| gateway_of(pool.subnet));
            let gateway = gateway.ok_or_else(|| DriverError::new("the subnet has no gateway"))?;
            return Ok(gateway.into());
        }
        let within = if wanted.is_some() {
            pool.subnet
        } else {
            pool.addresses
        };
        if let Some(ip) = wanted {
            self.networks.free_dead_holder(ip.into()).await;
        }
        let control = self.networks.control();
        Ok(control
            .allocate("a container".to_owned(), within, wanted)
            .await?)
    }
}

impl Driver for WeaveDriver {
    async fn request_pool(&self, request: RequestPool) -> Result<Pool, DriverError> {
        if request.v6 {
            return self.ipv6_pool(request).await;
        }
        let Some(subnet) = request.pool else {
            return Err(DriverError::new(format!(
                "a weave network needs a subnet, the same on every host: \
                 docker network create -d weavemesh --ipam-driver weavemesh --subnet {} NAME",
                example_subnet(self.networks.range())
            )));
        };
        self.networks.check_subnet(subnet).await?;
        let addresses = request.sub_pool.unwrap_or(subnet);
        if !subnet.covers(&addresses) {
            return Err(DriverError::new(format!(
                "--ip-range {addresses} is not within --subnet {subnet}"
            )));
        }
        self.creating.note(subnet);
        Ok(Pool {
            id: PoolId { subnet, addresses }.to_string(),
            subnet,
        })
    }

    async fn release_pool(&self, pool_id: String) -> Result<(), DriverError> {
        if let Ok(pool) = PoolId::parse(&pool_id) {
            self.creating.forget(pool.subnet);
        }
        Ok(())
    }

    async fn request_address(&self, request: RequestAddress) -> Result<InterfaceAddr, DriverError> {
        self.address(request).await
    }

    async fn release_address(&self, request: ReleaseAddress) -> Result<(), DriverError> {
        let pool = PoolId::parse(&request.pool_id)?;
        match request.address {
            IpAddr::V4(ip) => {
                let filed = [(pool.subnet, ip), (pool.addresses, ip)];
                self.networks.release(filed.into_iter());
            }
            IpAddr::V6(ip) => self.networks.release_number(ip),
        }
        Ok(())
    }

    async fn create_network(&self, request: CreateNetwork) -> Result<(), DriverError> {
        let [network] = request.ipv4.as_slice() else {
            return Err(DriverError::new(
                "a weave network has one IPv4 subnet; give one --subnet",
            ));
        };
        self.creating.forget(network.subnet);
        let ipv6 = match request.ipv6.as_slice() {
            [] => None,
            [network] => Some(network.subnet),
            [_, _, ..] => {
                return Err(DriverError::new(
                    "a weave network has one IPv6 subnet at most; give one",
                ));
            }
        };
        self.check_agreed(network.subnet, ipv6).await?;
        let record = network_record(
            request.network_id,
            (network.subnet, ipv6),
            request.internal,
            &request.options,
        )
        .map_err(DriverError::new)?;
        Ok(self.networks.create_network(record).await?)
    }

    async fn delete_network(&self, network_id: String) -> Result<(), DriverError> {
        Ok(self.networks.delete_network(&network_id).await?)
    }

    async fn create_endpoint(&self, request: CreateEndpoint) -> Result<Option<Mac>, DriverError> {
        self.make_endpoint(request).await
    }

    async fn delete_endpoint(&self, endpoint: EndpointRef) -> Result<(), DriverError> {
        Ok(self.networks.remove_endpoint(&endpoint.endpoint_id).await?)
    }

    async fn join(&self, request: Join) -> Result<Joined, DriverError> {
        self.join_sandbox(request).await
    }

    async fn leave(&self, endpoint: EndpointRef) -> Result<(), DriverError> {
        self.leave_sandbox(endpoint).await
    }
}

impl From<NetworkError> for DriverError {
    fn from(error: NetworkError) -> Self {
        Self::new(error.to_string())
    }
}

/// A network with the options that it was made with.
///
/// # Errors
/// When an option is neither true nor false, in words.
pub(super) fn network_record(
    id: String,
    (subnet, ipv6): (Cidr, Option<Cidr>),
    internal: bool,
    options: &BTreeMap<String, String>,
) -> Result<NetworkRecord, String> {
    let switch = |name: &str, default| match options.get(name).map(String::as_str) {
        None => Ok(default),
        Some("" | "true") => Ok(true),
        Some("false") => Ok(false),
        Some(other) => Err(format!("option {name} is `{other}`; it is true or false")),
    };
    Ok(NetworkRecord {
        id,
        subnet,
        ipv6,
        internal,
        dns: switch(DNS_OPTION, true)?,
        strict: switch(STRICT_OPTION, false)?,
        guard: switch(GUARD_OPTION, true)?,
    })
}

fn static_routes(with_dns: bool) -> Result<Vec<Route>, DriverError> {
    let mut destinations = vec![(Ipv4Addr::new(224, 0, 0, 0), 4)];
    if with_dns {
        destinations.push((DNS_ADDRESS, 32));
    }
    destinations
        .into_iter()
        .map(|(network, prefix_len)| {
            let destination = Cidr::new(IpAddr::V4(network), prefix_len)
                .map_err(|error| DriverError::new(error.to_string()))?;
            Ok(Route {
                destination,
                kind: RouteKind::OnLink,
            })
        })
        .collect()
}

/// The resolvers that dockerd asks on behalf of a container.
pub(crate) fn upstreams(dns_option: &[String]) -> Vec<Ipv4Addr> {
    let etc = weave_sys::host::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let path = host_resolv_conf_path(&etc);
    let text = weave_sys::host::read_to_string(path).unwrap_or(etc);
    dockerd_upstreams(&text, dns_option)
        .into_iter()
        .filter_map(|ip| match ip {
            IpAddr::V4(ip) if !ip.is_loopback() => Some(ip),
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        })
        .collect()
}

fn example_subnet(range: Cidr) -> String {
    let prefix_len = range.prefix_len().max(24);
    format!("{}/{prefix_len}", range.first())
}

/// What we call a pool: its subnet, and the part that addresses are taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PoolId {
    subnet: Cidr,
    addresses: Cidr,
}

impl std::fmt::Display for PoolId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{POOL_PREFIX}{}-{}", self.subnet, self.addresses)
    }
}

impl PoolId {
    fn parse(text: &str) -> Result<Self, DriverError> {
        let parsed = text
            .strip_prefix(POOL_PREFIX)
            .and_then(|rest| rest.split_once('-'))
            .and_then(|(subnet, addresses)| {
                Some(Self {
                    subnet: subnet.parse().ok()?,
                    addresses: addresses.parse().ok()?,
                })
            });
        parsed.ok_or_else(|| DriverError::new(format!("`{text}` is no address pool of weave")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn net(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn a_pool_id_names_subnet_and_range() {
        let pool = PoolId {
            subnet: "10.33.0.0/24".parse().unwrap(),
            addresses: "10.33.0.64/26".parse().unwrap(),
        };
        assert_eq!(pool.to_string(), "weave-10.33.0.0/24-10.33.0.64/26");
        assert_eq!(PoolId::parse(&pool.to_string()).unwrap(), pool);
    }

    #[test]
    fn options_of_a_network_are_true_or_false() {
        let of = |options: &[(&str, &str)]| {
            let options = options.iter().map(|&(k, v)| (k.to_owned(), v.to_owned()));
            let subnets = (net("10.33.0.0/24"), None);
            network_record("n1".to_owned(), subnets, false, &options.collect())
        };
        let record = of(&[]).unwrap();
        assert!(record.dns && !record.strict && record.guard);
        let record = of(&[("weave.strict", "true"), ("weave.guard", "false")]).unwrap();
        assert!(record.dns && record.strict && !record.guard);
        let error = of(&[("weave.strict", "yes")]).unwrap_err();
        assert!(
            error.contains("weave.strict") && error.contains("`yes`"),
            "{error}"
        );
    }

    proptest! {
        #[test]
        fn any_text_is_a_pool_id_or_refused(text in any::<String>()) {
            let _ = PoolId::parse(&text);
        }
    }
}
