//! The node: the one state machine that the daemon runs and the simulator simulates.
//!
//! Pure: no clock, no socket, no thread, no global randomness. Inputs are
//! `handle_*(…, now)`, outputs are polled.

#![forbid(unsafe_code)]

mod bans;
mod clones;
mod config;
mod drain;
mod endpoints;
pub mod forward;
mod gossip;
mod inquiries;
pub mod ipam;
mod membership;
pub mod names;
mod next_format;
mod node;
mod pace;
mod post_quantum;
mod relays;
mod ring;
#[cfg(feature = "seeded-bugs")]
pub mod seeded;
mod session;

pub use bans::{Ban, BanProgress};
pub use clones::Clone as ClonedIdentity;
pub use config::{CONN_LIMIT, NodeConfig};
pub use drain::{Sink, Writes, drain};
pub use endpoints::{EndpointError, EndpointSpec};
pub use inquiries::{About, Answer, Finding, Inquiry, InquiryError, Outcome};
pub use node::{
    DamagedRecord, Node, NodeCounts, NodeStatus, PeerInfo, PersistToken, Station, Subnet,
    check_stored,
};
pub use post_quantum::PostQuantum;
pub use session::{
    ConnectionState, ConnectionStatus, GenerationStatus, Knock, Retry, Transmit, Trouble,
};
