//! One allocator at a time, or two with their logs joined by hand.

use std::collections::BTreeMap;

use weave_wire::proto::control_message::Body;

use super::*;
use crate::ipam::span::Span;

mod found;
mod recover;
mod succession;

const RANGE: &str = "10.32.0.0/12";
const WALL: u64 = 1_700_000_000_000;

fn net(text: &str) -> Cidr {
    text.parse().expect("a network")
}

fn ip(text: &str) -> Ipv4Addr {
    text.parse().expect("an address")
}

const fn id(number: u8) -> PeerId {
    PeerId([number; 32])
}

/// An allocator with a disk and a log of its own.
struct Host {
    ipam: Ipam,
    disk: BTreeMap<Vec<u8>, Vec<u8>>,
    log: BTreeMap<String, entry::Body>,
    answers: BTreeMap<u64, Result<Ipv4Addr, IpamError>>,
    sent: Vec<(PeerId, Body)>,
    /// Tokens of writes that the disk holds back.
    unwritten: Vec<u64>,
    slow_disk: bool,
    now: Time,
}

impl Host {
    fn new(number: u8) -> Self {
        Self::with(number, RANGE, &BTreeMap::new())
    }

    fn with(number: u8, range: &str, disk: &BTreeMap<Vec<u8>, Vec<u8>>) -> Self {
        Self::started(number, range, disk, WALL)
    }

    fn started(number: u8, range: &str, disk: &BTreeMap<Vec<u8>, Vec<u8>>, wall_ms: u64) -> Self {
        let stored: Vec<_> = disk.clone().into_iter().collect();
        let config = IpamConfig {
            range: Some(net(range)),
            boot: 1 + u64::from(!disk.is_empty()),
            wall_ms,
            ..IpamConfig::default()
        };
        let mut host = Self {
            ipam: Ipam::new(id(number), config, &stored, Time::ZERO),
            disk: disk.clone(),
            log: BTreeMap::new(),
            answers: BTreeMap::new(),
            sent: Vec::new(),
            unwritten: Vec::new(),
            slow_disk: false,
            now: Time::ZERO,
        };
        host.drain();
        host
    }

    fn restarted(&self, number: u8) -> Self {
        self.restarted_after(number, 3600)
    }

    fn restarted_after(&self, number: u8, seconds: u64) -> Self {
        let wall_ms = self.ipam.wall_ms() + seconds * 1000;
        Self::started(number, RANGE, &self.disk, wall_ms)
    }

    fn drain(&mut self) {
        while let Some(action) = self.ipam.poll_action() {
            match action {
                IpamAction::SetEntry {
                    key,
                    body: Some(body),
                } => {
                    self.log.insert(key, body);
                }
                IpamAction::SetEntry { key, body: None } => {
                    self.log.remove(&key);
                }
                IpamAction::Send { to, body } => self.sent.push((to, body)),
                IpamAction::Persist { token, .. } if self.slow_disk => self.unwritten.push(token),
                IpamAction::Persist { token, writes } => {
                    for (key, value) in writes {
                        match value {
                            Some(value) => self.disk.insert(key, value),
                            None => self.disk.remove(&key),
                        };
                    }
                    self.ipam.handle_persisted(token, self.now);
                }
                IpamAction::Answer { ticket, result } => {
                    let before = self.answers.insert(ticket, result);
                    assert_eq!(before, None, "{ticket} answered twice");
                }
            }
        }
    }

    fn ask(&mut self, ticket: u64, subnet: &str, wanted: Option<&str>) {
        let owner = format!("c{ticket}");
        self.ipam
            .allocate(ticket, &owner, net(subnet), wanted.map(ip), self.now);
        self.drain();
    }

    fn allocate(&mut self, ticket: u64, subnet: &str, wanted: Option<&str>) -> Ipv4Addr {
        self.ask(ticket, subnet, wanted);
        self.answers[&ticket].clone().expect("an address")
    }

