//! The underlay socket, between two hosts on one cable.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use weave_sys::NetNs;
use weave_sys::netlink::VethPeer;
use weave_sys::sysctl;
use weave_sys::udp::{Family, UdpRx, Underlay};

use crate::lab::{self, Host, PATIENCE};

const PORT: u16 = 6783;

#[tokio::test]
async fn datagrams_of_both_families_arrive_by_one_socket_with_plain_addresses() {
    let (a, b) = two_hosts().await;
    let (a, b) = (
        bind(&a.netns, Family::DualStack),
        bind(&b.netns, Family::DualStack),
    );
    let (mut tx, mut rx) = (a.sender(), b.receiver());
    for to in ["192.0.2.2", "2001:db8::2"] {
        tx.datagram(addr(to), 5).unwrap().copy_from_slice(b"hello");
    }
    tx.flush();
    assert_eq!((tx.counts().sent, tx.counts().failed()), (2, 0));
    let mut got = receive(&mut rx, 2);
    got.sort();
    let want = |from: &str| (addr(from), b"hello".to_vec());
    assert_eq!(got, [want("192.0.2.1"), want("2001:db8::1")]);
}

#[tokio::test]
async fn datagrams_of_known_addresses_and_of_strangers_arrive_at_two_sockets() {
    let (a, b) = two_hosts().await;
    let families = [
        (Family::DualStack, "192.0.2.2", "192.0.2.1"),
        (Family::DualStack, "2001:db8::2", "2001:db8::1"),
        (Family::V4Only, "192.0.2.2", "192.0.2.1"),
    ];
    for (family, to, from) in families {
        let first = bind(&b.netns, family);
        let first = b.netns.run_in(|| first.with_strangers()).unwrap().unwrap();
        let second = first.strangers().unwrap();
        let (mut known, mut others) = (first.receiver(), second.receiver());
        let sender = bind(&a.netns, family);
        let from: IpAddr = from.parse().unwrap();
        let many: Vec<IpAddr> = (0..150_u32)
            .map(|number| IpAddr::from((0x0a00_0000 + number).to_be_bytes()))
            .chain((0..50_u128).map(|number| IpAddr::from((0xfd << 120 | number).to_be_bytes())))
            .collect();
        let with_it = [&many[..], &[from]].concat();
        let too_many = vec![many[0]; 10_000];
        let expected = [
            (None, true),
            (Some(vec![]), false),
            (Some(with_it), true),
            (Some(many), false),
            (Some(too_many), true),
        ];
        for (number, (addresses, is_known)) in (0_u8..).zip(expected) {
            if let Some(addresses) = addresses {
                first.set_known(&addresses).unwrap();
            }
            sender.send_to(addr(to), &[number]).unwrap();
            let (here, there) = match is_known {
                true => (&mut known, &mut others),
                false => (&mut others, &mut known),
            };
            let got = receive(here, 1);
            assert_eq!(got, [(SocketAddr::new(from, PORT), vec![number])]);
            assert_eq!(there.recv_batch().unwrap(), 0, "{family:?} {number}");
        }
    }
}

#[tokio::test]
async fn a_run_longer_than_a_batch_arrives_complete_and_in_order() {
    let (a, b) = two_hosts().await;
    let (a, b) = (
        bind(&a.netns, Family::DualStack),
        bind(&b.netns, Family::DualStack),
    );
    let (mut tx, mut rx) = (a.sender(), b.receiver());
    for number in 0..200_u8 {
        tx.datagram(addr("192.0.2.2"), 1200).unwrap().fill(number);
    }
    tx.flush();
    let got = receive(&mut rx, 200);
    assert!(got.iter().enumerate().all(|(at, (_, bytes))| {
        bytes.len() == 1200 && bytes.iter().all(|byte| usize::from(*byte) == at)
    }));
    assert_eq!(tx.counts().sent, 200);
}

