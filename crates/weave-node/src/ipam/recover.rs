//! A disk that came back older than it was: what peers and containers know better.
//!
//! Owns what our former log said, as the peers hold it, until it can be judged, and the
//! addresses that containers are found to use. Grants and loans of ours that the disk forgot
//! count again at once and are stored; an address in use is held again as soon as it is known to
//! be ours: in a chunk of our own, or lent to us and a container has it. Until the former log has been heard, nothing
//! is given out, granted, lent or returned.
//!
//! Taking over too much does no harm: a loan that nobody uses is returned by its borrower, an
//! address without a container is released by whoever compares with Docker.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use prost::Message as _;
use weave_wire::proto::entry::Body;
use weave_wire::proto::{EndpointRecord, GrantRecord, LoanRecord};
use weave_wire::{Cidr, PeerId, Time, ip_from_bytes};

use super::borrow::Returning;
use super::genesis::{Genesis, GenesisId};
use super::pool::{Held, Lent, Loan, Phase};
use super::span::ip_of;
use super::stage::{genesis_entry, grant_entry, loan_set, receipt_entry};
use super::store::{
    Write, genesis_write, grant_of, granted_key, held_write, ip_bits, lent_key, number_bits,
    owned_write, peer_of,
};
use super::{Ipam, NUMBER_OF_IPV6};

/// What is to be recovered, and what was.
#[derive(Debug, Clone, Default)]
pub(super) struct Recovery {
    is_awaited: bool,
    grants: Vec<GrantRecord>,
    loans: Vec<LoanRecord>,
    claims: BTreeMap<u32, Claim>,
    /// Given back since the start: our former log speaks of a use that is over.
    released: BTreeSet<u32>,
    /// What the disk refused to take.
    unsaved: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    found: Found,
}

/// An address that a container uses although we do not hold it.
#[derive(Debug, Clone)]
struct Claim {
    owner: String,
    subnet: Cidr,
    /// The container was seen; else only our former log speaks of it.
    is_seen: bool,
}

/// How much the disk did not know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Found {
    founding: bool,
    grants: usize,
    loans: usize,
    addresses: usize,
}

impl Recovery {
    /// Whether our former log has yet to be heard.
    pub(super) const fn is_awaited(&self) -> bool {
        self.is_awaited
    }

    /// An address is in use no more.
    pub(super) fn forget_claim(&mut self, ip: u32) {
        self.claims.remove(&ip);
        if self.is_awaited {
            self.released.insert(ip);
        }
    }

    pub(super) fn keep_unsaved(&mut self, writes: Vec<Write>) {
        self.unsaved.extend(writes);
    }

    /// Something newer is written under these keys.
    pub(super) fn forget_unsaved(&mut self, writes: &[Write]) {
        for (key, _) in writes {
            self.unsaved.remove(key);
        }
    }

    pub(super) fn take_unsaved(&mut self) -> Vec<Write> {
        std::mem::take(&mut self.unsaved).into_iter().collect()
    }

    /// What was recovered, in words; nothing when the disk knew all of it.
    pub(super) fn summary(&self) -> Option<String> {
        let Found {
            founding,
            grants,
            loans,
            addresses,
        } = self.found;
        let mut parts = Vec::new();
        if founding {
            parts.push("the founding of the range".to_owned());
        }
        for (count, what) in [
            (grants, "grant(s)"),
            (loans, "loan(s)"),
            (addresses, "address(es) in use"),
        ] {
            if count > 0 {
                parts.push(format!("{count} {what}"));
            }
        }
        (!parts.is_empty()).then(|| {
            format!(
                "this host's disk came back older than it was: took over from its peers and containers {}",
                parts.join(", ")
            )
        })
    }
}

impl Ipam {
    /// Whether this start has yet to hear what the former ones gave out.
    pub fn is_recovering(&self) -> bool {
        self.recovery.is_awaited
    }

    /// From now on nothing is given out, until [`Self::adopt_former`].
    pub fn await_former(&mut self, now: Time) {
        self.stir(now);
        self.recovery.is_awaited = !self.skips_recovery();
    }

