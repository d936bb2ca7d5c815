//! Hosts of two program versions in one mesh, and routers that are replaced by the other one.

use weave_node::ConnectionState;
use weave_wire::{PeerId, Versions};

use crate::trace::Step;
use crate::world::World;

impl World {
    /// Lets the program of a host that starts again be the newer or the older one, sometimes.
    pub(crate) fn change_version(&mut self, index: usize) {
        if !self.is_churning || !self.chance.permille(self.plan.replaced_permille) {
            return;
        }
        let Some(host) = self.hosts.get_mut(index).filter(|host| host.life > 1) else {
            return;
        };
        if host.versions == Versions::SPOKEN {
            host.versions = Versions::NEXT;
            self.counters.upgrades += 1;
        } else {
            host.versions = Versions::SPOKEN;
            host.has_newer_record |= host.disk.has_newer_record();
            self.counters.downgrades += 1;
        }
        let what = format!("speaks {}", host.versions);
        self.trace
            .note(self.now, Step::Fault, index, what.as_bytes());
    }

    /// Whether every session is of the highest version that both of its ends speak, and older
    /// programs left alone what newer ones wrote.
    pub(crate) fn check_versions(&mut self) {
        let mut wrong = Vec::new();
        let mut of_next = 0;
        for (index, host) in self.hosts.iter().enumerate() {
            let is_kept = host.disk.has_newer_record() || host.was_set_back;
            if host.has_newer_record && !is_kept {
                wrong.push(format!(
                    "host {index}: a record of the newer version is gone"
                ));
            }
            let Some(router) = &host.router else { continue };
            for connection in router.node.connections(router.clock.shows(self.now)) {
                let Some(theirs) = connection.peer.and_then(|peer| self.versions_of(peer)) else {
                    continue;
                };
                if connection.state != ConnectionState::Established {
                    continue;
                }
                let common = host.versions.common(theirs);
                of_next += u64::from(common == Some(Versions::NEXT.highest));
                if connection.version.is_some() && connection.version != common {
                    let version = connection.version;
                    wrong.push(format!(
                        "host {index}: a session of version {version:?}, not {common:?}"
                    ));
                }
            }
        }
        self.counters.next_sessions += of_next;
        let records = self.hosts.iter().filter(|host| host.has_newer_record);
        self.counters.newer_records += records.count() as u64;
        for what in wrong {
            self.oracle.violation(what);
        }
    }

    fn versions_of(&self, peer: PeerId) -> Option<Versions> {
        let host = self.hosts.iter().find(|host| host.id() == Some(peer))?;
        Some(host.versions)
    }
}
