//! What is stored of networks and endpoints, as JSON under keys of their own.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use weave_wire::{Cidr, InterfaceAddr, Mac, SegmentId};

use crate::daemon::store::Contents;

const NETWORK_PREFIX: &str = "network/";
const ENDPOINT_PREFIX: &str = "endpoint/";

/// A Docker network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NetworkRecord {
    /// Docker's id.
    pub(crate) id: String,
    /// Its addresses.
    pub(crate) subnet: Cidr,
    /// Its IPv6 addresses, if it has any.
    pub(crate) ipv6: Option<Cidr>,
    /// No way out of the network.
    pub(crate) internal: bool,
    /// Containers are given our DNS server.
    pub(crate) dns: bool,
    /// Only what was announced passes.
    pub(crate) strict: bool,
    /// Containers send with their own addresses alone.
    pub(crate) guard: bool,
}

/// Who made an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// dockerd, through the plugin.
    Docker {
        /// The network.
        network: String,
        /// Resolvers given with `--dns`.
        dns: Vec<String>,
        /// The sandbox, once joined.
        sandbox: Option<PathBuf>,
    },
    /// `weave attach`.
    Attached {
        /// Path of the namespace on the host.
        netns: PathBuf,
        /// Name of the container, where there is one.
        container_name: Option<String>,
        /// Name of the interface inside.
        interface: String,
    },
    /// `weave expose`: the host itself, by the bridge.
    Exposed {
        /// Traffic with others passes under the host's own addresses.
        masquerade: bool,
        /// Names of its addresses.
        names: Vec<(String, IpAddr)>,
    },
}

/// A local endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EndpointRecord {
    /// Names it on this host.
    pub(crate) id: String,
    /// Its segment.
    pub(crate) segment: u32,
    /// Its Ethernet address.
    #[serde(with = "text")]
    pub(crate) mac: Mac,
    /// Its addresses; each with the subnet it was allocated in, if it was.
    pub(crate) addresses: Vec<Address>,
    /// First characters of the container's id, once known.
    pub(crate) container: String,
    /// Who made it.
    pub(crate) kind: Kind,
}

/// An address of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Address {
    /// With its prefix.
    #[serde(with = "text")]
    pub(crate) address: InterfaceAddr,
    /// It came from the allocator, under its own subnet.
    pub(crate) allocated: bool,
}

#[derive(Serialize, Deserialize)]
struct StoredNetwork {
    #[serde(with = "text")]
    subnet: Cidr,
    #[serde(with = "some_text", default, skip_serializing_if = "Option::is_none")]
    ipv6: Option<Cidr>,
    internal: bool,
    dns: bool,
    #[serde(default)]
    strict: bool,
    #[serde(default = "guarded")]
    guard: bool,
}

/// What every network is that was made before there was a choice.
fn guarded() -> bool {
    true
}

type Write = (Vec<u8>, Option<Vec<u8>>);

impl NetworkRecord {
    /// Stores it.
    pub(crate) fn write(&self) -> Write {
        let stored = StoredNetwork {
            subnet: self.subnet,
            ipv6: self.ipv6,
            internal: self.internal,
            dns: self.dns,
            strict: self.strict,
            guard: self.guard,
        };
        (
            key(NETWORK_PREFIX, &self.id),
            serde_json::to_vec(&stored).ok(),
        )
    }

    /// Removes it from the store.
    pub(crate) fn removal(&self) -> Write {
        (key(NETWORK_PREFIX, &self.id), None)
    }
}

impl EndpointRecord {
    /// Stores it.
    pub(crate) fn write(&self) -> Write {
        (
            key(ENDPOINT_PREFIX, &self.id),
            serde_json::to_vec(self).ok(),
        )
    }

    /// Removes it from the store.
    pub(crate) fn removal(&self) -> Write {
        (key(ENDPOINT_PREFIX, &self.id), None)
    }

    /// Its segment.
    pub(crate) fn segment(&self) -> SegmentId {
        SegmentId(self.segment)
    }

    /// Path of the sandbox of the container that dockerd joined to it, while one is.
    pub(crate) fn sandbox(&self) -> Option<&Path> {
        match &self.kind {
            Kind::Docker { sandbox, .. } => sandbox.as_deref(),
            Kind::Attached { .. } | Kind::Exposed { .. } => None,
        }
    }

    /// What allocations of its addresses are filed under.
    pub(crate) fn allocated(&self) -> impl Iterator<Item = (Cidr, Ipv4Addr)> + '_ {
        self.addresses.iter().filter_map(Address::allocation)
    }
}

impl Address {
    /// What its allocation is filed under, if it came from the allocator.
    pub(crate) fn allocation(&self) -> Option<(Cidr, Ipv4Addr)> {
        match self.address.ip() {
            IpAddr::V4(ip) if self.allocated => Some((self.address.network(), ip)),
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        }
    }
}

/// What is wrong with the first network or endpoint that cannot be read.
pub(super) fn damaged(contents: &Contents) -> Option<String> {
    let networks = readings::<StoredNetwork>(contents, NETWORK_PREFIX)
        .find_map(|(id, read)| Some((NETWORK_PREFIX, id, read.err()?)));
    let endpoints = || {
        readings::<EndpointRecord>(contents, ENDPOINT_PREFIX)
            .find_map(|(id, read)| Some((ENDPOINT_PREFIX, id, read.err()?)))
    };
    let (prefix, id, error) = networks.or_else(endpoints)?;
    Some(format!("record `{prefix}{id}` cannot be read: {error}"))
}

