//! `weave doctor`: what is wrong with this host and its part of the mesh, and what to do.
//!
//! Owns the looks that need no router, and the order of findings; what only the router knows it
//! is asked for. Changes nothing.

mod docker;
mod host;

use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use super::args::DoctorArgs;
use super::config::DEFAULT_STATE_DIR;
use super::failure::Failure;
use super::options;
use super::{block_on, output, view};
use crate::api::ApiErrorKind;
use crate::api::client::{Client, ClientError};
use crate::api::types::{Finding, Level, StatusReport};

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Findings {
    errors: usize,
    warnings: usize,
    notes: usize,
    findings: Vec<Finding>,
}

/// Looks at everything; errors found are a failure, nothing else is.
///
/// # Errors
/// Without root's rights, or when an error was found.
pub(crate) fn run(args: &DoctorArgs, socket: &Path) -> Result<()> {
    super::host::require_root("doctor")?;
    let mut findings = block_on(async { Ok(look(socket).await) })?;
    findings.sort_by(|a, b| (a.level, &a.check).cmp(&(b.level, &b.check)));
    findings.dedup();
    let count = |level| findings.iter().filter(|one| one.level == level).count();
    let errors = count(Level::Error);
    if args.json {
        output::json(&Findings {
            errors,
            warnings: count(Level::Warning),
            notes: count(Level::Info),
            findings,
        })?;
    } else {
        output::out_raw(&view::findings(&findings));
    }
    Ok(verdict(errors)?)
}

fn verdict(errors: usize) -> Result<(), Failure> {
    match errors {
        0 => Ok(()),
        1 => Err(Failure::new("one thing does not work")),
        errors => Err(Failure::new(format!("{errors} things do not work"))),
    }
}

async fn look(socket: &Path) -> Vec<Finding> {
    let client = Client::new(socket);
    let mut findings = Vec::new();
    let report = match client.fetch::<StatusReport>("/report").await {
        Ok(report) => Some(report),
        Err(error) => {
            findings.push(no_router(&error));
            None
        }
    };
    if report.is_some() {
        findings.extend(of_router(&client).await);
    } else {
        findings.extend(host::state(Path::new(DEFAULT_STATE_DIR)));
    }
    findings.extend(host::findings(report.as_ref()).await);
    findings.extend(docker::findings(report.as_ref()).await);
    findings
}

async fn of_router(client: &Client) -> Vec<Finding> {
    match client.fetch("/doctor").await {
        Ok(findings) => findings,
        Err(ClientError::Refused(error)) if error.kind == ApiErrorKind::NotFound => {
            vec![
                Finding::warning(
                    "router",
                    "the running router is older than this program, and was not asked for what it knows",
                )
                .with_fix("`weave stop`, then `weave launch`"),
            ]
        }
        Err(error) => vec![failed(&error)],
    }
}

/// A host where weave was launched should have a router.
fn no_router(error: &ClientError) -> Finding {
    match error {
        ClientError::NotRunning(_) if options::load(Path::new(DEFAULT_STATE_DIR)).is_none() => {
            Finding::info("router", "no router runs on this host, and none was launched")
                .with_fix("`weave launch` starts one")
        }
        ClientError::NotRunning(_) => Finding::error(
            "router",
            "the router of this host does not run: no container reaches those of other hosts",
        )
        .with_fix("`weave launch` starts it with the options of before; `docker logs --tail 20 weave` may tell why it ended"),
        ClientError::NotPermitted(_)
        | ClientError::Connect { .. }
        | ClientError::TimedOut
        | ClientError::Broken(_)
        | ClientError::Refused(_) => failed(error),
    }
}

fn failed(error: &ClientError) -> Finding {
    let finding = Finding::error("router", error.to_string());
    match error.hint() {
        Some(hint) => finding.with_fix(hint),
        None => finding,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_in_words_for_people() {
        let said = |errors| verdict(errors).map_err(|failure| failure.to_string());
        assert_eq!(said(0), Ok(()));
        assert_eq!(said(1), Err("one thing does not work".to_owned()));
        assert_eq!(said(2), Err("2 things do not work".to_owned()));
    }
}
