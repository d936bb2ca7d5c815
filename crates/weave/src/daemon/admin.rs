//! The admin API of a running router.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::Notify;
use weave_node::forward::Counts;
use weave_node::{
    ClonedIdentity, ConnectionState as NodeState, ConnectionStatus as NodeConnection,
};
use weave_node::{NodeStatus, Retry};
use weave_sys::netlink::LinkTraffic;
use weave_sys::tap::Mode;
use weave_sys::{Tap, linkname};
use weave_wire::{PeerId, Time};

use super::attach::{Attacher, find_container};
use super::banning;
use super::control::SharedNames;
use super::data::Shared;
use super::doctor;
use super::expose::Exposer;
use super::listen::Listeners;
use super::names::AddedNames;
use super::networks::{EXPOSED, EndpointRecord, Kind, Networks};
use super::passwords::Rotation;
use super::ping;
use super::resolve;
use super::{DaemonConfig, VERSIONS};
use crate::api::types::{
    AttachRequest, BanAnswer, BanRequest, ConnectRequest, ConnectionState, ConnectionStatus,
    Counters, DetachRequest, DnsEntry, DnsStatus, ExposeRequest, Finding, ForgetRequest,
    HideRequest, IpamOwner, IpamStatus, NameRequest, OffloadStatus, PasswordChange, PeerConnection,
    PeerResult, PeerStatus, PingReport, PingRequest, PluginStatus, ProcessStatus, PsEntry,
    RouterStatus, StandInRequest, StatusReport, TapStatus, Traffic,
};
use crate::api::{ApiError, ApiErrorKind, Router};
use crate::dns::{Dns, TTL};

/// What interfaces have carried, by name.
type Ports = BTreeMap<String, LinkTraffic>;

/// Answers the admin API.
#[derive(Debug)]
pub(crate) struct Admin {
    pub(crate) config: DaemonConfig,
    pub(crate) networks: Arc<Networks>,
    pub(crate) attacher: Arc<Attacher>,
    pub(crate) exposer: Exposer,
    pub(crate) added: Arc<AddedNames>,
    pub(crate) names: SharedNames,
    pub(crate) dns: Dns,
    /// Where the DNS server listens.
    pub(crate) listeners: Listeners,
    pub(crate) passwords: Rotation,
    /// Ends the process.
    pub(crate) stop: Arc<Notify>,
    /// Whether dockerd can call us.
    pub(crate) has_plugin: bool,
}

impl Router for Admin {
    async fn status(&self) -> Result<StatusReport, ApiError> {
        let (status, now) = self
            .networks
            .control()
            .call(|node, now| (node.status(now), now))
            .await?;
        Ok(self.report(&status, now))
    }

    async fn connect(&self, request: ConnectRequest) -> Result<Vec<PeerResult>, ApiError> {
        let control = self.networks.control();
        if request.replace {
            let keep = request.peers.clone();
            control
                .call(move |node, now| {
                    for target in node.status(now).targets {
                        if !keep.contains(&target) {
                            node.forget(&target, now);
                        }
                    }
                })
                .await?;
        }
        let mut results = Vec::new();
        for peer in request.peers {
            let error = resolve::resolve(&peer, self.config.port).await.err();
            if error.is_none() {
                let target = peer.clone();
                control
                    .call(move |node, now| node.connect(&target, now))
                    .await?;
            }
            results.push(PeerResult {
                peer,
                error: error.as_ref().map(ToString::to_string),
                hint: error.map(|_| "check the name, or give the IP address".to_owned()),
            });
        }
        Ok(results)
    }

    async fn forget(&self, request: ForgetRequest) -> Result<Vec<PeerResult>, ApiError> {
        let mut results = Vec::new();
        for peer in request.peers {
            let target = peer.clone();
            let known = self
                .networks
                .control()
                .call(move |node, now| node.forget(&target, now))
                .await?;
            results.push(PeerResult {
                error: (!known).then(|| format!("`{peer}` is no target")),
                hint: (!known).then(|| "`weave status targets` lists them as typed".to_owned()),
                peer,
            });
        }
        Ok(results)
    }

