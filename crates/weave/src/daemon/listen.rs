//! Where the DNS server listens: in the namespace of its own, and on the address of Docker's
//! bridge, for `--dns=172.17.0.1`.
//!
//! dockerd may start after us, or make its bridge anew with another address: it is asked for that
//! address again and again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use weave_docker::DockerClient;
use weave_sys::NetNs;
use weave_sys::dnsns::{tcp_listener, udp_socket};

use crate::dns::{Dns, Listening};

/// How often Docker is asked while its bridge is not known, and later.
const ASK_EVERY: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// dockerd, while it starts, takes connections and does not answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// The listeners of the DNS server.
#[derive(Debug, Clone, Default)]
pub(crate) struct Listeners(Arc<Mutex<BTreeMap<IpAddr, Listening>>>);

impl Listeners {
    /// Listens on port 53 of an address.
    ///
    /// # Errors
    /// When the address is not there, or taken.
    pub(crate) fn add(&self, dns: &Dns, netns: &NetNs, ip: IpAddr) -> anyhow::Result<()> {
        let address = SocketAddr::new(ip, 53);
        let udp = udp_socket(netns, address)?;
        let tcp = tcp_listener(netns, address)?;
        let listening = dns
            .listen(vec![udp], vec![tcp])
            .context("cannot serve DNS")?;
        self.lock().insert(ip, listening);
        Ok(())
    }

    /// Where it listens now.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let listeners = self.lock();
        let addresses = listeners.values().flat_map(Listening::addresses);
        let addresses: BTreeSet<_> = addresses.map(ToString::to_string).collect();
        addresses.into_iter().collect()
    }

    /// Listens on the address of Docker's bridge, whatever it is and whenever it comes, for ever.
    pub(crate) async fn follow_bridge(self, docker: &Path, dns: &Dns, host: &NetNs) {
        let mut now = None;
        let mut refused = None;
        loop {
            let asked = tokio::time::timeout(ANSWERS_WITHIN, bridge_of(docker)).await;
            let found = asked.ok().flatten();
            if let Some(ip) = found
                && now != found
            {
                if let Some(former) = now.take() {
                    self.lock().remove(&former);
                }
                match self.add(dns, host, ip) {
                    Ok(()) => now = found,
                    // said once for each address
                    Err(error) if refused != found => {
                        refused = found;
                        tracing::warn!(%ip, error = format!("{error:#}"), "no DNS on Docker's bridge");
                    }
                    Err(_) => {}
                }
            }
            let known = found.is_some();
            tokio::time::sleep(if known { LOOK_EVERY } else { ASK_EVERY }).await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<IpAddr, Listening>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn bridge_of(docker: &Path) -> Option<IpAddr> {
    let client = DockerClient::connect(docker).await.ok()?;
    client.bridge_gateway().await.ok().flatten()
}
