//! Questions that an operator has of another peer, and the answers: for people, deciding nothing.
//!
//! Owns which questions are under way and how many of each peer are answered. What is found on a
//! host is the shell's to say, as [`Sink::inquired`](crate::Sink::inquired) asks it to.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use weave_wire::proto::{self, finding};
use weave_wire::{PeerId, SegmentId, Time, ip_bytes, ip_from_bytes};

use crate::pace::Pace;

/// Bit of the capabilities: inquiries are answered.
pub(crate) const ANSWERS: u64 = 4;
/// How many inquiries of one peer are answered.
const ANSWERED: Pace = Pace::new(Duration::from_millis(100), 20);
/// What is not answered after this long never will be.
const KEPT_FOR: Duration = Duration::from_secs(10);
/// Inquiries under way, at most.
const MOST_ASKED: usize = 1_024;
/// Texts are cut to this many bytes.
const DETAIL_LEN: usize = 200;

/// A question of another peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inquiry {
    /// Who asks.
    pub from: PeerId,
    /// Its number of this question.
    pub id: u64,
    /// What it is about.
    pub about: About,
}

/// What a question is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// The host.
    Host,
    /// A station of it, too.
    Station(SegmentId, IpAddr),
    /// A station to test with, which it is to lend.
    StandIn,
}

/// What one look came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Finding {
    /// How it went.
    pub outcome: Outcome,
    /// What was found, in words. That of a peer is not to be trusted.
    pub detail: String,
}

/// How a look went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Outcome {
    /// Nobody looked.
    #[default]
    Untried,
    /// All is well.
    Fine,
    /// Something is wrong.
    Failed,
}

/// The answer to an [`Inquiry`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Unix milliseconds by the clock of whoever answers.
    pub wall_ms: u64,
    /// Handshakes from where the asker is that were answered lately and went no further.
    pub unfinished: u32,
    /// The bridge of the segment, with the port of the station.
    pub bridge: Finding,
    /// The station itself, or why none is lent.
    pub station: Finding,
    /// The station lent.
    pub stand_in: Option<IpAddr>,
}

/// Why a peer cannot be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InquiryError {
    /// There is no session with it.
    #[error("there is no session with that host")]
    NoSession,
    /// Its version answers no inquiries.
    #[error("that host runs an older weave, which cannot be asked")]
    TooOld,
    /// Too many questions are under way.
    #[error("too many questions are under way")]
    Busy,
}

/// The questions under way, both ways.
#[derive(Debug, Default)]
pub(crate) struct Inquiries {
    last: u64,
    asked: BTreeMap<u64, (PeerId, Time)>,
    /// What each peer may still ask.
    paces: BTreeMap<PeerId, Time>,
}

impl Inquiries {
    /// Begins a question to a peer: its number and what to send.
    pub(crate) fn ask(
        &mut self,
        peer: PeerId,
        about: About,
        now: Time,
    ) -> Result<(u64, proto::Inquiry), InquiryError> {
        self.asked.retain(|_, (_, at)| *at + KEPT_FOR > now);
        if self.asked.len() >= MOST_ASKED {
            return Err(InquiryError::Busy);
        }
        self.last += 1;
        self.asked.insert(self.last, (peer, now));
        let (segment, ip) = match about {
            About::Host | About::StandIn => (0, Vec::new()),
            About::Station(segment, ip) => (segment.0, ip_bytes(ip)),
        };
        let inquiry = proto::Inquiry {
            request_id: self.last,
            segment,
            ip,
            stand_in: about == About::StandIn,
        };
        Ok((self.last, inquiry))
    }

    /// A question that could not be sent.
    pub(crate) fn give_up(&mut self, id: u64) {
        self.asked.remove(&id);
    }

    /// A peer asks; nothing when it asks too often.
    pub(crate) fn admit(
        &mut self,
        from: PeerId,
        inquiry: &proto::Inquiry,
        now: Time,
    ) -> Option<Inquiry> {
        self.paces.retain(|_, bucket| *bucket > now);
        if !ANSWERED.take(self.paces.entry(from).or_insert(Time::ZERO), now) {
            return None;
        }
        let about = match (inquiry.stand_in, ip_from_bytes(&inquiry.ip)) {
            (true, _) => About::StandIn,
            (false, Ok(ip)) => About::Station(SegmentId(inquiry.segment), ip),
            (false, Err(_)) => About::Host,
        };
        Some(Inquiry {
            from,
            id: inquiry.request_id,
            about,
        })
    }