#[tokio::test]
async fn an_unreachable_destination_is_counted_and_does_not_keep_the_others() {
    let (a, b) = two_hosts().await;
    let (a, b) = (
        bind(&a.netns, Family::DualStack),
        bind(&b.netns, Family::DualStack),
    );
    let (mut tx, mut rx) = (a.sender(), b.receiver());
    for to in ["192.0.2.2", "198.51.100.1", "2001:db9::1", "192.0.2.2"] {
        tx.datagram(addr(to), 3).unwrap().copy_from_slice(b"abc");
    }
    tx.flush();
    assert_eq!((tx.counts().sent, tx.counts().unreachable), (2, 2));
    assert_eq!(receive(&mut rx, 2).len(), 2);
}

#[tokio::test]
async fn a_reservation_that_is_dropped_is_never_sent() {
    let (a, b) = two_hosts().await;
    let (a, b) = (
        bind(&a.netns, Family::DualStack),
        bind(&b.netns, Family::DualStack),
    );
    let (mut tx, mut rx) = (a.sender(), b.receiver());
    let to = addr("192.0.2.2");
    tx.reserve(to, 4).unwrap().copy_from_slice(b"drop");
    tx.datagram(to, 6).unwrap().copy_from_slice(b"cancel");
    tx.cancel_last();
    let mut kept = tx.reserve(to, 4).unwrap();
    kept.copy_from_slice(b"kept");
    kept.commit();
    assert_eq!(tx.pending(), 1);
    tx.flush();
    assert_eq!(receive(&mut rx, 1), [(addr("192.0.2.1"), b"kept".to_vec())]);
    assert!(tx.datagram(to, 65_508).is_none());
}

#[tokio::test]
async fn a_datagram_larger_than_the_path_is_fragmented_by_the_kernel() {
    let (a, b) = two_hosts().await;
    let (a, b) = (
        bind(&a.netns, Family::DualStack),
        bind(&b.netns, Family::DualStack),
    );
    let (mut tx, mut rx) = (a.sender(), b.receiver());
    for to in ["192.0.2.2", "2001:db8::2"] {
        tx.datagram(addr(to), 4000).unwrap().fill(7);
    }
    tx.flush();
    assert_eq!(tx.counts().failed(), 0);
    assert!(
        receive(&mut rx, 2)
            .iter()
            .all(|(_, bytes)| bytes == &[7; 4000])
    );
}

#[tokio::test]
async fn equal_datagrams_to_one_peer_leave_and_arrive_as_one_message() {
    let (a, b) = two_hosts().await;
    for (family, to) in [
        (Family::DualStack, "192.0.2.2"),
        (Family::DualStack, "2001:db8::2"),
        (Family::V4Only, "192.0.2.2"),
    ] {
        let (a, b) = (bind(&a.netns, family), bind(&b.netns, family));
        let (mut tx, mut rx) = (a.sender(), b.receiver());
        let lens = [1300; 40].into_iter().chain([700, 1300, 1300]);
        let want: Vec<Vec<u8>> = lens.zip(0_u8..).map(|(len, at)| vec![at; len]).collect();
        for bytes in &want {
            let room = tx.datagram(addr(to), bytes.len()).unwrap();
            room.copy_from_slice(bytes);
        }
        assert_eq!(tx.pending(), 43);
        tx.cancel_last();
        assert_eq!(tx.pending(), 42);
        tx.flush();
        assert_eq!((tx.counts().sent, tx.counts().failed()), (42, 0));
        assert!(tx.cuts());
        let start = Instant::now();
        let (mut messages, mut got) = (0, Vec::new());
        while got.len() < 42 {
            assert!(start.elapsed() < PATIENCE, "{} came", got.len());
            messages += rx.recv_batch().unwrap();
            got.extend(rx.datagrams().map(|(_, bytes)| bytes.to_vec()));
        }
        assert_eq!(got, want[..42]);
        assert!(messages < 10, "{messages} messages");
    }
}

#[tokio::test]
async fn a_run_wider_than_the_path_leaves_one_by_one_and_later_ones_are_still_cut() {
    let (a, b) = two_hosts().await;
    let (a, b) = (
        bind(&a.netns, Family::DualStack),
        bind(&b.netns, Family::DualStack),
    );
    let (mut tx, mut rx) = (a.sender(), b.receiver());
    for number in 0..10 {
        tx.datagram(addr("192.0.2.2"), 4000).unwrap().fill(number);
    }
    tx.flush();
    assert_eq!((tx.counts().sent, tx.counts().failed()), (10, 0));
    assert!(tx.cuts());
    let mut got = receive(&mut rx, 10);
    got.sort();
    assert!(
        got.iter()
            .zip(0..)
            .all(|((_, bytes), at)| bytes == &[at; 4000])
    );
}

