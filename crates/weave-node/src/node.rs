//! The node: sessions, replicated logs, endpoints, names and addresses of one peer.
//!
//! Owns the parts and the routes between them; each part is a machine of its own
//! that knows nothing of the others. Inputs: `handle_*` and the commands in
//! [`commands`]. Outputs are emptied by [`drain`](crate::drain::drain) after each input.
//!
//! Invariant: nothing is sent before the boot counter is durable, so that no
//! two lives of a peer write the same log.

mod banning;
mod commands;
mod discovery;
mod fib;
mod fitting;
mod inquiring;
mod relaying;
mod remembered;
mod routes;
mod status;
mod tables;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use weave_crypto::{HandshakeConfig, Identity};
use weave_wire::{Mac, PeerId, ReceiverIndex, SegmentId, Time};

use crate::bans::Bans;
use crate::config::NodeConfig;
use crate::drain::Writes;
use crate::endpoints::Endpoints;
use crate::forward::Fib;
use crate::gossip::Logs;
use crate::inquiries::{Answer, Inquiries, Inquiry};
use crate::ipam::{Ipam, IpamConfig, IpamError};
use crate::membership::Edges;
use crate::names::{NameTable, Names};
use crate::next_format;
use crate::relays::Relays;
use crate::session::{SessionConfig, Sessions, Transmit};
pub use commands::Subnet;
use discovery::Neighbourhood;
pub use inquiring::Station;
use remembered::Remembered;
pub use status::{NodeCounts, NodeStatus, PeerInfo};
use tables::Learned;

const IDENTITY_KEY: &[u8] = b"identity";
const BOOT_KEY: &[u8] = b"boot";
const TARGET_PREFIX: &[u8] = b"target/";

/// Names a batch of writes until it is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PersistToken(TokenOwner);

