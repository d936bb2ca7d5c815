//! The password changes while the mesh runs.

use std::time::Duration;

use proptest::prelude::*;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};
use weave_crypto::{Passwords, StretchedPassword, respond};
use weave_wire::{DatagramType, Lane, SealedHeader};

use super::net::{Event, Faults, Net, RIGHT, addr_of};
use crate::post_quantum::PostQuantum;
use crate::session::ConnectionState;

const SECOND: Duration = Duration::from_secs(1);

/// Datagrams overtake each other, and none is lost.
const REORDERING: Faults = Faults {
    loss: 0,
    duplicates: 0,
    delay: 1..120,
};

/// Holds these generations and dials with the first.
fn held(generations: &[u16]) -> Passwords {
    let mut passwords = Passwords::new(generations[0], password(generations[0]));
    for generation in &generations[1..] {
        assert!(passwords.add(*generation, password(*generation)));
    }
    passwords
}

/// That of generation 0 is what all hosts have at first.
fn password(generation: u16) -> StretchedPassword {
    let [low, high] = generation.to_le_bytes();
    StretchedPassword::from_bytes(RIGHT.map(|byte| byte ^ low ^ high))
}

fn set(net: &mut Net, host: usize, generations: &[u16]) {
    net.with(host, |sessions, now| {
        sessions.set_passwords(held(generations), now);
    });
}

/// The generations that the sessions of a host rest on.
fn rests_on(net: &Net, host: usize) -> Vec<u16> {
    let sessions = net.hosts[host].sessions.in_use();
    sessions
        .map(|session| session.rotation.generation)
        .collect()
}

fn all_rest_on(net: &Net, generation: u16) -> bool {
    (0..net.hosts.len()).all(|host| rests_on(net, host).iter().all(|one| *one == generation))
}

/// In every other one the first host lets frames wait for an exchange with ML-KEM.
fn full_mesh(hosts: u8, faults: Faults, seed: u64) -> Net {
    let mut net = Net::new(hosts, faults, seed);
    if seed % 2 == 1 {
        net.hosts[0].sessions.config.pq = PostQuantum::Require;
    }
    for from in 1..usize::from(hosts) {
        (0..from).for_each(|to| net.target(from, to));
    }
    net.run_until(60 * SECOND, Net::is_full_mesh)
        .expect("connected");
    net.run(20 * SECOND);
    net
}

/// Lets time pass, in which every host has a session with every other, without a break.
#[track_caller]
fn run_connected(net: &mut Net, duration: Duration) {
    let broken = net.run_until(duration, |net| !net.is_full_mesh());
    assert_eq!(broken, None, "a moment without a session at {:?}", net.now);
}

fn assert_nothing_lost(net: &Net) {
    for host in &net.hosts {
        for other in net.hosts.iter().filter(|other| other.id != host.id) {
            assert_eq!(host.count(Event::Lost(other.id)), 0);
            assert_eq!(host.count(Event::Established(other.id)), 1);
        }
    }
}

fn frames_sent(net: &Net) -> usize {
    let is_frame = |datagram: &[u8]| {
        SealedHeader::decode(datagram)
            .is_ok_and(|header| header.receiver.lane() == Some(Lane::Data))
    };
    let sent = net.sent.iter();
    sent.filter(|(_, _, datagram)| is_frame(datagram)).count()
}

fn frames_received(net: &Net) -> usize {
    net.hosts.iter().map(|host| host.data_slots.len()).sum()
}

fn inits(net: &Net) -> usize {
    let is_init = |datagram: &[u8]| DatagramType::of(datagram) == Ok(DatagramType::HandshakeInit);
    let sent = net.sent.iter();
    sent.filter(|(_, _, datagram)| is_init(datagram)).count()
}

/// Changes the passwords of all hosts, in an order and at times that the generator draws.
fn on_each(net: &mut Net, rng: &mut ChaCha12Rng, generations: &[u16]) {
    let mut hosts: Vec<_> = (0..net.hosts.len()).collect();
    while !hosts.is_empty() {
        let host = hosts.swap_remove(rng.next_u32() as usize % hosts.len());
        set(net, host, generations);
        run_connected(
            net,
            Duration::from_millis(u64::from(rng.next_u32() % 3_000)),
        );
    }
}

fn rotate(net: &mut Net, seed: u64, most: Duration) {
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    on_each(net, &mut rng, &[0, 1]);
    assert!(all_rest_on(net, 0), "to add a password moves nothing");
    on_each(net, &mut rng, &[1, 0]);
    let moved = net.run_until(most, |net| all_rest_on(net, 1) || !net.is_full_mesh());
    assert!(moved.is_some() && net.is_full_mesh(), "seed {seed}");
    on_each(net, &mut rng, &[1]);
    run_connected(net, 90 * SECOND);
    assert!(all_rest_on(net, 1), "seed {seed}");
    assert_nothing_lost(net);
}

