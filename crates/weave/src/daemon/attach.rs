//! `weave attach` and `detach`: any network namespace joins the mesh.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::RwLock;
use weave_docker::{ContainerInfo, DockerClient};
use weave_sys::dnsns::DNS_ADDRESS;
use weave_sys::netlink::Route;
use weave_sys::veth::{self, Attachment};
use weave_sys::{NetNs, Netlink, linkname};
use weave_wire::{InterfaceAddr, Mac, SegmentId};

use super::address;
use super::driver::upstreams;
use super::networks::{Address, EndpointRecord, Kind, NetworkError, Networks, mac_for};
use crate::api::types::{AddressSpec, Sandbox};
use crate::api::{ApiError, ApiErrorKind};

/// Interfaces of attached namespaces: `ethwe`, `ethwe1`, …
const INTERFACE: &str = "ethwe";
const MAX_INTERFACES: usize = 16;

/// Attaches namespaces to the networks of this host.
#[derive(Debug)]
pub(crate) struct Attacher {
    networks: Arc<Networks>,
    docker: Option<PathBuf>,
    /// Domain that names of containers are announced in; none: they are not.
    domain: Option<String>,
    /// Held for writing by who looks for endpoints without an interface: a new one has a record
    /// before it has that.
    plugging: RwLock<()>,
}

/// A namespace to attach.
struct Place {
    /// Names it in endpoint ids.
    key: String,
    netns: NetNs,
    path: PathBuf,
    container: Option<ContainerInfo>,
}

impl Attacher {
    /// `docker`: the API socket to look containers up, none: there are none.
    pub(crate) fn new(
        networks: Arc<Networks>,
        docker: Option<PathBuf>,
        domain: Option<String>,
    ) -> Self {
        Self {
            networks,
            docker,
            domain,
            plugging: RwLock::default(),
        }
    }

    /// Gives a namespace these addresses; they are returned in the order asked for.
    ///
    /// # Errors
    /// With the reason; what was already attached in the same call is taken back.
    pub(crate) async fn attach(
        &self,
        specs: &[AddressSpec],
        sandbox: &Sandbox,
    ) -> Result<Vec<IpAddr>, ApiError> {
        let place = self.place(sandbox).await?;
        let mut done = Vec::new();
        for spec in specs {
            match self.attach_one(spec, &place).await {
                Ok(address) => done.push(address),
                Err(error) => {
                    self.take_back(&place, &done).await;
                    return Err(error);
                }
            }
        }
        self.announce_names(&place).await;
        Ok(done.into_iter().map(|address| address.ip()).collect())
    }

    /// Takes addresses away, all of them if none is named; gives those that were there.
    ///
    /// # Errors
    /// With the reason.
    pub(crate) async fn detach(
        &self,
        specs: &[AddressSpec],
        sandbox: &Sandbox,
    ) -> Result<Vec<IpAddr>, ApiError> {
        let place = self.place(sandbox).await?;
        let default = self.networks.default_subnet();
        let is_meant = |address: &InterfaceAddr| {
            specs.is_empty()
                || specs
                    .iter()
                    .any(|spec| address::is_meant(spec, address, default))
        };
        let mut removed = Vec::new();
        for record in self.attached_to(&place).await {
            let meant: Vec<_> = record
                .addresses
                .iter()
                .map(|held| held.address)
                .filter(|address| is_meant(address))
                .collect();
            self.remove(&place, &record, &meant).await?;
            removed.extend(meant.into_iter().map(|address| address.ip()));
        }
        self.announce_names(&place).await;
        Ok(removed)
    }

