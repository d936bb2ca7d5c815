//! What containers may send: the kernel's guard of their ports, and how strict networks are.
//!
//! A host without `nft`, or with one that does not understand us, has no guard: that is said once,
//! and stands in `weave status`. Other hosts then still protect what was announced.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use weave_node::Subnet;
use weave_sys::firewall::{ClosedPorts, Guard, GuardedPort};
use weave_sys::{NetNs, linkname};
use weave_wire::{Cidr, SegmentId};

use super::keep::Watch;
use super::{EndpointRecord, Kind, NetworkError, Networks, State, plumbing};

/// What the networks of this host are like, unless they say otherwise.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Defaults {
    /// Only what was announced passes.
    pub(crate) strict: bool,
    /// Containers send with their own addresses alone.
    pub(crate) guard: bool,
}

/// The guard, while one is there.
pub(super) struct Warden {
    guard: Arc<Mutex<Guard>>,
    /// Why there is none.
    missing: OnceLock<String>,
    dropped: Mutex<BTreeMap<String, u64>>,
}

impl Warden {
    pub(super) fn new(host: &NetNs, mesh: u16, status: Option<SocketAddr>) -> Self {
        let closed = ClosedPorts {
            udp: mesh,
            tcp: status.and_then(open_to_others),
        };
        Self {
            guard: Arc::new(Mutex::new(Guard::new(host, closed))),
            missing: OnceLock::new(),
            dropped: Mutex::default(),
        }
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Guard) -> weave_sys::Result<T> + Send + 'static,
    ) -> weave_sys::Result<T> {
        let guard = Arc::clone(&self.guard);
        plumbing::blocking(move || work(&mut guard.lock().unwrap_or_else(PoisonError::into_inner)))
            .await
    }

    fn dropped(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, u64>> {
        self.dropped.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The port that others than the host itself reach without our help.
fn open_to_others(address: SocketAddr) -> Option<u16> {
    (!address.ip().is_loopback()).then_some(address.port())
}

impl Networks {
    /// Makes the guard for the endpoints of before: their containers run, and shall not be cut off.
    pub(super) async fn start_guard(&self, records: &[EndpointRecord]) {
        let ports = {
            let state = self.state.lock().await;
            let records = records.iter();
            let records = records.filter(|record| !matches!(record.kind, Kind::Exposed { .. }));
            let ports = records.map(|record| self.port_of(&state, record));
            ports.collect::<Vec<_>>()
        };
        let started = self.warden.run(move |guard| {
            ports.iter().try_for_each(|port| guard.protect(port))?;
            guard.ensure()
        });
        if let Err(error) = started.await {
            tracing::warn!(%error, "containers of this host are not kept from spoofing");
            let hint = error
                .hint()
                .map_or_else(String::new, |hint| format!(" ({hint})"));
            let _ = self.warden.missing.set(format!("{error}{hint}"));
        }
    }

    /// Why containers of this host are not kept from spoofing, if they are not.
    pub(crate) fn guard_missing(&self) -> Option<&str> {
        self.warden.missing.get().map(String::as_str)
    }

    /// Frames that the kernel dropped for us, by reason, a few seconds ago.
    pub(crate) fn guard_dropped(&self) -> BTreeMap<String, u64> {
        self.warden.dropped().clone()
    }

    /// Lets the port of an endpoint send with its addresses.
    pub(super) async fn protect(&self, record: &EndpointRecord) {
        if self.guard_missing().is_some() {
            return;
        }
        let port = self.port_of(&*self.state.lock().await, record);
        let name = port.name.clone();
        if let Err(error) = self.warden.run(move |guard| guard.protect(&port)).await {
            tracing::warn!(port = name, %error, "a container cannot send yet");
        }
    }

    /// As [`protect`](Self::protect), where the endpoint has a port.
    pub(super) async fn protect_again(&self, record: &EndpointRecord) {
        let (host, _) = linkname::veth_pair(&record.id);
        if self
            .warden
            .run(move |guard| Ok(guard.knows(&host)))
            .await
            .unwrap_or(false)
        {
            self.protect(record).await;
        }
    }

    /// As [`protect`](Self::protect) for all endpoints of a segment, whose network has changed.
    pub(super) async fn protect_segment(&self, segment: SegmentId) {
        for record in self.endpoints().await {
            if record.segment() == segment && !matches!(record.kind, Kind::Exposed { .. }) {
                self.protect_again(&record).await;
            }
        }
    }

    /// Forgets the port of an endpoint.
    pub(super) async fn unprotect(&self, id: &str) {
        let (host, _) = linkname::veth_pair(id);
        if self.guard_missing().is_none()
            && let Err(error) = self.warden.run(move |guard| guard.release(&host)).await
        {
            tracing::warn!(id = super::short(id), %error, "a port that is gone is still guarded");
        }
    }

    pub(super) async fn keep_guard(&self, watch: &mut Watch) {
        if self.guard_missing().is_some() {
            return;
        }
        let kept = self
            .warden
            .run(|guard| Ok((guard.ensure()?, guard.dropped())));
        match kept.await {
            Ok((changed, dropped)) => {
                if changed {
                    watch.put_back("the guard of containers' ports", "");
                }
                *self.warden.dropped() = dropped;
            }
            Err(error) => watch.failed("the guard of containers' ports", "", &error),
        }
    }

    /// Makes a bridge as strict as its network says now, and tells the mesh what it is like.
    pub(super) async fn apply_options(
        &self,
        state: &mut State,
        subnet: Cidr,
    ) -> Result<(), NetworkError> {
        let segment = SegmentId::of_subnet(subnet);
        let strict = self.is_strict(state, segment);
        let ipv6 = state.networks_of(segment).find_map(|network| network.ipv6);
        let Some(bridge) = state.bridges.get_mut(&segment) else {
            return Ok(());
        };
        let subnet = Subnet {
            cidr: bridge.subnet,
            segment,
            strict,
            ipv6,
        };
        if bridge.told == Some(subnet) {
            return Ok(());
        }
        bridge.told = Some(subnet);
        self.parts
            .control
            .call(move |node, now| node.add_subnet(subnet, now))
            .await?;
        Ok(())
    }

    fn is_strict(&self, state: &State, segment: SegmentId) -> bool {
        let mut networks = state.networks_of(segment);
        self.parts.defaults.strict || networks.any(|network| network.strict)
    }

    fn port_of(&self, state: &State, record: &EndpointRecord) -> GuardedPort {
        let mut networks = state.networks_of(record.segment());
        let guarded = self.parts.defaults.guard && networks.all(|network| network.guard);
        GuardedPort {
            name: linkname::veth_pair(&record.id).0,
            mac: record.mac.0,
            ips: record
                .addresses
                .iter()
                .map(|held| held.address.ip())
                .chain([IpAddr::from(record.mac.link_local())])
                .collect(),
            open: !guarded,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_only_the_host_reaches_needs_no_rule() {
        for (address, closed) in [
            ("127.0.0.1:6782", None),
            ("[::1]:6782", None),
            ("0.0.0.0:6782", Some(6782)),
            ("192.0.2.1:80", Some(80)),
        ] {
            assert_eq!(
                open_to_others(address.parse().unwrap()),
                closed,
                "{address}"
            );
        }
    }
}
