//! The build of the fuzzer: every crate with coverage instrumentation, in a target directory of
//! its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// What `cargo fuzz` passes on a nightly toolchain, but for the sanitizers, which stable lacks.
const FLAGS: [&str; 6] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Clink-dead-code",
];

/// That of .cargo/config.toml.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// Builds the fuzzer; gives the path of the program.
///
/// # Errors
/// When it does not build.
pub(super) fn program(target: &Path) -> Result<PathBuf> {
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--quiet", "--profile", "fuzz", "--target", TRIPLE])
        .args(["--package", "weave-fuzz", "--features", "libfuzzer"])
        .arg("--target-dir")
        .arg(target)
        .env("RUSTFLAGS", FLAGS.join(" "))
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status()
        .context("run cargo")?;
    ensure!(status.success(), "the fuzzer does not build");
    Ok(target.join(TRIPLE).join("fuzz/weave-fuzz"))
}
