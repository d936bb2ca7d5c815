//! The control loop: the one task that owns the node.
//!
//! Everyone else sends it a closure ([`Control::call`]); the receive thread
//! sends datagrams. After each input the node's outputs are drained.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};
use weave_node::forward::Fib;
use weave_node::ipam::IpamError;
use weave_node::names::NameTable;
use weave_node::{About, Answer, Inquiry, InquiryError, Node, PersistToken};
use weave_node::{Sink, Transmit, Writes, drain};
use weave_sys::udp::Underlay;
use weave_wire::{Cidr, PeerId, Time};

use super::clock::Clock;
use super::data::{FromData, Handshake, Incoming, Shared, Wanted};
use super::inquiries;
use super::resolve;
use super::store::Store;
use crate::api::{ApiError, ApiErrorKind};

/// Messages of members handled in a row, before commands and timers have their turn.
const MEMBERS_BATCH: usize = 128;
/// The same of handshakes, which cost more: then messages of members have their turn, too.
const HANDSHAKES_BATCH: usize = 16;

/// What must be stored and could not be is tried again after this long.
const PERSIST_AGAIN: Duration = Duration::from_secs(1);

type Command = Box<dyn FnOnce(&mut Shell, Time) + Send>;

/// Sends work to the control loop.
#[derive(Clone)]
pub(crate) struct Control {
    commands: mpsc::UnboundedSender<Command>,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

/// The control loop has ended: the router is going down.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the router is shutting down")]
pub(crate) struct Stopped;

impl From<Stopped> for ApiError {
    fn from(stopped: Stopped) -> Self {
        Self::new(ApiErrorKind::Unavailable, stopped.to_string())
    }
}

impl Control {
    /// Runs `work` on the control loop and gives its result.
    ///
    /// # Errors
    /// When the router is going down.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Node, Time) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let (sender, receiver) = oneshot::channel();
        self.submit(move |shell, now| {
            let _ = sender.send(work(&mut shell.node, now));
        });
        receiver.await.map_err(|_| Stopped)
    }

    /// Runs `work` on the control loop, some time soon.
    pub(crate) fn post(&self, work: impl FnOnce(&mut Node, Time) + Send + 'static) {
        self.submit(move |shell, now| work(&mut shell.node, now));
    }

    /// An address of `subnet`, durably ours: the wanted one, or any.
    ///
    /// # Errors
    /// Why there is none, in words for people; within five seconds.
    pub(crate) async fn allocate(
        &self,
        owner: String,
        subnet: Cidr,
        wanted: Option<Ipv4Addr>,
    ) -> Result<IpAddr, String> {
        let (sender, receiver) = oneshot::channel();
        self.submit(move |shell, now| {
            let ticket = shell.outputs.ticket(sender);
            shell.node.allocate(ticket, &owner, subnet, wanted, now);
        });
        match receiver.await {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(_) => Err(Stopped.to_string()),
        }
    }

    /// Asks a peer how it is, and how a station of its own is; its answer comes by what is
    /// returned, if it comes.
    ///
    /// # Errors
    /// When the peer cannot be asked, or the router is going down.
    pub(crate) async fn inquire(
        &self,
        peer: PeerId,
        about: About,
    ) -> Result<Result<oneshot::Receiver<Answer>, InquiryError>, Stopped> {
        let (sender, receiver) = oneshot::channel();
        self.submit(move |shell, now| {
            let (answered, answer) = oneshot::channel();
            let asked = shell.node.inquire(peer, about, now).map(|ticket| {
                shell.outputs.asked.retain(|_, asker| !asker.is_closed());
                shell.outputs.asked.insert(ticket, answered);
                answer
            });
            let _ = sender.send(asked);
        });
        receiver.await.map_err(|_| Stopped)
    }

    fn submit(&self, command: impl FnOnce(&mut Shell, Time) + Send + 'static) {
        // a closed channel drops the command, and with it whoever waits for an answer
        let _ = self.commands.send(Box::new(command));
    }
}

/// The node and where its outputs go.
pub(crate) struct Shell {
    node: Node,
    outputs: Outputs,
    clock: Clock,
    commands: mpsc::UnboundedReceiver<Command>,
    incoming: FromData,
}

