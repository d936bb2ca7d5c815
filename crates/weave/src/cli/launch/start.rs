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
    let report = wait_until_ready(launch, PATIENCE).await?;
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

async fn wait_until_ready(launch: &Launch<'_>, patience: Duration) -> Result<StatusReport> {
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
        if started.elapsed() > patience {
            let seconds = patience.as_secs();
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixListener;
    use weave_docker::DockerClient;

    use super::super::super::args::RouterOptions;
    use super::super::super::config::Settings;
    use super::super::super::options::Options;
    use super::super::super::progress::Progress;
    use super::*;
    use crate::api::client::Client;

    /// Docker as far as it is asked here: this is what it says of the router's container.
    async fn docker(listener: UnixListener, container: Option<&str>) {
        let (status, container) = match container {
            Some(container) => ("200 OK", container),
            None => ("404 Not Found", r#"{"message":"No such container: weave"}"#),
        };
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let len = stream.read(&mut request).await.unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..len]).into_owned();
            let (status, answer) = match request.contains("/version ") {
                true => ("200 OK", r#"{"ApiVersion":"1.41"}"#),
                false => (status, container),
            };
            let len = answer.len();
            let head = format!(
                "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len}\r\nconnection: close"
            );
            let answer = format!("{head}\r\n\r\n{answer}");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    }

    /// What is said of a router that answers nothing, while Docker says this of its container.
    async fn said(container: Option<&'static str>) -> String {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("docker.sock");
        tokio::spawn(docker(UnixListener::bind(&socket).unwrap(), container));
        let given = RouterOptions {
            nickname: Some("nyc".to_owned()),
            ..RouterOptions::default()
        };
        let launch = Launch {
            options: Options::resolve(&given, &Settings::default()).unwrap(),
            systemd: false,
            resume: false,
            names_options: false,
            given: None,
            generation: None,
            state_dir: Path::new("/nonexistent"),
            client: Client::new(&directory.path().join("weave.sock")),
            docker: DockerClient::connect(&socket).await.unwrap(),
            progress: Progress::new(),
        };
        let waited = wait_until_ready(&launch, Duration::ZERO).await;
        waited.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn a_router_that_does_not_come_up_is_not_waited_for_for_ever() {
        assert_eq!(said(None).await, "somebody removed the router's container");
        let ended = r#"{
            "Config": {"Labels": {"weave.role": "router"}},
            "State": {"Running": false, "ExitCode": 1, "Error": ""}
        }"#;
        assert_eq!(
            said(Some(ended)).await,
            "the router does not come up: it ended with exit code 1"
        );
        let runs = r#"{
            "Config": {"Labels": {"weave.role": "router"}},
            "State": {"Running": true}
        }"#;
        assert_eq!(
            said(Some(runs)).await,
            "the router is not ready after 0 s: it waits for its start"
        );
    }
}
