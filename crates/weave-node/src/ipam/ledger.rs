//! What the logs of all other peers say about addresses, and the subnets everybody uses.
//!
//! Nothing here is judged: a grant by somebody who owns nothing is kept like any other, and has
//! no effect when owners are computed.

use std::collections::{BTreeMap, BTreeSet};

use weave_wire::proto::{GrantRecord, LoanRecord, SubnetRecord, entry::Body};
use weave_wire::{Cidr, PeerId, ip_from_bytes};

use super::chunks::Grant;
use super::genesis::{Genesis, GenesisId};
use super::span::Span;
use super::store::{grant_of, ip_bits, number_bits, peer_of};

/// Where an entry stands: whose log, and which slot of it.
type Place = (PeerId, u64);

/// A loan to this peer, as the lender's log has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LoanToUs {
    /// Where in the lender's log it stands.
    slot: u64,
    pub(crate) genesis: GenesisId,
    pub(crate) request_id: u64,
}

/// What an entry was about that came, changed or went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Touched {
    pub(crate) genesis: bool,
    pub(crate) grants: bool,
    pub(crate) loans: bool,
    pub(crate) subnets: bool,
    pub(crate) stations: bool,
    /// A loan to this peer is gone.
    pub(crate) unlent_to_us: bool,
    /// A grant or loan to this peer that answers this request.
    pub(crate) fulfilled: Option<u64>,
    /// A loan to this peer: lender, address, request.
    pub(crate) lent_to_us: Option<(PeerId, u32, u64)>,
}

/// The other peers' entries by kind.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    me: PeerId,
    /// Foundings that others' entries tell of, and how many of them.
    geneses: BTreeMap<GenesisId, (Genesis, usize)>,
    /// Which of them an entry tells of; peer records may tell of none.
    told: BTreeMap<Place, Option<GenesisId>>,
    grants: BTreeMap<Place, (GenesisId, Grant)>,
    loans: BTreeMap<Place, (GenesisId, PeerId, u32)>,
    subnets: BTreeMap<Place, Cidr>,
    nicknames: BTreeMap<PeerId, String>,
    stations: BTreeMap<Place, Vec<u32>>,
    /// The same by address.
    announced: BTreeSet<(u32, Place)>,
    /// Loans by address.
    lent: BTreeSet<(u32, Place)>,
    to_us: BTreeMap<(PeerId, u32), LoanToUs>,
    /// How many grants and loans name a founding.
    uses: BTreeMap<GenesisId, usize>,
}

impl Ledger {
    pub(crate) const fn new(me: PeerId) -> Self {
        Self {
            me,
            geneses: BTreeMap::new(),
            told: BTreeMap::new(),
            grants: BTreeMap::new(),
            loans: BTreeMap::new(),
            subnets: BTreeMap::new(),
            nicknames: BTreeMap::new(),
            stations: BTreeMap::new(),
            announced: BTreeSet::new(),
            lent: BTreeSet::new(),
            to_us: BTreeMap::new(),
            uses: BTreeMap::new(),
        }
    }

    /// Replaces one entry of one log.
    ///
    /// Of our own log only subnets count: about our grants and loans we know better.
    pub(crate) fn apply(&mut self, origin: PeerId, slot: u64, new: Option<&Body>) -> Touched {
        let place = (origin, slot);
        let told_before = self.told.get(&place).copied();
        let mut touched = self.remove(place);
        let foreign = origin != self.me;
        match new {
            Some(Body::Genesis(record)) if foreign => {
                self.tell(place, Genesis::from_record(origin, record.clone()));
            }
            Some(Body::Grant(record)) if foreign => self.add_grant(place, record, &mut touched),
            Some(Body::Loan(record)) if foreign => self.add_loan(place, record, &mut touched),
            Some(Body::Subnet(record)) => {
                if let Some(subnet) = subnet_of(record) {
                    touched.subnets = true;
                    self.subnets.insert(place, subnet);
                }
            }
            Some(Body::Endpoint(record)) if foreign => {
                let ips = record.ips.iter().filter_map(|ip| number_bits(ip));
                let ips: Vec<u32> = ips.collect();
                touched.stations = true;
                self.announced.extend(ips.iter().map(|ip| (*ip, place)));
                self.stations.insert(place, ips);
            }
            Some(Body::Peer(record)) => {
                self.nicknames.insert(origin, record.nickname.clone());
                if foreign {
                    let part = record.founding.as_ref();
                    self.tell(place, part.and_then(|founding| Genesis::told(founding)));
                }
            }
            Some(
                Body::Genesis(_)
                | Body::Grant(_)
                | Body::Loan(_)
                | Body::Endpoint(_)
                | Body::Name(_)
                | Body::Ban(_),
            )
            | None => {}
        }
        touched.genesis = told_before != self.told.get(&place).copied();
        touched
    }

