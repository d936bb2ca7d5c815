//! Three nodes on a network and disks in memory: what the parts do together.

#[path = "three_nodes/bans.rs"]
mod bans;
#[path = "three_nodes/disks.rs"]
mod disks;
#[path = "three_nodes/inquiries.rs"]
mod inquiries;
#[path = "three_nodes/mesh.rs"]
mod mesh;
#[path = "three_nodes/post_quantum.rs"]
mod post_quantum;
#[path = "three_nodes/relay.rs"]
mod relay;
#[path = "three_nodes/rotation.rs"]
mod rotation;

use std::net::IpAddr;

use weave_crypto::{Passwords, StretchedPassword};
use weave_node::ipam::IpamError;
use weave_node::{ConnectionState, PostQuantum, Subnet};
use weave_wire::{DatagramType, PeerId, SegmentId};

use mesh::{Disk, HOST, LATENCY, Mesh, NAME, SECOND, addr_of, range};

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
        for host in 0..3 {
            let connections = mesh.status(host).connections;
            assert!(connections.iter().all(|line| line.pq == Some(true)));
        }
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
        ipv6: None,
    };
    mesh.with(0, |node, now| node.add_subnet(subnet, now));
    let fib = mesh.hosts[0].node.fib();
    assert!(fib.segments.get(&segment).is_some_and(|here| here.local));
    mesh.with(0, |node, now| node.remove_subnet(cidr, now));
    let fib = mesh.hosts[0].node.fib();
    assert!(!fib.segments.get(&segment).is_some_and(|here| here.local));
}
