//! Repair: digests tell neighbours how far each log is held, pulls fetch what is missing.
//!
//! A digest covers a window of the key space, so that any number of logs works. With more logs
//! than fit one digest, a summary goes before, and only the parts in which the receiver holds
//! something else are compared. Each log is fetched from one neighbour at a time. Answers to a
//! pull are limited; a cut one ends with a digest, which brings the next pull.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use prost::Message as _;
use rand_core::RngCore as _;
use weave_wire::codec::MAX_BATCHES;
use weave_wire::proto::control_message::Body;
use weave_wire::proto::{Delta, Digest, LogVersion, Pull, SignedBatch, Summary};
use weave_wire::{PeerId, Time};

use super::log::OriginLog;
use super::neighbours::Due;
use super::summary::{last_key, part_of};
use super::version::Version;
use super::{ALL_FOR_OTHERS, GossipDrop, Logs};

/// Messages are filled up to this many bytes.
const MESSAGE_LEN: usize = 1_150;
/// Logs in one digest or pull.
const VERSIONS: usize = 24;
/// A pull is answered with at most this many bytes.
const ANSWER_LEN: usize = 16 << 10;
/// What the sender of a digest lacks is sent along at once when it is at most this long, in
/// bytes; otherwise it is told, and pulls.
pub(super) const PUSH_LEN: usize = 2 * MESSAGE_LEN;
/// What is held is compared with one neighbour this often,
const DIGEST_EVERY: Duration = Duration::from_secs(10);
/// and more often at first, for this long.
const DIGEST_YOUNG: Duration = Duration::from_secs(1);
const YOUNG: Duration = Duration::from_secs(10);
/// The lowest key of all.
const START: PeerId = PeerId([0; 32]);
/// What is missing between others may be on its way: it is asked for after this long.
const OVERTAKEN: Duration = Duration::from_millis(20);
/// First wait before asking again for news that did not come; doubled each time.
const RETRY: Duration = Duration::from_millis(300);
/// Requests for the same news, before the next digest must tell of them again.
const TRIES: u32 = 5;
/// After this many requests without progress another neighbour is asked.
const PATIENCE: u32 = 2;
/// Logs wanted at most at any time.
const MAX_WANTS: usize = 4_096;
/// Pulls sent to one neighbour at a time.
const PULLS: usize = 4;
/// Pulls beyond that wait this long.
const PULL_PAUSE: Duration = Duration::from_millis(50);

/// News of a log that a neighbour says it has.
#[derive(Debug)]
pub(super) struct Want {
    target: Version,
    from: PeerId,
    /// Learned from a digest, not from a gap in a flood.
    fetched: bool,
    /// What was held when it was last asked for.
    asked: Vec<Version>,
    pub(super) next_try: Time,
    tries: u32,
}

impl Logs {
    /// A session with this peer is up.
    pub(crate) fn neighbour_up(&mut self, peer: PeerId, now: Time) {
        if peer == self.me {
            return;
        }
        self.neighbours.add(peer, now);
        if self.digest_at.is_none() {
            let jitter = Duration::from_millis(self.rng.next_u64() % 1_000);
            self.digest_at = Some(now + DIGEST_YOUNG + jitter);
            self.young_until = now + YOUNG;
        }
        self.send_digests(now);
    }

    /// The session with this peer is gone.
    pub(crate) fn neighbour_down(&mut self, peer: &PeerId) {
        self.neighbours.remove(peer);
        let wanted = self.wants.len();
        self.wants.retain(|_, want| want.from != *peer);
        if self.wants.len() < wanted {
            // someone else must tell what is missing
            self.digest_at = Some(Time::ZERO);
        }
        if self.neighbours.is_empty() {
            self.digest_at = None;
            self.spread_at = None;
        }
    }

    /// Answers what a peer holds in short: where we hold something else, it is told what.
    pub(crate) fn handle_summary(&mut self, from: PeerId, summary: &Summary, now: Time) {
        if !self.neighbours.contains(&from) {
            self.drops.count(GossipDrop::Stranger);
            return;
        }
        let parts = self.summary.differing(&summary.sums);
        self.compared |= parts == 0;
        self.neighbours.send_parts(&from, parts, now);
        self.send_digests(now);
    }

