//! A host in a namespace of its own, and containers on its bridges.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use weave_sys::bridge::{self, NetworkSpec};
use weave_sys::netlink::Route;
use weave_sys::veth::{self, Attachment, EndpointVeth};
use weave_sys::{MacBytes, NetNs, Netlink, Tap, linkname, preflight, sysctl};

pub(crate) const MTU: u32 = 1370;

/// Long enough for a slow machine; only a failing test waits that long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// Long enough to be sure that nothing comes.
pub(crate) const SILENCE: Duration = Duration::from_millis(300);

pub(crate) struct Host {
    pub(crate) netns: NetNs,
    pub(crate) netlink: Netlink,
}

pub(crate) struct Container {
    pub(crate) netns: NetNs,
    pub(crate) mac: MacBytes,
    pub(crate) ip: Ipv4Addr,
    pub(crate) host_veth: String,
}

impl Host {
    /// A fresh host with nothing but its loopback.
    pub(crate) async fn new() -> Self {
        preflight::check_net_admin().expect("these tests need root: run them with sudo");
        preflight::check_tun().expect("these tests need /dev/net/tun");
        let netns = NetNs::unnamed().expect("these tests need CAP_SYS_ADMIN");
        let netlink = Netlink::open(&netns).unwrap();
        netlink.set_up("lo").await.unwrap();
        Self { netns, netlink }
    }

    /// As a host with Docker: bridged frames pass FORWARD, whose policy is DROP.
    pub(crate) async fn with_dropping_firewall() -> Self {
        let host = Self::new().await;
        for key in [
            "net/bridge/bridge-nf-call-iptables",
            "net/bridge/bridge-nf-call-ip6tables",
        ] {
            let present = sysctl::write(&host.netns, key, "1").unwrap();
            assert!(
                present,
                "these tests need the br_netfilter module: modprobe br_netfilter"
            );
        }
        host.run("iptables", &["-P", "FORWARD", "DROP"]);
        host.run("ip6tables", &["-P", "FORWARD", "DROP"]);
        host
    }

    pub(crate) async fn network(&self, name: &str) -> Tap {
        bridge::ensure_network(&self.netlink, &spec(name))
            .await
            .unwrap()
    }

    /// As [`network`](Self::network), with a TAP that gives finished frames.
    pub(crate) async fn plain_network(&self, name: &str) -> Tap {
        let spec = NetworkSpec {
            plain: Some("a test".to_owned()),
            ..spec(name)
        };
        bridge::ensure_network(&self.netlink, &spec).await.unwrap()
    }

    /// A container on `bridge`, with `ethwe`, the address and the multicast route.
    pub(crate) async fn container(&self, bridge: &str, ip: &str, prefix_len: u8) -> Container {
        let ip: Ipv4Addr = ip.parse().unwrap();
        let container = self.cable(bridge, ip).await;
        let (_, guest) = linkname::veth_pair(&ip.to_string());
        let attachment = Attachment {
            name: "ethwe",
            addresses: &[(IpAddr::V4(ip), prefix_len)],
            routes: &[Route::multicast_v4()],
        };
        veth::attach(&self.netlink, &guest, &container.netns, attachment)
            .await
            .unwrap();
        container
    }

    /// A namespace and a veth for it, not attached yet.
    pub(crate) async fn cable(&self, bridge: &str, ip: Ipv4Addr) -> Container {
        let (host_veth, guest) = linkname::veth_pair(&ip.to_string());
        let [a, b, c, d] = ip.octets();
        let mac = [0x02, 0x42, a, b, c, d];
        let made = EndpointVeth {
            host: &host_veth,
            guest: &guest,
            bridge,
            mtu: MTU,
            mac,
        };
        veth::create_endpoint_veth(&self.netlink, made)
            .await
            .unwrap();
        Container {
            netns: NetNs::unnamed().unwrap(),
            mac,
            ip,
            host_veth,
        }
    }

    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> String {
        run(&self.netns, program, arguments)
    }

    pub(crate) async fn link_names(&self) -> Vec<String> {
        let links = self.netlink.links().await.unwrap();
        links
            .into_iter()
            .map(|link| link.name)
            .filter(|name| name.starts_with(['v', 'w']))
            .collect()
    }
}

impl Container {
    pub(crate) fn udp(&self, port: u16) -> UdpSocket {
        udp(&self.netns, SocketAddr::new(self.ip.into(), port))
    }
}

/// A network `name` with TAP `name`-tap.
pub(crate) fn spec(name: &str) -> NetworkSpec {
    NetworkSpec {
        bridge: name.to_owned(),
        tap: format!("{name}-tap"),
        mac: [0x02, 0xbb, 0, 0, 0, 1],
        mtu: MTU,
        plain: None,
    }
}

