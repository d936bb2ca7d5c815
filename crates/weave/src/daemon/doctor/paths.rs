//! What is wrong on the way to peers: which side drops, who has another password, where long
//! datagrams vanish.
//!
//! A handshake that goes no further on the side that answers it means that the answers get lost:
//! both ends count those, and tell each other through a relay if there is one.

use std::net::SocketAddr;

use weave_node::{ConnectionState, ConnectionStatus, Knock, NodeStatus, Trouble};
use weave_sys::probe;
use weave_wire::PeerId;

use super::peers::{Answers, Said};
use crate::api::types::Finding;
use crate::daemon::admin::named;

/// One unfinished handshake may be chance.
const SEVERAL: u32 = 2;
/// Longer packets are never sent between hosts.
const LONGEST: u32 = 9_000;

/// Which direction passes, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    /// They hear us, and we do not hear them.
    ByThem,
    /// We hear them, and they do not hear us.
    ByUs,
    /// Neither hears the other.
    ByNobody,
    /// Both hear something.
    ByBoth,
    /// We hear nothing, and cannot ask what they hear.
    NotByUs,
}

/// What is wrong with connections, and with who knocks in vain.
pub(super) fn findings(status: &NodeStatus, knocks: &[Knock], answers: &Answers) -> Vec<Finding> {
    let mut findings: Vec<_> = status
        .connections
        .iter()
        .filter_map(|line| of_line(line, status, knocks, answers))
        .collect();
    findings.extend(knocks.iter().filter_map(|knock| of_knock(knock, status)));
    findings.extend(status.connections.iter().filter_map(|line| {
        let (addr, mtu, lost) = direct_mtu(line)?;
        let kernel = probe::route_mtu(addr).ok()?;
        black_hole(&who(line, status), mtu, lost, kernel)
    }));
    findings
}

fn of_line(
    line: &ConnectionStatus,
    status: &NodeStatus,
    knocks: &[Knock],
    answers: &Answers,
) -> Option<Finding> {
    match line.trouble {
        Some(Trouble::NoAnswer) => {
            let heard = heard(line, knocks, answers);
            let relayed = is_relayed(line.peer.as_ref(), status);
            Some(no_answer(&who(line, status), port(line), heard, relayed))
        }
        Some(Trouble::Refused(reason)) => Some(refused(&who(line, status), &reason.to_string())),
        None => None,
    }
}

fn heard(line: &ConnectionStatus, knocks: &[Knock], answers: &Answers) -> Heard {
    let addr: Option<SocketAddr> = line.address.parse().ok();
    let theirs = addr.is_some_and(|addr| {
        let mut knocks = knocks.iter();
        knocks.any(|knock| knock.source == addr.ip().to_canonical() && knock.unfinished >= SEVERAL)
    });
    let said = line.peer.as_ref().and_then(|peer| answers.get(peer));
    let ours = match said {
        Some(Said::Answer { unfinished, .. }) => Some(*unfinished >= SEVERAL),
        Some(Said::TooOld | Said::Silent) | None => None,
    };
    match (theirs, ours) {
        (true, Some(true)) => Heard::ByBoth,
        (true, Some(false) | None) => Heard::ByUs,
        (false, Some(true)) => Heard::ByThem,
        (false, Some(false)) => Heard::ByNobody,
        (false, None) => Heard::NotByUs,
    }
}

fn no_answer(who: &str, port: u16, heard: Heard, relayed: bool) -> Finding {
    let what = match heard {
        Heard::ByThem => format!(
            "UDP {port} is blocked one way: {who} hears this host, and its answers do not arrive here"
        ),
        Heard::ByUs => format!(
            "UDP {port} is blocked one way: this host hears {who}, and its answers do not arrive there"
        ),
        Heard::ByNobody => format!(
            "UDP {port} is blocked both ways: this host and {who} hear nothing of each other"
        ),
        Heard::ByBoth => format!(
            "this host and {who} hear each other's first datagrams on UDP {port}, and no handshake ends: longer ones, or those from another port, get lost"
        ),
        Heard::NotByUs => format!(
            "nothing comes from {who} on UDP {port}: it does not run, or a firewall drops what goes there or comes back"
        ),
    };
    let fix = match heard {
        Heard::ByThem => format!(
            "let UDP {port} from there into this host, and out of that one: `iptables -I INPUT -p udp --dport {port} -j ACCEPT`, and the same in security groups and routers between them"
        ),
        Heard::ByUs => format!(
            "let UDP {port} from this host into that one, and out of this one: `iptables -I INPUT -p udp --dport {port} -j ACCEPT` there, and the same in security groups and routers between them"
        ),
        Heard::ByNobody | Heard::ByBoth => {
            format!(
                "let UDP {port} through both ways, in the firewalls of both hosts and in what is between them"
            )
        }
        Heard::NotByUs => format!(
            "see whether weave runs there: `weave status`; run `weave doctor` there, too: it says whether it hears this host; then let UDP {port} through both ways"
        ),
    };
    let check = match heard {
        Heard::NotByUs => "peer-unreachable",
        Heard::ByThem | Heard::ByUs | Heard::ByNobody | Heard::ByBoth => "udp-blocked",
    };
    if relayed {
        let what = format!("{what}; a relay carries the traffic meanwhile");
        return Finding::warning(check, what).with_fix(fix);
    }
    Finding::error(check, what).with_fix(fix)
}

