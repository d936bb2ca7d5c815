//! The measuring of one overlay that is up: pings, TCP streams, datagrams.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Options;
use super::figures::{Figure, Figures};
use super::progress::{Labelled, Say};
use super::stage::{self, Side, Stage};
use super::traffic::{self, RoundTrips, Tcp};
use super::udp::{self, Ends};

/// Beyond its own time, any tool is given so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// A stream has so long to get going before it is measured what it does to others.
const WARM_UP: Duration = Duration::from_millis(500);

/// How much is done for each figure.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effort {
    pub(super) repetitions: u32,
    /// Length of a TCP stream, seconds.
    seconds: u64,
    /// Congestion control of TCP, as the kernel calls it.
    congestion: &'static str,
    /// Pings on the idle network.
    pings: u32,
    /// Length of one probe with datagrams.
    probe: Duration,
    /// Steps of the search for the highest rate that gets through.
    steps: u32,
    /// Datagrams that may be lost of those that get through, percent.
    tolerated: f64,
}

impl Effort {
    /// For [`Session::tcp`] only.
    pub(super) fn streams(seconds: u64) -> Self {
        Self {
            repetitions: 1,
            seconds,
            congestion: "cubic",
            pings: 0,
            probe: Duration::ZERO,
            steps: 0,
            tolerated: 0.0,
        }
    }

    pub(super) fn new(options: &Options) -> Self {
        let tolerated = options.loss + 0.5;
        if options.quick {
            return Self {
                repetitions: 1,
                seconds: 2,
                congestion: options.congestion.name(),
                pings: 100,
                probe: Duration::from_millis(200),
                steps: 4,
                tolerated,
            };
        }
        Self {
            repetitions: options.repetitions,
            seconds: options.seconds,
            congestion: options.congestion.name(),
            pings: 1000,
            probe: Duration::from_millis(500),
            steps: 7,
            tolerated,
        }
    }
}