    async fn rmpeer(&self, request: BanRequest) -> Result<BanAnswer, ApiError> {
        banning::rmpeer(self.networks.control(), request).await
    }

    async fn attach(&self, request: AttachRequest) -> Result<Vec<IpAddr>, ApiError> {
        self.attacher
            .attach(&request.addresses, &request.sandbox)
            .await
    }

    async fn detach(&self, request: DetachRequest) -> Result<Vec<IpAddr>, ApiError> {
        self.attacher
            .detach(&request.addresses, &request.sandbox)
            .await
    }

    async fn expose(&self, request: ExposeRequest) -> Result<Vec<IpAddr>, ApiError> {
        self.exposer.expose(&request).await
    }

    async fn hide(&self, request: HideRequest) -> Result<Vec<IpAddr>, ApiError> {
        self.exposer.hide(&request.addresses).await
    }

    async fn ps(&self, containers: Vec<String>) -> Result<Vec<PsEntry>, ApiError> {
        let ports = self.ports().await;
        let mut entries = ps_entries(&self.networks.endpoints().await, &ports);
        if containers.is_empty() {
            return Ok(entries);
        }
        let mut ids = Vec::new();
        for wanted in &containers {
            if !entries.iter().any(|entry| is_named(entry, wanted)) {
                ids.extend(self.container_id(wanted).await);
            }
        }
        let meant = containers.iter().chain(&ids);
        entries.retain(|entry| meant.clone().any(|wanted| is_named(entry, wanted)));
        Ok(entries)
    }

    async fn dns_lookup(&self, name: String) -> Result<Vec<IpAddr>, ApiError> {
        if self.config.no_dns {
            return Err(
                ApiError::new(ApiErrorKind::Unavailable, "this router runs without DNS")
                    .with_hint("launch it without --no-dns"),
            );
        }
        Ok(self.dns.lookup(&name))
    }

    async fn prime(&self) -> Result<Option<String>, ApiError> {
        let control = self.networks.control();
        Ok(control.call(|node, now| node.prime(now)).await?)
    }

    async fn dns_add(&self, request: NameRequest) -> Result<(), ApiError> {
        self.added.add(&request).await
    }

    async fn dns_remove(&self, request: NameRequest) -> Result<(), ApiError> {
        self.added.remove(&request).await
    }

    async fn change_passwords(&self, change: PasswordChange) -> Result<u16, ApiError> {
        self.passwords.change(change).await
    }

    async fn ping(&self, request: PingRequest) -> Result<PingReport, ApiError> {
        ping::ping(self, request).await
    }

    async fn stand_in(&self, request: StandInRequest) -> Result<IpAddr, ApiError> {
        ping::stand_in(self, &request.peer).await
    }

    async fn doctor(&self) -> Result<Vec<Finding>, ApiError> {
        doctor::findings(self).await
    }

    async fn stop(&self) -> Result<(), ApiError> {
        self.stop.notify_one();
        Ok(())
    }

    async fn reset(&self, force: bool) -> Result<(), ApiError> {
        banning::leave(self.networks.control(), force).await?;
        self.stop.notify_one();
        Ok(())
    }
}

impl Admin {
    fn report(&self, status: &NodeStatus, now: Time) -> StatusReport {
        let mut drops = status.drops.clone();
        let forwarding = self.networks.data().shared().drops.snapshot();
        drops.extend(
            forwarding
                .filter(|(_, count)| *count > 0)
                .map(|(reason, count)| (reason.name().to_owned(), count)),
        );
        let guard = self.networks.guard_dropped().into_iter();
        drops.extend(
            guard
                .filter(|(_, count)| *count > 0)
                .map(|(reason, count)| (format!("guard_{reason}"), count)),
        );
        StatusReport {
            ready: true,
            waiting_for: None,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            router: self.router(status, now),
            ipam: Some(ipam(status, self.networks.store().failure())),
            dns: (!self.config.no_dns).then(|| self.dns_status()),
            plugin: self.has_plugin.then(|| PluginStatus {
                driver_name: weave_docker::DRIVER_NAME.to_owned(),
            }),
            process: process(),
            offloads: Some(self.offloads()),
            drops,
            counters: Some(self.counters(status)),
        }
    }

