//! The grammar of `weave launch` and `weave router`.

use std::path::PathBuf;

use clap::Args;

use super::super::choices::{CipherChoice, LogLevel, PqChoice};
use super::weave_net::FromWeaveNet;

/// Options of `launch` and `router`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub(crate) struct RouterOptions {
    /// Password of the mesh; other users of this host can see it while the command runs
    #[arg(long, value_name = "PASSWORD", conflicts_with = "password_file")]
    pub(crate) password: Option<String>,
    /// File whose only line is the password of the mesh
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// Number of the password, where it is not the first one of the mesh [default: 0]
    #[arg(long, env = "WEAVE_PASSWORD_GENERATION", value_name = "N")]
    pub(crate) password_generation: Option<u16>,
    /// Name of this host for people [default: its host name]
    #[arg(long, env = "WEAVE_NICKNAME", value_name = "NAME")]
    pub(crate) nickname: Option<String>,
    /// Range of all addresses, the same on every host [default: 10.32.0.0/12]
    #[arg(long, env = "WEAVE_IPALLOC_RANGE", value_name = "CIDR")]
    pub(crate) ipalloc_range: Option<String>,
    /// Subnet of the Docker network `weave` [default: the whole range]
    #[arg(long, env = "WEAVE_IPALLOC_DEFAULT_SUBNET", value_name = "CIDR")]
    pub(crate) ipalloc_default_subnet: Option<String>,
    /// Seconds after which space of hosts without a sign of life is taken back; for tests, the same on every host [default: 604800]
    #[arg(long, hide = true, env = "WEAVE_IPALLOC_TAKE_BACK", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(60..))]
    pub(crate) ipalloc_take_back: Option<u64>,
    /// UDP port of the mesh, the same on every host [default: 6783]
    #[arg(long, env = "WEAVE_PORT", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: Option<u16>,
    /// Where the state can be read by HTTP, or `off` [default: 127.0.0.1:6782]
    #[arg(long, env = "WEAVE_STATUS_ADDR", value_name = "ADDR:PORT")]
    pub(crate) status_addr: Option<String>,
    /// Cipher of the traffic between hosts; `auto` is what the processors of both do faster [default: auto]
    #[arg(long, env = "WEAVE_CIPHER", value_name = "CIPHER")]
    pub(crate) cipher: Option<CipherChoice>,
    /// Key exchange that withstands quantum computers (ML-KEM-768 beside X25519) [default: prefer]
    #[arg(long, env = "WEAVE_PQ", value_name = "WHEN")]
    pub(crate) pq: Option<PqChoice>,
    /// Domain that names lie in, the same on every host [default: weave.local.]
    #[arg(long, env = "WEAVE_DNS_DOMAIN", value_name = "DOMAIN")]
    pub(crate) dns_domain: Option<String>,
    /// Serve no DNS
    #[arg(long, env = "WEAVE_NO_DNS", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) no_dns: bool,
    /// Move each frame and datagram by itself: slow, for network drivers that spoil longer ones
    #[arg(long, env = "WEAVE_NO_OFFLOADS", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) no_offloads: bool,
    /// Let only announced stations and addresses into the networks; the same on every host
    #[arg(long, env = "WEAVE_STRICT", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) strict: bool,
    /// Let containers of this host send with any address, as routers and virtual addresses need
    #[arg(long, env = "WEAVE_NO_GUARD", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) no_guard: bool,
    /// Connect to the given peers only, not to those that they know; the rest is reached through them
    #[arg(long, env = "WEAVE_NO_DISCOVERY", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) no_discovery: bool,
    /// Hosts up to which each is connected to each; in a larger mesh a connection is made when there is something to send; 0: no limit [default: 50]
    #[arg(long, env = "WEAVE_CONN_LIMIT", value_name = "HOSTS")]
    pub(crate) conn_limit: Option<usize>,
    /// How much the router says in its log; WEAVE_LOG takes more [default: info]
    #[arg(long, env = "WEAVE_LOG_LEVEL", value_name = "LEVEL")]
    pub(crate) log_level: Option<LogLevel>,
    /// Peers to connect to, HOST[:PORT]
    #[arg(value_name = "PEER")]
    pub(crate) peers: Vec<String>,
}

/// `weave launch`.
#[derive(Debug, Args)]
pub(crate) struct LaunchArgs {
    /// Run the router as a service of systemd, which starts it before Docker, not as a container
    #[arg(long)]
    pub(crate) systemd: bool,
    /// Let Docker not start the router again at boot or when it ends: another supervisor does
    #[arg(long, conflicts_with = "systemd")]
    pub(crate) no_restart: bool,
    /// Connect to the peers of before, kept on disk, and to no others
    #[arg(long, conflicts_with = "peers")]
    pub(crate) resume: bool,
    /// Accepted as Weave Net's, and ignored: traffic is encrypted everywhere
    #[arg(long, value_name = "CIDR,...")]
    pub(crate) trusted_subnets: Option<String>,
    /// What the router is started with.
    #[command(flatten)]
    pub(crate) options: RouterOptions,
    /// Options of Weave Net that mean nothing here.
    #[command(flatten)]
    pub(crate) from_weave_net: FromWeaveNet,
}

/// `weave router`.
#[derive(Debug, Args)]
pub(crate) struct RouterArgs {
    /// What the router is started with.
    #[command(flatten)]
    pub(crate) options: RouterOptions,
    /// Directory of identity, addresses and password [default: /var/lib/weave]
    #[arg(long, env = "WEAVE_STATE_DIR", value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Serve no Docker plugin and watch no containers
    #[arg(long)]
    pub(crate) no_docker: bool,
    /// Tells a launch from a restart: peers of a new launch replace those kept on disk
    #[arg(long, hide = true, value_name = "ID")]
    pub(crate) launch_id: Option<String>,
}
