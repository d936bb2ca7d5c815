//! The MTU of paths: where frames flow it must be found, and frames must fit.

use std::time::Duration;

use weave_wire::PeerId;

use crate::containers::Container;
use crate::pings::LONGEST_PADDING;
use crate::world::World;

/// Pairs of containers that send to each other.
const PAIRS: usize = 3;
/// They send for this long before the paths are looked at: a larger size is tried every 30 s.
const FOUND_WITHIN: Duration = Duration::from_secs(100);
/// A session that no way is left for has another one after this long.
const MISSED_WITHIN: Duration = Duration::from_secs(20);
/// Frames that each sends then, and that must arrive.
const LAST_FRAMES: usize = 20;
const PAUSE: Duration = Duration::from_millis(100);
/// As far as a search goes.
const CLOSE: usize = 16;
/// Longest datagram that a search tries.
const LONGEST: usize = 9_000 - 28;
/// Datagrams of paths of which nothing is known.
const BASES: [usize; 2] = [1_280 - 28, 576 - 28];

/// One end of a conversation: the container and its host.
type End = (usize, Container);

impl World {
    /// Lets frames flow between some hosts, then compares what their routers think of the paths.
    pub(crate) fn check_paths(&mut self) {
        let pairs = self.pick_pairs();
        if pairs.is_empty() {
            // a NAT lets nobody in from where a host has moved to, until it has been missed
            self.run_for(MISSED_WITHIN);
        }
        let end = self.now + FOUND_WITHIN;
        while self.now < end && !pairs.is_empty() {
            self.flow(&pairs);
        }
        let mut sent = Vec::new();
        for _ in 0..LAST_FRAMES {
            sent.extend(self.flow(&pairs));
        }
        self.run_for(Duration::from_secs(2));
        for (number, from, to) in sent {
            self.check_arrival(number, from, to);
        }
        self.check_sizes(&pairs);
    }

    /// A frame arrived once, at its receiver and nowhere else.
    pub(crate) fn check_arrival(&mut self, number: u64, from: usize, to: usize) {
        let (right, wrong) = self.oracle.arrivals(number);
        if (right, wrong) != (1, 0) {
            self.oracle.violation(format!(
                "frame {number} from host {from} to host {to} arrived {right} times there and \
                 {wrong} elsewhere"
            ));
        }
    }

    fn pick_pairs(&mut self) -> Vec<(End, End)> {
        let running: Vec<End> = self.serving().collect();
        let mut pairs = Vec::new();
        for _ in 0..PAIRS * 4 {
            let (Some(from), Some(to)) = (self.chance.pick(&running), self.chance.pick(&running))
            else {
                break;
            };
            if from.0 != to.0 && from.1.subnet == to.1.subnet && pairs.len() < PAIRS {
                pairs.push((from.clone(), to.clone()));
            }
        }
        pairs
    }

    /// One long frame in each direction of each pair: its number, from where to where.
    fn flow(&mut self, pairs: &[(End, End)]) -> Vec<(u64, usize, usize)> {
        let mut sent = Vec::new();
        for (one, other) in pairs {
            for ((from, sender), (to, receiver)) in [(one, other), (other, one)] {
                let number = self.ping_padded(*from, sender, receiver, LONGEST_PADDING);
                sent.push((number, *from, *to));
            }
        }
        self.run_for(PAUSE);
        sent
    }

    fn check_sizes(&mut self, pairs: &[(End, End)]) {
        let mut wrong = Vec::new();
        let mut found = 0;
        let ids: Vec<Option<PeerId>> = self.hosts.iter().map(|host| host.id()).collect();
        for (from, host) in self.hosts.iter().enumerate() {
            let Some(router) = &host.router else { continue };
            for session in &router.fib.sessions {
                let Some(to) = ids.iter().position(|id| *id == Some(session.peer)) else {
                    continue;
                };
                // how much of a path a relay takes is not known here
                if !session.hops.is_empty() {
                    continue;
                }
                let size = session.max_datagram;
                let flows = pairs
                    .iter()
                    .any(|(one, other)| [(one.0, other.0), (other.0, one.0)].contains(&(from, to)));
                let (path, ever) = (
                    self.network.longest(from, to).min(LONGEST),
                    self.network.longest_ever(from, to),
                );
                // between two NATs the direct path may have been found just now
                let may_be_new = self.network.is_hidden(from)
                    && self.network.is_hidden(to)
                    && BASES.contains(&size);
                let is_right = if flows && !may_be_new {
                    found += 1;
                    size <= path && path - size < CLOSE
                } else {
                    size <= ever || BASES.contains(&size)
                };
                if !is_right {
                    wrong.push(format!(
                        "host {from} sends up to {size} bytes to host {to}, which can take {path}"
                    ));
                }
            }
        }
        self.counters.mtus_found += found;
        for what in wrong {
            self.oracle.violation(what);
        }
    }
}
