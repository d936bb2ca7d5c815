//! Several passwords at once.

use proptest::prelude::*;

use super::*;

/// Holds these generations, whose passwords are told apart by their number, and dials with the
/// first.
fn holding(seed: u8, generations: &[u16]) -> HandshakeConfig {
    with(seed, |cfg| cfg.passwords = held(generations))
}

fn held(generations: &[u16]) -> Passwords {
    let password = |generation: u16| {
        let [low, high] = generation.to_le_bytes();
        StretchedPassword::from_bytes([low ^ high.rotate_left(3); 32])
    };
    let mut passwords = Passwords::new(generations[0], password(generations[0]));
    for generation in &generations[1..] {
        assert!(passwords.add(*generation, password(*generation)));
    }
    passwords
}

#[test]
fn a_listener_takes_any_generation_that_it_holds_and_both_sides_know_which() {
    for dialled_with in [0, 1, 2] {
        let (a, b) = (holding(1, &[dialled_with]), holding(2, &[2, 0, 1]));
        let (dialler, listener) = completed(&a, &b);
        assert_eq!(
            (dialler.generation, listener.generation),
            (dialled_with, dialled_with)
        );
        assert!(understand(&dialler, &listener, Lane::Data));
    }
}

#[test]
fn a_dialler_can_choose_among_what_it_holds_and_nothing_else() {
    let (a, b) = (holding(1, &[3, 1]), holding(2, &[1]));
    assert!(initiate_with(&a, 2, MY_SLOT, &mut rng(1)).is_none());
    let (state, init) = initiate_with(&a, 1, MY_SLOT, &mut rng(1)).expect("held");
    assert_eq!(state.generation(), 1);
    let (listener, reply) = answer(&b, &init);
    assert_eq!(listener.generation(), 1);
    let (confirm, finish) = state.handle_reply(&a, &reply, hello).expect("a good reply");
    assert_eq!(confirm.completed().generation, 1);
    assert!(listener.handle_finish(&b, &finish).is_ok());
}

#[test]
fn a_removed_generation_is_refused_and_the_refusal_names_those_that_are_left() {
    let (a, mut b) = (holding(1, &[0, 1, 5]), holding(2, &[5, 0, 9]));
    assert!(b.passwords.remove(0));
    let (state, init) = dial(&a);
    let error = respond(&b, THEIR_SLOT, &init, &mut rng(2)).expect_err("refused");
    let reason = state.check_reject(&a, error.reply().expect("a refusal"));
    let Some(RejectReason::Generation { held }) = reason else {
        panic!("{reason:?}");
    };
    assert_eq!(held.highest_common(&a.passwords), Some(5));
    assert_eq!(
        RejectReason::Generation { held }.to_string(),
        "password of another generation: it has 5, 9"
    );
}

/// Before there were several, a listener named its own in the header and nothing after.
#[test]
fn a_refusal_of_a_listener_that_knows_one_generation_names_that_one() {
    let (a, b) = (holding(1, &[3, 0]), holding(2, &[0]));
    let (state, init) = dial(&a);
    let error = respond(&b, THEIR_SLOT, &init, &mut rng(2)).expect_err("refused");
    let reply = error.reply().expect("a refusal");
    assert_eq!(reply[2..4], [0, 0]);
    assert_eq!(reply[16..24], [2, 0, 0, 0, 0, 0, 0, 0]);
    let held = held(&[0]).generations();
    let expected = RejectReason::Generation { held };
    assert_eq!(state.check_reject(&a, reply), Some(expected));
}

proptest! {
    #[test]
    fn two_that_share_a_generation_find_the_highest_one_with_at_most_one_refusal(
        ours in prop::collection::btree_set(0..9_u16, 1..=4),
        theirs in prop::collection::btree_set(0..9_u16, 1..=4),
        turn in 0..4_usize,
    ) {
        let turned = |set: &std::collections::BTreeSet<u16>| {
            let mut all: Vec<_> = set.iter().copied().collect();
            let turn = turn % all.len();
            all.rotate_left(turn);
            all
        };
        let (a, b) = (holding(1, &turned(&ours)), holding(2, &turned(&theirs)));
        let (state, init) = dial(&a);
        let common = ours.intersection(&theirs).copied().max();
        match respond(&b, THEIR_SLOT, &init, &mut rng(2)) {
            Ok((listener, _)) => prop_assert!(ours.contains(&listener.generation()) && theirs.contains(&listener.generation())),
            Err(error) => {
                let reason = state.check_reject(&a, error.reply().expect("a refusal"));
                let Some(RejectReason::Generation { held }) = reason else {
                    return Err(TestCaseError::fail(format!("{reason:?}")));
                };
                prop_assert_eq!(held.highest_common(&a.passwords), common);
                if let Some(lower) = common {
                    let (_, init) = initiate_with(&a, lower, MY_SLOT, &mut rng(3)).expect("held");
                    prop_assert!(respond(&b, THEIR_SLOT, &init, &mut rng(4)).is_ok());
                }
            }
        }
    }
}
