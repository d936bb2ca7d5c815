//! The build of what is counted: as the release is built, but for the null cipher, in a target
//! directory of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// Added to the flags in .cargo/config.toml, which the variables of [`FLAGS`] would replace.
const NULL_CIPHER: &str =
    r#"target.x86_64-unknown-linux-gnu.rustflags = ["--cfg", "weave_null_cipher"]"#;

/// What the environment may say about flags. Counts must not depend on it.
const FLAGS: [&str; 3] = [
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS",
];

const BENCH: &str = "instructions";

/// Builds the bench; gives the path of the program.
///
/// # Errors
/// When it does not build.
pub(super) fn bench(target: &Path) -> Result<PathBuf> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--quiet", "--release"])
        .args(["--package", "weave-node", "--bench", BENCH])
        .args(["--message-format", "json-render-diagnostics"])
        .args(["--config", NULL_CIPHER])
        .arg("--target-dir")
        .arg(target)
        .stderr(Stdio::inherit());
    for variable in FLAGS {
        cargo.env_remove(variable);
    }
    let output = cargo.output().context("run cargo")?;
    ensure!(output.status.success(), "the bench does not build");
    let messages = String::from_utf8(output.stdout)?;
    executable(&messages).context("cargo names no program that it built")
}

#[derive(Debug, Deserialize)]
struct Artifact {
    target: Target,
    executable: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
}

/// The program among the messages of cargo, one on each line.
fn executable(messages: &str) -> Option<PathBuf> {
    let artifacts = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Artifact>(line).ok());
    artifacts
        .filter(|artifact| artifact.target.name == BENCH)
        .find_map(|artifact| artifact.executable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_among_the_messages_of_cargo() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"divan"},"executable":null}
{"reason":"build-script-executed","package_id":"libc"}
{"reason":"compiler-artifact","target":{"name":"build"},"executable":"/target/build"}
{"reason":"compiler-artifact","target":{"name":"instructions"},"executable":"/target/release/deps/instructions-1"}
{"reason":"build-finished","success":true}"#;
        let found = Some(PathBuf::from("/target/release/deps/instructions-1"));
        assert_eq!(executable(messages), found);
        assert_eq!(executable(""), None);
    }
}
