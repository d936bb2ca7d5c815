//! The password of the mesh: where it comes from, where it lies on disk, and
//! `weave password`.
//!
//! Only the argon2id output is ever stored, 0600, before the router starts. The
//! password itself reaches neither the router's arguments nor its environment
//! nor its socket.

mod rotation;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use weave_crypto::StretchedPassword;
use zeroize::Zeroizing;

use super::args::{PasswordArgs, PasswordCommand, RouterOptions};
use super::config::Settings;
use super::failure::Failure;
use super::{host, output};
use crate::passwords::PasswordSet;

/// Name that all meshes have so far; part of the stretching.
pub(crate) const MESH_NAME: &str = "weave";

/// A shorter password is guessed too easily, whatever it costs to try one.
const MIN_CHARS: usize = 8;

/// Longer files hold no password.
const MAX_FILE_LEN: u64 = 4096;

/// Name of the file in the state directory.
const FILE: &str = "password";

/// `weave password`.
///
/// # Errors
/// When the system has no randomness, or the router does not run or refuses.
pub(crate) fn run(args: PasswordArgs, socket: &Path) -> Result<()> {
    match args.command {
        PasswordCommand::Generate => output::out(&generate()?),
        PasswordCommand::Add(args) => rotation::add(&args, socket)?,
        PasswordCommand::Use(args) => rotation::choose(args.generation, socket)?,
        PasswordCommand::Remove(args) => rotation::remove(&args, socket)?,
        PasswordCommand::List(args) => rotation::list(args.json, socket)?,
    }
    Ok(())
}

/// A new password: 128 random bits in base32 (RFC 4648), 26 characters.
fn generate() -> Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new([0u8; 16]);
    getrandom::fill(&mut *bytes)
        .map_err(|error| Failure::new(format!("the system has no randomness: {error}")))?;
    Ok(Zeroizing::new(base32(&bytes)))
}

fn base32(bytes: &[u8; 16]) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let value = u128::from_be_bytes(*bytes);
    (0..26)
        .map(|place| {
            // 26 digits of 5 bits hold 130 bits: the last one is padded with zeroes.
            let shifted = match place {
                25 => value << 2,
                _ => value >> (123 - 5 * place),
            };
            char::from(ALPHABET[(shifted & 31) as usize])
        })
        .collect()
}

/// A password as the user gave it, and whether others could see it.
#[derive(Debug)]
pub(crate) struct Given {
    password: Zeroizing<String>,
    /// How it was given, to be repeated on another host.
    pub(crate) how: How,
}

/// How a password was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum How {
    /// `--password`.
    Flag,
    /// `--password-file` or the configuration file.
    File(PathBuf),
    /// `WEAVE_PASSWORD`.
    Environment,
}

impl Given {
    /// Stretches it; takes about a fifth of a second.
    ///
    /// # Errors
    /// When the memory is missing.
    pub(crate) fn stretch(&self) -> Result<StretchedPassword> {
        Ok(StretchedPassword::stretch(&self.password, MESH_NAME)?)
    }
}

/// The password that was given, if any: flags, else the environment, else the file.
///
/// # Errors
/// When a file cannot be read or the password is no good.
pub(crate) fn given(flags: &RouterOptions, settings: &Settings) -> Result<Option<Given>> {
    let environment = |name: &str| std::env::var(name).ok().map(Zeroizing::new);
    choose(flags, settings, &environment)
}

type Environment<'a> = &'a dyn Fn(&str) -> Option<Zeroizing<String>>;

fn choose(
    flags: &RouterOptions,
    settings: &Settings,
    environment: Environment<'_>,
) -> Result<Option<Given>> {
    if let Some(password) = &flags.password {
        return accept(Zeroizing::new(password.clone()), How::Flag).map(Some);
    }
    if let Some(path) = &flags.password_file {
        return from_file(path).map(Some);
    }
    if let Some(password) = environment("WEAVE_PASSWORD") {
        return accept(password, How::Environment).map(Some);
    }
    if let Some(path) = environment("WEAVE_PASSWORD_FILE") {
        return from_file(Path::new(path.as_str())).map(Some);
    }
    let configured = settings.password_file.as_deref();
    configured.map(from_file).transpose()
}

/// Prints the warning that goes with `--password`.
pub(crate) fn warn_if_visible(given: Option<&Given>) {
    if given.is_some_and(|given| given.how == How::Flag) {
        output::err(
            "warning: other users of this host may read --password from the process list; \
             --password-file or WEAVE_PASSWORD keep it from them",
        );
    }
}

fn accept(password: Zeroizing<String>, how: How) -> Result<Given> {
    let password = check(password)?;
    Ok(Given { password, how })
}

fn from_file(path: &Path) -> Result<Given> {
    let (password, how) = (read(path)?, How::File(path.to_owned()));
    Ok(Given { password, how })
}

