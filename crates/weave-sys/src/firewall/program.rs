//! Running a program of the host and telling why it failed.

use std::io::{self, Write};
use std::process::{Command, Output, Stdio};

use crate::{Error, Result};

/// Runs `command`, giving it `input` to read.
pub(super) fn output_of(
    command: &mut Command,
    program: &str,
    input: Option<&str>,
) -> Result<Output> {
    let stdin = if input.is_some() {
        Stdio::piped()
    } else {
        Stdio::null()
    };
    let spawned = command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = spawned.map_err(|source| {
        if source.kind() == io::ErrorKind::NotFound {
            Error::NoProgram {
                program: program.to_owned(),
            }
        } else {
            Error::os("run the host's", program, source)
        }
    })?;
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        // One that ends early says why on stderr; a broken pipe here would hide it.
        let _ = stdin.write_all(input.as_bytes());
    }
    child
        .wait_with_output()
        .map_err(|source| Error::os("run the host's", program, source))
}

/// What the program printed, if it succeeded.
pub(super) fn finish(output: &Output, program: &str, arguments: &[&str]) -> Result<String> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Error::CommandFailed {
        command: format!("{program} {}", arguments.join(" ")),
        status: output.status.to_string(),
        stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}
