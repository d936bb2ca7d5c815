//! Requests and answers of the NetworkDriver half.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use weave_wire::{Cidr, InterfaceAddr, Mac};

use super::json::{self, Malformed, nullable};

const GENERIC: &str = "com.docker.network.generic";
const INTERNAL: &str = "com.docker.network.internal";
const ENABLE_IPV6: &str = "com.docker.network.enable_ipv6";
const DNS_SERVERS: &str = "com.docker.network.endpoint.dnsservers";
const EXPOSED_PORTS: &str = "com.docker.network.endpoint.exposedports";
const PORT_MAP: &str = "com.docker.network.portmap";

/// A network comes to this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateNetwork {
    /// Docker's id: ASCII letters and digits.
    pub network_id: String,
    /// `-o key=value`.
    pub options: BTreeMap<String, String>,
    /// `--internal`: no way out of the network.
    pub internal: bool,
    /// `--ipv6`.
    pub enable_ipv6: bool,
    /// IPv4 subnets, usually one.
    pub ipv4: Vec<NetworkPool>,
    /// IPv6 subnets.
    pub ipv6: Vec<NetworkPool>,
}

/// A subnet of a network, as the IPAM driver (ours or another) gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkPool {
    /// The address space it is from.
    pub address_space: String,
    /// The subnet.
    pub subnet: Cidr,
    /// The gateway's address in it.
    pub gateway: Option<InterfaceAddr>,
    /// `--aux-address name=address`.
    pub aux_addresses: BTreeMap<String, InterfaceAddr>,
}

/// Names one endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointRef {
    /// Docker's id of the network.
    pub network_id: String,
    /// Docker's id of the endpoint; new at each start of a container.
    pub endpoint_id: String,
}

/// A container is about to get an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateEndpoint {
    /// The endpoint.
    pub endpoint: EndpointRef,
    /// What dockerd knows of the interface.
    pub interface: EndpointInterface,
    /// What the user asked for.
    pub options: EndpointOptions,
}

/// Addresses of an endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndpointInterface {
    /// IPv4 address.
    pub address: Option<InterfaceAddr>,
    /// IPv6 address.
    pub address_ipv6: Option<InterfaceAddr>,
    /// `--mac-address`; `None` asks the driver for one.
    pub mac: Option<Mac>,
}

/// Options of an endpoint; whatever dockerd wrote in a shape not known here is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndpointOptions {
    /// `--dns`, else the daemon's own `dns` setting.
    pub dns_servers: Vec<String>,
    /// `--expose` and EXPOSE.
    pub exposed_ports: Vec<Port>,
    /// `-p`.
    pub port_map: Vec<PortBinding>,
    /// `--driver-opt`.
    pub generic: BTreeMap<String, String>,
}

/// A port of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// IP protocol number: 6 TCP, 17 UDP, 132 SCTP.
    pub protocol: u8,
    /// Port number.
    pub port: u16,
}

/// A published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortBinding {
    /// The container's side.
    pub container: Port,
    /// The host's address, if not all of them.
    pub host_ip: Option<IpAddr>,
    /// First host port, 0 for any.
    pub host_port: u16,
    /// Last host port of the range.
    pub host_port_end: u16,
}

/// The sandbox exists; its container does not run yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// The endpoint.
    pub endpoint: EndpointRef,
    /// Path of the network namespace, as dockerd sees it.
    pub sandbox_key: PathBuf,
    /// What the user asked for.
    pub options: EndpointOptions,
}

/// What dockerd shall do with the interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// Name of the interface in the host's namespace.
    pub source_name: String,
    /// Name in the container, to which dockerd adds a number.
    pub target_prefix: String,
    /// Default gateway over this interface.
    pub gateway: Option<IpAddr>,
    /// Routes beyond the subnet's own.
    pub routes: Vec<Route>,
    /// Whether the container shall have no way out over `docker_gwbridge` either.
    pub disable_gateway_service: bool,
}

/// A route in the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub destination: Cidr,
    /// How.
    pub kind: RouteKind,
}

/// The way of a [`Route`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteKind {
    /// Straight over the interface.
    OnLink,
    /// By way of a neighbour.
    Via(IpAddr),
}

/// Ports to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalConnectivity {
    /// The endpoint.
    pub endpoint: EndpointRef,
    /// Which ports.
    pub options: EndpointOptions,
}

/// Swarm plans a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllocateNetwork {
    /// Swarm's id of the network.
    pub network_id: String,
    /// The user's options.
    pub options: BTreeMap<String, String>,
    /// IPv4 subnets.
    pub ipv4: Vec<NetworkPool>,
    /// IPv6 subnets.
    pub ipv6: Vec<NetworkPool>,
}

