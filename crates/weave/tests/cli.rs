//! The program from outside: arguments, output, exit codes. Needs no rights.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const REPORT: &str = r#"{
    "ready": true, "version": "9.9.9",
    "router": {
        "protocol": "weave", "protocol_min_version": 1, "protocol_max_version": 1,
        "password": true, "peer_discovery": true, "name": "4a:0f:f6:ec:1c:93",
        "nickname": "nyc", "port": 6783, "targets": ["192.0.2.1", "192.0.2.2"],
        "connections": [], "peers": [], "from_a_later_version": 1
    }
}"#;

const CONTAINERS: &str = r#"[{
    "container": "c0ffeec0ffee", "name": "db", "mac": "02:77:0a:20:00:01", "addresses": ["10.32.0.1/12"],
    "traffic": {"frames_sent": 1, "bytes_sent": 60, "frames_received": 2, "bytes_received": 3000}
}]"#;

const PING: &str = r#"{
    "target": "db",
    "layers": [
        {"layer": "name", "state": "ok", "detail": "10.32.0.1"},
        {"layer": "address", "state": "ok", "detail": "on lon"},
        {"layer": "path", "state": "failed", "detail": "no session", "hint": "look there"}
    ]
}"#;

fn weave(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weave"));
    command.args(args);
    for name in [
        "WEAVE_SOCKET",
        "WEAVE_PASSWORD",
        "WEAVE_PASSWORD_FILE",
        "WEAVE_PASSWORD_GENERATION",
        "WEAVE_NO_DNS",
    ] {
        command.env_remove(name);
    }
    command
}

fn run(args: &[&str]) -> (i32, String, String) {
    parts(weave(args).output().expect("run weave"))
}

fn parts(output: Output) -> (i32, String, String) {
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// Answers every request on a socket by its path; enough HTTP for that.
struct FakeRouter {
    socket: PathBuf,
    _dir: tempfile::TempDir,
}

impl FakeRouter {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("make a directory");
        let socket = dir.path().join("weave.sock");
        let listener = UnixListener::bind(&socket).expect("listen");
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                answer(stream.expect("accept"));
            }
        });
        Self { socket, _dir: dir }
    }

    fn run(&self, args: &[&str]) -> (i32, String, String) {
        let mut command = weave(args);
        command.env("WEAVE_SOCKET", &self.socket);
        parts(command.output().expect("run weave"))
    }
}

