//! Hosts with and without the post-quantum key exchange in one mesh.

use weave_node::{ConnectionState, PostQuantum};
use weave_wire::PeerId;

use crate::world::World;

impl World {
    /// Whether the keys of every session were made with a KEM exactly where both ends have it.
    pub(crate) fn check_keys(&mut self) {
        let mut wrong = Vec::new();
        let mut with_kem = 0;
        for (index, host) in self.hosts.iter().enumerate() {
            let Some(router) = &host.router else { continue };
            let connections = router.node.connections(self.now);
            let established = connections
                .iter()
                .filter(|connection| connection.state == ConnectionState::Established);
            for connection in established {
                let theirs = connection.peer.and_then(|peer| self.pq_at(peer));
                let both = [Some(self.plan.pq_of(index)), theirs];
                let expected = !both.contains(&Some(PostQuantum::Off));
                with_kem += u64::from(expected);
                // wrapped for a relay, the longest messages do not pass the narrowest paths
                let may_lack = expected && connection.relay.is_some();
                if theirs.is_some() && connection.pq != Some(expected) && !may_lack {
                    let pq = connection.pq;
                    wrong.push(format!(
                        "host {index}: a session with pq {pq:?} of {both:?}"
                    ));
                }
            }
        }
        self.counters.kem_sessions += with_kem;
        for what in wrong {
            self.oracle.violation(what);
        }
    }

    fn pq_at(&self, peer: PeerId) -> Option<PostQuantum> {
        let index = self.hosts.iter().position(|host| host.id() == Some(peer))?;
        Some(self.plan.pq_of(index))
    }
}
