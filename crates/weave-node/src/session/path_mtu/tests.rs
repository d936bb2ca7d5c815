//! The machine on a path that changes, loses and delays, in virtual time.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};

use super::*;
use crate::session::rtt::Rtt;

const SECOND: Duration = Duration::from_secs(1);
/// Frames of a second of a transfer.
const BULK: u32 = 1_000;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn v4() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 6783))
}

/// The machine, and the path that its probes go.
struct Bench {
    path: PathMtu,
    rtt: Rtt,
    rng: ChaCha12Rng,
    now: Time,
    /// Largest payload that passes whole.
    limit: u16,
    /// Of a hundred probes and of a hundred answers, how many get lost.
    loss: u32,
    delay: Duration,
    /// Answers come twice, and others with them that were never asked for.
    is_noisy: bool,
    /// The peer does not know probes.
    is_old: bool,
    /// Frames of a second.
    flow: u32,
    /// Its seconds are the frames sealed so far.
    sealed: Duration,
    answers: BTreeMap<(Time, u64), (u64, u16)>,
    next_answer: u64,
    /// Sizes that were answered since the path was new, moved or fallen.
    answered: BTreeSet<u16>,
    falls: u32,
    sent: u64,
    sent_bytes: u64,
}

impl Bench {
    fn new(limit: u16) -> Self {
        let now = Time::from_millis(10_300);
        Self {
            path: PathMtu::new(v4(), now),
            rtt: Rtt::default(),
            rng: ChaCha12Rng::seed_from_u64(1),
            now,
            limit,
            loss: 0,
            delay: ms(10),
            is_noisy: false,
            is_old: false,
            flow: 0,
            sealed: Duration::ZERO,
            answers: BTreeMap::new(),
            next_answer: 0,
            answered: BTreeSet::new(),
            falls: 0,
            sent: 0,
            sent_bytes: 0,
        }
    }

    /// A path that is found already, in the midst of a transfer.
    fn busy(limit: u16) -> Self {
        let mut bench = Self::new(limit);
        bench.flow = BULK;
        bench.run(10 * SECOND);
        bench.assert_found();
        bench
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
        self.pass_time(end);
    }

    /// Runs until the size is one that passes; how long that took.
    fn run_until_it_passes(&mut self) -> Duration {
        let begin = self.now;
        while self.path.max_datagram() > self.limit {
            assert!(self.step(begin + 60 * SECOND), "it never passes");
        }
        self.now.saturating_sub(begin)
    }

    fn step(&mut self, end: Time) -> bool {
        let answer = self.answers.keys().next().copied();
        let due = self.path.poll_timeout().max(self.now);
        let next = answer.map_or(due, |(at, _)| at.min(due));
        if next > end {
            return false;
        }
        self.pass_time(next);
        if let Some((nonce, size)) = answer
            .filter(|(at, _)| *at == next)
            .and_then(|key| self.answers.remove(&key))
        {
            self.answer(nonce, size);
        } else {
            let before = self.path.has_fallen_now();
            self.path.handle_timeout(
                self.sealed.as_secs(),
                self.rtt.timeout(),
                self.now,
                &mut self.rng,
            );
            assert!(self.path.poll_timeout() > self.now, "due for ever");
            if self.path.has_fallen_now() && !before {
                self.falls += 1;
                self.answered.clear();
            }
            self.send();
        }
        self.check();
        true
    }

    fn pass_time(&mut self, now: Time) {
        let passed = now.saturating_sub(self.now);
        self.sealed += passed * self.flow;
        self.now = now;
    }

    fn answer(&mut self, nonce: u64, size: u16) {
        if let Some(rtt) = self.path.handle_ack(nonce, self.now) {
            self.rtt.measured(rtt);
            self.answered.insert(size);
        }
        assert_eq!(
            self.path.handle_ack(nonce, self.now),
            None,
            "answered twice"
        );
    }

    fn send(&mut self) {
        while let Some(Probe { nonce, size }) = self.path.poll_probe() {
            self.sent += 1;
            self.sent_bytes += u64::from(size);
            if size > self.limit || self.is_old || self.is_lost() || self.is_lost() {
                continue;
            }
            self.answer_later(nonce, size, self.delay);
            if self.is_noisy {
                self.answer_later(nonce, size, self.delay * 2);
                self.answer_later(nonce ^ 1, size, ms(1));
            }
        }
    }

    fn answer_later(&mut self, nonce: u64, size: u16, delay: Duration) {
        self.next_answer += 1;
        let at = self.now + delay;
        self.answers.insert((at, self.next_answer), (nonce, size));
    }

    fn is_lost(&mut self) -> bool {
        self.rng.next_u32() % 100 < self.loss
    }

