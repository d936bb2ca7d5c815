//! The grammar of addresses: `[ip:]CIDR`, `net:CIDR`, `net:default`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use weave_wire::{Cidr, InterfaceAddr, WireError};

use crate::api::types::{AddressSpec, Sandbox};

use super::args::AttachArgs;
use super::failure::Failure;

/// Addresses alone.
///
/// # Errors
/// Usage errors: a malformed address.
pub(crate) fn all(operands: &[String]) -> Result<Vec<AddressSpec>> {
    let parsed = operands.iter().map(|operand| parse(operand));
    Ok(parsed.collect::<Result<_, _>>()?)
}

/// Tells addresses from the container, whatever their order.
///
/// # Errors
/// Usage errors: a malformed address, no container, or more than one.
pub(crate) fn split(args: &AttachArgs) -> Result<(Vec<AddressSpec>, Sandbox)> {
    let mut addresses = Vec::new();
    let mut containers = Vec::new();
    for operand in &args.operands {
        if looks_like_address(operand) {
            addresses.push(parse(operand)?);
        } else {
            containers.push(operand.as_str());
        }
    }
    let sandbox = sandbox(args.netns.as_deref(), &containers)?;
    Ok((addresses, sandbox))
}

fn sandbox(netns: Option<&Path>, containers: &[&str]) -> Result<Sandbox> {
    match (netns, containers) {
        (None, [container]) => Ok(Sandbox::Container((*container).to_owned())),
        (Some(path), []) => Ok(Sandbox::Netns(absolute(path)?)),
        (None, []) => Err(Failure::usage("no container named")
            .with_hint("give a container, or a namespace with --netns PATH")
            .into()),
        (Some(_), [container, ..]) => Err(Failure::usage(format!(
            "`{container}` cannot stand beside --netns"
        ))
        .with_hint("an address is [ip:]CIDR, net:CIDR or net:default, such as 10.32.0.1/12")
        .into()),
        (None, [first, second, ..]) => Err(Failure::usage(format!(
            "two containers named: `{first}` and `{second}`"
        ))
        .with_hint("an address is [ip:]CIDR, net:CIDR or net:default, such as 10.32.0.1/12")
        .into()),
    }
}

/// Names of containers hold neither a slash nor a colon, and an address alone
/// was surely meant as one.
fn looks_like_address(operand: &str) -> bool {
    operand.contains(['/', ':']) || operand.parse::<IpAddr>().is_ok()
}

fn parse(text: &str) -> Result<AddressSpec, Failure> {
    let invalid = |why: String| {
        Failure::usage(format!("`{text}` is no address: {why}"))
            .with_hint("an address is [ip:]CIDR, net:CIDR or net:default, such as 10.32.0.1/12")
    };
    if text == "net:default" {
        return Ok(AddressSpec::DefaultSubnet);
    }
    if let Some(subnet) = text.strip_prefix("net:") {
        let cidr: Cidr = subnet
            .parse()
            .map_err(|error: WireError| invalid(error.to_string()))?;
        return Ok(AddressSpec::Subnet {
            network: cidr.network(),
            prefix_len: cidr.prefix_len(),
        });
    }
    let address = text.strip_prefix("ip:").unwrap_or(text);
    if !address.contains('/') && looks_like_address(address) {
        return Err(invalid("the length of its subnet is missing".to_owned()));
    }
    let address: InterfaceAddr = address
        .parse()
        .map_err(|error: WireError| invalid(error.to_string()))?;
    Ok(AddressSpec::Address {
        ip: address.ip(),
        prefix_len: address.prefix_len(),
    })
}