    /// A peer answers: to which question, if it was asked that.
    pub(crate) fn answered(
        &mut self,
        from: PeerId,
        reply: proto::InquiryReply,
    ) -> Option<(u64, Answer)> {
        let id = reply.request_id;
        self.asked.get(&id).filter(|(peer, _)| *peer == from)?;
        self.asked.remove(&id);
        let answer = Answer {
            wall_ms: reply.wall_ms,
            unfinished: reply.unfinished,
            bridge: Finding::read(reply.bridge),
            station: Finding::read(reply.station),
            stand_in: ip_from_bytes(&reply.stand_in).ok(),
        };
        Some((id, answer))
    }
}

impl Answer {
    /// As it is sent.
    pub(crate) fn to_reply(&self, id: u64) -> proto::InquiryReply {
        proto::InquiryReply {
            request_id: id,
            wall_ms: self.wall_ms,
            unfinished: self.unfinished,
            bridge: self.bridge.write(),
            station: self.station.write(),
            stand_in: self.stand_in.map(ip_bytes).unwrap_or_default(),
        }
    }
}

impl Finding {
    /// All is well.
    pub fn fine(detail: impl Into<String>) -> Self {
        let (outcome, detail) = (Outcome::Fine, detail.into());
        Self { outcome, detail }
    }

    /// Something is wrong.
    pub fn failed(detail: impl Into<String>) -> Self {
        let (outcome, detail) = (Outcome::Failed, detail.into());
        Self { outcome, detail }
    }

    fn read(finding: Option<proto::Finding>) -> Self {
        let Some(finding) = finding else {
            return Self::default();
        };
        let outcome = match finding.outcome() {
            finding::Outcome::Untried => Outcome::Untried,
            finding::Outcome::Fine => Outcome::Fine,
            finding::Outcome::Failed => Outcome::Failed,
        };
        let detail = cut(&finding.detail);
        Self { outcome, detail }
    }

    fn write(&self) -> Option<proto::Finding> {
        let outcome = match self.outcome {
            Outcome::Untried => return None,
            Outcome::Fine => finding::Outcome::Fine,
            Outcome::Failed => finding::Outcome::Failed,
        };
        Some(proto::Finding {
            outcome: outcome.into(),
            detail: cut(&self.detail),
        })
    }
}

/// A text on one line, and not too long.
fn cut(text: &str) -> String {
    let mut short = String::new();
    for char in text.chars().filter(|char| !char.is_control()) {
        if short.len() + char.len_utf8() > DETAIL_LEN {
            break;
        }
        short.push(char);
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: PeerId = PeerId([1; 32]);

    fn answer(detail: &str) -> Answer {
        Answer {
            wall_ms: 1,
            unfinished: 2,
            bridge: Finding::fine("weave"),
            station: Finding::failed(detail),
            stand_in: Some([10, 32, 0, 1].into()),
        }
    }

    #[test]
    fn an_answer_is_taken_once_and_from_the_peer_that_was_asked() {
        let mut inquiries = Inquiries::default();
        let now = Time::from_secs(1);
        let (id, sent) = inquiries.ask(PEER, About::Host, now).unwrap();
        assert_eq!(sent.request_id, id);
        let reply = answer("no answer").to_reply(id);
        let other = PeerId([2; 32]);
        assert_eq!(inquiries.answered(other, reply.clone()), None);
        assert_eq!(
            inquiries.answered(PEER, reply.clone()),
            Some((id, answer("no answer")))
        );
        assert_eq!(inquiries.answered(PEER, reply), None);
    }

    #[test]
    fn texts_are_cut_and_stay_on_one_line() {
        let reply = answer(&format!("a\n{}", "ü".repeat(300))).to_reply(1);
        let detail = reply.station.unwrap().detail;
        assert!(detail.len() <= DETAIL_LEN && detail.starts_with("aü"));
    }

    #[test]
    fn a_peer_that_asks_too_often_is_not_answered_and_keeps_no_other_from_it() {
        let (mut inquiries, inquiry) = (Inquiries::default(), proto::Inquiry::default());
        let mut admitted = |peer: u8, seconds| {
            let (peer, now) = (PeerId([peer; 32]), Time::from_secs(seconds));
            inquiries.admit(peer, &inquiry, now).is_some()
        };
        assert_eq!((0..100).filter(|_| admitted(1, 1)).count(), 20);
        assert!(admitted(2, 1));
        assert_eq!((0..100).filter(|_| admitted(1, 2)).count(), 10);
    }

    #[test]
    fn no_more_than_a_bounded_number_of_questions_is_under_way() {
        let mut inquiries = Inquiries::default();
        let now = Time::from_secs(1);
        for _ in 0..MOST_ASKED {
            inquiries.ask(PEER, About::Host, now).unwrap();
        }
        assert_eq!(
            inquiries.ask(PEER, About::Host, now),
            Err(InquiryError::Busy)
        );
        assert!(inquiries.ask(PEER, About::Host, now + KEPT_FOR).is_ok());
    }
}
