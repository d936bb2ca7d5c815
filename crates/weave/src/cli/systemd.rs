//! The router as a service of systemd: its unit, and the `systemctl` calls that several commands
//! need.
//!
//! The unit is `scripts/weave.service` with the launch's own options. A unit that somebody else put
//! in its place is never touched, only started and stopped.

use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::failure::Failure;

/// Name of the unit.
pub(super) const UNIT: &str = "weave.service";

/// Where ours is.
const PATH: &str = "/etc/systemd/system/weave.service";

/// First line of ours.
const MARK: &str = "# Made by `weave launch --systemd`; `weave reset` removes it.";

/// The unit as it comes with the program.
const TEMPLATE: &str = include_str!("../../../../scripts/weave.service");

/// Exists where systemd runs: sd_booted(3).
const BOOTED: &str = "/run/systemd/system";

/// What systemd says of the service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Service {
    /// Its router runs.
    pub(super) runs: bool,
    /// It runs, is about to, or would be started at the next boot.
    pub(super) wanted: bool,
    /// Process of the router.
    pub(super) pid: Option<u32>,
}

/// The service; nothing on a host without systemd.
///
/// # Errors
/// When systemd does not answer.
pub(super) fn service() -> Result<Option<Service>> {
    if !is_booted() {
        return Ok(None);
    }
    let properties = "--property=ActiveState,UnitFileState,MainPID";
    systemctl(&["show", UNIT, properties]).map(|shown| Some(parse(&shown)))
}

/// Says so where there is no systemd, or a unit of somebody else is in the place of ours.
///
/// # Errors
/// With what to do instead.
pub(super) fn check() -> Result<()> {
    if !is_booted() {
        let failure = Failure::new("systemd does not run on this host");
        let hint = "`weave launch` without --systemd runs the router as a container";
        return Err(failure.with_hint(hint).into());
    }
    match installed()? {
        Some(text) if !is_ours(&text) => Err(Failure::new(format!(
            "{PATH} was not made by `weave launch --systemd`"
        ))
        .with_hint(format!(
            "`systemctl enable --now {UNIT}` starts that one; or move it away"
        ))
        .into()),
        Some(_) | None => Ok(()),
    }
}

/// The unit that is installed here, if any.
///
/// # Errors
/// When it cannot be read.
pub(super) fn installed() -> Result<Option<String>> {
    match std::fs::read_to_string(PATH) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {PATH}")),
    }
}

/// Ours, running this program with these arguments.
///
/// # Errors
/// When systemd could not run a program of that path.
pub(super) fn unit(program: &Path, args: &[String]) -> Result<String> {
    let path = program.to_str().filter(|path| is_plain(path));
    let Some(path) = path else {
        let failure = Failure::new(format!(
            "systemd cannot run the program {}",
            program.display()
        ));
        let hint = "install it as /usr/local/bin/weave, and launch that one";
        return Err(failure.with_hint(hint).into());
    };
    let words: Vec<String> = args.iter().map(|arg| quoted(arg)).collect();
    let command = format!("ExecStart={path} {}", words.join(" "));
    let lines = TEMPLATE.lines().skip_while(|line| line.starts_with('#'));
    let lines = lines.map(|line| match line.starts_with("ExecStart=") {
        true => command.as_str(),
        false => line,
    });
    let mut text = MARK.to_owned();
    for line in lines {
        text.push('\n');
        text.push_str(line);
    }
    text.push('\n');
    Ok(text)
}

/// Puts a unit in its place and has systemd read it.
///
/// # Errors
/// When it cannot be written.
pub(super) fn install(text: &str) -> Result<()> {
    let fresh = format!("{PATH}.new");
    std::fs::write(&fresh, text)
        .and_then(|()| std::fs::rename(&fresh, PATH))
        .with_context(|| format!("write {PATH}"))?;
    systemctl(&["daemon-reload"]).map(drop)
}

/// Starts the service anew, now and at every boot; waits until the router is ready.
///
/// # Errors
/// When it does not come up.
pub(super) fn start() -> Result<()> {
    systemctl(&["enable", "--quiet", UNIT])?;
    systemctl(&["restart", UNIT]).map(drop)
}

/// Ends the service, now and for every boot.
///
/// # Errors
/// When systemd refuses.
pub(super) fn stop() -> Result<()> {
    systemctl(&["disable", "--quiet", "--now", UNIT]).map(drop)
}

/// Removes the unit if it is ours.
///
/// # Errors
/// When it cannot be removed.
pub(super) fn remove() -> Result<()> {
    if !installed()?.is_some_and(|text| is_ours(&text)) {
        return Ok(());
    }
    std::fs::remove_file(PATH).with_context(|| format!("remove {PATH}"))?;
    match is_booted() {
        true => systemctl(&["daemon-reload"]).map(drop),
        false => Ok(()),
    }
}

/// Last lines of the service's log.
///
/// # Errors
/// When the journal cannot be read.
pub(super) fn log(lines: u16) -> Result<String> {
    let lines = format!("--lines={lines}");
    let args = ["--no-pager", "--output=cat", "--unit", UNIT, &lines];
    run("journalctl", &args)
}

