//! The router as a service of systemd: started, and replaced.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::api::types::StatusReport;

use super::super::failure::Failure;
use super::super::output;
use super::super::systemd::{self, Service};
use super::{Launch, start};

/// Installs the unit, starts it, waits until the router is ready, makes the network.
///
/// # Errors
/// When any of this fails; the unit is removed then.
pub(super) async fn start(launch: &Launch<'_>) -> Result<StatusReport> {
    let args = launch.options.router_args(launch.id()?.as_deref());
    let unit = systemd::unit(&own_path()?, &args)?;
    // Docker would start that one at the next boot
    launch.docker.remove_router().await?;
    launch.progress.step("installing the unit");
    systemd::install(&unit)?;
    launch.progress.step("starting the router");
    let started = bring_up(launch).await;
    if started.is_err() {
        start::show(systemd::log(start::LOG_LINES));
        if let Err(error) = systemd::stop().and_then(|()| systemd::remove()) {
            output::err(&format!(
                "warning: the unit {} stays: {error}",
                systemd::UNIT
            ));
        }
    }
    started
}

/// Replaces the running router by this program: bridges, TAPs and their cables stay, sessions are
/// made anew.
///
/// # Errors
/// When the new one does not come up; the former one runs again then, if it is still there.
pub(super) async fn replace(launch: &Launch<'_>) -> Result<()> {
    start::say_versions(launch).await;
    let former = systemd::installed()?.context("somebody removed the unit of weave")?;
    // not a new launch: the peers that `connect` added stay
    let args = launch.options.router_args(launch_id_of(&former).as_deref());
    let unit = systemd::unit(&own_path()?, &args)?;
    launch.progress.step("replacing the router");
    systemd::install(&unit)?;
    match bring_up(launch).await {
        Ok(report) => {
            start::say_ready(&report);
            Ok(())
        }
        Err(error) => {
            start::show(systemd::log(start::LOG_LINES));
            systemd::install(&former)?;
            bring_up(launch).await.context(
                "neither the new router nor the former one comes up: put the former program back, and launch it",
            )?;
            Err(error.context("the new router does not come up; the former one runs again"))
        }
    }
}

/// A service that ended is started again by systemd: once is too often already.
///
/// # Errors
/// When it does not run.
pub(super) fn check_alive() -> Result<()> {
    Ok(alive(systemd::service()?.as_ref())?)
}

fn alive(service: Option<&Service>) -> Result<(), Failure> {
    match service {
        Some(service) if service.runs => Ok(()),
        Some(_) | None => {
            Err(Failure::new("the router does not come up").with_hint("its last words stand above"))
        }
    }
}

/// The program that a running service runs, also where its file was replaced since.
///
/// # Errors
/// When it cannot be read.
pub(super) fn program_of(service: &Service) -> Result<Vec<u8>> {
    let pid = service
        .pid
        .context("systemd does not know the router's process")?;
    let path = format!("/proc/{pid}/exe");
    std::fs::read(&path).with_context(|| format!("read {path}"))
}

async fn bring_up(launch: &Launch<'_>) -> Result<StatusReport> {
    systemd::start()?;
    start::finish(launch).await
}

fn own_path() -> Result<PathBuf> {
    let path = std::env::current_exe().context("find this program")?;
    Ok(still_there(path)?)
}

fn still_there(path: PathBuf) -> Result<PathBuf, Failure> {
    match path.exists() {
        true => Ok(path),
        false => {
            Err(Failure::new("this program was replaced while it ran")
                .with_hint("launch the new one"))
        }
    }
}

/// The launch that a unit is of; none: it resumed an earlier one.
fn launch_id_of(unit: &str) -> Option<String> {
    let (_, after) = unit.split_once("--launch-id=")?;
    let id = after.chars().take_while(char::is_ascii_hexdigit);
    Some(id.collect()).filter(|id: &String| !id.is_empty())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_launch_is_found_in_its_unit() {
        let args = ["router".to_owned(), "--launch-id=0f3a".to_owned()];
        let unit = systemd::unit(Path::new("/usr/local/bin/weave"), &args).unwrap();
        assert_eq!(launch_id_of(&unit).as_deref(), Some("0f3a"));
        let args = ["router".to_owned()];
        let unit = systemd::unit(Path::new("/usr/local/bin/weave"), &args).unwrap();
        assert_eq!(launch_id_of(&unit), None);
    }

    #[test]
    fn a_service_that_ended_once_does_not_come_up() {
        let runs = Service {
            runs: true,
            ..Service::default()
        };
        assert!(alive(Some(&runs)).is_ok());
        for service in [None, Some(&Service::default())] {
            let error = alive(service).unwrap_err();
            assert_eq!(error.to_string(), "the router does not come up");
        }
    }

    #[test]
    fn a_program_whose_file_is_gone_is_not_made_a_service() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("weave");
        std::fs::write(&path, "").unwrap();
        assert_eq!(still_there(path.clone()).unwrap(), path);
        std::fs::remove_file(&path).unwrap();
        // as the kernel shows it
        let shown = format!("{} (deleted)", path.display());
        let error = still_there(shown.into()).unwrap_err();
        assert_eq!(error.to_string(), "this program was replaced while it ran");
    }

    proptest! {
        #[test]
        fn any_unit_is_of_some_launch_or_none(unit in any::<String>()) {
            let id = launch_id_of(&unit).unwrap_or_default();
            prop_assert!(id.chars().all(|c| c.is_ascii_hexdigit()));
        }
    }
}
