//! Our DNS server beside a bare hickory server that holds the same names: processor time for each
//! query, on one core, in turn, in one run. `cargo xtask bench dns` runs it.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "its output is what it is for"
)]

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_server::Server;
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};
use tokio::sync::watch;
use weave_node::names::{NameEntry, NameTable};
use weave_wire::PeerId;

use program::dns;

/// The server is part of the program, which is no library.
#[path = "../src"]
mod program {
    #[expect(
        dead_code,
        unused_imports,
        reason = "only its server is measured, and its tests have no harness here"
    )]
    pub(crate) mod dns;
}

/// Numbers of names.
const NAMES: [usize; 3] = [1, 2_000, 100_000];
const ROUNDS: usize = 25;
const QUERIES: usize = 20_000;
/// Queries under way at a time.
const WINDOW: usize = 16;
const PATIENCE: Duration = Duration::from_secs(5);
const DOMAIN: &str = "weave.local";

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A server under load.
struct Rival {
    address: SocketAddr,
    thread: String,
    rounds: Vec<Round>,
}

/// What one query took, µs.
struct Round {
    processor: f64,
    wall: f64,
}

fn main() -> ExitCode {
    match measure_all() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure_all() -> Result<(), Failure> {
    let mut sizes = Vec::new();
    for count in NAMES {
        let rivals = [
            rival("bare hickory", count, serve_bare)?,
            rival("weave", count, serve_weave)?,
        ];
        let questions = questions(count)?;
        for rival in &rivals {
            load(rival.address, &questions, QUERIES)?;
        }
        sizes.push((count, questions, rivals));
    }
    // all in turn: a noisy moment falls on each of them alike
    for _ in 0..ROUNDS {
        for (_, questions, rivals) in &mut sizes {
            for rival in rivals {
                let round = rival.round(questions)?;
                rival.rounds.push(round);
            }
        }
    }
    println!("| names | bare hickory, µs per query | weave, µs per query | weave, of bare |");
    println!("|---|---|---|---|");
    for (count, _, [bare, weave]) in &sizes {
        let (theirs, ours) = (bare.processor(), weave.processor());
        // moments that were noisy for both are none for their ratio
        let ratio = median(theirs.iter().zip(&ours).map(|(theirs, ours)| theirs / ours));
        let (theirs, ours) = (median(theirs), median(ours));
        println!("| {count} | {theirs:.2} | {ours:.2} | {ratio:.2} |");
        let [theirs, ours] = [bare, weave].map(|it| median(it.rounds.iter().map(|it| it.wall)));
        eprintln!("{count} names, with the client on the same core: {theirs:.2} and {ours:.2} µs");
    }
    if let [(_, _, [_, few]), .., (_, _, [_, many])] = sizes.as_slice() {
        let (few, many) = (few.processor(), many.processor());
        let ratio = median(many.iter().zip(&few).map(|(many, few)| many / few));
        println!();
        println!("weave, most names beside fewest: {ratio:.2} times the processor time");
    }
    Ok(())
}

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

impl Rival {
    fn round(&self, questions: &[Vec<u8>]) -> Result<Round, Failure> {
        let (began, before) = (Instant::now(), processor_time(&self.thread)?);
        load(self.address, questions, QUERIES)?;
        let (after, took) = (processor_time(&self.thread)?, began.elapsed());
        let each = 1e6 / QUERIES as f64;
        Ok(Round {
            processor: (after - before).as_secs_f64() * each,
            wall: took.as_secs_f64() * each,
        })
    }

    /// Of each round, µs per query.
    fn processor(&self) -> Vec<f64> {
        self.rounds.iter().map(|round| round.processor).collect()
    }
}

/// Starts a server on a thread of its own, which lives as long as we do.
fn rival(
    what: &'static str,
    count: usize,
    serve: fn(usize, UdpSocket) -> Result<(), Failure>,
) -> Result<Rival, Failure> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let _ = tell.send(std::fs::read_link("/proc/thread-self"));
        if let Err(error) = serve(count, socket) {
            eprintln!("error: {what}: {error}");
        }
    });
    let thread = told.recv()??;
    Ok(Rival {
        address,
        thread: format!("/proc/{}/schedstat", thread.display()),
        rounds: Vec::new(),
    })
}

