//! Two sessions with one peer: which one is used, by both sides.

use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};
use weave_wire::SealedHeader;

use super::net::{Event, Faults, Net, addr_of};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn peers_that_dial_each_other_at_once_end_with_one_session_used_by_both() {
    let mut simultaneous = 0;
    for seed in 0..1_000 {
        let faults = if seed % 2 == 0 {
            Faults::BAD
        } else {
            Faults {
                loss: 0,
                ..Faults::BAD
            }
        };
        let mut net = Net::new(2, faults, seed);
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        net.target(0, 1);
        net.run(Duration::from_millis(u64::from(rng.next_u32() % 150)));
        net.target(1, 0);
        // the side that answers asks half a second later
        net.run(10 * SECOND);
        net.assert_pair(0, 1);
        for (host, other) in [(0, 1), (1, 0)] {
            let other = net.hosts[other].id;
            assert_eq!(
                net.hosts[host].count(Event::Established(other)),
                1,
                "seed {seed}"
            );
            assert_eq!(net.hosts[host].count(Event::Lost(other)), 0, "seed {seed}");
            assert_eq!(
                net.hosts[host].sessions.connections(net.now).len(),
                1,
                "seed {seed}"
            );
        }
        let both = net
            .hosts
            .iter()
            .all(|host| !host.sessions.sessions.is_empty());
        let two = net
            .hosts
            .iter()
            .any(|host| host.sessions.sessions.len() > 1);
        simultaneous += usize::from(both && two);
    }
    assert!(
        simultaneous > 100,
        "only {simultaneous} runs had two sessions"
    );
}

#[test]
fn a_restarted_peer_that_dials_replaces_its_session_at_once() {
    let mut net = Net::connected_pair();
    let restarted = net.hosts[1].id;
    net.restart(1, super::net::RIGHT);
    net.target(1, 0);
    net.run(SECOND);
    net.assert_pair(0, 1);
    assert_eq!(net.hosts[0].count(Event::Lost(restarted)), 1);
    assert_eq!(net.hosts[0].count(Event::Established(restarted)), 2);
    assert_eq!(
        net.hosts[0].sessions.sessions.len(),
        1,
        "keys of the dead process are gone"
    );
    assert!(
        net.hosts[0]
            .sessions
            .in_use()
            .all(|session| session.who.boot == 2)
    );
}

#[test]
fn a_restarted_peer_that_dials_nobody_is_found_again_within_five_seconds() {
    for seed in 0..20 {
        let mut net = Net::connected_pair();
        net.run(Duration::from_millis(seed * 130));
        net.restart(1, super::net::RIGHT);
        let back = net.run_until(5 * SECOND, |net| !net.hosts[1].connected().is_empty());
        assert!(back.is_some(), "seed {seed}");
        net.run(SECOND);
        net.assert_pair(0, 1);
    }
}

#[test]
fn a_peer_that_lost_its_session_alone_comes_back_with_a_new_one() {
    let mut net = Net::connected_pair();
    // Only one direction fails: one side hears the other and goes on, the other gives up.
    net.cut.insert((addr_of(1), addr_of(0)));
    net.run(22 * SECOND);
    assert!(net.hosts[0].connected().is_empty());
    net.cut.clear();
    assert!(net.run_until(60 * SECOND, Net::is_full_mesh).is_some());
    net.run(40 * SECOND);
    net.assert_pair(0, 1);
    assert_eq!(net.hosts[1].sessions.sessions.len(), 1);
}

#[test]
fn where_the_sides_disagree_the_higher_key_follows_the_lower() {
    for swap in [false, true] {
        let mut net = Net::new(2, Faults::NONE, 11);
        net.target(0, 1);
        net.target(1, 0);
        net.run(2 * SECOND);
        net.assert_pair(0, 1);
        // One side changes its mind, as if it had seen the handshakes in another order.
        let odd = usize::from(swap);
        let peer = net.hosts[1 - odd].id;
        net.with(odd, |sessions, now| {
            let other = sessions.peers[&peer].others[0];
            sessions.settle_for_test(other, peer, now);
        });
        assert!(!net.is_pair(0, 1));
        net.traffic = true;
        net.run(20 * SECOND);
        net.assert_pair(0, 1);
        net.run(60 * SECOND);
        net.assert_pair(0, 1);
        for host in &net.hosts {
            assert_eq!(host.sessions.sessions.len(), 1);
            assert!(
                !host
                    .events
                    .iter()
                    .any(|(_, event)| matches!(event, Event::Lost(_)))
            );
        }
    }
}

