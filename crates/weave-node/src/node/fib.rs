//! Builds the forwarding table from sessions, endpoints and what was learnt.

use std::collections::BTreeMap;

use weave_wire::PeerId;

use super::Node;
use crate::forward::{Fib, FibSegment, Owner};

impl Node {
    /// The forwarding table as of now.
    pub(super) fn build_fib(&self) -> Fib {
        let mut view = self.sessions.fib_view();
        view.sessions.retain_mut(|session| {
            let way = self.way_to(session.addr);
            way.map(|(addr, hops)| (session.addr, session.hops) = (addr, hops))
                .is_some()
        });
        let sessions: BTreeMap<PeerId, usize> = view
            .sessions
            .iter()
            .enumerate()
            .map(|(index, session)| (session.peer, index))
            .collect();
        let owner = |peer: PeerId| {
            if peer == self.me {
                Owner::Local
            } else {
                Owner::Remote {
                    peer,
                    session: sessions.get(&peer).copied(),
                }
            }
        };
        let segments = self.endpoints.segments().iter().map(|(id, segment)| {
            let ours = usize::from(segment.members.contains(&self.me));
            let with_session = sessions.iter();
            let members: Vec<_> = with_session
                .filter(|(peer, _)| segment.members.contains(*peer))
                .map(|(_, index)| *index)
                .collect();
            let segment = FibSegment {
                strict: segment.strict,
                local: segment.local,
                lacks_members: members.len() + ours < segment.members.len(),
                members,
            };
            (*id, segment)
        });
        let learned = self.learned.iter().filter_map(|(segment, mac, peer)| {
            sessions
                .get(&peer)
                .map(|session| ((segment, mac), *session))
        });
        Fib {
            segments: segments.collect(),
            macs: self
                .endpoints
                .macs()
                .map(|(segment, mac, peer)| ((segment, mac), owner(peer)))
                .collect(),
            ips: self
                .endpoints
                .ips()
                .map(|(segment, ip, mac, peer)| ((segment, ip), (mac, owner(peer))))
                .collect(),
            learned: learned.collect(),
            ignored_ips: self.config.anycast.clone(),
            known: view.known,
            open: view
                .open
                .into_iter()
                .map(|lane| (lane.receiver.as_u32(), lane))
                .collect(),
            circuits: self.fib_circuits().collect(),
            sessions: view.sessions,
        }
    }
}
