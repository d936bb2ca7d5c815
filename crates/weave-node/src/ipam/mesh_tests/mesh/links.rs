//! Which peers hear each other, and since when or for how long they have not.

use super::*;
use crate::ipam::succession::LISTEN;

impl Mesh {
    pub(super) fn relink(&mut self) {
        let links = self.all_links();
        for pair in self.linked_since.keys().copied().collect::<Vec<_>>() {
            if !links.contains(&pair) {
                self.contact.insert(pair, self.contact_of(pair));
                self.linked_since.remove(&pair);
            }
        }
        for pair in links {
            self.linked_since.entry(pair).or_insert(self.now);
        }
        for node in 0..self.peers.len() {
            let reach: Vec<PeerId> = (0..self.peers.len())
                .filter(|other| *other != node && self.linked(node, *other))
                .map(|other| self.peers[other].id)
                .collect();
            let now = self.now;
            let live: BTreeSet<PeerId> = reach.iter().copied().collect();
            if let Some(ipam) = &mut self.peers[node].ipam {
                ipam.set_reachable(reach, now);
                ipam.set_live(&live, now);
            }
            self.drain(node);
        }
    }

    pub(super) fn all_links(&self) -> BTreeSet<(usize, usize)> {
        let nodes = 0..self.peers.len();
        let pairs = nodes
            .clone()
            .flat_map(|a| nodes.clone().map(move |b| (a, b)));
        pairs
            .filter(|(a, b)| a != b && self.linked(*a, *b))
            .collect()
    }

    /// When two peers had contact last. After a long time without, only a link that has lasted
    /// counts.
    fn contact_of(&self, pair: (usize, usize)) -> Time {
        let last = self.contact.get(&pair).copied();
        let last = last.unwrap_or(Time::from_secs(1));
        let counts = |since: &Time| {
            let fence_after = self.fence_after().unwrap_or(Duration::MAX);
            since.saturating_sub(last) < fence_after || self.now >= *since + LISTEN
        };
        match self.linked_since.get(&pair).filter(|since| counts(since)) {
            Some(_) => self.now,
            None => last,
        }
    }

    fn fence_after(&self) -> Option<Duration> {
        let after = self.options.take_back?;
        Some(TakeBack::after(after).fence_after)
    }

    /// Whether two peers have been apart for so long that one may be taken for gone, and has not
    /// heard of that yet.
    pub(super) fn are_apart(&self, a: usize, b: usize) -> bool {
        let apart = self.now.saturating_sub(self.contact_of((a, b)));
        a != b && self.fence_after().is_some_and(|after| apart >= after)
    }

    pub(super) fn linked(&self, a: usize, b: usize) -> bool {
        self.side[a] == self.side[b] && self.peers[a].ipam.is_some() && self.peers[b].ipam.is_some()
    }
}
