//! Immutable snapshots of what is visible, cheap to make after small changes.
//!
//! The table is split into shards by a hash of the name, and of the address for the reverse
//! direction, and the shards into pages. Snapshots share both; a change copies the page and the
//! shard that it touches, no others. Names are found by their hashes alone, and lie close
//! together: what a question costs is the memory that it touches.

use std::borrow::Cow;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use blake2::digest::consts::U16;
use blake2::{Blake2s, Digest as _};
use weave_wire::{PeerId, ip_bytes};

/// Pages of a direction.
const PAGES: usize = 256;
/// Shards of a page. Some six names each, when there are 100,000: a change copies one.
const SHARDS: usize = 64;

/// One record: a name, and an address that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NameEntry {
    /// Fully qualified, without trailing dot, spelled as its origin spelled it.
    pub name: Arc<str>,
    /// The address.
    pub ip: IpAddr,
    /// First characters of the container's id, or what the record was filed under.
    pub container: Arc<str>,
    /// The peer that says so.
    pub origin: PeerId,
}

/// The names visible at one moment.
#[derive(Debug, Clone)]
pub struct NameTable {
    names: Shards,
    addresses: Shards,
    len: usize,
}

/// Stands for a name or an address: its BLAKE2s of 128 bits, so that no two have the same.
type Key = u128;

/// Records by their keys, each key with its records: two lists in the same order, ascending.
#[derive(Debug, Clone, Default)]
struct Shard {
    keys: Vec<Key>,
    entries: Vec<NameEntry>,
}

/// One direction of the table.
#[derive(Debug, Clone)]
struct Shards(Vec<Arc<[Arc<Shard>]>>);

impl NameTable {
    /// The records of a name, in whatever case it is written, with or without trailing dot.
    ///
    /// No order is promised, and two records may give the same address.
    pub fn lookup(&self, name: &str) -> &[NameEntry] {
        self.names
            .get(key_of_name(name.strip_suffix('.').unwrap_or(name)))
    }

    /// The records of an address.
    pub fn reverse(&self, ip: IpAddr) -> &[NameEntry] {
        self.addresses.get(key_of(&ip_bytes(ip)))
    }

    /// All records, by name in lower case, then by address and origin.
    pub fn all(&self) -> Vec<&NameEntry> {
        let shards = self.names.all();
        let mut all: Vec<_> = shards.flat_map(|shard| &shard.entries).collect();
        let lower = |entry: &NameEntry| lowercase(&entry.name).into_owned();
        all.sort_by_cached_key(|entry| (lower(entry), entry.ip, entry.origin, *entry));
        all
    }

    /// The records that were not in `before`, in no order; cheap where one came from the other.
    pub fn added_since<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = &'a NameEntry> {
        self.names.changed(&before.names).flat_map(|(shard, old)| {
            let entries = shard.entries.iter();
            entries.filter(|entry| !old.entries.contains(entry))
        })
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn insert(&mut self, entry: NameEntry) {
        let (name, ip) = keys_of(&entry);
        self.addresses.insert(ip, entry.clone());
        self.names.insert(name, entry);
        self.len += 1;
    }

    /// Removes one record like this.
    pub(super) fn remove(&mut self, entry: &NameEntry) {
        let (name, ip) = keys_of(entry);
        self.addresses.remove(ip, entry);
        self.len -= usize::from(self.names.remove(name, entry));
    }
}

impl Default for NameTable {
    fn default() -> Self {
        Self {
            names: Shards::empty(),
            addresses: Shards::empty(),
            len: 0,
        }
    }
}

impl FromIterator<NameEntry> for NameTable {
    fn from_iter<T: IntoIterator<Item = NameEntry>>(entries: T) -> Self {
        let mut table = Self::default();
        for entry in entries {
            table.insert(entry);
        }
        table
    }
}

impl Shard {
    /// Where the records of a key are, or would be.
    fn range(&self, key: Key) -> Range<usize> {
        let start = self.keys.partition_point(|held| *held < key);
        let same = self
            .keys
            .iter()
            .skip(start)
            .take_while(|held| **held == key);
        start..start + same.count()
    }

    fn get(&self, key: Key) -> &[NameEntry] {
        self.entries.get(self.range(key)).unwrap_or_default()
    }

    fn insert(&mut self, key: Key, entry: NameEntry) {
        let end = self.range(key).end;
        self.keys.insert(end, key);
        self.entries.insert(end, entry);
    }

    fn remove(&mut self, index: usize) {
        self.keys.remove(index);
        self.entries.remove(index);
    }
}

impl Shards {
    fn empty() -> Self {
        let empty = Arc::new(Shard::default());
        let page: Arc<[_]> = vec![empty; SHARDS].into();
        Self(vec![page; PAGES])
    }

    fn of(&self, key: Key) -> Option<&Shard> {
        let (page, shard) = place_of(key);
        self.0.get(page)?.get(shard).map(Arc::as_ref)
    }

