//! Laws of the set of bans: order decides nothing, what is known is stored, what nobody says any
//! more is passed on.

use std::iter;

use proptest::prelude::*;
use rand_chacha::rand_core::SeedableRng as _;

use super::*;

const ME: PeerId = PeerId([1; 32]);

fn peer(number: u8) -> PeerId {
    PeerId([number; 32])
}

fn at(secs: u64) -> Time {
    Time::from_secs(secs)
}

fn bans(stored: &[(Vec<u8>, Vec<u8>)]) -> Bans {
    Bans::new(ME, stored, ChaCha12Rng::seed_from_u64(1))
}

fn entry_of(banned: PeerId, reason: &str) -> Option<entry::Body> {
    Some(entry::Body::Ban(BanRecord {
        peer: banned.as_bytes().to_vec(),
        reason: reason.to_owned(),
        by: Vec::new(),
    }))
}

/// What a disk holds that took these writes.
fn disk(writes: Option<Writes>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let writes = writes.into_iter().flatten();
    let kept = writes.filter_map(|(key, value)| Some((key, value?)));
    kept.collect()
}

#[test]
fn a_ban_asked_for_here_is_in_force_once_it_is_durable_and_known_after_a_restart() {
    let mut here = bans(&[]);
    here.ask(peer(2), "stolen");
    assert_eq!(here.progress(&peer(2)), Some(BanProgress::Storing));
    assert!(!here.contains(&peer(2)));
    let stored = disk(here.take_unsaved(at(1)));
    assert_eq!(here.take_unsaved(at(1)), None, "one batch at a time");
    let said = here.saved();
    assert_eq!(said.len(), 1);
    assert_eq!(here.progress(&peer(2)), Some(BanProgress::InForce));
    assert_eq!(here.take_unsaved(at(2)), None, "nothing is left to store");
    let again = bans(&stored);
    assert_eq!(again.own().collect::<Vec<_>>(), [&said[0]]);
    assert_eq!(again.iter().count(), 1);
}

#[test]
fn a_ban_that_the_disk_refuses_is_given_up_where_it_was_asked_for_and_tried_again_elsewhere() {
    let mut here = bans(&[]);
    here.ask(peer(2), "");
    assert_eq!(
        here.apply(peer(3), 9, entry_of(peer(4), "").as_ref(), at(1)),
        Some(peer(4))
    );
    assert_eq!(disk(here.take_unsaved(at(1))).len(), 2);
    here.save_failed("disk full", at(1));
    let failed = Some(BanProgress::Failed("disk full".to_owned()));
    assert_eq!(here.progress(&peer(2)), failed);
    assert!(
        here.contains(&peer(4)),
        "what others said holds all the same"
    );
    assert_eq!(here.take_unsaved(at(1)), None);
    assert_eq!(here.poll_timeout(), Some(at(2)));
    assert_eq!(disk(here.take_unsaved(at(2))).len(), 1);
    assert!(here.saved().is_empty());
    here.ask(peer(2), "again");
    assert_eq!(here.progress(&peer(2)), Some(BanProgress::Storing));
}

#[test]
fn a_ban_that_was_given_up_here_is_stored_once_others_say_it() {
    let mut here = bans(&[]);
    here.ask(peer(2), "");
    assert_eq!(disk(here.take_unsaved(at(1))).len(), 1);
    here.save_failed("disk full", at(1));
    let said = entry_of(peer(2), "");
    assert_eq!(here.apply(peer(3), 9, said.as_ref(), at(2)), Some(peer(2)));
    let stored = disk(here.take_unsaved(at(3)));
    assert_eq!(stored.len(), 1);
    assert!(here.saved().is_empty(), "this host did not say it");
    assert!(bans(&stored).contains(&peer(2)), "also after a restart");
}

#[test]
fn what_is_known_already_is_not_asked_for_again() {
    let mut here = bans(&[]);
    here.apply(peer(3), 9, entry_of(peer(4), "first").as_ref(), at(1));
    here.ask(peer(4), "second");
    assert_eq!(here.progress(&peer(4)), Some(BanProgress::InForce));
    assert_eq!(disk(here.take_unsaved(at(1))).len(), 1);
}

#[test]
fn a_ban_that_its_issuer_no_longer_says_holds_and_is_passed_on_with_its_name() {
    let mut here = bans(&[]);
    here.apply(peer(3), 9, entry_of(peer(4), "stolen").as_ref(), at(1));
    assert_eq!(here.poll_timeout(), None);
    here.apply(peer(3), 9, None, at(2));
    assert!(here.contains(&peer(4)));
    let due = here.poll_timeout().expect("it is to be passed on");
    assert!(due >= at(12) && due <= at(42), "{due:?}");
    assert!(here.take_orphans(at(11)).is_empty());
    let passed = here.take_orphans(due);
    let (key, body) = ban_entry(&ME, &passed[0]);
    assert_eq!(key, format!("ban/{}", peer(4)));
    let told = of_body(ME, &body).expect("a ban");
    assert_eq!((told.by, told.reason.as_str()), (peer(3), "stolen"));
    assert_eq!(here.apply(ME, 5, Some(&body), due), None);
    here.look_for_orphans(due);
    assert_eq!(here.poll_timeout(), None, "our own log says it now");
}

