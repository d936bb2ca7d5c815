use rand_chacha::ChaCha12Rng;
use weave_wire::{Lane, Versions};

use super::*;
use crate::identity::{sign_hello, verify_hello};
use crate::password::StretchedPassword;
use crate::passwords::Generations;
use crate::testing::rng;

mod guessing;
mod hostile;
mod rotation;
mod tampered;

const MY_SLOT: u32 = 5;
const THEIR_SLOT: u32 = 1_000;

fn only(generation: u16, byte: u8) -> Passwords {
    Passwords::new(generation, StretchedPassword::from_bytes([byte; 32]))
}

/// What a peer brings to the password exchange when it dials.
fn secret(cfg: &HandshakeConfig) -> &[u8; 32] {
    cfg.passwords.first().1.as_bytes()
}

/// A peer of the mesh `weave`; the seed decides only who it is.
fn config(seed: u8) -> HandshakeConfig {
    HandshakeConfig {
        identity: Arc::new(Identity::from_seed(&[seed; 32])),
        passwords: only(0, 42),
        mesh_name: "weave".to_owned(),
        prefer_aes: false,
        versions: Versions::SPOKEN,
    }
}

fn with(seed: u8, change: impl FnOnce(&mut HandshakeConfig)) -> HandshakeConfig {
    let mut config = config(seed);
    change(&mut config);
    config
}

fn hello(_: &HelloContext) -> Vec<u8> {
    b"hello".to_vec()
}

fn dial(cfg: &HandshakeConfig) -> (ExpectReply, Vec<u8>) {
    initiate(cfg, MY_SLOT, None, &mut rng(1))
}

fn answer(cfg: &HandshakeConfig, init: &[u8]) -> (ExpectFinish, Vec<u8>) {
    respond(cfg, THEIR_SLOT, init, &mut rng(2)).expect("a reply")
}

/// A handshake up to where the dialler has everything: its state, the listener's, and all three
/// datagrams.
struct Dialled {
    confirm: ExpectConfirm,
    listener: ExpectFinish,
    init: Vec<u8>,
    reply: Vec<u8>,
    finish: Vec<u8>,
}

fn dialled(a: &HandshakeConfig, b: &HandshakeConfig) -> Dialled {
    let (state, init) = dial(a);
    let (listener, reply) = answer(b, &init);
    let (confirm, finish) = state.handle_reply(a, &reply, hello).expect("a good reply");
    Dialled {
        confirm,
        listener,
        init,
        reply,
        finish,
    }
}

fn completed(a: &HandshakeConfig, b: &HandshakeConfig) -> (Completed, Completed) {
    let run = dialled(a, b);
    let listener = run
        .listener
        .handle_finish(b, &run.finish)
        .expect("a good finish");
    (run.confirm.into_completed(), listener)
}

/// Whether one of the two opens what the other seals.
fn understand(one: &Completed, other: &Completed, lane: Lane) -> bool {
    let (seal, _) = one.chain.lane_keys(one.suite, one.role, lane);
    let (_, open) = other.chain.lane_keys(other.suite, other.role, lane);
    let mut buf = *b"text............tag....";
    let (text, tag) = buf.split_last_chunk_mut::<16>().expect("room");
    *tag = seal.seal_in_place(0, b"header", text);
    open.open_in_place(0, b"header", &mut buf) == Ok(7)
}

#[test]
fn two_peers_with_one_password_end_with_the_same_keys() {
    let (a, b) = (config(1), config(2));
    let (dialler, listener) = completed(&a, &b);
    for lane in [Lane::Data, Lane::Control, Lane::Relay] {
        assert!(understand(&dialler, &listener, lane));
        assert!(understand(&listener, &dialler, lane));
    }
    assert_eq!(
        (dialler.role, listener.role),
        (Role::Initiator, Role::Responder)
    );
    assert_eq!(
        (dialler.local_slot, dialler.remote_slot),
        (MY_SLOT, THEIR_SLOT)
    );
    assert_eq!(
        (listener.local_slot, listener.remote_slot),
        (THEIR_SLOT, MY_SLOT)
    );
    assert_eq!(dialler.remote_static, b.identity.static_public());
    assert_eq!(listener.remote_static, a.identity.static_public());
    assert_eq!(dialler.handshake_hash, listener.handshake_hash);
    assert_eq!(listener.payload, b"hello");
    assert_eq!((dialler.version, listener.version), (1, 1));
}

