//! Reading back what an earlier run of the program stored, and setting its log entries again.

use weave_wire::proto::{GrantRecord, LoanRecord};

use super::chunks::Grant;
use super::genesis::Genesis;
use super::pool::{Lent, Phase};
use super::stage::{genesis_entry, grant_entry, loan_set, receipt_entry};
use super::store::{self, Stored, grant_of, peer_of};
use super::{Ipam, OwnGrant};

impl Ipam {
    /// Reads back what an earlier run of the program stored.
    pub(super) fn restore(&mut self, stored: &[(Vec<u8>, Vec<u8>)]) {
        let (mut genesis, mut contact) = (None, None);
        for (key, value) in stored
            .iter()
            .filter(|(key, _)| key.starts_with(store::PREFIX))
        {
            match store::read(key, value) {
                Some(Stored::Genesis(found)) => genesis = Some(found),
                Some(Stored::Granted(record)) => self.restore_grant(&record),
                Some(Stored::Lent(record)) => self.restore_loan(&record),
                Some(Stored::Owned(chunks, serial, taken_at)) => {
                    let receipt = Grant::receipt(self.me, chunks, serial, taken_at);
                    self.owned.insert((chunks.first, serial), receipt);
                }
                Some(Stored::Contact(at)) => contact = Some(at),
                Some(Stored::Held(ip, held)) => {
                    self.pool.held.insert(ip, held);
                }
                None => {
                    let key = String::from_utf8_lossy(key).into_owned();
                    tracing::error!(key, "stored address record cannot be read");
                    self.fault = Some(format!(
                        "the stored address record `{key}` is damaged: run `weave reset`"
                    ));
                }
            }
        }
        if self.has_stake() {
            self.succession.restore(contact, self.config.wall_ms);
        }
        self.restore_genesis(genesis);
    }

    fn restore_genesis(&mut self, genesis: Option<Genesis>) {
        let Some(genesis) = genesis else {
            if self.has_stake() && self.fault.is_none() {
                self.fault = Some(
                    "addresses are stored without their founding: run `weave reset`".to_owned(),
                );
            }
            return;
        };
        if !self.has_stake()
            && (genesis.founder != self.me || Some(genesis.range) != self.config.range)
        {
            return;
        }
        if let Some(range) = self.config.range
            && range != genesis.range
        {
            self.fault = Some(format!(
                "this host's addresses are of the range {}, not {range}: launch with \
                 `--ipalloc-range {}`, or run `weave reset` first",
                genesis.range, genesis.range
            ));
        }
        if genesis.founder == self.me {
            self.act(genesis_entry(&genesis));
        }
        for own in self.grants.values() {
            self.actions.push_back(grant_entry(&genesis, own));
        }
        for receipt in self.owned.values() {
            self.actions.push_back(receipt_entry(&genesis, receipt));
        }
        for (ip, lent) in &self.pool.lent {
            self.actions.push_back(loan_set(&genesis, *ip, lent));
        }
        self.genesis = Some(genesis);
        self.map_stale = true;
    }

    pub(super) fn restore_grant(&mut self, record: &GrantRecord) {
        let Some(grant) = grant_of(self.me, record) else {
            return;
        };
        let own = OwnGrant {
            grant,
            request_id: record.request_id,
            stored: true,
        };
        self.grants.insert((grant.chunks.first, grant.serial), own);
    }

    pub(super) fn restore_loan(&mut self, record: &LoanRecord) {
        let (Some(ip), Some(borrower)) = (store::ip_bits(&record.ip), peer_of(&record.borrower))
        else {
            return;
        };
        let request_id = record.request_id;
        let lent = Lent {
            borrower,
            request_id,
            since: self.now,
            phase: Phase::Kept,
        };
        self.pool.lent.insert(ip, lent);
    }
}
