//! The tools of the benchmark and of the overlays, installed where they are missing.
//!
//! Debian packages go into the system, crates into a directory of the target directory.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::overlay::{Need, Overlay};
use super::progress::Say;

/// What the harness itself runs: command and Debian package.
const OWN: [(&str, &str); 8] = [
    ("awk", "mawk"),
    ("ethtool", "ethtool"),
    ("ip", "iproute2"),
    ("iperf3", "iperf3"),
    ("nft", "nftables"),
    ("nsenter", "util-linux"),
    ("ping", "iputils-ping"),
    ("timeout", "coreutils"),
];

/// Installs Debian packages, without starting services of theirs.
const APT: &str = r#". scripts/lib.sh; install_packages "$@""#;

/// Where commands are, and where missing ones are put.
#[derive(Debug)]
pub(super) struct Tools {
    crates: PathBuf,
}

impl Tools {
    pub(super) fn new(target: &Path) -> Self {
        Self {
            crates: target.join("bench-tools"),
        }
    }

    /// PATH for everything that is run.
    pub(super) fn search_path(&self) -> OsString {
        let mut path = self.crates.join("bin").into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        path.push(":/usr/sbin:/sbin");
        path
    }

    /// Provides what the harness itself runs. With it, in one go, come the Debian packages of
    /// the overlays; where that fails, [`provide`](Self::provide) tells for which.
    ///
    /// # Errors
    /// When the harness cannot have its own.
    pub(super) fn provide_own(&self, overlays: &[Overlay], progress: &impl Say) -> Result<()> {
        let own = OWN.map(|(command, package)| Need {
            command: command.to_owned(),
            package: package.to_owned(),
        });
        let others = overlays.iter().flat_map(|overlay| &overlay.debian);
        let all: Vec<_> = own.iter().chain(others).cloned().collect();
        let together = self.provide_debian(&all, progress);
        together.or_else(|_| self.provide_debian(&own, progress))
    }

    /// Provides what an overlay needs.
    ///
    /// # Errors
    /// When a package or crate cannot be installed.
    pub(super) fn provide(&self, overlay: &Overlay, progress: &impl Say) -> Result<()> {
        self.provide_debian(&overlay.debian, progress)?;
        for need in &overlay.crates {
            if !self.has(&need.command) {
                progress.say(&format!("installing the crate {}", need.package));
                self.cargo_install(&need.package)?;
            }
        }
        Ok(())
    }

    fn provide_debian(&self, needs: &[Need], progress: &impl Say) -> Result<()> {
        let missing: Vec<_> = needs
            .iter()
            .filter(|need| !self.has(&need.command))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let packages: BTreeSet<_> = missing.iter().map(|need| &*need.package).collect();
        let packages: Vec<_> = packages.into_iter().collect();
        progress.say(&format!("installing {}", packages.join(" ")));
        run(Command::new("bash")
            .args(["-c", APT, "bash"])
            .args(packages))
    }

    fn cargo_install(&self, package: &str) -> Result<()> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        run(Command::new(cargo)
            .args(["install", "--quiet", "--locked", "--root"])
            .arg(&self.crates)
            .arg(package)
            .env("CARGO_TARGET_DIR", self.crates.join("build")))
    }

    fn has(&self, command: &str) -> bool {
        std::env::split_paths(&self.search_path()).any(|directory| {
            let file = directory.join(command).metadata();
            file.is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        })
    }
}

/// Runs to the end.
///
/// # Errors
/// With the last lines of what it said, when it fails.
fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().display().to_string();
    let output = command.output().with_context(|| format!("run {name}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines: Vec<_> = said.lines().rev().take(5).collect();
    let last: Vec<_> = lines.into_iter().rev().collect();
    bail!("{name} failed: {}", last.join("\n"))
}