#[test]
fn both_hellos_prove_the_peer_in_its_role() {
    let (a, b) = (config(1), config(2));
    let (state, init) = dial(&a);
    let (listener, reply) = answer(&b, &init);
    let sign = |context: &HelloContext| sign_hello(&a.identity, context).to_vec();
    let (confirm, finish) = state.handle_reply(&a, &reply, sign).expect("a good reply");
    let at_listener = listener.handle_finish(&b, &finish).expect("a good finish");
    let check = |peer: &Identity, signature: &[u8], done: &Completed| {
        let signature = signature.try_into().expect("64 bytes");
        let (hash, key) = (&done.handshake_hash, &done.remote_static);
        verify_hello(&peer.peer_id(), signature, hash, done.role.peer(), key)
    };
    assert_eq!(
        check(&a.identity, &at_listener.payload, &at_listener),
        Ok(())
    );
    assert!(check(&b.identity, &at_listener.payload, &at_listener).is_err());
    let context = at_listener.hello_context(b.identity.static_public());
    let answer = sign_hello(&b.identity, &context);
    assert_eq!(check(&b.identity, &answer, confirm.completed()), Ok(()));
    assert!(
        check(&a.identity, &at_listener.payload, confirm.completed()).is_err(),
        "reflected"
    );
}

#[test]
fn aes_is_chosen_only_when_both_prefer_it() {
    for (ours, theirs) in [(false, false), (false, true), (true, false), (true, true)] {
        let a = with(1, |cfg| cfg.prefer_aes = ours);
        let b = with(2, |cfg| cfg.prefer_aes = theirs);
        let (dialler, listener) = completed(&a, &b);
        let aes = ours && theirs && Suite::Aes256Gcm.is_available();
        let expected = if aes {
            Suite::Aes256Gcm
        } else {
            Suite::ChaCha20Poly1305
        };
        assert_eq!((dialler.suite, listener.suite), (expected, expected));
        assert!(understand(&dialler, &listener, Lane::Data));
    }
}

#[test]
fn the_highest_common_version_is_chosen() {
    for (ours, theirs, expected) in [
        ((1, 1), (1, 3), 1),
        ((1, 4), (2, 3), 3),
        ((2, 2), (1, 2), 2),
    ] {
        let a = with(1, |cfg| cfg.versions = Versions::new(ours.0, ours.1));
        let b = with(2, |cfg| cfg.versions = Versions::new(theirs.0, theirs.1));
        let (dialler, listener) = completed(&a, &b);
        assert_eq!((dialler.version, listener.version), (expected, expected));
    }
}

#[test]
fn every_handshake_has_its_own_keys() {
    let (a, b) = (config(1), config(2));
    let (one, _) = completed(&a, &b);
    let (state, init) = initiate(&a, MY_SLOT, None, &mut rng(3));
    let (listener, reply) = answer(&b, &init);
    let (_, finish) = state.handle_reply(&a, &reply, hello).expect("a good reply");
    let other = listener.handle_finish(&b, &finish).expect("a good finish");
    assert!(!understand(&one, &other, Lane::Data));
}

#[test]
fn a_first_message_sent_twice_is_recognised_by_its_key() {
    let cfg = config(1);
    let (state, init) = dial(&cfg);
    assert_eq!(
        initiator_ephemeral(&init),
        initiator_ephemeral(&state.datagram(None))
    );
    assert!(initiator_ephemeral(&init).is_some());
    let (_, other) = initiate(&cfg, MY_SLOT, None, &mut rng(3));
    assert_ne!(initiator_ephemeral(&init), initiator_ephemeral(&other));
    let (_, reply) = answer(&config(2), &init);
    assert_eq!(initiator_ephemeral(&reply), None);
    assert_eq!(initiator_ephemeral(&init[..100]), None);
}

#[test]
fn a_wrong_password_is_refused_with_the_reason() {
    let a = with(1, |cfg| {
        cfg.passwords = only(0, 43);
    });
    let b = config(2);
    let run = dialled(&a, &b);
    let (listener, error) = *run
        .listener
        .handle_finish(&b, &run.finish)
        .expect_err("wrong");
    assert_eq!(error, HandshakeError::Authentication);
    let reject = listener.reject(&b, RejectReason::WrongPassword);
    assert_eq!(
        run.confirm.check_reject(&a, &reject),
        Some(RejectReason::WrongPassword)
    );
}

#[test]
fn the_dialler_cannot_read_a_listener_with_another_password() {
    let b = with(2, |cfg| {
        cfg.passwords = only(0, 43);
    });
    let run = dialled(&config(1), &b);
    let (_, error) = *run
        .listener
        .handle_finish(&b, &run.finish)
        .expect_err("wrong");
    assert_eq!(error, HandshakeError::Authentication);
}

