//! What this process uses of the host: open files, memory, processor time.

use std::io;
use std::time::Duration;

use crate::{Error, Result};

/// Ticks of a second in /proc: USER_HZ, the same on all processors that we run on.
const TICKS: u64 = 100;

/// What a process uses at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Files, sockets and devices that are open.
    pub open_files: u64,
    /// How many may be.
    pub open_files_limit: u64,
    /// Memory in RAM, bytes.
    pub resident: u64,
    /// Processor time so far.
    pub cpu: Duration,
    /// When the process started, since 1970.
    pub started: Duration,
}

/// Lets this process open as many files as the host allows; answers how many that is.
///
/// # Errors
/// When the kernel refuses.
pub fn raise_open_files() -> Result<u64> {
    let mut limit = open_files_limit()?;
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: the kernel only reads the struct, which outlives the call.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
            return Err(last_error("raise"));
        }
    }
    Ok(limit.rlim_cur)
}

/// What this process uses now.
///
/// # Errors
/// When /proc cannot be read or says something else.
pub fn usage() -> Result<Usage> {
    let files = "/proc/self/fd";
    let open = std::fs::read_dir(files).map_err(|source| Error::os("list", files, source))?;
    // the directory that is read is itself one of them
    let open_files = (open.count() as u64).saturating_sub(1);
    let path = "/proc/self/status";
    let status = std::fs::read_to_string(path).map_err(|source| Error::os("read", path, source))?;
    let resident = parse_resident(&status)
        .ok_or_else(|| Error::os("read VmRSS in", path, io::ErrorKind::InvalidData.into()))?;
    let unclear = |path| Error::os("read the times in", path, io::ErrorKind::InvalidData.into());
    let path = "/proc/self/stat";
    let stat = std::fs::read_to_string(path).map_err(|source| Error::os("read", path, source))?;
    let (cpu, since_boot) = parse_times(&stat).ok_or_else(|| unclear(path))?;
    let path = "/proc/stat";
    let stat = std::fs::read_to_string(path).map_err(|source| Error::os("read", path, source))?;
    let boot = parse_boot(&stat).ok_or_else(|| unclear(path))?;
    Ok(Usage {
        open_files,
        open_files_limit: open_files_limit()?.rlim_cur,
        resident,
        cpu,
        started: boot + since_boot,
    })
}

fn open_files_limit() -> Result<libc::rlimit> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the kernel fills the struct, which outlives the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(last_error("read"));
    }
    Ok(limit)
}

fn last_error(operation: &'static str) -> Error {
    let source = io::Error::last_os_error();
    Error::os(operation, "the limit of open files", source)
}

/// Processor time, and when the process started since boot, of a line of proc_pid_stat(5).
fn parse_times(stat: &str) -> Option<(Duration, Duration)> {
    // the name, in parentheses, may hold anything
    let (_, behind) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = behind.split_whitespace().collect();
    let ticks = |number: usize| -> Option<Duration> {
        let ticks: u64 = fields.get(number.checked_sub(3)?)?.parse().ok()?;
        Some(Duration::from_millis(ticks.checked_mul(1000 / TICKS)?))
    };
    Some((ticks(14)?.checked_add(ticks(15)?)?, ticks(22)?))
}

/// The line `btime 1234` of proc_stat(5), in seconds since 1970.
fn parse_boot(stat: &str) -> Option<Duration> {
    let mut lines = stat.lines();
    let seconds = lines.find_map(|line| line.strip_prefix("btime "))?;
    // beyond that it is no date
    let seconds: u32 = seconds.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.into()))
}

/// Bytes of the line `VmRSS:  1234 kB`.
fn parse_resident(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn files_that_are_opened_and_memory_are_counted() {
        let before = usage().unwrap();
        let files: Vec<_> = (0..100)
            .map(|_| std::fs::File::open("/dev/null").unwrap())
            .collect();
        let now = usage().unwrap();
        // other tests of this process open and close some
        assert!(
            now.open_files > before.open_files + 50,
            "{before:?} {now:?}"
        );
        assert!(now.resident > 100_000 && now.open_files <= now.open_files_limit);
        drop(files);
    }

    #[test]
    fn the_limit_is_raised_to_what_the_host_allows() {
        let raised = raise_open_files().unwrap();
        assert_eq!(raised, open_files_limit().unwrap().rlim_max);
        assert_eq!(raised, usage().unwrap().open_files_limit);
    }

    #[test]
    fn resident_memory_is_read_in_bytes() {
        let status = "Name:\tweave\nVmHWM:\t  9 kB\nVmRSS:\t   2048 kB\nRssAnon:\t 1 kB\n";
        assert_eq!(parse_resident(status), Some(2 << 20));
        assert_eq!(parse_resident("VmRSS:\t99999999999999999999 kB"), None);
        assert_eq!(parse_resident("VmRSS:\t18446744073709551615 kB"), None);
    }

    #[test]
    fn processor_time_and_start_are_read_whatever_the_name_of_the_process() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 9 0 0 0 250 50 0 0 20 0 4 0 12300 1 2 3";
        let times = (Duration::from_secs(3), Duration::from_secs(123));
        assert_eq!(parse_times(stat), Some(times));
        assert_eq!(parse_times("7 (a) S 1 7"), None);
        let boot = parse_boot("cpu 1 2\nbtime 1700000000\nprocesses 9\n");
        assert_eq!(boot, Some(Duration::from_secs(1_700_000_000)));
        let now = usage().unwrap();
        let since_epoch = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        assert!(
            now.started < since_epoch + Duration::from_secs(60),
            "{now:?}"
        );
        assert!(
            now.started + Duration::from_secs(86_400) > since_epoch,
            "{now:?}"
        );
    }

    proptest! {
        #[test]
        fn any_text_is_understood_or_refused(text in any::<String>()) {
            let _ = parse_resident(&format!("VmRSS:{text}"));
            let _ = parse_times(&format!("1 (a) {text}"));
            let _ = parse_boot(&format!("btime {text}"));
        }
    }
}