    fn router(&self, status: &NodeStatus, now: Time) -> RouterStatus {
        let offloads = udp_offloads(self.networks.data().shared());
        RouterStatus {
            protocol: "weave".to_owned(),
            protocol_min_version: VERSIONS.lowest.into(),
            protocol_max_version: VERSIONS.highest.into(),
            password: self.passwords.is_protected(),
            passwords: self.passwords.status(&status.passwords),
            peer_discovery: !self.config.no_discovery,
            name: status.peer.name().to_string(),
            nickname: self.config.nickname.clone(),
            port: self.config.port,
            targets: status.targets.clone(),
            connections: status
                .connections
                .iter()
                .map(|connection| connection_status(connection, status, &offloads, now))
                .collect(),
            peers: peers(status),
            warnings: status
                .clones
                .iter()
                .map(|clone| cloned(clone, status))
                .chain(self.unguarded())
                .collect(),
            banned: banning::all(status),
        }
    }

    /// That containers of this host are not kept from spoofing, and why; none where they are.
    pub(super) fn unguarded(&self) -> Option<String> {
        let why = self.networks.guard_missing()?;
        Some(format!(
            "containers of this host are not kept from spoofing: {why}"
        ))
    }

    /// What each interface of this host has carried; nothing where the kernel does not tell.
    async fn ports(&self) -> Ports {
        let links = self.networks.netlink().links().await.unwrap_or_default();
        let carried = links.into_iter().map(|link| (link.name, link.traffic));
        carried.collect()
    }

    /// Id of a container that Docker knows by another name.
    async fn container_id(&self, name: &str) -> Option<String> {
        let docker = (!self.config.no_docker).then_some(self.config.docker_socket.as_path());
        let found = find_container(docker, name, "").await.ok()?;
        Some(found.short_id().to_owned())
    }

    fn counters(&self, status: &NodeStatus) -> Counters {
        let traffic = self.networks.data().shared().traffic.read();
        Counters {
            frames_sent: traffic.sent.frames,
            bytes_sent: traffic.sent.bytes,
            frames_received: traffic.received.frames,
            bytes_received: traffic.received.bytes,
            sessions_made: status.counts.sessions_made,
            sessions_lost: status.counts.sessions_lost,
            batches_taken: status.counts.batches_taken,
            dns_queries: self.dns.queries(),
        }
    }

    fn offloads(&self) -> OffloadStatus {
        let shared = self.networks.data().shared();
        let taps = shared.taps.load();
        OffloadStatus {
            udp: udp_offloads(shared),
            taps: taps.values().map(|tap| tap_status(tap)).collect(),
        }
    }

    fn dns_status(&self) -> DnsStatus {
        let table = self.names.load();
        let mut entries: Vec<_> = table
            .all()
            .into_iter()
            .map(|entry| DnsEntry {
                hostname: format!("{}.", entry.name),
                address: entry.ip,
                container: entry.container.to_string(),
                origin: entry.origin.name().to_string(),
            })
            .collect();
        entries.sort_by(|a, b| (&a.hostname, a.address).cmp(&(&b.hostname, b.address)));
        DnsStatus {
            domain: self.dns.domain(),
            upstream: self
                .dns
                .upstream_servers()
                .iter()
                .map(ToString::to_string)
                .collect(),
            address: self.listeners.addresses(),
            ttl: TTL,
            entries,
        }
    }
}

