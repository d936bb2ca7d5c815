//! When space is left alone, and when it is taken back.

use prost::Message as _;

use super::*;

const DAY: u64 = 86_400;

fn owners(host: &Host) -> Vec<PeerId> {
    host.ipam.map.runs().map(|run| run.owner).collect()
}

/// Two hosts that both own chunks; the first founded the range.
fn owning_pair() -> (Host, Host) {
    let (mut a, mut b) = pair();
    b.ask(10, RANGE, None);
    converse(&mut a, &mut b);
    assert!(owners(&a).contains(&id(2)));
    (a, b)
}

#[test]
fn who_is_cut_off_from_the_founder_gives_out_nothing_new_after_three_days_and_says_why() {
    let (_, mut b) = owning_pair();
    b.reach(&[]);
    b.pass(2 * DAY * 1000);
    b.allocate(11, RANGE, None);
    b.pass((DAY + 1) * 1000);
    let refusal = b.refusal(12, RANGE, None);
    assert!(
        refusal.contains("has not been in contact with peer"),
        "{refusal}"
    );
    assert!(refusal.contains("weave rmpeer"), "{refusal}");
    assert!(
        b.ipam
            .status()
            .notes
            .iter()
            .any(|note| note.contains("leaves its address space alone"))
    );
    assert!(
        !b.ipam.lookup("c11").is_empty(),
        "its containers keep their addresses"
    );
    b.reach(&[1]);
    let notes = b.ipam.status().notes;
    assert!(
        notes
            .iter()
            .any(|note| note.contains("may have been taken back")),
        "{notes:?}"
    );
    b.pass(20_000);
    b.allocate(14, RANGE, None);
}

/// The link comes up for a moment, too short for news to pass.
#[test]
fn a_contact_that_ends_before_news_can_have_come_lifts_no_fence() {
    let (mut a, mut b) = owning_pair();
    a.reach(&[]);
    b.reach(&[]);
    a.pass((7 * DAY + 1) * 1000);
    assert!(!owners(&a).contains(&id(2)), "it is taken back");
    b.pass((7 * DAY + 1) * 1000);
    for _ in 0..2 {
        b.reach(&[1]);
        b.pass(10_000);
        b.reach(&[]);
        b.pass(30_000);
        assert!(b.ipam.is_fenced());
    }
    assert!(b.restarted_after(2, 1).ipam.is_fenced());
    b.reach(&[1]);
    b.pass(20_000);
    assert!(!b.ipam.is_fenced());
}

#[test]
fn contacts_of_a_moment_every_hour_are_none() {
    let (_, mut b) = owning_pair();
    b.reach(&[1]);
    b.pass(20_000);
    for _ in 0..3 * 24 {
        assert!(!b.ipam.is_fenced());
        b.reach(&[]);
        b.pass(3_600_000);
        b.reach(&[1]);
        b.pass(10_000);
    }
    assert!(b.ipam.is_fenced());
}

#[test]
fn the_founder_alone_goes_on_for_ever() {
    let (mut a, _) = owning_pair();
    a.reach(&[]);
    a.pass(30 * DAY * 1000);
    a.allocate(11, RANGE, None);
}

#[test]
fn across_a_restart_the_wall_clock_counts_and_one_that_went_back_is_not_trusted() {
    let (_, b) = owning_pair();
    b.restarted_after(2, 2 * DAY).allocate(11, RANGE, None);
    let fenced = "has not been in contact";
    let late = b.restarted_after(2, 4 * DAY).refusal(11, RANGE, None);
    assert!(late.contains(fenced), "{late}");
    let mut back = Host::started(2, RANGE, &b.disk, WALL - 1);
    let back = back.refusal(11, RANGE, None);
    assert!(back.contains(fenced), "{back}");
}

