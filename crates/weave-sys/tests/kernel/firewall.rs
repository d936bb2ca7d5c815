//! The accept rule, on a host whose firewall drops bridged frames.

use std::net::{IpAddr, SocketAddr};

use weave_sys::firewall::{BridgeRules, Place};
use weave_sys::netlink::Netlink;
use weave_sys::sysctl;

use crate::lab::{self, Container, Host, PATIENCE, SILENCE};

#[tokio::test]
async fn frames_pass_a_dropping_firewall_only_while_our_rule_stands() {
    let host = Host::with_dropping_firewall().await;
    let _tap = host.network("weave").await;
    let a = host.container("weave", "10.32.0.1", 12).await;
    let b = host.container("weave", "10.32.0.2", 12).await;
    let (a, b) = (a.udp(7), b.udp(7));
    assert!(
        !lab::reaches(&a, &b, SILENCE),
        "the firewall of this lab does not drop"
    );
    let rules = BridgeRules::new(&host.netns);
    let placed = rules.ensure("weave").unwrap();
    assert_eq!(
        (placed.v4, placed.v6),
        (Some(Place::Forward), Some(Place::Forward))
    );
    assert!(placed.changed && !rules.ensure("weave").unwrap().changed);
    assert!(lab::reaches(&a, &b, PATIENCE) && lab::reaches(&b, &a, PATIENCE));
    assert!(rules.remove("weave").unwrap() && !rules.remove("weave").unwrap());
    assert!(!lab::reaches(&a, &b, SILENCE));
}

#[tokio::test]
async fn ipv6_passes_as_well() {
    let host = Host::with_dropping_firewall().await;
    let _tap = host.network("weave").await;
    let a = host.container("weave", "10.32.0.1", 12).await;
    let b = host.container("weave", "10.32.0.2", 12).await;
    let (a, b) = (
        v6_socket(&a, "fd00::1").await,
        v6_socket(&b, "fd00::2").await,
    );
    assert!(!lab::reaches(&a, &b, SILENCE));
    BridgeRules::new(&host.netns).ensure("weave").unwrap();
    assert!(lab::reaches(&a, &b, PATIENCE));
}

#[tokio::test]
async fn the_rule_stands_in_docker_user_and_returns_after_a_flush() {
    let host = Host::with_dropping_firewall().await;
    for program in ["iptables", "ip6tables"] {
        host.run(program, &["-N", "DOCKER-USER"]);
        host.run(program, &["-A", "DOCKER-USER", "-j", "RETURN"]);
        host.run(program, &["-A", "FORWARD", "-j", "DOCKER-USER"]);
    }
    let rules = BridgeRules::new(&host.netns);
    let placed = rules.ensure("weave").unwrap();
    assert_eq!(
        (placed.v4, placed.v6),
        (Some(Place::DockerUser), Some(Place::DockerUser))
    );
    let listing = host.run("iptables", &["-S", "DOCKER-USER"]);
    assert!(
        listing.contains("-A DOCKER-USER -i weave -o weave -j ACCEPT\n-A DOCKER-USER -j RETURN")
    );
    host.run("iptables", &["-F", "DOCKER-USER"]);
    assert_eq!(rules.check("weave").unwrap().v4, None);
    assert_eq!(rules.ensure("weave").unwrap().v4, Some(Place::DockerUser));
    host.run("iptables", &["-F", "FORWARD"]);
    assert_eq!(rules.check("weave").unwrap().v4, None);
    assert_eq!(rules.ensure("weave").unwrap().v4, Some(Place::Forward));
    assert!(
        !host
            .run("iptables", &["-S", "DOCKER-USER"])
            .contains("weave")
    );
}

#[tokio::test]
async fn nothing_but_our_own_rules_is_touched() {
    let host = Host::with_dropping_firewall().await;
    host.run(
        "iptables",
        &[
            "-A", "FORWARD", "-i", "docker0", "-o", "docker0", "-j", "ACCEPT",
        ],
    );
    let before = host.run("iptables-save", &[]);
    let rules = BridgeRules::new(&host.netns);
    rules.ensure("weave").unwrap();
    rules.ensure("weave2").unwrap();
    assert!(rules.remove("weave").unwrap());
    assert_eq!(rules.check("weave2").unwrap().v4, Some(Place::Forward));
    assert!(rules.remove("weave2").unwrap());
    assert_eq!(
        lab::rules(&host.run("iptables-save", &[])),
        lab::rules(&before)
    );
}

#[tokio::test]
async fn where_nothing_is_dropped_no_rule_and_no_table_is_made() {
    let host = Host::new().await;
    let before = host.run("nft", &["list", "ruleset"]);
    let placed = BridgeRules::new(&host.netns).ensure("weave").unwrap();
    assert_eq!((placed.v4, placed.v6, placed.changed), (None, None, false));
    assert_eq!(host.run("nft", &["list", "ruleset"]), before);
}

#[tokio::test]
async fn many_rules_may_be_made_at_once() {
    let host = Host::new().await;
    host.run("iptables", &["-P", "FORWARD", "DROP"]);
    let rules = BridgeRules::new(&host.netns);
    std::thread::scope(|scope| {
        let tasks: Vec<_> = (0..6)
            .map(|number| {
                let rules = &rules;
                scope.spawn(move || rules.ensure(&format!("weave{number}")).unwrap())
            })
            .collect();
        assert!(
            tasks
                .into_iter()
                .all(|task| task.join().unwrap().v4 == Some(Place::Forward))
        );
    });
    assert_eq!(
        host.run("iptables", &["-S", "FORWARD"])
            .matches("-j ACCEPT")
            .count(),
        6
    );
}

async fn v6_socket(container: &Container, ip: &str) -> std::net::UdpSocket {
    let ip: IpAddr = ip.parse().unwrap();
    let key = "net/ipv6/conf/ethwe/accept_dad";
    assert!(
        sysctl::write(&container.netns, key, "0").unwrap(),
        "this test needs IPv6"
    );
    let inside = Netlink::open(&container.netns).unwrap();
    inside.add_address("ethwe", ip, 64).await.unwrap();
    lab::udp(&container.netns, SocketAddr::new(ip, 7))
}
