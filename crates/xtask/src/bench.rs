//! `cargo xtask bench overlays`: weave beside other overlays, on one topology, in one run.
//!
//! Owns the options and the order of things. Repetitions are interleaved (the first of every
//! overlay, then the second), so what the machine does meanwhile hits all alike. An overlay that
//! cannot be had or does not work is reported as such and never ends the run; what was measured
//! so far is on disk after every repetition.

mod figures;
pub(crate) mod flood;
mod install;
mod machine;
mod measure;
mod overlay;
mod plot;
mod progress;
mod report;
mod stage;
mod statistics;
mod table;
mod traffic;
mod udp;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};

use overlay::Overlay;
use progress::{Labelled, Progress, Say};
use report::{Entry, Failure, Report, Sample};
use stage::Stage;

/// After so many failures an overlay is not tried again.
const TRIES: usize = 2;

/// What is measured, and how long.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How often each overlay is measured.
    #[arg(long, default_value_t = 5, value_name = "N")]
    repetitions: u32,
    /// Length of each TCP stream, seconds.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u64).range(2..))]
    seconds: u64,
    /// Only these, by the names of the files in benches/overlays.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    overlays: Vec<String>,
    /// One repetition of two seconds and a rough search: whether everything works.
    #[arg(long, conflicts_with_all = ["repetitions", "seconds"])]
    quick: bool,
    /// The static weave to be measured; without it the release is built.
    #[arg(long, value_name = "PATH")]
    weave_bin: Option<PathBuf>,
    /// Where table, figures and plot are written [default: target/bench].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Lose this share of the packets on the underlay, with its offloads off.
    #[arg(long, default_value_t = 0.0, value_name = "PERCENT", value_parser = percentage)]
    loss: f64,
    /// Congestion control of the TCP streams.
    #[arg(long, value_enum, default_value = "cubic")]
    congestion: Congestion,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Congestion {
    Cubic,
    Bbr,
}

impl Congestion {
    fn name(self) -> &'static str {
        match self {
            Self::Cubic => "cubic",
            Self::Bbr => "bbr",
        }
    }
}

fn percentage(text: &str) -> Result<f64, String> {
    let percent: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    match (0.0..100.0).contains(&percent) {
        true => Ok(percent),
        false => Err("not from 0 up to 100".to_owned()),
    }
}

/// Measures, and writes the report.
///
/// # Errors
/// Without root, for names that are no overlays, when weave does not build, when there is no
/// place for the report.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "this makes network namespaces and needs root\nhint: sudo -E env \"PATH=$PATH\" cargo xtask bench overlays"
    );
    let places = Places::find(options.weave_bin.as_deref(), options.out.as_deref())?;
    let progress = Progress::start();
    let overlays = chosen(&overlay::read_all(Path::new("benches/overlays"))?, options)?;
    let tools = install::Tools::new(&places.target);
    tools.provide_own(&overlays, &progress)?;
    let is_measured = overlays.iter().any(|overlay| overlay.uses_weave);
    let weave = match places.weave {
        None if is_measured => Some(build_weave(&places.target, &progress)?),
        given => given,
    };
    let stages = stage::Environment {
        path: tools.search_path(),
        weave,
        loss: options.loss,
    };
    let mut report = Report::new(options);
    for overlay in overlays {
        report
            .entries
            .push(entry(overlay, &tools, &stages, &progress));
    }
    measure_all(options, &stages, &mut report, &places.out, &progress)?;
    report.write(&places.out)?;
    progress.say(&format!("written to {}", places.out.display()));
    write!(std::io::stdout(), "{}", table::render(&report))?;
    Ok(ExitCode::SUCCESS)
}

/// Where things are; from here on, all is done in the top directory of the project.
#[derive(Debug)]
struct Places {
    target: PathBuf,
    out: PathBuf,
    /// The weave that was given.
    weave: Option<PathBuf>,
}

