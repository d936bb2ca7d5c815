//! `weave logs`: what the router says, from whoever keeps it.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::Result;
use weave_docker::DockerClient;

use super::args::LogsArgs;
use super::failure::Failure;
use super::{block_on, systemd};

/// Since when lines are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Since {
    /// So many seconds ago.
    Ago(u64),
    /// A time, `2026-01-31T15:04:05`, or only its beginning.
    At(String),
}

impl Since {
    /// `90s`, `10m`, `2h`, `3d`, or a time.
    ///
    /// # Errors
    /// When it is neither.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "neither such as 10m nor such as 2026-01-31T15:04:05".to_owned();
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            _ if number.len() == 4 && is_time(unit) => return Ok(Self::At(text.to_owned())),
            _ => return Err(wrong()),
        };
        let number: u32 = number.parse().map_err(|_| wrong())?;
        Ok(Self::Ago(u64::from(number) * seconds))
    }
}

fn is_time(rest: &str) -> bool {
    let plain = |c: char| c.is_ascii_digit() || "-: TZ+.".contains(c);
    rest.starts_with('-') && rest.chars().all(plain)
}

/// Prints the log.
///
/// # Errors
/// When nobody keeps one, or its keeper cannot be asked.
pub(crate) fn run(args: &LogsArgs) -> Result<()> {
    let (program, words) = if of_container()? {
        ("docker", docker_words(args))
    } else if systemd::service()?.is_some_and(|service| service.wanted) {
        ("journalctl", journal_words(args))
    } else {
        return Err(Failure::new("no router was launched on this host")
            .with_hint("`weave launch` starts one; `weave router` logs where it was started")
            .into());
    };
    let error = Command::new(program).args(words).exec();
    Err(Failure::new(format!("cannot run {program}: {error}")).into())
}

/// Whether there is a container of the router. Where there is no Docker there is none.
fn of_container() -> Result<bool> {
    block_on(async {
        match DockerClient::connect_default().await {
            Ok(docker) => Ok(docker.router().await?.is_some()),
            Err(_) => Ok(false),
        }
    })
}

fn docker_words(args: &LogsArgs) -> Vec<String> {
    let mut words = vec!["logs".to_owned()];
    if args.follow {
        words.push("--follow".to_owned());
    }
    words.extend(args.since.as_ref().map(|since| match since {
        Since::Ago(seconds) => format!("--since={seconds}s"),
        Since::At(time) => format!("--since={}", time.replace(' ', "T")),
    }));
    words.extend(args.tail.map(|lines| format!("--tail={lines}")));
    words.push("weave".to_owned());
    words
}

fn journal_words(args: &LogsArgs) -> Vec<String> {
    let unit = format!("--unit={}", systemd::UNIT);
    let mut words = vec!["--no-pager".to_owned(), "--output=cat".to_owned(), unit];
    if args.follow {
        words.push("--follow".to_owned());
    }
    words.extend(args.since.as_ref().map(|since| match since {
        Since::Ago(seconds) => format!("--since=-{seconds}s"),
        Since::At(time) => format!("--since={}", time.replace('T', " ").replace('Z', " UTC")),
    }));
    words.extend(args.tail.map(|lines| format!("--lines={lines}")));
    words
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_keepers_are_asked_in_their_own_words() {
        let mut args = LogsArgs {
            follow: true,
            since: Some(Since::parse("10m").unwrap()),
            tail: Some(5),
        };
        assert_eq!(
            docker_words(&args).join(" "),
            "logs --follow --since=600s --tail=5 weave"
        );
        assert_eq!(
            journal_words(&args).join(" "),
            "--no-pager --output=cat --unit=weave.service --follow --since=-600s --lines=5"
        );
        args = LogsArgs {
            follow: false,
            since: Some(Since::parse("2026-01-31T15:04:05Z").unwrap()),
            tail: None,
        };
        assert_eq!(
            docker_words(&args).join(" "),
            "logs --since=2026-01-31T15:04:05Z weave"
        );
        assert_eq!(
            journal_words(&args).join(" "),
            "--no-pager --output=cat --unit=weave.service --since=2026-01-31 15:04:05 UTC"
        );
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "10",
            "m",
            "10 m",
            "-5m",
            "yesterday",
            "99999999999s",
            "2026",
            "2026-$(x)",
        ] {
            assert!(Since::parse(text).is_err(), "{text}");
        }
        assert_eq!(Since::parse("3d"), Ok(Since::Ago(259_200)));
        assert_eq!(
            Since::parse("2026-01-31"),
            Ok(Since::At("2026-01-31".to_owned()))
        );
    }

    proptest! {
        #[test]
        fn any_text_is_a_time_or_refused(text in any::<String>()) {
            let _ = Since::parse(&text);
        }
    }
}