/// The stored networks. What cannot be read is left out; [`damaged`] tells of it.
pub(super) fn networks(contents: &Contents) -> Vec<NetworkRecord> {
    stored::<StoredNetwork>(contents, NETWORK_PREFIX)
        .map(|(id, stored)| NetworkRecord {
            id,
            subnet: stored.subnet,
            ipv6: stored.ipv6,
            internal: stored.internal,
            dns: stored.dns,
            strict: stored.strict,
            guard: stored.guard,
        })
        .collect()
}

/// The stored endpoints. What cannot be read is left out; [`damaged`] tells of it.
pub(super) fn endpoints(contents: &Contents) -> Vec<EndpointRecord> {
    stored::<EndpointRecord>(contents, ENDPOINT_PREFIX)
        .map(|(_, record)| record)
        .collect()
}

fn stored<'a, T: for<'de> Deserialize<'de> + 'a>(
    contents: &'a Contents,
    prefix: &'a str,
) -> impl Iterator<Item = (String, T)> + 'a {
    readings(contents, prefix).filter_map(|(id, read)| Some((id, read.ok()?)))
}

fn readings<'a, T: for<'de> Deserialize<'de> + 'a>(
    contents: &'a Contents,
    prefix: &'a str,
) -> impl Iterator<Item = (String, Result<T, serde_json::Error>)> + 'a {
    contents.iter().filter_map(move |(key, value)| {
        let id = String::from_utf8_lossy(key.strip_prefix(prefix.as_bytes())?).into_owned();
        Some((id, serde_json::from_slice(value)))
    })
}

fn key(prefix: &str, id: &str) -> Vec<u8> {
    [prefix.as_bytes(), id.as_bytes()].concat()
}

/// Values that are stored as people write them.
mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<T: Display, S: Serializer>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// As [`text`], of what there may be none of.
mod some_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<T: Display, S: Serializer>(
        value: &Option<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => super::text::serialize(value, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        super::text::deserialize(deserializer).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn endpoint() -> EndpointRecord {
        EndpointRecord {
            id: "e1".to_owned(),
            segment: 7,
            mac: Mac([2, 0x77, 10, 32, 0, 1]),
            addresses: vec![
                Address {
                    address: "10.32.0.1/12".parse().unwrap(),
                    allocated: true,
                },
                Address {
                    address: "192.168.7.1/24".parse().unwrap(),
                    allocated: false,
                },
                Address {
                    address: "fd00:5::a20:7/64".parse().unwrap(),
                    allocated: false,
                },
            ],
            container: String::new(),
            kind: Kind::Docker {
                network: "n1".to_owned(),
                dns: Vec::new(),
                sandbox: None,
            },
        }
    }

    #[test]
    fn what_is_stored_comes_back() {
        let network = NetworkRecord {
            id: "n1".to_owned(),
            subnet: "10.33.0.0/24".parse().unwrap(),
            ipv6: "fd00:5::/64".parse().ok(),
            internal: true,
            dns: false,
            strict: true,
            guard: false,
        };
        let exposed = EndpointRecord {
            id: "weave:expose/10.32.0.0/12".to_owned(),
            kind: Kind::Exposed {
                masquerade: false,
                names: vec![("gw.weave.local".to_owned(), [10, 32, 0, 1].into())],
            },
            ..endpoint()
        };
        let ipv4_only = NetworkRecord {
            id: "n2".to_owned(),
            ipv6: None,
            ..network
        };
        let writes = [network.write(), ipv4_only.write()];
        let endpoints_of = [endpoint().write(), exposed.write()];
        let contents: Contents = writes
            .into_iter()
            .chain(endpoints_of)
            .map(|(key, value)| (key, value.unwrap()))
            .collect();
        assert_eq!(networks(&contents), [network, ipv4_only]);
        assert_eq!(endpoints(&contents), [endpoint(), exposed]);
    }

    #[test]
    fn a_network_of_before_there_were_choices_is_guarded_and_not_strict() {
        let stored = br#"{"subnet":"10.33.0.0/24","internal":false,"dns":true}"#;
        let contents: Contents = vec![(b"network/n1".to_vec(), stored.to_vec())];
        let [network] = &*networks(&contents) else {
            panic!("it is not read");
        };
        assert!(network.guard && !network.strict && network.ipv6.is_none());
    }

    #[test]
    fn only_allocated_addresses_are_given_back() {
        let allocated: Vec<_> = endpoint().allocated().collect();
        assert_eq!(
            allocated,
            [("10.32.0.0/12".parse().unwrap(), Ipv4Addr::new(10, 32, 0, 1))]
        );
    }

    proptest! {
        #[test]
        fn any_stored_bytes_are_read_or_left_out(value in any::<Vec<u8>>()) {
            let contents = vec![
                (b"network/x".to_vec(), value.clone()),
                (b"endpoint/x".to_vec(), value),
            ];
            prop_assert!(networks(&contents).is_empty() || endpoints(&contents).is_empty());
            let told = damaged(&contents).unwrap_or_default();
            prop_assert!(told.contains("network/x") || told.contains("endpoint/x"));
        }
    }
}
