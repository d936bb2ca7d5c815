//! Finds upstream servers that ask us in turn, whoever stands between.
//!
//! A server is asked for a name that nobody but us knows. If that question comes in here, the
//! server is no use: what it does not know itself it asks of us. It is left out, and tried again
//! now and then. Our own listen addresses are left out before, see [`super::upstream`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hickory_proto::rr::Name;

/// First label of such a name, before its number.
const PREFIX: &str = "weave-loop-";
/// Reserved for such use (RFC 6761 section 6.2): most servers deny it without asking anybody.
const DOMAIN: &str = "test";
/// A server that failed, or is left out, is tried again no more often than this.
const AGAIN: Duration = Duration::from_secs(30);

/// What is known of the servers.
#[derive(Debug, Default)]
pub(super) struct Loops(BTreeMap<SocketAddr, Standing>);

#[derive(Debug)]
struct Standing {
    /// Number in the name that it was asked for last.
    number: u64,
    asked: Instant,
    came_back: bool,
    /// It has failed since.
    is_suspect: bool,
    is_loop: bool,
}

impl Loops {
    /// Whether this server asks us.
    pub(super) fn contains(&self, server: &SocketAddr) -> bool {
        self.0.get(server).is_some_and(|standing| standing.is_loop)
    }

    /// The numbers to try servers with now: those never tried, and those in doubt. Others than
    /// `servers` are forgotten.
    pub(super) fn due(
        &mut self,
        servers: &[SocketAddr],
        now: Instant,
        mut random: impl FnMut() -> Option<u64>,
    ) -> Vec<(SocketAddr, u64)> {
        self.0.retain(|server, _| servers.contains(server));
        let mut due = Vec::new();
        for server in servers {
            let known = self.0.get(server);
            if known.is_some_and(|it| {
                !(it.is_loop || it.is_suspect) || now.duration_since(it.asked) < AGAIN
            }) {
                continue;
            }
            let is_loop = known.is_some_and(|it| it.is_loop);
            let Some(number) = random() else { continue };
            let standing = Standing {
                number,
                asked: now,
                came_back: false,
                is_suspect: false,
                is_loop,
            };
            self.0.insert(*server, standing);
            due.push((*server, number));
        }
        due
    }

    /// A server failed: it may be waiting for us.
    pub(super) fn suspect(&mut self, server: &SocketAddr) {
        if let Some(standing) = self.0.get_mut(server) {
            standing.is_suspect = true;
        }
    }

    /// A question came in; whether it is one of those that we ask. If so, the server that was
    /// asked is left out from now on.
    pub(super) fn came_back(&mut self, name: &Name) -> bool {
        let Some(number) = number_in(name) else {
            return false;
        };
        let found = self.0.iter_mut().find(|(_, it)| it.number == number);
        let Some((server, standing)) = found else {
            return false;
        };
        standing.came_back = true;
        if !standing.is_loop {
            standing.is_loop = true;
            tracing::warn!(%server, "this DNS server of the host asks us what it does not know: not asking it");
        }
        true
    }

    /// The question with this number was answered, or was not, and did not come in here.
    pub(super) fn ended(&mut self, server: &SocketAddr, number: u64) {
        if let Some(standing) = self.0.get_mut(server)
            && standing.number == number
            && !standing.came_back
            && std::mem::take(&mut standing.is_loop)
        {
            tracing::info!(%server, "this DNS server does not ask us any more");
        }
    }
}

/// The name with this number.
pub(super) fn name_with(number: u64) -> Option<Name> {
    Name::from_ascii(format!("{PREFIX}{number:016x}.{DOMAIN}.")).ok()
}

fn number_in(name: &Name) -> Option<u64> {
    let mut labels = name.iter();
    let (first, domain) = (labels.next()?, labels.next()?);
    if labels.next().is_some() || !domain.eq_ignore_ascii_case(DOMAIN.as_bytes()) {
        return None;
    }
    let (prefix, number) = first.split_at_checked(PREFIX.len())?;
    let is_number = number.len() == 16 && number.iter().all(u8::is_ascii_hexdigit);
    if !prefix.eq_ignore_ascii_case(PREFIX.as_bytes()) || !is_number {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(number).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn server(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 53))
    }

    fn counting() -> impl FnMut() -> Option<u64> {
        let mut number = 0xabc0;
        move || {
            number += 1;
            Some(number)
        }
    }

    #[test]
    fn a_server_is_tried_once_and_again_when_it_fails_but_not_often() {
        let (mut loops, mut random) = (Loops::default(), counting());
        let start = Instant::now();
        let servers = [server(1), server(2)];
        assert_eq!(loops.due(&servers, start, &mut random).len(), 2);
        let later = start + AGAIN;
        assert!(loops.due(&servers, later, &mut random).is_empty());
        loops.suspect(&server(2));
        let soon = start + AGAIN / 2;
        assert!(loops.due(&servers, soon, &mut random).is_empty());
        let due = loops.due(&servers, later, &mut random);
        assert_eq!(due, [(server(2), 0xabc3)]);
        assert!(loops.due(&servers, later + AGAIN, &mut random).is_empty());
    }

    #[test]
    fn a_server_whose_question_comes_back_is_left_out_until_it_does_not() {
        let (mut loops, mut random) = (Loops::default(), counting());
        let start = Instant::now();
        let servers = [server(1), server(2)];
        let due = loops.due(&servers, start, &mut random);
        let shouted = name_with(due[0].1).unwrap().to_ascii().to_uppercase();
        assert!(loops.came_back(&Name::from_ascii(shouted).unwrap()));
        loops.ended(&server(1), due[0].1);
        loops.ended(&server(2), due[1].1);
        assert!(loops.contains(&server(1)) && !loops.contains(&server(2)));
        let again = loops.due(&servers, start + AGAIN, &mut random);
        assert_eq!(again.len(), 1, "tried again");
        assert!(loops.contains(&server(1)), "and left out meanwhile");
        loops.ended(&server(1), due[0].1);
        assert!(
            loops.contains(&server(1)),
            "the former question says nothing"
        );
        loops.ended(&server(1), again[0].1);
        assert!(!loops.contains(&server(1)));
    }

    #[test]
    fn other_names_are_not_ours() {
        let (mut loops, mut random) = (Loops::default(), counting());
        loops.due(&[server(1)], Instant::now(), &mut random);
        for name in [
            "weave-loop-000000000000abc2.test.",
            "weave-loop-000000000000abc1.example.",
            "weave-loop-abc1.test.",
            "a.weave-loop-000000000000abc1.test.",
            "test.",
            ".",
        ] {
            assert!(!loops.came_back(&Name::from_ascii(name).unwrap()), "{name}");
        }
        assert!(loops.came_back(&Name::from_ascii("weave-loop-000000000000abc1.test.").unwrap()));
    }

    proptest! {
        #[test]
        fn any_name_has_a_number_or_none(labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..4), number: u64) {
            if let Ok(name) = Name::from_labels(labels.iter().map(Vec::as_slice)) {
                let _ = number_in(&name);
            }
            prop_assert_eq!(number_in(&name_with(number).unwrap()), Some(number));
        }
    }
}