/// Time that a thread has run on a processor.
fn processor_time(schedstat: &str) -> Result<Duration, Failure> {
    let text = std::fs::read_to_string(schedstat)?;
    let nanos = text.split_whitespace().next().ok_or("no schedstat")?;
    Ok(Duration::from_nanos(nanos.parse()?))
}

fn run(future: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(future)
}

fn serve_bare(count: usize, socket: UdpSocket) -> Result<(), Failure> {
    let origin = Name::from_ascii(format!("{DOMAIN}."))?;
    let mut zone: InMemoryZoneHandler =
        InMemoryZoneHandler::empty(origin.clone(), ZoneType::Primary, AxfrPolicy::Deny);
    let soa = SOA::new(origin.clone(), origin.clone(), 1, 1, 1, 1, 1);
    zone.upsert_mut(Record::from_rdata(origin.clone(), 1, RData::SOA(soa)), 1);
    for number in 0..count {
        let name = Name::from_ascii(format!("{}.", name_of(number)))?;
        zone.upsert_mut(Record::from_rdata(name, 1, RData::A(A(ip_of(number)))), 1);
    }
    let mut catalog = Catalog::new();
    catalog.upsert(origin.into(), vec![Arc::new(zone)]);
    run(async move {
        let mut server = Server::new(catalog);
        server.register_socket(tokio::net::UdpSocket::from_std(socket)?);
        Ok(server.block_until_done().await?)
    })
}

fn serve_weave(count: usize, socket: UdpSocket) -> Result<(), Failure> {
    let entries = (0..count).map(|number| NameEntry {
        name: name_of(number).into(),
        ip: IpAddr::V4(ip_of(number)),
        container: "c0ffee".into(),
        origin: PeerId([1; 32]),
    });
    let table: NameTable = entries.collect();
    let config = dns::DnsConfig {
        domain: DOMAIN.to_owned(),
        resolv_conf: "/nonexistent".into(),
        open: |_| None,
        upstream_port: 53,
    };
    let (_keep, complete) = watch::channel(true);
    run(async move {
        let dns = dns::Dns::new(config, Arc::new(ArcSwap::from_pointee(table)), complete)?;
        let _listening = dns.listen(vec![socket], Vec::new())?;
        std::future::pending().await
    })
}

fn name_of(number: usize) -> String {
    format!("service-{number}.{DOMAIN}")
}

fn ip_of(number: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a20_0000 + u32::try_from(number).unwrap_or(0))
}

/// A question for each name, in an order that no cache likes.
fn questions(count: usize) -> Result<Vec<Vec<u8>>, Failure> {
    let step = 7_919;
    let numbers = (0..count).map(|index| index * step % count);
    let question = |number| {
        let mut message = Message::new(0, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        let name = Name::from_ascii(format!("{}.", name_of(number)))?;
        message.add_query(Query::query(name, RecordType::A));
        Ok(message.to_vec()?)
    };
    numbers.map(question).collect()
}

/// Asks so many questions; each must be answered with one record.
fn load(server: SocketAddr, questions: &[Vec<u8>], count: usize) -> Result<(), Failure> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut next = questions.iter().cycle();
    let (mut sent, mut answered, mut buffer) = (0, 0, [0; 512]);
    while answered < count {
        while sent < count && sent - answered < WINDOW {
            socket.send(next.next().ok_or("no questions")?)?;
            sent += 1;
        }
        let len = socket.recv(&mut buffer)?;
        // the response code, and the number of answers
        let is_right = len > 12 && buffer[3] & 15 == 0 && buffer[6..8] == [0, 1];
        if !is_right {
            return Err(io::Error::other("a wrong answer").into());
        }
        answered += 1;
    }
    Ok(())
}
