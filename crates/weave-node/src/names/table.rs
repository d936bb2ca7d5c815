//! Immutable snapshots of what is visible, cheap to make after small changes.
//!
//! The table is split into pages by a hash of the name, and of the address for the reverse
//! direction. Snapshots share them; a change copies the page that it touches, no other. Names are
//! found by their hashes alone, which lie close together: what a question costs is the memory that
//! it touches.

use std::borrow::Cow;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use blake2::digest::consts::U16;
use blake2::{Blake2s, Digest as _};
use weave_wire::{PeerId, ip_bytes};

/// Pages of a direction, one for each first byte of a key. Some 400 records each, when there are
/// 100,000: a change copies one.
const PAGES: usize = 256;

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
    names: Pages,
    addresses: Pages,
    len: usize,
}

/// Stands for a name or an address: its BLAKE2s of 128 bits, so that no two have the same.
type Key = u128;

/// A record, with all that a question for it needs: what it touches beside this costs more.
#[derive(Debug, Clone)]
struct Slot {
    key: Key,
    ip: IpAddr,
    entry: Arc<NameEntry>,
}

/// Records in ascending order of their keys.
#[derive(Debug, Clone, Default)]
struct Page(Vec<Slot>);

/// One direction of the table.
#[derive(Debug, Clone)]
struct Pages(Vec<Arc<Page>>);

impl NameTable {
    /// The addresses of a name, in whatever case it is written, with or without trailing dot.
    ///
    /// No order is promised, and one address may come twice.
    pub fn lookup(&self, name: &str) -> impl Iterator<Item = IpAddr> {
        let key = key_of_name(name.strip_suffix('.').unwrap_or(name));
        self.names.get(key).iter().map(|slot| slot.ip)
    }

    /// The records of an address.
    pub fn reverse(&self, ip: IpAddr) -> impl Iterator<Item = &NameEntry> {
        let slots = self.addresses.get(key_of(&ip_bytes(ip)));
        slots.iter().map(Slot::entry)
    }

    /// All records, by name in lower case, then by address and origin.
    pub fn all(&self) -> Vec<&NameEntry> {
        let slots = self.names.0.iter().flat_map(|page| &page.0);
        let mut all: Vec<_> = slots.map(Slot::entry).collect();
        let lower = |entry: &NameEntry| lowercase(&entry.name).into_owned();
        all.sort_by_cached_key(|entry| (lower(entry), entry.ip, entry.origin, *entry));
        all
    }

    /// The records that were not in `before`, in no order; cheap where one came from the other.
    pub fn added_since<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = &'a NameEntry> {
        let pages = self.names.0.iter().zip(&before.names.0);
        let changed = pages.filter(|(page, old)| !Arc::ptr_eq(page, old));
        changed.flat_map(|(page, old)| {
            let slots = page.0.iter();
            let new = slots.filter(|slot| {
                let mut held = old.get(slot.key).iter();
                held.all(|held| held.entry != slot.entry)
            });
            new.map(Slot::entry)
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
        let entry = Arc::new(entry);
        self.addresses.insert(ip, Arc::clone(&entry));
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
            names: Pages::empty(),
            addresses: Pages::empty(),
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

impl Slot {
    fn entry(&self) -> &NameEntry {
        &self.entry
    }
}

impl Page {
    /// Where the records of a key are, or would be. Hashes are spread evenly, so that a key lies
    /// near its share of the page.
    fn range_of(&self, key: Key) -> Range<usize> {
        let [_, share @ .., _, _, _, _, _, _, _] = key.to_be_bytes();
        let guess = (self.0.len() as u128 * u128::from(u64::from_be_bytes(share))) >> u64::BITS;
        let (before, after) = self.0.split_at(usize::try_from(guess).unwrap_or_default());
        let too_far = before.iter().rev().take_while(|slot| slot.key >= key);
        let too_near = after.iter().take_while(|slot| slot.key < key);
        let start = before.len() - too_far.count() + too_near.count();
        let same = self.0.iter().skip(start);
        start..start + same.take_while(|slot| slot.key == key).count()
    }

    fn get(&self, key: Key) -> &[Slot] {
        self.0.get(self.range_of(key)).unwrap_or_default()
    }
}

impl Pages {
    fn empty() -> Self {
        Self(vec![Arc::default(); PAGES])
    }

    fn get(&self, key: Key) -> &[Slot] {
        let page = self.0.get(page_of(key));
        page.map_or(&[], |page| page.get(key))
    }

    fn insert(&mut self, key: Key, entry: Arc<NameEntry>) {
        let Some(page) = self.0.get_mut(page_of(key)) else {
            return;
        };
        let end = page.range_of(key).end;
        let ip = entry.ip;
        Arc::make_mut(page).0.insert(end, Slot { key, ip, entry });
    }

    /// Removes one record like this; whether there was one.
    fn remove(&mut self, key: Key, entry: &NameEntry) -> bool {
        let Some(page) = self.0.get_mut(page_of(key)) else {
            return false;
        };
        let is_it = |index: &usize| page.0.get(*index).is_some_and(|it| *it.entry == *entry);
        let Some(index) = page.range_of(key).find(is_it) else {
            return false;
        };
        Arc::make_mut(page).0.remove(index);
        true
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

fn page_of(key: Key) -> usize {
    let [page, ..] = key.to_be_bytes();
    usize::from(page)
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

    /// Pages that two tables do not share.
    fn copied(before: &Pages, after: &Pages) -> usize {
        let pages = before.0.iter().zip(&after.0);
        pages.filter(|(a, b)| !Arc::ptr_eq(a, b)).count()
    }

    #[test]
    fn a_change_copies_one_page_of_each_direction() {
        let mut table = NameTable::default();
        for number in 0..10_000 {
            table.insert(entry(number));
        }
        let before = table.clone();
        table.insert(entry(10_000));
        assert_eq!(copied(&before.names, &table.names), 1);
        assert_eq!(copied(&before.addresses, &table.addresses), 1);
        for pages in [&table.names, &table.addresses] {
            let most = pages.0.iter().map(|page| page.0.len()).max();
            assert!(most < Some(80), "they are spread: {most:?}");
        }
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
                prop_assert_eq!(table.lookup(&entry(number).name).count(), held);
                prop_assert_eq!(table.reverse(entry(number).ip).count(), held);
            }
        }
    }
}
