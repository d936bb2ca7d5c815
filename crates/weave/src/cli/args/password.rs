//! The grammar of `weave password`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::JsonArgs;

/// `weave password`.
#[derive(Debug, Args)]
pub(crate) struct PasswordArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: PasswordCommand,
}

/// The verbs of `weave password`.
#[derive(Debug, Subcommand)]
pub(crate) enum PasswordCommand {
    /// Print a new random password of 128 bits
    #[command(after_help = "Example:\n  weave password generate > /etc/weave/password")]
    Generate,
    /// Accept one more password on this host, and print its number
    #[command(after_help = "Examples:\n  \
        weave password add --password-file /etc/weave/password.new\n  \
        WEAVE_PASSWORD=… weave password add\n  \
        weave password add                     asks for it, or reads it from standard input")]
    Add(PasswordAddArgs),
    /// Dial with this password from now on, and move the sessions to it
    #[command(after_help = "Example:\n  weave password use 1\n\n\
        Sessions go on while they move, and stay where the peer does not have the password.")]
    Use(PasswordUseArgs),
    /// Accept this password no more
    #[command(after_help = "Examples:\n  \
        weave password remove 0\n  \
        weave password remove 0 --force   who has no other password is out within 30 s")]
    Remove(PasswordRemoveArgs),
    /// Show the passwords of this host by number, and how many sessions rest on each
    #[command(after_help = "Examples:\n  weave password list\n  weave password list --json")]
    List(JsonArgs),
}

/// `weave password add`.
#[derive(Debug, Args)]
pub(crate) struct PasswordAddArgs {
    /// File whose only line is the new password
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// Its number, the same on every host [default: the next one]
    #[arg(long, value_name = "N")]
    pub(crate) generation: Option<u16>,
}

/// `weave password use`.
#[derive(Debug, Args)]
pub(crate) struct PasswordUseArgs {
    /// Its number, as `weave password list` shows it
    #[arg(value_name = "N")]
    pub(crate) generation: u16,
}

/// `weave password remove`.
#[derive(Debug, Args)]
pub(crate) struct PasswordRemoveArgs {
    /// Its number, as `weave password list` shows it
    #[arg(value_name = "N")]
    pub(crate) generation: u16,
    /// Also if sessions rest on it: those that cannot move end within 30 s
    #[arg(long)]
    pub(crate) force: bool,
}