impl Places {
    /// # Errors
    /// When there is no such weave, or the place for the report cannot be made.
    fn find(weave: Option<&Path>, out: Option<&Path>) -> Result<Self> {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let top = top.canonicalize().context("find the workspace")?;
        let target = crate::target_dir(&top)?;
        let out = out.map_or_else(|| target.join("bench"), Path::to_path_buf);
        let out = std::path::absolute(out)?;
        std::fs::create_dir_all(&out).with_context(|| format!("make {}", out.display()))?;
        let weave = weave.map(|given| {
            let path = given.canonicalize();
            path.with_context(|| format!("find {}", given.display()))
        });
        let weave = weave.transpose()?;
        std::env::set_current_dir(&top).context("enter the workspace")?;
        Ok(Self { target, out, weave })
    }
}

fn chosen(all: &[Overlay], options: &Options) -> Result<Vec<Overlay>> {
    if options.overlays.is_empty() {
        return Ok(all.to_vec());
    }
    let find = |name: &String| {
        let found = all.iter().find(|overlay| overlay.name == *name);
        found.cloned().with_context(|| {
            let names: Vec<_> = all.iter().map(|overlay| &*overlay.name).collect();
            format!("no overlay `{name}`\nhint: there are {}", names.join(", "))
        })
    };
    options.overlays.iter().map(find).collect()
}

/// The static binary.
fn build_weave(target: &Path, progress: &Progress) -> Result<PathBuf> {
    progress.say("building the release of weave");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--release", "--package", "weave"])
        .env("CARGO_TARGET_DIR", target)
        .status()
        .context("run cargo")?;
    if !status.success() {
        bail!("weave does not build");
    }
    Ok(target.join("x86_64-unknown-linux-gnu/release/weave"))
}

/// An overlay with what it needs installed, or the reason why that is not to be had.
fn entry(
    overlay: Overlay,
    tools: &install::Tools,
    stages: &stage::Environment,
    progress: &Progress,
) -> Entry {
    let mut entry = Entry::new(overlay);
    match tools.provide(&entry.overlay, progress) {
        Ok(()) => entry.version = stages.version(&entry.overlay),
        Err(error) => {
            entry.is_available = false;
            let failure = Failure::new(0, &error, Vec::new());
            let name = entry.overlay.name.clone();
            entry.fail(&progress.labelled(&name), failure);
        }
    }
    entry
}

fn measure_all(
    options: &Options,
    stages: &stage::Environment,
    report: &mut Report,
    out: &Path,
    progress: &Progress,
) -> Result<()> {
    let effort = measure::Effort::new(options);
    for repetition in 1..=effort.repetitions {
        for index in 0..report.entries.len() {
            let Some(entry) = report.entries.get_mut(index) else {
                continue;
            };
            if !entry.is_available || entry.failures.len() >= TRIES {
                continue;
            }
            let label = format!("{repetition}/{} {}", effort.repetitions, entry.overlay.name);
            repeat(
                entry,
                repetition,
                stages,
                &effort,
                &progress.labelled(&label),
            );
            report.write(out)?;
        }
    }
    Ok(())
}

/// One repetition of one overlay, on a stage of its own.
fn repeat(
    entry: &mut Entry,
    repetition: u32,
    stages: &stage::Environment,
    effort: &measure::Effort,
    progress: &Labelled<'_>,
) {
    let overlay = entry.overlay.clone();
    let stage = match Stage::set(stages, &overlay) {
        Ok(stage) => stage,
        Err(error) => return entry.fail(progress, Failure::new(repetition, &error, Vec::new())),
    };
    if let Err(error) = stage.start() {
        return entry.fail(progress, Failure::new(repetition, &error, stage.log_tail()));
    }
    entry.mtu = stage.mtu();
    let mut session = measure::Session::new(&stage, effort, progress);
    let outcome = session.measure();
    let figures = session.into_figures();
    if !figures.is_empty() {
        entry.samples.push(Sample {
            repetition,
            figures,
        });
    }
    if let Err(error) = outcome {
        entry.fail(progress, Failure::new(repetition, &error, stage.log_tail()));
    }
}
