//! Throws everything at all states of the handshake: the corpus, random bytes, and genuine
//! datagrams that were changed. Nothing may panic, and afterwards the genuine handshake must
//! still complete.

#[path = "hostile_datagrams/victims.rs"]
mod victims;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use weave_crypto::HandshakeError;

use victims::Victims;

fn corpus() -> BTreeMap<String, Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/handshake");
    fs::read_dir(dir)
        .expect("the corpus is readable")
        .map(|file| {
            let path = file.expect("a directory entry").path();
            let name = path
                .file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            (name, fs::read(path).expect("a readable file"))
        })
        .collect()
}

#[test]
fn the_corpus_is_refused_as_it_always_was_and_spoils_nothing() {
    let mut victims = Victims::new();
    let mut answers = BTreeMap::new();
    for (name, datagram) in corpus() {
        let (after, answer) = victims.feed(&datagram);
        victims = after;
        let answer = match answer {
            Ok(()) => "replied".to_owned(),
            Err(HandshakeError::Refused { reason, .. }) => format!("refused: {reason}"),
            Err(error) => error.to_string(),
        };
        answers.insert(name, answer);
    }
    let expected: BTreeMap<_, _> = EXPECTED
        .iter()
        .map(|(name, answer)| ((*name).to_owned(), (*answer).to_owned()))
        .collect();
    assert_eq!(answers, expected);
    victims.complete();
}

/// What a listener says to each file of the corpus.
const EXPECTED: &[(&str, &str)] = &[
    ("cookie-reply", "malformed handshake datagram: type"),
    ("cookie-reply-cut", "malformed handshake datagram: type"),
    ("cookie-reply-flipped", "malformed handshake datagram: type"),
    ("empty", "datagram is too short"),
    ("finish-far-too-long", "malformed handshake datagram: type"),
    ("finish-flipped", "malformed handshake datagram: type"),
    ("finish-header-only", "malformed handshake datagram: type"),
    ("finish-long", "malformed handshake datagram: type"),
    ("finish-shortest", "malformed handshake datagram: type"),
    (
        "header-only-init",
        "malformed handshake datagram: length or receiver",
    ),
    ("init", "replied"),
    (
        "init-cut",
        "malformed handshake datagram: length or receiver",
    ),
    ("init-flipped", "a handshake of another mesh"),
    (
        "init-generation-9",
        "refused: password of another generation: it has 0",
    ),
    (
        "init-one-more",
        "malformed handshake datagram: length or receiver",
    ),
    ("init-other-mesh", "a handshake of another mesh"),
    (
        "init-reserved-flag",
        "reserved bytes of the datagram are not zero",
    ),
    ("init-slot-too-high", "malformed handshake datagram: slot"),
    ("init-version-2", "datagram has another protocol version"),
    (
        "init-version-range",
        "refused: no common protocol version: it speaks 2 to 3, this router 1",
    ),
    (
        "init-version-range-backwards",
        "refused: no common protocol version: it speaks 3 to 0, this router 1",
    ),
    (
        "init-with-receiver",
        "malformed handshake datagram: length or receiver",
    ),
    ("one-byte", "datagram is too short"),
    ("reject", "malformed handshake datagram: type"),
    ("reject-cut", "malformed handshake datagram: type"),
    ("reply-cut", "malformed handshake datagram: type"),
    ("reply-flipped", "malformed handshake datagram: type"),
    ("reply-other-slot", "malformed handshake datagram: type"),
    ("reply-zero", "malformed handshake datagram: type"),
    ("sealed", "datagram has an unexpected type"),
    ("type-0", "datagram has an unexpected type"),
    ("type-15", "datagram has an unexpected type"),
];

/// Most of what arrives looks like something.
fn datagram() -> impl Strategy<Value = Vec<u8>> {
    let genuine = Victims::new().genuine;
    let first = prop_oneof![
        Just(0x11),
        Just(0x21),
        Just(0x31),
        Just(0x41),
        Just(0x51),
        any::<u8>()
    ];
    let length = prop_oneof![
        0usize..300,
        Just(208),
        Just(152),
        Just(72),
        Just(40),
        1000usize..1600
    ];
    let noise = (
        first,
        length.prop_flat_map(|len| proptest::collection::vec(any::<u8>(), len)),
    )
        .prop_map(|(first, mut bytes)| {
            if let Some(byte) = bytes.first_mut() {
                *byte = first;
            }
            bytes
        });
    let addressed = noise.clone().prop_map(|mut bytes| {
        // Past the header: reserved bytes zero, slots as the victims have them.
        if bytes.len() >= 16 {
            bytes[1..16].fill(0);
            let (sender, receiver) = if bytes[0] == 0x31 { (5, 6) } else { (6, 5) };
            bytes[4] = sender;
            bytes[8] = receiver;
        }
        bytes
    });
    let changed = (
        (0..genuine.len()).prop_map(move |index| genuine[index].clone()),
        proptest::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..4),
        prop_oneof![3 => Just(None), 1 => any::<prop::sample::Index>().prop_map(Some)],
        proptest::collection::vec(any::<u8>(), 0..3),
    )
        .prop_map(|(mut bytes, flips, cut, tail)| {
            for (index, flip) in flips {
                let index = index.index(bytes.len());
                bytes[index] ^= flip;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            bytes.extend(tail);
            bytes
        });
    prop_oneof![noise, addressed, changed]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_datagram_panics_or_spoils_a_state(
        datagrams in proptest::collection::vec(datagram(), 1..4),
    ) {
        let mut victims = Victims::new();
        for datagram in datagrams {
            prop_assume!(!victims.genuine.contains(&datagram));
            victims = victims.feed(&datagram).0;
        }
        victims.complete();
    }
}
