//! On what a report was made.

use std::process::Command;

use serde::Serialize;

/// The machine, and the moment.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Machine {
    pub(super) cpu: String,
    pub(super) cores: usize,
    pub(super) memory_gib: u64,
    pub(super) kernel: String,
    pub(super) system: String,
    /// Of this project.
    pub(super) revision: String,
    /// In UTC.
    pub(super) date: String,
    pub(super) command_line: Vec<String>,
}

impl Machine {
    /// What can be found out; unknown parts are empty.
    pub(super) fn this() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let memory = value(&read("/proc/meminfo"), "MemTotal", ':');
        let memory_kib = memory.trim_end_matches(" kB").parse::<u64>();
        Self {
            cpu: value(&read("/proc/cpuinfo"), "model name", ':'),
            cores: std::thread::available_parallelism().map_or(0, Into::into),
            memory_gib: memory_kib.unwrap_or_default().div_ceil(1 << 20),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            system: value(&read("/etc/os-release"), "PRETTY_NAME", '='),
            revision: said_by(&["git", "describe", "--always", "--dirty"]),
            date: said_by(&["date", "--utc", "+%Y-%m-%d %H:%M"]),
            command_line: std::env::args().skip(1).collect(),
        }
    }
}

/// What stands behind `key` on the first line that begins with it.
fn value(text: &str, key: &str, separator: char) -> String {
    let found = text.lines().find_map(|line| {
        let (name, value) = line.split_once(separator)?;
        (name.trim() == key).then_some(value)
    });
    found
        .unwrap_or_default()
        .trim()
        .trim_matches('"')
        .to_owned()
}

fn said_by(command: &[&str]) -> String {
    let Some((program, arguments)) = command.split_first() else {
        return String::new();
    };
    let output = Command::new(program).args(arguments).output();
    let said = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&said).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_by_its_whole_key() {
        let text = "model\t\t: 17\nmodel name\t: Some CPU @ 2 GHz\nmodel name\t: other\n";
        assert_eq!(value(text, "model name", ':'), "Some CPU @ 2 GHz");
        assert_eq!(
            value("PRETTY_NAME=\"Some Linux\"\n", "PRETTY_NAME", '='),
            "Some Linux"
        );
        assert_eq!(value(text, "flags", ':'), "");
    }
}