    /// Forgets attached endpoints whose namespace is gone.
    pub(crate) async fn sweep(&self) {
        let _none_is_plugged = self.plugging.write().await;
        for record in self.networks.endpoints().await {
            if !matches!(record.kind, Kind::Attached { .. }) {
                continue;
            }
            let (host, _) = linkname::veth_pair(&record.id);
            if !matches!(self.networks.netlink().find_link(&host).await, Ok(None)) {
                continue;
            }
            tracing::info!(id = record.id, "the attached namespace is gone");
            self.networks.release(record.allocated());
            if let Err(error) = self.networks.remove_endpoint(&record.id).await {
                tracing::warn!(%error, "cannot forget an endpoint");
            }
            let owner = names_owner(&record.container);
            self.networks
                .control()
                .post(move |node, now| node.set_names(&owner, &[], now));
        }
    }

    /// Announces the names of attached containers again: they are not stored, Docker has them.
    pub(crate) async fn renew_names(&self) {
        let mut containers = BTreeSet::new();
        for record in self.networks.endpoints().await {
            if matches!(record.kind, Kind::Attached { .. }) && !record.container.is_empty() {
                containers.insert(record.container);
            }
        }
        for container in containers {
            self.renew_names_of(&container).await;
        }
    }

    /// The same of one container, if it is attached: it may have another name now.
    pub(crate) async fn renew_names_of(&self, container: &str) {
        let records = self.networks.endpoints().await;
        let is_attached = |record: &EndpointRecord| {
            matches!(record.kind, Kind::Attached { .. }) && record.container == container
        };
        if !records.iter().any(is_attached) {
            return;
        }
        match self.container_place(container).await {
            Ok(place) => self.announce_names(&place).await,
            Err(error) => tracing::debug!(container, %error, "names not announced"),
        }
    }

    async fn place(&self, sandbox: &Sandbox) -> Result<Place, ApiError> {
        match sandbox {
            Sandbox::Netns(path) => {
                let netns = NetNs::of_path(path).map_err(|error| {
                    ApiError::new(ApiErrorKind::NotFound, error.to_string())
                        .with_hint("`ip netns list` shows namespaces; they are in /run/netns")
                })?;
                let key = path.to_string_lossy().into_owned();
                Ok(Place {
                    key,
                    netns,
                    path: path.clone(),
                    container: None,
                })
            }
            Sandbox::Container(name) => self.container_place(name).await,
        }
    }

    async fn container_place(&self, name: &str) -> Result<Place, ApiError> {
        let otherwise = "attach its network namespace: weave attach --netns PATH";
        let container = find_container(self.docker.as_deref(), name, otherwise).await?;
        let path = container.netns_path().ok_or_else(|| not_running(name))?;
        let netns = NetNs::of_path(&path)?;
        let key = container.short_id().to_owned();
        Ok(Place {
            key,
            netns,
            path,
            container: Some(container),
        })
    }

    async fn attach_one(
        &self,
        spec: &AddressSpec,
        place: &Place,
    ) -> Result<InterfaceAddr, ApiError> {
        let owner = match &place.container {
            Some(container) => &container.name,
            None => &place.key,
        };
        let address = address::take(&self.networks, spec, owner).await?;
        let subnet = address.address.network();
        let network = self.networks.network_for(subnet).await;
        let result = self
            .plug(place, SegmentId::of_subnet(network), address)
            .await;
        if let Err(error) = result {
            self.networks.release(address.allocation().into_iter());
            return Err(error);
        }
        Ok(address.address)
    }