    /// Answers how far a peer holds each log of a window.
    pub(crate) fn handle_digest(&mut self, from: PeerId, digest: Digest, now: Time) {
        if !self.neighbours.contains(&from) {
            self.drops.count(GossipDrop::Stranger);
            return;
        }
        if digest.news {
            return self.handle_news(from, &digest, now);
        }
        let Some(window) = Window::read(&digest) else {
            self.drops.count(GossipDrop::Malformed);
            return;
        };
        for (origin, versions) in &window.logs {
            let held = versions.iter().min().copied().unwrap_or(Version::NONE);
            if held.seq > 0 && self.merge.supersedes(self.held(origin), held) {
                self.want(*origin, held, from, true, now);
            }
        }
        self.compared = true;
        self.note_digest(from, &window, now);
        self.tell_what_is_missing(from, &window, now);
        self.send_pulls(now);
        self.drive_resync(now);
    }

    /// Answers a request for what a peer lacks.
    pub(crate) fn handle_pull(&mut self, from: PeerId, pull: Pull, now: Time) {
        if !self.neighbours.contains(&from) {
            self.drops.count(GossipDrop::Stranger);
            return;
        }
        let Some(asked) = read_versions(&pull.have) else {
            self.drops.count(GossipDrop::Malformed);
            return;
        };
        let mut answer = Vec::new();
        let mut len = 0;
        let mut cut = None;
        'logs: for (origin, have) in &asked {
            let Some(log) = self.logs.get(origin) else {
                continue;
            };
            for held in log.missing(have, self.merge) {
                len += held.len();
                if len > ANSWER_LEN {
                    cut = Some(*origin);
                    break 'logs;
                }
                answer.push(&held.signed);
            }
        }
        if !self.neighbours.spend(&from, len, now) {
            self.drops.count(GossipDrop::Budget);
            return;
        }
        for delta in pack(answer.into_iter()) {
            self.send(from, Body::Delta(delta));
        }
        if let Some(origin) = cut {
            let (digest, _) = self.digest(origin, Some(last_key(part_of(&origin))));
            self.send(from, Body::Digest(digest));
        }
    }

    /// Notes that a neighbour has news of a log.
    pub(super) fn want(
        &mut self,
        origin: PeerId,
        target: Version,
        from: PeerId,
        fetched: bool,
        now: Time,
    ) {
        let have = self.have(&origin);
        let full = self.wants.len() >= MAX_WANTS;
        let is_asked = self
            .wants
            .get(&origin)
            .is_some_and(|want| want.asked == have);
        let soon = match is_asked || self.early.holds(&origin) {
            true => now + OVERTAKEN,
            false => now,
        };
        match self.wants.get_mut(&origin) {
            Some(want) if want.from == from => {
                want.target = want.target.max(target);
                if fetched || !is_asked {
                    want.next_try = want.next_try.min(soon);
                }
            }
            Some(want) if want.tries < PATIENCE => {}
            None if full => self.drops.count(GossipDrop::Full),
            Some(_) | None => {
                let want = Want {
                    target,
                    from,
                    fetched,
                    asked: Vec::new(),
                    next_try: soon,
                    tries: 0,
                };
                self.wants.insert(origin, want);
            }
        }
        let due = self.wants.get(&origin).map(|want| want.next_try);
        self.wants_at = self.wants_at.into_iter().chain(due).min();
    }

    /// Something of this log was applied. Tells whether it had been asked for after a digest.
    pub(super) fn note_progress(&mut self, origin: &PeerId, now: Time) -> bool {
        let held = self.held(origin);
        let Some(want) = self.wants.get_mut(origin) else {
            return false;
        };
        let fetched = want.fetched;
        if self.merge.supersedes(held, want.target) {
            want.tries = 0;
            if want.next_try > now + OVERTAKEN {
                want.next_try = now + RETRY;
            }
        } else {
            self.wants.remove(origin);
        }
        fetched
    }

    /// Asks for all that is due.
    pub(super) fn send_pulls(&mut self, now: Time) {
        if self.wants_at.is_none_or(|at| at > now) {
            return;
        }
        let due = self.wants.iter().filter(|(_, want)| want.next_try <= now);
        let due: Vec<PeerId> = due.map(|(origin, _)| *origin).collect();
        let mut asks: BTreeMap<PeerId, Vec<LogVersion>> = BTreeMap::new();
        for origin in due {
            let have = self.have(&origin);
            let Some(want) = self.wants.get_mut(&origin) else {
                continue;
            };
            if want.tries >= TRIES || !self.neighbours.contains(&want.from) {
                self.wants.remove(&origin);
                self.drops.count(GossipDrop::Unanswered);
                continue;
            }
            let ask = asks.entry(want.from).or_default();
            if ask.len() + have.len() > PULLS * VERSIONS {
                want.next_try = now + PULL_PAUSE;
                continue;
            }
            ask.extend(have.iter().map(|version| version.to_proto(&origin)));
            want.next_try = now + RETRY * 2_u32.saturating_pow(want.tries);
            want.tries += 1;
            want.asked = have;
        }
        self.wants_at = self.wants.values().map(|want| want.next_try).min();
        for (to, versions) in asks {
            for have in split(versions) {
                self.send(to, Body::Pull(Pull { have }));
            }
        }
    }

    /// Sends the digests that are due.
    pub(super) fn send_digests(&mut self, now: Time) {
        if self.digest_at.is_some_and(|at| at <= now) {
            let is_young = now < self.young_until;
            self.digest_at = Some(now + if is_young { DIGEST_YOUNG } else { DIGEST_EVERY });
            let pick = self.rng.next_u64();
            self.neighbours.begin_round_with_any(pick, now);
        }
        if self.spread_at.is_some_and(|at| at <= now) {
            self.spread_at = None;
            for peer in self.flood_targets(ALL_FOR_OTHERS) {
                self.neighbours.begin_round(&peer, now);
            }
        }
        let due = self.neighbours.due(now);
        if due.is_empty() {
            return;
        }
        let all = self.whole_digest();
        for (peer, due) in due {
            match (&all, due) {
                (Some(all), Due::Summary | Due::Window(..)) => {
                    self.neighbours.all_sent(&peer, now);
                    self.send(peer, Body::Digest(all.clone()));
                }
                (None, Due::Summary) => {
                    let sums = self.summary.sums();
                    self.send(peer, Body::Summary(Summary { sums }));
                }
                (None, Due::Window(from, last)) => {
                    let (digest, next) = self.digest(from, Some(last));
                    self.neighbours.window_sent(&peer, next, now);
                    self.send(peer, Body::Digest(digest));
                }
            }
        }
    }

    /// How far we hold all logs, if that fits one message.
    fn whole_digest(&self) -> Option<Digest> {
        if self.logs.len() > VERSIONS {
            return None;
        }
        let (digest, next) = self.digest(START, None);
        next.is_none().then_some(digest)
    }

    /// How far we hold the logs between two keys, as many as fit; and the key to go on with.
    fn digest(&self, from: PeerId, last: Option<PeerId>) -> (Digest, Option<PeerId>) {
        let mut digest = Digest {
            logs: Vec::new(),
            more: false,
            from: window_start(&from),
            last: last.map_or_else(Vec::new, |last| last.0.to_vec()),
            news: false,
        };
        let mut len = digest.encoded_len() + 16;
        let end = last.map_or(Bound::Unbounded, Bound::Included);
        for (origin, log) in self.logs.range((Bound::Included(from), end)) {
            let versions: Vec<_> = match *origin == self.me {
                true => self.have(origin),
                false => log.versions(),
            };
            let versions = versions.into_iter().map(|version| version.to_proto(origin));
            let versions: Vec<_> = versions.collect();
            len += versions
                .iter()
                .map(|version| version.encoded_len() + 3)
                .sum::<usize>();
            if len > MESSAGE_LEN || digest.logs.len() + versions.len() > VERSIONS {
                digest.more = true;
                return (digest, Some(*origin));
            }
            digest.logs.extend(versions);
        }
        (digest, None)
    }

    /// Sends what a peer lacks, or tells it that there is something.
    fn tell_what_is_missing(&mut self, to: PeerId, window: &Window, now: Time) {
        let mut missing = Vec::new();
        let (mut len, mut parts) = (0, 0);
        for (origin, log) in self.logs.range(window.first..) {
            if window.last.is_some_and(|last| *origin > last) {
                break;
            }
            let have = window.logs.get(origin).map_or(&[][..], Vec::as_slice);
            for held in log.missing(have, self.merge) {
                len += held.len();
                parts |= 1 << part_of(origin);
                missing.push(&held.signed);
                if len > PUSH_LEN {
                    break;
                }
            }
        }
        if len > PUSH_LEN {
            self.neighbours.send_parts(&to, parts, now);
            return self.send_digests(now);
        }
        if !self.neighbours.spend(&to, len, now) {
            self.drops.count(GossipDrop::Budget);
            return;
        }
        for delta in pack(missing.into_iter()) {
            self.send(to, Body::Delta(delta));
        }
    }

    /// What is held completely of a log.
    fn held(&self, origin: &PeerId) -> Version {
        if *origin != self.me {
            return self.version(origin);
        }
        match &self.resync {
            Some(resync) => resync.log.version(),
            None => self.own.version(),
        }
    }

    /// All that is held of a log, for a digest or pull.
    pub(super) fn have(&self, origin: &PeerId) -> Vec<Version> {
        if *origin == self.me {
            let resync = self.resync.as_ref();
            return resync.map_or_else(|| vec![self.own.version()], |resync| resync.log.versions());
        }
        self.logs
            .get(origin)
            .map_or_else(|| vec![Version::NONE], OriginLog::versions)
    }
}