    fn tell(&mut self, place: Place, genesis: Option<Genesis>) {
        self.told
            .insert(place, genesis.as_ref().map(|genesis| genesis.id));
        if let Some(genesis) = genesis {
            let known = self.geneses.entry(genesis.id).or_insert((genesis, 0));
            known.1 += 1;
        }
    }

    /// Foundings that other peers made. Of our own they know less than we do: if we left it, what
    /// we lent under it is forgotten.
    pub(crate) fn geneses(&self) -> impl Iterator<Item = &Genesis> {
        self.all_geneses()
            .filter(|genesis| genesis.founder != self.me)
    }

    /// Foundings that we made, as others tell of them.
    pub(crate) fn own_geneses(&self) -> impl Iterator<Item = &Genesis> {
        self.all_geneses()
            .filter(|genesis| genesis.founder == self.me)
    }

    fn all_geneses(&self) -> impl Iterator<Item = &Genesis> {
        self.geneses.values().map(|(genesis, _)| genesis)
    }

    /// Whether the log of its founder is known and tells of it no more: nobody can give out addresses
    /// then but who has chunks of it already.
    pub(crate) fn is_left(&self, genesis: &Genesis) -> bool {
        let founder = genesis.founder;
        let told = self.told.range((founder, 0)..=(founder, u64::MAX));
        let mut told = told.peekable();
        told.peek().is_some() && told.all(|(_, id)| *id != Some(genesis.id))
    }

