//! The server on real sockets of 127.0.0.1, with fake upstream servers.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::*;

/// More than this is not sent in one datagram.
const MAX_UDP: u16 = 4096;

/// A fixed table of names.
pub(super) struct Names {
    forward: BTreeMap<String, Vec<IpAddr>>,
    reverse: BTreeMap<IpAddr, String>,
}

impl Names {
    pub(super) fn of(entries: &[(&str, &str)]) -> Self {
        let mut names = Self {
            forward: BTreeMap::new(),
            reverse: BTreeMap::new(),
        };
        for (name, ip) in entries {
            names.add(name, ip.parse().unwrap());
        }
        names
    }

    fn add(&mut self, name: &str, ip: IpAddr) {
        self.forward
            .entry(name.to_ascii_lowercase())
            .or_default()
            .push(ip);
        self.reverse.insert(ip, name.to_owned());
    }
}

impl NameSource for Names {
    fn addresses(&self, name: &str) -> Vec<IpAddr> {
        self.forward.get(name).cloned().unwrap_or_default()
    }

    fn name_of(&self, ip: IpAddr) -> Option<String> {
        self.reverse.get(&ip).cloned()
    }
}

fn names() -> Names {
    let mut names = Names::of(&[("web.weave.local", "10.32.0.1")]);
    for host in 1..=3 {
        names.add("three.weave.local", Ipv4Addr::new(10, 32, 1, host).into());
    }
    for host in 0..100 {
        names.add("many.weave.local", Ipv4Addr::new(10, 32, 2, host).into());
    }
    names
}

/// A server under test and what keeps it alive.
struct Rig {
    address: SocketAddr,
    listening: Listening,
    dns: Dns,
    _dir: tempfile::TempDir,
}

/// A server whose upstream servers are `servers`, all on one port.
fn rig(servers: &[IpAddr], port: u16) -> Rig {
    let (_, complete) = watch::channel(true);
    rig_with(servers, port, Arc::new(names()), complete)
}

fn rig_with(
    servers: &[IpAddr],
    port: u16,
    names: Arc<dyn NameSource>,
    complete: watch::Receiver<bool>,
) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let resolv_conf = dir.path().join("resolv.conf");
    write_resolv_conf(&resolv_conf, servers);
    let config = DnsConfig {
        domain: "weave.local".to_owned(),
        resolv_conf,
        open: |path| File::open(path).ok(),
        upstream_port: port,
    };
    let dns = Dns::new(config, names, complete).unwrap();
    // One port for both, as on port 53: try until the pair is free.
    let (udp, tcp) = (0..100)
        .find_map(|_| {
            let udp = std::net::UdpSocket::bind("127.0.0.1:0").ok()?;
            let tcp = std::net::TcpListener::bind(udp.local_addr().ok()?).ok()?;
            Some((udp, tcp))
        })
        .unwrap();
    let address = udp.local_addr().unwrap();
    let listening = dns.listen(vec![udp], vec![tcp]).unwrap();
    Rig {
        address,
        listening,
        dns,
        _dir: dir,
    }
}

fn write_resolv_conf(path: &Path, servers: &[IpAddr]) {
    let lines = servers.iter().map(|ip| format!("nameserver {ip}\n"));
    std::fs::write(path, lines.collect::<String>()).unwrap();
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn with_edns(mut message: Message, size: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(size);
    message.set_edns(edns);
    message
}

async fn exchange_udp(server: SocketAddr, datagram: &[u8]) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(datagram, server).await.unwrap();
    let mut buffer = vec![0; 65_535];
    let received = tokio::time::timeout(Duration::from_secs(8), socket.recv(&mut buffer));
    let len = received.await.ok()?.unwrap();
    buffer.truncate(len);
    Some(buffer)
}

async fn ask(server: SocketAddr, message: &Message) -> Message {
    let answer = exchange_udp(server, &message.to_vec().unwrap())
        .await
        .unwrap();
    Message::from_vec(&answer).unwrap()
}

async fn ask_tcp(server: SocketAddr, message: &Message) -> Message {
    let mut stream = TcpStream::connect(server).await.unwrap();
    let bytes = message.to_vec().unwrap();
    let len = u16::try_from(bytes.len()).unwrap();
    stream.write_all(&len.to_be_bytes()).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let len = stream.read_u16().await.unwrap();
    let mut buffer = vec![0; usize::from(len)];
    stream.read_exact(&mut buffer).await.unwrap();
    Message::from_vec(&buffer).unwrap()
}

fn addresses_in(message: &Message) -> Vec<String> {
    message.answers.iter().map(|r| r.data.to_string()).collect()
}

