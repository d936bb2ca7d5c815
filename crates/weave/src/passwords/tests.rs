use proptest::prelude::*;

use super::*;

fn password(byte: u8) -> StretchedPassword {
    StretchedPassword::from_bytes([byte; 32])
}

/// What a weave does with the file that knows of no generations.
fn read_by_former(bytes: &[u8]) -> Option<[u8; 32]> {
    bytes.first_chunk().copied()
}

fn shape(set: &PasswordSet) -> (Vec<(u16, u8, bool)>, u16, u16) {
    let all = set.passwords.all();
    let all = all.map(|(generation, held)| {
        let [byte, ..] = *held.as_bytes();
        (generation, byte, set.is_empty(generation))
    });
    (all.collect(), set.passwords.in_use(), set.highest)
}

#[test]
fn a_rotation_counts_on_and_gives_no_number_twice() {
    let mut set = PasswordSet::new(0, password(1));
    assert_eq!(set.add(None, password(2)), Ok(1));
    assert_eq!(set.add(None, password(2)), Err(PasswordError::Known(1)));
    assert_eq!(set.add(Some(0), password(3)), Err(PasswordError::Taken(0)));
    assert_eq!(set.remove(0), Err(PasswordError::InUse(0)));
    assert_eq!(set.choose(2), Err(PasswordError::NotHeld(2)));
    assert_eq!(set.choose(1), Ok(()));
    assert_eq!(set.remove(0), Ok(()));
    assert_eq!(set.remove(0), Err(PasswordError::NotHeld(0)));
    assert_eq!(set.add(None, password(3)), Ok(2));
    assert_eq!(set.remove(2), Ok(()));
    assert_eq!(set.add(None, password(3)), Ok(3), "2 was given out");
    assert_eq!(
        (set.find(&password(3)), set.find(&password(1))),
        (Some(3), None)
    );
    assert_eq!(set.generations(), "1, 3");
    assert_eq!(set.add(Some(9), password(9)), Ok(9));
    assert_eq!(set.add(Some(u16::MAX), password(4)), Ok(u16::MAX));
    assert_eq!(set.add(None, password(5)), Err(PasswordError::NoNumber));
    assert_eq!(set.add(Some(7), password(5)), Err(PasswordError::Full));
}

#[test]
fn every_refusal_says_what_to_do() {
    let mut text = String::new();
    for error in [
        PasswordError::Known(1),
        PasswordError::Taken(2),
        PasswordError::Full,
        PasswordError::NoNumber,
        PasswordError::NotHeld(3),
        PasswordError::InUse(4),
    ] {
        text.push_str(&format!("{error}\n  {}\n", error.hint()));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn what_a_former_weave_stored_is_generation_0() {
    let set = PasswordSet::decode(&[7; 32]).unwrap();
    assert_eq!(shape(&set), (vec![(0, 7, false)], 0, 0));
    assert_eq!(*set.encode(), vec![7; 32], "and is left as it was");
}

#[test]
fn a_former_weave_finds_generation_0_while_that_is_held() {
    let mut set = PasswordSet::new(0, password(1));
    set.add(None, password(2)).unwrap();
    assert_eq!(read_by_former(&set.encode()), Some([1; 32]));
    set.choose(1).unwrap();
    assert_eq!(read_by_former(&set.encode()), Some([1; 32]));
    set.remove(0).unwrap();
    assert_eq!(read_by_former(&set.encode()), Some([2; 32]));
    assert_eq!(
        shape(&PasswordSet::decode(&set.encode()).unwrap()),
        shape(&set)
    );
}

#[test]
fn a_mesh_without_password_gets_one() {
    let mut set = PasswordSet::open().unwrap();
    assert!(set.is_open());
    set.add(None, password(2)).unwrap();
    set.choose(1).unwrap();
    let mut set = PasswordSet::decode(&set.encode()).unwrap();
    assert!(set.is_open() && set.is_empty(0) && !set.is_empty(1));
    set.remove(0).unwrap();
    assert!(!PasswordSet::decode(&set.encode()).unwrap().is_open());
}

#[test]
fn what_a_later_version_puts_behind_is_no_matter() {
    let mut set = PasswordSet::new(3, password(1));
    set.add(None, password(2)).unwrap();
    let longer = [&set.encode()[..], b"of a later version"].concat();
    assert_eq!(shape(&PasswordSet::decode(&longer).unwrap()), shape(&set));
}

#[test]
fn a_damaged_set_is_none() {
    let mut set = PasswordSet::new(0, password(1));
    set.add(None, password(2)).unwrap();
    let bytes = set.encode();
    for len in (0..bytes.len()).filter(|len| *len != 32) {
        assert!(PasswordSet::decode(&bytes[..len]).is_none(), "{len} bytes");
    }
    for (at, value) in [(32, b'G'), (38, 9), (40, 0), (76, 0)] {
        let mut damaged = bytes.to_vec();
        damaged[at] = value;
        assert!(PasswordSet::decode(&damaged).is_none(), "byte {at}");
    }
}

proptest! {
    #[test]
    fn whatever_was_done_the_set_survives_its_file(
        first in any::<u16>(),
        steps in prop::collection::vec((0..3_u8, prop::option::of(0..6_u16), any::<u8>()), 0..20),
    ) {
        let mut set = PasswordSet::new(first, password(0));
        for (step, generation, byte) in steps {
            let _ = match step {
                0 => set.add(generation, password(byte)).map(|_| ()),
                1 => set.choose(generation.unwrap_or(first)),
                _ => set.remove(generation.unwrap_or(first)),
            };
            let decoded = PasswordSet::decode(&set.encode()).unwrap();
            prop_assert_eq!(shape(&decoded), shape(&set));
        }
    }

    #[test]
    fn any_bytes_are_a_set_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Some(set) = PasswordSet::decode(&[&[1; 32], &MAGIC[..], &bytes].concat()) {
            prop_assert!(set.passwords.holds(set.passwords.in_use()));
        }
        let _ = PasswordSet::decode(&bytes);
    }
}
