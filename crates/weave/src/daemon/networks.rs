//! The networks of this host: bridges, TAPs, veths, rules, and what hangs on them.
//!
//! Owns everything that the kernel keeps for us and the records that bring it
//! back after a restart. The default network has no Docker network of its own:
//! a Docker network with its subnet shares its bridge.
//!
//! Invariant: a network or endpoint is stored before it is acknowledged, and
//! announced to the mesh before its first frame.

mod endpoint;
mod exposed;
mod guard;
mod keep;
mod leaks;
mod look;
mod plumbing;
mod records;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::Mutex;
use weave_node::Subnet;
use weave_sys::bridge::NetworkSpec;
use weave_sys::dnsns::DnsNamespace;
use weave_sys::firewall::BridgeRules;
use weave_sys::{NetNs, Netlink, Tap};
use weave_wire::{Cidr, Mac, PeerId, SegmentId};

use super::control::Control;
use super::data::{DataPath, Taps};
use super::store::{Contents, Store};

pub(crate) use exposed::EXPOSED;
pub(crate) use guard::Defaults;
use guard::Warden;
pub(crate) use look::millis;
pub(crate) use records::{Address, EndpointRecord, Kind, NetworkRecord};

/// Why a network or endpoint cannot be had, in words for people.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum NetworkError {
    /// What was asked for clashes with what there is, or does not exist.
    #[error("{0}")]
    Refused(String),
    /// The kernel refused.
    #[error(transparent)]
    System(#[from] weave_sys::Error),
    /// It could not be stored, so it was not done.
    #[error("cannot store it: {0}")]
    Store(String),
    /// The router is going down.
    #[error(transparent)]
    Stopped(#[from] super::control::Stopped),
}

/// What the networks need of the rest of the daemon.
pub(crate) struct Parts {
    pub(crate) me: PeerId,
    pub(crate) control: Control,
    pub(crate) store: Store,
    pub(crate) data: DataPath,
    pub(crate) range: Cidr,
    pub(crate) default_subnet: Cidr,
    /// Whether containers are given the DNS server.
    pub(crate) dns: bool,
    /// Whether the kernel is left to cut, join and sum.
    pub(crate) offloads: bool,
    /// What networks are like that say nothing else.
    pub(crate) defaults: Defaults,
    /// UDP port of the mesh.
    pub(crate) port: u16,
    /// Where the state can be read by HTTP, if anywhere.
    pub(crate) status_addr: Option<SocketAddr>,
}

/// The networks of this host.
pub(crate) struct Networks {
    parts: Parts,
    host: NetNs,
    netlink: Netlink,
    rules: BridgeRules,
    warden: Warden,
    /// Held while it is changed what is exposed; taken before `state`.
    exposing: Mutex<()>,
    state: Mutex<State>,
}

impl std::fmt::Debug for Networks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Networks")
            .field("default", &self.parts.default_subnet)
            .finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    bridges: BTreeMap<SegmentId, Bridge>,
    /// By Docker's network id.
    networks: BTreeMap<String, NetworkRecord>,
    /// By endpoint id.
    endpoints: BTreeMap<String, EndpointRecord>,
    dns: Option<DnsNamespace>,
}

impl State {
    /// The Docker networks on a bridge.
    fn networks_of(&self, segment: SegmentId) -> impl Iterator<Item = &NetworkRecord> {
        let networks = self.networks.values();
        networks.filter(move |network| SegmentId::of_subnet(network.subnet) == segment)
    }
}

struct Bridge {
    name: String,
    tap_name: String,
    tap: Arc<Tap>,
    subnet: Cidr,
    /// What the mesh was told of it, if it was.
    told: Option<Subnet>,
}

