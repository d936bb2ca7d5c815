//! What happens, told on standard error while it does.

use std::io::Write;
use std::time::Instant;

/// Tells what happens, with the seconds since the start.
#[derive(Debug)]
pub(super) struct Progress(Instant);

/// The same, for one overlay and repetition.
#[derive(Debug)]
pub(super) struct Labelled<'a>(&'a Progress, &'a str);

/// Somewhere to tell what happens.
pub(super) trait Say {
    fn say(&self, text: &str);
}

impl Progress {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn labelled<'a>(&'a self, label: &'a str) -> Labelled<'a> {
        Labelled(self, label)
    }
}

impl Say for Progress {
    fn say(&self, text: &str) {
        let seconds = self.0.elapsed().as_secs();
        // There is nowhere left to complain.
        let _ = writeln!(std::io::stderr().lock(), "{seconds:5} s  {text}");
    }
}

impl Say for Labelled<'_> {
    fn say(&self, text: &str) {
        self.0.say(&format!("{}: {text}", self.1));
    }
}
