//! Peers that speak different protocol versions.

use std::time::Duration;

use weave_wire::{DatagramType, SealedHeader, Versions};

use super::net::{Faults, Net, addr_of};
use crate::session::ConnectionState;

const SECOND: Duration = Duration::from_secs(1);

/// Two hosts that speak these versions; the first dials.
fn net(dialler: (u8, u8), listener: (u8, u8)) -> Net {
    let mut net = Net::new(2, Faults::NONE, 1);
    net.hosts[0].speak(dialler.0, dialler.1);
    net.hosts[1].speak(listener.0, listener.1);
    net.target(0, 1);
    net.run(5 * SECOND);
    net
}

#[test]
fn peers_of_different_ranges_connect_in_their_highest_common_version_and_seal_in_it() {
    for (dialler, listener) in [
        ((1, 1), (1, 2)),
        ((1, 2), (1, 1)),
        ((1, 2), (1, 2)),
        ((2, 3), (1, 2)),
        ((1, 2), (2, 15)),
    ] {
        let net = net(dialler, listener);
        net.assert_pair(0, 1);
        let (a, b) = (
            Versions::new(dialler.0, dialler.1),
            Versions::new(listener.0, listener.1),
        );
        let common = a.common(b);
        for (host, other) in [(0, 1), (1, 0)] {
            assert_eq!(net.status(host, addr_of(other)).version, common);
        }
        let sealed = net.sent.iter().filter_map(|(_, _, datagram)| {
            let header = SealedHeader::decode(datagram).ok()?;
            Some(Some(header.version))
        });
        let sealed: Vec<_> = sealed.collect();
        assert!(!sealed.is_empty() && sealed.iter().all(|version| *version == common));
        let handshakes = net.sent.iter().filter(|(_, _, datagram)| {
            DatagramType::of(datagram).is_ok_and(DatagramType::is_handshake)
        });
        assert!(
            handshakes.count() >= 3,
            "all can read what handshakes are made of"
        );
    }
}

#[test]
fn a_peer_without_a_common_version_is_shown_with_both_ranges() {
    for (dialler, listener, text) in [
        ((1, 1), (2, 3), "it speaks 2 to 3, this router 1"),
        ((2, 2), (1, 1), "it speaks 1, this router 2"),
    ] {
        let net = net(dialler, listener);
        let line = net.status(0, addr_of(1));
        assert_eq!(
            line.info,
            format!("refused: no common protocol version: {text}")
        );
        assert_ne!(line.state, ConnectionState::Established);
        assert!(net.hosts.iter().all(|host| host.connected().is_empty()));
    }
}

#[test]
fn a_peer_that_comes_back_with_another_version_is_connected_in_that() {
    let mut net = net((1, 2), (1, 1));
    for (highest, boot) in [(2, 2), (1, 3)] {
        net.restart(1, super::net::RIGHT);
        net.hosts[1].speak(1, highest);
        net.run(30 * SECOND);
        net.assert_pair(0, 1);
        assert_eq!(
            net.status(0, addr_of(1)).version,
            Some(highest),
            "boot {boot}"
        );
    }
}
