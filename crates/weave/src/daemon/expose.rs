//! `weave expose` and `hide`: the host itself joins the mesh, on the bridge of a subnet.

use std::net::IpAddr;
use std::sync::Arc;

use weave_sys::{linkname, preflight};
use weave_wire::codec::MAX_ENDPOINT_IPS;
use weave_wire::{Cidr, InterfaceAddr, SegmentId};

use super::address::{self, is_meant, subnet_of};
use super::names;
use super::networks::{Address, EXPOSED, EndpointRecord, Kind, Networks};
use crate::api::types::{AddressSpec, ExposeRequest};
use crate::api::{ApiError, ApiErrorKind};

/// Gives the host addresses of the networks it carries.
#[derive(Debug)]
pub(crate) struct Exposer {
    networks: Arc<Networks>,
    /// Domain that names lie in; none: there are no names.
    domain: Option<String>,
}

impl Exposer {
    /// For the networks of this host.
    pub(crate) fn new(networks: Arc<Networks>, domain: Option<String>) -> Self {
        Self { networks, domain }
    }

    /// Gives the host these addresses; they are returned in the order asked for. A subnet that
    /// is exposed keeps its address, and is masqueraded as asked last.
    ///
    /// # Errors
    /// With the reason; addresses that are new in the same call are taken back.
    pub(crate) async fn expose(&self, request: &ExposeRequest) -> Result<Vec<IpAddr>, ApiError> {
        let names = names::all_checked(&request.names, self.domain.as_deref())?;
        let _turn = self.networks.exposing().lock().await;
        let (mut given, mut fresh) = (Vec::new(), Vec::new());
        for spec in &request.addresses {
            match self.expose_one(spec, request.masquerade, &names).await {
                Ok((address, is_new)) => {
                    given.push(address.ip());
                    fresh.extend(is_new.then_some(address));
                }
                Err(error) => {
                    self.take_back(&fresh).await;
                    return Err(error);
                }
            }
        }
        Ok(given)
    }

    /// Takes addresses away, all of them if none is named; gives those that were there.
    ///
    /// # Errors
    /// With the reason.
    pub(crate) async fn hide(&self, specs: &[AddressSpec]) -> Result<Vec<IpAddr>, ApiError> {
        let _turn = self.networks.exposing().lock().await;
        let default = self.networks.default_subnet();
        let mut hidden = Vec::new();
        for record in self.networks.exposed().await {
            let held = record.addresses.iter().map(|held| held.address);
            let gone: Vec<_> = held
                .filter(|address| {
                    specs.is_empty() || specs.iter().any(|spec| is_meant(spec, address, default))
                })
                .collect();
            if !gone.is_empty() {
                self.networks.hide(&record, &gone).await?;
            }
            hidden.extend(gone.iter().map(InterfaceAddr::ip));
        }
        Ok(hidden)
    }

    /// The address, and whether it is new.
    async fn expose_one(
        &self,
        spec: &AddressSpec,
        masquerade: bool,
        names: &[String],
    ) -> Result<(InterfaceAddr, bool), ApiError> {
        let default = self.networks.default_subnet();
        let subnet = subnet_of(spec, default)?;
        let mut record = match self.networks.endpoint(&id_of(subnet)).await {
            Ok(record) => record,
            Err(_) => self.new_record(subnet).await?,
        };
        let known = record
            .addresses
            .iter()
            .find(|held| is_meant(spec, &held.address, default));
        let (address, is_new) = match known {
            Some(held) => (*held, false),
            None => (self.take_address(spec, &record).await?, true),
        };
        if is_new {
            record.addresses.push(address);
        }
        configure(&mut record, address.address.ip(), masquerade, names);
        if let Err(error) = self.networks.expose(record).await {
            if is_new && !self.take_back(&[address.address]).await {
                self.networks.release(address.allocation().into_iter());
            }
            return Err(error.into());
        }
        Ok((address.address, is_new))
    }

    /// Another address of a subnet, allocated if it is of our range.
    async fn take_address(
        &self,
        spec: &AddressSpec,
        record: &EndpointRecord,
    ) -> Result<Address, ApiError> {
        if record.addresses.len() >= MAX_ENDPOINT_IPS {
            let message = format!("the host has {MAX_ENDPOINT_IPS} addresses of this subnet");
            return Err(ApiError::new(ApiErrorKind::Conflict, message)
                .with_hint("`weave hide ADDRESS` takes one away"));
        }
        let address = address::take(&self.networks, spec, EXPOSED).await?;
        let ip = address.address.ip();
        let control = self.networks.control();
        if !address.allocated
            && let Some((peer, nickname)) = control.call(move |node, _| node.holder_of(ip)).await?
        {
            return Err(ApiError::new(
                ApiErrorKind::Conflict,
                format!("address {ip} is in use on peer {peer}({nickname})"),
            )
            .with_hint("choose another address"));
        }
        Ok(address)
    }

