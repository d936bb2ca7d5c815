//! A node with live sessions to two peers, and all that these said in the first minutes of a mesh.
//!
//! The mesh is run once. The node of each input is made anew and hears what led to the sessions,
//! without the peers, which is cheaper than to run them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng;
use weave_crypto::{HandshakeConfig, HelloContext, Identity, MAX_HELLO_LEN, initiate, sign_hello};
use weave_node::Subnet;
use weave_node::forward::Owner;
use weave_wire::proto::control_message::Body;
use weave_wire::proto::{Batch, ControlMessage, Delta, Entry, Hello, SignedBatch};
use weave_wire::{Cidr, Lane, ReceiverIndex, SegmentId, Time, decode_batch, decode_control};

use crate::input::Input;
use crate::mesh::{Disk, HOST, Host, Inbound, Mesh, NAME, SECOND, addr_of, config, range};

/// Most steps of one input.
const MAX_STEPS: usize = 24;
/// The IPv6 subnet of networks that have one.
const ULA: &str = "fd00:5::/64";
/// Of each kind of message, so many that the peers sent are kept.
const MOST_OF_A_KIND: usize = 4;
/// Due timers in a row that get nowhere.
const MOST_TIMERS: usize = 20_000;
/// A stranger that knows the password.
const STRANGER: u8 = 9;

thread_local! {
    static RECORDED: Arc<Recorded> = Arc::new(Recorded::new());
}

/// What a run of a mesh of three leaves for many inputs.
struct Recorded {
    /// All that led to the sessions of the first host.
    begin: Vec<(Time, Inbound)>,
    now: Time,
    /// Messages that the peers sent, then or later: under which index, from where, what.
    genuine: Vec<(ReceiverIndex, SocketAddr, Vec<u8>)>,
    /// Under which index, and from where, each peer sends.
    peers: [(ReceiverIndex, SocketAddr); 2],
    /// Who those peers are, the node itself, and a stranger.
    identities: [Identity; 4],
    /// The last batch of the log of each, as far as the node has heard.
    logs: [Batch; 4],
    /// Batches that peers sent, then or later.
    batches: Vec<SignedBatch>,
}

impl Recorded {
    fn new() -> Self {
        let mut mesh = Mesh::connected();
        mesh.run(3 * SECOND);
        let begun = mesh.hosts[0].heard.len();
        let now = mesh.now;
        live(&mut mesh);
        let mut heard = mesh.hosts[0].heard.clone();
        let peers = [1, 2].map(|peer| last_from(&heard[..begun], addr_of(peer)));
        let genuine = of_each_kind(&heard);
        let batches = batches_of(&heard);
        heard.truncate(begun);
        let identity = |host: usize| {
            let stored = &mesh.hosts[host].stored[&b"identity"[..]];
            Identity::from_seed(stored[..].try_into().expect("32 bytes"))
        };
        let stranger = Identity::from_seed(&[STRANGER; 32]);
        let identities = [identity(1), identity(2), identity(0), stranger];
        let known = batches_of(&heard);
        let logs = std::array::from_fn(|author| last_of(&known, &identities[author]));
        Self {
            begin: heard,
            now,
            genuine,
            peers,
            identities,
            logs,
            batches,
        }
    }
}

/// Peers announce, ask, take back and leave.
fn live(mesh: &mut Mesh) {
    let cidr: Cidr = "10.40.0.0/16".parse().expect("a subnet");
    let segment = SegmentId::of_subnet(cidr);
    for host in [1, 2] {
        mesh.with(host, |node, now| {
            node.set_names("c0ffee", &[(NAME.into(), HOST)], now);
            node.add_subnet(
                Subnet {
                    cidr,
                    segment,
                    strict: host == 2,
                    ipv6: ULA.parse().ok().filter(|_| host == 1),
                },
                now,
            );
            node.allocate(1, "c0ffee", range(), None, now);
        });
        mesh.run(2 * SECOND);
    }
    mesh.set_cut(1, 2, true);
    mesh.run(30 * SECOND);
    mesh.set_cut(1, 2, false);
    // keys change meanwhile
    mesh.run(150 * SECOND);
    mesh.with(2, |node, now| node.goodbye(now));
    mesh.run(SECOND);
}

fn last_from(heard: &[(Time, Inbound)], peer: SocketAddr) -> (ReceiverIndex, SocketAddr) {
    let found = heard.iter().rev().find_map(|(_, inbound)| match inbound {
        Inbound::Control(receiver, from, _) if *from == peer => Some((*receiver, *from)),
        Inbound::Control(..) | Inbound::Handshake(..) | Inbound::Timeout => None,
    });
    found.expect("it said something")
}