    /// What always holds.
    fn check(&self) {
        let size = self.path.max_datagram();
        let constants = [SMALLEST - 28, BASE - 28];
        assert!(
            constants.contains(&size) || self.answered.contains(&size),
            "{size} was never answered: {:?}",
            self.path
        );
        assert!(self.path.flying.len() <= MOST_FLYING);
        assert!(self.path.mtu().is_none_or(|mtu| mtu == size + 28));
    }

    fn is_found(&self) -> bool {
        let size = self.path.max_datagram();
        let best = self.limit.min(LARGEST - 28);
        size <= best && best - size < CLOSE
    }

    fn assert_found(&self) {
        assert!(
            self.is_found(),
            "{} of {}: {:?}",
            self.path.max_datagram(),
            self.limit,
            self.path
        );
    }
}

impl PathMtu {
    /// Fallen, and nothing confirmed since.
    fn has_fallen_now(&self) -> bool {
        self.has_fallen() && self.confirmed.is_none()
    }
}

#[test]
fn the_usual_sizes_are_found_in_one_round_trip_and_without_frames() {
    for (limit, found) in [
        (1_472, 1_472),
        (8_972, 8_972),
        (9_188, 8_972),
        (1_252, 1_252),
    ] {
        let mut bench = Bench::new(limit);
        assert_eq!((bench.path.max_datagram(), bench.path.mtu()), (1_252, None));
        bench.run(ms(11));
        assert_eq!(bench.path.max_datagram(), found);
        assert_eq!(bench.path.mtu(), Some(found + 28));
    }
}

#[test]
fn over_ipv6_the_same_mtus_leave_less_payload() {
    let to = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, 6783));
    let mut bench = Bench::new(1_452);
    bench.path = PathMtu::new(to, bench.now);
    assert_eq!(bench.path.max_datagram(), 1_232);
    bench
        .path
        .handle_timeout(0, ms(500), bench.now, &mut bench.rng);
    let probes: Vec<_> = std::iter::from_fn(|| bench.path.poll_probe()).collect();
    let sizes: Vec<_> = probes.iter().map(|probe| probe.size).collect();
    assert_eq!(sizes, [8_952, 1_452, 1_232, 528]);
    bench.path.handle_ack(probes[0].nonce, bench.now);
    assert_eq!(bench.path.mtu(), Some(9_000));
}

#[test]
fn with_frames_any_size_is_found_to_within_16_bytes() {
    for limit in (548..1_600).step_by(7).chain((1_600..9_000).step_by(97)) {
        let mut bench = Bench::new(limit);
        bench.flow = 1;
        bench.run(25 * SECOND);
        bench.assert_found();
        assert_eq!(bench.falls, 0);
    }
}

#[test]
fn a_path_below_the_base_is_used_as_soon_as_that_is_certain() {
    let mut bench = Bench::new(672);
    bench.flow = BULK;
    bench.run(ms(4_500));
    assert_eq!(bench.path.mtu(), Some(700));
}

#[test]
fn an_idle_session_sends_its_first_search_and_nothing_more() {
    for limit in [1_472, 700, 8_972] {
        let mut bench = Bench::new(limit);
        bench.run(10 * SECOND);
        let (sent, bytes) = (bench.sent, bench.sent_bytes);
        assert!(sent <= 13 && bytes < 40_000, "{sent} probes, {bytes} bytes");
        bench.run(3_600 * SECOND);
        assert_eq!(bench.sent, sent);
    }
}

#[test]
fn a_few_frames_cost_few_probes_and_many_cost_one_in_a_second() {
    let rate = |flow| {
        let mut bench = Bench::busy(1_472);
        bench.flow = flow;
        bench.run(10 * SECOND);
        let before = bench.sent_bytes;
        bench.run(600 * SECOND);
        assert_eq!(bench.falls, 0);
        (bench.sent_bytes - before) * 8 / 600
    };
    let (few, many) = (rate(2), rate(BULK));
    assert!(few < 3_000, "{few} bit/s");
    assert!(many < 16_000, "{many} bit/s");
}

#[test]
fn a_path_that_narrows_without_a_word_is_noticed_within_five_seconds() {
    for delay in [1, 20, 100] {
        for phase in 0..20 {
            let mut bench = Bench::busy(1_472);
            bench.delay = ms(delay);
            bench.run(5 * SECOND + ms(phase * 50));
            for limit in [1_200, 672, 548] {
                bench.limit = limit;
                let took = bench.run_until_it_passes();
                assert!(took < ms(2_600), "{took:?}");
                bench.run(ms(delay + 1));
                assert!(
                    bench.path.mtu().is_some(),
                    "the sizes below were probed at once"
                );
                bench.run(30 * SECOND);
                bench.assert_found();
            }
        }
    }
}

