//! The accept rule of each weave bridge, and where rules for bridges stand.
//!
//! Docker sets the policy of FORWARD to DROP, and br_netfilter sends bridged frames through
//! FORWARD: without a rule, two containers on one bridge do not reach each other. Rules stand at
//! the top of DOCKER-USER, which Docker leaves alone, or at the top of FORWARD where DOCKER-USER
//! is missing or not reached. An accept in a table of our own would not help: a drop in any table
//! is final.

use super::iptables::{self, Family};
use super::passage::drops;
use crate::linkname::{self, DEFAULT_BRIDGE};
use crate::{Error, NetNs, Result, sysctl};

const FORWARD: &str = "FORWARD";
const DOCKER_USER: &str = "DOCKER-USER";

/// Keeper of the accept rules in one namespace, the host's.
#[derive(Debug, Clone)]
pub struct BridgeRules {
    netns: NetNs,
}

/// Where an accept rule stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In Docker's chain for rules of others.
    DockerUser,
    /// In FORWARD itself.
    Forward,
}

/// State of the rule after [`BridgeRules::ensure`], or as found by [`BridgeRules::check`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Where the IPv4 rule works; `None`: nowhere, and nothing is dropped.
    pub v4: Option<Place>,
    /// Where the IPv6 rule works; `None`: nowhere, or the host has no IPv6 firewall.
    pub v6: Option<Place>,
    /// Whether a rule was changed just now.
    pub changed: bool,
}

impl BridgeRules {
    /// For the namespace that the bridges are in.
    pub fn new(netns: &NetNs) -> Self {
        Self {
            netns: netns.clone(),
        }
    }

    /// The namespace that the rules are in.
    pub(super) fn netns(&self) -> &NetNs {
        &self.netns
    }

    /// Makes sure that frames may pass from port to port of `bridge`; restores the rule where it
    /// was flushed or no longer works.
    ///
    /// # Errors
    /// [`Error::NoProgram`] on a host without iptables, otherwise what iptables said.
    pub fn ensure(&self, bridge: &str) -> Result<Placed> {
        linkname::validate(bridge)?;
        let rule = accept(bridge);
        let (v4, changed4) = self.ensure_family(Family::V4, &rule)?;
        let (v6, changed6) = self.tolerating_no_ipv6(|| self.ensure_family(Family::V6, &rule))?;
        Ok(Placed {
            v4,
            v6,
            changed: changed4 || changed6,
        })
    }

    /// Where the rule works now; changes nothing.
    ///
    /// # Errors
    /// As [`ensure`](Self::ensure).
    pub fn check(&self, bridge: &str) -> Result<Placed> {
        linkname::validate(bridge)?;
        let rule = accept(bridge);
        let v4 = Chains::read(&self.netns, Family::V4)?.effective(&rule);
        let (v6, _) = self.tolerating_no_ipv6(|| {
            Ok((
                Chains::read(&self.netns, Family::V6)?.effective(&rule),
                false,
            ))
        })?;
        Ok(Placed {
            v4,
            v6,
            changed: false,
        })
    }

    /// Removes every accept rule of `bridge`; says whether there was one.
    ///
    /// # Errors
    /// As [`ensure`](Self::ensure).
    pub fn remove(&self, bridge: &str) -> Result<bool> {
        linkname::validate(bridge)?;
        let rule = accept(bridge);
        let removed4 = self.remove_family(Family::V4, &rule)?;
        let (_, removed6) =
            self.tolerating_no_ipv6(|| Ok((None, self.remove_family(Family::V6, &rule)?)))?;
        Ok(removed4 || removed6)
    }

    /// Makes sure that `rule` works where rules for bridges stand, and stands nowhere else. Where
    /// nothing is dropped it stands nowhere: with iptables-nft, a rule leaves tables behind that
    /// nobody else made.
    pub(super) fn ensure_family(
        &self,
        family: Family,
        rule: &str,
    ) -> Result<(Option<Place>, bool)> {
        let chains = Chains::read(&self.netns, family)?;
        if !chains.may_drop {
            return Ok((None, self.remove_from(&chains, family, rule)?));
        }
        self.ensure_in(&chains, family, rule)
    }

    /// As [`ensure_family`](Self::ensure_family), also where nothing is dropped.
    pub(super) fn ensure_needed(
        &self,
        family: Family,
        rule: &str,
    ) -> Result<(Option<Place>, bool)> {
        self.ensure_in(&Chains::read(&self.netns, family)?, family, rule)
    }

