//! Two hosts in namespaces, one overlay between them, and nothing else.
//!
//! benches/stage.sh builds it, as process 1 of a PID namespace in which everything of the stage
//! runs: daemons, traffic, all. That process reads a pipe of ours, and ends when the pipe does. So
//! when a [`Stage`] is dropped, or when this program ends in whatever way, the kernel ends all
//! processes on the stage; namespaces, devices and files go with the last of them.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::overlay::{Mode, Overlay};

/// Calls a function of an overlay's file, when it has one of that name.
const CALL: &str = r#". benches/lib.sh; . "benches/overlays/$1.sh"
if declare -F "$2" >/dev/null; then "$2"; fi"#;

/// How long a function of an overlay may take.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How long the hosts have until they reach each other.
const REACH_LIMIT: Duration = Duration::from_secs(20);

/// Then they have so long to come to rest.
const SETTLE: Duration = Duration::from_millis(500);

/// Clock ticks per second in /proc, which is the same on all of Linux but alpha and ia64.
const TICKS: f64 = 100.0;

/// Lines that are told of the log of each host.
const LOG_LINES: usize = 6;

/// Directory on the stage for what programs write; `$WORK` of every command.
const WORK: &str = "/run/work";

/// What all stages of a run have in common.
#[derive(Debug)]
pub(super) struct Environment {
    /// PATH of everything on the stage.
    pub(super) path: OsString,
    /// The weave that is measured.
    pub(super) weave: Option<PathBuf>,
    /// Packets that the underlay loses, percent.
    pub(super) loss: f64,
}

/// One of the two hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

/// The hosts of one overlay; they end when this is dropped.
#[derive(Debug)]
pub(super) struct Stage<'a> {
    environment: &'a Environment,
    overlay: &'a Overlay,
    unshare: Child,
    /// Process 1 of the stage, by its pid out here.
    init: u32,
}

impl Environment {
    /// What the overlay says about its version, one line.
    pub(super) fn version(&self, overlay: &Overlay) -> Option<String> {
        let mut command = Command::new("bash");
        self.hand_over(command.args(["-c", CALL, "bash", &overlay.name, "version"]));
        let output = command.stdin(Stdio::null()).output().ok()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.lines().next().map(|line| line.trim().to_owned())
    }

    fn hand_over(&self, command: &mut Command) {
        command.env("PATH", &self.path);
        if let Some(weave) = &self.weave {
            command.env("WEAVE_BIN", weave);
        }
    }
}

