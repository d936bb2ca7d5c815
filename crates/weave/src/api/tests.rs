//! Server and client together, over a real socket, around a fake router.

mod compat;
mod hostile;
mod openapi;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use weave_crypto::StretchedPassword;

use super::client::{Client, ClientError};
use super::server::{self, ServeError};
use super::types::{
    AddressSpec, BannedBy, BannedPeer, ResetRequest, RouterStatus, Sandbox, Traffic,
};
use super::*;
use crate::cli::failure::render;

/// Remembers what it was asked. Knows nobody called `nosuch`, and the address 10.32.0.66 and what
/// `taken` wants are taken.
struct Fake {
    asked: Mutex<Vec<String>>,
    report: StatusReport,
    awaited: Option<String>,
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            asked: Mutex::default(),
            report: report(),
            awaited: Some("patience".to_owned()),
        }
    }
}

impl Fake {
    /// With everything that a router can have.
    fn full() -> Self {
        Self {
            report: crate::cli::view::tests::full(),
            awaited: None,
            ..Self::default()
        }
    }

    /// With nothing that it can be without.
    fn bare() -> Self {
        Self::default()
    }

    fn refuse(name: &str) -> Result<(), ApiError> {
        let kind = match name {
            "nosuch" => ApiErrorKind::NotFound,
            "taken" => ApiErrorKind::Conflict,
            "notnow" => ApiErrorKind::Unavailable,
            _ => return Ok(()),
        };
        let error = ApiError::new(kind, format!("no container `{name}`"));
        Err(error.with_hint("`docker ps` lists them"))
    }

    fn refuse_sandbox(sandbox: &Sandbox) -> Result<(), ApiError> {
        match sandbox {
            Sandbox::Container(name) => Self::refuse(name),
            Sandbox::Netns(_) => Ok(()),
        }
    }

