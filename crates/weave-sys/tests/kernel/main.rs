//! Tests against the real kernel: TAPs, bridges, veths and firewall rules in namespaces that each
//! test makes for itself and that vanish with it.
//!
//! They need root (CAP_NET_ADMIN, CAP_SYS_ADMIN), /dev/net/tun, iptables, nft, and the br_netfilter
//! module; without any of these they fail and say so.

#![expect(clippy::unwrap_used, reason = "what cannot be set up fails its test")]

mod bridge;
mod dns;
mod expose;
mod firewall;
mod guard;
mod lab;
mod probe;
mod tap;
mod tcp;
mod udp;
