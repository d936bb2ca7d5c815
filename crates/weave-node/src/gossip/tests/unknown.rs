//! What a newer peer says passes an older one, which does not know all of it, unchanged.

use prost::Message as _;
use prost::encoding::bytes;
use weave_wire::proto::{Batch, Entry, SignedBatch};

use super::*;

/// A field that no message here has.
const UNKNOWN: u32 = 1000;
/// `Batch.entries`.
const ENTRIES: u32 = 6;

fn with_unknown(mut message: Vec<u8>) -> Vec<u8> {
    bytes::encode(UNKNOWN, &b"of a later version".to_vec(), &mut message);
    message
}

fn entry(slot: u64, body: Option<entry::Body>) -> Vec<u8> {
    Entry { slot, body }.encode_to_vec()
}

/// A batch of a newer author: an entry as ever, one of an unknown kind, one with a field more,
/// and a field more of the batch itself.
fn newer_batch(author: usize) -> SignedBatch {
    let batch = Batch {
        origin: identity(author).peer_id().0.to_vec(),
        boot: 5,
        snapshot: 0,
        first_seq: 1,
        snapshot_len: 3,
        entries: Vec::new(),
    };
    let mut payload = with_unknown(batch.encode_to_vec());
    let entries = [
        entry(9, name("plain.x")),
        with_unknown(entry(10, None)),
        with_unknown(entry(11, name("extended.x"))),
    ];
    for entry in entries {
        bytes::encode(ENTRIES, &entry, &mut payload);
    }
    let signature = identity(author).sign("weave/v1 batch", &payload).to_vec();
    SignedBatch { payload, signature }
}

#[test]
fn batches_with_unknown_entries_and_fields_pass_older_peers_byte_for_byte() {
    let mut net = Net::chain(3, 1);
    let author = identity(7).peer_id();
    let signed = newer_batch(7);
    let batches = vec![signed.clone()];
    net.inject(author, 0, Body::Delta(Delta { batches }));
    net.run(SECOND);
    for node in &net.nodes {
        assert_eq!(
            node.tail(&author, usize::MAX),
            std::slice::from_ref(&signed)
        );
        assert_eq!(names(node.table(&author)).len(), 2, "what is known is read");
    }
}

#[test]
fn a_newer_log_goes_on_behind_entries_that_an_older_peer_does_not_know() {
    let mut net = Net::chain(2, 1);
    let author = identity(7).peer_id();
    let next = Batch {
        origin: author.0.to_vec(),
        boot: 5,
        snapshot: 0,
        first_seq: 4,
        snapshot_len: 3,
        entries: vec![Entry {
            slot: 10,
            body: name("later.x"),
        }],
    };
    let next = batch::sign(&identity(7), &next);
    let batches = vec![newer_batch(7), next];
    net.inject(author, 0, Body::Delta(Delta { batches }));
    net.run(SECOND);
    assert_eq!(names(net.nodes[1].table(&author)).len(), 3);
    assert_eq!(net.nodes[1].tail(&author, usize::MAX).len(), 2);
}

#[test]
fn a_peer_that_comes_late_pulls_them_from_an_older_one_as_they_were_signed() {
    let mut net = Net::new(2, 1);
    let author = identity(7).peer_id();
    let signed = newer_batch(7);
    let batches = vec![signed.clone()];
    net.inject(author, 0, Body::Delta(Delta { batches }));
    net.run(SECOND);
    net.link(0, 1);
    net.run(SECOND);
    assert_eq!(net.nodes[1].tail(&author, usize::MAX), [signed]);
}
