//! Fixed neighbours: IP to MAC of a link, and MAC to port of a bridge.

use std::net::IpAddr;

use netlink_packet_route::neighbour::{NeighbourFlags, NeighbourState};

use super::{Netlink, failed};
use crate::{MacBytes, Result};

impl Netlink {
    /// Fixes the hardware address of `ip` on link `name`.
    ///
    /// # Errors
    /// When the link is missing, or the kernel's refusal.
    pub async fn set_neighbour(&self, name: &str, ip: IpAddr, mac: MacBytes) -> Result<()> {
        let index = self.link(name).await?.index;
        let done = self
            .handle
            .neighbours()
            .add(index, ip)
            .link_layer_address(&mac)
            .state(NeighbourState::Permanent)
            .replace()
            .execute()
            .await;
        done.map_err(failed("set neighbour", format!("{ip} on {name}")))
    }

    /// Fixes the bridge port of `mac`: it neither ages out nor moves to a port that claims it.
    ///
    /// # Errors
    /// When `port` is missing or on no bridge, or the kernel's refusal.
    pub async fn pin_mac(&self, port: &str, mac: MacBytes) -> Result<()> {
        let index = self.link(port).await?.index;
        let done = self
            .handle
            .neighbours()
            .add_bridge(index, &mac)
            // NOARP is what the bridge calls static; with MASTER the entry is the bridge's.
            .state(NeighbourState::Noarp)
            .flags(NeighbourFlags::Controller)
            .replace()
            .execute()
            .await;
        done.map_err(failed("pin a MAC to bridge port", port))
    }
}
