//! Whether a container answers, and what the firewall makes of frames between ports.

use std::net::Ipv4Addr;

use weave_sys::dnsns::DnsNamespace;
use weave_sys::firewall::{
    BridgeRules, Passage, Place, is_dns_redirected, passage, redirect_dns, remove_dns_redirect,
};
use weave_sys::probe;

use crate::lab::{Host, SILENCE};

const ABSENT: Ipv4Addr = Ipv4Addr::new(10, 32, 0, 99);

#[tokio::test]
async fn a_container_answers_arp_and_one_that_is_not_there_does_not() {
    let host = Host::new().await;
    let _tap = host.network("weave").await;
    let container = host.container("weave", "10.32.0.1", 12).await;
    let bridge = host.netlink.link("weave").await.unwrap();
    let link = (bridge.index, bridge.mac.unwrap());
    let ask = |ip| probe::arp(&host.netns, link, (container.mac, ip), SILENCE * 3).unwrap();
    assert!(ask(container.ip).is_some());
    assert_eq!(ask(ABSENT), None);
}

#[tokio::test]
async fn an_echo_passes_the_firewall_of_the_host_as_containers_do() {
    let host = Host::with_dropping_firewall().await;
    let _tap = host.network("weave").await;
    let container = host.container("weave", "10.32.0.1", 12).await;
    let mut dns = DnsNamespace::create(&host.netns).await.unwrap();
    let subnet = [(Ipv4Addr::new(10, 32, 0, 0), 12)];
    dns.add_bridge("weave", &subnet).await.unwrap();
    crate::dns::add_dns_route(&container).await;
    let rules = BridgeRules::new(&host.netns);
    let ask = || probe::echo(dns.netns(), container.ip, SILENCE * 3).unwrap();
    assert_eq!(passage(&rules, "weave").unwrap(), Passage::Closed);
    assert_eq!(ask(), None);
    rules.ensure("weave").unwrap();
    let accepted = Passage::Accepted(Place::Forward);
    assert_eq!(passage(&rules, "weave").unwrap(), accepted);
    assert!(ask().is_some());
    host.run("iptables", &["-I", "FORWARD", "-i", "weave", "-j", "DROP"]);
    let dropped = Passage::Before("-A FORWARD -i weave -j DROP".to_owned());
    assert_eq!(passage(&rules, "weave").unwrap(), dropped);
    assert_eq!(ask(), None);
}

#[tokio::test]
async fn a_redirect_that_somebody_emptied_does_not_stand() {
    let host = Host::new().await;
    let (upstreams, server) = (
        [Ipv4Addr::new(192, 0, 2, 53)],
        Ipv4Addr::new(169, 254, 53, 53),
    );
    let stands = || is_dns_redirected(&host.netns, &upstreams, server).unwrap();
    assert!(!stands());
    redirect_dns(&host.netns, &upstreams, server).unwrap();
    assert!(stands());
    host.run("iptables", &["-t", "nat", "-F", "WEAVE-DNS"]);
    assert!(!stands());
    redirect_dns(&host.netns, &upstreams, server).unwrap();
    assert!(stands());
    remove_dns_redirect(&host.netns).unwrap();
    assert!(!stands());
}
