//! The rules of grants, take-backs, fences and bans, in every order in which things can happen to
//! three peers.
//!
//! Each peer is a real [`Ipam`]: it decides who owns a chunk, who is fenced, who takes back, and
//! writes the records that travel. `stateright` goes through all that can happen breadth first, to
//! the end: owners give chunks to peers that they reach; entries of logs arrive one by one, or
//! together where they were written in one go, from whoever is connected and holds them, in the
//! order of their log; links come and go, for ever if it so happens; days pass; hosts are lost and banned, and the news of that spread. Bounded are
//! only the chunks and the number of grants that owners write of their own accord and of bans;
//! take-backs and time are not.
//!
//! Left out: the disk, which is always there; restarts; loans and addresses; foundings that meet.
//! Time passes in steps of half of what makes a peer gone, and in steps as long as who was away
//! listens; longer absences than two of the former are one. It passes only when those that are
//! connected have told each other everything: gossip is quicker than that. Both ends see a
//! link come and go at once: there are days between a fence and a take-back. A banned host is lost
//! when it is banned. Two states are one where they differ only in clocks, by as much as changes
//! nothing; so none of what remains is cut off.
//!
//! A ban over a cut has a price that is known (docs/adr/0012, 0017): until those that are left have
//! told each other what they hold of the banned host's log, two may own what it gave away last.
//! [`Bans::Anywhere`] excuses exactly this, [`Bans::Settled`] nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use stateright::{Checker, Model, Property};
use weave_wire::proto::entry::Body;
use weave_wire::{PeerId, Time};

use super::{LISTEN, TakeBack};
use crate::ipam::chunks::{Grant, Run};
use crate::ipam::span::Span;
use crate::ipam::store::taken_from;
use crate::ipam::{Ipam, IpamAction, IpamConfig};

/// Who founded the range.
const FOUNDER: usize = 0;
/// One of these is more than an owner may be without contact, two are enough to be gone.
const LONG: Duration = Duration::from_secs(7 * 86_400 / 2);
/// Being away for so many of them is like being away for more.
const GONE: u32 = 2;

/// When operators ban a host, which is lost from then on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bans {
    /// When all that are left are connected and have told each other everything.
    Settled,
    /// Whenever they like.
    Anywhere,
}

/// What is explored.
#[derive(Debug, Clone, Copy)]
struct Rules {
    peers: usize,
    /// Its length says how many chunks there are.
    range: &'static str,
    /// Grants that owners write of their own accord, at most.
    grants: usize,
    bans: usize,
    when: Bans,
    take_back: TakeBack,
    #[cfg(feature = "seeded-bugs")]
    bug: Option<crate::seeded::SeededBug>,
}

/// What happens next.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// An owner gives a chunk to a peer that asks.
    Give { from: usize, to: usize, chunk: u32 },
    /// The next batch of a log arrives.
    Hear { peer: usize, log: usize },
    /// A ban arrives.
    HearBan { peer: usize, banned: PeerId },
    /// A host is lost, and banned.
    Ban { by: usize, peer: usize },
    /// From now on those on the same side are connected.
    Connect(Vec<usize>),
    /// Those that were away have listened for long enough.
    Listen,
    /// Days pass.
    Wait,
}

/// Entries of a log that were written in one go, and arrive together: slots, and what they say now.
type Batch = Vec<(u64, Option<Body>)>;

#[derive(Debug, Clone)]
struct Host {
    ipam: Ipam,
    /// So many batches of each log have arrived.
    heard: Vec<usize>,
    slots: BTreeMap<String, u64>,
}

#[derive(Debug, Clone)]
struct World {
    rules: Rules,
    now: Time,
    hosts: Vec<Arc<Host>>,
    logs: Vec<Arc<Vec<Batch>>>,
    sides: Vec<usize>,
    is_lost: Vec<bool>,
}

/// What decides how a host goes on: all of it but the clock, of which only counts what it has
/// passed.
#[derive(Debug, PartialEq, Eq, Hash)]
struct View<'a> {
    heard: &'a [usize],
    banned: &'a BTreeSet<PeerId>,
    live: &'a BTreeSet<PeerId>,
    /// Who has left: for how long, and whether under the present top.
    left: Vec<(PeerId, u32, bool)>,
    /// Who is listened to, since it came.
    came: Vec<PeerId>,
    /// Who is out of contact since a moment ago, not for days.
    contact: Vec<PeerId>,
    /// Chunks that are not used before the top has been listened to.
    turned_up: Vec<(u32, u32)>,
    /// Grants that would be the answer to a request.
    asked: Vec<u64>,
    expected: Vec<(u32, u32)>,
    top: Option<PeerId>,
    is_top_new: bool,
    owned: Vec<&'a Grant>,
    runs: Vec<&'a Run>,
}

