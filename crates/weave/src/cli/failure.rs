//! Errors on their way to the terminal: `error: …`, `hint: …`, exit code.

use std::process::ExitCode;

use crate::api::client::ClientError;

use super::output;

/// What a command failed with, for people.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    message: String,
    hint: Option<String>,
    usage: bool,
}

impl Failure {
    /// A failure of the host, the router or the network: exit code 1.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
            usage: false,
        }
    }

    /// A mistake in the arguments: exit code 2.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self {
            usage: true,
            ..Self::new(message)
        }
    }

    /// The same with what to do about it.
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Prints an error with all its causes, and the hint of the first one that has one.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    output::err(&render(error));
    ExitCode::from(exit_code(error))
}

/// What is printed for an error.
pub(crate) fn render(error: &anyhow::Error) -> String {
    let mut text = format!("error: {error}");
    let mut last = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        // An error that only passes another one on says the same.
        if !last.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        last = cause;
    }
    if let Some(hint) = error.chain().find_map(hint) {
        text.push_str("\nhint: ");
        text.push_str(&hint);
    }
    text
}

fn hint(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return failure.hint.clone();
    }
    if let Some(error) = error.downcast_ref::<ClientError>() {
        return error.hint();
    }
    if let Some(error) = error.downcast_ref::<crate::api::server::ServeError>() {
        return error.hint().map(str::to_owned);
    }
    if let Some(error) = error.downcast_ref::<weave_docker::Error>() {
        return error.hint().map(str::to_owned);
    }
    if let Some(error) = error.downcast_ref::<weave_sys::Error>() {
        return error.hint().map(str::to_owned);
    }
    None
}

/// 1 failed, 2 usage, 3 router not running.
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    let is_usage = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<Failure>().is_some_and(|f| f.usage)
    };
    let is_not_running = |cause: &(dyn std::error::Error + 'static)| {
        matches!(
            cause.downcast_ref::<ClientError>(),
            Some(ClientError::NotRunning(_))
        )
    };
    if error.chain().any(is_usage) {
        return 2;
    }
    if error.chain().any(is_not_running) {
        return 3;
    }
    1
}

/// Help and version go to standard output and are success; the rest is usage.
pub(crate) fn report_usage(error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    if error.use_stderr() {
        output::err(text.trim_end());
        return ExitCode::from(2);
    }
    output::out(text.trim_end());
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use anyhow::Context;

    use super::*;

    #[test]
    fn an_error_prints_its_chain_and_the_first_hint() {
        let error = Err::<(), _>(ClientError::NotRunning("/run/w.sock".into()))
            .context("ask for the status")
            .unwrap_err();
        insta::assert_snapshot!(render(&error), @r"
        error: ask for the status: the router is not running: nothing answers on /run/w.sock
        hint: start it with `weave launch`; with --socket or WEAVE_SOCKET name another socket
        ");
        assert_eq!(exit_code(&error), 3);
    }

    #[test]
    fn a_cause_that_is_only_passed_on_is_not_repeated() {
        let inner = crate::api::ApiError::new(crate::api::ApiErrorKind::NotFound, "no container x")
            .with_hint("see `docker ps`");
        let error = anyhow::Error::from(ClientError::Refused(inner));
        assert_eq!(
            render(&error),
            "error: no container x\nhint: see `docker ps`"
        );
        assert_eq!(exit_code(&error), 1);
    }

    #[test]
    fn usage_errors_end_with_code_2_also_under_context() {
        let error = anyhow::Error::from(Failure::usage("no").with_hint("yes")).context("outer");
        assert_eq!(render(&error), "error: outer: no\nhint: yes");
        assert_eq!(exit_code(&error), 2);
    }

    #[test]
    fn errors_of_the_host_bring_their_own_hints() {
        let error = anyhow::Error::from(weave_docker::Error::NotPermitted {
            socket: Path::new("/run/docker.sock").to_owned(),
        });
        assert!(render(&error).contains("hint: "), "{}", render(&error));
        let error = anyhow::Error::from(weave_sys::Error::MissingCapability {
            capability: "CAP_NET_ADMIN",
        });
        assert!(
            render(&error).contains("hint: run as root"),
            "{}",
            render(&error)
        );
    }
}
