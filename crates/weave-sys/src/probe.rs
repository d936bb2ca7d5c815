//! Whether a station on a link answers: ARP and ICMP echo, each asked once.
//!
//! All calls block, for as long as they are told to at most.

use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::{Error, MacBytes, NetNs, Result};

const ETHERTYPE_ARP: u16 = 0x0806;
/// Length of an Ethernet frame with an ARP message for IPv4.
const ARP_LEN: usize = 42;
/// Length of an IPv4 header, and of our shortest echo.
const IPV4_LEN: usize = 20;
const ECHO_LEN: usize = 16;
/// What our echoes carry, so that we know them again.
const ECHO_TEXT: &[u8; 8] = b"weave \0?";

/// Asks the station with this hardware address whether it has `ip`, out of `link`, whose own
/// hardware address is `from`. The question names no sender's address (RFC 5227), so that nobody
/// learns one. How long the answer took; nothing where none came within `patience`.
///
/// # Errors
/// When the link is missing, or the kernel refuses (CAP_NET_RAW).
pub fn arp(
    netns: &NetNs,
    (link, from): (u32, MacBytes),
    (station, ip): (MacBytes, Ipv4Addr),
    patience: Duration,
) -> Result<Option<Duration>> {
    let asked = netns.run_in(|| ask_arp((link, from), (station, ip), patience))?;
    asked.map_err(|source| Error::os("ask by ARP for", ip.to_string(), source))
}

/// Asks `ip` for an echo, from within `netns`. How long the answer took; nothing where none came
/// within `patience`.
///
/// # Errors
/// When the kernel refuses (CAP_NET_RAW, no route).
pub fn echo(netns: &NetNs, ip: Ipv4Addr, patience: Duration) -> Result<Option<Duration>> {
    let asked = netns.run_in(|| ask_echo(ip, 0, patience))?;
    asked.map_err(|source| Error::os("ask for an echo of", ip.to_string(), source))
}

/// As [`echo`], by an IPv4 packet of `len` bytes (36 at least) that must not be fragmented.
///
/// # Errors
/// As [`echo`]; also when the packet is longer than the MTU of the interface.
pub fn echo_whole(
    netns: &NetNs,
    ip: Ipv4Addr,
    len: usize,
    patience: Duration,
) -> Result<Option<Duration>> {
    let padding = len.saturating_sub(IPV4_LEN + ECHO_LEN);
    let asked = netns.run_in(|| ask_echo(ip, padding, patience))?;
    asked.map_err(|source| Error::os("ask for an echo of", ip.to_string(), source))
}

/// The longest packet to an address that the kernel takes for whole: the MTU of the interface, or
/// less where a router on the way has said so. Nothing is sent.
///
/// # Errors
/// When there is no route.
pub fn route_mtu(to: SocketAddr) -> Result<u32> {
    let asked = ask_route_mtu(to);
    asked.map_err(|source| Error::os("find the MTU of the route to", to.to_string(), source))
}

fn ask_arp(
    (link, from): (u32, MacBytes),
    (station, ip): (MacBytes, Ipv4Addr),
    patience: Duration,
) -> io::Result<Option<Duration>> {
    let protocol = Protocol::from(i32::from(ETHERTYPE_ARP.to_be()));
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol))?;
    let address = link_address(link)?;
    socket.bind(&address)?;
    let request = arp_request(from, station, ip);
    socket.send_to(&request, &address)?;
    wait(&socket, patience, |frame| is_arp_reply(frame, ip))
}

fn ask_echo(ip: Ipv4Addr, padding: usize, patience: Duration) -> io::Result<Option<Duration>> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
    let id = u16::try_from(std::process::id() & 0xffff).unwrap_or_default();
    let to = SocketAddrV4::new(ip, 0);
    socket.connect(&SockAddr::from(to))?;
    // by default the kernel sets DF, and follows what routers say of the MTU
    socket.send(&echo_request(id, padding))?;
    wait(&socket, patience, |packet| is_echo_reply(packet, ip, id))
}

fn ask_route_mtu(to: SocketAddr) -> io::Result<u32> {
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(to)?;
    let (level, option) = match to {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MTU),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_MTU),
    };
    let (mut mtu, mut len): (libc::c_int, libc::socklen_t) = (0, 4);
    // SAFETY: the kernel writes at most `len` bytes, which is the size of `mtu`; both outlive the
    // call.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw mut mtu).cast(),
            &raw mut len,
        )
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    u32::try_from(mtu).map_err(io::Error::other)
}

/// Receives until something is the answer.
fn wait(
    socket: &Socket,
    patience: Duration,
    is_answer: impl Fn(&[u8]) -> bool,
) -> io::Result<Option<Duration>> {
    let begun = Instant::now();
    let mut room = [MaybeUninit::<u8>::uninit(); 2_048];
    loop {
        let left = patience.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Ok(None);
        }
        socket.set_read_timeout(Some(left))?;
        let len = match socket.recv(&mut room) {
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // the kernel reports here that nobody answered its own ARP
            Err(error) if error.kind() == io::ErrorKind::HostUnreachable => return Ok(None),
            Err(error) => return Err(error),
        };
        // SAFETY: the kernel has written the first `len` bytes.
        let packet = unsafe { std::slice::from_raw_parts(room.as_ptr().cast::<u8>(), len) };
        if is_answer(packet) {
            return Ok(Some(begun.elapsed()));
        }
    }
}

