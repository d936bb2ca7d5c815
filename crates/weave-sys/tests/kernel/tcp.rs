//! TCP between containers of two hosts, with the test in the place of the routers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use weave_sys::poll::{Poller, Ready};
use weave_sys::tap::FrameBatch;
use weave_sys::{Tap, sysctl};

use crate::lab::{self, Host, MTU, PATIENCE};

const TRANSFER: usize = 8 << 20;

#[derive(Default)]
struct Seen {
    stop: AtomicBool,
    tcp_frames: AtomicUsize,
    bad_checksums: AtomicUsize,
    too_long: AtomicUsize,
}

#[tokio::test]
async fn a_large_tcp_transfer_leaves_a_plain_tap_in_whole_frames_with_right_checksums() {
    let (near, far) = (Host::new().await, Host::new().await);
    let taps = (
        near.plain_network("weave").await,
        far.plain_network("weave").await,
    );
    let seen = transfer(&near, &far, taps).await;
    assert!(seen.tcp_frames.into_inner() >= TRANSFER / usize::try_from(MTU).unwrap());
    assert_eq!(
        seen.bad_checksums.into_inner(),
        0,
        "frames with a bad checksum"
    );
    assert_eq!(seen.too_long.into_inner(), 0, "frames longer than the MTU");
}

#[tokio::test]
async fn a_large_tcp_transfer_passes_taps_with_offloads_in_super_frames() {
    let (near, far) = (Host::new().await, Host::new().await);
    let taps = (near.network("weave").await, far.network("weave").await);
    let seen = transfer(&near, &far, taps).await;
    let frames = seen.tcp_frames.into_inner();
    assert!(
        frames < TRANSFER / usize::try_from(MTU).unwrap(),
        "{frames}"
    );
    assert!(seen.too_long.into_inner() > 0, "no super-frame");
}

/// Sends [`TRANSFER`] bytes from a container of one host to one of the other, and compares them.
async fn transfer(near: &Host, far: &Host, (near_tap, far_tap): (Tap, Tap)) -> Seen {
    let sender = near.container("weave", "10.32.0.1", 12).await;
    let receiver = far.container("weave", "10.32.0.2", 12).await;
    // Few frames on their way at once, so that this test does not fill the queues of the others.
    sysctl::write(&sender.netns, "net/ipv4/tcp_wmem", "4096 65536 131072").unwrap();
    let addr = SocketAddr::new(receiver.ip.into(), 80);
    let listener = receiver
        .netns
        .run_in(|| TcpListener::bind(addr))
        .unwrap()
        .unwrap();
    let seen = Seen::default();
    let received = thread::scope(|scope| {
        scope.spawn(|| cable(&near_tap, &far_tap, &seen));
        let reading = scope.spawn(move || {
            let mut bytes = Vec::new();
            listener
                .accept()
                .unwrap()
                .0
                .read_to_end(&mut bytes)
                .unwrap();
            bytes
        });
        let stream = sender
            .netns
            .run_in(|| TcpStream::connect_timeout(&addr, PATIENCE))
            .unwrap();
        let sent = stream.and_then(|mut stream| stream.write_all(&pattern()));
        let bytes = if sent.is_ok() {
            reading.join().unwrap()
        } else {
            Vec::new()
        };
        seen.stop.store(true, Ordering::Relaxed);
        sent.expect("the connection goes through the TAPs");
        bytes
    });
    assert!(received == pattern(), "{} bytes arrived", received.len());
    seen
}

fn pattern() -> Vec<u8> {
    (0..TRANSFER)
        .map(|at| u8::try_from(at % 251).unwrap())
        .collect()
}

/// What two routers and the underlay do, without any of them.
fn cable(near: &Tap, far: &Tap, seen: &Seen) {
    let poller = Poller::new().unwrap();
    poller.add(near, 0).unwrap();
    poller.add(far, 1).unwrap();
    let mut ready = Ready::new();
    let mut batch = FrameBatch::new(64, 65_600);
    while !seen.stop.load(Ordering::Relaxed) {
        poller
            .wait(&mut ready, Some(Duration::from_millis(50)))
            .unwrap();
        for token in ready.tokens() {
            let (from, to) = if *token == 0 {
                (near, far)
            } else {
                (far, near)
            };
            from.recv_batch(&mut batch).unwrap();
            for frame in batch.frames() {
                inspect(frame, seen);
            }
            to.send_batch(&batch);
        }
    }
}

fn inspect(frame: &[u8], seen: &Seen) {
    let add = |counter: &AtomicUsize, when: bool| {
        counter.fetch_add(usize::from(when), Ordering::Relaxed);
    };
    let right = lab::checksums_are_right(frame);
    add(&seen.tcp_frames, right.is_some());
    add(&seen.bad_checksums, right == Some(false));
    add(
        &seen.too_long,
        frame.len() > usize::try_from(MTU).unwrap() + 14,
    );
}
