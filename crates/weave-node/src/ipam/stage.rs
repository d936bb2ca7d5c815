//! Decisions on their way to the disk, and what becomes of them.
//!
//! A decision takes effect in memory at once where that makes us more careful (an address on
//! its way is busy), and is announced only when the store has it. When the store refuses, the
//! memory goes back to what it was.

use std::time::Duration;

use prost::Message as _;
use weave_wire::proto::{LoanReturn, SpaceReply, control_message, entry, space_reply::Outcome};
use weave_wire::{PeerId, Time};

use super::chunks::Grant;
use super::genesis::Genesis;
use super::pool::{Held, Lent, Loan, Phase};
use super::serve::Pending;
use super::span::{Span, ip_of};
use super::store::{
    Write, genesis_key, genesis_write, grant_record, granted_key, held_key, held_write, lent_key,
    loan_record, owned_key, owned_write,
};
use super::{Ipam, IpamAction, IpamError, OwnGrant};

/// What failed to be stored is tried again after this long.
const RETRY_STORAGE: Duration = Duration::from_secs(1);

/// A decision whose writes are under way.
#[derive(Debug, Clone)]
pub(super) enum Staged {
    /// An address for a container; `ticket` is gone once the request was refused for the time
    /// that storing took.
    Hold {
        ip: u32,
        ticket: Option<u64>,
        deadline: Time,
    },
    Release {
        ip: u32,
    },
    Grant {
        key: (u32, u32),
    },
    Lend {
        ip: u32,
    },
    EndLoan {
        ip: u32,
    },
    Found {
        genesis: Genesis,
    },
    Withdraw,
    /// Another founding in place of ours, which was in use.
    Merge {
        genesis: Genesis,
    },
    Owned {
        keys: Vec<(u32, u32)>,
    },
    /// What our peers or containers knew better than our disk.
    Recovered {
        writes: Vec<Write>,
    },
}

impl Ipam {
    /// The writes of this token are durable.
    pub fn handle_persisted(&mut self, token: u64, now: Time) {
        self.stir(now);
        let Some(staged) = self.staged.remove(&token) else {
            return;
        };
        match staged {
            Staged::Hold { ip, ticket, .. } => self.hold_stored(ip, ticket),
            Staged::Release { ip } => self.release_stored(ip),
            Staged::Grant { key } => self.grant_stored(key),
            Staged::Lend { ip } => self.loan_stored(ip),
            Staged::EndLoan { ip } => {
                self.pool.lent.remove(&ip);
                self.pool.free(ip, self.now);
                self.act(IpamAction::SetEntry {
                    key: loan_entry(ip),
                    body: None,
                });
            }
            Staged::Found { genesis } => self.founded(genesis),
            Staged::Withdraw => self.withdrawn(),
            Staged::Merge { genesis } => self.merged(genesis),
            Staged::Owned { keys } => {
                for key in keys {
                    self.owned_unsaved.remove(&key);
                    self.tell_receipt(key);
                }
            }
            Staged::Recovered { .. } => {}
        }
    }

    /// The writes of this token could not be made durable, and none of them was.
    pub fn handle_persist_failed(&mut self, token: u64, why: &str, now: Time) {
        self.stir(now);
        let Some(staged) = self.staged.remove(&token) else {
            return;
        };
        tracing::debug!(why, ?staged, "an address decision could not be stored");
        let refused = IpamError::Storage {
            why: why.to_owned(),
        };
        match staged {
            Staged::Hold { ip, ticket, .. } => {
                // a borrowed address goes back: the lender's log still has it
                self.pool.held.remove(&ip);
                if let Some(ticket) = ticket {
                    self.answer(ticket, Err(refused));
                }
            }
            Staged::Grant { key } => {
                self.grants.remove(&key);
                self.map_stale = true;
                self.succession.wait_until(self.now + RETRY_STORAGE);
            }
            Staged::Lend { ip } => {
                self.pool.lent.remove(&ip);
            }
            Staged::EndLoan { ip } => {
                // the borrower repeats its return
                if let Some(lent) = self.pool.lent.get_mut(&ip) {
                    lent.phase = Phase::Kept;
                }
            }
            Staged::Found { .. } => {
                self.founding.failed(self.now + RETRY_STORAGE);
                for pending in std::mem::take(&mut self.pending) {
                    self.answer(pending.ticket, Err(refused.clone()));
                }
            }
            Staged::Withdraw => {
                self.founding.withdrawing = false;
                self.founding.failed(self.now + RETRY_STORAGE);
            }
            Staged::Merge { .. } => self.founding.failed(self.now + RETRY_STORAGE),
            Staged::Recovered { writes } => {
                self.recovery.keep_unsaved(writes);
                self.retry_storage_at = Some(self.now + RETRY_STORAGE);
            }
            Staged::Release { .. } | Staged::Owned { .. } => {
                self.retry_storage_at = Some(self.now + RETRY_STORAGE);
            }
        }
    }

