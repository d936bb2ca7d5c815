//! Peers that this one can have no session with, as their records say: one side requires the
//! post-quantum key exchange, the other has it off. They are neither dialled nor relayed to, and
//! the status says why.

use weave_wire::PeerId;

use super::Node;
use crate::membership;
use crate::post_quantum::PostQuantum;
use crate::session::{ConnectionState, ConnectionStatus, Retry, attempt_status};

impl Node {
    /// Whether there can be a session with a peer, as far as is known.
    pub(super) fn fits(&self, peer: &PeerId) -> bool {
        let theirs = self.announced(peer);
        theirs.is_none_or(|theirs| self.config.pq.with(theirs).is_some())
    }

    fn announced(&self, peer: &PeerId) -> Option<PostQuantum> {
        let record = self.logs.peer_record(peer)?;
        Some(PostQuantum::announced(record.capabilities))
    }

    /// Says of every live peer that does not fit why there is no connection.
    pub(super) fn name_unfit(&self, connections: &mut Vec<ConnectionStatus>) {
        let unfit = self.live.iter().filter(|peer| !self.fits(peer));
        for peer in unfit.filter(|peer| **peer != self.me && !self.reached.contains(peer)) {
            let Some(theirs) = self.announced(peer) else {
                continue;
            };
            let info = format!("refused: {}", theirs.refusal());
            let addresses = membership::addresses(&self.logs, peer);
            let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            let mut lines = connections.iter_mut();
            if let Some(line) = lines.find(|line| addresses.contains(&line.address)) {
                line.info = info;
                continue;
            }
            let first = addresses.into_iter().next();
            connections.push(attempt_status(
                first.unwrap_or_else(|| peer.name().to_string()),
                ConnectionState::Failed,
                info,
                Some(Retry::Never),
                Some(*peer),
            ));
        }
    }
}
