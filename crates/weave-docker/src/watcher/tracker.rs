//! Which containers must be looked at, and what changed since they were last.
//!
//! Pure bookkeeping: no I/O, no clock. Invariant: after any notice about a container, it is
//! inspected at least once by a request that began later than the notice.

use std::collections::{BTreeMap, BTreeSet};

use bollard::models::{EventMessage, EventMessageTypeEnum};

use super::Change;
use crate::container::{ContainerInfo, ContainerNames, names_of, short_id};
use crate::network::NetworkInfo;

/// The events worth hearing of.
pub(super) const ACTIONS: [&str; 7] = [
    "start",
    "die",
    "destroy",
    "rename",
    "connect",
    "disconnect",
    "create",
];

/// What an event means to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Notice {
    /// Something happened to a container.
    Container { id: String },
    /// A network exists, and maybe a container joined or left it.
    Network {
        id: String,
        driver: String,
        container: Option<String>,
    },
    /// A network is gone.
    NetworkGone { id: String },
}

impl Notice {
    pub(super) fn read(event: EventMessage) -> Option<Self> {
        let actor = event.actor?;
        let id = actor.id.filter(|id| !id.is_empty())?;
        let attributes = actor.attributes.unwrap_or_default();
        let action = event.action?;
        if event.typ == Some(EventMessageTypeEnum::CONTAINER) {
            // A container that was only created has no address yet.
            return (action != "create").then_some(Self::Container { id });
        }
        if event.typ != Some(EventMessageTypeEnum::NETWORK) {
            return None;
        }
        if action == "destroy" {
            return Some(Self::NetworkGone { id });
        }
        let driver = attributes.get("type").cloned().unwrap_or_default();
        let container = attributes
            .get("container")
            .filter(|id| !id.is_empty())
            .cloned();
        Some(Self::Network {
            id,
            driver,
            container,
        })
    }
}

/// What is known, what is being looked at, and what is to be looked at.
#[derive(Debug)]
pub(super) struct Tracker {
    driver: String,
    domain: String,
    networks: BTreeSet<String>,
    known: BTreeMap<String, ContainerNames>,
    due: BTreeSet<String>,
    busy: BTreeSet<String>,
}

impl Tracker {
    pub(super) fn new(driver: &str, domain: &str) -> Self {
        Self {
            driver: driver.to_owned(),
            domain: domain.to_owned(),
            networks: BTreeSet::new(),
            known: BTreeMap::new(),
            due: BTreeSet::new(),
            busy: BTreeSet::new(),
        }
    }

    pub(super) fn handle_notice(&mut self, notice: Notice) {
        match notice {
            Notice::Container { id } => {
                self.due.insert(id);
            }
            Notice::Network {
                id,
                driver,
                container,
            } => {
                if driver == self.driver {
                    self.networks.insert(id);
                    self.due.extend(container);
                }
            }
            Notice::NetworkGone { id } => {
                self.networks.remove(&id);
            }
        }
    }

    /// Takes a fresh look at everything: all networks of ours, with the containers on them.
    pub(super) fn handle_snapshot(&mut self, networks: &[NetworkInfo]) {
        self.networks = networks.iter().map(|network| network.id.clone()).collect();
        let containers = networks.iter().flat_map(|network| &network.containers);
        let containers = containers.filter(|container| container.has_sandbox());
        self.due
            .extend(containers.map(|container| container.id.clone()));
        self.due.extend(self.known.keys().cloned());
    }

    /// The next container to inspect; one is never inspected twice at a time.
    pub(super) fn next_inspection(&mut self) -> Option<String> {
        let id = self.due.difference(&self.busy).next()?.clone();
        self.due.remove(&id);
        self.busy.insert(id.clone());
        Some(id)
    }

    /// Drops what was being inspected over a connection that broke.
    pub(super) fn forget_inspections(&mut self) {
        self.due.append(&mut self.busy);
    }

    /// The inspection failed; the next snapshot tries again.
    pub(super) fn handle_failed(&mut self, id: &str) {
        self.busy.remove(id);
    }

