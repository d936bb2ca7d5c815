//! One host: its router while it runs, its disk and its containers, which outlive the router.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use weave_node::forward::{DropCounters, Egress, Fib, Forwarder, Ingress, Receiver};
use weave_node::ipam::IpamError;
use weave_node::names::NameTable;
use weave_node::{Answer, Inquiry, Node, PersistToken, Sink, Transmit, Writes};
use weave_wire::offload::{Checksum, VnetHeader};
use weave_wire::{Mac, PeerId, ReceiverIndex, SegmentId, Time, Versions};

use crate::clock::Clock;
use crate::containers::Container;
use crate::disk::Disk;
use crate::pauses::Pause;

/// One host.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) router: Option<Router>,
    /// The router does nothing.
    pub(crate) pause: Option<Pause>,
    /// Counts the starts of the router.
    pub(crate) life: u64,
    /// What its clock counts in a million of true time.
    pub(crate) clock_rate: u64,
    /// Unix milliseconds that it has at the start of the run.
    pub(crate) wall_ms: u64,
    /// Protocol versions that its program speaks.
    pub(crate) versions: Versions,
    pub(crate) disk: Disk,
    pub(crate) containers: BTreeMap<u64, Container>,
    /// The disk held something of the newer version when its program was set back.
    pub(crate) has_newer_record: bool,
    /// Its disk came back older than it was, and the router has not heard all that it forgot.
    pub(crate) is_set_back: bool,
    /// The same has happened to it at any time.
    pub(crate) was_set_back: bool,
    /// Never comes back.
    pub(crate) is_dead: bool,
}

/// A router that runs: the node, and the data path as its threads have it.
#[derive(Debug)]
pub(crate) struct Router {
    pub(crate) node: Node,
    pub(crate) clock: Clock,
    pub(crate) fib: Arc<Fib>,
    pub(crate) names: Arc<NameTable>,
    pub(crate) forwarder: Forwarder,
    pub(crate) receiver: Receiver,
    pub(crate) drops: DropCounters,
    /// When its timer is set to, in true time.
    pub(crate) timer: Option<Time>,
    /// Its containers have been announced to it.
    pub(crate) is_ready: bool,
    /// Frames that wait for a session.
    pub(crate) parked: Vec<(SegmentId, Vec<u8>)>,
}

impl Host {
    pub(crate) fn new(versions: Versions, (clock_rate, wall_ms): (u64, u64)) -> Self {
        Self {
            router: None,
            pause: None,
            life: 0,
            clock_rate,
            wall_ms,
            versions,
            disk: Disk::default(),
            containers: BTreeMap::new(),
            has_newer_record: false,
            is_set_back: false,
            was_set_back: false,
            is_dead: false,
        }
    }

    /// The identity of the router, while it runs.
    pub(crate) fn id(&self) -> Option<PeerId> {
        self.router.as_ref().map(|router| router.node.id())
    }

    /// Whether its router serves containers.
    pub(crate) fn is_ready(&self) -> bool {
        self.pause.is_none() && self.router.as_ref().is_some_and(|router| router.is_ready)
    }
}

impl Router {
    pub(crate) fn new(node: Node, clock: Clock) -> Self {
        let drops = DropCounters::new();
        Self {
            fib: node.fib(),
            node,
            clock,
            names: Arc::default(),
            forwarder: Forwarder::new(drops.clone()),
            receiver: Receiver::new(drops.clone()),
            drops,
            timer: None,
            is_ready: false,
            parked: Vec::new(),
        }
    }
}

/// Something that a node put out.
#[derive(Debug)]
pub(crate) enum Output {
    Transmit(Transmit),
    Persist(PersistToken, Writes),
    Allocated(u64, Result<IpAddr, IpamError>),
    Resolve(String),
    /// An endpoint lost an address to another peer's claim. The oracle sees to it that no two
    /// containers have the same, so the claim is an old one, and its end is under way.
    Conflict,
}

