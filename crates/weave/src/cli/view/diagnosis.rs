//! Text of `weave ping` and `weave doctor`.

use std::fmt::Write as _;

use super::{clean, millis};
use crate::api::types::{Finding, Layer, LayerState, Level, PingReport};
use crate::cli::selftest::Tested;

/// One round of `weave ping`: all layers of the first one, a line of any other.
pub(crate) fn round(report: &PingReport, first: bool) -> String {
    if first {
        return layers(report);
    }
    let text = match (report.failed(), report.rtt_us) {
        (Some(layer), _) => format!("{} fails: {}", layer.layer, layer.detail),
        (None, Some(rtt)) => format!("ok, the router answers in {}", millis(rtt)),
        (None, None) => "ok".to_owned(),
    };
    format!("{}\n", clean(&text))
}

fn layers(report: &PingReport) -> String {
    let mut text = clean(&report.target);
    if let Some(address) = report.address {
        let _ = write!(text, ", {address}");
    }
    if let Some(peer) = &report.peer {
        let _ = write!(text, ", on {}", clean(peer));
    }
    text.push('\n');
    text.extend(report.layers.iter().map(layer));
    text
}

fn layer(layer: &Layer) -> String {
    let state = match layer.state {
        LayerState::Ok => "ok",
        LayerState::Failed => "FAILED",
        LayerState::NotReached => "-",
    };
    let mut text = format!(
        "  {state:<6}  {:<9}  {}\n",
        layer.layer,
        clean(&layer.detail)
    );
    if let Some(hint) = &layer.hint {
        let _ = writeln!(text, "{:>21}hint: {}", "", clean(hint));
    }
    text
}

/// The last line of `weave ping`.
pub(crate) fn rounds(sent: u32, answered: u32, rtts_us: &[u64]) -> String {
    let mut text = match sent {
        1 => String::new(),
        _ => format!("{answered} of {sent} rounds found every layer well"),
    };
    let count = u64::try_from(rtts_us.len()).unwrap_or(u64::MAX);
    let (least, most) = (rtts_us.iter().min(), rtts_us.iter().max());
    if let (Some(least), Some(most), true) = (least, most, sent > 1) {
        let mean = rtts_us.iter().sum::<u64>().checked_div(count).unwrap_or(0);
        let _ = write!(
            text,
            "; the router answered in {} to {}, {} on average",
            millis(*least),
            millis(*most),
            millis(mean)
        );
    }
    if text.is_empty() {
        return text;
    }
    text.push('\n');
    text
}

/// `weave test`: a line for each peer.
pub(crate) fn tested(dns: Option<bool>, peers: &[Tested]) -> String {
    let mut text = format!(
        "{:<37} {:>10} {:<5} {:>8} {:<9} {:>11}\n",
        "peer", "ping", "whole", "udp", "multicast", "tcp"
    );
    text.extend(peers.iter().map(tested_peer));
    if let Some(answers) = dns {
        let verdict = if answers { "ok" } else { "FAILED" };
        let _ = writeln!(text, "names: {verdict}");
    }
    text
}

fn tested_peer(peer: &Tested) -> String {
    let who = clean(&peer.peer);
    if let Some(error) = &peer.error {
        return format!("{who:<37} not tested: {}\n", clean(error));
    }
    let verdict = |well: bool| if well { "ok" } else { "FAILED" };
    let ping = peer.ping_us.map_or_else(|| "FAILED".to_owned(), millis);
    let tcp = peer
        .mbits
        .map_or_else(|| "FAILED".to_owned(), |rate| format!("{rate} Mbit/s"));
    format!(
        "{who:<37} {ping:>10} {:<5} {:>4}/100 {:<9} {tcp:>11}\n",
        verdict(peer.whole),
        peer.udp,
        verdict(peer.multicast)
    )
}

