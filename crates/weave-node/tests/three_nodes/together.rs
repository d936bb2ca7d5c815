//! What the parts of a node do together.

use std::net::IpAddr;

use weave_node::ipam::IpamError;
use weave_node::{ConnectionState, Subnet, check_stored};
use weave_wire::SegmentId;

use crate::mesh::*;

fn with_a_name_of_the_last() -> Mesh {
    let mut mesh = Mesh::connected();
    mesh.with(2, |node, now| {
        node.set_names("c0ffee", &[(NAME.into(), HOST)], now);
    });
    mesh.run_until(SECOND, |mesh| (0..3).all(|host| mesh.knows_name(host)));
    mesh
}

#[test]
fn two_that_dial_the_first_find_each_other_too() {
    let mesh = Mesh::connected();
    for host in 0..3 {
        let status = mesh.status(host);
        assert_eq!(status.peer, mesh.hosts[host].node.id());
        assert_eq!(status.peers[0].peer, status.peer, "it names itself first");
        let mut names: Vec<_> = status.peers.iter().map(|peer| &*peer.nickname).collect();
        names.sort_unstable();
        assert_eq!(names, ["host0", "host1", "host2"]);
        let established: Vec<_> = status
            .connections
            .iter()
            .filter(|line| line.state == ConnectionState::Established)
            .collect();
        assert_eq!(established.len(), 2, "{:?}", status.connections);
    }
}

#[test]
fn a_connected_mesh_stays_connected() {
    let mut mesh = Mesh::connected();
    // several times the life of a key
    for _ in 0..60 {
        mesh.run(10 * SECOND);
        assert!(mesh.is_full(), "{:?}", mesh.status(0));
    }
}

#[test]
fn a_name_is_visible_to_all_and_gone_soon_after_its_host_falls_silent() {
    let mut mesh = with_a_name_of_the_last();
    mesh.run(60 * SECOND);
    assert!((0..3).all(|host| mesh.knows_name(host)));
    mesh.hosts[2].is_running = false;
    mesh.run(5 * SECOND);
    assert!(mesh.knows_name(0) && mesh.knows_name(1), "it may come back");
    mesh.run(16 * SECOND);
    for host in 0..2 {
        assert!(!mesh.knows_name(host));
        assert_eq!(mesh.status(host).peers.len(), 2);
    }
}

#[test]
fn a_name_is_gone_at_once_when_its_host_says_goodbye() {
    let mut mesh = with_a_name_of_the_last();
    // records of sessions are written once a second at most
    mesh.run(10 * SECOND);
    mesh.with(2, |node, now| node.goodbye(now));
    mesh.hosts[2].is_running = false;
    let gone = |mesh: &Mesh| !mesh.knows_name(0) && !mesh.knows_name(1);
    let took = mesh.run_until(SECOND, gone);
    assert!(took <= 5 * LATENCY, "{took:?}");
}

#[test]
fn an_address_is_answered_only_once_it_is_durable() {
    let mut mesh = Mesh::connected();
    mesh.with(0, |node, now| node.allocate(1, "first", range(), None, now));
    mesh.run_until(5 * SECOND, |mesh| mesh.answer(0, 1).is_some());
    assert!(matches!(mesh.answer(0, 1), Some(Ok(_))));

    mesh.set_disk(0, Disk::Stalls);
    mesh.with(0, |node, now| {
        node.allocate(2, "second", range(), None, now);
    });
    mesh.run(2 * SECOND);
    assert_eq!(mesh.answer(0, 2), None);
    assert!(
        !mesh.hosts[0].out.to_persist.is_empty(),
        "it waits for the disk"
    );
    mesh.set_disk(0, Disk::Works);
    mesh.run(SECOND);
    let Some(Ok(second)) = mesh.answer(0, 2).cloned() else {
        panic!("{:?}", mesh.answer(0, 2));
    };

    mesh.set_disk(0, Disk::Refuses);
    mesh.with(0, |node, now| node.allocate(3, "third", range(), None, now));
    mesh.run(5 * SECOND);
    assert!(matches!(
        mesh.answer(0, 3),
        Some(Err(IpamError::Storage { .. }))
    ));
    let held: Vec<_> = mesh.hosts[0].node.allocated().collect();
    assert_eq!(held.len(), 2, "{held:?}");
    assert!(held.iter().any(|held| IpAddr::V4(held.ip) == second));
}