pub(super) fn cloned(clone: &ClonedIdentity, status: &NodeStatus) -> String {
    let whose = match clone.peer == status.peer {
        true => "of this host".to_owned(),
        false => named(status, &clone.peer),
    };
    let places: Vec<_> = clone.places.iter().map(ToString::to_string).collect();
    let places = match places.as_slice() {
        [] => String::new(),
        places => format!(" at {}", places.join(" and ")),
    };
    format!(
        "more than one host uses the identity {whose}{places}: run `weave reset` on the one that \
         got a copy of the disk"
    )
}

fn udp_offloads(shared: &Shared) -> Vec<String> {
    let udp = shared.udp_offloads();
    let named = [(udp.cuts, "gso"), (udp.joins, "gro")];
    let here = named.iter().filter(|(is_on, _)| *is_on);
    here.map(|(_, name)| (*name).to_owned()).collect()
}

fn tap_status(tap: &Tap) -> TapStatus {
    let (offloads, reason): (&[&str], _) = match tap.mode() {
        Mode::Offload { udp: true } => (&["tso", "uso", "checksum"], None),
        Mode::Offload { udp: false } => (&["tso", "checksum"], None),
        Mode::Plain { why } => (&[], Some(why.clone())),
    };
    TapStatus {
        name: tap.name().to_owned(),
        offloads: offloads.iter().map(|name| (*name).to_owned()).collect(),
        reason,
    }
}

fn process() -> Option<ProcessStatus> {
    let usage = weave_sys::usage::usage().ok()?;
    Some(ProcessStatus {
        open_files: usage.open_files,
        open_files_limit: usage.open_files_limit,
        resident_bytes: usage.resident,
        cpu_ms: u64::try_from(usage.cpu.as_millis()).unwrap_or(u64::MAX),
        started_s: usage.started.as_secs(),
    })
}

/// `4a:0f:f6:ec:1c:93(nyc)`.
pub(super) fn named(status: &NodeStatus, peer: &PeerId) -> String {
    format!("{}({})", peer.name(), nickname_of(status, peer))
}

pub(super) fn nickname_of(status: &NodeStatus, peer: &PeerId) -> String {
    status.nicknames.get(peer).cloned().unwrap_or_default()
}

pub(super) fn connection_status(
    connection: &NodeConnection,
    status: &NodeStatus,
    offloads: &[String],
    now: Time,
) -> ConnectionStatus {
    let established = connection.state == NodeState::Established;
    let retry_in = match connection.retry {
        Some(Retry::At(at)) => Some(at.saturating_sub(now).as_millis()),
        Some(Retry::Never) | None => None,
    };
    let nickname = connection
        .peer
        .as_ref()
        .map(|peer| match connection.nickname.as_str() {
            "" => nickname_of(status, peer),
            own => own.to_owned(),
        });
    let is_direct = established && connection.relay.is_none();
    // that it is up and direct goes without saying
    let state = (!is_direct).then_some(&connection.info);
    let words = state.into_iter().chain(&connection.warning);
    let words = words.filter(|words| !words.is_empty());
    let mut info = words.map(String::as_str).collect::<Vec<_>>().join("; ");
    if connection.retry == Some(Retry::Never) {
        info.push_str(", not tried again");
    }
    ConnectionStatus {
        address: connection.address.clone(),
        outbound: connection.outbound,
        state: match connection.state {
            NodeState::Established => ConnectionState::Established,
            NodeState::Pending => ConnectionState::Pending,
            NodeState::Connecting => ConnectionState::Connecting,
            NodeState::Retrying => ConnectionState::Retrying,
            NodeState::Failed => ConnectionState::Failed,
            NodeState::Resting => ConnectionState::Resting,
        },
        peer: connection.peer.map(|peer| peer.name().to_string()),
        nickname,
        path: established.then(|| match &connection.relay {
            Some(relay) => format!("relay {}", named(status, relay)),
            None => "direct".to_owned(),
        }),
        info: (!info.is_empty()).then_some(info),
        retry_in_ms: retry_in.map(|ms| u64::try_from(ms).unwrap_or(u64::MAX)),
        protocol_version: connection.version.map(u32::from),
        password_generation: connection.generation,
        cipher: connection
            .cipher
            .map(|cipher| cipher.to_string().to_lowercase()),
        pq: connection.pq,
        rtt_us: connection
            .rtt
            .map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)),
        age_ms: connection
            .age
            .map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        rekeys: connection.rekeys,
        mtu: connection.mtu.map(u32::from),
        offloads: if established {
            offloads.to_vec()
        } else {
            Vec::new()
        },
    }
}