    fn refusal(&mut self, ticket: u64, subnet: &str, wanted: Option<&str>) -> String {
        self.ask(ticket, subnet, wanted);
        self.pass(5000);
        self.answers[&ticket]
            .clone()
            .expect_err("no address")
            .to_string()
    }

    fn release(&mut self, subnet: &str, address: Ipv4Addr) {
        self.ipam.release(net(subnet), address, self.now);
        self.drain();
    }

    /// Lets time pass, serving every timer.
    fn pass(&mut self, millis: u64) {
        let end = self.now + Duration::from_millis(millis);
        while let Some(at) = self.ipam.poll_timeout().filter(|at| *at <= end) {
            assert!(
                at > self.now || self.now == Time::ZERO,
                "called again at once"
            );
            self.now = self.now.max(at);
            self.ipam.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
        self.ipam.handle_timeout(end);
        self.drain();
    }

    fn reach(&mut self, peers: &[u8]) {
        let peers: BTreeSet<PeerId> = peers.iter().map(|number| id(*number)).collect();
        self.ipam
            .set_reachable(peers.iter().copied().collect(), self.now);
        self.ipam.set_live(&peers, self.now);
        self.drain();
    }

    /// Takes in all of another host's log.
    fn hear(&mut self, other: &Self) {
        for (slot, body) in other.log.values().enumerate() {
            self.ipam
                .apply(other.ipam.me, slot as u64, None, Some(body), self.now);
        }
        self.drain();
    }
}

/// Carries messages and log entries between two hosts until nothing is left to say.
fn converse(a: &mut Host, b: &mut Host) {
    for _ in 0..20 {
        tell(a, b);
        tell(b, a);
        if a.sent.is_empty() && b.sent.is_empty() {
            return;
        }
    }
}

fn tell(says: &mut Host, hears: &mut Host) {
    let from = says.ipam.me;
    hears.now = hears.now.max(says.now);
    hears.hear(says);
    for (to, body) in std::mem::take(&mut says.sent) {
        assert_eq!(to, hears.ipam.me);
        if let Body::FoundRequest(_) = body {
            hears.ipam.handle_found_request(from, hears.now);
        } else if let Body::SpaceRequest(message) = body {
            hears.ipam.handle_space_request(from, message, hears.now);
        } else if let Body::SpaceReply(message) = body {
            hears.ipam.handle_space_reply(from, message, hears.now);
        } else if let Body::LoanReturn(message) = body {
            hears.ipam.handle_loan_return(from, message, hears.now);
        } else {
            panic!("an allocator sends no {body:?}");
        }
        hears.drain();
    }
    hears.hear(says);
}

/// A founder and a follower that know each other.
fn pair() -> (Host, Host) {
    let (mut a, mut b) = (Host::new(1), Host::new(2));
    b.ipam.set_targets(1, 1, b.now);
    a.allocate(1, RANGE, None);
    a.reach(&[2]);
    b.reach(&[1]);
    converse(&mut a, &mut b);
    (a, b)
}

#[test]
fn a_lonely_host_founds_at_its_first_allocation() {
    let mut host = Host::new(1);
    assert_eq!(host.ipam.status().state, "idle");
    assert!(host.log.is_empty(), "nothing is founded at launch");
    assert_eq!(host.allocate(1, RANGE, None), ip("10.32.0.1"));
    assert_eq!(host.allocate(2, RANGE, None), ip("10.32.0.2"));
    assert!(host.log.contains_key("genesis"));
    let status = host.ipam.status();
    assert_eq!((status.state.as_str(), status.active_ips), ("ready", 2));
    assert_eq!((status.owned_ips, status.total_ips), (1 << 20, 1 << 20));
    assert!(host.sent.is_empty(), "own space needs no message");
}

#[test]
fn the_same_ticket_gets_the_same_address_and_the_same_owner_another() {
    let mut host = Host::new(1);
    let first = host.allocate(1, RANGE, None);
    host.answers.clear();
    assert_eq!(host.allocate(1, RANGE, None), first);
    host.ipam.allocate(2, "c1", net(RANGE), None, host.now);
    host.drain();
    let held: Vec<Ipv4Addr> = host.ipam.lookup("c1").iter().map(|held| held.ip).collect();
    assert_eq!(held, [ip("10.32.0.1"), ip("10.32.0.2")]);
}

#[test]
fn network_gateway_and_broadcast_are_given_to_nobody() {
    let mut host = Host::new(1);
    let given: Vec<Ipv4Addr> = (1..=5)
        .map(|t| host.allocate(t, "10.32.0.0/29", None))
        .collect();
    let expected: Vec<Ipv4Addr> = (1..=5).map(|n| Ipv4Addr::new(10, 32, 0, n)).collect();
    assert_eq!(given, expected);
    let full = host.refusal(6, "10.32.0.0/29", None);
    assert_eq!(
        full,
        "no free address left in subnet 10.32.0.0/29: remove containers or use a larger subnet"
    );
    for (ticket, wanted, role) in [
        (7, "10.32.0.0", "network address"),
        (8, "10.32.0.6", "gateway"),
        (9, "10.32.0.7", "broad"),
    ] {
        assert!(
            host.refusal(ticket, "10.32.0.0/29", Some(wanted))
                .contains(role)
        );
    }
}

#[test]
fn what_cannot_be_is_refused_with_the_reason() {
    let mut host = Host::new(1);
    assert!(
        host.refusal(1, "10.48.0.0/24", None)
            .contains("not within the range 10.32.0.0/12")
    );
    assert!(
        host.refusal(2, "10.0.0.0/8", None)
            .contains("not within the range")
    );
    assert!(host.refusal(3, "10.32.0.0/31", None).contains("too small"));
    assert!(
        host.refusal(4, "10.32.0.0/24", Some("10.33.0.1"))
            .contains("not in subnet")
    );
    host.allocate(5, "10.32.0.0/24", Some("10.32.0.9"));
    assert_eq!(
        host.refusal(6, "10.32.0.0/24", Some("10.32.0.9")),
        "address 10.32.0.9 is in use by c5"
    );
    let mut off = Ipam::new(id(1), IpamConfig::default(), &[], Time::ZERO);
    off.allocate(1, "c", net(RANGE), None, Time::ZERO);
    let answer = off.poll_action();
    assert!(matches!(
        answer,
        Some(IpamAction::Answer {
            result: Err(IpamError::Disabled),
            ..
        })
    ));
}

#[test]
fn a_freed_address_rests_unless_it_is_wanted_or_the_last() {
    let mut host = Host::new(1);
    let first = host.allocate(1, "10.32.0.0/29", None);
    host.release("10.32.0.0/29", first);
    assert_eq!(host.allocate(2, "10.32.0.0/29", None), ip("10.32.0.2"));
    assert_eq!(host.allocate(3, "10.32.0.0/29", Some("10.32.0.1")), first);
    host.release("10.32.0.0/29", first);
    for ticket in 4..=6 {
        host.allocate(ticket, "10.32.0.0/29", None);
    }
    assert_eq!(
        host.allocate(7, "10.32.0.0/29", None),
        first,
        "better than none"
    );
}

#[test]
fn addresses_of_a_network_inside_are_left_to_it() {
    let mut host = Host::new(1);
    let inner = proto::SubnetRecord {
        ip: vec![10, 32, 0, 0],
        prefix_len: 24,
        segment: 1,
        strict: false,
        ..Default::default()
    };
    host.ipam
        .apply(id(9), 3, None, Some(&entry::Body::Subnet(inner)), host.now);
    assert_eq!(host.allocate(1, RANGE, None), ip("10.32.1.0"));
    assert_eq!(host.allocate(2, "10.32.0.0/24", None), ip("10.32.0.1"));
    assert!(
        host.refusal(3, RANGE, Some("10.32.0.7"))
            .contains("network 10.32.0.0/24")
    );
    host.ipam.apply(id(9), 3, None, None, host.now);
    assert_eq!(host.allocate(4, RANGE, Some("10.32.0.7")), ip("10.32.0.7"));
}

#[test]
fn nothing_is_answered_or_announced_before_it_is_durable() {
    let mut host = Host::new(1);
    host.slow_disk = true;
    host.ask(1, RANGE, None);
    assert!(host.log.is_empty() && host.answers.is_empty());
    let token = host.unwritten.remove(0);
    host.ipam.handle_persisted(token, host.now);
    host.drain();
    assert!(host.log.contains_key("genesis"), "the founding is durable");
    assert!(host.answers.is_empty(), "the address is not");
    host.pass(5000);
    let refusal = host.answers[&1].clone().expect_err("too slow");
    assert!(refusal.to_string().contains("disk"), "{refusal}");
    host.slow_disk = false;
    let token = host.unwritten.remove(0);
    host.ipam.handle_persisted(token, host.now);
    host.drain();
    assert_eq!(
        host.ipam.status().active_ips,
        0,
        "the late address is given back"
    );
}

#[test]
fn a_disk_that_refuses_leaves_nothing_behind() {
    let mut host = Host::new(1);
    host.allocate(1, RANGE, None);
    host.slow_disk = true;
    host.ask(2, RANGE, None);
    let token = host.unwritten.remove(0);
    host.ipam
        .handle_persist_failed(token, "no space left on device", host.now);
    host.slow_disk = false;
    host.drain();
    let refusal = host.answers[&2].clone().expect_err("not stored");
    assert_eq!(
        refusal.to_string(),
        "the decision could not be stored: no space left on device"
    );
    assert_eq!(host.ipam.status().active_ips, 1);
    assert_eq!(host.allocate(3, RANGE, None), ip("10.32.0.2"));
}

#[test]
fn a_restart_alone_keeps_everything_and_goes_on() {
    let (mut a, mut b) = pair();
    b.ask(10, RANGE, None);
    converse(&mut a, &mut b);
    let borrowed_from = b.answers[&10].clone().expect("an address");
    let log = a.log.clone();
    let mut again = a.restarted(1);
    assert_eq!(again.log, log, "own entries are set again");
    assert_eq!(again.allocate(20, RANGE, None), ip("10.32.0.2"));
    let refusal = again.refusal(21, RANGE, Some(&borrowed_from.to_string()));
    assert!(refusal.contains("cannot be reached"), "{refusal}");
    let mut again = b.restarted(2);
    let next = again.allocate(22, RANGE, None);
    assert_eq!(again.ipam.lookup("c10")[0].ip, borrowed_from);
    assert_ne!(next, borrowed_from);
    assert!(
        again.sent.is_empty(),
        "its chunk is its own, also without peers"
    );
}

#[test]
fn a_follower_is_granted_chunks_that_double() {
    let (mut a, mut b) = pair();
    for ticket in 100..400 {
        b.ask(ticket, RANGE, None);
        converse(&mut a, &mut b);
        assert!(b.answers[&ticket].is_ok(), "{:?}", b.answers[&ticket]);
    }
    let serials: Vec<u32> = b.ipam.owned.keys().map(|(_, serial)| *serial).collect();
    assert!(serials.iter().all(|serial| *serial == 1));
    let sizes: Vec<u64> = b
        .ipam
        .owned
        .values()
        .map(|receipt| receipt.chunks.len())
        .collect();
    assert_eq!(
        sizes,
        [1, 1, 2, 4],
        "one chunk first, then as many as it has"
    );
}

#[test]
fn a_full_subnet_recovers_when_a_lent_address_comes_back() {
    let (mut a, mut b) = pair();
    let subnet = "10.32.9.0/29";
    for ticket in 10..15 {
        b.ask(ticket, subnet, None);
        converse(&mut a, &mut b);
        b.answers[&ticket].clone().expect("a lent address");
    }
    assert_eq!(b.ipam.status().borrowed_ips, 5);
    a.ask(20, subnet, None);
    assert!(
        matches!(a.answers[&20], Err(IpamError::Full { .. })),
        "{:?}",
        a.answers[&20]
    );
    a.pass(3000);
    b.pass(3000);
    let freed = b.answers[&12].clone().expect("a lent address");
    b.release(subnet, freed);
    converse(&mut a, &mut b);
    assert_eq!(a.allocate(21, subnet, None), freed);
    assert_eq!(a.ipam.pool.lent.len(), 4);
}

#[test]
fn a_wanted_address_of_a_peer_is_lent_or_its_holder_named() {
    let (mut a, mut b) = pair();
    a.allocate(2, RANGE, Some("10.40.0.5"));
    b.ask(10, RANGE, Some("10.40.0.6"));
    converse(&mut a, &mut b);
    assert_eq!(b.answers[&10], Ok(ip("10.40.0.6")));
    b.ask(11, RANGE, Some("10.40.0.5"));
    converse(&mut a, &mut b);
    let refusal = b.answers[&11].clone().expect_err("it is taken").to_string();
    let peer = id(1).name();
    assert_eq!(
        refusal,
        format!("address 10.40.0.5 is in use by c2 on peer {peer}")
    );
    b.reach(&[]);
    let refusal = b.refusal(12, RANGE, Some("10.40.0.7"));
    assert!(refusal.contains(&format!("belongs to peer {peer}, which cannot be reached")));
    assert!(
        a.refusal(13, RANGE, Some("10.40.0.6"))
            .contains("in use by a container of peer")
    );
}

#[test]
fn a_lent_address_that_is_wanted_again_at_once_is_kept() {
    let (mut a, mut b) = pair();
    b.ask(10, RANGE, Some("10.40.0.6"));
    converse(&mut a, &mut b);
    b.slow_disk = true;
    b.release(RANGE, ip("10.40.0.6"));
    b.ask(11, RANGE, Some("10.40.0.6"));
    b.slow_disk = false;
    let token = b.unwritten.remove(0);
    b.ipam.handle_persisted(token, b.now);
    b.drain();
    assert_eq!(b.answers[&11], Ok(ip("10.40.0.6")));
    assert!(
        !b.sent
            .iter()
            .any(|(_, body)| matches!(body, Body::LoanReturn(_)))
    );
}

#[test]
fn an_old_message_does_not_end_a_new_loan() {
    let (mut a, mut b) = pair();
    b.ask(10, RANGE, Some("10.40.0.6"));
    converse(&mut a, &mut b);
    let genesis = a.ipam.genesis_id().expect("founded").to_vec();
    let message = proto::LoanReturn {
        genesis,
        address: vec![10, 40, 0, 6],
    };
    a.ipam.handle_loan_return(id(2), message.clone(), a.now);
    a.drain();
    assert_eq!(a.ipam.pool.lent.len(), 1, "the loan is too young");
    a.pass(2500);
    a.ipam.handle_loan_return(id(3), message.clone(), a.now);
    a.drain();
    assert_eq!(a.ipam.pool.lent.len(), 1, "only the borrower ends it");
    a.ipam.handle_loan_return(id(2), message, a.now);
    a.drain();
    assert_eq!(a.ipam.pool.lent.len(), 0);
}

#[test]
fn a_loan_in_use_is_not_given_back_because_the_log_still_shows_an_earlier_one() {
    let (mut a, mut b) = pair();
    b.ask(10, RANGE, Some("10.40.0.6"));
    converse(&mut a, &mut b);
    let old = a.log["loan/10.40.0.6"].clone();
    a.pass(3000);
    b.pass(3000);
    b.release(RANGE, ip("10.40.0.6"));
    tell(&mut b, &mut a);
    assert!(
        !a.log.contains_key("loan/10.40.0.6"),
        "the lender has it back"
    );
    // the borrower hears of the end, but then the new loan's reply comes before its record
    b.ipam.apply(id(1), 1, Some(&old), None, b.now);
    b.drain();
    b.ask(11, RANGE, Some("10.40.0.6"));
    for (_, body) in std::mem::take(&mut b.sent) {
        if let Body::SpaceRequest(request) = body {
            a.ipam.handle_space_request(id(2), request, a.now);
            a.drain();
        }
    }
    b.ipam.apply(id(1), 1, None, Some(&old), b.now);
    for (_, body) in std::mem::take(&mut a.sent) {
        if let Body::SpaceReply(reply) = body {
            b.ipam.handle_space_reply(id(1), reply, b.now);
            b.drain();
        }
    }
    assert_eq!(b.answers[&11], Ok(ip("10.40.0.6")));
    b.pass(5000);
    let returned = |(_, body): &(PeerId, Body)| matches!(body, Body::LoanReturn(_));
    assert!(!b.sent.iter().any(returned));
}

#[test]
fn a_loan_is_not_taken_when_the_return_of_an_earlier_one_may_end_it() {
    let (mut a, mut b) = pair();
    b.ask(10, RANGE, Some("10.40.0.6"));
    converse(&mut a, &mut b);
    a.pass(3000);
    b.pass(3000);
    b.release(RANGE, ip("10.40.0.6"));
    b.ask(11, RANGE, Some("10.40.0.6"));
    b.pass(1200);
    let last_request = |sent: &[(PeerId, Body)]| {
        let ids = sent.iter().filter_map(|(_, body)| {
            if let Body::SpaceRequest(request) = body {
                Some(request.request_id)
            } else {
                None
            }
        });
        ids.max().expect("a request")
    };
    let request_id = last_request(&b.sent);
    let returned = |(_, body): &&(PeerId, Body)| matches!(body, Body::LoanReturn(_));
    assert_eq!(
        b.sent.iter().filter(returned).count(),
        2,
        "repeated since the request"
    );
    let reply = proto::SpaceReply {
        request_id,
        outcome: proto::space_reply::Outcome::Granted.into(),
        address: vec![10, 40, 0, 6],
        ..proto::SpaceReply::default()
    };
    b.ipam.handle_space_reply(id(1), reply, b.now);
    b.drain();
    assert!(!b.answers.contains_key(&11), "{:?}", b.answers[&11]);
}

#[test]
fn a_grant_by_somebody_who_owns_nothing_is_ignored_and_counted() {
    let (mut a, b) = pair();
    let genesis = a.ipam.genesis_id().expect("founded");
    let grant = Grant {
        serial: 1,
        taken_from: None,
        grantor: id(2),
        grantee: id(3),
        chunks: Span { first: 0, last: 99 },
        number: 1,
        taken_at: 0,
    };
    let grant = store::grant_record(genesis, &grant, 5);
    a.ipam
        .apply(id(2), 40, None, Some(&entry::Body::Grant(grant)), a.now);
    a.drain();
    assert_eq!(a.ipam.void_grants, 1);
    assert_eq!(a.ipam.status().owned_ips, 1 << 20);
    assert_eq!(b.ipam.status().owned_ips, 0);
}

#[test]
fn a_damaged_store_gives_out_nothing() {
    let mut host = Host::new(1);
    host.allocate(1, RANGE, None);
    let key = host
        .disk
        .keys()
        .find(|key| key.starts_with(b"ipam/held"))
        .expect("stored")
        .clone();
    host.disk.insert(key, vec![9, 9]);
    let mut again = host.restarted(1);
    assert!(again.refusal(2, RANGE, None).contains("weave reset"));
}

#[test]
fn requests_beyond_all_measure_are_refused() {
    let mut host = Host::new(2);
    host.ipam.set_targets(1, 1, host.now);
    for ticket in 0..=MAX_PENDING as u64 {
        host.ask(ticket, RANGE, None);
    }
    assert_eq!(host.answers[&(MAX_PENDING as u64)], Err(IpamError::TooMany));
    host.pass(5000);
    assert_eq!(
        host.answers.len(),
        MAX_PENDING + 1,
        "and the others answered in time"
    );
}
