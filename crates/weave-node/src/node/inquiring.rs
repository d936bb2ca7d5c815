//! What this node and its peers ask each other for their operators.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use weave_wire::proto::control_message::Body;
use weave_wire::proto::{self};
use weave_wire::{Mac, PeerId, SegmentId, Time, from_proto_addr};

use super::{Event, Node};
use crate::inquiries::{ANSWERS, About, Answer, Inquiry, InquiryError};
use crate::pace::source_of;
use crate::session::Knock;

/// A station that some peer announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Station {
    /// Its segment.
    pub segment: SegmentId,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Who announces it.
    pub peer: PeerId,
}

impl Node {
    /// Asks a peer how it is, and how a station of its own is. The answer with the ticket
    /// returned comes soon, or never.
    ///
    /// # Errors
    /// When it cannot be asked; nothing was sent.
    pub fn inquire(&mut self, peer: PeerId, about: About, now: Time) -> Result<u64, InquiryError> {
        let record = self.logs.peer_record(&peer);
        if record.is_some_and(|record| record.capabilities & ANSWERS == 0) {
            return Err(InquiryError::TooOld);
        }
        let (ticket, inquiry) = self.inquiries.ask(peer, about, now)?;
        if !self.sessions.send(&peer, Body::Inquiry(inquiry), now) {
            self.inquiries.give_up(ticket);
            return Err(InquiryError::NoSession);
        }
        Ok(ticket)
    }

    /// Answers an inquiry with what was found here.
    pub fn answer(&mut self, inquiry: &Inquiry, mut found: Answer, now: Time) {
        found.unfinished = self.unfinished_of(&inquiry.from, now);
        let reply = Body::InquiryReply(found.to_reply(inquiry.id));
        self.sessions.send(&inquiry.from, reply, now);
        self.route(now);
    }

    /// The stations that have this address, one for each segment; of live peers.
    pub fn stations(&self, ip: IpAddr) -> Vec<Station> {
        let all = self.endpoints.ips();
        let there = all.filter(|(_, held, _, _)| *held == ip);
        there
            .map(|(segment, _, mac, peer)| Station { segment, mac, peer })
            .collect()
    }

    /// Number of announced addresses in a subnet.
    pub fn announced_in(&self, subnet: weave_wire::Cidr) -> u64 {
        let all = self.endpoints.ips().map(|(_, ip, _, _)| ip);
        let inside: BTreeSet<_> = all.filter(|ip| subnet.contains(*ip)).collect();
        u64::try_from(inside.len()).unwrap_or(u64::MAX)
    }

    /// Who began handshakes with this host in the last minute.
    pub fn knocks(&self, now: Time) -> Vec<Knock> {
        self.sessions.knocks(now).collect()
    }

    /// The live peer whose record names this address: who is expected there, proven or not.
    pub fn expected_at(&self, addr: SocketAddr) -> Option<PeerId> {
        let addr = weave_wire::proto_addr(addr);
        let mut others = self.live.iter().filter(|peer| **peer != self.me);
        let is_there = |peer: &&PeerId| {
            let record = self.logs.peer_record(peer);
            record.is_some_and(|record| record.addresses.contains(&addr))
        };
        others.find(is_there).copied()
    }

    pub(super) fn handle_inquiry(&mut self, from: PeerId, inquiry: &proto::Inquiry, now: Time) {
        if let Some(inquiry) = self.inquiries.admit(from, inquiry, now) {
            self.events.push_back(Event::Inquired(inquiry));
        }
    }

    pub(super) fn handle_inquiry_reply(&mut self, from: PeerId, reply: proto::InquiryReply) {
        if let Some((ticket, answer)) = self.inquiries.answered(from, reply) {
            self.events.push_back(Event::Answered { ticket, answer });
        }
    }

    /// Handshakes from the addresses of a peer that went no further.
    fn unfinished_of(&self, peer: &PeerId, now: Time) -> u32 {
        let record = self.logs.peer_record(peer);
        let addresses = record.into_iter().flat_map(|record| &record.addresses);
        let sources: BTreeSet<_> = addresses
            .filter_map(|addr| from_proto_addr(addr).ok())
            .map(|addr: SocketAddr| source_of(addr))
            .collect();
        let knocks = self.sessions.knocks(now);
        knocks
            .filter(|knock| sources.contains(&knock.source))
            .map(|knock| knock.unfinished)
            .sum()
    }
}