impl View<'_> {
    /// Whether something changes soon.
    fn listens(&self) -> bool {
        !(self.came.is_empty() && self.asked.is_empty())
    }

    /// Whether something changes with the days.
    fn ages(&self) -> bool {
        let mut left = self.left.iter();
        !self.contact.is_empty() || left.any(|(_, long, _)| *long < GONE)
    }
}

impl Host {
    /// Whose coming back matters: that of `leads` alone, where nobody else can be the top.
    fn view(&self, leads: Option<PeerId>) -> View<'_> {
        let (succession, now) = (&self.ipam.succession, self.ipam.now);
        let under_top = |left: Time| succession.top_since.is_none_or(|since| left >= since);
        let left = succession.left.iter();
        let came = succession.came.iter();
        let matters = |peer: &PeerId| leads.is_none_or(|leads| leads == *peer);
        let contact = succession.heard.iter().filter(|(peer, at)| {
            let is_over = !succession.hears_since(peer, Time::ZERO, now);
            is_over && matters(peer) && now < **at + LONG
        });
        let asked = self.ipam.asked.iter();
        View {
            heard: &self.heard,
            banned: &succession.banned,
            live: &succession.live,
            left: left
                .map(|(peer, left)| (*peer, long_ago(*left, now), under_top(*left)))
                .collect(),
            came: came
                .filter(|(peer, came)| now < **came + LISTEN && matters(peer))
                .map(|(peer, _)| *peer)
                .collect(),
            contact: contact.map(|(peer, _)| *peer).collect(),
            turned_up: self.ipam.turned_up.keys().copied().collect(),
            asked: asked
                .filter(|(_, at)| now < **at + LISTEN)
                .map(|(id, _)| *id)
                .collect(),
            expected: self.ipam.expected.keys().copied().collect(),
            top: succession.top,
            is_top_new: succession.top_since.is_some(),
            owned: self.ipam.owned.values().collect(),
            runs: self.ipam.map.runs().collect(),
        }
    }

    fn banned(&self) -> &BTreeSet<PeerId> {
        &self.ipam.succession.banned
    }

    /// Whether it knows what another knows.
    fn knows_same(&self, other: &Self) -> bool {
        self.heard == other.heard && self.banned() == other.banned()
    }

    fn usable(&self, chunk: u32) -> Option<&Run> {
        let mut runs = self.ipam.usable_runs();
        runs.find(|run| run.chunks.contains(chunk))
    }
}

impl World {
    fn id(node: usize) -> PeerId {
        PeerId([u8::try_from(node + 1).expect("a few peers"); 32])
    }

    fn founded(rules: &Rules) -> Self {
        let host = |node: usize| {
            let config = IpamConfig {
                range: Some(rules.range.parse().expect("a range")),
                take_back: rules.take_back,
                wall_ms: 1_700_000_000_000,
                #[cfg(feature = "seeded-bugs")]
                seeded_bug: rules.bug,
                ..IpamConfig::default()
            };
            Arc::new(Host {
                ipam: Ipam::new(Self::id(node), config, &[], Time::ZERO),
                heard: vec![0; rules.peers],
                slots: BTreeMap::new(),
            })
        };
        let mut world = Self {
            rules: *rules,
            now: Time::ZERO,
            hosts: (0..rules.peers).map(host).collect(),
            logs: vec![Arc::default(); rules.peers],
            sides: vec![0; rules.peers],
            is_lost: vec![false; rules.peers],
        };
        world.stir(FOUNDER, |ipam, now| {
            ipam.prime(now);
        });
        world.see_who_lives();
        for node in 1..rules.peers {
            world.hear(node, FOUNDER);
        }
        world
    }

