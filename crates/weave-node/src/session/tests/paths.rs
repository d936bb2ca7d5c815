//! The MTU of the path between two peers.

use std::time::Duration;

use weave_wire::proto::PathProbeAck;
use weave_wire::proto::control_message::Body;

use super::net::{Net, addr_of};

const SECOND: Duration = Duration::from_secs(1);

/// The longest datagram of the data path of each of two hosts.
fn sizes(net: &Net) -> [usize; 2] {
    [0, 1].map(|host| {
        let view = net.hosts[host].sessions.fib_view();
        view.sessions.first().map_or(0, |one| one.max_datagram)
    })
}

#[test]
fn both_sides_find_the_usual_path_at_once_and_show_it_with_the_round_trip() {
    let net = Net::connected_pair();
    assert_eq!(sizes(&net), [1_472; 2]);
    for (host, other) in [(0, 1), (1, 0)] {
        let status = net.status(host, addr_of(other));
        assert_eq!(status.mtu, Some(1_500));
        assert_eq!(status.rtt, Some(Duration::from_millis(20)));
    }
}

#[test]
fn a_path_that_narrows_under_a_transfer_is_found_within_five_seconds() {
    let mut net = Net::connected_pair();
    net.traffic = true;
    net.run(30 * SECOND);
    net.limit = 1_000;
    let took = net.run_until(5 * SECOND, |net| {
        sizes(net).iter().all(|size| *size <= 1_000)
    });
    assert!(took.is_some(), "{:?}", sizes(&net));
    net.run(30 * SECOND);
    assert!(sizes(&net).iter().all(|size| (985..=1_000).contains(size)));
    assert!(net.is_established(0, addr_of(1)) && net.is_established(1, addr_of(0)));
}

#[test]
fn a_rekey_is_not_taken_for_traffic_and_costs_an_idle_session_nothing() {
    let mut net = Net::connected_pair();
    net.run(10 * SECOND);
    net.sent.clear();
    net.run(600 * SECOND);
    let long = net.sent.iter().map(|(_, _, datagram)| datagram.len());
    let long: Vec<_> = long.filter(|len| *len > 200).collect();
    // A KEM key and a ciphertext for each of four or five rekeys, and no probe.
    assert!((8..=10).contains(&long.len()), "{long:?}");
    assert!(long.iter().all(|len| (1_100..=1_232).contains(len)));
    let bytes: usize = net
        .sent
        .iter()
        .map(|(_, _, datagram)| datagram.len() + 28)
        .sum();
    assert!(bytes * 8 / 600 < 2_000, "{bytes} bytes");
}

#[test]
fn at_another_address_the_path_is_searched_anew() {
    let mut net = Net::connected_pair();
    net.limit = 1_252;
    let moved = addr_of(9);
    net.aliases.insert(moved, 1);
    net.hosts[1].addr = moved;
    net.run(10 * SECOND);
    assert_eq!(net.status(0, moved).mtu, Some(1_280));
}

#[test]
fn an_answer_to_nothing_changes_nothing() {
    let mut net = Net::connected_pair();
    let (peer, before) = (net.hosts[1].id, sizes(&net));
    for nonce in 0..100 {
        let ack = Body::PathProbeAck(PathProbeAck { nonce });
        assert!(net.with(0, |sessions, now| sessions.send(&peer, ack, now)));
    }
    net.run(SECOND);
    assert_eq!(sizes(&net), before);
}
