//! `cargo xtask bench garbage` and `bench flood`: what strangers can do to two hosts with weave.
//!
//! Beside the stage of the overlays there are a stranger, who floods the host that receives, and a
//! newcomer, who wants to join through it; each has a cable of its own. benches/flood.py makes the
//! datagrams. What a flood costs by itself is measured with a plain UDP socket in the place of weave.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::Value;

use super::measure::{Effort, Session};
use super::overlay::{self, Overlay};
use super::progress::{Progress, Say};
use super::stage::{Environment, Stage};
use super::statistics::spread;
use super::{Places, build_weave, install};

/// Cables of the stranger (203.0.113.2) and the newcomer (203.0.113.6) to host 2.
const NEIGHBOURS: &str = r"set -e
sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
plug() {
  ip netns add $1
  ip link add $1 type veth peer name eth0 netns $1
  ip addr add 203.0.113.$2/30 dev $1
  ip link set $1 up
  ip -n $1 addr add 203.0.113.$(($2 + 1))/30 dev eth0
  ip -n $1 link set lo up
  ip -n $1 link set eth0 up
}
plug stranger 1
plug newcomer 5";

/// A tool has so long beyond its own time.
const PATIENCE: Duration = Duration::from_secs(10);
/// A flood begins so long before what is measured beside it.
const HEAD_START: Duration = Duration::from_secs(1);
/// A newcomer is given up after so long.
const JOIN_LIMIT: Duration = Duration::from_secs(60);
/// Where weave listens, and where the sink does.
const PORTS: [u16; 2] = [6783, 9999];

/// How often, and how long.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How often everything is measured.
    #[arg(long, default_value_t = 3, value_name = "N")]
    repetitions: u32,
    /// Length of each TCP stream, seconds.
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u64).range(2..))]
    seconds: u64,
    /// The static weave to be measured; without it the release is built.
    #[arg(long, value_name = "PATH")]
    weave_bin: Option<PathBuf>,
}

/// One thing that is measured.
#[derive(Debug, Clone, Copy)]
struct Case {
    name: &'static str,
    flood: Option<Flood>,
    joins: bool,
}

#[derive(Debug, Clone, Copy)]
struct Flood {
    what: &'static str,
    port: u16,
    rate: Option<&'static str>,
    sources: &'static str,
}

const GARBAGE: Flood = Flood {
    what: "garbage",
    port: PORTS[0],
    rate: None,
    sources: "one",
};

const HANDSHAKES: Flood = Flood {
    what: "handshakes",
    ..GARBAGE
};

const fn case(name: &'static str, flood: Flood) -> Case {
    Case {
        name,
        flood: Some(flood),
        joins: matches!(flood.what.as_bytes(), b"handshakes"),
    }
}

const NO_FLOOD: Case = Case {
    name: "no flood",
    flood: None,
    joins: false,
};

/// Datagrams of any kind.
const OF_GARBAGE: [Case; 6] = [
    NO_FLOOD,
    case(
        "garbage into a sink",
        Flood {
            port: PORTS[1],
            ..GARBAGE
        },
    ),
    case("garbage into weave", GARBAGE),
    case(
        "50 kpps into a sink",
        Flood {
            port: PORTS[1],
            rate: Some("50000"),
            ..GARBAGE
        },
    ),
    case(
        "50 kpps into weave",
        Flood {
            rate: Some("50000"),
            ..GARBAGE
        },
    ),
    case(
        "random sources into weave",
        Flood {
            sources: "random",
            ..GARBAGE
        },
    ),
];

/// First messages of handshakes, while another host joins.
const OF_HANDSHAKES: [Case; 4] = [
    NO_FLOOD,
    Case {
        name: "no flood, a host joins",
        flood: None,
        joins: true,
    },
    case("handshakes of one source", HANDSHAKES),
    case(
        "handshakes of random sources",
        Flood {
            sources: "random",
            ..HANDSHAKES
        },
    ),
];

/// What came of one case, once.
#[derive(Debug, Clone, Copy)]
struct Outcome {
    gbits: f64,
    /// Datagrams that the stranger sent, thousands per second.
    kpps: Option<f64>,
    /// Until the newcomer had a session, seconds.
    joined: Option<f64>,
    /// Memory of the flooded router afterwards, MiB.
    resident: f64,
}

/// # Errors
/// Without root, or when anything on the stage fails.
pub(crate) fn garbage(options: &Options) -> Result<ExitCode> {
    run(options, &OF_GARBAGE)
}

/// # Errors
/// As [`garbage`].
pub(crate) fn handshakes(options: &Options) -> Result<ExitCode> {
    run(options, &OF_HANDSHAKES)
}

