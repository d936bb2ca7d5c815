//! Subnets that the host itself takes part in: an endpoint for each, whose station is the bridge.
//!
//! Owned: the addresses on our bridges, the firewall's rules for them, and the names filed under
//! [`EXPOSED`]. What is stored is what shall be; the kernel is made to agree, again and again.
//! Who changes what is exposed holds [`Networks::exposing`] meanwhile.

use std::net::IpAddr;

use weave_sys::firewall::Exposed;
use weave_wire::{Cidr, InterfaceAddr, Mac, SegmentId};

use super::{EndpointRecord, Kind, NetworkError, Networks, State, plumbing};

/// What exposed subnets are shown as in the place of a container.
pub(crate) const EXPOSED: &str = "weave:expose";

/// What the kernel shall hold.
struct Wanted {
    addresses: Vec<(String, InterfaceAddr)>,
    rules: Vec<Exposed>,
}

impl Networks {
    /// The exposed subnets, one record each.
    pub(crate) async fn exposed(&self) -> Vec<EndpointRecord> {
        let mut records = self.endpoints().await;
        records.retain(|record| matches!(record.kind, Kind::Exposed { .. }));
        records
    }

    /// The hardware address of the bridge of a local network.
    pub(crate) fn bridge_mac(&self, subnet: Cidr) -> Mac {
        Mac(self.network_spec(subnet).mac)
    }

    /// Exposes a subnet, or changes how it is exposed: stored and announced before the host has
    /// the address.
    ///
    /// # Errors
    /// With the reason; [`hide`](Self::hide) takes back what was done.
    pub(crate) async fn expose(&self, record: EndpointRecord) -> Result<(), NetworkError> {
        self.add_endpoint(record).await?;
        self.apply_exposed().await?;
        self.name_exposed().await;
        Ok(())
    }

    /// Takes addresses of an exposed subnet off the host, and gives them back.
    ///
    /// # Errors
    /// When it cannot be stored, or the kernel refuses.
    pub(crate) async fn hide(
        &self,
        record: &EndpointRecord,
        gone: &[InterfaceAddr],
    ) -> Result<(), NetworkError> {
        // The record goes last: if we die in between, the address is put back, not leaked.
        self.take_off_bridge(record.segment(), gone).await?;
        let is_gone = |address: &InterfaceAddr| gone.contains(address);
        if record.addresses.iter().all(|held| is_gone(&held.address)) {
            self.remove_endpoint(&record.id).await?;
        } else {
            self.update_endpoint(&record.id, |record| {
                record.addresses.retain(|held| !is_gone(&held.address));
                if let Kind::Exposed { names, .. } = &mut record.kind {
                    names.retain(|(_, ip)| !gone.iter().any(|address| address.ip() == *ip));
                }
            })
            .await?;
        }
        self.apply_exposed().await?;
        self.name_exposed().await;
        let held = record.addresses.iter();
        let given_back = held.filter(|held| is_gone(&held.address));
        self.release(given_back.filter_map(super::Address::allocation));
        Ok(())
    }

    /// Hides what is exposed by a bridge that nothing else needs.
    pub(super) async fn hide_unused(&self, subnet: Cidr) -> Result<(), NetworkError> {
        if self.is_in_use(&*self.state.lock().await, subnet) {
            return Ok(());
        }
        let segment = SegmentId::of_subnet(subnet);
        for record in self.exposed().await {
            if record.segment() == segment {
                let all = record.addresses.iter().map(|held| held.address);
                self.hide(&record, &all.collect::<Vec<_>>()).await?;
            }
        }
        Ok(())
    }