/// One repetition for one overlay.
#[derive(Debug)]
pub(super) struct Session<'a> {
    stage: &'a Stage<'a>,
    effort: &'a Effort,
    progress: &'a Labelled<'a>,
    figures: Figures,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        stage: &'a Stage<'a>,
        effort: &'a Effort,
        progress: &'a Labelled<'a>,
    ) -> Self {
        Self {
            stage,
            effort,
            progress,
            figures: Figures::new(),
        }
    }

    /// Measures everything.
    ///
    /// # Errors
    /// At the first thing that fails; what was measured by then is kept.
    pub(super) fn measure(&mut self) -> Result<()> {
        let idle = self.ping(self.effort.pings, 2)?;
        self.round_trips("idle", idle);
        self.note(Figure::RttIdleMeanMicros, idle.mean);
        self.note(Figure::RttIdleP50Micros, idle.p50);
        self.note(Figure::RttIdleP99Micros, idle.p99);
        let rate = self.tcp_streams()?;
        self.round_trips_under_load(rate)?;
        self.datagrams(64, Figure::Udp64LossFreeKpps, Figure::Udp64FloodKpps)?;
        self.datagrams(1200, Figure::Udp1200LossFreeKpps, Figure::Udp1200FloodKpps)
    }

    /// What was measured.
    pub(super) fn into_figures(self) -> Figures {
        self.figures
    }

    /// Returns what one stream carries, Gbit/s.
    fn tcp_streams(&mut self) -> Result<f64> {
        let daemons = self.stage.daemons();
        let before = stage::cpu_seconds(&daemons);
        let (one, ()) = self.tcp(&[], || Ok(()))?;
        let cpu = (stage::cpu_seconds(&daemons) - before) / one.gigabytes.max(1e-9);
        self.note(Figure::Tcp1Gbits, one.gbits);
        self.note(Figure::Tcp1Retransmits, one.retransmits);
        self.note(Figure::CpuSecondsPerGigabyte, cpu);
        let gbits = one.gbits;
        self.progress.say(&format!(
            "TCP, 1 stream: {gbits:.2} Gbit/s, {cpu:.2} CPU s/GB"
        ));
        let (four, ()) = self.tcp(&["--parallel", "4"], || Ok(()))?;
        self.note(Figure::Tcp4Gbits, four.gbits);
        self.note(Figure::Tcp4Retransmits, four.retransmits);
        self.progress
            .say(&format!("TCP, 4 streams: {:.2} Gbit/s", four.gbits));
        let (reverse, ()) = self.tcp(&["--reverse"], || Ok(()))?;
        self.note(Figure::ReverseGbits, reverse.gbits);
        self.note(Figure::ReverseRetransmits, reverse.retransmits);
        self.progress
            .say(&format!("TCP, reverse: {:.2} Gbit/s", reverse.gbits));
        Ok(gbits)
    }

    fn round_trips_under_load(&mut self, gbits: f64) -> Result<()> {
        // ten ms between two, and a second of the stream is left alone
        let count = u32::try_from((self.effort.seconds - 1) * 100).unwrap_or(u32::MAX);
        let beside = || {
            thread::sleep(WARM_UP);
            self.ping(count, 10)
        };
        let half = format!("{:.0}", gbits * 1e9 / 2.0);
        let (_, trips) = self.tcp(&["--fq-rate", &half], beside)?;
        self.round_trips("at half load", trips);
        self.note(Figure::RttHalfP50Micros, trips.p50);
        self.note(Figure::RttHalfP99Micros, trips.p99);
        let beside = || {
            thread::sleep(WARM_UP);
            self.ping(count, 10)
        };
        let (_, trips) = self.tcp(&[], beside)?;
        self.round_trips("beside a stream", trips);
        self.note(Figure::RttBulkP50Micros, trips.p50);
        self.note(Figure::RttBulkP99Micros, trips.p99);
        Ok(())
    }

    fn datagrams(&mut self, size: usize, loss_free: Figure, flood: Figure) -> Result<()> {
        let (client, server) = (Side::Client, Side::Server);
        let (from, to) = (self.stage.netns(client), self.stage.netns(server));
        let mut ends = Ends::open(&from, &to, &self.stage.address(server))?;
        let probe = |rate| ends.probe(size, rate, self.effort.probe);
        let rates = udp::search(self.effort.steps, self.effort.tolerated, probe)?;
        let kilo = |rate| f64::from(u32::try_from(rate).unwrap_or(u32::MAX)) / 1e3;
        let (held, flooded) = (kilo(rates.loss_free), kilo(rates.flood));
        self.note(loss_free, held);
        self.note(flood, flooded);
        self.progress.say(&format!(
            "UDP, {size} bytes: {held:.0} kpps without loss, {flooded:.0} of a flood"
        ));
        Ok(())
    }

    /// One run of iperf3, and what is done beside it.
    ///
    /// # Errors
    /// When either fails.
    pub(super) fn tcp<T>(
        &self,
        arguments: &[&str],
        beside: impl FnOnce() -> Result<T>,
    ) -> Result<(Tcp, T)> {
        let limit = Duration::from_secs(self.effort.seconds) + PATIENCE;
        let mut server = self.iperf3_server(limit)?;
        let mut client = self.stage.traffic(Side::Client, limit, "iperf3");
        client
            .args(["--json", "--interval", "0", "--connect-timeout", "3000"])
            .args(["--client", &self.stage.address(Side::Server)])
            .args(["--time", &self.effort.seconds.to_string()])
            .args(["--congestion", self.effort.congestion])
            .args(arguments)
            .stdout(Stdio::piped());
        let client = client.spawn().context("run iperf3")?;
        let other = beside();
        let output = client.wait_with_output().context("wait for iperf3")?;
        server.wait().context("wait for the server of iperf3")?;
        Ok((traffic::parse_iperf3(&output.stdout)?, other?))
    }

    /// A server for one run, which listens already.
    fn iperf3_server(&self, limit: Duration) -> Result<Child> {
        let mut command = self.stage.traffic(Side::Server, limit, "iperf3");
        command.args(["--server", "--one-off", "--forceflush"]);
        let mut server = command
            .stdout(Stdio::piped())
            .spawn()
            .context("run iperf3")?;
        let output = server.stdout.take().context("take the output of iperf3")?;
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        let is_ready = lines.any(|line| line.contains("listening"));
        ensure!(is_ready, "the server of iperf3 does not listen");
        // what it says later must not meet a closed pipe
        thread::spawn(move || lines.for_each(drop));
        Ok(server)
    }

    fn ping(&self, count: u32, interval_ms: u32) -> Result<RoundTrips> {
        let takes = Duration::from_millis(u64::from(count) * u64::from(interval_ms));
        let mut ping = self.stage.traffic(Side::Client, takes + PATIENCE, "ping");
        ping.args(["-n", "-c", &count.to_string(), "-i"])
            .arg((f64::from(interval_ms) / 1e3).to_string())
            .arg(self.stage.address(Side::Server));
        let output = ping.output().context("run ping")?;
        traffic::parse_ping(&String::from_utf8_lossy(&output.stdout))
    }

    fn note(&mut self, figure: Figure, value: f64) {
        self.figures.insert(figure, value);
    }

    fn round_trips(&self, when: &str, trips: RoundTrips) {
        let RoundTrips { p50, p99, .. } = trips;
        self.progress.say(&format!(
            "round trip {when}: {p50:.0} µs, 99 % within {p99:.0} µs"
        ));
    }
}
