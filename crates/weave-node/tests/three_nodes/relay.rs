//! Peers that cannot reach each other directly.

use std::time::Duration;

use weave_node::{ConnectionState, ConnectionStatus};

use crate::{Disk, Mesh, SECOND};

impl Mesh {
    /// The established connection of a host with another.
    fn established(&self, host: usize, to: usize) -> Option<ConnectionStatus> {
        let peer = self.hosts[to].node.id();
        let mut lines = self.status(host).connections.into_iter();
        lines.find(|line| line.peer == Some(peer) && line.state == ConnectionState::Established)
    }

    fn is_relayed(&self, host: usize, to: usize, by: usize) -> bool {
        let relay = Some(self.hosts[by].node.id());
        self.established(host, to)
            .is_some_and(|line| line.relay == relay)
    }

    fn is_direct(&self, host: usize, to: usize) -> bool {
        self.established(host, to)
            .is_some_and(|line| line.relay.is_none())
    }

    fn both(&self, check: impl Fn(&Self, usize, usize) -> bool) -> bool {
        check(self, 1, 2) && check(self, 2, 1)
    }
}

#[test]
fn two_that_never_reach_each_other_are_connected_through_the_third() {
    let mut mesh = Mesh::new([Disk::Works; 3]);
    mesh.set_cut(1, 2, true);
    let took = mesh.run_until(10 * SECOND, |mesh| {
        mesh.both(|mesh, one, other| mesh.is_relayed(one, other, 0))
    });
    assert!(took < 5 * SECOND, "{took:?}");
    mesh.run(300 * SECOND);
    assert!(mesh.both(|mesh, one, other| mesh.is_relayed(one, other, 0)));
}

#[test]
fn a_direct_path_that_opens_takes_over_within_ten_seconds() {
    let mut mesh = Mesh::new([Disk::Works; 3]);
    mesh.set_cut(1, 2, true);
    mesh.run(120 * SECOND);
    mesh.set_cut(1, 2, false);
    mesh.run_until(10 * SECOND, |mesh| mesh.both(Mesh::is_direct));
    mesh.run(60 * SECOND);
    assert!(mesh.both(Mesh::is_direct));
}

#[test]
fn when_a_direct_path_breaks_a_relay_takes_over_before_the_peer_counts_as_lost() {
    let mut mesh = Mesh::connected();
    assert!(mesh.both(Mesh::is_direct));
    mesh.set_cut(1, 2, true);
    let took = mesh.run_until(20 * SECOND, |mesh| {
        mesh.both(|mesh, one, other| mesh.is_relayed(one, other, 0))
    });
    assert!(took < 6 * SECOND, "{took:?}");
    mesh.run(120 * SECOND);
    assert!(mesh.both(|mesh, one, other| mesh.is_relayed(one, other, 0)));
}

#[test]
fn a_relay_that_dies_takes_the_path_along_and_brings_it_back() {
    let mut mesh = Mesh::new([Disk::Works; 3]);
    mesh.set_cut(1, 2, true);
    mesh.run(30 * SECOND);
    mesh.hosts[0].is_running = false;
    mesh.run(60 * SECOND);
    assert!(!mesh.both(|mesh, one, other| mesh.established(one, other).is_some()));
    mesh.hosts[0].is_running = true;
    mesh.run_until(90 * SECOND, |mesh| {
        mesh.both(|mesh, one, other| mesh.is_relayed(one, other, 0))
    });
    mesh.run(Duration::from_secs(60));
    assert!(mesh.both(|mesh, one, other| mesh.is_relayed(one, other, 0)));
}

#[test]
fn without_discovery_peers_of_peers_are_reached_through_them() {
    let mut mesh = Mesh::configured(|_, config| config.discovery = false);
    mesh.run_until(10 * SECOND, |mesh| {
        mesh.both(|mesh, one, other| mesh.is_relayed(one, other, 0))
    });
    mesh.run(120 * SECOND);
    assert!(mesh.both(|mesh, one, other| mesh.is_relayed(one, other, 0)));
    let lines = mesh.status(1).connections;
    assert_eq!(lines.len(), 2, "nobody is dialled in vain: {lines:?}");
}