fn answer(stream: std::os::unix::net::UnixStream) {
    let mut reader = BufReader::new(&stream);
    let mut first = String::new();
    reader.read_line(&mut first).expect("read");
    let mut len = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).expect("read");
        if header.trim().is_empty() {
            break;
        }
        if let Some(value) = header.to_lowercase().strip_prefix("content-length:") {
            len = value.trim().parse().expect("a length");
        }
    }
    let mut body = vec![0; len];
    reader.read_exact(&mut body).expect("read");
    let body = String::from_utf8_lossy(&body);
    let (status, answer) = match first.split(' ').nth(1).unwrap_or_default() {
        "/report" => ("200 OK", REPORT.to_owned()),
        "/passwords" if body.contains("\"add\"") && !body.contains("plain") => {
            ("200 OK", "1".to_owned())
        }
        "/name/db" => ("200 OK", r#"["10.32.0.1","10.40.0.1"]"#.to_owned()),
        "/ps" => ("200 OK", CONTAINERS.to_owned()),
        "/ping" => ("200 OK", PING.to_owned()),
        "/prime" => ("200 OK", r#""two more peers""#.to_owned()),
        "/name/nosuch" => ("200 OK", "[]".to_owned()),
        "/attach" if body.contains("default_subnet") => {
            ("200 OK", r#"["10.32.0.5","10.2.1.7"]"#.to_owned())
        }
        "/connect" => (
            "200 OK",
            r#"[{"peer":"a"},{"peer":"b","error":"unknown"},{"peer":"c","error":"unknown","hint":"check it"}]"#
                .to_owned(),
        ),
        _ => (
            "404 Not Found",
            r#"{"kind":"not_found","error":"no container `db`","hint":"see docker ps"}"#.to_owned(),
        ),
    };
    let len = answer.len();
    let mut stream = &stream;
    // A client that went away is its own test's business.
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-length: {len}\r\nconnection: close\r\n\r\n{answer}"
    );
}

#[test]
fn without_arguments_the_help_is_shown_and_it_is_a_usage_error() {
    let (code, out, err) = run(&[]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("Usage: weave"), "{err}");
}

#[test]
fn help_and_version_are_success_on_standard_output() {
    for args in [
        &["--help"][..],
        &["launch", "--help"],
        &["password", "generate", "--help"],
    ] {
        let (code, out, err) = run(args);
        assert_eq!((code, err.as_str()), (0, ""), "{args:?}");
        assert!(out.contains("Usage:") && out.contains("Example"), "{out}");
    }
    let (code, out, _) = run(&["--version"]);
    assert_eq!(code, 0);
    assert!(out.starts_with("weave "), "{out}");
}

#[test]
fn a_typo_is_a_usage_error_that_names_the_right_word() {
    let (code, _, err) = run(&["statsu"]);
    assert_eq!(code, 2);
    assert!(
        err.contains("unrecognized subcommand 'statsu'") && err.contains("'status'"),
        "{err}"
    );
}

#[test]
fn without_a_router_every_client_command_exits_with_3_and_a_hint() {
    let socket = "/nonexistent/weave.sock";
    for args in [
        &["status"][..],
        &["status", "peers", "--json"],
        &["ps"],
        &["top"],
        &["top", "--once"],
        &["top", "--json"],
        &["report"],
        &["connect", "192.0.2.1"],
        &["forget", "192.0.2.1"],
        &["rmpeer", "lon"],
        &["attach", "db"],
        &["detach", "db"],
        &["dns-lookup", "db"],
        &["password", "list"],
        &["password", "use", "1"],
        &["password", "remove", "0", "--force"],
    ] {
        let args = [&["--socket", socket], args].concat();
        let (code, out, err) = run(&args);
        assert_eq!((code, out.as_str()), (3, ""), "{args:?}: {err}");
        assert!(err.contains("the router is not running"), "{err}");
        assert!(err.contains("hint: start it with `weave launch`"), "{err}");
    }
    let (code, out, _) = run(&["version", "--socket", socket]);
    assert_eq!(code, 0);
    assert!(
        out.starts_with("weave ") && out.contains("router not running"),
        "{out}"
    );
}

#[test]
fn answers_of_the_router_are_printed() {
    let router = FakeRouter::start();
    let (code, out, err) = router.run(&["status"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(
        out.contains("           Name: 4a:0f:f6:ec:1c:93(nyc)\n"),
        "{out}"
    );
    assert_eq!(
        router.run(&["status", "targets"]).1,
        "192.0.2.1\n192.0.2.2\n"
    );
    assert_eq!(
        router.run(&["dns-lookup", "db"]).1,
        "10.32.0.1\n10.40.0.1\n"
    );
    assert_eq!(
        router.run(&["dns-lookup", "nosuch"]),
        (0, String::new(), String::new())
    );
    let json: serde_json::Value =
        serde_json::from_str(&router.run(&["status", "targets", "--json"]).1).expect("JSON");
    assert_eq!(json, serde_json::json!(["192.0.2.1", "192.0.2.2"]));
    assert!(router.run(&["version"]).1.ends_with("router 9.9.9\n"));
    let attached = router.run(&["attach", "net:default", "10.2.1.7/24", "db"]);
    assert_eq!(attached.1, "10.32.0.5 10.2.1.7\n");
}

#[test]
fn a_refusal_of_the_router_is_printed_with_its_hint() {
    let router = FakeRouter::start();
    let (code, out, err) = router.run(&["detach", "db"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert_eq!(err, "error: no container `db`\nhint: see docker ps\n");
    let (code, _, err) = router.run(&["connect", "a", "b", "c"]);
    assert_eq!(code, 1);
    assert_eq!(
        err,
        "error: b: unknown\nerror: c: unknown\nhint: check it\n"
    );
}

#[test]
fn a_ping_fails_for_the_layer_that_does() {
    let router = FakeRouter::start();
    let (code, out, err) = router.run(&["ping", "db", "--count", "1"]);
    assert_eq!(
        (code, err.as_str()),
        (1, "error: `db` is not reached: the path fails\n")
    );
    assert!(out.contains("no session"), "{out}");
}

#[test]
fn waiting_for_addresses_ends_and_says_for_what_it_was() {
    let router = FakeRouter::start();
    let (code, out, err) = router.run(&["prime", "--timeout", "0"]);
    assert_eq!((code, out.as_str()), (1, ""));
    let first = err.lines().next().unwrap_or_default();
    assert_eq!(
        first,
        "error: no addresses can be given out after 0 s: two more peers"
    );
}

#[test]
fn a_process_that_may_open_no_files_says_so() {
    // the settings are read by the last one that is free, which is not enough to wait for a router
    let program = env!("CARGO_BIN_EXE_weave");
    let command = format!("ulimit -n 4; exec '{program}' --socket /nonexistent status 3>&-");
    let output = Command::new("sh").args(["-c", &command]).output();
    let (code, out, err) = parts(output.expect("run sh"));
    assert_eq!((code, out.as_str()), (1, ""));
    assert_eq!(
        err,
        "error: cannot start: Too many open files (os error 24)\n"
    );
}

#[test]
fn a_reader_that_went_away_is_success() {
    let router = FakeRouter::start();
    let mut child = weave(&["report"])
        .env("WEAVE_SOCKET", &router.socket)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run weave");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("wait");
    assert_eq!(parts(output), (0, String::new(), String::new()));
}

#[test]
fn mistakes_in_addresses_and_options_are_usage_errors() {
    for (args, word) in [
        (&["attach", "10.300.1.1/12", "db"][..], "address"),
        (&["attach", "10.2.1.1/24"], "no container named"),
        (&["launch", "--password", "short"], "too short"),
        (
            &["launch", "--ipalloc-range", "10.2.3.4/8"],
            "--ipalloc-range",
        ),
        (&["launch", "--port", "70000"], "--port"),
        (
            &["dns-add"],
            "neither a container, nor an address and a name",
        ),
        (
            &["dns-remove"],
            "neither a container, nor an address or a name",
        ),
        (&["password", "use", "65536"], "65536"),
        (&["password", "remove"], "<N>"),
        (&["router", "--nickname", "a b"], "--nickname"),
    ] {
        let (code, _, err) = run(args);
        assert_eq!(code, 2, "{args:?}: {err}");
        assert!(err.contains(word), "{args:?}: {err}");
    }
}

#[test]
fn a_password_on_the_command_line_is_warned_about_in_one_line() {
    let args = [
        "launch",
        "--password",
        "a fine password",
        "--socket",
        "/elsewhere",
    ];
    let (code, _, err) = run(&args);
    assert_eq!(code, 2);
    let warnings: Vec<&str> = err.lines().filter(|l| l.starts_with("warning:")).collect();
    let [warning] = warnings.as_slice() else {
        panic!("{err}");
    };
    assert!(warning.contains("--password-file"), "{warning}");
    assert!(!err.contains("a fine password"), "{err}");
}

#[test]
fn a_generated_password_is_accepted_from_a_file() {
    let (code, password, _) = run(&["password", "generate"]);
    assert_eq!((code, password.trim_end().len()), (0, 26));
    let dir = tempfile::tempdir().expect("make a directory");
    let file = dir.path().join("password");
    std::fs::write(&file, password).expect("write");
    let file = file.to_string_lossy();
    // Everything is checked before the socket is found to be the wrong one.
    let (code, _, err) = run(&["launch", "--password-file", &file, "--socket", "/elsewhere"]);
    assert_eq!(code, 2);
    assert!(
        err.contains("always uses its own socket") && !err.contains("warning"),
        "{err}"
    );
}

#[test]
fn a_new_password_comes_from_a_file_the_environment_or_a_pipe_and_goes_stretched() {
    let router = FakeRouter::start();
    let file = router.socket.with_file_name("password");
    std::fs::write(&file, "a plain password\n").expect("write");
    let add = |args: &[&str], environment: Option<&str>, pipe: &str| {
        let mut command = weave(&[&["password", "add"], args].concat());
        command.env("WEAVE_SOCKET", &router.socket);
        if let Some(password) = environment {
            command.env("WEAVE_PASSWORD", password);
        }
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn().expect("run weave");
        let mut stdin = child.stdin.take().expect("a pipe");
        // One that has read enough, or nothing, may be gone.
        let _ = stdin.write_all(pipe.as_bytes());
        drop(stdin);
        parts(child.wait_with_output().expect("wait"))
    };
    let file = file.to_string_lossy();
    for (args, environment, pipe) in [
        (&["--password-file", &file][..], None, ""),
        (&[], Some("a plain password"), ""),
        (&[], None, "a plain password\n"),
        (&["--generation", "1"], None, "a plain password"),
    ] {
        let (code, out, err) = add(args, environment, pipe);
        assert_eq!((code, out.as_str()), (0, "1\n"), "{err}");
        assert!(err.contains("`weave password use 1`"), "{err}");
    }
    for (pipe, word) in [
        ("", "is empty"),
        ("short\n", "too short"),
        ("two plain\nlines\n", "more than one line"),
    ] {
        let (code, out, err) = add(&[], None, pipe);
        assert_eq!((code, out.as_str()), (2, ""), "{err}");
        assert!(err.contains(word), "{err}");
    }
}

#[test]
fn a_second_router_on_a_socket_in_use_is_refused() {
    let router = FakeRouter::start();
    let socket = router.socket.to_string_lossy();
    let state = Path::new(&*socket).with_extension("state");
    let args = [
        "router",
        "--no-docker",
        "--socket",
        &socket,
        "--state-dir",
        &state.to_string_lossy(),
    ];
    let (code, _, err) = run(&args);
    assert_eq!(code, 1);
    // Without root's rights that comes first.
    assert!(
        err.contains("already running") || err.contains("by root"),
        "{err}"
    );
    assert!(!state.exists());
}

#[test]
fn top_prints_one_table_after_an_interval_where_there_is_no_terminal() {
    let router = FakeRouter::start();
    let began = std::time::Instant::now();
    for args in [&["top"][..], &["top", "--once", "--interval", "1"]] {
        let (code, out, err) = router.run(args);
        assert_eq!((code, err.as_str()), (0, ""), "{args:?}");
        let lines: Vec<Vec<_>> = out
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert!(lines[0].starts_with(&["PEER", "PATH", "RTT"]), "{out}");
        assert_eq!(lines[3], ["db", "10.32.0.1", "0", "0", "0", "3.06", "kB"]);
    }
    assert!(began.elapsed() >= std::time::Duration::from_secs(2));
    let (code, out, _) = router.run(&["top", "--json"]);
    assert_eq!(code, 0);
    let it: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(it["containers"][0]["received"]["bytes"], 3000);
    assert!(it["seconds"].as_f64().expect("a number") >= 1.0, "{out}");
}
