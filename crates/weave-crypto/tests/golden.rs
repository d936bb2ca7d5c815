//! Builds the golden vectors of the handshake in `proto/wire.md` anew and compares: a change of
//! these bytes is a change of the protocol.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use rand_core::RngCore;
use weave_crypto::{
    Admission, Completed, CookieJar, EpochAction, Epochs, HandshakeConfig, Identity, Passwords,
    RejectReason, Role, SessionShape, StretchedPassword, initiate, respond,
};
use weave_wire::{Lane, PayloadKind, SealedHeader, Time, Versions};

/// Draws consecutive bytes.
struct Counting(u8);

impl RngCore for Counting {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill_bytes(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, dest: &mut [u8]) {
        for byte in dest {
            *byte = self.0;
            self.0 = self.0.wrapping_add(1);
        }
    }
}

fn config(seed: u8) -> HandshakeConfig {
    HandshakeConfig {
        identity: Arc::new(Identity::from_seed(&[seed; 32])),
        passwords: Passwords::new(0, StretchedPassword::from_bytes([3; 32])),
        mesh_name: "weave".to_owned(),
        prefer_aes: false,
        versions: Versions::SPOKEN,
    }
}

fn documented() -> BTreeMap<String, Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto/wire.md");
    let text = fs::read_to_string(path).expect("proto/wire.md is readable");
    let mut vectors = BTreeMap::new();
    for block in text.split("```vector crypto/").skip(1) {
        let (name, rest) = block.split_once('\n').expect("a name ends its line");
        let (hex, _) = rest.split_once("```").expect("a block ends");
        let bytes = hex
            .split_whitespace()
            .map(|byte| u8::from_str_radix(byte, 16).expect("hex"));
        assert!(
            vectors.insert(name.to_owned(), bytes.collect()).is_none(),
            "{name} twice"
        );
    }
    vectors
}

fn epochs(done: Completed, kem: bool) -> Epochs {
    let shape = SessionShape {
        version: done.version,
        suite: done.suite,
        kem,
        role: done.role,
        local_slot: done.local_slot,
        remote_slot: done.remote_slot,
    };
    Epochs::new(shape, done.chain, Time::ZERO, &mut Counting(0))
}

fn sealed(epochs: &Epochs) -> Vec<u8> {
    let mut datagram = vec![0; 16 + 2 + 16];
    datagram[16..18].copy_from_slice(b"hi");
    let lane = epochs.current_send(Lane::Control);
    assert_eq!(
        lane.seal(PayloadKind::Control, Time::ZERO, &mut datagram),
        Ok(())
    );
    datagram
}

type Vectors = Vec<(&'static str, Vec<u8>)>;

/// What a handshake sends, and what the dialler and the other side end with.
fn handshake() -> (Vectors, [Completed; 2]) {
    let (a, b) = (config(1), config(2));
    let (state, init) = initiate(&a, 5, None, &mut Counting(0));
    let (listener, reply) = respond(&b, 6, &init, &mut Counting(0x80)).expect("a reply");
    let reject = listener.reject(&b, RejectReason::WrongPassword);
    let mut rotated = config(2);
    rotated.passwords = Passwords::new(3, StretchedPassword::from_bytes([3; 32]));
    let password = StretchedPassword::from_bytes([4; 32]);
    assert!(rotated.passwords.add(258, password));
    let refused = respond(&rotated, 6, &init, &mut Counting(0x80)).expect_err("not held");
    let reject_generation = refused.reply().expect("a refusal").to_vec();
    let mut jar = CookieJar::new("weave", Time::ZERO, &mut Counting(0x20));
    let from = "192.0.2.1:6783".parse().expect("an address");
    let admission = jar.admit(from, &init, true, Time::ZERO, &mut Counting(0x60));
    let Admission::Challenge(cookie_reply) = admission else {
        panic!("expected a challenge")
    };
    let cookie = state
        .handle_cookie_reply(&a, &cookie_reply, Time::ZERO)
        .expect("a cookie");
    let mac2 = state.datagram(Some(&cookie))[192..].to_vec();
    let hello = |_: &_| b"hello".to_vec();
    let (confirm, finish) = state.handle_reply(&a, &reply, hello).expect("a finish");
    let completed = listener.handle_finish(&b, &finish).expect("a session");
    assert_eq!(
        (completed.payload.as_slice(), completed.role),
        (&b"hello"[..], Role::Responder)
    );
    let vectors = vec![
        ("peer", a.identity.peer_id().0.to_vec()),
        ("static", a.identity.static_public().to_vec()),
        (
            "signature",
            a.identity.sign("weave/v1 test", b"message").to_vec(),
        ),
        ("init", init),
        ("reply", reply),
        ("finish", finish),
        ("reject", reject),
        ("reject-generation", reject_generation),
        ("cookie-reply", cookie_reply),
        ("mac2", mac2),
    ];
    (vectors, [confirm.into_completed(), completed])
}

/// The dialler's first control datagrams of epochs 0 and 1.
fn rekeyed(ends: [Completed; 2], kem: bool) -> [Vec<u8>; 2] {
    let [mut session, mut peer] = ends.map(|end| epochs(end, kem));
    let before = sealed(&session);
    session.start(Time::ZERO);
    let request = session.handle_timeout(Time::ZERO, &mut Counting(0x40));
    let Some(EpochAction::SendRequest(offer)) = request else {
        panic!("expected a request")
    };
    let epoch = offer.epoch;
    let answers = offer.into_parts().map(|part| {
        peer.handle_request(epoch, part, Time::ZERO, &mut Counting(0xa0))
            .expect("a part")
    });
    let answer = answers.last().flatten().expect("an answer");
    assert_eq!(
        session.handle_reply(&answer, Time::ZERO, &mut Counting(0)),
        Ok(())
    );
    let after = sealed(&session);
    assert_eq!(
        SealedHeader::decode(&after).map(|header| header.counter),
        Ok(0)
    );
    [before, after]
}

fn computed() -> BTreeMap<String, Vec<u8>> {
    let (mut vectors, ends) = handshake();
    let [before, after] = rekeyed(ends, false);
    let [_, hybrid] = rekeyed(handshake().1, true);
    vectors.extend([
        ("sealed", before),
        ("rekeyed", after),
        ("rekeyed-kem", hybrid),
    ]);
    vectors
        .into_iter()
        .map(|(name, bytes)| (name.to_owned(), bytes))
        .collect()
}

#[test]
fn the_document_shows_what_is_sent() {
    let (documented, computed) = (documented(), computed());
    let wrong: Vec<_> = computed
        .iter()
        .filter(|(name, bytes)| documented.get(*name) != Some(bytes))
        .map(|(name, bytes)| {
            let hex: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("crypto/{name} is {}", hex.join(" "))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(
        documented.keys().eq(computed.keys()),
        "a vector is documented that nobody checks"
    );
}
