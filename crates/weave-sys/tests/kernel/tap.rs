//! Frames between containers and the TAP.

use std::net::{Ipv4Addr, SocketAddr};

use weave_sys::poll::{Poller, Ready};
use weave_sys::tap::{FrameBatch, Mode, Written};
use weave_sys::{Error, NetNs, Tap};

use crate::lab::{self, Host, MTU, PATIENCE};

const REMOTE: Ipv4Addr = Ipv4Addr::new(10, 40, 0, 9);
const REMOTE_MAC: [u8; 6] = [0x02, 0x42, 10, 40, 0, 9];

#[tokio::test]
async fn a_datagram_of_a_container_comes_out_of_the_tap_with_right_checksums() {
    let host = Host::new().await;
    let tap = host.plain_network("weave").await;
    assert!(!tap.has_headers());
    let container = host.container("weave", "10.32.0.1", 12).await;
    let socket = container.udp(4000);
    socket
        .send_to(b"where are you?", SocketAddr::new(REMOTE.into(), 4242))
        .unwrap();
    let request = lab::next_frame(&tap, PATIENCE, |frame| lab::is_arp_request(frame, REMOTE))
        .expect("the container asks for the address");
    assert_eq!(request[6..12], container.mac);
    tap.send(&lab::arp(
        2,
        (REMOTE_MAC, REMOTE),
        (container.mac, container.ip),
    ))
    .unwrap();
    let frame = lab::next_frame(&tap, PATIENCE, |frame| frame[0..6] == REMOTE_MAC)
        .expect("the datagram follows");
    assert!(frame.ends_with(b"where are you?"));
    assert_eq!(lab::checksums_are_right(&frame), Some(true));
}

#[tokio::test]
async fn a_batch_written_to_the_tap_reaches_the_container_in_order() {
    let host = Host::new().await;
    let tap = host.network("weave").await;
    let container = host.container("weave", "10.32.0.1", 12).await;
    let socket = container.udp(4242);
    let mut batch = FrameBatch::new(8, 1500);
    for number in 0..8 {
        assert!(batch.push(&udp_frame(container.mac, container.ip, 4242, &[number; 40])));
    }
    assert_eq!(
        tap.send_batch(&batch),
        Written {
            sent: 8,
            dropped: 0
        }
    );
    let mut buffer = [0; 64];
    for number in 0..8 {
        let (len, from) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!(
            (&buffer[..len], from),
            (&[number; 40][..], SocketAddr::new(REMOTE.into(), 99))
        );
    }
}