/// What a fake upstream server does with a query.
#[derive(Clone, Copy)]
enum Manner {
    Silent,
    Code(ResponseCode),
    /// Answers this address, after a datagram with a wrong id.
    Address(Ipv4Addr),
    /// Says "truncated" over UDP and the long truth over TCP.
    LongText,
}

/// Starts a server of that manner on `ip`; returns the count of its queries.
async fn upstream(ip: IpAddr, port: u16, manner: Manner) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let udp = UdpSocket::bind((ip, port)).await.unwrap();
    let tcp = TcpListener::bind((ip, port)).await.unwrap();
    tokio::spawn(serve_udp(udp, manner, Arc::clone(&count)));
    tokio::spawn(serve_tcp(tcp, manner));
    count
}

async fn serve_udp(socket: UdpSocket, manner: Manner, count: Arc<AtomicUsize>) {
    let mut buffer = [0; 2048];
    loop {
        let (len, from) = socket.recv_from(&mut buffer).await.unwrap();
        if !is_of_our_own(&buffer[..len]) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let Some(mut answer) = respond(&buffer[..len], manner) else {
            continue;
        };
        if matches!(manner, Manner::LongText) {
            answer.answers.clear();
            answer.metadata.truncation = true;
        }
        let mut forged = answer.clone();
        forged.metadata.id ^= 1;
        forged.answers.clear();
        socket
            .send_to(&forged.to_vec().unwrap(), from)
            .await
            .unwrap();
        socket
            .send_to(&answer.to_vec().unwrap(), from)
            .await
            .unwrap();
    }
}

async fn serve_tcp(listener: TcpListener, manner: Manner) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let len = stream.read_u16().await.unwrap();
        let mut buffer = vec![0; usize::from(len)];
        stream.read_exact(&mut buffer).await.unwrap();
        let Some(answer) = respond(&buffer, manner) else {
            continue;
        };
        let bytes = answer.to_vec().unwrap();
        let len = u16::try_from(bytes.len()).unwrap();
        stream.write_all(&len.to_be_bytes()).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
    }
}

/// Whether this looks for loops: clients are counted only.
fn is_of_our_own(query: &[u8]) -> bool {
    Message::from_vec(query).is_ok_and(|query| query.queries[0].query_type == RecordType::TXT)
        && query.windows(10).any(|it| it == b"weave-loop")
}

fn asked(count: &AtomicUsize) -> usize {
    count.load(Ordering::Relaxed)
}

fn respond(bytes: &[u8], manner: Manner) -> Option<Message> {
    let mut answer = Message::from_vec(bytes).unwrap().into_response();
    answer.metadata.recursion_available = true;
    let name = answer.queries[0].name.clone();
    match manner {
        Manner::Silent => return None,
        Manner::Code(code) => answer.metadata.response_code = code,
        Manner::Address(ip) => {
            answer.add_answer(Record::from_rdata(name, 77, RData::A(A(ip))));
        }
        Manner::LongText => {
            let text = TXT::new(vec!["x".repeat(250); 8]);
            answer.add_answer(Record::from_rdata(name, 77, RData::TXT(text)));
        }
    }
    Some(answer)
}

fn loopback(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, last).into()
}

/// A port on which nothing listens yet, on any loopback address.
fn free_port() -> u16 {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.local_addr().unwrap().port()
}

#[tokio::test]
async fn a_known_name_is_answered_with_authority_over_udp_and_tcp() {
    let rig = rig(&[], 53);
    let asked = query("Web.Weave.Local.", RecordType::A);
    for answer in [
        ask(rig.address, &asked).await,
        ask_tcp(rig.address, &asked).await,
    ] {
        assert_eq!(answer.metadata.id, 0x1234);
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
        assert!(answer.metadata.authoritative && answer.metadata.recursion_available);
        assert!(answer.metadata.recursion_desired && !answer.metadata.truncation);
        assert_eq!(addresses_in(&answer), ["10.32.0.1"]);
        assert_eq!(answer.answers[0].name.to_string(), "Web.Weave.Local.");
        assert_eq!(answer.answers[0].ttl, 1);
        assert!(answer.edns.is_none());
    }
}

