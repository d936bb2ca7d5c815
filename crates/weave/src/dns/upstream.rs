//! Forwarding: asks the servers of the host's resolv.conf in turn.
//!
//! A server that does not answer, or answers SERVFAIL or REFUSED, hands over
//! to the next one; one that does not answer stands at the end of the row for a
//! while. Answers are accepted only from the asked address, with the right id and
//! question. Servers that ask us in turn are left out.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::RecordType;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use super::loops::{self, Loops};
use super::resolv_conf::ResolvConf;

/// How long one server may take. Resolvers in containers give up after 5 s.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a server that did not answer stands behind the others.
const DEMOTED: Duration = Duration::from_secs(30);

/// Queries under way at once; more are refused with SERVFAIL.
const MAX_UNDER_WAY: usize = 512;

/// UDP answers larger than this come truncated and are fetched over TCP.
const UDP_PAYLOAD: u16 = 1232;

/// A query as it is to be asked.
#[derive(Debug, Clone)]
pub(super) struct Question {
    /// What is asked.
    pub(super) query: Query,
    /// Whether the client wants recursion.
    pub(super) recursion_desired: bool,
    /// Whether the client checks signatures itself.
    pub(super) checking_disabled: bool,
    /// Whether the client understands the AD bit.
    pub(super) authentic_data: bool,
    /// Options of the client, if it sent any.
    pub(super) edns: Option<Edns>,
    /// Whether the client asked over TCP.
    pub(super) over_tcp: bool,
}

impl Question {
    /// A plain question of our own.
    fn new(query: Query) -> Self {
        Self {
            query,
            recursion_desired: true,
            checking_disabled: false,
            authentic_data: false,
            edns: None,
            over_tcp: false,
        }
    }
}

/// Addresses on which this server itself listens, shared by all who add some.
#[derive(Debug, Clone, Default)]
pub(super) struct OwnAddresses(Arc<Mutex<BTreeMap<SocketAddr, usize>>>);

impl OwnAddresses {
    /// Adds addresses; each may be added several times.
    pub(super) fn add(&self, addresses: &[SocketAddr]) {
        let mut own = lock(&self.0);
        for address in addresses {
            *own.entry(*address).or_insert(0) += 1;
        }
    }

    /// Takes back what was added once.
    pub(super) fn remove(&self, addresses: &[SocketAddr]) {
        let mut own = lock(&self.0);
        for address in addresses {
            let Some(count) = own.get_mut(address) else {
                continue;
            };
            *count -= 1;
            if *count == 0 {
                own.remove(address);
            }
        }
    }

    fn contains(&self, address: SocketAddr) -> bool {
        lock(&self.0).contains_key(&address)
    }
}

/// A mutex here guards plain values: they are sound even after a panic elsewhere.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The upstream servers.
#[derive(Debug)]
pub(super) struct Upstream {
    resolv_conf: Mutex<ResolvConf>,
    port: u16,
    own: OwnAddresses,
    demoted: Mutex<BTreeMap<SocketAddr, Instant>>,
    loops: Mutex<Loops>,
    under_way: Semaphore,
}

impl Upstream {
    /// Servers of this resolv.conf, but for our own addresses.
    pub(super) fn new(resolv_conf: ResolvConf, port: u16, own: OwnAddresses) -> Self {
        Self {
            resolv_conf: Mutex::new(resolv_conf),
            port,
            own,
            demoted: Mutex::new(BTreeMap::new()),
            loops: Mutex::default(),
            under_way: Semaphore::new(MAX_UNDER_WAY),
        }
    }

    /// Servers in the order of the file, without our own addresses and those that ask us.
    pub(super) fn servers(&self) -> Vec<SocketAddr> {
        let mut servers = self.named();
        let loops = lock(&self.loops);
        servers.retain(|server| !loops.contains(server));
        servers
    }

    /// Whether this question is one of our own, and has come back to us.
    pub(super) fn came_back(&self, query: &Query) -> bool {
        lock(&self.loops).came_back(&query.name)
    }

    /// Servers of the file but for our own addresses.
    fn named(&self) -> Vec<SocketAddr> {
        let mut conf = lock(&self.resolv_conf);
        let servers = conf.servers(Instant::now());
        let servers = servers.iter().map(|ip| SocketAddr::new(*ip, self.port));
        servers
            .filter(|server| !self.own.contains(*server))
            .collect()
    }

