//! What the host's firewall makes of frames from port to port of a bridge, and with which programs
//! its rules are made. Looks only; changes nothing.

use std::process::Command;

use super::bridge::{BridgeRules, Chains, Place, accept};
use super::iptables::{self, Family};
use super::program::{finish, output_of};
use crate::{Error, NetNs, Result, host, linkname, sysctl};

const BRIDGED_FRAMES: &str = "net/bridge/bridge-nf-call-iptables";

/// What becomes of IPv4 frames from port to port of a bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Passage {
    /// Nothing drops them.
    Open,
    /// A rule of ours lets them through.
    Accepted(Place),
    /// They are dropped: FORWARD does that, and no rule of ours works.
    Closed,
    /// This rule drops them before they come to ours.
    Before(String),
}

/// The two programs that may make a host's rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backends {
    /// All rules are in one.
    One,
    /// `iptables` is this one, and the other one has rules as well: (ours, the other's program).
    Both {
        /// What `iptables` is: `nf_tables` or `legacy`.
        used: String,
        /// The program that shows the rules of the other.
        other: &'static str,
    },
}

/// What the firewall makes of frames from port to port of `bridge`.
///
/// # Errors
/// [`Error::NoProgram`] on a host without iptables, otherwise what iptables said.
pub fn passage(rules: &BridgeRules, bridge: &str) -> Result<Passage> {
    linkname::validate(bridge)?;
    let called = sysctl::read(rules.netns(), BRIDGED_FRAMES)?;
    if called.is_none_or(|value| value.trim() == "0") {
        return Ok(Passage::Open);
    }
    let listing = iptables::filter(rules.netns(), Family::V4)?;
    Ok(judge(&listing, bridge))
}

/// Whether the rules of the host are made with one program or with two, which see nothing of each
/// other.
///
/// # Errors
/// [`Error::NoProgram`] on a host without iptables, otherwise what it said.
pub fn backends(netns: &NetNs) -> Result<Backends> {
    let used = output(netns, "iptables", &["--version"])?;
    let used = backend_of(&used).unwrap_or("legacy").to_owned();
    let other = match used.as_str() {
        "nf_tables" => "iptables-legacy-save",
        _ => "iptables-nft-save",
    };
    let saved = match output(netns, other, &[]) {
        Ok(saved) => saved,
        // there is but one, or the kernel has no tables for the other
        Err(Error::NoProgram { .. } | Error::CommandFailed { .. }) => return Ok(Backends::One),
        Err(error) => return Err(error),
    };
    Ok(if has_rules(&saved) {
        Backends::Both { used, other }
    } else {
        Backends::One
    })
}

fn output(netns: &NetNs, program: &str, arguments: &[&str]) -> Result<String> {
    let mut command: Command = host::command(program, Some(netns))?;
    command.args(arguments);
    finish(&output_of(&mut command, program, None)?, program, arguments)
}

/// `nf_tables` of `iptables v1.8.9 (nf_tables)`.
fn backend_of(version: &str) -> Option<&str> {
    version
        .split_once('(')?
        .1
        .split_once(')')
        .map(|(name, _)| name)
}

fn has_rules(saved: &str) -> bool {
    let drops = |line: &str| {
        let policy = line
            .strip_prefix(':')
            .and_then(|rest| rest.split(' ').nth(1));
        policy == Some("DROP") || line.starts_with("-A ")
    };
    saved.lines().any(drops)
}

fn judge(listing: &str, bridge: &str) -> Passage {
    let chains = Chains::parse(listing);
    let place = chains.effective(&accept(bridge));
    if let Some(rule) = chains.before(place, bridge) {
        return Passage::Before(rule);
    }
    match place {
        Some(place) => Passage::Accepted(place),
        None if chains.drops_all() => Passage::Closed,
        None => Passage::Open,
    }
}

