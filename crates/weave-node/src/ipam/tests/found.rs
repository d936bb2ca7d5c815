//! Who founds an address range, when, and what becomes of two foundings.

use super::*;
use crate::ipam::pool::{Held, Phase};

#[test]
fn a_host_with_targets_does_not_found_alone() {
    let mut host = Host::new(2);
    host.ipam.set_targets(1, 1, host.now);
    host.pass(20_000);
    let refusal = host.refusal(1, RANGE, None);
    assert!(
        refusal.contains("none of the targets is connected"),
        "{refusal}"
    );
    assert!(host.log.is_empty());
}

#[test]
fn a_host_that_reaches_no_majority_of_what_it_was_told_of_does_not_found() {
    for (all, connected, founds) in [(1, 0, false), (3, 1, false), (3, 2, true), (2, 1, true)] {
        let mut host = Host::new(1);
        host.ipam.set_targets(all, connected, host.now);
        host.reach(&[2]);
        host.pass(20_000);
        if founds {
            host.ask(1, RANGE, None);
            host.pass(3000);
            host.drain();
        } else {
            let refusal = host.refusal(1, RANGE, None);
            let told = "this host is not connected to most of its targets";
            assert!(refusal.contains(told), "{refusal}");
        }
        assert_eq!(!host.log.is_empty(), founds, "{connected} of {all}");
    }
}

#[test]
fn a_host_does_not_found_while_a_peer_that_it_reaches_awaits_its_targets() {
    let mut host = Host::new(1);
    host.ipam.set_targets(1, 1, host.now);
    host.reach(&[2, 3]);
    host.pass(20_000);
    let record = |awaits_targets| {
        entry::Body::Peer(proto::PeerRecord {
            awaits_targets,
            ..proto::PeerRecord::default()
        })
    };
    host.ipam
        .apply(id(3), 1, None, Some(&record(true)), host.now);
    let refusal = host.refusal(1, RANGE, None);
    assert!(
        refusal.contains("is not connected to most of its targets"),
        "{refusal}"
    );
    assert!(host.log.is_empty());
    host.ipam.apply(
        id(3),
        1,
        Some(&record(true)),
        Some(&record(false)),
        host.now,
    );
    host.drain();
    host.pass(8000);
    host.ask(2, RANGE, None);
    host.pass(1500);
    host.drain();
    assert!(host.log.is_empty(), "it has not heard what they know");
    host.pass(2000);
    host.drain();
    assert!(!host.log.is_empty());
}

#[test]
fn of_hosts_with_targets_the_lowest_key_founds_after_ten_seconds() {
    let (mut a, mut b) = (Host::new(1), Host::new(2));
    for host in [&mut a, &mut b] {
        host.ipam.set_targets(1, 1, host.now);
    }
    a.reach(&[2]);
    b.reach(&[1]);
    let refusal = b.refusal(1, RANGE, None);
    assert!(refusal.contains("just connected"), "{refusal}");
    a.pass(11_000);
    b.pass(6000);
    b.ask(2, RANGE, None);
    for _ in 0..8 {
        converse(&mut a, &mut b);
        a.pass(500);
        b.pass(500);
    }
    assert!(b.answers[&2].is_ok(), "{:?}", b.answers[&2]);
    assert!(a.log.contains_key("genesis") && !b.log.contains_key("genesis"));
}

#[test]
fn a_host_without_targets_founds_when_asked() {
    let (mut a, mut b) = (Host::new(9), Host::new(2));
    b.ipam.set_targets(1, 1, b.now);
    a.reach(&[2]);
    b.reach(&[9]);
    b.ask(1, RANGE, None);
    for _ in 0..4 {
        converse(&mut a, &mut b);
        a.pass(300);
        b.pass(300);
    }
    assert!(b.answers[&1].is_ok(), "{:?}", b.answers.get(&1));
    assert!(a.log.contains_key("genesis"));
}

#[test]
fn a_founding_that_gave_out_nothing_yields() {
    let (mut used, mut unused) = (Host::new(1), Host::new(2));
    let given = unused.allocate(1, RANGE, None);
    unused.release(RANGE, given);
    used.pass(1000);
    used.allocate(1, RANGE, None);
    used.reach(&[2]);
    unused.reach(&[1]);
    unused.hear(&used);
    used.hear(&unused);
    unused.pass(3000);
    assert!(
        !unused.log.contains_key("genesis"),
        "it has the lower label, but is not used"
    );
    assert!(used.log.contains_key("genesis"));
    assert_eq!(unused.ipam.genesis_id(), used.ipam.genesis_id());
    assert!(
        !unused.restarted(2).log.contains_key("genesis"),
        "also after a restart"
    );
}