#[test]
fn a_refusal_counts_only_for_the_handshake_that_it_refuses() {
    let (a, b) = (config(1), config(2));
    let (state, init) = dial(&a);
    let (listener, _) = answer(&b, &init);
    for reason in [
        RejectReason::WrongPassword,
        RejectReason::Generation {
            held: only(3, 1).generations(),
        },
        RejectReason::Generation {
            held: Generations([0x102, 1, 0xffff, 0]),
        },
        RejectReason::Version {
            ours: Versions::SPOKEN,
            theirs: Versions::SPOKEN,
        },
        RejectReason::Suite,
        RejectReason::Banned,
        RejectReason::KemRequired,
        RejectReason::KemOff,
        RejectReason::Other,
    ] {
        let reject = listener.reject(&b, reason);
        assert_eq!(state.check_reject(&a, &reject), Some(reason));
    }
    let reject = listener.reject(&b, RejectReason::Banned);
    for index in 0..reject.len() {
        let mut changed = reject.clone();
        changed[index] ^= 1;
        assert_eq!(state.check_reject(&a, &changed), None, "byte {index}");
        assert_eq!(state.check_reject(&a, &reject[..index]), None);
    }
    let (other, _) = initiate(&a, MY_SLOT, None, &mut rng(3));
    assert_eq!(other.check_reject(&a, &reject), None);
}

#[test]
fn a_refused_handshake_still_completes_when_the_genuine_answer_arrives() {
    let (a, b) = (config(1), config(2));
    let (state, init) = dial(&a);
    let (listener, reply) = answer(&b, &init);
    let forged = listener.reject(&b, RejectReason::WrongPassword);
    assert!(state.check_reject(&a, &forged).is_some());
    let (confirm, finish) = state.handle_reply(&a, &reply, hello).expect("a good reply");
    assert!(confirm.check_reject(&a, &forged).is_some());
    let listener = listener.handle_finish(&b, &finish).expect("a good finish");
    assert!(understand(&listener, confirm.completed(), Lane::Control));
}

#[test]
fn no_answer_is_longer_than_the_question() {
    let (a, b) = (config(1), config(2));
    let run = dialled(&a, &b);
    assert_eq!(run.init.len(), INIT_LEN);
    assert_eq!(run.reply.len(), REPLY_LEN);
    assert!(run.reply.len() <= run.init.len());
    let reject = run.listener.reject(&b, RejectReason::WrongPassword);
    assert_eq!(reject.len(), REJECT_LEN);
    let (state, init) = dial(&a);
    let (_, reply) = answer(&b, &init);
    let (_, shortest) = state
        .handle_reply(&a, &reply, |_| Vec::new())
        .expect("a good reply");
    assert!(reject.len() <= shortest.len());
    let elsewhere = with(2, |cfg| cfg.passwords = only(7, 42));
    let refused = respond(&elsewhere, THEIR_SLOT, &init, &mut rng(2)).expect_err("refused");
    assert!(
        refused
            .reply()
            .is_some_and(|reply| reply.len() <= init.len())
    );
    let mut jar = crate::CookieJar::new("weave", weave_wire::Time::ZERO, &mut rng(1));
    let from = "192.0.2.1:6783".parse().expect("an address");
    let admission = jar.admit(from, &init, true, weave_wire::Time::ZERO, &mut rng(2));
    let crate::Admission::Challenge(cookie) = admission else {
        panic!("expected a challenge")
    };
    assert!(cookie.len() <= init.len());
}

#[test]
fn the_handshake_fits_its_budget() {
    let run = dialled(&config(1), &config(2));
    let hello = 200;
    assert!(run.init.len() + run.reply.len() + run.finish.len() + hello <= 700);
}

#[test]
fn a_hello_that_is_too_long_is_refused_and_the_handshake_goes_on() {
    let (a, b) = (config(1), config(2));
    let (state, init) = dial(&a);
    let (listener, reply) = answer(&b, &init);
    let long = |_: &HelloContext| vec![0; MAX_HELLO_LEN + 1];
    let (state, error) = *state.handle_reply(&a, &reply, long).expect_err("too long");
    assert_eq!(error, HandshakeError::HelloTooLong(MAX_HELLO_LEN + 1));
    let longest = |_: &HelloContext| vec![7; MAX_HELLO_LEN];
    let (_, finish) = state
        .handle_reply(&a, &reply, longest)
        .expect("long enough");
    let listener = listener.handle_finish(&b, &finish).expect("a good finish");
    assert_eq!(listener.payload, vec![7; MAX_HELLO_LEN]);
}

#[test]
fn debug_output_holds_no_secret() {
    let (a, b) = (config(1), config(2));
    let (state, init) = dial(&a);
    assert_eq!(format!("{state:?}"), "ExpectReply { my_slot: 5, .. }");
    let (listener, _) = answer(&b, &init);
    let expected = "ExpectFinish { my_slot: 1000, remote_slot: 5, .. }";
    assert_eq!(format!("{listener:?}"), expected);
    assert!(format!("{a:?}").contains("in_use: (0, StretchedPassword(..))"));
    let (done, _) = completed(&a, &b);
    assert!(format!("{done:?}").contains("chain: Chain { epoch: 0, .. }"));
}

fn generator() -> ChaCha12Rng {
    rng(77)
}
