//! Forged, damaged and absurd input is dropped and counted, and changes nothing.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use prost::Message as _;
use weave_wire::decode_control;
use weave_wire::proto::{
    BanRecord, Batch, ControlMessage, Digest, Entry, LogVersion, Pull, SignedBatch, Summary,
};

use super::super::batch::sign;
use super::*;

/// A victim that knows one log, its author, and the author's batches.
fn scene() -> (Net, Logs) {
    let mut net = Net::chain(2, 1);
    let mut author = logs(7, 5);
    author
        .set("a", name("a.x"), net.now)
        .expect("can be announced");
    let batches = written(&mut author);
    net.inject(net.ids[1], 0, Body::Delta(Delta { batches }));
    assert_eq!(names(net.nodes[0].table(&author.me)).len(), 1);
    (net, author)
}

fn batch(author: usize) -> Batch {
    let entries = vec![Entry {
        slot: 9,
        body: name("evil.x"),
    }];
    let origin = identity(author).peer_id().0.to_vec();
    Batch {
        origin,
        boot: 5,
        snapshot: 0,
        first_seq: 2,
        snapshot_len: 1,
        entries,
    }
}

#[track_caller]
fn assert_dropped(signed: SignedBatch, reason: GossipDrop) {
    let (mut net, author) = scene();
    let before = net.nodes[0].drops().of(reason);
    let own = net.nodes[0].boot();
    net.inject(
        net.ids[1],
        0,
        Body::Delta(Delta {
            batches: vec![signed],
        }),
    );
    assert_eq!(
        names(net.nodes[0].table(&author.me)),
        ["a.x".to_owned()].into()
    );
    assert_eq!(net.nodes[0].drops().of(reason), before + 1, "{reason:?}");
    assert_eq!(net.nodes[0].boot(), own);
    assert!(net.behind.is_empty());
}

#[test]
fn the_honest_continuation_is_accepted() {
    let (mut net, author) = scene();
    let signed = sign(&identity(7), &batch(7));
    net.inject(
        net.ids[1],
        0,
        Body::Delta(Delta {
            batches: vec![signed],
        }),
    );
    assert_eq!(names(net.nodes[0].table(&author.me)).len(), 2);
}

#[test]
fn nobody_writes_in_the_name_of_another() {
    assert_dropped(sign(&identity(8), &batch(7)), GossipDrop::Signature);
    let mut ban = batch(7);
    ban.entries[0].body = Some(entry::Body::Ban(BanRecord {
        peer: vec![9; 32],
        ..BanRecord::default()
    }));
    assert_dropped(sign(&identity(8), &ban), GossipDrop::Signature);
}

#[test]
fn nobody_makes_us_jump_beyond_a_forged_start_of_ours() {
    let forged = Batch {
        boot: 1 << 40,
        first_seq: 1,
        ..batch(0)
    };
    assert_dropped(sign(&identity(8), &forged), GossipDrop::Signature);
}

#[test]
fn a_signature_of_another_length_is_no_signature() {
    let mut signed = sign(&identity(7), &batch(7));
    signed.signature.clear();
    assert_dropped(signed, GossipDrop::Signature);
}

#[test]
fn sequence_numbers_that_run_over_are_refused() {
    for first_seq in [0, u64::MAX, u64::MAX - 1] {
        let wrong = Batch {
            first_seq,
            ..batch(7)
        };
        let reason = if first_seq == u64::MAX - 1 {
            GossipDrop::Contradiction
        } else {
            GossipDrop::Malformed
        };
        assert_dropped(sign(&identity(7), &wrong), reason);
    }
}

#[test]
fn an_endless_start_number_or_snapshot_is_refused() {
    let endless = Batch {
        boot: u64::MAX,
        first_seq: 1,
        ..batch(7)
    };
    assert_dropped(sign(&identity(7), &endless), GossipDrop::Malformed);
    for snapshot_len in [0, 1 << 20, u64::MAX] {
        let wrong = Batch {
            snapshot_len,
            ..batch(7)
        };
        assert_dropped(sign(&identity(7), &wrong), GossipDrop::Malformed);
    }
}

#[test]
fn an_origin_that_contradicts_itself_is_not_followed() {
    let other_length = Batch {
        snapshot_len: 3,
        ..batch(7)
    };
    assert_dropped(sign(&identity(7), &other_length), GossipDrop::Contradiction);
    let entries = vec![
        Entry {
            slot: 9,
            body: name("evil.x")
        };
        2
    ];
    let overlap = Batch {
        first_seq: 1,
        entries,
        ..batch(7)
    };
    assert_dropped(sign(&identity(7), &overlap), GossipDrop::Contradiction);
}

#[test]
fn oversized_batches_are_refused() {
    let entries = vec![
        Entry {
            slot: 9,
            body: name("evil.x")
        };
        600
    ];
    let huge = Batch {
        entries,
        ..batch(7)
    };
    assert_dropped(sign(&identity(7), &huge), GossipDrop::Malformed);
}

#[test]
fn a_bad_entry_empties_its_slot_and_lets_the_others_through() {
    let (mut net, author) = scene();
    let bad = Entry {
        slot: 8,
        body: name(&"x".repeat(400)),
    };
    let good = Entry {
        slot: 9,
        body: name("good.x"),
    };
    let signed = sign(
        &identity(7),
        &Batch {
            entries: vec![bad, good],
            ..batch(7)
        },
    );
    net.inject(
        net.ids[1],
        0,
        Body::Delta(Delta {
            batches: vec![signed],
        }),
    );
    let expected = ["a.x", "good.x"].map(str::to_owned);
    assert_eq!(names(net.nodes[0].table(&author.me)), expected.into());
    assert_eq!(net.nodes[0].drops().of(GossipDrop::BadEntry), 1);
}

