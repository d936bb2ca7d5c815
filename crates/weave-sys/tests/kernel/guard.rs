//! What a container may send, as its port on the bridge sees it.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use weave_sys::firewall::{ClosedPorts, Guard, GuardedPort};
use weave_sys::{MacBytes, NetNs, Tap};

use crate::lab::{self, Host, PATIENCE, SILENCE};

const PORT: &str = "vethwl000000001";
const MAC: MacBytes = [0x02, 0x77, 10, 32, 0, 1];
const IP: Ipv4Addr = Ipv4Addr::new(10, 32, 0, 1);
const VICTIM_MAC: MacBytes = [0x02, 0x77, 10, 32, 0, 2];
const VICTIM: Ipv4Addr = Ipv4Addr::new(10, 32, 0, 2);
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x77, 0xaff, 0xfe20, 1);
const V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const VICTIM_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
const CLOSED: ClosedPorts = ClosedPorts {
    udp: 6783,
    tcp: Some(6782),
};

/// A bridge with two ports: what the test writes to `container` goes in as a container's frames
/// do, and what passes is read from `out`.
struct Bench {
    host: Host,
    container: Tap,
    out: Tap,
}

impl Bench {
    async fn new() -> Self {
        let host = Host::new().await;
        let out = host.plain_network("weave").await;
        let open = || Tap::open_plain(PORT, "a test".to_owned());
        let container = host.netns.run_in(open).unwrap().unwrap();
        host.run("ip", &["link", "set", PORT, "master", "weave", "up"]);
        let bench = Self {
            host,
            container,
            out,
        };
        let start = Instant::now();
        while bench.stops(&ip4(MAC, IP, b"")) {
            assert!(start.elapsed() < PATIENCE, "the bridge forwards nothing");
        }
        bench
    }

    fn passes(&self, frame: &[u8]) -> bool {
        self.comes_through(frame, PATIENCE)
    }

    fn stops(&self, frame: &[u8]) -> bool {
        !self.comes_through(frame, SILENCE / 6)
    }

    fn comes_through(&self, frame: &[u8], wait: Duration) -> bool {
        self.container.send(frame).unwrap();
        lab::next_frame(&self.out, wait, |found| found == frame).is_some()
    }

    fn guard(&self) -> Guard {
        Guard::new(&self.host.netns, CLOSED)
    }
}

fn port(open: bool) -> GuardedPort {
    GuardedPort {
        name: PORT.to_owned(),
        mac: MAC,
        ips: vec![IP.into(), V6.into(), LINK_LOCAL.into()],
        open,
    }
}

fn frame(src: MacBytes, ethertype: [u8; 2], payload: &[u8]) -> Vec<u8> {
    [&[0xff; 6][..], &src, &ethertype, payload].concat()
}

fn ip4(mac: MacBytes, ip: Ipv4Addr, udp: &[u8]) -> Vec<u8> {
    let len = u8::try_from(20 + udp.len()).unwrap();
    let head = [0x45, 0, 0, len, 0, 1, 0, 0, 64, 17, 0, 0];
    let mut packet = [&head[..], &ip.octets(), &[255; 4], udp].concat();
    // br_netfilter looks at it
    let sum = !lab::checksum(&packet[..20], 0);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    frame(mac, [8, 0], &packet)
}

fn ip6(mac: MacBytes, ip: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    let len = u8::try_from(payload.len()).unwrap();
    let head = [0x60, 0, 0, 0, 0, len, next, 255];
    let all = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let packet = [&head[..], &ip.octets(), &all.octets(), payload].concat();
    frame(mac, [0x86, 0xdd], &packet)
}

fn nd(ty: u8, mac: MacBytes, ip: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let message = [&[ty, 0, 0, 0, 0, 0, 0, 0], &target.octets()[..]].concat();
    ip6(mac, ip, 58, &message)
}

fn arp(op: u8, src: MacBytes, sender: (MacBytes, Ipv4Addr), target: Ipv4Addr) -> Vec<u8> {
    let mut frame = lab::arp(op, sender, (VICTIM_MAC, target));
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&src);
    frame
}

/// A whole UDP header with a few bytes behind it.
fn udp(from: u8, to: u8) -> Vec<u8> {
    [&[0, from, 0, to, 0, 12, 0, 0], &[1; 4][..]].concat()
}