/// Frames of ARP out of a link.
fn link_address(link: u32) -> io::Result<SockAddr> {
    let index = libc::c_int::try_from(link).map_err(io::Error::other)?;
    let length = |size: usize| libc::socklen_t::try_from(size).map_err(io::Error::other);
    let size = length(size_of::<libc::sockaddr_ll>())?;
    let family = libc::c_ushort::try_from(libc::AF_PACKET).map_err(io::Error::other)?;
    // SAFETY: the storage is zeroed and large enough for every kind of address; what is written is
    // a whole sockaddr_ll, whose length is given back.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, len| {
            let address = storage.cast::<libc::sockaddr_ll>();
            (*address).sll_family = family;
            (*address).sll_protocol = ETHERTYPE_ARP.to_be();
            (*address).sll_ifindex = index;
            *len = size;
            Ok(())
        })
    }?;
    Ok(address)
}

fn arp_request(from: MacBytes, station: MacBytes, ip: Ipv4Addr) -> [u8; ARP_LEN] {
    let mut frame = [0; ARP_LEN];
    let parts: [&[u8]; 8] = [
        &station,
        &from,
        &ETHERTYPE_ARP.to_be_bytes(),
        // Ethernet, IPv4, their lengths, a request
        &[0, 1, 8, 0, 6, 4, 0, 1],
        &from,
        &[0; 4],
        &[0; 6],
        &ip.octets(),
    ];
    for (byte, value) in frame.iter_mut().zip(parts.into_iter().flatten()) {
        *byte = *value;
    }
    frame
}

/// An answer of whoever has `ip`.
fn is_arp_reply(frame: &[u8], ip: Ipv4Addr) -> bool {
    frame.get(12..14) == Some(&ETHERTYPE_ARP.to_be_bytes())
        && frame.get(20..22) == Some(&[0, 2])
        && frame.get(28..32) == Some(&ip.octets())
}

fn echo_request(id: u16, padding: usize) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    let mut message = vec![8, 0, 0, 0, high, low, 0, 1];
    message.extend_from_slice(ECHO_TEXT);
    // the sum is that of an even number of bytes
    message.resize(message.len() + padding.next_multiple_of(2), 0);
    let sum = checksum(&message).to_be_bytes();
    for (byte, value) in message.iter_mut().skip(2).zip(sum) {
        *byte = value;
    }
    message
}

/// The Internet checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.as_chunks::<2>().0;
    let sum: u32 = words
        .iter()
        .map(|word| u32::from(u16::from_be_bytes(*word)))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(u16::MAX)
}

/// The answer of `ip` to our echo request, in an IPv4 packet.
fn is_echo_reply(packet: &[u8], ip: Ipv4Addr, id: u16) -> bool {
    let Some(first) = packet.first() else {
        return false;
    };
    let header = usize::from(first & 0xf) * 4;
    let Some(message) = packet.get(header..) else {
        return false;
    };
    packet.get(12..16) == Some(&ip.octets())
        && message.first() == Some(&0)
        && message.get(4..6) == Some(&id.to_be_bytes())
        && message.get(8..16) == Some(ECHO_TEXT)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IP: Ipv4Addr = Ipv4Addr::new(10, 32, 0, 1);

    #[test]
    fn a_request_is_no_reply_and_a_reply_is_one_of_the_address_asked_for() {
        let mut frame = arp_request([2; 6], [3; 6], IP);
        assert!(!is_arp_reply(&frame, IP));
        frame[21] = 2;
        frame[28..32].copy_from_slice(&IP.octets());
        assert!(is_arp_reply(&frame, IP));
        assert!(!is_arp_reply(&frame, Ipv4Addr::LOCALHOST));
    }

    #[test]
    fn an_echo_request_has_a_sum_of_zero_and_its_answer_is_known_again() {
        let mut message = echo_request(0x1234, 3);
        assert_eq!(checksum(&message), 0);
        message[0] = 0;
        let mut packet = vec![0x45; 20];
        packet[12..16].copy_from_slice(&IP.octets());
        packet.extend(message);
        assert!(is_echo_reply(&packet, IP, 0x1234));
        assert!(!is_echo_reply(&packet, IP, 0x1235));
        assert!(!is_echo_reply(&packet, Ipv4Addr::LOCALHOST, 0x1234));
    }

    #[test]
    fn the_route_to_this_host_has_an_mtu() {
        assert!(route_mtu(([127, 0, 0, 1], 9).into()).unwrap() >= 1_280);
    }

    proptest! {
        #[test]
        fn arbitrary_packets_never_panic(packet in proptest::collection::vec(any::<u8>(), 0..100), id: u16) {
            let _ = is_arp_reply(&packet, IP);
            let _ = is_echo_reply(&packet, IP, id);
        }
    }
}