/// Takes what a node puts out; tables go straight to the router's threads.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) outputs: Vec<Output>,
    pub(crate) fib: Option<Arc<Fib>>,
    pub(crate) names: Option<Arc<NameTable>>,
}

impl Sink for Outbox {
    fn transmit(&mut self, transmit: Transmit) {
        self.outputs.push(Output::Transmit(transmit));
    }

    fn persist(&mut self, token: PersistToken, writes: Writes) {
        self.outputs.push(Output::Persist(token, writes));
    }

    fn fib(&mut self, fib: Arc<Fib>) {
        self.fib = Some(fib);
    }

    fn names(&mut self, names: Arc<NameTable>) {
        self.names = Some(names);
    }

    fn allocated(&mut self, ticket: u64, result: Result<IpAddr, IpamError>) {
        self.outputs.push(Output::Allocated(ticket, result));
    }

    fn resolve(&mut self, target: String) {
        self.outputs.push(Output::Resolve(target));
    }

    fn conflict(&mut self, _message: String) {
        self.outputs.push(Output::Conflict);
    }

    fn inquired(&mut self, _inquiry: Inquiry) {}

    fn answered(&mut self, _ticket: u64, _answer: Answer) {}
}

/// Something that the receiving half took out of a datagram.
#[derive(Debug)]
pub(crate) enum Inbound {
    Frame(Vec<u8>),
    Control(ReceiverIndex, SocketAddr, Vec<u8>),
    Handshake(SocketAddr, Vec<u8>),
    Learned(SegmentId, Mac, PeerId),
    /// Another peer's datagram, which goes on.
    Relayed(SocketAddr, Vec<u8>),
}

/// Takes what the receiving half puts out.
#[derive(Debug, Default)]
pub(crate) struct Inbox(pub(crate) Vec<Inbound>);

impl Ingress<'_> for Inbox {
    fn deliver(&mut self, _segment: SegmentId, frame: &mut [u8], _checksum: Checksum) {
        self.0.push(Inbound::Frame(frame.to_vec()));
    }

    fn relay(&mut self, to: SocketAddr, len: usize) -> Option<&mut [u8]> {
        self.0.push(Inbound::Relayed(to, vec![0; len]));
        match self.0.last_mut() {
            Some(Inbound::Relayed(_, datagram)) => Some(datagram),
            Some(_) | None => None,
        }
    }

    fn control(&mut self, receiver: ReceiverIndex, from: SocketAddr, plaintext: &[u8]) {
        self.0
            .push(Inbound::Control(receiver, from, plaintext.to_vec()));
    }

    fn handshake(&mut self, from: SocketAddr, datagram: &[u8]) {
        self.0.push(Inbound::Handshake(from, datagram.to_vec()));
    }

    fn learned(&mut self, segment: SegmentId, mac: Mac, peer: PeerId) {
        self.0.push(Inbound::Learned(segment, mac, peer));
    }
}

/// Takes what the sending half makes of a frame.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    pub(crate) datagrams: Vec<(SocketAddr, Vec<u8>)>,
    pub(crate) replies: Vec<Vec<u8>>,
    pub(crate) parked: Vec<Vec<u8>>,
    pub(crate) wanted: Vec<PeerId>,
    pub(crate) wanted_segments: Vec<SegmentId>,
}

impl Egress for Outgoing {
    fn datagram(&mut self, to: SocketAddr, len: usize) -> Option<&mut [u8]> {
        self.datagrams.push((to, vec![0; len]));
        self.datagrams
            .last_mut()
            .map(|(_, datagram)| datagram.as_mut_slice())
    }

    fn reply(&mut self, _segment: SegmentId, frame: &[u8]) {
        self.replies.push(frame.to_vec());
    }

    fn unreached(&mut self, peer: PeerId, _header: VnetHeader, frame: &[u8]) -> bool {
        self.wanted.push(peer);
        self.parked.push(frame.to_vec());
        true
    }

    fn not_all_reached(&mut self, segment: SegmentId) {
        self.wanted_segments.push(segment);
    }
}
