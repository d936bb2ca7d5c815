use weave_wire::{PayloadKind, SealedHeader};
use zeroize::Zeroizing;

use super::*;
use crate::aead::Suite;
use crate::kdf;
use crate::testing::rng;

mod hybrid;
mod simulation;

/// An agreement that costs nothing and keeps nothing secret.
struct Toy([u8; 32]);

impl KeyAgreement for Toy {
    fn generate(rng: &mut impl RngCore) -> Self {
        let mut key = [0; 32];
        rng.fill_bytes(&mut key);
        Self(key)
    }

    fn public(&self) -> [u8; 32] {
        self.0
    }

    fn agree(&self, theirs: &[u8; 32]) -> Result<Zeroizing<[u8; 32]>, WeakKey> {
        let (low, high) = (self.0.min(*theirs), self.0.max(*theirs));
        Ok(kdf::derive(&low, "toy", &[&high]))
    }
}

fn shape(role: Role, kem: bool) -> SessionShape {
    let (local_slot, remote_slot) = match role {
        Role::Initiator => (11, 22),
        Role::Responder => (22, 11),
    };
    SessionShape {
        version: 1,
        suite: Suite::ChaCha20Poly1305,
        kem,
        role,
        local_slot,
        remote_slot,
    }
}

fn pair<K: KeyAgreement>(seed: u64) -> [Epochs<K>; 2] {
    pair_with(seed, false)
}

fn pair_with<K: KeyAgreement>(seed: u64, kem: bool) -> [Epochs<K>; 2] {
    let secret = kdf::public_key("test session", &[&seed.to_le_bytes()]);
    [Role::Initiator, Role::Responder].map(|role| {
        Epochs::new(
            shape(role, kem),
            Chain::first(&secret),
            Time::ZERO,
            &mut rng(seed),
        )
    })
}

fn request<K: KeyAgreement>(epochs: &mut Epochs<K>, now: Time) -> RekeyOffer {
    epochs.start(now);
    match epochs.handle_timeout(now, &mut rng(5)) {
        Some(EpochAction::SendRequest(message)) => message,
        other => panic!("expected a request, got {other:?}"),
    }
}

fn offer(epoch: u32, public_key: [u8; 32]) -> RekeyOffer {
    RekeyOffer {
        epoch,
        public_key,
        kem_key: None,
    }
}

fn reply(public_key: [u8; 32]) -> RekeyAnswer {
    RekeyAnswer {
        epoch: 1,
        public_key,
        kem_ciphertext: None,
    }
}

/// The answer to a request, all of whose parts arrive in order.
fn answered<K: KeyAgreement>(
    epochs: &mut Epochs<K>,
    offer: &RekeyOffer,
    now: Time,
) -> Result<RekeyAnswer, RekeyError> {
    let mut answer = None;
    for part in offer.clone().into_parts() {
        let given = epochs.handle_request(offer.epoch, part, now, &mut rng(6))?;
        answer = given.or(answer);
    }
    Ok(answer.expect("all parts were given"))
}

fn sealed(lane: &SendLane, now: Time) -> Vec<u8> {
    let mut datagram = vec![0; 40];
    assert_eq!(lane.seal(PayloadKind::Control, now, &mut datagram), Ok(()));
    datagram
}

fn opens<K: KeyAgreement>(epochs: &Epochs<K>, mut datagram: Vec<u8>) -> Option<u32> {
    let header = SealedHeader::decode(&datagram).expect("a header");
    let number = epochs.epoch_of(header.receiver)?;
    let epoch = epochs.receivable().find(|epoch| epoch.number() == number)?;
    let key = epoch.open_key(header.receiver.lane()?);
    let (aad, sealed) = datagram.split_at_mut(16);
    key.open_in_place(header.counter, aad, sealed)
        .ok()
        .map(|_| number)
}

