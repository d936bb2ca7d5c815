//! The router daemon: the shell around [`weave_node::Node`].
//!
//! Owns the event loop, the data threads, the store and the glue between the
//! node, the kernel and Docker. Decides nothing about the mesh itself.

use std::path::PathBuf;

use weave_crypto::StretchedPassword;
use weave_wire::Cidr;

/// Everything the daemon needs to know to start, validated.
#[derive(Debug, Clone)]
pub struct DaemonConfig {
    /// Directory of the store and the stretched password.
    pub state_dir: PathBuf,
    /// Unix socket of the admin API.
    pub socket: PathBuf,
    /// UDP port of the mesh.
    pub port: u16,
    /// Range that addresses are allocated from.
    pub range: Cidr,
    /// Subnet of the Docker network `weave`; inside `range`.
    pub default_subnet: Cidr,
    /// Name of this host for people; the host name unless given.
    pub nickname: String,
    /// Peers to connect to, as the user typed them.
    pub targets: Vec<String>,
    /// Differs from launch to launch, absent outside containers: `targets` of a
    /// new launch replace those on disk, after a restart those on disk count.
    pub launch_id: Option<String>,
    /// Password of the mesh, stretched; of the empty password if there is none.
    pub password: StretchedPassword,
    /// Whether a password was given.
    pub has_password: bool,
    /// No DNS server and no redirect in containers.
    pub no_dns: bool,
    /// No plugin, no container watcher.
    pub no_docker: bool,
    /// DNS domain without dots at the ends, `weave.local`.
    pub dns_domain: String,
    /// Docker's API socket.
    pub docker_socket: PathBuf,
}

