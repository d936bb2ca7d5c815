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