    /// The first good answer, else the first bad one, else none.
    pub(super) async fn ask(self: &Arc<Self>, question: &Question) -> Option<Message> {
        let _permit = self.under_way.try_acquire().ok()?;
        self.look_for_loops();
        let mut refusal = None;
        for server in self.in_turn() {
            match ask_server(server, question).await {
                Ok(answer) if !is_refusal(&answer) => {
                    lock(&self.demoted).remove(&server);
                    return Some(answer);
                }
                Ok(answer) => {
                    lock(&self.loops).suspect(&server);
                    refusal.get_or_insert(answer);
                }
                Err(error) => {
                    tracing::debug!(%server, %error, "upstream DNS server failed");
                    lock(&self.loops).suspect(&server);
                    self.demote(server);
                }
            }
        }
        refusal
    }

    /// Tries new servers, and those in doubt, beside the question under way.
    fn look_for_loops(self: &Arc<Self>) {
        let servers = self.named();
        let due = lock(&self.loops).due(&servers, Instant::now(), || getrandom::u64().ok());
        for (server, number) in due {
            let Some(name) = loops::name_with(number) else {
                continue;
            };
            let this = Arc::clone(self);
            tokio::spawn(async move {
                let question = Question::new(Query::query(name, RecordType::TXT));
                // what it answers is of no interest
                let _ = ask_server(server, &question).await;
                lock(&this.loops).ended(&server, number);
            });
        }
    }

    /// Servers in the order in which to ask: those that failed lately last.
    fn in_turn(&self) -> Vec<SocketAddr> {
        let mut servers = self.servers();
        let mut demoted = lock(&self.demoted);
        demoted.retain(|_, since| since.elapsed() < DEMOTED);
        servers.sort_by_key(|server| demoted.contains_key(server));
        servers
    }

    fn demote(&self, server: SocketAddr) {
        lock(&self.demoted).insert(server, Instant::now());
    }
}

fn is_refusal(answer: &Message) -> bool {
    let code = answer.metadata.response_code;
    code == ResponseCode::ServFail || code == ResponseCode::Refused
}

async fn ask_server(server: SocketAddr, question: &Question) -> io::Result<Message> {
    let id = random_id()?;
    let datagram = encode(id, question)?;
    if question.over_tcp {
        return in_time(ask_tcp(server, id, question, &datagram)).await;
    }
    let answer = in_time(ask_udp(server, id, question, &datagram)).await?;
    if !answer.metadata.truncation {
        return Ok(answer);
    }
    let whole = in_time(ask_tcp(server, id, question, &datagram)).await;
    // cut, and marked so, is better than nothing
    Ok(whole.unwrap_or(answer))
}

async fn in_time<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let ended = tokio::time::timeout(PATIENCE, work).await;
    ended.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// A fresh socket for each query: its port is a secret as good as the id.
async fn ask_udp(
    server: SocketAddr,
    id: u16,
    question: &Question,
    datagram: &[u8],
) -> io::Result<Message> {
    let local: IpAddr = match server.ip() {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((local, 0)).await?;
    socket.connect(server).await?;
    socket.send(datagram).await?;
    let mut buffer = vec![0; 65_535];
    loop {
        let len = socket.recv(&mut buffer).await?;
        let bytes = buffer.get(..len).unwrap_or_default();
        let answer = decode(bytes, id, question).or_else(|| decode_cut(bytes, id, question));
        // Anything else may be forged; the true answer may still come.
        if let Some(answer) = answer {
            return Ok(answer);
        }
    }
}

async fn ask_tcp(
    server: SocketAddr,
    id: u16,
    question: &Question,
    datagram: &[u8],
) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let len = u16::try_from(datagram.len()).map_err(io::Error::other)?;
    let mut message = len.to_be_bytes().to_vec();
    message.extend_from_slice(datagram);
    stream.write_all(&message).await?;
    let len = stream.read_u16().await?;
    let mut buffer = vec![0; usize::from(len)];
    stream.read_exact(&mut buffer).await?;
    decode(&buffer, id, question).ok_or_else(|| io::Error::other("answer to another question"))
}