fn check(password: Zeroizing<String>) -> Result<Zeroizing<String>> {
    let hint = "`weave password generate` makes a good one";
    if password.is_empty() {
        return Err(Failure::usage("the password is empty")
            .with_hint("to let anyone join, give no password option at all")
            .into());
    }
    if password.chars().count() < MIN_CHARS {
        return Err(Failure::usage(format!(
            "the password is too short: {MIN_CHARS} characters at least"
        ))
        .with_hint(hint)
        .into());
    }
    Ok(password)
}

fn read(path: &Path) -> Result<Zeroizing<String>> {
    let verb = || format!("read the password file {}", path.display());
    let source = format!("the password file {}", path.display());
    let meta = std::fs::metadata(path).with_context(verb)?;
    if meta.len() > MAX_FILE_LEN {
        return Err(no_good(&source, "it is too long for a password"));
    }
    let bytes = Zeroizing::new(std::fs::read(path).with_context(verb)?);
    let line = only_line(&source, &bytes)?;
    check(line).with_context(verb)
}

fn only_line(source: &str, bytes: &[u8]) -> Result<Zeroizing<String>> {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Err(no_good(source, "it is not UTF-8 text"));
    };
    let line = text.strip_suffix('\n').unwrap_or(text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.contains(['\n', '\r']) {
        return Err(no_good(source, "it has more than one line"));
    }
    Ok(Zeroizing::new(line.to_owned()))
}

fn no_good(source: &str, why: &str) -> anyhow::Error {
    Failure::usage(format!("{source} is no good: {why}"))
        .with_hint("its only line is the password")
        .into()
}

/// What a router is to run with, where a password was given.
#[derive(Debug)]
pub(crate) struct Adopted {
    /// The passwords.
    pub(crate) set: PasswordSet,
    /// Generation of the one that was given.
    pub(crate) generation: u16,
    /// Whether the set is not the one that is stored.
    pub(crate) is_new: bool,
    /// What people should know of it.
    pub(crate) note: Option<String>,
}

/// The stored passwords if the one given is among them, else that one alone.
///
/// # Errors
/// When the memory is missing to stretch it.
pub(crate) fn adopt(state_dir: &Path, given: &Given, generation: Option<u16>) -> Result<Adopted> {
    let given = given.stretch()?;
    // a damaged set is replaced, as its error says
    let stored = load(state_dir).ok().flatten();
    Ok(adopt_stretched(stored, given, generation))
}

fn adopt_stretched(
    stored: Option<PasswordSet>,
    given: StretchedPassword,
    wanted: Option<u16>,
) -> Adopted {
    let found = stored.as_ref().and_then(|set| set.find(&given));
    let found = found.filter(|found| wanted.is_none_or(|wanted| wanted == *found));
    if let Some((set, generation)) = stored.clone().zip(found) {
        let in_use = set.passwords().in_use();
        let note = (in_use != generation).then(|| {
            format!("the password given is that of generation {generation}; generation {in_use} stays in use")
        });
        return Adopted {
            set,
            generation,
            is_new: false,
            note,
        };
    }
    let generation = wanted.unwrap_or(0);
    let rotated = stored.map(|set| set.generations()).filter(|all| all != "0");
    let note = rotated.map(|all| {
        format!("the password given takes the place of those of before ({all}), as generation {generation}")
    });
    Adopted {
        set: PasswordSet::new(generation, given),
        generation,
        is_new: true,
        note,
    }
}

/// Stores the stretched passwords: whole and durable, for root alone.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn store(state_dir: &Path, set: &PasswordSet) -> Result<()> {
    let path = state_dir.join(FILE);
    host::write_private(&path, &set.encode())
        .with_context(|| format!("store the password in {}", path.display()))
}