    /// Takes the outcome of an inspection, `None` for a container that is gone. Whoever does not
    /// run has no names, also such as were never ours.
    pub(super) fn handle_inspected(
        &mut self,
        id: &str,
        info: Option<&ContainerInfo>,
    ) -> Option<Change> {
        self.busy.remove(id);
        let names = info.and_then(|info| names_of(info, &self.networks, &self.domain));
        let Some(names) = names else {
            let was_known = self.known.remove(id).is_some();
            let runs = info.is_some_and(|info| info.running);
            let container = short_id(id).to_owned();
            return Some(match was_known || !runs {
                true => Change::Removed { container },
                false => Change::Other { container },
            });
        };
        if self.known.get(id) == Some(&names) {
            return None;
        }
        self.known.insert(id.to_owned(), names.clone());
        Some(Change::Set(names))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::container::ContainerNetwork;

    const ID: &str = "f34ef1c4c4ef0123456789";

    fn running(ip: &str) -> ContainerInfo {
        ContainerInfo {
            id: ID.to_owned(),
            name: "n1".to_owned(),
            running: true,
            networks: vec![ContainerNetwork {
                network_id: "net".to_owned(),
                endpoint_id: format!("endpoint-{ip}"),
                addresses: vec![(ip.parse().unwrap(), 12)],
                ..ContainerNetwork::default()
            }],
            ..ContainerInfo::default()
        }
    }

    fn tracker() -> Tracker {
        let mut tracker = Tracker::new("weavemesh", "weave.local");
        tracker.handle_snapshot(&[NetworkInfo {
            id: "net".to_owned(),
            ..NetworkInfo::default()
        }]);
        tracker
    }

    fn inspected(tracker: &mut Tracker, info: Option<&ContainerInfo>) -> Option<Change> {
        tracker.handle_notice(Notice::Container { id: ID.to_owned() });
        assert_eq!(tracker.next_inspection().as_deref(), Some(ID));
        tracker.handle_inspected(ID, info)
    }

    #[test]
    fn only_differences_are_reported() {
        let mut tracker = tracker();
        let set = inspected(&mut tracker, Some(&running("10.32.0.1")));
        assert!(matches!(&set, Some(Change::Set(names))
            if names.names == [("n1.weave.local".to_owned(), "10.32.0.1".parse().unwrap())]));
        assert_eq!(inspected(&mut tracker, Some(&running("10.32.0.1"))), None);
        assert!(inspected(&mut tracker, Some(&running("10.32.0.2"))).is_some());
        let removed = Change::Removed {
            container: "f34ef1c4c4ef".to_owned(),
        };
        assert_eq!(inspected(&mut tracker, None), Some(removed.clone()));
        let elsewhere = ContainerInfo {
            networks: Vec::new(),
            ..running("10.32.0.1")
        };
        let other = Change::Other {
            container: "f34ef1c4c4ef".to_owned(),
        };
        assert_eq!(inspected(&mut tracker, Some(&elsewhere)), Some(other));
        assert_eq!(
            inspected(&mut tracker, None),
            Some(removed),
            "names that it was given end with any container"
        );
    }

    #[test]
    fn a_stopped_container_loses_its_names() {
        let mut tracker = tracker();
        inspected(&mut tracker, Some(&running("10.32.0.1")));
        let stopped = ContainerInfo {
            running: false,
            ..running("10.32.0.1")
        };
        assert!(matches!(
            inspected(&mut tracker, Some(&stopped)),
            Some(Change::Removed { .. })
        ));
    }

    #[test]
    fn news_during_an_inspection_causes_another_one_after_it() {
        let mut tracker = tracker();
        tracker.handle_notice(Notice::Container { id: ID.to_owned() });
        assert!(tracker.next_inspection().is_some());
        tracker.handle_notice(Notice::Container { id: ID.to_owned() });
        assert_eq!(tracker.next_inspection(), None);
        tracker.handle_inspected(ID, None);
        assert_eq!(tracker.next_inspection().as_deref(), Some(ID));
    }

    #[test]
    fn a_snapshot_looks_at_known_containers_that_it_does_not_list() {
        let mut tracker = tracker();
        inspected(&mut tracker, Some(&running("10.32.0.1")));
        tracker.handle_snapshot(&[NetworkInfo {
            id: "net".to_owned(),
            ..NetworkInfo::default()
        }]);
        assert_eq!(tracker.next_inspection().as_deref(), Some(ID));
    }

    #[test]
    fn a_broken_connection_repeats_what_was_under_way() {
        let mut tracker = tracker();
        tracker.handle_notice(Notice::Container { id: ID.to_owned() });
        tracker.next_inspection();
        tracker.forget_inspections();
        assert_eq!(tracker.next_inspection().as_deref(), Some(ID));
    }

    #[test]
    fn networks_come_and_go_with_their_events() {
        let mut tracker = Tracker::new("weavemesh", "weave.local");
        let network = |driver: &str, container: Option<&str>| Notice::Network {
            id: "net".to_owned(),
            driver: driver.to_owned(),
            container: container.map(str::to_owned),
        };
        tracker.handle_notice(network("bridge", Some(ID)));
        assert_eq!(tracker.next_inspection(), None);
        tracker.handle_notice(network("weavemesh", Some(ID)));
        tracker.next_inspection();
        assert!(
            tracker
                .handle_inspected(ID, Some(&running("10.32.0.1")))
                .is_some()
        );
        tracker.handle_notice(Notice::NetworkGone {
            id: "net".to_owned(),
        });
        assert!(matches!(
            inspected(&mut tracker, Some(&running("10.32.0.1"))),
            Some(Change::Removed { .. })
        ));
    }

    #[test]
    fn events_are_read_as_docker_writes_them() {
        let read = |value| Notice::read(serde_json::from_value(value).unwrap());
        let start = json!({ "Type": "container", "Action": "start", "Actor": { "ID": "c" } });
        assert_eq!(read(start), Some(Notice::Container { id: "c".to_owned() }));
        let connect = json!({ "Type": "network", "Action": "connect", "Actor": { "ID": "n",
            "Attributes": { "container": "c", "name": "weave", "type": "weavemesh" } } });
        let expected = Notice::Network {
            id: "n".to_owned(),
            driver: "weavemesh".to_owned(),
            container: Some("c".to_owned()),
        };
        assert_eq!(read(connect), Some(expected));
        let destroy = json!({ "Type": "network", "Action": "destroy", "Actor": { "ID": "n" } });
        assert_eq!(
            read(destroy),
            Some(Notice::NetworkGone { id: "n".to_owned() })
        );
        let created = json!({ "Type": "container", "Action": "create", "Actor": { "ID": "c" } });
        assert_eq!(read(created), None);
        assert_eq!(
            read(json!({ "Type": "image", "Action": "pull", "Actor": { "ID": "i" } })),
            None
        );
        assert_eq!(read(json!({})), None);
    }
}
