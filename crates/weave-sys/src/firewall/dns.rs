//! Leading a container's DNS queries to our server, inside the container's own namespace.
//!
//! Docker's resolver at 127.0.0.11 asks the sandbox's upstreams from within the sandbox; queries
//! to exactly those addresses are redirected. Whatever else the container asks, it asks.

use std::fmt::Write;
use std::net::Ipv4Addr;

use super::iptables;
use crate::{NetNs, Result};

/// Changes the destination of queries.
const CHAIN: &str = "WEAVE-DNS";

/// Changes their source: it was chosen for the route to the upstream, which goes out of another
/// interface than the one that leads to us.
const SOURCE_CHAIN: &str = "WEAVE-DNS-SRC";

/// Redirects UDP and TCP port 53 of each upstream to `server`, in the place of any redirect made
/// before. Loopback addresses and `server` itself are left alone. The namespace needs a route to
/// `server`.
///
/// # Errors
/// [`NoProgram`](crate::Error::NoProgram), or what iptables said; then nothing was changed.
pub fn redirect_dns(netns: &NetNs, upstreams: &[Ipv4Addr], server: Ipv4Addr) -> Result<()> {
    let jumps = Jumps::read(netns)?;
    iptables::restore(netns, &script(&jumps, upstreams, server))
}

/// Removes the redirect with its chains; says whether there was one.
///
/// # Errors
/// As [`redirect_dns`].
pub fn remove_dns_redirect(netns: &NetNs) -> Result<bool> {
    let saved = iptables::save(netns, "nat")?;
    if !saved
        .lines()
        .any(|line| line.starts_with(&format!(":{CHAIN} ")))
    {
        return Ok(false);
    }
    let jumps = Jumps::parse(&saved);
    let mut script = format!("*nat\n:{CHAIN} - [0:0]\n:{SOURCE_CHAIN} - [0:0]\n");
    if jumps.output {
        script += &format!("-D OUTPUT -j {CHAIN}\n");
    }
    if jumps.postrouting {
        script += &format!("-D POSTROUTING -j {SOURCE_CHAIN}\n");
    }
    script += &format!("-X {CHAIN}\n-X {SOURCE_CHAIN}\nCOMMIT\n");
    iptables::restore(netns, &script)?;
    Ok(true)
}

/// Whether the built-in chains lead to ours already.
struct Jumps {
    output: bool,
    postrouting: bool,
}

impl Jumps {
    fn read(netns: &NetNs) -> Result<Self> {
        iptables::save(netns, "nat").map(|saved| Self::parse(&saved))
    }

    fn parse(saved: &str) -> Self {
        let has = |wanted: String| saved.lines().any(|line| line == wanted);
        Self {
            output: has(format!("-A OUTPUT -j {CHAIN}")),
            postrouting: has(format!("-A POSTROUTING -j {SOURCE_CHAIN}")),
        }
    }
}

/// Input of iptables-restore. Naming a chain of ours empties it, so the result is always the same.
fn script(jumps: &Jumps, upstreams: &[Ipv4Addr], server: Ipv4Addr) -> String {
    let mut text = format!("*nat\n:{CHAIN} - [0:0]\n:{SOURCE_CHAIN} - [0:0]\n");
    let redirected = upstreams
        .iter()
        .filter(|ip| !ip.is_loopback() && **ip != server);
    for upstream in redirected {
        for protocol in ["udp", "tcp"] {
            let _ = writeln!(
                text,
                "-A {CHAIN} -d {upstream}/32 -p {protocol} -m {protocol} --dport 53 \
                 -j DNAT --to-destination {server}"
            );
        }
    }
    for protocol in ["udp", "tcp"] {
        let _ = writeln!(
            text,
            "-A {SOURCE_CHAIN} -d {server}/32 -p {protocol} -m {protocol} --dport 53 -j MASQUERADE"
        );
    }
    if !jumps.output {
        text += &format!("-I OUTPUT -j {CHAIN}\n");
    }
    if !jumps.postrouting {
        text += &format!("-I POSTROUTING -j {SOURCE_CHAIN}\n");
    }
    text += "COMMIT\n";
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_upstreams_and_the_server_itself_are_not_redirected() {
        let jumps = Jumps {
            output: true,
            postrouting: true,
        };
        let server = Ipv4Addr::new(169, 254, 53, 53);
        let upstreams = [Ipv4Addr::LOCALHOST, server, Ipv4Addr::new(192, 0, 2, 1)];
        let text = script(&jumps, &upstreams, server);
        assert_eq!(text.matches("-j DNAT").count(), 2, "{text}");
        assert!(
            !text.contains("127.0.0.1") && !text.contains("-I OUTPUT"),
            "{text}"
        );
    }

    #[test]
    fn a_jump_is_added_only_where_it_is_missing() {
        let saved = "*nat\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -j WEAVE-DNS\nCOMMIT\n";
        let jumps = Jumps::parse(saved);
        assert!(jumps.output && !jumps.postrouting);
    }
}
