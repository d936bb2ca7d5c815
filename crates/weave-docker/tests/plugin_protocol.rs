//! The plugin protocol against what dockerd really sends, and against what nobody should send.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weave_docker::plugin::{
    CreateEndpoint, CreateNetwork, Driver, DriverError, EndpointRef, Join, Joined, Pool,
    ReleaseAddress, Reply, RequestAddress, RequestPool, Route, RouteKind, dispatch, serve,
};
use weave_docker::{Error, PluginSocket};
use weave_wire::{Cidr, InterfaceAddr, Mac};

/// Answers at once, from the request alone, and remembers the last typed request.
#[derive(Debug, Default)]
struct Recorder {
    last: Mutex<String>,
}

impl Recorder {
    fn note(&self, request: &impl std::fmt::Debug) {
        *self.last.lock().unwrap() = format!("{request:?}");
    }

    fn last(&self) -> String {
        self.last.lock().unwrap().clone()
    }
}

fn subnet_of(pool_id: &str) -> Result<Cidr, DriverError> {
    let text = pool_id.strip_prefix("pool-").ok_or("not a pool of mine")?;
    text.parse()
        .map_err(|_| DriverError::new("not a pool of mine"))
}

fn v4(ip: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(ip))
}

impl Driver for Recorder {
    async fn request_pool(&self, request: RequestPool) -> Result<Pool, DriverError> {
        self.note(&request);
        let default = request.v6.then(|| "fd12:3456:789a:1::/64".parse().unwrap());
        let subnet = request.pool.or(default);
        let subnet = subnet.ok_or("weavemesh: give --subnet")?;
        Ok(Pool {
            id: format!("pool-{subnet}"),
            subnet,
        })
    }

    async fn release_pool(&self, pool_id: String) -> Result<(), DriverError> {
        self.note(&pool_id);
        subnet_of(&pool_id).map(|_| ())
    }

    async fn request_address(&self, request: RequestAddress) -> Result<InterfaceAddr, DriverError> {
        self.note(&request);
        let subnet = subnet_of(&request.pool_id)?;
        let Some((network, prefix_len)) = subnet.v4() else {
            let number = if request.gateway { 1 } else { 0x0a20_0005 };
            let chosen = subnet.numbered(Ipv4Addr::from(number)).ok_or("no room")?;
            let ip = request.address.unwrap_or_else(|| chosen.into());
            return InterfaceAddr::new(ip, subnet.prefix_len())
                .map_err(|error| error.to_string().into());
        };
        let first = u32::from(network);
        let last = first | u32::MAX.checked_shr(prefix_len.into()).unwrap_or(0);
        let chosen = if request.gateway {
            v4(last - 1)
        } else {
            v4(first + 1)
        };
        let ip = request.address.unwrap_or(chosen);
        if request.address == Some(v4(0x0a29_0001)) {
            return Err(format!("weavemesh: {ip} is already allocated").into());
        }
        InterfaceAddr::new(ip, prefix_len).map_err(|error| error.to_string().into())
    }

    async fn release_address(&self, request: ReleaseAddress) -> Result<(), DriverError> {
        self.note(&request);
        Ok(())
    }

    async fn create_network(&self, request: CreateNetwork) -> Result<(), DriverError> {
        self.note(&request);
        Ok(())
    }

    async fn delete_network(&self, network_id: String) -> Result<(), DriverError> {
        self.note(&network_id);
        Ok(())
    }

    async fn create_endpoint(&self, request: CreateEndpoint) -> Result<Option<Mac>, DriverError> {
        self.note(&request);
        let Some(address) = request.interface.address else {
            return Err("no address".into());
        };
        let IpAddr::V4(ip) = address.ip() else {
            return Err("no IPv4 address".into());
        };
        let [a, b, c, d] = ip.octets();
        Ok(request
            .interface
            .mac
            .is_none()
            .then_some(Mac([2, 0x42, a, b, c, d])))
    }

    async fn delete_endpoint(&self, endpoint: EndpointRef) -> Result<(), DriverError> {
        self.note(&endpoint);
        Ok(())
    }

