use proptest::prelude::*;

use super::*;

fn password(byte: u8) -> StretchedPassword {
    StretchedPassword::from_bytes([byte; 32])
}

fn byte_of(held: &Passwords, generation: u16) -> Option<u8> {
    held.of(generation).map(|one| one.as_bytes()[0])
}

#[test]
fn the_generation_in_use_changes_and_both_stay_held() {
    let mut held = Passwords::new(0, password(7));
    assert!(held.add(1, password(8)));
    assert_eq!(held.in_use(), 0);
    assert!(held.choose(1) && held.choose(1));
    assert_eq!(held.in_use(), 1);
    assert_eq!((byte_of(&held, 0), byte_of(&held, 1)), (Some(7), Some(8)));
    assert!(!held.choose(2));
    assert!(!held.remove(1), "that in use stays");
    assert!(held.remove(0) && !held.remove(0));
    assert!(!held.holds(0) && held.holds(1));
}

#[test]
fn a_fifth_generation_finds_no_room() {
    let mut held = Passwords::new(9, password(9));
    for generation in 1..=3 {
        assert!(held.add(generation, password(1)));
    }
    assert!(!held.add(4, password(4)) && !held.holds(4));
    assert!(held.add(9, password(8)) && held.add(1, password(2)));
    assert_eq!((byte_of(&held, 9), byte_of(&held, 1)), (Some(8), Some(2)));
}

#[test]
fn the_highest_common_generation_is_found_and_none_that_is_not_held() {
    let mut theirs = Passwords::new(3, password(3));
    assert!(theirs.add(1, password(1)) && theirs.add(2, password(2)));
    let mut ours = Passwords::new(7, password(7));
    let named = theirs.generations();
    assert_eq!(named.to_string(), "1, 2, 3");
    assert_eq!(named.highest_common(&ours), None);
    assert!(ours.add(1, password(1)) && ours.add(2, password(2)));
    assert_eq!(named.highest_common(&ours), Some(2));
    assert!(ours.remove(2));
    assert_eq!(named.highest_common(&ours), Some(1));
}

#[test]
fn debug_output_holds_no_secret() {
    let text = format!("{:?}", Passwords::new(5, password(42)));
    assert_eq!(
        text,
        "Passwords { in_use: (5, StretchedPassword(..)), others: {} }"
    );
}

proptest! {
    #[test]
    fn whatever_is_done_one_generation_is_in_use_and_all_are_in_order(
        steps in prop::collection::vec((0..3_u8, 0..6_u16), 0..40),
    ) {
        let mut held = Passwords::new(0, password(0));
        for (step, generation) in steps {
            let before = held.all().count();
            match step {
                0 => { held.add(generation, password(1)); }
                1 => prop_assert_eq!(held.choose(generation), held.holds(generation)),
                _ => { held.remove(generation); }
            }
            prop_assert!(held.holds(held.in_use()));
            let all: Vec<_> = held.all().map(|(generation, _)| generation).collect();
            prop_assert!(all.is_sorted() && !all.is_empty() && all.len() <= Passwords::MOST);
            prop_assert!(all.len().abs_diff(before) <= 1);
            prop_assert!(all.iter().all(|one| held.holds(*one)));
            let named: BTreeSet<_> = held.generations().0.into_iter().collect();
            prop_assert_eq!(named.into_iter().collect::<Vec<_>>(), all);
        }
    }
}
