//! Requests that nobody sends who means well, in virtual time.

use std::io;
use std::time::Duration;

use axum::serve::Listener;
use proptest::prelude::*;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::connection::{MOST_BODY, MOST_HEAD, READ_WITHIN, serve};
use super::*;

/// Bytes that are under way on a connection of these tests.
const PIPE: usize = 1024;

struct Pipes(mpsc::UnboundedReceiver<DuplexStream>);

impl Listener for Pipes {
    type Io = DuplexStream;
    type Addr = ();

    async fn accept(&mut self) -> (DuplexStream, ()) {
        match self.0.recv().await {
            Some(stream) => (stream, ()),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}

/// What came of a connection.
struct Outcome {
    /// Bytes that were taken.
    taken: usize,
    answer: String,
    lasted: Duration,
    asked: Vec<String>,
}

/// Sends these pieces, with this long before each, and then nothing until the server ends it.
fn send(pieces: Vec<Vec<u8>>, pause: Duration) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let (sender, pipes) = mpsc::unbounded_channel();
        let fake = Arc::new(Fake::full());
        let routes = server::routes().serve_with(Arc::clone(&fake));
        tokio::spawn(serve(Pipes(pipes), routes, 4, std::future::pending()));
        let (ours, theirs) = tokio::io::duplex(PIPE);
        sender.send(theirs).unwrap();
        let began = Instant::now();
        let (mut reader, mut writer) = tokio::io::split(ours);
        let write = async {
            let mut taken = 0;
            for piece in pieces {
                tokio::time::sleep(pause).await;
                for byte in piece.chunks(64) {
                    if writer.write_all(byte).await.is_err() {
                        return (taken, writer);
                    }
                    taken += byte.len();
                }
            }
            (taken, writer)
        };
        let read = async {
            let mut answer = Vec::new();
            let _ = reader.read_to_end(&mut answer).await;
            String::from_utf8_lossy(&answer).into_owned()
        };
        let both = async { tokio::join!(write, read) };
        let ((taken, _), answer) = tokio::time::timeout(Duration::from_secs(3600), both)
            .await
            .expect("the server never ends it");
        let (lasted, asked) = (began.elapsed(), fake.asked());
        Outcome {
            taken,
            answer,
            lasted,
            asked,
        }
    })
}

fn at_once(text: &str) -> Outcome {
    send(vec![text.as_bytes().to_vec()], Duration::ZERO)
}

fn status(outcome: &Outcome) -> &str {
    outcome.answer.get(9..12).unwrap_or_default()
}

#[test]
fn a_request_that_never_ends_is_given_five_seconds() {
    for (begun, expected) in [
        ("", ""),
        ("GET /st", ""),
        ("GET /status HTTP/1.1\r\nhost: x\r\n", ""),
        (
            "POST /stop HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n12",
            "400",
        ),
    ] {
        let outcome = at_once(begun);
        assert!(outcome.lasted >= READ_WITHIN, "{begun}");
        assert!(
            outcome.lasted < READ_WITHIN * 2,
            "{begun}: {:?}",
            outcome.lasted
        );
        assert!(
            ["", "408", expected].contains(&status(&outcome)),
            "{begun}: {}",
            outcome.answer
        );
        assert_eq!(outcome.asked, Vec::<String>::new(), "{begun}");
    }
}

#[test]
fn a_byte_now_and_then_gains_no_time() {
    let head = "GET /status HTTP/1.1\r\nhost: x\r\n".to_owned() + &"a: b\r\n".repeat(100);
    let drip = |text: &str| {
        let bytes = text.bytes().map(|byte| vec![byte]).collect();
        send(bytes, Duration::from_millis(900))
    };
    let outcome = drip(&head);
    assert!(outcome.lasted < READ_WITHIN * 2, "{:?}", outcome.lasted);
    let body = "x".repeat(100);
    let text = format!("POST /stop HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{body}");
    let (head, body) = text.split_at(text.len() - 100);
    let mut pieces = vec![head.as_bytes().to_vec()];
    pieces.extend(body.bytes().map(|byte| vec![byte]));
    let outcome = send(pieces, Duration::from_millis(900));
    assert!(outcome.lasted < READ_WITHIN * 3, "{:?}", outcome.lasted);
    assert_eq!(outcome.asked, Vec::<String>::new());
}