    /// Has one host do something, and all that follows from it there.
    fn stir(&mut self, node: usize, act: impl FnOnce(&mut Ipam, Time)) {
        let host = Arc::make_mut(&mut self.hosts[node]);
        let mut batch = Batch::new();
        act(&mut host.ipam, self.now);
        while let Some(action) = host.ipam.poll_action() {
            match action {
                IpamAction::Persist { token, .. } => host.ipam.handle_persisted(token, self.now),
                IpamAction::SetEntry { key, body } => {
                    let next = host.slots.len() as u64 + 1;
                    let slot = *host.slots.entry(key).or_insert(next);
                    batch.push((slot, body));
                }
                // tells that a grant was written, which the log tells, too
                IpamAction::Send { .. } => {}
                IpamAction::Answer { .. } => panic!("nobody asks for an address"),
            }
        }
        if !batch.is_empty() {
            Arc::make_mut(&mut self.logs[node]).push(batch);
            host.heard[node] += 1;
        }
    }

    /// Has a host ask for space; the number of its request.
    fn ask(&mut self, node: usize) -> u64 {
        let mut request = 0;
        self.stir(node, |ipam, now| {
            ipam.stir(now);
            request = ipam.new_request_id();
        });
        request
    }

    fn hear(&mut self, node: usize, log: usize) {
        let at = self.hosts[node].heard[log];
        Arc::make_mut(&mut self.hosts[node]).heard[log] += 1;
        let batch = self.logs[log][at].clone();
        self.stir(node, |ipam, now| {
            for (slot, body) in batch {
                ipam.apply(Self::id(log), slot, None, body.as_ref(), now);
            }
        });
    }

    fn ban(&mut self, node: usize, banned: PeerId) {
        self.stir(node, |ipam, now| ipam.ban(banned, now));
        self.see_who_lives();
    }

    fn nodes(&self) -> impl Iterator<Item = usize> + use<> {
        0..self.hosts.len()
    }

    /// Hosts that are not lost.
    fn left(&self) -> impl Iterator<Item = usize> + '_ {
        self.nodes().filter(|node| !self.is_lost[*node])
    }

    fn linked(&self, one: usize, other: usize) -> bool {
        let lost = self.is_lost[one] || self.is_lost[other];
        one != other && !lost && self.sides[one] == self.sides[other]
    }

    fn peers_of(&self, node: usize) -> impl Iterator<Item = usize> + '_ {
        self.nodes().filter(move |other| self.linked(node, *other))
    }

    fn see_who_lives(&mut self) {
        for node in self.left().collect::<Vec<usize>>() {
            let reached = self.peers_of(node).chain([node]).map(Self::id);
            let live: BTreeSet<PeerId> = reached.collect();
            if self.hosts[node].ipam.succession.live != live {
                self.stir(node, |ipam, now| ipam.set_live(&live, now));
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        for node in self.left().collect::<Vec<usize>>() {
            self.stir(node, Ipam::handle_timeout);
        }
    }

    /// Whether all that are connected have told each other everything.
    fn is_quiet(&self) -> bool {
        let mut pairs = self.left().flat_map(|node| {
            let peers = self.peers_of(node);
            peers.map(move |peer| (node, peer))
        });
        pairs.all(|(one, other)| self.hosts[one].knows_same(&self.hosts[other]))
    }

    /// Who can hear the next batch of which log.
    fn news(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let all = self
            .left()
            .flat_map(|peer| self.nodes().map(move |log| (peer, log)));
        all.filter(|(peer, log)| {
            let heard = self.hosts[*peer].heard[*log];
            let mut others = self.peers_of(*peer);
            others.any(|other| self.hosts[other].heard[*log] > heard)
        })
    }

    fn is_together(&self, nodes: &[usize]) -> bool {
        let mut pairs = nodes.windows(2);
        pairs.all(|pair| self.linked(pair[0], pair[1]))
    }

    /// All grants that were written, with who wrote them.
    fn grants(&self) -> impl Iterator<Item = (usize, &weave_wire::proto::GrantRecord)> {
        let logs = self.logs.iter().enumerate();
        let entries =
            logs.flat_map(|(node, log)| log.iter().flatten().map(move |entry| (node, entry)));
        entries.filter_map(|(node, (_, body))| match body {
            Some(Body::Grant(record)) => Some((node, record)),
            Some(_) | None => None,
        })
    }

    fn view(&self, node: usize) -> View<'_> {
        let lost = self.is_lost.iter().filter(|lost| **lost).count();
        let is_fixed = !self.is_lost[FOUNDER] && lost >= self.rules.bans;
        self.hosts[node].view(is_fixed.then(|| Self::id(FOUNDER)))
    }

    fn views(&self) -> Vec<(usize, View<'_>)> {
        self.left().map(|node| (node, self.view(node))).collect()
    }

    fn chunks(&self) -> u32 {
        let genesis = self.hosts[FOUNDER].ipam.genesis.as_ref();
        genesis.expect("the range is founded").chunks()
    }
}

