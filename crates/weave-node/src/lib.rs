//! The node: the one state machine that the daemon runs and the simulator simulates.
//!
//! Pure: no clock, no socket, no thread, no global randomness. Inputs are
//! `handle_*(…, now)`, outputs are polled.

#![forbid(unsafe_code)]

mod endpoints;
pub mod forward;
mod gossip;
pub mod ipam;
mod membership;
pub mod names;
#[cfg(feature = "seeded-bugs")]
pub mod seeded;
