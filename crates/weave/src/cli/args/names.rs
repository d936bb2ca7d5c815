//! The grammar of the commands about names.

use clap::{ArgAction, Args};

/// `weave dns-add` and `weave dns-remove`.
#[derive(Debug, Args)]
pub(crate) struct DnsNameArgs {
    /// Name within the DNS domain; may be given again [default: that of the container]
    #[arg(short = 'h', value_name = "FQDN")]
    pub(crate) names: Vec<String>,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
    /// Addresses, and the container by name or id
    #[arg(value_name = "IP|CONTAINER")]
    pub(crate) operands: Vec<String>,
}

/// `weave dns-lookup`.
#[derive(Debug, Args)]
pub(crate) struct DnsLookupArgs {
    /// Name, with or without the domain
    pub(crate) name: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
