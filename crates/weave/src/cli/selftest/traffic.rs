//! The traffic of `weave test`, from within a namespace; every part has a bound in time.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use weave_sys::dnsns::DNS_ADDRESS;
use weave_sys::{NetNs, probe};
use weave_wire::CONTAINER_MTU;

use super::Tested;
use crate::daemon::{DISCARD_PORT, ECHO_PORT, GROUP};

/// How long one answer is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
const PINGS_KEPT: usize = 5;
/// Datagrams sent, how many at a time, and how many of them are to come back at least.
const DATAGRAMS: u32 = 100;
const AT_A_TIME: u32 = 10;
pub(super) const UDP_WELL: u32 = 90;
const DATAGRAM_LEN: usize = 1_000;
/// How long TCP is written.
const TRANSFER: Duration = Duration::from_secs(1);
/// A neighbour that has just come is known everywhere after some tries.
const TRIES: u32 = 5;

/// Where traffic comes from.
#[derive(Debug, Clone)]
pub(super) struct Traffic {
    netns: NetNs,
    own: Ipv4Addr,
}

impl Traffic {
    /// From this namespace, whose address this is.
    pub(super) fn new(netns: NetNs, own: Ipv4Addr) -> Self {
        Self { netns, own }
    }

    /// Whether the DNS server of this host answers.
    pub(super) fn dns(&self, domain: &str) -> bool {
        self.within(|| ask_dns(domain)).is_some()
    }

    /// Everything, to a stand-in.
    pub(super) fn with(&self, ip: Ipv4Addr, tested: Tested) -> Tested {
        let pings = (0..2 * TRIES).filter_map(|_| probe::echo(&self.netns, ip, PATIENCE).ok()?);
        let fastest = pings.take(PINGS_KEPT).min();
        let whole = (0..TRIES).any(|_| {
            let answer = probe::echo_whole(&self.netns, ip, CONTAINER_MTU, PATIENCE);
            answer.is_ok_and(|answer| answer.is_some())
        });
        Tested {
            ping_us: fastest.and_then(|took| u64::try_from(took.as_micros()).ok()),
            whole,
            udp: self.within(|| echoes(ip)).unwrap_or(0),
            multicast: self.within(|| is_in_group(self.own, ip)).unwrap_or(false),
            mbits: self.within(|| throughput(ip)),
            ..tested
        }
    }

    /// What fails within the namespace is no error: it did not come through.
    fn within<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> Option<T> {
        self.netns.run_in(work).ok()?.ok()
    }
}

fn ask_dns(domain: &str) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut query = Message::new(7, MessageType::Query, OpCode::Query);
    let name = Name::from_utf8(domain).map_err(io::Error::other)?;
    query.add_query(Query::query(name, RecordType::SOA));
    let bytes = query.to_vec().map_err(io::Error::other)?;
    let mut room = [0; 512];
    for _ in 0..TRIES {
        socket.send_to(&bytes, (DNS_ADDRESS, 53))?;
        if let Ok((len, _)) = socket.recv_from(&mut room) {
            let answer = Message::from_vec(room.get(..len).unwrap_or_default());
            return answer.map(drop).map_err(io::Error::other);
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

fn echoes(ip: Ipv4Addr) -> io::Result<u32> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect((ip, ECHO_PORT))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let (mut back, mut room) = (0, [0; 2_048]);
    for _ in 0..DATAGRAMS / AT_A_TIME {
        for _ in 0..AT_A_TIME {
            socket.send(&[7; DATAGRAM_LEN])?;
        }
        for _ in 0..AT_A_TIME {
            match socket.recv(&mut room) {
                Ok(DATAGRAM_LEN) => back += 1,
                // one that is lost holds up only its own ten
                Ok(_) | Err(_) => break,
            }
        }
    }
    Ok(back)
}

fn is_in_group(own: Ipv4Addr, ip: Ipv4Addr) -> io::Result<bool> {
    let socket = UdpSocket::bind((own, 0))?;
    socket.set_multicast_loop_v4(false)?;
    socket.set_multicast_ttl_v4(1)?;
    let mut room = [0; 64];
    for _ in 0..TRIES {
        let (sent, begun) = (
            socket.send_to(b"weave test", (GROUP, ECHO_PORT))?,
            Instant::now(),
        );
        loop {
            let left = PATIENCE.saturating_sub(begun.elapsed());
            if left.is_zero() {
                break;
            }
            socket.set_read_timeout(Some(left))?;
            match socket.recv_from(&mut room) {
                // others answer, too
                Ok((len, from)) if from.ip() == ip && len == sent => {
                    return Ok(true);
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
    }
    Ok(false)
}

fn throughput(ip: Ipv4Addr) -> io::Result<u64> {
    let to = SocketAddr::from((ip, DISCARD_PORT));
    let mut stream = TcpStream::connect_timeout(&to, 3 * PATIENCE)?;
    stream.set_write_timeout(Some(2 * PATIENCE))?;
    let (begun, room) = (Instant::now(), vec![0; 65_536]);
    let mut sent = 0_u64;
    while begun.elapsed() < TRANSFER {
        let written = stream.write(&room)?;
        sent += u64::try_from(written).unwrap_or(0);
    }
    // until the far side has all of it and closes
    stream.shutdown(std::net::Shutdown::Write)?;
    stream.set_read_timeout(Some(3 * PATIENCE))?;
    while stream.read(&mut [0; 16])? > 0 {}
    let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
    Ok((sent * 8).checked_div(micros).unwrap_or(0))
}
