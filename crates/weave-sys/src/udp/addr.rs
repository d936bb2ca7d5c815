//! Socket addresses to and from the kernel's form, with IPv4 kept plain.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use super::Family;

/// A socket address in the kernel's form, for either family.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) union RawAddr {
    family: libc::sa_family_t,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl RawAddr {
    pub(super) const LEN: libc::socklen_t = len_of::<Self>();

    /// All zeroes: family AF_UNSPEC, no address.
    pub(super) const fn zeroed() -> Self {
        // SAFETY: all parts are plain integers, for which zeroes are valid.
        unsafe { std::mem::zeroed() }
    }

    /// The kernel's form of `addr` for a socket of `family`, and its length. An IPv6 address on
    /// an IPv4 socket keeps its form: the kernel refuses it, and the refusal is counted.
    pub(super) fn new(addr: SocketAddr, family: Family) -> (Self, libc::socklen_t) {
        match (addr, family) {
            (SocketAddr::V4(v4), Family::V4Only) => {
                let v4 = libc::sockaddr_in {
                    sin_family: family_of(libc::AF_INET),
                    sin_port: v4.port().to_be(),
                    sin_addr: libc::in_addr {
                        s_addr: u32::from_ne_bytes(v4.ip().octets()),
                    },
                    sin_zero: [0; 8],
                };
                (Self { v4 }, len_of::<libc::sockaddr_in>())
            }
            (SocketAddr::V4(v4), Family::DualStack) => {
                let mapped = v4.ip().to_ipv6_mapped();
                Self::v6(&SocketAddrV6::new(mapped, v4.port(), 0, 0))
            }
            (SocketAddr::V6(v6), Family::DualStack | Family::V4Only) => Self::v6(&v6),
        }
    }

    fn v6(addr: &SocketAddrV6) -> (Self, libc::socklen_t) {
        let v6 = libc::sockaddr_in6 {
            sin6_family: family_of(libc::AF_INET6),
            sin6_port: addr.port().to_be(),
            sin6_flowinfo: 0,
            sin6_addr: libc::in6_addr {
                s6_addr: addr.ip().octets(),
            },
            sin6_scope_id: addr.scope_id(),
        };
        (Self { v6 }, len_of::<libc::sockaddr_in6>())
    }

    /// The address; `None` for a family that is neither IPv4 nor IPv6.
    pub(super) fn to_socket_addr(self) -> Option<SocketAddr> {
        // SAFETY: the family field is at the same place in every part and always initialised;
        // it says which part the kernel (or new) wrote.
        unsafe {
            match libc::c_int::from(self.family) {
                libc::AF_INET => {
                    let ip = Ipv4Addr::from(self.v4.sin_addr.s_addr.to_ne_bytes());
                    Some(SocketAddr::new(ip.into(), u16::from_be(self.v4.sin_port)))
                }
                libc::AF_INET6 => Some(plain(&self.v6)),
                _ => None,
            }
        }
    }
}

fn plain(v6: &libc::sockaddr_in6) -> SocketAddr {
    let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
    let port = u16::from_be(v6.sin6_port);
    match ip.to_ipv4_mapped() {
        Some(v4) => SocketAddr::new(IpAddr::V4(v4), port),
        None => SocketAddr::V6(SocketAddrV6::new(ip, port, 0, v6.sin6_scope_id)),
    }
}

/// Size of a value, as the socket calls want it.
#[expect(
    clippy::cast_possible_truncation,
    reason = "only asked of types of a few bytes"
)]
pub(super) const fn len_of<T>() -> libc::socklen_t {
    size_of::<T>() as libc::socklen_t
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "address families are small numbers"
)]
const fn family_of(family: libc::c_int) -> libc::sa_family_t {
    family.cast_unsigned() as libc::sa_family_t
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_survives_the_way_to_the_kernel_and_back_in_both_families() {
        for text in ["192.0.2.7:6783", "[2001:db8::7]:1", "[fe80::1%3]:6783"] {
            let addr: SocketAddr = text.parse().unwrap();
            let (raw, _) = RawAddr::new(addr, Family::DualStack);
            assert_eq!(raw.to_socket_addr(), Some(addr));
        }
        let v4: SocketAddr = "192.0.2.7:6783".parse().unwrap();
        let (raw, len) = RawAddr::new(v4, Family::V4Only);
        assert_eq!((raw.to_socket_addr(), len), (Some(v4), 16));
    }

    #[test]
    fn a_mapped_address_comes_back_as_ipv4() {
        let mapped: SocketAddr = "[::ffff:192.0.2.7]:6783".parse().unwrap();
        let (raw, _) = RawAddr::new(mapped, Family::DualStack);
        assert_eq!(
            raw.to_socket_addr(),
            Some("192.0.2.7:6783".parse().unwrap())
        );
    }
}
