//! Probes of the path of each session in use, and their answers.

use std::cmp::Ordering;

use weave_wire::proto::PathProbeAck;
use weave_wire::proto::control_message::Body;
use weave_wire::{PeerId, Time};

use super::path_mtu::Probe;
use super::peer::Session;
use super::{SessionAction, Sessions, Slots, Transmit};

impl Sessions {
    /// Does what is due for the path of a session in use. One that the peer may not have yet is
    /// left alone: it could not answer.
    pub(super) fn check_path(&mut self, slot: u32, now: Time) {
        let Some(session) = self
            .sessions
            .get_mut(&slot)
            .filter(|session| session.standing.confirmed)
        else {
            return;
        };
        #[cfg(feature = "seeded-bugs")]
        if self.seeded_bug == Some(crate::seeded::SeededBug::PathMtu) {
            session.path.forget_check();
        }
        let before = session.path.max_datagram();
        let (sealed, wait) = (session.keys.data().sealed(), session.rtt.timeout());
        session
            .path
            .handle_timeout(sealed, wait, now, &mut self.rng);
        let probes: Vec<_> = std::iter::from_fn(|| session.path.poll_probe()).collect();
        self.actions.extend(change_of(session, before));
        for probe in probes {
            self.send_probe(slot, probe, now);
        }
    }

    /// The peer got a probe whole. As with a `Pong`, that may come in another session.
    pub(super) fn handle_probe_ack(&mut self, peer: PeerId, ack: &PathProbeAck, now: Time) {
        let slots: Vec<_> = self
            .peers
            .get(&peer)
            .into_iter()
            .flat_map(Slots::all)
            .collect();
        for slot in slots {
            let Some(session) = self.sessions.get_mut(&slot) else {
                continue;
            };
            let before = session.path.max_datagram();
            let Some(rtt) = session.path.handle_ack(ack.nonce, now) else {
                continue;
            };
            session.rtt.measured(rtt);
            self.actions.extend(change_of(session, before));
            self.schedule(slot, now);
        }
    }

    /// Answers a probe.
    pub(super) fn acknowledge(&mut self, peer: PeerId, nonce: u64, now: Time) {
        self.send(&peer, Body::PathProbeAck(PathProbeAck { nonce }), now);
    }

    fn send_probe(&mut self, slot: u32, probe: Probe, now: Time) {
        let Some(session) = self.sessions.get(&slot) else {
            return;
        };
        if let Some(datagram) = session.keys.seal_probe(probe, now) {
            self.transmits.push_back(Transmit {
                to: session.addr,
                datagram,
                dont_fragment: true,
            });
        }
    }
}

/// What follows if the path takes other datagrams than before.
fn change_of(session: &Session, before: u16) -> Option<SessionAction> {
    let (peer, size) = (session.peer(), session.path.max_datagram());
    match size.cmp(&before) {
        Ordering::Equal => return None,
        Ordering::Less => {
            tracing::info!(peer = %peer.name(), size, before, "the path takes only smaller datagrams");
        }
        Ordering::Greater => {
            tracing::debug!(peer = %peer.name(), size, before, "the path takes larger datagrams");
        }
    }
    Some(SessionAction::FibDirty)
}