/// Batches as messages, as few as fit.
pub(super) fn pack<'a>(batches: impl Iterator<Item = &'a SignedBatch>) -> Vec<Delta> {
    let mut deltas = Vec::new();
    let mut next = Delta {
        batches: Vec::new(),
    };
    let mut len = 0;
    for signed in batches {
        let more = signed.encoded_len() + 3;
        let full = len + more > MESSAGE_LEN || next.batches.len() == MAX_BATCHES;
        if full && !next.batches.is_empty() {
            deltas.push(std::mem::take(&mut next));
            len = 0;
        }
        len += more;
        next.batches.push(signed.clone());
    }
    if !next.batches.is_empty() {
        deltas.push(next);
    }
    deltas
}

/// Splits what is held into messages, keeping the versions of one log together.
pub(super) fn split(versions: Vec<LogVersion>) -> Vec<Vec<LogVersion>> {
    let mut messages = Vec::new();
    let mut next: Vec<LogVersion> = Vec::new();
    let mut len = 0;
    let mut versions = versions.into_iter().peekable();
    while let Some(version) = versions.next() {
        let mut group = vec![version];
        while let Some(same) = versions.next_if(|next| next.origin == group[0].origin) {
            group.push(same);
        }
        let more: usize = group.iter().map(|version| version.encoded_len() + 3).sum();
        if len + more > MESSAGE_LEN || next.len() + group.len() > VERSIONS {
            messages.push(std::mem::take(&mut next));
            len = 0;
        }
        len += more;
        next.append(&mut group);
    }
    messages.push(next);
    messages.retain(|message| !message.is_empty());
    messages
}

