//! How sessions come about, and what is shown meanwhile.

use std::time::Duration;

use weave_wire::{DatagramType, HandshakeHeader, Time};

use crate::session::Haste;

use super::net::{Event, Faults, Net, RIGHT, WRONG, addr_of};
use crate::session::{ConnectionState, Retry, SessionDrop};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn two_peers_connect_in_two_and_a_half_round_trips_and_each_says_who_it_is() {
    let mut net = Net::new(2, Faults::NONE, 1);
    net.target(0, 1);
    assert_eq!(net.status(0, addr_of(1)).state, ConnectionState::Connecting);
    let took = net.run_until(SECOND, Net::is_full_mesh);
    assert_eq!(
        took,
        Some(Duration::from_millis(50)),
        "messages 1, 2, 3, the Hello and its answer"
    );
    net.run(SECOND);
    net.assert_pair(0, 1);
    for (host, other) in [(0, 1), (1, 0)] {
        let id = net.hosts[other].id;
        assert_eq!(net.hosts[host].count(Event::Established(id)), 1);
        let own = net.hosts[host].addr;
        assert_eq!(net.hosts[host].count(Event::Observed(own)), 1);
        let line = net.status(host, net.hosts[other].addr);
        assert_eq!(line.state, ConnectionState::Established);
        assert_eq!(line.outbound, host == 0);
        assert_eq!(
            (line.peer, line.nickname),
            (Some(id), format!("host{other}"))
        );
        assert_eq!((line.info.as_str(), line.retry), ("encrypted", None));
        let peers: Vec<_> = net.hosts[host].sessions.in_use().collect();
        assert_eq!(peers.len(), 1);
        assert!(peers[0].who.boot == 1 && peers[0].who.version == "test");
    }
}

#[test]
fn a_chain_of_dials_and_a_ring_of_them_end_in_one_session_per_pair() {
    for seed in 0..20 {
        let mut net = Net::new(3, Faults::BAD, seed);
        for (from, to) in [(0, 1), (1, 2), (2, 0), (1, 0), (2, 1), (0, 2)] {
            net.target(from, to);
        }
        assert!(
            net.run_until(60 * SECOND, Net::is_full_mesh).is_some(),
            "seed {seed}"
        );
        for (a, b) in [(0, 1), (0, 2), (1, 2)] {
            net.settle_pair(a, b);
        }
    }
}

#[test]
fn a_wrong_password_is_refused_and_the_right_one_is_in_within_a_minute() {
    for seed in 0..10 {
        let mut net = Net::new(2, Faults::NONE, seed);
        net.restart(1, WRONG);
        net.target(0, 1);
        net.run(SECOND);
        let line = net.status(0, addr_of(1));
        assert_eq!(line.info, "refused: wrong password?");
        assert_eq!(
            line.state,
            ConnectionState::Pending,
            "a refusal aborts nothing"
        );
        net.run(5 * SECOND);
        let line = net.status(0, addr_of(1));
        assert_eq!(line.info, "refused: wrong password?");
        assert_ne!(line.state, ConnectionState::Established);
        net.run(Duration::from_secs(200 + seed));
        assert!(net.hosts.iter().all(|host| host.connected().is_empty()));
        net.restart(1, RIGHT);
        assert!(
            net.run_until(60 * SECOND, Net::is_full_mesh).is_some(),
            "seed {seed}"
        );
    }
}

#[test]
fn a_dialler_with_a_wrong_password_is_in_as_soon_as_it_has_the_right_one() {
    let mut net = Net::new(2, Faults::NONE, 3);
    net.restart(0, WRONG);
    net.target(0, 1);
    net.run(300 * SECOND);
    assert!(net.hosts[1].connected().is_empty());
    net.restart(0, RIGHT);
    net.target(0, 1);
    assert!(net.run_until(5 * SECOND, Net::is_full_mesh).is_some());
    net.run(SECOND);
    net.assert_pair(0, 1);
}

