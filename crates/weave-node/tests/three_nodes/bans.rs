//! A banned peer: out everywhere at once, and for good.

use weave_node::BanProgress;

use super::*;

/// The last host is the one that is banned.
const BANNED: usize = 2;

impl Mesh {
    fn ban(&mut self, by: usize, whom: PeerId) {
        self.with(by, |node, now| node.ban(whom, "stolen", now));
        let progress = self.hosts[by].node.ban_progress(&whom);
        assert_eq!(progress, Some(BanProgress::InForce));
    }

    fn id(&self, host: usize) -> PeerId {
        self.hosts[host].node.id()
    }

    /// Whether a host has and shows nothing of a peer that it knows to be banned.
    fn has_shut_out(&self, host: usize, peer: PeerId) -> bool {
        let out = &self.hosts[host].out;
        let status = self.status(host);
        status.bans.iter().any(|ban| ban.peer == peer)
            && out.fib.sessions.iter().all(|session| session.peer != peer)
            && out.names.all().iter().all(|entry| entry.origin != peer)
            && status.peers.iter().all(|info| info.peer != peer)
    }

    fn are_connected(&self, a: usize, b: usize) -> bool {
        let has = |from: usize, to: usize| {
            let sessions = &self.hosts[from].out.fib.sessions;
            sessions.iter().any(|session| session.peer == self.id(to))
        };
        has(a, b) && has(b, a)
    }

    /// What a host is told by the one at this address.
    fn told(&self, host: usize, by: u8) -> Option<String> {
        let by = addr_of(by).to_string();
        let mut lines = self.status(host).connections.into_iter();
        lines.find(|line| line.address == by).map(|line| line.info)
    }
}

#[test]
fn a_peer_that_leaves_is_out_everywhere_and_its_address_space_is_taken_over() {
    let mut mesh = with_a_name_of_the_last();
    let left = mesh.id(BANNED);
    let owner = |mesh: &Mesh, host: usize| {
        let shares = mesh.status(host).ipam.shares;
        shares.iter().map(|share| share.peer).collect::<Vec<_>>()
    };
    mesh.with(BANNED, |node, now| {
        let range = range();
        node.allocate(1, "c1", range, None, now);
    });
    mesh.run_until(10 * SECOND, |mesh| owner(mesh, 0).contains(&left));
    assert!(owner(&mesh, 0).contains(&left), "it owns something");
    mesh.with(BANNED, |node, now| node.leave(now));
    let progress = mesh.hosts[BANNED].node.ban_progress(&left);
    assert_eq!(progress, Some(BanProgress::InForce));
    mesh.run_until(3 * SECOND, |mesh| {
        (0..2).all(|host| mesh.has_shut_out(host, left) && !owner(mesh, host).contains(&left))
    });
    for host in 0..2 {
        assert!(mesh.has_shut_out(host, left), "host {host}");
        assert!(!owner(&mesh, host).contains(&left), "host {host}");
    }
    let established =
        |line: &weave_node::ConnectionStatus| line.state == ConnectionState::Established;
    mesh.run_until(3 * SECOND, |mesh| {
        !mesh.status(BANNED).connections.iter().any(established)
    });
    assert!(
        !mesh.status(BANNED).connections.iter().any(established),
        "it sees that they know"
    );
}

#[test]
fn a_banned_peer_is_out_everywhere_within_three_seconds_and_is_told() {
    let mut mesh = with_a_name_of_the_last();
    let banned = mesh.id(BANNED);
    mesh.ban(0, banned);
    assert!(mesh.has_shut_out(0, banned), "here at once");
    let took = mesh.run_until(3 * SECOND, |mesh| mesh.has_shut_out(1, banned));
    assert!(took <= 5 * LATENCY, "{took:?}");
    let status = mesh.status(1);
    let ban = status.bans.first().expect("a ban");
    assert_eq!((ban.by, ban.reason.as_str()), (mesh.id(0), "stolen"));
    let heard = mesh.status(BANNED).bans;
    assert_eq!(
        heard.first().map(|ban| ban.peer),
        Some(banned),
        "it hears of it"
    );
    let refused = |mesh: &Mesh| {
        let told = mesh.told(BANNED, 0);
        told.is_some_and(|info| info == "refused: banned from this mesh")
    };
    mesh.run_until(60 * SECOND, refused);
    for _ in 0..60 {
        mesh.run(2 * SECOND);
        assert!(mesh.has_shut_out(0, banned) && mesh.has_shut_out(1, banned));
        assert!(mesh.are_connected(0, 1));
    }
    let drops = mesh.status(0).drops;
    assert!(
        drops.get("session_banned").is_some_and(|count| *count > 0),
        "{drops:?}"
    );
    assert_eq!(mesh.status(BANNED).peers.len(), 1, "it is alone");
}

