//! Rekeys by the million over a network that loses, repeats and reorders.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

use rand_chacha::ChaCha12Rng;

use super::*;

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
        SendLane::new(key, 1, ReceiverIndex::new(1, 0, Lane::Data), Time::MAX)
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
    /// Parts that were not the last missing one.
    halves: u32,
    rng: ChaCha12Rng,
}

const KEY_PART: u8 = 1;
const KEM_PART: u8 = 2;
const REPLY: u8 = 3;
const PING: u8 = 4;
const OTHER: u8 = 5;

impl<K: KeyAgreement> Simulation<K> {
    fn new(seed: u64, kem: bool) -> Self {
        Self {
            epochs: pair_with(seed, kem),
            queue: BinaryHeap::new(),
            next_id: 0,
            next_start: Time::ZERO,
            ledger: Ledger::default(),
            crossed: 0,
            halves: 0,
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
                self.send(side, Lane::Data, OTHER, 0, &[], now);
            }
        }
        self.next_start =
            now + Duration::from_millis(10_000 + u64::from(self.rng.next_u32() % 40_000));
    }

    fn act(&mut self, side: usize, now: Time) {
        while let Some(action) = self.epochs[side].handle_timeout(now, &mut self.rng) {
            match action {
                EpochAction::SendRequest(offer) => {
                    let epoch = offer.epoch;
                    for part in offer.into_parts() {
                        let (kind, key) = match &part {
                            OfferPart::PublicKey(key) => (KEY_PART, &key[..]),
                            OfferPart::KemKey(key) => (KEM_PART, &key[..]),
                        };
                        self.send(side, Lane::Control, kind, epoch, key, now);
                    }
                }
                EpochAction::SendConfirmation => {
                    self.send(side, Lane::Control, PING, 0, &[], now);
                }
                EpochAction::Forgot(_) => {}
                EpochAction::Expired => panic!("the session died at {now:?}"),
            }
        }
    }

    fn send(&mut self, side: usize, lane: Lane, kind: u8, epoch: u32, rest: &[u8], now: Time) {
        let mut datagram = vec![0; 16];
        datagram.push(kind);
        datagram.extend_from_slice(&epoch.to_le_bytes());
        datagram.extend_from_slice(rest);
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
        let opened = key.open_in_place(header.counter, aad, rest);
        let length = opened.expect("no datagram is lost");
        epochs.opened(number, now, &mut self.rng);
        let epoch = u32::from_le_bytes(*rest[1..].first_chunk().expect("an epoch"));
        let content = &rest[5..length];
        match rest[0] {
            KEY_PART => {
                let key = content.try_into().expect("a key");
                self.take_part(side, epoch, OfferPart::PublicKey(key), now);
            }
            KEM_PART => {
                let key = content.to_vec().into_boxed_slice();
                let key = OfferPart::KemKey(key.try_into().expect("a KEM key"));
                self.take_part(side, epoch, key, now);
            }
            REPLY => {
                let (key, ciphertext) = content.split_first_chunk().expect("a key");
                let answer = RekeyAnswer {
                    epoch,
                    public_key: *key,
                    kem_ciphertext: ciphertext.to_vec().into_boxed_slice().try_into().ok(),
                };
                let _ = epochs.handle_reply(&answer, now, &mut self.rng);
            }
            PING => self.send(side, Lane::Control, OTHER, 0, &[], now),
            _ => {}
        }
    }

    fn take_part(&mut self, side: usize, epoch: u32, part: OfferPart, now: Time) {
        match self.epochs[side].handle_request(epoch, part, now, &mut self.rng) {
            Ok(Some(answer)) => {
                let ciphertext = answer.kem_ciphertext.as_deref().map(<[u8; 1088]>::as_slice);
                let rest = [&answer.public_key[..], ciphertext.unwrap_or_default()].concat();
                self.send(side, Lane::Control, REPLY, answer.epoch, &rest, now);
            }
            Ok(None) => self.halves += 1,
            Err(RekeyError::Crossed) => self.crossed += 1,
            Err(RekeyError::Stale { .. }) => {}
            Err(error) => panic!("{error}"),
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
                    let mut simulation = Simulation::<Toy>::new(seed, false);
                    simulation.run(REKEYS);
                    assert!(simulation.ledger.0.len() >= 4 * REKEYS as usize);
                }
            });
        }
    });
}

#[test]
fn a_thousand_rekeys_with_real_keys_go_the_same_way() {
    let mut simulation = Simulation::<EphemeralKey>::new(99, false);
    simulation.run(1000);
    assert!(
        simulation.crossed > 50,
        "requests crossed only {} times",
        simulation.crossed
    );
}

#[test]
fn a_thousand_hybrid_rekeys_go_the_same_way_whatever_happens_to_the_two_parts() {
    for seed in 0..5 {
        let mut simulation = Simulation::<EphemeralKey>::new(seed, true);
        simulation.run(200);
        assert!(simulation.crossed > 5 && simulation.halves > 200);
    }
}
