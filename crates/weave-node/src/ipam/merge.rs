//! Two foundings that both gave out addresses and meet: the one with the higher label gives way.
//!
//! Whoever depends on it takes over the other one for itself, once that has been there for a
//! while: its own grants and loans count no more, but its containers keep their addresses. These
//! are then *adopted*: asked of the peers that own them now, which lend what nobody has. What
//! somebody has already is a conflict; both containers keep the address, it is told in `status`,
//! and asked for again now and then. So are addresses whose owner has changed, or has ended its
//! loan, because it took somebody for gone. Owns which held addresses wait for that; it follows from the
//! owners of the chunks, so nothing of it is stored.

use std::collections::BTreeMap;
use std::time::Duration;

use weave_wire::Cidr;

use super::ask::{AskKey, Verdict};
use super::genesis::Genesis;
use super::pool::{Held, Loan, Phase};
use super::span::ip_of;
use super::stage::{GENESIS_ENTRY, Staged, grant_key_of, loan_entry, receipt_key_of};
use super::store::{Write, genesis_write, granted_key, held_write, lent_key, owned_key};
use super::{Ipam, IpamAction};

/// A founding that nobody uses yields within two seconds of meeting one in use; what still
/// stands after this long stays.
pub(super) const GIVE_WAY: Duration = Duration::from_secs(15);
/// At most this many addresses are asked for at a time.
const MAX_AT_A_TIME: usize = 32;

impl Ipam {
    /// Gives our founding up for a better one that stays.
    pub(super) fn drive_merge(&mut self) {
        let Some(better) = self.better_founding() else {
            self.founding.keep();
            return;
        };
        let since = *self.founding.outranked_since.get_or_insert(self.now);
        if self.now < since + GIVE_WAY || self.fault.is_some() {
            return;
        }
        // begins nothing new, so that what is on its way to the disk gets there
        self.founding.is_merging = true;
        let quiet = self.staged.is_empty() && self.retry_storage_at.is_none();
        if quiet && self.now >= self.founding.not_before {
            self.stage_merge(better);
        }
    }

    /// The founding that ours gives way to: of the same range, the lowest in rank, and with somebody
    /// who takes part in it within reach.
    fn better_founding(&self) -> Option<Genesis> {
        let ours = self.genesis.as_ref()?;
        self.rival_foundings()
            .filter(|rival| self.rank(rival) < self.rank(ours))
            .filter(|rival| self.is_present(rival))
            .min_by_key(|rival| self.rank(rival))
            .cloned()
    }

    /// Of two foundings the one of higher rank gives way: the one that its founder has left, then
    /// the one with the higher label.
    fn rank(&self, genesis: &Genesis) -> (bool, (u64, [u8; 32])) {
        (self.ledger.is_left(genesis), genesis.label())
    }

    /// Whether somebody within reach takes part in a founding: who did once, its founder, too, may
    /// have gone over to another one since.
    pub(super) fn is_present(&self, genesis: &Genesis) -> bool {
        let mut members = self.founding.members_of(genesis.id);
        let has_founder = self.reachable.contains(&genesis.founder);
        (has_founder && !self.ledger.is_left(genesis))
            || members.any(|peer| self.reachable.contains(peer))
    }

    fn stage_merge(&mut self, better: Genesis) {
        let mut writes = vec![genesis_write(&better)];
        writes.extend(
            self.grants
                .keys()
                .map(|key| (granted_key(key.0, key.1), None)),
        );
        writes.extend(self.owned.keys().map(|key| (owned_key(key.0, key.1), None)));
        writes.extend(self.pool.lent.keys().map(|ip| (lent_key(*ip), None)));
        let borrowed = self
            .pool
            .held
            .iter()
            .filter(|(_, held)| held.loan.is_some());
        writes.extend(borrowed.map(|(ip, held)| held_write(*ip, &without_loan(held))));
        self.persist(writes, Staged::Merge { genesis: better });
    }

    /// The better founding is on disk, and nothing of ours.
    pub(super) fn merged(&mut self, genesis: Genesis) {
        tracing::warn!(
            founder = %genesis.founder.name(),
            addresses = self.pool.held.len(),
            "two foundings of the address range have met: going on with the other one"
        );
        if self
            .genesis
            .as_ref()
            .is_some_and(|old| old.founder == self.me)
        {
            self.remove_entry(GENESIS_ENTRY.to_owned());
        }
        for key in std::mem::take(&mut self.grants).into_keys() {
            self.remove_entry(grant_key_of(key));
        }
        for ip in std::mem::take(&mut self.pool.lent).into_keys() {
            self.remove_entry(loan_entry(ip));
        }
        for held in self.pool.held.values_mut() {
            held.loan = None;
        }
        for key in std::mem::take(&mut self.owned).into_keys() {
            self.remove_entry(receipt_key_of(key));
        }
        self.owned_unsaved.clear();
        self.expected.clear();
        self.turned_up.clear();
        self.offers.clear();
        self.asks.clear();
        self.returning.clear();
        self.pool.forget_freed();
        self.founding.keep();
        self.genesis = Some(genesis);
        self.map_stale = true;
    }

