//! A net of logs in virtual time: links that lose, delay and reorder, restarts, partitions.
//!
//! Every message passes the wire format. What a node is told about changes is replayed and
//! compared with its tables all the time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore as _, SeedableRng as _};
use weave_crypto::Identity;
use weave_wire::proto::control_message::Body;
use weave_wire::proto::{ControlMessage, NameRecord, SignedBatch, entry};
use weave_wire::{PeerId, Time, decode_control};

use super::{GossipAction, Logs, Table};

pub(super) fn identity(number: usize) -> Arc<Identity> {
    let mut seed = [0x77; 32];
    seed[..8].copy_from_slice(&(number as u64).to_be_bytes());
    Arc::new(Identity::from_seed(&seed))
}

pub(super) fn logs(number: usize, boot: u64) -> Logs {
    Logs::new(
        identity(number),
        boot,
        ChaCha12Rng::seed_from_u64(number as u64),
    )
}

pub(super) fn name(text: &str) -> Option<entry::Body> {
    let record = NameRecord {
        name: text.into(),
        ip: vec![10, 32, 0, 1],
        container: String::new(),
    };
    Some(entry::Body::Name(record))
}

/// The names that a table holds.
pub(super) fn names(table: &Table) -> BTreeSet<String> {
    let name = |body: &entry::Body| {
        if let entry::Body::Name(record) = body {
            Some(record.name.clone())
        } else {
            None
        }
    };
    table.values().filter_map(name).collect()
}

/// All batches that a node has put out since the last call, as if for a neighbour.
pub(super) fn written(logs: &mut Logs) -> Vec<SignedBatch> {
    logs.flush(Time::MAX);
    std::iter::from_fn(|| logs.poll_action()).for_each(drop);
    logs.tail(&logs.me.clone(), usize::MAX)
}

type Shadow = BTreeMap<PeerId, Table>;

pub(super) struct Net {
    pub(super) nodes: Vec<Logs>,
    pub(super) ids: Vec<PeerId>,
    pub(super) now: Time,
    pub(super) loss_percent: u64,
    pub(super) sent: usize,
    pub(super) behind: Vec<(usize, u64)>,
    /// What nodes were told of what they had said before.
    pub(super) former: Vec<(usize, Vec<entry::Body>)>,
    shadows: Vec<Shadow>,
    links: BTreeSet<(usize, usize)>,
    flying: BTreeMap<(Time, u64), (usize, usize, Body)>,
    count: u64,
    rng: ChaCha12Rng,
}

impl Net {
    pub(super) fn new(count: usize, seed: u64) -> Self {
        let nodes: Vec<_> = (0..count).map(|number| logs(number, 1)).collect();
        Self {
            ids: nodes.iter().map(|node| node.me).collect(),
            nodes,
            now: Time::from_secs(1),
            loss_percent: 0,
            sent: 0,
            behind: Vec::new(),
            former: Vec::new(),
            shadows: vec![Shadow::new(); count],
            links: BTreeSet::new(),
            flying: BTreeMap::new(),
            count: 0,
            rng: ChaCha12Rng::seed_from_u64(seed),
        }
    }

    pub(super) fn full_mesh(count: usize, seed: u64) -> Self {
        let mut net = Self::new(count, seed);
        for a in 0..count {
            for b in a + 1..count {
                net.link(a, b);
            }
        }
        net
    }

    pub(super) fn chain(count: usize, seed: u64) -> Self {
        let mut net = Self::new(count, seed);
        for a in 1..count {
            net.link(a - 1, a);
        }
        net
    }

    pub(super) fn link(&mut self, a: usize, b: usize) {
        self.links.extend([(a, b), (b, a)]);
        for (me, peer) in [(a, b), (b, a)] {
            self.nodes[me].neighbour_up(self.ids[peer], self.now);
            self.drain(me);
        }
    }

    pub(super) fn cut(&mut self, a: usize, b: usize) {
        for (me, peer) in [(a, b), (b, a)] {
            if self.links.remove(&(me, peer)) {
                self.nodes[me].neighbour_down(&self.ids[peer]);
            }
        }
    }

    /// Starts a node again with nothing but its keys; its links come back with it.
    pub(super) fn restart(&mut self, node: usize, boot: u64) {
        self.start(node, logs(node, boot));
    }

    /// The same, but it asks first what it said before; it knows of starts up to `known`.
    pub(super) fn restart_asking(&mut self, node: usize, known: u64, boot: u64) {
        let mut fresh = logs(node, boot);
        fresh.resync(known, self.now);
        self.start(node, fresh);
    }

    fn start(&mut self, node: usize, fresh: Logs) {
        let peers: Vec<_> = self
            .links
            .iter()
            .filter(|(a, _)| *a == node)
            .map(|(_, b)| *b)
            .collect();
        for peer in &peers {
            self.cut(node, *peer);
        }
        self.nodes[node] = fresh;
        self.shadows[node].clear();
        for peer in peers {
            self.link(node, peer);
        }
    }

    pub(super) fn set(&mut self, node: usize, key: &str, body: Option<entry::Body>) {
        self.nodes[node]
            .set(key, body, self.now)
            .expect("can be announced");
    }

