//! Established sessions: signs of life, loss, rekeying, moving, taking leave.

use std::time::Duration;

use weave_wire::proto::control_message::Body;
use weave_wire::proto::{Delta, FoundRequest, SignedBatch};
use weave_wire::{DatagramType, PeerId};

use crate::session::Haste;

use super::net::{Event, Faults, Net, addr_of};
use crate::session::{ConnectionState, Transmit};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn the_data_path_knows_where_peers_are_and_where_one_is_dialled() {
    let mut net = Net::new(3, Faults::NONE, 1);
    net.set_cut(0, 2, true);
    net.target(0, 1);
    net.run(SECOND);
    let known = |net: &Net, host: usize| net.hosts[host].fib.known.clone();
    assert_eq!(known(&net, 0), [addr_of(1).ip()]);
    assert_eq!(known(&net, 1), [addr_of(0).ip()], "it was dialled");
    net.target(0, 2);
    assert_eq!(known(&net, 0), [addr_of(1).ip(), addr_of(2).ip()]);
    assert!(known(&net, 2).is_empty());
}

#[test]
fn status_tells_the_age_of_a_session_and_how_often_its_keys_were_changed() {
    let mut net = Net::connected_pair();
    let shown = |net: &Net| {
        let status = net.status(0, addr_of(1));
        (status.age.expect("an age"), status.rekeys.expect("a count"))
    };
    let (young, before) = shown(&net);
    net.run(Duration::from_secs(250));
    let (old, after) = shown(&net);
    assert_eq!(old - young, Duration::from_secs(250));
    assert!((2..=3).contains(&(after - before)), "{before}, {after}");
}

#[test]
fn a_silent_peer_shows_after_ten_seconds_and_is_lost_after_twenty() {
    let mut net = Net::connected_pair();
    let peer = net.hosts[1].id;
    net.run(60 * SECOND);
    assert_eq!(
        net.hosts[0].count(Event::Lost(peer)),
        0,
        "a living peer is not lost"
    );
    net.set_cut(0, 1, true);
    let since = net.now;
    let quiet = net.run_until(20 * SECOND, |net| !net.is_established(0, addr_of(1)));
    let quiet = quiet.expect("shown as silent");
    assert!(
        quiet > 7 * SECOND && quiet <= 12_600 * SECOND / 1_000,
        "{quiet:?}"
    );
    let line = net.status(0, addr_of(1));
    assert_eq!(
        (line.state, line.info.as_str()),
        (ConnectionState::Pending, "no answer on UDP 6783")
    );
    let lost = net.run_until(20 * SECOND, |net| net.hosts[0].connected().is_empty());
    assert!(lost.is_some());
    let silence = net.now.saturating_sub(since);
    assert!(
        silence > 17 * SECOND && silence <= 20 * SECOND,
        "{silence:?}"
    );
    assert_eq!(net.hosts[0].count(Event::Lost(peer)), 1);
    let line = net.status(0, addr_of(1));
    assert_eq!(
        (line.state, line.info.as_str()),
        (ConnectionState::Failed, "no answer on UDP 6783")
    );
    net.set_cut(0, 1, false);
    assert!(net.run_until(30 * SECOND, Net::is_full_mesh).is_some());
}

#[test]
fn idle_peers_say_little() {
    let mut net = Net::connected_pair();
    net.sent.clear();
    net.run(100 * SECOND);
    // One question and one answer in 2.5 s.
    assert!((60..=90).contains(&net.sent.len()), "{}", net.sent.len());
}

#[test]
fn data_is_a_sign_of_life_and_needs_no_pings() {
    let mut net = Net::connected_pair();
    net.traffic = true;
    net.run(SECOND);
    let since = net.now;
    net.run(60 * SECOND);
    for host in &net.hosts {
        let mut sessions = host.sessions.in_use();
        assert!(sessions.all(|session| session.ping.sent_at < since));
    }
}

#[test]
fn keys_change_every_two_minutes_under_loss_without_a_gap() {
    for seed in 0..5 {
        let mut net = Net::new(2, Faults::BAD, seed);
        net.target(0, 1);
        assert!(net.run_until(30 * SECOND, Net::is_full_mesh).is_some());
        net.traffic = true;
        net.sent.clear();
        // The network checks that no lane is used beyond its time, and that none is closed.
        net.run(Duration::from_secs(15 * 60));
        net.settle_pair(0, 1);
        for host in 0..2 {
            let peer: PeerId = net.hosts[1 - host].id;
            assert_eq!(net.hosts[host].count(Event::Lost(peer)), 0, "seed {seed}");
            let slots = &net.hosts[host].data_slots;
            let mut last = slots[0].0;
            for (at, _) in slots {
                assert!(
                    at.saturating_sub(last) < 2 * SECOND,
                    "seed {seed}: a gap at {at:?}"
                );
                last = *at;
            }
            let parities = net
                .sent
                .iter()
                .filter(|(_, to, datagram)| *to == net.hosts[host].addr && datagram[0] >> 4 == 8);
            let parities: Vec<_> = parities
                .map(|(_, _, datagram)| datagram[4] >> 2 & 1)
                .collect();
            let changes = parities
                .windows(2)
                .filter(|pair| pair[0] != pair[1])
                .count();
            assert!(changes >= 6, "seed {seed}: {changes} epochs in 15 minutes");
        }
    }
}