fn of_each_kind(heard: &[(Time, Inbound)]) -> Vec<(ReceiverIndex, SocketAddr, Vec<u8>)> {
    let mut counts = [0; 256];
    let mut kept = Vec::new();
    for (_, inbound) in heard {
        let Inbound::Control(receiver, from, plaintext) = inbound else {
            continue;
        };
        // the number of the field, the length of which may take another byte
        let kind = usize::from(plaintext.first().copied().unwrap_or_default());
        if counts[kind] < MOST_OF_A_KIND {
            counts[kind] += 1;
            kept.push((*receiver, *from, plaintext.clone()));
        }
    }
    kept
}

fn batches_of(heard: &[(Time, Inbound)]) -> Vec<SignedBatch> {
    let mut batches = Vec::new();
    for (_, inbound) in heard {
        let Inbound::Control(_, _, plaintext) = inbound else {
            continue;
        };
        let message = decode_control(plaintext).expect("a peer sent it");
        if let Some(Body::Delta(Delta { batches: some })) = message.body {
            batches.extend(some);
        }
    }
    batches
}

/// The last batch of an origin; of an unknown one, what its first would come after.
fn last_of(known: &[SignedBatch], origin: &Identity) -> Batch {
    let origin = origin.peer_id().0.to_vec();
    let batches = known.iter().rev();
    let mut batches = batches.filter_map(|signed| decode_batch(&signed.payload).ok());
    let last = batches.find(|batch| batch.origin == origin);
    last.unwrap_or_else(|| Batch {
        origin,
        boot: 1,
        snapshot: 0,
        first_seq: 1,
        snapshot_len: 1,
        entries: Vec::new(),
    })
}

/// The node of one input.
pub(crate) struct Scene {
    recorded: Arc<Recorded>,
    host: Host,
    now: Time,
    logs: [Batch; 4],
    tickets: u64,
}

impl Scene {
    /// Plays what an input spells, and the time after it. A step is a byte that says what happens,
    /// a second one for details, then bytes with their length before them; `act` does one.
    pub(crate) fn play(data: &[u8], mut act: impl FnMut(&mut Self, u8, u8, &[u8])) {
        let (mut scene, mut input) = (Self::new(), Input::new(data));
        for _ in 0..MAX_STEPS {
            let Some(what) = input.next() else { break };
            let detail = input.byte();
            act(&mut scene, what, detail, input.bytes());
        }
        scene.finish();
    }

    fn new() -> Self {
        let recorded = RECORDED.with(Arc::clone);
        // when a mesh begins
        let begin = Time::from_secs(1);
        let mut host = Host::with_config(config(0, None), 1, Disk::Works, BTreeMap::new(), begin);
        host.settle(begin);
        for (at, inbound) in &recorded.begin {
            host.take(inbound.clone(), *at);
        }
        host.out.datagrams.clear();
        host.heard.clear();
        let sessions = host.out.fib.sessions.len();
        assert_eq!(sessions, 2, "the scene has its sessions");
        Self {
            now: recorded.now,
            logs: recorded.logs.clone(),
            recorded,
            host,
            tickets: 0,
        }
    }

    /// A message of a peer arrives, from the first or second.
    pub(crate) fn say(&mut self, peer: u8, plaintext: Vec<u8>) {
        let (receiver, from) = self.recorded.peers[usize::from(peer % 2)];
        self.take(Inbound::Control(receiver, from, plaintext));
    }

    /// A message that a peer once sent, with some changes.
    pub(crate) fn say_again(&mut self, number: u8, changes: &[u8]) {
        let genuine = &self.recorded.genuine;
        let (receiver, from, plaintext) = &genuine[usize::from(number) % genuine.len()];
        let changed = crate::input::changed(plaintext, changes);
        self.take(Inbound::Control(*receiver, *from, changed));
    }

    /// A batch that a peer once sent.
    pub(crate) fn batch(&self, number: u8) -> SignedBatch {
        let batches = &self.recorded.batches;
        batches[usize::from(number) % batches.len()].clone()
    }

    /// Signs a batch as one of the peers, the node itself, or a stranger, and lets the first peer
    /// pass it on.
    pub(crate) fn publish(&mut self, author: u8, payload: Vec<u8>) {
        let author = &self.recorded.identities[usize::from(author % 4)];
        let signature = author.sign("weave/v1 batch", &payload).to_vec();
        let batches = vec![SignedBatch { payload, signature }];
        self.say_body(Body::Delta(Delta { batches }));
    }

    /// Goes on with the log of such an author, or begins its next.
    pub(crate) fn write(&mut self, author: u8, is_anew: bool, entries: Vec<Entry>) {
        let log = &mut self.logs[usize::from(author % 4)];
        let before = u64::try_from(log.entries.len()).unwrap_or_default();
        if is_anew {
            log.boot += 1;
            log.first_seq = 1;
            log.snapshot_len = u64::try_from(entries.len()).unwrap_or_default();
        } else {
            log.first_seq += before;
        }
        log.entries = entries;
        let payload = log.encode_to_vec();
        self.publish(author, payload);
    }