/// The path as the router can use it, which has another working directory.
/// Links are followed but for the last part: /proc/PID/ns/net leads nowhere.
fn absolute(path: &Path) -> Result<PathBuf> {
    let missing = || format!("find the network namespace {}", path.display());
    std::fs::metadata(path).with_context(missing)?;
    let name = path.file_name().with_context(missing)?;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    Ok(parent.canonicalize().with_context(missing)?.join(name))
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use proptest::prelude::*;

    use super::super::args::{Cli, Command};
    use super::super::failure::{exit_code, render};
    use super::*;

    fn attach(line: &str) -> Result<(Vec<AddressSpec>, Sandbox)> {
        let words = ["weave", "attach"]
            .into_iter()
            .chain(line.split_whitespace());
        let Ok(Cli {
            command: Command::Attach(args),
            ..
        }) = Cli::try_parse_from(words)
        else {
            panic!("not attach: {line}");
        };
        split(&args)
    }

    fn address(ip: &str, prefix_len: u8) -> AddressSpec {
        AddressSpec::Address {
            ip: ip.parse().unwrap(),
            prefix_len,
        }
    }

    #[test]
    fn addresses_and_container_come_in_any_order() {
        let expected = (
            vec![
                address("10.2.1.1", 24),
                AddressSpec::Subnet {
                    network: "10.3.0.0".parse().unwrap(),
                    prefix_len: 16,
                },
                AddressSpec::DefaultSubnet,
            ],
            Sandbox::Container("db".to_owned()),
        );
        for line in [
            "10.2.1.1/24 net:10.3.0.0/16 net:default db",
            "db ip:10.2.1.1/24 net:10.3.0.0/16 net:default",
            "10.2.1.1/24 db net:10.3.0.0/16 net:default",
        ] {
            assert_eq!(attach(line).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn a_namespace_stands_before_or_after_addresses() {
        // /proc/self means another process to the router.
        let netns = format!("/proc/{}/ns/net", std::process::id());
        let expected = (vec![address("10.2.1.1", 24)], Sandbox::Netns(netns.into()));
        for line in [
            "--netns /proc/self/ns/net 10.2.1.1/24",
            "10.2.1.1/24 --netns /proc/self/ns/net",
            "10.2.1.1/24 --netns=/proc/self/ns/net",
        ] {
            assert_eq!(attach(line).unwrap(), expected, "{line}");
        }
        let (none, _) = attach("--netns /proc/self/ns/net").unwrap();
        assert!(none.is_empty());
    }

    #[test]
    fn mistakes_are_usage_errors_that_show_the_grammar() {
        let errors: Vec<String> = [
            "",
            "10.2.1.1/24",
            "a b",
            "10.300.1.1/12 db",
            "10.2.1.1 db",
            "10.2.1.1/33 db",
            "net:10.2.1.1/24 db",
            "net:nonsense db",
            "--netns /proc/self/ns/net db",
        ]
        .iter()
        .map(|line| {
            let error = attach(line).unwrap_err();
            assert_eq!(exit_code(&error), 2, "{line}");
            render(&error)
        })
        .collect();
        insta::assert_snapshot!(errors.join("\n"));
    }

    #[test]
    fn a_missing_namespace_is_named() {
        let error = attach("--netns /no/such/netns").unwrap_err();
        assert!(
            render(&error).contains("/no/such/netns"),
            "{}",
            render(&error)
        );
    }

    #[test]
    fn addresses_alone_take_no_container() {
        let operands = |line: &str| -> Vec<_> { line.split(' ').map(str::to_owned).collect() };
        assert_eq!(
            all(&operands("net:default ip:10.2.1.1/24")).unwrap(),
            [AddressSpec::DefaultSubnet, address("10.2.1.1", 24)]
        );
        let errors: Vec<String> = ["db", "10.2.1.1", "net:default db/1"]
            .iter()
            .map(|line| {
                let error = all(&operands(line)).unwrap_err();
                assert_eq!(exit_code(&error), 2, "{line}");
                render(&error)
            })
            .collect();
        insta::assert_snapshot!(errors.join("\n"));
    }

    proptest! {
        #[test]
        fn any_operand_alone_is_an_address_or_a_usage_error(operand in any::<String>()) {
            if let Err(error) = all(&[operand]) {
                prop_assert_eq!(exit_code(&error), 2);
            }
        }

        #[test]
        fn any_operand_is_an_address_a_container_or_an_error(operand in any::<String>()) {
            let args = AttachArgs { netns: None, json: false, operands: vec![operand] };
            if let Ok((addresses, sandbox)) = split(&args) {
                prop_assert!(addresses.is_empty());
                prop_assert!(matches!(sandbox, Sandbox::Container(_)));
            }
        }
    }
}