#[test]
fn a_log_that_nobody_ever_completes_takes_no_more_than_its_share() {
    let (mut net, _) = scene();
    for boot in 10..200 {
        let begun = Batch {
            boot,
            first_seq: 1,
            snapshot_len: 50,
            ..batch(7)
        };
        let batches = vec![sign(&identity(7), &begun)];
        net.inject(net.ids[1], 0, Body::Delta(Delta { batches }));
    }
    assert!(net.nodes[0].bytes < 1_000, "{} bytes", net.nodes[0].bytes);
}

#[test]
fn news_that_are_only_claimed_are_asked_for_a_few_times() {
    let (mut net, _) = scene();
    net.run(Duration::from_secs(15));
    let far = LogVersion {
        origin: vec![3; 32],
        boot: 9,
        snapshot: 9,
        seq: u64::MAX,
    };
    net.inject(
        net.ids[1],
        0,
        Body::Digest(Digest {
            logs: vec![far],
            more: true,
            last: Vec::new(),
            news: false,
            from: vec![3],
        }),
    );
    net.sent = 0;
    net.run(Duration::from_secs(12));
    assert!(net.sent < 12, "{} messages", net.sent);
    assert_eq!(net.nodes[0].drops().of(GossipDrop::Unanswered), 1);
}

#[test]
fn a_stranger_gets_no_answer() {
    let (mut net, author) = scene();
    let stranger = author.me;
    let have = vec![Version::NONE.to_proto(&author.me)];
    net.sent = 0;
    net.inject(stranger, 0, Body::Pull(Pull { have }));
    net.inject(stranger, 0, Body::Digest(Digest::default()));
    net.inject(stranger, 0, Body::Summary(Summary { sums: vec![1] }));
    assert_eq!(
        (net.sent, net.nodes[0].drops().of(GossipDrop::Stranger)),
        (0, 3)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_single_flipped_bit_makes_a_batch_worthless(bit in any::<prop::sample::Index>()) {
        let (mut net, author) = scene();
        let mut signed = sign(&identity(7), &batch(7));
        let payload = signed.payload.len() * 8;
        let bit = bit.index(payload + signed.signature.len() * 8);
        let (bytes, bit) = if bit < payload {
            (&mut signed.payload, bit)
        } else {
            (&mut signed.signature, bit - payload)
        };
        bytes[bit / 8] ^= 1 << (bit % 8);
        net.inject(net.ids[1], 0, Body::Delta(Delta { batches: vec![signed] }));
        prop_assert_eq!(names(net.nodes[0].table(&author.me)).len(), 1);
        prop_assert_eq!(net.nodes[0].origins().count(), 1);
    }

    #[test]
    fn arbitrary_versions_never_harm(
        logs in prop::collection::vec((0..12_u8, any::<u64>(), any::<u32>(), any::<u64>()), 0..24),
        from in prop::collection::vec(any::<u8>(), 0..33),
        more: bool,
        pull: bool,
    ) {
        let (mut net, author) = scene();
        let known = [net.ids[0], net.ids[1], author.me];
        let logs: Vec<_> = logs
            .into_iter()
            .map(|(origin, boot, snapshot, seq)| {
                let origin = known.get(usize::from(origin)).map_or([origin; 32], |id| id.0);
                LogVersion { origin: origin.to_vec(), boot, snapshot, seq }
            })
            .collect();
        let body = if pull {
            Body::Pull(Pull { have: logs })
        } else {
            Body::Digest(Digest { logs, more, from, last: Vec::new(), news: false })
        };
        net.inject(net.ids[1], 0, body);
        net.run(Duration::from_secs(20));
        prop_assert_eq!(names(net.nodes[0].table(&author.me)).len(), 1);
    }
}

/// Feeds bytes as a control message would come out of a session.
fn feed(bytes: &[u8]) {
    let (mut net, author) = scene();
    let Ok(ControlMessage { body: Some(body) }) = decode_control(bytes) else {
        return;
    };
    if matches!(body, Body::Delta(_) | Body::Digest(_) | Body::Pull(_)) {
        net.inject(net.ids[1], 0, body);
        net.run(Duration::from_secs(10));
        assert!(!net.nodes[0].table(&author.me).is_empty());
    }
}

#[test]
fn every_file_of_the_corpus_is_survived() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/gossip");
    let mut files = 0;
    for file in fs::read_dir(&corpus).expect("the corpus is part of the crate") {
        let path = file.expect("readable").path();
        feed(&fs::read(&path).expect("readable"));
        files += 1;
    }
    assert!(files >= 8, "{files} files in {}", corpus.display());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn damaged_messages_are_survived(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)
    ) {
        let delta = Delta { batches: vec![sign(&identity(7), &batch(7)); 2] };
        let mut bytes = ControlMessage { body: Some(Body::Delta(delta)) }.encode_to_vec();
        for (index, value) in flips {
            let len = bytes.len();
            bytes[index.index(len)] = value;
        }
        feed(&bytes);
    }
}
