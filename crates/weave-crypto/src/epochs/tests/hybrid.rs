//! Exchanges with an ML-KEM half.

use proptest::prelude::*;

use super::*;

const NOW: Time = Time::ZERO;

fn hybrid_pair() -> [Epochs; 2] {
    pair_with(1, true)
}

fn parts(offer: &RekeyOffer) -> [OfferPart; 2] {
    let parts: Vec<_> = offer.clone().into_parts().collect();
    parts.try_into().expect("two parts")
}

/// Makes the step that follows an answer, and checks that both sides share the new keys.
fn assert_step(a: &mut Epochs, b: &mut Epochs, answer: &RekeyAnswer) {
    assert_eq!(a.handle_reply(answer, NOW, &mut rng(7)), Ok(()));
    let first = sealed(a.current_send(Lane::Control), NOW);
    assert_eq!(opens(b, first), Some(answer.epoch));
    assert!(b.opened(answer.epoch, NOW, &mut rng(8)));
    let back = sealed(b.current_send(Lane::Data), NOW);
    assert_eq!(opens(a, back), Some(answer.epoch));
}

#[test]
fn the_initiator_starts_the_first_exchange_at_once_and_later_ones_when_due() {
    let [mut a, mut b] = hybrid_pair();
    assert_eq!(a.poll_timeout(), Some(NOW));
    assert!(b.poll_timeout() >= Some(Time::from_secs(155)));
    let asked = request(&mut a, NOW);
    let answer = answered(&mut b, &asked, NOW).expect("an answer");
    assert!(asked.kem_key.is_some() && answer.kem_ciphertext.is_some());
    assert_step(&mut a, &mut b, &answer);
    let Exchange::Idle { due } = a.exchange else {
        panic!("{a:?}")
    };
    assert!(due >= Time::from_secs(110), "{due:?}");
}

#[test]
fn both_halves_and_all_that_was_sent_go_into_the_keys() {
    let lane = |epochs: &Epochs| epochs.current_send(Lane::Data).fingerprint();
    let step = |change: fn(&mut RekeyAnswer)| {
        let [mut a, mut b] = hybrid_pair();
        let asked = request(&mut a, NOW);
        let mut answer = answered(&mut b, &asked, NOW).expect("an answer");
        change(&mut answer);
        assert_eq!(a.handle_reply(&answer, NOW, &mut rng(7)), Ok(()));
        lane(&a)
    };
    let right = step(|_| ());
    assert_eq!(step(|_| ()), right);
    assert_ne!(step(|answer| answer.public_key[0] ^= 1), right);
    let other_ciphertext: fn(&mut RekeyAnswer) = |answer| {
        if let Some(ciphertext) = &mut answer.kem_ciphertext {
            ciphertext[0] ^= 1;
        }
    };
    assert_ne!(step(other_ciphertext), right, "rejected implicitly");
}

#[test]
fn repeated_after_the_answer_the_first_part_gets_the_same_and_the_second_nothing() {
    let [mut a, mut b] = hybrid_pair();
    let [first, second] = parts(&request(&mut a, NOW));
    assert_eq!(
        b.handle_request(1, first.clone(), NOW, &mut rng(6)),
        Ok(None)
    );
    assert_eq!(
        b.handle_request(1, first.clone(), NOW, &mut rng(6)),
        Ok(None)
    );
    let answer = b.handle_request(1, second.clone(), NOW, &mut rng(6));
    assert!(matches!(answer, Ok(Some(_))));
    assert_eq!(b.handle_request(1, second, NOW, &mut rng(6)), Ok(None));
    assert_eq!(b.handle_request(1, first, NOW, &mut rng(9)), answer);
}

#[test]
fn a_part_that_differs_from_the_one_before_is_dropped() {
    let [mut a, mut b] = hybrid_pair();
    let asked = request(&mut a, NOW);
    let [first, second] = parts(&asked);
    let conflict = Err(RekeyError::Conflict(1));
    assert_eq!(b.handle_request(1, second, NOW, &mut rng(6)), Ok(None));
    let other = OfferPart::KemKey(Box::new([0; 1184]));
    assert_eq!(
        b.handle_request(1, other.clone(), NOW, &mut rng(6)),
        conflict
    );
    assert!(matches!(
        b.handle_request(1, first, NOW, &mut rng(6)),
        Ok(Some(_))
    ));
    assert_eq!(b.handle_request(1, other, NOW, &mut rng(6)), conflict);
    let other = OfferPart::PublicKey([9; 32]);
    assert_eq!(b.handle_request(1, other, NOW, &mut rng(6)), conflict);
}

