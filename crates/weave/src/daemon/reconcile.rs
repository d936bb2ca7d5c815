//! Compares what this host holds with what Docker has, and makes them agree.
//!
//! What Docker has and we forgot is taken up again; what we hold and nobody has any more is freed:
//! endpoints, addresses, veths, networks, bridges. Driver calls are under way while we look, so a
//! difference counts only when two looks in a row, some time apart, show it; except before the
//! driver answers for the first time. While Docker cannot be asked, nothing is freed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::mpsc;
use tokio::time::Instant;
use weave_docker::{
    AttachedContainer, Change, DRIVER_NAME, DockerClient, NetworkInfo, WatcherConfig, watch_docker,
};
use weave_node::Node;
use weave_wire::{Cidr, Mac, SegmentId, number_of};

use super::DaemonConfig;
use super::attach::Attacher;
use super::driver::network_record;
use super::names::AddedNames;
use super::networks::{Address, EndpointRecord, Kind, NetworkError, Networks};
use super::settling::Settling;

/// Docker is looked at anew this often, whatever its events said.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// A difference must last this long to count: longer than any driver call.
const LASTING: Duration = Duration::from_secs(25);
/// The first look, before the driver answers, may take this long: dockerd, while it starts, takes
/// connections and does not answer, and waits for us.
const FIRST_LOOK: Duration = Duration::from_millis(500);
/// So long after Docker was reached, containers that it gave up on are started.
const HELP_FOR: Duration = Duration::from_secs(100);

/// Something that is here or there, but not in both places.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Difference {
    /// Docker has a network that we do not know.
    UnknownNetwork(String),
    /// Docker has an endpoint that we do not know.
    UnknownEndpoint(String),
    /// We have an endpoint that Docker does not know.
    Endpoint(String),
    /// We hold an address that no endpoint has, since the request with this ticket.
    Address(Ipv4Addr, Option<u64>),
    /// A veth without an endpoint.
    Veth(String),
    /// We have a network that Docker does not know.
    Network(String),
    /// A bridge without a network.
    Bridge(String),
}

/// Keeps this host and Docker in agreement.
#[derive(Debug)]
pub(crate) struct Reconciler {
    networks: Arc<Networks>,
    docker_socket: std::path::PathBuf,
    since: BTreeMap<Difference, Instant>,
    help_until: Option<Instant>,
}

/// Follows Docker: names of containers, and what else must agree with it.
pub(crate) fn follow_docker(
    config: &DaemonConfig,
    networks: &Arc<Networks>,
    attacher: &Arc<Attacher>,
    added: &Arc<AddedNames>,
    settling: Settling,
) {
    let (sender, mut changes) = mpsc::channel(256);
    tokio::spawn(watch_docker(
        WatcherConfig {
            socket: Some(config.docker_socket.clone()),
            driver: DRIVER_NAME.to_owned(),
            domain: config.dns_domain.clone(),
            reconcile: LOOK_EVERY,
        },
        sender,
    ));
    let mut reconciler = Reconciler::new(config, networks);
    let domain = config.dns_domain.clone();
    let (attacher, added) = (Arc::clone(attacher), Arc::clone(added));
    tokio::spawn(async move {
        while let Some(change) = changes.recv().await {
            match change {
                Change::Set(named) => {
                    if !named.refused.is_empty() {
                        let (container, names) = (&named.container, &named.refused);
                        tracing::info!(
                            container,
                            ?names,
                            domain,
                            "names outside of the domain are not announced"
                        );
                    }
                    for endpoint in &named.endpoints {
                        reconciler
                            .networks
                            .note_container(endpoint, &named.container)
                            .await;
                    }
                    attacher.renew_names_of(&named.container).await;
                    reconciler.set_names(named.container, named.names);
                }
                Change::Removed { container } => {
                    added.forget(&container).await;
                    reconciler.set_names(container, Vec::new());
                }
                Change::Other { container } => attacher.renew_names_of(&container).await,
                Change::Complete => {
                    reconciler.networks.control().post(Node::names_are_complete);
                    settling.containers_are_named();
                }
                Change::Looked {
                    networks,
                    reconnected,
                } => {
                    reconciler.handle_look(&networks, reconnected).await;
                    attacher.renew_names().await;
                    added.sweep().await;
                }
            }
        }
    });
}

impl Reconciler {
    /// For these networks.
    pub(crate) fn new(config: &DaemonConfig, networks: &Arc<Networks>) -> Self {
        Self {
            networks: Arc::clone(networks),
            docker_socket: config.docker_socket.clone(),
            since: BTreeMap::new(),
            help_until: None,
        }
    }

