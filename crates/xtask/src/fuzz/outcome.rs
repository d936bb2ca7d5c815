//! What a fuzzer says about its run.

use std::fmt;

/// What came of a target, over all processes.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    executions: u64,
    per_second: u64,
    edges: u64,
    inputs: u64,
    failed: u32,
}

impl Outcome {
    /// Adds what a process wrote, and whether it ended well.
    pub(super) fn add(&mut self, said: &str, is_good: bool) {
        let of = |name: &str| {
            let stats = said.lines().filter_map(|line| line.strip_prefix("stat::"));
            let value = stats
                .filter_map(|stat| stat.split_once(':'))
                .find(|(stat, _)| *stat == name);
            value.and_then(|(_, value)| value.trim().parse().ok())
        };
        self.executions += of("number_of_executed_units").unwrap_or(0);
        self.per_second += of("average_exec_per_sec").unwrap_or(0);
        self.edges = self.edges.max(last(said, "cov:").unwrap_or(0));
        self.inputs = self.inputs.max(last(said, "corp:").unwrap_or(0));
        self.failed += u32::from(!is_good);
    }

    /// Whether every process ended well.
    pub(super) fn is_good(&self) -> bool {
        self.failed == 0
    }
}

/// The number that was last said to be `what`: `#4096 pulse cov: 1729 ft: 5012 corp: 80/4231b …`.
fn last(said: &str, what: &str) -> Option<u64> {
    let mut lines = said.lines().rev().filter(|line| line.starts_with('#'));
    lines.find_map(|line| {
        let mut words = line.split_whitespace().skip_while(|word| *word != what);
        let number = words.nth(1)?.split('/').next()?;
        number.parse().ok()
    })
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} executions ({} per second), {} edges reached, {} inputs, ",
            self.executions, self.per_second, self.edges, self.inputs
        )?;
        match self.failed {
            0 => f.write_str("no finding"),
            failed => write!(f, "{failed} stopped by a finding"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_of_a_fuzzer_are_understood() {
        let said = "INFO: seed corpus: files: 9\n\
            #10\tINITED cov: 900 ft: 1200 corp: 9/1Kb exec/s: 0 rss: 44Mb\n\
            #4096\tpulse  cov: 1729 ft: 5012 corp: 80/4231b lim: 64 exec/s: 2048 rss: 50Mb\n\
            Done 5000 runs in 2 second(s)\n\
            stat::number_of_executed_units: 5000\n\
            stat::average_exec_per_sec:     2500\n";
        let mut outcome = Outcome::default();
        outcome.add(said, true);
        assert!(outcome.is_good());
        outcome.add("==7== ERROR: libFuzzer: deadly signal\n", false);
        assert!(!outcome.is_good());
        assert_eq!(
            outcome.to_string(),
            "5000 executions (2500 per second), 1729 edges reached, 80 inputs, 1 stopped by a finding"
        );
    }
}
