//! Frames are counted for a peer, whatever becomes of its sessions.

use std::sync::Arc;
use std::time::Duration;

use weave_wire::Lane;

use super::net::{Net, RIGHT, addr_of};
use crate::forward::{Count, Traffic};

const SECOND: Duration = Duration::from_secs(1);

/// Everything that counts frames of the only peer of the first host.
fn counters(net: &Net) -> Vec<&Arc<Traffic>> {
    let fib = &net.hosts[0].fib;
    let opened = fib.open.iter().filter(|lane| lane.lane == Lane::Data);
    let opened: Vec<_> = opened.map(|lane| &lane.traffic).collect();
    let sealed = fib.sessions.iter().map(|session| &session.traffic);
    assert!(!opened.is_empty() && fib.sessions.len() == 1);
    sealed.chain(opened).collect()
}

#[test]
fn the_counters_of_a_peer_outlive_its_keys_and_its_sessions() {
    let mut net = Net::connected_pair();
    let peer = net.hosts[1].id;
    let first = Arc::clone(counters(&net)[0]);
    first.sent.add(Count::new(3, 300));
    let are_the_same = |net: &Net| {
        assert!(counters(net).iter().all(|one| Arc::ptr_eq(one, &first)));
        let sent = net.hosts[0].sessions.traffic(&peer).sent;
        assert_eq!(sent, Count::new(3, 300));
    };
    are_the_same(&net);

    net.traffic = true;
    net.run(300 * SECOND);
    assert!(net.status(0, addr_of(1)).rekeys > Some(1), "new keys");
    are_the_same(&net);

    net.restart(1, RIGHT);
    net.target(1, 0);
    net.run(SECOND);
    net.assert_pair(0, 1);
    are_the_same(&net);

    net.traffic = false;
    net.set_cut(0, 1, true);
    net.run(60 * SECOND);
    assert!(net.hosts[0].connected().is_empty(), "no session");
    assert_eq!(net.hosts[0].sessions.traffic(&peer).sent.frames, 3);
    net.set_cut(0, 1, false);
    assert!(net.run_until(60 * SECOND, Net::is_full_mesh).is_some());
    are_the_same(&net);
}

#[test]
fn each_peer_has_counters_of_its_own() {
    let mut net = Net::new(3, super::net::Faults::NONE, 7);
    net.target(0, 1);
    net.target(0, 2);
    net.run(SECOND);
    let [one, other] = &net.hosts[0].fib.sessions[..] else {
        panic!("two sessions");
    };
    one.traffic.received.add(Count::new(1, 60));
    let received = |peer| net.hosts[0].sessions.traffic(&peer).received.frames;
    assert_eq!((received(one.peer), received(other.peer)), (1, 0));
}
