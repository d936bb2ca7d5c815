//! The report as Markdown.

use std::fmt::Write;

use super::figures::Figure;
use super::overlay::Mode;
use super::report::{Entry, Report};
use super::statistics::Spread;

/// One table: its title, and the columns with their titles.
type Table = (&'static str, &'static [(&'static str, Figure)]);

const TABLES: [Table; 3] = [
    (
        "TCP",
        &[
            ("1 stream, Gbit/s", Figure::Tcp1Gbits),
            ("4 streams, Gbit/s", Figure::Tcp4Gbits),
            ("reverse, Gbit/s", Figure::ReverseGbits),
            ("retransmits, 1 stream", Figure::Tcp1Retransmits),
            ("daemon CPU, s/GB", Figure::CpuSecondsPerGigabyte),
        ],
    ),
    (
        "UDP, thousands of datagrams per second",
        &[
            ("64 bytes, <0.5 % lost", Figure::Udp64LossFreeKpps),
            ("64 bytes, of a flood", Figure::Udp64FloodKpps),
            ("1,200 bytes, <0.5 % lost", Figure::Udp1200LossFreeKpps),
            ("1,200 bytes, of a flood", Figure::Udp1200FloodKpps),
        ],
    ),
    (
        "Round trips, µs",
        &[
            ("idle, mean", Figure::RttIdleMeanMicros),
            ("idle, p50", Figure::RttIdleP50Micros),
            ("idle, p99", Figure::RttIdleP99Micros),
            ("half load, p50", Figure::RttHalfP50Micros),
            ("half load, p99", Figure::RttHalfP99Micros),
            ("beside a stream, p50", Figure::RttBulkP50Micros),
            ("beside a stream, p99", Figure::RttBulkP99Micros),
        ],
    ),
];

/// Machine, tables, what the overlays are, and what failed.
pub(super) fn render(report: &Report) -> String {
    let mut text = head(report);
    for (title, columns) in TABLES {
        let _ = write!(text, "\n### {title}\n\n| overlay |");
        for (column, _) in columns {
            let _ = write!(text, " {column} |");
        }
        let _ = writeln!(text, "\n|---|{}", "---|".repeat(columns.len()));
        for entry in &report.entries {
            let _ = writeln!(text, "{}", row(report, entry, columns));
        }
    }
    text.push_str("\n### Overlays\n\n");
    for entry in &report.entries {
        let _ = writeln!(text, "{}", description(entry));
    }
    text
}

fn head(report: &Report) -> String {
    let machine = &report.machine;
    let mut text = format!(
        "{}: {}, {} cores, {} GiB, {}, Linux {}, revision {}.\n`cargo xtask {}`\n\n",
        machine.date,
        machine.cpu,
        machine.cores,
        machine.memory_gib,
        machine.system,
        machine.kernel,
        machine.revision,
        machine.command_line.join(" "),
    );
    let samples = report.entries.iter().map(|entry| entry.samples.len()).max();
    let _ = writeln!(
        text,
        "Medians (min–max) of {} repetitions, ×: the ratio to vxlan. TCP: {}. Packets lost on the underlay: {} %.",
        samples.unwrap_or_default(),
        report.congestion,
        report.loss_percent,
    );
    text
}

fn row(report: &Report, entry: &Entry, columns: &[(&str, Figure)]) -> String {
    let mut row = format!("| {} |", entry.overlay.name);
    if entry.samples.is_empty() {
        let _ = write!(row, " failed |{}", " |".repeat(columns.len() - 1));
        return row;
    }
    for (_, figure) in columns {
        let cell = entry.spread(*figure).map_or_else(
            || "–".to_owned(),
            |spread| {
                let reference = report.reference().and_then(|entry| entry.spread(*figure));
                cell(spread, reference.filter(|_| has_ratio(*figure)))
            },
        );
        let _ = write!(row, " {cell} |");
    }
    row
}

/// vxlan has no daemons, and retransmits vary too much.
fn has_ratio(figure: Figure) -> bool {
    !matches!(
        figure,
        Figure::CpuSecondsPerGigabyte | Figure::Tcp1Retransmits
    )
}

fn cell(spread: Spread, reference: Option<Spread>) -> String {
    let Spread { median, min, max } = spread;
    let mut cell = format!("**{}**", number(median));
    if number(min) != number(max) {
        let _ = write!(cell, " ({}–{})", number(min), number(max));
    }
    if let Some(reference) = reference.filter(|reference| reference.median > 0.0) {
        let _ = write!(cell, " ×{}", number(median / reference.median));
    }
    cell
}

/// About three digits.
pub(super) fn number(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 0.1 || size == 0.0 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

fn description(entry: &Entry) -> String {
    let mode = match entry.overlay.mode {
        Mode::None => "host to host",
        Mode::L2 => "container – bridge – device",
        Mode::L3 => "the host's own traffic over a TUN device",
    };
    let mut text = format!(
        "- **{}**: {}; {mode}",
        entry.overlay.name, entry.overlay.description
    );
    if let Some(mtu) = entry.mtu {
        let _ = write!(text, ", MTU {mtu}");
    }
    if let Some(version) = &entry.version {
        let _ = write!(text, ". Version: {version}");
    }
    for failure in &entry.failures {
        let _ = write!(
            text,
            "\n  - repetition {} failed: {}",
            failure.repetition, failure.what
        );
        for line in &failure.log {
            let _ = write!(text, "\n    `{line}`");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::testing::example;

    #[test]
    fn a_row_has_median_spread_and_ratio_to_vxlan() {
        let text = render(&example());
        for line in [
            "| overlay | 1 stream, Gbit/s | 4 streams, Gbit/s | reverse, Gbit/s | \
             retransmits, 1 stream | daemon CPU, s/GB |",
            "|---|---|---|---|---|---|",
            "| vxlan | **9.00** (8.00–10.0) ×1.00 | – | – | – | – |",
            "| weave | **4.50** ×0.50 | – | – | – | – |",
            "| broken | failed | | | | |",
            "| weave | – | – | – | – | – | **120** ×2.00 | – |",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
    }

    #[test]
    fn the_report_tells_the_machine_and_why_an_overlay_failed() {
        let text = render(&example());
        assert!(
            text.starts_with("2026-01-02 03:04: Some CPU, 2 cores, 4 GiB, Some Linux, Linux 6.1")
        );
        assert!(text.contains("Medians (min–max) of 2 repetitions"));
        let failure = "  - repetition 0 failed: cargo failed: no such crate\n    `host1: gone`\n";
        assert!(text.ends_with(failure), "{text}");
    }

    #[test]
    fn numbers_have_about_three_digits() {
        let numbers = [0.0, 0.0391, 0.126, 9.994, 12.34, 219.4, 65_535.0].map(number);
        assert_eq!(
            numbers,
            ["0.00", "0.039", "0.13", "9.99", "12.3", "219", "65535"]
        );
    }
}
