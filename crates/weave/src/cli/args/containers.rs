//! The grammar of the commands about who is on the network: containers, namespaces, this host.

use std::path::PathBuf;

use clap::{ArgAction, Args};

/// `weave ps`.
#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    /// Only these containers, by name or id
    #[arg(value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `weave attach` and `weave detach`.
#[derive(Debug, Args)]
pub(crate) struct AttachArgs {
    /// A network namespace by path, in place of a container
    #[arg(long, value_name = "PATH")]
    pub(crate) netns: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Addresses, and the container by name or id
    #[arg(value_name = "ADDRESS|CONTAINER")]
    pub(crate) operands: Vec<String>,
}

/// `weave expose`.
#[derive(Debug, Args)]
pub(crate) struct ExposeArgs {
    /// Name for these addresses, within the DNS domain; may be given again
    #[arg(short = 'h', value_name = "FQDN")]
    pub(crate) names: Vec<String>,
    /// Leave sources as they are where traffic passes this host to or from elsewhere
    #[arg(long)]
    pub(crate) without_masquerade: bool,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Addresses [default: net:default]
    #[arg(value_name = "ADDRESS")]
    pub(crate) addresses: Vec<String>,
}

/// `weave hide`.
#[derive(Debug, Args)]
pub(crate) struct HideArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Addresses [default: all]
    #[arg(value_name = "ADDRESS")]
    pub(crate) addresses: Vec<String>,
}
