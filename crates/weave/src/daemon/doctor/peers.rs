//! What peers say of themselves: their clocks and versions, and whether they answer at all.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use weave_node::{About, ConnectionState, InquiryError, NodeStatus};
use weave_wire::PeerId;

use crate::api::types::Finding;
use crate::daemon::admin::named;
use crate::daemon::control::Control;
use crate::daemon::inquiries::{self, AskError, told_ms};

/// Peers that are asked, at most.
const MOST_ASKED: usize = 64;
/// Clocks may differ by so much, milliseconds.
const CLOCKS_WITHIN: u64 = 5 * 60 * 1_000;

/// What a peer answered.
pub(super) enum Said {
    /// Its clock is ahead of ours by so many milliseconds, and so many handshakes of ours that it
    /// answered went no further.
    Answer {
        /// Milliseconds; negative where it is behind.
        ahead_ms: i64,
        /// Handshakes.
        unfinished: u32,
    },
    /// It is too old to be asked.
    TooOld,
    /// Nothing.
    Silent,
}

/// The answers of the peers with a session.
pub(super) type Answers = BTreeMap<PeerId, Said>;

/// Asks all peers that there is a session with.
pub(super) async fn ask_all(control: &Control, status: &NodeStatus) -> Answers {
    let lines = status.connections.iter();
    let reached = lines
        .filter(|line| line.state == ConnectionState::Established)
        .filter_map(|line| line.peer)
        .take(MOST_ASKED);
    join_all(reached.map(|peer| ask(control, peer)))
        .await
        .into_iter()
        .collect()
}

async fn ask(control: &Control, peer: PeerId) -> (PeerId, Said) {
    let said = match inquiries::ask(control, peer, About::Host).await {
        Ok((answer, _)) => Said::Answer {
            ahead_ms: ahead(answer.wall_ms, told_ms()),
            unfinished: answer.unfinished,
        },
        Err(AskError::Inquiry(InquiryError::TooOld)) => Said::TooOld,
        Err(AskError::Inquiry(_) | AskError::Silent | AskError::Stopped(_)) => Said::Silent,
    };
    (peer, said)
}

fn ahead(theirs: u64, ours: u64) -> i64 {
    let apart = i64::try_from(theirs.abs_diff(ours)).unwrap_or(i64::MAX);
    if theirs >= ours { apart } else { -apart }
}

/// What the answers tell.
pub(super) fn findings(status: &NodeStatus, answers: &Answers) -> Vec<Finding> {
    let mut findings: Vec<_> = answers
        .iter()
        .filter_map(|(peer, said)| of_peer(&named(status, peer), said))
        .collect();
    findings.extend(versions(status));
    findings
}

fn of_peer(who: &str, said: &Said) -> Option<Finding> {
    match said {
        Said::Answer { ahead_ms, .. } if ahead_ms.unsigned_abs() > CLOCKS_WITHIN => {
            let way = if *ahead_ms > 0 { "ahead of" } else { "behind" };
            let apart = span(ahead_ms.unsigned_abs() / 1_000);
            Some(
                Finding::info(
                    "clock",
                    format!(
                        "the clock of {who} is {apart} {way} that of this host; the mesh works \
                         all the same, only logs do not fit together"
                    ),
                )
                .with_fix("set the clock of whichever is wrong: `timedatectl set-ntp true`"),
            )
        }
        Said::Silent => Some(
            Finding::warning(
                "peer-silent",
                format!("{who} has a session with this host, and did not answer a question in it"),
            )
            .with_fix("run `weave doctor` on that host: it may be overloaded or going down"),
        ),
        Said::Answer { .. } | Said::TooOld => None,
    }
}

fn versions(status: &NodeStatus) -> Option<Finding> {
    let ours = env!("CARGO_PKG_VERSION");
    let others = status.peers.iter();
    let others: Vec<_> = others
        .filter(|peer| !peer.version.is_empty() && peer.version != ours)
        .map(|peer| format!("{} has {}", named(status, &peer.peer), peer.version))
        .collect();
    if others.is_empty() {
        return None;
    }
    let message = format!("this host runs weave {ours}; {}", others.join(", "));
    Some(
        Finding::info("version", message)
            .with_fix("versions work together; upgrade the older hosts when it suits you"),
    )
}

/// `3 years`, `2 days`, `10 minutes`.
fn span(seconds: u64) -> String {
    let units = [
        (365 * 86_400, "year"),
        (86_400, "day"),
        (3_600, "hour"),
        (60, "minute"),
        (1, "second"),
    ];
    let fitting = units.into_iter().find(|(len, _)| seconds >= *len);
    let (len, unit) = fitting.unwrap_or((1, "second"));
    match seconds / len {
        1 => format!("1 {unit}"),
        count => format!("{count} {unit}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(ahead_ms: i64) -> Said {
        Said::Answer {
            ahead_ms,
            unfinished: 0,
        }
    }

    #[test]
    fn a_clock_that_is_years_off_is_told_and_is_no_error() {
        let year = 365 * 86_400_000;
        let found = of_peer("x", &answer(-3 * year)).unwrap();
        assert_eq!(found.level, crate::api::types::Level::Info);
        assert!(found.message.contains("3 years behind"), "{found:?}");
        assert!(of_peer("x", &answer(299_000)).is_none());
        assert!(of_peer("x", &answer(i64::MIN)).is_some());
    }

    #[test]
    fn spans_are_told_in_their_largest_unit() {
        let told = [0, 59, 60, 7_200, 86_400, 800 * 86_400].map(span);
        assert_eq!(
            told,
            [
                "0 seconds",
                "59 seconds",
                "1 minute",
                "2 hours",
                "1 day",
                "2 years"
            ]
        );
        assert_eq!(ahead(0, u64::MAX), -i64::MAX);
    }
}
