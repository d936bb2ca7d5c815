//! Puts back what somebody removed or changed of ours: bridges, TAPs, the ports on them, their
//! settings, firewall rules, the guard of ports, and the DNS redirect of containers.
//!
//! Each look is one dump of all interfaces; programs of the host run only now and then. What is
//! put back is said in one line.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weave_sys::bridge::{self, NetworkSpec, TAP_FLAGS};
use weave_sys::netlink::{LinkInfo, PortFlags};
use weave_sys::veth::{self, Attachment, PORT_FLAGS};
use weave_sys::{NetNs, Netlink, dnsns, linkname};
use weave_wire::SegmentId;

use super::{EndpointRecord, Kind, NetworkError, Networks, State};
use crate::daemon::driver::upstreams;

/// How often interfaces are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// An endpoint that is off its container at so many looks in a row is put back: one that is just
/// leaving is off for a moment.
const CUT_FOR: u32 = 3;
/// Firewall rules are looked at every so many looks, and after each repair.
const RULES_EVERY: u32 = 6;
/// Kernel settings of our interfaces, and where the bridges find MACs, are written every so many
/// looks.
const SETTINGS_EVERY: u32 = 9;
/// The DNS redirect of each container is looked at every so many looks.
const REDIRECTS_EVERY: u32 = 30;
/// The same is said this often at most: somebody may undo what is put back, again and again.
const SAY_EVERY: Duration = Duration::from_secs(60);
/// More interfaces than a container ever has.
const MAX_INTERFACES: usize = 64;

type Links = BTreeMap<String, LinkInfo>;

/// What is remembered from look to look.
#[derive(Default)]
pub(super) struct Watch {
    /// Endpoints that are off their container, and at how many looks in a row they were.
    cut: BTreeMap<String, u32>,
    /// When each thing was spoken of.
    said: BTreeMap<String, Instant>,
}

impl Watch {
    /// Whether it is time to say something of `what` (again).
    fn may_say(&mut self, what: &str, now: Instant) -> bool {
        self.said
            .retain(|_, at| now.saturating_duration_since(*at) < SAY_EVERY);
        let silent = !self.said.contains_key(what);
        if silent {
            self.said.insert(what.to_owned(), now);
        }
        silent
    }

    /// Of the endpoints that are off their container now, those that have been for long enough.
    fn lasting(&mut self, off: BTreeSet<String>) -> Vec<String> {
        let mut before = std::mem::take(&mut self.cut);
        let looks = off.into_iter().map(|id| {
            let looks = before.remove(&id).unwrap_or(0) + 1;
            (id, looks)
        });
        self.cut = looks.collect();
        let lasting = self.cut.iter().filter(|(_, looks)| **looks >= CUT_FOR);
        lasting.map(|(id, _)| id.clone()).collect()
    }

    pub(super) fn put_back(&mut self, what: &'static str, name: &str) {
        if self.may_say(&format!("{what} {name}"), Instant::now()) {
            tracing::info!(name, "put back {what}");
        }
    }

    pub(super) fn failed(&mut self, what: &'static str, name: &str, error: &dyn Display) {
        if self.may_say(&format!("{what} {name}: {error}"), Instant::now()) {
            tracing::warn!(name, %error, "cannot put back {what}");
        }
    }
}

impl Networks {
    /// Looks after everything of ours in the kernel, for ever.
    pub(crate) async fn keep(&self) {
        let mut watch = Watch::default();
        for round in 0_u32.. {
            if round % REDIRECTS_EVERY == 0 {
                self.keep_redirects().await;
            }
            tokio::time::sleep(LOOK_EVERY).await;
            let repaired = self.keep_links(&mut watch).await;
            if repaired || round % RULES_EVERY == 0 {
                self.keep_rules(&mut watch).await;
                self.keep_guard(&mut watch).await;
                self.ensure_exposed().await;
            }
            if round % SETTINGS_EVERY == 0 {
                self.keep_settings(&mut watch).await;
                self.keep_macs(&mut watch).await;
            }
        }
    }

    async fn keep_rules(&self, watch: &mut Watch) {
        for bridge in self.bridge_names().await {
            match self.ensure_rules(&bridge).await {
                Ok(true) => watch.put_back("the firewall rule of a bridge", &bridge),
                Ok(false) => {}
                Err(error) => watch.failed("the firewall rule of a bridge", &bridge, &error),
            }
        }
    }