    /// Puts an address in a container's hands once that is durable.
    pub(super) fn stage_hold(&mut self, pending: &Pending, ip: u32, loan: Option<Loan>) {
        let Some(genesis) = &self.genesis else { return };
        let held = Held {
            owner: pending.owner.clone(),
            subnet: pending.subnet,
            loan,
            ticket: Some(pending.ticket),
            phase: Phase::Storing,
        };
        let writes = vec![genesis_write(genesis), held_write(ip, &held)];
        self.pool.take(ip);
        self.pool.held.insert(ip, held);
        self.low.insert(pending.subnet);
        #[cfg(feature = "seeded-bugs")]
        if self.config.seeded_bug == Some(crate::seeded::SeededBug::AnswersBeforeTheDisk) {
            self.hold_stored(ip, Some(pending.ticket));
            self.stage_recovered(writes);
            return;
        }
        let deadline = pending.deadline();
        self.persist(
            writes,
            Staged::Hold {
                ip,
                ticket: Some(pending.ticket),
                deadline,
            },
        );
    }

    /// Takes an address out of a container's hands; free for others once that is durable.
    pub(super) fn stage_release(&mut self, ip: u32) {
        let Some(held) = self.pool.held.get_mut(&ip) else {
            return;
        };
        if held.phase != Phase::Kept {
            return;
        }
        held.phase = Phase::Leaving;
        held.ticket = None;
        self.persist(vec![(held_key(ip), None)], Staged::Release { ip });
    }

    /// Gives chunks of ours to another peer. An earlier grant of them at this place of their chain
    /// has no effect, and gives way.
    pub(super) fn stage_grant(&mut self, grant: Grant, request_id: u64) {
        self.keep_rest(&grant);
        let Some(genesis) = &self.genesis else { return };
        let record = grant_record(genesis.id, &grant, request_id);
        let key = (grant.chunks.first, grant.serial);
        let write = (granted_key(key.0, key.1), Some(record.encode_to_vec()));
        let writes = vec![genesis_write(genesis), write];
        self.grants.insert(
            key,
            OwnGrant {
                grant,
                request_id,
                stored: false,
            },
        );
        self.map_stale = true;
        self.persist(writes, Staged::Grant { key });
    }

    /// What an earlier grant says of the chunks after these is said in a grant of its own.
    fn keep_rest(&mut self, grant: &Grant) {
        let Grant { serial, chunks, .. } = *grant;
        let rest = Span {
            first: chunks.last.saturating_add(1),
            last: u32::MAX,
        };
        let Some(own) = self.grants.get(&(chunks.first, serial)).copied() else {
            return;
        };
        if let Some(chunks) = own.grant.chunks.intersect(rest)
            && !self.grants.contains_key(&(chunks.first, serial))
        {
            let grant = Grant {
                chunks,
                ..own.grant
            };
            self.stage_grant(grant, own.request_id);
        }
    }

    /// Number of the next grant of ours.
    pub(super) fn next_grant_number(&self) -> u32 {
        let numbers = self.grants.values().map(|own| own.grant.number);
        numbers.max().unwrap_or(0).saturating_add(1)
    }

    /// Lends a single address of ours.
    pub(super) fn stage_loan(&mut self, ip: u32, borrower: PeerId, request_id: u64) {
        let Some(genesis) = &self.genesis else { return };
        let record = loan_record(genesis.id, borrower, ip, request_id);
        let writes = vec![
            genesis_write(genesis),
            (lent_key(ip), Some(record.encode_to_vec())),
        ];
        let lent = Lent {
            borrower,
            request_id,
            since: self.now,
            phase: Phase::Storing,
        };
        self.pool.take(ip);
        self.pool.lent.insert(ip, lent);
        self.persist(writes, Staged::Lend { ip });
    }

