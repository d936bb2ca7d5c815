use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

use rand_chacha::ChaCha12Rng;
use weave_wire::{PayloadKind, SealedHeader};

use super::*;
use crate::kdf;
use crate::testing::rng;

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

fn shape(role: Role) -> SessionShape {
    let (local_slot, remote_slot) = match role {
        Role::Initiator => (11, 22),
        Role::Responder => (22, 11),
    };
    SessionShape {
        suite: Suite::ChaCha20Poly1305,
        role,
        local_slot,
        remote_slot,
    }
}

fn pair<K: KeyAgreement>(seed: u64) -> [Epochs<K>; 2] {
    let secret = kdf::public_key("test session", &[&seed.to_le_bytes()]);
    [Role::Initiator, Role::Responder].map(|role| {
        Epochs::new(
            shape(role),
            Chain::first(&secret),
            Time::ZERO,
            &mut rng(seed),
        )
    })
}

fn request<K: KeyAgreement>(epochs: &mut Epochs<K>, now: Time) -> RekeyMessage {
    epochs.start(now);
    match epochs.handle_timeout(now, &mut rng(5)) {
        Some(EpochAction::SendRequest(message)) => message,
        other => panic!("expected a request, got {other:?}"),
    }
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
    let answer = b
        .handle_request(asked, now, &mut rng(6))
        .expect("an answer");
    assert_eq!(b.current().number(), 0, "the answerer waits");
    assert_eq!(a.handle_reply(answer, now, &mut rng(7)), Ok(()));
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
    let answer = b
        .handle_request(asked, now, &mut rng(6))
        .expect("an answer");
    assert_eq!(opens(&b, late_a.clone()), Some(0));
    assert_eq!(a.handle_reply(answer, now, &mut rng(7)), Ok(()));
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
    let answer = b.handle_request(asked, Time::ZERO, &mut rng(6));
    let lane = b
        .receivable()
        .last()
        .map(|epoch| Arc::clone(epoch.send(Lane::Data)));
    assert_eq!(
        b.handle_request(asked, Time::from_secs(1), &mut rng(7)),
        answer
    );
    let again = b
        .receivable()
        .last()
        .map(|epoch| Arc::clone(epoch.send(Lane::Data)));
    assert!(
        lane.zip(again)
            .is_some_and(|(one, other)| Arc::ptr_eq(&one, &other))
    );
    let other = RekeyMessage {
        epoch: 1,
        public_key: [9; 32],
    };
    assert_eq!(
        b.handle_request(other, Time::ZERO, &mut rng(7)),
        Err(RekeyError::Conflict(1))
    );
}

#[test]
fn when_both_start_the_initiator_goes_first() {
    let [mut a, mut b] = pair::<EphemeralKey>(1);
    let (from_a, from_b) = (request(&mut a, Time::ZERO), request(&mut b, Time::ZERO));
    let crossed = a.handle_request(from_b, Time::ZERO, &mut rng(6));
    assert_eq!(crossed, Err(RekeyError::Crossed));
    let answer = b
        .handle_request(from_a, Time::ZERO, &mut rng(6))
        .expect("an answer");
    assert_eq!(a.handle_reply(answer, Time::ZERO, &mut rng(7)), Ok(()));
    assert!(b.opened(1, Time::ZERO, &mut rng(7)));
    let stale = RekeyError::Stale {
        asked: 1,
        current: 1,
    };
    assert_eq!(
        a.handle_request(from_b, Time::ZERO, &mut rng(6)),
        Err(stale)
    );
    assert_eq!(
        b.handle_request(from_a, Time::ZERO, &mut rng(6)),
        Err(stale)
    );
    assert_eq!(a.handle_reply(answer, Time::ZERO, &mut rng(7)), Err(stale));
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
    let message = |epoch| RekeyMessage {
        epoch,
        public_key: [9; 32],
    };
    for epoch in [0, 2, u32::MAX] {
        let stale = Err(RekeyError::Stale {
            asked: epoch,
            current: 0,
        });
        assert_eq!(
            a.handle_request(message(epoch), Time::ZERO, &mut rng(1)),
            stale
        );
    }
    let unasked = Err(RekeyError::Stale {
        asked: 1,
        current: 0,
    });
    assert_eq!(a.handle_reply(message(1), Time::ZERO, &mut rng(1)), unasked);
    let weak = RekeyMessage {
        epoch: 1,
        public_key: [0; 32],
    };
    let refused = a.handle_request(weak, Time::ZERO, &mut rng(1));
    assert_eq!(refused, Err(RekeyError::WeakKey(WeakKey)));
    let _ = request(&mut a, Time::ZERO);
    let refused = a.handle_reply(weak, Time::ZERO, &mut rng(1));
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
    let answer = b
        .handle_request(asked, Time::ZERO, &mut rng(6))
        .expect("an answer");
    assert_eq!(a.handle_reply(answer, Time::ZERO, &mut rng(7)), Ok(()));
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
    assert!(b.handle_request(asked, Time::ZERO, &mut rng(6)).is_ok());
    assert_eq!(b.epoch_of(index(22, 1)), Some(1));
    assert!(b.opened(1, Time::ZERO, &mut rng(6)));
    assert_eq!(b.epoch_of(index(22, 0)), Some(0));
}

