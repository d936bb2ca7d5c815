//! `weave graph`: the mesh as a picture, coloured by how hosts reach each other.
//!
//! Owns what a report means as a graph; [`draw`] makes text, DOT and SVG of it. What this router
//! has itself it knows for certain. Of two others it knows what either names, at most sixteen
//! neighbours each: where both name all they have, and not each other, a relay carries what they
//! send, or nothing does.

mod draw;

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use super::args::GraphArgs;
use super::view::millis;
use super::{block_on, output};
use crate::api::client::Client;
use crate::api::types::{
    ConnectionState, ConnectionStatus, PeerStatus, RouterStatus, StatusReport,
};

/// A record names no more neighbours.
const MOST_NAMED: usize = 16;

/// Hosts, and how each pair of them is connected.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Graph {
    /// This host first, then by name.
    hosts: Vec<Host>,
    /// By the order of `hosts`.
    paths: Vec<Pair>,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Host {
    /// Name of its peer, or the address where none answers.
    name: String,
    /// Its nickname; empty where none is known.
    nickname: String,
    /// Whether it is this one.
    own: bool,
}

/// A pair of hosts, each pair once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Pair {
    /// Index of the one in `hosts`.
    from: usize,
    /// Index of the other.
    to: usize,
    /// How they are connected.
    kind: Kind,
    /// Round trip, through what relay, or why not.
    #[serde(skip_serializing_if = "String::is_empty")]
    info: String,
}

/// How two hosts are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// By a session of their own.
    Direct,
    /// Through others.
    Relay,
    /// Not at all.
    Broken,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Direct, Self::Relay, Self::Broken];

    fn word(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Relay => "relay",
            Self::Broken => "broken",
        }
    }
}

/// Prints the mesh.
///
/// # Errors
/// When no router runs.
pub(crate) fn run(args: &GraphArgs, socket: &Path) -> Result<()> {
    let client = Client::new(socket);
    let report: StatusReport = block_on(async { Ok(client.fetch("/report").await?) })?;
    let graph = Graph::of(&report.router);
    if args.json {
        return output::json(&graph);
    }
    let drawn = match (args.dot, args.svg) {
        (true, _) => draw::dot(&graph),
        (false, true) => draw::svg(&graph),
        (false, false) => draw::text(&graph),
    };
    output::out_raw(&drawn);
    Ok(())
}

impl Graph {
    fn of(router: &RouterStatus) -> Self {
        let mut peers: Vec<&PeerStatus> = router.peers.iter().collect();
        peers.sort_by_key(|peer| (peer.name != router.name, &peer.name));
        let mut hosts: Vec<_> = peers
            .iter()
            .map(|peer| Host {
                name: peer.name.clone(),
                nickname: peer.nickname.clone(),
                own: peer.name == router.name,
            })
            .collect();
        let mut paths = Vec::new();
        for (from, one) in peers.iter().enumerate() {
            for (to, other) in peers.iter().enumerate().skip(from + 1) {
                let path = if one.name == router.name {
                    own_path(router, &other.name)
                } else {
                    path_of_others(one, other, peers.len())
                };
                paths.extend(path.map(|(kind, info)| Pair {
                    from,
                    to,
                    kind,
                    info,
                }));
            }
        }
        if hosts.first().is_some_and(|host| host.own) {
            add_silent(router, &mut hosts, &mut paths);
        }
        Self { hosts, paths }
    }
}

/// Between this host and another that is live.
fn own_path(router: &RouterStatus, to: &str) -> Option<(Kind, String)> {
    let lines = router.connections.iter();
    let lines: Vec<_> = lines
        .filter(|line| line.peer.as_deref() == Some(to))
        .collect();
    let up = lines
        .iter()
        .find(|line| line.state == ConnectionState::Established);
    if let Some(line) = up {
        let path = line.path.as_deref().unwrap_or("direct");
        return Some(match path.strip_prefix("relay ") {
            Some(relay) => (Kind::Relay, format!("through {relay}")),
            None => (Kind::Direct, line.rtt_us.map(millis).unwrap_or_default()),
        });
    }
    let rests = |line: &&ConnectionStatus| line.state == ConnectionState::Resting;
    // in a large mesh no session is needed before there is something to send
    if lines.iter().any(rests) || lines.is_empty() {
        return None;
    }
    let why = lines.iter().find_map(|line| line.info.clone());
    Some((Kind::Broken, why.unwrap_or_default()))
}

/// Between two others, by what they name.
fn path_of_others(one: &PeerStatus, other: &PeerStatus, peers: usize) -> Option<(Kind, String)> {
    let names = |one: &PeerStatus, other: &PeerStatus| {
        let mut named = one.connections.iter();
        named.any(|connection| connection.established && connection.name == other.name)
    };
    if names(one, other) || names(other, one) {
        return Some((Kind::Direct, String::new()));
    }
    let names_all = |peer: &PeerStatus| peer.connections.len() < MOST_NAMED;
    if !(names_all(one) && names_all(other)) {
        return None;
    }
    let all = u32::try_from(peers.saturating_sub(1)).unwrap_or(u32::MAX);
    let kind = match one.sessions >= all && other.sessions >= all {
        true => Kind::Relay,
        false => Kind::Broken,
    };
    Some((kind, String::new()))
}

/// Addresses that this host dials, and where no live peer is.
fn add_silent(router: &RouterStatus, hosts: &mut Vec<Host>, paths: &mut Vec<Pair>) {
    let live: BTreeSet<_> = hosts.iter().map(|host| host.name.clone()).collect();
    let silent = router.connections.iter().filter(|line| {
        let is_live = line.peer.as_ref().is_some_and(|peer| live.contains(peer));
        !is_live && line.state != ConnectionState::Established
    });
    let mut silent: Vec<_> = silent.collect();
    silent.sort_by_key(|line| &line.address);
    for line in silent {
        paths.push(Pair {
            from: 0,
            to: hosts.len(),
            kind: Kind::Broken,
            info: line.info.clone().unwrap_or_default(),
        });
        hosts.push(Host {
            name: line.address.clone(),
            nickname: line.nickname.clone().unwrap_or_default(),
            own: false,
        });
    }
}

#[cfg(test)]
mod tests;