#[tokio::test]
async fn a_full_batch_stops_reading_and_the_rest_comes_with_the_next() {
    let host = Host::new().await;
    let (left, right) = (host.network("weave").await, lone_port(&host, "port").await);
    for number in 0..5 {
        right.send(&broadcast(number)).unwrap();
    }
    let mut batch = FrameBatch::new(3, 200);
    let mut seen = Vec::new();
    let poller = Poller::new().unwrap();
    poller.add(&left, 1).unwrap();
    while seen.len() < 5 {
        let mut ready = Ready::new();
        poller.wait(&mut ready, Some(PATIENCE)).unwrap();
        assert_eq!(
            ready.tokens(),
            [1],
            "no further frame within {PATIENCE:?}: {seen:?}"
        );
        assert!(left.recv_batch(&mut batch).unwrap() <= 3);
        seen.extend(batch.frames().map(|frame| frame[20]));
    }
    assert_eq!(seen, [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn checksums_are_left_open_where_the_kernel_has_offloads() {
    let host = Host::new().await;
    let tap = host.network("weave").await;
    assert!(
        matches!(tap.mode(), Mode::Offload { .. }),
        "{:?}",
        tap.mode()
    );
    let container = host.container("weave", "10.32.0.1", 12).await;
    let socket = container.udp(4000);
    let to = SocketAddr::new(Ipv4Addr::new(224, 0, 0, 9).into(), 4242);
    socket.send_to(b"to all", to).unwrap();
    let mut batch = FrameBatch::packed(64, 65_600, 200_000);
    let start = std::time::Instant::now();
    loop {
        assert!(start.elapsed() < PATIENCE, "no frame of the container");
        tap.recv_batch(&mut batch).unwrap();
        let frame = batch
            .with_headers()
            .find(|(_, frame)| frame.ends_with(b"to all"));
        if let Some((header, frame)) = frame {
            // NEEDS_CSUM, no GSO, the UDP header at 34, its checksum at 6
            assert_eq!(header[..2], [1, 0]);
            assert_eq!(
                header[6..],
                [34_u16.to_ne_bytes(), 6_u16.to_ne_bytes()].concat()
            );
            assert_eq!(lab::checksums_are_right(frame), Some(false));
            break;
        }
    }
}

#[tokio::test]
async fn a_tap_that_another_router_has_open_is_refused_by_name() {
    let host = Host::new().await;
    let _first = Tap::open_in(&host.netns, "weave-tap").unwrap();
    let error = Tap::open_in(&host.netns, "weave-tap").unwrap_err();
    assert!(
        matches!(&error, Error::TapBusy { name } if name == "weave-tap"),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("weave stop"));
}

#[tokio::test]
async fn a_tap_goes_with_its_handle_unless_it_was_made_persistent() {
    let host = Host::new().await;
    let tap = Tap::open_in(&host.netns, "weave-tap").unwrap();
    tap.set_persistent(true).unwrap();
    drop(tap);
    assert!(host.netlink.find_link("weave-tap").await.unwrap().is_some());
    let tap = Tap::open_in(&host.netns, "weave-tap").unwrap();
    tap.set_persistent(false).unwrap();
    drop(tap);
    assert!(host.netlink.find_link("weave-tap").await.unwrap().is_none());
}

#[tokio::test]
async fn a_deleted_tap_is_dead_also_when_another_has_its_name() {
    let host = Host::new().await;
    let tap = host.network("weave").await;
    assert!(tap.is_alive());
    host.run("ip", &["link", "del", "weave-tap"]);
    assert!(!tap.is_alive());
    host.run("ip", &["tuntap", "add", "weave-tap", "mode", "tap"]);
    assert!(!tap.is_alive());
    assert!(Tap::open_in(&host.netns, "weave-tap").unwrap().is_alive());
}

#[tokio::test]
async fn writing_to_a_tap_that_is_down_counts_as_dropped() {
    let host = Host::new().await;
    let tap = Tap::open_in(&host.netns, "weave-tap").unwrap();
    let mut batch = FrameBatch::new(1, 200);
    assert!(batch.push(&broadcast(1)));
    assert_eq!(
        tap.send_batch(&batch),
        Written {
            sent: 0,
            dropped: 1
        }
    );
}

#[test]
fn work_in_a_namespace_leaves_the_calling_thread_where_it_was() {
    let before = NetNs::current().unwrap();
    let other = NetNs::unnamed().expect("these tests need CAP_SYS_ADMIN");
    let inside = other.run_in(|| NetNs::current().unwrap()).unwrap();
    assert!(inside.is_same(&other) && !inside.is_same(&before));
    assert!(NetNs::current().unwrap().is_same(&before));
    assert!(NetNs::of_path("/etc/hostname").is_err());
}

/// A TAP as a port of the bridge: a container whose frames the test makes itself.
async fn lone_port(host: &Host, name: &str) -> Tap {
    let tap = Tap::open_in(&host.netns, name).unwrap();
    host.netlink.set_master(name, "weave").await.unwrap();
    host.netlink.set_up(name).await.unwrap();
    assert!(host.netlink.wait_forwarding(name, PATIENCE).await.unwrap());
    tap
}

fn broadcast(number: u8) -> Vec<u8> {
    let mut frame = [[0xff; 6], [0x02, 0, 0, 0, 0, 9]].concat();
    frame.extend_from_slice(&[0x88, 0xb5]);
    frame.extend_from_slice(&[number; 46]);
    frame
}

fn udp_frame(mac: [u8; 6], ip: Ipv4Addr, port: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap();
    let mut header = [
        &[0x45, 0][..],
        &(20 + length).to_be_bytes(),
        &[0, 0, 0x40, 0, 64, 17, 0, 0],
    ]
    .concat();
    header.extend_from_slice(&REMOTE.octets());
    header.extend_from_slice(&ip.octets());
    let sum = !lab::checksum(&header, 0);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut frame = [&mac[..], &REMOTE_MAC, &[8, 0], &header].concat();
    frame.extend_from_slice(&99_u16.to_be_bytes());
    frame.extend_from_slice(&port.to_be_bytes());
    frame.extend_from_slice(&length.to_be_bytes());
    // No UDP checksum: allowed over IPv4.
    frame.extend_from_slice(&[0, 0]);
    frame.extend_from_slice(payload);
    assert!(frame.len() <= usize::try_from(MTU).unwrap() + 14);
    frame
}
