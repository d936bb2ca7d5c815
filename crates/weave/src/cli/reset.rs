//! `weave reset`: leaves the mesh for good and the host as it was found.
//!
//! Order matters: Docker networks are removed while somebody answers for their
//! driver; the router ends; then what is left of it in the kernel and on disk
//! is removed. Every step bears being repeated.

mod farewell;
mod remains;

use std::path::Path;

use anyhow::{Context, Result};
use weave_docker::{DRIVER_NAME, DockerClient};

use crate::api::client::{Client, ClientError};
use crate::api::types::ResetRequest;

use super::config::DEFAULT_STATE_DIR;
use super::failure::Failure;
use super::progress::Progress;
use super::stop::end_router;
use super::{block_on, host, output, systemd};

use farewell::Farewell;

/// Removes everything of weave from this host.
///
/// # Errors
/// When containers are attached or peers do not answer, without `force`; or
/// when something cannot be removed.
pub(crate) fn run(force: bool, socket: &Path) -> Result<()> {
    host::require_root("reset")?;
    block_on(reset(force, &Client::new(socket)))
}

async fn reset(force: bool, client: &Client) -> Result<()> {
    let progress = Progress::new();
    let docker = match DockerClient::connect_default().await {
        Ok(docker) => Some(docker),
        Err(error) if force => {
            output::err(&format!(
                "warning: {error}: what Docker knows of weave stays"
            ));
            None
        }
        Err(error) => return Err(error).context("ask Docker"),
    };
    if let Some(docker) = &docker {
        progress.step("removing the Docker networks");
        remove_networks(docker, client, force).await?;
    }
    progress.step("leaving the mesh");
    leave(client, force).await?;
    end_router(docker.as_ref(), client).await?;
    systemd::remove()?;
    progress.step("cleaning up this host");
    remains::remove_from_kernel().await?;
    remains::remove_from_disk(Path::new(DEFAULT_STATE_DIR))?;
    if let Some(docker) = &docker {
        docker.remove_images(None).await?;
    }
    output::err("weave is gone from this host");
    Ok(())
}

async fn leave(client: &Client, force: bool) -> Result<()> {
    match client.post::<()>("/reset", &ResetRequest { force }).await {
        Ok(()) | Err(ClientError::NotRunning(_)) => Ok(()),
        Err(error) if force => {
            output::err(&format!("warning: {error}"));
            Ok(())
        }
        Err(error) => Err(error).context("leave the mesh"),
    }
}

/// Removes every network of our driver. With containers on them that is
/// possible only with `force`, which leaves those networks to their containers.
async fn remove_networks(docker: &DockerClient, client: &Client, force: bool) -> Result<()> {
    let networks = docker.networks_of_driver(DRIVER_NAME).await?;
    if networks.is_empty() {
        return Ok(());
    }
    let mut attached = Vec::new();
    let mut free = Vec::new();
    for (id, name) in networks {
        let containers = docker.network(&id).await?.containers;
        if containers.is_empty() {
            free.push((id, name));
        }
        attached.extend(containers.into_iter().map(|container| container.name));
    }
    if !attached.is_empty() && !force {
        return Err(in_use(&attached).into());
    }
    // dockerd asks the driver while it removes a network, and a driver that
    // does not answer holds it up for 15 s each.
    let stand_in = match client.fetch::<serde_json::Value>("/report").await {
        Err(ClientError::NotRunning(_)) => Farewell::start(),
        Ok(_) | Err(_) => None,
    };
    for (id, name) in free {
        docker
            .remove_network(&id)
            .await
            .with_context(|| format!("remove the Docker network `{name}`"))?;
    }
    if let Some(stand_in) = stand_in {
        stand_in.stop().await;
    }
    if !attached.is_empty() {
        output::err(&format!(
            "warning: {}: their networks stay",
            in_use(&attached)
        ));
    }
    Ok(())
}

fn in_use(containers: &[String]) -> Failure {
    let mut names = containers.to_vec();
    names.sort();
    names.dedup();
    let names = names.join(" ");
    Failure::new(format!("containers are attached: {names}"))
        .with_hint(format!("remove them first: `docker rm -f {names}`"))
}

#[cfg(test)]
mod tests {
    use super::super::failure::render;
    use super::*;

    #[test]
    fn attached_containers_are_listed_with_how_to_remove_them() {
        let names = ["web".to_owned(), "db".to_owned(), "web".to_owned()];
        insta::assert_snapshot!(render(&in_use(&names).into()), @r"
        error: containers are attached: db web
        hint: remove them first: `docker rm -f db web`
        ");
    }
}