    async fn keep_settings(&self, watch: &mut Watch) {
        let names: Vec<_> = {
            let state = self.state.lock().await;
            let ports = state.endpoints.keys().map(|id| linkname::veth_pair(id).0);
            let devices = state.bridges.values();
            let devices = devices.flat_map(|bridge| [bridge.name.clone(), bridge.tap_name.clone()]);
            devices.chain(ports).collect()
        };
        if let Err(error) = bridge::keep_hosts_out(&self.netlink, &names) {
            watch.failed("settings of interfaces", "", &error);
        }
    }

    /// A bridge sends nothing to a container whose MAC it does not know.
    async fn keep_macs(&self, watch: &mut Watch) {
        let macs: Vec<_> = {
            let state = self.state.lock().await;
            let ports = state.endpoints.values();
            let ports = ports.map(|record| (linkname::veth_pair(&record.id).0, record.mac.0));
            let dns = state.dns.iter().flat_map(|dns| {
                let ports = dns.bridges().filter_map(|bridge| dns.port(bridge));
                ports.map(|port| (port.to_owned(), dnsns::DNS_MAC))
            });
            ports.chain(dns).collect()
        };
        let Some(links) = self.links(watch).await else {
            return;
        };
        for (port, mac) in macs {
            // what is missing, or on no bridge, is put back first
            if links.get(&port).is_some_and(|link| link.master.is_some())
                && let Err(error) = self.netlink.pin_mac(&port, mac).await
            {
                watch.failed("the MAC of a container", &port, &error);
            }
        }
    }

    /// Interfaces; says whether any was put back. What cannot be put back does not keep the others
    /// from it.
    async fn keep_links(&self, watch: &mut Watch) -> bool {
        let mut state = self.state.lock().await;
        let Some(mut links) = self.links(watch).await else {
            return false;
        };
        let mut repaired = false;
        let bridges = state.bridges.iter();
        let bridges: Vec<_> = bridges.map(|(id, one)| (*id, one.name.clone())).collect();
        for (segment, name) in bridges {
            match self.keep_bridge(&mut state, segment, &links, watch).await {
                Ok(changed) => repaired |= changed,
                Err(error) => watch.failed("a bridge", &name, &error),
            }
        }
        if repaired {
            let Some(fresh) = self.links(watch).await else {
                return true;
            };
            links = fresh;
        }
        let (replugged, off) = self.keep_ports(&state, &links, watch).await;
        let lasting = watch.lasting(off);
        let lasting = lasting.iter().filter_map(|id| state.endpoints.get(id));
        let lasting: Vec<_> = lasting.cloned().collect();
        drop(state);
        for record in &lasting {
            let id = super::short(&record.id);
            match self.recable(record).await {
                Ok(()) => watch.put_back("the cable of a container", id),
                Err(error) => watch.failed("the cable of a container", id, &error),
            }
        }
        repaired || replugged || !lasting.is_empty()
    }

    /// Ports of containers: whether any was put back, and the endpoints that have none.
    async fn keep_ports(
        &self,
        state: &State,
        links: &Links,
        watch: &mut Watch,
    ) -> (bool, BTreeSet<String>) {
        let (mut repaired, mut off) = (false, BTreeSet::new());
        for record in state.endpoints.values() {
            let (host, _) = linkname::veth_pair(&record.id);
            let Some(bridge) = state.bridges.get(&record.segment()) else {
                continue;
            };
            match links.get(&host) {
                Some(link) if is_port(Some(link), links.get(&bridge.name), PORT_FLAGS) => {}
                Some(_) => match self.plug_port(record, &bridge.name).await {
                    Ok(()) => {
                        watch.put_back("the port of a container", &host);
                        repaired = true;
                    }
                    Err(error) => watch.failed("the port of a container", &host, &error),
                },
                None => off.extend(self.sandbox_of(record).map(|_| record.id.clone())),
            }
        }
        (repaired, off)
    }

    async fn links(&self, watch: &mut Watch) -> Option<Links> {
        match self.netlink.links().await {
            Ok(links) => {
                let named = links.into_iter().map(|link| (link.name.clone(), link));
                Some(named.collect())
            }
            Err(error) => {
                watch.failed("anything", "", &error);
                None
            }
        }
    }