#[test]
fn a_rekey_takes_request_answer_and_one_datagram() {
    let [mut a, mut b] = pair::<EphemeralKey>(1);
    let now = Time::from_secs(10);
    let asked = request(&mut a, now);
    assert_eq!(asked.epoch, 1);
    let answer = answered(&mut b, &asked, now).expect("an answer");
    assert_eq!(b.current().number(), 0, "the answerer waits");
    assert_eq!(a.handle_reply(&answer, now, &mut rng(7)), Ok(()));
    assert_eq!(a.current().number(), 1);
    assert_eq!(
        a.handle_timeout(now, &mut rng(8)),
        Some(EpochAction::SendConfirmation)
    );
    let first = sealed(a.current_send(Lane::Control), now);
    assert_eq!(opens(&b, first), Some(1));
    assert!(b.opened(1, now, &mut rng(8)));
    assert_eq!(b.current().number(), 1);
    assert_eq!(opens(&a, sealed(b.current_send(Lane::Data), now)), Some(1));
    assert!(!b.opened(1, now, &mut rng(8)));
}

#[test]
fn nothing_is_lost_while_the_two_sides_are_in_different_epochs() {
    let [mut a, mut b] = pair::<Toy>(1);
    let now = Time::ZERO;
    let late_a = sealed(a.current_send(Lane::Data), now);
    let late_b = sealed(b.current_send(Lane::Data), now);
    let asked = request(&mut a, now);
    let answer = answered(&mut b, &asked, now).expect("an answer");
    assert_eq!(opens(&b, late_a.clone()), Some(0));
    assert_eq!(a.handle_reply(&answer, now, &mut rng(7)), Ok(()));
    assert_eq!(opens(&a, late_b.clone()), Some(0));
    assert_eq!(opens(&a, sealed(b.current_send(Lane::Data), now)), Some(0));
    assert!(b.opened(1, now, &mut rng(8)));
    assert_eq!(opens(&b, late_a.clone()), Some(0));
    assert_eq!(opens(&a, late_b), Some(0));
    let later = now + PREVIOUS_FOR;
    assert_eq!(
        b.handle_timeout(later, &mut rng(8)),
        Some(EpochAction::Forgot(0))
    );
    assert_eq!(opens(&b, late_a), None);
}

#[test]
fn a_repeated_request_gets_the_same_answer_and_the_same_lanes() {
    let [mut a, mut b] = pair::<EphemeralKey>(1);
    let asked = request(&mut a, Time::ZERO);
    let answer = answered(&mut b, &asked, Time::ZERO);
    let lane = b
        .receivable()
        .last()
        .map(|epoch| Arc::clone(epoch.send(Lane::Data)));
    assert_eq!(answered(&mut b, &asked, Time::from_secs(1)), answer);
    let again = b
        .receivable()
        .last()
        .map(|epoch| Arc::clone(epoch.send(Lane::Data)));
    assert!(
        lane.zip(again)
            .is_some_and(|(one, other)| Arc::ptr_eq(&one, &other))
    );
    let other = offer(1, [9; 32]);
    assert_eq!(
        answered(&mut b, &other, Time::ZERO),
        Err(RekeyError::Conflict(1))
    );
}

#[test]
fn when_both_start_the_initiator_goes_first() {
    let [mut a, mut b] = pair::<EphemeralKey>(1);
    let (from_a, from_b) = (request(&mut a, Time::ZERO), request(&mut b, Time::ZERO));
    let crossed = answered(&mut a, &from_b, Time::ZERO);
    assert_eq!(crossed, Err(RekeyError::Crossed));
    let answer = answered(&mut b, &from_a, Time::ZERO).expect("an answer");
    assert_eq!(a.handle_reply(&answer, Time::ZERO, &mut rng(7)), Ok(()));
    assert!(b.opened(1, Time::ZERO, &mut rng(7)));
    let stale = RekeyError::Stale {
        asked: 1,
        current: 1,
    };
    assert_eq!(answered(&mut a, &from_b, Time::ZERO), Err(stale));
    assert_eq!(answered(&mut b, &from_a, Time::ZERO), Err(stale));
    assert_eq!(a.handle_reply(&answer, Time::ZERO, &mut rng(7)), Err(stale));
    assert_eq!(
        opens(&a, sealed(b.current_send(Lane::Data), Time::ZERO)),
        Some(1)
    );
    assert_eq!(
        opens(&b, sealed(a.current_send(Lane::Data), Time::ZERO)),
        Some(1)
    );
}