/// `weave doctor`.
pub(crate) fn findings(findings: &[Finding]) -> String {
    let mut text: String = findings.iter().map(finding).collect();
    let count = |level| findings.iter().filter(|one| one.level == level).count();
    let counts = [
        (count(Level::Error), "error", "errors"),
        (count(Level::Warning), "warning", "warnings"),
        (count(Level::Info), "note", "notes"),
    ];
    let words: Vec<_> = counts
        .iter()
        .filter(|(count, _, _)| *count > 0)
        .map(|(count, one, many)| format!("{count} {}", if *count == 1 { one } else { many }))
        .collect();
    let verdict = match words.as_slice() {
        [] => "nothing is wrong".to_owned(),
        words => words.join(", "),
    };
    let _ = writeln!(text, "{verdict}");
    text
}

fn finding(finding: &Finding) -> String {
    let level = match finding.level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Info => "note",
    };
    let mut text = format!(
        "{level:<8} {}: {}\n",
        clean(&finding.check),
        clean(&finding.message)
    );
    if let Some(fix) = &finding.fix {
        let _ = writeln!(text, "{:>9}fix: {}", "", clean(fix));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(layer: &str, state: LayerState, detail: &str, hint: Option<&str>) -> Layer {
        Layer {
            layer: layer.to_owned(),
            state,
            detail: detail.to_owned(),
            hint: hint.map(str::to_owned),
        }
    }

    fn broken() -> PingReport {
        PingReport {
            target: "db".to_owned(),
            address: Some([10, 32, 0, 5].into()),
            peer: Some("4a:0f:f6:ec:1c:93(lon)".to_owned()),
            layers: vec![
                one("name", LayerState::Ok, "10.32.0.5", None),
                one(
                    "path",
                    LayerState::Failed,
                    "no answer on UDP 6783\u{1b}[2J",
                    Some("`weave doctor` says more"),
                ),
                one(
                    "container",
                    LayerState::NotReached,
                    "the path comes first",
                    None,
                ),
            ],
            rtt_us: None,
        }
    }

    #[test]
    fn each_layer_has_a_line_and_the_one_that_fails_a_hint() {
        insta::assert_snapshot!(round(&broken(), true), @"
        db, 10.32.0.5, on 4a:0f:f6:ec:1c:93(lon)
          ok      name       10.32.0.5
          FAILED  path       no answer on UDP 6783?[2J
                             hint: `weave doctor` says more
          -       container  the path comes first
        ");
        insta::assert_snapshot!(round(&broken(), false), @"path fails: no answer on UDP 6783?[2J");
    }

    #[test]
    fn several_rounds_are_summed_up() {
        insta::assert_snapshot!(rounds(3, 2, &[900, 1_234]), @"2 of 3 rounds found every layer well; the router answered in 0.90 ms to 1.23 ms, 1.06 ms on average");
        assert_eq!(rounds(1, 1, &[900]), "");
    }

    #[test]
    fn a_test_has_a_line_for_each_peer() {
        let well = Tested {
            peer: "2e:77:01:aa:00:01(lon)".to_owned(),
            error: None,
            ping_us: Some(812),
            whole: true,
            udp: 100,
            multicast: true,
            mbits: Some(934),
        };
        let bad = Tested {
            peer: "9c:77:01:aa:00:02(mac)".to_owned(),
            udp: 3,
            ..Tested::default()
        };
        let old = Tested {
            peer: "c0:77:01:aa:00:03(old)".to_owned(),
            error: Some("that host runs an older weave, which cannot be asked".to_owned()),
            ..Tested::default()
        };
        assert!(well.is_well() && !bad.is_well() && !old.is_well());
        insta::assert_snapshot!(tested(Some(true), &[well, bad, old]));
        assert!(!tested(None, &[]).contains("names"));
    }

    #[test]
    fn findings_come_with_their_fix_and_are_counted() {
        let found = [
            Finding::error("docker", "dockerd does not answer").with_fix("systemctl start docker"),
            Finding::info("version", "older"),
        ];
        insta::assert_snapshot!(findings(&found), @"
        error    docker: dockerd does not answer
                 fix: systemctl start docker
        note     version: older
        1 error, 1 note
        ");
        assert_eq!(findings(&[]), "nothing is wrong\n");
    }
}