/// Whether a rule, as `iptables -S` shows it, drops every frame from port to port of a bridge.
pub(super) fn drops(rule: &str, bridge: &str) -> bool {
    let mut words = rule.split_whitespace().skip(2).peekable();
    let mut dropped = false;
    while let Some(word) = words.next() {
        match word {
            "-i" | "-o" => {
                let Some(link) = words.next() else {
                    return false;
                };
                if !is_link(link, bridge) {
                    return false;
                }
            }
            "-m" => match words.next() {
                Some("comment" | "physdev") => {}
                Some(_) | None => return false,
            },
            "--physdev-is-bridged" => {}
            "--comment" => {
                // a comment of several words is quoted
                if words.next().is_some_and(is_open_quote) {
                    for rest in words.by_ref() {
                        if rest.ends_with('"') {
                            break;
                        }
                    }
                }
            }
            "-j" => dropped = matches!(words.next(), Some("DROP" | "REJECT")),
            "--reject-with" => {
                words.next();
            }
            _ => return false,
        }
    }
    dropped
}

fn is_open_quote(word: &str) -> bool {
    word.starts_with('"') && (word.len() == 1 || !word.ends_with('"'))
}

fn is_link(pattern: &str, link: &str) -> bool {
    match pattern.strip_suffix('+') {
        Some(beginning) => link.starts_with(beginning),
        None => pattern == link,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DOCKER: &str = "-P FORWARD DROP\n-N DOCKER-USER\n-A FORWARD -j DOCKER-USER\n\
                          -A FORWARD -j DOCKER-FORWARD\n\
                          -A DOCKER-USER -i weave -o weave -j ACCEPT\n-A DOCKER-USER -j RETURN\n";

    #[test]
    fn a_rule_of_ours_that_is_reached_lets_frames_through() {
        assert_eq!(judge(DOCKER, "weave"), Passage::Accepted(Place::DockerUser));
        assert_eq!(judge(DOCKER, "weave-2"), Passage::Closed);
        assert_eq!(judge("-P FORWARD ACCEPT\n", "weave"), Passage::Open);
        assert_eq!(judge("-P FORWARD DROP\n", "weave"), Passage::Closed);
    }

    #[test]
    fn a_rule_that_drops_before_ours_is_named() {
        for rule in [
            "-A FORWARD -i weave -j DROP",
            "-A FORWARD -i wea+ -o weave -j REJECT --reject-with icmp-port-unreachable",
            "-A FORWARD -m physdev --physdev-is-bridged -j DROP",
            "-A FORWARD -i weave -m comment --comment \"no bridges here\" -j DROP",
            "-A FORWARD -i weave -m comment --comment none -j DROP",
        ] {
            let listing = DOCKER.replacen("-A FORWARD", &format!("{rule}\n-A FORWARD"), 1);
            assert_eq!(
                judge(&listing, "weave"),
                Passage::Before(rule.to_owned()),
                "{listing}"
            );
        }
        let inside = DOCKER.replacen(
            "-A DOCKER-USER",
            "-A DOCKER-USER -o weave -j DROP\n-A DOCKER-USER",
            1,
        );
        assert_eq!(
            judge(&inside, "weave"),
            Passage::Before("-A DOCKER-USER -o weave -j DROP".to_owned())
        );
    }

    #[test]
    fn a_rule_for_other_links_or_some_packets_only_is_none() {
        for rule in [
            "-A FORWARD -i eth0 -j DROP",
            "-A FORWARD -i weave -p tcp -m tcp --dport 22 -j DROP",
            "-A FORWARD ! -i weave -j DROP",
            "-A FORWARD -i weave -j LOG",
        ] {
            let listing = DOCKER.replacen("-A FORWARD", &format!("{rule}\n-A FORWARD"), 1);
            assert_eq!(
                judge(&listing, "weave"),
                Passage::Accepted(Place::DockerUser),
                "{rule}"
            );
        }
    }

    #[test]
    fn rules_of_the_other_program_are_told_from_empty_tables() {
        assert_eq!(
            backend_of("iptables v1.8.9 (nf_tables)\n"),
            Some("nf_tables")
        );
        assert_eq!(backend_of("iptables v1.6"), None);
        let empty = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\nCOMMIT\n";
        assert!(!has_rules(empty) && !has_rules(""));
        assert!(has_rules(&empty.replace("FORWARD ACCEPT", "FORWARD DROP")));
        assert!(has_rules("*nat\n-A PREROUTING -j X\nCOMMIT\n"));
    }

    proptest! {
        #[test]
        fn any_listing_is_judged(listing in "(-[AINP] (FORWARD|DOCKER-USER)( -[iojm]| --comment| \"a| b\"| DROP| weave| physdev)*\n){0,5}") {
            judge(&listing, "weave");
        }
    }
}
