//! The metrics for Prometheus, made of a report.
//!
//! Owns the names and their help. Pure: a report gives the text, in the format of OpenMetrics.
//! Where Weave Net had a metric, its name is kept. No label takes a value that an outsider chooses,
//! and of values that members choose there are at most [`MOST_PEERS`].

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use weave_node::forward::DropReason;

use crate::api::types::{
    ConnectionState, ConnectionStatus, IpamStatus, PeerStatus, StatusReport, Traffic,
};

/// What the text is, for HTTP.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Peers that have a value of their own, the first ones by name.
const MOST_PEERS: usize = 256;

/// The text of all metrics.
///
/// # Errors
/// Never, as text takes all that is written to it.
pub(crate) fn text(report: StatusReport) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Report(report)));
    let mut written = String::new();
    text::encode(&mut written, &registry)?;
    Ok(written)
}

#[derive(Debug)]
struct Report(StatusReport);

impl Collector for Report {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(encoder);
        let report = &self.0;
        let version = [("version", report.version.clone())];
        out.gauges(
            "weave_build_info",
            "Version of the router.",
            [(version, 1.0)],
        )?;
        connections(&mut out, report)?;
        traffic(&mut out, report)?;
        if let Some(ipam) = &report.ipam {
            addresses(&mut out, ipam)?;
        }
        if let Some(dns) = &report.dns {
            let own = dns
                .entries
                .iter()
                .filter(|entry| entry.origin == report.router.name);
            let help = "Names that this host announces.";
            out.gauge("weave_dns_entries", help, own.count() as f64)?;
        }
        process(&mut out, report)
    }
}

