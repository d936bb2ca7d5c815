//! Looks at what is in the kernel for a station or a network, and changes nothing: what
//! `weave ping` and `weave doctor` ask for.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use weave_node::Finding;
use weave_sys::dnsns::DNS_ADDRESS;
use weave_sys::firewall::{self, Passage};
use weave_sys::netlink::LinkInfo;
use weave_sys::{MacBytes, NetNs, linkname, probe};
use weave_wire::{Cidr, SegmentId};

use super::{EndpointRecord, Kind, Networks, plumbing, short};
use crate::daemon::driver::upstreams;

/// How long a container has to answer one question.
const PATIENCE: Duration = Duration::from_millis(700);
/// Containers whose rules are looked at, at most.
const MOST_LOOKED_AT: usize = 64;

/// A bridge that a station hangs on.
struct Found {
    bridge: String,
    record: EndpointRecord,
    /// Whether the station has a route back to the DNS server.
    knows_dns: bool,
    /// Namespace of the DNS server, which is a station of each bridge itself.
    dns: Option<NetNs>,
}

impl Networks {
    /// The bridge and port of a station of this host, and whether it answers.
    pub(crate) async fn look_at(&self, segment: SegmentId, ip: IpAddr) -> (Finding, Finding) {
        let untried = Finding::default();
        let found = match self.find_station(segment, ip).await {
            Ok(found) => found,
            Err(why) => return (Finding::failed(why), untried),
        };
        if matches!(found.record.kind, Kind::Exposed { .. }) {
            let bridge = Finding::fine(format!("bridge {}", found.bridge));
            return (bridge, Finding::fine("it is that host itself"));
        }
        let (port, _) = linkname::veth_pair(&found.record.id);
        let bridge = match self.check_port(&found.bridge, &port).await {
            Ok(bridge) => bridge,
            Err(why) => return (Finding::failed(why), untried),
        };
        if let Err(why) = self.check_passage(&found.bridge).await {
            return (Finding::failed(why), untried);
        }
        let on = Finding::fine(format!("bridge {}, port {port}", found.bridge));
        let IpAddr::V4(ip) = ip else {
            return (on, untried);
        };
        (on, ask(self.host(), &bridge, &found, ip).await)
    }

    /// What becomes of frames on each bridge.
    pub(crate) async fn passages(&self) -> Vec<(String, weave_sys::Result<Passage>)> {
        let mut passages = Vec::new();
        for bridge in self.bridge_names().await {
            let (rules, name) = (self.rules.clone(), bridge.clone());
            let passage = plumbing::blocking(move || firewall::passage(&rules, &name)).await;
            passages.push((bridge, passage));
        }
        passages
    }

    /// Running containers whose DNS queries are to be led to us, and are not.
    pub(crate) async fn unredirected(&self) -> Vec<String> {
        if !self.parts.dns {
            return Vec::new();
        }
        let mut found = Vec::new();
        for (container, sandbox, dns) in self.redirected().await.into_iter().take(MOST_LOOKED_AT) {
            // one that is gone, or not there yet, is no concern of ours
            let Ok(netns) = NetNs::of_path(&sandbox) else {
                continue;
            };
            let upstreams = upstreams(&dns);
            let stands = plumbing::blocking(move || {
                firewall::is_dns_redirected(&netns, &upstreams, DNS_ADDRESS)
            });
            if stands.await.is_ok_and(|stands| !stands) {
                found.push(short(&container).to_owned());
            }
        }
        found
    }

    /// Subnets that containers of this host have addresses of.
    pub(crate) async fn subnets(&self) -> Vec<Cidr> {
        let state = self.state.lock().await;
        state.bridges.values().map(|bridge| bridge.subnet).collect()
    }