fn long_ago(at: Time, now: Time) -> u32 {
    let times = now.saturating_sub(at).as_nanos() / LONG.as_nanos();
    u32::try_from(times).unwrap_or(GONE).min(GONE)
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.views().hash(state);
        // nothing else is written but the founding
        for (node, grant) in self.grants() {
            (node, grant.encode_to_vec()).hash(state);
        }
    }
}

impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        self.views() == other.views() && self.logs == other.logs
    }
}

/// All ways to be on sides, each named once.
fn all_sides(peers: usize) -> Vec<Vec<usize>> {
    let mut all = vec![Vec::new()];
    for _ in 0..peers {
        let longer = all.into_iter().flat_map(|sides: Vec<usize>| {
            let new = sides.iter().max().map_or(0, |max| max + 1);
            (0..=new).map(move |side| [sides.as_slice(), &[side]].concat())
        });
        all = longer.collect();
    }
    all
}

impl Model for Rules {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World::founded(self)]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        let left: Vec<usize> = world.left().collect();
        let news = world.news();
        steps.extend(news.map(|(peer, log)| Step::Hear { peer, log }));
        for &peer in &left {
            let known = world
                .peers_of(peer)
                .flat_map(|from| world.hosts[from].banned());
            let known: BTreeSet<PeerId> = known.copied().collect();
            for banned in known.difference(world.hosts[peer].banned()) {
                steps.push(Step::HearBan {
                    peer,
                    banned: *banned,
                });
            }
        }
        // neither takes nor receipts
        let own = world.grants().filter(|(node, grant)| {
            taken_from(grant).is_none() && grant.grantee != World::id(*node).as_bytes()
        });
        if own.count() < self.grants {
            for &from in &left {
                for to in world.peers_of(from) {
                    let chunks = 0..world.chunks();
                    let chunks = chunks.filter(|chunk| world.hosts[from].usable(*chunk).is_some());
                    steps.extend(chunks.map(|chunk| Step::Give { from, to, chunk }));
                }
            }
        }
        let lost = world.is_lost.iter().filter(|lost| **lost).count();
        if lost < self.bans {
            for &peer in &left {
                let others: Vec<usize> = world.left().filter(|other| *other != peer).collect();
                let may = match self.when {
                    Bans::Settled => world.is_together(&others) && world.is_quiet(),
                    Bans::Anywhere => true,
                };
                if may {
                    steps.extend(others.into_iter().map(|by| Step::Ban { by, peer }));
                }
            }
        }
        let sides = all_sides(self.peers).into_iter();
        let others = sides.filter(|sides| {
            // who is lost has a side of its own
            let is_alone = |node: &usize| {
                let same = sides.iter().filter(|side| **side == sides[*node]);
                !world.is_lost[*node] || same.count() == 1
            };
            *sides != world.sides && world.nodes().all(|node| is_alone(&node))
        });
        steps.extend(others.map(Step::Connect));
        let views: Vec<(usize, View<'_>)> = world.views();
        let ages = views.iter().any(|(_, view)| view.ages());
        let listens = views.iter().any(|(_, view)| view.listens());
        if world.is_quiet() && listens {
            steps.push(Step::Listen);
        }
        if world.is_quiet() && (listens || ages) {
            steps.push(Step::Wait);
        }
    }

    fn next_state(&self, last: &World, step: Step) -> Option<World> {
        let mut world = last.clone();
        match step {
            Step::Give { from, to, chunk } => {
                let serial = world.hosts[from].usable(chunk)?.serial + 1;
                let request = world.ask(to);
                let to = World::id(to);
                world.stir(from, |ipam, now| {
                    ipam.stir(now);
                    ipam.give(to, request, Span::one(chunk), serial);
                });
            }
            Step::Hear { peer, log } => world.hear(peer, log),
            Step::HearBan { peer, banned } => world.ban(peer, banned),
            Step::Ban { by, peer } => {
                world.is_lost[peer] = true;
                world.see_who_lives();
                world.ban(by, World::id(peer));
            }
            Step::Connect(sides) => {
                world.sides = sides;
                world.see_who_lives();
            }
            Step::Listen => world.pass(LISTEN),
            Step::Wait => world.pass(LONG),
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(ONE_OWNER, one_owner),
            Property::always("the chunks are the range", chunks_are_the_range),
            Property::always("who knows the same agrees on owners", same_owners),
            Property::always("nothing stays with who is gone", nothing_is_lost),
            Property::sometimes("an owner is fenced", |_, world: &World| {
                let mut left = world.left().map(|node| &world.hosts[node].ipam);
                left.any(|ipam| ipam.is_fenced() && !ipam.map.owned_by(ipam.me).is_empty())
            }),
            Property::sometimes("space is taken back", |_, world: &World| {
                let mut grants = world.grants();
                grants.any(|(_, grant)| taken_from(grant).is_some())
            }),
        ];
        if self.grants > 1 {
            properties.push(Property::sometimes("two give the same chunk", two_give));
        }
        if self.bans > 0 {
            properties.push(Property::sometimes(
                "an heir takes over",
                an_heir_takes_over,
            ));
        }
        properties
    }
}