impl PersistToken {
    /// Whether the node takes part in nothing before these writes are durable: whoever cannot
    /// store them is to try again.
    pub fn is_boot(self) -> bool {
        self.0 == TokenOwner::Boot
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum TokenOwner {
    Boot,
    /// A boot counter that peers forced on us.
    BootAhead,
    Targets,
    Bans,
    Ipam(u64),
}

/// What a node tells its shell.
#[derive(Debug)]
pub(crate) enum Event {
    Persist {
        token: PersistToken,
        writes: Writes,
    },
    Fib(Arc<Fib>),
    Names(Arc<NameTable>),
    Allocated {
        ticket: u64,
        result: Result<IpAddr, IpamError>,
    },
    Resolve {
        target: String,
    },
    Conflict {
        message: String,
    },
    Inquired(Inquiry),
    Answered {
        ticket: u64,
        answer: Answer,
    },
}

/// One peer of the mesh.
#[derive(Debug)]
pub struct Node {
    config: NodeConfig,
    me: PeerId,
    boot: u64,
    /// The boot counter is durable: the node may speak.
    started: bool,
    /// This start begins by asking peers what the former ones said, of which this was the last
    /// as far as the disk knows.
    resyncs_from: Option<u64>,
    sessions: Sessions,
    logs: Logs,
    endpoints: Endpoints,
    names: Names,
    ipam: Ipam,
    relays: Relays,
    bans: Bans,
    inquiries: Inquiries,
    /// Peers with an established session.
    reached: BTreeSet<PeerId>,
    /// The sessions of others, as they name them.
    edges: Edges,
    /// Those of them that have not been heard for a while.
    silent: BTreeSet<PeerId>,
    /// Peers that left or were lost since our record was written.
    vanished: BTreeSet<PeerId>,
    /// Peers that are up, as far as anyone reached can tell; ourselves included.
    live: BTreeSet<PeerId>,
    /// Our own addresses as peers see them, latest last.
    observed: VecDeque<SocketAddr>,
    /// Addresses dialled because a peer's record names them.
    dialled: BTreeMap<PeerId, Vec<SocketAddr>>,
    neighbourhood: Neighbourhood,
    remembered: Remembered,
    /// Keys of the name records filed under each owner.
    filed_names: BTreeMap<String, BTreeSet<String>>,
    learned: Learned,
    targets: BTreeSet<String>,
    stored_targets: BTreeSet<String>,
    /// Our log is not written before, after a restart.
    first_words_at: Time,
    events: VecDeque<Event>,
    dirty: Dirty,
    record_due: Option<Time>,
    record_written: Option<Time>,
    live_due: Option<Time>,
    /// Whom the live peers were last found from.
    roots: BTreeSet<PeerId>,
    /// In a large mesh, when the forwarding table may follow what others announced again.
    announced_due: Option<Time>,
    fib: Arc<Fib>,
}

/// Which tables must be built anew before the next output.
#[derive(Debug, Default, Clone, Copy)]
struct Dirty {
    live: bool,
    /// Whom peers name as their neighbours, or who may be named.
    edges: bool,
    record: bool,
    fib: bool,
    /// What other peers announced, which the table may follow a moment later.
    announced: bool,
    names: bool,
}

impl Dirty {
    const ALL: Self = Self {
        live: true,
        edges: true,
        record: true,
        fib: true,
        announced: true,
        names: true,
    };

    /// Who is live follows from the edges.
    fn edges_changed(&mut self) {
        (self.live, self.edges) = (true, true);
    }
}

impl Node {
    /// A node that remembers what `stored` holds, and asks to store its new boot
    /// counter. It speaks once that is durable.
    pub fn new(
        config: NodeConfig,
        seed: [u8; 32],
        stored: &[(Vec<u8>, Vec<u8>)],
        now: Time,
    ) -> Self {
        let mut rng = ChaCha12Rng::from_seed(seed);
        let Memory {
            identity_seed,
            former_boot,
            boot,
            targets: stored_targets,
        } = Memory::read(stored, &mut rng);
        let identity = Arc::new(Identity::from_seed(&identity_seed));
        let me = identity.peer_id();
        let targets: BTreeSet<String> = stored_targets
            .iter()
            .chain(&config.targets)
            .cloned()
            .collect();
        let mut sessions = Sessions::new(
            session_config(&config, &identity, boot),
            ChaCha12Rng::from_seed(random_bytes(&mut rng)),
        );
        let mut ipam = Ipam::new(me, ipam_config(&config, boot), stored, now);
        ipam.set_targets(targets.len(), 0, now);
        let remembered = Remembered::read(stored);
        // our disk may be older than what peers heard of it
        let has_peers = !(targets.is_empty() && remembered.is_empty());
        let resyncs_from = former_boot.filter(|_| has_peers);
        if resyncs_from.is_some() {
            ipam.await_former(now);
        }
        let events = VecDeque::from([Event::Persist {
            token: PersistToken(TokenOwner::Boot),
            writes: first_writes(&config, &identity_seed, boot, stored),
        }]);
        let log_rng = ChaCha12Rng::from_seed(random_bytes(&mut rng));
        let ban_rng = ChaCha12Rng::from_seed(random_bytes(&mut rng));
        let bans = Bans::new(me, banning::stored_bans(&config, stored), ban_rng);
        for ban in bans.iter() {
            sessions.ban(ban.peer, now);
            ipam.ban(ban.peer, now);
        }
        #[cfg_attr(
            not(feature = "seeded-bugs"),
            expect(unused_mut, reason = "bugs are seeded")
        )]
        let (mut logs, mut names) = (Logs::new(identity, boot, log_rng), Names::new(me));
        logs.speak(config.versions);
        #[cfg(feature = "seeded-bugs")]
        {
            sessions.seed_bug(config.seeded_bug);
            logs.seed_bug(config.seeded_bug);
            names.seed_bug(config.seeded_bug);
        }
        Self {
            me,
            boot,
            started: false,
            sessions,
            logs,
            endpoints: Endpoints::new(me),
            names,
            ipam,
            relays: Relays::new(me, ChaCha12Rng::from_seed(random_bytes(&mut rng))),
            bans,
            inquiries: Inquiries::default(),
            reached: BTreeSet::new(),
            edges: Edges::default(),
            silent: BTreeSet::new(),
            vanished: BTreeSet::new(),
            live: BTreeSet::from([me]),
            observed: VecDeque::new(),
            dialled: BTreeMap::new(),
            neighbourhood: Neighbourhood::default(),
            remembered,
            resyncs_from,
            filed_names: BTreeMap::new(),
            learned: Learned::default(),
            targets,
            stored_targets,
            first_words_at: Time::ZERO,
            events,
            dirty: Dirty::ALL,
            record_due: None,
            record_written: None,
            live_due: None,
            roots: BTreeSet::new(),
            announced_due: None,
            fib: Arc::new(Fib::default()),
            config,
        }
    }

    /// This peer's id.
    pub fn id(&self) -> PeerId {
        self.me
    }

    /// Number of this start.
    pub fn boot(&self) -> u64 {
        self.boot
    }

    /// The boot counter is durable and the node takes part in the mesh.
    pub fn is_started(&self) -> bool {
        self.started
    }