/// A discovery notice of swarm.
#[derive(Debug, Clone, PartialEq)]
pub struct Discovery {
    /// 1 is a node.
    pub kind: i64,
    /// Depends on the kind.
    pub data: Value,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct NetworkBody {
    #[serde(rename = "NetworkID", deserialize_with = "nullable")]
    network_id: String,
    #[serde(deserialize_with = "nullable")]
    options: Map<String, Value>,
    #[serde(rename = "IPv4Data", deserialize_with = "nullable")]
    ipv4: Vec<PoolBody>,
    #[serde(rename = "IPv6Data", deserialize_with = "nullable")]
    ipv6: Vec<PoolBody>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct PoolBody {
    #[serde(deserialize_with = "nullable")]
    address_space: String,
    #[serde(deserialize_with = "nullable")]
    pool: String,
    #[serde(deserialize_with = "nullable")]
    gateway: String,
    #[serde(deserialize_with = "nullable")]
    aux_addresses: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct EndpointBody {
    #[serde(rename = "NetworkID", deserialize_with = "nullable")]
    network_id: String,
    #[serde(rename = "EndpointID", deserialize_with = "nullable")]
    endpoint_id: String,
    #[serde(deserialize_with = "nullable")]
    interface: InterfaceBody,
    #[serde(deserialize_with = "nullable")]
    sandbox_key: String,
    #[serde(deserialize_with = "nullable")]
    options: Map<String, Value>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct InterfaceBody {
    #[serde(deserialize_with = "nullable")]
    address: String,
    #[serde(rename = "AddressIPv6", deserialize_with = "nullable")]
    address_ipv6: String,
    #[serde(deserialize_with = "nullable")]
    mac_address: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct DiscoveryBody {
    #[serde(deserialize_with = "nullable")]
    discovery_type: i64,
    discovery_data: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PortBody {
    proto: u8,
    port: u16,
    #[serde(rename = "HostIP", default)]
    host_ip: String,
    #[serde(default)]
    host_port: u16,
    #[serde(default)]
    host_port_end: u16,
}

pub(super) fn create_network(body: &[u8]) -> Result<CreateNetwork, Malformed> {
    let body: NetworkBody = json::parse(body)?;
    let flag = |key: &str| {
        body.options
            .get(key)
            .and_then(Value::as_bool)
            .unwrap_or(false)
    };
    Ok(CreateNetwork {
        options: generic(&body.options),
        internal: flag(INTERNAL),
        enable_ipv6: flag(ENABLE_IPV6),
        ipv4: pools("IPv4Data", body.ipv4)?,
        ipv6: pools("IPv6Data", body.ipv6)?,
        network_id: json::id("NetworkID", body.network_id)?,
    })
}

pub(super) fn allocate_network(body: &[u8]) -> Result<AllocateNetwork, Malformed> {
    let body: NetworkBody = json::parse(body)?;
    Ok(AllocateNetwork {
        options: json::strings(&body.options),
        ipv4: pools("IPv4Data", body.ipv4)?,
        ipv6: pools("IPv6Data", body.ipv6)?,
        network_id: json::id("NetworkID", body.network_id)?,
    })
}

pub(super) fn network_id(body: &[u8]) -> Result<String, Malformed> {
    json::id("NetworkID", json::parse::<EndpointBody>(body)?.network_id)
}

pub(super) fn create_endpoint(body: &[u8]) -> Result<CreateEndpoint, Malformed> {
    let body: EndpointBody = json::parse(body)?;
    let interface = EndpointInterface {
        address: json::interface("Interface.Address", &body.interface.address)?,
        address_ipv6: json::interface("Interface.AddressIPv6", &body.interface.address_ipv6)?,
        mac: json::mac("Interface.MacAddress", &body.interface.mac_address)?,
    };
    let options = endpoint_options(&body.options);
    Ok(CreateEndpoint {
        endpoint: endpoint_ref(body)?,
        interface,
        options,
    })
}

pub(super) fn endpoint(body: &[u8]) -> Result<EndpointRef, Malformed> {
    endpoint_ref(json::parse(body)?)
}

pub(super) fn join(body: &[u8]) -> Result<Join, Malformed> {
    let mut body: EndpointBody = json::parse(body)?;
    let sandbox_key = std::mem::take(&mut body.sandbox_key);
    if !sandbox_key.starts_with('/') || sandbox_key.contains('\0') {
        return Err("malformed request: SandboxKey is not an absolute path".to_owned());
    }
    let options = endpoint_options(&body.options);
    Ok(Join {
        endpoint: endpoint_ref(body)?,
        sandbox_key: sandbox_key.into(),
        options,
    })
}

pub(super) fn external_connectivity(body: &[u8]) -> Result<ExternalConnectivity, Malformed> {
    let body: EndpointBody = json::parse(body)?;
    let options = endpoint_options(&body.options);
    Ok(ExternalConnectivity {
        endpoint: endpoint_ref(body)?,
        options,
    })
}

pub(super) fn discovery(body: &[u8]) -> Result<Discovery, Malformed> {
    let body: DiscoveryBody = json::parse(body)?;
    Ok(Discovery {
        kind: body.discovery_type,
        data: body.discovery_data,
    })
}

pub(super) fn endpoint_reply(mac: Option<Mac>) -> Value {
    match mac {
        Some(mac) => json!({ "Interface": { "MacAddress": mac.to_string() } }),
        None => json!({ "Interface": {} }),
    }
}

pub(super) fn join_reply(joined: &Joined) -> Value {
    let (mut gateway, mut gateway_ipv6) = (String::new(), String::new());
    match joined.gateway {
        Some(IpAddr::V4(ip)) => gateway = ip.to_string(),
        Some(IpAddr::V6(ip)) => gateway_ipv6 = ip.to_string(),
        None => {}
    }
    let routes: Vec<Value> = joined.routes.iter().map(route_reply).collect();
    json!({
        "InterfaceName": { "SrcName": joined.source_name, "DstPrefix": joined.target_prefix },
        "Gateway": gateway,
        "GatewayIPv6": gateway_ipv6,
        "StaticRoutes": routes,
        "DisableGatewayService": joined.disable_gateway_service,
    })
}

/// RouteType 0 goes by way of NextHop, 1 is on link.
fn route_reply(route: &Route) -> Value {
    let (kind, next_hop) = match route.kind {
        RouteKind::OnLink => (1, String::new()),
        RouteKind::Via(ip) => (0, ip.to_string()),
    };
    json!({ "Destination": route.destination.to_string(), "RouteType": kind, "NextHop": next_hop })
}

fn endpoint_ref(body: EndpointBody) -> Result<EndpointRef, Malformed> {
    Ok(EndpointRef {
        network_id: json::id("NetworkID", body.network_id)?,
        endpoint_id: json::id("EndpointID", body.endpoint_id)?,
    })
}

fn pools(field: &str, bodies: Vec<PoolBody>) -> Result<Vec<NetworkPool>, Malformed> {
    bodies.into_iter().map(|body| pool(field, body)).collect()
}

fn pool(field: &str, body: PoolBody) -> Result<NetworkPool, Malformed> {
    let Some(subnet) = json::subnet(field, &body.pool)? else {
        return Err(format!(
            "malformed request: {field} has an entry without a Pool"
        ));
    };
    let mut aux_addresses = BTreeMap::new();
    for (name, text) in body.aux_addresses {
        if let Some(address) = json::interface("AuxAddresses", &text)? {
            aux_addresses.insert(name, address);
        }
    }
    Ok(NetworkPool {
        address_space: body.address_space,
        subnet,
        gateway: json::interface("Gateway", &body.gateway)?,
        aux_addresses,
    })
}

fn endpoint_options(options: &Map<String, Value>) -> EndpointOptions {
    let list = |key: &str| {
        options
            .get(key)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let ports = |key: &str| -> Vec<PortBody> {
        list(key)
            .into_iter()
            .filter_map(|value| serde_json::from_value(value).ok())
            .collect()
    };
    EndpointOptions {
        dns_servers: list(DNS_SERVERS)
            .iter()
            .filter_map(|value| value.as_str().map(str::to_owned))
            .collect(),
        exposed_ports: ports(EXPOSED_PORTS).iter().map(container_port).collect(),
        port_map: ports(PORT_MAP).iter().map(port_binding).collect(),
        generic: generic(options),
    }
}

const fn container_port(body: &PortBody) -> Port {
    Port {
        protocol: body.proto,
        port: body.port,
    }
}

fn port_binding(body: &PortBody) -> PortBinding {
    PortBinding {
        container: container_port(body),
        host_ip: body.host_ip.parse().ok(),
        host_port: body.host_port,
        host_port_end: body.host_port_end,
    }
}

fn generic(options: &Map<String, Value>) -> BTreeMap<String, String> {
    options
        .get(GENERIC)
        .and_then(Value::as_object)
        .map(json::strings)
        .unwrap_or_default()
}
