//! Which peer owns which MAC and IP address, and who is on which segment.
//!
//! [`Endpoints`] holds what every origin announces, our own endpoints included, and answers for
//! the live ones. Each announcement carries a claim number, one more than the highest seen for
//! its addresses; where two live peers announce the same address, the higher claim wins, and the
//! loser withdraws what it lost and reports it. Of equal ones each peer keeps what it knew first;
//! both that announce it report it.
//!
//! Does not build the forwarding table, and does not know sessions.

mod claims;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::sync::OnceLock;

use weave_wire::codec::MAX_ENDPOINT_IPS;
use weave_wire::proto::{EndpointRecord, SubnetRecord, entry};
use weave_wire::{Cidr, Mac, PeerId, SegmentId, ip_bytes, ip_from_bytes, mac_from_bytes};

use claims::{Claims, Record, Source};

/// A local endpoint, as it is to be announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSpec {
    /// Names the endpoint on this host.
    pub id: String,
    /// Its segment.
    pub segment: SegmentId,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its addresses, at most eight.
    pub ips: Vec<IpAddr>,
    /// First characters of the container's id, or empty.
    pub container: String,
}

/// Why an endpoint cannot be announced. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// More addresses than a record holds.
    #[error("endpoint `{id}` has {count} addresses, at most {MAX_ENDPOINT_IPS} can be announced")]
    TooManyAddresses {
        /// The endpoint.
        id: String,
        /// How many it has.
        count: usize,
    },
    /// No station can have this Ethernet address.
    #[error("endpoint `{id}` has the group address {mac}; give its interface a unicast one")]
    GroupAddress {
        /// The endpoint.
        id: String,
        /// Its address.
        mac: Mac,
    },
}

/// What two peers claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contested {
    /// An Ethernet address: the endpoint was withdrawn.
    Mac(Mac),
    /// An address: it was withdrawn, the endpoint lives on without it.
    Ip(IpAddr),
}

/// Another peer announces an address of an endpoint of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conflict {
    /// The endpoint.
    pub(crate) endpoint: EndpointSpec,
    /// The address.
    pub(crate) what: Contested,
    /// Who else announces it.
    pub(crate) with: PeerId,
    /// The endpoint lost it; otherwise peers stay with whom they knew first.
    pub(crate) is_lost: bool,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let EndpointSpec { id, container, .. } = &self.endpoint;
        let whose = if container.is_empty() { id } else { container };
        let peer = self.with.name();
        match self.what {
            Contested::Mac(mac) => write!(f, "MAC {mac} of `{whose}`")?,
            Contested::Ip(ip) => write!(f, "address {ip} of `{whose}`")?,
        }
        match self.is_lost {
            true => write!(f, " is also in use at peer {peer}, which keeps it"),
            false => write!(
                f,
                " is also in use at peer {peer}: each is reached from where it was known first; \
                 start one of them anew"
            ),
        }
    }
}

/// What the node must do for the endpoints.
#[derive(Debug, PartialEq)]
pub(crate) enum EndpointAction {
    /// Set or remove an entry of our own log.
    SetEntry {
        /// Its key.
        key: String,
        /// What it says, none to remove it.
        body: Option<entry::Body>,
    },
    /// An address of an endpoint of ours is another's, too.
    Conflict(Conflict),
}

/// A segment of the mesh.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SegmentView {
    /// Its subnet; several only where identifiers collide.
    pub(crate) subnets: BTreeSet<Cidr>,
    /// Frames from unannounced sources are dropped here.
    pub(crate) strict: bool,
    /// It is on this host.
    pub(crate) local: bool,
    /// The live peers that have it, ourselves included.
    pub(crate) members: BTreeSet<PeerId>,
}

#[derive(Debug, Clone, Copy)]
struct SubnetClaim {
    segment: SegmentId,
    cidr: Cidr,
    strict: bool,
    /// As announced; of our own subnets the shell knows it.
    ipv6: Option<Cidr>,
}

#[derive(Debug)]
struct Own {
    spec: EndpointSpec,
    claim: u64,
    handle: u64,
}

