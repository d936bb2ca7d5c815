//! The same attackers, while the password is rotated.

use super::*;

/// The password of generation 7; [`PASSWORD`] is that of generation 0.
const NEXT: &str = "letmein";

/// Holds both, and dials with this one.
fn rotating(seed: u8, in_use: u16) -> HandshakeConfig {
    let mut cfg = member(seed);
    let next = StretchedPassword::from_bytes(stretched(NEXT));
    assert!(cfg.passwords.add(7, next) && cfg.passwords.choose(in_use));
    cfg
}

#[test]
fn a_recorded_handshake_of_any_generation_gives_no_test_of_a_guess() {
    for generation in [0, 7] {
        let (a, b) = (rotating(1, generation), rotating(2, 7 - generation));
        let run = dialled(&a, &b);
        assert!(found_in_recorded(&a, &run).is_empty());
    }
}

/// Makes a dialler try both of its passwords, and records all of it.
#[test]
fn a_forged_refusal_that_brings_out_another_generation_gives_no_test_of_a_guess() {
    let (a, b) = (rotating(1, 7), rotating(2, 7));
    let (state, init) = dial(&a);
    let (listener, _) = answer(&b, &init);
    let held = only(0, 1).generations();
    let forged = listener.reject(&b, RejectReason::Generation { held });
    assert!(state.check_reject(&a, &forged).is_some());
    let lower = held.highest_common(&a.passwords).expect("both hold it");
    let (_, second) = initiate_with(&a, lower, MY_SLOT, &mut rng(1)).expect("held");
    // The draws are the same, on purpose: the worst that a generator could do.
    assert_eq!(initiator_ephemeral(&init), initiator_ephemeral(&second));
    for (first, secret) in [(&init, NEXT), (&second, PASSWORD)] {
        let init = Init::parse("weave", first).expect("a first message");
        let context = a.context(init.clear);
        let (ya, sid) = clear_share(&context, init.noise);
        let exchange = Exchange {
            context,
            sid,
            ya,
            yb: ya,
            scalar: None,
            theirs: vec![ya],
        };
        let found = found(|guess| exchange.shares_fit(guess));
        assert!(found.is_empty(), "{secret} of {found:?}");
    }
    let lower = rotating(1, lower);
    let run = dialled(&lower, &b);
    assert!(found_in_recorded(&lower, &run).is_empty());
}

#[test]
fn an_impostor_who_dials_has_one_guess_of_the_generation_that_he_names() {
    let cfg = rotating(2, 7);
    for (generation, right) in [(0, PASSWORD), (7, NEXT)] {
        for committed in [COMMITTED, PASSWORD, NEXT] {
            impostor_dials(&cfg, generation, committed, committed == right);
        }
    }
}