#[test]
fn a_banned_peer_that_starts_anew_stays_out() {
    let mut mesh = with_a_name_of_the_last();
    let banned = mesh.id(BANNED);
    mesh.ban(1, banned);
    mesh.run(SECOND);
    mesh.restart(BANNED);
    mesh.with(BANNED, |node, now| {
        node.set_names("c0ffee", &[(NAME.into(), HOST)], now)
    });
    for _ in 0..60 {
        mesh.run(SECOND);
        assert!(mesh.has_shut_out(0, banned) && mesh.has_shut_out(1, banned));
    }
    assert_eq!(mesh.id(BANNED), banned);
}

#[test]
fn after_a_restart_of_all_and_without_its_issuer_a_ban_holds_and_reaches_newcomers() {
    let mut mesh = with_a_name_of_the_last();
    let banned = mesh.id(BANNED);
    mesh.ban(0, banned);
    mesh.run_until(3 * SECOND, |mesh| mesh.has_shut_out(1, banned));
    let issuer = mesh.id(0);
    // another host, with an empty disk, takes the place of the issuer
    mesh.hosts[0].stored.clear();
    (0..3).for_each(|host| mesh.restart(host));
    assert_ne!(mesh.id(0), issuer);
    mesh.run(SECOND);
    assert!(mesh.has_shut_out(1, banned), "from its own disk");
    let heard = |mesh: &Mesh| mesh.are_connected(0, 1) && mesh.has_shut_out(0, banned);
    mesh.run_until(60 * SECOND, heard);
    let status = mesh.status(0);
    let ban = status.bans.first().expect("it was passed on");
    assert_eq!((ban.by, ban.reason.as_str()), (issuer, "stolen"));
    for _ in 0..60 {
        mesh.run(2 * SECOND);
        assert!(mesh.has_shut_out(0, banned) && mesh.has_shut_out(1, banned));
    }
    let entries = (0..2).filter(|host| {
        let me = mesh.id(*host);
        mesh.status(*host).bans.iter().any(|ban| ban.by == me)
    });
    assert_eq!(
        entries.count(),
        0,
        "who passes it on does not become its author"
    );
}

#[test]
fn a_ban_reaches_those_that_were_cut_off_when_they_are_back() {
    let mut mesh = with_a_name_of_the_last();
    let banned = mesh.id(BANNED);
    mesh.set_cut(0, 1, true);
    mesh.set_cut(0, 2, true);
    mesh.run(30 * SECOND);
    mesh.ban(0, banned);
    mesh.run(10 * SECOND);
    assert!(mesh.are_connected(1, BANNED), "they have not heard of it");
    mesh.set_cut(0, 1, false);
    mesh.set_cut(0, 2, false);
    let out = |mesh: &Mesh| mesh.has_shut_out(1, banned);
    mesh.run_until(120 * SECOND, out);
    mesh.run(60 * SECOND);
    assert!(mesh.has_shut_out(0, banned) && mesh.has_shut_out(1, banned));
    assert!(mesh.are_connected(0, 1) && !mesh.are_connected(1, BANNED));
}

#[test]
fn two_that_ban_each_other_at_once_stay_apart_and_the_first_that_is_heard_counts() {
    let mut mesh = Mesh::connected();
    let (a, b) = (mesh.id(0), mesh.id(1));
    mesh.ban(0, b);
    mesh.ban(1, a);
    mesh.run(3 * SECOND);
    // what the second said reached nobody: it was out by then
    for _ in 0..60 {
        mesh.run(SECOND);
        assert!(mesh.has_shut_out(0, b) && mesh.has_shut_out(1, a));
        assert!(mesh.has_shut_out(2, b) && mesh.are_connected(0, 2));
    }
    assert_eq!(mesh.status(1).peers.len(), 1);
}

