//! Empties a node's outputs. The daemon and the simulator use this one drain,
//! so that both see outputs in the same order.

use std::net::IpAddr;
use std::sync::Arc;

use weave_wire::Time;

use crate::forward::Fib;
use crate::inquiries::{Answer, Inquiry};
use crate::ipam::IpamError;
use crate::names::NameTable;
use crate::node::{Event, PersistToken};
use crate::{Node, Transmit};

/// Writes to the durable store: a key with its value, or with none to remove it.
pub type Writes = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// Where a node's outputs go.
pub trait Sink {
    /// A datagram for the underlay.
    fn transmit(&mut self, transmit: Transmit);
    /// Writes to be made durable together; then [`Node::handle_persisted`] is called.
    fn persist(&mut self, token: PersistToken, writes: Writes);
    /// The forwarding table changed.
    fn fib(&mut self, fib: Arc<Fib>);
    /// The names changed.
    fn names(&mut self, names: Arc<NameTable>);
    /// The answer to [`Node::allocate`] with this ticket.
    fn allocated(&mut self, ticket: u64, result: Result<IpAddr, IpamError>);
    /// A target's addresses are wanted; [`Node::set_target_addresses`] takes them.
    fn resolve(&mut self, target: String);
    /// An own endpoint lost its MAC or an address to a peer with a higher claim.
    fn conflict(&mut self, message: String);
    /// A peer asks how this host is; [`Node::answer`] takes what was found. Nobody waits for long.
    fn inquired(&mut self, inquiry: Inquiry);
    /// The answer to [`Node::inquire`] with this ticket.
    fn answered(&mut self, ticket: u64, answer: Answer);
}

/// Hands every waiting output to `sink`. Called after each input.
pub fn drain(node: &mut Node, now: Time, sink: &mut impl Sink) {
    node.settle(now);
    // tables first: what is sent may be answered before the next drain
    while let Some(event) = node.poll_event() {
        match event {
            Event::Persist { token, writes } => sink.persist(token, writes),
            Event::Fib(fib) => sink.fib(fib),
            Event::Names(names) => sink.names(names),
            Event::Allocated { ticket, result } => sink.allocated(ticket, result),
            Event::Resolve { target } => sink.resolve(target),
            Event::Conflict { message } => sink.conflict(message),
            Event::Inquired(inquiry) => sink.inquired(inquiry),
            Event::Answered { ticket, answer } => sink.answered(ticket, answer),
        }
    }
    while let Some(transmit) = node.poll_transmit(now) {
        sink.transmit(transmit);
    }
}
