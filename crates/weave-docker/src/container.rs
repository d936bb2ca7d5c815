//! What Docker knows of one container, and the names it deserves.
//!
//! Owns the reading of `GET /containers/ID/json`; decides nothing about who sees the names.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use bollard::models::{
    ContainerInspectResponse, EndpointSettings, RestartPolicy, RestartPolicyNameEnum,
};
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
    /// Whether Docker is about to start it again.
    pub restarting: bool,
    /// Whether Docker is to start it again when it ends (`--restart`).
    pub has_restart_policy: bool,
    /// Why it could not be started the last time; empty if it could.
    pub error: String,
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

/// First 12 characters of an id.
pub(crate) fn short_id(id: &str) -> &str {
    id.get(..SHORT_ID).unwrap_or(id)
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
    /// Names that it was given and does not get, because they lie outside of the domain or are
    /// none; sorted.
    pub refused: Vec<String>,
}

impl ContainerInfo {
    /// First 12 characters of the id, as `docker ps` shows it.
    pub fn short_id(&self) -> &str {
        short_id(&self.id)
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
            restarting: state.restarting.unwrap_or_default(),
            has_restart_policy: host.restart_policy.is_some_and(restarts),
            error: state.error.unwrap_or_default(),
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

fn restarts(policy: RestartPolicy) -> bool {
    match policy.name {
        Some(
            RestartPolicyNameEnum::ALWAYS
            | RestartPolicyNameEnum::UNLESS_STOPPED
            | RestartPolicyNameEnum::ON_FAILURE,
        ) => true,
        Some(RestartPolicyNameEnum::EMPTY | RestartPolicyNameEnum::NO) | None => false,
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
    let mut refused = BTreeSet::new();
    for network in info
        .networks
        .iter()
        .filter(|network| ours.contains(&network.network_id))
    {
        endpoints.insert(network.endpoint_id.clone());
        let (found, elsewhere) = names_on(info, network, &domain);
        refused.extend(elsewhere);
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
        refused: refused.into_iter().collect(),
    })
}

/// The names on one network, and those that it was given in vain.
fn names_on(
    info: &ContainerInfo,
    network: &ContainerNetwork,
    domain: &str,
) -> (BTreeSet<String>, BTreeSet<String>) {
    let is_own = |text: &str| text == info.id || text == info.short_id() || text == info.name;
    let (mut names, mut refused) = (BTreeSet::new(), BTreeSet::new());
    let aliases = network.aliases.iter().filter(|alias| !is_own(alias));
    for alias in aliases {
        // a single label is put under the domain
        let name = match alias.contains('.') {
            true => under(alias, domain),
            false => under(&format!("{alias}.{domain}"), domain),
        };
        match name {
            Some(name) => names.insert(name),
            None => refused.insert(alias.clone()),
        };
    }
    names.extend(under(&info.name, domain).or_else(|| {
        let qualified = format!("{}.{domain}", info.name);
        under(&qualified, domain)
    }));
    let hostname = match info.domainname.is_empty() {
        true => info.hostname.clone(),
        false => format!("{}.{}", info.hostname, info.domainname),
    };
    match under(&hostname, domain) {
        Some(name) => {
            names.insert(name);
        }
        None if hostname.contains('.') && hostname != info.name => {
            refused.insert(hostname);
        }
        None => {}
    }
    (names, refused)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// The shape that Docker 20.10 answers with, cut to what is read.
    fn inspect(hostname: &str, domainname: &str, aliases: &[&str]) -> ContainerInfo {
        let value = json!({
            "Id": "f34ef1c4c4ef00112233445566778899",
            "Name": "/n1B",
            "State": { "Status": "running", "Running": true, "Pid": 4242 },
            "Config": { "Hostname": hostname, "Domainname": domainname },
            "HostConfig": { "NetworkMode": "weave", "Dns": ["172.17.0.1"] },
            "NetworkSettings": {
                "SandboxKey": "/var/run/docker/netns/71c2169d7e70",
                "Networks": {
                    "weave": {
                        "Aliases": aliases, "MacAddress": "02:42:0a:21:00:05",
                        "NetworkID": "947d7e2a4c83", "EndpointID": "0066ad97d8ef",
                        "Gateway": "", "IPAddress": "10.33.0.5", "IPPrefixLen": 12,
                        "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "DNSNames": null
                    },
                    "bridge": {
                        "Aliases": ["hidden"], "NetworkID": "b41d9e", "EndpointID": "aa",
                        "IPAddress": "172.17.0.2", "IPPrefixLen": 16
                    }
                }
            }
        });
        ContainerInfo::from_inspect(serde_json::from_value(value).unwrap())
    }

    fn ours() -> BTreeSet<String> {
        BTreeSet::from(["947d7e2a4c83".to_owned(), "other".to_owned()])
    }

    fn names(info: &ContainerInfo) -> Vec<String> {
        let found = names_of(info, &ours(), "weave.local").unwrap();
        let ip: IpAddr = "10.33.0.5".parse().unwrap();
        assert!(
            found.names.iter().all(|(_, found)| *found == ip),
            "{found:?}"
        );
        found.names.into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn an_inspected_container_is_read_completely() {
        let info = inspect("nyc.weave.local", "", &["db"]);
        assert_eq!(info.name, "n1B");
        assert_eq!(info.short_id(), "f34ef1c4c4ef");
        assert_eq!(info.pid, Some(4242));
        assert_eq!(
            info.netns_path(),
            Some("/var/run/docker/netns/71c2169d7e70".into())
        );
        assert_eq!(info.dns, ["172.17.0.1"]);
        let weave = &info.networks[1];
        assert_eq!(weave.endpoint_id, "0066ad97d8ef");
        assert_eq!(weave.addresses, [("10.33.0.5".parse().unwrap(), 12)]);
        assert_eq!(weave.mac, "02:42:0a:21:00:05".parse().ok());
    }

    #[test]
    fn host_name_container_name_and_aliases_become_names() {
        let info = inspect(
            "nyc.weave.local",
            "",
            &["db", "f34ef1c4c4ef", "nyc.weave.local"],
        );
        assert_eq!(
            names(&info),
            ["db.weave.local", "n1b.weave.local", "nyc.weave.local"]
        );
    }

    #[test]
    fn host_and_domain_name_may_be_given_apart() {
        let info = inspect("NYC", "Weave.Local", &[]);
        assert_eq!(names(&info), ["n1b.weave.local", "nyc.weave.local"]);
    }

    #[test]
    fn host_names_and_aliases_elsewhere_are_none() {
        let info = inspect(
            "nyc.example.org",
            "",
            &["db.example.org", "weave.local", "-.x", "a b"],
        );
        assert_eq!(names(&info), ["n1b.weave.local"]);
        let refused = names_of(&info, &ours(), "weave.local").unwrap().refused;
        assert_eq!(
            refused,
            [
                "-.x",
                "a b",
                "db.example.org",
                "nyc.example.org",
                "weave.local"
            ]
        );
        assert_eq!(
            names(&inspect("nyc", "notweave.local", &[])),
            ["n1b.weave.local"]
        );
    }

    #[test]
    fn the_default_host_name_and_ids_are_none() {
        let aliases = ["f34ef1c4c4ef", "f34ef1c4c4ef00112233445566778899"];
        assert_eq!(
            names(&inspect("f34ef1c4c4ef", "", &aliases)),
            ["n1b.weave.local"]
        );
    }

    #[test]
    fn a_container_name_that_is_qualified_already_is_kept() {
        let info = ContainerInfo {
            name: "sfo.weave.local".to_owned(),
            ..inspect("x", "", &[])
        };
        assert_eq!(names(&info), ["sfo.weave.local"]);
        let dotted = ContainerInfo {
            name: "my.app_1".to_owned(),
            ..inspect("x", "", &[])
        };
        assert_eq!(names(&dotted), ["my.app_1.weave.local"]);
        let mut newer = dotted;
        newer.networks[1].aliases = vec![newer.name.clone()];
        let found = names_of(&newer, &ours(), "weave.local").unwrap();
        assert_eq!(found.refused, Vec::<String>::new(), "it has a name for it");
    }

    #[test]
    fn only_running_containers_on_networks_of_ours_count() {
        let info = inspect("nyc.weave.local", "", &["db"]);
        assert_eq!(names_of(&info, &BTreeSet::new(), "weave.local"), None);
        let stopped = ContainerInfo {
            running: false,
            ..info
        };
        assert_eq!(names_of(&stopped, &ours(), "weave.local"), None);
    }

    #[test]
    fn each_network_of_ours_adds_its_address() {
        let mut info = inspect("nyc.weave.local", "", &[]);
        let mut second = info.networks[1].clone();
        second.network_id = "other".to_owned();
        second.endpoint_id = "0000".to_owned();
        second.aliases = vec!["web".to_owned()];
        second.addresses = vec![("10.40.0.9".parse().unwrap(), 16)];
        info.networks.push(second);
        let found = names_of(&info, &ours(), "weave.local.").unwrap();
        let named = |name: &str| {
            let ips = found.names.iter().filter(|(found, _)| found == name);
            ips.map(|(_, ip)| ip.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(named("nyc.weave.local"), ["10.33.0.5", "10.40.0.9"]);
        assert_eq!(named("web.weave.local"), ["10.40.0.9"]);
        assert_eq!(found.endpoints, ["0000", "0066ad97d8ef"]);
    }

    proptest! {
        #[test]
        fn every_name_is_a_legal_one_under_the_domain(
            name in "\\PC{0,80}",
            hostname in "[a-zA-Z0-9._ -]{0,300}",
            domainname in prop_oneof![Just(String::new()), Just("weave.local".to_owned()), "\\PC{0,20}"],
            aliases in prop::collection::vec("[a-zA-Z0-9._-]{0,70}(\\.weave\\.local\\.?)?", 0..6),
        ) {
            let mut info = inspect(&hostname, &domainname, &[]);
            info.name = name;
            info.networks[1].aliases = aliases;
            let found = names_of(&info, &ours(), "weave.local").unwrap();
            for (name, _) in &found.names {
                prop_assert!(name.ends_with(".weave.local") && name.len() <= 253, "{}", name);
                prop_assert_eq!(name.to_ascii_lowercase(), name.clone());
                prop_assert!(name.split('.').all(|label| (1..=63).contains(&label.len())), "{}", name);
            }
            prop_assert!(found.names.is_sorted());
        }
    }
}
