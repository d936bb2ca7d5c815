//! IPv6 beside IPv4: subnets, and addresses that end in numbers of the mesh's range.
//!
//! Decides which IPv6 subnet a network may have, and which addresses of it may be asked for. The
//! numbers come from the allocator of IPv4 addresses (docs/adr/0019).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use weave_docker::plugin::{DriverError, Pool, RequestPool};
use weave_node::Node;
use weave_node::ipam::NUMBER_OF_IPV6;
use weave_wire::{Cidr, number_of};

use super::{NetworkError, PoolId, WeaveDriver};

/// dockerd makes a network within this long after it asked for the subnet, or never.
const CREATED_WITHIN: Duration = Duration::from_secs(30);
/// How long an IPv6 subnet that follows from the founding waits for one, and how often it looks.
const FOUNDED_WITHIN: Duration = Duration::from_millis(4800);
const LOOK_EVERY: Duration = Duration::from_millis(100);

impl WeaveDriver {
    /// The pool of an IPv6 subnet, given or ours.
    pub(super) async fn ipv6_pool(&self, request: RequestPool) -> Result<Pool, DriverError> {
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

    /// A network has the same IPv6 subnet on every host, or none.
    pub(super) async fn check_agreed(
        &self,
        subnet: Cidr,
        ipv6: Option<Cidr>,
    ) -> Result<(), DriverError> {
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

    /// An IPv6 address ends in an address of the mesh's range that is given out for it alone: so
    /// nobody else has it.
    pub(super) async fn ipv6_address(
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
}

/// IPv4 subnets that dockerd asked for and has made no network of yet. When it asks for an IPv6
/// subnet it does not say for which network.
#[derive(Debug, Default)]
pub(super) struct Creating(Mutex<BTreeMap<Cidr, Instant>>);

impl Creating {
    pub(super) fn note(&self, subnet: Cidr) {
        self.subnets().insert(subnet, Instant::now());
    }

    pub(super) fn forget(&self, subnet: Cidr) {
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

    fn subnets(&self) -> MutexGuard<'_, BTreeMap<Cidr, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
}