    async fn join(&self, request: Join) -> Result<Joined, DriverError> {
        self.note(&request);
        let id: String = request.endpoint.endpoint_id.chars().take(7).collect();
        Ok(Joined {
            source_name: format!("vwg{id}"),
            target_prefix: "ethwe".to_owned(),
            gateway: None,
            routes: vec![Route {
                destination: "224.0.0.0/4".parse().unwrap(),
                kind: RouteKind::OnLink,
            }],
            disable_gateway_service: false,
        })
    }

    async fn leave(&self, endpoint: EndpointRef) -> Result<(), DriverError> {
        self.note(&endpoint);
        Ok(())
    }
}

/// The recorder never waits, so its futures are ready at the first poll.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a recorder does not wait"),
    }
}

fn ask(driver: &Recorder, path: &str, body: &[u8]) -> Reply {
    now(dispatch(driver, path, body))
}

fn files(directory: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(directory);
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

fn golden(name: &str) -> (String, Vec<u8>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.json"));
    let case: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let path = case["path"].as_str().unwrap().to_owned();
    (path, serde_json::to_vec(&case["request"]).unwrap())
}

/// What dockerd would read: the key under which it looks for a refusal.
fn refusal<'a>(path: &str, reply: &'a Reply) -> Option<&'a str> {
    let key = if path.starts_with("/IpamDriver.") && reply.status == 200 {
        "Error"
    } else {
        "Err"
    };
    reply.body.get(key).and_then(Value::as_str)
}

const METHODS: [&str; 22] = [
    "Plugin.Activate",
    "NetworkDriver.GetCapabilities",
    "NetworkDriver.CreateNetwork",
    "NetworkDriver.DeleteNetwork",
    "NetworkDriver.AllocateNetwork",
    "NetworkDriver.FreeNetwork",
    "NetworkDriver.CreateEndpoint",
    "NetworkDriver.DeleteEndpoint",
    "NetworkDriver.EndpointOperInfo",
    "NetworkDriver.Join",
    "NetworkDriver.Leave",
    "NetworkDriver.ProgramExternalConnectivity",
    "NetworkDriver.RevokeExternalConnectivity",
    "NetworkDriver.DiscoverNew",
    "NetworkDriver.DiscoverDelete",
    "IpamDriver.GetCapabilities",
    "IpamDriver.GetDefaultAddressSpaces",
    "IpamDriver.RequestPool",
    "IpamDriver.ReleasePool",
    "IpamDriver.RequestAddress",
    "IpamDriver.ReleaseAddress",
    "NetworkDriver.Unheard",
];

#[test]
fn recorded_requests_get_the_answers_that_dockerd_understands() {
    let cases = files("golden");
    assert!(cases.len() >= 41, "golden files are missing");
    for file in cases {
        let case: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let body = serde_json::to_vec(&case["request"]).unwrap();
        let reply = ask(&Recorder::default(), case["path"].as_str().unwrap(), &body);
        assert_eq!(reply.body, case["reply"], "{}", file.display());
        assert_eq!(json!(reply.status), case["status"], "{}", file.display());
    }
}

#[test]
fn every_method_has_a_golden_file() {
    let paths: Vec<String> = files("golden")
        .iter()
        .map(|file| serde_json::from_slice::<Value>(&fs::read(file).unwrap()).unwrap())
        .map(|case| {
            case["path"]
                .as_str()
                .unwrap()
                .trim_start_matches('/')
                .to_owned()
        })
        .collect();
    for method in &METHODS[..21] {
        assert!(paths.iter().any(|path| path == method), "{method}");
    }
}

#[test]
fn hostile_bodies_are_refused_in_words() {
    let cases = files("corpus/plugin");
    assert!(cases.len() >= 20, "corpus files are missing");
    for file in cases {
        let name = file.file_name().unwrap().to_str().unwrap();
        let method = name.rsplit_once('.').unwrap().0;
        let path = format!("/{method}");
        let driver = Recorder::default();
        let reply = ask(&driver, &path, &fs::read(&file).unwrap());
        assert_eq!(reply.status, 200, "{name}");
        let words = refusal(&path, &reply).unwrap_or_else(|| panic!("{name}: {:?}", reply.body));
        assert!(words.starts_with("malformed request: "), "{name}: {words}");
        assert_eq!(driver.last(), "", "{name} reached the driver");
    }
}

