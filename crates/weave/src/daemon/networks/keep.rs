//! Puts back what somebody removed or changed of ours: bridges, TAPs, the ports on them, their
//! settings, firewall rules, and the DNS redirect of containers.
//!
//! Each look is one dump of all interfaces; programs of the host run only now and then. What is
//! put back is said in one line.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use weave_sys::bridge::{self, NetworkSpec};
use weave_sys::dnsns::DNS_ADDRESS;
use weave_sys::netlink::{LinkInfo, Route};
use weave_sys::veth::{self, Attachment};
use weave_sys::{NetNs, Netlink, linkname};
use weave_wire::SegmentId;

use super::{EndpointRecord, Kind, NetworkError, Networks, State, plumbing};
use crate::daemon::driver::upstreams;

/// How often interfaces are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// Firewall rules are looked at every so many looks, and after each repair.
const RULES_EVERY: u32 = 2;
/// Kernel settings of our interfaces are written every so many looks.
const SETTINGS_EVERY: u32 = 3;
/// The DNS redirect of each container is looked at every so many looks.
const REDIRECTS_EVERY: u32 = 20;
/// More interfaces than a container ever has.
const MAX_INTERFACES: usize = 64;

type Links = BTreeMap<String, LinkInfo>;

impl Networks {
    /// Looks after everything of ours in the kernel, for ever.
    pub(crate) async fn keep(&self) {
        let mut cut = BTreeSet::new();
        for round in 0_u32.. {
            if round % REDIRECTS_EVERY == 0 {
                self.keep_redirects().await;
            }
            tokio::time::sleep(LOOK_EVERY).await;
            let repaired = match self.keep_links(&mut cut).await {
                Ok(repaired) => repaired,
                Err(error) => {
                    tracing::warn!(%error, "cannot look after the interfaces");
                    false
                }
            };
            if repaired || round % RULES_EVERY == 0 {
                self.keep_rules().await;
                self.ensure_exposed().await;
            }
            if round % SETTINGS_EVERY == 0 {
                self.keep_settings().await;
            }
        }
    }

    async fn keep_rules(&self) {
        for bridge in self.bridge_names().await {
            if let Err(error) = self.ensure_rules(&bridge).await {
                tracing::warn!(bridge, %error, "cannot keep the firewall rule");
            }
        }
    }

    async fn keep_settings(&self) {
        let names: Vec<_> = {
            let state = self.state.lock().await;
            let ports = state.endpoints.keys().map(|id| linkname::veth_pair(id).0);
            let devices = state.bridges.values();
            let devices = devices.flat_map(|bridge| [bridge.name.clone(), bridge.tap_name.clone()]);
            devices.chain(ports).collect()
        };
        if let Err(error) = bridge::keep_hosts_out(&self.netlink, &names) {
            tracing::warn!(%error, "cannot keep the settings of the interfaces");
        }
    }

    /// Interfaces; says whether any was put back. `cut`: endpoints that were off their container
    /// at the last look: a container that is just leaving is one for a moment.
    async fn keep_links(&self, cut: &mut BTreeSet<String>) -> Result<bool, NetworkError> {
        let mut state = self.state.lock().await;
        let mut links = self.links().await?;
        let mut repaired = false;
        let segments: Vec<_> = state.bridges.keys().copied().collect();
        for segment in segments {
            repaired |= self.keep_bridge(&mut state, segment, &links).await?;
        }
        if repaired {
            links = self.links().await?;
        }
        let mut off = BTreeSet::new();
        for record in state.endpoints.values() {
            let (host, _) = linkname::veth_pair(&record.id);
            let Some(bridge) = state.bridges.get(&record.segment()) else {
                continue;
            };
            match links.get(&host) {
                Some(link) if is_port(Some(link), links.get(&bridge.name)) => {}
                Some(_) => {
                    tracing::info!(port = host, bridge = bridge.name, "put a port back");
                    self.plug_port(record, &bridge.name).await?;
                    repaired = true;
                }
                None => {
                    off.extend(self.sandbox_of(record).map(|_| record.id.clone()));
                }
            }
        }
        let lasting: Vec<_> = off.intersection(cut).cloned().collect();
        *cut = off;
        let lasting = lasting.iter().filter_map(|id| state.endpoints.get(id));
        let lasting: Vec<_> = lasting.cloned().collect();
        drop(state);
        for record in lasting {
            tracing::info!(
                id = super::short(&record.id),
                "put the cable of a container back"
            );
            if let Err(error) = self.recable(&record).await {
                tracing::warn!(id = super::short(&record.id), %error, "a container is off its network");
            }
            repaired = true;
        }
        Ok(repaired)
    }

    async fn links(&self) -> Result<Links, NetworkError> {
        let links = self.netlink.links().await?.into_iter();
        Ok(links.map(|link| (link.name.clone(), link)).collect())
    }

