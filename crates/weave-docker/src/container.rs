//! What Docker knows of one container, and the names it deserves.
//!
//! Owns the reading of `GET /containers/ID/json`; decides nothing about who sees the names.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use bollard::models::{ContainerInspectResponse, EndpointSettings};
use weave_wire::Mac;

/// Docker's short form of an id.
const SHORT_ID: usize = 12;
/// Longest label and longest name of DNS (RFC 1035 section 2.3.4).
const MAX_LABEL: usize = 63;
const MAX_NAME: usize = 253;

/// A container, as far as the mesh cares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerInfo {
    /// Full id.
    pub id: String,
    /// Name, without Docker's leading slash.
    pub name: String,
    /// `--hostname`; the short id if none was given.
    pub hostname: String,
    /// `--domainname`, often empty.
    pub domainname: String,
    /// Whether its process runs (also while paused).
    pub running: bool,
    /// Host pid of its first process, while it runs.
    pub pid: Option<u32>,
    /// Path of its network namespace, as dockerd names it (`SandboxKey`).
    pub netns: Option<PathBuf>,
    /// `--net`: a network, `host`, `none` or `container:ID`.
    pub network_mode: String,
    /// `--dns`.
    pub dns: Vec<String>,
    /// Its networks, ordered by name.
    pub networks: Vec<ContainerNetwork>,
}

/// One network of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerNetwork {
    /// Name of the network.
    pub name: String,
    /// Id of the network.
    pub network_id: String,
    /// Id of the endpoint, empty while the container does not run.
    pub endpoint_id: String,
    /// Addresses with prefix lengths: IPv4 first.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Its MAC address.
    pub mac: Option<Mac>,
    /// `--network-alias` and what else dockerd answers for on this network.
    pub aliases: Vec<String>,
}

/// The names of one running container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerNames {
    /// First 12 characters of the id.
    pub container: String,
    /// Fully qualified names, lower case, without a final dot, each with one address; sorted.
    pub names: Vec<(String, IpAddr)>,
    /// Endpoint ids on networks of ours, sorted.
    pub endpoints: Vec<String>,
}

impl ContainerInfo {
    /// First 12 characters of the id, as `docker ps` shows it.
    pub fn short_id(&self) -> &str {
        self.id.get(..SHORT_ID).unwrap_or(&self.id)
    }

    /// Where its network namespace can be opened: the sandbox, else by its process.
    pub fn netns_path(&self) -> Option<PathBuf> {
        let by_pid = || {
            self.pid
                .map(|pid| PathBuf::from(format!("/proc/{pid}/ns/net")))
        };
        self.netns.clone().or_else(by_pid)
    }

    pub(crate) fn from_inspect(inspect: ContainerInspectResponse) -> Self {
        let state = inspect.state.unwrap_or_default();
        let config = inspect.config.unwrap_or_default();
        let host = inspect.host_config.unwrap_or_default();
        let settings = inspect.network_settings.unwrap_or_default();
        let running = state.running.unwrap_or_default();
        let mut networks: Vec<_> = settings
            .networks
            .unwrap_or_default()
            .into_iter()
            .map(|(name, endpoint)| ContainerNetwork::from_settings(name, endpoint))
            .collect();
        networks.sort_by(|a, b| a.name.cmp(&b.name));
        Self {
            id: inspect.id.unwrap_or_default(),
            name: inspect
                .name
                .unwrap_or_default()
                .trim_start_matches('/')
                .to_owned(),
            hostname: config.hostname.unwrap_or_default(),
            domainname: config.domainname.unwrap_or_default(),
            running,
            pid: state
                .pid
                .and_then(|pid| u32::try_from(pid).ok())
                .filter(|pid| *pid > 0),
            netns: settings
                .sandbox_key
                .filter(|key| !key.is_empty() && running)
                .map(Into::into),
            network_mode: host.network_mode.unwrap_or_default(),
            dns: host.dns.unwrap_or_default(),
            networks,
        }
    }
}

