//! IP addresses of links.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the kernel's attributes are an open set, of which we read a few"
)]

use std::net::IpAddr;

use futures_util::TryStreamExt;
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};

use super::{Netlink, failed, unless};
use crate::Result;

/// An address of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressInfo {
    /// Index of the link.
    pub link: u32,
    /// The address.
    pub ip: IpAddr,
    /// Length of its network's prefix.
    pub prefix_len: u8,
    /// Whether it is valid on its link only (`fe80::`).
    pub link_local: bool,
}

impl Netlink {
    /// All addresses in the namespace.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub async fn addresses(&self) -> Result<Vec<AddressInfo>> {
        let _one = self.listing.lock().await;
        let found: Vec<_> = self
            .handle
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(failed("list", "addresses"))?;
        Ok(found.iter().filter_map(AddressInfo::from_message).collect())
    }

    /// The addresses of link `name`.
    ///
    /// # Errors
    /// When the link is missing, or the kernel's refusal.
    pub async fn addresses_of(&self, name: &str) -> Result<Vec<AddressInfo>> {
        let index = self.link(name).await?.index;
        let mut all = self.addresses().await?;
        all.retain(|address| address.link == index);
        Ok(all)
    }

    /// Adds an address to link `name`; fine when it has it already. An IPv4 address brings the
    /// route to its network with it, once the link is up.
    ///
    /// # Errors
    /// When the link is missing, or the kernel's refusal.
    pub async fn add_address(&self, name: &str, ip: IpAddr, prefix_len: u8) -> Result<()> {
        let index = self.link(name).await?.index;
        let done = self
            .handle
            .address()
            .add(index, ip, prefix_len)
            .execute()
            .await;
        let what = failed("add address", format!("{ip}/{prefix_len} to {name}"));
        unless(libc::EEXIST, done.map_err(what))
    }

    /// Removes an address from link `name`; says whether it was there.
    ///
    /// # Errors
    /// When the link is missing, or the kernel's refusal.
    pub async fn remove_address(&self, name: &str, ip: IpAddr, prefix_len: u8) -> Result<bool> {
        let index = self.link(name).await?.index;
        let mut request = self.handle.address().add(index, ip, prefix_len);
        let message = request.message_mut().clone();
        let done = self.handle.address().del(message).execute().await;
        let what = failed("remove address", format!("{ip}/{prefix_len} from {name}"));
        match done.map_err(what) {
            Ok(()) => Ok(true),
            Err(error) if error.is_absent() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl AddressInfo {
    fn from_message(message: &AddressMessage) -> Option<Self> {
        // On point-to-point links the local address is our own, the other the far end's.
        let local = message
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                AddressAttribute::Local(ip) => Some(*ip),
                _ => None,
            });
        let plain = message
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                AddressAttribute::Address(ip) => Some(*ip),
                _ => None,
            });
        Some(Self {
            link: message.header.index,
            ip: local.or(plain)?,
            prefix_len: message.header.prefix_len,
            link_local: message.header.scope == AddressScope::Link,
        })
    }
}