#[test]
fn of_two_foundings_in_use_one_gives_way_and_all_addresses_stay() {
    let (mut a, mut b) = (Host::new(1), Host::new(2));
    assert_eq!(a.allocate(1, RANGE, None), ip("10.32.0.1"));
    assert_eq!(b.allocate(1, RANGE, None), ip("10.32.0.1"));
    assert_eq!(b.allocate(2, RANGE, None), ip("10.32.0.2"));
    a.reach(&[2]);
    b.reach(&[1]);
    a.hear(&b);
    b.hear(&a);
    let a_stays =
        a.ipam.genesis.as_ref().unwrap().label() < b.ipam.genesis.as_ref().unwrap().label();
    let (stays, yields) = if a_stays {
        (&mut a, &mut b)
    } else {
        (&mut b, &mut a)
    };
    let says = |host: &Host, what: &str| {
        host.ipam
            .status()
            .notes
            .iter()
            .any(|note| note.contains(what))
    };
    assert!(says(yields, "this host goes on with that one"));
    assert!(says(stays, "go on with the one of this host"));
    for _ in 0..60 {
        stays.pass(300);
        yields.pass(300);
        converse(stays, yields);
    }
    assert_eq!(yields.ipam.genesis_id(), stays.ipam.genesis_id());
    assert!(!yields.log.contains_key("genesis"), "there is one founding");
    assert!(
        says(yields, "conflict: address 10.32.0.1 of `c1`"),
        "{:?}",
        yields.ipam.status().notes
    );
    assert_eq!(
        yields.ipam.foundlings.keys().copied().collect::<Vec<_>>(),
        [ip("10.32.0.1").to_bits()]
    );
    let all = |host: &Host| {
        host.ipam
            .allocated()
            .map(|held| held.ip)
            .collect::<Vec<_>>()
    };
    let mut both = [all(stays), all(yields)];
    both.sort();
    assert_eq!(
        both,
        [
            vec![ip("10.32.0.1")],
            vec![ip("10.32.0.1"), ip("10.32.0.2")]
        ]
    );
    // the one that has it by right lets it go: the other takes it over
    stays.release(RANGE, ip("10.32.0.1"));
    for _ in 0..130 {
        stays.pass(300);
        yields.pass(300);
        converse(stays, yields);
    }
    assert_eq!(yields.ipam.status().notes, [] as [String; 0]);
    assert!(all(yields).contains(&ip("10.32.0.1")));
}

#[test]
fn a_host_that_gives_way_with_nothing_left_goes_on_with_the_other_founding() {
    let (mut stays, mut yields) = rivals();
    stays.reach(&[yields.ipam.me.0[0]]);
    yields.reach(&[stays.ipam.me.0[0]]);
    // its only address is on its way out of the disk when it would take the other founding over
    yields.pass(14_000);
    yields.slow_disk = true;
    yields.release(RANGE, ip("10.32.0.1"));
    yields.pass(2000);
    yields.slow_disk = false;
    for token in std::mem::take(&mut yields.unwritten) {
        yields.ipam.handle_persisted(token, yields.now);
        yields.drain();
    }
    yields.pass(3000);
    assert_eq!(yields.ipam.genesis_id(), stays.ipam.genesis_id());
    stays.pass(19_000);
    yields.ask(2, RANGE, None);
    converse(&mut stays, &mut yields);
    assert!(yields.answers[&2].is_ok(), "{:?}", yields.answers[&2]);
}

#[test]
fn a_host_that_depends_on_none_follows_a_founding_that_somebody_is_there_for() {
    let (mut a, mut b) = (Host::new(1), Host::new(2));
    for host in [&mut a, &mut b] {
        host.allocate(1, RANGE, None);
    }
    for (there, number) in [(&a, 1), (&b, 2)] {
        let mut c = Host::new(3);
        c.ipam.set_targets(1, 1, c.now);
        c.reach(&[number]);
        c.hear(&a);
        c.hear(&b);
        assert_eq!(c.ipam.genesis_id(), there.ipam.genesis_id());
    }
}

/// Two hosts with foundings of their own, the one that stays first.
fn rivals() -> (Host, Host) {
    let (mut a, mut b) = (Host::new(1), Host::new(2));
    for host in [&mut a, &mut b] {
        host.allocate(1, RANGE, None);
    }
    a.hear(&b);
    b.hear(&a);
    let label = |host: &Host| host.ipam.genesis.as_ref().unwrap().label();
    match label(&a) < label(&b) {
        true => (a, b),
        false => (b, a),
    }
}

/// The same host after a restart, with a container in the founding that it follows.
fn restarted_with_container(mut host: Host, number: u8) -> Host {
    let held = Held {
        owner: "c1".to_owned(),
        subnet: net(RANGE),
        loan: None,
        ticket: None,
        phase: Phase::Kept,
    };
    let genesis = host.ipam.genesis.clone().expect("followed");
    for (key, value) in [
        store::genesis_write(&genesis),
        store::held_write(ip("10.32.9.9").to_bits(), &held),
    ] {
        host.disk.insert(key, value.expect("written"));
    }
    host.restarted(number)
}

