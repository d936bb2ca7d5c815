//! The first line of `weave status`: whether all is well, and if not, what is wrong first.

use crate::api::types::{ConnectionState, RouterStatus, StatusReport};

/// One line.
pub(super) fn verdict(report: &StatusReport) -> String {
    let problems = problems(report);
    let Some(first) = problems.first() else {
        return well(report);
    };
    match problems.len() - 1 {
        0 => format!("not well: {first}"),
        1 => format!("not well: {first}, and 1 more problem"),
        more => format!("not well: {first}, and {more} more problems"),
    }
}

fn well(report: &StatusReport) -> String {
    let others = report.router.peers.len().saturating_sub(1);
    match others {
        0 if report.router.targets.is_empty() => {
            "well: this host is alone, until another one is launched with its address".to_owned()
        }
        0 => "well: no other host is known yet".to_owned(),
        1 => "well: this host and 1 other are connected".to_owned(),
        _ => format!("well: this host and {others} others are connected"),
    }
}

/// What keeps something from working, the worst first.
fn problems(report: &StatusReport) -> Vec<String> {
    let router = &report.router;
    let mut problems = Vec::new();
    if router.banned.iter().any(|ban| ban.name == router.name) {
        problems.push("this host is banned from the mesh".to_owned());
    }
    if !report.ready {
        let waiting_for = report.waiting_for.as_deref().unwrap_or("its start");
        problems.push(format!("the router waits for {waiting_for}"));
    }
    problems.extend(unconnected(router));
    if let Some(ipam) = &report.ipam {
        let state = ipam.status.split(';').next().unwrap_or_default();
        if !matches!(state, "ready" | "idle") {
            problems.push(format!("addresses: {state}"));
        }
        let unreachable = ipam.entries.iter().filter(|owner| !owner.reachable);
        match unreachable.count() {
            0 => {}
            1 => problems.push("1 owner of addresses cannot be reached".to_owned()),
            many => problems.push(format!("{many} owners of addresses cannot be reached")),
        }
    }
    problems.extend(router.warnings.iter().map(|_| "see Warning".to_owned()));
    problems
}

/// Connections that ought to be there and are not. One to this host itself is none.
fn unconnected(router: &RouterStatus) -> Option<String> {
    let down = router
        .connections
        .iter()
        .filter(|connection| match connection.state {
            ConnectionState::Retrying | ConnectionState::Pending | ConnectionState::Connecting => {
                true
            }
            ConnectionState::Established | ConnectionState::Resting | ConnectionState::Failed => {
                false
            }
        });
    match down.count() {
        0 => None,
        1 => Some("1 connection is not up, see `weave status connections`".to_owned()),
        many => Some(format!(
            "{many} connections are not up, see `weave status connections`"
        )),
    }
}
