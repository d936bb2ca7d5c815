//! What a node tells people about itself.

use std::collections::{BTreeMap, BTreeSet};

use weave_wire::{Cidr, PeerId, PeerName, Time};

use super::Node;
use crate::ClonedIdentity;
use crate::bans::Ban;
use crate::forward::Counts;
use crate::ipam::{Allocated, IpamStatus};
use crate::session::{ConnectionStatus, GenerationStatus};

/// The beginning of a key or name is at least this long, in characters.
const MIN_PREFIX: usize = 4;

/// A live peer, as its record describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    /// Who.
    pub peer: PeerId,
    /// What it calls itself. Not to be trusted.
    pub nickname: String,
    /// Version of its program.
    pub version: String,
    /// Number of its established sessions, as it says.
    pub sessions: u32,
    /// Those of them that its record names, as far as they are known.
    pub neighbours: Vec<PeerId>,
    /// Frames between containers here and there, through relays, too.
    pub traffic: Counts,
}

/// The state of a node.
#[derive(Debug, Clone)]
pub struct NodeStatus {
    /// This peer.
    pub peer: PeerId,
    /// Number of this start.
    pub boot: u64,
    /// Targets as they were typed.
    pub targets: Vec<String>,
    /// Every connection and every attempt at one.
    pub connections: Vec<ConnectionStatus>,
    /// Generations of the password, the lowest first.
    pub passwords: Vec<GenerationStatus>,
    /// The live peers, this one first.
    pub peers: Vec<PeerInfo>,
    /// Nicknames of all peers ever heard of, also of those that are down.
    pub nicknames: BTreeMap<PeerId, String>,
    /// Identities that more than one host uses.
    pub clones: Vec<ClonedIdentity>,
    /// Everybody who is banned, by key.
    pub bans: Vec<Ban>,
    /// State of address allocation.
    pub ipam: IpamStatus,
    /// Datagrams that the session layer dropped, by reason.
    pub drops: BTreeMap<String, u64>,
    /// What happened how often.
    pub counts: NodeCounts,
}

/// What happened how often since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeCounts {
    /// Handshakes that ended in a session.
    pub sessions_made: u64,
    /// Peers that there was a session with, and then none.
    pub sessions_lost: u64,
    /// Batches of other peers' logs that were taken in.
    pub batches_taken: u64,
}

impl Node {
    /// The state of this node.
    pub fn status(&self, now: Time) -> NodeStatus {
        let mut peers: Vec<_> = self.live.iter().map(|peer| self.peer_info(peer)).collect();
        peers.sort_by_key(|info| (info.peer != self.me, info.peer));
        let nicknames = self.logs.origins().filter_map(|peer| {
            self.logs
                .peer_record(&peer)
                .map(|record| (peer, record.nickname.clone()))
        });
        NodeStatus {
            peer: self.me,
            boot: self.boot,
            targets: self.targets.iter().cloned().collect(),
            connections: self.connections(now),
            passwords: self.sessions.generations(),
            peers,
            nicknames: nicknames.collect(),
            clones: self.sessions.clones(now),
            bans: self.bans.iter().cloned().collect(),
            ipam: self.ipam.status(),
            drops: self.drops(),
            counts: NodeCounts {
                sessions_made: self.sessions.counts().made,
                sessions_lost: self.sessions.counts().lost,
                batches_taken: self.logs.taken(),
            },
        }
    }

    /// Whether anything was heard of this peer since the start, or it is this one.
    pub fn has_heard_of(&self, peer: &PeerId) -> bool {
        *peer == self.me || self.reached.contains(peer) || self.logs.origins().any(|o| o == *peer)
    }

    /// The peers that are up as far as this node knows, itself included.
    pub const fn live(&self) -> &BTreeSet<PeerId> {
        &self.live
    }

    /// How far the log of a peer, or our own, is known here: number of the start, of the
    /// compaction, and of the last entry. All 0 when nothing is known of it.
    pub fn log_version(&self, peer: &PeerId) -> (u64, u32, u64) {
        let version = self.logs.version(peer);
        (version.run.boot, version.run.snapshot, version.seq)
    }

    /// Whether this start has yet to hear from peers what the former ones gave out: nothing is
    /// given out before.
    pub fn is_recovering(&self) -> bool {
        self.ipam.is_recovering()
    }

    /// State of address allocation.
    pub fn ipam_status(&self) -> IpamStatus {
        self.ipam.status()
    }