#[tokio::test]
async fn a_probe_arrives_whole_or_not_at_all_and_what_follows_may_be_fragmented_again() {
    let (a, b) = two_hosts().await;
    let (a, b) = (
        bind(&a.netns, Family::DualStack),
        bind(&b.netns, Family::DualStack),
    );
    let mut rx = b.receiver();
    for (to, most) in [("192.0.2.2", 1472), ("2001:db8::2", 1452)] {
        let to = addr(to);
        let error = a.send_unfragmented(to, &vec![1; most + 1]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
        a.send_unfragmented(to, &vec![2; most]).unwrap();
        a.send_to(to, &[3; 4000]).unwrap();
        let lens: Vec<_> = receive(&mut rx, 2)
            .iter()
            .map(|(_, bytes)| bytes.len())
            .collect();
        assert_eq!(lens, [most, 4000]);
    }
}

#[tokio::test]
async fn an_ipv4_socket_serves_hosts_without_ipv6_and_refuses_ipv6_peers_quietly() {
    let (a, b) = two_hosts().await;
    let (a, b) = (
        bind(&a.netns, Family::V4Only),
        bind(&b.netns, Family::DualStack),
    );
    let (mut tx, mut rx) = (a.sender(), b.receiver());
    for to in ["2001:db8::2", "192.0.2.2"] {
        tx.datagram(addr(to), 2).unwrap().copy_from_slice(b"v4");
    }
    tx.flush();
    assert_eq!((tx.counts().sent, tx.counts().unreachable), (1, 1));
    assert_eq!(receive(&mut rx, 1), [(addr("192.0.2.1"), b"v4".to_vec())]);
    b.send_to(addr("192.0.2.1"), b"back").unwrap();
    assert_eq!(
        receive(&mut a.receiver(), 1),
        [(addr("192.0.2.2"), b"back".to_vec())]
    );
}

async fn two_hosts() -> (Host, Host) {
    let (a, b) = (Host::new().await, Host::new().await);
    for host in [&a, &b] {
        // Duplicate address detection would hold the addresses back for a second.
        sysctl::write(&host.netns, "net/ipv6/conf/default/accept_dad", "0").unwrap();
    }
    let peer = VethPeer {
        name: "eth0",
        mac: None,
        netns: Some(&b.netns),
    };
    a.netlink.add_veth("eth0", 1500, peer).await.unwrap();
    for (host, v4, v6) in [
        (&a, "192.0.2.1", "2001:db8::1"),
        (&b, "192.0.2.2", "2001:db8::2"),
    ] {
        host.netlink.set_up("eth0").await.unwrap();
        for (ip, len) in [(v4, 24), (v6, 64)] {
            host.netlink
                .add_address("eth0", ip.parse().unwrap(), len)
                .await
                .unwrap();
        }
    }
    // Addresses that are usable and neighbours that are known: nothing is lost on the way.
    for (from, to) in [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")] {
        let socket = |host: &Host, ip| lab::udp(&host.netns, addr(ip));
        assert!(
            lab::reaches(&socket(&a, from), &socket(&b, to), PATIENCE),
            "{to}"
        );
    }
    (a, b)
}

fn bind(netns: &NetNs, family: Family) -> Underlay {
    netns
        .run_in(|| Underlay::bind_family(family, PORT))
        .unwrap()
        .unwrap()
}

fn addr(ip: &str) -> SocketAddr {
    SocketAddr::new(ip.parse::<IpAddr>().unwrap(), PORT)
}

/// At least `count` datagrams, with their senders.
fn receive(rx: &mut UdpRx, count: usize) -> Vec<(SocketAddr, Vec<u8>)> {
    let (start, mut got) = (Instant::now(), Vec::new());
    while got.len() < count {
        assert!(
            start.elapsed() < PATIENCE,
            "{} of {count} datagrams came",
            got.len()
        );
        rx.recv_batch().unwrap();
        got.extend(rx.datagrams().map(|(from, bytes)| (from, bytes.to_vec())));
    }
    got
}