/// Writes metrics, each with its help.
struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let gauge = ConstGauge::new(value);
        gauge.encode(
            self.0
                .encode_descriptor(name, help, None, gauge.metric_type())?,
        )
    }

    /// `name` is without `_total`.
    fn counter(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let counter = ConstCounter::new(value);
        counter.encode(
            self.0
                .encode_descriptor(name, help, None, counter.metric_type())?,
        )
    }

    fn gauges<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = ([(&'static str, String); N], f64)>,
    ) -> fmt::Result {
        let kind = ConstGauge::new(0.0).metric_type();
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in values {
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn counters(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: impl IntoIterator<Item = (String, u64)>,
    ) -> fmt::Result {
        let values = values.into_iter().map(|(of, value)| ([(label, of)], value));
        self.counters_of(name, help, values)
    }

    fn counters_of<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = ([(&'static str, String); N], u64)>,
    ) -> fmt::Result {
        let kind = ConstCounter::new(0_u64).metric_type();
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in values {
            ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn connections(out: &mut Out<'_>, report: &StatusReport) -> fmt::Result {
    let connections = &report.router.connections;
    let labels = |state: ConnectionState, kind: &str| {
        [
            ("state", state.word().to_owned()),
            ("type", kind.to_owned()),
            ("encryption", "yes".to_owned()),
        ]
    };
    let mut counted = BTreeMap::new();
    for state in ConnectionState::ALL {
        let kinds = match state {
            ConnectionState::Established => &["direct", "relay"][..],
            ConnectionState::Pending
            | ConnectionState::Retrying
            | ConnectionState::Failed
            | ConnectionState::Resting
            | ConnectionState::Connecting => &[""],
        };
        for kind in kinds {
            let of = |it: &&ConnectionStatus| it.state == state && kind_of(it) == *kind;
            let count = connections.iter().filter(of).count();
            counted.insert(labels(state, kind), count as f64);
        }
    }
    let help = "Connections of this router by state and, once established, by path.";
    out.gauges("weave_connections", help, counted)?;
    let help = "Peers of the mesh that are up, this one included.";
    out.gauge("weave_peers", help, report.router.peers.len() as f64)?;
    let rtts = connections.iter().filter_map(|connection| {
        let peer = connection.peer.clone()?;
        Some((peer, connection.rtt_us? as f64 / 1e6))
    });
    let rtts: BTreeMap<String, f64> = rtts.collect();
    let rtts = rtts.into_iter().take(MOST_PEERS);
    let help = "Smoothed round trip time of a connected peer; at most 256 peers have one.";
    let rtts = rtts.map(|(peer, rtt)| ([("peer", peer)], rtt));
    out.gauges("weave_peer_rtt_seconds", help, rtts)?;
    let Some(counters) = &report.counters else {
        return Ok(());
    };
    let help = "Peers that there was a connection with, and then none.";
    let lost = counters.sessions_lost as f64;
    out.counter("weave_connection_terminations", help, lost)?;
    let help = "Handshakes by how they ended.";
    out.counters("weave_handshakes", help, "outcome", handshakes(report))
}

fn kind_of(connection: &ConnectionStatus) -> &'static str {
    match connection.path.as_deref() {
        Some(path) if path.starts_with("relay") => "relay",
        Some(_) => "direct",
        None => "",
    }
}

/// What the reasons of drops say of handshakes.
fn handshakes(report: &StatusReport) -> Vec<(String, u64)> {
    let made = report.counters.as_ref().map_or(0, |it| it.sessions_made);
    let dropped = |reasons: &[&str]| {
        let counts = reasons.iter();
        let counts = counts.filter_map(|reason| report.drops.get(&format!("session_{reason}")));
        counts.sum()
    };
    let outcomes: [(&str, u64); 6] = [
        ("established", made),
        ("wrong_password", dropped(&["wrong_password"])),
        ("banned", dropped(&["banned"])),
        (
            "invalid",
            dropped(&[
                "handshake_invalid",
                "bad_hello",
                "unexpected",
                "ourself",
                "pq_unfit",
            ]),
        ),
        ("stranger", dropped(&["malformed", "stranger"])),
        (
            "limited",
            dropped(&[
                "no_cookie",
                "source_rate",
                "guess_rate",
                "backlog_full",
                "half_open_evicted",
                "finish_rate",
            ]),
        ),
    ];
    outcomes
        .map(|(name, count)| (name.to_owned(), count))
        .into()
}

fn traffic(out: &mut Out<'_>, report: &StatusReport) -> fmt::Result {
    let known = DropReason::ALL
        .iter()
        .map(|reason| (reason.name().to_owned(), 0));
    let mut drops: BTreeMap<String, u64> = known.collect();
    drops.extend(report.drops.clone());
    let help = "Frames, datagrams and messages that went nowhere, by reason.";
    out.counters("weave_drops", help, "reason", drops)?;
    let Some(counters) = &report.counters else {
        return Ok(());
    };
    let directions = |sent, received| {
        [("sent", sent), ("received", received)].map(|(name, count)| (String::from(name), count))
    };
    let frames = directions(counters.frames_sent, counters.frames_received);
    let help = "Frames between containers of this host and other hosts; a super-frame is one.";
    out.counters("weave_frames", help, "direction", frames)?;
    let bytes = directions(counters.bytes_sent, counters.bytes_received);
    let help = "Bytes of these frames.";
    out.counters("weave_frame_bytes", help, "direction", bytes)?;
    peer_traffic(out, &report.router.peers)?;
    let help = "Batches of other peers' logs, by what became of them.";
    let gossip = report.drops.iter().filter_map(|(reason, count)| {
        let reason = reason.strip_prefix("gossip_")?;
        Some((reason.to_owned(), *count))
    });
    let gossip = [("taken".to_owned(), counters.batches_taken)]
        .into_iter()
        .chain(gossip);
    out.counters("weave_gossip_batches", help, "outcome", gossip)?;
    if report.dns.is_none() {
        return Ok(());
    }
    let help = "DNS queries by how they ended.";
    out.counters(
        "weave_dns_queries",
        help,
        "outcome",
        counters.dns_queries.clone(),
    )
}

fn peer_traffic(out: &mut Out<'_>, peers: &[PeerStatus]) -> fmt::Result {
    let counted = peers
        .iter()
        .filter_map(|peer| Some((peer.name.as_str(), peer.traffic?)));
    let counted: BTreeMap<&str, Traffic> = counted.collect();
    let series = |sent: fn(&Traffic) -> u64, received: fn(&Traffic) -> u64| {
        let peers = counted.iter().take(MOST_PEERS);
        peers.flat_map(move |(peer, traffic)| {
            [("sent", sent(traffic)), ("received", received(traffic))].map(|(direction, count)| {
                let labels = [
                    ("peer", (*peer).to_owned()),
                    ("direction", String::from(direction)),
                ];
                (labels, count)
            })
        })
    };
    let help =
        "Frames between containers of this host and of a peer; at most 256 peers have a value.";
    let frames = series(|it| it.frames_sent, |it| it.frames_received);
    out.counters_of("weave_peer_frames", help, frames)?;
    let help = "Bytes of these frames.";
    let bytes = series(|it| it.bytes_sent, |it| it.bytes_received);
    out.counters_of("weave_peer_frame_bytes", help, bytes)
}

fn addresses(out: &mut Out<'_>, ipam: &IpamStatus) -> fmt::Result {
    let used = [("state", "local-used".to_owned())];
    let help = "Addresses that containers of this host hold.";
    out.gauges("weave_ips", help, [(used, ipam.active as f64)])?;
    let help = "Addresses in the range of the mesh.";
    out.gauge("weave_max_ips", help, ipam.range_size as f64)?;
    let unreachable = || ipam.entries.iter().filter(|owner| !owner.reachable);
    let help = "Peers that own addresses and cannot be reached.";
    out.gauge(
        "weave_ipam_unreachable_count",
        help,
        unreachable().count() as f64,
    )?;
    let owned: u64 = unreachable().map(|owner| owner.size).sum();
    let percentage = match ipam.range_size {
        0 => 0.0,
        all => owned as f64 * 100.0 / all as f64,
    };
    let help = "Part of the range that they own, in percent.";
    out.gauge("weave_ipam_unreachable_percentage", help, percentage)?;
    let help = "Requests for any address that wait.";
    out.gauge(
        "weave_ipam_pending_allocates",
        help,
        ipam.pending_allocates as f64,
    )?;
    let help = "Requests for a certain address that wait.";
    out.gauge(
        "weave_ipam_pending_claims",
        help,
        ipam.pending_claims as f64,
    )
}

fn process(out: &mut Out<'_>, report: &StatusReport) -> fmt::Result {
    let Some(process) = &report.process else {
        return Ok(());
    };
    let help = "Memory of the router in RAM.";
    out.gauge(
        "process_resident_memory_bytes",
        help,
        process.resident_bytes as f64,
    )?;
    let help = "Files, sockets and devices that the router has open.";
    out.gauge("process_open_fds", help, process.open_files as f64)?;
    let help = "How many it may have open.";
    out.gauge("process_max_fds", help, process.open_files_limit as f64)?;
    let help = "Processor time that the router has used.";
    out.counter("process_cpu_seconds", help, process.cpu_ms as f64 / 1e3)?;
    let help = "When the router started, since 1970.";
    out.gauge("process_start_time_seconds", help, process.started_s as f64)
}

#[cfg(test)]
mod tests;
