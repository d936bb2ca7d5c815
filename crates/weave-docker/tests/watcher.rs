//! The watcher against a Docker that loses events, hangs up and comes back.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;
use weave_docker::{Change, DockerClient, WatcherConfig, watch_docker};

/// A Docker with one network of ours, `weave`.
#[derive(Debug, Clone)]
struct Docker {
    /// Running containers: id to name and address.
    containers: Arc<Mutex<BTreeMap<String, (String, String)>>>,
    events: broadcast::Sender<Value>,
}

impl Docker {
    fn new() -> Self {
        Self {
            containers: Arc::default(),
            events: broadcast::channel(16).0,
        }
    }

    fn run(&self, id: &str, name: &str, ip: &str) {
        let container = (name.to_owned(), ip.to_owned());
        self.containers
            .lock()
            .unwrap()
            .insert(id.to_owned(), container);
    }

    fn stop(&self, id: &str) {
        self.containers.lock().unwrap().remove(id);
    }

    fn tell(&self, action: &str, id: &str) {
        let event = json!({ "Type": "container", "Action": action, "Actor": { "ID": id } });
        self.events.send(event).unwrap();
    }

    fn listen(&self, socket: &Path) -> JoinHandle<()> {
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).unwrap();
        let router = Router::new().fallback(answer).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() })
    }

    fn inspect(&self, id: &str) -> Option<Value> {
        let (name, ip) = self.containers.lock().unwrap().get(id)?.clone();
        Some(json!({
            "Id": id, "Name": format!("/{name}"), "State": { "Running": true, "Pid": 7 },
            "Config": { "Hostname": id, "Domainname": "" },
            "NetworkSettings": { "Networks": { "weave": {
                "NetworkID": "net", "EndpointID": "e", "IPAddress": ip, "IPPrefixLen": 12 } } },
        }))
    }

    fn network(&self) -> Value {
        let ids = self.containers.lock().unwrap();
        let containers: BTreeMap<_, _> = ids.keys().map(|id| (id.clone(), json!({}))).collect();
        json!({ "Id": "net", "Name": "weave", "Driver": "weavemesh", "Containers": containers })
    }

    /// One event per line, as long as somebody reads.
    fn event_stream(&self) -> Body {
        let lines = futures_util::stream::unfold(self.events.subscribe(), |mut events| async {
            let event = events.recv().await.ok()?;
            Some((
                Ok::<_, Infallible>(Bytes::from(format!("{event}\n"))),
                events,
            ))
        });
        Body::from_stream(lines)
    }
}

async fn answer(State(docker): State<Docker>, uri: Uri) -> Response {
    let path = uri.path();
    let path = match path.strip_prefix("/v1.") {
        Some(rest) => &rest[rest.find('/').unwrap()..],
        None => path,
    };
    let found = match path {
        "/version" => Some(json!({ "ApiVersion": "1.41", "Version": "20.10.24" })),
        "/networks" => Some(
            json!([{ "Id": "net", "Name": "weave", "Driver": "weavemesh" },
            { "Id": "other", "Name": "x", "Driver": "weavemeshx" }]),
        ),
        "/networks/net" => Some(docker.network()),
        "/events" => return docker.event_stream().into_response(),
        _ => {
            let id = path
                .strip_prefix("/containers/")
                .and_then(|id| id.strip_suffix("/json"));
            id.and_then(|id| docker.inspect(id))
        }
    };
    match found {
        Some(value) => value.to_string().into_response(),
        None => (StatusCode::NOT_FOUND, r#"{"message":"no such thing"}"#).into_response(),
    }
}

/// Starts a watcher on `socket`.
fn watch(socket: &Path, reconcile: Duration) -> mpsc::Receiver<Change> {
    let (sender, changes) = mpsc::channel(16);
    let config = WatcherConfig {
        socket: Some(socket.to_owned()),
        driver: "weavemesh".to_owned(),
        domain: "weave.local".to_owned(),
        reconcile,
    };
    tokio::spawn(watch_docker(config, sender));
    changes
}

/// The next change, shortened to `name=address …` or `-container`.
async fn next(changes: &mut mpsc::Receiver<Change>) -> String {
    let change = loop {
        let change = tokio::time::timeout(Duration::from_secs(10), changes.recv()).await;
        match change.unwrap().unwrap() {
            Change::Looked { .. } | Change::Other { .. } | Change::Complete => {}
            change @ (Change::Set(_) | Change::Removed { .. }) => break change,
        }
    };
    match change {
        Change::Set(names) => {
            let names: Vec<_> = names
                .names
                .iter()
                .map(|(name, ip)| format!("{name}={ip}"))
                .collect();
            names.join(" ")
        }
        Change::Removed { container } => format!("-{container}"),
        Change::Looked { .. } | Change::Other { .. } | Change::Complete => {
            unreachable!("left out above")
        }
    }
}

const NEVER: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn what_runs_is_reported_at_once_and_events_lead_to_changes() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("docker.sock");
    let docker = Docker::new();
    docker.run("aaaaaaaaaaaaa1", "nyc", "10.32.0.1");
    docker.listen(&socket);
    let mut changes = watch(&socket, NEVER);
    assert_eq!(next(&mut changes).await, "nyc.weave.local=10.32.0.1");
    while docker.events.receiver_count() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    docker.run("bbbbbbbbbbbbb2", "lon", "10.32.0.2");
    docker.tell("start", "bbbbbbbbbbbbb2");
    assert_eq!(next(&mut changes).await, "lon.weave.local=10.32.0.2");
    docker.run("bbbbbbbbbbbbb2", "london", "10.32.0.2");
    docker.tell("rename", "bbbbbbbbbbbbb2");
    assert_eq!(next(&mut changes).await, "london.weave.local=10.32.0.2");
    docker.stop("bbbbbbbbbbbbb2");
    docker.tell("die", "bbbbbbbbbbbbb2");
    assert_eq!(next(&mut changes).await, "-bbbbbbbbbbbb");
}

