//! `cargo xtask fuzz`: looks for inputs that break something, guided by which code they reach.
//!
//! What is fuzzed stands in `crates/weave-fuzz`. Here it is built with coverage instrumentation, in
//! a target directory of its own, and run under libFuzzer, one target after the other. New inputs
//! are collected in `target/fuzz/corpus`, findings in `target/fuzz/findings`; only `--keep` changes
//! the corpus of the repository.

mod build;
mod corpus;
mod outcome;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Args;
use weave_fuzz::{TARGETS, Target};

use outcome::Outcome;

/// The corpora of the repository, below the top directory.
const CORPUS: &str = "crates/weave-fuzz/tests/corpus";

/// Longest that one input may take, in seconds; whole simulations are inputs, too.
const TIMEOUT: u32 = 60;

/// What is fuzzed, and how long.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The target; without one, all of them.
    #[arg(value_parser = TARGETS.iter().map(|target| target.name).collect::<Vec<_>>())]
    target: Option<String>,
    /// Time for each target.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Inputs to try per target, however long that takes.
    #[arg(long, conflicts_with = "seconds")]
    executions: Option<u64>,
    /// Processes at a time.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    jobs: u32,
    /// Put what reaches new code into the corpus of the repository.
    #[arg(long)]
    keep: bool,
    /// Only try this input, without instrumentation.
    #[arg(long, value_name = "FILE", requires = "target")]
    replay: Option<PathBuf>,
}

/// Fuzzes and says what came of it. Fails on a finding.
///
/// # Errors
/// When the program does not build or run, or a corpus cannot be read or written.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let chosen = options.target.as_deref().and_then(Target::named);
    if let (Some(target), Some(file)) = (chosen, &options.replay) {
        let input = fs::read(file).with_context(|| format!("read {}", file.display()))?;
        (target.run)(&input);
        return Ok(ExitCode::SUCCESS);
    }
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let home = crate::target_dir(&top)?.join("fuzz");
    std::env::set_current_dir(top).context("enter the workspace")?;
    let campaign = Campaign {
        options,
        program: build::program(&home)?,
        home,
    };
    let mut is_good = true;
    for target in chosen.map_or(TARGETS, std::slice::from_ref) {
        is_good &= campaign.run(target)?;
    }
    Ok(match is_good {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

struct Campaign<'a> {
    options: &'a Options,
    program: PathBuf,
    home: PathBuf,
}

impl Campaign<'_> {
    /// Fuzzes one target; whether nothing was found.
    fn run(&self, target: &Target) -> Result<bool> {
        let name = target.name;
        let (work, findings) = (self.dir("corpus", name)?, self.dir("findings", name)?);
        let known = corpus::files(&findings)?;
        let jobs: Vec<(Child, PathBuf)> = (0..self.options.jobs)
            .map(|job| self.start(target, &work, &findings, job))
            .collect::<Result<_>>()?;
        let mut outcome = Outcome::default();
        for (mut child, log) in jobs {
            let status = child.wait().context("wait for the fuzzer")?;
            let said = fs::read(&log).with_context(|| format!("read {}", log.display()))?;
            outcome.add(&String::from_utf8_lossy(&said), status.success());
        }
        let new = corpus::files(&findings)?;
        let new: Vec<_> = new.difference(&known).collect();
        let mut out = std::io::stdout();
        writeln!(out, "{name}: {outcome}")?;
        for file in &new {
            let file = file.display();
            writeln!(out, "  finding: {file}")?;
            writeln!(out, "  again:   cargo xtask fuzz {name} --replay {file}")?;
        }
        let is_good = new.is_empty() && outcome.is_good();
        if !is_good {
            let log = self.home.join(format!("{name}.0.log"));
            writeln!(out, "  all that the fuzzer said: {}", log.display())?;
        }
        if self.options.keep {
            self.keep(target, &work)?;
        }
        Ok(is_good)
    }

    fn dir(&self, what: &str, name: &str) -> Result<PathBuf> {
        let dir = self.home.join(what).join(name);
        fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        Ok(dir)
    }

    /// Where the inputs of the repository are.
    fn sources(target: &Target) -> impl Iterator<Item = PathBuf> {
        let others = target.others.iter().map(PathBuf::from);
        std::iter::once(Path::new(CORPUS).join(target.name)).chain(others)
    }

    fn command(&self, target: &Target) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env("WEAVE_FUZZ_TARGET", target.name)
            .arg("-rss_limit_mb=1024")
            .arg(format!("-timeout={TIMEOUT}"))
            .arg(format!("-max_len={}", target.max_len))
            .stdin(Stdio::null());
        command
    }

    fn start(
        &self,
        target: &Target,
        work: &Path,
        findings: &Path,
        job: u32,
    ) -> Result<(Child, PathBuf)> {
        let log = self.home.join(format!("{}.{job}.log", target.name));
        let file = File::create(&log).with_context(|| format!("write {}", log.display()))?;
        let mut command = self.command(target);
        match self.options.executions {
            Some(all) => command.arg(format!("-runs={}", all.div_ceil(self.options.jobs.into()))),
            None => command.arg(format!("-max_total_time={}", self.options.seconds)),
        };
        let child = command
            .arg("-print_final_stats=1")
            .arg(format!("-artifact_prefix={}/", findings.display()))
            .arg(work)
            .args(Self::sources(target))
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .context("run the fuzzer")?;
        Ok((child, log))
    }

    /// Makes the corpus of the repository the smallest that reaches what was ever reached.
    fn keep(&self, target: &Target, work: &Path) -> Result<()> {
        let merged = self.dir("merged", target.name)?;
        for file in corpus::files(&merged)? {
            fs::remove_file(&file).with_context(|| format!("remove {}", file.display()))?;
        }
        let status = self
            .command(target)
            .args(["-set_cover_merge=1", "-use_counters=0"])
            .arg(&merged)
            .args(Self::sources(target))
            .arg(work)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .context("run the fuzzer")?;
        ensure!(status.success(), "the fuzzer cannot merge");
        let corpus = Path::new(CORPUS).join(target.name);
        corpus::replace(&corpus, &merged, target.most_files)
    }
}