#[tokio::test]
async fn negative_answers_carry_a_soa_and_say_whether_the_name_exists() {
    let rig = rig(&[], 53);
    for (name, kind, code) in [
        ("web.weave.local.", RecordType::AAAA, ResponseCode::NoError),
        ("none.weave.local.", RecordType::A, ResponseCode::NXDomain),
        ("none.", RecordType::A, ResponseCode::NXDomain),
    ] {
        let answer = ask(rig.address, &query(name, kind)).await;
        assert_eq!(answer.metadata.response_code, code, "{name}");
        assert!(answer.answers.is_empty() && answer.metadata.authoritative);
        let [soa] = answer.authorities.as_slice() else {
            panic!("no SOA for {name}");
        };
        assert_eq!(soa.record_type(), RecordType::SOA);
        let RData::SOA(data) = &soa.data else {
            panic!("no SOA: {soa}");
        };
        assert_eq!(
            (soa.name.to_string(), soa.ttl, data.minimum),
            ("weave.local.".to_owned(), 1, 1)
        );
    }
}

#[tokio::test]
async fn nothing_is_denied_before_the_names_are_complete() {
    let port = free_port();
    upstream(loopback(94), port, Manner::Code(ResponseCode::NXDomain)).await;
    let table = Arc::new(ArcSwap::from_pointee(NameTable::default()));
    let (tell, complete) = watch::channel(false);
    let rig = rig_with(&[loopback(94)], port, table, complete);
    let (late, reverse) = (
        query("late.weave.local.", RecordType::A),
        query("1.0.32.10.in-addr.arpa.", RecordType::PTR),
    );
    let elsewhere = query("example.com.", RecordType::A);
    let answer = ask(rig.address, &elsewhere).await;
    assert_eq!(
        answer.metadata.response_code,
        ResponseCode::NXDomain,
        "not ours"
    );
    let (patient, unsure) = tokio::join!(ask(rig.address, &late), ask(rig.address, &reverse));
    for answer in [patient, unsure] {
        assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    }
    let in_time = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        tell.send(true).unwrap();
    };
    let (answer, ()) = tokio::join!(ask(rig.address, &late), in_time);
    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
}

#[tokio::test]
async fn addresses_come_in_changing_order() {
    let rig = rig(&[], 53);
    let asked = query("three.weave.local.", RecordType::A);
    let mut orders = std::collections::BTreeSet::new();
    for _ in 0..200 {
        let answer = addresses_in(&ask(rig.address, &asked).await);
        assert_eq!(answer.len(), 3);
        orders.insert(answer);
    }
    assert_eq!(orders.len(), 6, "all orders of three: {orders:?}");
}

#[tokio::test]
async fn answers_are_cut_to_what_the_client_takes_and_tcp_is_never_cut() {
    let rig = rig(&[], 53);
    let plain = query("many.weave.local.", RecordType::A);
    let cut = exchange_udp(rig.address, &plain.to_vec().unwrap())
        .await
        .unwrap();
    assert!(cut.len() <= 512);
    let cut = Message::from_vec(&cut).unwrap();
    assert!(cut.metadata.truncation && cut.answers.len() > 20);
    let whole = ask(rig.address, &with_edns(plain.clone(), 4096)).await;
    assert_eq!(whole.answers.len(), 100);
    assert!(!whole.metadata.truncation);
    assert_eq!(whole.edns.unwrap().max_payload(), 4096);
    let less = ask(rig.address, &with_edns(plain.clone(), 1000)).await;
    assert!(less.metadata.truncation && less.answers.len() > cut.answers.len());
    let bytes = with_edns(plain.clone(), 0).to_vec().unwrap();
    let tiny = exchange_udp(rig.address, &bytes).await.unwrap();
    assert!((400..=512).contains(&tiny.len()), "as if it had said 512");
    let huge = ask(rig.address, &with_edns(plain.clone(), 65_535)).await;
    assert_eq!(huge.edns.unwrap().max_payload(), MAX_UDP);
    assert_eq!(ask_tcp(rig.address, &plain).await.answers.len(), 100);
}

#[tokio::test]
async fn other_names_are_asked_upstream_and_the_answer_is_passed_on() {
    let port = free_port();
    upstream(
        loopback(81),
        port,
        Manner::Address(Ipv4Addr::new(192, 0, 2, 9)),
    )
    .await;
    let rig = rig(&[loopback(81)], port);
    assert_eq!(rig.dns.upstream_servers(), [loopback(81)]);
    let answer = ask(rig.address, &query("Example.com.", RecordType::A)).await;
    assert_eq!(answer.metadata.id, 0x1234);
    assert!(!answer.metadata.authoritative && answer.metadata.recursion_available);
    assert_eq!(addresses_in(&answer), ["192.0.2.9"]);
    assert_eq!(answer.answers[0].ttl, 77);
    let over_tcp = ask_tcp(rig.address, &query("example.com.", RecordType::A)).await;
    assert_eq!(addresses_in(&over_tcp), ["192.0.2.9"]);
    let unknown_reverse = query("1.2.0.192.in-addr.arpa.", RecordType::PTR);
    assert_eq!(ask(rig.address, &unknown_reverse).await.answers.len(), 1);
}

