//! Runs simulations: many seeds on several threads, or one seed again, or a quiet mesh to measure.

#![forbid(unsafe_code)]

mod scaling;

use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use clap::Parser;
use mimalloc::MiMalloc;
use weave_sim::{Counters, ManyNames, Options, Report, peers_of, simulate};

/// A sixth of the time of a large mesh is spent in the allocator of glibc, a twentieth in this.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// With so many seeds everything must have happened at least once.
const ENOUGH_SEEDS: u64 = 100;

/// Simulates many nodes under faults and checks what must hold.
#[derive(Debug, Parser)]
#[command(name = "weave-sim")]
struct Arguments {
    /// Number of hosts in each run; by default the seed decides, from 3 to 50.
    #[arg(long)]
    peers: Option<usize>,
    /// Number of runs, each with its own seed.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// Run this only, twice, and say everything that the seed decided.
    #[arg(
        long,
        alias = "seed",
        value_name = "SEED[,peers=N][,seconds=S][,conn-limit=N]"
    )]
    replay: Option<String>,
    /// With --replay: also print what the routers log, by the filters of `RUST_LOG`.
    #[arg(long, value_name = "FILTER", requires = "replay")]
    log: Option<String>,
    /// With more live peers than this there is not a session with each; by default the seed
    /// decides.
    #[arg(long)]
    conn_limit: Option<usize>,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Minutes of work and faults in each run, in virtual time.
    #[arg(long)]
    minutes: Option<f64>,
    /// Measure quiet meshes of these sizes instead, and fail never.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "PEERS",
        group = "measured",
        conflicts_with = "replay"
    )]
    scale: Vec<usize>,
    /// Measure so many names instead, in a quiet mesh of `--peers` hosts, 50 by default.
    #[arg(long, group = "measured", conflicts_with = "replay")]
    names: Option<usize>,
    /// With --names: megabits per second of each host's line.
    #[arg(long, requires = "names", default_value_t = 100)]
    mbit: u64,
    /// Print what was measured as JSON, one object for each size.
    #[arg(long, requires = "measured")]
    json: bool,
    /// Threads; by default one for each core.
    #[arg(long)]
    threads: Option<usize>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.replay {
        Some(line) => replay(&arguments, line),
        None if arguments.names.is_some() => names(&arguments).map(|()| true),
        None if arguments.scale.is_empty() => campaign(&arguments),
        None => scaling::run(&arguments.scale, arguments.first, arguments.json).map(|()| true),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        // whoever reads our output has gone: no failure of the simulation
        Ok(false) => ExitCode::FAILURE,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            // there is nowhere left to say it if this fails, too
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn names(arguments: &Arguments) -> std::io::Result<()> {
    let names = ManyNames {
        peers: arguments.peers.unwrap_or(50),
        names: arguments.names.unwrap_or_default(),
        seed: arguments.first,
        mbit: arguments.mbit,
    };
    scaling::run_names(&names, arguments.json)
}

/// Runs one seed twice and tells all about it; whether nothing was wrong.
fn replay(arguments: &Arguments, line: &str) -> std::io::Result<bool> {
    let mut out = std::io::stdout().lock();
    // the number of hosts may follow from the seed
    let seed = line.split(',').next().and_then(|word| word.parse().ok());
    let options = options(arguments, seed.unwrap_or_default())
        .with(line)
        .map_err(std::io::Error::other)?;
    let report = match &arguments.log {
        Some(filter) => tracing::subscriber::with_default(log(filter)?, || simulate(&options)),
        None => simulate(&options),
    };
    writeln!(out, "{:#?}", report.plan)?;
    writeln!(out, "{}", report.counters)?;
    let again = simulate(&options);
    let same = again.trace == report.trace;
    writeln!(
        out,
        "trace {} {}",
        report.trace_name(),
        if same { "both times" } else { "DIFFERS" }
    )?;
    tell_violations(&mut out, &report)?;
    Ok(same && report.violations.is_empty())
}

/// Prints what is logged; its lines bear the virtual time.
fn log(filter: &str) -> std::io::Result<impl tracing::Subscriber> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter).map_err(std::io::Error::other)?;
    let log = tracing_subscriber::fmt().with_env_filter(filter);
    Ok(log.with_ansi(false).without_time().finish())
}

/// Runs all seeds; whether nothing was wrong.
fn campaign(arguments: &Arguments) -> std::io::Result<bool> {
    let mut out = std::io::stdout().lock();
    let began = clock();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = arguments.threads.unwrap_or(cores).max(1);
    let next = AtomicU64::new(arguments.first);
    let end = arguments.first.saturating_add(arguments.seeds);
    let (send, reports) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (send, next) = (send.clone(), &next);
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || send.send(simulate(&options(arguments, seed))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        let is_well = tell(&mut out, arguments, &reports)?;
        let took = (clock() - began).as_secs();
        writeln!(
            out,
            "{} seeds from {} on took {took} s",
            arguments.seeds, arguments.first
        )?;
        Ok(is_well)
    })
}

/// The time, for people to read: no simulation sees it.
#[expect(
    clippy::disallowed_methods,
    reason = "how long a run takes is not part of it"
)]
fn clock() -> Instant {
    Instant::now()
}

fn tell(
    out: &mut impl Write,
    arguments: &Arguments,
    reports: &mpsc::Receiver<Report>,
) -> std::io::Result<bool> {
    let mut total = Counters::default();
    let mut failed = Vec::new();
    for (done, report) in reports.iter().enumerate() {
        total.add(&report.counters);
        let seed = report.plan.seed;
        if !report.violations.is_empty() {
            failed.push(seed);
            writeln!(out, "seed {seed} FAILED: {:#?}", report.plan)?;
            tell_violations(out, &report)?;
            let again = options(arguments, seed);
            writeln!(out, "  again: cargo xtask sim --replay {again}")?;
        }
        if (done + 1) % 10 == 0 || done as u64 + 1 == arguments.seeds {
            let all = arguments.seeds;
            writeln!(out, "{} of {all} seeds, {} failed", done + 1, failed.len())?;
            out.flush()?;
        }
    }
    writeln!(out, "{total}")?;
    failed.sort_unstable();
    match failed.is_empty() {
        true => writeln!(out, "ok: no rule was broken in {} seeds", arguments.seeds)?,
        false => writeln!(out, "failed seeds: {failed:?}")?,
    }
    let missing = total.missing();
    // fewer hosts have no NATs
    let is_enough =
        arguments.seeds >= ENOUGH_SEEDS && arguments.peers.is_none_or(|peers| peers > 4);
    if is_enough && !missing.is_empty() {
        writeln!(out, "failed: these never happened: {missing:?}")?;
        return Ok(false);
    }
    Ok(failed.is_empty())
}

fn tell_violations(out: &mut impl Write, report: &Report) -> std::io::Result<()> {
    if report.violations.is_empty() {
        return Ok(());
    }
    writeln!(out, "the last events before it went wrong:")?;
    for event in &report.events {
        writeln!(out, "  {event}")?;
    }
    writeln!(out, "what went wrong:")?;
    for violation in &report.violations {
        writeln!(out, "  {violation}")?;
    }
    Ok(())
}

fn options(arguments: &Arguments, seed: u64) -> Options {
    let peers = arguments.peers.unwrap_or_else(|| peers_of(seed));
    let mut options = Options::new(peers, seed);
    options.conn_limit = arguments.conn_limit;
    if let Some(churn) = arguments
        .minutes
        .and_then(|m| Duration::try_from_secs_f64(m * 60.0).ok())
    {
        options.churn = churn;
    }
    options
}
