//! Frames between containers, through the whole data path.

use weave_node::Transmit;
use weave_wire::{Mac, SegmentId};

use crate::containers::Container;
use crate::frames::{arp_request, ping, read_arp_reply, read_ping};
use crate::host::Outgoing;
use crate::trace::Step;
use crate::world::World;

/// Padding of the longest packets that containers send.
pub(crate) const LONGEST_PADDING: usize = 1304;

/// Frames that wait for sessions of one host, at most.
const PARKED: usize = 256;

impl World {
    /// Sends one frame from a container of this host to another container; its number.
    pub(crate) fn ping(&mut self, index: usize, from: &Container, to: &Container) -> u64 {
        let padding = self.chance.index(LONGEST_PADDING);
        self.ping_padded(index, from, to, padding)
    }

    /// Sends one frame of this length.
    pub(crate) fn ping_padded(
        &mut self,
        index: usize,
        from: &Container,
        to: &Container,
        padding: usize,
    ) -> u64 {
        let number = self.oracle.next_frame();
        self.note_sender(index, number);
        self.counters.frames += 1;
        let frame = ping(from.station(), to.station(), number, padding);
        self.forward(index, from.segment(), &frame);
        number
    }

    /// Asks for the MAC of an address; what the router itself answers.
    pub(crate) fn arp(&mut self, index: usize, from: &Container, to: &Container) -> Option<Mac> {
        let frame = arp_request(from.station(), to.ip);
        let replies = self.forward(index, from.segment(), &frame);
        let told = replies.iter().filter_map(|reply| read_arp_reply(reply));
        told.filter(|(_, ip)| *ip == to.ip)
            .map(|(mac, _)| mac)
            .next()
    }

    /// A frame arrived at a host's bridge.
    pub(crate) fn delivered(&mut self, index: usize, frame: &[u8]) {
        self.trace.note(self.now, Step::Frame, index, frame);
        let Some((number, mac)) = read_ping(frame) else {
            return;
        };
        let Some(host) = self.hosts.get(index) else {
            return;
        };
        let is_here = host.containers.values().any(|c| c.station().mac == mac);
        self.counters.delivered += u64::from(is_here);
        self.oracle.delivered(number, index, is_here);
        self.check_sender(index, number);
    }

    /// Sends what waited for a session, now that there may be one.
    pub(crate) fn send_parked(&mut self, index: usize) {
        let host = self.hosts.get_mut(index);
        let Some(router) = host.and_then(|host| host.router.as_mut()) else {
            return;
        };
        for (segment, frame) in std::mem::take(&mut router.parked) {
            self.forward(index, segment, &frame);
        }
    }

    fn forward(&mut self, index: usize, segment: SegmentId, frame: &[u8]) -> Vec<Vec<u8>> {
        let now = self.now;
        let Some(router) = self
            .hosts
            .get_mut(index)
            .and_then(|host| host.router.as_mut())
        else {
            return Vec::new();
        };
        let mut outgoing = Outgoing::default();
        router.forwarder.forward_frame(
            &router.fib,
            segment,
            frame,
            router.clock.shows(now),
            &mut outgoing,
        );
        let room = PARKED.saturating_sub(router.parked.len());
        let parked = outgoing.parked.into_iter().take(room);
        router.parked.extend(parked.map(|frame| (segment, frame)));
        for peer in outgoing.wanted {
            self.with_node(index, |node, now| node.handle_wanted(peer, now));
        }
        for segment in outgoing.wanted_segments {
            self.with_node(index, |node, now| node.handle_segment_wanted(segment, now));
        }
        for (to, datagram) in outgoing.datagrams {
            let transmit = Transmit {
                to,
                datagram,
                dont_fragment: false,
            };
            self.transmit(index, transmit);
        }
        outgoing.replies
    }
}