    /// Notes that a borrower needs its address no more.
    pub(super) fn stage_loan_end(&mut self, ip: u32) {
        let Some(lent) = self.pool.lent.get_mut(&ip) else {
            return;
        };
        lent.phase = Phase::Leaving;
        self.persist(vec![(lent_key(ip), None)], Staged::EndLoan { ip });
    }

    /// Makes a founding of ours the one in force.
    pub(super) fn stage_found(&mut self, genesis: Genesis) {
        self.persist(vec![genesis_write(&genesis)], Staged::Found { genesis });
    }

    /// Gives up our founding, of which nothing was ever given out.
    pub(super) fn stage_withdraw(&mut self) {
        self.founding.withdrawing = true;
        self.persist(vec![(genesis_key(), None)], Staged::Withdraw);
    }

    /// Writes down chunks that have come to us, or are ours no more.
    pub(super) fn stage_owned(&mut self) {
        let Some(genesis) = &self.genesis else { return };
        // what is under another founding by then would be taken for chunks of that one
        let under_way = self.staged.values().any(|staged| {
            matches!(
                staged,
                Staged::Owned { .. } | Staged::Merge { .. } | Staged::Withdraw
            )
        });
        if under_way || self.owned_unsaved.is_empty() || self.retry_storage_at.is_some() {
            return;
        }
        let keys: Vec<(u32, u32)> = self.owned_unsaved.iter().copied().collect();
        let mut writes = vec![genesis_write(genesis)];
        for (first, serial) in &keys {
            let write = self.owned.get(&(*first, *serial)).map(owned_write);
            writes.push(write.unwrap_or_else(|| (owned_key(*first, *serial), None)));
        }
        self.persist(writes, Staged::Owned { keys });
    }

    /// Tries again to store what the disk refused and must not be given up.
    pub(super) fn retry_storage(&mut self) {
        if self.retry_storage_at.is_some_and(|at| at > self.now) {
            return;
        }
        let was_due = self.retry_storage_at.take().is_some();
        self.stage_owned();
        if !was_due {
            return;
        }
        let unsaved = self.recovery.take_unsaved();
        if !unsaved.is_empty() {
            self.stage_recovered(unsaved);
        }
        let under_way: Vec<u32> = self
            .staged
            .values()
            .filter_map(|staged| {
                if let Staged::Release { ip } = staged {
                    Some(*ip)
                } else {
                    None
                }
            })
            .collect();
        let leaving = |(ip, held): (&u32, &Held)| {
            (held.phase == Phase::Leaving && !under_way.contains(ip)).then_some(*ip)
        };
        let again: Vec<u32> = self.pool.held.iter().filter_map(leaving).collect();
        for ip in again {
            self.persist(vec![(held_key(ip), None)], Staged::Release { ip });
        }
    }

    /// Says in our log that chunks came to us, or no longer that they did.
    fn tell_receipt(&mut self, key: (u32, u32)) {
        let Some(genesis) = &self.genesis else { return };
        match self.owned.get(&key) {
            Some(receipt) => self.act(receipt_entry(genesis, receipt)),
            None => self.remove_entry(receipt_key_of(key)),
        }
    }

    fn hold_stored(&mut self, ip: u32, ticket: Option<u64>) {
        let Some(held) = self.pool.held.get_mut(&ip) else {
            return;
        };
        held.phase = Phase::Kept;
        match ticket {
            Some(ticket) => self.answer(ticket, Ok(ip_of(ip))),
            // its request was refused while the disk was slow
            None => self.stage_release(ip),
        }
    }

    fn release_stored(&mut self, ip: u32) {
        let Some(held) = self.pool.held.remove(&ip) else {
            return;
        };
        match (held.loan, self.genesis_id()) {
            (Some(loan), Some(genesis)) => self.start_returning(genesis, loan, ip),
            (Some(_) | None, _) => self.pool.free(ip, self.now),
        }
    }

    fn grant_stored(&mut self, key: (u32, u32)) {
        let Some(own) = self.grants.get_mut(&key) else {
            return;
        };
        own.stored = true;
        self.map_stale = true;
        let own = *own;
        if let Some(genesis) = &self.genesis {
            let action = grant_entry(genesis, &own);
            self.act(action);
        }
        if own.grant.grantee != self.me {
            self.reply(own.grant.grantee, own.request_id, Outcome::Granted, None);
        }
    }