#[tokio::test]
async fn changes_without_an_event_are_found_by_looking_again() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("docker.sock");
    let docker = Docker::new();
    docker.listen(&socket);
    let mut changes = watch(&socket, Duration::from_millis(50));
    docker.run("aaaaaaaaaaaaa1", "nyc", "10.32.0.1");
    assert_eq!(next(&mut changes).await, "nyc.weave.local=10.32.0.1");
    docker.stop("aaaaaaaaaaaaa1");
    assert_eq!(next(&mut changes).await, "-aaaaaaaaaaaa");
}

#[tokio::test]
async fn a_docker_that_starts_late_or_comes_back_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("docker.sock");
    let mut changes = watch(&socket, NEVER);
    tokio::time::sleep(Duration::from_millis(150)).await;
    let docker = Docker::new();
    docker.run("aaaaaaaaaaaaa1", "nyc", "10.32.0.1");
    docker.run("bbbbbbbbbbbbb2", "lon", "10.32.0.2");
    docker.listen(&socket);
    assert_eq!(next(&mut changes).await, "nyc.weave.local=10.32.0.1");
    assert_eq!(next(&mut changes).await, "lon.weave.local=10.32.0.2");

    let reborn = Docker::new();
    reborn.run("bbbbbbbbbbbbb2", "lon", "10.32.0.7");
    reborn.listen(&socket);
    // The watcher leaves the old one when its event stream turns to nonsense.
    docker.events.send(json!("not an event")).unwrap();
    let mut seen = [next(&mut changes).await, next(&mut changes).await];
    seen.sort();
    assert_eq!(seen, ["-aaaaaaaaaaaa", "lon.weave.local=10.32.0.7"]);
}

#[tokio::test]
async fn the_watcher_ends_with_its_receiver() {
    let directory = tempfile::tempdir().unwrap();
    let (sender, changes) = mpsc::channel(1);
    let config = WatcherConfig {
        socket: Some(directory.path().join("docker.sock")),
        driver: "weavemesh".to_owned(),
        domain: "weave.local".to_owned(),
        reconcile: NEVER,
    };
    let watcher = tokio::spawn(watch_docker(config, sender));
    tokio::time::sleep(Duration::from_millis(20)).await;
    drop(changes);
    tokio::time::timeout(Duration::from_secs(5), watcher)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn the_client_agrees_on_the_older_api_version() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("docker.sock");
    Docker::new().listen(&socket);
    let client = DockerClient::connect(&socket).await.unwrap();
    assert_eq!(client.api_version(), "1.41");
    assert_eq!(client.server_version().await.unwrap(), "20.10.24");
    assert!(client.container("nobody").await.unwrap_err().is_not_found());
    assert!(
        client.networks_with_containers("weavemesh").await.unwrap()[0]
            .containers
            .is_empty()
    );
}
