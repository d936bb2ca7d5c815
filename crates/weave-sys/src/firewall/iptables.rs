//! Running the host's iptables programs.

use std::thread;
use std::time::Duration;

use super::program::{finish, output_of};
use crate::{NetNs, Result, host};

/// How long a program itself waits for the xtables lock, seconds.
const LOCK_WAIT: &str = "5";

/// Exit status for a resource problem: the lock is still held, or a race was lost.
const BUSY: i32 = 4;

/// Attempts when busy, and the pause between them.
const ATTEMPTS: u32 = 30;
const PAUSE: Duration = Duration::from_millis(20);

/// Which family a program is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    fn program(self) -> &'static str {
        match self {
            Self::V4 => "iptables",
            Self::V6 => "ip6tables",
        }
    }
}

/// Runs `iptables` (or `ip6tables`) with `arguments` in `netns`; gives its output.
pub(super) fn run(netns: &NetNs, family: Family, arguments: &[&str]) -> Result<String> {
    execute(netns, family.program(), arguments, None)
}

/// The rules of one table, as `iptables-save` prints them.
pub(super) fn save(netns: &NetNs, table: &str) -> Result<String> {
    run_save(netns, "iptables-save", &["-t", table])
}

/// The rules of the table `filter` in the form of `iptables -S`; nothing where there is no such
/// table. Unlike `-S` and `-t` it never makes one, which legacy iptables would.
pub(super) fn filter(netns: &NetNs, family: Family) -> Result<String> {
    let program = match family {
        Family::V4 => "iptables-save",
        Family::V6 => "ip6tables-save",
    };
    run_save(netns, program, &[]).map(|saved| as_listing(&saved))
}

fn run_save(netns: &NetNs, program: &str, arguments: &[&str]) -> Result<String> {
    let mut command = host::command(program, Some(netns))?;
    command.args(arguments);
    let output = output_of(&mut command, program, None)?;
    finish(&output, program, arguments)
}

fn as_listing(saved: &str) -> String {
    let table = saved.lines().skip_while(|line| *line != "*filter");
    let table = table.skip(1).take_while(|line| *line != "COMMIT");
    let lines = table.map(|line| {
        let declared = line.strip_prefix(':').and_then(|rest| {
            let mut words = rest.split(' ');
            Some((words.next()?, words.next()?))
        });
        match declared {
            Some((chain, "-")) => format!("-N {chain}\n"),
            Some((chain, policy)) => format!("-P {chain} {policy}\n"),
            None => format!("{line}\n"),
        }
    });
    lines.collect()
}

/// Applies `script` in one transaction, leaving what it does not name.
pub(super) fn restore(netns: &NetNs, script: &str) -> Result<()> {
    execute(netns, "iptables-restore", &["--noflush"], Some(script)).map(|_| ())
}

fn execute(
    netns: &NetNs,
    program: &'static str,
    arguments: &[&str],
    input: Option<&str>,
) -> Result<String> {
    let mut attempt = 1;
    loop {
        let mut command = host::command(program, Some(netns))?;
        command.args(["-w", LOCK_WAIT]).args(arguments);
        let output = output_of(&mut command, program, input)?;
        if output.status.code() != Some(BUSY) || attempt == ATTEMPTS {
            return finish(&output, program, arguments);
        }
        attempt += 1;
        thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_filter_table_is_listed() {
        let saved = "# a comment\n*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -j X\nCOMMIT\n\
                     *filter\n:FORWARD DROP [3:180]\n:DOCKER-USER - [0:0]\n\
                     -A FORWARD -j DOCKER-USER\nCOMMIT\n";
        assert_eq!(
            as_listing(saved),
            "-P FORWARD DROP\n-N DOCKER-USER\n-A FORWARD -j DOCKER-USER\n"
        );
        assert_eq!(as_listing("*nat\nCOMMIT\n"), "");
    }
}
