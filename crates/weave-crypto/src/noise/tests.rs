use super::*;
use crate::aead::{SealKey, Suite};
use crate::testing::{hex, hex_array};

/// The cacophony vectors of this pattern: message payloads and what travels.
const MESSAGES: [(&str, &str); 6] = [
    (
        "4c756477696720766f6e204d69736573",
        "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c7944325ea71699951ece20f284b6
         ad9604a029eb335bf84564c308b6ade90ae45078",
    ),
    (
        "4d757272617920526f746862617264",
        "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f1448088432645535233ffe1432564d66a
         85227b677ced6fc2730ae0998ff49aa1dc56b8186e31b16e416f5d9c03c71f6c34fd37ec013105020070a8b0
         0c000ce7ed56629c119795f96463274bc05519d5c24dc1",
    ),
    (
        "462e20412e20486179656b",
        "adf16c5375ec4172576783fd59f2bfa5c7a320d0a13b759592e1a2ddf5524cce59ccbb92ff5d321fced3bdb2
         840596df562c0e68aad41b090abd285f6d300130072e06964a6ba494e58d47",
    ),
    (
        "4361726c204d656e676572",
        "dcdc045c8e9ec36c8ea4078552e5849f87cb9bdfbd2a4eee3baaf6",
    ),
    (
        "4a65616e2d426170746973746520536179",
        "4d11ed1f242e199dbcbc9773495834a95e8a6109e2b555aeb50780e69b152821e4",
    ),
    (
        "457567656e2042f6686d20766f6e2042617765726b",
        "4d1e6873ffcc88490be6914928590f63253c2db434f1f206f083f89ca559a3e60a8dcc4f12",
    ),
];

#[test]
fn the_pattern_gives_the_published_messages_hash_and_keys() {
    let prologue = hex("4a6f686e2047616c74");
    let psk = hex_array("54686973206973206d7920417573747269616e20706572737065637469766521");
    let statics = [
        hex_array("e61ef9919cde45dd5f82166404bd08e38bceb5dfdfded0a34c8df7ed542214d1"),
        hex_array("4a3acbfdb163dec651dfa3194dece676d437029c62a408b4c5ea9114246e4893"),
    ];
    let seeds = [
        Zeroizing::new(hex_array(
            "893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a",
        )),
        Zeroizing::new(hex_array(
            "bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b",
        )),
    ];
    let build = |side: usize| builder(PATTERN, &statics[side], &prologue, &seeds[side]);
    let mut initiator = fixed(build(0).and_then(Builder::build_initiator));
    let mut responder = fixed(build(1).and_then(Builder::build_responder));
    let payloads = MESSAGES.map(|(payload, _)| hex(payload));
    let expected = MESSAGES.map(|(_, message)| hex(message));

    let first = write(&mut initiator, &payloads[0]).expect("message 1");
    assert_eq!(first, expected[0]);
    assert_eq!(read(&mut responder, &first).as_ref(), Ok(&payloads[0]));
    let second = write(&mut responder, &payloads[1]).expect("message 2");
    assert_eq!(second, expected[1]);
    assert_eq!(read(&mut initiator, &second).as_ref(), Ok(&payloads[1]));
    let third = write_with_psk(&mut initiator, &psk, &payloads[2]).expect("message 3");
    assert_eq!(third, expected[2]);
    assert_eq!(
        read_with_psk(&mut responder, &psk, &third).as_ref(),
        Ok(&payloads[2])
    );

    let hash = "fc0819f08aebc23de9a783653d8d7d6395b7d243d9deec12f5d6fe2f4c206673";
    assert_eq!(transcript_hash(&initiator), hex_array(hash));
    assert_eq!(transcript_hash(&responder), hex_array(hash));
    let (to_responder, to_initiator) = initiator.dangerously_get_raw_split();
    assert_eq!(
        responder.dangerously_get_raw_split(),
        (to_responder, to_initiator)
    );
    for (index, key, counter) in [
        (3, to_initiator, 0),
        (4, to_responder, 0),
        (5, to_initiator, 1),
    ] {
        let key = SealKey::new(Suite::ChaCha20Poly1305, &key);
        let mut sealed = payloads[index].clone();
        let tag = key.seal_in_place(counter, b"", &mut sealed);
        sealed.extend_from_slice(&tag);
        assert_eq!(sealed, expected[index]);
    }
}

#[test]
fn each_message_is_longer_than_its_payload_by_the_stated_overhead() {
    for ((payload, message), overhead) in MESSAGES.into_iter().zip(OVERHEAD) {
        assert_eq!(hex(message).len(), hex(payload).len() + overhead);
    }
}

#[test]
fn a_generator_gives_its_key_once() {
    let mut rng = OneKey(Some(Zeroizing::new([5; 32])));
    let mut key = [0; 32];
    assert_eq!(rng.try_fill_bytes(&mut key), Ok(()));
    assert_eq!(key, [5; 32]);
    assert_eq!(rng.try_fill_bytes(&mut key), Err(snow::Error::Rng));
}