#[test]
fn space_of_a_peer_that_is_silent_for_a_week_is_taken_back_and_it_hears_of_that() {
    let (mut a, mut b) = owning_pair();
    a.reach(&[]);
    b.reach(&[]);
    a.pass(6 * DAY * 1000);
    assert!(owners(&a).contains(&id(2)));
    a.pass((DAY + 1) * 1000);
    assert!(!owners(&a).contains(&id(2)));
    b.pass((7 * DAY + 1) * 1000);
    let held = b.ipam.lookup("c10");
    a.reach(&[2]);
    b.reach(&[1]);
    converse(&mut a, &mut b);
    assert_eq!(owners(&b), owners(&a));
    for _ in 0..10 {
        b.pass(3000);
        a.pass(3000);
        converse(&mut a, &mut b);
    }
    let now = b.ipam.lookup("c10");
    assert_eq!(
        (now[0].ip, now[0].lender),
        (held[0].ip, Some(id(1))),
        "it is lent now"
    );
}

#[test]
fn a_banned_peer_is_followed_at_once_and_its_containers_block_nothing() {
    let (mut a, b) = owning_pair();
    let held = b.ipam.lookup("c10")[0].ip.to_string();
    let record = proto::EndpointRecord {
        segment: 1,
        mac: vec![2, 0, 0, 0, 0, 1],
        ips: vec![b.ipam.lookup("c10")[0].ip.octets().to_vec()],
        claim: 1,
        container: "c10".to_owned(),
    };
    a.ipam
        .apply(id(2), 99, None, Some(&entry::Body::Endpoint(record)), a.now);
    a.ipam.ban(id(2), a.now);
    a.drain();
    assert!(!owners(&a).contains(&id(2)));
    a.allocate(30, RANGE, Some(&held));
}

#[test]
fn where_the_founder_is_banned_the_first_that_it_granted_to_follows_and_is_fenced_no_more() {
    let (a, mut b) = owning_pair();
    b.hear(&a);
    b.reach(&[]);
    b.pass(4 * DAY * 1000);
    assert!(
        b.refusal(11, RANGE, None)
            .contains("has not been in contact")
    );
    b.ipam.ban(id(1), b.now);
    b.drain();
    assert_eq!(
        owners(&b).iter().filter(|owner| **owner != id(2)).count(),
        0
    );
    b.allocate(12, RANGE, None);
}

/// The record of a grant, as it stands in the log of whoever makes it.
fn granted(host: &Host, grant: &Grant) -> proto::GrantRecord {
    store::grant_record(host.ipam.genesis_id().expect("founded"), grant, 0)
}

fn grant(serial: u32, from: u8, to: u8, chunks: (u32, u32)) -> Grant {
    Grant {
        serial,
        taken_from: None,
        grantor: id(from),
        grantee: id(to),
        chunks: Span {
            first: chunks.0,
            last: chunks.1,
        },
        number: serial,
        taken_at: 0,
    }
}

fn take(serial: u32, by: u8, from: u8, chunks: (u32, u32)) -> Grant {
    Grant {
        taken_from: Some(id(from)),
        ..grant(serial, by, by, chunks)
    }
}

/// A founder whose disk holds these grants of its own.
fn founder_that_said(grants: &[Grant], receipts: &[Grant]) -> Host {
    let mut a = Host::new(1);
    a.allocate(1, RANGE, None);
    for own in grants {
        let key = store::granted_key(own.chunks.first, own.serial);
        let record = granted(&a, own).encode_to_vec();
        a.disk.insert(key, record);
    }
    for receipt in receipts {
        let (key, value) = store::owned_write(receipt);
        a.disk.insert(key, value.expect("written"));
    }
    let mut a = a.restarted(1);
    a.pass(20_000);
    a
}

fn owner_of(host: &Host, chunk: u32) -> PeerId {
    host.ipam.map.run_of(chunk).expect("in the range").owner
}

