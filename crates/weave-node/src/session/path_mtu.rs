//! The path MTU of one session: the largest datagram that is known to get there whole.
//!
//! Owns the search for it (RFC 8899, in small): which sizes are probed when, and what answers and
//! their absence mean. Does not seal or send: [`PathMtu::poll_probe`] names what is to be sent
//! with DF. All sizes are bytes of UDP payload.
//!
//! ```text
//!                        four sizes answered or tried
//!   new, moved ─► First ────────────────────────────► resting ◄───────────────┐
//!                                          frames flow │   │ frames flow,      │ less than 16
//!                                                      │   │ every 30 s:       │ bytes between
//!                        all sizes answered or tried   ▼   │ what failed last  │ the largest that
//!   fallen ────────────────────────────────► Table ─► Step ◄┘                  │ passed and the
//!     ▲                                        ▲       │ │ └──────────────────┘ smallest that
//!     │                                        └───────┘ └ halves the gap       did not
//!     │                              what failed passes
//!     └─ the size in use, checked every second while frames flow, is not answered four times
//!        while the smallest is
//! ```
//!
//! Invariants: [`PathMtu::max_datagram`] is a size that was answered on this path since it was
//! new, moved or fallen, or else one of two constants; a probe that is not answered counts only
//! if one of the smallest size, sent along with it, is. A session without frames sends nothing
//! after its first search.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use rand_core::RngCore;
use weave_wire::Time;

/// MTUs that are common, ascending: of modems, IPv6, tunnels, clouds, Ethernet, and its large frames.
const MTUS: [u16; 19] = [
    SMALLEST, 700, 1_006, BASE, 1_380, 1_400, 1_420, 1_440, 1_450, 1_460, 1_472, 1_480, 1_492,
    USUAL, 2_002, 4_352, 8_896, 8_950, LARGEST,
];
/// What everybody must be able to receive (RFC 1122).
const SMALLEST: u16 = 576;
/// Used until something is known: the smallest MTU of IPv6.
const BASE: u16 = 1_280;
const USUAL: u16 = 1_500;
const LARGEST: u16 = 9_000;
/// The search ends when what passed and what did not are this close.
const CLOSE: u16 = 16;

/// Sendings that count, after which a size of a search has failed.
const TRIES: u8 = 3;
/// The same for the size in use.
const CHECK_TRIES: u8 = 4;
/// An answer is waited for at least and at most this long. A path that has narrowed is noticed
/// before TCP sends for the fifth time, 3 s after the first: later it would wait 3 s more.
const WAIT: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));
/// An answer that is later than this is none.
const FORGET: Duration = Duration::from_secs(5);
/// Probes whose answers are awaited at a time, at most.
const MOST_FLYING: usize = 256;

/// Frames of a second that make it a busy one.
const BUSY: u64 = 8;
/// The size in use is checked every second for this long after a busy one,
const BUSY_FOR: Duration = Duration::from_secs(3);
/// else this often, if there are frames at all.
const CHECK_QUIET: Duration = Duration::from_secs(10);
const CHECK_BUSY: Duration = Duration::from_secs(1);
/// How often a larger size is tried.
const RAISE: Duration = Duration::from_secs(30);
/// A search that led to nothing, because nothing was answered, is begun again after this long.
const AGAIN: Duration = Duration::from_secs(5);

/// A probe to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Probe {
    /// What the answer repeats.
    pub(super) nonce: u64,
    /// Bytes of UDP payload.
    pub(super) size: u16,
}

/// See the module.
#[derive(Debug)]
pub(super) struct PathMtu {
    /// Bytes of the headers of IP and UDP.
    headers: u16,
    /// Used while nothing is confirmed.
    fallback: u16,
    /// The largest size that was answered.
    confirmed: Option<u16>,
    /// The smallest size that was not, larger than that.
    failed: Option<u16>,
    /// The usual sizes larger than what is confirmed are still to be tried.
    open: bool,
    search: Option<Trial>,
    check: Option<Trial>,
    /// Before this time no search begins.
    search_at: Time,
    checked_at: Time,
    busy_until: Time,
    look_at: Time,
    /// Frames that had been sealed at the last look.
    sealed: u64,
    flying: VecDeque<Flight>,
    probes: VecDeque<Probe>,
}

/// A probe that was sent.
#[derive(Debug)]
struct Flight {
    probe: Probe,
    at: Time,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    First,
    Table,
    Step,
    Check,
}

/// Sizes that are being tried.
#[derive(Debug)]
struct Trial {
    kind: Kind,
    /// Those that are not answered, ascending.
    sizes: Vec<u16>,
    /// How often they were sent and a smaller one was answered,
    tries: u8,
    /// of so many times in all.
    sends: u8,
    sent_at: Time,
    due: Time,
    /// Something that was sent with them or after them was answered.
    is_alive: bool,
}

enum Outcome {
    Answered,
    Failed,
    /// Nothing at all is answered.
    Unclear,
}