    /// Takes up what Docker has, before the driver answers; not if Docker does not answer at once.
    pub(crate) async fn look_first(&self) {
        let look = async {
            let docker = DockerClient::connect(&self.docker_socket).await?;
            docker.networks_with_containers(DRIVER_NAME).await
        };
        match tokio::time::timeout(FIRST_LOOK, look).await {
            Ok(Ok(docker)) => {
                let view = View::of(&docker);
                let (networks, endpoints): (Vec<_>, Vec<_>) = self
                    .unknown(&view)
                    .await
                    .into_iter()
                    .partition(|found| matches!(found, Difference::UnknownNetwork(_)));
                for network in &networks {
                    self.settle(network, &view).await;
                }
                join_all(
                    endpoints
                        .iter()
                        .map(|endpoint| self.settle(endpoint, &view)),
                )
                .await;
            }
            Ok(Err(error)) => tracing::info!(%error, "starting without a look at Docker"),
            Err(_) => {
                tracing::info!("starting without a look at Docker, which does not answer yet")
            }
        }
    }

    fn set_names(&self, container: String, names: Vec<(String, IpAddr)>) {
        self.networks
            .control()
            .post(move |node, now| node.set_names(&container, &names, now));
    }

    async fn handle_look(&mut self, docker: &[NetworkInfo], reconnected: bool) {
        let now = Instant::now();
        if reconnected {
            self.since.clear();
            self.help_until = Some(now + HELP_FOR);
        }
        let view = View::of(docker);
        let mut found = self.unknown(&view).await;
        found.append(&mut self.left_over(&view).await);
        self.since
            .retain(|difference, _| found.contains(difference));
        for difference in found {
            let since = *self.since.entry(difference.clone()).or_insert(now);
            if now - since >= LASTING {
                self.settle(&difference, &view).await;
            }
        }
        if self.help_until.is_some_and(|until| now < until) {
            tokio::spawn(start_given_up(self.docker_socket.clone(), docker.to_vec()));
        }
    }

    /// What Docker has and we do not know.
    async fn unknown(&self, view: &View<'_>) -> BTreeSet<Difference> {
        let networks = ids(self.networks.docker_networks().await, |network| network.id);
        let endpoints = ids(self.networks.endpoints().await, |endpoint| endpoint.id);
        let joined = view
            .endpoints
            .iter()
            .filter(|(_, (_, container))| container.has_sandbox());
        let unknown_networks = view.networks.keys().filter(|id| !networks.contains(**id));
        let unknown_endpoints = joined
            .map(|(id, _)| id)
            .filter(|id| !endpoints.contains(**id));
        unknown_networks
            .map(|id| Difference::UnknownNetwork((*id).to_owned()))
            .chain(unknown_endpoints.map(|id| Difference::UnknownEndpoint((*id).to_owned())))
            .collect()
    }

    /// What we have and nobody knows.
    async fn left_over(&self, view: &View<'_>) -> BTreeSet<Difference> {
        let endpoints = self.networks.endpoints().await;
        let mut found = BTreeSet::new();
        for network in self.networks.docker_networks().await {
            if !view.networks.contains_key(network.id.as_str()) {
                found.insert(Difference::Network(network.id));
            }
        }
        for endpoint in &endpoints {
            let is_docker = matches!(endpoint.kind, Kind::Docker { .. });
            if is_docker && !view.endpoints.contains_key(endpoint.id.as_str()) {
                found.insert(Difference::Endpoint(endpoint.id.clone()));
            }
        }
        found.extend(self.unused_addresses(&endpoints, view).await);
        match self.networks.stray().await {
            Ok(stray) => {
                found.extend(stray.veths.into_iter().map(Difference::Veth));
                found.extend(stray.bridges.into_iter().map(Difference::Bridge));
            }
            Err(error) => tracing::warn!(%error, "cannot look for interfaces left behind"),
        }
        found
    }

    async fn unused_addresses(
        &self,
        endpoints: &[EndpointRecord],
        view: &View<'_>,
    ) -> Vec<Difference> {
        let control = self.networks.control();
        let held = control
            .call(|node, _| node.allocated().collect::<Vec<_>>())
            .await;
        let local: BTreeSet<_> = endpoints
            .iter()
            .flat_map(|endpoint| endpoint.addresses.iter())
            .map(|held| number_of(held.address.ip()))
            .collect();
        held.unwrap_or_default()
            .into_iter()
            .filter(|held| !local.contains(&held.ip) && !view.numbers.contains(&held.ip))
            .map(|held| Difference::Address(held.ip, held.ticket))
            .collect()
    }

    async fn settle(&self, difference: &Difference, view: &View<'_>) {
        tracing::info!(?difference, "making this host agree with Docker");
        let settled = match difference {
            Difference::UnknownNetwork(id) => self.adopt_network(id, view).await,
            Difference::UnknownEndpoint(id) => self.adopt_endpoint(id, view).await,
            Difference::Endpoint(id) => self.networks.free_endpoint(id).await,
            Difference::Address(ip, ticket) => {
                let ticket = *ticket;
                self.networks
                    .free_address(*ip, move |held| held.ticket == ticket);
                Ok(())
            }
            Difference::Veth(name) => self.networks.free_veth(name).await,
            Difference::Network(id) => self.networks.delete_network(id).await,
            Difference::Bridge(name) => self.networks.free_bridge(name).await,
        };
        if let Err(error) = settled {
            tracing::warn!(?difference, %error, "this host and Docker do not agree");
        }
    }

