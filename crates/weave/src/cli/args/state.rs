//! The grammar of the commands that show, wait or end.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::super::logs::Since;

/// A part of the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StatusView {
    /// Peers to connect to, as typed
    Targets,
    /// Connections of this router, with the reason for each that is not established
    Connections,
    /// All live peers and their connections, and those that are banned
    Peers,
    /// Names and their addresses
    Dns,
    /// Who owns which part of the address range
    Ipam,
}

/// `weave status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Only this part
    #[arg(value_enum, value_name = "PART")]
    pub(crate) view: Option<StatusView>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `weave top`.
#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// How long rates are measured, and how often they are shown
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) interval: u64,
    /// Print one table, after one interval
    #[arg(long)]
    pub(crate) once: bool,
    /// Print JSON, after one interval
    #[arg(long)]
    pub(crate) json: bool,
}

/// `weave prime`.
#[derive(Debug, Args)]
pub(crate) struct PrimeArgs {
    /// How long to wait
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) timeout: u64,
}

/// `weave report`.
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// Only these fields: `router.name`, or a text with {{.Router.Name}} in it
    #[arg(short, long, value_name = "FIELDS", conflicts_with = "json")]
    pub(crate) format: Option<String>,
    /// Accepted for symmetry: a report is always JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `weave reset`.
#[derive(Debug, Args)]
pub(crate) struct ResetArgs {
    /// Go on although the router does not run, peers do not answer or containers are attached
    #[arg(long)]
    pub(crate) force: bool,
}

/// `weave logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Go on with what is added, until Ctrl-C
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only what is as old at most, such as 10m or 2h, or not before such a time as 2026-01-31T15:04:05
    #[arg(long, value_name = "WHEN", value_parser = Since::parse)]
    pub(crate) since: Option<Since>,
    /// Only so many lines, the last ones
    #[arg(short = 'n', long, value_name = "LINES")]
    pub(crate) tail: Option<u32>,
}

/// `weave man`.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Where the pages are written to
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
}

/// Commands with no other options.
#[derive(Debug, Args)]
pub(crate) struct JsonArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `weave completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

/// Verbs of Weave Net that do nothing.
#[derive(Debug, Args)]
pub(crate) struct IgnoredArgs {
    /// Ignored
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) rest: Vec<String>,
}
