//! All announcements by address, and which of them is in force.

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
    source: Source,
    mac: Mac,
}

/// The announcements of all origins, live or not.
#[derive(Debug, Default)]
pub(super) struct Claims {
    records: BTreeMap<Source, Record>,
    macs: BTreeMap<(SegmentId, Mac), Vec<Claim>>,
    ips: BTreeMap<(SegmentId, IpAddr), Vec<Claim>>,
}

impl Claims {
    pub(super) fn insert(&mut self, source: Source, record: Record) {
        let claim = Claim {
            claim: record.claim,
            source,
            mac: record.mac,
        };
        self.macs
            .entry((record.segment, record.mac))
            .or_default()
            .push(claim);
        for ip in &record.ips {
            self.ips
                .entry((record.segment, *ip))
                .or_default()
                .push(claim);
        }
        self.records.insert(source, record);
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

    /// What the record of `source` takes from records of `me`.
    pub(super) fn beaten_by(&self, source: &Source, me: PeerId) -> Vec<(u64, Contested)> {
        let Some(record) = self.records.get(source) else {
            return Vec::new();
        };
        let winner = rank(record.claim, source);
        let ours =
            |claims: &&Claim| claims.source.0 == me && rank(claims.claim, &claims.source) < winner;
        let macs = self
            .macs
            .get(&(record.segment, record.mac))
            .into_iter()
            .flatten();
        let mut beaten: Vec<(u64, Contested)> = macs
            .filter(ours)
            .map(|claim| (claim.source.1, Contested::Mac(record.mac)))
            .collect();
        for ip in &record.ips {
            let claims = self.ips.get(&(record.segment, *ip)).into_iter().flatten();
            beaten.extend(
                claims
                    .filter(ours)
                    .map(|claim| (claim.source.1, Contested::Ip(*ip))),
            );
        }
        beaten
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

/// The higher wins: more claims, then the lower key; of one origin the later slot.
fn rank(claim: u64, source: &Source) -> (u64, Reverse<PeerId>, u64) {
    (claim, Reverse(source.0), source.1)
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
    live.max_by_key(|claim| rank(claim.claim, &claim.source))
}

fn drop_claims<K: Ord>(map: &mut BTreeMap<K, Vec<Claim>>, key: K, source: &Source) {
    if let Some(claims) = map.get_mut(&key) {
        claims.retain(|claim| claim.source != *source);
        if claims.is_empty() {
            map.remove(&key);
        }
    }
}
