//! What a peer may send that speaks the protocol, but with keys that are none.

use std::sync::atomic::{AtomicBool, Ordering};

use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState};
use weave_wire::{DatagramType, HANDSHAKE_HEADER_LEN, HandshakeHeader};

use super::*;
use crate::cpace::{Half, SHARE_LEN};
use crate::handshake::message::{self, InitPayload, ReplyPayload};
use crate::testing::hex_array;

/// Points of low order on Curve25519 and its twist, some in forms that are not canonical.
const LOW_ORDER: [&str; 7] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

/// Which of the attacker's keys is of low order, if any.
#[derive(Clone, Copy, PartialEq)]
enum Weak {
    Neither,
    Static([u8; 32]),
    Ephemeral([u8; 32]),
}

/// A Noise library whose owner chose his public keys, and so knows every secret made with them.
struct Hostile {
    weak: Weak,
    static_given: AtomicBool,
}

impl CryptoResolver for Hostile {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Constant))
    }

    fn resolve_dh(&self, _: &DHChoice) -> Option<Box<dyn Dh>> {
        let is_static = !self.static_given.swap(true, Ordering::Relaxed);
        let public = match self.weak {
            Weak::Static(public) if is_static => Some(public),
            Weak::Ephemeral(public) if !is_static => Some(public),
            Weak::Neither | Weak::Static(_) | Weak::Ephemeral(_) => None,
        };
        Some(match public {
            Some(public) => Box::new(LowOrder(public)),
            None => DefaultResolver.resolve_dh(&DHChoice::Curve25519)?,
        })
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

struct Constant;

impl Random for Constant {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        dest.fill(9);
        Ok(())
    }
}

/// Agrees on zero with everybody.
struct LowOrder([u8; 32]);

impl Dh for LowOrder {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    fn set(&mut self, _: &[u8]) {}

    fn generate(&mut self, _: &mut dyn Random) -> Result<(), snow::Error> {
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.0
    }

    fn privkey(&self) -> &[u8] {
        &self.0
    }

    fn dh(&self, _: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        out[..32].fill(0);
        Ok(())
    }
}

fn builder<'a>(weak: Weak, prologue: &'a [u8]) -> Builder<'a> {
    let resolver = Hostile {
        weak,
        static_given: AtomicBool::new(false),
    };
    Builder::with_resolver(
        noise::PATTERN.parse().expect("a pattern"),
        Box::new(resolver),
    )
    .local_private_key(&[8; 32])
    .and_then(|builder| builder.prologue(prologue))
    .expect("a builder")
}

/// An attacker who dials, knows the password, and says what he likes.
struct Dialler {
    noise: HandshakeState,
    half: Half,
    init: Vec<u8>,
}

fn dialler(cfg: &HandshakeConfig, weak: Weak, share: Option<[u8; SHARE_LEN]>) -> Dialler {
    let header = HandshakeHeader {
        ty: DatagramType::HandshakeInit,
        generation: cfg.passwords.in_use(),
        sender: MY_SLOT,
        receiver: 0,
    };
    let clear = message::clear(header, cfg.versions, cfg.offered_suites());
    let context = cfg.context(&clear);
    let half = Half::new(secret(cfg), &context, [1; 16], &[3; 32]);
    let payload = InitPayload {
        sid: [1; 16],
        share: share.unwrap_or_else(|| half.share()),
    };
    let mut noise = builder(weak, &context).build_initiator().expect("a state");
    let first = noise::write(&mut noise, &payload.encode()).expect("a message");
    Dialler {
        noise,
        half,
        init: message::init(&cfg.mesh_name, &clear, &first),
    }
}

impl Dialler {
    /// Why the listener refuses the third message, if it does.
    fn refusal(
        mut self,
        cfg: &HandshakeConfig,
        listener: ExpectFinish,
        reply: &[u8],
    ) -> Option<HandshakeError> {
        let payload =
            noise::read(&mut self.noise, &reply[HANDSHAKE_HEADER_LEN..]).expect("message 2");
        let payload = ReplyPayload::decode(&payload).expect("a payload");
        let share = crate::cpace::Share::decode(&payload.share).expect("a share");
        let isk = self.half.finish_initiator(&share).expect("a key");
        let third = noise::write_with_psk(&mut self.noise, &psk(&isk), b"hello");
        let header = HandshakeHeader {
            ty: DatagramType::HandshakeFinish,
            generation: 0,
            sender: MY_SLOT,
            receiver: payload.slot,
        };
        let datagram = [&header.encode()[..], &third.expect("message 3")].concat();
        let refused = listener.handle_finish(cfg, &datagram).err()?;
        Some(refused.1)
    }
}

type HandshakeResult = Result<(), HandshakeError>;

