//! Bridges, veths and what is left of them.

use std::net::IpAddr;

use weave_sys::bridge::{self, TAP_FLAGS};
use weave_sys::netlink::{Route, VethPeer};
use weave_sys::veth::{self, Attachment, EndpointVeth, PORT_FLAGS};
use weave_sys::{Error, linkname, preflight, sysctl};

use crate::lab::{self, Host, MTU, PATIENCE};

#[tokio::test]
async fn a_network_may_be_ensured_again_and_is_brought_back_into_shape() {
    let host = Host::new().await;
    let spec = lab::spec("weave");
    let tap = host.network("weave").await;
    host.run(
        "ip",
        &[
            "link",
            "set",
            "weave",
            "mtu",
            "1200",
            "address",
            "02:00:00:00:00:77",
        ],
    );
    host.run("ip", &["link", "set", "weave-tap", "nomaster"]);
    bridge::ensure_bridge(&host.netlink, &spec).await.unwrap();
    bridge::plug_tap(&host.netlink, &spec).await.unwrap();
    let link = host.netlink.link("weave").await.unwrap();
    assert_eq!((link.mtu, link.mac, link.up), (MTU, Some(spec.mac), true));
    assert_eq!(
        bridge::ports(&host.netlink, "weave").await.unwrap(),
        ["weave-tap"]
    );
    drop(tap);
    bridge::ensure_network(&host.netlink, &spec).await.unwrap();
}

/// More links than the kernel tells in one message.
#[tokio::test]
async fn several_may_list_at_once() {
    let host = Host::new().await;
    for number in 0..30 {
        host.run(
            "ip",
            &["link", "add", &format!("many{number}"), "type", "bridge"],
        );
    }
    for _ in 0..20 {
        let (links, again, addresses, routes) = tokio::join!(
            host.netlink.links(),
            host.netlink.links(),
            host.netlink.addresses(),
            host.netlink.routes()
        );
        assert!(links.unwrap().len() > 30);
        assert!(again.unwrap().len() > 30);
        addresses.unwrap();
        routes.unwrap();
    }
}

#[tokio::test]
async fn another_interface_with_the_name_of_the_bridge_is_left_alone() {
    let host = Host::new().await;
    host.run("ip", &["link", "add", "weave", "type", "veth"]);
    let error = bridge::ensure_bridge(&host.netlink, &lab::spec("weave"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::WrongKind { .. }), "{error}");
    assert!(error.to_string().contains("veth"), "{error}");
}

#[tokio::test]
async fn only_the_tap_gets_unknown_unicast_and_the_host_takes_no_part() {
    let host = Host::new().await;
    let _tap = host.network("weave").await;
    let container = host.container("weave", "10.32.0.1", 12).await;
    let port = host.run(
        "bridge",
        &["-d", "link", "show", "dev", &container.host_veth],
    );
    assert!(
        port.contains(" flood off") && port.contains("learning on"),
        "{port}"
    );
    let port = host.run("bridge", &["-d", "link", "show", "dev", "weave-tap"]);
    assert!(
        port.contains(" flood on") && port.contains("isolated on"),
        "{port}"
    );
    let known = host.run("bridge", &["fdb", "show", "dev", &container.host_veth]);
    assert!(
        known.contains("02:42:0a:20:00:01 master weave static"),
        "{known}"
    );
    for link in ["weave", "weave-tap", &container.host_veth] {
        let key = format!("net/ipv6/conf/{link}/disable_ipv6");
        assert_eq!(
            sysctl::read(&host.netns, &key).unwrap().as_deref(),
            Some("1"),
            "{link}"
        );
        assert!(
            host.netlink.addresses_of(link).await.unwrap().is_empty(),
            "{link}"
        );
    }
    let snooping = host.run("ip", &["-d", "link", "show", "weave"]);
    assert!(snooping.contains("mcast_snooping 0"), "{snooping}");
}