    /// Grants of other peers under this founding.
    pub(crate) fn grants(&self, genesis: GenesisId) -> impl Iterator<Item = Grant> + '_ {
        self.grants
            .values()
            .filter(move |(id, _)| *id == genesis)
            .map(|(_, grant)| *grant)
    }

    /// Loans of other peers to us, by lender and address.
    pub(crate) fn loans_to_us(&self) -> impl Iterator<Item = (PeerId, u32, LoanToUs)> + '_ {
        self.to_us
            .iter()
            .map(|((lender, ip), loan)| (*lender, *ip, *loan))
    }

    /// The loan of this address by this peer to us.
    pub(crate) fn loan_to_us(&self, lender: PeerId, ip: u32) -> Option<LoanToUs> {
        self.to_us.get(&(lender, ip)).copied()
    }

    /// Addresses that other peers have lent under this founding: lender, borrower, address.
    pub(crate) fn loans(&self, id: GenesisId) -> impl Iterator<Item = (PeerId, PeerId, u32)> + '_ {
        let of_id = self.loans.iter().filter(move |(_, loan)| loan.0 == id);
        of_id.map(|((lender, _), (_, borrower, ip))| (*lender, *borrower, *ip))
    }

    /// Addresses between these that other peers have lent: address, founding, borrower.
    pub(crate) fn borrowed(
        &self,
        span: Span,
    ) -> impl Iterator<Item = (u32, GenesisId, PeerId)> + '_ {
        let lent = self.lent.range(all_of(span));
        lent.filter_map(|(_, place)| {
            let (id, borrower, ip) = self.loans.get(place)?;
            Some((*ip, *id, *borrower))
        })
    }

    /// Addresses between these that containers of other peers have, as IPv4 addresses or in IPv6
    /// ones, with those peers.
    pub(crate) fn used_by_others(&self, span: Span) -> impl Iterator<Item = (u32, PeerId)> + '_ {
        let uses = self.announced.range(all_of(span));
        uses.map(|(ip, (peer, _))| (*ip, *peer))
    }

    /// Whether other peers granted or lent anything under this founding.
    pub(crate) fn is_used(&self, genesis: GenesisId) -> bool {
        self.uses.contains_key(&genesis)
    }

    /// Whether somebody uses a founding that nobody announces at present.
    pub(crate) fn names_unknown_genesis(&self) -> bool {
        self.uses.keys().any(|id| !self.geneses.contains_key(id))
    }

    /// The known subnets strictly inside this one.
    pub(crate) fn subnets_inside(&self, outer: Cidr) -> impl Iterator<Item = Cidr> + '_ {
        let inside = move |net: &Cidr| outer.covers(net) && *net != outer;
        self.subnets.values().copied().filter(inside)
    }

    /// How people call this peer.
    pub(crate) fn label(&self, peer: PeerId) -> String {
        match self.nicknames.get(&peer) {
            Some(nickname) if !nickname.is_empty() => format!("{nickname} ({})", peer.name()),
            _ => peer.name().to_string(),
        }
    }

    fn add_grant(&mut self, place: Place, record: &GrantRecord, touched: &mut Touched) {
        let (Some(grant), Ok(id)) = (
            grant_of(place.0, record),
            GenesisId::try_from(record.genesis.as_slice()),
        ) else {
            return;
        };
        touched.grants = true;
        touched.fulfilled = (grant.grantee == self.me).then_some(record.request_id);
        self.grants.insert(place, (id, grant));
        *self.uses.entry(id).or_default() += 1;
    }

    fn add_loan(&mut self, place: Place, record: &LoanRecord, touched: &mut Touched) {
        let (Some(ip), Some(borrower), Ok(id)) = (
            ip_bits(&record.ip),
            peer_of(&record.borrower),
            GenesisId::try_from(record.genesis.as_slice()),
        ) else {
            return;
        };
        if borrower == self.me {
            let loan = LoanToUs {
                slot: place.1,
                genesis: id,
                request_id: record.request_id,
            };
            self.to_us.insert((place.0, ip), loan);
            touched.fulfilled = Some(record.request_id);
            touched.lent_to_us = Some((place.0, ip, record.request_id));
        }
        touched.loans = true;
        self.loans.insert(place, (id, borrower, ip));
        self.lent.insert((ip, place));
        *self.uses.entry(id).or_default() += 1;
    }

    fn remove(&mut self, place: Place) -> Touched {
        let mut touched = Touched {
            subnets: self.subnets.remove(&place).is_some(),
            ..Touched::default()
        };
        if let Some(Some(id)) = self.told.remove(&place)
            && let Some((_, places)) = self.geneses.get_mut(&id)
        {
            *places -= 1;
            if *places == 0 {
                self.geneses.remove(&id);
            }
        }
        for ip in self.stations.remove(&place).into_iter().flatten() {
            touched.stations = true;
            self.announced.remove(&(ip, place));
        }
        if let Some((id, _)) = self.grants.remove(&place) {
            touched.grants = true;
            self.unuse(id);
        }
        if let Some((id, borrower, ip)) = self.loans.remove(&place) {
            touched.loans = true;
            self.lent.remove(&(ip, place));
            // a lender that started anew may have listed the same loan in another slot by now
            let listed = self
                .to_us
                .get(&(place.0, ip))
                .is_some_and(|loan| loan.slot == place.1);
            if borrower == self.me && listed {
                self.to_us.remove(&(place.0, ip));
                touched.unlent_to_us = true;
            }
            self.unuse(id);
        }
        touched
    }

    fn unuse(&mut self, id: GenesisId) {
        if let Some(count) = self.uses.get_mut(&id) {
            *count -= 1;
            if *count == 0 {
                self.uses.remove(&id);
            }
        }
    }
}

/// All places of these addresses.
const fn all_of(span: Span) -> std::ops::RangeInclusive<(u32, Place)> {
    let first = (span.first, (PeerId([0; 32]), 0));
    first..=(span.last, (PeerId([0xff; 32]), u64::MAX))
}

fn subnet_of(record: &SubnetRecord) -> Option<Cidr> {
    let ip = ip_from_bytes(&record.ip).ok()?;
    let subnet = Cidr::new(ip, u8::try_from(record.prefix_len).ok()?).ok()?;
    Span::of(subnet).map(|_| subnet)
}

#[cfg(test)]
mod tests {
    use weave_wire::proto::{EndpointRecord, PeerRecord};

    use super::*;
    use crate::ipam::store::{grant_record, loan_record};

    const ME: PeerId = PeerId([1; 32]);
    const OTHER: PeerId = PeerId([2; 32]);

    const fn granted(grantee: PeerId) -> Grant {
        Grant {
            serial: 1,
            taken_from: None,
            grantor: OTHER,
            grantee,
            chunks: Span::one(2),
            number: 1,
            taken_at: 0,
        }
    }

