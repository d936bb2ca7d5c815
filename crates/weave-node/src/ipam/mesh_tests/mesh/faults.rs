//! What goes wrong: crashes, partitions, hosts that are lost or banned.

use super::*;

impl Mesh {
    pub(super) fn fault(&mut self) {
        let next = 500 + self.below(3000);
        self.at(Duration::from_millis(next), Event::Fault);
        let longest = self.options.take_back.map_or(8000, |after| {
            u64::try_from(after.as_millis()).expect("some seconds") * 2
        });
        let left = self.peers.iter().filter(|peer| !peer.is_gone).count();
        let loses = self.options.bans || self.options.take_back.is_some();
        let may_lose = loses && left > 2 && self.below(8) == 0;
        if self.options.bans && may_lose && self.below(2) == 0 {
            self.ban();
        } else if self.options.take_back.is_some() && may_lose {
            // whoever founds the range is the top, and has to be banned
            let node = self.index(self.peers.len());
            if node >= self.options.founders.max(1) {
                self.lose(node);
                self.faults.destroyed += 1;
            }
        } else if self.below(2) == 0 {
            let node = self.index(self.peers.len());
            self.crash(node);
            let down = 100 + self.below(8000);
            self.at(Duration::from_millis(down), Event::Restart { node });
        } else {
            self.faults.partitions += 1;
            for node in 0..self.side.len() {
                self.side[node] = self.low(2);
            }
            // now and then a link comes up for a moment
            let longest = match self.below(4) {
                0 => 500,
                _ => longest,
            };
            let heal = 500 + self.below(longest);
            self.at(Duration::from_millis(heal), Event::Heal);
        }
        self.relink();
    }

    /// The host is gone for good, with its containers.
    pub(super) fn lose(&mut self, node: usize) {
        self.crash(node);
        self.peers[node].is_gone = true;
        self.oracle.gone(node);
    }

    /// Somebody, or several at once, ban somebody else, which is cut off at once.
    pub(super) fn ban(&mut self) {
        let node = self.index(self.peers.len());
        let may = 1 + self.index(3);
        let mut by: Vec<usize> = (0..may).map(|_| self.index(self.peers.len())).collect();
        by.retain(|by| *by != node && self.peers[*by].ipam.is_some());
        by.sort_unstable();
        by.dedup();
        if by.is_empty() {
            return;
        }
        self.faults.bans += 1;
        self.faults.shared_bans += usize::from(by.len() > 1);
        self.lose(node);
        let banned = self.peers[node].id;
        for by in by {
            self.hear_bans(by, BTreeSet::from([banned]));
        }
    }

    pub(super) fn hear_bans(&mut self, node: usize, bans: BTreeSet<PeerId>) {
        let (now, peer) = (self.now, &mut self.peers[node]);
        for banned in bans {
            if peer.bans.insert(banned)
                && let Some(ipam) = &mut peer.ipam
            {
                ipam.ban(banned, now);
            }
        }
    }

    pub(super) fn crash(&mut self, node: usize) {
        let survive = self.index(3);
        let peer = &mut self.peers[node];
        if peer.ipam.take().is_none() {
            return;
        }
        self.faults.crashes += 1;
        self.oracle.crashed(node);
        for (_, writes) in std::mem::take(&mut peer.writing).into_iter().take(survive) {
            self.faults.unacked += 1;
            write_all(&mut peer.disk, writes);
        }
        peer.slots.clear();
        peer.views.clear();
        peer.tables.clear();
    }
}
