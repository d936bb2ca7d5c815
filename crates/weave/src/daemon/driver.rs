//! The Docker driver: what dockerd asks, in terms of networks and addresses.
//!
//! Never calls Docker's API: dockerd holds locks while it waits for us.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use weave_docker::plugin::{
    CreateEndpoint, CreateNetwork, Driver, DriverError, EndpointRef, Join, Joined, Pool,
    ReleaseAddress, RequestAddress, RequestPool, Route, RouteKind,
};
use weave_docker::{dockerd_upstreams, host_resolv_conf_path};
use weave_node::Node;
use weave_node::ipam::NUMBER_OF_IPV6;
use weave_sys::dnsns::DNS_ADDRESS;
use weave_wire::{Cidr, InterfaceAddr, Mac, SegmentId, number_of};

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

/// dockerd makes a network within this long after it asked for the subnet, or never.
const CREATED_WITHIN: Duration = Duration::from_secs(30);
/// How long an IPv6 subnet that follows from the founding waits for one, and how often it looks.
const FOUNDED_WITHIN: Duration = Duration::from_millis(4800);
const LOOK_EVERY: Duration = Duration::from_millis(100);

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

    /// An IPv6 address ends in an address of the mesh's range that is given out for it alone: so
    /// nobody else has it.
    async fn ipv6_address(
        &self,
        subnet: Cidr,
        wanted: Option<Ipv6Addr>,
        gateway: bool,
    ) -> Result<IpAddr, DriverError> {
        let range = self.networks.range();
        if gateway {
            return ipv6_gateway(subnet, wanted, range).map_err(DriverError::new);
        }
        let number = match wanted {
            Some(ip) => Some(wanted_number(subnet, ip, range).map_err(DriverError::new)?),
            None => None,
        };
        if let Some(ip) = wanted {
            self.networks.free_dead_holder(ip.into()).await;
        }
        let control = self.networks.control();
        let given = control
            .allocate(NUMBER_OF_IPV6.to_owned(), range, number)
            .await;
        let given = given.map_err(|why| match wanted {
            Some(ip) => format!("{ip} cannot be had, because of the number it ends in: {why}"),
            None => why,
        })?;
        let ip = subnet.numbered(number_of(given));
        ip.map(IpAddr::from)
            .ok_or_else(|| DriverError::new(format!("{subnet} has no room for numbers")))
    }

    async fn ipv6_pool(&self, request: RequestPool) -> Result<Pool, DriverError> {
        if let Some(part) = request.sub_pool {
            return Err(DriverError::new(format!(
                "--ip-range {part} is IPv6, where the mesh gives out the numbers that addresses \
                 end in; leave it out"
            )));
        }
        let subnet = match request.pool {
            Some(subnet) => subnet,
            None => self.default_ipv6_subnet().await?,
        };
        self.networks.check_ipv6_subnet(subnet).await?;
        let id = PoolId {
            subnet,
            addresses: subnet,
        };
        Ok(Pool {
            id: id.to_string(),
            subnet,
        })
    }

    /// The IPv6 subnet of the network that dockerd is about to make: what other hosts have for its
    /// IPv4 subnet, else one that follows from it and the founding of the mesh.
    async fn default_ipv6_subnet(&self) -> Result<Cidr, DriverError> {
        let beside = self.creating.only().map_err(DriverError::new)?;
        let control = self.networks.control();
        let deadline = Instant::now() + FOUNDED_WITHIN;
        loop {
            let look = move |node: &mut Node, now| {
                if let Some((subnet, _)) = node.ipv6_beside(beside) {
                    return Ok(subnet);
                }
                match node.prime(now) {
                    Some(awaited) => Err(awaited),
                    None => node
                        .default_ipv6_subnet(beside)
                        .ok_or_else(|| "nobody has founded the range yet".to_owned()),
                }
            };
            match control.call(look).await.map_err(NetworkError::from)? {
                Ok(subnet) => return Ok(subnet),
                Err(awaited) if Instant::now() >= deadline => {
                    return Err(DriverError::new(format!(
                        "no IPv6 subnet can be derived yet: {awaited}; try again, or give one with \
                         --subnet, such as --subnet fd00:5::/64"
                    )));
                }
                Err(_) => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }

    /// A network has the same IPv6 subnet on every host, or none.
    async fn check_agreed(&self, subnet: Cidr, ipv6: Option<Cidr>) -> Result<(), DriverError> {
        let control = self.networks.control();
        let beside = control.call(move |node, _| node.ipv6_beside(subnet)).await;
        match (beside.map_err(NetworkError::from)?, ipv6) {
            (Some((other, peer)), Some(ipv6)) if other != ipv6 => Err(DriverError::new(format!(
                "network {subnet} has the IPv6 subnet {other} on peer {peer}, not {ipv6}; give the \
                 same on every host"
            ))),
            (Some(_) | None, Some(_) | None) => Ok(()),
        }
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

/// The address that is given as gateway of an IPv6 subnet: the first one, the same everywhere.
///
/// # Errors
/// When containers may get the wanted one, in words.
fn ipv6_gateway(subnet: Cidr, wanted: Option<Ipv6Addr>, range: Cidr) -> Result<IpAddr, String> {
    let first = subnet.numbered(Ipv4Addr::new(0, 0, 0, 1));
    let first = first.ok_or_else(|| format!("{subnet} has no room for numbers"))?;
    match wanted {
        Some(ip) if range.contains(number_of(ip.into()).into()) => Err(format!(
            "the gateway {ip} ends in an address of the range {range} of this mesh, which \
             containers may get; give another one, such as {first}"
        )),
        Some(ip) => Ok(ip.into()),
        None => Ok(first.into()),
    }
}

/// The address of the mesh's range that an address asked for ends in.
///
/// # Errors
/// When it ends in none, so that nobody could say whether it is free; in words.
fn wanted_number(subnet: Cidr, ip: Ipv6Addr, range: Cidr) -> Result<Ipv4Addr, String> {
    let number = number_of(ip.into());
    if subnet.numbered(number) == Some(ip) && range.contains(number.into()) {
        return Ok(number);
    }
    let example = match range.last() {
        IpAddr::V4(last) => Ipv4Addr::from_bits(last.to_bits().saturating_sub(5)),
        IpAddr::V6(_) => number,
    };
    let (network, example) = (subnet, subnet.numbered(example));
    let example = example.map_or_else(String::new, |ip| format!(", such as {ip}"));
    Err(format!(
        "{ip} is not an address of {network} that ends in one of the range {range} of this mesh: \
         of others nobody knows on which host they are in use; leave it out, or give one that \
         does{example}"
    ))
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

/// IPv4 subnets that dockerd asked for and has made no network of yet. When it asks for an IPv6
/// subnet it does not say for which network.
#[derive(Debug, Default)]
struct Creating(Mutex<BTreeMap<Cidr, Instant>>);

impl Creating {
    fn note(&self, subnet: Cidr) {
        self.subnets().insert(subnet, Instant::now());
    }

    fn forget(&self, subnet: Cidr) {
        self.subnets().remove(&subnet);
    }

    /// The only one.
    fn only(&self) -> Result<Cidr, String> {
        let mut subnets = self.subnets();
        subnets.retain(|_, since| since.elapsed() < CREATED_WITHIN);
        match subnets.len() {
            1 => subnets.keys().next().copied(),
            _ => None,
        }
        .ok_or_else(|| {
            "it is not clear which IPv4 subnet the IPv6 one goes with: give one with --subnet, \
             too, such as --subnet fd00:5::/64, or make one network after the other"
                .to_owned()
        })
    }

    fn subnets(&self) -> std::sync::MutexGuard<'_, BTreeMap<Cidr, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn an_ipv6_address_that_is_asked_for_ends_in_one_of_the_range() {
        let range = net("10.32.0.0/12");
        let of = |subnet: &str, ip: &str| wanted_number(net(subnet), ip.parse().unwrap(), range);
        let number = Ok("10.32.0.5".parse().unwrap());
        assert_eq!(of("fd00:5::/64", "fd00:5::10.32.0.5"), number);
        assert_eq!(of("fd00:5::/96", "fd00:5::a20:5"), number);
        for (subnet, ip) in [
            ("fd00:5::/64", "fd00:5::1"),
            ("fd00:5::/64", "fd00:5::1:a20:5"),
            ("fd00:5::/64", "fd00:6::a20:5"),
            ("fd00:5::/97", "fd00:5::a20:5"),
        ] {
            let error = of(subnet, ip).unwrap_err();
            assert!(
                error.contains("ends in one of the range 10.32.0.0/12"),
                "{error}"
            );
        }
        let error = of("fd00:5::/64", "fd00:5::1").unwrap_err();
        let (_, example) = error.rsplit_once("such as ").unwrap();
        assert!(of("fd00:5::/64", example).is_ok(), "{error}");
    }

    #[test]
    fn a_gateway_of_ipv6_is_nobodys_address() {
        let range = net("10.32.0.0/12");
        let of = |wanted: Option<&str>| {
            let wanted = wanted.map(|ip| ip.parse().unwrap());
            ipv6_gateway(net("fd00:5::/64"), wanted, range)
        };
        assert_eq!(of(None), Ok("fd00:5::1".parse().unwrap()));
        assert_eq!(of(Some("fd00:5::9")), Ok("fd00:5::9".parse().unwrap()));
        let error = of(Some("fd00:5::a20:5")).unwrap_err();
        assert!(error.contains("ends in an address of the range"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_ipv6_subnet_goes_with_the_only_network_that_is_being_made() {
        let creating = Creating::default();
        let unclear = "not clear which IPv4 subnet";
        assert!(creating.only().unwrap_err().contains(unclear));
        creating.note(net("10.40.0.0/16"));
        assert_eq!(creating.only(), Ok(net("10.40.0.0/16")));
        creating.note(net("10.41.0.0/16"));
        assert!(creating.only().unwrap_err().contains(unclear));
        creating.forget(net("10.40.0.0/16"));
        assert_eq!(creating.only(), Ok(net("10.41.0.0/16")));
        tokio::time::advance(CREATED_WITHIN).await;
        assert!(creating.only().unwrap_err().contains(unclear));
    }

    proptest! {
        #[test]
        fn what_is_asked_for_is_what_the_number_gives(ip: Ipv6Addr, len in 0..=128u8) {
            let subnet = Cidr::containing(ip.into(), len).unwrap();
            let range = net("0.0.0.0/0");
            if let Ok(number) = wanted_number(subnet, ip, range) {
                prop_assert_eq!(subnet.numbered(number), Some(ip));
            }
        }
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
