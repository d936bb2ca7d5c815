//! What a command says on standard error while it works.

use super::output;

/// Progress of one command: a line per step.
#[derive(Debug)]
pub(crate) struct Progress {
    dim: bool,
}

impl Progress {
    /// Dimmed on a terminal, plain elsewhere.
    pub(crate) fn new() -> Self {
        Self {
            dim: output::colours_stderr(),
        }
    }

    /// Says what is done now.
    pub(crate) fn step(&self, what: &str) {
        if self.dim {
            output::err(&format!("\x1b[2m{what} …\x1b[0m"));
        } else {
            output::err(&format!("{what} …"));
        }
    }
}
