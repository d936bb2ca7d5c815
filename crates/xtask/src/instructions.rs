//! `cargo xtask bench instructions`: how many instructions the data path takes for each item,
//! beside what it took when the baseline was written.
//!
//! Counts hardly differ from run to run, whatever else the machine does, so that they can be a
//! gate where times cannot. What is counted stands in `crates/weave-node/benches/cases.rs`.

mod baseline;
mod build;
mod callgrind;

use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use baseline::{Baseline, Comparison};

/// Below the top directory.
const BASELINE: &str = "benches/instructions.json";

/// The function that callgrind counts from entry to exit.
const MEASURED: &str = "*instructions::measured*";

/// What becomes of the counts.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Make what is counted now the baseline.
    #[arg(long)]
    update: bool,
}

/// Counts, and compares with the baseline or replaces it.
///
/// # Errors
/// Without valgrind, when the bench does not build or run, when the baseline cannot be read.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = crate::target_dir(&top)?.join("counting");
    std::env::set_current_dir(top).context("enter the workspace")?;
    let bench = build::bench(&target)?;
    let mut now = Baseline::default();
    for (name, items) in cases(&bench)? {
        let instructions = count(&bench, &name, &target.join("callgrind.out"))?;
        now.insert(name, instructions.div_ceil(items));
    }
    if options.update {
        now.write(Path::new(BASELINE))?;
    }
    let comparison = Comparison::new(&Baseline::read(Path::new(BASELINE))?, &now);
    write!(std::io::stdout(), "{comparison}")?;
    Ok(match comparison.is_good() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// The names of the cases, with how many items each measures.
fn cases(bench: &Path) -> Result<Vec<(String, u64)>> {
    let output = Command::new(bench).output().context("run the bench")?;
    ensure!(output.status.success(), "the bench cannot name its cases");
    let text = String::from_utf8(output.stdout)?;
    let case = |line: &str| {
        let (name, items) = line.split_once(' ')?;
        let items = items.parse().ok().filter(|items| *items > 0)?;
        Some((name.to_owned(), items))
    };
    let cases: Option<Vec<_>> = text.lines().map(case).collect();
    cases.context("the bench names its cases in a way that is not understood")
}

/// Runs a case and gives the instructions of all that was measured.
fn count(bench: &Path, case: &str, out: &Path) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet"])
        .arg(format!("--toggle-collect={MEASURED}"))
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(bench)
        .arg(case)
        .output()
        .context("run valgrind\nhint: it is the Debian package `valgrind`")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{case}` fails under valgrind: {said}");
    }
    let written =
        std::fs::read_to_string(out).with_context(|| format!("read {}", out.display()))?;
    callgrind::instructions(&written).with_context(|| format!("count the instructions of `{case}`"))
}
