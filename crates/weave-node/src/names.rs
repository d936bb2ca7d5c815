//! The names of containers: who says that a name belongs to an address, and what is visible.
//!
//! [`Names`] takes in the name records of all origins and publishes [`NameTable`]s, immutable
//! snapshots for the DNS server. A record is visible while its origin lives; it is only hidden
//! when the origin is gone, and comes back at once with it.
//!
//! Does not answer queries, and does not know which domain is ours.

mod table;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use weave_wire::codec::MAX_NAME_LEN;
use weave_wire::proto::{NameRecord, entry};
use weave_wire::{PeerId, ip_bytes, ip_from_bytes};

pub use table::{NameEntry, NameTable};

/// A label of a name is at most this long, in bytes.
const MAX_LABEL_LEN: usize = 63;

/// Why a name cannot be announced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// No name of the DNS.
    #[error(
        "`{0}` is not a valid host name: labels of 1 to 63 characters, separated by dots, \
         253 in all, without spaces or control characters"
    )]
    Invalid(String),
}

/// The name records of all origins.
#[derive(Debug)]
pub(crate) struct Names {
    me: PeerId,
    live: BTreeSet<PeerId>,
    origins: BTreeMap<PeerId, OriginNames>,
    table: NameTable,
    changed: bool,
    #[cfg(feature = "seeded-bugs")]
    never_expire: bool,
}

#[derive(Debug)]
struct OriginNames {
    live: bool,
    entries: BTreeMap<u64, NameEntry>,
}

impl Names {
    /// No names. Those of `me` are always visible.
    pub(crate) fn new(me: PeerId) -> Self {
        Self {
            me,
            live: BTreeSet::new(),
            origins: BTreeMap::new(),
            table: NameTable::default(),
            changed: false,
            #[cfg(feature = "seeded-bugs")]
            never_expire: false,
        }
    }

    /// Builds in a fault, for the simulator to find.
    #[cfg(feature = "seeded-bugs")]
    pub(crate) fn seed_bug(&mut self, bug: Option<crate::seeded::SeededBug>) {
        self.never_expire = bug == Some(crate::seeded::SeededBug::NameExpiry);
    }

    /// A slot of an origin's table holds this now. Other records than names only clear the slot.
    pub(crate) fn apply(&mut self, origin: PeerId, slot: u64, new: Option<&entry::Body>) {
        let entry = new.and_then(|body| read(origin, body));
        let live = origin == self.me || self.live.contains(&origin);
        let names = match self.origins.entry(origin) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(_) if entry.is_none() => return,
            Entry::Vacant(new) => new.insert(OriginNames {
                live,
                entries: BTreeMap::new(),
            }),
        };
        let old = match &entry {
            Some(entry) => names.entries.insert(slot, entry.clone()),
            None => names.entries.remove(&slot),
        };
        if !names.live || old == entry {
            return;
        }
        if let Some(old) = old {
            self.table.remove(&old);
            self.changed = true;
        }
        if let Some(entry) = entry {
            self.table.insert(entry);
            self.changed = true;
        }
    }

    /// Who is live has changed: names are shown and hidden.
    pub(crate) fn set_live(&mut self, live: &BTreeSet<PeerId>) {
        for (origin, names) in &mut self.origins {
            let now = *origin == self.me || live.contains(origin);
            #[cfg(feature = "seeded-bugs")]
            let now = now || (self.never_expire && names.live);
            if names.live == now {
                continue;
            }
            names.live = now;
            self.changed |= !names.entries.is_empty();
            for entry in names.entries.values() {
                if now {
                    self.table.insert(entry.clone());
                } else {
                    self.table.remove(entry);
                }
            }
        }
        self.live.clone_from(live);
    }

    /// What is visible, if it has changed since this was last asked.
    pub(crate) fn take_changed(&mut self) -> Option<Arc<NameTable>> {
        std::mem::take(&mut self.changed).then(|| Arc::new(self.table.clone()))
    }
}

/// The key and the record that announce a name.
///
/// # Errors
/// When the name cannot be one.
pub(crate) fn name_record(
    name: &str,
    ip: IpAddr,
    container: &str,
) -> Result<(String, entry::Body), NameError> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if !is_valid(name) {
        return Err(NameError::Invalid(name.to_owned()));
    }
    let key = format!("name/{}/{ip}/{container}", name.to_ascii_lowercase());
    let record = NameRecord {
        name: name.to_owned(),
        ip: ip_bytes(ip),
        container: container.to_owned(),
    };
    Ok((key, entry::Body::Name(record)))
}

