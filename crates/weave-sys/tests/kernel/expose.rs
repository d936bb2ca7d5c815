//! The host as a router between a network of ours and its neighbours.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use weave_sys::firewall::{BridgeRules, Exposed};
use weave_sys::netlink::{Netlink, Route, VethPeer};
use weave_sys::{NetNs, sysctl};

use crate::lab::{self, Host, PATIENCE, SILENCE};

const ON_THE_BRIDGE: Ipv4Addr = Ipv4Addr::new(10, 32, 0, 254);
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

fn exposed(masquerade: bool) -> [Exposed; 1] {
    [Exposed {
        bridge: "weave".to_owned(),
        network: Ipv4Addr::new(10, 32, 0, 0),
        prefix_len: 12,
        masquerade,
    }]
}

/// A machine beside the host that goes to 10.32.0.0/12 through it.
async fn neighbour(host: &Host) -> NetNs {
    let netns = NetNs::unnamed().unwrap();
    let peer = VethPeer {
        name: "eth0",
        mac: None,
        netns: Some(&netns),
    };
    host.netlink.add_veth("uplink", 1500, peer).await.unwrap();
    let host_ip = IpAddr::from([192, 0, 2, 1]);
    host.netlink
        .add_address("uplink", host_ip, 24)
        .await
        .unwrap();
    host.netlink.set_up("uplink").await.unwrap();
    let inside = Netlink::open(&netns).unwrap();
    inside.set_up("eth0").await.unwrap();
    inside
        .add_address("eth0", NEIGHBOUR.into(), 24)
        .await
        .unwrap();
    lab::run(
        &netns,
        "ip",
        &["route", "add", "10.32.0.0/12", "via", "192.0.2.1"],
    );
    netns
}

/// The source that `to` sees of what `from` sends.
fn source_seen(from: &UdpSocket, to: &UdpSocket) -> IpAddr {
    from.send_to(b"who am I", to.local_addr().unwrap()).unwrap();
    to.set_read_timeout(Some(PATIENCE)).unwrap();
    to.recv_from(&mut [0; 64]).unwrap().1.ip()
}

#[tokio::test]
async fn neighbours_pass_through_the_host_only_while_it_exposes_and_are_hidden_only_if_asked() {
    let host = Host::with_dropping_firewall().await;
    assert!(sysctl::write(&host.netns, "net/ipv4/ip_forward", "1").unwrap());
    assert!(sysctl::write(&host.netns, "net/ipv4/conf/all/rp_filter", "1").unwrap());
    let _tap = host.network("weave").await;
    host.netlink
        .add_address("weave", ON_THE_BRIDGE.into(), 12)
        .await
        .unwrap();
    let container = host.container("weave", "10.32.0.1", 12).await;
    lab::run(
        &container.netns,
        "ip",
        &["route", "add", "default", "via", "10.32.0.254"],
    );
    let outside = neighbour(&host).await;
    // One port for each try: a flow keeps the translation it began with.
    let ends = |port| {
        let near = lab::udp(&outside, SocketAddr::new(NEIGHBOUR.into(), port));
        (near, container.udp(port))
    };
    let rules = BridgeRules::new(&host.netns);

    let (near, far) = ends(1);
    assert!(!lab::reaches(&near, &far, SILENCE) && !lab::reaches(&far, &near, SILENCE));
    assert!(rules.ensure_exposed(&exposed(true)).unwrap());
    let (near, far) = ends(2);
    assert_eq!(source_seen(&near, &far), IpAddr::V4(ON_THE_BRIDGE));
    let (near, far) = ends(3);
    assert_eq!(source_seen(&far, &near), IpAddr::from([192, 0, 2, 1]));
    assert!(rules.ensure_exposed(&exposed(false)).unwrap());
    let (near, far) = ends(4);
    assert_eq!(source_seen(&near, &far), IpAddr::V4(NEIGHBOUR));
    let (near, far) = ends(5);
    assert_eq!(source_seen(&far, &near), IpAddr::V4(container.ip));
    assert!(rules.ensure_exposed(&[]).unwrap());
    let (near, far) = ends(6);
    assert!(!lab::reaches(&near, &far, SILENCE) && !lab::reaches(&far, &near, SILENCE));
}