impl PathMtu {
    /// A path of which nothing is known, to this address.
    pub(super) fn new(to: SocketAddr, now: Time) -> Self {
        let headers = if to.is_ipv4() { 28 } else { 48 };
        let mut path = Self {
            headers,
            fallback: BASE - headers,
            confirmed: None,
            failed: None,
            open: true,
            search: None,
            check: None,
            search_at: Time::ZERO,
            checked_at: Time::ZERO,
            busy_until: Time::ZERO,
            look_at: now,
            sealed: 0,
            flying: VecDeque::new(),
            probes: VecDeque::new(),
        };
        path.search = path.next_search(now);
        path
    }

    /// The peer is at another address: nothing is known any more.
    pub(super) fn moved(&mut self, to: SocketAddr, now: Time) {
        let sealed = self.sealed;
        *self = Self::new(to, now);
        self.sealed = sealed;
    }

    /// Longest datagram to send.
    pub(super) fn max_datagram(&self) -> u16 {
        let fallback_failed = self.failed.is_some_and(|failed| failed <= self.fallback);
        match self.confirmed {
            Some(confirmed) if confirmed >= self.fallback || fallback_failed => confirmed,
            Some(_) | None => self.fallback,
        }
    }

    /// MTU of the path in bytes of IP, once [`Self::max_datagram`] is confirmed.
    pub(super) fn mtu(&self) -> Option<u16> {
        let confirmed = self
            .confirmed
            .filter(|confirmed| *confirmed == self.max_datagram());
        confirmed.map(|confirmed| confirmed + self.headers)
    }

    /// The smallest length that got lost, in bytes of IP.
    pub(super) fn lost_mtu(&self) -> Option<u16> {
        self.failed.map(|failed| failed + self.headers)
    }

    /// A probe was answered. Tells how long that took, if it was one of ours.
    pub(super) fn handle_ack(&mut self, nonce: u64, now: Time) -> Option<Duration> {
        let at = self
            .flying
            .iter()
            .position(|flight| flight.probe.nonce == nonce)?;
        let Flight { probe, at } = self.flying.remove(at)?;
        self.passed(probe.size);
        for trial in [&mut self.search, &mut self.check].into_iter().flatten() {
            trial.is_alive |= at >= trial.sent_at;
            trial.sizes.retain(|size| *size > probe.size);
            if trial.sizes.is_empty() {
                trial.due = now;
            }
        }
        Some(now.saturating_sub(at))
    }

    /// Does what is due. `sealed`: frames that the data lane has sealed so far; `wait`: how long
    /// an answer takes at most, as far as is known.
    pub(super) fn handle_timeout(
        &mut self,
        sealed: u64,
        wait: Duration,
        now: Time,
        rng: &mut impl RngCore,
    ) {
        let wait = wait.clamp(WAIT.0, WAIT.1);
        if now >= self.look_at {
            self.look(sealed, now);
        }
        if let Some(check) = self.check.take_if(|check| now >= check.due) {
            self.go_on_checking(check, wait, now, rng);
        }
        while let Some(search) = self.search.take_if(|search| now >= search.due) {
            self.go_on_searching(search, wait, now, rng);
        }
    }

    /// When [`Self::handle_timeout`] is due.
    pub(super) fn poll_timeout(&self) -> Time {
        let trials = [&self.search, &self.check].into_iter().flatten();
        trials.map(|trial| trial.due).fold(self.look_at, Time::min)
    }

    /// The next probe to send.
    pub(super) fn poll_probe(&mut self) -> Option<Probe> {
        self.probes.pop_front()
    }

    #[cfg(feature = "seeded-bugs")]
    pub(super) fn forget_check(&mut self) {
        self.check = None;
    }

    /// Sees whether frames flow. All sessions look at the same time, so that an idle node wakes
    /// once a second and not once for each of them.
    fn look(&mut self, sealed: u64, now: Time) {
        self.look_at = Time::from_secs(now.as_nanos() / 1_000_000_000 + 1);
        // a new key counts from 0
        let before = if sealed < self.sealed { 0 } else { self.sealed };
        self.sealed = sealed;
        let flown = sealed - before;
        if flown == 0 {
            return;
        }
        if flown >= BUSY {
            self.busy_until = now + BUSY_FOR;
        }
        if self.search.is_none() && now >= self.search_at {
            self.search = self.next_search(now);
        }
        let every = if now <= self.busy_until {
            CHECK_BUSY
        } else {
            CHECK_QUIET
        };
        if let Some(size) = self.confirmed
            && self.check.is_none()
            && now >= self.checked_at + every
        {
            self.checked_at = now;
            self.check = Some(Trial::new(Kind::Check, vec![size], now));
        }
    }

    fn go_on_checking(
        &mut self,
        mut check: Trial,
        wait: Duration,
        now: Time,
        rng: &mut impl RngCore,
    ) {
        match check.outcome() {
            Some(Outcome::Answered | Outcome::Unclear) => {}
            Some(Outcome::Failed) => self.transition_to_fallen(now),
            None => {
                self.send(&mut check, wait, now, rng);
                self.check = Some(check);
            }
        }
    }