fn read(origin: PeerId, body: &entry::Body) -> Option<NameEntry> {
    let record = match body {
        entry::Body::Name(record) => record,
        entry::Body::Peer(_)
        | entry::Body::Subnet(_)
        | entry::Body::Endpoint(_)
        | entry::Body::Genesis(_)
        | entry::Body::Grant(_)
        | entry::Body::Loan(_)
        | entry::Body::Ban(_) => return None,
    };
    let ip = ip_from_bytes(&record.ip).ok()?;
    is_valid(&record.name).then(|| NameEntry {
        name: record.name.as_str().into(),
        ip,
        container: record.container.as_str().into(),
        origin,
    })
}

/// Whether others may be shown this as a name: what the DNS can carry, and a terminal can show.
pub fn is_valid(name: &str) -> bool {
    let label = |label: &str| !label.is_empty() && label.len() <= MAX_LABEL_LEN;
    name.len() <= MAX_NAME_LEN
        && name.split('.').all(label)
        && name
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'\\' && byte != b'"')
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: PeerId = PeerId([1; 32]);
    const OTHER: PeerId = PeerId([2; 32]);

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn body(name: &str, addr: &str) -> entry::Body {
        name_record(name, ip(addr), "c0ffee").expect("a name").1
    }

    fn addresses(names: &Names, name: &str) -> Vec<IpAddr> {
        let mut ips: Vec<_> = names.table.lookup(name).collect();
        ips.sort_unstable();
        ips
    }

    #[test]
    fn a_name_is_found_in_any_case_and_keeps_its_own() {
        let mut names = Names::new(ME);
        names.apply(ME, 2, Some(&body("Web.Weave.Local", "10.32.0.1")));
        names.apply(ME, 3, Some(&body("web.weave.local", "10.32.0.2")));
        let both = [ip("10.32.0.1"), ip("10.32.0.2")];
        for spelled in ["web.weave.local", "WEB.weave.LOCAL", "web.weave.local."] {
            assert_eq!(addresses(&names, spelled), both, "{spelled}");
        }
        assert_eq!(
            &*names.table.reverse(both[0]).next().expect("it").name,
            "Web.Weave.Local"
        );
        assert!(addresses(&names, "eb.weave.local").is_empty());
    }

    #[test]
    fn several_origins_share_a_name_and_one_of_them_leaving_takes_only_its_own() {
        let mut names = Names::new(ME);
        names.set_live(&BTreeSet::from([ME, OTHER]));
        names.apply(ME, 2, Some(&body("web.weave.local", "10.32.0.1")));
        names.apply(OTHER, 2, Some(&body("web.weave.local", "10.32.0.2")));
        assert_eq!(addresses(&names, "web.weave.local").len(), 2);
        names.set_live(&BTreeSet::from([ME]));
        assert_eq!(addresses(&names, "web.weave.local"), [ip("10.32.0.1")]);
        assert!(names.table.reverse(ip("10.32.0.2")).next().is_none());
    }

    #[test]
    fn names_of_an_origin_that_is_gone_are_hidden_and_come_back_at_once() {
        let mut names = Names::new(ME);
        names.apply(OTHER, 2, Some(&body("web.weave.local", "10.32.0.2")));
        assert!(addresses(&names, "web.weave.local").is_empty());
        assert!(names.take_changed().is_none());
        names.set_live(&BTreeSet::from([ME, OTHER]));
        assert_eq!(addresses(&names, "web.weave.local"), [ip("10.32.0.2")]);
        names.set_live(&BTreeSet::from([ME]));
        names.apply(OTHER, 2, Some(&body("db.weave.local", "10.32.0.2")));
        assert!(names.table.is_empty());
        names.set_live(&BTreeSet::from([ME, OTHER]));
        assert_eq!(addresses(&names, "db.weave.local"), [ip("10.32.0.2")]);
        assert!(addresses(&names, "web.weave.local").is_empty());
    }

    #[test]
    fn our_own_names_never_hide() {
        let mut names = Names::new(ME);
        names.apply(ME, 2, Some(&body("web.weave.local", "10.32.0.1")));
        names.set_live(&BTreeSet::new());
        assert_eq!(names.table.len(), 1);
    }

    #[test]
    fn a_slot_that_turns_into_something_else_loses_its_name() {
        let mut names = Names::new(ME);
        names.apply(ME, 2, Some(&body("web.weave.local", "10.32.0.1")));
        names.apply(ME, 2, Some(&entry::Body::Ban(Default::default())));
        assert!(names.table.is_empty());
        assert!(names.table.reverse(ip("10.32.0.1")).next().is_none());
    }

    #[test]
    fn one_address_has_several_names_and_one_name_several_addresses() {
        let mut names = Names::new(ME);
        names.apply(ME, 2, Some(&body("a.weave.local", "10.32.0.1")));
        names.apply(ME, 3, Some(&body("b.weave.local", "10.32.0.1")));
        names.apply(ME, 4, Some(&body("a.weave.local", "fd00::1")));
        assert_eq!(names.table.reverse(ip("10.32.0.1")).count(), 2);
        assert_eq!(
            addresses(&names, "a.weave.local"),
            [ip("10.32.0.1"), ip("fd00::1")]
        );
        names.apply(ME, 2, None);
        assert_eq!(names.table.reverse(ip("10.32.0.1")).count(), 1);
    }

    #[test]
    fn two_records_that_say_the_same_are_counted_apart() {
        let mut names = Names::new(ME);
        names.apply(ME, 2, Some(&body("a.weave.local", "10.32.0.1")));
        names.apply(ME, 3, Some(&body("a.weave.local", "10.32.0.1")));
        names.apply(ME, 2, None);
        assert_eq!(addresses(&names, "a.weave.local"), [ip("10.32.0.1")]);
    }

    #[test]
    fn a_snapshot_is_handed_out_only_when_something_changed_and_stays_as_it_was() {
        let mut names = Names::new(ME);
        assert!(names.take_changed().is_none());
        names.apply(ME, 2, Some(&body("a.weave.local", "10.32.0.1")));
        let before = names.take_changed().expect("changed");
        names.apply(ME, 2, Some(&body("a.weave.local", "10.32.0.1")));
        assert!(names.take_changed().is_none());
        names.apply(ME, 2, None);
        assert_eq!(before.len(), 1);
        assert!(names.take_changed().expect("changed").is_empty());
    }

    #[test]
    fn what_is_no_name_is_neither_announced_nor_taken_in() {
        let long = format!("{}.weave.local", "a".repeat(64));
        let endless = ["abc"; 64].join(".");
        for name in [
            "",
            ".",
            "a..b",
            "a b",
            "a\u{1b}[31m",
            "ä.weave.local",
            &long,
            &endless,
        ] {
            assert!(name_record(name, ip("10.32.0.1"), "").is_err(), "{name}");
            let mut names = Names::new(ME);
            let record = NameRecord {
                name: name.to_owned(),
                ip: vec![10, 32, 0, 1],
                ..Default::default()
            };
            names.apply(ME, 2, Some(&entry::Body::Name(record)));
            assert!(names.table.is_empty(), "{name}");
        }
        assert!(name_record("_srv.a-b.weave.local.", ip("10.32.0.1"), "").is_ok());
    }

    #[test]
    fn all_names_are_listed_in_order() {
        let mut names = Names::new(ME);
        for (slot, name) in (2..).zip(["c.x", "A.x", "b.x"]) {
            names.apply(ME, slot, Some(&body(name, "10.32.0.1")));
        }
        let listed: Vec<_> = names
            .table
            .all()
            .iter()
            .map(|entry| entry.name.clone())
            .collect();
        assert_eq!(
            listed,
            ["A.x".into(), "b.x".into(), "c.x".into()] as [Arc<str>; 3]
        );
    }

    #[cfg(feature = "seeded-bugs")]
    #[test]
    fn with_the_seeded_bug_names_of_the_dead_stay() {
        let mut names = Names::new(ME);
        names.seed_bug(Some(crate::seeded::SeededBug::NameExpiry));
        names.set_live(&BTreeSet::from([ME, OTHER]));
        names.apply(OTHER, 2, Some(&body("web.weave.local", "10.32.0.2")));
        names.set_live(&BTreeSet::from([ME]));
        assert_eq!(names.table.len(), 1);
    }
}
