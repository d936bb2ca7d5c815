//! Host names of peers: /etc/hosts and DNS as the host has them.
//!
//! Never getaddrinfo: the binary is static, and its files are the host's own,
//! reached through the host's root directory from inside a container.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::config::ResolverOpts;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{Hosts, Resolver};

const TIMEOUT: Duration = Duration::from_secs(3);

/// Why a target has no address.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ResolveError {
    /// Not `host`, `host:port`, `[v6]:port`.
    #[error("`{0}` is no peer; write host, host:port, or [IPv6 address]:port")]
    Syntax(String),
    /// The name is unknown.
    #[error("cannot resolve `{name}`: {why}")]
    Unknown {
        /// The name.
        name: String,
        /// Why.
        why: String,
    },
}

/// The addresses of a target, in the order to try them.
///
/// # Errors
/// When it is no target, or its name does not resolve.
pub(crate) async fn resolve(
    target: &str,
    default_port: u16,
) -> Result<Vec<SocketAddr>, ResolveError> {
    let (host, port) = split(target, default_port)?;
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let unknown = |why: String| ResolveError::Unknown {
        name: host.to_owned(),
        why,
    };
    let resolver = host_resolver().map_err(unknown)?;
    let lookup = resolver
        .lookup_ip(host)
        .await
        .map_err(|error| unknown(error.to_string()))?;
    Ok(lookup.iter().map(|ip| SocketAddr::new(ip, port)).collect())
}

/// Splits a target in host and port.
///
/// # Errors
/// When it is neither `host`, `host:port`, an address, nor `[v6]:port`.
pub(crate) fn split(target: &str, default_port: u16) -> Result<(&str, u16), ResolveError> {
    let syntax = || ResolveError::Syntax(target.to_owned());
    if target.parse::<IpAddr>().is_ok() {
        return Ok((target, default_port));
    }
    let (host, port) = if let Some(rest) = target.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or_else(syntax)?;
        host.parse::<std::net::Ipv6Addr>().map_err(|_| syntax())?;
        (
            host,
            rest.strip_prefix(':')
                .or(if rest.is_empty() { None } else { Some("") }),
        )
    } else {
        match target.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (target, None),
        }
    };
    let port = match port {
        Some(port) => port
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(syntax)?,
        None => default_port,
    };
    let is_name = !host.is_empty()
        && host.len() <= 253
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte));
    if is_name {
        Ok((host, port))
    } else {
        Err(syntax())
    }
}

fn host_resolver() -> Result<Resolver<TokioRuntimeProvider>, String> {
    let text = weave_sys::host::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let (config, _) = hickory_resolver::system_conf::parse_resolv_conf(text.as_bytes())
        .map_err(|error| format!("the host's resolv.conf: {error}"))?;
    let mut options = ResolverOpts::default();
    options.timeout = TIMEOUT;
    options.attempts = 1;
    let mut resolver = Resolver::builder_with_config(config, TokioRuntimeProvider::default())
        .with_options(options)
        .build()
        .map_err(|error| error.to_string())?;
    let mut hosts = Hosts::default();
    if let Ok(text) = weave_sys::host::read_to_string("/etc/hosts")
        && hosts.read_hosts_conf(text.as_bytes()).is_ok()
    {
        resolver.set_hosts(std::sync::Arc::new(hosts));
    }
    Ok(resolver)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn targets_are_split_in_host_and_port() {
        for (target, expected) in [
            ("host1", Some(("host1", 6783))),
            ("host1:7000", Some(("host1", 7000))),
            ("10.0.0.1", Some(("10.0.0.1", 6783))),
            ("10.0.0.1:1", Some(("10.0.0.1", 1))),
            ("::1", Some(("::1", 6783))),
            ("[::1]", Some(("::1", 6783))),
            ("[fe80::1]:7000", Some(("fe80::1", 7000))),
            ("", None),
            (":1", None),
            ("host1:", None),
            ("host1:0", None),
            ("host1:65536", None),
            ("[::1]x", None),
            ("a b", None),
        ] {
            let refusal =
                format!("`{target}` is no peer; write host, host:port, or [IPv6 address]:port");
            let found = split(target, 6783).map_err(|error| error.to_string());
            assert_eq!(found, expected.ok_or(refusal));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_split_or_refused(target in any::<String>()) {
            let _ = split(&target, 6783);
        }
    }
}
