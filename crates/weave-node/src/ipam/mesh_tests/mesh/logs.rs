//! The model of replication: what a peer holds of another's log is a beginning of it.

use super::*;

impl Mesh {
    pub(super) fn slot(&mut self, node: usize, key: String) -> u64 {
        let slots = &mut self.peers[node].slots;
        let next = match key.as_str() {
            PEER_KEY => PEER_SLOT,
            _ => PEER_SLOT + 1 + slots.len() as u64,
        };
        *slots.entry(key).or_insert(next)
    }

    pub(super) fn write_log(&mut self, node: usize, slot: u64, body: Option<entry::Body>) {
        let life = self.peers[node].life;
        let log = self.logs.entry((node, life)).or_default();
        log.push((slot, body));
        let len = log.len();
        self.catch_up(node, node, (life, len));
        for other in 0..self.peers.len() {
            if other != node && self.linked(node, other) && self.below(100) >= self.options.loss {
                let delay = 20 + self.below(60);
                self.at(
                    Duration::from_millis(delay),
                    Event::Sync {
                        from: node,
                        to: other,
                    },
                );
            }
        }
    }

    /// Every three seconds each peer repairs what a random other one lacks.
    pub(super) fn gossip(&mut self) {
        self.at(Duration::from_secs(3), Event::Gossip);
        for from in 0..self.peers.len() {
            let to = self.index(self.peers.len());
            if from != to && self.linked(from, to) {
                self.sync(from, to);
            }
        }
    }

    pub(super) fn sync(&mut self, from: usize, to: usize) {
        let bans = self.peers[from].bans.clone();
        self.hear_bans(to, bans);
        for origin in 0..self.peers.len() {
            if origin != to
                && let Some(held) = self.peers[from].views.get(&origin).copied()
            {
                self.catch_up(to, origin, held);
            }
        }
        self.drain(to);
    }

    /// Brings a peer's copy of a log up to this version.
    pub(super) fn catch_up(&mut self, node: usize, origin: usize, (life, len): Held) {
        let (now, origin_id) = (self.now, self.peers[origin].id);
        let peer = &mut self.peers[node];
        let (had_life, had_len) = peer.views.get(&origin).copied().unwrap_or((0, 0));
        if (life, len) <= (had_life, had_len) {
            return;
        }
        peer.views.insert(origin, (life, len));
        let log = &self.logs[&(origin, life)];
        let mut changes: BTreeMap<u64, Option<entry::Body>> = BTreeMap::new();
        if life != had_life {
            let old = peer.tables.range((origin, 0)..=(origin, u64::MAX));
            changes.extend(old.map(|((_, slot), _)| (*slot, None)));
        }
        let from = if life == had_life { had_len } else { 0 };
        changes.extend(log[from..len].iter().cloned());
        let Some(ipam) = &mut peer.ipam else { return };
        for (slot, new) in changes {
            if let Some(entry::Body::Grant(record)) = &new {
                let grantee = store::peer_of(&record.grantee);
                let chunks = store::granted_chunks(record);
                peer.told.extend(grantee.zip(chunks));
                let of_banned = |from| peer.bans.contains(&from);
                if origin == node && store::taken_from(record).is_some_and(of_banned) {
                    peer.took.extend(chunks);
                }
            }
            let old = match &new {
                Some(body) => peer.tables.insert((origin, slot), body.clone()),
                None => peer.tables.remove(&(origin, slot)),
            };
            ipam.apply(origin_id, slot, old.as_ref(), new.as_ref(), now);
        }
    }
}