    async fn plug(
        &self,
        place: &Place,
        segment: SegmentId,
        address: Address,
    ) -> Result<(), ApiError> {
        let _plugged = self.plugging.read().await;
        let id = format!("{}/{:08x}", place.key, segment.0);
        let wanted = [(address.address.ip(), address.address.prefix_len())];
        if let Ok(record) = self.networks.endpoint(&id).await
            && let Kind::Attached { interface, .. } = &record.kind
        {
            let attachment = Attachment {
                name: interface,
                addresses: &wanted,
                routes: &[],
            };
            veth::extend(&place.netns, attachment).await?;
            self.networks
                .update_endpoint(&id, |record| record.addresses.push(address))
                .await?;
            return Ok(());
        }
        let interface = free_interface(&place.netns).await?;
        let record = EndpointRecord {
            id: id.clone(),
            segment: segment.0,
            mac: mac_of(address.address.ip()),
            addresses: vec![address],
            container: place
                .container
                .as_ref()
                .map(|container| container.short_id().to_owned())
                .unwrap_or_default(),
            kind: Kind::Attached {
                netns: place.path.clone(),
                container_name: place
                    .container
                    .as_ref()
                    .map(|container| container.name.clone()),
                interface: interface.clone(),
            },
        };
        self.networks.add_endpoint(record.clone()).await?;
        let plugged = self.plug_new(place, &record, &interface, &wanted).await;
        if plugged.is_err() {
            self.networks.remove_endpoint(&id).await?;
        }
        plugged
    }

    async fn plug_new(
        &self,
        place: &Place,
        record: &EndpointRecord,
        interface: &str,
        addresses: &[(IpAddr, u8)],
    ) -> Result<(), ApiError> {
        let guest = self.networks.plug(record).await?;
        let mut routes = vec![];
        if interface == INTERFACE {
            routes.push(Route::multicast_v4());
            if self.domain.is_some() {
                routes.push(Route::on_link(IpAddr::V4(DNS_ADDRESS), 32));
            }
        }
        let attachment = Attachment {
            name: interface,
            addresses,
            routes: &routes,
        };
        veth::attach(self.networks.netlink(), &guest, &place.netns, attachment).await?;
        if self.domain.is_some()
            && let Some(container) = &place.container
        {
            self.networks
                .redirect_dns(&place.path, upstreams(&container.dns))
                .await?;
        }
        Ok(())
    }

    async fn remove(
        &self,
        place: &Place,
        record: &EndpointRecord,
        addresses: &[InterfaceAddr],
    ) -> Result<(), ApiError> {
        let Kind::Attached { interface, .. } = &record.kind else {
            return Ok(());
        };
        let given_back = record
            .addresses
            .iter()
            .filter(|held| addresses.contains(&held.address))
            .filter_map(Address::allocation);
        let given_back: Vec<_> = given_back.collect();
        if addresses.len() == record.addresses.len() {
            veth::detach(&place.netns, interface).await?;
            self.networks.remove_endpoint(&record.id).await?;
            self.end_redirect(place).await?;
        } else if !addresses.is_empty() {
            let gone: Vec<_> = addresses
                .iter()
                .map(|address| (address.ip(), address.prefix_len()))
                .collect();
            veth::remove_addresses(&place.netns, interface, &gone).await?;
            self.networks
                .update_endpoint(&record.id, |record| {
                    record
                        .addresses
                        .retain(|held| !addresses.contains(&held.address));
                })
                .await?;
        }
        self.networks.release(given_back.into_iter());
        Ok(())
    }

    /// Ends the redirect of a container's DNS queries that nothing of ours is left for.
    async fn end_redirect(&self, place: &Place) -> Result<(), ApiError> {
        let (Some(container), Some(_)) = (&place.container, &self.domain) else {
            return Ok(());
        };
        let records = self.networks.endpoints().await;
        if records
            .iter()
            .all(|record| record.container != container.short_id())
        {
            self.networks.stop_redirecting_dns(&place.path).await?;
        }
        Ok(())
    }

    async fn take_back(&self, place: &Place, addresses: &[InterfaceAddr]) {
        for record in self.attached_to(place).await {
            let held: Vec<_> = record
                .addresses
                .iter()
                .map(|held| held.address)
                .filter(|address| addresses.contains(address))
                .collect();
            if let Err(error) = self.remove(place, &record, &held).await {
                tracing::warn!(%error, "cannot take an address back");
            }
        }
    }

    async fn attached_to(&self, place: &Place) -> Vec<EndpointRecord> {
        let prefix = format!("{}/", place.key);
        let mut records = self.networks.endpoints().await;
        records.retain(|record| {
            matches!(record.kind, Kind::Attached { .. }) && record.id.starts_with(&prefix)
        });
        records
    }