fn peers(status: &NodeStatus) -> Vec<PeerStatus> {
    let own: BTreeMap<PeerId, &NodeConnection> = status
        .connections
        .iter()
        .filter_map(|connection| connection.peer.map(|peer| (peer, connection)))
        .collect();
    let connection = |of: &PeerId, to: &PeerId| {
        let known = (*of == status.peer).then(|| own.get(to)).flatten();
        PeerConnection {
            name: to.name().to_string(),
            nickname: nickname_of(status, to),
            address: known.and_then(|known| known.address.parse().ok()),
            outbound: known.map(|known| known.outbound),
            established: known.is_none_or(|known| known.state == NodeState::Established),
        }
    };
    status
        .peers
        .iter()
        .map(|info| PeerStatus {
            name: info.peer.name().to_string(),
            nickname: info.nickname.clone(),
            version: info.version.clone(),
            sessions: info.sessions,
            connections: info
                .neighbours
                .iter()
                .map(|to| connection(&info.peer, to))
                .collect(),
            traffic: (info.peer != status.peer).then(|| peer_traffic(info.traffic)),
        })
        .collect()
}

fn peer_traffic(Counts { sent, received }: Counts) -> Traffic {
    Traffic {
        frames_sent: sent.frames,
        bytes_sent: sent.bytes,
        frames_received: received.frames,
        bytes_received: received.bytes,
    }
}

/// Of the port of a container: what comes in there the container has sent.
fn container_traffic(port: &LinkTraffic) -> Traffic {
    Traffic {
        frames_sent: port.received_packets,
        bytes_sent: port.received_bytes,
        frames_received: port.sent_packets,
        bytes_received: port.sent_bytes,
    }
}

fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// `failure`: why nothing can be stored.
fn ipam(status: &NodeStatus, failure: Option<String>) -> IpamStatus {
    let ipam = &status.ipam;
    let text = |cidr: Option<weave_wire::Cidr>| {
        cidr.map_or_else(|| "none".to_owned(), |cidr| cidr.to_string())
    };
    let failure =
        failure.map(|why| format!("no address is given out until the disk is well: {why}"));
    let notes = failure.iter().chain(&ipam.recovered).chain(&ipam.notes);
    let notes = notes.map(|note| format!("; {note}"));
    IpamStatus {
        status: std::iter::once(ipam.state.clone()).chain(notes).collect(),
        range: text(ipam.range),
        range_size: ipam.total_ips,
        active: ipam.active_ips,
        default_subnet: text(ipam.default_subnet),
        pending_allocates: count(ipam.pending.saturating_sub(ipam.pending_claims)),
        pending_claims: count(ipam.pending_claims),
        entries: ipam
            .shares
            .iter()
            .map(|share| IpamOwner {
                peer: share.peer.name().to_string(),
                nickname: nickname_of(status, &share.peer),
                size: share.ips,
                own: share.peer == status.peer,
                reachable: share.reachable,
            })
            .collect(),
    }
}