#[test]
fn nobody_at_the_address_shows_as_no_answer_with_the_time_of_the_next_attempt() {
    let mut net = Net::new(1, Faults::NONE, 1);
    net.with(0, |sessions, now| sessions.add_target("10.0.0.9:6783", now));
    let there = addr_of(8);
    net.run(6 * SECOND);
    let line = net.status(0, there);
    assert_eq!(
        (line.state, line.info.as_str()),
        (ConnectionState::Failed, "no answer on UDP 6783")
    );
    let Some(Retry::At(at)) = line.retry else {
        panic!("{line:?}");
    };
    assert!(at > net.now);
    net.run(at.saturating_sub(net.now));
    let line = net.status(0, there);
    assert_eq!(line.state, ConnectionState::Retrying);
    assert_eq!(
        (line.info.as_str(), line.retry),
        ("no answer on UDP 6783", None)
    );
}

#[test]
fn attempts_become_rare_and_never_stop() {
    let mut net = Net::new(1, Faults::NONE, 1);
    net.with(0, |sessions, now| sessions.add_target("10.0.0.9:6783", now));
    net.run(Duration::from_secs(3_600));
    let first_hour = net.sent.len();
    net.run(Duration::from_secs(3_600));
    let second_hour = net.sent.len() - first_hour;
    // At most five datagrams per attempt, and at least one attempt in 66 s.
    assert!((54 * 5..120 * 5).contains(&second_hour), "{second_hour}");
}

#[test]
fn our_own_address_is_seldom_tried_again() {
    let mut net = Net::new(1, Faults::NONE, 1);
    net.target(0, 0);
    net.run(SECOND);
    assert_eq!(
        net.status(0, addr_of(0)).state,
        ConnectionState::Connecting,
        "somebody else may yet answer"
    );
    net.run(5 * SECOND);
    let line = net.status(0, addr_of(0));
    assert_eq!(line.state, ConnectionState::Failed);
    assert_eq!(line.info, "cannot connect to ourself");
    let sent = net.sent.len();
    net.run(Duration::from_secs(290));
    assert_eq!(net.sent.len(), sent);
    assert!(net.hosts[0].connected().is_empty());
    net.target(0, 0);
    net.run(SECOND);
    assert!(net.sent.len() > sent, "unless an operator asks");
}

#[test]
fn a_peer_behind_several_addresses_and_names_has_one_session() {
    let mut net = Net::new(2, Faults::NONE, 1);
    let other = addr_of(99);
    net.aliases.insert(other, 1);
    net.with(0, |sessions, now| {
        sessions.add_target("nyc", now);
        sessions.set_target_addresses("nyc", vec![addr_of(1), other], now);
        sessions.add_target("10.0.0.2", now);
        sessions.dial(&[(other, Haste::default())], now);
    });
    assert_eq!(net.hosts[0].resolves, ["nyc"]);
    net.run(120 * SECOND);
    net.assert_pair(0, 1);
    assert_eq!(net.hosts[0].sessions.connections(net.now).len(), 1);
    assert_eq!(net.hosts[1].sessions.connections(net.now).len(), 1);
    assert_eq!(net.hosts[0].count(Event::Established(net.hosts[1].id)), 1);
}

#[test]
fn a_peer_that_is_connected_already_is_not_dialled() {
    let mut net = Net::connected_pair();
    net.sent.clear();
    net.target(1, 0);
    net.with(0, |sessions, now| {
        sessions.dial(&[(addr_of(1), Haste::default())], now)
    });
    net.run(60 * SECOND);
    let handshakes = net.sent.iter().filter(|(_, _, datagram)| {
        DatagramType::of(datagram).is_ok_and(DatagramType::is_handshake)
    });
    assert_eq!(handshakes.count(), 0);
    assert_eq!(net.hosts[1].sessions.connections(net.now).len(), 1);
}