    /// A handshake datagram arrived.
    pub fn handle_handshake(&mut self, from: SocketAddr, datagram: &[u8], now: Time) {
        if self.started {
            self.sessions.handle_handshake(from, datagram, now);
            self.route(now);
        }
    }

    /// A control message was opened by the receive path.
    pub fn handle_control(
        &mut self,
        receiver: ReceiverIndex,
        from: SocketAddr,
        plaintext: &[u8],
        now: Time,
    ) {
        if let Some((peer, body)) = self.sessions.handle_control(receiver, from, plaintext, now) {
            self.route_message(peer, body, now);
        }
        self.route(now);
    }

    /// The receive path saw an unannounced source MAC of a peer.
    pub fn handle_learned(&mut self, segment: SegmentId, mac: Mac, peer: PeerId, now: Time) {
        if self.learned.learn(segment, mac, peer, now) {
            self.dirty.fib = true;
        }
    }

    /// The writes of `token` are durable.
    pub fn handle_persisted(&mut self, token: PersistToken, now: Time) {
        match token.0 {
            TokenOwner::Boot => self.start(now),
            TokenOwner::Targets | TokenOwner::BootAhead => {}
            TokenOwner::Bans => self.bans_saved(now),
            TokenOwner::Ipam(token) => self.ipam.handle_persisted(token, now),
        }
        self.route(now);
    }

    /// The writes of `token` could not be made durable, and none of them was.
    pub fn handle_persist_failed(&mut self, token: PersistToken, why: &str, now: Time) {
        match token.0 {
            // without a durable boot counter the node stays silent
            TokenOwner::Boot | TokenOwner::BootAhead | TokenOwner::Targets => {
                tracing::debug!(why, "cannot store the boot counter or the targets");
            }
            TokenOwner::Bans => self.bans.save_failed(why, now),
            TokenOwner::Ipam(token) => self.ipam.handle_persist_failed(token, why, now),
        }
        self.route(now);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Time) {
        if !self.started {
            return;
        }
        self.sessions.handle_timeout(now);
        self.logs.handle_timeout(now);
        self.count_targets(now);
        self.ipam.handle_timeout(now);
        self.relays.handle_timeout(now);
        self.pass_on_bans(now);
        self.look_around(now);
        if self.learned.expire(now) {
            self.dirty.fib = true;
        }
        self.route(now);
    }

