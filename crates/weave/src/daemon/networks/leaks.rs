//! What is left of networks and endpoints that nobody has any more: found, and freed.
//!
//! Decides nothing about who has what: [`reconcile`](crate::daemon::reconcile) does, which knows
//! what Docker has.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weave_node::ipam::{Allocated, NUMBER_OF_IPV6};
use weave_sys::NetNs;
use weave_sys::linkname::{self, DEFAULT_BRIDGE};
use weave_wire::number_of;

use super::{EndpointRecord, NetworkError, NetworkRecord, Networks, plumbing};

/// Kernel objects of ours that belong to nothing known.
#[derive(Debug, Default)]
pub(crate) struct Stray {
    /// Host and guest ends of endpoints.
    pub(crate) veths: BTreeSet<String>,
    /// Bridges of networks.
    pub(crate) bridges: BTreeSet<String>,
}

impl Networks {
    /// All Docker networks.
    pub(crate) async fn docker_networks(&self) -> Vec<NetworkRecord> {
        self.state.lock().await.networks.values().cloned().collect()
    }

    /// Brings an endpoint back that Docker has and we forgot; its veth may still be there. Its
    /// container runs with these addresses, so it is announced also where they cannot be ours.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub(crate) async fn adopt_endpoint(&self, record: EndpointRecord) -> Result<(), NetworkError> {
        self.save(vec![record.write()]).await?;
        self.restore_endpoint(record).await;
        Ok(())
    }

    /// Frees an endpoint with its veth and its addresses. Unknown ones are no error.
    ///
    /// # Errors
    /// When it cannot be stored or the kernel refuses.
    pub(crate) async fn free_endpoint(&self, id: &str) -> Result<(), NetworkError> {
        let Ok(record) = self.endpoint(id).await else {
            return Ok(());
        };
        self.remove_endpoint(id).await?;
        for address in &record.addresses {
            match address.address.ip() {
                IpAddr::V4(ip) => self.free_address(ip, |_| true),
                IpAddr::V6(ip) => self.free_address(number_of(ip.into()), is_number),
            }
        }
        Ok(())
    }

    /// Gives back the number that an IPv6 address ends in.
    pub(crate) fn release_number(&self, ip: Ipv6Addr) {
        let (range, number) = (self.range(), number_of(ip.into()));
        self.control().post(move |node, now| {
            // dockerd may be late, and the number an IPv4 address of somebody else by now
            let is_other = node
                .allocated()
                .any(|held| held.ip == number && !is_number(&held));
            if !is_other {
                node.release(range, number, now);
            }
        });
    }

    /// Gives an address back, whatever subnet it was asked for in, if that is meant.
    pub(crate) fn free_address(
        &self,
        ip: Ipv4Addr,
        is_meant: impl Fn(&Allocated) -> bool + Send + 'static,
    ) {
        self.control().post(move |node, now| {
            let meant = node
                .allocated()
                .filter(|held| held.ip == ip && is_meant(held));
            for held in meant.collect::<Vec<_>>() {
                node.release(held.subnet, ip, now);
            }
        });
    }

    /// Frees the endpoint that holds `ip` if its container is gone: dockerd, when it was killed or
    /// could not reach us, asks for the address again without having given it back.
    pub(crate) async fn free_dead_holder(&self, ip: IpAddr) {
        for record in self.endpoints().await {
            let holds = record.addresses.iter().any(|held| held.address.ip() == ip);
            if !holds || !self.is_dead(&record).await {
                continue;
            }
            tracing::info!(id = super::short(&record.id), %ip, "the former container of an address is gone");
            if let Err(error) = self.free_endpoint(&record.id).await {
                tracing::warn!(id = super::short(&record.id), %error, "cannot free an endpoint");
            }
        }
    }

    /// Whether a container had joined the endpoint and is gone: its namespace and the veth with it.
    pub(super) async fn is_dead(&self, record: &EndpointRecord) -> bool {
        let Some(sandbox) = record.sandbox() else {
            return false;
        };
        let (host, _) = linkname::veth_pair(&record.id);
        matches!(self.netlink.find_link(&host).await, Ok(None)) && NetNs::of_path(sandbox).is_err()
    }

    /// Veths and bridges of ours in the kernel that belong to no endpoint and no network.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(crate) async fn stray(&self) -> Result<Stray, NetworkError> {
        let state = self.state.lock().await;
        let known: BTreeSet<_> = state
            .endpoints
            .keys()
            .flat_map(|id| <[String; 2]>::from(linkname::veth_pair(id)))
            .collect();
        let bridges: BTreeSet<_> = state.bridges.values().map(|bridge| &bridge.name).collect();
        let mut stray = Stray::default();
        for link in self.netlink.links().await? {
            match link.kind.as_deref() {
                Some("veth") if is_endpoint_veth(&link.name) && !known.contains(&link.name) => {
                    stray.veths.insert(link.name);
                }
                Some("bridge")
                    if is_network_bridge(&link.name) && !bridges.contains(&link.name) =>
                {
                    stray.bridges.insert(link.name);
                }
                Some(_) | None => {}
            }
        }
        Ok(stray)
    }

    /// Removes a stray veth.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(crate) async fn free_veth(&self, name: &str) -> Result<(), NetworkError> {
        self.netlink.delete_link(name).await?;
        Ok(())
    }

    /// Removes a stray bridge with its TAP and its rules.
    ///
    /// # Errors
    /// The kernel's or iptables' refusal.
    pub(crate) async fn free_bridge(&self, name: &str) -> Result<(), NetworkError> {
        let state = self.state.lock().await;
        if state.bridges.values().any(|bridge| bridge.name == name) {
            return Ok(());
        }
        let (rules, bridge) = (self.rules.clone(), name.to_owned());
        plumbing::blocking(move || rules.remove(&bridge)).await?;
        let tap = plumbing::tap_of(name);
        weave_sys::bridge::remove_network(&self.netlink, name, &tap).await?;
        Ok(())
    }
}

/// Whether it was given out to end an IPv6 address.
fn is_number(held: &Allocated) -> bool {
    held.owner == NUMBER_OF_IPV6
}

fn is_endpoint_veth(name: &str) -> bool {
    [linkname::HOST_VETH_PREFIX, linkname::GUEST_VETH_PREFIX]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

/// `weave-` and a segment id. Never the default bridge: it is always there.
fn is_network_bridge(name: &str) -> bool {
    name.strip_prefix(DEFAULT_BRIDGE)
        .and_then(|rest| rest.strip_prefix('-'))
        .is_some_and(|id| id.len() == 8 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_interfaces_named_by_us_can_be_stray() {
        assert!(is_endpoint_veth("vethwl12140fcfa") && is_endpoint_veth("vethwg12140fcfa"));
        assert!(!is_endpoint_veth("veth1234567") && !is_endpoint_veth("vethwd01234567"));
        assert!(is_network_bridge("weave-0a210000"));
        for name in [
            "weave",
            "weave-",
            "weave-0a2100",
            "weave-0a21000g",
            "weaver-0a210000",
        ] {
            assert!(!is_network_bridge(name), "{name}");
        }
    }
}
