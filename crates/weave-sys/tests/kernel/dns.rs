//! The DNS server's namespace, and the redirect that leads a container's queries there.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use weave_sys::Netlink;
use weave_sys::dnsns::{self, DNS_ADDRESS, DNS_MAC, DnsNamespace};
use weave_sys::firewall::{BridgeRules, first_redirect_dns, redirect_dns, remove_dns_redirect};
use weave_sys::netlink::{Route, VethPeer};
use weave_sys::sysctl;

use crate::lab::{self, Container, Host, PATIENCE, SILENCE};

const UPSTREAM: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 53);
const OTHER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 54);

#[tokio::test]
async fn containers_of_every_network_reach_the_server_at_one_address() {
    let host = strict_host().await;
    let (_tap1, _tap2) = (host.network("weave").await, host.network("weave2").await);
    let mut dns = DnsNamespace::create(&host.netns).await.unwrap();
    for (bridge, subnet, len) in [
        ("weave", [10, 32, 0, 0], 12),
        ("weave2", [10, 50, 0, 0], 16),
    ] {
        let subnet = [(Ipv4Addr::from(subnet), len)];
        dns.add_bridge(bridge, &subnet).await.unwrap();
        dns.add_bridge(bridge, &subnet).await.unwrap();
        BridgeRules::new(&host.netns).ensure(bridge).unwrap();
    }
    assert_eq!(dns.bridges().collect::<Vec<_>>(), ["weave", "weave2"]);
    let server = server(&dns);
    for (bridge, ip, len) in [("weave", "10.32.0.1", 12), ("weave2", "10.50.0.1", 16)] {
        let container = host.container(bridge, ip, len).await;
        add_dns_route(&container).await;
        assert!(
            lab::reaches(&container.udp(4000), &server, PATIENCE),
            "{bridge}"
        );
    }
    assert!(host.netlink.addresses_of("weave").await.unwrap().is_empty());
}

#[tokio::test]
async fn queries_to_an_upstream_are_answered_by_the_server_and_all_else_passes() {
    let host = strict_host().await;
    let _tap = host.network("weave").await;
    let mut dns = DnsNamespace::create(&host.netns).await.unwrap();
    dns.add_bridge("weave", &[(Ipv4Addr::new(10, 32, 0, 0), 12)])
        .await
        .unwrap();
    BridgeRules::new(&host.netns).ensure("weave").unwrap();
    let container = host.container("weave", "10.32.0.1", 12).await;
    add_default_route(&host, &container).await;
    add_dns_route(&container).await;
    let server = server(&dns);
    let (upstream, other) = (
        upstream(&host, UPSTREAM).await,
        upstream(&host, OTHER).await,
    );
    assert_eq!(
        ask(&container, UPSTREAM, &[&server, &upstream, &other]),
        Some(1)
    );
    first_redirect_dns(&container.netns, &[UPSTREAM], DNS_ADDRESS).unwrap();
    for _ in 0..2 {
        redirect_dns(&container.netns, &[UPSTREAM], DNS_ADDRESS).unwrap();
    }
    assert_eq!(
        ask(&container, UPSTREAM, &[&server, &upstream, &other]),
        Some(0)
    );
    assert_eq!(
        ask(&container, OTHER, &[&server, &upstream, &other]),
        Some(2)
    );
    let rules = lab::run(&container.netns, "iptables-save", &["-t", "nat"]);
    assert_eq!(rules.matches("-j DNAT").count(), 2, "{rules}");
    assert_eq!(rules.matches("-j WEAVE-DNS\n").count(), 1, "{rules}");
    assert!(remove_dns_redirect(&container.netns).unwrap());
    assert!(!remove_dns_redirect(&container.netns).unwrap());
    assert!(!lab::run(&container.netns, "iptables-save", &[]).contains("WEAVE"));
    assert_eq!(
        ask(&container, UPSTREAM, &[&server, &upstream, &other]),
        Some(1)
    );
}

#[tokio::test]
async fn a_query_over_tcp_is_redirected_too() {
    let host = strict_host().await;
    let _tap = host.network("weave").await;
    let mut dns = DnsNamespace::create(&host.netns).await.unwrap();
    dns.add_bridge("weave", &[(Ipv4Addr::new(10, 32, 0, 0), 12)])
        .await
        .unwrap();
    BridgeRules::new(&host.netns).ensure("weave").unwrap();
    let container = host.container("weave", "10.32.0.1", 12).await;
    add_default_route(&host, &container).await;
    add_dns_route(&container).await;
    redirect_dns(&container.netns, &[UPSTREAM], DNS_ADDRESS).unwrap();
    let addr = SocketAddr::new(DNS_ADDRESS.into(), 53);
    let listener: TcpListener = dnsns::tcp_listener(dns.netns(), addr).unwrap();
    listener.set_nonblocking(false).unwrap();
    let answering = std::thread::spawn(move || {
        listener.accept().unwrap().0.write_all(b"here").unwrap();
    });
    let target = SocketAddr::new(UPSTREAM.into(), 53);
    let dialled = container
        .netns
        .run_in(|| TcpStream::connect_timeout(&target, PATIENCE));
    let mut text = String::new();
    dialled
        .unwrap()
        .expect("redirected")
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "here");
    answering.join().unwrap();
}