#[tokio::test]
async fn a_container_speaks_for_itself_alone() {
    let bench = Bench::new().await;
    let mut guard = bench.guard();
    guard.protect(&port(false)).unwrap();
    assert!(guard.ensure().unwrap() && !guard.ensure().unwrap());

    let own = (MAC, IP);
    let unspecified = Ipv6Addr::UNSPECIFIED;
    for (what, frame) in [
        ("IPv4", ip4(MAC, IP, &udp(1, 2))),
        ("ARP request", arp(1, MAC, own, VICTIM)),
        ("ARP reply", arp(2, MAC, own, VICTIM)),
        ("ARP probe", arp(1, MAC, (MAC, [0; 4].into()), VICTIM)),
        ("IPv6", ip6(MAC, V6, 59, b"")),
        ("link-local IPv6", ip6(MAC, LINK_LOCAL, 59, b"")),
        ("duplicate detection", nd(135, MAC, unspecified, VICTIM_V6)),
        ("solicitation", nd(135, MAC, V6, VICTIM_V6)),
        ("own advertisement", nd(136, MAC, V6, V6)),
        ("link-local advertisement", nd(136, MAC, V6, LINK_LOCAL)),
    ] {
        assert!(bench.passes(&frame), "{what}");
    }
    let mut infiniband = arp(2, MAC, own, VICTIM);
    infiniband[15] = 32;
    let tagged = |tags: &[u8]| {
        let frame = ip4(MAC, IP, b"");
        [&frame[..12], tags, &frame[12..]].concat()
    };
    let refused = [
        ("MAC", ip4(VICTIM_MAC, VICTIM, b"")),
        ("MAC", ip4(VICTIM_MAC, IP, b"")),
        ("IPv4", ip4(MAC, VICTIM, b"")),
        ("no IPv4 address", ip4(MAC, [0; 4].into(), &udp(68, 67))),
        ("DHCP server", ip4(MAC, IP, &udp(67, 68))),
        ("ARP reply", arp(2, MAC, (MAC, VICTIM), VICTIM)),
        ("gratuitous ARP", arp(1, MAC, (MAC, VICTIM), VICTIM)),
        ("ARP sender's MAC", arp(2, MAC, (VICTIM_MAC, IP), VICTIM)),
        ("ARP from a MAC", arp(2, VICTIM_MAC, own, VICTIM)),
        (
            "reply from nobody",
            arp(2, MAC, (MAC, [0; 4].into()), VICTIM),
        ),
        ("ARP of other hardware", infiniband),
        ("IPv6", ip6(MAC, VICTIM_V6, 59, b"")),
        ("MAC of IPv6", ip6(VICTIM_MAC, V6, 59, b"")),
        ("advertisement", nd(136, MAC, V6, VICTIM_V6)),
        ("router", nd(134, MAC, LINK_LOCAL, VICTIM_V6)),
        ("redirect", nd(137, MAC, LINK_LOCAL, VICTIM_V6)),
        ("data from nobody", ip6(MAC, unspecified, 59, b"")),
        ("one tag", tagged(&[0x81, 0, 0, 5])),
        ("two tags", tagged(&[0x88, 0xa8, 0, 5, 0x81, 0, 0, 5])),
        ("STP", frame(MAC, [0, 38], &[0x42, 0x42, 3, 0, 0, 0])),
        ("LLDP", frame(MAC, [0x88, 0xcc], b"lldp")),
    ];
    for (what, frame) in &refused {
        assert!(bench.stops(frame), "{what}");
    }
    assert!(bench.passes(&ip4(MAC, IP, b"")));
    guard.ensure().unwrap();
    let dropped = guard.dropped();
    assert_eq!(
        dropped.values().sum::<u64>(),
        refused.len() as u64,
        "{dropped:?}"
    );
}

