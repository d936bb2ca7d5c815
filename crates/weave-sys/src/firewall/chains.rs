//! Chains of our own in one table, and the jumps that lead to them.
//!
//! Whatever a chain of ours held before, afterwards it holds just the given rules. Rules of
//! others are never named, so they stay.

use super::iptables;
use crate::{NetNs, Result};

/// A chain of ours.
pub(super) struct OwnChain<'a> {
    pub(super) name: &'a str,
    /// Built-in chain whose first rule shall lead here; `None`: someone else sees to that.
    pub(super) from: Option<&'a str>,
    /// Its rules in the form of `iptables-save`, without `-A NAME`.
    pub(super) rules: Vec<String>,
}

/// Makes `chains` of `table` hold just their rules and leads to them, in one transaction; says
/// whether anything had to be changed.
pub(super) fn ensure(netns: &NetNs, table: &str, chains: &[OwnChain<'_>]) -> Result<bool> {
    let saved = iptables::save(netns, table)?;
    if chains.iter().all(|chain| chain.stands(&saved)) {
        return Ok(false);
    }
    iptables::restore(netns, &making(table, chains, &saved))?;
    Ok(true)
}

/// Whether all `chains` hold just their rules and are led to.
pub(super) fn stand(netns: &NetNs, table: &str, chains: &[OwnChain<'_>]) -> Result<bool> {
    let saved = iptables::save(netns, table)?;
    Ok(chains.iter().all(|chain| chain.stands(&saved)))
}

/// As [`ensure`] where there are none of `chains` yet, in half the time: without a look first.
pub(super) fn make(netns: &NetNs, table: &str, chains: &[OwnChain<'_>]) -> Result<()> {
    iptables::restore(netns, &making(table, chains, ""))
}

/// Removes `chains` from `table` with the jumps from [`OwnChain::from`]; says whether there was
/// one.
pub(super) fn remove(netns: &NetNs, table: &str, chains: &[OwnChain<'_>]) -> Result<bool> {
    let saved = iptables::save(netns, table)?;
    if !chains.iter().any(|chain| chain.exists(&saved)) {
        return Ok(false);
    }
    iptables::restore(netns, &removing(table, chains, &saved))?;
    Ok(true)
}

/// Input of iptables-restore. Naming a chain of ours empties it, so the result is always the same.
fn making(table: &str, chains: &[OwnChain<'_>], saved: &str) -> String {
    let mut text = declared(table, chains);
    for chain in chains {
        for rule in &chain.rules {
            text += &format!("-A {} {rule}\n", chain.name);
        }
    }
    for (from, name) in jumps(chains) {
        if !has_jump(saved, from, name) {
            text += &format!("-I {from} -j {name}\n");
        }
    }
    text + "COMMIT\n"
}

fn removing(table: &str, chains: &[OwnChain<'_>], saved: &str) -> String {
    let mut text = declared(table, chains);
    for (from, name) in jumps(chains) {
        if has_jump(saved, from, name) {
            text += &format!("-D {from} -j {name}\n");
        }
    }
    for chain in chains {
        text += &format!("-X {}\n", chain.name);
    }
    text + "COMMIT\n"
}

fn declared(table: &str, chains: &[OwnChain<'_>]) -> String {
    let mut text = format!("*{table}\n");
    for chain in chains {
        text += &format!(":{} - [0:0]\n", chain.name);
    }
    text
}

fn jumps<'a>(chains: &'a [OwnChain<'a>]) -> impl Iterator<Item = (&'a str, &'a str)> {
    chains
        .iter()
        .filter_map(|chain| chain.from.map(|from| (from, chain.name)))
}

fn has_jump(saved: &str, from: &str, name: &str) -> bool {
    let wanted = format!("-A {from} -j {name}");
    saved.lines().any(|line| line == wanted)
}

impl OwnChain<'_> {
    fn exists(&self, saved: &str) -> bool {
        let declared = format!(":{} ", self.name);
        saved.lines().any(|line| line.starts_with(&declared))
    }

    /// Whether all is as it should be.
    fn stands(&self, saved: &str) -> bool {
        let prefix = format!("-A {} ", self.name);
        let found = saved.lines().filter_map(|line| line.strip_prefix(&prefix));
        let wanted = self.rules.iter().map(String::as_str);
        self.exists(saved)
            && found.map(words).eq(wanted.map(words))
            && self
                .from
                .is_none_or(|from| has_jump(saved, from, self.name))
    }
}

/// Some matches are saved with two blanks before them.
fn words(rule: &str) -> Vec<&str> {
    rule.split_whitespace().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAVED: &str = "*nat\n:OUTPUT ACCEPT [0:0]\n:OURS - [0:0]\n-A OUTPUT -j OURS\n\
                         -A OURS -s 10.0.0.0/8 -m physdev  ! --physdev-is-bridged -j MASQUERADE\n\
                         COMMIT\n";

    fn chain(rules: &[&str]) -> OwnChain<'static> {
        OwnChain {
            name: "OURS",
            from: Some("OUTPUT"),
            rules: rules.iter().map(|&rule| rule.to_owned()).collect(),
        }
    }

    #[test]
    fn a_jump_is_added_only_where_it_is_missing() {
        let chains = [
            chain(&["-j RETURN"]),
            OwnChain {
                name: "OTHER",
                from: Some("POSTROUTING"),
                rules: Vec::new(),
            },
        ];
        let text = making("nat", &chains, SAVED);
        assert_eq!(
            text,
            "*nat\n:OURS - [0:0]\n:OTHER - [0:0]\n-A OURS -j RETURN\n\
             -I POSTROUTING -j OTHER\nCOMMIT\n"
        );
        let text = removing("nat", &chains, SAVED);
        assert!(text.contains("-D OUTPUT -j OURS\n") && !text.contains("-D POSTROUTING"));
    }

    #[test]
    fn only_the_very_rules_with_their_jump_count_as_standing() {
        let wanted = "-s 10.0.0.0/8 -m physdev ! --physdev-is-bridged -j MASQUERADE";
        assert!(chain(&[wanted]).stands(SAVED));
        assert!(!chain(&[wanted, wanted]).stands(SAVED));
        assert!(!chain(&[]).stands(SAVED));
        assert!(!chain(&[wanted]).stands(&SAVED.replace("-A OUTPUT -j OURS\n", "")));
        assert!(!chain(&[]).stands("*nat\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -j OURS\nCOMMIT\n"));
    }
}
