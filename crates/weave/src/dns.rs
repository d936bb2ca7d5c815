//! The DNS server: names of the mesh, and everything else from upstream.
//!
//! Owns the protocol on sockets that others made and bound (they may live in
//! other network namespaces), the answers for the domain of the mesh
//! ([`zone`]) and forwarding ([`upstream`]). Does not own the table of names:
//! it reads a [`NameSource`] afresh for every query.
//!
//! Invariants: a name of one label or within the domain never leaves this
//! host; no query is forwarded to an address on which this server listens, nor to a server that
//! asks this one ([`loops`]).

mod handler;
mod loops;
mod outcomes;
mod resolv_conf;
mod upstream;
mod zone;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hickory_server::Server;
use tokio::sync::watch;
use weave_node::names::NameTable;

use handler::Handler;
use outcomes::Outcomes;
use resolv_conf::ResolvConf;
use upstream::{OwnAddresses, Upstream};
use zone::Zone;

pub(crate) use zone::InvalidDomain;

/// Seconds that an answer of ours may be kept, negative ones included.
pub(crate) const TTL: u32 = 1;

/// A TCP connection without a query is closed after this.
const TCP_IDLE: Duration = Duration::from_secs(10);

/// Answers waiting to be written on one TCP connection.
const TCP_BACKLOG: usize = 32;

/// Where names come from. Called once per query: it must be cheap.
pub(crate) trait NameSource: Send + Sync + 'static {
    /// Live addresses of a name: fully qualified, lower case, no dot at its end.
    fn addresses(&self, name: &str) -> Vec<IpAddr>;

    /// A live name of an address, as it was registered, no dot at its end.
    fn name_of(&self, ip: IpAddr) -> Option<String>;
}

impl NameSource for ArcSwap<NameTable> {
    fn addresses(&self, name: &str) -> Vec<IpAddr> {
        let table = self.load();
        let mut addresses: Vec<IpAddr> = table.lookup(name).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }

    fn name_of(&self, ip: IpAddr) -> Option<String> {
        let table = self.load();
        let first = table.reverse(ip).next();
        first.map(|entry| entry.name.to_string())
    }
}

/// Opens a file for reading, if it is there.
pub(crate) type OpenFile = fn(&Path) -> Option<File>;

/// How the server behaves, whatever it listens on.
#[derive(Debug, Clone)]
pub(crate) struct DnsConfig {
    /// Domain of the mesh, with or without a dot at its end.
    pub(crate) domain: String,
    /// The host's resolv.conf; read again and again.
    pub(crate) resolv_conf: PathBuf,
    /// How it is opened: the host's files may not be ours.
    pub(crate) open: OpenFile,
    /// Port of upstream servers; 53 but for tests.
    pub(crate) upstream_port: u16,
}

/// The DNS server; listens nowhere until told so.
#[derive(Debug, Clone)]
pub(crate) struct Dns {
    zone: Arc<Zone>,
    upstream: Arc<Upstream>,
    own: OwnAddresses,
    source: Source,
    complete: watch::Receiver<bool>,
    outcomes: Arc<Outcomes>,
}

/// A shared [`NameSource`].
#[derive(Clone)]
struct Source(Arc<dyn NameSource>);

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Source")
    }
}

/// Sockets being served. Dropping it ends the service and forgets their
/// addresses; queries under way are not waited for.
#[derive(Debug)]
pub(crate) struct Listening {
    task: tokio::task::JoinHandle<()>,
    own: OwnAddresses,
    addresses: Vec<SocketAddr>,
}

impl Dns {
    /// A server for one domain. Until `complete` says so, names may yet come, and none is denied.
    ///
    /// # Errors
    /// When the domain is no domain name.
    pub(crate) fn new(
        config: DnsConfig,
        source: Arc<dyn NameSource>,
        complete: watch::Receiver<bool>,
    ) -> Result<Self, InvalidDomain> {
        let own = OwnAddresses::default();
        Ok(Self {
            zone: Arc::new(Zone::new(&config.domain)?),
            upstream: Arc::new(Upstream::new(
                ResolvConf::new(config.resolv_conf, config.open),
                config.upstream_port,
                own.clone(),
            )),
            own,
            source: Source(source),
            complete,
            outcomes: Arc::default(),
        })
    }

    /// Queries so far, by how they ended.
    pub(crate) fn queries(&self) -> std::collections::BTreeMap<String, u64> {
        self.outcomes.read()
    }

    /// Serves on these sockets, bound already, non-blocking or not. May be
    /// called again for further sockets. Needs a tokio runtime.
    ///
    /// # Errors
    /// When a socket cannot be used.
    pub(crate) fn listen(
        &self,
        udp: Vec<std::net::UdpSocket>,
        tcp: Vec<std::net::TcpListener>,
    ) -> io::Result<Listening> {
        let mut addresses = Vec::new();
        let mut server = Server::new(Handler::new(self));
        for socket in udp {
            addresses.push(socket.local_addr()?);
            socket.set_nonblocking(true)?;
            server.register_socket(tokio::net::UdpSocket::from_std(socket)?);
        }
        for listener in tcp {
            addresses.push(listener.local_addr()?);
            listener.set_nonblocking(true)?;
            let listener = tokio::net::TcpListener::from_std(listener)?;
            server.register_listener(listener, TCP_IDLE, TCP_BACKLOG);
        }
        self.own.add(&addresses);
        let task = tokio::spawn(async move {
            if let Err(error) = server.block_until_done().await {
                tracing::warn!(%error, "DNS server stopped");
            }
        });
        Ok(Listening {
            task,
            own: self.own.clone(),
            addresses,
        })
    }

    /// Servers that other names are asked of now, in order.
    pub(crate) fn upstream_servers(&self) -> Vec<IpAddr> {
        self.upstream.servers().iter().map(SocketAddr::ip).collect()
    }

    /// Domain with a dot at its end.
    pub(crate) fn domain(&self) -> String {
        self.zone.domain()
    }

    /// Live addresses of a name as a user types it: a single label is taken
    /// within the domain.
    pub(crate) fn lookup(&self, name: &str) -> Vec<IpAddr> {
        let Some(key) = self.zone.key_of_text(name) else {
            return Vec::new();
        };
        self.source.0.addresses(&key)
    }
}

impl Listening {
    /// Where it listens.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
        self.own.remove(&self.addresses);
    }
}
