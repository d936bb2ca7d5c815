//! Lenient reading of request bodies: dockerd is written in Go, where a missing field, `null` and
//! the zero value are one thing, and unknown fields are no error.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use weave_wire::{Cidr, InterfaceAddr, Mac};

/// Why a body could not be understood; becomes the text of the error answer.
pub(super) type Malformed = String;

/// Longest identifier that is taken for one. Docker's have 64 characters, swarm's 25.
const MAX_ID: usize = 128;

/// Parses a body; an empty one counts as `{}`.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Malformed> {
    let body = if body.trim_ascii().is_empty() {
        b"{}"
    } else {
        body
    };
    serde_json::from_slice(body).map_err(|error| format!("malformed request: {error}"))
}

/// For `#[serde(deserialize_with)]`: `null` is the default value.
pub(super) fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Checks an identifier: not empty, not long, ASCII letters, digits, `-` and `_` only, so that
/// it may be sliced by bytes and stand in file and interface names.
pub(super) fn id(field: &str, value: String) -> Result<String, Malformed> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if value.is_empty() || value.len() > MAX_ID || !value.bytes().all(legal) {
        return Err(format!("malformed request: {field} is not an identifier"));
    }
    Ok(value)
}

/// Reads a subnet; the empty string is `None`, host bits are cut off as Docker does.
pub(super) fn subnet(field: &str, text: &str) -> Result<Option<Cidr>, Malformed> {
    Ok(interface(field, text)?.map(|address| address.network()))
}

/// Reads an address with prefix; the empty string is `None`.
pub(super) fn interface(field: &str, text: &str) -> Result<Option<InterfaceAddr>, Malformed> {
    optional(text, |text| text.parse().ok())
        .map_err(|()| format!("malformed request: {field} {text:?} is not an address with prefix"))
}

/// Reads an address, with or without prefix; the empty string is `None`.
pub(super) fn address(field: &str, text: &str) -> Result<Option<IpAddr>, Malformed> {
    optional(text, |text| match text.parse() {
        Ok(ip) => Some(ip),
        Err(_) => text
            .parse::<InterfaceAddr>()
            .ok()
            .map(|address| address.ip()),
    })
    .map_err(|()| format!("malformed request: {field} {text:?} is not an address"))
}

/// Reads a MAC address; the empty string is `None`.
pub(super) fn mac(field: &str, text: &str) -> Result<Option<Mac>, Malformed> {
    optional(text, |text| text.parse().ok())
        .map_err(|()| format!("malformed request: {field} {text:?} is not a MAC address"))
}

/// The string values of a JSON object; anything else in it is passed over.
pub(super) fn strings(map: &Map<String, Value>) -> BTreeMap<String, String> {
    map.iter()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

fn optional<T>(text: &str, read: impl Fn(&str) -> Option<T>) -> Result<Option<T>, ()> {
    if text.is_empty() {
        return Ok(None);
    }
    read(text).map(Some).ok_or(())
}