#[test]
fn a_rotation_in_any_order_loses_no_session_and_no_frame() {
    for seed in 0..20 {
        let mut net = full_mesh(3, REORDERING, seed);
        net.traffic = true;
        rotate(&mut net, seed, 20 * SECOND);
        net.traffic = false;
        net.run(SECOND);
        assert_eq!(frames_sent(&net), frames_received(&net), "seed {seed}");
        for (a, b) in [(0, 1), (0, 2), (1, 2)] {
            net.settle_pair(a, b);
        }
    }
}

#[test]
fn a_rotation_under_loss_loses_no_session() {
    for seed in 0..20 {
        let mut net = full_mesh(3, Faults::BAD, seed);
        net.traffic = true;
        rotate(&mut net, seed, 120 * SECOND);
    }
}

#[test]
fn right_after_they_connected_two_hosts_rotate_as_well() {
    let mut net = Net::connected_pair();
    let mut rng = ChaCha12Rng::seed_from_u64(1);
    on_each(&mut net, &mut rng, &[0, 1]);
    on_each(&mut net, &mut rng, &[1, 0]);
    let moved = net.run_until(40 * SECOND, |net| all_rest_on(net, 1));
    assert!(moved.is_some());
    on_each(&mut net, &mut rng, &[1]);
    run_connected(&mut net, 90 * SECOND);
    assert_nothing_lost(&net);
}

#[test]
fn the_first_host_that_uses_a_password_moves_its_sessions_at_once() {
    let mut net = full_mesh(2, Faults::NONE, 1);
    set(&mut net, 0, &[0, 1]);
    set(&mut net, 1, &[0, 1]);
    set(&mut net, 0, &[1, 0]);
    let took = net.run_until(SECOND, |net| all_rest_on(net, 1));
    assert_eq!(
        took,
        Some(Duration::from_millis(50)),
        "one handshake and its confirmation"
    );
    let generations = net.hosts[1].sessions.generations();
    let shown: Vec<_> = generations
        .iter()
        .map(|one| (one.generation, one.held, one.in_use, one.sessions))
        .collect();
    assert_eq!(shown, [(0, true, true, 0), (1, true, false, 1)]);
}

#[test]
fn hosts_that_use_different_generations_agree_on_the_higher_and_come_to_rest() {
    let mut net = full_mesh(2, Faults::NONE, 1);
    set(&mut net, 1, &[0, 1]);
    set(&mut net, 0, &[1, 0]);
    run_connected(&mut net, 60 * SECOND);
    assert!(all_rest_on(&net, 1));
    let before = inits(&net);
    run_connected(&mut net, 600 * SECOND);
    assert_eq!(inits(&net), before);
    assert_nothing_lost(&net);
}

#[test]
fn a_rotation_can_be_taken_back() {
    for seed in 0..10 {
        let mut net = full_mesh(3, REORDERING, seed);
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        for generations in [[0, 1], [1, 0], [0, 1]] {
            on_each(&mut net, &mut rng, &generations);
            let moved = net.run_until(60 * SECOND, |net| all_rest_on(net, generations[0]));
            assert!(moved.is_some(), "seed {seed}, {generations:?}");
        }
        on_each(&mut net, &mut rng, &[0]);
        run_connected(&mut net, 60 * SECOND);
        assert!(all_rest_on(&net, 0));
        assert_nothing_lost(&net);
    }
}

#[test]
fn a_dialler_falls_back_to_what_both_hold_and_moves_up_when_the_other_can() {
    let mut net = Net::new(2, Faults::NONE, 1);
    set(&mut net, 0, &[2, 0, 1]);
    net.target(0, 1);
    let took = net.run_until(SECOND, Net::is_full_mesh);
    assert_eq!(took, Some(Duration::from_millis(70)), "one refusal more");
    assert_eq!(rests_on(&net, 0), [0]);
    run_connected(&mut net, 60 * SECOND);
    let line = net.status(0, addr_of(1));
    assert_eq!(line.state, ConnectionState::Established);
    assert_eq!(line.generation, Some(0));
    assert_eq!(
        line.warning.as_deref(),
        Some("stays on password generation 0, refused: password of another generation: it has 0")
    );
    set(&mut net, 1, &[0, 2]);
    run_connected(&mut net, 16 * SECOND);
    assert!(all_rest_on(&net, 2));
    assert_eq!(net.status(0, addr_of(1)).warning, None);
    assert_nothing_lost(&net);
}

#[test]
fn who_has_only_a_removed_password_is_out_after_the_grace_and_is_told_why() {
    let mut net = full_mesh(2, Faults::NONE, 1);
    set(&mut net, 0, &[1]);
    run_connected(&mut net, 29 * SECOND);
    let generations = net.hosts[0].sessions.generations();
    let shown: Vec<_> = generations
        .iter()
        .map(|one| (one.generation, one.held, one.sessions))
        .collect();
    assert_eq!(shown, [(0, false, 1), (1, true, 0)]);
    net.run(2 * SECOND);
    assert!(net.hosts[0].connected().is_empty());
    net.run(60 * SECOND);
    let line = net.status(1, addr_of(0));
    let words = "refused: password of another generation: it has 1";
    assert_eq!(line.info, words);
    net.run(300 * SECOND);
    assert!(net.hosts.iter().all(|host| host.connected().is_empty()));
    set(&mut net, 1, &[0, 1]);
    assert!(net.run_until(60 * SECOND, Net::is_full_mesh).is_some());
    assert!(all_rest_on(&net, 1));
}