#[test]
fn a_name_without_address_is_shown_and_resolved_again() {
    let mut net = Net::new(2, Faults::NONE, 1);
    net.with(0, |sessions, now| sessions.add_target("nyc.example", now));
    let line = &net.hosts[0].sessions.connections(net.now)[0];
    assert_eq!(
        (line.address.as_str(), line.info.as_str()),
        ("nyc.example", "resolving nyc.example")
    );
    net.with(0, |sessions, now| {
        sessions.set_target_addresses("nyc.example", vec![], now)
    });
    let line = &net.hosts[0].sessions.connections(net.now)[0];
    assert_eq!(line.info, "no address found for nyc.example");
    assert_eq!(line.state, ConnectionState::Failed);
    net.run(61 * SECOND);
    assert_eq!(net.hosts[0].resolves.len(), 3);
    net.with(0, |sessions, now| {
        sessions.set_target_addresses("nyc.example", vec![addr_of(1)], now);
    });
    assert!(net.run_until(SECOND, Net::is_full_mesh).is_some());
    net.with(0, |sessions, _| sessions.remove_target("nyc.example"));
    net.run(60 * SECOND);
    assert!(net.is_full_mesh(), "to forget a target ends no session");
}

#[test]
fn undialling_stops_an_attempt_and_ends_no_session() {
    let mut net = Net::new(2, Faults::NONE, 1);
    let nowhere = addr_of(50);
    net.with(0, |sessions, now| {
        sessions.dial(&[(nowhere, Haste::default())], now);
        sessions.dial(&[(addr_of(1), Haste::default())], now);
    });
    net.run(SECOND);
    assert!(net.is_full_mesh());
    let sent = net.sent.iter().filter(|(_, to, _)| *to == nowhere).count();
    net.with(0, |sessions, _| {
        sessions.undial(nowhere);
        sessions.undial(addr_of(1));
    });
    net.run(60 * SECOND);
    assert_eq!(
        net.sent.iter().filter(|(_, to, _)| *to == nowhere).count(),
        sent
    );
    net.assert_pair(0, 1);
    assert_eq!(net.hosts[0].sessions.connections(net.now).len(), 1);
}

#[test]
fn a_banned_peer_is_out_at_once_and_for_good() {
    let mut net = Net::connected_pair();
    let banned = net.hosts[1].id;
    net.with(0, |sessions, now| sessions.ban(banned, now));
    assert!(net.hosts[0].connected().is_empty());
    net.target(1, 0);
    net.run(60 * SECOND);
    assert!(net.hosts[0].connected().is_empty());
    let line = net.status(0, addr_of(1));
    assert_eq!(
        (line.info.as_str(), line.retry),
        ("the peer there is banned", Some(Retry::Never))
    );
    let line = net.status(1, addr_of(0));
    assert_eq!(line.info, "refused: banned from this mesh");
    assert!(net.hosts[0].sessions.drops().of(SessionDrop::Banned) > 0);
}

#[test]
fn a_peer_that_was_banned_before_it_is_reached_is_dialled_once() {
    let mut net = Net::new(2, Faults::NONE, 1);
    let banned = net.hosts[1].id;
    net.with(0, |sessions, now| sessions.ban(banned, now));
    net.target(0, 1);
    net.run(120 * SECOND);
    let dialled = net.sent.iter().filter(|(_, to, datagram)| {
        let header = HandshakeHeader::decode(datagram);
        *to == addr_of(1) && header.is_ok_and(|header| header.ty == DatagramType::HandshakeInit)
    });
    assert_eq!(dialled.count(), 1);
    assert_eq!(net.status(0, addr_of(1)).info, "the peer there is banned");
    assert!(net.hosts[0].connected().is_empty());
}

#[test]
fn a_mapped_address_is_the_same_peer() {
    let mut net = Net::new(2, Faults::NONE, 1);
    net.with(0, |sessions, now| {
        sessions.add_target("[::ffff:10.0.0.2]:6783", now)
    });
    net.run(SECOND);
    net.assert_pair(0, 1);
    assert!(net.is_established(0, addr_of(1)));
}

#[test]
fn time_without_anybody_needs_no_timer() {
    let net = Net::new(1, Faults::NONE, 1);
    assert_eq!(net.hosts[0].sessions.poll_timeout(), None);
    assert!(net.now > Time::ZERO);
}