    /// Names of an attached container: as Docker's networks would give it.
    async fn announce_names(&self, place: &Place) {
        let (Some(container), Some(domain)) = (&place.container, &self.domain) else {
            return;
        };
        let suffix = format!(".{domain}");
        let mut names = vec![format!("{}{suffix}", container.name)];
        let hostname = match container.domainname.as_str() {
            "" => container.hostname.clone(),
            domainname => format!("{}.{domainname}", container.hostname),
        };
        if hostname.ends_with(&suffix) && !names.contains(&hostname) {
            names.push(hostname);
        }
        let records = self.attached_to(place).await;
        let ips = records.iter().flat_map(|record| &record.addresses);
        let named: Vec<_> = ips
            .flat_map(|held| names.iter().map(|name| (name.clone(), held.address.ip())))
            .collect();
        let owner = names_owner(container.short_id());
        self.networks
            .control()
            .post(move |node, now| node.set_names(&owner, &named, now));
    }
}

/// What names of an attached container are filed under: apart from those of Docker's networks.
fn names_owner(container: &str) -> String {
    format!("{container}+attached")
}

fn mac_of(ip: IpAddr) -> Mac {
    match ip {
        IpAddr::V4(ip) => mac_for(ip),
        IpAddr::V6(ip) => {
            let [.., a, b, c, d] = ip.octets();
            Mac([0x02, 0x76, a, b, c, d])
        }
    }
}

async fn free_interface(netns: &NetNs) -> Result<String, ApiError> {
    let links = Netlink::open(netns)?.links().await?;
    let taken: BTreeMap<_, _> = links
        .into_iter()
        .map(|link| (link.name, link.index))
        .collect();
    std::iter::once(INTERFACE.to_owned())
        .chain((1..MAX_INTERFACES).map(|number| format!("{INTERFACE}{number}")))
        .find(|name| !taken.contains_key(name))
        .ok_or_else(|| {
            ApiError::new(
                ApiErrorKind::Conflict,
                "the namespace has too many interfaces",
            )
        })
}

/// A container by name or id. `otherwise` is what to do where there is no Docker.
///
/// # Errors
/// With the reason.
pub(super) async fn find_container(
    docker: Option<&Path>,
    name: &str,
    otherwise: &str,
) -> Result<ContainerInfo, ApiError> {
    let Some(socket) = docker else {
        return Err(ApiError::new(
            ApiErrorKind::NotFound,
            format!("cannot look up container `{name}`: this router runs without Docker"),
        )
        .with_hint(otherwise));
    };
    let docker = DockerClient::connect(socket).await?;
    Ok(docker.container(name).await?)
}

pub(super) fn not_running(name: &str) -> ApiError {
    ApiError::new(
        ApiErrorKind::Conflict,
        format!("container `{name}` is not running"),
    )
    .with_hint(format!("docker start {name}"))
}

impl From<weave_docker::Error> for ApiError {
    fn from(error: weave_docker::Error) -> Self {
        let kind = if error.is_not_found() {
            ApiErrorKind::NotFound
        } else {
            ApiErrorKind::Unavailable
        };
        let hint = error.hint();
        let api = Self::new(kind, error.to_string());
        match hint {
            Some(hint) => api.with_hint(hint),
            None => api,
        }
    }
}

impl From<NetworkError> for ApiError {
    fn from(error: NetworkError) -> Self {
        Self::new(ApiErrorKind::Internal, error.to_string())
    }
}

impl From<weave_sys::Error> for ApiError {
    fn from(error: weave_sys::Error) -> Self {
        let hint = error.hint();
        let api = Self::new(ApiErrorKind::Internal, error.to_string());
        match hint {
            Some(hint) => api.with_hint(hint),
            None => api,
        }
    }
}
