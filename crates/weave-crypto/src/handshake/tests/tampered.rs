//! What someone on the path may do to genuine datagrams.

use super::*;
use crate::handshake::message::CLEAR_LEN;

/// The name of the mesh is no secret: anyone can make this part fit again.
fn refresh_mac1(mesh_name: &str, init: &mut [u8]) {
    let mac1 = message::mac1(mesh_name, &init[..MAC1_RANGE.start]);
    init[MAC1_RANGE].copy_from_slice(&mac1);
}

/// Lets a listener answer a changed first message, and the dialler read the answer.
fn survives(a: &HandshakeConfig, b: &HandshakeConfig, change: impl FnOnce(&mut [u8])) -> bool {
    let (state, mut init) = dial(a);
    change(&mut init);
    refresh_mac1(&b.mesh_name, &mut init);
    match respond(b, THEIR_SLOT, &init, &mut rng(2)) {
        Ok((_, reply)) => state.handle_reply(a, &reply, hello).is_ok(),
        Err(_) => false,
    }
}

#[test]
fn an_unchanged_message_survives() {
    assert!(survives(&config(1), &config(2), |_| ()));
}

#[test]
fn every_byte_of_the_first_message_is_bound_by_the_transcript() {
    let (a, b) = (
        with(1, |cfg| cfg.versions = Versions::new(1, 2)),
        with(2, |cfg| cfg.versions = Versions::new(1, 2)),
    );
    assert!(survives(&a, &b, |_| ()));
    for index in 0..MAC1_RANGE.start {
        for bit in [0x01, 0x80] {
            assert!(!survives(&a, &b, |init| init[index] ^= bit), "byte {index}");
        }
    }
}

#[test]
fn a_version_that_was_taken_out_breaks_the_handshake() {
    let (a, b) = (
        with(1, |cfg| cfg.versions = Versions::new(1, 2)),
        with(2, |cfg| cfg.versions = Versions::new(1, 2)),
    );
    assert!(!survives(&a, &b, |init| init[17] = 1));
    let (_, listener) = completed(&a, &b);
    assert_eq!(listener.version, 2);
}

#[cfg(feature = "aws-lc")]
#[test]
fn a_suite_that_was_taken_out_or_put_in_breaks_the_handshake() {
    let prefer = |seed| with(seed, |cfg| cfg.prefer_aes = true);
    assert!(!survives(&prefer(1), &prefer(2), |init| init[18] = 1));
    assert!(!survives(&config(1), &prefer(2), |init| init[18] = 3));
}

#[test]
fn another_generation_is_refused_and_a_forged_one_breaks_the_handshake() {
    let (a, b) = (config(1), with(2, |cfg| cfg.passwords = only(1, 42)));
    let (state, init) = dial(&a);
    let error = respond(&b, THEIR_SLOT, &init, &mut rng(2)).expect_err("refused");
    let reply = error.reply().expect("a refusal");
    assert_eq!(
        state.check_reject(&a, reply),
        Some(RejectReason::Generation {
            held: b.passwords.generations()
        })
    );
    assert!(!survives(&a, &b, |init| init[2] = 1));
}

#[test]
fn versions_and_suites_without_anything_in_common_are_refused() {
    let (a, b) = (config(1), with(2, |cfg| cfg.versions = Versions::new(2, 3)));
    let (state, init) = dial(&a);
    let error = respond(&b, THEIR_SLOT, &init, &mut rng(2)).expect_err("refused");
    let reason = state.check_reject(&a, error.reply().expect("one"));
    let reason = reason.expect("a refusal").to_string();
    let text = "no common protocol version: it speaks 2 to 3, this router 1";
    assert_eq!(reason, text);
    let (state, mut init) = dial(&a);
    init[18] = 0x80;
    refresh_mac1("weave", &mut init);
    let error = respond(&config(2), THEIR_SLOT, &init, &mut rng(2)).expect_err("refused");
    assert_eq!(
        state.check_reject(&a, error.reply().expect("one")),
        Some(RejectReason::Suite)
    );
}

#[test]
fn another_mesh_is_not_answered_and_a_forged_name_breaks_the_handshake() {
    let (a, b) = (config(1), with(2, |cfg| cfg.mesh_name = "other".to_owned()));
    let (_, init) = dial(&a);
    let error = respond(&b, THEIR_SLOT, &init, &mut rng(2)).expect_err("silence");
    assert_eq!(error, HandshakeError::OtherMesh);
    assert_eq!(error.reply(), None);
    assert!(!survives(&a, &b, |_| ()));
}

#[test]
fn every_byte_of_the_second_message_counts_and_the_genuine_one_still_works_after() {
    let (a, b) = (config(1), config(2));
    let (mut state, init) = dial(&a);
    let (_, reply) = answer(&b, &init);
    for index in 0..reply.len() {
        let mut changed = reply.clone();
        changed[index] ^= 1;
        let refused = state.handle_reply(&a, &changed, |_| panic!("byte {index}"));
        state = refused.expect_err("a changed reply").0;
    }
    for len in 0..reply.len() {
        state = state
            .handle_reply(&a, &reply[..len], hello)
            .expect_err("cut off")
            .0;
    }
    assert!(state.handle_reply(&a, &reply, hello).is_ok());
}

#[test]
fn every_byte_of_the_third_message_counts_and_the_genuine_one_still_works_after() {
    let (a, b) = (config(1), config(2));
    let Dialled {
        mut listener,
        finish,
        confirm,
        ..
    } = dialled(&a, &b);
    for index in 0..finish.len() {
        let mut changed = finish.clone();
        changed[index] ^= 1;
        listener = listener.handle_finish(&b, &changed).expect_err("changed").0;
    }
    for len in 0..finish.len() {
        listener = listener
            .handle_finish(&b, &finish[..len])
            .expect_err("cut off")
            .0;
    }
    let listener = listener.handle_finish(&b, &finish).expect("a good finish");
    assert!(understand(&listener, confirm.completed(), Lane::Data));
}

#[test]
fn messages_of_two_handshakes_do_not_mix() {
    let (a, b) = (config(1), config(2));
    let first = dialled(&a, &b);
    let (state, init) = initiate(&a, MY_SLOT, None, &mut rng(3));
    let (listener, reply) = respond(&b, THEIR_SLOT, &init, &mut rng(4)).expect("a reply");
    let (state, error) = *state
        .handle_reply(&a, &first.reply, hello)
        .expect_err("not ours");
    assert_eq!(error, HandshakeError::Authentication);
    let (listener, error) = *listener
        .handle_finish(&b, &first.finish)
        .expect_err("not ours");
    assert_eq!(error, HandshakeError::Authentication);
    let (_, finish) = state.handle_reply(&a, &reply, hello).expect("a good reply");
    assert!(listener.handle_finish(&b, &finish).is_ok());
}

#[test]
fn the_clear_part_is_what_the_transcript_starts_with() {
    let (_, init) = dial(&config(1));
    assert_eq!(CLEAR_LEN, 80);
    assert_eq!(&init[16..19], &[1, 1, 1]);
    assert!(init[19..CLEAR_LEN].iter().all(|byte| *byte == 0));
}
