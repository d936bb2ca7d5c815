//! A station of this host for others to test with: `weave test` of a peer asks for it.
//!
//! There is at most one, in a namespace of its own on the default network, however many ask; it
//! goes a minute after the last one did. It answers ICMP echo (the kernel does), echoes UDP, also
//! what a group gets, and takes TCP and throws it away: it never sends more than it gets, and
//! never to a service.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;
use weave_sys::NetNs;
use weave_sys::dnsns::{tcp_listener, udp_socket};

use super::attach::Attacher;
use crate::api::types::{AddressSpec, Sandbox};
use crate::api::{ApiError, ApiErrorKind};

/// UDP port that echoes (RFC 862), and TCP port that discards (RFC 863).
pub(crate) const ECHO_PORT: u16 = 7;
pub(crate) const DISCARD_PORT: u16 = 9;
/// Group whose datagrams are echoed, to their sender alone (RFC 2365).
pub(crate) const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 77, 77);
/// How long it stays after it was asked for.
const LENT_FOR: Duration = Duration::from_secs(60);
/// Datagrams from these ports may be answers of services: two that echo would never end.
const SERVICES: u16 = 1_024;
/// Transfers at a time, and how long each may take.
const TRANSFERS: usize = 8;
const TRANSFER_FOR: Duration = Duration::from_secs(20);

/// The stand-in of this host, if there is one.
pub(crate) struct StandIns {
    attacher: Arc<Attacher>,
    up: Mutex<Option<Up>>,
}

struct Up {
    ip: IpAddr,
    until: Instant,
    sandbox: Sandbox,
    /// What serves in it; ends with this.
    _services: JoinSet<()>,
    /// Keeps it there.
    _netns: NetNs,
}

impl StandIns {
    /// None yet.
    pub(crate) fn new(attacher: Arc<Attacher>) -> Self {
        Self {
            attacher,
            up: Mutex::default(),
        }
    }

    /// The address of the stand-in, which is there for a minute from now on.
    ///
    /// # Errors
    /// Why there can be none.
    pub(crate) async fn lend(self: &Arc<Self>) -> Result<IpAddr, ApiError> {
        let mut up = self.up.lock().await;
        let until = Instant::now() + LENT_FOR;
        if let Some(up) = up.as_mut() {
            up.until = until;
            return Ok(up.ip);
        }
        let made = self.make(until).await?;
        let ip = made.ip;
        *up = Some(made);
        let this = Arc::clone(self);
        tokio::spawn(async move { this.take_back().await });
        Ok(ip)
    }

    async fn make(&self, until: Instant) -> Result<Up, ApiError> {
        let netns = NetNs::unnamed()?;
        let sandbox = Sandbox::Netns(path_of(&netns));
        let specs = [AddressSpec::DefaultSubnet];
        let given = self.attacher.attach(&specs, &sandbox).await?;
        let served = match given.first() {
            Some(IpAddr::V4(ip)) => serve(&netns, *ip).map(|services| (IpAddr::V4(*ip), services)),
            Some(IpAddr::V6(_)) | None => Err(internal("it has no IPv4 address")),
        };
        match served {
            Ok((ip, services)) => Ok(Up {
                ip,
                until,
                sandbox,
                _services: services,
                _netns: netns,
            }),
            Err(error) => {
                self.attacher.detach(&[], &sandbox).await?;
                Err(error)
            }
        }
    }

    /// Waits until nobody needs it any more.
    async fn take_back(&self) {
        loop {
            let mut up = self.up.lock().await;
            let Some(until) = up.as_ref().map(|up| up.until) else {
                return;
            };
            if Instant::now() >= until {
                if let Some(former) = up.take()
                    && let Err(error) = self.attacher.detach(&[], &former.sandbox).await
                {
                    tracing::warn!(%error, "cannot take a stand-in back");
                }
                return;
            }
            drop(up);
            tokio::time::sleep_until(until).await;
        }
    }
}

/// Where a namespace without a name is found by whoever sees our process.
pub(crate) fn path_of(netns: &NetNs) -> PathBuf {
    let (pid, fd) = (std::process::id(), netns.as_fd().as_raw_fd());
    PathBuf::from(format!("/proc/{pid}/fd/{fd}"))
}

fn serve(netns: &NetNs, ip: Ipv4Addr) -> Result<JoinSet<()>, ApiError> {
    let any = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let udp = udp_socket(netns, any(ECHO_PORT))?;
    serve_on(udp, tcp_listener(netns, any(DISCARD_PORT))?, ip)
}

fn serve_on(
    udp: std::net::UdpSocket,
    tcp: std::net::TcpListener,
    ip: Ipv4Addr,
) -> Result<JoinSet<()>, ApiError> {
    udp.join_multicast_v4(&GROUP, &ip).map_err(internal)?;
    let udp = UdpSocket::from_std(udp).map_err(internal)?;
    let tcp = TcpListener::from_std(tcp).map_err(internal)?;
    let mut services = JoinSet::new();
    services.spawn(echo(udp));
    services.spawn(discard(tcp));
    Ok(services)
}

async fn echo(socket: UdpSocket) {
    let mut room = vec![0; 65_536];
    loop {
        // what one sender caused is no matter of the next
        let Ok((len, from)) = socket.recv_from(&mut room).await else {
            continue;
        };
        if from.port() >= SERVICES
            && let Some(datagram) = room.get(..len)
        {
            let _ = socket.send_to(datagram, from).await;
        }
    }
}

async fn discard(listener: TcpListener) {
    let permits = Arc::new(Semaphore::new(TRANSFERS));
    let mut transfers = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            return;
        };
        while transfers.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        transfers.spawn(async move {
            let _ = tokio::time::timeout(TRANSFER_FOR, drain(stream)).await;
            drop(permit);
        });
    }
}

async fn drain(mut stream: TcpStream) {
    let mut room = vec![0; 65_536];
    while stream.read(&mut room).await.is_ok_and(|len| len > 0) {}
}

fn internal(error: impl std::fmt::Display) -> ApiError {
    ApiError::new(
        ApiErrorKind::Internal,
        format!("cannot make a stand-in: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_is_not_there_is_an_error_with_its_cause() {
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let error = serve_on(udp, tcp, Ipv4Addr::new(192, 0, 2, 1)).unwrap_err();
        assert_eq!(
            error.message,
            "cannot make a stand-in: No such device (os error 19)"
        );
    }
}
