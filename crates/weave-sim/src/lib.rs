//! The simulator: many real nodes, data path included, on one queue of events in virtual time.
//!
//! Owns the world around the nodes: a network that loses, delays, doubles and reorders, NATs, disks
//! that lose what they did not acknowledge, hosts that crash, containers that come and go; and
//! the oracles that know what must hold. Does not know how a node works inside.
//!
//! Invariant: a run is a function of its seed and options. Nothing here reads a clock or
//! thread-local randomness, and the hash over all events is the same each time.

#![forbid(unsafe_code)]

mod attack;
mod bandwidth;
mod bans;
mod bursts;
mod chance;
mod clock;
mod containers;
mod counters;
mod disk;
mod drive;
mod faults;
mod frames;
mod host;
mod invariants;
mod keys;
mod measured;
mod names;
mod nat;
mod network;
mod oracle;
mod paths;
mod pauses;
mod pings;
mod plan;
mod scale;
mod script;
mod trace;
mod verdict;
mod versions;
mod workload;
mod world;

pub use counters::Counters;
pub use measured::{Figure, Progress};
pub use names::{ManyNames, measure_names};
pub use nat::{NatFiltering, NatKind, NatMapping};
pub use plan::{BadOptions, Bursts, Options, Plan, Shape, peers_of};
pub use scale::{Scale, measure};
pub use script::simulate_bytes;

/// What a run came to.
#[derive(Debug)]
pub struct Report {
    /// Everything that the seed decided beforehand.
    pub plan: Plan,
    /// What must not have happened, in words; empty when all is well.
    pub violations: Vec<String>,
    /// The last events before the first of those, in words; empty when all is well.
    pub events: Vec<String>,
    /// How often each thing happened.
    pub counters: Counters,
    /// Hash over all events of the run.
    pub trace: [u8; 32],
}

impl Report {
    /// The trace hash as text, shortened.
    pub fn trace_name(&self) -> String {
        self.trace
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// Runs one simulation from start to end.
pub fn simulate(options: &Options) -> Report {
    world::World::new(options).run()
}