#[test]
fn a_lost_confirmation_is_asked_for_again() {
    let mut net = Net::new(2, Faults::NONE, 5);
    let mut dropped = 0;
    net.filter = Some(Box::new(move |(from, _, datagram)| {
        let sealed = *from == addr_of(1) && datagram[0] >> 4 == 8;
        dropped += u32::from(sealed);
        sealed && dropped <= 3
    }));
    net.target(0, 1);
    net.run(2 * SECOND);
    assert!(net.hosts[0].connected().is_empty());
    assert_eq!(net.status(0, addr_of(1)).state, ConnectionState::Pending);
    assert!(net.run_until(3 * SECOND, Net::is_full_mesh).is_some());
    net.run(SECOND);
    net.assert_pair(0, 1);
    let finishes = net
        .sent
        .iter()
        .filter(|(_, _, datagram)| DatagramType::of(datagram) == Ok(DatagramType::HandshakeFinish));
    assert!(finishes.count() >= 3);
    assert!(
        net.hosts[1]
            .sessions
            .sessions
            .values()
            .all(|session| session.answer.is_none())
    );
}

#[test]
fn a_confirmed_session_answers_a_repeated_finish_no_more() {
    let mut net = Net::new(2, Faults::NONE, 5);
    net.target(0, 1);
    net.run(SECOND);
    let finish = net
        .sent
        .iter()
        .find(|(_, _, datagram)| DatagramType::of(datagram) == Ok(DatagramType::HandshakeFinish));
    let finish = finish.expect("it was sent").2.clone();
    let sent = net.sent.len();
    net.inject(addr_of(0), 1, finish);
    assert_eq!(net.sent.len(), sent);
    net.assert_pair(0, 1);
}

#[test]
fn a_peer_that_moves_takes_its_session_along() {
    let mut net = Net::connected_pair();
    let (peer, moved) = (net.hosts[1].id, addr_of(40));
    net.hosts[1].addr = moved;
    net.with(1, |sessions, now| {
        let everyone: Vec<_> = sessions.peers.keys().copied().collect();
        assert!(sessions.send(&everyone[0], Body::FoundRequest(FoundRequest {}), now));
    });
    net.run(SECOND);
    assert!(
        net.hosts[0]
            .sessions
            .in_use()
            .all(|session| session.addr == moved)
    );
    net.run(60 * SECOND);
    net.assert_pair(0, 1);
    assert_eq!(net.hosts[0].count(Event::Lost(peer)), 0);
    assert_eq!(net.hosts[1].count(Event::Observed(moved)), 1);
}

#[test]
fn a_peer_that_takes_its_leave_is_gone_at_once_and_may_come_back() {
    let mut net = Net::connected_pair();
    let peer = net.hosts[1].id;
    net.with(1, |sessions, now| sessions.goodbye(now));
    net.run(Duration::from_millis(20));
    assert!(net.hosts[0].connected().is_empty());
    assert_eq!(net.hosts[0].count(Event::Lost(peer)), 1);
    assert_eq!(net.status(0, addr_of(1)).info, "the peer there was stopped");
    net.restart(1, super::net::RIGHT);
    assert!(
        net.run_until(10 * SECOND, Net::is_full_mesh).is_some(),
        "the target is tried again"
    );
}

#[test]
fn a_discovered_peer_that_took_its_leave_is_left_alone_for_two_seconds() {
    let mut net = Net::new(2, Faults::NONE, 1);
    net.with(0, |sessions, now| {
        sessions.dial(&[(addr_of(1), Haste::default())], now)
    });
    net.run(SECOND);
    assert!(net.is_full_mesh());
    net.with(0, |sessions, _| sessions.undial(addr_of(1)));
    net.with(1, |sessions, now| sessions.goodbye(now));
    net.run(Duration::from_millis(20));
    net.restart(1, super::net::RIGHT);
    net.sent.clear();
    net.with(0, |sessions, now| {
        sessions.dial(&[(addr_of(1), Haste::default())], now)
    });
    net.run(Duration::from_millis(1_900));
    assert_eq!(net.sent.len(), 0);
    net.run(SECOND);
    assert!(net.is_full_mesh());
}

#[test]
fn messages_for_others_are_handed_on_and_only_to_connected_peers() {
    let mut net = Net::connected_pair();
    let (me, peer) = (net.hosts[0].id, net.hosts[1].id);
    let (now, stranger) = (net.now, PeerId([9; 32]));
    let body = Body::FoundRequest(FoundRequest {});
    let sessions = &mut net.hosts[0].sessions;
    assert!(!sessions.send(&stranger, body.clone(), now));
    let batch = SignedBatch {
        payload: vec![0; 1_300],
        signature: vec![0; 64],
    };
    let long = Body::Delta(Delta {
        batches: vec![batch],
    });
    assert!(!sessions.send(&peer, long, now));
    assert!(sessions.send(&peer, body.clone(), now));
    let Transmit {
        to, mut datagram, ..
    } = sessions.poll_transmit().expect("a datagram");
    assert_eq!(to, addr_of(1));
    let receiver = &mut net.hosts[1];
    let header = weave_wire::SealedHeader::decode(&datagram).expect("sealed");
    let open = receiver.sessions.fib_view().open;
    let lane = open
        .iter()
        .find(|lane| lane.receiver == header.receiver)
        .expect("its lane");
    let (aad, sealed) = datagram.split_at_mut(16);
    let length = lane
        .key
        .open_in_place(header.counter, aad, sealed)
        .expect("opens");
    let handed =
        receiver
            .sessions
            .handle_control(lane.receiver, addr_of(0), &sealed[..length], now);
    assert_eq!(handed, Some((me, body)));
}
