//! Where peers were before a restart: dialled at once, so that a router without
//! targets need not wait until the others miss it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use weave_wire::{PeerId, Time};

use crate::session::Haste;

use super::{Event, Node, PersistToken, TokenOwner, stored_value};

const KEY: &[u8] = b"peers";
/// So many addresses are more than enough to find the mesh again.
const MAX_ADDRESSES: usize = 16;

/// Addresses of peers, as they are on disk.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    stored: BTreeSet<SocketAddr>,
    /// Those of them that are being dialled since the start.
    dialled: BTreeSet<SocketAddr>,
}

impl Remembered {
    /// Whether there is nobody to dial.
    pub(super) fn is_empty(&self) -> bool {
        self.stored.is_empty()
    }

    /// What is stored; lines that are no addresses are left out.
    pub(super) fn read(stored: &[(Vec<u8>, Vec<u8>)]) -> Self {
        let text = stored_value(stored, KEY).unwrap_or_default();
        let text = String::from_utf8_lossy(text);
        let addresses = text.lines().filter_map(|line| line.parse().ok());
        Self {
            stored: addresses.take(MAX_ADDRESSES).collect(),
            dialled: BTreeSet::new(),
        }
    }
}

impl Node {
    pub(super) fn dial_remembered(&mut self, now: Time) {
        if !self.config.discovery {
            return;
        }
        let stored = self.remembered.stored.iter();
        let dials: Vec<_> = stored.map(|address| (*address, Haste::default())).collect();
        self.sessions.dial(&dials, now);
        self.remembered.dialled.extend(&self.remembered.stored);
    }

    /// Once any peer is connected, the mesh itself tells where the others are.
    pub(super) fn forget_remembered(&mut self, wanted: &BTreeMap<PeerId, Vec<SocketAddr>>) {
        if self.reached.is_empty() {
            return;
        }
        for address in std::mem::take(&mut self.remembered.dialled) {
            if !wanted.values().flatten().any(|wanted| *wanted == address) {
                self.sessions.undial(address);
            }
        }
    }

    /// Stores where peers are, when one is somewhere new.
    pub(super) fn remember_peers(&mut self) {
        let sessions = self.fib.sessions.iter();
        let addresses: BTreeSet<_> = sessions
            .map(|session| session.addr)
            .take(MAX_ADDRESSES)
            .collect();
        if addresses.is_subset(&self.remembered.stored) {
            return;
        }
        let lines: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        self.remembered.stored = addresses;
        self.events.push_back(Event::Persist {
            token: PersistToken(TokenOwner::Targets),
            writes: vec![(KEY.to_vec(), Some(lines.join("\n").into_bytes()))],
        });
    }
}