#[tokio::test]
async fn frames_from_port_to_port_keep_their_source_although_the_subnet_is_masqueraded() {
    let host = Host::with_dropping_firewall().await;
    let _tap = host.network("weave").await;
    let a = host.container("weave", "10.32.0.1", 12).await;
    let b = host.container("weave", "10.32.0.2", 12).await;
    let elsewhere = Ipv4Addr::new(198, 51, 100, 7);
    let inside = Netlink::open(&a.netns).unwrap();
    inside
        .add_address("ethwe", elsewhere.into(), 24)
        .await
        .unwrap();
    let back = Netlink::open(&b.netns).unwrap();
    let route = Route::on_link(IpAddr::from([198, 51, 100, 0]), 24);
    back.add_route("ethwe", route).await.unwrap();
    let rules = BridgeRules::new(&host.netns);
    rules.ensure("weave").unwrap();
    rules.ensure_exposed(&exposed(true)).unwrap();
    host.netlink
        .add_address("weave", ON_THE_BRIDGE.into(), 12)
        .await
        .unwrap();
    let from = lab::udp(&a.netns, SocketAddr::new(elsewhere.into(), 7));
    assert_eq!(source_seen(&from, &b.udp(7)), IpAddr::V4(elsewhere));
    assert_eq!(source_seen(&b.udp(8), &from), IpAddr::V4(b.ip));
}

#[tokio::test]
async fn two_exposed_networks_stay_apart_also_where_nothing_else_is_dropped() {
    let host = Host::new().await;
    assert!(sysctl::write(&host.netns, "net/ipv4/ip_forward", "1").unwrap());
    let (_tap, _other_tap) = (host.network("weave").await, host.network("weave-b").await);
    let mut ends = Vec::new();
    for (bridge, at, container) in [
        ("weave", [10, 32, 0, 254], "10.32.0.1"),
        ("weave-b", [10, 33, 0, 254], "10.33.0.1"),
    ] {
        let address = IpAddr::from(at);
        host.netlink.add_address(bridge, address, 24).await.unwrap();
        let container = host.container(bridge, container, 24).await;
        let via = address.to_string();
        lab::run(
            &container.netns,
            "ip",
            &["route", "add", "default", "via", &via],
        );
        ends.push(container);
    }
    let (a, b) = (&ends[0], &ends[1]);
    assert!(lab::reaches(&a.udp(1), &b.udp(1), PATIENCE));
    let rules = BridgeRules::new(&host.netns);
    let of = |bridge: &str, network: [u8; 4]| Exposed {
        bridge: bridge.to_owned(),
        network: network.into(),
        prefix_len: 24,
        masquerade: false,
    };
    // one that is exposed is enough to be reached
    let exposed = [of("weave", [10, 32, 0, 0]), of("weave-b", [10, 33, 0, 0])];
    for exposed in [&exposed[..], &exposed[1..]] {
        assert!(rules.ensure_exposed(exposed).unwrap());
        assert!(!rules.ensure_exposed(exposed).unwrap());
        assert!(!lab::reaches(&a.udp(2), &b.udp(2), SILENCE));
        assert!(!lab::reaches(&b.udp(3), &a.udp(3), SILENCE));
    }
    let near = lab::udp(&host.netns, SocketAddr::from(([10, 33, 0, 254], 4)));
    assert!(lab::reaches(&near, &b.udp(4), PATIENCE));
    assert!(rules.ensure_exposed(&[]).unwrap());
    assert!(lab::reaches(&a.udp(5), &b.udp(5), PATIENCE));
}

#[tokio::test]
async fn the_chains_are_made_once_return_after_a_flush_and_leave_nothing() {
    let host = Host::with_dropping_firewall().await;
    host.run(
        "iptables",
        &["-t", "nat", "-A", "POSTROUTING", "-j", "RETURN"],
    );
    host.run("iptables", &["-N", "DOCKER-USER"]);
    host.run("iptables", &["-A", "FORWARD", "-j", "DOCKER-USER"]);
    let before = lab::rules(&host.run("iptables-save", &[]));
    let rules = BridgeRules::new(&host.netns);
    for masquerade in [true, false, true] {
        assert!(rules.ensure_exposed(&exposed(masquerade)).unwrap());
        assert!(!rules.ensure_exposed(&exposed(masquerade)).unwrap());
    }
    let listing = host.run("iptables", &["-S", "DOCKER-USER"]);
    assert!(
        listing.contains("-A DOCKER-USER -j WEAVE-EXPOSE"),
        "{listing}"
    );
    let whole = lab::rules(&host.run("iptables-save", &[]));
    for flush in [
        &["-F", "WEAVE-EXPOSE"][..],
        &["-F", "DOCKER-USER"],
        &["-t", "nat", "-F"],
        &["-t", "nat", "-D", "POSTROUTING", "-j", "WEAVE-EXPOSE"],
    ] {
        host.run("iptables", flush);
        if flush == ["-t", "nat", "-F"] {
            host.run(
                "iptables",
                &["-t", "nat", "-A", "POSTROUTING", "-j", "RETURN"],
            );
        }
        assert!(rules.ensure_exposed(&exposed(true)).unwrap(), "{flush:?}");
        assert_eq!(
            lab::rules(&host.run("iptables-save", &[])),
            whole,
            "{flush:?}"
        );
    }
    assert!(rules.ensure_exposed(&[]).unwrap());
    assert!(!rules.ensure_exposed(&[]).unwrap());
    assert_eq!(lab::rules(&host.run("iptables-save", &[])), before);
}