#[test]
fn early_late_and_weak_messages_change_nothing() {
    let [mut a, _] = pair::<EphemeralKey>(1);
    for epoch in [0, 2, u32::MAX] {
        let stale = Err(RekeyError::Stale {
            asked: epoch,
            current: 0,
        });
        assert_eq!(answered(&mut a, &offer(epoch, [9; 32]), Time::ZERO), stale);
    }
    let unasked = Err(RekeyError::Stale {
        asked: 1,
        current: 0,
    });
    assert_eq!(
        a.handle_reply(&reply([9; 32]), Time::ZERO, &mut rng(1)),
        unasked
    );
    let refused = answered(&mut a, &offer(1, [0; 32]), Time::ZERO);
    assert_eq!(refused, Err(RekeyError::WeakKey(WeakKey)));
    let _ = request(&mut a, Time::ZERO);
    let refused = a.handle_reply(&reply([0; 32]), Time::ZERO, &mut rng(1));
    assert_eq!(refused, Err(RekeyError::WeakKey(WeakKey)));
    assert_eq!(a.current().number(), 0);
    assert_eq!(a.receivable().count(), 1);
}

#[test]
fn the_initiator_starts_first_repeats_and_stops_for_good_when_nobody_answers() {
    let [mut a, b] = pair::<EphemeralKey>(1);
    let due = a.poll_timeout().expect("a rekey");
    assert!(due >= Time::from_secs(110) && due < Time::from_secs(130));
    let backstop = b.poll_timeout().expect("a rekey");
    assert!(backstop >= Time::from_secs(155) && backstop < Time::from_secs(175));
    let mut requests = Vec::new();
    let expired = loop {
        let now = a.poll_timeout().expect("something to do");
        match a.handle_timeout(now, &mut rng(1)) {
            Some(EpochAction::SendRequest(message)) => requests.push(message),
            Some(EpochAction::Expired) => break now,
            other => panic!("unexpected {other:?}"),
        }
    };
    assert_eq!(expired, Time::from_secs(180));
    assert!(requests.len() >= 50 && requests.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(a.poll_timeout(), None);
    assert_eq!(a.handle_timeout(Time::MAX, &mut rng(1)), None);
    let closed = a
        .current_send(Lane::Data)
        .seal(PayloadKind::Frame, expired, &mut [0; 40]);
    assert_eq!(closed, Err(crate::LaneClosed::Expired));
}

#[test]
fn the_confirmation_is_repeated_until_the_peer_is_heard_in_the_new_epoch() {
    let [mut a, mut b] = pair::<EphemeralKey>(1);
    let asked = request(&mut a, Time::ZERO);
    let answer = answered(&mut b, &asked, Time::ZERO).expect("an answer");
    assert_eq!(a.handle_reply(&answer, Time::ZERO, &mut rng(7)), Ok(()));
    for second in 0..5 {
        let now = Time::from_secs(second);
        assert_eq!(
            a.handle_timeout(now, &mut rng(8)),
            Some(EpochAction::SendConfirmation)
        );
        assert_eq!(a.handle_timeout(now, &mut rng(8)), None);
    }
    assert!(!a.opened(1, Time::from_secs(5), &mut rng(8)));
    assert_eq!(a.handle_timeout(Time::from_secs(5), &mut rng(8)), None);
}

#[test]
fn an_index_finds_its_epoch_by_slot_and_parity() {
    let [mut a, mut b] = pair::<EphemeralKey>(1);
    let index = |slot, epoch| ReceiverIndex::new(slot, epoch, Lane::Control);
    assert_eq!(b.epoch_of(index(22, 0)), Some(0));
    assert_eq!(b.epoch_of(index(22, 1)), None);
    assert_eq!(b.epoch_of(index(11, 0)), None);
    let asked = request(&mut a, Time::ZERO);
    assert!(answered(&mut b, &asked, Time::ZERO).is_ok());
    assert_eq!(b.epoch_of(index(22, 1)), Some(1));
    assert!(b.opened(1, Time::ZERO, &mut rng(6)));
    assert_eq!(b.epoch_of(index(22, 0)), Some(0));
}