const ONE_OWNER: &str = "a chunk has one owner that may use it";

/// Two grants or take-backs fit at one place of a chain.
fn two_give(_: &Rules, world: &World) -> bool {
    let mut places = BTreeSet::new();
    let mut grants = world.grants();
    grants.any(|(_, grant)| !places.insert((grant.first_chunk, grant.serial)))
}

fn an_heir_takes_over(_: &Rules, world: &World) -> bool {
    let founder = World::id(FOUNDER);
    world.left().any(|node| {
        let ipam = &world.hosts[node].ipam;
        let mut own = ipam.grants.values();
        ipam.map.owned_by(founder).is_empty()
            && own.any(|own| own.grant.taken_from == Some(founder))
    })
}

fn one_owner(rules: &Rules, world: &World) -> bool {
    let lost: Vec<usize> = world.nodes().filter(|node| world.is_lost[*node]).collect();
    let knows_same = |one: &Host, other: &Host| {
        let mut logs = lost.iter();
        one.banned() == other.banned() && logs.all(|log| one.heard[*log] == other.heard[*log])
    };
    (0..world.chunks()).all(|chunk| {
        let owners = world.left().map(|node| &world.hosts[node]);
        let owners: Vec<_> = owners.filter(|host| host.usable(chunk).is_some()).collect();
        let mut pairs = owners.windows(2);
        let is_excused = |one, other| rules.when == Bans::Anywhere && !knows_same(one, other);
        pairs.all(|pair| is_excused(pair[0], pair[1]))
    })
}

/// Who knows of nobody that is left of the founding follows it no more.
fn chunks_are_the_range(_: &Rules, world: &World) -> bool {
    world.left().all(|node| {
        let ipam = &world.hosts[node].ipam;
        let spans = ipam.map.runs().map(|run| run.chunks);
        let numbers = spans.flat_map(|span| span.first..=span.last);
        ipam.genesis.is_none() || numbers.eq(0..world.chunks())
    })
}

fn owners(host: &Host) -> Vec<(PeerId, u32, &[PeerId])> {
    let runs = host.ipam.map.runs();
    let chunks = runs.flat_map(|run| (run.chunks.first..=run.chunks.last).map(move |_| run));
    chunks
        .map(|run| (run.owner, run.serial, run.above.as_slice()))
        .collect()
}

fn same_owners(_: &Rules, world: &World) -> bool {
    let hosts: Vec<&Arc<Host>> = world.left().map(|node| &world.hosts[node]).collect();
    let mut pairs = hosts
        .iter()
        .flat_map(|one| hosts.iter().map(move |other| (one, other)));
    pairs.all(|(one, other)| !one.knows_same(other) || owners(one) == owners(other))
}