#[test]
fn a_founding_whose_founder_is_not_heard_of_is_followed_where_somebody_takes_part_in_it() {
    let (stays, _) = rivals();
    let mut newcomer = Host::new(7);
    newcomer.reach(&[3]);
    let record = entry::Body::Peer(proto::PeerRecord {
        founding: stays.ipam.genesis.as_ref().map(Genesis::to_tell),
        ..proto::PeerRecord::default()
    });
    newcomer
        .ipam
        .apply(id(3), 1, None, Some(&record), newcomer.now);
    newcomer.drain();
    newcomer.pass(1000);
    assert_eq!(newcomer.ipam.genesis_id(), stays.ipam.genesis_id());
}

#[test]
fn a_founding_of_which_all_are_banned_is_followed_no_more() {
    let (former, _) = rivals();
    let mut left = Host::new(7);
    left.ipam.set_targets(0, 0, left.now);
    let genesis = former.ipam.genesis.as_ref().expect("founded");
    let loan = store::loan_record(genesis.id, id(3), 77, 1);
    for (slot, body) in [
        (80, entry::Body::Genesis(genesis.record.clone())),
        (81, entry::Body::Loan(loan)),
    ] {
        let (founder, now) = (genesis.founder, left.now);
        left.ipam.apply(founder, slot, None, Some(&body), now);
    }
    left.ipam.ban(genesis.founder, left.now);
    left.drain();
    left.pass(1000);
    assert_eq!(left.ipam.genesis_id(), Some(genesis.id), "the borrower is");
    let refusal = left.refusal(2, RANGE, None);
    let told = format!("peer {}, which cannot be reached", id(3).name());
    assert!(refusal.contains(&told), "{refusal}");
    let member = entry::Body::Peer(proto::PeerRecord {
        founding: Some(genesis.to_tell()),
        ..proto::PeerRecord::default()
    });
    left.ipam.apply(id(4), 1, None, Some(&member), left.now);
    left.ipam.ban(id(3), left.now);
    left.drain();
    assert_eq!(left.ipam.genesis_id(), Some(genesis.id), "a member is");
    left.ipam.ban(id(4), left.now);
    left.drain();
    let ip = left.allocate(1, RANGE, None);
    assert_eq!(left.ipam.genesis.as_ref().map(|it| it.founder), Some(id(7)));
    assert!(ip.is_private());
}

/// That of a founder that is gone; what its log says of who took part once does not count.
#[test]
fn a_better_founding_is_gone_over_to_once_somebody_within_reach_takes_part_in_it() {
    let (stays, mut yields) = rivals();
    let record = |part: Option<&Genesis>| {
        entry::Body::Peer(proto::PeerRecord {
            founding: part.map(Genesis::to_tell),
            ..proto::PeerRecord::default()
        })
    };
    let former = yields.ipam.genesis.clone();
    yields.reach(&[3]);
    let loan = store::loan_record(stays.ipam.genesis_id().expect("founded"), id(3), 77, 1);
    let loan = entry::Body::Loan(loan);
    yields
        .ipam
        .apply(stays.ipam.me, 90, None, Some(&loan), yields.now);
    yields.drain();
    for (part, goes_over) in [
        (None, false),
        (former.as_ref(), false),
        (stays.ipam.genesis.as_ref(), true),
    ] {
        yields
            .ipam
            .apply(id(3), 1, None, Some(&record(part)), yields.now);
        yields.drain();
        yields.pass(16_000);
        let part = match goes_over {
            true => stays.ipam.genesis.as_ref(),
            false => former.as_ref(),
        };
        assert_eq!(yields.ipam.part_in(), part.map(Genesis::to_tell));
    }
}

/// Whoever goes on with the founding that it left cannot be given anything there.
#[test]
fn a_founder_that_left_its_founding_founds_anew_for_those_who_have_not() {
    let (stays, mut yields) = rivals();
    let left = yields.ipam.genesis.clone().expect("founded");
    yields.reach(&[stays.ipam.me.0[0]]);
    yields.hear(&stays);
    yields.pass(16_000);
    assert_eq!(yields.ipam.genesis_id(), stays.ipam.genesis_id());
    // what it held is given back, and of the other founding nobody is left
    for ip in yields
        .ipam
        .allocated()
        .map(|held| held.ip)
        .collect::<Vec<_>>()
    {
        yields.release(RANGE, ip);
    }
    yields.ipam.ban(stays.ipam.me, yields.now);
    yields.drain();
    assert_eq!(yields.ipam.genesis_id(), None);
    yields.pass(5000);
    assert_eq!(yields.ipam.genesis_id(), None, "nobody asks for anything");
    let member = entry::Body::Peer(proto::PeerRecord {
        founding: Some(left.to_tell()),
        ..proto::PeerRecord::default()
    });
    yields.ipam.apply(id(7), 1, None, Some(&member), yields.now);
    yields.drain();
    assert_eq!(yields.ipam.genesis_id(), None, "that one is not there");
    yields.reach(&[7]);
    yields.drain();
    let anew = yields.ipam.genesis.clone().expect("founded anew");
    assert_eq!(anew.founder, yields.ipam.me);
    assert_ne!(anew.id, left.id);
}