impl std::fmt::Debug for Shell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shell")
            .field("node", &self.node.id())
            .finish_non_exhaustive()
    }
}

/// Where questions of peers come from.
pub(crate) type Inquiries = mpsc::Receiver<Inquiry>;

/// Where names are read from, by the DNS server.
pub(crate) type SharedNames = Arc<ArcSwap<NameTable>>;

impl Shell {
    /// A control loop around `node`, the handle to send it work, and what it hands out.
    pub(crate) fn new(
        node: Node,
        clock: Clock,
        store: Store,
        underlay: Underlay,
        shared: Arc<Shared>,
        incoming: FromData,
        port: u16,
    ) -> (Self, Control, SharedNames, Inquiries) {
        let (sender, commands) = mpsc::unbounded_channel();
        let control = Control { commands: sender };
        let (inquire, inquiries) = mpsc::channel(inquiries::WAITING);
        let names: SharedNames = Arc::default();
        let outputs = Outputs {
            store,
            underlay,
            shared,
            names: Arc::clone(&names),
            waiting: HashMap::new(),
            next_ticket: 0,
            inquiries: inquire,
            asked: HashMap::new(),
            control: control.clone(),
            port,
        };
        (
            Self {
                node,
                outputs,
                clock,
                commands,
                incoming,
            },
            control,
            names,
            inquiries,
        )
    }

    /// Runs until `stop` completes; then says goodbye to all peers.
    pub(crate) async fn run(mut self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        loop {
            let now = self.clock.now();
            drain(&mut self.node, now, &mut self.outputs);
            let due = self.node.poll_timeout();
            let wait = async {
                match due {
                    // the runtime looks at its own timers only when there is nothing else to do
                    Some(due) if due <= now => {}
                    Some(due) => tokio::time::sleep_until(self.clock.instant(due).into()).await,
                    None => std::future::pending().await,
                }
            };
            // what strangers can send comes last
            tokio::select! {
                biased;
                Some(command) = self.commands.recv() => {
                    let now = self.clock.now();
                    command(&mut self, now);
                }
                () = &mut stop => break,
                () = wait => self.node.handle_timeout(self.clock.now()),
                Some(first) = self.incoming.members.recv() => self.handle_members(first),
                Some(first) = self.incoming.handshakes.recv() => {
                    self.handle_handshakes(first);
                    tokio::task::yield_now().await;
                }
            }
        }
        self.node.goodbye(self.clock.now());
        drain(&mut self.node, self.clock.now(), &mut self.outputs);
    }

    fn handle_members(&mut self, first: Incoming) {
        let (node, now) = (&mut self.node, self.clock.now());
        let queue = &mut self.incoming.members;
        for_each_waiting(first, queue, MEMBERS_BATCH, |incoming| match incoming {
            Incoming::Control(receiver, from, plaintext) => {
                node.handle_control(receiver, from, &plaintext, now);
            }
            Incoming::Learned(segment, mac, peer) => node.handle_learned(segment, mac, peer, now),
            Incoming::Wanted(Wanted::Peer(peer)) => node.handle_wanted(peer, now),
            Incoming::Wanted(Wanted::Segment(segment)) => node.handle_segment_wanted(segment, now),
        });
    }

    fn handle_handshakes(&mut self, first: Handshake) {
        let (node, now) = (&mut self.node, self.clock.now());
        let queue = &mut self.incoming.handshakes;
        for_each_waiting(first, queue, HANDSHAKES_BATCH, |(from, datagram)| {
            node.handle_handshake(from, &datagram, now);
        });
    }
}

/// Takes what was received and what waits behind it, `most` in all; the others stay.
fn for_each_waiting<T>(
    first: T,
    queue: &mut mpsc::Receiver<T>,
    most: usize,
    mut take: impl FnMut(T),
) {
    take(first);
    for _ in 1..most {
        let Ok(next) = queue.try_recv() else { return };
        take(next);
    }
}

/// The daemon's [`Sink`].
struct Outputs {
    store: Store,
    underlay: Underlay,
    shared: Arc<Shared>,
    names: SharedNames,
    waiting: HashMap<u64, oneshot::Sender<Result<IpAddr, IpamError>>>,
    next_ticket: u64,
    /// What peers ask.
    inquiries: mpsc::Sender<Inquiry>,
    /// Who waits for the answer of a peer.
    asked: HashMap<u64, oneshot::Sender<Answer>>,
    control: Control,
    port: u16,
}

