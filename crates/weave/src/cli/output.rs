//! The only place that writes to the terminal, but for the screen of `weave top`.
//!
//! A reader that went away (`weave status | head -1`) is no failure.

use std::io::{self, ErrorKind, IsTerminal, Write};

/// Writes text and a newline to standard output.
pub(crate) fn out(text: &str) {
    let mut stdout = io::stdout().lock();
    finish(writeln!(stdout, "{text}").and_then(|()| stdout.flush()));
}

/// Writes text to standard output as it is; nothing if it is empty.
pub(crate) fn out_raw(text: &str) {
    let mut stdout = io::stdout().lock();
    finish(
        stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush()),
    );
}

/// Whether standard output is a terminal.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether standard error is a terminal whose user wants colours (no-color.org).
pub(crate) fn colours_stderr() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !refused && io::stderr().is_terminal()
}

/// Writes text and a newline to standard error.
pub(crate) fn err(text: &str) {
    // There is nowhere left to complain.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Writes text to standard error, for an answer on the same line.
pub(crate) fn prompt(text: &str) {
    // There is nowhere left to complain.
    let _ = write!(io::stderr().lock(), "{text}");
}

/// Writes a value as indented JSON to standard output.
///
/// # Errors
/// When the value has no JSON form.
pub(crate) fn json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    out(&serde_json::to_string_pretty(value)?);
    Ok(())
}

fn finish(written: io::Result<()>) {
    let Err(error) = written else { return };
    if error.kind() == ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    err(&format!("error: cannot write the output: {error}"));
    std::process::exit(1);
}