/// Every pair of key and counter that ever sealed something.
#[derive(Default)]
struct Ledger(HashSet<(u64, u64)>);

impl Ledger {
    /// Notes the pair; false when it was used before.
    fn note(&mut self, lane: &SendLane, datagram: &[u8]) -> bool {
        let [key, _] = *lane.fingerprint().as_chunks::<8>().0 else {
            panic!("16 bytes")
        };
        let header = SealedHeader::decode(datagram).expect("a header");
        self.0.insert((u64::from_le_bytes(key), header.counter))
    }
}

#[test]
fn the_ledger_sees_a_counter_used_twice() {
    let chain = Chain::first(&[1; 32]);
    let (mut ledger, now) = (Ledger::default(), Time::ZERO);
    let [one, twin] = [(); 2].map(|()| {
        let (key, _) = chain.lane_keys(Suite::ChaCha20Poly1305, Role::Initiator, Lane::Data);
        SendLane::new(key, ReceiverIndex::new(1, 0, Lane::Data), Time::MAX)
    });
    assert!(ledger.note(&one, &sealed(&one, now)));
    assert!(ledger.note(&one, &sealed(&one, now)));
    assert!(
        !ledger.note(&twin, &sealed(&twin, now)),
        "two lanes with one key"
    );
}

/// When, a number to break ties, to whom, what.
type Arrival = (Time, u64, usize, Vec<u8>);

/// Two peers, a network that loses, repeats and reorders, and rekeys as often as they fit.
struct Simulation<K> {
    epochs: [Epochs<K>; 2],
    queue: BinaryHeap<Reverse<Arrival>>,
    next_id: u64,
    next_start: Time,
    ledger: Ledger,
    crossed: u32,
    rng: ChaCha12Rng,
}

const REQUEST: u8 = 1;
const REPLY: u8 = 2;
const PING: u8 = 3;
const OTHER: u8 = 4;

impl<K: KeyAgreement> Simulation<K> {
    fn new(seed: u64) -> Self {
        Self {
            epochs: pair(seed),
            queue: BinaryHeap::new(),
            next_id: 0,
            next_start: Time::ZERO,
            ledger: Ledger::default(),
            crossed: 0,
            rng: rng(seed),
        }
    }

    /// Runs until both sides have reached this epoch.
    fn run(&mut self, last: u32) {
        while self
            .epochs
            .iter()
            .any(|side| side.current().number() < last)
        {
            let wake = self
                .epochs
                .each_ref()
                .map(|side| side.poll_timeout().expect("alive"));
            let arrival = self.queue.peek().map_or(Time::MAX, |Reverse((at, ..))| *at);
            let now = wake[0].min(wake[1]).min(arrival).min(self.next_start);
            if now == self.next_start {
                self.start_some(now);
            }
            if now == arrival {
                let Some(Reverse((_, _, to, datagram))) = self.queue.pop() else {
                    return;
                };
                self.deliver(to, datagram, now);
            }
            for side in 0..2 {
                self.act(side, now);
            }
        }
    }

    /// Either side, or both at once.
    fn start_some(&mut self, now: Time) {
        let who = self.rng.next_u32() % 4;
        for side in 0..2 {
            if who == 3 || who as usize == side {
                self.epochs[side].start(now);
                self.send(
                    side,
                    Lane::Data,
                    OTHER,
                    RekeyMessage {
                        epoch: 0,
                        public_key: [0; 32],
                    },
                    now,
                );
            }
        }
        self.next_start =
            now + Duration::from_millis(10_000 + u64::from(self.rng.next_u32() % 40_000));
    }

