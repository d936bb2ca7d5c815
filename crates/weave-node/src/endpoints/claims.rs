//! All announcements by address, and which of them is in force.
//!
//! The highest claim number wins: who took it knew of the others. Equal ones come from peers
//! that did not know of each other, as in two meshes that are connected, or two sides of a cut.
//! Of those each peer keeps what it knew first, so that no connection breaks that worked before.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use weave_wire::{Mac, PeerId, SegmentId};

use super::Contested;

/// Where an announcement comes from: a slot of an origin's table, or a handle of our own.
pub(super) type Source = (PeerId, u64);

/// One announcement.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) segment: SegmentId,
    pub(super) mac: Mac,
    pub(super) ips: Vec<IpAddr>,
    pub(super) claim: u64,
}

/// One announcement of one address.
#[derive(Debug, Clone, Copy)]
struct Claim {
    claim: u64,
    /// When its origin was first known to announce the address: the count of announcements then.
    since: u64,
    source: Source,
    mac: Mac,
}

/// The announcements of all origins, live or not.
#[derive(Debug, Default)]
pub(super) struct Claims {
    records: BTreeMap<Source, Record>,
    macs: BTreeMap<(SegmentId, Mac), Vec<Claim>>,
    ips: BTreeMap<(SegmentId, IpAddr), Vec<Claim>>,
    /// Number of announcements until now.
    count: u64,
}

impl Claims {
    /// Adds what `source` announces now, in place of what it did before. Whether it did.
    pub(super) fn insert(&mut self, source: Source, record: Record) -> bool {
        self.count += 1;
        let claim = |claims: Option<&Vec<Claim>>| {
            let known = claims.into_iter().flatten();
            let known = known.filter(|claim| claim.source.0 == source.0);
            Claim {
                claim: record.claim,
                since: known.map(|claim| claim.since).min().unwrap_or(self.count),
                source,
                mac: record.mac,
            }
        };
        let mac_key = (record.segment, record.mac);
        let of_mac = claim(self.macs.get(&mac_key));
        let ip_keys = record.ips.iter().map(|ip| (record.segment, *ip));
        let of_ips: Vec<_> = ip_keys
            .map(|key| (key, claim(self.ips.get(&key))))
            .collect();
        let was_there = self.remove(&source);
        self.macs.entry(mac_key).or_default().push(of_mac);
        for (key, of_ip) in of_ips {
            self.ips.entry(key).or_default().push(of_ip);
        }
        self.records.insert(source, record);
        was_there
    }

    /// Whether there was anything to remove.
    pub(super) fn remove(&mut self, source: &Source) -> bool {
        let Some(record) = self.records.remove(source) else {
            return false;
        };
        drop_claims(&mut self.macs, (record.segment, record.mac), source);
        for ip in record.ips {
            drop_claims(&mut self.ips, (record.segment, ip), source);
        }
        true
    }

    /// The highest claim number seen for any of these addresses; 0 when there is none.
    pub(super) fn highest(&self, segment: SegmentId, mac: Mac, ips: &[IpAddr]) -> u64 {
        let macs = self.macs.get(&(segment, mac)).into_iter().flatten();
        let ips = ips
            .iter()
            .filter_map(|ip| self.ips.get(&(segment, *ip)))
            .flatten();
        macs.chain(ips).map(|claim| claim.claim).max().unwrap_or(0)
    }

    /// Whether a live peer other than `me` announces this address.
    pub(super) fn is_held(
        &self,
        segment: SegmentId,
        ip: IpAddr,
        live: &BTreeSet<PeerId>,
        me: PeerId,
    ) -> bool {
        let claims = self.ips.get(&(segment, ip)).into_iter().flatten();
        is_anothers(claims, live, me)
    }

    /// Whether a live peer other than `me` announces this MAC.
    pub(super) fn is_mac_held(
        &self,
        segment: SegmentId,
        mac: Mac,
        live: &BTreeSet<PeerId>,
        me: PeerId,
    ) -> bool {
        let claims = self.macs.get(&(segment, mac)).into_iter().flatten();
        is_anothers(claims, live, me)
    }

    pub(super) fn of_origin(&self, origin: &PeerId) -> Vec<Source> {
        self.records
            .range((*origin, 0)..=(*origin, u64::MAX))
            .map(|(source, _)| *source)
            .collect()
    }

    /// Addresses in the record of `source` that records of `me` have, too, by their slots, and
    /// whether it takes them with a higher number; with the same one each stays where it is.
    pub(super) fn contested_by(&self, source: &Source, me: PeerId) -> Vec<(u64, Contested, bool)> {
        let Some(record) = self.records.get(source) else {
            return Vec::new();
        };
        let ours = |claims: Option<&Vec<Claim>>, what: Contested| {
            let claims = claims.into_iter().flatten();
            let ours = claims.filter(|claim| claim.source.0 == me && claim.claim <= record.claim);
            ours.map(|claim| (claim.source.1, what, claim.claim < record.claim))
                .collect::<Vec<_>>()
        };
        let mac = self.macs.get(&(record.segment, record.mac));
        let mut contested = ours(mac, Contested::Mac(record.mac));
        for ip in &record.ips {
            let ips = self.ips.get(&(record.segment, *ip));
            contested.extend(ours(ips, Contested::Ip(*ip)));
        }
        contested
    }

    pub(super) fn macs(
        &self,
        live: &BTreeSet<PeerId>,
    ) -> impl Iterator<Item = (SegmentId, Mac, PeerId)> {
        self.macs.iter().filter_map(|((segment, mac), claims)| {
            let winner = in_force(claims, live)?;
            Some((*segment, *mac, winner.source.0))
        })
    }

    pub(super) fn ips(
        &self,
        live: &BTreeSet<PeerId>,
    ) -> impl Iterator<Item = (SegmentId, IpAddr, Mac, PeerId)> {
        self.ips.iter().filter_map(|((segment, ip), claims)| {
            let winner = in_force(claims, live)?;
            Some((*segment, *ip, winner.mac, winner.source.0))
        })
    }
}

/// The higher wins: the higher number, then what was known first; of one origin the later slot.
const fn rank(claim: &Claim) -> (u64, Reverse<u64>, u64) {
    (claim.claim, Reverse(claim.since), claim.source.1)
}

fn is_anothers<'a>(
    mut claims: impl Iterator<Item = &'a Claim>,
    live: &BTreeSet<PeerId>,
    me: PeerId,
) -> bool {
    claims.any(|claim| claim.source.0 != me && live.contains(&claim.source.0))
}

fn in_force<'a>(claims: &'a [Claim], live: &BTreeSet<PeerId>) -> Option<&'a Claim> {
    let live = claims.iter().filter(|claim| live.contains(&claim.source.0));
    live.max_by_key(|claim| rank(claim))
}

fn drop_claims<K: Ord>(map: &mut BTreeMap<K, Vec<Claim>>, key: K, source: &Source) {
    if let Some(claims) = map.get_mut(&key) {
        claims.retain(|claim| claim.source != *source);
        if claims.is_empty() {
            map.remove(&key);
        }
    }
}
