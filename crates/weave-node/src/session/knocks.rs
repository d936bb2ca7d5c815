//! Who began handshakes with us lately, and what became of them: what tells on which side a
//! network drops datagrams, and who has another password.
//!
//! For people only. A source is what one party is assumed to hold. Bounded: when too many knock,
//! the one that was quiet for longest is forgotten.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use weave_wire::{Circuit, Time};

use crate::pace::source_of;

/// Sources that are remembered, at most.
const SOURCES: usize = 256;
/// For how long.
const LATELY: Duration = Duration::from_secs(60);

/// Handshakes that one source began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Knock {
    /// Where they came from: an IPv4 address, or the first of an IPv6 /64.
    pub source: IpAddr,
    /// How many of them were answered and went no further, since one last did.
    pub unfinished: u32,
    /// Whether the last one that did was refused for its password.
    pub wrong_password: bool,
}

#[derive(Debug, Clone, Copy)]
struct Record {
    unfinished: u32,
    wrong_password: bool,
    last: Time,
}

/// The knocks of the last minute.
#[derive(Debug, Default)]
pub(super) struct Knocks(BTreeMap<IpAddr, Record>);

impl Knocks {
    /// A first message was answered.
    pub(super) fn answered(&mut self, from: SocketAddr, now: Time) {
        if let Some(record) = self.record(from, now) {
            record.unfinished = record.unfinished.saturating_add(1);
        }
    }

    /// A third message came: our answers get there.
    pub(super) fn finished(&mut self, from: SocketAddr, now: Time) {
        if let Some(record) = self.record(from, now) {
            (record.unfinished, record.wrong_password) = (0, false);
        }
    }

    /// The third message that came proves another password.
    pub(super) fn refused(&mut self, from: SocketAddr, now: Time) {
        if let Some(record) = self.record(from, now) {
            (record.unfinished, record.wrong_password) = (0, true);
        }
    }

    /// Those of the last minute, by source.
    pub(super) fn lately(&self, now: Time) -> impl Iterator<Item = Knock> {
        let recent = self.0.iter();
        let recent = recent.filter(move |(_, record)| record.last + LATELY > now);
        recent.map(|(source, record)| Knock {
            source: *source,
            unfinished: record.unfinished,
            wrong_password: record.wrong_password,
        })
    }

    /// What is known of a source; a circuit is none.
    fn record(&mut self, from: SocketAddr, now: Time) -> Option<&mut Record> {
        if Circuit::of(&from).is_some() {
            return None;
        }
        let source = source_of(from);
        if !self.0.contains_key(&source) && self.0.len() >= SOURCES {
            let quiet = self.0.iter().min_by_key(|(_, record)| record.last);
            let quiet = quiet.map(|(source, _)| *source);
            quiet.map(|source| self.0.remove(&source));
        }
        let record = self.0.entry(source).or_insert(Record {
            unfinished: 0,
            wrong_password: false,
            last: now,
        });
        record.last = now;
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 6783))
    }

    #[test]
    fn handshakes_that_go_no_further_are_counted_until_one_does() {
        let (mut knocks, now) = (Knocks::default(), Time::from_secs(1));
        let known = |knocks: &Knocks, now| {
            let knock = knocks.lately(now).next();
            knock.map(|knock| (knock.unfinished, knock.wrong_password))
        };
        knocks.answered(at(1), now);
        knocks.answered(at(1), now);
        assert_eq!(known(&knocks, now), Some((2, false)));
        knocks.refused(at(1), now);
        assert_eq!(known(&knocks, now), Some((0, true)));
        knocks.answered(at(1), now);
        assert_eq!(known(&knocks, now), Some((1, true)));
        knocks.finished(at(1), now);
        assert_eq!(known(&knocks, now), Some((0, false)));
        assert_eq!(known(&knocks, now + LATELY), None);
    }

    #[test]
    fn when_too_many_knock_the_quietest_is_forgotten() {
        let mut knocks = Knocks::default();
        for number in 0..1_000_u32 {
            let ip = std::net::Ipv4Addr::from_bits(number);
            knocks.answered((ip, 1).into(), Time::from_millis(number.into()));
        }
        let now = Time::from_secs(1);
        assert_eq!(knocks.lately(now).count(), SOURCES);
        let last = std::net::Ipv4Addr::from_bits(999);
        assert!(knocks.lately(now).any(|knock| knock.source == last));
    }
}