#[tokio::test]
async fn the_next_server_is_asked_after_silence_servfail_and_refusal() {
    let port = free_port();
    let silent = upstream(loopback(82), port, Manner::Silent).await;
    upstream(loopback(83), port, Manner::Code(ResponseCode::ServFail)).await;
    upstream(loopback(84), port, Manner::Code(ResponseCode::Refused)).await;
    upstream(
        loopback(85),
        port,
        Manner::Address(Ipv4Addr::new(192, 0, 2, 5)),
    )
    .await;
    let servers = [loopback(82), loopback(83), loopback(84), loopback(85)];
    let rig = rig(&servers, port);
    let asked = query("example.com.", RecordType::A);
    assert_eq!(addresses_in(&ask(rig.address, &asked).await), ["192.0.2.5"]);
    let started = std::time::Instant::now();
    assert_eq!(addresses_in(&ask(rig.address, &asked).await), ["192.0.2.5"]);
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "the silent one is asked last now"
    );
    assert_eq!(silent.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_name_that_upstream_denies_is_not_asked_of_the_next_server() {
    let port = free_port();
    upstream(loopback(86), port, Manner::Code(ResponseCode::NXDomain)).await;
    let second = upstream(loopback(87), port, Manner::Address(Ipv4Addr::LOCALHOST)).await;
    let rig = rig(&[loopback(86), loopback(87)], port);
    let answer = ask(rig.address, &query("example.com.", RecordType::A)).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(second.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn without_an_answer_from_upstream_the_query_fails_and_our_names_still_work() {
    let port = free_port();
    upstream(loopback(88), port, Manner::Code(ResponseCode::Refused)).await;
    let rig = rig(&[loopback(88)], port);
    let refused = ask(rig.address, &query("example.com.", RecordType::A)).await;
    assert_eq!(refused.metadata.response_code, ResponseCode::Refused);
    let none = self::rig(&[], port);
    let failed = ask(none.address, &query("example.com.", RecordType::A)).await;
    assert_eq!(failed.metadata.response_code, ResponseCode::ServFail);
    let known = ask(none.address, &query("web.", RecordType::A)).await;
    assert_eq!(addresses_in(&known), ["10.32.0.1"]);
}

#[tokio::test]
async fn a_truncated_answer_from_upstream_is_fetched_over_tcp() {
    let port = free_port();
    upstream(loopback(89), port, Manner::LongText).await;
    let rig = rig(&[loopback(89)], port);
    let asked = query("example.com.", RecordType::TXT);
    let whole = ask(rig.address, &with_edns(asked.clone(), 4096)).await;
    assert_eq!(whole.answers.len(), 1);
    assert!(!whole.metadata.truncation);
    let cut = ask(rig.address, &asked).await;
    assert!(cut.metadata.truncation && cut.answers.is_empty());
}

#[tokio::test]
async fn a_truncated_answer_is_passed_on_where_tcp_does_not_help() {
    let port = free_port();
    let udp = UdpSocket::bind((loopback(91), port)).await.unwrap();
    tokio::spawn(serve_udp(udp, Manner::LongText, Arc::default()));
    let second = upstream(loopback(92), port, Manner::Code(ResponseCode::NXDomain)).await;
    let rig = rig(&[loopback(91), loopback(92)], port);
    let answer = ask(rig.address, &query("example.com.", RecordType::TXT)).await;
    assert!(answer.metadata.truncation && answer.answers.is_empty());
    assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    assert_eq!(asked(&second), 0);
}

/// A server that asks `rig` everything, as Docker's resolver or one of the host might.
async fn asks_back(ip: IpAddr, port: u16, rig: SocketAddr) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let udp = Arc::new(UdpSocket::bind((ip, port)).await.unwrap());
    let asked = Arc::clone(&count);
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        loop {
            let (len, from) = udp.recv_from(&mut buffer).await.unwrap();
            asked.fetch_add(1, Ordering::Relaxed);
            let (udp, mut query) = (Arc::clone(&udp), buffer[..len].to_vec());
            tokio::spawn(async move {
                let id = [query[0], query[1]];
                query[0] ^= 0x55;
                let Some(mut answer) = exchange_udp(rig, &query).await else {
                    return;
                };
                answer[..2].copy_from_slice(&id);
                udp.send_to(&answer, from).await.unwrap();
            });
        }
    });
    count
}