    pub(super) fn remove_entry(&mut self, key: String) {
        self.act(IpamAction::SetEntry { key, body: None });
    }

    /// Which addresses held here are others' to lend, now that the owners are known anew.
    pub(super) fn find_foundlings(&mut self) {
        let owner = |ip: u32| self.run_at(ip).map(|run| run.owner);
        let is_lent = |ip: u32, loan: &Loan| {
            self.ledger.loan_to_us(loan.lender, ip).is_some() || !self.has_heard(&loan.lender)
        };
        let is_settled = |ip: u32, held: &Held| match (owner(ip), &held.loan) {
            (None, _) => true,
            (Some(owner), None) => owner == self.me,
            (Some(owner), Some(loan)) => owner == loan.lender && is_lent(ip, loan),
        };
        let held = self.pool.held.iter();
        let unsettled = held
            .filter(|(ip, held)| held.phase == Phase::Kept && !is_settled(**ip, held))
            .map(|(ip, held)| (*ip, held.subnet));
        let (own, foundlings): (Foundlings, Foundlings) =
            unsettled.partition(|(ip, _)| owner(*ip) == Some(self.me));
        self.foundlings = foundlings;
        // they were lent to us, and lie in chunks of ours now
        let writes = own.keys().filter_map(|ip| self.set_loan(*ip, None));
        let writes: Vec<Write> = writes.collect();
        if !writes.is_empty() {
            self.stage_recovered(writes);
        }
    }

    /// Notes from whom an address comes that is held here; to be stored.
    fn set_loan(&mut self, ip: u32, loan: Option<Loan>) -> Option<Write> {
        let held = self.pool.held.get_mut(&ip)?;
        held.loan = loan;
        Some(held_write(ip, held))
    }

    /// Asks for addresses that containers of ours have and that are others' to lend.
    pub(super) fn adopt(&mut self) {
        if self.genesis.is_none() || self.is_unsettled() {
            return;
        }
        let keys = self
            .foundlings
            .iter()
            .map(|(ip, subnet)| AskKey::Address(*subnet, *ip));
        let under_way = keys.clone().filter(|key| self.is_under_way(*key)).count();
        let room = MAX_AT_A_TIME.saturating_sub(under_way);
        let new = keys.filter(|key| !self.asks.contains_key(key)).take(room);
        for key in new.collect::<Vec<AskKey>>() {
            self.ask(key);
        }
    }

    /// An address that a container of ours has was lent to us.
    pub(super) fn adopted(&mut self, ip: u32, loan: Loan) {
        self.foundlings.remove(&ip);
        if let Some(write) = self.set_loan(ip, Some(loan)) {
            self.stage_recovered(vec![write]);
        }
    }

    /// What is to be told about foundings that met, in words.
    pub(super) fn merge_notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let ours = self.genesis.as_ref().filter(|_| self.has_stake());
        for rival in ours.into_iter().flat_map(|_| self.rival_foundings()) {
            let how = match ours.is_some_and(|ours| self.rank(rival) < self.rank(ours)) {
                true => "this host goes on with that one in a few seconds",
                false => "its hosts go on with the one of this host in a few seconds",
            };
            let founder = self.ledger.label(rival.founder);
            notes.push(format!(
                "peer {founder} founded the same range independently; {how}"
            ));
        }
        let mut waiting = 0;
        for (ip, subnet) in &self.foundlings {
            match self.concluded(AskKey::Address(*subnet, *ip)) {
                Some(Verdict::Taken { holder }) => notes.push(self.conflict(*ip, holder)),
                Some(Verdict::Full | Verdict::Unreachable(_)) | None => waiting += 1,
            }
        }
        if waiting > 0 {
            notes.push(format!(
                "{waiting} address(es) of containers of this host are still to be lent by their owners"
            ));
        }
        notes
    }

    fn conflict(&self, ip: u32, holder: &str) -> String {
        let owner = self.pool.held.get(&ip).map(|held| held.owner.as_str());
        format!(
            "conflict: address {} of `{}` on this host is also in use by {holder}: start one of \
             them anew",
            ip_of(ip),
            owner.unwrap_or_default(),
        )
    }
}

fn without_loan(held: &Held) -> Held {
    Held {
        loan: None,
        ..held.clone()
    }
}

/// Addresses held here that are others' to lend, with their subnets.
pub(super) type Foundlings = BTreeMap<u32, Cidr>;