/// Even of a higher label: in the other one there is nobody to give out anything.
#[test]
fn a_founding_that_its_founder_has_left_gives_way() {
    let (left, kept) = rivals();
    let mut member = Host::new(7);
    member.ipam.set_targets(1, 1, member.now);
    member.reach(&[left.ipam.me.0[0], kept.ipam.me.0[0]]);
    member.hear(&left);
    member.pass(1000);
    let genesis = member.ipam.genesis.clone().expect("followed");
    let mut member = restarted_with_container(member, 7);
    member.reach(&[left.ipam.me.0[0], kept.ipam.me.0[0]]);
    member.hear(&left);
    member.hear(&kept);
    member.pass(20_000);
    assert_eq!(member.ipam.genesis_id(), Some(genesis.id), "the better one");
    let record = entry::Body::Peer(proto::PeerRecord::default());
    let founding = entry::Body::Genesis(genesis.record);
    let slot = left.log.keys().position(|key| key == "genesis");
    let slot = slot.expect("announced") as u64;
    for (slot, old, new) in [(90, None, Some(&record)), (slot, Some(&founding), None)] {
        member.ipam.apply(left.ipam.me, slot, old, new, member.now);
    }
    member.drain();
    member.pass(16_000);
    assert_eq!(member.ipam.genesis_id(), kept.ipam.genesis_id());
}

/// Chunks of the former founding come in while the other one is on its way to the disk.
#[test]
fn nothing_of_a_founding_that_is_given_up_is_written_after_it() {
    let (stays, yields) = rivals();
    let former = yields.ipam.genesis_id().expect("founded");
    let mut c = Host::new(3);
    c.ipam.set_targets(1, 1, c.now);
    c.reach(&[yields.ipam.me.0[0]]);
    c.hear(&yields);
    assert_eq!(c.ipam.genesis_id(), Some(former));
    let mut c = restarted_with_container(c, 3);
    c.reach(&[stays.ipam.me.0[0], yields.ipam.me.0[0]]);
    c.hear(&stays);
    c.hear(&yields);
    c.pass(14_000);
    c.slow_disk = true;
    c.pass(3000);
    c.slow_disk = false;
    let request = c.ipam.new_request_id();
    let grant = Grant {
        serial: 1,
        taken_from: None,
        grantor: yields.ipam.me,
        grantee: id(3),
        chunks: Span { first: 9, last: 9 },
        number: 1,
        taken_at: 0,
    };
    let grant = store::grant_record(former, &grant, request);
    c.ipam.apply(
        yields.ipam.me,
        90,
        None,
        Some(&entry::Body::Grant(grant)),
        c.now,
    );
    c.drain();
    assert_eq!(c.ipam.genesis_id(), Some(former), "it is still in force");
    for token in std::mem::take(&mut c.unwritten) {
        c.ipam.handle_persisted(token, c.now);
        c.drain();
    }
    assert_eq!(c.ipam.genesis_id(), stays.ipam.genesis_id());
    let of_the_former = store::owned_key(9, 1);
    assert!(!c.disk.contains_key(&of_the_former));
}

#[test]
fn another_range_is_refused_in_words_and_harms_nothing() {
    let (mut a, mut b) = (
        Host::new(1),
        Host::with(2, "10.99.0.0/16", &BTreeMap::new()),
    );
    a.allocate(1, RANGE, None);
    a.reach(&[2]);
    b.reach(&[1]);
    b.hear(&a);
    let refusal = b.refusal(1, "10.99.0.0/16", None);
    assert!(
        refusal.contains("launch with `--ipalloc-range 10.32.0.0/12`"),
        "{refusal}"
    );
    assert!(b.ipam.status().notes[0].contains("10.32.0.0/12"));
    assert_eq!(a.allocate(2, RANGE, None), ip("10.32.0.2"));
    let other = Host::with(1, "10.99.0.0/16", &a.disk);
    assert!(
        other
            .ipam
            .status()
            .state
            .contains("launch with `--ipalloc-range 10.32.0.0/12`")
    );
}
