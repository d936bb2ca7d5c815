//! The host as a router between exposed subnets and the rest of the world.
//!
//! Two chains of ours, both called [`CHAIN`]: one in `filter`, reached from where the accept
//! rules of the bridges stand, and one in `nat`. IPv4 only: bridges of ours have no IPv6.
//!
//! From one network of ours to another nothing is forwarded: they stay apart, however many of them
//! the host takes part in.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::bridge::BridgeRules;
use super::chains::{self, OwnChain};
use super::iptables::Family;
use crate::Result;
use crate::linkname::{self, DEFAULT_BRIDGE};

/// Name of both chains.
pub(super) const CHAIN: &str = "WEAVE-EXPOSE";

/// A subnet that the host has an address of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposed {
    /// The bridge that carries it.
    pub bridge: String,
    /// First address of the subnet.
    pub network: Ipv4Addr,
    /// Length of its prefix.
    pub prefix_len: u8,
    /// Hide each side from the other behind the host's own addresses.
    pub masquerade: bool,
}

impl BridgeRules {
    /// Makes the host forward between these subnets and everything else, and no others; with none
    /// at all, nothing of it stays. Says whether anything was changed.
    ///
    /// # Errors
    /// As [`ensure`](Self::ensure).
    pub fn ensure_exposed(&self, exposed: &[Exposed]) -> Result<bool> {
        for one in exposed {
            linkname::validate(&one.bridge)?;
        }
        let forward = [OwnChain {
            name: CHAIN,
            from: None,
            rules: isolated(exposed)
                .chain(exposed.iter().flat_map(Exposed::accepts))
                .collect(),
        }];
        let translate = [OwnChain {
            name: CHAIN,
            from: Some("POSTROUTING"),
            rules: exposed
                .iter()
                .filter(|one| one.masquerade)
                .flat_map(Exposed::masquerades)
                .collect(),
        }];
        let translated = match &translate {
            [chain] if chain.rules.is_empty() => chains::remove(self.netns(), "nat", &translate)?,
            chains => chains::ensure(self.netns(), "nat", chains)?,
        };
        let jump = format!("-j {CHAIN}");
        let forwarded = if exposed.is_empty() {
            let jumped = self.remove_family(Family::V4, &jump)?;
            chains::remove(self.netns(), "filter", &forward)? || jumped
        } else {
            let filled = chains::ensure(self.netns(), "filter", &forward)?;
            self.ensure_needed(Family::V4, &jump)?.1 || filled
        };
        Ok(translated || forwarded)
    }
}

/// Between an exposed bridge and any other one of ours nothing passes. Frames from port to port of
/// one are none of that, and go on to its accept rule.
fn isolated(exposed: &[Exposed]) -> impl Iterator<Item = String> {
    let bridges: BTreeSet<_> = exposed.iter().map(|one| &one.bridge).collect();
    bridges.into_iter().flat_map(|bridge| {
        [
            format!("-i {bridge} -o {bridge} -j RETURN"),
            format!("-i {bridge} -o {DEFAULT_BRIDGE}+ -j DROP"),
            format!("-i {DEFAULT_BRIDGE}+ -o {bridge} -j DROP"),
        ]
    })
}

impl Exposed {
    fn subnet(&self) -> String {
        format!("{}/{}", self.network, self.prefix_len)
    }

    fn accepts(&self) -> [String; 2] {
        let (subnet, bridge) = (self.subnet(), &self.bridge);
        [
            format!("-s {subnet} -i {bridge} -j ACCEPT"),
            format!("-d {subnet} -o {bridge} -j ACCEPT"),
        ]
    }

    /// What leaves the bridge to elsewhere, and what comes to it from elsewhere. Frames from port
    /// to port also pass here (`br_netfilter`) and stay as they are: they may come from another
    /// host that exposes the subnet without masquerading.
    fn masquerades(&self) -> [String; 2] {
        let (subnet, bridge) = (self.subnet(), &self.bridge);
        [
            format!("-s {subnet} ! -d {subnet} ! -o {bridge} -j MASQUERADE"),
            format!(
                "! -s {subnet} -d {subnet} -o {bridge} -m physdev ! --physdev-is-bridged \
                 -j MASQUERADE"
            ),
        ]
    }
}