/// A blocking socket in `netns` that gives up after [`PATIENCE`].
pub(crate) fn udp(netns: &NetNs, addr: SocketAddr) -> UdpSocket {
    let start = Instant::now();
    // An IPv6 address can be used a moment after it was added, even without duplicate detection.
    let socket = loop {
        match netns.run_in(|| UdpSocket::bind(addr)).unwrap() {
            Ok(socket) => break socket,
            Err(error) if start.elapsed() > PATIENCE => panic!("{addr}: {error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Whether a datagram comes through, each of a few tries having its own text.
pub(crate) fn reaches(from: &UdpSocket, to: &UdpSocket, wait: Duration) -> bool {
    to.set_read_timeout(Some(wait)).unwrap();
    let target = to.local_addr().unwrap();
    let mut buffer = [0; 64];
    for attempt in 0..3_u8 {
        // A refused or unreachable destination is an answer too: it does not reach.
        let _ = from.send_to(&[attempt; 9], target);
        if to.recv_from(&mut buffer).is_ok_and(|(len, _)| len == 9) {
            return true;
        }
    }
    false
}

/// Runs a program in `netns`, and fails the test when it fails.
pub(crate) fn run(netns: &NetNs, program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(arguments);
    netns.apply_to(&mut command);
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Chains and rules out of what iptables-save prints, without counters and comments.
pub(crate) fn rules(saved: &str) -> Vec<String> {
    let rules = saved
        .lines()
        .filter(|line| line.starts_with("-A") || line.starts_with(':'));
    rules
        .map(|line| line.split(" [").next().unwrap_or_default().to_owned())
        .collect()
}

/// The next frame from `tap` that `wanted` accepts; `None` when there is none in time.
pub(crate) fn next_frame(
    tap: &Tap,
    wait: Duration,
    wanted: impl Fn(&[u8]) -> bool,
) -> Option<Vec<u8>> {
    let end = Instant::now() + wait;
    let mut batch = weave_sys::tap::FrameBatch::new(1, 2048);
    while Instant::now() < end {
        if tap.recv_batch(&mut batch).unwrap() == 0 {
            std::thread::sleep(Duration::from_millis(2));
        } else if let Some(frame) = batch.frames().find(|frame| wanted(frame)) {
            return Some(frame.to_vec());
        }
    }
    None
}

/// An Ethernet frame that carries an ARP message.
pub(crate) fn arp(op: u8, from: (MacBytes, Ipv4Addr), to: (MacBytes, Ipv4Addr)) -> Vec<u8> {
    let destination = if op == 1 { [0xff; 6] } else { to.0 };
    let mut frame = [&destination[..], &from.0, &[8, 6, 0, 1, 8, 0, 6, 4, 0, op]].concat();
    frame.extend_from_slice(&from.0);
    frame.extend_from_slice(&from.1.octets());
    frame.extend_from_slice(&to.0);
    frame.extend_from_slice(&to.1.octets());
    frame
}

pub(crate) fn is_arp_request(frame: &[u8], target: Ipv4Addr) -> bool {
    frame.get(12..14) == Some(&[8, 6])
        && frame.get(20..22) == Some(&[0, 1])
        && frame.get(38..42) == Some(&target.octets())
}

/// Ones' complement sum of `bytes` and `start`; 0xffff where a checksum in it is right.
pub(crate) fn checksum(bytes: &[u8], start: u32) -> u16 {
    let words = bytes.chunks(2).map(|pair| {
        u32::from(u16::from_be_bytes([
            pair[0],
            pair.get(1).copied().unwrap_or(0),
        ]))
    });
    let mut sum = words.fold(start, u32::wrapping_add);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}

/// Whether an Ethernet frame is IPv4 TCP or UDP, and if so, whether both its checksums are right.
pub(crate) fn checksums_are_right(frame: &[u8]) -> Option<bool> {
    if frame.get(12..14)? != [8, 0] {
        return None;
    }
    let packet = frame.get(14..)?;
    let header_len = usize::from(packet.first()? & 15) * 4;
    let total = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    let (header, payload) = packet.get(..total)?.split_at_checked(header_len)?;
    let protocol = header[9];
    if ![6, 17].contains(&protocol) {
        return None;
    }
    let length = u32::try_from(payload.len()).unwrap();
    let pseudo = u32::from(checksum(&header[12..20], u32::from(protocol) + length));
    Some(checksum(header, 0) == 0xffff && checksum(payload, pseudo) == 0xffff)
}
