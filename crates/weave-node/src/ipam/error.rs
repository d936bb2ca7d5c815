//! Why an address was not given.

use std::net::Ipv4Addr;

use weave_wire::Cidr;

/// Why an address was refused. Nothing has changed then: no address is held for the asker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IpamError {
    /// This router hands out no addresses.
    #[error(
        "address allocation is switched off (`--ipalloc-range` is empty): name the address yourself"
    )]
    Disabled,
    /// The subnet is no part of the range.
    #[error(
        "subnet {subnet} is not within the range {range}: choose one inside, or launch with another `--ipalloc-range`"
    )]
    OutOfRange {
        /// The subnet asked for.
        subnet: Cidr,
        /// The range that addresses come from.
        range: Cidr,
    },
    /// The subnet has no room for hosts.
    #[error("subnet {subnet} is too small: the smallest that has addresses for hosts is a /30")]
    TooSmall {
        /// The subnet asked for.
        subnet: Cidr,
    },
    /// This address is never given to a host.
    #[error("address {ip} cannot be used: {why}")]
    NotUsable {
        /// The address asked for.
        ip: Ipv4Addr,
        /// What it is instead.
        why: String,
    },
    /// Somebody has this address.
    #[error("address {ip} is in use by {holder}")]
    Taken {
        /// The address asked for.
        ip: Ipv4Addr,
        /// Who has it: a container, and the host when it is another.
        holder: String,
    },
    /// The peer that owns the address space cannot be asked.
    #[error(
        "{what} belongs to peer {owner}, which cannot be reached: try again once `weave status connections` shows it"
    )]
    OwnerUnreachable {
        /// The address or subnet asked for.
        what: String,
        /// The owner, or owners.
        owner: String,
    },
    /// The peer that owns the address space is connected but did not answer.
    #[error("peer {owner} owns {what} and did not answer in time: try again")]
    NoAnswer {
        /// The address or subnet asked for.
        what: String,
        /// The owner, or owners.
        owner: String,
    },
    /// Every address of the subnet is in use.
    #[error("no free address left in subnet {subnet}: remove containers or use a larger subnet")]
    Full {
        /// The subnet asked for.
        subnet: Cidr,
    },
    /// No range has been founded that this router knows of.
    #[error("the address range is not ready: {why}")]
    NotReady {
        /// What is awaited, or in the way.
        why: String,
    },
    /// The decision could not be written down.
    #[error("the decision could not be stored: {why}")]
    Storage {
        /// What the disk said.
        why: String,
    },
    /// Too many requests wait already.
    #[error("too many address requests are waiting: try again in a few seconds")]
    TooMany,
}