    /// Refuses subnets that would lead the host astray.
    async fn check_subnet(&self, subnet: Cidr) -> Result<(), ApiError> {
        let links = self.networks.netlink().links().await?;
        let ours: Vec<_> = links
            .iter()
            .map(|link| link.name.as_str())
            .filter(|name| name.starts_with(linkname::DEFAULT_BRIDGE))
            .collect();
        let (network, prefix_len) = (subnet.network(), subnet.prefix_len());
        let netlink = self.networks.netlink();
        if let Some(route) = preflight::route_conflict(netlink, network, prefix_len, &ours).await? {
            return Err(ApiError::new(
                ApiErrorKind::Conflict,
                format!(
                    "subnet {subnet} overlaps the route of this host to {}/{} by {}",
                    route.network, route.prefix_len, route.link
                ),
            )
            .with_hint("choose a subnet that the host does not reach otherwise"));
        }
        if self.networks.has_bridge(subnet).await {
            return Ok(());
        }
        let elsewhere = self
            .networks
            .control()
            .call(move |node, _| node.subnets().contains(&subnet))
            .await?;
        if !elsewhere {
            return Ok(());
        }
        Err(ApiError::new(
            ApiErrorKind::Conflict,
            format!("subnet {subnet} is a network of other hosts that this host does not have"),
        )
        .with_hint(format!(
            "make it here first: docker network create -d weavemesh --ipam-driver weavemesh \
             --subnet {subnet} NAME"
        )))
    }

    /// A record of a subnet that is not exposed yet.
    async fn new_record(&self, subnet: Cidr) -> Result<EndpointRecord, ApiError> {
        check_family(subnet)?;
        self.check_subnet(subnet).await?;
        let network = self.networks.network_for(subnet).await;
        Ok(EndpointRecord {
            id: id_of(subnet),
            segment: SegmentId::of_subnet(network).0,
            mac: self.networks.bridge_mac(network),
            addresses: Vec::new(),
            container: EXPOSED.to_owned(),
            kind: Kind::Exposed {
                masquerade: true,
                names: Vec::new(),
            },
        })
    }

    /// Whether any of them was exposed.
    async fn take_back(&self, addresses: &[InterfaceAddr]) -> bool {
        let mut any = false;
        for record in self.networks.exposed().await {
            let held = record.addresses.iter().map(|held| held.address);
            let gone: Vec<_> = held.filter(|held| addresses.contains(held)).collect();
            if gone.is_empty() {
                continue;
            }
            any = true;
            if let Err(error) = self.networks.hide(&record, &gone).await {
                tracing::warn!(%error, "cannot take an exposed address back");
            }
        }
        any
    }
}

fn configure(record: &mut EndpointRecord, ip: IpAddr, masquerade: bool, new_names: &[String]) {
    if let Kind::Exposed {
        masquerade: current,
        names,
    } = &mut record.kind
    {
        *current = masquerade;
        for name in new_names {
            let named = (name.clone(), ip);
            if !names.contains(&named) {
                names.push(named);
            }
        }
    }
}

fn check_family(subnet: Cidr) -> Result<(), ApiError> {
    if subnet.network().is_ipv4() {
        return Ok(());
    }
    Err(ApiError::new(
        ApiErrorKind::BadRequest,
        format!("{subnet} is IPv6; the host can be given IPv4 addresses only"),
    ))
}

fn id_of(subnet: Cidr) -> String {
    format!("{EXPOSED}/{subnet}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_an_address_are_added_and_not_repeated() {
        let mut record = EndpointRecord {
            id: id_of("10.32.0.0/12".parse().unwrap()),
            segment: 1,
            mac: weave_wire::Mac([2; 6]),
            addresses: Vec::new(),
            container: EXPOSED.to_owned(),
            kind: Kind::Exposed {
                masquerade: true,
                names: Vec::new(),
            },
        };
        let ip = IpAddr::from([10, 32, 0, 9]);
        for name in ["a", "b", "a"] {
            configure(&mut record, ip, false, &[name.to_owned()]);
        }
        let expected = Kind::Exposed {
            masquerade: false,
            names: vec![("a".to_owned(), ip), ("b".to_owned(), ip)],
        };
        assert_eq!(record.kind, expected);
    }

    #[test]
    fn ipv6_subnets_are_refused() {
        let error = check_family("fd00::/64".parse().unwrap()).unwrap_err();
        assert_eq!(
            error.message,
            "fd00::/64 is IPv6; the host can be given IPv4 addresses only"
        );
        assert!(check_family("10.32.0.0/12".parse().unwrap()).is_ok());
    }
}