    #[test]
    fn an_entry_that_is_replaced_leaves_nothing_behind() {
        let mut ledger = Ledger::new(ME);
        let loan = Body::Loan(loan_record([3; 16], ME, 77, 9));
        let touched = ledger.apply(OTHER, 5, Some(&loan));
        assert_eq!(touched.lent_to_us, Some((OTHER, 77, 9)));
        assert!(ledger.is_used([3; 16]) && ledger.names_unknown_genesis());
        let grant = Body::Grant(grant_record([4; 16], &granted(ME), 10));
        let touched = ledger.apply(OTHER, 5, Some(&grant));
        assert_eq!((touched.grants, touched.fulfilled), (true, Some(10)));
        assert_eq!(ledger.loan_to_us(OTHER, 77), None);
        assert!(!ledger.is_used([3; 16]));
        assert_eq!(ledger.grants([4; 16]).count(), 1);
        ledger.apply(OTHER, 5, None);
        assert_eq!(ledger.grants([4; 16]).count(), 0);
        assert!(!ledger.names_unknown_genesis());
    }

    #[test]
    fn a_founding_is_known_as_long_as_anybody_tells_of_it() {
        let mut ledger = Ledger::new(ME);
        let range = "10.32.0.0/12".parse().expect("a range");
        let genesis = Genesis::found(OTHER, range, 7).expect("IPv4");
        let record = Body::Peer(PeerRecord {
            founding: Some(genesis.to_tell()),
            ..PeerRecord::default()
        });
        let own = Body::Genesis(genesis.record.clone());
        let third = PeerId([3; 32]);
        assert!(ledger.apply(OTHER, 1, Some(&own)).genesis);
        assert!(ledger.apply(third, 1, Some(&record)).genesis);
        assert!(!ledger.apply(third, 1, Some(&record)).genesis, "no news");
        ledger.apply(OTHER, 1, None);
        assert_eq!(ledger.geneses().collect::<Vec<_>>(), [&genesis]);
        ledger.apply(third, 1, Some(&Body::Peer(PeerRecord::default())));
        assert_eq!(ledger.geneses().count(), 0);
        // what we take part in ourselves, or have made, we know
        ledger.apply(ME, 1, Some(&record));
        let own = Genesis::found(ME, range, 7).expect("IPv4");
        let of_ours = Body::Peer(PeerRecord {
            founding: Some(own.to_tell()),
            ..PeerRecord::default()
        });
        ledger.apply(third, 1, Some(&of_ours));
        assert_eq!(ledger.geneses().count(), 0);
    }

    #[test]
    fn a_loan_that_moves_to_another_slot_is_still_there() {
        let mut ledger = Ledger::new(ME);
        let loan = Body::Loan(loan_record([3; 16], ME, 77, 9));
        ledger.apply(OTHER, 5, Some(&loan));
        ledger.apply(OTHER, 2, Some(&loan));
        ledger.apply(OTHER, 5, None);
        assert!(ledger.loan_to_us(OTHER, 77).is_some());
        ledger.apply(OTHER, 2, None);
        assert_eq!(ledger.loan_to_us(OTHER, 77), None);
    }

    #[test]
    fn an_ipv6_address_of_a_station_is_a_use_of_its_number() {
        let mut ledger = Ledger::new(ME);
        let mut v6 = [0; 16];
        v6[0] = 0xfd;
        v6[12..].copy_from_slice(&77u32.to_be_bytes());
        let station = Body::Endpoint(EndpointRecord {
            ips: vec![vec![0, 0, 0, 76], v6.to_vec()],
            ..Default::default()
        });
        ledger.apply(OTHER, 5, Some(&station));
        let both = Span {
            first: 76,
            last: 77,
        };
        let used: Vec<_> = ledger.used_by_others(both).collect();
        assert_eq!(used, [(76, OTHER), (77, OTHER)]);
        ledger.apply(OTHER, 5, None);
        assert_eq!(ledger.used_by_others(both).count(), 0);
    }

    #[test]
    fn our_own_log_tells_us_nothing_about_grants() {
        let mut ledger = Ledger::new(ME);
        let grant = Body::Grant(grant_record([4; 16], &granted(OTHER), 10));
        assert_eq!(ledger.apply(ME, 5, Some(&grant)), Touched::default());
        assert_eq!(ledger.grants([4; 16]).count(), 0);
    }

    #[test]
    fn grants_without_chunks_are_left_out() {
        let mut ledger = Ledger::new(ME);
        let mut record = grant_record([4; 16], &granted(ME), 10);
        record.chunk_count = 0;
        ledger.apply(OTHER, 1, Some(&Body::Grant(record.clone())));
        record.chunk_count = u32::MAX;
        ledger.apply(OTHER, 2, Some(&Body::Grant(record)));
        assert_eq!(ledger.grants([4; 16]).count(), 0);
    }
}
