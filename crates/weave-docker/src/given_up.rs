//! Containers that dockerd should run by their restart policy, and gave up on.
//!
//! While dockerd starts it brings containers back before it brings back the router, where that is
//! a container too. A start that fails then is not tried again, whatever the policy says.

use std::collections::HashMap;

use bollard::query_parameters::{ListContainersOptions, StartContainerOptions};

use crate::client::{DockerClient, legal_name};
use crate::container::ContainerInfo;
use crate::error::Error;
use crate::network::NetworkInfo;

/// What Docker's error texts hold when a network or IPAM driver, or an endpoint of a former life,
/// was in the way. Errors of the driver itself begin with `remote: `.
const SIGNS: [&str; 4] = [
    "plugin",
    "remote: ",
    "endpoint with name",
    "failed to get network",
];

impl DockerClient {
    /// Containers on `networks` that ran before, have a restart policy, and whose last start
    /// failed because of a network.
    ///
    /// # Errors
    /// Any of [`Error`] that Docker's API can cause.
    pub async fn given_up(&self, networks: &[NetworkInfo]) -> Result<Vec<ContainerInfo>, Error> {
        if networks.is_empty() {
            return Ok(Vec::new());
        }
        let ids = networks.iter().map(|network| network.id.clone()).collect();
        let filters = HashMap::from([
            ("network".to_owned(), ids),
            ("status".to_owned(), vec!["exited".to_owned()]),
        ]);
        let call = self.api().list_containers(Some(ListContainersOptions {
            all: true,
            filters: Some(filters),
            ..ListContainersOptions::default()
        }));
        let mut found = Vec::new();
        for id in self
            .read("list containers", call)
            .await?
            .into_iter()
            .filter_map(|c| c.id)
        {
            match self.container(&id).await {
                Ok(container) => found.extend(is_given_up(&container).then_some(container)),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Starts a container; one that runs already is no error.
    ///
    /// # Errors
    /// Why Docker could not start it.
    pub async fn start_container(&self, name_or_id: &str) -> Result<(), Error> {
        let what = format!("start container {name_or_id:?}");
        let name = legal_name(&what, name_or_id)?;
        let call = self
            .api()
            .start_container(name, None::<StartContainerOptions>);
        self.change(&what, call).await
    }
}

fn is_given_up(container: &ContainerInfo) -> bool {
    let is_ours = SIGNS.iter().any(|sign| container.error.contains(sign));
    let runs = container.running || container.restarting;
    container.has_restart_policy && is_ours && !runs
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn judged(policy: &str, running: bool, error: &str) -> Option<ContainerInfo> {
        let value = json!({
            "Id": "f34e", "Name": "/db",
            "State": { "Running": running, "ExitCode": 255, "Error": error },
            "HostConfig": { "RestartPolicy": { "Name": policy } },
        });
        let container = ContainerInfo::from_inspect(serde_json::from_value(value).unwrap());
        is_given_up(&container).then_some(container)
    }

    #[test]
    fn a_container_with_a_policy_whose_network_failed_is_found() {
        for error in [
            "plugin \"weavemesh\" not found",
            "remote: address 10.32.5.5 is in use by a container",
            "dial unix /run/docker/plugins/weavemesh.sock: connect: connection refused",
            "endpoint with name db already exists in network weave",
        ] {
            let found = judged("always", false, error).unwrap();
            assert_eq!(
                (found.id.as_str(), found.name.as_str()),
                ("f34e", "db"),
                "{error}"
            );
        }
        assert!(judged("unless-stopped", false, "remote: no").is_some());
    }

    #[test]
    fn one_without_a_policy_that_runs_or_failed_otherwise_is_left_alone() {
        assert_eq!(judged("no", false, "remote: no"), None);
        assert_eq!(judged("", false, "remote: no"), None);
        assert_eq!(judged("always", true, "remote: no"), None);
        assert_eq!(judged("always", false, ""), None);
        assert_eq!(
            judged("always", false, "OCI runtime create failed: no such file"),
            None
        );
    }
}
