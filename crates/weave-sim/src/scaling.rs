//! Measures how meshes grow, and prints it for people or programs.

use std::io::Write;

use serde_json::json;
use weave_sim::{Figure, ManyNames, Progress, Scale, measure, measure_names};

/// Measures meshes of these sizes, one after the other; each line, or each object, is of one.
pub(crate) fn run(sizes: &[usize], seed: u64, as_json: bool) -> std::io::Result<()> {
    for peers in sizes {
        let scale = Scale {
            peers: *peers,
            seed,
            changes: 100,
            crashes: 5,
        };
        let title = "peers, told of one of them, 20 ms round trip; bars are for 1,000";
        one(*peers, title, as_json, |tell| measure(&scale, tell))?;
    }
    Ok(())
}

/// Measures many names.
pub(crate) fn run_names(names: &ManyNames, as_json: bool) -> std::io::Result<()> {
    let ManyNames {
        peers,
        names: count,
        mbit,
        ..
    } = names;
    let title = format!("peers, {count} names, lines of {mbit} Mbit/s, 20 ms round trip");
    one(*peers, &title, as_json, |tell| measure_names(names, tell))
}

/// Runs one measurement and writes what came out.
fn one(
    peers: usize,
    title: &str,
    as_json: bool,
    measure: impl FnOnce(&mut dyn FnMut(Progress<'_>)) -> Vec<Figure>,
) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let run = Run::new();
    if !as_json {
        writeln!(out, "{peers} {title}")?;
    }
    let mut written = Ok(());
    let mut figures = measure(&mut |progress| match progress {
        Progress::Stage(stage) => run.tell(peers, stage),
        Progress::Figure(figure) if !as_json && written.is_ok() => {
            written = tell(&mut out, figure);
        }
        Progress::Figure(_) => {}
    });
    written?;
    let own = run.figures();
    if as_json {
        figures.extend(own);
        writeln!(out, "{}", object(peers, &figures))?;
    } else {
        own.iter().try_for_each(|figure| tell(&mut out, figure))?;
        writeln!(out)?;
    }
    out.flush()
}

fn tell(out: &mut impl Write, figure: &Figure) -> std::io::Result<()> {
    let Figure { what, unit, .. } = figure;
    match figure.value {
        Some(value) => write!(out, "{value:>12.3} {unit:<6} {what}")?,
        None => write!(out, "{:>12} {unit:<6} {what}", "never")?,
    }
    match ratio(figure) {
        Some((ratio, bar)) => writeln!(out, ": {ratio:.2} of {bar}")?,
        None => writeln!(out)?,
    }
    out.flush()
}

fn object(peers: usize, figures: &[Figure]) -> serde_json::Value {
    let figures: Vec<_> = figures
        .iter()
        .map(|figure| {
            json!({
                "what": figure.what,
                "value": figure.value,
                "unit": figure.unit,
                "bar": figure.bar,
                "ratio": ratio(figure).map(|(ratio, _)| ratio),
            })
        })
        .collect();
    json!({ "peers": peers, "figures": figures })
}

fn ratio(figure: &Figure) -> Option<(f64, f64)> {
    let (value, bar) = (figure.value?, figure.bar?);
    Some((value / bar, bar))
}

/// What the run itself takes.
struct Run {
    began: std::time::Instant,
}

impl Run {
    fn new() -> Self {
        // the peak begins anew: proc(5)
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        Self {
            began: crate::clock(),
        }
    }

    fn seconds(&self) -> f64 {
        (crate::clock() - self.began).as_secs_f64()
    }

    fn tell(&self, peers: usize, stage: &str) {
        // it is for whoever waits, if anybody does
        let _ = writeln!(
            std::io::stderr(),
            "{:>8.1} s, {peers} peers: {stage}",
            self.seconds()
        );
    }

    fn figures(&self) -> [Figure; 2] {
        [
            ("wall time of this run", Some(self.seconds()), "s"),
            ("peak memory of this run", peak_mib(), "MiB"),
        ]
        .map(|(what, value, unit)| Figure {
            what: what.to_owned(),
            value,
            unit,
            bar: None,
        })
    }
}

fn peak_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}
