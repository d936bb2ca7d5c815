//! Which DNS servers a container's queries go to in the end.
//!
//! On networks like ours, containers ask Docker's own resolver at 127.0.0.11, which forwards what
//! it does not know. It forwards from within the container's network namespace, except to a
//! loopback server of the host, which it asks from the host's.

use std::net::{IpAddr, Ipv4Addr};

/// What dockerd takes when the host names no server.
const FALLBACK: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8)),
    IpAddr::V4(Ipv4Addr::new(8, 8, 4, 4)),
];

/// The stub of systemd-resolved.
const RESOLVED_STUB: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53));

/// The host file that dockerd reads servers from, given the text of `/etc/resolv.conf`: that
/// file, unless its only server is the stub of systemd-resolved.
pub fn host_resolv_conf_path(etc_resolv_conf: &str) -> &'static str {
    let v4: Vec<IpAddr> = nameservers(etc_resolv_conf)
        .filter(IpAddr::is_ipv4)
        .collect();
    if v4 == [RESOLVED_STUB] {
        "/run/systemd/resolve/resolv.conf"
    } else {
        "/etc/resolv.conf"
    }
}

/// The servers that a container's queries reach from its own namespace: `dns_option` (`--dns`, or
/// the daemon's setting) if given, else those of the host.
///
/// `host_resolv_conf` is the text of the file named by [`host_resolv_conf_path`]. Loopback
/// servers of the host are left out; when it has no others the answer is empty. When it has no
/// IPv4 server at all, dockerd's fallback is among them.
pub fn dockerd_upstreams(host_resolv_conf: &str, dns_option: &[String]) -> Vec<IpAddr> {
    if !dns_option.is_empty() {
        return unique(
            dns_option
                .iter()
                .filter_map(|text| text.trim().parse().ok()),
        );
    }
    let host = unique(nameservers(host_resolv_conf));
    let fallback: &[IpAddr] = if host.iter().any(IpAddr::is_ipv4) {
        &[]
    } else {
        &FALLBACK
    };
    let reachable = host.iter().filter(|ip| !ip.is_loopback());
    reachable.chain(fallback).copied().collect()
}

fn nameservers(resolv_conf: &str) -> impl Iterator<Item = IpAddr> {
    resolv_conf.lines().filter_map(|line| {
        let line = line.split(['#', ';']).next()?;
        let mut words = line.split_whitespace();
        (words.next()? == "nameserver")
            .then(|| words.next())??
            .parse()
            .ok()
    })
}

fn unique(addresses: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut seen = Vec::new();
    for ip in addresses {
        if !seen.contains(&ip) {
            seen.push(ip);
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_hosts_servers_are_taken_in_order_and_loopback_ones_left_out() {
        let text = "# made by hand\nnameserver 127.0.0.1\n  nameserver\t10.0.0.2 # first\n\
                    search example.org\nnameserver 10.0.0.1\nnameserver 10.0.0.2\n\
                    nameserver ::1\nnameserver 2001:db8::53\noptions ndots:1\n;nameserver 9.9.9.9\n";
        assert_eq!(
            dockerd_upstreams(text, &[]),
            ips(&["10.0.0.2", "10.0.0.1", "2001:db8::53"])
        );
    }

    #[test]
    fn a_host_without_servers_gets_dockerds_fallback() {
        for text in [
            "",
            "search example.org\n",
            "nameserver\nnameserver nonsense\n",
        ] {
            assert_eq!(
                dockerd_upstreams(text, &[]),
                ips(&["8.8.8.8", "8.8.4.4"]),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_host_with_only_a_loopback_server_is_asked_outside_of_the_container() {
        assert!(dockerd_upstreams("nameserver 127.0.0.1\n", &[]).is_empty());
    }

    #[test]
    fn dns_options_replace_the_hosts_servers() {
        let options = ["172.17.0.1".to_owned(), "junk".to_owned()];
        assert_eq!(
            dockerd_upstreams("nameserver 10.0.0.1\n", &options),
            ips(&["172.17.0.1"])
        );
    }

    #[test]
    fn only_a_lone_systemd_stub_moves_the_file() {
        let stub = "nameserver 127.0.0.53\noptions edns0 trust-ad\n";
        assert_eq!(
            host_resolv_conf_path(stub),
            "/run/systemd/resolve/resolv.conf"
        );
        let two = "nameserver 127.0.0.53\nnameserver 10.0.0.1\n";
        assert_eq!(host_resolv_conf_path(two), "/etc/resolv.conf");
        assert_eq!(host_resolv_conf_path(""), "/etc/resolv.conf");
    }

    proptest! {
        #[test]
        fn no_text_panics_or_yields_a_loopback_server(text in "\\PC*", lines in prop::collection::vec("(nameserver )?[0-9a-f.:# \t]{0,20}", 0..8)) {
            for text in [text, lines.join("\n")] {
                host_resolv_conf_path(&text);
                prop_assert!(dockerd_upstreams(&text, &[]).iter().all(|ip| !ip.is_loopback()));
            }
        }
    }
}