    pub(crate) fn say_body(&mut self, body: Body) {
        let message = ControlMessage { body: Some(body) };
        self.say(0, message.encode_to_vec());
    }

    /// A stranger that knows the password connects, with these bytes as its hello: as they are, or
    /// signed as hellos are.
    pub(crate) fn greet(&mut self, is_signed: bool, bytes: &[u8]) {
        let from = addr_of(STRANGER);
        let identity = Arc::new(Identity::from_seed(&[STRANGER; 32]));
        let node = config(0, None);
        let config = HandshakeConfig {
            identity: Arc::clone(&identity),
            passwords: node.passwords,
            mesh_name: node.mesh_name,
            prefer_aes: false,
            versions: node.versions,
        };
        let mut rng = ChaCha12Rng::from_seed([STRANGER; 32]);
        let (expects, init) = initiate(&config, 5, None, &mut rng);
        self.host.out.datagrams.clear();
        self.take(Inbound::Handshake(from, init));
        let mut answers = self.host.out.datagrams.drain(..);
        let Some((_, reply)) = answers.find(|(to, _)| *to == from) else {
            return;
        };
        drop(answers);
        let greeting = |context: &HelloContext| {
            let Ok(mut hello) = Hello::decode(bytes) else {
                return bytes.to_vec();
            };
            if is_signed {
                hello.peer = identity.peer_id().0.to_vec();
                hello.signature = sign_hello(&identity, context).to_vec();
            }
            let mut hello = hello.encode_to_vec();
            hello.truncate(MAX_HELLO_LEN);
            hello
        };
        if let Ok((_, finish)) = expects.handle_reply(&config, &reply, greeting) {
            self.take(Inbound::Handshake(from, finish));
        }
    }

    /// A handshake datagram from anywhere.
    pub(crate) fn knock(&mut self, from: u8, datagram: &[u8]) {
        self.take(Inbound::Handshake(addr_of(from % 4), datagram.to_vec()));
    }

    /// Somebody types something at the host of the node.
    pub(crate) fn command(&mut self, what: u8, detail: u8) {
        let (cidr, now) = (range(), self.now);
        let peer = self.recorded.identities[usize::from(detail % 2)].peer_id();
        let segment = SegmentId::of_subnet(cidr);
        let node = &mut self.host.node;
        match what % 8 {
            0 => {
                self.tickets += 1;
                node.allocate(self.tickets, "beef", cidr, None, now);
            }
            1 => node.set_names("beef", &[(NAME.into(), HOST)], now),
            2 => node.set_names("beef", &[], now),
            3 => {
                let strict = detail % 2 == 1;
                node.add_subnet(
                    Subnet {
                        cidr,
                        segment,
                        strict,
                        ipv6: ULA.parse().ok().filter(|_| detail > 127),
                    },
                    now,
                );
            }
            4 => node.remove_subnet(cidr, now),
            5 => node.connect(&addr_of(detail % 4).to_string(), now),
            6 => node.ban(peer, "fuzzed", now),
            _ => {
                self.host.disk = match detail % 3 {
                    0 => Disk::Works,
                    1 => Disk::Stalls,
                    _ => Disk::Refuses,
                }
            }
        }
        self.host.settle(now);
    }

    /// Time passes, and what is due is done.
    pub(crate) fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..MOST_TIMERS {
            let due = self.host.node.poll_timeout();
            let Some(due) = due.filter(|due| *due <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(due);
            self.take(Inbound::Timeout);
        }
        panic!(
            "timers that get nowhere: {:?}",
            self.host.node.poll_timeout()
        );
    }

    fn take(&mut self, inbound: Inbound) {
        self.host.take(inbound, self.now);
        self.assert_sound();
    }

    /// The tables that the data path is given hold together.
    fn assert_sound(&self) {
        let fib = &self.host.out.fib;
        let sessions = fib.sessions.len();
        let behind = fib.macs.values().filter_map(|owner| match owner {
            Owner::Remote { session, .. } => *session,
            Owner::Local => None,
        });
        let mut behind = behind.chain(fib.learned.values().copied());
        assert!(
            behind.all(|session| session < sessions),
            "behind no session"
        );
        let members = fib.segments.values().flat_map(|segment| &segment.members);
        assert!(members.copied().all(|member| member < sessions));
        let lanes = fib.sessions.iter().map(|session| &session.data);
        assert!(
            lanes
                .map(|lane| lane.receiver())
                .all(|index| { index.lane() == Some(Lane::Data) })
        );
    }

    /// Ten seconds later the node still is in order, and can say so.
    fn finish(mut self) {
        self.host.disk = Disk::Works;
        self.host.settle(self.now);
        self.wait(10 * SECOND);
        let status = self.host.node.status(self.now);
        assert_eq!(status.peer, self.recorded.identities[2].peer_id());
        assert!(status.peers.iter().any(|peer| peer.peer == status.peer));
    }
}
