//! One entry for every chore.

#![forbid(unsafe_code)]

mod bench;
mod dns;
mod fuzz;
mod instructions;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::Context;
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Chores of this project")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Simulate many nodes under faults: `--peers 50 --seeds 100`, or `--replay SEED`.
    #[command(disable_help_flag = true)]
    Sim {
        /// Passed on to the simulator; `--help` tells all.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Throw bytes at what strangers and peers reach, guided by the code that they reach.
    Fuzz(fuzz::Options),
    /// Measure.
    #[command(subcommand)]
    Bench(Bench),
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// Compare weave with other overlays on one topology, in turn, in one run.
    Overlays(bench::Options),
    /// What a TCP stream reaches while one of its hosts is flooded with garbage.
    Garbage(bench::flood::Options),
    /// The same while it is flooded with handshakes, and another host joins.
    Flood(bench::flood::Options),
    /// Our DNS server beside a bare hickory server with the same names.
    Dns(dns::Options),
    /// Count the instructions of the data path and compare them with benches/instructions.json.
    Instructions(instructions::Options),
}

fn main() -> anyhow::Result<ExitCode> {
    match Arguments::parse().chore {
        Chore::Sim { arguments } => sim(&arguments),
        Chore::Fuzz(options) => fuzz::run(&options),
        Chore::Bench(Bench::Overlays(options)) => bench::run(&options),
        Chore::Bench(Bench::Garbage(options)) => bench::flood::garbage(&options),
        Chore::Bench(Bench::Flood(options)) => bench::flood::handshakes(&options),
        Chore::Bench(Bench::Dns(options)) => dns::run(&options),
        Chore::Bench(Bench::Instructions(options)) => instructions::run(&options),
    }
}

/// Where cargo builds, for the workspace in `top`.
fn target_dir(top: &Path) -> anyhow::Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR");
    let target = target.map_or_else(|| top.join("target"), PathBuf::from);
    std::path::absolute(target).context("find the target directory")
}

/// Builds the simulator as the release is built, which shares its dependencies, and runs it.
fn sim(arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args([
            "run",
            "--quiet",
            "--release",
            "--package",
            "weave-sim",
            "--",
        ])
        .args(arguments)
        .status()
        .context("run cargo")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
