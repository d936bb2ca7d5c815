//! One query, from request to response.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, LowerQuery, Message, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::Record;
use hickory_server::net::runtime::Time;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use tokio::sync::watch;

use super::outcomes::Outcomes;
use super::upstream::{Question, Upstream};
use super::zone::{Verdict, Zone};
use super::{Dns, Source};

/// Most that an answer over UDP may take, whatever the client allows.
const MAX_UDP_PAYLOAD: u16 = 4096;

/// So long a query for a name that may yet come waits; resolvers give up after 5 s.
const NAMES_WITHIN: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Answers queries; shared by all sockets.
pub(super) struct Handler {
    zone: Arc<Zone>,
    upstream: Arc<Upstream>,
    source: Source,
    complete: watch::Receiver<bool>,
    outcomes: Arc<Outcomes>,
}

/// A response, but for what it copies from the request.
struct Reply {
    metadata: Metadata,
    answers: Vec<Record>,
    authorities: Vec<Record>,
    additionals: Vec<Record>,
    edns: Option<Edns>,
}

impl Handler {
    pub(super) fn new(dns: &Dns) -> Self {
        Self {
            zone: Arc::clone(&dns.zone),
            upstream: Arc::clone(&dns.upstream),
            source: dns.source.clone(),
            complete: dns.complete.clone(),
            outcomes: Arc::clone(&dns.outcomes),
        }
    }

    async fn reply(&self, request: &Request) -> Reply {
        if request.metadata.op_code != OpCode::Query {
            return Reply::error(request, ResponseCode::NotImp);
        }
        if request.version() > 0 {
            return Reply::error(request, ResponseCode::BADVERS);
        }
        // RFC 9619: a query asks exactly one question.
        let [query] = request.queries.queries() else {
            return Reply::error(request, ResponseCode::FormErr);
        };
        let Some(verdict) = self.verdict(query.original()).await else {
            return Reply::error(request, ResponseCode::ServFail);
        };
        match verdict {
            Verdict::Answer(records) => {
                Reply::local(request, ResponseCode::NoError, shuffle(records))
            }
            Verdict::NoData => self.negative(request, query, ResponseCode::NoError),
            Verdict::NoSuchName => self.negative(request, query, ResponseCode::NXDomain),
            Verdict::Refuse => Reply::error(request, ResponseCode::Refused),
            Verdict::Forward if self.upstream.came_back(query.original()) => {
                Reply::error(request, ResponseCode::Refused)
            }
            Verdict::Forward => self.forward(request).await,
        }
    }

    /// None while nobody can know: the name may yet come.
    async fn verdict(&self, query: &Query) -> Option<Verdict> {
        let mut complete = self.complete.clone();
        let mut asked = None;
        loop {
            // before the judgement: names may come in between
            let is_complete = *complete.borrow();
            let verdict = self.zone.judge(query, &*self.source.0);
            if is_complete || !self.zone.is_doubtful(&verdict, query) {
                return Some(verdict);
            }
            if asked.get_or_insert_with(Instant::now).elapsed() >= NAMES_WITHIN {
                return None;
            }
            // a name may come before all have
            let _ = tokio::time::timeout(LOOK_EVERY, complete.wait_for(|it| *it)).await;
        }
    }

    fn negative(&self, request: &Request, query: &LowerQuery, code: ResponseCode) -> Reply {
        let mut reply = Reply::local(request, code, Vec::new());
        reply
            .authorities
            .push(self.zone.soa_of(&query.original().name));
        reply
    }

    async fn forward(&self, request: &Request) -> Reply {
        let Some(question) = question(request) else {
            return Reply::error(request, ResponseCode::FormErr);
        };
        match self.upstream.ask(&question).await {
            Some(answer) => Reply::forwarded(request, answer),
            None => Reply::error(request, ResponseCode::ServFail),
        }
    }
}

fn question(request: &Request) -> Option<Question> {
    let query = request.queries.queries().first()?;
    Some(Question {
        query: query.original().clone(),
        recursion_desired: request.metadata.recursion_desired,
        checking_disabled: request.metadata.checking_disabled,
        authentic_data: request.metadata.authentic_data,
        edns: request.edns.clone(),
        over_tcp: request.protocol() != Protocol::Udp,
    })
}

impl Reply {
    fn error(request: &Request, code: ResponseCode) -> Self {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.recursion_available = true;
        metadata.response_code = code;
        Self {
            metadata,
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
            edns: edns_for(request, None),
        }
    }

    /// An answer that we are the authority of.
    fn local(request: &Request, code: ResponseCode, answers: Vec<Record>) -> Self {
        let mut reply = Self::error(request, code);
        reply.metadata.authoritative = true;
        reply.answers = answers;
        reply
    }

    /// An answer from upstream, under the id of the request.
    fn forwarded(request: &Request, answer: Message) -> Self {
        let mut metadata = answer.metadata;
        metadata.id = request.metadata.id;
        metadata.recursion_desired = request.metadata.recursion_desired;
        Self {
            metadata,
            answers: answer.answers,
            authorities: answer.authorities,
            additionals: answer.additionals,
            edns: edns_for(request, answer.edns),
        }
    }
}

/// Options go only to a client that sent some. The size set here is both the
/// bound of this answer and what the client is told.
fn edns_for(request: &Request, upstream: Option<Edns>) -> Option<Edns> {
    let asked = request.edns.as_ref()?;
    let mut edns = upstream.unwrap_or_default();
    edns.set_version(0);
    edns.set_dnssec_ok(asked.flags().dnssec_ok);
    edns.set_max_payload(request.max_payload().min(MAX_UDP_PAYLOAD));
    Some(edns)
}

/// Fisher-Yates: every order is as likely, so that load spreads.
fn shuffle(mut records: Vec<Record>) -> Vec<Record> {
    if records.len() < 2 {
        return records;
    }
    let mut state = getrandom::u64().unwrap_or(0);
    for last in (1..records.len()).rev() {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        let bound = last as u64 + 1;
        let Ok(pick) = usize::try_from(z % bound) else {
            continue;
        };
        records.swap(last, pick);
    }
    records
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response_handle: R,
    ) -> ResponseInfo {
        let reply = self.reply(request).await;
        self.outcomes.count(&reply.metadata, reply.answers.len());
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if let Some(edns) = &reply.edns {
            builder.edns(edns);
        }
        let response = builder.build(
            reply.metadata,
            &reply.answers,
            &reply.authorities,
            std::iter::empty(),
            &reply.additionals,
        );
        match response_handle.send_response(response).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%error, client = %request.src(), "cannot send a DNS answer");
                failed(reply.metadata)
            }
        }
    }
}

fn failed(mut metadata: Metadata) -> ResponseInfo {
    metadata.response_code = ResponseCode::ServFail;
    ResponseInfo::from(hickory_proto::op::Header {
        metadata,
        counts: hickory_proto::op::HeaderCounts::default(),
    })
}