    /// Takes over what our log said before this start, as far as peers hold it. `boot` is the
    /// number that our log goes on with.
    pub fn adopt_former(&mut self, former: Vec<Body>, boot: u64, now: Time) {
        self.stir(now);
        self.config.boot = boot;
        self.recovery.is_awaited = false;
        if self.skips_recovery() {
            return;
        }
        let mut subnets: BTreeMap<u32, Cidr> = BTreeMap::new();
        let mut endpoints = Vec::new();
        for body in former {
            match body {
                Body::Genesis(record) => {
                    if let Some(genesis) = Genesis::from_record(self.me, record) {
                        self.adopt_genesis(genesis);
                    }
                }
                Body::Grant(record) => self.recovery.grants.push(record),
                Body::Loan(record) => self.recovery.loans.push(record),
                Body::Endpoint(record) => endpoints.push(record),
                Body::Subnet(record) => {
                    let prefix_len = u8::try_from(record.prefix_len).ok();
                    let ip = ip_from_bytes(&record.ip).ok();
                    if let Some((ip, prefix_len)) = ip.zip(prefix_len)
                        && let Ok(subnet) = Cidr::new(ip, prefix_len)
                    {
                        subnets.insert(record.segment, subnet);
                    }
                }
                Body::Peer(_) | Body::Name(_) | Body::Ban(_) => {}
            }
        }
        for record in endpoints {
            if let Some(subnet) = subnets.get(&record.segment) {
                self.claim_former(&record, *subnet);
            }
        }
        self.recovery.released.clear();
        // the founding may be ours: then all of it is judged at once
        self.refresh_map();
        self.recover();
        if let Some(summary) = self.recovery.summary() {
            tracing::warn!(summary, "the disk was behind what peers hold of this host");
        }
    }

    /// Says that a container of this host uses an address.
    pub fn claim(&mut self, owner: &str, subnet: Cidr, address: Ipv4Addr, now: Time) {
        let ip = address.to_bits();
        if self.pool.held.contains_key(&ip) {
            return;
        }
        self.stir(now);
        let claim = Claim {
            owner: owner.to_owned(),
            subnet,
            is_seen: true,
        };
        self.recovery.claims.insert(ip, claim);
    }

    /// Judges what can be judged now of what is to be recovered.
    pub(super) fn recover(&mut self) {
        let Some(genesis) = self.genesis.clone() else {
            return;
        };
        if self.founding.is_given_up() {
            return;
        }
        let mut writes = Vec::new();
        for record in std::mem::take(&mut self.recovery.grants) {
            writes.extend(self.recover_grant(&genesis, &record));
        }
        for record in std::mem::take(&mut self.recovery.loans) {
            writes.extend(self.recover_loan(&genesis, &record));
        }
        self.refresh_map();
        for (ip, claim) in std::mem::take(&mut self.recovery.claims) {
            match self.recover_address(&genesis, ip, &claim) {
                Judged::Ours(write) => writes.push(write),
                Judged::Held => {}
                Judged::Unknown => {
                    self.recovery.claims.insert(ip, claim);
                }
            }
        }
        if !writes.is_empty() {
            writes.push(genesis_write(&genesis));
            self.stage_recovered(writes);
        }
    }

