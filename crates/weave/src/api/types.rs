//! Requests and answers of the admin API.
//!
//! All values are text or numbers: nothing here depends on how the router keeps
//! them. Fields may be added, never renamed: scripts read them.

mod diagnosis;
mod passwords;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub(crate) use diagnosis::{
    Finding, Layer, LayerState, Level, PingReport, PingRequest, StandInRequest,
};
pub(crate) use passwords::{PasswordChange, PasswordStatus};

/// Everything there is to know about a running router.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StatusReport {
    /// Whether the router serves all it was asked to serve.
    pub(crate) ready: bool,
    /// What it still waits for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) waiting_for: Option<String>,
    /// Version of the program.
    pub(crate) version: String,
    /// Peers and connections.
    pub(crate) router: RouterStatus,
    /// Addresses.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) ipam: Option<IpamStatus>,
    /// Names; absent with `--no-dns`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) dns: Option<DnsStatus>,
    /// The Docker plugin; absent with `--no-docker`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) plugin: Option<PluginStatus>,
    /// What the router uses of its host.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) process: Option<ProcessStatus>,
    /// What the data path leaves to the kernel.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) offloads: Option<OffloadStatus>,
    /// Frames and datagrams dropped, by reason.
    #[serde(default)]
    pub(crate) drops: BTreeMap<String, u64>,
    /// What passed and happened since the start.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) counters: Option<Counters>,
}

/// What passed and happened since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Counters {
    /// Frames from containers to other hosts; a super-frame is one.
    pub(crate) frames_sent: u64,
    /// Their bytes.
    pub(crate) bytes_sent: u64,
    /// Frames from other hosts to containers; a super-frame may be several.
    pub(crate) frames_received: u64,
    /// Their bytes.
    pub(crate) bytes_received: u64,
    /// Handshakes that ended in a session.
    pub(crate) sessions_made: u64,
    /// Peers that there was a session with, and then none.
    pub(crate) sessions_lost: u64,
    /// Batches of other peers' logs that were taken in.
    pub(crate) batches_taken: u64,
    /// DNS queries, by how they ended.
    pub(crate) dns_queries: BTreeMap<String, u64>,
}

/// What the data path leaves to the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OffloadStatus {
    /// Of the datagrams between hosts: `gso` to cut runs of them, `gro` to join them.
    pub(crate) udp: Vec<String>,
    /// Of the frames of each bridge.
    pub(crate) taps: Vec<TapStatus>,
}

/// What a TAP leaves to the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TapStatus {
    /// Its name.
    pub(crate) name: String,
    /// `checksum`, `tso` and `uso`: checksums, TCP and UDP super-frames.
    pub(crate) offloads: Vec<String>,
    /// Why there are none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) reason: Option<String>,
}

/// What the router uses of its host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessStatus {
    /// Files, sockets and devices that are open.
    pub(crate) open_files: u64,
    /// How many may be.
    pub(crate) open_files_limit: u64,
    /// Memory in RAM, bytes.
    pub(crate) resident_bytes: u64,
    /// Processor time so far, in milliseconds.
    #[serde(default)]
    pub(crate) cpu_ms: u64,
    /// When it started, in seconds since 1970.
    #[serde(default)]
    pub(crate) started_s: u64,
}

/// Peers and connections, as this router sees them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RouterStatus {
    /// Always `weave`.
    pub(crate) protocol: String,
    /// Lowest protocol version spoken.
    pub(crate) protocol_min_version: u32,
    /// Highest protocol version spoken.
    pub(crate) protocol_max_version: u32,
    /// Whether a password protects the mesh. Traffic is encrypted either way.
    pub(crate) password: bool,
    /// Its generations, the lowest first.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(crate) passwords: Vec<PasswordStatus>,
    /// Whether peers of peers are connected to.
    pub(crate) peer_discovery: bool,
    /// Name of this peer.
    pub(crate) name: String,
    /// Its nickname.
    pub(crate) nickname: String,
    /// UDP port of the mesh.
    pub(crate) port: u16,
    /// Peers to connect to, as they were typed.
    pub(crate) targets: Vec<String>,
    /// Connections of this router and attempts at them.
    pub(crate) connections: Vec<ConnectionStatus>,
    /// All live peers, this one included.
    pub(crate) peers: Vec<PeerStatus>,
    /// What an operator should look after, in words.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(crate) warnings: Vec<String>,
    /// Everybody who is banned from the mesh.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(crate) banned: Vec<BannedPeer>,
}

impl RouterStatus {
    /// The live peers, then those that are banned.
    pub(crate) fn all_peers(&self) -> Vec<AnyPeer<'_>> {
        let live = self.peers.iter().map(AnyPeer::Live);
        live.chain(self.banned.iter().map(AnyPeer::Banned))
            .collect()
    }
}