    fn note(&self, what: impl Into<String>) {
        self.asked.lock().unwrap().push(what.into());
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn report() -> StatusReport {
    StatusReport {
        ready: true,
        waiting_for: None,
        version: "1.2.3".to_owned(),
        router: RouterStatus {
            protocol: "weave".to_owned(),
            protocol_min_version: 1,
            protocol_max_version: 1,
            password: true,
            passwords: Vec::new(),
            peer_discovery: true,
            name: "4a:0f:f6:ec:1c:93".to_owned(),
            nickname: "nyc".to_owned(),
            port: 6783,
            targets: vec!["192.0.2.1".to_owned()],
            connections: Vec::new(),
            peers: Vec::new(),
            warnings: Vec::new(),
            banned: Vec::new(),
        },
        ipam: None,
        dns: None,
        plugin: None,
        process: None,
        offloads: None,
        drops: std::collections::BTreeMap::new(),
        counters: None,
    }
}

impl Router for Fake {
    async fn status(&self) -> Result<StatusReport, ApiError> {
        Ok(self.report.clone())
    }

    async fn connect(&self, request: ConnectRequest) -> Result<Vec<PeerResult>, ApiError> {
        self.note(format!("connect {:?} {}", request.peers, request.replace));
        let result = |peer: String| PeerResult {
            error: peer.starts_with('?').then(|| "no peer".to_owned()),
            hint: None,
            peer,
        };
        Ok(request.peers.into_iter().map(result).collect())
    }

    async fn forget(&self, request: ForgetRequest) -> Result<Vec<PeerResult>, ApiError> {
        self.note(format!("forget {:?}", request.peers));
        Ok(Vec::new())
    }

    async fn rmpeer(&self, request: BanRequest) -> Result<BanAnswer, ApiError> {
        self.note(format!("rmpeer {} {:?}", request.peer, request.reason));
        if request.peer == "nosuch" {
            return Err(ApiError::new(ApiErrorKind::NotFound, "no such peer").with_hint("look"));
        }
        Ok(BanAnswer {
            peer: BannedPeer {
                name: "7e:21:4a:70:2f:45".to_owned(),
                nickname: request.peer,
                key: "00".repeat(32),
                banned: BannedBy {
                    by: "4a:0f:f6:ec:1c:93".to_owned(),
                    nickname: "nyc".to_owned(),
                    reason: request.reason,
                },
            },
            was_banned: false,
            is_known: true,
            ips: 64,
        })
    }

    async fn attach(&self, request: AttachRequest) -> Result<Vec<IpAddr>, ApiError> {
        Self::refuse_sandbox(&request.sandbox)?;
        self.note(format!("attach {:?}", request.addresses));
        Ok(vec![IpAddr::from([10, 32, 0, 1])])
    }

    async fn detach(&self, request: DetachRequest) -> Result<Vec<IpAddr>, ApiError> {
        Self::refuse_sandbox(&request.sandbox)?;
        self.note(format!("detach {:?}", request.addresses));
        Ok(Vec::new())
    }

    async fn expose(&self, request: ExposeRequest) -> Result<Vec<IpAddr>, ApiError> {
        let taken = AddressSpec::Address {
            ip: IpAddr::from([10, 32, 0, 66]),
            prefix_len: 12,
        };
        if request.addresses.contains(&taken) {
            return Err(ApiError::new(ApiErrorKind::Conflict, "taken"));
        }
        self.note(format!("expose {request:?}"));
        Ok(vec![IpAddr::from([10, 32, 0, 2])])
    }

    async fn prime(&self) -> Result<Option<String>, ApiError> {
        self.note("prime".to_owned());
        Ok(self.awaited.clone())
    }

    async fn dns_add(&self, request: NameRequest) -> Result<(), ApiError> {
        Self::refuse(request.container.as_deref().unwrap_or_default())?;
        self.note(format!("dns-add {:?}", request.container));
        Ok(())
    }

    async fn dns_remove(&self, request: NameRequest) -> Result<(), ApiError> {
        Self::refuse(request.container.as_deref().unwrap_or_default())?;
        if request.names.iter().any(|name| name.starts_with("nosuch")) {
            return Err(ApiError::new(ApiErrorKind::NotFound, "no such name"));
        }
        self.note(format!("dns-remove {:?}", request.names));
        Ok(())
    }

    async fn hide(&self, request: HideRequest) -> Result<Vec<IpAddr>, ApiError> {
        self.note(format!("hide {:?}", request.addresses));
        Ok(Vec::new())
    }

    async fn ps(&self, containers: Vec<String>) -> Result<Vec<PsEntry>, ApiError> {
        self.note(format!("ps {containers:?}"));
        let db = PsEntry {
            container: "c0ffeec0ffee".to_owned(),
            name: Some("db".to_owned()),
            mac: "02:00:0a:20:00:01".to_owned(),
            addresses: vec!["10.32.0.1/12".to_owned()],
            traffic: Some(Traffic::default()),
        };
        let is_meant = containers.is_empty() || containers.iter().any(|name| name == "db");
        Ok(is_meant.then_some(db).into_iter().collect())
    }

    async fn ping(&self, request: PingRequest) -> Result<PingReport, ApiError> {
        self.note(format!("ping {}", request.target));
        Ok(PingReport {
            target: request.target,
            address: None,
            peer: None,
            layers: Vec::new(),
            rtt_us: None,
        })
    }

    async fn stand_in(&self, request: StandInRequest) -> Result<IpAddr, ApiError> {
        self.note(format!("stand-in {}", request.peer));
        Ok(IpAddr::from([10, 32, 0, 3]))
    }

    async fn doctor(&self) -> Result<Vec<Finding>, ApiError> {
        Ok(vec![Finding::info("version", "old").with_fix("upgrade")])
    }

    async fn dns_lookup(&self, name: String) -> Result<Vec<IpAddr>, ApiError> {
        Self::refuse(&name)?;
        self.note(format!("lookup {name}"));
        Ok(Vec::new())
    }

    async fn change_passwords(&self, change: PasswordChange) -> Result<u16, ApiError> {
        if change == (PasswordChange::Use { generation: 404 }) {
            return Err(ApiError::new(ApiErrorKind::NotFound, "no such password"));
        }
        self.note(format!("passwords {change:?}"));
        Ok(7)
    }

    async fn stop(&self) -> Result<(), ApiError> {
        self.note("stop");
        Ok(())
    }

    async fn reset(&self, force: bool) -> Result<(), ApiError> {
        self.note(format!("reset {force}"));
        Ok(())
    }
}

/// A running server; the directory goes with it.
struct Rig {
    fake: Arc<Fake>,
    client: Client,
    socket: PathBuf,
    _dir: tempfile::TempDir,
}

fn rig() -> Rig {
    rig_of(Fake::default())
}

fn rig_of(fake: Fake) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("deep/weave.sock");
    let listener = server::bind(&socket).unwrap();
    let fake = Arc::new(fake);
    let serving = server::serve(listener, Arc::clone(&fake), std::future::pending());
    tokio::spawn(serving);
    Rig {
        fake,
        client: Client::new(&socket),
        socket,
        _dir: dir,
    }
}

/// Sends raw bytes, returns the status line and the body.
async fn raw(socket: &Path, request: &str) -> (String, String) {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.lines().next().unwrap_or_default().to_owned();
    let body = answer
        .split("\r\n\r\n")
        .nth(1)
        .unwrap_or_default()
        .to_owned();
    (status, body)
}

fn request(method: &str, path: &str, content_type: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-type: {content_type}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn a_ban_is_asked_for_with_its_reason_and_refused_with_a_hint() {
    let rig = rig();
    let request = BanRequest {
        peer: "nosuch".to_owned(),
        reason: "stolen".to_owned(),
    };
    let answer = rig.client.post::<BanAnswer>("/rmpeer", &request).await;
    let error = answer.unwrap_err();
    assert_eq!(error.to_string(), "no such peer");
    assert_eq!(error.hint().as_deref(), Some("look"));
    assert_eq!(rig.fake.asked(), ["rmpeer nosuch \"stolen\""]);
}

#[tokio::test]
async fn requests_reach_the_router_and_answers_come_back() {
    let rig = rig();
    let client = &rig.client;
    assert_eq!(
        client.fetch::<StatusReport>("/report").await.unwrap(),
        report()
    );
    let targets: Vec<String> = client.fetch("/status/targets").await.unwrap();
    assert_eq!(targets, ["192.0.2.1"]);
    let connect = ConnectRequest {
        peers: vec!["a".to_owned(), "?b".to_owned()],
        replace: true,
    };
    let results: Vec<PeerResult> = client.post("/connect", &connect).await.unwrap();
    assert_eq!(results[0].error, None);
    assert_eq!(results[1].error.as_deref(), Some("no peer"));
    let attach = AttachRequest {
        addresses: vec![AddressSpec::DefaultSubnet],
        sandbox: Sandbox::Netns("/run/netns/a".into()),
    };
    let addresses: Vec<IpAddr> = client.post("/attach", &attach).await.unwrap();
    assert_eq!(addresses, [IpAddr::from([10, 32, 0, 1])]);
    let expose = ExposeRequest {
        addresses: vec![AddressSpec::DefaultSubnet],
        names: Vec::new(),
        masquerade: false,
    };
    let addresses: Vec<IpAddr> = client.post("/expose", &expose).await.unwrap();
    assert_eq!(addresses, [IpAddr::from([10, 32, 0, 2])]);
    let hide = HideRequest {
        addresses: Vec::new(),
    };
    let _: Vec<IpAddr> = client.post("/hide", &hide).await.unwrap();
    let name = NameRequest {
        addresses: Vec::new(),
        container: Some("web".to_owned()),
        names: vec!["a.weave.local".to_owned()],
    };
    let awaited: Option<String> = client.post("/prime", &()).await.unwrap();
    assert_eq!(awaited.as_deref(), Some("patience"));
    client.post::<()>("/dns-add", &name).await.unwrap();
    client.post::<()>("/dns-remove", &name).await.unwrap();
    let _: Vec<PsEntry> = client
        .fetch("/ps?container=a&container=%2Frun%2Fb")
        .await
        .unwrap();
    let _: Vec<IpAddr> = client.fetch("/name/a%20b").await.unwrap();
    let add = PasswordChange::Add {
        generation: None,
        stretched: (&StretchedPassword::from_bytes([1; 32])).into(),
    };
    let force = true;
    for change in [
        add,
        PasswordChange::Use { generation: 2 },
        PasswordChange::Remove {
            generation: 1,
            force,
        },
    ] {
        let generation: u16 = client.post("/passwords", &change).await.unwrap();
        assert_eq!(generation, 7);
    }
    client.post::<()>("/stop", &()).await.unwrap();
    client
        .post::<()>("/reset", &ResetRequest { force: true })
        .await
        .unwrap();
    assert_eq!(
        rig.fake.asked(),
        [
            "connect [\"a\", \"?b\"] true",
            "attach [DefaultSubnet]",
            "expose ExposeRequest { addresses: [DefaultSubnet], names: [], masquerade: false }",
            "hide []",
            "prime",
            "dns-add Some(\"web\")",
            "dns-remove [\"a.weave.local\"]",
            "ps [\"a\", \"/run/b\"]",
            "lookup a b",
            "passwords Add { generation: None, stretched: Stretched(..) }",
            "passwords Use { generation: 2 }",
            "passwords Remove { generation: 1, force: true }",
            "stop",
            "reset true",
        ]
    );
}

#[tokio::test]
async fn errors_keep_their_kind_words_and_hint() {
    let rig = rig();
    let attach = AttachRequest {
        addresses: Vec::new(),
        sandbox: Sandbox::Container("nosuch".to_owned()),
    };
    let error = rig
        .client
        .post::<Vec<IpAddr>>("/attach", &attach)
        .await
        .unwrap_err();
    let ClientError::Refused(error) = error else {
        panic!("{error:?}");
    };
    assert_eq!(error.kind, ApiErrorKind::NotFound);
    assert_eq!(error.message, "no container `nosuch`");
    assert_eq!(error.hint.as_deref(), Some("`docker ps` lists them"));
    let body = serde_json::to_string(&attach).unwrap();
    let (status, body) = raw(
        &rig.socket,
        &request("POST", "/attach", "application/json", &body),
    )
    .await;
    assert!(status.contains("404"), "{status}");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        body,
        json!({"kind": "not_found", "error": "no container `nosuch`", "hint": "`docker ps` lists them"})
    );
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_as_json() {
    let rig = rig();
    let unread = "cannot read the request: ";
    let json = "application/json";
    let address = "{\"addresses\":[{\"address\":{\"ip\":\"x\"}}]}";
    for (method, path, content_type, body, expected, words) in [
        (
            "GET",
            "/nosuch",
            json,
            "",
            "404",
            "there is nothing at /nosuch",
        ),
        (
            "GET",
            "/status/nosuch",
            json,
            "",
            "404",
            "status has no section `nosuch`",
        ),
        ("POST", "/connect", json, "{", "400", unread),
        ("POST", "/connect", json, "{}", "400", unread),
        (
            "POST",
            "/connect",
            "text/plain",
            "{\"peers\":[]}",
            "400",
            unread,
        ),
        ("POST", "/attach", json, address, "400", unread),
    ] {
        let (status, answer) = raw(&rig.socket, &request(method, path, content_type, body)).await;
        assert!(status.contains(expected), "{path} {body}: {status}");
        let answer: ApiError = serde_json::from_str(&answer).unwrap();
        assert!(answer.message.starts_with(words), "{}", answer.message);
    }
    assert_eq!(rig.fake.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn the_page_shows_the_state_and_changes_nothing() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let fake = Arc::new(Fake::default());
    tokio::spawn(page::serve(listener, Arc::clone(&fake)));
    let ask = async |method: &str, path: &str| {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = request(method, path, "application/json", "{}");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].to_owned(), body.to_owned())
    };
    let text = crate::cli::view::status(&report());
    assert_eq!(ask("GET", "/status").await, ("200".to_owned(), text));
    let (code, body) = ask("GET", "/report").await;
    assert_eq!(code, "200");
    assert_eq!(
        serde_json::from_str::<StatusReport>(&body).unwrap(),
        report()
    );
    for (method, path, code) in [
        ("POST", "/status", "405"),
        ("DELETE", "/report", "405"),
        ("GET", "/", "404"),
        ("POST", "/stop", "404"),
        ("POST", "/reset", "404"),
        ("POST", "/connect", "404"),
        ("POST", "/passwords", "404"),
    ] {
        assert_eq!(ask(method, path).await.0, code, "{method} {path}");
    }
    assert_eq!(fake.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn idle_callers_of_the_page_take_no_more_than_their_seats() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(page::serve(listener, Arc::new(Fake::default())));
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(tokio::net::TcpStream::connect(address).await.unwrap());
    }
    let mut caller = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = request("GET", "/status", "application/json", "");
    caller.write_all(request.as_bytes()).await.unwrap();
    let mut byte = [0];
    let soon = std::time::Duration::from_millis(200);
    let early = tokio::time::timeout(soon, caller.read(&mut byte)).await;
    assert!(early.is_err(), "served beyond the seats");
    drop(idle);
    assert_eq!(caller.read(&mut byte).await.unwrap(), 1);
}

#[tokio::test]
async fn the_socket_is_for_root_alone_and_nothing_else_is_left_beside_it() {
    let rig = rig();
    let mode = std::fs::metadata(&rig.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let dir = std::fs::metadata(rig.socket.parent().unwrap()).unwrap();
    assert_eq!(dir.permissions().mode() & 0o777, 0o700);
    let files = std::fs::read_dir(rig.socket.parent().unwrap())
        .unwrap()
        .count();
    assert_eq!(files, 1);
}

#[tokio::test]
async fn a_live_socket_means_already_running_and_a_stale_one_is_replaced() {
    let rig = rig();
    let error = server::bind(&rig.socket).unwrap_err();
    assert!(matches!(error, ServeError::AlreadyRunning(_)), "{error:?}");
    assert!(error.hint().unwrap().contains("weave stop"));
    let stale = rig.socket.with_file_name("stale.sock");
    drop(server::bind(&stale).unwrap());
    assert!(stale.exists());
    assert!(server::bind(&stale).is_ok());
    let error = server::bind(Path::new("/proc/no/such/dir/w.sock")).unwrap_err();
    assert!(matches!(error, ServeError::Listen { .. }), "{error:?}");
    assert_eq!(
        render(&error.into()),
        "error: cannot listen on /proc/no/such/dir/w.sock: No such file or directory (os error 2)"
    );
}

#[tokio::test]
async fn without_a_router_the_client_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("none.sock");
    let error = Client::new(&missing)
        .fetch::<Value>("/report")
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::NotRunning(_)), "{error:?}");
    let stale = dir.path().join("stale.sock");
    drop(server::bind(&stale).unwrap());
    let error = Client::new(&stale)
        .fetch::<Value>("/report")
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::NotRunning(_)), "{error:?}");
    assert!(error.hint().unwrap().contains("weave launch"));
}

