//! What a fuzzer throws at the parts of weave that strangers and peers reach.
//!
//! A target is a function of bytes that must not panic, whatever they are; beside that each checks
//! what must hold. A test replays the inputs under `tests/corpus` on every run, `cargo xtask fuzz`
//! looks for new ones with libFuzzer (`main.rs`). The worlds that targets play in are those of the
//! tests of the crates in question.
//!
//! Invariant: a target keeps nothing from one input to the next that changes what it does, so that
//! an input alone reproduces a finding.

#![forbid(unsafe_code)]

mod control;
mod datagram;
mod frame;
mod gossip;
mod handshake;
mod input;
mod message;
mod scene;
mod sim;

#[path = "../../weave-node/tests/forward/bench.rs"]
#[allow(dead_code, reason = "tests use more of it")]
mod bench;
#[path = "../../weave-node/tests/three_nodes/mesh.rs"]
#[allow(dead_code, reason = "tests use more of it")]
mod mesh;
#[path = "../../weave-crypto/tests/hostile_datagrams/victims.rs"]
#[allow(dead_code, reason = "tests use more of it")]
mod victims;

/// One thing to fuzz.
#[derive(Debug)]
pub struct Target {
    /// Its name, and that of its directory under `tests/corpus`.
    pub name: &'static str,
    /// Does with the bytes what is to be fuzzed. Panics on a finding.
    pub run: fn(&[u8]),
    /// Longest input worth trying, in bytes.
    pub max_len: usize,
    /// As many files are in its corpus at most: each is replayed on every run of the tests.
    pub most_files: usize,
    /// Corpora of other crates whose files are inputs of this target, too; below the top
    /// directory.
    pub others: &'static [&'static str],
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target {
        name: "control",
        run: control::run,
        max_len: 4096,
        most_files: 200,
        others: &[],
    },
    Target {
        name: "datagram",
        run: datagram::run,
        max_len: 4096,
        most_files: 200,
        others: &[],
    },
    Target {
        name: "frame",
        run: frame::run,
        max_len: 8192,
        most_files: 200,
        others: &[],
    },
    Target {
        name: "gossip",
        run: gossip::run,
        max_len: 4096,
        most_files: 200,
        others: &[],
    },
    Target {
        name: "handshake",
        run: handshake::run,
        max_len: 4096,
        most_files: 200,
        others: &[],
    },
    Target {
        name: "message",
        run: message::run,
        max_len: 2048,
        most_files: 200,
        others: &[
            "crates/weave-wire/tests/corpus/control",
            "crates/weave-wire/tests/corpus/batch",
            "crates/weave-wire/tests/corpus/datagram",
            "crates/weave-wire/tests/corpus/frame",
            "crates/weave-node/tests/corpus/gossip",
        ],
    },
    Target {
        name: "sim",
        run: sim::run,
        max_len: 512,
        most_files: 40,
        others: &["crates/weave-sim/tests/corpus/script"],
    },
];

impl Target {
    /// The target of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }
}