#[test]
fn a_session_whose_password_is_removed_moves_first() {
    let mut net = full_mesh(3, REORDERING, 1);
    net.traffic = true;
    (0..3).for_each(|host| set(&mut net, host, &[0, 1]));
    set(&mut net, 0, &[1]);
    run_connected(&mut net, 100 * SECOND);
    assert_eq!(rests_on(&net, 0), [1, 1]);
    net.traffic = false;
    net.run(SECOND);
    assert_eq!(frames_sent(&net), frames_received(&net));
    assert_nothing_lost(&net);
}

#[test]
fn one_number_for_two_passwords_keeps_the_session_and_shows_in_the_status() {
    let mut net = full_mesh(2, Faults::NONE, 1);
    let mut mistyped = Passwords::new(0, password(0));
    assert!(mistyped.add(1, password(77)));
    net.with(1, |sessions, now| sessions.set_passwords(mistyped, now));
    set(&mut net, 0, &[1, 0]);
    run_connected(&mut net, 600 * SECOND);
    assert!(all_rest_on(&net, 0));
    assert_eq!(
        net.status(0, addr_of(1)).warning.as_deref(),
        Some("stays on password generation 0, refused: wrong password?")
    );
    set(&mut net, 1, &[0, 1]);
    run_connected(&mut net, 16 * SECOND);
    assert!(all_rest_on(&net, 1));
    assert_nothing_lost(&net);
}

#[test]
fn a_handshake_under_way_with_a_removed_password_comes_to_nothing() {
    for millis in [5, 15, 25, 35] {
        let mut net = Net::new(2, Faults::NONE, 1);
        net.target(0, 1);
        net.run(Duration::from_millis(millis));
        set(&mut net, 1, &[1]);
        net.run(60 * SECOND);
        let connected = net.hosts.iter().map(|host| host.connected().len());
        assert_eq!(connected.sum::<usize>(), 0, "removed after {millis} ms");
    }
}

/// Anyone who holds the first message of a host can make this refusal of it.
fn forged_refusal(init: &[u8], named: &[u16]) -> Vec<u8> {
    let mut net = Net::new(1, Faults::NONE, 1);
    set(&mut net, 0, named);
    let config = &net.hosts[0].sessions.config.handshake;
    let mut rng = ChaCha12Rng::seed_from_u64(1);
    let refused = respond(config, 1, init, &mut rng).expect_err("not held");
    refused.reply().expect("a refusal").to_vec()
}

#[test]
fn a_forged_refusal_brings_back_no_removed_password() {
    let mut net = Net::new(2, Faults::NONE, 1);
    for host in [0, 1] {
        set(&mut net, host, &[1, 2]);
        set(&mut net, host, &[2]);
    }
    net.target(0, 1);
    let init = net.sent[0].2.clone();
    let forged = forged_refusal(&init, &[1, 0]);
    net.inject(addr_of(1), 0, forged);
    net.run(SECOND);
    assert_eq!(inits(&net), 1);
    net.assert_pair(0, 1);
    assert!(all_rest_on(&net, 2));
}

#[test]
fn forged_refusals_make_a_host_dial_but_once_more_and_keep_it_from_nothing() {
    let mut net = Net::new(2, Faults::NONE, 1);
    for host in [0, 1] {
        set(&mut net, host, &[3, 0, 1, 2]);
    }
    net.target(0, 1);
    let init = net.sent[0].2.clone();
    for named in [[0, 7], [1, 7], [2, 7], [0, 8]] {
        let forged = forged_refusal(&init, &named);
        net.inject(addr_of(1), 0, forged);
    }
    assert_eq!(inits(&net), 2);
    net.run(30 * SECOND);
    net.assert_pair(0, 1);
    assert!(all_rest_on(&net, 3), "both end with the one in use");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn whatever_operators_do_hosts_that_hold_one_password_in_common_end_connected(
        seed: u64,
        steps in prop::collection::vec((0..3_usize, prop::collection::vec(0..4_u16, 1..4), 0..20_u32), 1..12),
    ) {
        let mut net = full_mesh(3, REORDERING, seed);
        for (host, generations, wait) in steps {
            set(&mut net, host, &generations);
            net.run(wait * SECOND);
        }
        (0..3).for_each(|host| set(&mut net, host, &[3, 5]));
        net.run(200 * SECOND);
        prop_assert!(net.is_full_mesh());
        prop_assert!(all_rest_on(&net, 3));
        let before = inits(&net);
        net.run(60 * SECOND);
        prop_assert_eq!(inits(&net), before, "and come to rest");
    }
}
