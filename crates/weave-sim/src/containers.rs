//! The containers of a host, and the networks that they are on.

use std::net::Ipv4Addr;

use weave_node::{EndpointSpec, Subnet};
use weave_wire::{Cidr, Mac, SegmentId};

use crate::frames::Station;

/// A container that runs.
#[derive(Debug, Clone)]
pub(crate) struct Container {
    /// Numbers all containers of a run.
    pub(crate) number: u64,
    pub(crate) subnet: Cidr,
    pub(crate) ip: Ipv4Addr,
}

impl Container {
    /// What its names and its endpoint are filed under.
    pub(crate) fn owner(&self) -> String {
        owner_of(self.number)
    }

    /// Its names: one of its own, and one that several share.
    pub(crate) fn names(&self) -> Vec<String> {
        let shared = format!("web{}.weave.local", self.number % 7);
        vec![format!("c{}.Weave.local", self.number), shared]
    }

    pub(crate) fn segment(&self) -> SegmentId {
        SegmentId::of_subnet(self.subnet)
    }

    pub(crate) fn station(&self) -> Station {
        let [.., a, b, c, d] = self.number.to_be_bytes();
        Station {
            mac: Mac([0x02, 0x77, a, b, c, d]),
            ip: self.ip,
        }
    }

    pub(crate) fn endpoint(&self) -> EndpointSpec {
        EndpointSpec {
            id: self.owner(),
            segment: self.segment(),
            mac: self.station().mac,
            ips: vec![self.ip.into()],
            container: self.owner(),
        }
    }
}

/// What the container with this number is called in requests.
pub(crate) fn owner_of(number: u64) -> String {
    format!("c{number}")
}

/// A network as a host has it.
pub(crate) fn network(subnet: Cidr) -> Subnet {
    Subnet {
        cidr: subnet,
        segment: SegmentId::of_subnet(subnet),
        strict: false,
        ipv6: None,
    }
}