/// A peer that is live or banned. The field `banned` tells them apart.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum AnyPeer<'a> {
    /// It is live.
    Live(&'a PeerStatus),
    /// It is out.
    Banned(&'a BannedPeer),
}

/// A peer that is banned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BannedPeer {
    /// Its name.
    pub(crate) name: String,
    /// Its nickname, untrusted; empty when it was never heard.
    pub(crate) nickname: String,
    /// Its key, 64 hexadecimal digits.
    pub(crate) key: String,
    /// Who banned it, and why.
    pub(crate) banned: BannedBy,
}

/// Who banned a peer, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BannedBy {
    /// Name of the peer that did, or that is said to have done so.
    pub(crate) by: String,
    /// Its nickname.
    pub(crate) nickname: String,
    /// As it was typed; may be empty.
    pub(crate) reason: String,
}

/// State of a connection or of the attempts at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ConnectionState {
    /// Sealed frames pass.
    Established,
    /// The handshake is done, data does not pass yet.
    Pending,
    /// Tried again after a failure.
    Retrying,
    /// Never tried again by itself.
    Failed,
    /// In the mesh; in a large one a session is made when there is something to send.
    Resting,
    /// The first handshake is under way.
    Connecting,
}

impl ConnectionState {
    /// All states, in the order in which they are counted.
    pub(crate) const ALL: [Self; 6] = [
        Self::Established,
        Self::Pending,
        Self::Retrying,
        Self::Failed,
        Self::Resting,
        Self::Connecting,
    ];

    /// The word that users see.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Established => "established",
            Self::Pending => "pending",
            Self::Retrying => "retrying",
            Self::Failed => "failed",
            Self::Resting => "resting",
            Self::Connecting => "connecting",
        }
    }
}

/// One connection of this router.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ConnectionStatus {
    /// Address of the other end, or the target's name while it has none.
    pub(crate) address: String,
    /// Whether this side dialled.
    pub(crate) outbound: bool,
    /// How far it is.
    pub(crate) state: ConnectionState,
    /// Peer at the other end, once known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) peer: Option<String>,
    /// Its nickname.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) nickname: Option<String>,
    /// Path of an established connection: `direct`, or `relay` and the peer that relays.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) path: Option<String>,
    /// Why it is not established, or what is wrong although it is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) info: Option<String>,
    /// Milliseconds until the next attempt.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) retry_in_ms: Option<u64>,
    /// Protocol version of an established connection.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) protocol_version: Option<u32>,
    /// Generation of the password that an established connection rests on.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) password_generation: Option<u16>,
    /// Cipher of the data, such as `aes-256-gcm`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) cipher: Option<String>,
    /// Whether its keys were agreed on with ML-KEM-768 beside X25519.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) pq: Option<bool>,
    /// Smoothed round trip time in microseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) rtt_us: Option<u64>,
    /// How long ago the handshake ended, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) age_ms: Option<u64>,
    /// How often the keys were changed since.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) rekeys: Option<u32>,
    /// MTU of the path in bytes of IP, once probes have found it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) mtu: Option<u32>,
    /// What its datagrams leave to the kernel: `gso`, `gro`.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(crate) offloads: Vec<String>,
}

/// A live peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PeerStatus {
    /// Its name.
    pub(crate) name: String,
    /// Its nickname, untrusted.
    pub(crate) nickname: String,
    /// Version of its program.
    pub(crate) version: String,
    /// Number of its established sessions, as it says.
    pub(crate) sessions: u32,
    /// Those sessions that it names.
    pub(crate) connections: Vec<PeerConnection>,
    /// Frames between containers of this host and of that one; none of this host itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) traffic: Option<Traffic>,
}

/// Frames that passed so far, and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Traffic {
    /// To the peer, or from the container.
    pub(crate) frames_sent: u64,
    /// Their bytes.
    pub(crate) bytes_sent: u64,
    /// From the peer, or to the container.
    pub(crate) frames_received: u64,
    /// Their bytes.
    pub(crate) bytes_received: u64,
}

/// A session that a peer names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PeerConnection {
    /// Peer at the other end.
    pub(crate) name: String,
    /// Its nickname.
    pub(crate) nickname: String,
    /// Its address, where this router knows it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) address: Option<SocketAddr>,
    /// Whether that peer dialled, where this router knows it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) outbound: Option<bool>,
    /// Whether data passes.
    pub(crate) established: bool,
}

/// State of the address allocator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IpamStatus {
    /// `ready`, `idle`, or what is waited for.
    pub(crate) status: String,
    /// Range of the mesh.
    pub(crate) range: String,
    /// Number of addresses in it.
    pub(crate) range_size: u64,
    /// Addresses in use on this host.
    pub(crate) active: u64,
    /// Subnet of the Docker network `weave`.
    pub(crate) default_subnet: String,
    /// Requests for any address that wait.
    #[serde(default)]
    pub(crate) pending_allocates: u64,
    /// Requests for a certain address that wait.
    #[serde(default)]
    pub(crate) pending_claims: u64,
    /// Who owns how much.
    pub(crate) entries: Vec<IpamOwner>,
}

