//! The few firewall rules of ours, made by the host's own `iptables` and `nft`.
//!
//! The host's binary (run on the host's files) decides between nft and legacy, as Docker's own
//! rules do. Owned: one accept rule per weave bridge ([`BridgeRules`]), two chains and a jump to
//! each while subnets are exposed ([`Exposed`]), and in the namespace of a container two chains
//! that lead its DNS queries to us ([`redirect_dns`]); and one table that keeps containers from
//! speaking for others ([`Guard`]). Nothing else of the host is changed.
//!
//! All calls block for some milliseconds.

mod bridge;
mod chains;
mod dns;
mod expose;
mod guard;
mod iptables;
mod passage;
mod program;

pub use bridge::{BridgeRules, Place, Placed};
pub use dns::{first_redirect_dns, is_dns_redirected, redirect_dns, remove_dns_redirect};
pub use expose::Exposed;
pub use guard::{ClosedPorts, Guard, GuardedPort};
pub use passage::{Backends, Passage, backends, passage};
