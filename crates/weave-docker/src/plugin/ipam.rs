//! Requests and answers of the IpamDriver half.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use weave_wire::{Cidr, InterfaceAddr, Mac};

use super::json::{self, Malformed, nullable};

/// Value of `RequestAddressType` when the address is for the network's gateway.
const GATEWAY_TYPE: &str = "com.docker.network.gateway";
/// Option that carries a MAC, for drivers that ask for it.
const MAC_OPTION: &str = "com.docker.network.endpoint.macaddress";

/// `docker network create` wants a subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestPool {
    /// One of the two address spaces that we named.
    pub address_space: String,
    /// `--subnet`; `None` asks the driver to choose.
    pub pool: Option<Cidr>,
    /// `--ip-range`.
    pub sub_pool: Option<Cidr>,
    /// `--ipam-opt`.
    pub options: BTreeMap<String, String>,
    /// Whether IPv6 is wanted.
    pub v6: bool,
}

/// The subnet given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Named again in every request for an address of it.
    pub id: String,
    /// The subnet.
    pub subnet: Cidr,
}

/// An address is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestAddress {
    /// The pool it must come from.
    pub pool_id: String,
    /// `--ip`, `--gateway` or `--aux-address`; `None` leaves the choice to the driver.
    pub address: Option<IpAddr>,
    /// Whether it is for the network's gateway.
    pub gateway: bool,
    /// `--mac-address`, if dockerd says.
    pub mac: Option<Mac>,
}

/// An address is free again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseAddress {
    /// The pool it came from.
    pub pool_id: String,
    /// The address.
    pub address: IpAddr,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct PoolBody {
    #[serde(deserialize_with = "nullable")]
    address_space: String,
    #[serde(deserialize_with = "nullable")]
    pool: String,
    #[serde(deserialize_with = "nullable")]
    sub_pool: String,
    #[serde(deserialize_with = "nullable")]
    options: Map<String, Value>,
    #[serde(deserialize_with = "nullable")]
    v6: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct AddressBody {
    #[serde(rename = "PoolID", deserialize_with = "nullable")]
    pool_id: String,
    #[serde(deserialize_with = "nullable")]
    address: String,
    #[serde(deserialize_with = "nullable")]
    options: Map<String, Value>,
}

pub(super) fn request_pool(body: &[u8]) -> Result<RequestPool, Malformed> {
    let body: PoolBody = json::parse(body)?;
    Ok(RequestPool {
        address_space: body.address_space,
        pool: json::subnet("Pool", &body.pool)?,
        sub_pool: json::subnet("SubPool", &body.sub_pool)?,
        options: json::strings(&body.options),
        v6: body.v6,
    })
}

pub(super) fn release_pool(body: &[u8]) -> Result<String, Malformed> {
    pool_id(json::parse::<AddressBody>(body)?.pool_id)
}

pub(super) fn request_address(body: &[u8]) -> Result<RequestAddress, Malformed> {
    let body: AddressBody = json::parse(body)?;
    let option = |key: &str| body.options.get(key).and_then(Value::as_str);
    Ok(RequestAddress {
        address: json::address("Address", &body.address)?,
        gateway: option("RequestAddressType") == Some(GATEWAY_TYPE),
        mac: option(MAC_OPTION).and_then(|text| text.parse().ok()),
        pool_id: pool_id(body.pool_id)?,
    })
}

pub(super) fn release_address(body: &[u8]) -> Result<ReleaseAddress, Malformed> {
    let body: AddressBody = json::parse(body)?;
    let Some(address) = json::address("Address", &body.address)? else {
        return Err("malformed request: Address is missing".to_owned());
    };
    Ok(ReleaseAddress {
        pool_id: pool_id(body.pool_id)?,
        address,
    })
}

pub(super) fn pool_reply(pool: &Pool) -> Value {
    json!({ "PoolID": pool.id, "Pool": pool.subnet.to_string(), "Data": {} })
}

pub(super) fn address_reply(address: &InterfaceAddr) -> Value {
    json!({ "Address": address.to_string(), "Data": {} })
}

/// Pool ids are our own words given back: any text will do, but there must be one.
fn pool_id(id: String) -> Result<String, Malformed> {
    if id.is_empty() {
        return Err("malformed request: PoolID is missing".to_owned());
    }
    Ok(id)
}
