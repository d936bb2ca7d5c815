//! What a node is told at start, validated by whoever read it.

use std::net::IpAddr;

use weave_crypto::Passwords;
use weave_wire::{Cidr, Versions};

use crate::ipam::TakeBack;
use crate::post_quantum::PostQuantum;
/// The usual [`NodeConfig::conn_limit`].
pub const CONN_LIMIT: usize = 50;

/// Configuration of a [`Node`](crate::Node).
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Name of this host for people; not trusted by anyone.
    pub nickname: String,
    /// Version of the program, for people.
    pub version: String,
    /// Protocol versions to speak.
    pub versions: Versions,
    /// Peers of different mesh names never connect.
    pub mesh_name: String,
    /// Passwords of the mesh, stretched.
    pub passwords: Passwords,
    /// AES is in hardware here, faster than ChaCha20.
    pub prefer_aes: bool,
    /// Whether peers that gossip found are connected to.
    pub discovery: bool,
    /// Whether keys are to withstand quantum computers.
    pub pq: PostQuantum,
    /// With up to so many live peers, this one included, there is a session with each, else with
    /// the neighbours on the ring, and with others only when there is something to send; 0: with
    /// each in any case.
    pub conn_limit: usize,
    /// Port of targets that name none.
    pub port: u16,
    /// Range that addresses are allocated from; none: addresses are not allocated here.
    pub range: Option<Cidr>,
    /// Subnet of endpoints that ask for no other; inside `range`.
    pub default_subnet: Option<Cidr>,
    /// When address space is taken back from peers that are gone.
    pub take_back: TakeBack,
    /// Peers to connect to, as the user typed them.
    pub targets: Vec<String>,
    /// After a restart, nothing is said to others until [`Node::names_are_complete`] is called,
    /// for some seconds at most.
    ///
    /// [`Node::names_are_complete`]: crate::Node::names_are_complete
    pub awaits_names: bool,
    /// Addresses of this host: a target there that answers as ourselves is no other host.
    pub local: Vec<IpAddr>,
    /// Addresses that are each host's own, on every host alike: never announced, never forwarded.
    pub anycast: Vec<IpAddr>,
    /// Unix milliseconds, as this host sees them: a label for foundings, compared with no other host's
    /// clock, and tells how long this host was down.
    pub wall_ms: u64,
    /// A bug put in on purpose, to prove that an oracle of the simulator catches it.
    #[cfg(feature = "seeded-bugs")]
    pub seeded_bug: Option<crate::seeded::SeededBug>,
}
