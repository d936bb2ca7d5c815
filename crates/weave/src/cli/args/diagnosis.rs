//! Arguments of the commands that look for faults.

use clap::Args;

/// `weave ping`.
#[derive(Debug, Args)]
pub(crate) struct PingArgs {
    /// How many times
    #[arg(short = 'c', long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) count: u32,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// A name, an address, or a peer by name, nickname or key
    #[arg(value_name = "NAME|IP|PEER")]
    pub(crate) target: String,
}

/// `weave graph`.
#[derive(Debug, Args)]
pub(crate) struct GraphArgs {
    /// Print it for Graphviz
    #[arg(long, conflicts_with_all = ["svg", "json"])]
    pub(crate) dot: bool,
    /// Print it as a picture for browsers
    #[arg(long, conflicts_with = "json")]
    pub(crate) svg: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `weave test`.
#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Only these peers, by name or nickname
    #[arg(value_name = "PEER")]
    pub(crate) peers: Vec<String>,
}

/// `weave doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