impl Side {
    fn number(self) -> u8 {
        match self {
            Self::Client => 1,
            Self::Server => 2,
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

impl<'a> Stage<'a> {
    /// Two hosts with an underlay.
    ///
    /// # Errors
    /// When the kernel lacks something, or a tool fails.
    pub(super) fn set(environment: &'a Environment, overlay: &'a Overlay) -> Result<Self> {
        let mut unshare = Command::new("unshare")
            .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["bash", "benches/stage.sh"])
            .env("PATH", &environment.path)
            .env("LOSS", environment.loss.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("run unshare")?;
        let output = unshare
            .stdout
            .take()
            .context("take the output of unshare")?;
        let mut line = String::new();
        let read = BufReader::new(output).read_line(&mut line);
        let mut stage = Self {
            environment,
            overlay,
            init: 0,
            unshare,
        };
        read.context("read from the stage")?;
        ensure!(line == "ready\n", "benches/stage.sh failed, see above");
        stage.init = stage.only_child()?;
        Ok(stage)
    }

    /// Starts the overlay on both hosts and waits until they reach each other.
    ///
    /// # Errors
    /// When one of the functions in its file fails, or no answer comes.
    pub(super) fn start(&self) -> Result<()> {
        self.call(Side::Client, "prepare")?;
        self.call(Side::Client, "start")?;
        self.call(Side::Server, "start")?;
        let begin = Instant::now();
        while begin.elapsed() < REACH_LIMIT {
            let mut ping = self.traffic(Side::Client, Duration::from_secs(2), "ping");
            ping.args(["-c1", "-W1", &self.address(Side::Server)]);
            if ping
                .stdout(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
            {
                std::thread::sleep(SETTLE);
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        bail!("no answer over the overlay in {} s", REACH_LIMIT.as_secs())
    }

    /// A command where the traffic of a side begins or ends; it is stopped at the limit.
    pub(super) fn traffic(&self, side: Side, limit: Duration, program: &str) -> Command {
        self.command(&self.end(side), limit, program)
    }

    /// The network namespace where the traffic of a side begins or ends.
    pub(super) fn netns(&self, side: Side) -> PathBuf {
        self.inside("run/netns").join(self.end(side))
    }

    /// The address of a side, as the other side is to use it.
    pub(super) fn address(&self, side: Side) -> String {
        match self.overlay.mode {
            Mode::None => underlay_address(side),
            Mode::L2 | Mode::L3 => overlay_address(side),
        }
    }

    /// The largest IP packet that leaves on the way to the other side, bytes.
    pub(super) fn mtu(&self) -> Option<u32> {
        let ip = |arguments: &[&str]| {
            let mut ip = self.traffic(Side::Client, START_LIMIT, "ip");
            let output = ip.arg("-json").args(arguments).output().ok()?;
            serde_json::from_slice::<serde_json::Value>(&output.stdout).ok()
        };
        let route = ip(&["route", "get", &self.address(Side::Server)])?;
        let device = route.pointer("/0/dev")?.as_str()?;
        let link = ip(&["link", "show", "dev", device])?;
        u32::try_from(link.pointer("/0/mtu")?.as_u64()?).ok()
    }

    /// The daemons of the overlay, by their pids out here: everything on the stage but its process
    /// 1, so to be asked while there is no traffic.
    pub(super) fn daemons(&self) -> Vec<u32> {
        let namespace = |pid| std::fs::read_link(format!("/proc/{pid}/ns/pid"));
        let Ok(own) = namespace(self.init) else {
            return Vec::new();
        };
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid| *pid != self.init && namespace(*pid).is_ok_and(|of| of == own))
            .collect()
    }

    /// The last lines that the overlay said on each host.
    pub(super) fn log_tail(&self) -> Vec<String> {
        let tail = |side: Side| {
            let path = self
                .inside(WORK.trim_start_matches('/'))
                .join(format!("log{}", side.number()));
            let text = std::fs::read(path).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).into_owned();
            let lines: Vec<_> = text.lines().rev().take(LOG_LINES).collect();
            let told = lines.into_iter().rev();
            told.map(|line| format!("host{}: {line}", side.number()))
                .collect::<Vec<_>>()
        };
        [tail(Side::Client), tail(Side::Server)].concat()
    }

    /// Calls a function of the overlay's file on one host.
    fn call(&self, side: Side, function: &str) -> Result<()> {
        let host = format!("host{}", side.number());
        let script = format!("exec >>\"$WORK/log$HOST\" 2>&1\n{CALL}");
        let mut command = self.command(&host, START_LIMIT, "bash");
        let status = command
            .args(["-c", &script, "bash", &self.overlay.name, function])
            .env("HOST", side.number().to_string())
            .env("OTHER", side.other().number().to_string())
            .env("LOCAL", underlay_address(side))
            .env("REMOTE", underlay_address(side.other()))
            .env("ADDRESS", overlay_address(side))
            .status()
            .context("run nsenter")?;
        ensure!(status.success(), "`{function}` failed on {host}: {status}");
        Ok(())
    }

    /// A command in a network namespace of the stage; it is stopped at the limit.
    pub(super) fn command(&self, netns: &str, limit: Duration, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args([
                "--mount",
                "--pid",
                "--wd",
                "--target",
                &self.init.to_string(),
            ])
            .arg(format!(
                "--net={}",
                self.inside("run/netns").join(netns).display()
            ))
            .args([
                "timeout",
                "--kill-after=1",
                &limit.as_secs().to_string(),
                program,
            ])
            .env("WORK", WORK)
            .stdin(Stdio::null());
        self.environment.hand_over(&mut command);
        command
    }

    fn end(&self, side: Side) -> String {
        let kind = match self.overlay.mode {
            Mode::None | Mode::L3 => "host",
            Mode::L2 => "container",
        };
        format!("{kind}{}", side.number())
    }

    /// A path on the stage, as it is found from out here.
    fn inside(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.init)).join(path)
    }

    /// The process that unshare started.
    fn only_child(&self) -> Result<u32> {
        let pid = self.unshare.id();
        let path = format!("/proc/{pid}/task/{pid}/children");
        let children = std::fs::read_to_string(path).context("look for the stage")?;
        children.trim().parse().context("find the stage")
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        drop(self.unshare.stdin.take());
        let _ = self.unshare.wait();
    }
}

/// User and system time that these processes have used so far, seconds.
pub(super) fn cpu_seconds(pids: &[u32]) -> f64 {
    let stats = pids
        .iter()
        .filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok());
    stats
        .filter_map(|stat| ticks(&stat))
        .map(|ticks| ticks / TICKS)
        .sum()
}

/// utime and stime of a line of /proc/PID/stat.
fn ticks(stat: &str) -> Option<f64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut times = behind_name.split_whitespace().skip(11);
    let user: f64 = times.next()?.parse().ok()?;
    let system: f64 = times.next()?.parse().ok()?;
    Some(user + system)
}

fn underlay_address(side: Side) -> String {
    format!("192.0.2.{}", side.number())
}

fn overlay_address(side: Side) -> String {
    format!("198.51.100.{}", side.number())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_behind_a_name_that_holds_anything() {
        let stat = "77 (a ) b) S 1 77 77 0 -1 4194560 100 0 0 0 250 50 9 9 20 0 4 0 1 2 3";
        assert_eq!(ticks(stat), Some(300.0));
        assert_eq!(ticks("77 (cut) S 1"), None);
    }
}