#[test]
fn the_same_ban_typed_on_several_hosts_is_one_and_nobody_bans_itself() {
    let mut mesh = Mesh::connected();
    let banned = mesh.id(BANNED);
    mesh.ban(0, banned);
    mesh.ban(1, banned);
    mesh.ban(0, banned);
    mesh.run(3 * SECOND);
    for host in 0..2 {
        assert_eq!(mesh.status(host).bans.len(), 1);
    }
    let shown = |host| mesh.status(host).bans;
    assert_eq!(shown(0), shown(1), "all show the same one");
    let me = mesh.id(0);
    mesh.with(0, |node, now| node.ban(me, "", now));
    assert_eq!(mesh.hosts[0].node.ban_progress(&me), None);
}

#[test]
fn a_ban_that_cannot_be_stored_is_refused_and_told_to_nobody() {
    let mut mesh = Mesh::connected();
    let banned = mesh.id(BANNED);
    mesh.set_disk(0, Disk::Refuses);
    mesh.with(0, |node, now| node.ban(banned, "", now));
    let progress = mesh.hosts[0].node.ban_progress(&banned);
    assert_eq!(progress, Some(BanProgress::Failed("disk full".to_owned())));
    mesh.run(10 * SECOND);
    assert!(mesh.is_full());
    mesh.set_disk(1, Disk::Refuses);
    mesh.set_disk(0, Disk::Works);
    mesh.ban(0, banned);
    mesh.run(SECOND);
    assert!(
        mesh.has_shut_out(1, banned),
        "whoever is told obeys at once"
    );
    let stored = |mesh: &Mesh| {
        let mut keys = mesh.hosts[1].stored.keys();
        keys.any(|key| key.starts_with(b"ban/"))
    };
    assert!(!stored(&mesh));
    mesh.set_disk(1, Disk::Works);
    mesh.run_until(3 * SECOND, stored);
}

#[test]
fn an_address_of_a_banned_peer_is_given_out_again_once() {
    let mut mesh = Mesh::connected();
    for host in 0..3 {
        mesh.with(host, |node, now| {
            node.allocate(1, "c0ffee", range(), None, now)
        });
    }
    let answered = |mesh: &Mesh| (0..3).all(|host| mesh.answer(host, 1).is_some());
    mesh.run_until(5 * SECOND, answered);
    let Some(Ok(IpAddr::V4(held))) = mesh.answer(BANNED, 1).cloned() else {
        panic!("{:?}", mesh.answer(BANNED, 1));
    };
    let banned = mesh.id(BANNED);
    mesh.ban(0, banned);
    mesh.run(5 * SECOND);
    let owns = |mesh: &Mesh, host: usize| {
        let mut shares = mesh.status(host).ipam.shares.into_iter();
        shares.any(|share| share.peer == banned)
    };
    assert!(
        !owns(&mesh, 0) && !owns(&mesh, 1),
        "its space is taken over"
    );
    for host in 0..2 {
        mesh.with(host, |node, now| {
            node.allocate(2, "beef", range(), Some(held), now)
        });
        mesh.run_until(6 * SECOND, |mesh| mesh.answer(host, 2).is_some());
    }
    let given = (0..2).filter(|host| matches!(mesh.answer(*host, 2), Some(Ok(_))));
    assert_eq!(
        given.count(),
        1,
        "{:?} {:?}",
        mesh.answer(0, 2),
        mesh.answer(1, 2)
    );
}

#[test]
fn a_peer_is_found_by_key_name_nickname_and_their_beginnings() {
    let mesh = Mesh::connected();
    let node = &mesh.hosts[0].node;
    let (me, other) = (mesh.id(0), mesh.id(1));
    let (key, name) = (other.to_string(), other.name().to_string());
    for text in [
        key.as_str(),
        &key.to_uppercase(),
        &key[..8],
        &name,
        &name[..8],
        "host1",
    ] {
        assert_eq!(node.find_peers(text), [other], "{text}");
    }
    assert_eq!(node.find_peers("host0"), [me]);
    for text in ["", "host", "host9", &key[..3], "zz"] {
        assert!(node.find_peers(text).is_empty(), "{text}");
    }
    let stranger = PeerId([9; 32]);
    assert_eq!(node.find_peers(&stranger.to_string()), [stranger]);
    assert!(node.has_heard_of(&other) && !node.has_heard_of(&stranger));
}