fn run(options: &Options, cases: &[Case]) -> Result<ExitCode> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "this makes network namespaces and needs root"
    );
    let places = Places::find(options.weave_bin.as_deref(), None)?;
    let progress = Progress::start();
    let overlays = overlay::read_all(Path::new("benches/overlays"))?;
    let weave = overlays.into_iter().find(|overlay| overlay.name == "weave");
    let weave = weave.context("find benches/overlays/weave.sh")?;
    let tools = install::Tools::new(&places.target);
    tools.provide_own(std::slice::from_ref(&weave), &progress)?;
    let binary = match places.weave {
        Some(given) => given,
        None => build_weave(&places.target, &progress)?,
    };
    let environment = Environment {
        path: tools.search_path(),
        weave: Some(binary),
        loss: 0.0,
    };
    let mut outcomes = vec![Vec::new(); cases.len()];
    let mut sessions = String::new();
    for repetition in 1..=options.repetitions {
        let range = Range::set(&environment, &weave)?;
        let begin = Instant::now();
        for (case, outcomes) in cases.iter().zip(&mut outcomes) {
            let label = format!("{repetition}/{} {}", options.repetitions, case.name);
            let progress = progress.labelled(&label);
            let outcome = range.measure(case, options.seconds, &progress)?;
            progress.say(&format!("{outcome:?}"));
            outcomes.push(outcome);
        }
        let (age, rekeys) = range.session()?;
        let elapsed = begin.elapsed().as_secs_f64();
        writeln!(
            sessions,
            "After {elapsed:.0} s of this the session of the two hosts is {age:.0} s old and has changed its keys {rekeys} times."
        )?;
    }
    let mut out = std::io::stdout();
    write!(out, "{}\n{sessions}", table(cases, &outcomes))?;
    Ok(ExitCode::SUCCESS)
}

/// The stage with its neighbours, and the sink.
struct Range<'a> {
    stage: Stage<'a>,
    _sink: Child,
}

impl<'a> Range<'a> {
    fn set(environment: &'a Environment, weave: &'a Overlay) -> Result<Self> {
        let stage = Stage::set(environment, weave)?;
        stage.start()?;
        let status = stage
            .command("host2", PATIENCE, "bash")
            .args(["-c", NEIGHBOURS])
            .status();
        ensure!(
            status.context("run bash")?.success(),
            "the stranger cannot be plugged in"
        );
        let hours = Duration::from_secs(86_400);
        let mut sink = stage.command("host2", hours, "python3");
        sink.args(["benches/flood.py", "sink", &PORTS[1].to_string()]);
        let mut sink = sink.stdout(Stdio::piped()).spawn().context("run python3")?;
        let said = sink.stdout.take().context("take the output of the sink")?;
        let mut line = String::new();
        BufReader::new(said).read_line(&mut line)?;
        ensure!(line == "ready\n", "the sink does not listen");
        Ok(Self { stage, _sink: sink })
    }

    fn measure(
        &self,
        case: &Case,
        seconds: u64,
        progress: &super::Labelled<'_>,
    ) -> Result<Outcome> {
        let flood = case.flood.map(|flood| self.flood(flood, seconds));
        let flood = flood.transpose()?;
        std::thread::sleep(HEAD_START);
        let newcomer = case.joins.then(|| self.newcomer()).transpose()?;
        let effort = Effort::streams(seconds);
        let session = Session::new(&self.stage, &effort, progress);
        let beside = || newcomer.map(|begin| self.joined(begin)).transpose();
        let (tcp, joined) = session.tcp(&[], beside)?;
        let kpps = flood.map(sent).transpose()?;
        let resident = status(&self.stage, "host2", "socket2")?;
        let resident = resident.pointer("/process/resident_bytes");
        let resident = resident.and_then(Value::as_f64).unwrap_or_default();
        Ok(Outcome {
            gbits: tcp.gbits,
            kpps,
            joined,
            resident: resident / f64::from(1 << 20),
        })
    }

    fn flood(&self, flood: Flood, seconds: u64) -> Result<Child> {
        let takes = Duration::from_secs(seconds) + 2 * HEAD_START;
        let mut python = self.stage.command("stranger", takes + PATIENCE, "python3");
        python
            .args(["benches/flood.py", flood.what, "203.0.113.1"])
            .arg(flood.port.to_string())
            .args(["--sources", flood.sources])
            .args(["--seconds", &takes.as_secs().to_string()])
            .stdout(Stdio::piped());
        if let Some(rate) = flood.rate {
            python.args(["--rate", rate]);
        }
        python.spawn().context("run python3")
    }

    /// Starts a router that knows host 2 only.
    fn newcomer(&self) -> Result<Instant> {
        let script = r#"rm -rf $WORK/newcomer; mkdir $WORK/newcomer
setsid "$WEAVE_BIN" --socket $WORK/newcomer/socket router --no-docker --no-dns --status-addr off \
  --state-dir $WORK/newcomer/state --password benchmark-only --nickname newcomer 203.0.113.5 </dev/null >>$WORK/log3 2>&1 &"#;
        let mut bash = self.stage.command("newcomer", PATIENCE, "bash");
        let status = bash.args(["-c", script]).status().context("run bash")?;
        ensure!(status.success(), "the newcomer does not start");
        Ok(Instant::now())
    }