/// A peer that owns addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IpamOwner {
    /// Its name.
    pub(crate) peer: String,
    /// Its nickname.
    pub(crate) nickname: String,
    /// Number of addresses it owns.
    pub(crate) size: u64,
    /// Whether it is this router.
    pub(crate) own: bool,
    /// Whether it is live.
    pub(crate) reachable: bool,
}

/// State of the DNS server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DnsStatus {
    /// Domain, with a dot at the end.
    pub(crate) domain: String,
    /// Servers that other names are asked of.
    pub(crate) upstream: Vec<String>,
    /// Where it listens.
    pub(crate) address: Vec<String>,
    /// Seconds that an answer may be kept.
    pub(crate) ttl: u32,
    /// All live names.
    pub(crate) entries: Vec<DnsEntry>,
}

/// A live name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DnsEntry {
    /// Fully qualified, with a dot at the end.
    pub(crate) hostname: String,
    /// Its address.
    pub(crate) address: IpAddr,
    /// First twelve characters of the container's id, or what it is filed under.
    pub(crate) container: String,
    /// Name of the peer that announces it.
    pub(crate) origin: String,
}

/// State of the Docker plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PluginStatus {
    /// Name of the network and IPAM driver.
    pub(crate) driver_name: String,
}

/// `POST /connect`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ConnectRequest {
    /// Peers, `host[:port]`.
    pub(crate) peers: Vec<String>,
    /// Drop the former targets.
    #[serde(default)]
    pub(crate) replace: bool,
}

/// `POST /rmpeer`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BanRequest {
    /// Key, name, nickname, or the beginning of a key or name.
    pub(crate) peer: String,
    /// For people.
    #[serde(default)]
    pub(crate) reason: String,
}

/// The answer to `POST /rmpeer`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BanAnswer {
    /// The ban in force.
    pub(crate) peer: BannedPeer,
    /// It was in force before.
    pub(crate) was_banned: bool,
    /// Anything was ever heard of this peer.
    pub(crate) is_known: bool,
    /// Number of addresses that it owns, and keeps.
    pub(crate) ips: u64,
}

/// `POST /forget`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ForgetRequest {
    /// Peers, as they were typed at `connect` or `launch`.
    pub(crate) peers: Vec<String>,
}

/// What became of one peer of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PeerResult {
    /// The peer, as it was typed.
    pub(crate) peer: String,
    /// Why it failed; absent if it did not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) error: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) hint: Option<String>,
}

/// An address of `attach`, `detach`, `expose` or `hide`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AddressSpec {
    /// `[ip:]10.2.1.7/24`: this very address.
    Address {
        /// The address.
        ip: IpAddr,
        /// Length of its subnet's prefix.
        prefix_len: u8,
    },
    /// `net:10.2.1.0/24`: any free address of this subnet.
    Subnet {
        /// First address of the subnet.
        network: IpAddr,
        /// Length of its prefix.
        prefix_len: u8,
    },
    /// `net:default`: any free address of the default subnet.
    DefaultSubnet,
}

/// Whose network namespace is meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Sandbox {
    /// A container's, by name or id.
    Container(String),
    /// The one at this absolute path of the host.
    Netns(PathBuf),
}

/// `POST /attach`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AttachRequest {
    /// What to attach; never empty.
    pub(crate) addresses: Vec<AddressSpec>,
    /// Where to.
    pub(crate) sandbox: Sandbox,
}

/// `POST /detach`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DetachRequest {
    /// What to detach; empty: everything.
    pub(crate) addresses: Vec<AddressSpec>,
    /// Where from.
    pub(crate) sandbox: Sandbox,
}

/// `POST /expose`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExposeRequest {
    /// What to give to the host; never empty.
    pub(crate) addresses: Vec<AddressSpec>,
    /// Names of these addresses, fully qualified.
    #[serde(default)]
    pub(crate) names: Vec<String>,
    /// Hide containers and neighbours of the host from each other behind its own addresses.
    pub(crate) masquerade: bool,
}

/// `POST /hide`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HideRequest {
    /// What to take from the host; empty: everything.
    pub(crate) addresses: Vec<AddressSpec>,
}

/// `POST /dns-add` and `/dns-remove`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NameRequest {
    /// Addresses; empty: all that the container has.
    pub(crate) addresses: Vec<IpAddr>,
    /// The container by name or id; absent: the names belong to none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) container: Option<String>,
    /// Whole names; empty: that of the container.
    pub(crate) names: Vec<String>,
}

/// `POST /reset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ResetRequest {
    /// Wait for nobody.
    pub(crate) force: bool,
}

/// A local endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PsEntry {
    /// Container id, the path of a namespace, or `weave:expose` for the host itself.
    pub(crate) container: String,
    /// Name of the container, where known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) name: Option<String>,
    /// MAC address.
    pub(crate) mac: String,
    /// Addresses with prefix length.
    pub(crate) addresses: Vec<String>,
    /// What its port on the bridge has carried, as the kernel counts it; absent while there is none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) traffic: Option<Traffic>,
}
