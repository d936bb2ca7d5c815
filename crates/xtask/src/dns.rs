//! `cargo xtask bench dns`: our DNS server beside a bare hickory server.
//!
//! Owns the build and the core on which all of it runs; what is measured is in
//! `crates/weave/benches/dns.rs`.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::Args;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// Where it runs.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The core on which both servers and their client run.
    #[arg(long, default_value_t = 0, value_name = "N")]
    core: usize,
    /// The profile that it is built with.
    #[arg(long, default_value = "bench", value_name = "NAME")]
    profile: String,
}

/// Builds the benchmark and runs it on one core.
///
/// # Errors
/// When it does not build or run, or there is no such core.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let built = cargo(&options.profile, &["--no-run"])?;
    if built != ExitCode::SUCCESS {
        return Ok(built);
    }
    let mut cores = CpuSet::new();
    cores.set(options.core).context("choose a core")?;
    // cargo and what it starts inherit it
    sched_setaffinity(Pid::from_raw(0), &cores)
        .with_context(|| format!("run on core {} only", options.core))?;
    cargo(&options.profile, &[])
}

fn cargo(profile: &str, more: &[&str]) -> Result<ExitCode> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["bench", "--quiet", "--profile", profile])
        .args(["--package", "weave", "--bench", "dns"])
        .args(more)
        .status()
        .context("run cargo")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
