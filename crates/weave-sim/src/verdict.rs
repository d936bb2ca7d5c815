//! The end of a run: once all faults are over everybody must come to agree, and frames must
//! arrive.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use weave_node::forward::Owner;
use weave_wire::{PeerId, Time};

use crate::containers::Container;
use crate::host::Router;
use crate::world::World;

/// Everybody agrees after this long at the latest: peers that are gone are noticed, and the
/// longest pauses between attempts to connect are over.
const AGREE_WITHIN: Duration = Duration::from_secs(120);
/// Frames sent at the end.
const PINGS: usize = 200;

/// A name as every host must see it: in lower case, with its address and its origin.
type Name = (String, IpAddr, PeerId);

/// Waits for agreement, then looks at everything.
pub(crate) fn judge(world: &mut World) {
    let Some(took) = agree(world, Asked::Everything) else {
        return;
    };
    world.counters.converged_ms += u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    world.check_versions();
    world.count_through_nats();
    world.check_always("healing");
    world.is_besieged = true;
    world.roam();
    world.check_paths();
    world.is_besieged = false;
    world.attack_every = None;
    check_frames(world);
    // sessions that the frames made have time for the key exchange that follows
    world.run_for(Duration::from_secs(1));
    world.check_keys();
    check_held(world);
    check_space(world);
    if world.banned.is_some() {
        world.check_stays_out();
        // whoever forgets a ban in a restart has nobody to be told it by
        world.restart_all();
        if agree(world, Asked::Reach).is_some() {
            world.check_stays_out();
        }
    }
}

/// What hosts are to agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Everything,
    /// All but who owns which address space: with a founder that is gone for good, those who
    /// have no space of their own do not know it after a restart.
    Reach,
}

/// Runs until all hosts agree; how long that took.
fn agree(world: &mut World, asked: Asked) -> Option<Duration> {
    let begun = world.now;
    // requests that are under way end first
    world.run_for(Duration::from_secs(5));
    while let Some(difference) = first_difference(world, asked) {
        if world.now >= begun + AGREE_WITHIN {
            let what = format!("no agreement: {difference}");
            world.oracle.violation(what);
            return None;
        }
        world.run_for(Duration::from_millis(500));
    }
    Some(world.now.saturating_sub(begun))
}

/// Something that hosts do not agree on yet.
fn first_difference(world: &World, asked: Asked) -> Option<String> {
    if world.is_ban_under_way() {
        return Some("a ban is not stored yet".to_owned());
    }
    if let Some(broken) = world.ban_broken() {
        return Some(broken);
    }
    let hosts = (0..).zip(&world.hosts);
    let hosts: Vec<_> = hosts
        .filter_map(|(index, host)| Some((index, host.router.as_ref()?)))
        .collect();
    let live = hosts.iter().filter(|(index, _)| !world.is_out(*index));
    let live: BTreeSet<PeerId> = live.map(|(_, router)| router.node.id()).collect();
    let names = expected_names(world);
    let running: Vec<(PeerId, Container)> = world
        .serving()
        .filter_map(|(index, container)| Some((world.hosts.get(index)?.id()?, container)))
        .collect();
    let mut shares: Option<Vec<(PeerId, u64)>> = None;
    for (index, router) in hosts {
        if router.node.is_recovering() {
            return Some(format!("host {index} has yet to hear what its disk forgot"));
        }
        let found = if world.is_out(index) {
            sessions_differ(router, &BTreeSet::from([router.node.id()]), world.now)
        } else {
            let reached = match world.plan.is_large(live.len()) {
                true => live_differ(router, &live),
                false => sessions_differ(router, &live, world.now),
            };
            reached
                .or_else(|| names_differ(router, &names))
                .or_else(|| endpoints_differ(router, &running, world.plan.is_large(live.len())))
                .or_else(|| match asked {
                    Asked::Everything => shares_differ(router, &mut shares),
                    Asked::Reach => None,
                })
        };
        if let Some(found) = found {
            return Some(format!("host {index}: {found}"));
        }
    }
    None
}

fn sessions_differ(router: &Router, live: &BTreeSet<PeerId>, now: Time) -> Option<String> {
    let mut connected: BTreeSet<PeerId> = router
        .fib
        .sessions
        .iter()
        .map(|session| session.peer)
        .collect();
    connected.insert(router.node.id());
    if connected == *live {
        return None;
    }
    let is_missing = |peer: &PeerId| live.contains(peer) && !connected.contains(peer);
    let connections = router.node.connections(router.clock.shows(now));
    let why = connections
        .iter()
        .find(|connection| connection.peer.as_ref().is_some_and(is_missing))
        .map_or_else(String::new, |one| {
            format!(": {} {}", one.nickname, one.info)
        });
    let (count, all) = (connected.len(), live.len());
    Some(format!("{count} of {all} peers connected{why}"))
}

fn live_differ(router: &Router, live: &BTreeSet<PeerId>) -> Option<String> {
    let shown = router.node.live();
    (shown != live).then(|| format!("{} of {} peers live", shown.len(), live.len()))
}

fn names_differ(router: &Router, expected: &BTreeSet<Name>) -> Option<String> {
    let seen: BTreeSet<Name> = router
        .names
        .all()
        .into_iter()
        .map(|entry| (entry.name.to_lowercase(), entry.ip, entry.origin))
        .collect();
    let missing = expected.difference(&seen).next();
    let stale = seen.difference(expected).next();
    match (missing, stale) {
        (None, None) => None,
        (Some(missing), _) => Some(format!("name {missing:?} is missing")),
        (None, Some(stale)) => Some(format!("name {stale:?} is stale")),
    }
}

