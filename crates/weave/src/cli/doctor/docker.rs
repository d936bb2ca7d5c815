//! Docker, as weave needs it: the daemon, the plugin's socket, the network `weave`.

use std::os::unix::net::UnixStream;
use std::path::Path;

use weave_docker::{DRIVER_NAME, DockerClient};

use crate::api::types::{Finding, StatusReport};

/// Oldest version that is tested with.
const OLDEST: (u32, u32) = (20, 10);

/// What is wrong with Docker; nothing where the router was told to do without.
pub(super) async fn findings(report: Option<&StatusReport>) -> Vec<Finding> {
    let has_plugin = report.is_none_or(|report| report.plugin.is_some());
    if !has_plugin {
        return Vec::new();
    }
    let mut findings: Vec<_> = report
        .and_then(|_| plugin_socket(&weave_docker::plugin_socket()))
        .into_iter()
        .collect();
    match DockerClient::connect_default().await {
        Ok(client) => findings.extend(of_docker(&client, report.is_some()).await),
        Err(error) => {
            let finding = Finding::error("docker", format!("Docker does not answer: {error}"));
            let fix = error.hint().unwrap_or("systemctl start docker");
            findings.push(finding.with_fix(fix));
        }
    }
    findings
}

fn plugin_socket(path: &Path) -> Option<Finding> {
    let error = UnixStream::connect(path).err()?;
    let message = format!(
        "dockerd cannot call weave: its plugin socket {} is gone ({error}); containers with --net=weave do not start",
        path.display()
    );
    Some(Finding::error("plugin-socket", message).with_fix(
        "`docker restart weave`, or `systemctl restart weave`, makes it anew; containers stay as they are",
    ))
}

async fn of_docker(client: &DockerClient, needs_network: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    match client.server_version().await {
        Ok(version) => findings.extend(too_old(&version)),
        Err(error) => findings.push(Finding::error("docker", error.to_string())),
    }
    if needs_network {
        findings.extend(network(client).await);
    }
    findings
}

fn too_old(version: &str) -> Option<Finding> {
    let mut parts = version.split('.').map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else {
        return None;
    };
    if (major, minor) >= OLDEST {
        return None;
    }
    let message = format!("Docker {version} is older than any that weave is tested with");
    let (major, minor) = OLDEST;
    Some(
        Finding::warning("docker-version", message)
            .with_fix(format!("upgrade Docker to {major}.{minor} or newer")),
    )
}

async fn network(client: &DockerClient) -> Option<Finding> {
    match client.network("weave").await {
        Ok(network) if network.driver == DRIVER_NAME => None,
        Ok(network) => Some(
            Finding::error(
                "docker-network",
                format!(
                    "the Docker network `weave` is one of the driver `{}`, not of weave",
                    network.driver
                ),
            )
            .with_fix("`docker network rm weave`, then `weave launch`"),
        ),
        Err(error) if error.is_not_found() => Some(
            Finding::error(
                "docker-network",
                "the Docker network `weave` is missing: `docker run --net=weave` fails",
            )
            .with_fix("`weave stop`, then `weave launch`, makes it anew"),
        ),
        Err(error) => Some(Finding::error("docker-network", error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_versions_before_the_oldest_that_is_tested_are_told() {
        for (version, old) in [
            ("19.03.15", true),
            ("20.10.0", false),
            ("29.1.2", false),
            ("dev", false),
        ] {
            assert_eq!(too_old(version).is_some(), old, "{version}");
        }
    }

    #[test]
    fn a_socket_that_is_gone_and_one_that_nobody_serves_are_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("weave.sock");
        assert_eq!(plugin_socket(&path).unwrap().check, "plugin-socket");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_eq!(plugin_socket(&path), None);
        drop(listener);
        assert!(plugin_socket(&path).is_some());
    }

    proptest! {
        #[test]
        fn any_version_is_read(version: String) {
            let _ = too_old(&version);
        }
    }
}