    /// When [`Node::handle_timeout`] is due next.
    pub fn poll_timeout(&self) -> Option<Time> {
        if !self.started {
            return None;
        }
        [
            self.sessions.poll_timeout(),
            self.logs.poll_timeout(),
            self.ipam.poll_timeout(),
            self.relays.poll_timeout(),
            self.learned.poll_timeout(),
            self.bans.poll_timeout(),
            self.neighbourhood.poll_timeout(),
            self.record_due.filter(|_| self.dirty.record),
            self.live_due.filter(|_| self.dirty.live),
            self.announced_due.filter(|_| self.dirty.announced),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The forwarding table in force.
    pub fn fib(&self) -> Arc<Fib> {
        Arc::clone(&self.fib)
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub(crate) fn poll_transmit(&mut self, now: Time) -> Option<Transmit> {
        loop {
            let transmit = self.sessions.poll_transmit()?;
            // a circuit that is gone is like a path that is broken
            if let Some(wrapped) = self.wrapped(transmit, now) {
                return Some(wrapped);
            }
        }
    }

    fn start(&mut self, now: Time) {
        self.started = true;
        tracing::info!(name = %self.me.name(), boot = self.boot, "node started");
        if self.boot > 1 {
            // what peers know of our former life is replaced in one step
            self.first_words_at = now + FIRST_WORDS_AFTER;
            self.logs.hold_until(match self.config.awaits_names {
                true => now + NAMES_WITHIN,
                false => self.first_words_at,
            });
        }
        if let Some(former) = self.resyncs_from {
            self.logs.resync(former, now);
        }
        self.repeat_bans(now);
        for target in self.targets.clone() {
            self.sessions.add_target(&target, now);
        }
        self.dial_remembered(now);
    }
}

/// A stored record that a node cannot do without and cannot read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "its record `{key}` is {fault}: put back a copy of the file, or run `weave reset` to begin as a new peer"
)]
pub struct DamagedRecord {
    key: String,
    fault: &'static str,
}

/// Looks whether a node can be made of what is stored. A disk that holds anything holds the
/// identity and the boot counter, too: without them another peer would begin, and the
/// addresses in use would be given out again.
///
/// # Errors
/// The record that is damaged or missing.
pub fn check_stored(stored: &[(Vec<u8>, Vec<u8>)]) -> Result<(), DamagedRecord> {
    let has_addresses = stored.iter().any(|(key, _)| key.starts_with(b"ipam/"));
    for (key, len) in [(IDENTITY_KEY, 32), (BOOT_KEY, 8)] {
        let fault = match stored_value(stored, key) {
            Some(value) if value.len() != len => "damaged",
            None if has_addresses => "missing",
            Some(_) | None => continue,
        };
        let key = String::from_utf8_lossy(key).into_owned();
        return Err(DamagedRecord { key, fault });
    }
    Ok(())
}

/// What a node knows of its former lives.
struct Memory {
    identity_seed: [u8; 32],
    /// Number of the last life.
    former_boot: Option<u64>,
    /// Number of the life that begins.
    boot: u64,
    targets: BTreeSet<String>,
}

impl Memory {
    fn read(stored: &[(Vec<u8>, Vec<u8>)], rng: &mut ChaCha12Rng) -> Self {
        let identity_seed = stored_value(stored, IDENTITY_KEY)
            .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
            .unwrap_or_else(|| random_bytes(rng));
        let former_boot = stored_value(stored, BOOT_KEY)
            .and_then(|bytes| <[u8; 8]>::try_from(bytes).ok())
            .map(u64::from_le_bytes);
        // the step is random: when a disk was set back, no two lives have the same number
        let step = 1 + u64::from(rng.next_u32() & 0xffff);
        let boot = former_boot.map_or(1, |former| former.saturating_add(step));
        let targets = stored
            .iter()
            .filter_map(|(key, _)| key.strip_prefix(TARGET_PREFIX))
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect();
        Self {
            identity_seed,
            former_boot,
            boot,
            targets,
        }
    }
}

fn session_config(config: &NodeConfig, identity: &Arc<Identity>, boot: u64) -> SessionConfig {
    let handshake = HandshakeConfig {
        identity: Arc::clone(identity),
        passwords: config.passwords.clone(),
        mesh_name: config.mesh_name.clone(),
        prefer_aes: config.prefer_aes,
        versions: config.versions,
    };
    let mut session_config = SessionConfig::new(handshake, boot);
    session_config.nickname.clone_from(&config.nickname);
    session_config.version.clone_from(&config.version);
    session_config.pq = config.pq;
    session_config.port = config.port;
    session_config
}

fn ipam_config(config: &NodeConfig, boot: u64) -> IpamConfig {
    IpamConfig {
        range: config.range,
        default_subnet: config.default_subnet,
        boot,
        wall_ms: config.wall_ms,
        take_back: config.take_back,
        #[cfg(feature = "seeded-bugs")]
        seeded_bug: config.seeded_bug,
    }
}

/// What must be durable before the node speaks.
fn first_writes(
    config: &NodeConfig,
    identity_seed: &[u8; 32],
    boot: u64,
    stored: &[(Vec<u8>, Vec<u8>)],
) -> Writes {
    let mut writes = vec![
        (IDENTITY_KEY.to_vec(), Some(identity_seed.to_vec())),
        (BOOT_KEY.to_vec(), Some(boot.to_le_bytes().to_vec())),
    ];
    if next_format::is_spoken(config.versions) {
        let starts = next_format::count_start(stored_value(stored, next_format::KEY));
        tracing::info!(starts, "started in the next format");
        let starts = starts.to_le_bytes().to_vec();
        writes.push((next_format::KEY.to_vec(), Some(starts)));
    }
    writes
}

fn stored_value<'a>(stored: &'a [(Vec<u8>, Vec<u8>)], key: &[u8]) -> Option<&'a [u8]> {
    stored
        .iter()
        .find(|(stored_key, _)| stored_key == key)
        .map(|(_, value)| value.as_slice())
}

fn random_bytes(rng: &mut ChaCha12Rng) -> [u8; 32] {
    let mut bytes = [0; 32];
    rng.fill_bytes(&mut bytes);
    bytes
}

/// After a restart, the log is first written this much later: with all that still holds.
const FIRST_WORDS_AFTER: Duration = Duration::from_millis(300);
/// The same while the names of containers are awaited, at most: dockerd answers late while it waits
/// for the driver of a network, and no container starts meanwhile.
const NAMES_WITHIN: Duration = Duration::from_secs(10);
/// Unannounced source MACs are forgotten after this long without a frame.
const LEARNED_FOR: Duration = Duration::from_secs(300);