fn endpoints_differ(
    router: &Router,
    running: &[(PeerId, Container)],
    is_large: bool,
) -> Option<String> {
    let me = router.node.id();
    for (peer, container) in running {
        let key = (container.segment(), container.station().mac);
        let is_right = match router.fib.macs.get(&key) {
            Some(Owner::Local) => *peer == me,
            Some(Owner::Remote {
                peer: owner,
                session,
            }) => owner == peer && (is_large || session.is_some()),
            None => false,
        };
        let of_ip = router
            .fib
            .ips
            .get(&(container.segment(), container.ip.into()));
        if !is_right || of_ip.is_none_or(|(mac, _)| *mac != container.station().mac) {
            return Some(format!(
                "endpoint {} at {} is unknown",
                container.owner(),
                container.ip
            ));
        }
    }
    let extra = router.fib.macs.len().saturating_sub(running.len());
    (extra > 0).then(|| format!("{extra} endpoints are stale"))
}

fn shares_differ(router: &Router, first: &mut Option<Vec<(PeerId, u64)>>) -> Option<String> {
    let status = router.node.ipam_status();
    let mut shares: Vec<(PeerId, u64)> = status
        .shares
        .iter()
        .map(|share| (share.peer, share.ips))
        .collect();
    shares.sort_unstable();
    let owned: u64 = shares.iter().map(|(_, ips)| ips).sum();
    if !shares.is_empty() && owned != status.total_ips {
        return Some(format!(
            "{owned} of {} addresses are owned",
            status.total_ips
        ));
    }
    if let Some(note) = status.notes.first() {
        return Some(note.clone());
    }
    let first = first.get_or_insert_with(|| shares.clone());
    (*first != shares).then(|| {
        let named = |shares: &[(PeerId, u64)]| -> Vec<(String, u64)> {
            let named = shares
                .iter()
                .map(|(peer, ips)| (peer.name().to_string(), *ips));
            named.collect()
        };
        let (here, there) = (named(&shares), named(first));
        format!("address space is owned differently: {here:?}, elsewhere {there:?}")
    })
}

fn expected_names(world: &World) -> BTreeSet<Name> {
    let mut names = BTreeSet::new();
    for (index, container) in world.serving() {
        let Some(id) = world.hosts.get(index).and_then(|host| host.id()) else {
            continue;
        };
        for name in container.names() {
            names.insert((name.to_lowercase(), IpAddr::from(container.ip), id));
        }
    }
    names
}

/// Every frame sent now arrives once, at its receiver and nowhere else.
fn check_frames(world: &mut World) {
    let running: Vec<(usize, Container)> = world.serving().collect();
    let mut sent = Vec::new();
    for _ in 0..PINGS {
        let Some((index, from)) = world.chance.pick(&running).cloned() else {
            return;
        };
        let Some((at, to)) = world.chance.pick(&running).cloned() else {
            return;
        };
        if at == index || from.subnet != to.subnet {
            continue;
        }
        let told = world.arp(index, &from, &to);
        if told != Some(to.station().mac) {
            world
                .oracle
                .violation(format!("host {index} answers {told:?} for {}", to.ip));
        }
        let number = if world.plan.loses_fragments {
            // an idle session notices only when it is used that its path has narrowed
            let padding = world.chance.index(1000);
            world.ping_padded(index, &from, &to, padding)
        } else {
            world.ping(index, &from, &to)
        };
        sent.push((number, index, at));
        world.run_for(Duration::from_millis(1));
    }
    world.run_for(Duration::from_secs(3));
    for (number, index, at) in sent {
        world.check_arrival(number, index, at);
    }
}

/// Every container's address is held by its host, and no other.
fn check_held(world: &mut World) {
    for index in 0..world.hosts.len() {
        world.release_strays(index);
    }
    world.run_for(Duration::from_secs(2));
    let mut wrong = Vec::new();
    for (index, host) in world.hosts.iter().enumerate() {
        // nobody tells a banned host what its disk forgot
        let is_served = !world.is_out(index);
        let Some(router) = host.router.as_ref().filter(|_| is_served) else {
            continue;
        };
        let held: BTreeSet<_> = router.node.allocated().map(|held| held.ip).collect();
        let used: BTreeSet<_> = host.containers.values().map(|c| c.ip).collect();
        let leaked = held.difference(&used).map(|ip| format!("{ip} is leaked"));
        let missing = used.difference(&held).map(|ip| format!("{ip} is not held"));
        wrong.extend(
            leaked
                .chain(missing)
                .map(|what| format!("host {index}: {what}")),
        );
    }
    for what in wrong {
        world.oracle.violation(what);
    }
}

/// With all hosts up and none of them banned, everybody gets an address.
fn check_space(world: &mut World) {
    if world.banned.is_some() || world.hosts.iter().any(|host| host.is_dead) {
        return;
    }
    let given = world.counters.given;
    let asking = world.hosts.len().min(10);
    let Some(widest) = world.subnets.first().copied() else {
        return;
    };
    for index in 0..asking {
        world.begin_in(index, widest, None);
    }
    world.run_for(Duration::from_secs(6));
    let got = world.counters.given - given;
    if got != asking as u64 {
        world
            .oracle
            .violation(format!("{got} of {asking} hosts got an address at the end"));
    }
}
