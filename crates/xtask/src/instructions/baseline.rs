//! Counts of before and of now, side by side.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// What a count may change by before anyone has to look, percent.
const TOLERANCE: u64 = 5;

/// Instructions for each item, by case.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Baseline(BTreeMap<String, u64>);

impl Baseline {
    /// # Errors
    /// When it is not there or is no baseline.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read(path);
        let text = text.with_context(|| {
            format!(
                "read {}\nhint: run with --update to write it",
                path.display()
            )
        })?;
        serde_json::from_slice(&text).with_context(|| format!("understand {}", path.display()))
    }

    /// # Errors
    /// When it cannot be written.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
    }

    pub(super) fn insert(&mut self, case: String, instructions: u64) {
        self.0.insert(case, instructions);
    }
}

/// Every case of before or of now; displayed as a table.
#[derive(Debug)]
pub(super) struct Comparison(Vec<Row>);

#[derive(Debug)]
struct Row {
    case: String,
    before: Option<u64>,
    now: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Same,
    Grown,
    Shrunk,
    New,
    Gone,
}

impl Comparison {
    pub(super) fn new(before: &Baseline, now: &Baseline) -> Self {
        let mut cases: Vec<&String> = before.0.keys().chain(now.0.keys()).collect();
        cases.sort();
        cases.dedup();
        let row = |case: &String| Row {
            case: case.clone(),
            before: before.0.get(case).copied(),
            now: now.0.get(case).copied(),
        };
        Self(cases.into_iter().map(row).collect())
    }

    /// Whether nothing has grown, and the baseline has the cases that there are.
    pub(super) fn is_good(&self) -> bool {
        self.0.iter().all(|row| match row.change() {
            Change::Same | Change::Shrunk => true,
            Change::Grown | Change::New | Change::Gone => false,
        })
    }
}

impl Row {
    fn change(&self) -> Change {
        match (self.before, self.now) {
            (_, None) => Change::Gone,
            (None, Some(_)) => Change::New,
            (Some(before), Some(now)) if now * 100 > before * (100 + TOLERANCE) => Change::Grown,
            (Some(before), Some(now)) if now * 100 < before * (100 - TOLERANCE) => Change::Shrunk,
            (Some(_), Some(_)) => Change::Same,
        }
    }

    /// Percent, with a sign.
    fn percent(&self) -> String {
        let (Some(before), Some(now)) = (self.before, self.now) else {
            return String::new();
        };
        let before = u32::try_from(before).map_or(f64::NAN, f64::from);
        let now = u32::try_from(now).map_or(f64::NAN, f64::from);
        format!("{:+.1} %", (now / before - 1.0) * 100.0)
    }
}

impl Change {
    /// What there is to say about it.
    const fn remark(self) -> &'static str {
        match self {
            Self::Same => "",
            Self::Grown => "  GROWN: run with --update if it has to be",
            Self::Shrunk => "  run with --update to keep it",
            Self::New => "  NOT IN THE BASELINE: run with --update",
            Self::Gone => "  ONLY IN THE BASELINE: run with --update",
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<24}{:>10}{:>10}{:>10}",
            "instructions for each", "baseline", "now", "change"
        )?;
        let shown =
            |count: Option<u64>| count.map_or_else(|| "-".to_owned(), |count| count.to_string());
        for row in &self.0 {
            let (before, now, percent) = (shown(row.before), shown(row.now), row.percent());
            let line = format!(
                "{:<24}{before:>10}{now:>10}{percent:>10}{}",
                row.case,
                row.change().remark()
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(counts: &[(&str, u64)]) -> Baseline {
        Baseline(
            counts
                .iter()
                .map(|(case, count)| ((*case).to_owned(), *count))
                .collect(),
        )
    }

    fn compared(before: &[(&str, u64)], now: &[(&str, u64)]) -> (Comparison, bool) {
        let comparison = Comparison::new(&counts(before), &counts(now));
        let is_good = comparison.is_good();
        (comparison, is_good)
    }

    #[test]
    fn growth_beyond_five_percent_fails() {
        assert!(compared(&[("seal", 1000)], &[("seal", 1050)]).1);
        assert!(!compared(&[("seal", 1000)], &[("seal", 1051)]).1);
        assert!(!compared(&[("cut", 9), ("seal", 1000)], &[("cut", 9), ("seal", 1051)]).1);
    }

    #[test]
    fn a_gain_beyond_five_percent_is_told_and_does_not_fail() {
        let (comparison, is_good) = compared(&[("seal", 1000)], &[("seal", 949)]);
        assert!(is_good);
        assert!(comparison.to_string().contains("--update to keep it"));
        let (comparison, _) = compared(&[("seal", 1000)], &[("seal", 950)]);
        assert!(!comparison.to_string().contains("--update"));
    }

    #[test]
    fn a_baseline_that_has_other_cases_fails() {
        assert!(!compared(&[], &[("seal", 1)]).1);
        assert!(!compared(&[("seal", 1)], &[]).1);
    }

    #[test]
    fn the_table_has_each_case_with_both_counts_and_the_change() {
        let (comparison, _) = compared(
            &[("coalesce", 200), ("old", 5), ("seal", 1000)],
            &[("coalesce", 201), ("new", 7), ("seal", 1200)],
        );
        let expected = "\
instructions for each     baseline       now    change
coalesce                       200       201    +0.5 %
new                              -         7            NOT IN THE BASELINE: run with --update
old                              5         -            ONLY IN THE BASELINE: run with --update
seal                          1000      1200   +20.0 %  GROWN: run with --update if it has to be
";
        assert_eq!(comparison.to_string(), expected);
    }

    #[test]
    fn a_baseline_is_read_as_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("instructions.json");
        let written = counts(&[("coalesce", 200), ("seal", 1000)]);
        written.write(&path).unwrap();
        assert_eq!(Baseline::read(&path).unwrap(), written);
        std::fs::write(&path, "[]").unwrap();
        assert!(Baseline::read(&path).is_err());
    }
}
