//! The underlay: one UDP socket for both address families, with batched receive and send, and a
//! second one on the same port for what strangers send ([`Underlay::with_strangers`]).
//!
//! [`Underlay`] owns the socket; each thread that receives or sends takes a [`UdpRx`] or
//! [`UdpTx`] of its own from it. Addresses seen by callers are plain: an IPv4 peer is a V4
//! address, whatever the socket's family. Datagrams larger than the path are fragmented on their
//! way (no DF), so that a path that has narrowed costs fragments and no datagrams; only the
//! probes that find out how long a datagram may be are sent with DF.

mod addr;
mod rx;
mod strangers;
mod tx;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};

pub use rx::UdpRx;
pub use tx::{Reservation, SendCounts, UdpTx};

use crate::{Error, Result};

/// Wanted socket buffers, bytes each way.
const SOCKET_BUFFER: usize = 8 << 20;

/// Datagrams moved by one system call.
pub const BATCH: usize = 64;

/// The underlay's UDP socket.
#[derive(Debug, Clone)]
pub struct Underlay {
    socket: Arc<Socket>,
    /// The second socket.
    strangers: Option<Arc<Socket>>,
    family: Family,
    joins: bool,
    cuts: bool,
}

/// Which addresses the socket itself speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// AF_INET6, IPv4 by mapped addresses.
    DualStack,
    /// AF_INET, on hosts without IPv6.
    V4Only,
}

impl Underlay {
    /// Binds `port` on all addresses of the calling thread's network namespace; both families
    /// where the host has IPv6, else IPv4 only. Port 0 lets the kernel choose.
    ///
    /// # Errors
    /// [`Error::PortTaken`], or the kernel's refusal.
    pub fn bind(port: u16) -> Result<Self> {
        match Self::bind_family(Family::DualStack, port) {
            Err(error) if ipv6_is_off(&error) => Self::bind_family(Family::V4Only, port),
            result => result,
        }
    }

    /// As [`bind`](Self::bind), for a given family.
    ///
    /// # Errors
    /// As [`bind`](Self::bind); also where the host does not have that family.
    pub fn bind_family(family: Family, port: u16) -> Result<Self> {
        let (socket, joins) = open(family, port).map_err(|source| match source.raw_os_error() {
            Some(libc::EADDRINUSE) => Error::PortTaken { port },
            Some(_) | None => Error::os("bind UDP port", port.to_string(), source),
        })?;
        Ok(Self {
            socket: Arc::new(socket),
            strangers: None,
            family,
            joins,
            cuts: true,
        })
    }

    /// Leaves nothing to the kernel any more: every datagram is sent and received by itself. For
    /// senders and receivers that are taken from here on.
    pub fn without_offloads(mut self) -> Self {
        let _ = set_option(self.as_raw_fd(), libc::SOL_UDP, libc::UDP_GRO, 0);
        self.joins = false;
        self.cuts = false;
        self
    }

    /// Opens the second socket, for datagrams from other addresses than [`Self::set_known`] names.
    /// Without it, they arrive at the first one.
    ///
    /// # Errors
    /// Where the kernel cannot choose between sockets. All is as before then.
    pub fn with_strangers(&self) -> io::Result<Self> {
        let port = self.port().map_err(io::Error::other)?;
        let second = strangers::open(&self.socket, self.family, port, self.joins)?;
        Ok(Self {
            strangers: Some(Arc::new(second)),
            ..self.clone()
        })
    }

    /// The second socket, if there is one.
    pub fn strangers(&self) -> Option<Self> {
        let second = self.strangers.as_ref()?;
        Some(Self {
            socket: Arc::clone(second),
            strangers: None,
            ..self.clone()
        })
    }

    /// Names the addresses from which datagrams go to the first socket; with too many of them, all
    /// do. Nothing without a second socket.
    ///
    /// # Errors
    /// The kernel's refusal; then all goes on as before.
    pub fn set_known(&self, known: &[IpAddr]) -> io::Result<()> {
        match self.strangers {
            Some(_) => strangers::set_known(&self.socket, known),
            None => Ok(()),
        }
    }

    /// Whether runs of datagrams are left to the kernel to cut.
    pub fn cuts(&self) -> bool {
        self.cuts
    }

    /// Whether the kernel joins runs of datagrams that are received.
    pub fn joins(&self) -> bool {
        self.joins
    }