/// An attacker who listens, knows the password, and says what he likes.
fn listener(
    cfg: &HandshakeConfig,
    init: &[u8],
    weak: Weak,
    change: impl FnOnce(&mut ReplyPayload),
) -> Vec<u8> {
    let init = Init::parse(&cfg.mesh_name, init).expect("a first message");
    let context = cfg.context(init.clear);
    let mut noise = builder(weak, &context).build_responder().expect("a state");
    let payload = noise::read(&mut noise, init.noise).expect("message 1");
    let payload = InitPayload::decode(&payload).expect("a payload");
    let half = Half::new(secret(cfg), &context, payload.sid, &[4; 32]);
    let mut reply = ReplyPayload {
        version: 1,
        suite: Suite::ChaCha20Poly1305,
        slot: THEIR_SLOT,
        share: half.share(),
    };
    change(&mut reply);
    let second = noise::write(&mut noise, &reply.encode()).expect("message 2");
    let header = HandshakeHeader {
        ty: DatagramType::HandshakeReply,
        generation: cfg.passwords.in_use(),
        sender: THEIR_SLOT,
        receiver: init.header.sender,
    };
    [&header.encode()[..], &second].concat()
}

/// What a dialler says to a reply of [`listener`]; its state must stay good.
fn reply_result(weak: Weak, change: impl FnOnce(&mut ReplyPayload)) -> HandshakeResult {
    let (a, b) = (config(1), config(2));
    let (state, init) = dial(&a);
    match state.handle_reply(&a, &listener(&b, &init, weak, change), hello) {
        Ok(_) => Ok(()),
        Err(given_back) => {
            let (state, error) = *given_back;
            let (_, genuine) = answer(&b, &init);
            assert!(
                state.handle_reply(&a, &genuine, hello).is_ok(),
                "the state was spoiled"
            );
            Err(error)
        }
    }
}

#[test]
fn low_order_keys_of_a_dialler_are_refused() {
    let cfg = config(2);
    for point in LOW_ORDER.map(hex_array) {
        let attacker = dialler(&cfg, Weak::Ephemeral(point), None);
        let refused = respond(&cfg, THEIR_SLOT, &attacker.init, &mut generator());
        assert_eq!(refused.map(|_| ()), Err(HandshakeError::InvalidKey));
        let attacker = dialler(&cfg, Weak::Static(point), None);
        let (listener, reply) = answer(&cfg, &attacker.init);
        let refused = attacker.refusal(&cfg, listener, &reply);
        assert_eq!(refused, Some(HandshakeError::InvalidKey));
    }
    let honest = dialler(&cfg, Weak::Neither, None);
    let (listener, reply) = answer(&cfg, &honest.init);
    assert_eq!(honest.refusal(&cfg, listener, &reply), None);
}

#[test]
fn low_order_keys_of_a_listener_are_refused() {
    for point in LOW_ORDER.map(hex_array) {
        for weak in [Weak::Static(point), Weak::Ephemeral(point)] {
            assert_eq!(reply_result(weak, |_| ()), Err(HandshakeError::InvalidKey));
        }
    }
    assert_eq!(reply_result(Weak::Neither, |_| ()), Ok(()));
}

#[test]
fn shares_that_are_no_elements_of_the_group_are_refused() {
    let cfg = config(2);
    for share in [
        [0; SHARE_LEN],
        hex_array("2b3c6b8c4f3800e7aef6864025b4ed79bd599117e427c41bd47d93d654b4a51c"),
        [0xff; SHARE_LEN],
    ] {
        let attacker = dialler(&cfg, Weak::Neither, Some(share));
        let refused = respond(&cfg, THEIR_SLOT, &attacker.init, &mut generator());
        assert_eq!(refused.map(|_| ()), Err(HandshakeError::InvalidKey));
        let refused = reply_result(Weak::Neither, |reply| reply.share = share);
        assert_eq!(refused, Err(HandshakeError::InvalidKey));
    }
}

#[test]
fn choices_that_were_not_offered_are_refused() {
    for version in [0, 2, 255] {
        let refused = reply_result(Weak::Neither, |reply| reply.version = version);
        assert_eq!(refused, Err(HandshakeError::NotOffered));
    }
    let refused = reply_result(Weak::Neither, |reply| reply.suite = Suite::Aes256Gcm);
    assert_eq!(refused, Err(HandshakeError::NotOffered));
    for slot in [THEIR_SLOT + 1, 0, u32::MAX] {
        let refused = reply_result(Weak::Neither, |reply| reply.slot = slot);
        assert_eq!(refused, Err(HandshakeError::OtherHandshake));
    }
}

#[test]
fn a_slot_that_fits_no_index_is_refused() {
    let cfg = config(1);
    let (_, init) = initiate(&cfg, 1 << 29, None, &mut generator());
    let refused = respond(&config(2), THEIR_SLOT, &init, &mut generator());
    assert_eq!(refused.map(|_| ()), Err(HandshakeError::Malformed("slot")));
}