#[test]
fn nobody_puts_a_ban_into_our_mouth() {
    let mut here = bans(&[]);
    let record = BanRecord {
        by: ME.as_bytes().to_vec(),
        peer: peer(4).as_bytes().to_vec(),
        reason: String::new(),
    };
    here.apply(peer(3), 9, Some(&entry::Body::Ban(record)), at(1));
    assert_eq!(here.own().count(), 0);
    assert_eq!(here.iter().next().map(|ban| ban.by), Some(peer(3)));
}

#[test]
fn a_long_reason_is_cut_and_a_full_disk_record_is_never_exceeded() {
    let mut here = bans(&[]);
    here.ask(peer(4), &"ü".repeat(1_000));
    here.take_unsaved(at(1));
    let said = here.saved();
    let (_, body) = ban_entry(&ME, &said[0]);
    assert!(
        check_entry(&Entry {
            slot: 1,
            body: Some(body)
        })
        .is_ok()
    );
}

#[test]
fn a_peer_that_bans_everybody_is_listened_to_so_far_and_can_be_banned_all_the_same() {
    let mut here = bans(&[]);
    let key = |number: usize| {
        let mut key = [7; 32];
        key[..8].copy_from_slice(&number.to_be_bytes());
        PeerId(key)
    };
    // five of them, and what they said before their restart counts as well
    for origin in 20..25 {
        for (slot, number) in (0..).zip(0..2 * MAX_OF_ONE) {
            let banned = key(usize::from(origin) * 10_000 + number);
            here.apply(peer(origin), slot, entry_of(banned, "").as_ref(), at(1));
            here.apply(peer(origin), slot, None, at(1));
        }
    }
    assert_eq!(here.iter().count(), 5 * MAX_OF_ONE);
    assert_eq!(disk(here.take_unsaved(at(1))).len(), MAX_STORED);
    here.saved();
    assert_eq!(here.take_unsaved(at(2)), None);
    here.ask(peer(20), "");
    let stored = disk(here.take_unsaved(at(2)));
    assert_eq!(
        stored.len(),
        1,
        "what an operator typed is stored all the same"
    );
    here.saved();
    assert_eq!(here.progress(&peer(20)), Some(BanProgress::InForce));
}

#[test]
fn a_stored_record_that_cannot_be_read_is_left_out() {
    let stored = [
        (b"ban/x".to_vec(), vec![0xff; 9]),
        (b"ban/y".to_vec(), BanRecord::default().encode_to_vec()),
        (b"other".to_vec(), Vec::new()),
    ];
    assert_eq!(bans(&stored).iter().count(), 0);
}

proptest! {
    /// Several logs set and remove bans, also of each other; whatever order they are heard in,
    /// and however often, the same peers are banned and the same words shown.
    #[test]
    fn the_order_in_which_bans_are_heard_decides_nothing(
        said in prop::collection::vec((2..6_u8, 2..8_u8, "[a-c]{0,2}"), 1..12),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..24),
    ) {
        let entries = (0..).zip(&said);
        let entries: Vec<(PeerId, u64, _)> = entries
            .map(|(slot, (by, whom, why))| (peer(*by), slot, entry_of(peer(*whom), why)))
            .collect();
        let hear = |here: &mut Bans, index: usize| {
            let (by, slot, body) = &entries[index];
            here.apply(*by, *slot, body.as_ref(), at(1));
        };
        let (mut straight, mut mixed) = (bans(&[]), bans(&[]));
        (0..entries.len()).for_each(|index| hear(&mut straight, index));
        for index in order.iter().map(|index| index.index(entries.len())) {
            hear(&mut mixed, index);
        }
        (0..entries.len()).rev().for_each(|index| hear(&mut mixed, index));
        let shown = |here: &Bans| here.iter().cloned().collect::<Vec<_>>();
        prop_assert_eq!(shown(&straight), shown(&mixed));
        let stored = disk(mixed.take_unsaved(at(1)));
        prop_assert_eq!(shown(&bans(&stored)), shown(&mixed), "a restart changes nothing");
        // entries that vanish lift nothing
        for (by, slot, _) in entries.iter().chain(iter::once(&entries[0])) {
            mixed.apply(*by, *slot, None, at(2));
        }
        prop_assert_eq!(shown(&straight), shown(&mixed));
    }
}