/// The endpoints and segments of all peers.
#[derive(Debug)]
pub(crate) struct Endpoints {
    me: PeerId,
    own: BTreeMap<String, Own>,
    /// Local endpoints that lost an address, as they would have it.
    contested: BTreeMap<String, EndpointSpec>,
    next_handle: u64,
    claims: Claims,
    /// Of the other peers, by slot.
    subnets: BTreeMap<(PeerId, u64), SubnetClaim>,
    own_subnets: BTreeMap<Cidr, SubnetClaim>,
    live: BTreeSet<PeerId>,
    actions: VecDeque<EndpointAction>,
    changed: bool,
    /// The segments as they were last asked for, until something changes.
    segments: OnceLock<BTreeMap<SegmentId, SegmentView>>,
}

impl Endpoints {
    /// No endpoints.
    pub(crate) fn new(me: PeerId) -> Self {
        Self {
            me,
            own: BTreeMap::new(),
            contested: BTreeMap::new(),
            next_handle: 0,
            claims: Claims::default(),
            subnets: BTreeMap::new(),
            own_subnets: BTreeMap::new(),
            live: BTreeSet::from([me]),
            actions: VecDeque::new(),
            changed: false,
            segments: OnceLock::new(),
        }
    }

    /// Announces a local endpoint, or what has changed of it. It wins against every earlier
    /// announcement of its addresses that is known here.
    ///
    /// # Errors
    /// When no record can hold it.
    pub(crate) fn announce(&mut self, spec: EndpointSpec) -> Result<(), EndpointError> {
        if spec.ips.len() > MAX_ENDPOINT_IPS {
            let count = spec.ips.len();
            return Err(EndpointError::TooManyAddresses { id: spec.id, count });
        }
        if spec.mac.is_multicast() {
            return Err(EndpointError::GroupAddress {
                id: spec.id,
                mac: spec.mac,
            });
        }
        if self.own.get(&spec.id).is_some_and(|own| own.spec == spec) {
            return Ok(());
        }
        self.contested.remove(&spec.id);
        self.claim(spec);
        Ok(())
    }

    /// A local endpoint is gone.
    pub(crate) fn withdraw(&mut self, id: &str) {
        self.contested.remove(id);
        self.take_back(id);
    }

    fn take_back(&mut self, id: &str) {
        let Some(own) = self.own.remove(id) else {
            return;
        };
        self.claims.remove(&(self.me, own.handle));
        self.note_change();
        self.actions.push_back(EndpointAction::SetEntry {
            key: key(id),
            body: None,
        });
    }

    /// A slot of an origin's table holds this now. Other records only clear the slot.
    pub(crate) fn apply(&mut self, origin: PeerId, slot: u64, new: Option<&entry::Body>) {
        // what is ours counts from the moment that we have it, not when our log says so
        if origin == self.me {
            return;
        }
        let source = (origin, slot);
        let had_subnet = self.subnets.remove(&source).is_some();
        if let Some(subnet) = new.and_then(read_subnet) {
            self.subnets.insert(source, subnet);
            self.note_change();
        }
        let was_claim = match new.and_then(read_endpoint) {
            Some(record) => {
                let was_claim = self.claims.insert(source, record);
                self.note_change();
                self.yield_to(&source);
                was_claim
            }
            None => self.claims.remove(&source),
        };
        if had_subnet || was_claim {
            self.note_change();
        }
        if was_claim {
            self.reclaim();
        }
    }

    /// Who is live has changed.
    pub(crate) fn set_live(&mut self, live: &BTreeSet<PeerId>) {
        let mut live = live.clone();
        live.insert(self.me);
        if live == self.live {
            return;
        }
        let joined: Vec<PeerId> = live.difference(&self.live).copied().collect();
        self.live = live;
        self.note_change();
        for origin in joined {
            for source in self.claims.of_origin(&origin) {
                self.yield_to(&source);
            }
        }
        self.reclaim();
    }

    /// Whether any answer may have changed since this was last asked.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// The owner of each MAC.
    pub(crate) fn macs(&self) -> impl Iterator<Item = (SegmentId, Mac, PeerId)> {
        self.claims.macs(&self.live)
    }