impl Networks {
    /// Brings back every stored network and endpoint, and the default network.
    ///
    /// # Errors
    /// When the default network cannot be made; others that fail are left out with a warning.
    pub(crate) async fn restore(parts: Parts, contents: &Contents) -> anyhow::Result<Self> {
        let host = NetNs::current()?;
        let netlink = Netlink::here()?;
        let rules = BridgeRules::new(&host);
        let warden = Warden::new(&host, parts.port, parts.status_addr);
        let endpoints = records::endpoints(contents);
        let networks = Self {
            parts,
            host,
            netlink,
            rules,
            warden,
            exposing: Mutex::default(),
            state: Mutex::default(),
        };
        {
            let mut state = networks.state.lock().await;
            let stored = records::networks(contents).into_iter();
            state.networks = stored.map(|record| (record.id.clone(), record)).collect();
            if networks.parts.dns {
                state.dns = Some(DnsNamespace::create(&networks.host).await?);
            }
            networks
                .ensure_bridge(&mut state, networks.parts.default_subnet)
                .await
                .context("cannot make the bridge `weave`")?;
            networks.refuse_damaged(contents).await?;
            let subnets: Vec<_> = state.networks.values().map(|one| one.subnet).collect();
            for subnet in subnets {
                if let Err(error) = networks.ensure_bridge(&mut state, subnet).await {
                    tracing::warn!(%subnet, %error, "network not brought back");
                }
            }
        }
        networks.start_guard(&endpoints).await;
        for record in endpoints {
            networks.restore_endpoint(record).await;
        }
        networks.restore_exposed().await;
        Ok(networks)
    }

    /// With a stored record that cannot be read nobody knows which address it was about: none is
    /// given out any more, and everything else goes on.
    async fn refuse_damaged(&self, contents: &Contents) -> Result<(), super::control::Stopped> {
        let Some(damaged) = records::damaged(contents) else {
            return Ok(());
        };
        let why = format!(
            "{} is damaged: {damaged}: put back a copy of it, or run `weave reset`",
            self.parts.store.path().display()
        );
        tracing::error!(why, "no address is given out");
        let control = &self.parts.control;
        control
            .call(move |node, now| node.refuse_addresses(&why, now))
            .await
    }

    /// Namespace of the DNS server, if containers are given one.
    pub(crate) async fn dns_namespace(&self) -> Option<NetNs> {
        self.state
            .lock()
            .await
            .dns
            .as_ref()
            .map(|dns| dns.netns().clone())
    }

    /// The host's own network namespace.
    pub(crate) fn host(&self) -> &NetNs {
        &self.host
    }

    /// Namespace-aware netlink of the host.
    pub(crate) fn netlink(&self) -> &Netlink {
        &self.netlink
    }

    /// The control loop.
    pub(crate) fn control(&self) -> &Control {
        &self.parts.control
    }

    /// The durable store.
    pub(crate) fn store(&self) -> &Store {
        &self.parts.store
    }

    /// The forwarding threads and what they share.
    pub(crate) fn data(&self) -> &DataPath {
        &self.parts.data
    }

    /// Subnet of those who ask for no other.
    pub(crate) fn default_subnet(&self) -> Cidr {
        self.parts.default_subnet
    }

    /// Range that addresses are allocated from.
    pub(crate) fn range(&self) -> Cidr {
        self.parts.range
    }

    /// For whoever changes what is exposed.
    pub(crate) fn exposing(&self) -> &Mutex<()> {
        &self.exposing
    }

    /// Checks that a Docker network could have this subnet.
    ///
    /// # Errors
    /// With the reason and what to do.
    pub(crate) async fn check_subnet(&self, subnet: Cidr) -> Result<(), NetworkError> {
        check_usable(subnet, self.parts.range)?;
        let state = self.state.lock().await;
        if let Some(other) = state
            .networks
            .values()
            .find(|network| network.subnet == subnet)
        {
            return Err(NetworkError::Refused(format!(
                "subnet {subnet} is already in use by network {} on this host; use that network, \
                 or another subnet",
                short(&other.id)
            )));
        }
        let segment = SegmentId::of_subnet(subnet);
        match state.bridges.get(&segment) {
            Some(bridge) if bridge.subnet != subnet => Err(NetworkError::Refused(format!(
                "subnets {subnet} and {} have the same segment id by chance; choose another subnet",
                bridge.subnet
            ))),
            Some(_) | None => Ok(()),
        }
    }

