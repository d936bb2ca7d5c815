//! Commands that Weave Net had, or had removed itself: what to do in their place.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::failure::Failure;

/// Each command, and what replaced it.
pub(crate) const REMOVED: &[(&str, &str)] = &[
    ("run", "docker run --net=weave"),
    (
        "start",
        "docker start: a container of the network `weave` is on it again at once",
    ),
    (
        "restart",
        "docker restart: a container of the network `weave` is on it again at once",
    ),
    ("launch-router", "weave launch"),
    (
        "launch-proxy",
        "weave launch: there is no proxy, containers join with docker run --net=weave",
    ),
    (
        "launch-plugin",
        "weave launch: the Docker plugin is part of the router",
    ),
    ("stop-router", "weave stop"),
    ("stop-proxy", "nothing: there is no proxy"),
    (
        "stop-plugin",
        "weave stop: the Docker plugin is part of the router",
    ),
    (
        "setup-cni",
        "nothing: there is no CNI plugin; weave attach --netns joins any network namespace",
    ),
    (
        "docker-bridge-ip",
        "weave dns-args, or: docker network inspect bridge",
    ),
    (
        "attach-bridge",
        "weave expose: the host routes between its bridges and the network",
    ),
    ("bridge-type", "nothing: there is one kind of bridge"),
    ("help", "weave --help"),
];

/// What became of the command that was typed, if it is one of these.
pub(crate) fn explain(error: &clap::Error) -> Option<Failure> {
    if error.kind() != ErrorKind::InvalidSubcommand {
        return None;
    }
    let Some(ContextValue::String(typed)) = error.get(ContextKind::InvalidSubcommand) else {
        return None;
    };
    let (name, instead) = REMOVED.iter().find(|(name, _)| name == typed)?;
    Some(Failure::new(format!(
        "`weave {name}` is gone; instead: {instead}"
    )))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::super::args::Cli;
    use super::super::failure::{exit_code, render};
    use super::*;

    fn typed(line: &str) -> clap::Error {
        Cli::try_parse_from(line.split_whitespace()).unwrap_err()
    }

    #[test]
    fn each_removed_command_fails_with_one_line_that_says_what_to_do_instead() {
        for (name, instead) in REMOVED {
            for line in [
                format!("weave {name}"),
                format!("weave {name} -d --name x busybox"),
                format!("weave --socket /w.sock {name}"),
            ] {
                let error = explain(&typed(&line))
                    .unwrap_or_else(|| panic!("{line}"))
                    .into();
                assert_eq!(exit_code(&error), 1, "{line}");
                let text = render(&error);
                assert_eq!(
                    text,
                    format!("error: `weave {name}` is gone; instead: {instead}")
                );
                assert_eq!(text.lines().count(), 1, "{text}");
            }
        }
    }

    #[test]
    fn no_command_is_there_and_gone() {
        for command in Cli::command().get_subcommands() {
            let is_gone = REMOVED.iter().any(|(name, _)| *name == command.get_name());
            assert!(!is_gone, "{}", command.get_name());
        }
    }

    #[test]
    fn a_mistake_of_another_kind_is_a_usage_error_still() {
        for line in ["weave statsu", "weave", "weave status run", "weave connect"] {
            assert!(explain(&typed(line)).is_none(), "{line}");
        }
    }
}
