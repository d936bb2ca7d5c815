//! Loss that comes in bursts: each direction of each link is good or bad (Gilbert-Elliott).

use std::collections::BTreeSet;

use crate::chance::Chance;
use crate::counters::Counters;
use crate::plan::{Bursts, Plan};

/// Which directions of links are bad.
#[derive(Debug)]
pub(crate) struct Links {
    chance: Chance,
    bursts: Option<Bursts>,
    bad: BTreeSet<(usize, usize)>,
}

impl Links {
    /// All good.
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            chance: Chance::new(plan.seed, 11),
            bursts: plan.bursts,
            bad: BTreeSet::new(),
        }
    }

    /// Whether a burst takes a datagram in this direction. Each datagram may turn the link.
    pub(crate) fn loses(&mut self, from: usize, to: usize, counters: &mut Counters) -> bool {
        let Some(bursts) = self.bursts else {
            return false;
        };
        let link = (from, to);
        if self.bad.contains(&link) {
            if self.chance.permille(bursts.end_permille) {
                self.bad.remove(&link);
            }
        } else if self.chance.permille(bursts.begin_permille) {
            counters.bursts += 1;
            self.bad.insert(link);
        }
        let is_lost = self.bad.contains(&link) && self.chance.permille(bursts.loss_permille);
        counters.lost_in_bursts += u64::from(is_lost);
        is_lost
    }

    /// All are good from now on.
    pub(crate) fn stop_losing(&mut self) {
        self.bursts = None;
        self.bad.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Options;

    #[test]
    fn losses_come_in_runs_and_in_one_direction() {
        let mut links = Links::new(&Plan {
            bursts: Some(Bursts {
                begin_permille: 10,
                end_permille: 100,
                loss_permille: 1000,
            }),
            ..Plan::of(&Options::new(2, 7))
        });
        let mut counters = Counters::default();
        let lost: Vec<bool> = (0..20_000)
            .map(|_| links.loses(0, 1, &mut counters))
            .collect();
        let runs = lost.windows(2).filter(|pair| !pair[0] && pair[1]).count();
        let all = lost.iter().filter(|lost| **lost).count();
        assert!(runs > 50 && all > 5 * runs, "{all} lost in {runs} runs");
        assert!(!links.bad.contains(&(1, 0)));
        links.stop_losing();
        assert!((0..1000).all(|_| !links.loses(0, 1, &mut counters)));
    }
}
