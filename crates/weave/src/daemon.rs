//! The router daemon: the shell around [`weave_node::Node`].
//!
//! Owns the event loop, the data threads, the store and the glue between the
//! node, the kernel and Docker. Decides nothing about the mesh itself.

mod address;
mod admin;
mod attach;
mod banning;
mod clock;
mod control;
mod data;
mod doctor;
mod driver;
mod expose;
mod inquiries;
mod listen;
mod names;
mod networks;
mod passwords;
mod ping;
mod reconcile;
mod resolve;
mod settling;
mod stand_in;
mod start;
mod stopping;
mod store;

use std::net::SocketAddr;
use std::path::PathBuf;

use weave_node::PostQuantum;
use weave_node::ipam::TakeBack;
use weave_wire::{Cidr, Versions};

use crate::passwords::PasswordSet;

pub(crate) use stand_in::{DISCARD_PORT, ECHO_PORT, GROUP};
pub(crate) use start::run;

/// Protocol versions spoken here.
const VERSIONS: Versions = if cfg!(feature = "next-format") {
    Versions::NEXT
} else {
    Versions::SPOKEN
};

/// Everything the daemon needs to know to start, validated.
#[derive(Debug, Clone)]
pub(crate) struct DaemonConfig {
    /// Directory of the store and the stretched passwords.
    pub(crate) state_dir: PathBuf,
    /// Unix socket of the admin API.
    pub(crate) socket: PathBuf,
    /// UDP port of the mesh.
    pub(crate) port: u16,
    /// Range that addresses are allocated from.
    pub(crate) range: Cidr,
    /// Subnet of the Docker network `weave`; inside `range`.
    pub(crate) default_subnet: Cidr,
    /// When address space is taken back from hosts that are gone.
    pub(crate) take_back: TakeBack,
    /// Name of this host for people; the host name unless given.
    pub(crate) nickname: String,
    /// Peers to connect to, as the user typed them.
    pub(crate) targets: Vec<String>,
    /// Differs from launch to launch, absent outside containers: `targets` of a
    /// new launch replace those on disk, after a restart those on disk count.
    pub(crate) launch_id: Option<String>,
    /// Passwords of the mesh that the router starts with.
    pub(crate) passwords: PasswordSet,
    /// Where the state can be read by HTTP, if anywhere.
    pub(crate) status_addr: Option<SocketAddr>,
    /// Whether AES-256-GCM goes before ChaCha20-Poly1305, where a peer prefers it too.
    pub(crate) prefer_aes: bool,
    /// Whether keys are to withstand quantum computers.
    pub(crate) pq: PostQuantum,
    /// No DNS server and no redirect in containers.
    pub(crate) no_dns: bool,
    /// Whether the kernel is left to cut, join or sum nothing.
    pub(crate) no_offloads: bool,
    /// Only announced stations and addresses are let into any network.
    pub(crate) strict: bool,
    /// Containers may send with any address.
    pub(crate) no_guard: bool,
    /// Connect to the given peers only.
    pub(crate) no_discovery: bool,
    /// Hosts up to which each is connected to each; 0: no limit.
    pub(crate) conn_limit: usize,
    /// No plugin, no container watcher.
    pub(crate) no_docker: bool,
    /// DNS domain without dots at the ends, `weave.local`.
    pub(crate) dns_domain: String,
    /// Docker's API socket.
    pub(crate) docker_socket: PathBuf,
}