#[tokio::test]
async fn something_else_on_the_socket_is_an_error_not_a_hang() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("odd.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"SSH-2.0-odd\r\n").await;
        }
    });
    let error = Client::new(&socket)
        .fetch::<Value>("/report")
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::Broken(_)), "{error:?}");
    let text = render(&error.into());
    assert!(text.starts_with("error: the router broke off: "), "{text}");
    assert!(text.contains("hint: see what the router says"), "{text}");
}

#[tokio::test]
async fn a_socket_that_cannot_be_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let socket = file.join("w.sock");
    let error = Client::new(&socket)
        .fetch::<Value>("/report")
        .await
        .unwrap_err();
    let expected = format!(
        "error: cannot reach the router on {}: Not a directory (os error 20)",
        socket.display()
    );
    assert_eq!(render(&error.into()), expected);
}

#[tokio::test(start_paused = true)]
async fn a_router_that_does_not_answer_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("mute.sock");
    let _mute = tokio::net::UnixListener::bind(&socket).unwrap();
    let error = Client::new(&socket)
        .fetch::<Value>("/report")
        .await
        .unwrap_err();
    let text = render(&error.into());
    assert!(
        text.starts_with("error: the router gave no answer within 20 s"),
        "{text}"
    );
}

#[tokio::test]
async fn a_stopped_server_finishes_and_frees_the_socket() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("w.sock");
    let listener = server::bind(&socket).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = server::serve(listener, Arc::new(Fake::default()), async {
        let _ = stopped.await;
    });
    let task = tokio::spawn(serving);
    let client = Client::new(&socket);
    assert!(client.fetch::<StatusReport>("/status").await.unwrap().ready);
    stop.send(()).unwrap();
    task.await.unwrap();
    let error = client.fetch::<Value>("/report").await.unwrap_err();
    assert!(matches!(error, ClientError::NotRunning(_)), "{error:?}");
}