#[tokio::test]
async fn what_a_port_may_send_follows_its_addresses_and_nothing_passes_without_any() {
    let bench = Bench::new().await;
    let mut guard = bench.guard();
    guard.ensure().unwrap();
    let (own, vip) = (ip4(MAC, IP, b""), ip4(MAC, [10, 32, 9, 9].into(), b""));
    assert!(bench.stops(&own));
    guard.protect(&port(false)).unwrap();
    assert!(bench.passes(&own) && bench.stops(&vip));
    let mut more = port(false);
    more.ips.push([10, 32, 9, 9].into());
    guard.protect(&more).unwrap();
    assert!(bench.passes(&own) && bench.passes(&vip));
    guard.protect(&port(false)).unwrap();
    assert!(bench.passes(&own) && bench.stops(&vip));
    guard.protect(&port(true)).unwrap();
    assert!(bench.passes(&vip) && bench.passes(&frame(MAC, [0x90, 0], b"anything")));
    guard.release(PORT).unwrap();
    assert!(!guard.knows(PORT) && bench.stops(&own));
    assert!(!guard.ensure().unwrap());
}

#[tokio::test]
async fn the_table_returns_whatever_somebody_did_and_is_gone_when_removed() {
    let bench = Bench::new().await;
    bench.host.run("nft", &["add", "table", "bridge", "other"]);
    let before = bench.host.run("nft", &["list", "ruleset"]);
    let mut guard = bench.guard();
    guard.protect(&port(false)).unwrap();
    guard.ensure().unwrap();
    let spoofed = ip4(MAC, VICTIM, b"");
    assert!(bench.stops(&spoofed));
    guard.ensure().unwrap();
    let station = "{ \"vethwl000000001\" . 02:77:0a:20:00:01 }";
    for harm in [
        &["delete", "table", "bridge", "weave"][..],
        &["flush", "chain", "bridge", "weave", "container_ipv4"],
        &["add", "rule", "bridge", "weave", "container_arp", "accept"],
        &[
            "add",
            "element",
            "bridge",
            "weave",
            "open",
            "{ \"vethwl000000001\" }",
        ],
        &["delete", "element", "bridge", "weave", "macs", station],
        &["flush", "ruleset"],
    ] {
        bench.host.run("nft", harm);
        assert!(guard.ensure().unwrap(), "{harm:?}");
        assert!(bench.stops(&spoofed) && bench.passes(&ip4(MAC, IP, b"")));
        assert!(!guard.ensure().unwrap());
    }
    let counted: u64 = guard.dropped().values().sum();
    assert_eq!(
        counted, 7,
        "what removed tables had counted is counted still"
    );
    // a router that starts anew takes the table over
    let mut next = bench.guard();
    next.protect(&port(false)).unwrap();
    assert!(next.ensure().unwrap() && !next.ensure().unwrap());
    // and one change is enough to find it gone
    bench
        .host
        .run("nft", &["delete", "table", "bridge", "weave"]);
    next.protect(&GuardedPort {
        ips: vec![IP.into()],
        ..port(false)
    })
    .unwrap();
    assert!(bench.stops(&spoofed));
    bench.host.run("nft", &["add", "table", "bridge", "other"]);
    assert!(Guard::remove(&bench.host.netns).unwrap());
    assert!(!Guard::remove(&bench.host.netns).unwrap());
    assert_eq!(bench.host.run("nft", &["list", "ruleset"]), before);
    assert!(bench.passes(&spoofed));
}

#[tokio::test]
async fn containers_reach_the_host_by_the_bridge_but_no_port_of_the_router() {
    let host = Host::new().await;
    let _tap = host.network("weave").await;
    let on_bridge = Ipv4Addr::new(10, 32, 0, 254);
    host.netlink
        .add_address("weave", on_bridge.into(), 12)
        .await
        .unwrap();
    let container = host.container("weave", "10.32.0.1", 12).await;
    let mut guard = Guard::new(&host.netns, CLOSED);
    let listen = |netns: &NetNs, port| lab::udp(netns, SocketAddr::new(on_bridge.into(), port));
    let (mesh, other) = (listen(&host.netns, 6783), listen(&host.netns, 6784));
    assert!(lab::reaches(&container.udp(7), &mesh, PATIENCE));
    guard
        .protect(&GuardedPort {
            name: container.host_veth.clone(),
            mac: container.mac,
            ips: vec![container.ip.into()],
            open: true,
        })
        .unwrap();
    guard.ensure().unwrap();
    assert!(!lab::reaches(&container.udp(8), &mesh, SILENCE));
    assert!(lab::reaches(&container.udp(9), &other, PATIENCE));
}
