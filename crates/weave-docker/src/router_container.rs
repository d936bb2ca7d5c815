//! The container that the router runs in.
//!
//! It is not privileged: it shares the host's network and process ids, and has just the
//! capabilities for interfaces, namespaces and the firewall. `/run` is bound as a whole, because
//! dockerd makes its socket file anew at each start, and as a slave, so that the namespaces of
//! containers started later appear in it.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, DeviceMapping, HostConfig, HostConfigLogConfig,
    RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::{
    CreateContainerOptions, KillContainerOptions, LogsOptions, RemoveContainerOptions,
    StartContainerOptions, StopContainerOptions,
};
use futures_util::TryStreamExt;

use crate::client::DockerClient;
use crate::error::Error;
use crate::image::BINARY;

/// Name of the router's container.
pub const NAME: &str = "weave";
/// Label that tells it from another container of that name.
const LABEL: &str = "weave.role";
const ROLE: &str = "router";
/// What it may do beyond Docker's default set.
const CAPABILITIES: [&str; 4] = ["NET_ADMIN", "NET_RAW", "SYS_ADMIN", "SYS_PTRACE"];
const TUN: &str = "/dev/net/tun";
/// Seconds that dockerd waits for the router when it stops all containers: longer than for others
/// (10 s), since their endpoints are taken away only after they have ended.
const STOP_TIMEOUT: i64 = 15;
const ENDED_POLL: Duration = Duration::from_millis(20);

/// What the router's container is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouterSpec {
    /// Reference of the image.
    pub image: String,
    /// Arguments of the binary, from `router` on.
    pub args: Vec<String>,
    /// `KEY=value`; no secrets, they show in `docker inspect`.
    pub env: Vec<String>,
    /// The state directory, on the host and in the container.
    pub state_dir: PathBuf,
    /// More labels.
    pub labels: BTreeMap<String, String>,
    /// Whether Docker starts it again when it ends, and at boot.
    pub restart: bool,
}

/// The router's container as Docker has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouterState {
    /// Full id.
    pub id: String,
    /// Reference of the image it was made from.
    pub image: String,
    /// Arguments of the binary.
    pub args: Vec<String>,
    /// Its environment.
    pub env: Vec<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether its process runs.
    pub running: bool,
    /// Whether Docker is about to start it again.
    pub restarting: bool,
    /// Host pid, while it runs.
    pub pid: Option<u32>,
    /// How it last ended.
    pub exit_code: i64,
    /// Why Docker could not start it, if so.
    pub error: String,
    /// How often Docker started it again.
    pub restarts: i64,
    /// When it was started, in Docker's words (RFC 3339).
    pub started_at: String,
}