    fn of_mut(&mut self, key: Key) -> Option<&mut Shard> {
        let (page, shard) = place_of(key);
        let page = Arc::make_mut(self.0.get_mut(page)?);
        page.get_mut(shard).map(Arc::make_mut)
    }

    fn get(&self, key: Key) -> &[NameEntry] {
        self.of(key).map_or(&[], |shard| shard.get(key))
    }

    fn insert(&mut self, key: Key, entry: NameEntry) {
        if let Some(shard) = self.of_mut(key) {
            shard.insert(key, entry);
        }
    }

    /// Removes one record like this; whether there was one.
    fn remove(&mut self, key: Key, entry: &NameEntry) -> bool {
        let index = self.of(key).and_then(|shard| {
            let mut range = shard.range(key);
            range.find(|index| shard.entries.get(*index) == Some(entry))
        });
        let (Some(index), Some(shard)) = (index, self.of_mut(key)) else {
            return false;
        };
        shard.remove(index);
        true
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Shard>> {
        self.0.iter().flat_map(|page| page.iter())
    }

    /// The shards that these do not share, beside what they were.
    fn changed<'a>(
        &'a self,
        before: &'a Self,
    ) -> impl Iterator<Item = (&'a Arc<Shard>, &'a Arc<Shard>)> {
        let pages = self.0.iter().zip(&before.0);
        pages
            .filter(|(page, old)| !Arc::ptr_eq(page, old))
            .flat_map(|(page, old)| page.iter().zip(old.iter()))
            .filter(|(shard, old)| !Arc::ptr_eq(shard, old))
    }
}

fn lowercase(name: &str) -> Cow<'_, str> {
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Cow::Owned(name.to_ascii_lowercase());
    }
    Cow::Borrowed(name)
}

fn keys_of(entry: &NameEntry) -> (Key, Key) {
    (key_of_name(&entry.name), key_of(&ip_bytes(entry.ip)))
}

fn key_of_name(name: &str) -> Key {
    key_of(lowercase(name).as_bytes())
}

fn key_of(bytes: &[u8]) -> Key {
    Key::from_be_bytes(Blake2s::<U16>::digest(bytes).into())
}

/// Page and shard of a key.
fn place_of(key: Key) -> (usize, usize) {
    let [page, shard, ..] = key.to_be_bytes();
    (usize::from(page) % PAGES, usize::from(shard) % SHARDS)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn entry(number: u32) -> NameEntry {
        NameEntry {
            name: format!("Host-{number}.weave.local").into(),
            ip: Ipv4Addr::from_bits(0x0a20_0000 + number).into(),
            container: "c0ffee".into(),
            origin: PeerId([1; 32]),
        }
    }

    /// Pages and shards that two tables do not share.
    fn copied(before: &Shards, after: &Shards) -> (usize, usize) {
        let pages = before.0.iter().zip(&after.0);
        let shards = before.all().zip(after.all());
        (
            pages.filter(|(a, b)| !Arc::ptr_eq(a, b)).count(),
            shards.filter(|(a, b)| !Arc::ptr_eq(a, b)).count(),
        )
    }

    #[test]
    fn a_change_copies_one_shard_of_each_direction() {
        let mut table = NameTable::default();
        for number in 0..10_000 {
            table.insert(entry(number));
        }
        let before = table.clone();
        table.insert(entry(10_000));
        assert_eq!(copied(&before.names, &table.names), (1, 1));
        assert_eq!(copied(&before.addresses, &table.addresses), (1, 1));
        assert!(
            table.names.all().all(|shard| shard.keys.len() < 12),
            "names are spread"
        );
        assert!(
            table.addresses.all().all(|shard| shard.keys.len() < 12),
            "and addresses"
        );
        assert_eq!((before.len(), table.len()), (10_000, 10_001));
    }

    proptest! {
        #[test]
        fn both_directions_always_agree(
            steps in prop::collection::vec((any::<bool>(), 0..8u32), 0..60)
        ) {
            let mut table = NameTable::default();
            let mut before = NameTable::default();
            let mut model: Vec<NameEntry> = Vec::new();
            for (step, (add, number)) in steps.into_iter().enumerate() {
                if step == 30 {
                    before = table.clone();
                }
                if add {
                    table.insert(entry(number));
                    model.push(entry(number));
                } else {
                    table.remove(&entry(number));
                    if let Some(index) = model.iter().position(|held| *held == entry(number)) {
                        model.swap_remove(index);
                    }
                }
            }
            prop_assert_eq!(table.len(), model.len());
            prop_assert_eq!(table.all().len(), model.len());
            let added: BTreeSet<_> = table.added_since(&before).collect();
            let mut new: BTreeSet<_> = table.all().into_iter().collect();
            new.retain(|entry| !before.all().contains(entry));
            prop_assert_eq!(added, new);
            for number in 0..8 {
                let held = model.iter().filter(|held| **held == entry(number)).count();
                prop_assert_eq!(table.lookup(&entry(number).name).len(), held);
                prop_assert_eq!(table.reverse(entry(number).ip).len(), held);
            }
        }
    }
}