impl ContainerNetwork {
    fn from_settings(name: String, endpoint: EndpointSettings) -> Self {
        let v4 = address(endpoint.ip_address, endpoint.ip_prefix_len);
        let v6 = address(
            endpoint.global_ipv6_address,
            endpoint.global_ipv6_prefix_len,
        );
        let mut aliases = endpoint.aliases.unwrap_or_default();
        aliases.extend(endpoint.dns_names.unwrap_or_default());
        Self {
            name,
            network_id: endpoint.network_id.unwrap_or_default(),
            endpoint_id: endpoint.endpoint_id.unwrap_or_default(),
            addresses: v4.into_iter().chain(v6).collect(),
            mac: endpoint.mac_address.and_then(|text| text.parse().ok()),
            aliases,
        }
    }
}

fn address(ip: Option<String>, prefix_len: Option<i64>) -> Option<(IpAddr, u8)> {
    let ip = ip?.parse().ok()?;
    let prefix_len = prefix_len
        .and_then(|length| u8::try_from(length).ok())
        .unwrap_or_default();
    Some((ip, prefix_len))
}

/// The names of a container under `domain` on the networks whose ids are in `ours`; `None` when
/// it deserves none: it does not run, or is on no network of ours.
///
/// Names are its host name if that lies under the domain, its container name, and each network
/// alias; the last two are put under the domain when they are bare. Docker's short id, which it
/// makes an alias of every container, is no name.
pub fn names_of(
    info: &ContainerInfo,
    ours: &BTreeSet<String>,
    domain: &str,
) -> Option<ContainerNames> {
    if !info.running {
        return None;
    }
    let domain = domain.trim_matches('.').to_ascii_lowercase();
    let mut names = BTreeSet::new();
    let mut endpoints = BTreeSet::new();
    for network in info
        .networks
        .iter()
        .filter(|network| ours.contains(&network.network_id))
    {
        endpoints.insert(network.endpoint_id.clone());
        let found = names_on(info, network, &domain);
        for &(ip, _) in &network.addresses {
            names.extend(found.iter().map(|name| (name.clone(), ip)));
        }
    }
    if endpoints.is_empty() {
        return None;
    }
    Some(ContainerNames {
        container: info.short_id().to_owned(),
        names: names.into_iter().collect(),
        endpoints: endpoints.into_iter().filter(|id| !id.is_empty()).collect(),
    })
}

fn names_on(info: &ContainerInfo, network: &ContainerNetwork, domain: &str) -> BTreeSet<String> {
    let is_id = |text: &str| text == info.id || text == info.short_id();
    let aliases = network.aliases.iter().filter(|alias| !is_id(alias));
    let mut names: BTreeSet<String> = aliases.filter_map(|alias| bare(alias, domain)).collect();
    names.extend(under(&info.name, domain).or_else(|| {
        let qualified = format!("{}.{domain}", info.name);
        under(&qualified, domain)
    }));
    let hostname = if info.domainname.is_empty() {
        info.hostname.clone()
    } else {
        format!("{}.{}", info.hostname, info.domainname)
    };
    names.extend(under(&hostname, domain));
    names
}

/// An alias: put under the domain if it is a single label, taken as it is if it lies there.
fn bare(alias: &str, domain: &str) -> Option<String> {
    if alias.contains('.') {
        return under(alias, domain);
    }
    under(&format!("{alias}.{domain}"), domain)
}

/// The name in lower case, if it is a legal one that lies under the domain.
fn under(name: &str, domain: &str) -> Option<String> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let rest = name.strip_suffix(domain)?.strip_suffix('.')?;
    let legal = |label: &str| {
        let byte = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !label.is_empty() && label.len() <= MAX_LABEL && label.bytes().all(byte)
    };
    (name.len() <= MAX_NAME && rest.split('.').all(legal)).then_some(name)
}
