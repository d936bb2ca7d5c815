//! Docker networks: ours, and the address of Docker's own bridge.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use bollard::models::{EndpointResource, Ipam, IpamConfig, NetworkCreateRequest, NetworkInspect};
use bollard::query_parameters::{InspectNetworkOptions, ListNetworksOptions};
use weave_wire::{Cidr, InterfaceAddr, Mac};

use crate::client::{DockerClient, legal_name};
use crate::error::Error;

/// A network to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSpec {
    /// Its name.
    pub name: String,
    /// Network and IPAM driver.
    pub driver: String,
    /// Its subnet.
    pub subnet: Cidr,
    /// Driver options, as `-o` gives them.
    pub options: BTreeMap<String, String>,
}

/// A network as Docker has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkInfo {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its network driver.
    pub driver: String,
    /// Its IPAM driver.
    pub ipam_driver: String,
    /// Its subnets.
    pub subnets: Vec<Cidr>,
    /// Gateways of its subnets, where one is set.
    pub gateways: Vec<IpAddr>,
    /// Addresses that Docker keeps back (`--aux-address`).
    pub kept_back: Vec<IpAddr>,
    /// Driver options.
    pub options: BTreeMap<String, String>,
    /// `--internal`.
    pub internal: bool,
    /// Its endpoints, ordered by the names of their containers.
    pub containers: Vec<AttachedContainer>,
}

/// An endpoint of a network, with its container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttachedContainer {
    /// Full id of the container; what Docker calls an endpoint that no container has joined.
    pub id: String,
    /// Name.
    pub name: String,
    /// Id of the endpoint.
    pub endpoint_id: String,
    /// Addresses: IPv4 first.
    pub addresses: Vec<InterfaceAddr>,
    /// MAC address.
    pub mac: Option<Mac>,
}

impl DockerClient {
    /// Looks a network up by name or id.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none.
    pub async fn network(&self, name_or_id: &str) -> Result<NetworkInfo, Error> {
        let what = format!("find Docker network {name_or_id:?}");
        let name = legal_name(&what, name_or_id)?;
        let call = self
            .api()
            .inspect_network(name, None::<InspectNetworkOptions>);
        Ok(NetworkInfo::from_inspect(self.read(&what, call).await?))
    }

    /// The networks of a driver, without their containers: id and name.
    ///
    /// # Errors
    /// Any of [`Error`] that Docker's API can cause.
    pub async fn networks_of_driver(
        &self,
        driver: &str,
    ) -> Result<BTreeMap<String, String>, Error> {
        let filters = HashMap::from([("driver".to_owned(), vec![driver.to_owned()])]);
        let call = self.api().list_networks(Some(ListNetworksOptions {
            filters: Some(filters),
        }));
        let found = self.read("list Docker networks", call).await?;
        // The filter has matched by prefix in some versions of Docker.
        let ours = found
            .into_iter()
            .filter(|network| network.driver.as_deref() == Some(driver));
        Ok(ours
            .filter_map(|network| Some((network.id?, network.name?)))
            .collect())
    }

