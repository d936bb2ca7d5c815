//! What is made of the grammar for others: manual pages, and completions for shells.
//!
//! Both show what `--help` shows, and nothing that is hidden there.

use std::path::Path;

use anyhow::{Context, Result};
use clap::{Command, CommandFactory};

use super::args::Cli;

/// Writes the manual pages, one for each command.
///
/// # Errors
/// When they cannot be written.
pub(crate) fn run(dir: &Path) -> Result<()> {
    let written = std::fs::create_dir_all(dir)
        .and_then(|()| clap_mangen::generate_to(visible(&Cli::command()), dir));
    written.with_context(|| format!("write the manual pages to {}", dir.display()))
}

/// What completes our command line in a shell.
pub(crate) fn completions(shell: clap_complete::Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut visible(&Cli::command()), "weave", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The same without what is hidden.
fn visible(command: &Command) -> Command {
    let arguments = command.get_arguments().filter(|one| !one.is_hide_set());
    let commands = command.get_subcommands().filter(|one| !one.is_hide_set());
    let mut shown = Command::new(command.get_name().to_owned())
        .disable_help_flag(command.is_disable_help_flag_set())
        .disable_help_subcommand(true)
        .subcommand_required(command.is_subcommand_required_set())
        .args(arguments.cloned())
        .subcommands(commands.map(visible));
    if let Some(about) = command.get_about() {
        shown = shown.about(about.clone());
    }
    if let Some(after) = command.get_after_help() {
        shown = shown.after_help(after.clone());
    }
    if let Some(version) = command.get_version() {
        shown = shown.version(version.to_owned());
    }
    shown
}

#[cfg(test)]
mod tests;