    fn ensure_in(
        &self,
        chains: &Chains,
        family: Family,
        rule: &str,
    ) -> Result<(Option<Place>, bool)> {
        let place = chains.best_place();
        let (chain, rules, other, other_rules) = match place {
            Place::DockerUser => (DOCKER_USER, chains.docker_user(), FORWARD, &*chains.forward),
            Place::Forward => (FORWARD, &*chains.forward, DOCKER_USER, chains.docker_user()),
        };
        let mut changed = false;
        for _ in 0..count(other_rules, other, rule) {
            self.edit(family, "-D", other, rule)?;
            changed = true;
        }
        if works(rules, chain, rule) {
            return Ok((Some(place), changed));
        }
        for _ in 0..count(rules, chain, rule) {
            self.edit(family, "-D", chain, rule)?;
        }
        self.edit(family, "-I", chain, rule)?;
        Ok((Some(place), true))
    }

    /// Removes `rule` from wherever it may stand; says whether it stood there.
    pub(super) fn remove_family(&self, family: Family, rule: &str) -> Result<bool> {
        self.remove_from(&Chains::read(&self.netns, family)?, family, rule)
    }

    fn remove_from(&self, chains: &Chains, family: Family, rule: &str) -> Result<bool> {
        let mut removed = false;
        for (chain, rules) in [
            (DOCKER_USER, chains.docker_user()),
            (FORWARD, &chains.forward),
        ] {
            for _ in 0..count(rules, chain, rule) {
                self.edit(family, "-D", chain, rule)?;
                removed = true;
            }
        }
        Ok(removed)
    }

    fn edit(&self, family: Family, action: &str, chain: &str, rule: &str) -> Result<()> {
        let arguments: Vec<_> = [action, chain].into_iter().chain(rule.split(' ')).collect();
        iptables::run(&self.netns, family, &arguments).map(|_| ())
    }

    /// A host without IPv6 has nothing to let through: its state is simply "nowhere".
    fn tolerating_no_ipv6(
        &self,
        work: impl FnOnce() -> Result<(Option<Place>, bool)>,
    ) -> Result<(Option<Place>, bool)> {
        if sysctl::read(&self.netns, "net/ipv6/conf/all/disable_ipv6")?.is_none() {
            return Ok((None, false));
        }
        match work() {
            Err(Error::NoProgram { program }) => {
                tracing::debug!(program, "no IPv6 firewall on this host");
                Ok((None, false))
            }
            Err(Error::CommandFailed { stderr, .. }) if no_table(&stderr) => {
                tracing::debug!(stderr, "no IPv6 firewall on this host");
                Ok((None, false))
            }
            other => other,
        }
    }
}

/// What iptables says when the kernel cannot filter IPv6 at all.
fn no_table(stderr: &str) -> bool {
    [
        "Address family not supported",
        "Table does not exist",
        "can't initialize ip6tables",
    ]
    .iter()
    .any(|text| stderr.contains(text))
}

/// The two chains, one rule per line, in the form of `iptables -S`.
pub(super) struct Chains {
    /// The policy of FORWARD, or a rule of somebody else in it, may drop what is forwarded.
    may_drop: bool,
    /// The policy of FORWARD, or the last rule of it, drops whatever else is forwarded.
    policy_drops: bool,
    forward: Vec<String>,
    docker_user: Option<Vec<String>>,
}

impl Chains {
    fn read(netns: &NetNs, family: Family) -> Result<Self> {
        let listing = iptables::filter(netns, family)?;
        Ok(Self::parse(&listing))
    }

    pub(super) fn parse(listing: &str) -> Self {
        let rules_of = |chain: &str| {
            let prefix = format!("-A {chain} ");
            let rules = listing.lines().filter(|line| line.starts_with(&prefix));
            rules.map(str::to_owned).collect::<Vec<_>>()
        };
        let declared = format!("-N {DOCKER_USER}");
        let exists = listing.lines().any(|line| line == declared);
        let forward = rules_of(FORWARD);
        let policy = format!("-P {FORWARD} ");
        let policies = listing
            .lines()
            .filter_map(|line| line.strip_prefix(&policy));
        let policy_drops = policies.into_iter().any(|policy| policy != "ACCEPT");
        Self {
            may_drop: policy_drops || forward.iter().any(|rule| !is_ours(rule)),
            policy_drops,
            forward,
            docker_user: exists.then(|| rules_of(DOCKER_USER)),
        }
    }

    fn docker_user(&self) -> &[String] {
        self.docker_user.as_deref().unwrap_or_default()
    }

    fn best_place(&self) -> Place {
        let jump = format!("-A {FORWARD} -j {DOCKER_USER}");
        let reached = self.docker_user.is_some() && before_the_end(&self.forward, FORWARD, &jump);
        if reached {
            Place::DockerUser
        } else {
            Place::Forward
        }
    }

    /// Whether FORWARD drops what no rule lets through.
    pub(super) fn drops_all(&self) -> bool {
        self.policy_drops
    }