    /// Checks that a Docker network could have this IPv6 subnet beside its IPv4 one.
    ///
    /// # Errors
    /// With the reason and what to do.
    pub(crate) async fn check_ipv6_subnet(&self, subnet: Cidr) -> Result<(), NetworkError> {
        check_usable_ipv6(subnet)?;
        let state = self.state.lock().await;
        let overlaps = |network: &&NetworkRecord| {
            let other = network.ipv6;
            other.is_some_and(|other| other.overlaps(&subnet))
        };
        match state.networks.values().find(overlaps) {
            Some(other) => Err(NetworkError::Refused(format!(
                "IPv6 subnet {subnet} is already in use by network {} on this host; give another \
                 one with --subnet",
                short(&other.id)
            ))),
            None => Ok(()),
        }
    }

    /// Makes a Docker network.
    ///
    /// # Errors
    /// With the reason; nothing is left behind.
    pub(crate) async fn create_network(&self, record: NetworkRecord) -> Result<(), NetworkError> {
        self.check_subnet(record.subnet).await?;
        if let Some(ipv6) = record.ipv6 {
            self.check_ipv6_subnet(ipv6).await?;
        }
        self.save(vec![record.write()]).await?;
        let mut state = self.state.lock().await;
        state.networks.insert(record.id.clone(), record.clone());
        let made = match self.ensure_bridge(&mut state, record.subnet).await {
            Ok(()) => self.apply_options(&mut state, record.subnet).await,
            Err(error) => Err(error),
        };
        if let Err(error) = made {
            state.networks.remove(&record.id);
            drop(state);
            self.save(vec![record.removal()]).await?;
            return Err(error);
        }
        drop(state);
        self.protect_segment(SegmentId::of_subnet(record.subnet))
            .await;
        Ok(())
    }

    /// Removes a Docker network, and its bridge if nothing else is on it. Unknown ones are no error.
    ///
    /// # Errors
    /// When it cannot be stored or the kernel refuses.
    pub(crate) async fn delete_network(&self, id: &str) -> Result<(), NetworkError> {
        let _turn = self.exposing.lock().await;
        let removed = self.state.lock().await.networks.remove(id);
        let Some(record) = removed else {
            return Ok(());
        };
        self.save(vec![record.removal()]).await?;
        self.hide_unused(record.subnet).await?;
        let mut state = self.state.lock().await;
        self.drop_unused_bridge(&mut state, record.subnet).await?;
        self.apply_options(&mut state, record.subnet).await?;
        drop(state);
        self.protect_segment(SegmentId::of_subnet(record.subnet))
            .await;
        Ok(())
    }

    /// A Docker network.
    ///
    /// # Errors
    /// When this router never saw it.
    pub(crate) async fn network(&self, id: &str) -> Result<NetworkRecord, NetworkError> {
        self.state
            .lock()
            .await
            .networks
            .get(id)
            .cloned()
            .ok_or_else(|| {
                NetworkError::Refused(format!(
                    "network {} is not known to this router, whose state was lost; remove it with \
                 `docker network rm` and make it again",
                    short(id)
                ))
            })
    }

    /// All local endpoints.
    pub(crate) async fn endpoints(&self) -> Vec<EndpointRecord> {
        self.state
            .lock()
            .await
            .endpoints
            .values()
            .cloned()
            .collect()
    }

    /// Whether this host has a bridge for just this subnet.
    pub(crate) async fn has_bridge(&self, subnet: Cidr) -> bool {
        let segment = SegmentId::of_subnet(subnet);
        self.state.lock().await.bridges.contains_key(&segment)
    }

