//! Forwarding: asks the servers of the host's resolv.conf in turn.
//!
//! A server that does not answer, or answers SERVFAIL or REFUSED, hands over
//! to the next one, and stands at the end of the row for a while. Answers are
//! accepted only from the asked address, with the right id and question.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;

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
    under_way: Semaphore,
}

impl Upstream {
    /// Servers of this resolv.conf, but for our own addresses.
    pub(super) fn new(resolv_conf: PathBuf, port: u16, own: OwnAddresses) -> Self {
        Self {
            resolv_conf: Mutex::new(ResolvConf::new(resolv_conf)),
            port,
            own,
            demoted: Mutex::new(BTreeMap::new()),
            under_way: Semaphore::new(MAX_UNDER_WAY),
        }
    }

    /// Servers in the order of the file, without our own addresses.
    pub(super) fn servers(&self) -> Vec<SocketAddr> {
        let mut conf = lock(&self.resolv_conf);
        let servers = conf.servers(Instant::now());
        let servers = servers.iter().map(|ip| SocketAddr::new(*ip, self.port));
        servers
            .filter(|server| !self.own.contains(*server))
            .collect()
    }

    /// The first good answer, else the first bad one, else none.
    pub(super) async fn ask(&self, question: &Question) -> Option<Message> {
        let _permit = self.under_way.try_acquire().ok()?;
        let mut refusal = None;
        for server in self.in_turn() {
            match tokio::time::timeout(PATIENCE, ask_server(server, question)).await {
                Ok(Ok(answer)) if !is_refusal(&answer) => {
                    lock(&self.demoted).remove(&server);
                    return Some(answer);
                }
                Ok(Ok(answer)) => {
                    refusal.get_or_insert(answer);
                }
                Ok(Err(error)) => {
                    tracing::debug!(%server, %error, "upstream DNS server failed");
                    self.demote(server);
                }
                Err(_) => {
                    tracing::debug!(%server, "upstream DNS server did not answer");
                    self.demote(server);
                }
            }
        }
        refusal
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
    if !question.over_tcp {
        let answer = ask_udp(server, id, question, &datagram).await?;
        if !answer.metadata.truncation {
            return Ok(answer);
        }
    }
    ask_tcp(server, id, question, &datagram).await
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
        let answer = buffer.get(..len).and_then(|b| decode(b, id, question));
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

#[cfg(test)]
mod tests {
    use hickory_proto::rr::{Name, RecordType};
    use proptest::prelude::*;

    use super::*;

    fn question() -> Question {
        Question {
            query: Query::query(Name::from_ascii("example.com.").unwrap(), RecordType::A),
            recursion_desired: true,
            checking_disabled: false,
            authentic_data: false,
            edns: None,
            over_tcp: false,
        }
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
        }
    }
}