#[test]
fn each_of_three_hosts_gets_an_address_of_its_own() {
    let mut mesh = Mesh::connected();
    for host in 0..3 {
        mesh.with(host, |node, now| {
            node.allocate(1, "c0ffee", range(), None, now);
        });
    }
    let answered = |mesh: &Mesh| (0..3).all(|host| mesh.answer(host, 1).is_some());
    mesh.run_until(5 * SECOND, answered);
    let mut given: Vec<_> = (0..3)
        .filter_map(|host| mesh.answer(host, 1).cloned())
        .map(|answer| answer.expect("there are plenty"))
        .collect();
    given.sort_unstable();
    given.dedup();
    assert_eq!(given.len(), 3);
}

#[test]
fn frames_are_taken_on_a_segment_from_the_moment_that_the_host_has_its_bridge() {
    let mut mesh = Mesh::connected();
    let cidr = range();
    let segment = SegmentId::of_subnet(cidr);
    let subnet = Subnet {
        cidr,
        segment,
        strict: false,
    };
    mesh.with(0, |node, now| node.add_subnet(subnet, now));
    let fib = mesh.hosts[0].node.fib();
    assert!(fib.segments.get(&segment).is_some_and(|here| here.local));
    mesh.with(0, |node, now| node.remove_subnet(cidr, now));
    let fib = mesh.hosts[0].node.fib();
    assert!(!fib.segments.get(&segment).is_some_and(|here| here.local));
}

#[test]
fn nothing_is_sent_before_the_boot_counter_is_durable() {
    let mut mesh = Mesh::new([Disk::Stalls, Disk::Works, Disk::Works]);
    mesh.run(10 * SECOND);
    assert!(
        mesh.hosts[1].out.sent > 0 && mesh.hosts[2].out.sent > 0,
        "it was dialled"
    );
    assert!(!mesh.hosts[0].node.is_started());
    assert_eq!(mesh.hosts[0].out.sent, 0);
    mesh.set_disk(0, Disk::Works);
    assert!(mesh.hosts[0].node.is_started());
    mesh.run_until(60 * SECOND, Mesh::is_full);

    let mut refused = Mesh::new([Disk::Works, Disk::Refuses, Disk::Works]);
    refused.run(60 * SECOND);
    assert!(!refused.hosts[1].node.is_started());
    assert_eq!(refused.hosts[1].out.sent, 0);
    assert_eq!(refused.status(0).peers.len(), 2);
}

#[test]
fn without_its_identity_or_boot_counter_no_other_peer_is_begun_in_silence() {
    let record = |key: &str, value: &[u8]| (key.as_bytes().to_vec(), value.to_vec());
    let identity = record("identity", &[7; 32]);
    let boot = record("boot", &[1, 0, 0, 0, 0, 0, 0, 0]);
    let held = record("ipam/held/0a200001", b"x");
    assert_eq!(check_stored(&[]), Ok(()));
    let whole = [identity.clone(), boot.clone(), held.clone()];
    assert_eq!(check_stored(&whole), Ok(()));
    for (stored, text) in [
        (vec![boot.clone(), held.clone()], "`identity` is missing"),
        (vec![identity.clone(), held], "`boot` is missing"),
        (
            vec![identity, record("boot", b"1")],
            "`boot` is damaged: put back a copy",
        ),
        (vec![record("identity", b""), boot], "`identity` is damaged"),
    ] {
        let error = check_stored(&stored).expect_err("refused").to_string();
        assert!(error.contains(text), "{error}");
    }
}