/// The logs that a digest speaks of.
pub(super) struct Window {
    first: PeerId,
    /// The last key of the window; none: to the end.
    last: Option<PeerId>,
    pub(super) logs: BTreeMap<PeerId, Vec<Version>>,
}

impl Window {
    /// Whether it speaks of this log, be it by leaving it out.
    pub(super) fn covers(&self, origin: &PeerId) -> bool {
        self.first <= *origin && self.last.is_none_or(|last| *origin <= last)
    }

    fn read(digest: &Digest) -> Option<Self> {
        let mut first = [0; 32];
        if digest.from.len() > first.len() {
            return None;
        }
        for (to, byte) in first.iter_mut().zip(&digest.from) {
            *to = *byte;
        }
        let logs = read_versions(&digest.logs)?;
        let last = match (digest.more, <[u8; 32]>::try_from(digest.last.as_slice())) {
            (true, _) => Some(*logs.last_key_value()?.0),
            (false, Ok(last)) => Some(PeerId(last)),
            (false, Err(_)) => None,
        };
        Some(Self {
            first: PeerId(first),
            last,
            logs,
        })
    }
}

fn read_versions(logs: &[LogVersion]) -> Option<BTreeMap<PeerId, Vec<Version>>> {
    let mut versions: BTreeMap<PeerId, Vec<Version>> = BTreeMap::new();
    for log in logs {
        let (origin, version) = Version::from_proto(log).ok()?;
        versions.entry(origin).or_default().push(version);
    }
    Some(versions)
}

fn window_start(from: &PeerId) -> Vec<u8> {
    if from.0 == [0; 32] {
        Vec::new()
    } else {
        from.0.to_vec()
    }
}
