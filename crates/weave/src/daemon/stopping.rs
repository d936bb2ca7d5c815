//! When the router ends, and what it still does before.
//!
//! dockerd stops all containers at once when it goes down, the router among them, and takes the
//! endpoints of a container away when that has ended. A driver that is gone by then costs dockerd
//! 15 s for each endpoint, now and again at its next start. So the router goes on answering until
//! no endpoint is left.
//!
//! ```text
//!   SIGINT, `weave stop` ──────────────────────────────────▶ ends at once
//!   SIGTERM ──▶ does dockerd listen? ──(yes: it stays up, or starts)──▶ ends at once
//!                     │ no, and we run in a container of it
//!                     └──▶ serving ──(no endpoint left, or 13 s)──▶ ends
//! ```
//! A dockerd that goes down closes its socket first. One that starts after it was killed listens,
//! and calls no driver before all containers of its former life have ended.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::DaemonConfig;
use super::networks::{Kind, Networks};

/// dockerd kills what it stops after 10 s, and us after 15 s.
const SERVE_FOR: Duration = Duration::from_secs(13);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// dockerd gives an address back right after the endpoint that had it.
const LAST_CALLS: Duration = Duration::from_millis(300);

/// Completes when the router is to end: by a signal, or when `stop` is notified.
///
/// # Errors
/// When signals cannot be listened to.
pub(super) fn asked(
    config: &DaemonConfig,
    networks: Arc<Networks>,
    stop: Arc<Notify>,
) -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let docker = (!config.no_docker && weave_sys::host::in_container())
        .then(|| config.docker_socket.clone());
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            () = stop.notified() => {}
            _ = terminate.recv() => {
                if let Some(docker) = docker && UnixStream::connect(docker).is_err() {
                    tokio::select! {
                        () = serve_on(&networks) => {}
                        _ = interrupt.recv() => {}
                        () = stop.notified() => {}
                    }
                }
            }
        }
    })
}

/// Lets dockerd take its endpoints away.
async fn serve_on(networks: &Networks) {
    let deadline = tokio::time::Instant::now() + SERVE_FOR;
    let mut left = docker_endpoints(networks).await;
    tracing::info!(
        endpoints = left,
        "Docker goes down: answering until no endpoint is left"
    );
    while left > 0 && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(LOOK_EVERY).await;
        left = docker_endpoints(networks).await;
    }
    if left > 0 {
        tracing::warn!(endpoints = left, "Docker has not taken all endpoints away");
    }
    tokio::time::sleep(LAST_CALLS).await;
}

async fn docker_endpoints(networks: &Networks) -> usize {
    let endpoints = networks.endpoints().await;
    let of_docker = endpoints
        .iter()
        .filter(|endpoint| matches!(endpoint.kind, Kind::Docker { .. }));
    of_docker.count()
}
