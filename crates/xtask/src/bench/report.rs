//! What a run found, and the files that it is written to.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use super::figures::{Figure, Figures};
use super::machine::Machine;
use super::overlay::Overlay;
use super::progress::Say;
use super::statistics::{self, Spread};
use super::{Options, plot, table};

/// Everything.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) machine: Machine,
    pub(super) loss_percent: f64,
    pub(super) congestion: &'static str,
    pub(super) entries: Vec<Entry>,
}

/// What is known of one overlay.
#[derive(Debug, Serialize)]
pub(super) struct Entry {
    #[serde(flatten)]
    pub(super) overlay: Overlay,
    pub(super) version: Option<String>,
    /// Largest IP packet inside, bytes.
    pub(super) mtu: Option<u32>,
    /// Whether what it needs is there.
    #[serde(skip)]
    pub(super) is_available: bool,
    pub(super) samples: Vec<Sample>,
    pub(super) failures: Vec<Failure>,
}

/// One repetition.
#[derive(Debug, Serialize)]
pub(super) struct Sample {
    pub(super) repetition: u32,
    pub(super) figures: Figures,
}

/// Why a repetition, or all with number 0, gave nothing or not everything.
#[derive(Debug, Serialize)]
pub(super) struct Failure {
    pub(super) repetition: u32,
    pub(super) what: String,
    /// The last lines that the overlay said.
    pub(super) log: Vec<String>,
}

impl Report {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            machine: Machine::this(),
            loss_percent: options.loss,
            congestion: options.congestion.name(),
            entries: Vec::new(),
        }
    }

    /// The entry that the others are compared with, once it has been measured.
    pub(super) fn reference(&self) -> Option<&Entry> {
        let mut entries = self.entries.iter();
        entries.find(|entry| entry.overlay.name == "vxlan" && !entry.samples.is_empty())
    }

    /// Writes figures, table and plot.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(super) fn write(&self, directory: &Path) -> Result<()> {
        let write = |name: &str, text: String| {
            let path = directory.join(name);
            std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))
        };
        write("overlays.json", serde_json::to_string_pretty(self)? + "\n")?;
        write("overlays.md", table::render(self))?;
        write("overlays.svg", plot::render(self))
    }
}

impl Entry {
    pub(super) fn new(overlay: Overlay) -> Self {
        Self {
            overlay,
            version: None,
            mtu: None,
            is_available: true,
            samples: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Tells of a failure, and keeps it.
    pub(super) fn fail(&mut self, progress: &impl Say, failure: Failure) {
        progress.say(&format!("FAILED: {}", failure.what));
        for line in &failure.log {
            progress.say(&format!("  {line}"));
        }
        self.failures.push(failure);
    }

    /// A figure over all repetitions.
    pub(super) fn spread(&self, figure: Figure) -> Option<Spread> {
        let values = self
            .samples
            .iter()
            .filter_map(|sample| sample.figures.get(&figure));
        statistics::spread(values.copied())
    }
}

impl Failure {
    pub(super) fn new(repetition: u32, error: &anyhow::Error, log: Vec<String>) -> Self {
        Self {
            repetition,
            what: format!("{error:#}"),
            log,
        }
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::super::overlay;
    use super::*;

    /// vxlan and weave measured twice, and one that could not be.
    pub(in super::super) fn example() -> Report {
        let machine = Machine {
            cpu: "Some CPU".into(),
            cores: 2,
            memory_gib: 4,
            kernel: "6.1".into(),
            system: "Some Linux".into(),
            revision: "abc".into(),
            date: "2026-01-02 03:04".into(),
            command_line: vec!["bench".into(), "overlays".into()],
        };
        let mut broken = entry("broken", &[]);
        let error = anyhow::anyhow!("no such crate").context("cargo failed");
        let log = vec!["host1: gone".into()];
        broken.failures.push(Failure::new(0, &error, log));
        Report {
            machine,
            loss_percent: 0.0,
            congestion: "cubic",
            entries: vec![
                entry("vxlan", &[(10.0, 50.0), (8.0, 70.0)]),
                entry("weave", &[(4.5, 120.0), (4.5, 120.0)]),
                broken,
            ],
        }
    }

    fn entry(name: &str, samples: &[(f64, f64)]) -> Entry {
        let header = "DESCRIPTION=\"fast & small\"\nMODE=\"l2\"\n";
        let mut entry = Entry::new(overlay::parse(name, header).unwrap());
        entry.mtu = Some(1400);
        entry.version = Some("1.0".into());
        for (repetition, (gbits, micros)) in (1..).zip(samples) {
            let figures = [
                (Figure::Tcp1Gbits, *gbits),
                (Figure::RttBulkP50Micros, *micros),
            ];
            entry.samples.push(Sample {
                repetition,
                figures: figures.into(),
            });
        }
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_and_failure_is_written() {
        let directory = tempfile::tempdir().unwrap();
        testing::example().write(directory.path()).unwrap();
        let text = std::fs::read(directory.path().join("overlays.json")).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let at = |pointer| json.pointer(pointer).unwrap_or_else(|| panic!("{pointer}"));
        assert_eq!(at("/entries/0/samples/1/figures/tcp1_gbits"), 8.0);
        assert_eq!(at("/entries/0/mode"), "l2");
        assert_eq!(
            at("/entries/2/failures/0/what"),
            "cargo failed: no such crate"
        );
        assert_eq!(at("/machine/cores"), 2);
        assert!(directory.path().join("overlays.md").exists());
        assert!(directory.path().join("overlays.svg").exists());
    }
}