    /// A bridge with its TAP and the port of the DNS server.
    async fn keep_bridge(
        &self,
        state: &mut State,
        segment: SegmentId,
        links: &Links,
    ) -> Result<bool, NetworkError> {
        let Some(kept) = state.bridges.get_mut(&segment) else {
            return Ok(false);
        };
        let subnet = kept.subnet;
        let spec = plumbing::network_spec(subnet, self.parts.default_subnet, &self.parts.me);
        let (found, tap) = (links.get(&spec.bridge), links.get(&spec.tap));
        let mut repaired = false;
        if !found.is_some_and(|link| is_as(link, &spec)) {
            tracing::info!(
                bridge = spec.bridge,
                missing = found.is_none(),
                "put a bridge back"
            );
            bridge::ensure_bridge(&self.netlink, &spec).await?;
            repaired = true;
        }
        if tap.is_none() {
            tracing::info!(tap = spec.tap, "put a TAP back");
            kept.tap = Arc::new(bridge::open_tap(&self.netlink, &spec).await?);
            self.publish_taps(state);
        }
        if repaired || !is_port(tap, found) || tap.is_some_and(|tap| tap.mtu != spec.mtu) {
            bridge::plug_tap(&self.netlink, &spec).await?;
            repaired = true;
        }
        if let Some(dns) = &mut state.dns
            && let IpAddr::V4(network) = subnet.first()
        {
            let port = dns.port(&spec.bridge).and_then(|port| links.get(port));
            if repaired || !is_port(port, found) {
                dns.remove_bridge(&spec.bridge).await?;
                let subnets = [(network, subnet.prefix_len())];
                dns.add_bridge(&spec.bridge, &subnets).await?;
                repaired = true;
            }
        }
        Ok(repaired)
    }

    /// The namespace of the container that has joined an endpoint, if it is there.
    fn sandbox_of(&self, record: &EndpointRecord) -> Option<NetNs> {
        match &record.kind {
            Kind::Docker {
                sandbox: Some(path),
                ..
            } => NetNs::of_path(path).ok(),
            Kind::Docker { sandbox: None, .. } | Kind::Attached { .. } | Kind::Exposed { .. } => {
                None
            }
        }
    }

    /// Makes the veth of a running container anew, and sets it up as dockerd did.
    async fn recable(&self, record: &EndpointRecord) -> Result<(), NetworkError> {
        let Some(netns) = self.sandbox_of(record) else {
            return Ok(());
        };
        let inside = Netlink::open(&netns)?.links().await?;
        let taken: BTreeSet<_> = inside.into_iter().map(|link| link.name).collect();
        let names = (0..MAX_INTERFACES).map(|number| format!("ethwe{number}"));
        let Some(name) = names.into_iter().find(|name| !taken.contains(name)) else {
            return Ok(());
        };
        let guest = self.plug(record).await?;
        let addresses: Vec<_> = record
            .addresses
            .iter()
            .map(|held| (held.address.ip(), held.address.prefix_len()))
            .collect();
        let routes = if taken.iter().any(|name| name.starts_with("ethwe")) {
            Vec::new()
        } else {
            vec![
                Route::multicast_v4(),
                Route::on_link(IpAddr::V4(DNS_ADDRESS), 32),
            ]
        };
        let attachment = Attachment {
            name: &name,
            addresses: &addresses,
            routes: &routes,
        };
        veth::attach(&self.netlink, &guest, &netns, attachment).await?;
        Ok(())
    }

    /// Containers whose queries are led to us.
    async fn redirected(&self) -> Vec<(PathBuf, Vec<String>)> {
        let state = self.state.lock().await;
        let joined = state
            .endpoints
            .values()
            .filter_map(|record| match &record.kind {
                Kind::Docker {
                    network,
                    dns,
                    sandbox: Some(sandbox),
                } if state
                    .networks
                    .get(network)
                    .is_some_and(|network| network.dns) =>
                {
                    Some((sandbox.clone(), dns.clone()))
                }
                Kind::Docker { .. } | Kind::Attached { .. } | Kind::Exposed { .. } => None,
            });
        joined.collect()
    }

    async fn keep_redirects(&self) {
        if !self.parts.dns {
            return;
        }
        for (sandbox, dns) in self.redirected().await {
            // one that is gone, or not there yet, is no concern of ours
            if let Err(error) = self.redirect_dns(&sandbox, upstreams(&dns)).await {
                tracing::debug!(sandbox = %sandbox.display(), %error, "no DNS redirect");
            }
        }
    }
}

fn is_as(link: &LinkInfo, spec: &NetworkSpec) -> bool {
    link.up && link.mtu == spec.mtu && link.mac == Some(spec.mac)
}

fn is_port(link: Option<&LinkInfo>, bridge: Option<&LinkInfo>) -> bool {
    match (link, bridge) {
        (Some(link), Some(bridge)) => link.up && link.master == Some(bridge.index),
        (Some(_) | None, _) => false,
    }
}