    /// The networks of a driver, with the containers on them; ordered by id.
    ///
    /// # Errors
    /// Any of [`Error`] that Docker's API can cause.
    pub async fn networks_with_containers(&self, driver: &str) -> Result<Vec<NetworkInfo>, Error> {
        let mut networks = Vec::new();
        for id in self.networks_of_driver(driver).await?.into_keys() {
            match self.network(&id).await {
                Ok(network) => networks.push(network),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(networks)
    }

    /// Creates a network, unless it is there already with the same driver and subnet.
    ///
    /// # Errors
    /// [`Error::ForeignNetwork`] or [`Error::OtherSubnet`] when the name is taken, else whatever
    /// Docker or the driver refuses with. Nothing is changed then.
    pub async fn ensure_network(&self, spec: &NetworkSpec) -> Result<NetworkInfo, Error> {
        match self.network(&spec.name).await {
            Ok(found) => return check_same(spec, found),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        let what = format!("create Docker network {:?}", spec.name);
        self.change(&what, self.api().create_network(create_request(spec)))
            .await?;
        self.network(&spec.name).await
    }

    /// Removes a network. One that does not exist is no error.
    ///
    /// # Errors
    /// [`Error::Refused`] when containers are attached, among others.
    pub async fn remove_network(&self, name: &str) -> Result<(), Error> {
        let what = format!("remove Docker network {name:?}");
        let name = legal_name(&what, name)?;
        match self.change(&what, self.api().remove_network(name)).await {
            Err(error) if error.is_not_found() => Ok(()),
            other => other,
        }
    }

    /// The host's address on Docker's default bridge (172.17.0.1, mostly); `None` when dockerd
    /// runs without that bridge.
    ///
    /// # Errors
    /// Any of [`Error`] that Docker's API can cause.
    pub async fn bridge_gateway(&self) -> Result<Option<IpAddr>, Error> {
        match self.network("bridge").await {
            Ok(network) => Ok(gateway_of(&network)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl NetworkInfo {
    fn from_inspect(inspect: NetworkInspect) -> Self {
        let ipam = inspect.ipam.unwrap_or_default();
        let configs = ipam.config.unwrap_or_default();
        let containers = inspect.containers.unwrap_or_default().into_iter();
        let mut containers: Vec<_> = containers.map(AttachedContainer::from_resource).collect();
        containers.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        Self {
            id: inspect.id.unwrap_or_default(),
            name: inspect.name.unwrap_or_default(),
            driver: inspect.driver.unwrap_or_default(),
            ipam_driver: ipam.driver.unwrap_or_default(),
            subnets: configs
                .iter()
                .filter_map(|c| c.subnet.as_ref()?.parse().ok())
                .collect(),
            gateways: configs
                .iter()
                .filter_map(|c| c.gateway.as_ref()?.parse().ok())
                .collect(),
            kept_back: configs
                .iter()
                .flat_map(|c| c.auxiliary_addresses.iter().flat_map(HashMap::values))
                .filter_map(|text| text.parse().ok())
                .collect(),
            options: inspect.options.unwrap_or_default().into_iter().collect(),
            internal: inspect.internal.unwrap_or_default(),
            containers,
        }
    }
}

impl AttachedContainer {
    /// Whether a container has joined the endpoint.
    pub fn has_sandbox(&self) -> bool {
        !self.id.starts_with("ep-")
    }

    fn from_resource((id, endpoint): (String, EndpointResource)) -> Self {
        let addresses = [endpoint.ipv4_address, endpoint.ipv6_address];
        Self {
            id,
            name: endpoint.name.unwrap_or_default(),
            endpoint_id: endpoint.endpoint_id.unwrap_or_default(),
            addresses: addresses
                .into_iter()
                .filter_map(|text| text?.parse().ok())
                .collect(),
            mac: endpoint.mac_address.and_then(|text| text.parse().ok()),
        }
    }
}

fn check_same(spec: &NetworkSpec, found: NetworkInfo) -> Result<NetworkInfo, Error> {
    let name = spec.name.clone();
    if found.driver != spec.driver {
        return Err(Error::ForeignNetwork {
            name,
            driver: found.driver,
        });
    }
    // one with IPv6 beside it is the same network
    let v4 = found.subnets.iter().filter(|net| net.first().is_ipv4());
    if !v4.eq([&spec.subnet]) {
        let has = found
            .subnets
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ");
        return Err(Error::OtherSubnet {
            name,
            has,
            wanted: spec.subnet,
        });
    }
    Ok(found)
}

fn create_request(spec: &NetworkSpec) -> NetworkCreateRequest {
    let config = IpamConfig {
        subnet: Some(spec.subnet.to_string()),
        ..IpamConfig::default()
    };
    NetworkCreateRequest {
        name: spec.name.clone(),
        driver: Some(spec.driver.clone()),
        ipam: Some(Ipam {
            driver: Some(spec.driver.clone()),
            config: Some(vec![config]),
            options: None,
        }),
        options: Some(spec.options.clone().into_iter().collect()),
        ..NetworkCreateRequest::default()
    }
}

/// dockerd leaves the gateway out when nobody configured one; it is the first address then.
fn gateway_of(network: &NetworkInfo) -> Option<IpAddr> {
    let set = network.gateways.iter().find(|ip| ip.is_ipv4()).copied();
    set.or_else(|| {
        let (first, prefix_len) = network.subnets.iter().find_map(Cidr::v4)?;
        let next = u32::from(first)
            .checked_add(1)
            .filter(|_| prefix_len < 31)?;
        Some(IpAddr::V4(next.into()))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn weave() -> NetworkInfo {
        let value = json!({
            "Name": "weave", "Id": "947d7e2a4c83", "Created": "2026-11-22T09:32:00.03Z",
            "Scope": "local", "Driver": "weavemesh", "EnableIPv6": false,
            "IPAM": { "Driver": "weavemesh", "Options": {},
                "Config": [{ "Subnet": "10.32.0.0/12", "Gateway": "10.47.255.254",
                    "AuxiliaryAddresses": { "printer": "10.32.0.9" } }] },
            "Internal": false, "Options": { "foo": "bar" }, "Labels": {},
            "Containers": {
                "f34e": { "Name": "n1b", "EndpointID": "0066", "MacAddress": "02:42:0a:21:00:05",
                    "IPv4Address": "10.33.0.5/12", "IPv6Address": "" },
                "a111": { "Name": "a", "EndpointID": "0067", "MacAddress": "",
                    "IPv4Address": "10.33.0.6/12", "IPv6Address": "fd00::6/64" }
            }
        });
        NetworkInfo::from_inspect(serde_json::from_value(value).unwrap())
    }

    fn spec() -> NetworkSpec {
        NetworkSpec {
            name: "weave".to_owned(),
            driver: "weavemesh".to_owned(),
            subnet: "10.32.0.0/12".parse().unwrap(),
            options: BTreeMap::from([("foo".to_owned(), "bar".to_owned())]),
        }
    }

    #[test]
    fn an_inspected_network_is_read_completely() {
        let network = weave();
        assert_eq!(network.subnets, ["10.32.0.0/12".parse().unwrap()]);
        assert_eq!(network.ipam_driver, "weavemesh");
        assert_eq!(network.kept_back, ["10.32.0.9".parse::<IpAddr>().unwrap()]);
        let names: Vec<_> = network.containers.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["a", "n1b"]);
        assert_eq!(network.containers[0].addresses.len(), 2);
        assert_eq!(network.containers[0].mac, None);
        assert_eq!(
            network.containers[1].addresses,
            ["10.33.0.5/12".parse().unwrap()]
        );
    }

    #[test]
    fn the_create_request_names_both_drivers_and_the_subnet() {
        let body: Value = serde_json::to_value(create_request(&spec())).unwrap();
        assert_eq!(body["Name"], "weave");
        assert_eq!(body["Driver"], "weavemesh");
        assert_eq!(body["IPAM"]["Driver"], "weavemesh");
        assert_eq!(body["IPAM"]["Config"][0]["Subnet"], "10.32.0.0/12");
        assert_eq!(body["Options"], json!({ "foo": "bar" }));
    }

    #[test]
    fn a_network_of_another_driver_or_subnet_is_not_taken_for_ours() {
        assert!(check_same(&spec(), weave()).is_ok());
        let mut both = weave();
        both.subnets.push("fd00:5::/64".parse().unwrap());
        assert!(check_same(&spec(), both).is_ok());
        let bridge = NetworkInfo {
            driver: "bridge".to_owned(),
            ..weave()
        };
        assert!(matches!(
            check_same(&spec(), bridge),
            Err(Error::ForeignNetwork { .. })
        ));
        let other = NetworkSpec {
            subnet: "10.40.0.0/16".parse().unwrap(),
            ..spec()
        };
        let error = check_same(&other, weave()).unwrap_err();
        assert!(
            error.to_string().contains("10.32.0.0/12, not 10.40.0.0/16"),
            "{error}"
        );
    }

    #[test]
    fn the_bridge_gateway_is_the_first_address_when_none_is_set() {
        let network = |gateways: &[&str]| NetworkInfo {
            subnets: vec!["172.17.0.0/16".parse().unwrap()],
            gateways: gateways.iter().map(|text| text.parse().unwrap()).collect(),
            ..NetworkInfo::default()
        };
        assert_eq!(gateway_of(&network(&[])), "172.17.0.1".parse().ok());
        assert_eq!(
            gateway_of(&network(&["fd00::1", "172.17.5.1"])),
            "172.17.5.1".parse().ok()
        );
        assert_eq!(gateway_of(&NetworkInfo::default()), None);
    }
}