#[tokio::test]
async fn the_server_is_never_heard_on_another_host() {
    let host = Host::new().await;
    let tap = host.network("weave").await;
    let mut dns = DnsNamespace::create(&host.netns).await.unwrap();
    dns.add_bridge("weave", &[(Ipv4Addr::new(10, 32, 0, 0), 12)])
        .await
        .unwrap();
    let remote = ([0x02, 0x42, 10, 32, 0, 9], Ipv4Addr::new(10, 32, 0, 9));
    tap.send(&lab::arp(1, remote, ([0; 6], DNS_ADDRESS)))
        .unwrap();
    // The server asks for a container of another host: that must not go out either.
    let _ = server(&dns).send_to(b"answer", SocketAddr::new(remote.1.into(), 4000));
    let heard = lab::next_frame(&tap, SILENCE, |frame| frame[6..12] == DNS_MAC);
    assert_eq!(heard, None);
}

#[tokio::test]
async fn a_removed_bridge_and_a_dropped_namespace_leave_nothing_behind() {
    let host = Host::new().await;
    let _taps = (host.network("weave").await, host.network("weave2").await);
    let before = host.link_names().await;
    let mut dns = DnsNamespace::create(&host.netns).await.unwrap();
    dns.add_bridge("weave", &[]).await.unwrap();
    dns.add_bridge("weave2", &[]).await.unwrap();
    assert!(dns.add_bridge("nowhere", &[]).await.is_err());
    assert!(dns.remove_bridge("weave2").await.unwrap());
    assert!(!dns.remove_bridge("weave2").await.unwrap());
    assert_eq!(host.link_names().await.len(), before.len() + 1);
    drop(dns);
    // The kernel takes namespaces down in the background.
    let start = Instant::now();
    while host.link_names().await != before {
        assert!(start.elapsed() < PATIENCE, "{:?}", host.link_names().await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A host as strict as they come: FORWARD drops, and rp_filter is on.
async fn strict_host() -> Host {
    let host = Host::with_dropping_firewall().await;
    for key in [
        "net/ipv4/conf/all/rp_filter",
        "net/ipv4/conf/default/rp_filter",
    ] {
        sysctl::write(&host.netns, key, "1").unwrap();
    }
    host
}

fn server(dns: &DnsNamespace) -> UdpSocket {
    let addr = SocketAddr::new(DNS_ADDRESS.into(), 53);
    let socket = dnsns::udp_socket(dns.netns(), addr).unwrap();
    socket.set_nonblocking(false).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// As docker_gwbridge: another interface with the default route, through the host.
async fn add_default_route(host: &Host, container: &Container) {
    let peer = VethPeer {
        name: "eth0",
        mac: None,
        netns: Some(&container.netns),
    };
    host.netlink.add_veth("veth-gw", 1500, peer).await.unwrap();
    host.netlink.set_up("veth-gw").await.unwrap();
    let gateway: IpAddr = "172.18.0.1".parse().unwrap();
    host.netlink
        .add_address("veth-gw", gateway, 16)
        .await
        .unwrap();
    let inside = Netlink::open(&container.netns).unwrap();
    inside.set_up("eth0").await.unwrap();
    inside
        .add_address("eth0", "172.18.0.2".parse().unwrap(), 16)
        .await
        .unwrap();
    let network = Ipv4Addr::UNSPECIFIED.into();
    let default = Route {
        network,
        prefix_len: 0,
        gateway: Some(gateway),
        source: None,
    };
    inside.add_route("eth0", default).await.unwrap();
}

pub(crate) async fn add_dns_route(container: &Container) {
    let inside = Netlink::open(&container.netns).unwrap();
    inside
        .add_route("ethwe", Route::on_link(DNS_ADDRESS.into(), 32))
        .await
        .unwrap();
}

/// An upstream resolver, on the host itself.
async fn upstream(host: &Host, ip: Ipv4Addr) -> UdpSocket {
    host.netlink.add_address("lo", ip.into(), 32).await.unwrap();
    lab::udp(&host.netns, SocketAddr::new(ip.into(), 53))
}

/// Asks `to` from a fresh port until there is an answer; which of `servers` gave it. The container
/// must see the answer come from `to`.
fn ask(container: &Container, to: Ipv4Addr, servers: &[&UdpSocket]) -> Option<usize> {
    let client = lab::udp(
        &container.netns,
        SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
    );
    let target = SocketAddr::new(to.into(), 53);
    let mut buffer = [0; 32];
    for socket in servers.iter().copied().chain([&client]) {
        socket.set_read_timeout(Some(SILENCE)).unwrap();
    }
    for _ in 0..5 {
        client.send_to(b"query", target).unwrap();
        for (number, server) in servers.iter().enumerate() {
            let Ok((_, from)) = server.recv_from(&mut buffer) else {
                continue;
            };
            server
                .send_to(&[b'0' + u8::try_from(number).unwrap()], from)
                .unwrap();
            if let Ok((_, answered_by)) = client.recv_from(&mut buffer) {
                assert_eq!(answered_by, target);
                return Some(usize::from(buffer[0] - b'0'));
            }
        }
    }
    None
}
