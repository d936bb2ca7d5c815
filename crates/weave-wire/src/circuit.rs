//! A circuit through a relay as an address: peers behind a relay are dialled, seen and answered
//! like any other.
//!
//! The addresses are those of the discard-only prefix 100::/64 (RFC 6666), which no host has and
//! nothing is ever sent to: what would be sent to one of them is handed to the relay.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::PORT;

/// The prefix of the addresses, with zeroes behind it.
const PREFIX: u128 = 0x0100 << 112;

/// The end of a circuit, named by the slot under which its datagrams arrive here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Circuit {
    /// The slot.
    pub slot: u32,
}

impl Circuit {
    /// The address that stands for it on this host.
    pub const fn addr(self) -> SocketAddr {
        let ip = Ipv6Addr::from_bits(PREFIX | self.slot as u128);
        SocketAddr::new(IpAddr::V6(ip), PORT)
    }

    /// The circuit that an address stands for, unless it is a true one.
    pub fn of(addr: &SocketAddr) -> Option<Self> {
        let SocketAddr::V6(addr) = addr else {
            return None;
        };
        let slot = u32::try_from(addr.ip().to_bits() ^ PREFIX).ok()?;
        Some(Self { slot })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_stands_for_one_circuit_and_true_addresses_for_none() {
        for slot in [0, 1, 77, u32::MAX] {
            let circuit = Circuit { slot };
            assert_eq!(Circuit::of(&circuit.addr()), Some(circuit));
        }
        assert_eq!(Circuit { slot: 0x4d }.addr().to_string(), "[100::4d]:6783");
        for addr in [
            "10.0.0.1:6783",
            "[::1]:6783",
            "[fe80::4d]:6783",
            "[100::1:0:4d]:6783",
            "[100:0:0:1::4d]:6783",
        ] {
            assert_eq!(Circuit::of(&addr.parse().unwrap()), None, "{addr}");
        }
    }
}
