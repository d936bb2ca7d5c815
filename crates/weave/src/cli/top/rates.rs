//! Rates out of two looks at the counters of a router.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::api::types::{
    ConnectionState, ConnectionStatus, DnsEntry, PsEntry, StatusReport, Traffic,
};

const NANOS: u128 = 1_000_000_000;

/// What a router says at one time.
#[derive(Debug, Clone)]
pub(super) struct Look {
    pub(super) report: StatusReport,
    pub(super) containers: Vec<PsEntry>,
}

/// What passed between two looks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Rates {
    /// Name of this host's peer.
    pub(super) name: String,
    /// Its nickname.
    pub(super) nickname: String,
    /// How long it was between the two.
    pub(super) seconds: f64,
    /// All other live peers.
    pub(super) peers: Vec<Peer>,
    /// Containers of this host that have a port.
    pub(super) containers: Vec<Container>,
}

/// A peer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Peer {
    pub(super) name: String,
    pub(super) nickname: String,
    /// `direct`, `relay` and the peer that relays, or the state of a connection that is not up.
    pub(super) path: Option<String>,
    /// Round trip, microseconds.
    pub(super) rtt_us: Option<u64>,
    /// From its containers to those of this host.
    pub(super) received: Rate,
    /// The other way.
    pub(super) sent: Rate,
}

/// A container of this host, or what else was attached.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Container {
    /// Its id, or the path of its namespace.
    pub(super) container: String,
    /// Its name, where known.
    pub(super) name: Option<String>,
    pub(super) addresses: Vec<String>,
    pub(super) received: Rate,
    pub(super) sent: Rate,
}

/// One direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Rate {
    pub(super) bits_per_second: u64,
    pub(super) frames_per_second: u64,
    /// So far.
    pub(super) bytes: u64,
    /// So far.
    pub(super) frames: u64,
}

/// What comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// What has the highest rates now.
    Rate,
    /// What has carried most so far.
    Total,
    /// By name.
    Name,
}

impl Rates {
    /// What passed from one look to another, after so long. What was not there before has no rate
    /// yet.
    pub(super) fn between(before: &Look, after: &Look, elapsed: Duration) -> Self {
        let router = &after.report.router;
        let peers_before: BTreeMap<_, _> = before
            .report
            .router
            .peers
            .iter()
            .map(|peer| (&peer.name, peer.traffic))
            .collect();
        let others = router.peers.iter().filter(|peer| peer.name != router.name);
        let peers = others.map(|peer| {
            let now = peer.traffic.unwrap_or_default();
            let old = peers_before.get(&peer.name).copied().flatten();
            let (received, sent) = rates(old, now, elapsed);
            let connection = connection_to(&router.connections, &peer.name);
            Peer {
                name: peer.name.clone(),
                nickname: peer.nickname.clone(),
                path: connection.map(path),
                rtt_us: connection.and_then(|connection| connection.rtt_us),
                received,
                sent,
            }
        });
        let ports_before: BTreeMap<_, _> = before
            .containers
            .iter()
            .map(|entry| (&entry.mac, entry.traffic))
            .collect();
        let containers = after.containers.iter().filter_map(|entry| {
            let old = ports_before.get(&entry.mac).copied().flatten();
            let (received, sent) = rates(old, entry.traffic?, elapsed);
            Some(Container {
                container: entry.container.clone(),
                name: name_of(entry, &after.report),
                addresses: entry.addresses.clone(),
                received,
                sent,
            })
        });
        Self {
            name: router.name.clone(),
            nickname: router.nickname.clone(),
            seconds: elapsed.as_secs_f64(),
            peers: peers.collect(),
            containers: containers.collect(),
        }
    }

    /// Puts both tables in order.
    pub(super) fn sort(&mut self, order: Order) {
        let key = |received: &Rate, sent: &Rate| {
            Reverse(match order {
                Order::Rate => received
                    .bits_per_second
                    .saturating_add(sent.bits_per_second),
                Order::Total => received.bytes.saturating_add(sent.bytes),
                Order::Name => 0,
            })
        };
        self.peers
            .sort_by_cached_key(|it| (key(&it.received, &it.sent), it.called(), it.name.clone()));
        self.containers.sort_by_cached_key(|it| {
            let rest = (it.called(), it.addresses.clone());
            (key(&it.received, &it.sent), rest)
        });
    }
}

impl Peer {
    /// Its nickname, or its name where it has none.
    pub(super) fn called(&self) -> String {
        let shown = [&self.nickname, &self.name];
        let shown = shown.into_iter().find(|text| !text.is_empty());
        shown.cloned().unwrap_or_default()
    }
}

impl Container {
    /// Its name, or its id where none is known.
    pub(super) fn called(&self) -> String {
        self.name.as_ref().unwrap_or(&self.container).clone()
    }
}

/// Received and sent. A counter that has gone back began anew.
fn rates(before: Option<Traffic>, after: Traffic, elapsed: Duration) -> (Rate, Rate) {
    let before = before.unwrap_or(after);
    let per_second = |before: u64, after: u64, unit: u128| {
        let more = u128::from(after.checked_sub(before).unwrap_or(after));
        let rate = (more * unit * NANOS).checked_div(elapsed.as_nanos());
        u64::try_from(rate.unwrap_or(0)).unwrap_or(u64::MAX)
    };
    let rate = |bytes: fn(&Traffic) -> u64, frames: fn(&Traffic) -> u64| Rate {
        bits_per_second: per_second(bytes(&before), bytes(&after), 8),
        frames_per_second: per_second(frames(&before), frames(&after), 1),
        bytes: bytes(&after),
        frames: frames(&after),
    };
    (
        rate(|it| it.bytes_received, |it| it.frames_received),
        rate(|it| it.bytes_sent, |it| it.frames_sent),
    )
}

/// The connection to a peer; of several the one that is up.
fn connection_to<'a>(all: &'a [ConnectionStatus], peer: &str) -> Option<&'a ConnectionStatus> {
    let theirs = all.iter().filter(|it| it.peer.as_deref() == Some(peer));
    theirs.min_by_key(|it| it.state != ConnectionState::Established)
}

fn path(connection: &ConnectionStatus) -> String {
    let state = connection.state.word();
    connection.path.clone().unwrap_or_else(|| state.to_owned())
}

/// The name of a container: as it was attached, else the first that DNS has for it.
fn name_of(entry: &PsEntry, report: &StatusReport) -> Option<String> {
    let dns = report.dns.as_ref();
    let is_its =
        |name: &&DnsEntry| name.container == entry.container && name.origin == report.router.name;
    let named = || {
        let dns = dns?;
        let name = &dns.entries.iter().find(is_its)?.hostname;
        let host = name.strip_suffix(dns.domain.as_str());
        let host = host.and_then(|host| host.strip_suffix('.'));
        Some(host.unwrap_or(name).to_owned())
    };
    entry.name.clone().or_else(named)
}
