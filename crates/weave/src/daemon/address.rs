//! Addresses as users ask for them, for `attach` and `expose`.

use std::net::IpAddr;

use weave_wire::{Cidr, InterfaceAddr, WireError};

use super::networks::{Address, Networks};
use crate::api::types::AddressSpec;
use crate::api::{ApiError, ApiErrorKind};

/// The subnet that a request is about.
///
/// # Errors
/// When its prefix makes no sense.
pub(super) fn subnet_of(spec: &AddressSpec, default: Cidr) -> Result<Cidr, ApiError> {
    match spec {
        AddressSpec::Address { ip, prefix_len } => InterfaceAddr::new(*ip, *prefix_len)
            .map(|address| address.network())
            .map_err(bad),
        AddressSpec::Subnet {
            network,
            prefix_len,
        } => Cidr::new(*network, *prefix_len).map_err(bad),
        AddressSpec::DefaultSubnet => Ok(default),
    }
}

/// Whether a request means this address.
pub(super) fn is_meant(spec: &AddressSpec, address: &InterfaceAddr, default: Cidr) -> bool {
    match spec {
        AddressSpec::Address { ip, prefix_len } => {
            address.ip() == *ip && address.prefix_len() == *prefix_len
        }
        AddressSpec::Subnet { .. } | AddressSpec::DefaultSubnet => {
            subnet_of(spec, default).is_ok_and(|subnet| subnet == address.network())
        }
    }
}

/// The address itself, allocated for `owner` if it is of our range.
///
/// # Errors
/// With the reason why there is none.
pub(super) async fn take(
    networks: &Networks,
    spec: &AddressSpec,
    owner: &str,
) -> Result<Address, ApiError> {
    let subnet = subnet_of(spec, networks.default_subnet())?;
    let wanted = match spec {
        AddressSpec::Address { ip, .. } => Some(*ip),
        AddressSpec::Subnet { .. } | AddressSpec::DefaultSubnet => None,
    };
    if let Some(ip) = wanted
        && !networks.range().contains(ip)
    {
        return Ok(Address {
            address: InterfaceAddr::new(ip, subnet.prefix_len()).map_err(bad)?,
            allocated: false,
        });
    }
    let wanted = match wanted {
        Some(IpAddr::V4(ip)) => Some(ip),
        Some(IpAddr::V6(_)) | None => None,
    };
    let ip = networks
        .control()
        .allocate(owner.to_owned(), subnet, wanted)
        .await
        .map_err(|why| ApiError::new(ApiErrorKind::Conflict, why))?;
    Ok(Address {
        address: InterfaceAddr::new(ip, subnet.prefix_len()).map_err(bad)?,
        allocated: true,
    })
}

fn bad(error: WireError) -> ApiError {
    ApiError::new(ApiErrorKind::BadRequest, error.to_string())
}