    /// Puts back what somebody took off: addresses and rules. Nothing while it is being changed.
    pub(crate) async fn ensure_exposed(&self) {
        let Ok(_turn) = self.exposing.try_lock() else {
            return;
        };
        if self.exposed().await.is_empty() {
            return;
        }
        match self.apply_exposed().await {
            Ok(true) => tracing::info!("put exposed addresses or their rules back"),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "cannot keep subnets exposed"),
        }
    }

    /// After a start: all of it again, and nothing that is left of an identity that was deleted.
    pub(super) async fn restore_exposed(&self) {
        if let Err(error) = self.remove_strays().await {
            tracing::warn!(%error, "cannot look for forgotten addresses of the host");
        }
        if let Err(error) = self.apply_exposed().await {
            tracing::warn!(%error, "subnets are not exposed as before");
        }
        self.name_exposed().await;
    }

    /// Addresses of our range that no record knows would be given to a container as well.
    async fn remove_strays(&self) -> Result<(), NetworkError> {
        let wanted = wanted(&*self.state.lock().await).addresses;
        let bridges = self.bridge_names().await;
        for bridge in bridges {
            for found in self.netlink.addresses_of(&bridge).await? {
                let known = wanted
                    .iter()
                    .any(|(at, address)| *at == bridge && address.ip() == found.ip);
                if known || !self.parts.range.contains(found.ip) {
                    continue;
                }
                self.netlink
                    .remove_address(&bridge, found.ip, found.prefix_len)
                    .await?;
                tracing::info!(bridge, ip = %found.ip, "took an unknown address off the bridge");
            }
        }
        Ok(())
    }

    /// Makes the kernel hold what is exposed; whether that changed anything.
    async fn apply_exposed(&self) -> Result<bool, NetworkError> {
        let wanted = wanted(&*self.state.lock().await);
        let mut changed = false;
        for (bridge, address) in &wanted.addresses {
            let (ip, prefix_len) = (address.ip(), address.prefix_len());
            let present = self.netlink.addresses_of(bridge).await?;
            if !present
                .iter()
                .any(|found| (found.ip, found.prefix_len) == (ip, prefix_len))
            {
                self.netlink.add_address(bridge, ip, prefix_len).await?;
                changed = true;
            }
        }
        let rules = self.rules.clone();
        let ruled = plumbing::blocking(move || rules.ensure_exposed(&wanted.rules)).await?;
        Ok(changed || ruled)
    }

    async fn take_off_bridge(
        &self,
        segment: SegmentId,
        gone: &[InterfaceAddr],
    ) -> Result<(), NetworkError> {
        let state = self.state.lock().await;
        let Some(bridge) = state.bridges.get(&segment) else {
            return Ok(());
        };
        for address in gone {
            let removed = self
                .netlink
                .remove_address(&bridge.name, address.ip(), address.prefix_len())
                .await;
            match removed {
                Err(error) if !error.is_absent() => return Err(error.into()),
                Ok(_) | Err(_) => {}
            }
        }
        Ok(())
    }

    async fn name_exposed(&self) {
        let records = self.exposed().await;
        let named = records.into_iter().flat_map(|record| match record.kind {
            Kind::Exposed { names, .. } => names,
            Kind::Docker { .. } | Kind::Attached { .. } => Vec::new(),
        });
        let named: Vec<_> = named.collect();
        self.parts
            .control
            .post(move |node, now| node.set_names(EXPOSED, &named, now));
    }
}

/// Exposed subnets whose bridge is missing are left out, until it is there.
fn wanted(state: &State) -> Wanted {
    let mut wanted = Wanted {
        addresses: Vec::new(),
        rules: Vec::new(),
    };
    for record in state.endpoints.values() {
        let Kind::Exposed { masquerade, .. } = record.kind else {
            continue;
        };
        let Some(bridge) = state.bridges.get(&record.segment()) else {
            continue;
        };
        let addresses = record.addresses.iter().map(|held| held.address);
        wanted
            .addresses
            .extend(addresses.map(|address| (bridge.name.clone(), address)));
        let subnet = record.addresses.first().map(|held| held.address.network());
        if let Some(subnet) = subnet
            && let IpAddr::V4(network) = subnet.network()
        {
            wanted.rules.push(Exposed {
                bridge: bridge.name.clone(),
                network,
                prefix_len: subnet.prefix_len(),
                masquerade,
            });
        }
    }
    wanted
}