#[tokio::test]
async fn a_server_that_asks_us_is_found_out_and_left_out() {
    let port = free_port();
    // where Docker's own resolver listens
    let loops = Ipv4Addr::new(127, 0, 0, 11).into();
    let rig = rig(&[loops, loopback(93)], port);
    let count = asks_back(loops, port, rig.address).await;
    let there = Manner::Address(Ipv4Addr::new(192, 0, 2, 7));
    upstream(loopback(93), port, there).await;
    for number in 0..20 {
        let asked = query(&format!("n{number}.example.com."), RecordType::A);
        assert_eq!(addresses_in(&ask(rig.address, &asked).await), ["192.0.2.7"]);
    }
    assert_eq!(rig.dns.upstream_servers(), [loopback(93)]);
    let queries = count.load(Ordering::Relaxed);
    assert!(queries < 10, "{queries} queries until it was found out");
    let ours = ask(rig.address, &query("web.", RecordType::A)).await;
    assert_eq!(addresses_in(&ours), ["10.32.0.1"]);
}

#[tokio::test]
async fn the_server_never_asks_itself() {
    let port = free_port();
    let rig = rig(&[loopback(90)], port);
    assert_eq!(rig.dns.upstream_servers(), [loopback(90)]);
    rig.dns.own.add(&[SocketAddr::new(loopback(90), port)]);
    assert!(rig.dns.upstream_servers().is_empty());
    let answer = ask(rig.address, &query("example.com.", RecordType::A)).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
}

#[tokio::test]
async fn odd_requests_get_an_error_of_their_own() {
    let rig = rig(&[], 53);
    let mut twice = query("web.weave.local.", RecordType::A);
    twice.add_query(Query::query(
        Name::from_ascii("web.").unwrap(),
        RecordType::A,
    ));
    let mut never = query("web.weave.local.", RecordType::A);
    never.queries.clear();
    for wrong in [twice, never] {
        let answer = ask(rig.address, &wrong).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::FormErr);
    }
    for code in [1, 2, 3, 4, 6, 15] {
        let mut other = query("web.weave.local.", RecordType::A);
        other.metadata.op_code = OpCode::from_u8(code);
        let answer = ask(rig.address, &other).await;
        assert_eq!(
            answer.metadata.response_code,
            ResponseCode::NotImp,
            "{code}"
        );
        assert_eq!(u8::from(answer.metadata.op_code), code);
    }
    let mut newer = with_edns(query("web.weave.local.", RecordType::A), 1232);
    newer.edns.as_mut().unwrap().set_version(1);
    let refused = ask(rig.address, &newer).await.metadata.response_code;
    assert_eq!(u16::from(refused), u16::from(ResponseCode::BADVERS));
}

#[tokio::test]
async fn a_dropped_listener_frees_its_port_and_its_address() {
    let rig = rig(&[], 53);
    let address = rig.address;
    assert_eq!(rig.listening.addresses(), [address, address]);
    drop(rig.listening);
    for _ in 0..100 {
        if std::net::UdpSocket::bind(address).is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{address} is still bound");
}

/// Sends these bytes and then a sound query, which must still be answered.
async fn survives(rig: &Rig, bytes: &[u8]) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(bytes, rig.address).await.unwrap();
    let answer = ask(rig.address, &query("web.", RecordType::A)).await;
    assert_eq!(addresses_in(&answer), ["10.32.0.1"]);
}

#[test]
fn arbitrary_datagrams_never_stop_the_server() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let rig = runtime.block_on(async { rig(&[], 53) });
    let sound = query("web.weave.local.", RecordType::A).to_vec().unwrap();
    let mutated =
        (prop::collection::vec((0..sound.len(), any::<u8>()), 1..6)).prop_map(move |edits| {
            let mut bytes = sound.clone();
            for (at, byte) in edits {
                bytes[at] = byte;
            }
            bytes
        });
    let arbitrary = prop_oneof![prop::collection::vec(any::<u8>(), 0..300), mutated];
    TestRunner::new(ProptestConfig::with_cases(300))
        .run(&arbitrary, |bytes| {
            runtime.block_on(survives(&rig, &bytes));
            Ok(())
        })
        .unwrap();
}

#[tokio::test]
async fn the_server_survives_every_datagram_of_the_corpus() {
    let rig = rig(&[], 53);
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/dns");
    let mut replayed = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        survives(&rig, &std::fs::read(entry.unwrap().path()).unwrap()).await;
        replayed += 1;
    }
    assert!(replayed >= 8, "the corpus is gone: {replayed} files");
}
