//! Everything that talks to the Linux kernel.
//!
//! Owns: TAP devices, the underlay UDP socket, the poller of the data threads, netlink, network
//! namespaces, the bridge and veth plumbing, kernel settings, the few firewall rules of ours, the
//! namespace that the DNS server listens in, and the terminal. Does not own: any decision. Names,
//! addresses, MACs and the moment of every call come from the caller.
//!
//! Invariants: this is the only crate with `unsafe`; nothing here shells out except to the host's
//! own `iptables` and `nft`; every `ensure_*` may be called again and then changes nothing; every error
//! names the operation, the object and, where one is known, what to do ([`Error::hint`]).

#![allow(
    unsafe_code,
    reason = "system calls that no safe wrapper in our tree covers"
)]

pub mod bridge;
pub mod dnsns;
mod error;
pub mod firewall;
pub mod host;
pub mod linkname;
pub mod netlink;
pub mod netns;
pub mod poll;
pub mod preflight;
pub mod probe;
pub mod sysctl;
pub mod tap;
pub mod terminal;
pub mod udp;
pub mod usage;
pub mod veth;

pub use error::{Error, Result};
pub use netlink::Netlink;
pub use netns::NetNs;
pub use tap::Tap;

/// A hardware address as the kernel takes it.
pub type MacBytes = [u8; 6];