impl Outputs {
    fn ticket(&mut self, sender: oneshot::Sender<Result<IpAddr, IpamError>>) -> u64 {
        self.next_ticket += 1;
        self.waiting.insert(self.next_ticket, sender);
        self.next_ticket
    }
}

impl Outputs {
    /// What the node cannot do without is tried until the disk takes it.
    fn persist_later(&self, token: PersistToken, writes: Writes) {
        let control = self.control.clone();
        tokio::spawn(async move {
            tokio::time::sleep(PERSIST_AGAIN).await;
            control.submit(move |shell, _| shell.outputs.persist(token, writes));
        });
    }
}

impl Sink for Outputs {
    fn transmit(&mut self, transmit: Transmit) {
        let Transmit {
            to,
            datagram,
            dont_fragment,
        } = transmit;
        let sent = if dont_fragment {
            self.underlay.send_unfragmented(to, &datagram)
        } else {
            self.underlay.send_to(to, &datagram)
        };
        if let Err(error) = sent {
            tracing::debug!(%to, %error, "cannot send");
        }
    }

    fn persist(&mut self, token: PersistToken, writes: Writes) {
        let control = self.control.clone();
        let again = token.is_boot().then(|| writes.clone());
        self.store.commit(writes, move |result| {
            control.submit(move |shell, now| match (result, again) {
                (Ok(()), _) => shell.node.handle_persisted(token, now),
                (Err(_), Some(writes)) => shell.outputs.persist_later(token, writes),
                (Err(why), None) => shell.node.handle_persist_failed(token, &why, now),
            });
        });
    }

    fn fib(&mut self, fib: Arc<Fib>) {
        if self.shared.fib.load().known != fib.known
            && let Err(error) = self.underlay.set_known(&fib.known)
        {
            tracing::warn!(%error, "cannot tell members from strangers");
        }
        self.shared.set_fib(fib);
    }

    fn names(&mut self, names: Arc<NameTable>) {
        self.names.store(names);
    }

    fn allocated(&mut self, ticket: u64, result: Result<IpAddr, IpamError>) {
        if let Some(sender) = self.waiting.remove(&ticket) {
            let _ = sender.send(result);
        }
    }

    fn resolve(&mut self, target: String) {
        let control = self.control.clone();
        let port = self.port;
        tokio::spawn(async move {
            let addresses = match resolve::resolve(&target, port).await {
                Ok(addresses) => addresses,
                Err(error) => {
                    tracing::warn!(target, %error, "cannot resolve the target");
                    Vec::new()
                }
            };
            control.post(move |node, now| node.set_target_addresses(&target, addresses, now));
        });
    }

    fn conflict(&mut self, message: String) {
        tracing::warn!(message, "address conflict");
    }

    fn inquired(&mut self, inquiry: Inquiry) {
        // with too many before it, or nobody to look yet, it stays without an answer
        let _ = self.inquiries.try_send(inquiry);
    }

    fn answered(&mut self, ticket: u64, answer: Answer) {
        if let Some(sender) = self.asked.remove(&ticket) {
            let _ = sender.send(answer);
        }
    }
}

/// How long the last datagrams have to leave, after the goodbye.
pub(crate) const LINGER: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_asks_a_loop_that_has_ended_is_told() {
        let (commands, ended) = mpsc::unbounded_channel();
        drop(ended);
        let control = Control { commands };
        let error = ApiError::from(control.call(|_, _| ()).await.unwrap_err());
        assert_eq!(error.message, "the router is shutting down");
    }

    #[tokio::test]
    async fn nothing_that_waits_is_lost_between_two_batches() {
        let (sender, mut queue) = mpsc::channel(300);
        for number in 0..300 {
            sender.try_send(number).expect("there is room");
        }
        drop(sender);
        let (mut taken, mut batches) = (Vec::new(), 0);
        while let Some(first) = queue.recv().await {
            let before = taken.len();
            for_each_waiting(first, &mut queue, 128, |number| taken.push(number));
            assert!(taken.len() - before <= 128);
            batches += 1;
        }
        assert_eq!(taken, Vec::from_iter(0..300));
        assert_eq!(batches, 3);
    }
}