#[tokio::test]
async fn changed_flags_of_ports_are_seen_and_put_back() {
    let host = Host::new().await;
    let _tap = host.network("weave").await;
    let container = host.container("weave", "10.32.0.1", 12).await;
    let port = container.host_veth.as_str();
    let flags = async |name| host.netlink.link(name).await.unwrap().port;
    assert!(flags("weave-tap").await.agrees_with(&TAP_FLAGS));
    assert!(flags(port).await.agrees_with(&PORT_FLAGS));
    let slave = ["type", "bridge_slave"];
    for (name, flag) in [("weave-tap", ["flood", "off"]), (port, ["flood", "on"])] {
        host.run("ip", &[&["link", "set", name], &slave[..], &flag].concat());
    }
    assert!(!flags("weave-tap").await.agrees_with(&TAP_FLAGS));
    assert!(!flags(port).await.agrees_with(&PORT_FLAGS));
    bridge::plug_tap(&host.netlink, &lab::spec("weave"))
        .await
        .unwrap();
    let (_, guest) = linkname::veth_pair("10.32.0.1");
    let veth = EndpointVeth {
        host: port,
        guest: &guest,
        bridge: "weave",
        mtu: MTU,
        mac: container.mac,
    };
    veth::plug(&host.netlink, &veth).await.unwrap();
    assert!(flags("weave-tap").await.agrees_with(&TAP_FLAGS));
    assert!(flags(port).await.agrees_with(&PORT_FLAGS));
}

#[tokio::test]
async fn the_port_of_a_container_tells_what_the_container_sent_and_was_sent() {
    let host = Host::new().await;
    let _tap = host.network("weave").await;
    let from = host.container("weave", "10.32.0.1", 12).await;
    let to = host.container("weave", "10.32.0.2", 12).await;
    let ports = [&from.host_veth, &to.host_veth];
    let carried = async || {
        let links = host.netlink.links().await.unwrap();
        ports.map(|port| {
            links
                .iter()
                .find(|link| link.name == *port)
                .unwrap()
                .traffic
        })
    };
    let (sender, receiver) = (from.udp(1), to.udp(1));
    assert!(lab::reaches(&sender, &receiver, PATIENCE));
    let before = carried().await;
    for _ in 0..100 {
        sender
            .send_to(&[7; 1000], receiver.local_addr().unwrap())
            .unwrap();
    }
    let after = carried().await;
    // neighbours may ask for each other meanwhile, too
    let is_it = |packets: u64, bytes: u64| {
        (100..120).contains(&packets) && (104_200..106_000).contains(&bytes)
    };
    let [sent, received] = [0, 1].map(|at| (before[at], after[at]));
    let packets = sent.1.received_packets - sent.0.received_packets;
    assert!(
        is_it(packets, sent.1.received_bytes - sent.0.received_bytes),
        "{sent:?}"
    );
    let packets = received.1.sent_packets - received.0.sent_packets;
    assert!(
        is_it(packets, received.1.sent_bytes - received.0.sent_bytes),
        "{received:?}"
    );
    assert!(sent.1.sent_packets - sent.0.sent_packets < 20, "{sent:?}");
}

#[tokio::test]
async fn the_host_does_not_answer_a_container_for_its_other_addresses() {
    let host = Host::new().await;
    let _tap = host.network("weave").await;
    host.netlink
        .add_address("lo", "10.32.9.9".parse().unwrap(), 32)
        .await
        .unwrap();
    let container = host.container("weave", "10.32.0.1", 12).await;
    let (from, to) = (
        container.udp(1),
        lab::udp(&host.netns, "10.32.9.9:1".parse().unwrap()),
    );
    assert!(!lab::reaches(&from, &to, lab::SILENCE));
}

#[tokio::test]
async fn an_attached_container_has_its_addresses_and_routes() {
    let host = Host::new().await;
    let _tap = host.network("weave").await;
    let container = host.container("weave", "10.32.0.1", 12).await;
    let inside = weave_sys::Netlink::open(&container.netns).unwrap();
    let link = inside.link("ethwe").await.unwrap();
    assert_eq!(
        (link.mac, link.mtu, link.up),
        (Some(container.mac), MTU, true)
    );
    let has = |routes: &[_], network: &str, len| {
        let network: IpAddr = network.parse().unwrap();
        routes.iter().any(|route: &weave_sys::netlink::RouteInfo| {
            route.network == network && route.prefix_len == len && route.link == Some(link.index)
        })
    };
    let routes = inside.routes().await.unwrap();
    assert!(
        has(&routes, "10.32.0.0", 12) && has(&routes, "224.0.0.0", 4),
        "{routes:?}"
    );
    let more = (IpAddr::from([10, 50, 0, 1]), 16);
    let attachment = Attachment {
        name: "ethwe",
        addresses: &[more],
        routes: &[Route::multicast_v4()],
    };
    for _ in 0..2 {
        veth::extend(&container.netns, attachment).await.unwrap();
    }
    assert!(has(&inside.routes().await.unwrap(), "10.50.0.0", 16));
    let gone = (IpAddr::from([10, 60, 0, 1]), 16);
    let removed = veth::remove_addresses(&container.netns, "ethwe", &[more, gone])
        .await
        .unwrap();
    assert_eq!(removed, [more]);
    assert!(!has(&inside.routes().await.unwrap(), "10.50.0.0", 16));
}