#[test]
fn after_an_invalid_kem_key_a_valid_one_is_answered() {
    let [mut a, mut b] = hybrid_pair();
    let mut broken = request(&mut a, NOW);
    let valid = broken.clone();
    if let Some(key) = &mut broken.kem_key {
        // A coefficient of 0xfff is not below 3329.
        key[..3].fill(0xff);
    }
    let refused = answered(&mut b, &broken, NOW);
    assert_eq!(refused, Err(RekeyError::InvalidKemKey(InvalidKemKey)));
    assert_eq!(b.receivable().count(), 1);
    let answer = answered(&mut b, &valid, NOW).expect("an answer");
    assert_step(&mut a, &mut b, &answer);
}

#[test]
fn without_a_kem_on_both_sides_a_kem_part_is_dropped_and_with_it_none_is_missed() {
    let [_, mut plain] = pair::<EphemeralKey>(1);
    let part = OfferPart::KemKey(Box::new([0; 1184]));
    let refused = plain.handle_request(1, part, NOW, &mut rng(6));
    assert_eq!(refused, Err(RekeyError::Kem));
    let [mut a, mut b] = hybrid_pair();
    let asked = request(&mut a, NOW);
    let answer = answered(&mut b, &asked, NOW).expect("an answer");
    let mut stripped = answer.clone();
    stripped.kem_ciphertext = None;
    let refused = a.handle_reply(&stripped, NOW, &mut rng(7));
    assert_eq!(refused, Err(RekeyError::Kem));
    assert_step(&mut a, &mut b, &answer);
    let [mut a, mut b] = pair::<EphemeralKey>(1);
    let asked = request(&mut a, NOW);
    let mut answer = answered(&mut b, &asked, NOW).expect("an answer");
    answer.kem_ciphertext = Some(Box::new([0; 1088]));
    let refused = a.handle_reply(&answer, NOW, &mut rng(7));
    assert_eq!(refused, Err(RekeyError::Kem));
}

#[test]
fn when_both_start_the_parts_of_the_responder_are_left_lying() {
    let [mut a, mut b] = hybrid_pair();
    let late = Time::from_secs(160);
    let (from_a, from_b) = (request(&mut a, late), request(&mut b, late));
    let [_, second] = parts(&from_b);
    let crossed = a.handle_request(1, second.clone(), late, &mut rng(6));
    assert_eq!(crossed, Err(RekeyError::Crossed));
    let answer = answered(&mut b, &from_a, late).expect("an answer");
    assert_eq!(a.handle_reply(&answer, late, &mut rng(7)), Ok(()));
    assert!(b.opened(1, late, &mut rng(7)));
    let stale = RekeyError::Stale {
        asked: 1,
        current: 1,
    };
    assert_eq!(a.handle_request(1, second, late, &mut rng(6)), Err(stale));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Parts of any order and number, some of them not the peer's, never leave the two sides
    /// with different keys, and the request as it is sent is answered in the end.
    #[test]
    fn whatever_comes_of_a_request_the_whole_one_is_answered(
        deliveries in proptest::collection::vec(0..4_u8, 0..12),
    ) {
        let [mut a, mut b] = hybrid_pair();
        let asked = request(&mut a, NOW);
        let [first, second] = parts(&asked);
        for delivery in deliveries {
            let (epoch, part) = match delivery {
                0 => (1, first.clone()),
                1 => (1, second.clone()),
                2 => (2, first.clone()),
                _ => (0, second.clone()),
            };
            let taken = b.handle_request(epoch, part, NOW, &mut rng(6));
            prop_assert_eq!(taken.is_ok(), epoch == 1);
        }
        let answer = answered(&mut b, &asked, NOW).expect("an answer");
        assert_step(&mut a, &mut b, &answer);
    }
}