fn is_booted() -> bool {
    Path::new(BOOTED).is_dir()
}

fn systemctl(args: &[&str]) -> Result<String> {
    run("systemctl", args)
}

fn run(program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program).args(args).output();
    let output = output.with_context(|| format!("run {program}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let first = said.lines().next().unwrap_or("it did not say why");
    Err(Failure::new(format!("{program} {}: {first}", args.join(" "))).into())
}

fn parse(shown: &str) -> Service {
    let value = |key: &str| {
        let lines = shown.lines();
        let mut values =
            lines.filter_map(|line| line.split_once('=').filter(|(name, _)| *name == key));
        values.next().map_or("", |(_, value)| value.trim())
    };
    let state = value("ActiveState");
    let runs = matches!(state, "active" | "reloading");
    Service {
        runs,
        wanted: runs
            || matches!(state, "activating" | "deactivating")
            || value("UnitFileState").starts_with("enabled"),
        pid: value("MainPID").parse().ok().filter(|pid| *pid != 0),
    }
}

fn is_ours(text: &str) -> bool {
    text.lines().next() == Some(MARK)
}

fn is_plain(path: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._+-".contains(&byte);
    path.starts_with('/') && path.bytes().all(plain)
}

/// A word of a command line as systemd.service(5) reads it.
fn quoted(word: &str) -> String {
    let mut text = String::from('"');
    for letter in word.chars() {
        match letter {
            '"' | '\\' => text.extend(['\\', letter]),
            '$' | '%' => text.extend([letter, letter]),
            '\n' => text.push_str("\\n"),
            letter => text.push(letter),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn args(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn the_unit_is_the_one_that_comes_with_the_program_with_the_options_of_the_launch() {
        let args = args(&["router", "--nickname=a b", "--", "192.0.2.1"]);
        let text = unit(Path::new("/opt/weave-2/weave"), &args).unwrap();
        assert!(is_ours(&text));
        let command = r#"ExecStart=/opt/weave-2/weave "router" "--nickname=a b" "--" "192.0.2.1""#;
        assert_eq!(text.lines().filter(|line| *line == command).count(), 1);
        assert_eq!(text.matches("ExecStart=").count(), 1);
        let of = |text: &str| {
            let lines = text.lines().filter(|line| !line.starts_with(['#', 'E']));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(of(&text), of(TEMPLATE));
        assert!(!is_ours(TEMPLATE));
    }

    #[test]
    fn a_program_that_systemd_would_misread_is_refused() {
        for path in ["/opt/my weave", "/opt/we%ave", "weave", "/opt/w\u{e4}ave"] {
            let error = unit(Path::new(path), &[]).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("systemd cannot run the program {path}")
            );
        }
    }

    #[test]
    fn what_a_program_said_first_is_why_it_failed() {
        let error = run("sh", &["-c", "echo no >&2; echo more >&2; exit 1"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "sh -c echo no >&2; echo more >&2; exit 1: no"
        );
        let error = run("false", &["--now"]).unwrap_err();
        assert_eq!(error.to_string(), "false --now: it did not say why");
    }

    #[test]
    fn the_state_is_what_systemctl_shows() {
        let shown = "MainPID=812\nActiveState=active\nUnitFileState=enabled\n";
        let service = parse(shown);
        assert!(service.runs && service.wanted);
        assert_eq!(service.pid, Some(812));
        let failing = parse("MainPID=0\nActiveState=activating\nUnitFileState=disabled\n");
        assert_eq!(
            (failing.runs, failing.wanted, failing.pid),
            (false, true, None)
        );
        let off = parse("MainPID=0\nActiveState=inactive\nUnitFileState=enabled\n");
        assert_eq!((off.runs, off.wanted), (false, true));
        let none = parse("MainPID=0\nActiveState=inactive\nUnitFileState=\n");
        assert_eq!(none, Service::default());
    }

    /// As systemd.service(5) says, for one word in double quotes.
    fn read(text: &str) -> String {
        let inner = text.strip_prefix('"').unwrap().strip_suffix('"').unwrap();
        let mut letters = inner.chars();
        let mut word = String::new();
        while let Some(letter) = letters.next() {
            assert_ne!(letter, '"', "the word ends early");
            assert_ne!(letter, '\n', "the line ends early");
            word.push(match letter {
                '\\' => match letters.next().unwrap() {
                    'n' => '\n',
                    letter => letter,
                },
                '$' | '%' => {
                    assert_eq!(letters.next(), Some(letter), "a variable");
                    letter
                }
                letter => letter,
            });
        }
        word
    }

    proptest! {
        #[test]
        fn any_word_is_quoted_so_that_systemd_reads_it(word in any::<String>()) {
            prop_assert_eq!(read(&quoted(&word)), word);
        }

        #[test]
        fn any_answer_of_systemctl_is_understood(text in any::<String>()) {
            let _ = parse(&text);
        }
    }
}
