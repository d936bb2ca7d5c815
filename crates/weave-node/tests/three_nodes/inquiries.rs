//! What peers ask each other for their operators.

use weave_node::{About, Answer, Finding, Inquiry, InquiryError};
use weave_wire::SegmentId;

use crate::{Disk, HOST, Mesh, SECOND, addr_of};

impl Mesh {
    /// One host asks another, which answers what it is told to.
    fn ask(&mut self, host: usize, to: usize, about: About, found: Answer) -> (Inquiry, Answer) {
        let peer = self.hosts[to].node.id();
        let ticket = self.with(host, |node, now| node.inquire(peer, about, now));
        let ticket = ticket.expect("there is a session");
        self.run(SECOND);
        let inquiry = self.hosts[to].out.inquired.pop().expect("it was asked");
        self.with(to, |node, now| node.answer(&inquiry, found, now));
        self.run(SECOND);
        let answered = self.hosts[host].out.answered.pop();
        let (answered, answer) = answered.expect("it was answered");
        assert_eq!(answered, ticket);
        (inquiry, answer)
    }
}

#[test]
fn what_a_peer_finds_comes_back_to_whoever_asked() {
    let mut mesh = Mesh::connected();
    let found = Answer {
        wall_ms: 17,
        unfinished: 0,
        bridge: Finding::fine("weave"),
        station: Finding::failed("no answer to ARP"),
        stand_in: Some(HOST),
    };
    let about = About::Station(SegmentId(7), HOST);
    let (inquiry, answer) = mesh.ask(0, 1, about, found.clone());
    assert_eq!(inquiry.from, mesh.hosts[0].node.id());
    assert_eq!(inquiry.about, about);
    assert_eq!(answer, found);
}

#[test]
fn a_peer_is_expected_where_its_record_says_that_it_is() {
    let mut mesh = Mesh::connected();
    mesh.run(10 * SECOND);
    let peer = mesh.hosts[2].node.id();
    let node = &mesh.hosts[0].node;
    assert_eq!(node.expected_at(addr_of(2)), Some(peer));
    assert_eq!(node.expected_at(addr_of(0)), None, "that is itself");
    assert_eq!(node.expected_at(addr_of(9)), None);
}

#[test]
fn who_has_no_session_cannot_be_asked() {
    let mut mesh = Mesh::new([Disk::Works; 3]);
    let peer = mesh.hosts[1].node.id();
    let asked = mesh.with(0, |node, now| node.inquire(peer, About::Host, now));
    assert_eq!(asked, Err(InquiryError::NoSession));
}

#[test]
fn where_one_direction_is_cut_both_ends_can_tell_which() {
    let mut mesh = Mesh::connected();
    mesh.cut.insert((addr_of(1), addr_of(2)));
    mesh.run(120 * SECOND);
    let unfinished = |mesh: &Mesh, host: usize, from: u8| {
        let knocks = mesh.hosts[host].node.knocks(mesh.now);
        let knock = knocks
            .into_iter()
            .find(|knock| knock.source == addr_of(from).ip());
        knock.map_or(0, |knock| knock.unfinished)
    };
    assert!(unfinished(&mesh, 1, 2) >= 2, "its answers get lost");
    assert_eq!(unfinished(&mesh, 2, 1), 0, "it hears nothing");
    let (_, answer) = mesh.ask(2, 1, About::Host, Answer::default());
    assert!(answer.unfinished >= 2, "{answer:?}");
    let (_, answer) = mesh.ask(1, 2, About::Host, Answer::default());
    assert_eq!(answer.unfinished, 0);
    mesh.cut.clear();
    mesh.run(120 * SECOND);
    assert_eq!(unfinished(&mesh, 1, 2), 0);
}