    fn loan_stored(&mut self, ip: u32) {
        let Some(lent) = self.pool.lent.get_mut(&ip) else {
            return;
        };
        lent.phase = Phase::Kept;
        let (borrower, request_id) = (lent.borrower, lent.request_id);
        if let (Some(genesis), Some(lent)) = (&self.genesis, self.pool.lent.get(&ip)) {
            let action = loan_set(genesis, ip, lent);
            self.act(action);
        }
        self.reply(borrower, request_id, Outcome::Granted, Some(ip));
    }

    fn founded(&mut self, genesis: Genesis) {
        tracing::info!(range = %genesis.range, "founded the address range");
        self.act(genesis_entry(&genesis));
        self.founding.founded(self.now, !self.reachable.is_empty());
        self.genesis = Some(genesis);
        self.map_stale = true;
    }

    fn withdrawn(&mut self) {
        tracing::info!("gave up our own founding of the address range for another");
        self.act(IpamAction::SetEntry {
            key: GENESIS_ENTRY.to_owned(),
            body: None,
        });
        self.founding.withdrawing = false;
        self.genesis = None;
        self.pool.forget_freed();
        self.map_stale = true;
    }

    pub(super) fn reply(&mut self, to: PeerId, request_id: u64, outcome: Outcome, ip: Option<u32>) {
        let address = ip.map(|ip| ip.to_be_bytes().to_vec()).unwrap_or_default();
        let reply = SpaceReply {
            request_id,
            outcome: outcome.into(),
            address,
            ..SpaceReply::default()
        };
        self.send(to, control_message::Body::SpaceReply(reply));
    }

    /// Tells a lender that we need its address no more.
    pub(super) fn send_return(&mut self, lender: PeerId, genesis: super::GenesisId, ip: u32) {
        let message = LoanReturn {
            genesis: genesis.to_vec(),
            address: ip.to_be_bytes().to_vec(),
        };
        self.send(lender, control_message::Body::LoanReturn(message));
    }

    /// Writes down what our peers or containers knew better than our disk. It counts already.
    pub(super) fn stage_recovered(&mut self, writes: Vec<Write>) {
        let staged = Staged::Recovered {
            writes: writes.clone(),
        };
        self.persist(writes, staged);
    }

    pub(super) fn persist(&mut self, writes: Vec<Write>, staged: Staged) {
        self.recovery.forget_unsaved(&writes);
        let token = self.next_token;
        self.next_token += 1;
        self.staged.insert(token, staged);
        self.act(IpamAction::Persist { token, writes });
    }
}

pub(super) const GENESIS_ENTRY: &str = "genesis";

pub(super) fn genesis_entry(genesis: &Genesis) -> IpamAction {
    let body = Some(entry::Body::Genesis(genesis.record.clone()));
    IpamAction::SetEntry {
        key: GENESIS_ENTRY.to_owned(),
        body,
    }
}

pub(super) fn grant_entry(genesis: &Genesis, own: &OwnGrant) -> IpamAction {
    let Grant { serial, chunks, .. } = own.grant;
    let record = grant_record(genesis.id, &own.grant, own.request_id);
    IpamAction::SetEntry {
        key: grant_key_of((chunks.first, serial)),
        body: Some(entry::Body::Grant(record)),
    }
}

/// Key of the log entry of a grant, by first chunk and serial.
pub(super) fn grant_key_of((first, serial): (u32, u32)) -> String {
    format!("grant/{first}/{serial}")
}

pub(super) fn receipt_entry(genesis: &Genesis, receipt: &Grant) -> IpamAction {
    let record = grant_record(genesis.id, receipt, 0);
    IpamAction::SetEntry {
        key: receipt_key_of((receipt.chunks.first, receipt.serial)),
        body: Some(entry::Body::Grant(record)),
    }
}

/// Key of the log entry of a receipt, by first chunk and serial.
pub(super) fn receipt_key_of((first, serial): (u32, u32)) -> String {
    format!("receipt/{first}/{serial}")
}

pub(super) fn loan_entry(ip: u32) -> String {
    format!("loan/{}", ip_of(ip))
}

pub(super) fn loan_set(genesis: &Genesis, ip: u32, lent: &Lent) -> IpamAction {
    let record = loan_record(genesis.id, lent.borrower, ip, lent.request_id);
    IpamAction::SetEntry {
        key: loan_entry(ip),
        body: Some(entry::Body::Loan(record)),
    }
}