fn random_id() -> io::Result<u16> {
    let mut bytes = [0; 2];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(u16::from_ne_bytes(bytes))
}

fn encode(id: u16, question: &Question) -> io::Result<Vec<u8>> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = question.recursion_desired;
    message.metadata.checking_disabled = question.checking_disabled;
    message.metadata.authentic_data = question.authentic_data;
    message.add_query(question.query.clone());
    if let Some(edns) = &question.edns {
        let mut edns = edns.clone();
        edns.set_max_payload(UDP_PAYLOAD);
        message.set_edns(edns);
    }
    message.to_vec().map_err(io::Error::other)
}

/// The answer, if these bytes are one to this question.
fn decode(bytes: &[u8], id: u16, question: &Question) -> Option<Message> {
    let answer = Message::from_vec(bytes).ok()?;
    let [echo] = answer.queries.as_slice() else {
        return None;
    };
    let asked = &question.query;
    let sound = answer.metadata.id == id
        && answer.metadata.message_type == MessageType::Response
        && echo.name == asked.name
        && echo.query_type == asked.query_type
        && echo.query_class == asked.query_class;
    sound.then_some(answer)
}

/// An answer that was cut anywhere: its question, and that it was cut.
fn decode_cut(bytes: &[u8], id: u16, question: &Question) -> Option<Message> {
    let mut start = bytes.to_vec();
    // RFC 1035 section 4.1.1: the numbers of records that follow the question
    start.get_mut(6..12)?.fill(0);
    decode(&start, id, question).filter(|answer| answer.metadata.truncation)
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::rdata::A;
    use hickory_proto::rr::{Name, RData, Record};
    use proptest::prelude::*;

    use super::*;

    fn question() -> Question {
        let name = Name::from_ascii("example.com.").unwrap();
        Question::new(Query::query(name, RecordType::A))
    }

    #[test]
    fn only_an_answer_with_the_right_id_and_question_is_taken() {
        let mut answer = Message::from_vec(&encode(7, &question()).unwrap()).unwrap();
        let bytes = |message: &Message| message.to_vec().unwrap();
        assert!(decode(&bytes(&answer), 7, &question()).is_none(), "a query");
        answer.metadata.message_type = MessageType::Response;
        assert!(decode(&bytes(&answer), 7, &question()).is_some());
        assert!(
            decode(&bytes(&answer), 8, &question()).is_none(),
            "another id"
        );
        let mut other = question();
        other.query.name = Name::from_ascii("example.org.").unwrap();
        assert!(decode(&bytes(&answer), 7, &other).is_none(), "another name");
    }

    #[test]
    fn an_answer_that_ends_within_a_record_is_taken_if_it_says_that_it_was_cut() {
        let mut answer = Message::from_vec(&encode(7, &question()).unwrap()).unwrap();
        answer.metadata.message_type = MessageType::Response;
        let a = RData::A(A::new(192, 0, 2, 1));
        let name = question().query.name;
        answer.add_answer(Record::from_rdata(name, 60, a));
        let cut = |answer: &Message| {
            let mut bytes = answer.to_vec().unwrap();
            bytes.truncate(bytes.len() - 3);
            assert!(decode(&bytes, 7, &question()).is_none());
            decode_cut(&bytes, 7, &question())
        };
        assert!(cut(&answer).is_none());
        answer.metadata.truncation = true;
        assert!(cut(&answer).is_some_and(|it| it.answers.is_empty()));
    }

    #[test]
    fn own_addresses_count_how_often_they_were_added() {
        let own = OwnAddresses::default();
        let address: SocketAddr = "10.0.0.1:53".parse().unwrap();
        own.add(&[address, address]);
        own.remove(&[address]);
        assert!(own.contains(address));
        own.remove(&[address]);
        assert!(!own.contains(address));
    }

    proptest! {
        #[test]
        fn arbitrary_answers_are_dropped_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            prop_assert!(decode(&bytes, 7, &question()).is_none_or(|m| m.metadata.id == 7));
            prop_assert!(decode_cut(&bytes, 7, &question()).is_none_or(|m| m.metadata.id == 7));
        }
    }
}