    /// The first rule that drops the frames of a bridge before they come to the rule of ours at
    /// `place`, or at all where there is none.
    pub(super) fn before(&self, place: Option<Place>, bridge: &str) -> Option<String> {
        let ours = |chain: &str| format!("-A {chain} {}", accept(bridge));
        let jump = format!("-A {FORWARD} -j {DOCKER_USER}");
        let until = match place {
            Some(Place::Forward) => Some(ours(FORWARD)),
            Some(Place::DockerUser) => Some(jump),
            None => None,
        };
        let until = |rule: &&String| until.as_ref() != Some(*rule);
        let forward = self.forward.iter().take_while(until);
        let inside = self.docker_user().iter();
        let inside = inside
            .take_while(|rule| **rule != ours(DOCKER_USER))
            .filter(|_| place == Some(Place::DockerUser));
        let mut reached = forward.chain(inside);
        reached.find(|rule| drops(rule, bridge)).cloned()
    }

    pub(super) fn effective(&self, rule: &str) -> Option<Place> {
        if works(&self.forward, FORWARD, rule) {
            return Some(Place::Forward);
        }
        let in_docker_user =
            self.best_place() == Place::DockerUser && works(self.docker_user(), DOCKER_USER, rule);
        in_docker_user.then_some(Place::DockerUser)
    }
}

/// A rule of one of our bridges, or the jump to a chain of ours.
fn is_ours(rule: &str) -> bool {
    rule.starts_with(&format!("-A {FORWARD} -i {DEFAULT_BRIDGE}"))
        || rule.starts_with(&format!("-A {FORWARD} -j WEAVE-"))
}

/// From port to port of a bridge.
pub(super) fn accept(bridge: &str) -> String {
    format!("-i {bridge} -o {bridge} -j ACCEPT")
}

fn works(rules: &[String], chain: &str, rule: &str) -> bool {
    before_the_end(rules, chain, &format!("-A {chain} {rule}"))
}

fn count(rules: &[String], chain: &str, rule: &str) -> usize {
    let wanted = format!("-A {chain} {rule}");
    rules.iter().filter(|rule| **rule == wanted).count()
}

/// Whether `wanted` stands before any rule that ends the chain for every packet.
fn before_the_end(rules: &[String], chain: &str, wanted: &str) -> bool {
    let prefix = format!("-A {chain} -j ");
    let ends = |rule: &str| {
        let target = rule
            .strip_prefix(&prefix)
            .and_then(|rest| rest.split(' ').next());
        matches!(target, Some("ACCEPT" | "DROP" | "REJECT" | "RETURN"))
    };
    rules
        .iter()
        .map(String::as_str)
        .take_while(|rule| !ends(rule))
        .any(|rule| rule == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCKER: &str = "-P FORWARD DROP\n-N DOCKER-USER\n-A FORWARD -j DOCKER-USER\n\
                          -A FORWARD -j DOCKER-FORWARD\n-A DOCKER-USER -j RETURN\n";

    #[test]
    fn the_rule_goes_to_docker_user_only_where_forward_leads_there() {
        assert_eq!(Chains::parse(DOCKER).best_place(), Place::DockerUser);
        let flushed = "-P FORWARD DROP\n-N DOCKER-USER\n-A DOCKER-USER -j RETURN\n";
        assert_eq!(Chains::parse(flushed).best_place(), Place::Forward);
        let shadowed = DOCKER.replace(
            "-A FORWARD -j DOCKER-USER",
            "-A FORWARD -j REJECT\n-A FORWARD -j DOCKER-USER",
        );
        assert_eq!(Chains::parse(&shadowed).best_place(), Place::Forward);
        assert_eq!(
            Chains::parse("-P FORWARD DROP\n").best_place(),
            Place::Forward
        );
    }

    #[test]
    fn a_rule_is_needed_only_where_something_may_be_dropped() {
        for (listing, needed) in [
            (DOCKER, true),
            ("", false),
            ("-P FORWARD ACCEPT\n", false),
            (
                "-P FORWARD ACCEPT\n-A FORWARD -i weave -o weave -j ACCEPT\n",
                false,
            ),
            ("-P FORWARD ACCEPT\n-A FORWARD -j firewalld\n", true),
            ("-P FORWARD DROP\n", true),
        ] {
            assert_eq!(Chains::parse(listing).may_drop, needed, "{listing}");
        }
    }

    #[test]
    fn a_rule_after_an_unconditional_return_does_not_count_as_working() {
        let late = format!("{DOCKER}-A DOCKER-USER -i weave -o weave -j ACCEPT\n");
        assert_eq!(Chains::parse(&late).effective(&accept("weave")), None);
        let early = late.replace("-A DOCKER-USER -j RETURN\n", "");
        assert_eq!(
            Chains::parse(&early).effective(&accept("weave")),
            Some(Place::DockerUser)
        );
        assert_eq!(Chains::parse(&early).effective(&accept("weave2")), None);
    }
}