    /// The MAC and the owner of each address.
    pub(crate) fn ips(&self) -> impl Iterator<Item = (SegmentId, IpAddr, Mac, PeerId)> {
        self.claims.ips(&self.live)
    }

    fn note_change(&mut self) {
        self.changed = true;
        self.segments.take();
    }

    /// The segments, and who has them.
    pub(crate) fn segments(&self) -> &BTreeMap<SegmentId, SegmentView> {
        self.segments.get_or_init(|| self.view_segments())
    }

    fn view_segments(&self) -> BTreeMap<SegmentId, SegmentView> {
        let mut segments: BTreeMap<SegmentId, SegmentView> = BTreeMap::new();
        for ((origin, _), subnet) in &self.subnets {
            if !self.live.contains(origin) {
                continue;
            }
            let view = segments.entry(subnet.segment).or_default();
            view.members.insert(*origin);
            view.subnets.insert(subnet.cidr);
            view.strict |= subnet.strict;
        }
        for subnet in self.own_subnets.values() {
            let view = segments.entry(subnet.segment).or_default();
            view.members.insert(self.me);
            view.subnets.insert(subnet.cidr);
            view.local = true;
            view.strict = subnet.strict;
        }
        segments
    }

    /// This host has a bridge for the subnet.
    pub(crate) fn add_subnet(&mut self, segment: SegmentId, cidr: Cidr, strict: bool) {
        let subnet = SubnetClaim {
            segment,
            cidr,
            strict,
            ipv6: None,
        };
        self.own_subnets.insert(cidr, subnet);
        self.note_change();
    }

    /// The IPv6 subnet that a live peer has beside this one, the lowest of those that have any.
    pub(crate) fn ipv6_beside(&self, cidr: Cidr) -> Option<(PeerId, Cidr)> {
        let mut beside = self.subnets.iter().filter_map(|((peer, _), subnet)| {
            let meant = subnet.cidr == cidr && self.live.contains(peer);
            Some((*peer, subnet.ipv6.filter(|_| meant)?))
        });
        beside.next()
    }

    /// Subnets that this host has a bridge for.
    pub(crate) fn own_subnets(&self) -> impl Iterator<Item = Cidr> + '_ {
        self.own_subnets.keys().copied()
    }

    /// The bridge of the subnet is gone.
    pub(crate) fn remove_subnet(&mut self, cidr: Cidr) {
        self.own_subnets.remove(&cidr);
        self.note_change();
    }

    /// What to do next.
    pub(crate) fn poll_action(&mut self) -> Option<EndpointAction> {
        self.actions.pop_front()
    }

    /// Withdraws what a live peer's record takes from our own endpoints.
    fn yield_to(&mut self, source: &Source) {
        if !self.live.contains(&source.0) {
            return;
        }
        for (handle, what, is_lost) in self.claims.contested_by(source, self.me) {
            let Some(own) = self.own.values().find(|own| own.handle == handle) else {
                continue;
            };
            let (mut spec, claim) = (own.spec.clone(), own.claim);
            let conflict = Conflict {
                endpoint: spec.clone(),
                what,
                with: source.0,
                is_lost,
            };
            if !is_lost {
                self.actions.push_back(EndpointAction::Conflict(conflict));
                continue;
            }
            self.contested
                .entry(spec.id.clone())
                .or_insert_with(|| spec.clone());
            match what {
                Contested::Mac(_) => self.take_back(&spec.id),
                Contested::Ip(ip) => {
                    spec.ips.retain(|held| *held != ip);
                    self.put(spec, claim);
                }
            }
            self.actions.push_back(EndpointAction::Conflict(conflict));
        }
    }

    /// Announces again what was lost to peers that do not claim it any more: the record that
    /// took it may have been an old one, whose end was still on its way.
    fn reclaim(&mut self) {
        for (id, whole) in self.contested.clone() {
            let is_free =
                |ip: &IpAddr| !self.claims.is_held(whole.segment, *ip, &self.live, self.me);
            if self
                .claims
                .is_mac_held(whole.segment, whole.mac, &self.live, self.me)
            {
                continue;
            }
            let mut spec = whole.clone();
            spec.ips.retain(is_free);
            if spec.ips.len() == whole.ips.len() {
                self.contested.remove(&id);
            }
            if self.own.get(&id).is_none_or(|own| own.spec != spec) {
                self.claim(spec);
            }
        }
    }

    /// Announces an endpoint above every announcement of its addresses that is known.
    fn claim(&mut self, spec: EndpointSpec) {
        let highest = self.claims.highest(spec.segment, spec.mac, &spec.ips);
        self.put(spec, highest.saturating_add(1));
    }

    fn put(&mut self, spec: EndpointSpec, claim: u64) {
        let handle = match self.own.get(&spec.id) {
            Some(own) => own.handle,
            None => {
                self.next_handle += 1;
                self.next_handle
            }
        };
        let EndpointSpec {
            segment, mac, ips, ..
        } = spec.clone();
        self.claims.insert(
            (self.me, handle),
            Record {
                segment,
                mac,
                ips,
                claim,
            },
        );
        let body = Some(entry::Body::Endpoint(record(&spec, claim)));
        self.actions.push_back(EndpointAction::SetEntry {
            key: key(&spec.id),
            body,
        });
        self.own.insert(
            spec.id.clone(),
            Own {
                spec,
                claim,
                handle,
            },
        );
        self.note_change();
    }
}