    /// The subnet of the local network that an address is on: just this one, else the default.
    pub(crate) async fn network_for(&self, subnet: Cidr) -> Cidr {
        if self.has_bridge(subnet).await {
            subnet
        } else {
            self.parts.default_subnet
        }
    }

    async fn bridge_names(&self) -> Vec<String> {
        let state = self.state.lock().await;
        let names = state.bridges.values().map(|bridge| bridge.name.clone());
        names.collect()
    }

    /// Whether anybody needs the bridge of a subnet; what is exposed by it does not count.
    fn is_in_use(&self, state: &State, subnet: Cidr) -> bool {
        let segment = SegmentId::of_subnet(subnet);
        subnet == self.parts.default_subnet
            || state
                .networks
                .values()
                .any(|network| network.subnet == subnet)
            || state.endpoints.values().any(|endpoint| {
                endpoint.segment() == segment && !matches!(endpoint.kind, Kind::Exposed { .. })
            })
    }

    async fn ensure_bridge(&self, state: &mut State, subnet: Cidr) -> Result<(), NetworkError> {
        let segment = SegmentId::of_subnet(subnet);
        if state.bridges.contains_key(&segment) {
            return Ok(());
        }
        let spec = self.network_spec(subnet);
        let tap = weave_sys::bridge::ensure_network(&self.netlink, &spec).await?;
        self.ensure_rules(&spec.bridge).await?;
        if let Some(dns) = &mut state.dns
            && let IpAddr::V4(network) = subnet.first()
        {
            dns.add_bridge(&spec.bridge, &[(network, subnet.prefix_len())])
                .await?;
        }
        let bridge = Bridge {
            name: spec.bridge,
            tap_name: spec.tap,
            tap: Arc::new(tap),
            subnet,
            told: None,
        };
        state.bridges.insert(segment, bridge);
        self.publish_taps(state);
        self.apply_options(state, subnet).await
    }

    async fn drop_unused_bridge(
        &self,
        state: &mut State,
        subnet: Cidr,
    ) -> Result<(), NetworkError> {
        if self.is_in_use(state, subnet) {
            return Ok(());
        }
        let segment = SegmentId::of_subnet(subnet);
        let Some(bridge) = state.bridges.remove(&segment) else {
            return Ok(());
        };
        self.publish_taps(state);
        self.parts
            .control
            .call(move |node, now| node.remove_subnet(subnet, now))
            .await?;
        if let Some(dns) = &mut state.dns {
            dns.remove_bridge(&bridge.name).await?;
        }
        let (rules, name) = (self.rules.clone(), bridge.name.clone());
        plumbing::blocking(move || rules.remove(&name)).await?;
        drop(bridge.tap);
        weave_sys::bridge::remove_network(&self.netlink, &bridge.name, &bridge.tap_name).await?;
        Ok(())
    }

    /// Says whether a rule had to be changed.
    async fn ensure_rules(&self, bridge: &str) -> Result<bool, weave_sys::Error> {
        let (rules, bridge) = (self.rules.clone(), bridge.to_owned());
        plumbing::blocking(move || rules.ensure(&bridge))
            .await
            .map(|placed| placed.changed)
    }

    fn network_spec(&self, subnet: Cidr) -> NetworkSpec {
        let parts = &self.parts;
        plumbing::network_spec(subnet, parts.default_subnet, parts.offloads, &parts.me)
    }

    fn publish_taps(&self, state: &State) {
        let taps: Taps = state
            .bridges
            .iter()
            .map(|(segment, bridge)| (*segment, Arc::clone(&bridge.tap)))
            .collect();
        self.parts.data.set_taps(taps);
    }

    async fn save(&self, writes: super::store::Writes) -> Result<(), NetworkError> {
        self.parts
            .store
            .write(writes)
            .await
            .map_err(NetworkError::Store)
    }
}

/// The address that is given as gateway: the last one that hosts could have, the same everywhere.
pub(crate) fn gateway_of(subnet: Cidr) -> Option<Ipv4Addr> {
    match subnet.last() {
        IpAddr::V4(last) => Some(Ipv4Addr::from_bits(last.to_bits().checked_sub(1)?)),
        IpAddr::V6(_) => None,
    }
}

