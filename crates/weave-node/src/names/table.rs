//! Immutable snapshots of what is visible, cheap to make after small changes.
//!
//! The table is split into shards by a hash of the name, and of the address for the reverse
//! direction, and the shards into pages. Snapshots share both; a change copies the page and the
//! shard that it touches, no others.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use weave_wire::{PeerId, ip_bytes};

/// Pages of a direction.
const PAGES: usize = 64;
/// Shards of a page. Few names each, when there are 100,000: a change copies one.
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
    names: Shards<Box<str>>,
    addresses: Shards<IpAddr>,
    len: usize,
}

type Shard<K> = Arc<BTreeMap<K, Vec<NameEntry>>>;

/// One direction of the table.
#[derive(Debug, Clone)]
struct Shards<K>(Vec<Arc<Vec<Shard<K>>>>);

impl NameTable {
    /// The records of a name, in whatever case it is written, with or without trailing dot.
    ///
    /// No order is promised, and two records may give the same address.
    pub fn lookup(&self, name: &str) -> &[NameEntry] {
        let name = lowercase(name.strip_suffix('.').unwrap_or(name));
        let shard = self.names.of(name.as_bytes());
        shard
            .and_then(|shard| shard.get(&*name))
            .map_or(&[], Vec::as_slice)
    }

    /// The records of an address.
    pub fn reverse(&self, ip: IpAddr) -> &[NameEntry] {
        let shard = self.addresses.of(&ip_bytes(ip));
        shard
            .and_then(|shard| shard.get(&ip))
            .map_or(&[], Vec::as_slice)
    }

    /// All records, by name in lower case, then by address and origin.
    pub fn all(&self) -> Vec<&NameEntry> {
        let shards = self.names.all().flat_map(|shard| shard.iter());
        let mut named: Vec<_> = shards
            .flat_map(|(name, entries)| entries.iter().map(move |entry| (name, entry)))
            .collect();
        named.sort_unstable_by(|(a, x), (b, y)| {
            a.cmp(b)
                .then_with(|| (x.ip, x.origin, x).cmp(&(y.ip, y.origin, y)))
        });
        named.into_iter().map(|(_, entry)| entry).collect()
    }

    /// The records that were not in `before`, in no order; cheap where one came from the other.
    pub fn added_since<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = &'a NameEntry> {
        self.names.changed(&before.names).flat_map(|(shard, old)| {
            shard.iter().flat_map(|(name, entries)| {
                let old = old.get(name).map_or(&[][..], Vec::as_slice);
                entries.iter().filter(|entry| !old.contains(entry))
            })
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
        let name = lowercase(&entry.name).into_owned().into_boxed_str();
        if let Some(shard) = self.addresses.of_mut(&ip_bytes(entry.ip)) {
            shard.entry(entry.ip).or_default().push(entry.clone());
        }
        if let Some(shard) = self.names.of_mut(name.as_bytes()) {
            shard.entry(name).or_default().push(entry);
            self.len += 1;
        }
    }

    /// Removes one record like this.
    pub(super) fn remove(&mut self, entry: &NameEntry) {
        let name = lowercase(&entry.name);
        if let Some(shard) = self.addresses.of_mut(&ip_bytes(entry.ip)) {
            take(shard, &entry.ip, entry);
        }
        if let Some(shard) = self.names.of_mut(name.as_bytes())
            && take(shard, &*name, entry)
        {
            self.len -= 1;
        }
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

impl<K: Ord + Clone> Shards<K> {
    fn empty() -> Self {
        let page = Arc::new(vec![Shard::default(); SHARDS]);
        Self(vec![page; PAGES])
    }

    fn of(&self, key: &[u8]) -> Option<&Shard<K>> {
        let (page, shard) = place_of(key);
        self.0.get(page)?.get(shard)
    }

    fn of_mut(&mut self, key: &[u8]) -> Option<&mut BTreeMap<K, Vec<NameEntry>>> {
        let (page, shard) = place_of(key);
        let page = Arc::make_mut(self.0.get_mut(page)?);
        page.get_mut(shard).map(Arc::make_mut)
    }

    fn all(&self) -> impl Iterator<Item = &Shard<K>> {
        self.0.iter().flat_map(|page| page.iter())
    }

    /// The shards that these do not share, beside what they were.
    fn changed<'a>(
        &'a self,
        before: &'a Self,
    ) -> impl Iterator<Item = (&'a Shard<K>, &'a Shard<K>)> {
        let pages = self.0.iter().zip(&before.0);
        pages
            .filter(|(page, old)| !Arc::ptr_eq(page, old))
            .flat_map(|(page, old)| page.iter().zip(old.iter()))
            .filter(|(shard, old)| !Arc::ptr_eq(shard, old))
    }
}

fn take<K: Ord + std::borrow::Borrow<Q>, Q: Ord + ?Sized>(
    shard: &mut BTreeMap<K, Vec<NameEntry>>,
    key: &Q,
    entry: &NameEntry,
) -> bool {
    let Some(entries) = shard.get_mut(key) else {
        return false;
    };
    let Some(index) = entries.iter().position(|held| held == entry) else {
        return false;
    };
    entries.swap_remove(index);
    if entries.is_empty() {
        shard.remove(key);
    }
    true
}

fn lowercase(name: &str) -> Cow<'_, str> {
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Cow::Owned(name.to_ascii_lowercase());
    }
    Cow::Borrowed(name)
}

/// Page and shard of a key, by FNV-1a, folded: spreads well enough, and the same everywhere.
fn place_of(key: &[u8]) -> (usize, usize) {
    let hash = key.iter().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    });
    let [a, b, c, d] = hash.to_be_bytes();
    (usize::from(a ^ c) % PAGES, usize::from(b ^ d) % SHARDS)
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
    fn copied<K: Ord + Clone>(before: &Shards<K>, after: &Shards<K>) -> (usize, usize) {
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
            table.names.all().all(|shard| shard.len() < 20),
            "names are spread"
        );
        assert!(
            table.addresses.all().all(|shard| shard.len() < 20),
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