    async fn adopt_network(&self, id: &str, view: &View<'_>) -> Result<(), NetworkError> {
        let Some(network) = view.networks.get(id) else {
            return Ok(());
        };
        let Some(subnet) = subnet_of(network) else {
            return Err(NetworkError::Refused("it has no IPv4 subnet".to_owned()));
        };
        let mut subnets = network.subnets.iter().copied();
        let ipv6 = subnets.find(|subnet| subnet.first().is_ipv6());
        let id = network.id.clone();
        let record = network_record(id, (subnet, ipv6), network.internal, &network.options)
            .map_err(NetworkError::Refused)?;
        self.networks.create_network(record).await
    }

    async fn adopt_endpoint(&self, id: &str, view: &View<'_>) -> Result<(), NetworkError> {
        let Some((network, container)) = view.endpoints.get(id) else {
            return Ok(());
        };
        let (Some(subnet), Some(mac)) = (subnet_of(network), container.mac) else {
            return Ok(());
        };
        let docker = DockerClient::connect(&self.docker_socket).await;
        let info = match docker {
            Ok(docker) => docker.container(&container.id).await,
            Err(error) => Err(error),
        };
        let info = info.map_err(|error| NetworkError::Refused(error.to_string()))?;
        let record = record_of(container, &network.id, subnet, mac, &info);
        self.networks.adopt_endpoint(record).await
    }
}

fn ids<T>(records: Vec<T>, id: impl Fn(T) -> String) -> BTreeSet<String> {
    records.into_iter().map(id).collect()
}

fn record_of(
    container: &AttachedContainer,
    network: &str,
    subnet: Cidr,
    mac: Mac,
    info: &weave_docker::ContainerInfo,
) -> EndpointRecord {
    EndpointRecord {
        id: container.endpoint_id.clone(),
        segment: SegmentId::of_subnet(subnet).0,
        mac,
        addresses: container
            .addresses
            .iter()
            .map(|address| Address {
                address: *address,
                allocated: false,
            })
            .collect(),
        container: info.short_id().to_owned(),
        kind: Kind::Docker {
            network: network.to_owned(),
            dns: info.dns.clone(),
            sandbox: info.netns.clone(),
        },
    }
}

fn subnet_of(network: &NetworkInfo) -> Option<Cidr> {
    network
        .subnets
        .iter()
        .find(|subnet| subnet.first().is_ipv4())
        .copied()
}

/// What Docker has, by id.
#[derive(Debug)]
struct View<'a> {
    networks: BTreeMap<&'a str, &'a NetworkInfo>,
    endpoints: BTreeMap<&'a str, (&'a NetworkInfo, &'a AttachedContainer)>,
    /// Of addresses of endpoints, and of those kept back: themselves, and what IPv6 ones end in.
    numbers: BTreeSet<Ipv4Addr>,
}

impl<'a> View<'a> {
    fn of(docker: &'a [NetworkInfo]) -> Self {
        let containers = || {
            let of = |network: &'a NetworkInfo| {
                network
                    .containers
                    .iter()
                    .map(move |container| (network, container))
            };
            docker.iter().flat_map(of)
        };
        let in_use = containers()
            .flat_map(|(_, container)| container.addresses.iter().map(|address| address.ip()));
        Self {
            networks: docker
                .iter()
                .map(|network| (network.id.as_str(), network))
                .collect(),
            endpoints: containers()
                .map(|(network, container)| (container.endpoint_id.as_str(), (network, container)))
                .collect(),
            numbers: in_use
                .chain(
                    docker
                        .iter()
                        .flat_map(|network| network.kept_back.iter().copied()),
                )
                .map(number_of)
                .collect(),
        }
    }
}

/// Starts containers that dockerd gave up on while we were not there.
async fn start_given_up(socket: std::path::PathBuf, networks: Vec<NetworkInfo>) {
    let given_up = async {
        let docker = DockerClient::connect(&socket).await?;
        let found = docker.given_up(&networks).await?;
        Ok::<_, weave_docker::Error>((docker, found))
    };
    let (docker, found) = match given_up.await {
        Ok(found) => found,
        Err(error) => {
            tracing::info!(%error, "cannot look for containers that Docker gave up on");
            return;
        }
    };
    for container in found {
        let (id, name) = (container.short_id(), &container.name);
        match docker.start_container(&container.id).await {
            Ok(()) => tracing::info!(
                id,
                name,
                why = container.error,
                "started a container that Docker had given up on"
            ),
            Err(error) => {
                tracing::warn!(id, name, %error, "a container with a restart policy does not start")
            }
        }
    }
}
