//! Replays the datagrams under `tests/corpus/datagram`. Each is dropped or handed to the
//! handshake, and its reason stands here.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::bench::{Host, LON};

fn corpus() -> BTreeMap<String, Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/datagram");
    let files = fs::read_dir(dir)
        .expect("the corpus is readable")
        .map(|file| {
            let path = file.expect("a directory entry").path();
            let name = path
                .file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            (name, fs::read(path).expect("a readable file"))
        });
    files.collect()
}

#[test]
fn every_datagram_of_the_corpus_meets_its_fate() {
    let mut lon = Host::new(LON);
    let fates: Vec<String> = corpus()
        .iter()
        .map(|(name, bytes)| {
            let received = lon.receive(bytes);
            assert!(
                received.frames.is_empty() && received.control.is_empty(),
                "{name}"
            );
            match (received.handshakes.len(), lon.dropped()) {
                (1, None) => format!("{name}: handshake"),
                (_, reason) => format!("{name}: {}", reason.map_or("?", |reason| reason.name())),
            }
        })
        .collect();
    let expected = [
        "bad-flags: bad_header",
        "cookie-reply: bad_header",
        "counter-beyond-the-limit: replayed",
        "dns-query: bad_version",
        "empty: too_short",
        "forged-for-a-known-key: open_failed",
        "handshake-init: bad_header",
        "handshake-with-reserved-bytes: bad_header",
        "header-only: too_short",
        "known-key-without-tag: too_short",
        "later-version: bad_version",
        "relay: no_circuit",
        "unknown-lane: bad_header",
        "unknown-receiver: unknown_receiver",
    ];
    assert_eq!(fates, expected);
}