    /// The port that is bound.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn port(&self) -> Result<u16> {
        let addr = self.socket.local_addr();
        let addr = addr.map_err(|source| Error::os("look at", "the UDP socket", source))?;
        Ok(addr.as_socket().map_or(0, |addr| addr.port()))
    }

    /// The socket's family.
    pub fn family(&self) -> Family {
        self.family
    }

    /// A receiver, for one thread.
    pub fn receiver(&self) -> UdpRx {
        UdpRx::new(self.clone())
    }

    /// A sender, for one thread.
    pub fn sender(&self) -> UdpTx {
        UdpTx::new(self.clone())
    }

    /// Sends one datagram now, for rare ones: handshakes and control messages.
    ///
    /// # Errors
    /// What the kernel says of this destination.
    pub fn send_to(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        self.send_now(to, datagram)
    }

    /// Sends one datagram with DF, whatever the kernel thinks of the path. For one thread.
    ///
    /// What other threads send in the same moment leaves with DF, too, or is refused if it is
    /// longer than the MTU of the interface: rare, and lost at worst, as any datagram may be.
    ///
    /// # Errors
    /// As [`send_to`](Self::send_to); also when it is too long for the first link.
    pub fn send_unfragmented(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        discover_mtu(&self.socket, self.family, Discovery::Probe)?;
        let sent = self.send_now(to, datagram);
        discover_mtu(&self.socket, self.family, Discovery::Off)?;
        sent
    }

    fn send_now(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        let to = match (self.family, to) {
            (Family::DualStack, SocketAddr::V4(v4)) => {
                SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port())
            }
            (Family::DualStack | Family::V4Only, to) => to,
        };
        self.socket.send_to(datagram, &to.into()).map(|_| ())
    }
}

impl AsFd for Underlay {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Underlay {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// The socket, and whether it joins datagrams.
fn open(family: Family, port: u16) -> io::Result<(Socket, bool)> {
    let socket = new_socket(family)?;
    grow_buffers(&socket);
    let joins = join_datagrams(&socket);
    discover_mtu(&socket, family, Discovery::Off)?;
    socket.bind(&SocketAddr::new(any_address(family), port).into())?;
    Ok((socket, joins))
}

fn new_socket(family: Family) -> io::Result<Socket> {
    let domain = match family {
        Family::DualStack => Domain::IPV6,
        Family::V4Only => Domain::IPV4,
    };
    let kind = Type::DGRAM.nonblocking().cloexec();
    let socket = Socket::new(domain, kind, Some(Protocol::UDP))?;
    if family == Family::DualStack {
        socket.set_only_v6(false)?;
    }
    Ok(socket)
}

fn any_address(family: Family) -> IpAddr {
    match family {
        Family::DualStack => Ipv6Addr::UNSPECIFIED.into(),
        Family::V4Only => Ipv4Addr::UNSPECIFIED.into(),
    }
}

/// What the kernel does about the MTU of paths.
#[derive(Debug, Clone, Copy)]
enum Discovery {
    /// No DF. Over IPv4 it also remembers no MTU of a path, for it would go on cutting datagrams
    /// for ten minutes after the path has widened; routers cut them. Over IPv6 they do not.
    Off,
    /// DF, and no MTU but that of the interface counts.
    Probe,
}

fn discover_mtu(socket: &Socket, family: Family, discovery: Discovery) -> io::Result<()> {
    let (v4, v6) = match discovery {
        Discovery::Off => (libc::IP_PMTUDISC_OMIT, libc::IPV6_PMTUDISC_DONT),
        Discovery::Probe => (libc::IP_PMTUDISC_PROBE, libc::IPV6_PMTUDISC_PROBE),
    };
    let fd = socket.as_raw_fd();
    set_option(fd, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, v4)?;
    if family == Family::DualStack {
        set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, v6)?;
    }
    Ok(())
}

/// Best effort: beyond the sysctl limits where we may, else up to them.
fn grow_buffers(socket: &Socket) {
    let fd = socket.as_raw_fd();
    let size = libc::c_int::try_from(SOCKET_BUFFER).unwrap_or(libc::c_int::MAX);
    if set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, size).is_err() {
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    }
    if set_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, size).is_err() {
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    }
}

/// Best effort: kernels before 5.0 give each datagram by itself.
fn join_datagrams(socket: &Socket) -> bool {
    let fd = socket.as_raw_fd();
    set_option(fd, libc::SOL_UDP, libc::UDP_GRO, 1).is_ok()
}

fn set_option(fd: RawFd, level: libc::c_int, name: libc::c_int, value: i32) -> io::Result<()> {
    // SAFETY: value lives across the call and is as long as said.
    let done = unsafe {
        libc::setsockopt(
            fd,
            level,
            name,
            (&raw const value).cast(),
            addr::len_of::<i32>(),
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn ipv6_is_off(error: &Error) -> bool {
    matches!(
        error.errno(),
        Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_and_comes_with_a_hint() {
        let first = Underlay::bind(0).unwrap();
        let port = first.port().unwrap();
        let error = Underlay::bind(port).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("UDP port {port} is already in use")
        );
        assert!(error.hint().is_some());
    }

    #[test]
    fn the_port_is_taken_still_with_a_socket_for_strangers() {
        let first = Underlay::bind(0).unwrap().with_strangers().unwrap();
        let port = first.port().unwrap();
        assert_eq!(first.strangers().unwrap().port().unwrap(), port);
        assert!(matches!(Underlay::bind(port), Err(Error::PortTaken { .. })));
    }

    #[test]
    fn the_receive_buffer_is_larger_than_the_default() {
        let plain = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let plain = Socket::from(plain).recv_buffer_size().unwrap();
        let ours = Underlay::bind(0)
            .unwrap()
            .socket
            .recv_buffer_size()
            .unwrap();
        assert!(ours > plain, "{ours} > {plain}");
    }
}