    fn act(&mut self, side: usize, now: Time) {
        while let Some(action) = self.epochs[side].handle_timeout(now, &mut self.rng) {
            match action {
                EpochAction::SendRequest(message) => {
                    self.send(side, Lane::Control, REQUEST, message, now);
                }
                EpochAction::SendConfirmation => {
                    let nothing = RekeyMessage {
                        epoch: 0,
                        public_key: [0; 32],
                    };
                    self.send(side, Lane::Control, PING, nothing, now);
                }
                EpochAction::Forgot(_) => {}
                EpochAction::Expired => panic!("the session died at {now:?}"),
            }
        }
    }

    fn send(&mut self, side: usize, lane: Lane, kind: u8, message: RekeyMessage, now: Time) {
        let mut datagram = vec![0; 16];
        datagram.push(kind);
        datagram.extend_from_slice(&message.epoch.to_le_bytes());
        datagram.extend_from_slice(&message.public_key);
        datagram.resize(datagram.len() + 16, 0);
        let lane = self.epochs[side].current_send(lane);
        assert_eq!(lane.seal(PayloadKind::Control, now, &mut datagram), Ok(()));
        assert!(
            self.ledger.note(lane, &datagram),
            "a key and counter sealed twice"
        );
        let copies = match self.rng.next_u32() % 10 {
            0 | 1 => 0,
            2 => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let delay = Duration::from_millis(1 + u64::from(self.rng.next_u32() % 1_500));
            self.next_id += 1;
            self.queue.push(Reverse((
                now + delay,
                self.next_id,
                1 - side,
                datagram.clone(),
            )));
        }
    }

    fn deliver(&mut self, side: usize, mut datagram: Vec<u8>, now: Time) {
        let header = SealedHeader::decode(&datagram).expect("a header");
        let epochs = &mut self.epochs[side];
        let number = epochs
            .epoch_of(header.receiver)
            .expect("a receivable epoch");
        let epoch = epochs.receivable().find(|epoch| epoch.number() == number);
        let lane = header.receiver.lane().expect("a lane");
        let key = epoch.expect("that epoch").open_key(lane).clone();
        let (aad, rest) = datagram.split_at_mut(16);
        assert_eq!(
            key.open_in_place(header.counter, aad, rest),
            Ok(37),
            "lost a datagram"
        );
        epochs.opened(number, now, &mut self.rng);
        let epoch = u32::from_le_bytes(*rest[1..].first_chunk().expect("an epoch"));
        let public_key = *rest[5..].first_chunk().expect("a key");
        let message = RekeyMessage { epoch, public_key };
        match rest[0] {
            REQUEST => match epochs.handle_request(message, now, &mut self.rng) {
                Ok(answer) => self.send(side, Lane::Control, REPLY, answer, now),
                Err(RekeyError::Crossed) => self.crossed += 1,
                Err(RekeyError::Stale { .. }) => {}
                Err(error) => panic!("{error}"),
            },
            REPLY => {
                let _ = epochs.handle_reply(message, now, &mut self.rng);
            }
            PING => self.send(side, Lane::Control, OTHER, message, now),
            _ => {}
        }
    }
}

#[test]
fn a_million_rekeys_under_loss_and_reordering_never_use_a_counter_twice() {
    const SESSIONS: u64 = 32;
    const REKEYS: u32 = 31_250;
    std::thread::scope(|scope| {
        for half in 0..2 {
            scope.spawn(move || {
                for seed in (half..SESSIONS).step_by(2) {
                    let mut simulation = Simulation::<Toy>::new(seed);
                    simulation.run(REKEYS);
                    assert!(simulation.ledger.0.len() >= 4 * REKEYS as usize);
                }
            });
        }
    });
}

#[test]
fn a_thousand_rekeys_with_real_keys_go_the_same_way() {
    let mut simulation = Simulation::<EphemeralKey>::new(99);
    simulation.run(1000);
    assert!(
        simulation.crossed > 50,
        "requests crossed only {} times",
        simulation.crossed
    );
}