#[test]
fn heads_and_bodies_beyond_the_limit_are_refused_before_they_are_read() {
    let name = "x".repeat(1 << 20);
    for (text, expected) in [
        (format!("GET /{name} HTTP/1.1\r\nhost: x\r\n\r\n"), "414"),
        (
            format!("GET /status HTTP/1.1\r\nhost: x\r\na: {name}\r\n\r\n"),
            "431",
        ),
        (
            format!("GET /status HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(100_000)),
            "431",
        ),
        (
            format!(
                "POST /stop HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{name}",
                name.len()
            ),
            "400",
        ),
        (
            format!(
                "POST /stop HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n100000\r\n{name}\r\n0\r\n\r\n"
            ),
            "400",
        ),
        (
            format!(
                "POST /stop HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
                u64::MAX
            ),
            "400",
        ),
    ] {
        let outcome = at_once(&text);
        let most = MOST_HEAD + MOST_BODY + 16 * PIPE;
        assert!(
            outcome.taken < most,
            "{expected}: {} bytes taken",
            outcome.taken
        );
        let got = status(&outcome);
        assert!([expected, "431", "413"].contains(&got), "{expected}: {got}");
        assert_eq!(outcome.asked, Vec::<String>::new());
    }
}

#[test]
fn one_connection_carries_one_request() {
    let one = "POST /stop HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n";
    let outcome = at_once(&one.repeat(50));
    assert_eq!(
        outcome.answer.matches("HTTP/1.1").count(),
        1,
        "{}",
        outcome.answer
    );
    assert_eq!(outcome.asked, ["stop"]);
}

#[test]
fn a_wrong_method_is_told_so_on_every_path() {
    for (method, path) in server::routes::<Fake>().list() {
        let path = path.replace(['{', '}'], "");
        let outcome = at_once(&format!("PATCH {path} HTTP/1.1\r\nhost: x\r\n\r\n"));
        assert_eq!(status(&outcome), "405", "{method} {path}");
        assert!(
            outcome.answer.contains("does not take PATCH"),
            "{}",
            outcome.answer
        );
        assert_eq!(outcome.asked, Vec::<String>::new());
    }
}

/// Something like a request.
fn requests() -> impl Strategy<Value = Vec<u8>> {
    let paths: Vec<_> = server::routes::<Fake>()
        .list()
        .iter()
        .map(|(_, path)| *path)
        .collect();
    let path = prop_oneof![
        proptest::sample::select(paths).prop_map(str::to_owned),
        "/[a-z]{1,8}(/[%0-9a-fA-F]{1,12}){0,4}(\\?[%&=+a-z0-9]{0,20})?",
    ];
    let header = prop_oneof![
        "[a-z-]{1,12}: [ -~]{0,30}",
        Just("content-length: 3".to_owned()),
        Just("content-length: -1".to_owned()),
        Just("transfer-encoding: chunked".to_owned()),
        Just("expect: 100-continue".to_owned()),
        Just("connection: keep-alive".to_owned()),
        Just("content-type: application/json".to_owned()),
        Just("content-type: application/x-www-form-urlencoded".to_owned()),
        Just("accept: application/json".to_owned()),
        Just("upgrade: h2c".to_owned()),
    ];
    let method = "(GET|POST|PUT|DELETE|HEAD|OPTIONS|get|[A-Z]{1,9})";
    let headers = proptest::collection::vec(header, 0..8);
    let body = proptest::collection::vec(any::<u8>(), 0..200);
    let noise = proptest::collection::vec((any::<u16>(), any::<u8>()), 0..4);
    (method, path, headers, body, noise).prop_map(|(method, path, headers, body, noise)| {
        let mut text = format!("{method} {path} HTTP/1.1\r\nhost: x\r\n");
        for header in headers {
            text.push_str(&header);
            text.push_str("\r\n");
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        bytes.extend(body);
        for (at, byte) in noise {
            let at = usize::from(at) % bytes.len();
            bytes[at] = byte;
        }
        bytes
    })
}

proptest! {
    #[test]
    fn any_bytes_are_answered_or_cut_off_within_the_limit(
        bytes in prop_oneof![requests(), proptest::collection::vec(any::<u8>(), 0..300)],
    ) {
        let outcome = send(vec![bytes], Duration::ZERO);
        prop_assert!(outcome.lasted < READ_WITHIN * 4, "{:?}", outcome.lasted);
        let answer = &outcome.answer;
        prop_assert!(answer.is_empty() || answer.starts_with("HTTP/1."), "{answer}");
        prop_assert!(!["500", "501"].contains(&status(&outcome)), "{answer}");
    }
}