fn refused(who: &str, reason: &str) -> Finding {
    let finding = Finding::error("refused", format!("{who} refused this host: {reason}"));
    if reason.contains("password") {
        let fix = "give both hosts the same password: `weave launch --password-file FILE …` on the one that has the wrong one; `weave password list` shows generations";
        return Finding {
            check: "wrong-password".to_owned(),
            ..finding.with_fix(fix)
        };
    }
    finding.with_fix("`weave status connections` shows it; versions and options of both hosts must fit: `weave version`")
}

/// Somebody who knocks, and has no line.
fn of_knock(knock: &Knock, status: &NodeStatus) -> Option<Finding> {
    let from = knock.source;
    let at = |line: &ConnectionStatus| {
        let addr: Option<SocketAddr> = line.address.parse().ok();
        addr.is_some_and(|addr| addr.ip().to_canonical() == from)
    };
    if knock.wrong_password {
        return Some(
            Finding::warning(
                "wrong-password",
                format!("a host at {from} wants to connect with another password, and is refused"),
            )
            .with_fix("if it is to belong to this mesh, launch it with the password of this host"),
        );
    }
    if knock.unfinished < SEVERAL || status.connections.iter().any(at) {
        return None;
    }
    Some(
        Finding::warning(
            "udp-blocked",
            format!(
                "UDP is blocked one way: a host at {from} wants to connect and is heard here, and the answers of this host do not arrive there"
            ),
        )
        .with_fix("let UDP from this host into that one: see its firewall, and what is between them"),
    )
}

/// Address, MTU and smallest lost length of a direct path.
fn direct_mtu(line: &ConnectionStatus) -> Option<(SocketAddr, u32, u32)> {
    if line.state != ConnectionState::Established || line.relay.is_some() {
        return None;
    }
    let (mtu, lost) = (line.mtu?, line.lost_mtu?);
    Some((line.address.parse().ok()?, mtu.into(), lost.into()))
}

fn black_hole(who: &str, mtu: u32, lost: u32, kernel: u32) -> Option<Finding> {
    let expected = kernel.min(LONGEST);
    if lost > expected || mtu >= expected {
        return None;
    }
    let message = format!(
        "MTU black hole: on the way to {who} packets of more than {mtu} bytes vanish without a word, though the interface takes {kernel}; weave sends shorter ones, and looks again every 30 s while there is traffic; other programs of this host may hang"
    );
    Some(Finding::warning("mtu-black-hole", message).with_fix(format!(
        "find the link with the smaller MTU, or have its router answer with ICMP; or set the interface of this host to {mtu}: `ip link set dev … mtu {mtu}`"
    )))
}

fn is_relayed(peer: Option<&PeerId>, status: &NodeStatus) -> bool {
    let mut lines = status.connections.iter();
    peer.is_some()
        && lines.any(|line| {
            line.peer.as_ref() == peer
                && line.relay.is_some()
                && line.state == ConnectionState::Established
        })
}

fn who(line: &ConnectionStatus, status: &NodeStatus) -> String {
    match &line.peer {
        Some(peer) => format!("{} at {}", named(status, peer), line.address),
        None => line.address.clone(),
    }
}

fn port(line: &ConnectionStatus) -> u16 {
    let addr: Option<SocketAddr> = line.address.parse().ok();
    addr.map_or(6783, |addr| addr.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::Level;

    fn said(heard: Heard) -> String {
        no_answer("x", 6783, heard, false).message
    }

    #[test]
    fn the_side_that_drops_is_named() {
        assert!(said(Heard::ByThem).contains("answers do not arrive here"));
        assert!(said(Heard::ByUs).contains("answers do not arrive there"));
        assert!(said(Heard::ByNobody).contains("both ways"));
        assert!(said(Heard::NotByUs).contains("nothing comes from x"));
    }

    #[test]
    fn a_peer_behind_a_relay_is_a_warning_and_one_that_is_cut_off_an_error() {
        let level = |relayed| no_answer("x", 6783, Heard::ByNobody, relayed).level;
        assert_eq!((level(true), level(false)), (Level::Warning, Level::Error));
    }

    #[test]
    fn a_path_is_a_black_hole_where_packets_vanish_that_the_kernel_takes_for_whole() {
        assert!(black_hole("x", 1_200, 1_204, 1_500).is_some());
        assert!(black_hole("x", 1_500, 2_002, 1_500).is_none());
        assert!(black_hole("x", 1_200, 1_500, 1_200).is_none(), "ICMP told");
        assert!(black_hole("x", 1_500, 8_896, 9_000).is_some());
        assert!(black_hole("x", 9_000, 9_001, 65_536).is_none());
    }

    #[test]
    fn a_wrong_password_is_told_from_other_refusals() {
        assert_eq!(refused("x", "wrong password?").check, "wrong-password");
        assert_eq!(refused("x", "no common cipher").check, "refused");
    }
}