#[test]
fn where_all_that_the_founder_granted_to_are_banned_too_whoever_these_granted_to_follows() {
    let (a, b) = owning_pair();
    let mut c = Host::new(3);
    c.ipam.set_targets(1, 1, c.now);
    c.hear(&a);
    c.hear(&b);
    let chunks = b.ipam.map.owned_by(id(2))[0];
    let last = (chunks.last, chunks.last);
    let serial = b.ipam.map.run_of(chunks.last).expect("owned").serial;
    let on = granted(&c, &grant(serial + 1, 2, 3, last));
    c.ipam
        .apply(id(2), 90, None, Some(&entry::Body::Grant(on)), c.now);
    c.drain();
    assert_eq!(owner_of(&c, chunks.last), id(3));
    for banned in [1, 2] {
        c.ipam.ban(id(banned), c.now);
        c.drain();
    }
    assert!(
        owners(&c).iter().all(|owner| *owner == id(3)),
        "{:?}",
        c.ipam.map
    );
    c.allocate(11, RANGE, None);
}

/// It gave them to a host that is lost, which gave them back by way of others that are lost as well;
/// or it took them from one of these. Nobody holds their logs any more.
#[test]
fn what_came_by_a_chain_that_is_out_of_sight_is_known_by_its_receipt() {
    let all = (10, 12);
    let on = grant(4, 1, 5, (12, 12));
    let chunks = Span {
        first: 10,
        last: 12,
    };
    for (said, taken_at) in [
        (vec![grant(1, 1, 2, all), on], 0),
        (vec![grant(1, 1, 2, all), take(3, 1, 4, all), on], 3),
    ] {
        let receipt = Grant::receipt(id(1), chunks, 3, taken_at);
        let mut a = founder_that_said(&said, &[receipt]);
        a.ipam.ban(id(2), a.now);
        a.drain();
        let mut c = Host::new(3);
        c.hear(&a);
        for host in [&a, &c, &a.restarted(1)] {
            assert_eq!(owner_of(host, 11), id(1));
            assert_eq!(owner_of(host, 12), id(5), "what was given on counts");
        }
    }
}

/// Whoever gave them to it is lost, and so is the log that says so.
#[test]
fn a_receipt_keeps_chunks_from_being_taken_back_from_a_lost_host_that_had_given_them_on() {
    let mut a = founder_that_said(&[grant(1, 1, 2, (10, 12))], &[]);
    let receipt = granted(&a, &Grant::receipt(id(3), Span::one(11), 2, 0));
    a.ipam
        .apply(id(3), 1, None, Some(&entry::Body::Grant(receipt)), a.now);
    a.ipam.ban(id(2), a.now);
    a.drain();
    let owners = [10, 11, 12].map(|chunk| owner_of(&a, chunk));
    assert_eq!(owners, [id(1), id(3), id(1)]);
}

/// It heard before what a banned host had given on, and hears it again in a moment.
#[test]
fn after_a_restart_others_are_listened_to_before_anything_is_taken() {
    let (mut a, _) = owning_pair();
    a = a.restarted(1);
    a.ipam.ban(id(2), a.now);
    a.pass(19_000);
    assert!(owners(&a).contains(&id(2)));
    a.pass(1000);
    assert!(!owners(&a).contains(&id(2)));
}

#[test]
fn a_grant_without_effect_keeps_nobody_from_taking_space_back() {
    let said = [
        grant(1, 1, 2, (10, 10)),
        grant(1, 1, 4, (11, 12)),
        // of the first chunk it has no effect
        take(2, 1, 4, (10, 12)),
    ];
    let mut a = founder_that_said(&said, &[]);
    assert_eq!((owner_of(&a, 10), owner_of(&a, 12)), (id(2), id(1)));
    a.ipam.ban(id(2), a.now);
    a.drain();
    let mut c = Host::new(3);
    c.hear(&a);
    for host in [&a, &c, &a.restarted(1)] {
        assert_eq!(owner_of(host, 10), id(1), "{:?}", host.ipam.map);
        assert_eq!(owner_of(host, 12), id(1), "{:?}", host.ipam.map);
    }
}
