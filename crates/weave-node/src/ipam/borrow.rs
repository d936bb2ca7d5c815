//! Addresses that other peers lend us: taking them, and giving them back.
//!
//! Every loan that nobody here uses is given back, again and again until the lender's log has it
//! no more. Only a loan that this run of the program asked for, and that is not on its way back,
//! is ever taken.

use std::time::Duration;

use weave_wire::{PeerId, Time};

use super::Ipam;
use super::genesis::GenesisId;
use super::pool::Loan;

/// An address that we do not use is given back this often.
const RETURN_EVERY: Duration = Duration::from_secs(1);
/// Give up on returning an address that was never seen in the lender's log.
const RETURN_UNSEEN: u32 = 60;

/// An address that goes back to its lender.
#[derive(Debug, Clone, Copy)]
pub(super) struct Returning {
    /// The request that the loan answered: a later loan of the same address is another.
    request_id: u64,
    pub(super) next_at: Time,
    /// The lender's log has shown the loan.
    seen: bool,
    tries: u32,
}

impl Returning {
    /// Whether the lender may have heard of it.
    pub(super) const fn is_told(&self) -> bool {
        self.tries > 0
    }
}

impl Ipam {
    /// A peer lends us an address: ours to take if this run of the program asked for it.
    ///
    /// A loan from an earlier run is never taken, nor one that we began to give back: the
    /// message that ends it may be under way.
    pub(super) fn consider_loan(&mut self, ip: u32, loan: Loan) {
        let Some(genesis) = self.genesis_id().filter(|_| !self.recovery.is_awaited()) else {
            return;
        };
        let place = (genesis, loan.lender, ip);
        let on_its_way_back = self
            .returning
            .get(&place)
            .is_some_and(|returning| returning.request_id == loan.request_id);
        let asked_now = loan.request_id >> 32 == self.boot_mark();
        // a return that was sent after the request may end the loan that answers it
        let ended = self
            .returned
            .get(&(loan.lender, ip))
            .is_some_and(|issued| loan.request_id & 0xffff_ffff <= u64::from(*issued));
        if !asked_now || ended || on_its_way_back {
            return;
        }
        if self.foundlings.contains_key(&ip) {
            self.returning.remove(&place);
            self.adopted(ip, loan);
            return;
        }
        if self.pool.is_busy(ip) {
            return;
        }
        self.returning.remove(&place);
        self.offers.insert(ip, loan);
    }

    /// Keeps a loan that was about to be given back, if the lender was not told yet. One from an
    /// earlier run may have ended long ago, for all that a disk knows that was set back.
    pub(super) fn keep_loan(&mut self, ip: u32) -> Option<Loan> {
        let genesis = self.genesis_id()?;
        let untold = |((id, _, address), returning): (&(GenesisId, PeerId, u32), &Returning)| {
            let is_ours = returning.request_id >> 32 == self.boot_mark();
            *id == genesis && *address == ip && returning.tries == 0 && is_ours
        };
        let (place, returning) = self.returning.iter().find(|entry| untold(*entry))?;
        let place = *place;
        let loan = Loan {
            lender: place.1,
            request_id: returning.request_id,
        };
        self.returning.remove(&place);
        Some(loan)
    }

    /// Gives back what was lent to us and is of no use here.
    pub(super) fn return_leftovers(&mut self) {
        let unused: Vec<(u32, Loan)> = self
            .offers
            .iter()
            .filter(|(ip, _)| !self.is_awaited(**ip))
            .map(|(ip, loan)| (*ip, *loan))
            .collect();
        for (ip, loan) in unused {
            self.offers.remove(&ip);
            if let Some(genesis) = self.genesis_id() {
                self.start_returning(genesis, loan, ip);
            }
        }
        let current = self.genesis_id();
        // the log may still show an earlier loan than the one in use, and a lender go on with the
        // founding that we have given up
        let is_used = |ip: &u32, loan: Loan| {
            let held = self.pool.held.get(ip).and_then(|held| held.loan);
            [held.as_ref(), self.offers.get(ip)]
                .into_iter()
                .flatten()
                .any(|used| used.lender == loan.lender)
        };
        let forgotten: Vec<(GenesisId, u32, Loan)> = self
            .ledger
            .loans_to_us()
            .map(|(lender, ip, loan)| {
                (
                    loan.genesis,
                    ip,
                    Loan {
                        lender,
                        request_id: loan.request_id,
                    },
                )
            })
            .filter(|(genesis, ip, loan)| {
                let is_former = Some(*genesis) != current && self.pool.held.contains_key(ip);
                !is_former && !is_used(ip, *loan)
            })
            .collect();
        for (genesis, ip, loan) in forgotten {
            self.start_returning(genesis, loan, ip);
        }
        self.repeat_returns();
    }

    /// Begins to give an address back.
    pub(super) fn start_returning(&mut self, genesis: GenesisId, loan: Loan, ip: u32) {
        let Loan { lender, request_id } = loan;
        let starting = Returning {
            request_id,
            next_at: self.now,
            seen: false,
            tries: 0,
        };
        let entry = self
            .returning
            .entry((genesis, lender, ip))
            .or_insert(starting);
        if entry.request_id != request_id {
            *entry = starting;
        }
    }

    fn repeat_returns(&mut self) {
        let mut due = Vec::new();
        let (now, ledger) = (self.now, &self.ledger);
        self.returning.retain(|(genesis, lender, ip), returning| {
            let lent = ledger.loan_to_us(*lender, *ip).is_some_and(|loan| {
                loan.genesis == *genesis && loan.request_id == returning.request_id
            });
            let gone = !lent && (returning.seen || returning.tries >= RETURN_UNSEEN);
            returning.seen |= lent;
            if !gone && returning.next_at <= now {
                returning.next_at = now + RETURN_EVERY;
                returning.tries = returning.tries.saturating_add(1);
                due.push((*genesis, *lender, *ip));
            }
            !gone
        });
        for (genesis, lender, ip) in due {
            if self.reachable.contains(&lender) {
                self.returned.insert((lender, ip), self.next_request);
                self.send_return(lender, genesis, ip);
            }
        }
    }
}
