//! What only the router knows of its own host: its bridges and containers in the kernel, its disk,
//! its addresses, and whether another host has its identity.

use std::net::IpAddr;

use weave_node::NodeStatus;
use weave_sys::firewall::Passage;
use weave_wire::Cidr;

use crate::api::types::Finding;
use crate::daemon::admin::{self, Admin};

/// Of the addresses of a subnet, those that no container gets: network, broadcast, gateway.
const RESERVED: u128 = 3;
/// From this share on a subnet is nearly full, percent.
const NEARLY_FULL: u128 = 90;
/// The same of open files.
const NEARLY_OUT: u64 = 80;

/// Everything that is wrong here.
pub(super) async fn findings(admin: &Admin, status: &NodeStatus) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(status.clones.iter().map(|clone| {
        Finding::error("duplicate-identity", admin::cloned(clone, status))
            .with_fix("on the host that is the copy: `weave reset`, then launch it again")
    }));
    for (bridge, passage) in admin.networks.passages().await {
        findings.extend(of_passage(&bridge, passage));
    }
    findings.extend(admin.unguarded().map(|message| {
        Finding::warning("guard", message).with_fix(
            "install nft: `apt-get install nftables`; the kernel needs nf_tables for bridges",
        )
    }));
    findings.extend(of_unredirected(&admin.networks.unredirected().await));
    findings.extend(of_disk(admin.networks.store().failure()));
    findings.extend(of_allocator(&status.ipam.state, &status.ipam.notes));
    findings.extend(of_subnets(admin).await);
    findings.extend(of_files());
    findings
}

fn of_passage(bridge: &str, passage: weave_sys::Result<Passage>) -> Option<Finding> {
    let (why, fix) = match passage {
        Ok(Passage::Open | Passage::Accepted(_)) => return None,
        Ok(Passage::Closed) => (
            "FORWARD has policy DROP and no rule of weave works".to_owned(),
            format!(
                "weave puts its rule back within seconds; if this stays, something removes it: let it, or add `iptables -I DOCKER-USER -i {bridge} -o {bridge} -j ACCEPT` to that"
            ),
        ),
        Ok(Passage::Before(rule)) => (
            format!("the rule `{rule}` comes before that of weave"),
            format!("remove it: `iptables {}`", rule.replacen("-A ", "-D ", 1)),
        ),
        Err(error) => {
            let message = format!("the firewall of this host cannot be looked at: {error}");
            let fix = error.hint().unwrap_or("install iptables");
            return Some(Finding::warning("firewall", message).with_fix(fix));
        }
    };
    let message = format!(
        "the firewall of this host drops what containers on bridge {bridge} send each other: {why}"
    );
    Some(Finding::error("forward-drop", message).with_fix(fix))
}

fn of_unredirected(containers: &[String]) -> Option<Finding> {
    if containers.is_empty() {
        return None;
    }
    let message = format!(
        "the DNS redirect is missing in the namespace of {}: names of other containers are not found there",
        containers.join(", ")
    );
    Some(Finding::error("dns-redirect", message).with_fix(
        "weave puts it back within 30 s; if this stays, something in the container flushes its nat table: keep it from that, or ask 169.254.53.53 there",
    ))
}

fn of_disk(failure: Option<String>) -> Option<Finding> {
    let message = format!("the state of weave cannot be written: {}", failure?);
    Some(Finding::disk(message))
}

fn of_allocator(state: &str, notes: &[String]) -> Vec<Finding> {
    let broken = state.starts_with("failed") || state.starts_with("all IP ranges");
    let broken = broken
        .then(|| Finding::error("addresses", format!("no address can be given out: {state}")));
    let notes = notes
        .iter()
        .map(|note| Finding::warning("addresses", note.clone()));
    let all = broken.into_iter().chain(notes);
    all.map(|finding| finding.with_fix("`weave status ipam` shows who owns what"))
        .collect()
}

async fn of_subnets(admin: &Admin) -> Vec<Finding> {
    let mut findings = Vec::new();
    for subnet in admin.networks.subnets().await {
        let control = admin.networks.control();
        let used = control.call(move |node, _| node.announced_in(subnet)).await;
        if let Ok(used) = used {
            findings.extend(of_subnet(subnet, used.into()));
        }
    }
    findings
}

fn of_subnet(subnet: Cidr, used: u128) -> Option<Finding> {
    let IpAddr::V4(_) = subnet.first() else {
        return None;
    };
    let usable = subnet.size().saturating_sub(RESERVED);
    let message = format!("{used} of the {usable} addresses of subnet {subnet} are in use");
    let fix = "remove containers that are not needed, or make another network with a larger subnet: `docker network create -d weavemesh --subnet …`";
    if used >= usable {
        let message =
            format!("subnet {subnet} is full: {message}; no further container can start there");
        return Some(Finding::error("subnet-full", message).with_fix(fix));
    }
    let nearly = used * 100 >= usable * NEARLY_FULL && usable > RESERVED;
    nearly.then(|| Finding::warning("subnet-full", message).with_fix(fix))
}

fn of_files() -> Option<Finding> {
    let usage = weave_sys::usage::usage().ok()?;
    let (open, limit) = (usage.open_files, usage.open_files_limit);
    if open * 100 < limit * NEARLY_OUT {
        return None;
    }
    let message = format!("the router has {open} files open, of at most {limit}");
    Some(
        Finding::warning("open-files", message).with_fix(
            "raise the limit: `--ulimit nofile` of dockerd, LimitNOFILE= of weave.service",
        ),
    )
}

#[cfg(test)]
mod tests {
    use weave_sys::firewall::Place;

    use super::*;
    use crate::api::types::Level;

    #[test]
    fn a_rule_that_drops_comes_with_the_command_that_removes_it() {
        let rule = "-A FORWARD -i weave -j DROP".to_owned();
        let found = of_passage("weave", Ok(Passage::Before(rule))).unwrap();
        assert_eq!(found.check, "forward-drop");
        assert!(
            found
                .fix
                .unwrap()
                .contains("iptables -D FORWARD -i weave -j DROP")
        );
        let fine = Ok(Passage::Accepted(Place::DockerUser));
        assert_eq!(of_passage("weave", fine), None);
    }

    #[test]
    fn a_subnet_is_told_when_it_is_full_and_before() {
        let level = |subnet: &str, used| {
            of_subnet(subnet.parse().unwrap(), used).map(|finding| finding.level)
        };
        assert_eq!(level("10.40.0.0/29", 5), Some(Level::Error));
        assert_eq!(level("10.40.0.0/29", 4), None);
        assert_eq!(level("10.40.0.0/24", 227), None);
        assert_eq!(level("10.40.0.0/24", 228), Some(Level::Warning));
        assert_eq!(level("fd00::/64", 5), None);
    }

    #[test]
    fn an_allocator_that_waits_is_not_broken() {
        assert!(of_allocator("waiting: for peers", &[]).is_empty());
        assert_eq!(of_allocator("failed: disk", &["x".to_owned()]).len(), 2);
    }
}
