//! From an image to a router that is ready.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use weave_docker::{DRIVER_NAME, NetworkSpec, RouterSpec, RouterState};

use crate::api::client::ClientError;
use crate::api::types::StatusReport;

use super::super::commands::VERSION;
use super::super::failure::Failure;
use super::super::output;
use super::super::stop::GRACE;
use super::super::systemd;
use super::{Launch, service};

/// Name of the Docker network.
pub(crate) const NETWORK: &str = "weave";

/// A router that is not ready after this long never will be.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often the router is asked whether it is ready.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Last lines of the log that are shown when it does not come up.
pub(super) const LOG_LINES: u16 = 20;

/// Starts the router, waits until it is ready, makes the network.
///
/// # Errors
/// When any of this fails; the container is removed then.
pub(super) async fn start(launch: &Launch<'_>, binary: &[u8]) -> Result<StatusReport> {
    launch.progress.step("preparing the image");
    let image = launch.docker.ensure_image(binary, VERSION).await?;
    launch.docker.remove_router().await?;
    if systemd::service()?.is_some_and(|service| service.wanted) {
        systemd::stop()?;
    }
    let args = launch.options.router_args(launch.id()?.as_deref());
    launch.progress.step("starting the router");
    let spec = spec(launch, &image, &args);
    launch.docker.create_router(&spec).await?;
    match bring_up(launch).await {
        Ok(report) => {
            remove_old_images(launch, &image).await;
            Ok(report)
        }
        Err(error) => {
            show_log(launch).await;
            if let Err(error) = launch.docker.remove_router().await {
                output::err(&format!("warning: the container `weave` stays: {error}"));
            }
            Err(error)
        }
    }
}

/// Replaces the router under the running containers: bridges, TAPs and their cables stay, sessions
/// are made anew.
///
/// # Errors
/// When the new one does not come up; the former one runs again then, if it can.
pub(super) async fn replace(
    launch: &Launch<'_>,
    binary: &[u8],
    former: &RouterState,
) -> Result<()> {
    say_versions(launch).await;
    launch.progress.step("preparing the image");
    let image = launch.docker.ensure_image(binary, VERSION).await?;
    launch.progress.step("replacing the router");
    match exchange(launch, &spec(launch, &image, &former.args)).await {
        Ok(report) => {
            remove_old_images(launch, &image).await;
            say_ready(&report);
            Ok(())
        }
        Err(error) => {
            show_log(launch).await;
            exchange(launch, &spec(launch, &former.image, &former.args))
                .await
                .context("the former router does not come up either")?;
            Err(error.context("the new router does not come up; the former one runs again"))
        }
    }
}

pub(super) async fn say_versions(launch: &Launch<'_>) {
    let running = launch.client.fetch::<StatusReport>("/report").await;
    let version = running.map_or_else(|_| "?".to_owned(), |report| report.version);
    output::err(&match version == VERSION {
        true => format!("replacing weave {version} with another build of it"),
        false => format!("upgrading weave {version} → {VERSION}"),
    });
}

pub(super) fn say_ready(report: &StatusReport) {
    let router = &report.router;
    output::err(&format!(
        "weave is ready: {}({})",
        router.name, router.nickname
    ));
}

fn spec(launch: &Launch<'_>, image: &str, args: &[String]) -> RouterSpec {
    RouterSpec {
        image: image.to_owned(),
        args: args.to_vec(),
        env: Vec::new(),
        state_dir: launch.state_dir.to_owned(),
        labels: std::collections::BTreeMap::new(),
        restart: !launch.options.no_restart,
    }
}

/// Images of former versions: of no more use, and no reason to fail.
async fn remove_old_images(launch: &Launch<'_>, image: &str) {
    if let Err(error) = launch.docker.remove_images(Some(image)).await {
        output::err(&format!("warning: old images of weave stay: {error}"));
    }
}

async fn exchange(launch: &Launch<'_>, spec: &RouterSpec) -> Result<StatusReport> {
    launch.docker.stop_router(GRACE).await?;
    launch.docker.remove_router().await?;
    launch.docker.create_router(spec).await?;
    bring_up(launch).await
}

async fn bring_up(launch: &Launch<'_>) -> Result<StatusReport> {
    launch.docker.start_router().await?;
    finish(launch).await
}

/// Waits until the router that was started is ready, and makes the network.
pub(super) async fn finish(launch: &Launch<'_>) -> Result<StatusReport> {
    let report = wait_until_ready(launch).await?;
    let network = NetworkSpec {
        name: NETWORK.to_owned(),
        driver: DRIVER_NAME.to_owned(),
        subnet: launch.options.default_subnet,
        options: std::collections::BTreeMap::new(),
    };
    launch
        .docker
        .ensure_network(&network)
        .await
        .context("make the Docker network `weave`")?;
    Ok(report)
}

async fn wait_until_ready(launch: &Launch<'_>) -> Result<StatusReport> {
    let started = Instant::now();
    let mut said = false;
    loop {
        let waiting_for = match launch.client.fetch::<StatusReport>("/report").await {
            Ok(report) if report.ready => return Ok(report),
            Ok(report) => report.waiting_for,
            // one that breaks off is about to end, and has yet to say why
            Err(ClientError::NotRunning(_) | ClientError::Broken(_)) => None,
            Err(error) => return Err(error.into()),
        };
        check_alive(launch).await?;
        let waiting_for = waiting_for.unwrap_or_else(|| "its start".to_owned());
        if started.elapsed() > PATIENCE {
            let seconds = PATIENCE.as_secs();
            return Err(Failure::new(format!(
                "the router is not ready after {seconds} s: it waits for {waiting_for}"
            ))
            .into());
        }
        if !said && started.elapsed() > Duration::from_secs(1) {
            launch.progress.step(&format!("waiting for {waiting_for}"));
            said = true;
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// A router that ends is started again by Docker: once is too often already.
async fn check_alive(launch: &Launch<'_>) -> Result<()> {
    if launch.systemd {
        return service::check_alive();
    }
    let Some(router) = launch.docker.router().await? else {
        return Err(Failure::new("somebody removed the router's container").into());
    };
    if is_up(&router) {
        return Ok(());
    }
    let why = match router.error.as_str() {
        "" => format!("it ended with exit code {}", router.exit_code),
        error => error.to_owned(),
    };
    Err(Failure::new(format!("the router does not come up: {why}"))
        .with_hint("its last words stand above")
        .into())
}

/// Whether the container's router runs and never ended.
pub(super) fn is_up(router: &RouterState) -> bool {
    router.running && !router.restarting && router.restarts == 0
}

async fn show_log(launch: &Launch<'_>) {
    let log = launch.docker.router_log(LOG_LINES).await;
    show(log.map_err(anyhow::Error::from));
}

/// Shows the last lines of a router that did not come up.
pub(super) fn show(log: Result<String>) {
    match log {
        Ok(log) if log.trim().is_empty() => {}
        Ok(log) => output::err(&format!("the router said:\n{}", indent(&log))),
        Err(error) => output::err(&format!(
            "warning: the router's log cannot be read: {error}"
        )),
    }
}

fn indent(log: &str) -> String {
    let lines: Vec<String> = log.lines().map(|line| format!("  {line}")).collect();
    lines.join("\n")
}

/// Differs from launch to launch.
pub(super) fn launch_id() -> Result<String> {
    let id = getrandom::u64()
        .map_err(|error| Failure::new(format!("the system has no randomness: {error}")))?;
    Ok(format!("{id:016x}"))
}
