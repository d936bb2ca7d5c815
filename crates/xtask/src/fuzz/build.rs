//! The build of the fuzzer: our crates with coverage instrumentation, in a target directory of its
//! own.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Compiles crates of ours; it says how.
const COMPILER: &str = "crates/weave-fuzz/instrumented-rustc";

/// That of .cargo/config.toml.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// Builds the fuzzer; gives the path of the program.
///
/// # Errors
/// When it does not build.
pub(super) fn program(target: &Path) -> Result<PathBuf> {
    let compiler = std::path::absolute(COMPILER)?;
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--quiet", "--profile", "fuzz", "--target", TRIPLE])
        .args(["--package", "weave-fuzz", "--features", "libfuzzer"])
        .arg("--target-dir")
        .arg(target)
        .env("RUSTC_WORKSPACE_WRAPPER", compiler)
        // instead of those in .cargo/config.toml: libFuzzer is linked dynamically
        .env("RUSTFLAGS", "-Cforce-frame-pointers=yes")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status()
        .context("run cargo")?;
    ensure!(status.success(), "the fuzzer does not build");
    Ok(target.join(TRIPLE).join("fuzz/weave-fuzz"))
}