fn key(id: &str) -> String {
    format!("endpoint/{id}")
}

fn record(spec: &EndpointSpec, claim: u64) -> EndpointRecord {
    EndpointRecord {
        segment: spec.segment.0,
        mac: spec.mac.0.to_vec(),
        ips: spec.ips.iter().map(|ip| ip_bytes(*ip)).collect(),
        claim,
        container: spec.container.clone(),
    }
}

fn read_endpoint(body: &entry::Body) -> Option<Record> {
    let record = match body {
        entry::Body::Endpoint(record) => record,
        entry::Body::Peer(_)
        | entry::Body::Subnet(_)
        | entry::Body::Name(_)
        | entry::Body::Genesis(_)
        | entry::Body::Grant(_)
        | entry::Body::Loan(_)
        | entry::Body::Ban(_) => return None,
    };
    let mac = mac_from_bytes(&record.mac)
        .ok()
        .filter(|mac| !mac.is_multicast())?;
    let ips = record
        .ips
        .iter()
        .take(MAX_ENDPOINT_IPS)
        .map(|ip| ip_from_bytes(ip));
    let ips = ips.collect::<Result<_, _>>().ok()?;
    Some(Record {
        segment: SegmentId(record.segment),
        mac,
        ips,
        claim: record.claim,
    })
}

fn read_subnet(body: &entry::Body) -> Option<SubnetClaim> {
    let record = match body {
        entry::Body::Subnet(record) => record,
        entry::Body::Peer(_)
        | entry::Body::Endpoint(_)
        | entry::Body::Name(_)
        | entry::Body::Genesis(_)
        | entry::Body::Grant(_)
        | entry::Body::Loan(_)
        | entry::Body::Ban(_) => return None,
    };
    let ip = ip_from_bytes(&record.ip).ok()?;
    let cidr = Cidr::new(ip, u8::try_from(record.prefix_len).ok()?).ok()?;
    let segment = SegmentId(record.segment);
    (segment == SegmentId::of_subnet(cidr)).then_some(SubnetClaim {
        segment,
        cidr,
        strict: record.strict,
        ipv6: ipv6_of(record),
    })
}

/// One that cannot be used counts like none.
fn ipv6_of(record: &SubnetRecord) -> Option<Cidr> {
    let ip = <[u8; 16]>::try_from(record.ipv6.as_slice()).ok()?;
    let prefix_len = u8::try_from(record.ipv6_prefix_len).ok()?;
    let net = Cidr::new(ip.into(), prefix_len).ok()?;
    (prefix_len <= 96).then_some(net)
}

#[cfg(test)]
mod tests;
