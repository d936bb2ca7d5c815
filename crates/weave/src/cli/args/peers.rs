//! The grammar of the commands about peers.

use clap::Args;

/// `weave connect`.
#[derive(Debug, Args)]
pub(crate) struct ConnectArgs {
    /// Drop all other targets
    #[arg(long)]
    pub(crate) replace: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Peers, HOST[:PORT]
    #[arg(value_name = "PEER", required_unless_present = "replace")]
    pub(crate) peers: Vec<String>,
}

/// `weave forget`.
#[derive(Debug, Args)]
pub(crate) struct ForgetArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Peers, as `weave status targets` shows them
    #[arg(value_name = "PEER", required = true)]
    pub(crate) peers: Vec<String>,
}

/// `weave rmpeer`.
#[derive(Debug, Args)]
pub(crate) struct RmpeerArgs {
    /// Why, for whoever reads `weave status peers`
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) reason: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Peers, as `weave status peers` shows them
    #[arg(value_name = "PEER", required = true)]
    pub(crate) peers: Vec<String>,
}