    /// A bridge with its TAP and the port of the DNS server.
    async fn keep_bridge(
        &self,
        state: &mut State,
        segment: SegmentId,
        links: &Links,
        watch: &mut Watch,
    ) -> Result<bool, NetworkError> {
        let Some(kept) = state.bridges.get_mut(&segment) else {
            return Ok(false);
        };
        let subnet = kept.subnet;
        let spec = self.network_spec(subnet);
        let (found, tap) = (links.get(&spec.bridge), links.get(&spec.tap));
        let mut repaired = false;
        if !found.is_some_and(|link| is_as(link, &spec)) {
            bridge::ensure_bridge(&self.netlink, &spec).await?;
            watch.put_back("a bridge", &spec.bridge);
            repaired = true;
        }
        let lost = tap.is_none() || !kept.tap.is_alive();
        if lost {
            kept.tap = Arc::new(bridge::open_tap(&self.netlink, &spec).await?);
            self.publish_taps(state);
        }
        let in_shape = is_port(tap, found, TAP_FLAGS) && tap.is_some_and(|tap| tap.mtu == spec.mtu);
        if repaired || lost || !in_shape {
            bridge::plug_tap(&self.netlink, &spec).await?;
            watch.put_back("a TAP", &spec.tap);
            repaired = true;
        }
        if let Some(dns) = &mut state.dns
            && let IpAddr::V4(network) = subnet.first()
        {
            let port = dns.port(&spec.bridge).and_then(|port| links.get(port));
            if repaired || !is_port(port, found, dnsns::PORT_FLAGS) {
                dns.remove_bridge(&spec.bridge).await?;
                let subnets = [(network, subnet.prefix_len())];
                dns.add_bridge(&spec.bridge, &subnets).await?;
                watch.put_back("the DNS server's port on a bridge", &spec.bridge);
                repaired = true;
            }
        }
        Ok(repaired)
    }

    /// The namespace of the container that has joined an endpoint, if it is there.
    fn sandbox_of(&self, record: &EndpointRecord) -> Option<NetNs> {
        record.sandbox().and_then(|path| NetNs::of_path(path).ok())
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
        let attachment = Attachment {
            name: &name,
            addresses: &addresses,
            routes: &[],
        };
        veth::attach(&self.netlink, &guest, &netns, attachment).await?;
        // the kernel took the routes with the cable, unless they led through another one
        if let Some(sandbox) = record.sandbox() {
            self.route_through(sandbox, record).await?;
        }
        Ok(())
    }

    /// Containers whose queries are led to us, by id, with sandbox and resolvers of their own.
    pub(super) async fn redirected(&self) -> Vec<(String, PathBuf, Vec<String>)> {
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
                    Some((record.container.clone(), sandbox.clone(), dns.clone()))
                }
                Kind::Docker { .. } | Kind::Attached { .. } | Kind::Exposed { .. } => None,
            });
        joined.collect()
    }

    async fn keep_redirects(&self) {
        if !self.parts.dns {
            return;
        }
        for (_, sandbox, dns) in self.redirected().await {
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

fn is_port(link: Option<&LinkInfo>, bridge: Option<&LinkInfo>, flags: PortFlags) -> bool {
    match (link, bridge) {
        (Some(link), Some(bridge)) => {
            link.up && link.master == Some(bridge.index) && link.port.agrees_with(&flags)
        }
        (Some(_) | None, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_put_back_when_it_was_off_three_times_in_a_row() {
        let mut watch = Watch::default();
        let off = |ids: &[&str]| ids.iter().map(|&id| id.to_owned()).collect();
        for ids in [&["a", "b"][..], &["a"], &[], &["a", "b"], &["a", "b"]] {
            assert_eq!(watch.lasting(off(ids)), Vec::<String>::new());
        }
        assert_eq!(watch.lasting(off(&["a"])), ["a"]);
    }

    #[test]
    fn what_somebody_undoes_again_and_again_is_said_once_a_minute() {
        let (mut watch, start) = (Watch::default(), Instant::now());
        let said =
            (0..120_u32).filter(|look| watch.may_say("a bridge weave", start + LOOK_EVERY * *look));
        assert_eq!(said.collect::<Vec<_>>(), [0, 60]);
        assert!(watch.may_say("a bridge weave-2", start));
    }
}