/// The passwords that are stored, if any.
///
/// # Errors
/// When the file cannot be read or is damaged.
pub(crate) fn load(state_dir: &Path) -> Result<Option<PasswordSet>> {
    let path = state_dir.join(FILE);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => Zeroizing::new(bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(error).with_context(|| format!("read the password {}", path.display()));
        }
    };
    let Some(set) = PasswordSet::decode(&bytes) else {
        return Err(Failure::new(format!("{} is damaged", path.display()))
            .with_hint("launch again with the password of the mesh")
            .into());
    };
    Ok(Some(set))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::failure::{exit_code, render};
    use super::*;

    fn flag(password: &str) -> RouterOptions {
        RouterOptions {
            password: Some(password.to_owned()),
            ..RouterOptions::default()
        }
    }

    fn file(path: &Path) -> RouterOptions {
        RouterOptions {
            password_file: Some(path.to_owned()),
            ..RouterOptions::default()
        }
    }

    fn nothing(_: &str) -> Option<Zeroizing<String>> {
        None
    }

    #[test]
    fn a_generated_password_has_26_characters_of_base32_and_never_repeats() {
        let (one, two) = (generate().unwrap(), generate().unwrap());
        assert_eq!(one.len(), 26);
        assert!(
            one.bytes()
                .all(|b| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b))
        );
        assert_ne!(*one, *two);
    }

    #[test]
    fn base32_is_that_of_rfc_4648() {
        assert_eq!(base32(b"foobarfoobarfoob"), "mzxw6ytbojtg633cmfzgm33pmi");
        assert_eq!(base32(&[0xff; 16]), "77777777777777777777777774");
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        std::fs::write(&path, "from the file\r\n").unwrap();
        let settings = Settings {
            password_file: Some(path.clone()),
            ..Settings::default()
        };
        let variables = |name: &str| {
            (name == "WEAVE_PASSWORD").then(|| Zeroizing::new("from the environment".to_owned()))
        };
        let text = |flags: &RouterOptions, environment: Environment<'_>| {
            let given = choose(flags, &settings, environment).unwrap().unwrap();
            given.password.to_string()
        };
        let none = RouterOptions::default();
        assert_eq!(text(&flag("from the flag"), &variables), "from the flag");
        assert_eq!(text(&file(&path), &variables), "from the file");
        assert_eq!(text(&none, &variables), "from the environment");
        assert_eq!(text(&none, &nothing), "from the file");
        let bare = choose(&none, &Settings::default(), &nothing).unwrap();
        assert!(bare.is_none());
    }

    #[test]
    fn passwords_that_are_no_good_are_refused_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        let mut errors = Vec::new();
        let mut refuse = |flags: &RouterOptions| {
            let error = choose(flags, &Settings::default(), &nothing).unwrap_err();
            let text = render(&error).replace(&*dir.path().to_string_lossy(), "DIR");
            errors.push(format!("{text}\nexit: {}", exit_code(&error)));
        };
        refuse(&flag(""));
        refuse(&flag("seven77"));
        refuse(&file(&path));
        for content in [
            "",
            "short\n",
            "first line\nsecond line\n",
            "trailing blank line\n\n",
        ] {
            std::fs::write(&path, content).unwrap();
            refuse(&file(&path));
        }
        std::fs::write(&path, [0xff; 20]).unwrap();
        refuse(&file(&path));
        std::fs::write(&path, [b'a'; 5000]).unwrap();
        refuse(&file(&path));
        insta::assert_snapshot!(errors.join("\n"));
    }

    #[test]
    fn only_the_stretched_password_is_stored_and_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        assert!(load(dir.path()).unwrap().is_none());
        let given = choose(&flag("a fine password"), &Settings::default(), &nothing);
        let stretched = given.unwrap().unwrap().stretch().unwrap();
        let mut set = PasswordSet::new(0, stretched.clone());
        store(dir.path(), &set).unwrap();
        let path = dir.path().join(FILE);
        let stored = std::fs::read(&path).unwrap();
        assert_eq!(stored, stretched.as_bytes());
        assert!(!stored.windows(4).any(|w| w == b"fine"));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let loaded = load(dir.path()).unwrap().unwrap();
        assert_eq!(loaded.find(&stretched), Some(0));
        set.add(None, StretchedPassword::from_bytes([9; 32]))
            .unwrap();
        store(dir.path(), &set).unwrap();
        let loaded = load(dir.path()).unwrap().unwrap();
        assert_eq!(loaded.generations(), "0, 1");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(&path, "damaged").unwrap();
        let error = load(dir.path()).unwrap_err();
        assert!(render(&error).contains("is damaged"), "{}", render(&error));
    }
    /// What is said when a host that has these passwords is launched with one.
    fn launched(stored: Option<PasswordSet>, given: u8, wanted: Option<u16>) -> String {
        let given = StretchedPassword::from_bytes([given; 32]);
        let adopted = adopt_stretched(stored, given, wanted);
        let state = if adopted.is_new { "new" } else { "stored" };
        let (all, in_use) = (adopted.set.generations(), adopted.set.passwords().in_use());
        let note = adopted.note.unwrap_or_default();
        format!(
            "{state} {all}, {in_use} in use, given {}: {note}\n",
            adopted.generation
        )
    }

    #[test]
    fn a_password_that_is_held_keeps_the_set_and_another_one_replaces_it() {
        let password = |byte| StretchedPassword::from_bytes([byte; 32]);
        let first = PasswordSet::new(0, password(1));
        let mut rotating = first.clone();
        rotating.add(None, password(2)).unwrap();
        rotating.choose(1).unwrap();
        let mut rotated = rotating.clone();
        rotated.remove(0).unwrap();
        let mut text = String::new();
        for (stored, given, wanted) in [
            (None, 1, None),
            (None, 3, Some(3)),
            (Some(&first), 1, None),
            (Some(&first), 2, None),
            (Some(&first), 1, Some(4)),
            (Some(&rotating), 2, None),
            (Some(&rotating), 1, None),
            (Some(&rotating), 3, None),
            (Some(&rotated), 2, Some(1)),
            (Some(&rotated), 1, None),
        ] {
            text.push_str(&launched(stored.cloned(), given, wanted));
        }
        insta::assert_snapshot!(text);
    }
}