    pub(super) fn add_names(&mut self, node: usize, names: impl IntoIterator<Item = String>) {
        for text in names {
            self.set(node, &text, name(&text));
        }
    }

    pub(super) fn run(&mut self, duration: Duration) {
        self.run_checked(duration, |_| {});
    }

    /// Runs, and has `check` look after every single event.
    pub(super) fn run_checked(&mut self, duration: Duration, mut check: impl FnMut(&Self)) {
        let end = self.now + duration;
        loop {
            let timeouts = self.nodes.iter().map(Logs::poll_timeout).enumerate();
            let timer = timeouts.filter_map(|(node, at)| Some((at?, node))).min();
            let arrival = self.flying.first_key_value().map(|((at, _), _)| *at);
            let next = timer.map(|(at, _)| at).into_iter().chain(arrival).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            match timer.filter(|(at, _)| *at == next) {
                Some((_, node)) => {
                    self.nodes[node].handle_timeout(self.now);
                    self.drain(node);
                }
                None => self.arrive(),
            }
            check(self);
        }
        self.now = end;
        self.compare_shadows();
    }

    /// Runs nodes that held something before they joined this net.
    pub(super) fn run_unshadowed(&mut self, duration: Duration) {
        self.shadows = self
            .nodes
            .iter()
            .map(|node| {
                node.origins()
                    .map(|origin| (origin, node.table(&origin).clone()))
                    .collect()
            })
            .collect();
        self.run(duration);
    }

    /// Hands a message to a node as if a peer had sent it.
    pub(super) fn inject(&mut self, from: PeerId, to: usize, body: Body) {
        let (node, now) = (&mut self.nodes[to], self.now);
        if let Body::Delta(delta) = body {
            node.handle_delta(from, delta, now);
        } else if let Body::Digest(digest) = body {
            node.handle_digest(from, digest, now);
        } else if let Body::Summary(summary) = body {
            node.handle_summary(from, &summary, now);
        } else if let Body::Pull(pull) = body {
            node.handle_pull(from, pull, now);
        } else {
            panic!("not gossip: {body:?}");
        }
        self.drain(to);
    }

    /// What a key of a node's own log is set to, changes not yet written included.
    pub(super) fn own(&self, node: usize, key: &str) -> Option<&entry::Body> {
        let logs = &self.nodes[node];
        logs.own.body(key, logs.table(&self.ids[node]))
    }

    pub(super) fn table(&self, node: usize, of: usize) -> &Table {
        self.nodes[node].table(&self.ids[of])
    }

    #[track_caller]
    pub(super) fn assert_converged(&self) {
        for of in 0..self.nodes.len() {
            for node in 0..self.nodes.len() {
                assert!(
                    self.table(node, of) == self.table(of, of),
                    "node {node} sees {} names of {of}, which has {}",
                    names(self.table(node, of)).len(),
                    names(self.table(of, of)).len()
                );
            }
        }
    }

    fn arrive(&mut self) {
        let Some((_, (from, to, body))) = self.flying.pop_first() else {
            return;
        };
        if self.links.contains(&(from, to)) {
            self.inject(self.ids[from], to, body);
        }
    }

    fn drain(&mut self, node: usize) {
        while let Some(action) = self.nodes[node].poll_action() {
            match action {
                GossipAction::Send { to, body } => self.transmit(node, to, body),
                GossipAction::Started { .. } => {}
                GossipAction::Changed {
                    origin,
                    slot,
                    old,
                    new,
                } => {
                    let table = self.shadows[node].entry(origin).or_default();
                    let held = match new {
                        Some(body) => table.insert(slot, body),
                        None => table.remove(&slot),
                    };
                    assert_eq!(held, old, "a change follows from what was told before");
                }
                GossipAction::BootBehind { seen, boot } => {
                    assert!(boot > seen);
                    self.behind.push((node, seen));
                }
                GossipAction::Resyncing => {}
                GossipAction::Former(bodies) => {
                    self.former.push((node, bodies));
                    self.nodes[node].resume(self.now);
                }
            }
        }
    }

    fn transmit(&mut self, from: usize, to: PeerId, body: Body) {
        let to = self
            .ids
            .iter()
            .position(|id| *id == to)
            .expect("a known peer");
        let bytes = ControlMessage { body: Some(body) }.encode_to_vec();
        assert!(bytes.len() <= 1_160, "{} bytes are too long", bytes.len());
        let body = decode_control(&bytes)
            .expect("well-formed")
            .body
            .expect("known");
        self.sent += 1;
        if self.rng.next_u64() % 100 < self.loss_percent {
            return;
        }
        let delay = Duration::from_micros(1_000 + self.rng.next_u64() % 20_000);
        self.count += 1;
        self.flying
            .insert((self.now + delay, self.count), (from, to, body));
    }

    fn compare_shadows(&self) {
        for (node, shadow) in self.nodes.iter().zip(&self.shadows) {
            for (origin, table) in shadow {
                assert_eq!(table, node.table(origin), "changes and table tell the same");
            }
        }
    }
}