    async fn find_station(&self, segment: SegmentId, ip: IpAddr) -> Result<Found, String> {
        let state = self.state.lock().await;
        let Some(bridge) = state.bridges.get(&segment) else {
            return Err("it has no bridge for that network".to_owned());
        };
        let has = |record: &&EndpointRecord| {
            let mut held = record.addresses.iter();
            record.segment() == segment && held.any(|held| held.address.ip() == ip)
        };
        let Some(record) = state.endpoints.values().find(has) else {
            return Err(format!("it has no container with {ip}"));
        };
        let network = match &record.kind {
            Kind::Docker { network, .. } => state.networks.get(network),
            Kind::Attached { .. } | Kind::Exposed { .. } => None,
        };
        let dns = state.dns.as_ref().map(|dns| dns.netns().clone());
        Ok(Found {
            bridge: bridge.name.clone(),
            record: record.clone(),
            knows_dns: dns.is_some() && network.is_some_and(|network| network.dns),
            dns,
        })
    }

    async fn check_port(&self, bridge: &str, port: &str) -> Result<LinkInfo, String> {
        let links = self.netlink().links().await;
        let links = links.map_err(|error| error.to_string())?;
        let named = |name: &str| links.iter().find(|link| link.name == name);
        let Some(found) = named(bridge) else {
            return Err(format!("its bridge {bridge} is missing"));
        };
        if !found.up {
            return Err(format!("its bridge {bridge} is down"));
        }
        match named(port) {
            None => Err(format!(
                "the port {port} of that container is missing: is it running?"
            )),
            Some(port) if port.master != Some(found.index) => {
                Err(format!("the port {} is on no bridge of ours", port.name))
            }
            Some(port) if !port.up => Err(format!("the port {} is down", port.name)),
            Some(_) => Ok(found.clone()),
        }
    }

    async fn check_passage(&self, bridge: &str) -> Result<(), String> {
        let (rules, name) = (self.rules.clone(), bridge.to_owned());
        let passage = plumbing::blocking(move || firewall::passage(&rules, &name)).await;
        match passage {
            Ok(Passage::Open | Passage::Accepted(_)) => Ok(()),
            Ok(Passage::Closed) => Err(format!(
                "the firewall of that host drops what passes bridge {bridge}: FORWARD has policy \
                 DROP and no rule of weave works"
            )),
            Ok(Passage::Before(rule)) => Err(format!(
                "the firewall of that host drops what passes bridge {bridge}: `{rule}`"
            )),
            // no reason to doubt the rest
            Err(error) => {
                tracing::debug!(%error, "cannot look at the firewall");
                Ok(())
            }
        }
    }
}

async fn ask(host: &NetNs, bridge: &LinkInfo, found: &Found, ip: Ipv4Addr) -> Finding {
    let from = bridge.mac.unwrap_or_default();
    let mac: MacBytes = found.record.mac.0;
    let (netns, link) = (host.clone(), bridge.index);
    let arp =
        plumbing::blocking(move || probe::arp(&netns, (link, from), (mac, ip), PATIENCE)).await;
    let arp = match arp {
        Ok(Some(took)) => format!("answers ARP in {}", millis(took)),
        Ok(None) => {
            return Finding::failed(format!("{ip} does not answer ARP on that host"));
        }
        Err(error) => return Finding::failed(error.to_string()),
    };
    let Some(dns) = found.dns.clone() else {
        return Finding::fine(arp);
    };
    match plumbing::blocking(move || probe::echo(&dns, ip, PATIENCE)).await {
        Ok(Some(took)) => Finding::fine(format!("{arp}, and ping in {}", millis(took))),
        Ok(None) if found.knows_dns => Finding::failed(format!(
            "{arp}, but not ping: the firewall in the container, or another one of that host, \
             drops it"
        )),
        // without a way back it could not
        Ok(None) => Finding::fine(arp),
        Err(error) => Finding::failed(error.to_string()),
    }
}

/// `0.21 ms`.
pub(crate) fn millis(took: Duration) -> String {
    format!("{:.2} ms", took.as_secs_f64() * 1_000.0)
}