/// The host itself first: a line for each bridge that it has addresses on.
fn ps_entries(records: &[EndpointRecord], ports: &Ports) -> Vec<PsEntry> {
    let (exposed, others): (Vec<_>, Vec<_>) = records
        .iter()
        .partition(|record| matches!(record.kind, Kind::Exposed { .. }));
    let mut entries: Vec<PsEntry> = Vec::new();
    let entry_of = |record| ps_entry(record, ports);
    for entry in exposed.into_iter().map(entry_of) {
        match entries.iter_mut().find(|known| known.mac == entry.mac) {
            Some(known) => known.addresses.extend(entry.addresses),
            None => entries.push(entry),
        }
    }
    entries.extend(others.into_iter().map(entry_of));
    entries
}

/// Whether that is what somebody calls it: its name, or its id as long as we know it.
fn is_named(entry: &PsEntry, wanted: &str) -> bool {
    entry.name.as_deref() == Some(wanted)
        || entry.container == wanted
        || (wanted.len() >= 12 && wanted.starts_with(&entry.container))
}

fn ps_entry(record: &EndpointRecord, ports: &Ports) -> PsEntry {
    let (port, _) = linkname::veth_pair(&record.id);
    let (container, name) = match &record.kind {
        Kind::Exposed { .. } => (EXPOSED.to_owned(), None),
        Kind::Docker { .. } if record.container.is_empty() => {
            (super::networks::short(&record.id).to_owned(), None)
        }
        Kind::Docker { .. } => (record.container.clone(), None),
        Kind::Attached {
            netns,
            container_name,
            ..
        } => {
            let path = netns.to_string_lossy().into_owned();
            let shown = if record.container.is_empty() {
                path
            } else {
                record.container.clone()
            };
            (shown, container_name.clone())
        }
    };
    PsEntry {
        container,
        name,
        mac: record.mac.to_string(),
        addresses: record
            .addresses
            .iter()
            .map(|held| held.address.to_string())
            .collect(),
        traffic: ports.get(&port).map(container_traffic),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::networks::Address;

    fn record(id: &str, mac: u8, address: &str, kind: Kind) -> EndpointRecord {
        EndpointRecord {
            id: id.to_owned(),
            segment: 1,
            mac: weave_wire::Mac([2, 0, 0, 0, 0, mac]),
            addresses: vec![Address {
                address: address.parse().unwrap(),
                allocated: true,
            }],
            container: "c0ffee".to_owned(),
            kind,
        }
    }

    #[test]
    fn the_host_comes_first_with_all_its_addresses_of_a_bridge_on_one_line() {
        let exposed = || Kind::Exposed {
            masquerade: true,
            names: Vec::new(),
        };
        let docker = Kind::Docker {
            network: "n".to_owned(),
            dns: Vec::new(),
            sandbox: None,
        };
        let records = [
            record("a", 1, "10.32.0.1/12", docker),
            record("b", 2, "10.32.0.2/12", exposed()),
            record("c", 3, "10.33.0.2/24", exposed()),
            record("d", 2, "10.2.1.2/24", exposed()),
        ];
        let carried = LinkTraffic {
            received_packets: 1,
            received_bytes: 100,
            sent_packets: 2,
            sent_bytes: 3000,
        };
        let ports = BTreeMap::from([(linkname::veth_pair("a").0, carried)]);
        let entries = ps_entries(&records, &ports);
        let lines: Vec<_> = entries
            .iter()
            .map(|entry| format!("{} {}", entry.container, entry.addresses.join(" ")))
            .collect();
        assert_eq!(
            lines,
            [
                "weave:expose 10.32.0.2/12 10.2.1.2/24",
                "weave:expose 10.33.0.2/24",
                "c0ffee 10.32.0.1/12"
            ]
        );
        let traffic: Vec<_> = entries.iter().map(|entry| entry.traffic).collect();
        let seen_from_the_container = Traffic {
            frames_sent: 1,
            bytes_sent: 100,
            frames_received: 2,
            bytes_received: 3000,
        };
        assert_eq!(traffic, [None, None, Some(seen_from_the_container)]);
    }
}