/// Once all is said and the time is over, all chunks belong to peers within reach of the top. Where
/// the top is not the founder, only a ban takes from those that were away when it changed.
fn nothing_is_lost(_: &Rules, world: &World) -> bool {
    if !world.is_quiet() {
        return true;
    }
    let is_over = |node: usize| {
        let view = world.view(node);
        let is_recent = |(_, long, _): &(PeerId, u32, bool)| *long < GONE;
        !view.listens() && !view.left.iter().any(is_recent)
    };
    world.left().all(|node| {
        let host = &world.hosts[node];
        let view = world.view(node);
        let stays = |owner: &PeerId| {
            let mut left = view.left.iter();
            let was_away = left.any(|(peer, _, under_top)| peer == owner && !under_top);
            view.live.contains(owner) || (was_away && !view.banned.contains(owner))
        };
        let is_under_top = host.ipam.top().is_some_and(|top| view.live.contains(&top));
        let mut all = world.peers_of(node).chain([node]);
        !is_under_top || !all.all(is_over) || host.ipam.map.runs().all(|run| stays(&run.owner))
    })
}

#[expect(clippy::print_stderr, reason = "says how much was explored")]
fn explore(rules: Rules) -> impl Checker<Rules> {
    let checker = rules.checker().threads(1).spawn_bfs().join();
    eprintln!(
        "{rules:?}: {} states, {} deep",
        checker.unique_state_count(),
        checker.max_depth()
    );
    checker
}

/// Nothing is given.
const BASE: Rules = Rules {
    peers: 3,
    range: "10.9.0.0/32",
    grants: 0,
    bans: 0,
    when: Bans::Settled,
    take_back: TakeBack {
        fence_after: super::FENCE_AFTER,
        take_after: super::TAKE_BACK_AFTER,
    },
    #[cfg(feature = "seeded-bugs")]
    bug: None,
};

#[test]
fn space_has_one_owner_at_all_times_and_none_is_lost() {
    explore(Rules { grants: 1, ..BASE }).assert_properties();
}

#[test]
fn of_two_grants_one_that_nobody_had_heard_of_yields_to_a_take_back() {
    explore(Rules { grants: 2, ..BASE }).assert_properties();
}

#[test]
fn where_the_founder_is_banned_an_heir_follows() {
    explore(Rules {
        grants: 1,
        bans: 1,
        ..BASE
    })
    .assert_properties();
}

#[test]
fn bans_that_cross_with_grants_are_sorted_out() {
    explore(Rules {
        grants: 1,
        bans: 1,
        when: Bans::Anywhere,
        ..BASE
    })
    .assert_properties();
}

#[test]
fn a_fence_that_comes_too_late_is_found() {
    let take_back = TakeBack {
        fence_after: super::TAKE_BACK_AFTER * 2,
        ..BASE.take_back
    };
    let broken = explore(Rules {
        take_back,
        grants: 1,
        ..BASE
    });
    assert!(broken.discovery(ONE_OWNER).is_some());
}

#[cfg(feature = "seeded-bugs")]
#[test]
fn an_owner_that_forgets_its_grants_is_found() {
    let bug = Some(crate::seeded::SeededBug::Allocator);
    let broken = explore(Rules {
        bug,
        grants: 1,
        ..BASE
    });
    assert!(broken.discovery(ONE_OWNER).is_some());
}

/// Among four peers, too many to explore: a grant was made in a part of the mesh that was cut off, and
/// what was taken has been given to a fourth one since.
#[test]
fn what_was_taken_and_given_on_stays_with_whom_it_was_given_to() {
    let rules = Rules {
        peers: 4,
        grants: 3,
        ..BASE
    };
    let steps = [
        Step::Give {
            from: 0,
            to: 1,
            chunk: 0,
        },
        Step::Connect(vec![0, 1, 1, 0]),
        Step::Give {
            from: 1,
            to: 2,
            chunk: 0,
        },
        Step::Wait,
        Step::Wait,
        Step::Give {
            from: 0,
            to: 3,
            chunk: 0,
        },
        Step::Connect(vec![0, 0, 0, 1]),
        Step::Listen,
    ];
    let mut world = World::founded(&rules);
    for step in steps {
        assert!(one_owner(&rules, &world));
        world = rules.next_state(&world, step).expect("it is possible");
        while let Some((peer, log)) = { world.news().next() } {
            world.hear(peer, log);
        }
    }
    let usable = |node: &usize| world.hosts[*node].usable(0).is_some();
    let owners: Vec<usize> = world.nodes().filter(usable).collect();
    assert_eq!(owners, [3]);
}