    fn go_on_searching(
        &mut self,
        mut search: Trial,
        wait: Duration,
        now: Time,
        rng: &mut impl RngCore,
    ) {
        match search.outcome() {
            Some(Outcome::Answered | Outcome::Failed) => {
                if let Some(least) = search.sizes.first() {
                    self.failed = Some(self.failed.map_or(*least, |failed| failed.min(*least)));
                }
                self.open &= search.kind != Kind::Table;
                self.search_at = now;
                // who is idle has no use for more
                if search.kind != Kind::First {
                    self.transition_to_next_search(now);
                }
            }
            Some(Outcome::Unclear) => {
                let known = self.confirmed.is_some() || self.has_fallen();
                self.search_at = now + if known { AGAIN } else { RAISE };
            }
            None => {
                self.send(&mut search, wait, now, rng);
                self.search = Some(search);
            }
        }
    }

    fn transition_to_next_search(&mut self, now: Time) {
        if self.is_settled() {
            self.search_at = now + RAISE;
        } else {
            self.search = self.next_search(now);
        }
    }

    /// The size in use does not pass any more.
    fn transition_to_fallen(&mut self, now: Time) {
        self.fallback = SMALLEST - self.headers;
        (self.confirmed, self.failed, self.open) = (None, None, true);
        self.flying.clear();
        self.search = self.next_search(now);
    }

    fn has_fallen(&self) -> bool {
        self.fallback < BASE - self.headers
    }

    fn is_settled(&self) -> bool {
        let gap = self
            .failed
            .zip(self.confirmed)
            .map(|(failed, passed)| failed - passed);
        !self.open && gap.is_none_or(|gap| gap < CLOSE)
    }

    /// What there is to try.
    fn next_search(&self, now: Time) -> Option<Trial> {
        let headers = self.headers;
        let Some(passed) = self.confirmed else {
            let (kind, mtus) = if self.has_fallen() {
                (Kind::Table, &MTUS[..])
            } else {
                (Kind::First, &[SMALLEST, BASE, USUAL, LARGEST][..])
            };
            let sizes = mtus.iter().map(|mtu| mtu - headers).collect();
            return Some(Trial::new(kind, sizes, now));
        };
        if self.open {
            let sizes = MTUS.iter().map(|mtu| mtu - headers);
            let sizes: Vec<_> = sizes.filter(|size| *size > passed).collect();
            return Some(Trial::new(Kind::Table, sizes, now));
        }
        let failed = self.failed?;
        let half = (failed - passed) / 2 / 8 * 8;
        let size = if failed - passed < CLOSE {
            failed
        } else {
            passed + half
        };
        Some(Trial::new(Kind::Step, vec![size], now))
    }

    fn passed(&mut self, size: u16) {
        self.confirmed = self.confirmed.max(Some(size));
        if self.failed.is_some_and(|failed| size >= failed) {
            (self.failed, self.open) = (None, true);
        }
    }

    /// Sends what a trial has left, largest first: then the first answer counts for the others.
    fn send(&mut self, trial: &mut Trial, wait: Duration, now: Time, rng: &mut impl RngCore) {
        trial.sent(now, wait);
        let smallest = SMALLEST - self.headers;
        let is_first_check = trial.kind == Kind::Check && trial.sends == 1;
        let alone = is_first_check || trial.sizes.contains(&smallest);
        let beside = (!alone).then_some(smallest);
        self.flying.retain(|flight| flight.at + FORGET > now);
        for size in trial.sizes.iter().rev().copied().chain(beside) {
            let nonce = rng.next_u64();
            let probe = Probe { nonce, size };
            if self.flying.len() >= MOST_FLYING {
                self.flying.pop_front();
            }
            self.flying.push_back(Flight { probe, at: now });
            self.probes.push_back(probe);
        }
    }
}

impl Trial {
    const fn new(kind: Kind, sizes: Vec<u16>, now: Time) -> Self {
        Self {
            kind,
            sizes,
            tries: 0,
            sends: 0,
            sent_at: now,
            due: now,
            is_alive: false,
        }
    }

    const fn most_tries(&self) -> u8 {
        match self.kind {
            Kind::First | Kind::Table | Kind::Step => TRIES,
            Kind::Check => CHECK_TRIES,
        }
    }

    fn sent(&mut self, now: Time, wait: Duration) {
        self.sends += 1;
        self.is_alive = false;
        (self.sent_at, self.due) = (now, now + wait);
    }

    /// What it has come to when its time is up; nothing if it is to be sent again.
    fn outcome(&mut self) -> Option<Outcome> {
        self.tries += u8::from(self.is_alive);
        if self.sizes.is_empty() {
            Some(Outcome::Answered)
        } else if self.tries >= self.most_tries() {
            Some(Outcome::Failed)
        } else if self.sends >= self.most_tries() * 2 + 2 {
            Some(Outcome::Unclear)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests;
