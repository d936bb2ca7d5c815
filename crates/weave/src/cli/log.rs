//! The router's log: to standard error, with a limit for each place that logs.
//!
//! A place in the code may write [`LIMIT`] INFO or WARN lines in [`WINDOW`]; how many more there
//! were is said in one line, once that time is over and anything is logged. ERROR always passes.

use std::collections::HashMap;
use std::io::{self, Stderr, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::{Level, Metadata, callsite};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use super::choices::LogLevel;
use super::output;

/// What is not logged unless WEAVE_LOG says so. hickory logs every query at INFO, bollard at DEBUG
/// all that Docker answers, with the environment of containers.
const QUIET: &str = "bollard=info,hickory_server=warn,hickory_proto=warn,hickory_net=warn";
/// Lines of one place in a window.
const LIMIT: u64 = 20;
/// How long a window is.
const WINDOW: Duration = Duration::from_secs(10);

/// Starts the log; `WEAVE_LOG` takes the filters of RUST_LOG, and goes before `level`.
pub(super) fn start(level: LogLevel) {
    let of_level = || format!("{},{QUIET}", level.filter());
    let filter = std::env::var("WEAVE_LOG").unwrap_or_else(|_| of_level());
    let filter = EnvFilter::try_new(&filter).unwrap_or_else(|error| {
        output::err(&format!("warning: WEAVE_LOG is not understood: {error}"));
        EnvFilter::new(of_level())
    });
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Limited::default())
        .with_ansi(output::colours_stderr());
    if let Err(error) = subscriber.try_init() {
        output::err(&format!("warning: no log: {error}"));
    }
}

/// Standard error, for as much as the limits allow.
#[derive(Debug, Default)]
struct Limited {
    windows: Mutex<Windows<callsite::Identifier>>,
}

impl<'a> MakeWriter<'a> for Limited {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line(Some(io::stderr()))
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Line {
        if !matches!(*meta.level(), Level::INFO | Level::WARN) {
            return self.make_writer();
        }
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let place = format!("{} line {}", meta.target(), meta.line().unwrap_or_default());
        let (passes, told) = windows.admit(meta.callsite(), &place, Instant::now());
        drop(windows);
        for line in told {
            output::err(&format!("{}  INFO weave: {line}", now()));
        }
        Line(passes.then(io::stderr))
    }
}

fn now() -> String {
    let mut text = String::new();
    // a line without its time is better than none
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

/// One line of the log, or nothing.
struct Line(Option<Stderr>);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Some(stderr) => stderr.write(bytes),
            None => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.as_mut().map_or(Ok(()), Write::flush)
    }
}

/// Lines of one place since its window began.
#[derive(Debug)]
struct Window {
    place: String,
    since: Instant,
    lines: u64,
}

/// The open windows, by place.
#[derive(Debug)]
struct Windows<K>(HashMap<K, Window>);

impl<K> Default for Windows<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: std::hash::Hash + Eq> Windows<K> {
    /// Whether a line of this place passes, and what is to be said of windows that are over.
    fn admit(&mut self, key: K, place: &str, now: Instant) -> (bool, Vec<String>) {
        let mut told = Vec::new();
        self.0.retain(|_, window| {
            let is_open = now.saturating_duration_since(window.since) < WINDOW;
            if !is_open && window.lines > LIMIT {
                let (more, seconds) = (window.lines - LIMIT, WINDOW.as_secs());
                told.push(format!(
                    "{more} more lines of {} left out, of {seconds} s",
                    window.place
                ));
            }
            is_open
        });
        let window = self.0.entry(key).or_insert_with(|| Window {
            place: place.to_owned(),
            since: now,
            lines: 0,
        });
        window.lines += 1;
        (window.lines <= LIMIT, told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_repeats_itself_is_cut_short_and_the_rest_is_counted() {
        let (mut windows, start) = (Windows::default(), Instant::now());
        let passed = (0..50)
            .filter(|_| windows.admit(1, "a line 7", start).0)
            .count();
        assert_eq!(passed, 20);
        let (passes, told) = windows.admit(1, "a line 7", start + WINDOW);
        assert!(passes);
        assert_eq!(told, ["30 more lines of a line 7 left out, of 10 s"]);
        let (_, told) = windows.admit(1, "a line 7", start + WINDOW * 2);
        assert!(told.is_empty());
    }

    #[test]
    fn another_place_is_not_held_up_and_tells_what_was_left_out() {
        let (mut windows, start) = (Windows::default(), Instant::now());
        for _ in 0..21 {
            windows.admit(1, "a", start);
        }
        assert_eq!(windows.admit(2, "b", start), (true, Vec::new()));
        let (passes, told) = windows.admit(2, "b", start + WINDOW);
        assert!(passes);
        assert_eq!(told, ["1 more lines of a left out, of 10 s"]);
    }
}
