//! `weave stop`: ends the router and sees to it that no reboot brings it back.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use weave_docker::DockerClient;

use crate::api::client::{Client, ClientError};

use super::failure::Failure;
use super::progress::Progress;
use super::{block_on, host, output, systemd};

/// Seconds that the router has for its goodbye before it is killed.
pub(super) const GRACE: u16 = 10;

/// What was running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Was {
    /// A router, and the command that starts it again.
    Running(&'static str),
    /// None.
    Stopped,
}

/// Stops the router; says what stays.
///
/// # Errors
/// When it cannot be stopped. None running is no error.
pub(crate) fn run(socket: &Path) -> Result<()> {
    host::require_root("stop")?;
    block_on(async {
        let docker = DockerClient::connect_default().await;
        match end_router(docker.as_ref().ok(), &Client::new(socket)).await? {
            Was::Running(again) => output::err(&format!(
                "weave is stopped. The Docker network `weave`, the bridge and the containers stay: \
                 containers on this host go on talking to each other.\n\
                 `{again}` resumes; `weave reset` removes everything."
            )),
            Was::Stopped => output::err("weave is not running: nothing to stop"),
        }
        Ok(())
    })
}

/// Ends the router, in whatever way it runs; removes its container, or disables its service.
///
/// # Errors
/// When Docker refuses, or a router in the foreground does not end.
pub(super) async fn end_router(docker: Option<&DockerClient>, client: &Client) -> Result<Was> {
    if let Some(docker) = docker
        && let Some(router) = docker.router().await?
    {
        Progress::new().step("saying goodbye to the peers");
        docker.stop_router(GRACE).await?;
        docker.remove_router().await?;
        // of one that had to be killed: dockerd would wait for whoever made it
        weave_docker::plugin::remove_stale(&weave_docker::plugin_socket())?;
        return Ok(if router.running {
            Was::Running("weave launch")
        } else {
            Was::Stopped
        });
    }
    if let Some(service) = systemd::service()?
        && service.wanted
    {
        Progress::new().step("saying goodbye to the peers");
        systemd::stop()?;
        weave_docker::plugin::remove_stale(&weave_docker::plugin_socket())?;
        return Ok(match service.runs {
            true => Was::Running("weave launch --systemd"),
            false => Was::Stopped,
        });
    }
    match client.post::<()>("/stop", &()).await {
        Ok(()) => {}
        Err(ClientError::NotRunning(_)) => return Ok(Was::Stopped),
        Err(error) => return Err(error).context("stop the router"),
    }
    wait_until_gone(client).await?;
    Ok(Was::Running("weave launch"))
}

async fn wait_until_gone(client: &Client) -> Result<()> {
    for _ in 0..u32::from(GRACE) * 20 {
        let answer = client.fetch::<serde_json::Value>("/report").await;
        if matches!(answer, Err(ClientError::NotRunning(_))) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(
        Failure::new(format!("the router did not end within {GRACE} s"))
            .with_hint("it runs in the foreground somewhere: end it there with Ctrl-C")
            .into(),
    )
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::super::failure::render;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_router_that_goes_on_is_not_waited_for_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("w.sock");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let client = Client::new(&socket);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
                let _ = stream.write_all(answer).await;
            }
        });
        let text = render(&wait_until_gone(&client).await.unwrap_err());
        assert_eq!(
            text,
            "error: the router did not end within 10 s\n\
             hint: it runs in the foreground somewhere: end it there with Ctrl-C"
        );
        std::fs::remove_file(&socket).unwrap();
        assert!(wait_until_gone(&client).await.is_ok());
    }
}