    /// Addresses that containers use although they are another peer's, in words.
    pub(super) fn unclaimable(&self) -> impl Iterator<Item = String> + '_ {
        let seen = self
            .recovery
            .claims
            .iter()
            .filter(|(_, claim)| claim.is_seen);
        seen.filter_map(|(ip, claim)| {
            let owner = self.run_at(*ip)?.owner;
            Some(format!(
                "address {} of `{}` on this host belongs to peer {}, which did not lend it: start \
                 the container anew",
                ip_of(*ip),
                claim.owner,
                self.ledger.label(owner)
            ))
        })
    }

    fn adopt_genesis(&mut self, genesis: Genesis) {
        let has_range = Some(genesis.range) == self.config.range;
        if !has_range || self.has_stake() || self.genesis_id() == Some(genesis.id) {
            return;
        }
        self.act(genesis_entry(&genesis));
        self.recovery.found.founding = true;
        self.stage_recovered(vec![genesis_write(&genesis)]);
        self.genesis = Some(genesis);
        self.map_stale = true;
    }

    fn claim_former(&mut self, record: &EndpointRecord, subnet: Cidr) {
        for address in &record.ips {
            let (subnet, owner) = match (ip_bits(address), record.container.as_str()) {
                (None, _) => (self.config.range.unwrap_or(subnet), NUMBER_OF_IPV6),
                (Some(_), "") => (subnet, "a container"),
                (Some(_), container) => (subnet, container),
            };
            let number = number_bits(address);
            let Some(ip) = number.filter(|ip| subnet.contains(ip_of(*ip).into())) else {
                continue;
            };
            if self.recovery.released.contains(&ip) || self.pool.held.contains_key(&ip) {
                continue;
            }
            self.recovery.claims.entry(ip).or_insert_with(|| Claim {
                owner: owner.to_owned(),
                subnet,
                is_seen: false,
            });
        }
    }

    fn recover_grant(&mut self, genesis: &Genesis, record: &GrantRecord) -> Option<Write> {
        let key = (record.first_chunk, record.serial);
        let grant = grant_of(self.me, record).filter(|_| is_of(genesis, &record.genesis))?;
        if grant.is_receipt() {
            if self.owned.contains_key(&key) {
                return None;
            }
            self.owned.insert(key, grant);
            self.act(receipt_entry(genesis, &grant));
            self.map_stale = true;
            return Some(owned_write(&grant));
        }
        if self.grants.contains_key(&key) {
            return None;
        }
        self.restore_grant(record);
        let own = self.grants.get(&key)?;
        let action = grant_entry(genesis, own);
        self.act(action);
        self.map_stale = true;
        self.recovery.found.grants += 1;
        Some((granted_key(key.0, key.1), Some(record.encode_to_vec())))
    }

    fn recover_loan(&mut self, genesis: &Genesis, record: &LoanRecord) -> Option<Write> {
        let ip = ip_bits(&record.ip).filter(|_| is_of(genesis, &record.genesis))?;
        let borrower = peer_of(&record.borrower)?;
        let same = |lent: &Lent| lent.borrower == borrower && lent.request_id == record.request_id;
        if self.pool.lent.get(&ip).is_some_and(same) {
            return None;
        }
        self.restore_loan(record);
        let action = loan_set(genesis, ip, self.pool.lent.get(&ip)?);
        self.act(action);
        self.pool.take(ip);
        self.recovery.found.loans += 1;
        Some((lent_key(ip), Some(record.encode_to_vec())))
    }

    fn recover_address(&mut self, genesis: &Genesis, ip: u32, claim: &Claim) -> Judged {
        if self.pool.held.contains_key(&ip) {
            return Judged::Held;
        }
        let is_own = self.run_at(ip).is_some_and(|run| run.owner == self.me);
        // what we hold of the lender's log may be as old as what others hold of ours: a loan counts
        // for a container that is there
        let loan = self.loan_in_force(genesis.id, ip).filter(|_| claim.is_seen);
        // a container that is there counts more than a loan, which may have ended since
        let is_lent = self.pool.lent.contains_key(&ip) && !claim.is_seen;
        if loan.is_none() && (!is_own || is_lent) {
            return Judged::Unknown;
        }
        if let Some(loan) = loan {
            self.returning.remove(&(genesis.id, loan.lender, ip));
        }
        self.offers.remove(&ip);
        let held = Held {
            owner: claim.owner.clone(),
            subnet: claim.subnet,
            loan,
            ticket: None,
            phase: Phase::Kept,
        };
        let write = held_write(ip, &held);
        self.pool.take(ip);
        self.pool.held.insert(ip, held);
        self.recovery.found.addresses += 1;
        Judged::Ours(write)
    }

    /// A loan of this address to us that we did not begin to give back.
    fn loan_in_force(&self, genesis: GenesisId, ip: u32) -> Option<Loan> {
        let told = |lender: PeerId| {
            let returning: Option<&Returning> = self.returning.get(&(genesis, lender, ip));
            returning.is_some_and(Returning::is_told)
        };
        let mut loans = self.ledger.loans_to_us();
        let (lender, _, loan) = loans.find(|(lender, lent, loan)| {
            *lent == ip && loan.genesis == genesis && !told(*lender)
        })?;
        Some(Loan {
            lender,
            request_id: loan.request_id,
        })
    }

    #[cfg(feature = "seeded-bugs")]
    fn skips_recovery(&self) -> bool {
        self.config.seeded_bug == Some(crate::seeded::SeededBug::Resync)
    }

    #[cfg(not(feature = "seeded-bugs"))]
    #[expect(
        clippy::unused_self,
        reason = "holds the fault when one can be built in"
    )]
    const fn skips_recovery(&self) -> bool {
        false
    }
}

/// What becomes of an address that a container uses.
enum Judged {
    /// Ours to hold; to be stored.
    Ours(Write),
    /// Held already.
    Held,
    /// Whose it is has not been heard.
    Unknown,
}

fn is_of(genesis: &Genesis, id: &[u8]) -> bool {
    genesis.id == id
}