#[test]
fn a_session_that_was_idle_notices_it_at_its_first_use() {
    let mut bench = Bench::busy(1_472);
    bench.flow = 0;
    bench.run(600 * SECOND);
    bench.limit = 1_000;
    bench.run(600 * SECOND);
    assert_eq!(bench.path.mtu(), Some(1_500), "it cannot know yet");
    bench.flow = BULK;
    let took = bench.run_until_it_passes();
    assert!(took < ms(2_600), "{took:?}");
}

#[test]
fn a_path_that_widens_is_used_within_a_minute() {
    let mut bench = Bench::busy(672);
    for limit in [692, 1_200, 1_472, 5_000, 8_972] {
        bench.limit = limit;
        bench.run(50 * SECOND);
        bench.assert_found();
    }
    assert_eq!(bench.falls, 0);
}

#[test]
fn an_outage_is_no_narrow_path() {
    for loss_at in 0..10 {
        let mut bench = Bench::busy(1_472);
        bench.run(ms(loss_at * 100));
        bench.loss = 100;
        bench.run(18 * SECOND);
        assert_eq!(bench.path.mtu(), Some(1_500));
        bench.loss = 0;
        bench.run(30 * SECOND);
        assert_eq!((bench.path.mtu(), bench.falls), (Some(1_500), 0));
    }
}

#[test]
fn random_loss_hardly_ever_takes_a_size_away_and_never_for_long() {
    let mut bench = Bench::busy(1_472);
    bench.loss = 5;
    let (mut longest, mut total, mut since) = (Duration::ZERO, Duration::ZERO, None);
    let end = bench.now + 24 * 3_600 * SECOND;
    while bench.step(end) {
        match (bench.is_found(), since) {
            (false, None) => since = Some(bench.now),
            (true, Some(begin)) => {
                let took = bench.now.saturating_sub(begin);
                (longest, total) = (longest.max(took), total + took);
                since = None;
            }
            (false, Some(_)) | (true, None) => {}
        }
    }
    assert!(bench.falls <= 10, "{} falls in a day", bench.falls);
    assert!(
        longest < 2 * SECOND && total < 10 * SECOND,
        "{longest:?}, {total:?}"
    );
}

#[test]
fn a_peer_that_knows_no_probes_gets_the_base_and_few_of_them() {
    let mut bench = Bench::new(1_472);
    bench.is_old = true;
    bench.flow = BULK;
    bench.run(600 * SECOND);
    assert_eq!((bench.path.max_datagram(), bench.path.mtu()), (1_252, None));
    let rate = bench.sent_bytes * 8 / 600;
    assert!(rate < 30_000, "{rate} bit/s");
}

#[test]
fn another_address_is_another_path() {
    let mut bench = Bench::busy(8_972);
    bench.path.moved(v4(), bench.now);
    bench.answered.clear();
    assert_eq!((bench.path.max_datagram(), bench.path.mtu()), (1_252, None));
    bench.limit = 1_472;
    bench.run(SECOND);
    assert_eq!(bench.path.mtu(), Some(1_500));
}

#[derive(Debug, Clone)]
enum Change {
    Limit(u16),
    Loss(u32),
    Delay(u64),
    Flow(u32),
    Noise(bool),
    Move,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (548..9_188_u16).prop_map(Change::Limit),
        1 => (0..=100_u32).prop_map(Change::Loss),
        1 => (0..1_500_u64).prop_map(Change::Delay),
        2 => prop_oneof![Just(0), Just(1), Just(BULK)].prop_map(Change::Flow),
        1 => any::<bool>().prop_map(Change::Noise),
        1 => Just(Change::Move),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_happens_only_what_was_answered_is_used_and_in_the_end_it_fits(
        seed: u64,
        changes in proptest::collection::vec((change(), 0..40_000_u64), 0..30),
    ) {
        let mut bench = Bench::new(1_472);
        bench.rng = ChaCha12Rng::seed_from_u64(seed);
        for (change, pause) in changes {
            match change {
                Change::Limit(limit) => bench.limit = limit,
                Change::Loss(loss) => bench.loss = loss,
                Change::Delay(delay) => bench.delay = ms(delay),
                Change::Flow(flow) => bench.flow = flow,
                Change::Noise(noise) => bench.is_noisy = noise,
                Change::Move => {
                    bench.path.moved(v4(), bench.now);
                    bench.answered.clear();
                }
            }
            bench.run(ms(pause));
        }
        (bench.loss, bench.delay, bench.flow) = (0, ms(20), BULK);
        bench.run(120 * SECOND);
        prop_assert!(bench.is_found(), "{} of {}", bench.path.max_datagram(), bench.limit);
    }
}