impl DockerClient {
    /// The router's container, if there is one.
    ///
    /// # Errors
    /// [`Error::NameTaken`] when the container of that name is not ours.
    pub async fn router(&self) -> Result<Option<RouterState>, Error> {
        let call = self.api().inspect_container(NAME, None);
        match self.read("look for the router's container", call).await {
            Ok(inspect) => checked(inspect).map(Some),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates the router's container; answers its id. It is not started.
    ///
    /// # Errors
    /// [`Error::NameTaken`] when a foreign container has the name, [`Error::Refused`] with status
    /// 409 when the router's own does, among others.
    pub async fn create_router(&self, spec: &RouterSpec) -> Result<String, Error> {
        let options = CreateContainerOptions {
            name: Some(NAME.to_owned()),
            platform: String::new(),
        };
        let call = self
            .api()
            .create_container(Some(options), create_body(spec));
        match self.change("create the router's container", call).await {
            Err(error @ Error::Refused { status: 409, .. }) => {
                self.router().await?;
                Err(error)
            }
            other => Ok(other?.id),
        }
    }

    /// Starts the router's container.
    ///
    /// # Errors
    /// Whatever Docker refuses with, for example when a device is missing.
    pub async fn start_router(&self) -> Result<(), Error> {
        let call = self
            .api()
            .start_container(NAME, None::<StartContainerOptions>);
        self.change("start the router's container", call).await
    }

    /// Ends the router's container at once, killing it after `seconds`. None there is no error.
    ///
    /// SIGINT, because SIGTERM is what dockerd sends when it goes down, which the router takes its
    /// time for. Docker does not start again what was ended by a signal of its user.
    ///
    /// # Errors
    /// [`Error::NameTaken`] when the container of that name is not ours.
    pub async fn stop_router(&self, seconds: u16) -> Result<(), Error> {
        let Some(router) = self.router().await? else {
            return Ok(());
        };
        if router.running {
            let options = KillContainerOptions {
                signal: "SIGINT".to_owned(),
            };
            let call = self.api().kill_container(&router.id, Some(options));
            match self.change("end the router's container", call).await {
                // it ended by itself a moment ago
                Err(Error::Refused { status: 409, .. }) => {}
                other => other?,
            }
            let deadline = tokio::time::Instant::now() + Duration::from_secs(seconds.into());
            while tokio::time::Instant::now() < deadline {
                match self.router().await? {
                    Some(router) if router.running => tokio::time::sleep(ENDED_POLL).await,
                    Some(_) | None => return Ok(()),
                }
            }
        }
        let options = StopContainerOptions {
            t: Some(0),
            signal: None,
        };
        let call = self.api().stop_container(&router.id, Some(options));
        self.change("stop the router's container", call).await
    }

    /// Removes the router's container, running or not. None there is no error.
    ///
    /// # Errors
    /// [`Error::NameTaken`] when the container of that name is not ours.
    pub async fn remove_router(&self) -> Result<(), Error> {
        let Some(router) = self.router().await? else {
            return Ok(());
        };
        let options = RemoveContainerOptions {
            force: true,
            v: true,
            link: false,
        };
        let call = self.api().remove_container(&router.id, Some(options));
        match self.change("remove the router's container", call).await {
            Err(error) if error.is_not_found() => Ok(()),
            other => other,
        }
    }

    /// The last lines that the router wrote, to say why it does not come up.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such container.
    pub async fn router_log(&self, lines: u16) -> Result<String, Error> {
        let options = LogsOptions {
            stdout: true,
            stderr: true,
            tail: lines.to_string(),
            ..LogsOptions::default()
        };
        let chunks = self.api().logs(NAME, Some(options)).try_collect::<Vec<_>>();
        let chunks = self.read("read the router's log", chunks).await?;
        Ok(chunks.iter().map(ToString::to_string).collect())
    }
}

fn checked(inspect: ContainerInspectResponse) -> Result<RouterState, Error> {
    let config = inspect.config.unwrap_or_default();
    let state = inspect.state.unwrap_or_default();
    let labels: BTreeMap<_, _> = config.labels.unwrap_or_default().into_iter().collect();
    if labels.get(LABEL).map(String::as_str) != Some(ROLE) {
        return Err(Error::NameTaken {
            name: NAME.to_owned(),
        });
    }
    Ok(RouterState {
        id: inspect.id.unwrap_or_default(),
        image: config.image.unwrap_or_default(),
        args: config.cmd.unwrap_or_default(),
        env: config.env.unwrap_or_default(),
        labels,
        running: state.running.unwrap_or_default(),
        restarting: state.restarting.unwrap_or_default(),
        pid: state
            .pid
            .and_then(|pid| u32::try_from(pid).ok())
            .filter(|pid| *pid > 0),
        exit_code: state.exit_code.unwrap_or_default(),
        error: state.error.unwrap_or_default(),
        restarts: inspect.restart_count.unwrap_or_default(),
        started_at: state.started_at.unwrap_or_default(),
    })
}

fn create_body(spec: &RouterSpec) -> ContainerCreateBody {
    let mut labels: HashMap<String, String> = spec.labels.clone().into_iter().collect();
    labels.insert(LABEL.to_owned(), ROLE.to_owned());
    ContainerCreateBody {
        image: Some(spec.image.clone()),
        entrypoint: Some(vec![BINARY.to_owned()]),
        cmd: Some(spec.args.clone()),
        env: Some(spec.env.clone()),
        labels: Some(labels),
        working_dir: Some("/".to_owned()),
        stop_timeout: Some(STOP_TIMEOUT),
        host_config: Some(host_config(spec)),
        ..ContainerCreateBody::default()
    }
}

fn host_config(spec: &RouterSpec) -> HostConfig {
    let state_dir = spec.state_dir.display();
    let log = HashMap::from([
        ("max-size".to_owned(), "5m".to_owned()),
        ("max-file".to_owned(), "2".to_owned()),
    ]);
    HostConfig {
        network_mode: Some("host".to_owned()),
        pid_mode: Some("host".to_owned()),
        cap_add: Some(CAPABILITIES.map(str::to_owned).to_vec()),
        devices: Some(vec![DeviceMapping {
            path_on_host: Some(TUN.to_owned()),
            path_in_container: Some(TUN.to_owned()),
            cgroup_permissions: Some("rwm".to_owned()),
        }]),
        security_opt: Some(vec!["apparmor=unconfined".to_owned()]),
        // Empty lists, not absent ones: else /proc/sys is read-only.
        masked_paths: Some(Vec::new()),
        readonly_paths: Some(Vec::new()),
        binds: Some(vec![
            format!("{state_dir}:{state_dir}"),
            "/run:/run:rslave".to_owned(),
        ]),
        restart_policy: Some(RestartPolicy {
            name: Some(match spec.restart {
                true => RestartPolicyNameEnum::ALWAYS,
                false => RestartPolicyNameEnum::NO,
            }),
            maximum_retry_count: None,
        }),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(log),
        }),
        ..HostConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec() -> RouterSpec {
        RouterSpec {
            image: "weave:0.1.0-abc".to_owned(),
            args: vec!["router".to_owned(), "10.99.0.2".to_owned()],
            env: vec!["WEAVE_PORT=6783".to_owned()],
            state_dir: "/var/lib/weave".into(),
            labels: BTreeMap::from([("weave.options".to_owned(), "x".to_owned())]),
            restart: true,
        }
    }

    #[test]
    fn the_container_is_created_as_designed() {
        let body: Value = serde_json::to_value(create_body(&spec())).unwrap();
        let host = &body["HostConfig"];
        assert_eq!(body["Entrypoint"], json!(["/weave"]));
        assert_eq!(body["Cmd"], json!(["router", "10.99.0.2"]));
        assert_eq!(body["StopTimeout"], 15);
        assert_eq!(
            body["Labels"],
            json!({ "weave.options": "x", "weave.role": "router" })
        );
        assert_eq!(host["NetworkMode"], "host");
        assert_eq!(host["PidMode"], "host");
        assert_eq!(
            host["CapAdd"],
            json!(["NET_ADMIN", "NET_RAW", "SYS_ADMIN", "SYS_PTRACE"])
        );
        assert_eq!(host["Devices"][0]["PathOnHost"], "/dev/net/tun");
        assert_eq!(host["SecurityOpt"], json!(["apparmor=unconfined"]));
        assert_eq!(host["MaskedPaths"], json!([]));
        assert_eq!(host["ReadonlyPaths"], json!([]));
        assert_eq!(
            host["Binds"],
            json!(["/var/lib/weave:/var/lib/weave", "/run:/run:rslave"])
        );
        assert_eq!(host["RestartPolicy"]["Name"], "always");
        assert_eq!(host["LogConfig"]["Type"], "json-file");
        assert_eq!(host["LogConfig"]["Config"]["max-size"], "5m");
        assert!(host.get("Privileged").is_none());
    }

    #[test]
    fn docker_starts_the_container_again_unless_another_supervisor_does() {
        for (restart, policy) in [(true, "always"), (false, "no")] {
            let spec = RouterSpec { restart, ..spec() };
            let body = serde_json::to_value(create_body(&spec)).unwrap();
            assert_eq!(body["HostConfig"]["RestartPolicy"]["Name"], policy);
        }
    }

    #[test]
    fn only_a_container_with_our_label_is_the_router() {
        let inspect = |labels: Value| {
            let value = json!({
                "Id": "abc", "RestartCount": 2,
                "State": { "Running": true, "Pid": 77, "ExitCode": 0, "StartedAt": "2026-01-01T00:00:00Z" },
                "Config": { "Image": "weave:1", "Cmd": ["router"], "Env": ["A=b"], "Labels": labels },
            });
            checked(serde_json::from_value(value).unwrap())
        };
        let router = inspect(json!({ "weave.role": "router" })).unwrap();
        assert_eq!(
            (router.pid, router.restarts, router.running),
            (Some(77), 2, true)
        );
        assert_eq!(
            (router.args, router.image.as_str()),
            (vec!["router".to_owned()], "weave:1")
        );
        for labels in [json!(null), json!({}), json!({ "weave.role": "other" })] {
            assert!(matches!(inspect(labels), Err(Error::NameTaken { .. })));
        }
    }
}