    /// Addresses that this host holds.
    pub fn allocated(&self) -> impl Iterator<Item = Allocated> + '_ {
        self.ipam.allocated()
    }

    /// Every connection and every attempt at one.
    pub fn connections(&self, now: Time) -> Vec<ConnectionStatus> {
        let mut connections = self.sessions.connections(now);
        self.name_relays(&mut connections);
        self.name_unfit(&mut connections);
        connections
    }

    /// Generations of the password, the lowest first.
    pub fn passwords(&self) -> Vec<GenerationStatus> {
        self.sessions.generations()
    }

    /// Name and nickname of the peer that announces an address on any segment.
    pub fn holder_of(&self, ip: std::net::IpAddr) -> Option<(PeerName, String)> {
        let (_, _, _, peer) = self.endpoints.ips().find(|(_, held, _, _)| *held == ip)?;
        Some((peer.name(), self.nickname(&peer)))
    }

    /// The IPv6 subnet that a live peer has beside this one, with what people call that peer.
    pub fn ipv6_beside(&self, subnet: Cidr) -> Option<(Cidr, String)> {
        let (peer, beside) = self.endpoints.ipv6_beside(subnet)?;
        Some((beside, format!("{}({})", peer.name(), self.nickname(&peer))))
    }

    /// The IPv6 subnet that goes with an IPv4 one unless somebody chose another, the same on all
    /// hosts; nothing until addresses can be given out, see [`Node::prime`].
    pub fn default_ipv6_subnet(&self, subnet: Cidr) -> Option<Cidr> {
        self.ipam.ipv6_subnet(subnet)
    }

    /// Known subnets of other hosts and of this one.
    pub fn subnets(&self) -> Vec<Cidr> {
        let segments = self.endpoints.segments();
        segments
            .values()
            .flat_map(|segment| segment.subnets.iter().copied())
            .collect()
    }

    /// The peers that an operator may mean by a text: a key or its beginning, a name or its
    /// beginning, or a nickname. A whole key is taken as it is, known or not.
    pub fn find_peers(&self, text: &str) -> Vec<PeerId> {
        if let Ok(key) = text.parse() {
            return vec![key];
        }
        let start = text.to_ascii_lowercase();
        let means = |peer: &PeerId| {
            let begins = [peer.to_string(), peer.name().to_string()]
                .iter()
                .any(|shown| shown.starts_with(&start));
            (begins && start.len() >= MIN_PREFIX) || self.nickname(peer) == text
        };
        let banned = self.bans.iter().map(|ban| ban.peer);
        let reached = self.reached.iter().copied();
        let known: BTreeSet<PeerId> = self
            .logs
            .origins()
            .chain(reached)
            .chain(banned)
            .chain([self.me])
            .collect();
        known
            .into_iter()
            .filter(|peer| !text.is_empty() && means(peer))
            .collect()
    }

    /// Everything that was dropped on the control side, by reason.
    fn drops(&self) -> BTreeMap<String, u64> {
        let sessions = self.sessions.drops().iter();
        let sessions =
            sessions.map(|(reason, count)| (format!("session_{}", reason.name()), count));
        let gossip = self.logs.drops().iter();
        let gossip = gossip.map(|(reason, count)| (format!("gossip_{}", reason.name()), count));
        sessions
            .chain(gossip)
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    fn nickname(&self, peer: &PeerId) -> String {
        if *peer == self.me {
            return self.config.nickname.clone();
        }
        self.logs
            .peer_record(peer)
            .map(|record| record.nickname.clone())
            .unwrap_or_default()
    }

    fn peer_info(&self, peer: &PeerId) -> PeerInfo {
        let record = self.logs.peer_record(peer);
        if *peer == self.me {
            return PeerInfo {
                peer: *peer,
                nickname: self.config.nickname.clone(),
                version: self.config.version.clone(),
                sessions: u32::try_from(self.reached.len()).unwrap_or(u32::MAX),
                neighbours: self.reached.iter().copied().collect(),
                traffic: Counts::default(),
            };
        }
        let neighbours = record.map_or(&[][..], |record| &record.neighbours);
        PeerInfo {
            peer: *peer,
            nickname: self.nickname(peer),
            version: record
                .map(|record| record.version.clone())
                .unwrap_or_default(),
            sessions: record.map_or(0, |record| record.sessions),
            neighbours: neighbours
                .iter()
                .flat_map(|short| self.logs.with_short_key(short).copied())
                .collect(),
            traffic: self.sessions.traffic(peer),
        }
    }
}
