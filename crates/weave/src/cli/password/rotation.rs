//! `weave password add`, `use`, `remove` and `list`: the password of a running mesh changes.

use std::io::{self, IsTerminal, Read};
use std::path::Path;

use anyhow::{Context, Result};
use weave_crypto::StretchedPassword;
use weave_sys::terminal::Hidden;
use zeroize::Zeroizing;

use super::super::args::{PasswordAddArgs, PasswordRemoveArgs};
use super::super::failure::Failure;
use super::super::{block_on, output, view};
use super::{MAX_FILE_LEN, MESH_NAME};
use crate::api::client::Client;
use crate::api::types::{PasswordChange, StatusReport};

/// `weave password add`.
///
/// # Errors
/// When the password is no good, or the router refuses it.
pub(super) fn add(args: &PasswordAddArgs, socket: &Path) -> Result<()> {
    let password = new_password(args)?;
    let stretched = StretchedPassword::stretch(&password, MESH_NAME)?;
    let add = PasswordChange::Add {
        generation: args.generation,
        stretched: (&stretched).into(),
    };
    let generation = change(socket, &add)?;
    output::out(&generation.to_string());
    output::err(&format!(
        "accepted as generation {generation}; when all hosts have it, run `weave password use {generation}` on each"
    ));
    Ok(())
}

/// `weave password use`.
///
/// # Errors
/// When the router refuses.
pub(super) fn choose(generation: u16, socket: &Path) -> Result<()> {
    change(socket, &PasswordChange::Use { generation })?;
    output::err("sessions move to it while they go on: see `weave password list`");
    Ok(())
}

/// `weave password remove`.
///
/// # Errors
/// When the router refuses.
pub(super) fn remove(args: &PasswordRemoveArgs, socket: &Path) -> Result<()> {
    let remove = PasswordChange::Remove {
        generation: args.generation,
        force: args.force,
    };
    change(socket, &remove).map(|_| ())
}

/// `weave password list`.
///
/// # Errors
/// When the router does not run.
pub(super) fn list(json: bool, socket: &Path) -> Result<()> {
    let client = Client::new(socket);
    let report = block_on(async { Ok(client.fetch::<StatusReport>("/report").await?) })?;
    let passwords = report.router.passwords;
    if json {
        return output::json(&passwords);
    }
    output::out_raw(&view::passwords(&passwords));
    Ok(())
}

fn change(socket: &Path, change: &PasswordChange) -> Result<u16> {
    let client = Client::new(socket);
    block_on(async { Ok(client.post("/passwords", change).await?) })
}

/// The file that was named, else the environment, else what is typed or comes by a pipe.
fn new_password(args: &PasswordAddArgs) -> Result<Zeroizing<String>> {
    if let Some(path) = &args.password_file {
        return super::read(path);
    }
    if let Ok(password) = std::env::var("WEAVE_PASSWORD") {
        return super::check(Zeroizing::new(password));
    }
    if io::stdin().is_terminal() {
        return typed();
    }
    let mut bytes = Zeroizing::new(Vec::new());
    io::stdin()
        .take(MAX_FILE_LEN + 1)
        .read_to_end(&mut bytes)
        .context("read the password from standard input")?;
    super::check(super::only_line("standard input", &bytes)?)
}

fn typed() -> Result<Zeroizing<String>> {
    let _hidden = Hidden::begin()?;
    let first = super::check(ask("New password: ")?)?;
    if *ask("Once more: ")? != *first {
        return Err(Failure::usage("the two passwords are not the same").into());
    }
    Ok(first)
}

fn ask(prompt: &str) -> Result<Zeroizing<String>> {
    output::prompt(prompt);
    let mut line = Zeroizing::new(String::new());
    io::stdin()
        .read_line(&mut line)
        .context("read the password")?;
    let typed = line.trim_end_matches(['\r', '\n']).to_owned();
    Ok(Zeroizing::new(typed))
}