#[test]
fn options_reach_the_driver_typed() {
    let driver = Recorder::default();
    let seen = |name: &str| {
        let (path, body) = golden(name);
        ask(&driver, &path, &body);
        driver.last()
    };
    let endpoint = seen("create_endpoint");
    assert!(
        endpoint.contains(r#"dns_servers: ["10.99.0.1"]"#),
        "{endpoint}"
    );
    assert!(
        endpoint.contains("Port { protocol: 6, port: 90 }"),
        "{endpoint}"
    );
    assert!(
        endpoint.contains("host_ip: None, host_port: 8080, host_port_end: 8080"),
        "{endpoint}"
    );
    assert!(seen("create_network").contains(r#"options: {"foo": "bar"}, internal: false"#));
    assert!(seen("create_network_internal").contains("internal: true"));
    assert!(seen("create_network_aux").contains(r#"aux_addresses: {"a": "#));
    let dual = seen("create_network_of_both");
    assert!(dual.contains("enable_ipv6: true"), "{dual}");
    assert!(dual.contains("ipv6: [NetworkPool"), "{dual}");
    assert!(dual.contains("subnet: Cidr(fd00:5::/64)"), "{dual}");
    assert!(
        seen("create_endpoint_of_both")
            .contains("address_ipv6: Some(InterfaceAddr(fd00:5::a20:5/64))")
    );
    assert!(
        seen("pool_of_ipv6_without_subnet")
            .contains("pool: None, sub_pool: None, options: {}, v6: true")
    );
    assert!(seen("pool_with_range_and_options").contains(r#"options: {"k": "v"}, v6: false"#));
    assert!(seen("gateway_address_given").contains("gateway: true"));
    assert!(seen("address_given").contains("address: Some(10.40.1.99), gateway: false"));
    assert!(seen("join").contains(r#"sandbox_key: "/var/run/docker/netns/71c2169d7e70""#));
}

#[test]
fn null_and_missing_and_unknown_fields_are_no_error() {
    let driver = Recorder::default();
    for body in [
        json!({ "NetworkID": "n", "EndpointID": "e", "SandboxKey": "/s", "Options": null,
            "Interface": { "Address": "10.32.0.1/12", "AddressIPv6": null, "MacAddress": null },
            "IPv4Data": null, "IPv6Data": null, "Future": { "x": [1] } }),
        json!({ "NetworkID": "n", "EndpointID": "e", "SandboxKey": "/s",
            "Interface": { "Address": "10.32.0.1/12" },
            "Options": { "com.docker.network.portmap": "odd",
                "com.docker.network.endpoint.exposedports": [{ "Port": "x" }, 3],
                "com.docker.network.generic": null } }),
    ] {
        let body = serde_json::to_vec(&body).unwrap();
        for method in METHODS
            .iter()
            .filter(|method| method.starts_with("NetworkDriver."))
        {
            let path = format!("/{method}");
            let reply = ask(&driver, &path, &body);
            assert!(
                reply.status == 404 || refusal(&path, &reply).is_none(),
                "{method}: {reply:?}"
            );
        }
    }
}

#[test]
fn unknown_paths_are_not_found_in_the_form_that_dockerd_reads() {
    for path in [
        "/",
        "",
        "/NetworkDriver.",
        "/IpamDriver.Foo",
        "/VolumeDriver.Create",
        "/x/y",
    ] {
        let reply = ask(&Recorder::default(), path, b"{}");
        assert_eq!(reply.status, 404);
        assert!(reply.body["Err"].is_string());
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,20}".prop_map(Value::from),
        "[0-9a-f:./]{0,24}".prop_map(Value::from),
        Just(json!("10.32.0.0/12")),
        Just(json!("pool-10.32.0.0/12")),
        Just(json!("fd00:5::/64")),
        Just(json!("pool-fd00:5::/64")),
        Just(json!("pool-fd00:5::/100")),
        Just(json!("fd00:5::a20:5")),
        Just(json!("abc123")),
    ];
    let key = prop_oneof![
        Just("NetworkID".to_owned()),
        Just("EndpointID".to_owned()),
        Just("PoolID".to_owned()),
        Just("Address".to_owned()),
        Just("Pool".to_owned()),
        Just("SubPool".to_owned()),
        Just("Interface".to_owned()),
        Just("MacAddress".to_owned()),
        Just("SandboxKey".to_owned()),
        Just("Options".to_owned()),
        Just("IPv4Data".to_owned()),
        Just("IPv6Data".to_owned()),
        Just("AddressIPv6".to_owned()),
        Just("V6".to_owned()),
        Just("AuxAddresses".to_owned()),
        Just("com.docker.network.portmap".to_owned()),
        Just("com.docker.network.endpoint.exposedports".to_owned()),
        Just("com.docker.network.generic".to_owned()),
        Just("DiscoveryType".to_owned()),
        "\\PC{0,8}",
    ];
    leaf.prop_recursive(4, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..7)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn check_well_formed(method: &str, body: &[u8]) -> Result<(), TestCaseError> {
    let path = format!("/{method}");
    let reply = ask(&Recorder::default(), &path, body);
    prop_assert!(reply.body.is_object());
    prop_assert!(matches!(reply.status, 200 | 404));
    let wrong_key = if path.starts_with("/IpamDriver.") {
        "Err"
    } else {
        "Error"
    };
    prop_assert!(reply.body.get(wrong_key).is_none(), "{:?}", reply);
    Ok(())
}

proptest! {
    #[test]
    fn any_json_gets_a_well_formed_answer(method in prop::sample::select(&METHODS[..]), body in any_json()) {
        check_well_formed(method, &serde_json::to_vec(&body).unwrap())?;
    }

    #[test]
    fn any_bytes_get_a_well_formed_answer(method in prop::sample::select(&METHODS[..]), body in prop::collection::vec(any::<u8>(), 0..200)) {
        check_well_formed(method, &body)?;
    }

    #[test]
    fn any_damage_to_a_recorded_request_gets_a_well_formed_answer(
        name in prop::sample::select(&["create_network_of_both", "create_endpoint_of_both", "pool_of_ipv6", "address_of_ipv6_given", "create_network_aux", "create_endpoint", "join", "pool_with_range_and_options", "gateway_address_given"][..]),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<bool>(),
    ) {
        let (path, mut body) = golden(name);
        let at = at.index(body.len());
        if cut { body.truncate(at) } else { body[at] = byte }
        check_well_formed(path.trim_start_matches('/'), &body)?;
    }

    #[test]
    fn addresses_of_both_kinds_reach_the_driver_as_they_are(
        v4: Ipv4Addr, v4_len in 0..=32u8, v6: Ipv6Addr, v6_len in 0..=128u8,
    ) {
        let v4 = InterfaceAddr::new(v4.into(), v4_len).unwrap();
        let v6 = InterfaceAddr::new(v6.into(), v6_len).unwrap();
        let driver = Recorder::default();
        let body = json!({ "NetworkID": "n", "EndpointID": "e",
            "Interface": { "Address": v4.to_string(), "AddressIPv6": v6.to_string() } });
        ask(&driver, "/NetworkDriver.CreateEndpoint", &serde_json::to_vec(&body).unwrap());
        let typed = format!("address: Some({v4:?}), address_ipv6: Some({v6:?})");
        prop_assert!(driver.last().contains(&typed), "{}", driver.last());
        let pool = |subnet: Cidr| json!({ "Pool": subnet.to_string(), "Gateway": "" });
        let body = json!({ "NetworkID": "n",
            "IPv4Data": [pool(v4.network())], "IPv6Data": [pool(v6.network())] });
        ask(&driver, "/NetworkDriver.CreateNetwork", &serde_json::to_vec(&body).unwrap());
        for subnet in [v4.network(), v6.network()] {
            prop_assert!(driver.last().contains(&format!("subnet: {subnet:?}")), "{}", driver.last());
        }
    }

    #[test]
    fn any_path_gets_a_well_formed_answer(path in "\\PC{0,40}") {
        let reply = ask(&Recorder::default(), &path, b"{}");
        prop_assert!(reply.body.is_object());
    }
}

async fn post(socket: &Path, path: &str, body: &str) -> String {
    let mut stream = tokio::net::UnixStream::connect(socket).await.unwrap();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: plugin\r\nConnection: close\r\n\
         Accept: application/vnd.docker.plugins.v1.2+json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn the_server_speaks_http_on_its_socket_and_removes_it_when_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("weavemesh.sock");
    let socket = PluginSocket::bind(&path).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let shutdown = async move {
        let _ = stopped.await;
    };
    let server = tokio::spawn(serve(socket, Arc::new(Recorder::default()), shutdown));
    let answer = post(&path, "/Plugin.Activate", "{}")
        .await
        .to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 200 ok\r\n"), "{answer}");
    assert!(answer.contains("content-type: application/vnd.docker.plugins.v1.2+json\r\n"));
    assert!(
        answer.ends_with(r#"{"implements":["networkdriver","ipamdriver"]}"#),
        "{answer}"
    );
    assert!(
        post(&path, "/Foo.Bar", "{}")
            .await
            .starts_with("HTTP/1.1 404 ")
    );
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
    assert!(!path.exists());
}

/// Takes a while over releasing an address, and counts.
#[derive(Debug, Default)]
struct Slow {
    begun: tokio::sync::Notify,
    go_on: tokio::sync::Notify,
    finished: tokio::sync::Notify,
}

impl Driver for Slow {
    async fn request_pool(&self, _: RequestPool) -> Result<Pool, DriverError> {
        Err("no".into())
    }
    async fn release_pool(&self, _: String) -> Result<(), DriverError> {
        Err("no".into())
    }
    async fn request_address(&self, _: RequestAddress) -> Result<InterfaceAddr, DriverError> {
        Err("no".into())
    }
    async fn release_address(&self, _: ReleaseAddress) -> Result<(), DriverError> {
        self.begun.notify_one();
        self.go_on.notified().await;
        self.finished.notify_one();
        Ok(())
    }
    async fn create_network(&self, _: CreateNetwork) -> Result<(), DriverError> {
        Err("no".into())
    }
    async fn delete_network(&self, _: String) -> Result<(), DriverError> {
        Err("no".into())
    }
    async fn create_endpoint(&self, _: CreateEndpoint) -> Result<Option<Mac>, DriverError> {
        Err("no".into())
    }
    async fn delete_endpoint(&self, _: EndpointRef) -> Result<(), DriverError> {
        Err("no".into())
    }
    async fn join(&self, _: Join) -> Result<Joined, DriverError> {
        Err("no".into())
    }
    async fn leave(&self, _: EndpointRef) -> Result<(), DriverError> {
        Err("no".into())
    }
}

#[tokio::test]
async fn a_call_that_has_begun_is_finished_when_dockerd_hangs_up() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("weavemesh.sock");
    let driver = Arc::new(Slow::default());
    let socket = PluginSocket::bind(&path).unwrap();
    let server = tokio::spawn(serve(socket, driver.clone(), std::future::pending()));
    let body = r#"{"PoolID":"p","Address":"10.32.0.1"}"#;
    let request = tokio::spawn({
        let path = path.clone();
        async move { post(&path, "/IpamDriver.ReleaseAddress", body).await }
    });
    driver.begun.notified().await;
    request.abort();
    assert!(request.await.unwrap_err().is_cancelled());
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    driver.go_on.notify_one();
    let finished = driver.finished.notified();
    tokio::time::timeout(std::time::Duration::from_secs(5), finished)
        .await
        .unwrap();
    server.abort();
}

#[test]
fn a_second_server_on_the_same_socket_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("weavemesh.sock");
    let first = PluginSocket::bind(&path).unwrap();
    assert!(matches!(
        PluginSocket::bind(&path),
        Err(Error::SocketBusy { .. })
    ));
    drop(first);
    assert!(PluginSocket::bind(&path).is_ok());
}
