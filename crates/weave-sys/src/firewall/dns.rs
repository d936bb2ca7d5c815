//! Leading a container's DNS queries to our server, inside the container's own namespace.
//!
//! Docker's resolver at 127.0.0.11 asks the sandbox's upstreams from within the sandbox; queries
//! to exactly those addresses are redirected. Whatever else the container asks, it asks.

use std::net::Ipv4Addr;

use super::chains::{self, OwnChain};
use crate::{NetNs, Result};

const TABLE: &str = "nat";

/// Redirects UDP and TCP port 53 of each upstream to `server`, in the place of any redirect made
/// before. Loopback addresses and `server` itself are left alone. The namespace needs a route to
/// `server`.
///
/// # Errors
/// [`NoProgram`](crate::Error::NoProgram), or what iptables said; then nothing was changed.
pub fn redirect_dns(netns: &NetNs, upstreams: &[Ipv4Addr], server: Ipv4Addr) -> Result<()> {
    let redirect = own_chains(destinations(upstreams, server), sources(server));
    chains::ensure(netns, TABLE, &redirect).map(|_| ())
}

/// Whether just the redirect stands that [`redirect_dns`] makes; changes nothing.
///
/// # Errors
/// As [`redirect_dns`].
pub fn is_dns_redirected(netns: &NetNs, upstreams: &[Ipv4Addr], server: Ipv4Addr) -> Result<bool> {
    let redirect = own_chains(destinations(upstreams, server), sources(server));
    chains::stand(netns, TABLE, &redirect)
}

/// As [`redirect_dns`] in a namespace without a redirect, in half the time.
///
/// # Errors
/// As [`redirect_dns`].
pub fn first_redirect_dns(netns: &NetNs, upstreams: &[Ipv4Addr], server: Ipv4Addr) -> Result<()> {
    let redirect = own_chains(destinations(upstreams, server), sources(server));
    chains::make(netns, TABLE, &redirect)
}

/// Removes the redirect with its chains; says whether there was one.
///
/// # Errors
/// As [`redirect_dns`].
pub fn remove_dns_redirect(netns: &NetNs) -> Result<bool> {
    chains::remove(netns, TABLE, &own_chains(Vec::new(), Vec::new()))
}

/// One changes the destination of queries. The other changes their source: it was chosen for the
/// route to the upstream, which goes out of another interface than the one that leads to us.
fn own_chains(destinations: Vec<String>, sources: Vec<String>) -> [OwnChain<'static>; 2] {
    [
        OwnChain {
            name: "WEAVE-DNS",
            from: Some("OUTPUT"),
            rules: destinations,
        },
        OwnChain {
            name: "WEAVE-DNS-SRC",
            from: Some("POSTROUTING"),
            rules: sources,
        },
    ]
}

fn destinations(upstreams: &[Ipv4Addr], server: Ipv4Addr) -> Vec<String> {
    upstreams
        .iter()
        .filter(|ip| !ip.is_loopback() && **ip != server)
        .flat_map(queries_to)
        .map(|query| format!("{query} -j DNAT --to-destination {server}"))
        .collect()
}

fn sources(server: Ipv4Addr) -> Vec<String> {
    queries_to(&server)
        .map(|query| format!("{query} -j MASQUERADE"))
        .to_vec()
}

fn queries_to(ip: &Ipv4Addr) -> [String; 2] {
    ["udp", "tcp"].map(|protocol| format!("-d {ip}/32 -p {protocol} -m {protocol} --dport 53"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_upstreams_and_the_server_itself_are_not_redirected() {
        let server = Ipv4Addr::new(169, 254, 53, 53);
        let upstreams = [Ipv4Addr::LOCALHOST, server, Ipv4Addr::new(192, 0, 2, 1)];
        let rules = destinations(&upstreams, server);
        assert_eq!(rules.len(), 2, "{rules:?}");
        assert!(
            rules
                .iter()
                .all(|rule| rule.starts_with("-d 192.0.2.1/32 "))
        );
    }
}