/// An Ethernet address that goes with an address, so that whoever has one has the other.
pub(crate) fn mac_for(ip: Ipv4Addr) -> Mac {
    let [a, b, c, d] = ip.octets();
    Mac([0x02, 0x77, a, b, c, d])
}

fn check_usable(subnet: Cidr, range: Cidr) -> Result<(), NetworkError> {
    if !subnet.first().is_ipv4() {
        return Err(NetworkError::Refused(format!(
            "subnet {subnet} is IPv6, which this version does not serve; give an IPv4 --subnet"
        )));
    }
    if !range.covers(&subnet) {
        return Err(NetworkError::Refused(format!(
            "subnet {subnet} is outside the range {range} of this mesh; give a --subnet within \
             it, or launch every host with another --ipalloc-range"
        )));
    }
    if subnet.prefix_len() > 30 {
        return Err(NetworkError::Refused(format!(
            "subnet {subnet} has no room for containers; a /30 is the smallest"
        )));
    }
    Ok(())
}

fn check_usable_ipv6(subnet: Cidr) -> Result<(), NetworkError> {
    let IpAddr::V6(network) = subnet.first() else {
        return Err(NetworkError::Refused(format!(
            "subnet {subnet} is not IPv6; give one such as --subnet fd00:5::/64"
        )));
    };
    if subnet.prefix_len() > 96 {
        return Err(NetworkError::Refused(format!(
            "IPv6 subnet {subnet} has no room for the numbers that addresses end in; a /96 is the \
             smallest, a /64 is usual"
        )));
    }
    let [first, ..] = network.octets();
    let is_unique_local = first & 0xfe == 0xfc && subnet.prefix_len() >= 7;
    let is_global = first & 0xe0 == 0x20 && subnet.prefix_len() >= 3;
    if is_unique_local || is_global {
        return Ok(());
    }
    Err(NetworkError::Refused(format!(
        "IPv6 subnet {subnet} is neither unique local nor global; give one such as --subnet \
         fd00:5::/64"
    )))
}

/// The first characters of an id, as Docker shows it.
pub(crate) fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_is_the_last_usable_address() {
        assert_eq!(
            gateway_of("10.32.0.0/12".parse().unwrap()),
            "10.47.255.254".parse().ok()
        );
        assert_eq!(
            gateway_of("10.33.0.0/30".parse().unwrap()),
            "10.33.0.2".parse().ok()
        );
    }

    #[test]
    fn a_subnet_must_lie_in_the_range_and_have_room() {
        let range = "10.32.0.0/12".parse().unwrap();
        for (subnet, text) in [
            ("172.30.0.0/24", "10.32.0.0/12"),
            ("10.33.0.0/31", "/30"),
            ("fd00::/64", "IPv6"),
        ] {
            let error = check_usable(subnet.parse().unwrap(), range).unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
        }
        assert!(check_usable("10.33.0.0/24".parse().unwrap(), range).is_ok());
    }

    #[test]
    fn an_ipv6_subnet_is_unicast_and_has_room_for_numbers() {
        for (subnet, text) in [
            ("10.33.0.0/24", "is not IPv6; give"),
            ("fd00:5::/97", "no room for the numbers"),
            ("fe80::/64", "neither unique local nor global"),
            ("ff05::/64", "neither unique local nor global"),
            ("::/64", "neither unique local nor global"),
            ("::/0", "neither unique local nor global"),
            ("8000::/1", "neither unique local nor global"),
        ] {
            let error = check_usable_ipv6(subnet.parse().unwrap()).unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
        }
        for subnet in ["fd00:5::/64", "fd00:5::/96", "fd00::/8", "2001:db8:1::/48"] {
            assert!(
                check_usable_ipv6(subnet.parse().unwrap()).is_ok(),
                "{subnet}"
            );
        }
    }
}