#[test]
fn a_session_that_the_dialler_never_confirms_does_not_displace_a_good_one() {
    let mut net = Net::connected_pair();
    let good = net.hosts[1].slot_in_use(net.hosts[0].id);
    // A second handshake, of which the dialler never gets the end.
    let other = addr_of(77);
    net.aliases.insert(other, 1);
    let before = net.sent.len();
    net.with(0, |sessions, now| {
        sessions.attempt(other, now);
    });
    net.filter = Some(Box::new(move |(from, _, datagram)| {
        *from == addr_of(1) && datagram.len() > 100 && datagram[0] >> 4 == 8
    }));
    net.run(3 * SECOND);
    assert!(net.sent.len() > before);
    assert_eq!(net.hosts[1].sessions.sessions.len(), 2);
    assert_eq!(net.hosts[1].slot_in_use(net.hosts[0].id), good);
    net.run(20 * SECOND);
    assert_eq!(net.hosts[1].sessions.sessions.len(), 1);
    net.assert_pair(0, 1);
}

#[test]
fn a_replaced_session_stays_receivable_for_thirty_seconds() {
    let mut net = Net::connected_pair();
    net.run(15 * SECOND);
    let other = addr_of(77);
    net.aliases.insert(other, 1);
    net.with(0, |sessions, now| {
        sessions.attempt(other, now);
    });
    net.run(SECOND);
    net.assert_pair(0, 1);
    assert!(
        net.hosts
            .iter()
            .all(|host| host.sessions.sessions.len() == 2)
    );
    let lanes = net.hosts[0].sessions.fib_view().open.len();
    assert_eq!(lanes, 12, "data, control and relay of two epochs of both");
    net.run(28 * SECOND);
    assert!(
        net.hosts
            .iter()
            .all(|host| host.sessions.sessions.len() == 2)
    );
    net.run(3 * SECOND);
    assert!(
        net.hosts
            .iter()
            .all(|host| host.sessions.sessions.len() == 1)
    );
    net.assert_pair(0, 1);
}

#[test]
fn nothing_is_sent_in_a_session_that_was_replaced() {
    let mut net = Net::connected_pair();
    net.run(100 * SECOND);
    let former = [(0, 1), (1, 0)].map(|(host, other)| {
        let other = net.hosts[other].id;
        net.hosts[host].sends_to_slot(other)
    });
    let other = addr_of(77);
    net.aliases.insert(other, 1);
    net.with(0, |sessions, now| {
        sessions.attempt(other, now);
    });
    net.run(2 * SECOND);
    net.sent.clear();
    // its keys would be changed now
    net.run(27 * SECOND);
    assert_eq!(net.hosts[0].sessions.sessions.len(), 2);
    for (_, _, datagram) in &net.sent {
        let receiver = SealedHeader::decode(datagram).map(|header| header.receiver.slot());
        assert!(!former.contains(&receiver.ok()));
    }
    net.assert_pair(0, 1);
}

#[test]
fn no_frame_is_sent_to_a_peer_that_may_not_have_the_session_yet() {
    let mut net = Net::new(2, Faults::NONE, 12);
    net.target(1, 0);
    let dialler = net.hosts[1].id;
    let answered = net.run_until(SECOND, |net| net.hosts[0].slot_in_use(dialler).is_some());
    assert!(answered.is_some());
    assert_eq!(net.hosts[0].sends_to_slot(dialler), None);
    net.run(SECOND);
    net.assert_pair(0, 1);
}

#[test]
fn no_frame_is_sent_in_a_session_with_an_earlier_start_of_the_peer() {
    let mut net = Net::connected_pair();
    let restarted = net.hosts[1].id;
    net.with(0, |sessions, now| sessions.note_boot(restarted, 1, now));
    assert!(net.hosts[0].sends_to_slot(restarted).is_some());
    net.restart(1, super::net::RIGHT);
    net.with(0, |sessions, now| sessions.note_boot(restarted, 2, now));
    assert_eq!(net.hosts[0].sends_to_slot(restarted), None);
    let back = net.run_until(SECOND, |net| net.hosts[1].connected().len() == 1);
    assert!(back.is_some(), "it dials nobody");
    net.run(SECOND);
    net.assert_pair(0, 1);
}

#[test]
fn a_session_that_a_peer_answers_in_is_not_outlived() {
    let mut net = Net::connected_pair();
    let peer = net.hosts[1].id;
    let slot = net.hosts[0].sends_to_slot(peer);
    net.with(0, |sessions, now| sessions.note_boot(peer, 7, now));
    assert_eq!(net.hosts[0].sends_to_slot(peer), None);
    net.run(SECOND);
    net.assert_pair(0, 1);
    assert!(slot.is_some());
    assert!(net.hosts[0].sends_to_slot(peer).is_some());
    net.with(0, |sessions, now| sessions.note_boot(peer, 7, now));
    assert!(net.hosts[0].sends_to_slot(peer).is_some());
}