#[tokio::test]
async fn containers_on_one_bridge_reach_each_other_and_the_detached_one_is_gone() {
    let host = Host::new().await;
    let _tap = host.network("weave").await;
    let a = host.container("weave", "10.32.0.1", 12).await;
    let b = host.container("weave", "10.32.0.2", 12).await;
    let (to, from) = (a.udp(7), b.udp(7));
    assert!(lab::reaches(&from, &to, PATIENCE) && lab::reaches(&to, &from, PATIENCE));
    assert!(veth::detach(&a.netns, "ethwe").await.unwrap());
    assert!(!veth::detach(&a.netns, "ethwe").await.unwrap());
    assert!(!lab::reaches(&from, &to, lab::SILENCE));
    assert!(!host.link_names().await.contains(&a.host_veth));
}

#[tokio::test]
async fn an_attachment_that_fails_leaves_nothing_behind() {
    let host = Host::new().await;
    let _tap = host.network("weave").await;
    let before = host.link_names().await;
    for (name, route) in [
        ("lo", Route::multicast_v4()),
        ("ethwe", unreachable_gateway()),
    ] {
        let container = host.cable("weave", "10.32.0.1".parse().unwrap()).await;
        let (_, guest) = linkname::veth_pair("10.32.0.1");
        let addresses = [(IpAddr::V4(container.ip), 12)];
        let attachment = Attachment {
            name,
            addresses: &addresses,
            routes: &[route],
        };
        let done = veth::attach(&host.netlink, &guest, &container.netns, attachment).await;
        assert!(done.is_err(), "{name}");
        assert_eq!(host.link_names().await, before, "{name}");
    }
}

#[tokio::test]
async fn a_veth_for_a_missing_bridge_leaves_nothing_behind() {
    let host = Host::new().await;
    let made = EndpointVeth {
        host: "va",
        guest: "vb",
        bridge: "weave",
        mtu: MTU,
        mac: [2; 6],
    };
    let error = veth::create_endpoint_veth(&host.netlink, made)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::NoSuchLink { name } if name == "weave"),
        "{error}"
    );
    assert!(host.link_names().await.is_empty());
}

#[tokio::test]
async fn a_removed_network_leaves_nothing_behind() {
    let host = Host::new().await;
    let tap = host.network("weave").await;
    let container = host.container("weave", "10.32.0.1", 12).await;
    assert!(
        host.netlink
            .delete_link(&container.host_veth)
            .await
            .unwrap()
    );
    assert!(
        bridge::remove_network(&host.netlink, "weave", "weave-tap")
            .await
            .unwrap()
    );
    assert!(
        !bridge::remove_network(&host.netlink, "weave", "weave-tap")
            .await
            .unwrap()
    );
    assert!(host.link_names().await.is_empty());
    drop(tap);
}

#[tokio::test]
async fn a_host_route_inside_the_range_is_named_and_our_own_bridge_is_not() {
    let host = Host::new().await;
    let peer = VethPeer {
        name: "veth1",
        mac: None,
        netns: None,
    };
    host.netlink.add_veth("veth0", 1500, peer).await.unwrap();
    host.netlink.set_up("veth0").await.unwrap();
    host.netlink.set_up("veth1").await.unwrap();
    host.netlink
        .add_address("veth0", "10.40.0.1".parse().unwrap(), 16)
        .await
        .unwrap();
    let default = Route {
        network: IpAddr::from([0, 0, 0, 0]),
        prefix_len: 0,
        gateway: Some(IpAddr::from([10, 40, 0, 2])),
        source: None,
    };
    host.netlink.add_route("veth0", default).await.unwrap();
    let range = IpAddr::from([10, 32, 0, 0]);
    let conflict = preflight::route_conflict(&host.netlink, range, 12, &["weave"])
        .await
        .unwrap();
    let conflict = conflict.expect("the route to 10.40.0.0/16 lies inside the range");
    assert_eq!((conflict.prefix_len, conflict.link.as_str()), (16, "veth0"));
    let own = preflight::route_conflict(&host.netlink, range, 12, &["veth0"])
        .await
        .unwrap();
    assert_eq!(own, None);
}

fn unreachable_gateway() -> Route {
    Route {
        network: IpAddr::from([192, 0, 2, 0]),
        prefix_len: 24,
        gateway: Some(IpAddr::from([203, 0, 113, 1])),
        source: None,
    }
}