    /// Seconds until it had a session, and ends it.
    fn joined(&self, begin: Instant) -> Result<f64> {
        let is_connected = || {
            let status = status(&self.stage, "newcomer", "newcomer/socket").ok()?;
            let connections = status.pointer("/router/connections")?.as_array()?.clone();
            let mut states = connections.iter().map(|one| one.get("state"));
            states
                .any(|state| state.and_then(Value::as_str) == Some("established"))
                .then_some(())
        };
        while is_connected().is_none() {
            ensure!(begin.elapsed() < JOIN_LIMIT, "the newcomer cannot join");
            std::thread::sleep(Duration::from_millis(100));
        }
        let took = begin.elapsed().as_secs_f64();
        let _ = weave(&self.stage, "newcomer", "newcomer/socket", &["stop"]).status();
        Ok(took)
    }

    /// Age in seconds of the session of host 2 with host 1, and how often its keys were changed.
    fn session(&self) -> Result<(f64, u64)> {
        let status = status(&self.stage, "host2", "socket2")?;
        let connections = status
            .pointer("/router/connections")
            .and_then(Value::as_array);
        let with_host1 =
            |one: &&Value| one.get("nickname").and_then(Value::as_str) == Some("host1");
        let connection = connections.and_then(|all| all.iter().find(with_host1));
        let connection = connection.context("there is no session with host 1")?;
        let number = |name| connection.get(name).and_then(Value::as_u64);
        let age = number("age_ms").context("the session has no age")?;
        let rekeys = number("rekeys").unwrap_or_default();
        Ok((Duration::from_millis(age).as_secs_f64(), rekeys))
    }
}

fn weave(stage: &Stage<'_>, netns: &str, socket: &str, arguments: &[&str]) -> Command {
    let mut weave = stage.command(netns, PATIENCE, "bash");
    let script = r#"socket=$1; shift; exec "$WEAVE_BIN" --socket "$WORK/$socket" "$@""#;
    weave
        .args(["-c", script, "bash", socket])
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    weave
}

fn status(stage: &Stage<'_>, netns: &str, socket: &str) -> Result<Value> {
    let mut weave = weave(stage, netns, socket, &["status", "--json"]);
    let output = weave.stdout(Stdio::piped()).output();
    serde_json::from_slice(&output.context("run weave")?.stdout).context("weave gave no JSON")
}

/// Waits for the end of a flood; thousands of datagrams per second that it had.
fn sent(flood: Child) -> Result<f64> {
    let output = flood.wait_with_output().context("wait for the flood")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    parse_sent(&said).with_context(|| format!("the flood said {said:?}"))
}

/// Reads `N in S s`.
fn parse_sent(said: &str) -> Option<f64> {
    let (count, seconds) = said.trim().strip_suffix(" s")?.split_once(" in ")?;
    let (count, seconds): (f64, f64) = (count.parse().ok()?, seconds.parse().ok()?);
    Some(count / seconds / 1e3)
}

fn table(cases: &[Case], outcomes: &[Vec<Outcome>]) -> String {
    let mut text = String::from(
        "| case | TCP, Gbit/s | flood, kpps | a host joined after, s | resident, MiB |\n|---|---|---|---|---|\n",
    );
    for (case, outcomes) in cases.iter().zip(outcomes) {
        let cell = |value: fn(&Outcome) -> Option<f64>| {
            let spread = spread(outcomes.iter().filter_map(value))?;
            Some(format!(
                "**{:.2}** ({:.2}–{:.2})",
                spread.median, spread.min, spread.max
            ))
        };
        let cells = [
            cell(|one| Some(one.gbits)),
            cell(|one| one.kpps),
            cell(|one| one.joined),
            cell(|one| Some(one.resident)),
        ];
        let cells = cells.map(|cell| cell.unwrap_or_else(|| "–".to_owned()));
        let _ = writeln!(text, "| {} | {} |", case.name, cells.join(" | "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_tells_its_rate() {
        assert_eq!(parse_sent("500000 in 10.0 s\n"), Some(50.0));
        assert_eq!(parse_sent("Traceback"), None);
    }

    #[test]
    fn the_table_has_a_line_for_each_case_and_a_dash_for_what_there_is_not() {
        let outcome = |gbits| Outcome {
            gbits,
            kpps: None,
            joined: None,
            resident: 20.0,
        };
        let outcomes = [vec![outcome(2.0), outcome(4.0), outcome(3.0)]];
        let text = table(&[NO_FLOOD], &outcomes);
        let line = text.lines().nth(2).unwrap();
        assert_eq!(
            line,
            "| no flood | **3.00** (2.00–4.00) | – | – | **20.00** (20.00–20.00) |"
        );
    }
}
