//! Nets of logs: news arrive, losses are repaired, restarts and partitions leave no trace.

mod forged;
mod laws;
mod resync;
mod unknown;

use std::time::Duration;

use weave_wire::proto::control_message::Body;
use weave_wire::proto::{Batch, Delta, Entry, PeerRecord};

use super::testing::*;
use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn many(prefix: &str, count: usize) -> impl Iterator<Item = String> {
    (0..count).map(move |number| format!("{prefix}-{number}.weave.local"))
}

#[test]
fn a_change_reaches_the_neighbour_within_a_moment() {
    let mut net = Net::chain(2, 1);
    net.run(SECOND);
    net.add_names(0, many("a", 1));
    net.run(Duration::from_millis(50));
    assert_eq!(names(net.table(1, 0)).len(), 1);
    net.set(0, "a-0.weave.local", None);
    net.run(Duration::from_millis(50));
    assert!(net.table(1, 0).is_empty());
}

#[test]
fn an_explicit_flush_waits_for_nothing() {
    let mut net = Net::chain(2, 1);
    net.add_names(0, many("a", 1));
    let now = net.now;
    net.nodes[0].flush(now);
    assert_eq!(names(net.table(0, 0)).len(), 1);
    let sent = std::iter::from_fn(|| net.nodes[0].poll_action());
    let sent = sent.filter(|action| {
        matches!(
            action,
            GossipAction::Send {
                body: Body::Delta(_),
                ..
            }
        )
    });
    assert_eq!(sent.count(), 1);
}

#[test]
fn the_same_value_again_is_no_change() {
    let mut net = Net::chain(2, 1);
    net.set(0, "a", name("a.x"));
    net.run(SECOND);
    let version = net.nodes[0].version(&net.ids[0]);
    net.set(0, "a", name("a.x"));
    net.set(0, "b", name("b.x"));
    net.set(0, "b", None);
    net.run(SECOND);
    assert_eq!(net.nodes[0].version(&net.ids[0]), version);
    assert_eq!(net.own(0, "a"), name("a.x").as_ref());
    assert_eq!(net.own(0, "b"), None);
}

#[test]
fn a_chain_of_peers_passes_news_on_from_end_to_end() {
    let mut net = Net::chain(6, 1);
    net.run(SECOND);
    net.add_names(0, many("a", 5));
    net.add_names(5, many("b", 5));
    net.run(Duration::from_millis(300));
    net.assert_converged();
}

#[test]
fn a_peer_that_comes_late_learns_everything() {
    let mut net = Net::new(4, 1);
    net.link(0, 1);
    net.link(1, 2);
    for node in 0..3 {
        net.add_names(node, many("a", 10 + node));
    }
    net.run(SECOND);
    net.link(2, 3);
    net.run(Duration::from_millis(200));
    net.assert_converged();
}

#[test]
fn twenty_peers_converge_under_loss_and_reordering() {
    let mut net = Net::full_mesh(20, 3);
    net.loss_percent = 20;
    for node in 0..20 {
        net.add_names(node, many("a", 3));
    }
    net.run(3 * SECOND);
    for node in 0..20 {
        net.add_names(node, many("b", 3));
        net.set(node, "a-1.weave.local", None);
        net.run(Duration::from_millis(100));
    }
    net.run(40 * SECOND);
    net.assert_converged();
    assert_eq!(names(net.table(7, 19)).len(), 5);
}

#[test]
fn a_long_log_is_pulled_in_windows_also_under_loss() {
    for loss_percent in [0, 15] {
        let mut net = Net::new(2, 5);
        net.loss_percent = loss_percent;
        net.add_names(0, many("some-longer-name-of-a-container", 3_000));
        net.run(SECOND);
        net.link(0, 1);
        net.run(if loss_percent == 0 { 2 } else { 20 } * SECOND);
        net.assert_converged();
    }
}

#[test]
fn what_comes_in_another_order_is_not_asked_for_again() {
    let mut source = logs(0, 1);
    for name in many("late", 400) {
        source
            .set(&name, testing::name(&name), Time::from_secs(1))
            .unwrap();
    }
    let batches = written(&mut source);
    assert!((10..=32).contains(&batches.len()), "{}", batches.len());
    let (mut node, now) = (logs(1, 1), Time::from_secs(5));
    node.neighbour_up(source.me, now);
    std::iter::from_fn(|| node.poll_action()).for_each(drop);
    for batch in batches.iter().rev() {
        let batches = vec![batch.clone()];
        node.handle_delta(source.me, Delta { batches }, now);
    }
    assert_eq!(names(node.table(&source.me)).len(), 400);
    let is_pull = |action| {
        matches!(
            action,
            GossipAction::Send {
                body: Body::Pull(_),
                ..
            }
        )
    };
    assert!(!std::iter::from_fn(|| node.poll_action()).any(is_pull));
    assert!(node.drops().iter().all(|(_, count)| count == 0));
}

#[test]
fn who_signs_without_end_is_not_kept_without_end() {
    let (mut node, now) = (logs(1, 1), Time::from_secs(5));
    for log in 2..20 {
        for first_seq in (3..).step_by(2).take(100) {
            let batch = Batch {
                origin: identity(log).peer_id().0.to_vec(),
                boot: 1 + first_seq % 3,
                snapshot: 0,
                first_seq,
                snapshot_len: 500,
                entries: vec![Entry {
                    slot: 9,
                    body: None,
                }],
            };
            let batches = vec![batch::sign(&identity(log), &batch)];
            node.handle_delta(logs(log, 1).me, Delta { batches }, now);
        }
    }
    assert_eq!(node.drops().of(GossipDrop::Gap), 18 * (100 - 32));
}

#[test]
fn hundreds_of_logs_are_compared_window_by_window() {
    let mut net = Net::new(2, 5);
    for number in 100..500 {
        let mut origin = logs(number, 1);
        origin
            .set("a", name("a.x"), net.now)
            .expect("can be announced");
        let delta = Delta {
            batches: written(&mut origin),
        };
        // some logs are known here, others there, some on both sides
        if number % 3 != 0 {
            net.inject(net.ids[1], 0, Body::Delta(delta.clone()));
        }
        if number % 3 != 1 {
            net.inject(net.ids[0], 1, Body::Delta(delta));
        }
    }
    assert_ne!(net.nodes[0].origins().count(), 400);
    net.link(0, 1);
    net.run(5 * SECOND);
    for node in &net.nodes {
        assert_eq!(node.origins().count(), 400);
    }
}

#[test]
fn a_digest_now_and_then_repairs_what_nothing_else_would() {
    let mut net = Net::chain(2, 1);
    net.run(SECOND);
    net.loss_percent = 100;
    net.add_names(0, many("a", 3));
    net.run(SECOND);
    net.loss_percent = 0;
    assert!(net.table(1, 0).is_empty());
    net.run(11 * SECOND);
    net.assert_converged();
}

#[test]
fn both_sides_of_a_healed_partition_become_equal_within_a_moment() {
    let mut net = Net::full_mesh(8, 2);
    net.run(SECOND);
    for (a, b) in (0..4).flat_map(|a| (4..8).map(move |b| (a, b))) {
        net.cut(a, b);
    }
    for node in 0..8 {
        net.add_names(node, many("a", 30));
    }
    net.run(5 * SECOND);
    assert!(net.table(0, 7).is_empty() && !net.table(0, 3).is_empty());
    net.link(3, 4);
    net.run(3 * SECOND);
    net.assert_converged();
}

#[test]
fn a_restart_replaces_everything_in_one_step() {
    let mut net = Net::full_mesh(3, 4);
    net.add_names(0, many("old", 200));
    net.run(SECOND);
    net.loss_percent = 30;
    net.restart(0, 2);
    net.add_names(0, many("new", 300));
    let id = net.ids[0];
    let mut seen = [0, 0];
    net.run_checked(20 * SECOND, |net| {
        let names = names(net.nodes[1].table(&id));
        let old = names.iter().filter(|name| name.starts_with("old")).count();
        let new = names.len() - old;
        assert!(
            (old, new) == (200, 0) || (old, new) == (0, 300),
            "{old} old, {new} new"
        );
        seen[usize::from(new > 0)] += 1;
    });
    assert!(
        seen[0] > 10 && seen[1] > 10,
        "both states were seen: {seen:?}"
    );
    net.assert_converged();
}

#[test]
fn a_restart_with_the_same_records_changes_nothing_for_others() {
    let mut net = Net::chain(2, 4);
    net.add_names(0, many("a", 100));
    net.run(SECOND);
    let before = net.table(1, 0).clone();
    net.restart(0, 2);
    net.add_names(0, many("a", 100));
    let id = net.ids[0];
    net.run_checked(2 * SECOND, |net| {
        assert_eq!(*net.nodes[1].table(&id), before)
    });
    assert_eq!(net.nodes[1].version(&id).run.boot, 2);
}

#[test]
fn nothing_of_an_old_start_is_resurrected_by_who_slept_through() {
    let mut net = Net::full_mesh(4, 6);
    net.add_names(0, many("old", 50));
    net.run(SECOND);
    for other in 0..3 {
        net.cut(3, other);
    }
    net.restart(0, 2);
    net.add_names(0, many("new", 1));
    net.run(SECOND);
    net.cut(0, 1);
    net.cut(0, 2);
    let id = net.ids[0];
    net.link(3, 2);
    net.run_checked(15 * SECOND, |net| {
        assert_eq!(names(net.nodes[1].table(&id)).len(), 1);
    });
    assert_eq!(names(net.table(3, 0)).len(), 1);
}

#[test]
fn what_is_set_before_the_first_words_comes_as_one() {
    let mut net = Net::chain(2, 1);
    net.add_names(0, many("old", 3));
    net.run(SECOND);
    net.restart(0, 2);
    let until = net.now + Duration::from_millis(500);
    net.nodes[0].hold_until(until);
    for text in many("new", 3) {
        net.add_names(0, [text]);
        let now = net.now;
        net.nodes[0].flush(now);
        net.run(Duration::from_millis(100));
        assert_eq!(names(net.table(1, 0)), many("old", 3).collect());
    }
    net.run(SECOND);
    assert_eq!(names(net.table(1, 0)), many("new", 3).collect());
}

#[test]
fn the_first_words_come_early_when_they_are_let_go() {
    let mut net = Net::chain(2, 1);
    net.add_names(0, many("old", 3));
    net.run(SECOND);
    net.restart(0, 2);
    let until = net.now + 60 * SECOND;
    net.nodes[0].hold_until(until);
    net.add_names(0, many("new", 3));
    net.run(SECOND);
    assert_eq!(names(net.table(1, 0)), many("old", 3).collect());
    let now = net.now;
    net.nodes[0].hold_until(now);
    net.run(Duration::from_millis(100));
    assert_eq!(names(net.table(1, 0)), many("new", 3).collect());
}

#[test]
fn a_peer_has_caught_up_when_it_holds_what_a_neighbour_has() {
    let mut net = Net::new(3, 1);
    net.link(0, 1);
    net.add_names(0, many("a", 200));
    net.run(SECOND);
    assert!(!net.nodes[2].has_caught_up(), "it has heard nobody");
    net.link(1, 2);
    let mut held = 0;
    for _ in 0..100 {
        net.run(Duration::from_millis(5));
        held = names(net.table(2, 0)).len();
        assert!(held == 200 || !net.nodes[2].has_caught_up());
    }
    assert_eq!(held, 200);
    assert!(net.nodes[2].has_caught_up());
}

#[test]
fn a_peer_whose_state_was_set_back_goes_on_beyond_what_others_know() {
    for boot in [3, 7] {
        let mut net = Net::full_mesh(3, 8);
        net.restart(0, 7);
        net.add_names(0, many("old", 20));
        net.run(SECOND);
        net.restart(0, boot);
        net.add_names(0, many("new", 2));
        net.run(3 * SECOND);
        assert_eq!(net.behind.first(), Some(&(0, 7)), "boot {boot}");
        assert_eq!(net.nodes[0].boot(), 8);
        net.assert_converged();
        assert_eq!(names(net.table(1, 0)), many("new", 2).collect());
    }
}

#[test]
fn a_log_that_changes_all_the_time_stays_short() {
    let mut net = Net::chain(2, 1);
    net.add_names(0, many("a", 10));
    for round in 0..500 {
        net.set(0, "busy", name(&format!("busy-{round}.x")));
        net.run(Duration::from_millis(30));
    }
    net.run(SECOND);
    net.assert_converged();
    let version = net.nodes[1].version(&net.ids[0]);
    assert!(version.run.snapshot >= 4, "{version:?}");
    assert!(version.seq <= 2 * 11 + 64);
    let held: usize = net.nodes.iter().map(|node| node.bytes).sum();
    assert!(held < 40_000, "{held} bytes are held");
}

#[test]
fn removing_everything_is_known_to_everyone() {
    let mut net = Net::chain(3, 1);
    for round in 0..5 {
        net.add_names(0, many("a", 40));
        net.run(SECOND);
        for text in many("a", 40) {
            net.set(0, &text, None);
        }
        net.run(SECOND);
        assert!(net.table(2, 0).is_empty(), "round {round}");
    }
    net.assert_converged();
}

#[test]
fn with_many_neighbours_news_are_not_sent_by_everyone_to_everyone() {
    let mut net = Net::full_mesh(40, 2);
    for node in 0..40 {
        let peer = PeerRecord {
            sessions: 39,
            static_key: vec![1; 32],
            ..PeerRecord::default()
        };
        net.set(node, PEER_KEY, Some(entry::Body::Peer(peer)));
    }
    net.run(3 * SECOND);
    net.assert_converged();
    net.sent = 0;
    net.add_names(0, many("a", 1));
    net.run(Duration::from_millis(200));
    net.assert_converged();
    assert!(
        (40..700).contains(&net.sent),
        "{} messages for one change",
        net.sent
    );
}

#[test]
fn an_idle_mesh_is_nearly_silent() {
    let mut net = Net::full_mesh(10, 2);
    for node in 0..10 {
        net.add_names(node, many("a", 20));
    }
    net.run(15 * SECOND);
    net.sent = 0;
    net.run(100 * SECOND);
    assert!(net.sent <= 10 * 11, "{} messages in 100 s", net.sent);
}

#[test]
fn the_peer_record_has_slot_one_and_is_found() {
    let mut net = Net::chain(2, 1);
    let record = PeerRecord {
        nickname: "nyc".into(),
        static_key: vec![1; 32],
        ..Default::default()
    };
    net.set(0, PEER_KEY, Some(entry::Body::Peer(record.clone())));
    net.run(SECOND);
    assert_eq!(net.nodes[1].peer_record(&net.ids[0]), Some(&record));
    let short = net.ids[0].short();
    assert_eq!(
        net.nodes[1].with_short_key(&short).collect::<Vec<_>>(),
        [&net.ids[0]]
    );
    assert_eq!(net.nodes[1].peer_record(&net.ids[1]), None);
}

#[test]
fn what_cannot_be_announced_is_refused_and_changes_nothing() {
    let mut net = Net::chain(2, 1);
    let now = net.now;
    let long = name(&"a".repeat(300));
    assert!(matches!(
        net.nodes[0].set("a", long, now),
        Err(SetError::Invalid { .. })
    ));
    let neighbours = vec![vec![1; 8]; 17];
    let peer = PeerRecord {
        static_key: vec![1; 32],
        neighbours,
        ..PeerRecord::default()
    };
    let peer = Some(entry::Body::Peer(peer));
    assert!(matches!(
        net.nodes[0].set(PEER_KEY, peer, now),
        Err(SetError::Invalid { .. })
    ));
    assert_eq!(net.own(0, "a"), None);
    net.run(SECOND);
    assert_eq!(net.nodes[0].version(&net.ids[0]), Version::NONE);
}

#[test]
fn an_endless_pull_is_cut_and_counted() {
    let mut net = Net::chain(2, 1);
    net.add_names(0, many("a", 2_000));
    net.run(2 * SECOND);
    let before = net.sent;
    for _ in 0..200 {
        let have = vec![Version::NONE.to_proto(&net.ids[0])];
        net.inject(net.ids[1], 0, Body::Pull(weave_wire::proto::Pull { have }));
    }
    assert!(
        net.sent - before < 17 * 17,
        "{} messages",
        net.sent - before
    );
    assert!(net.nodes[0].drops().of(GossipDrop::Budget) > 150);
}

#[test]
fn when_the_source_of_a_transfer_goes_away_another_neighbour_takes_over_at_once() {
    let mut net = Net::chain(2, 1);
    net.add_names(0, many("some-longer-name-of-a-container", 2_000));
    net.run(3 * SECOND);
    let mut three = Net::new(3, 1);
    three.nodes.swap(0, 1);
    std::mem::swap(&mut three.nodes[0], &mut net.nodes[0]);
    std::mem::swap(&mut three.nodes[1], &mut net.nodes[1]);
    for node in 0..2 {
        let known: Vec<_> = three.ids.clone();
        for peer in known {
            three.nodes[node].neighbour_down(&peer);
        }
    }
    three.link(0, 2);
    three.run_unshadowed(Duration::from_millis(60));
    assert!(three.table(2, 0).is_empty(), "the transfer is under way");
    three.link(1, 2);
    three.run(Duration::from_millis(60));
    three.cut(0, 2);
    three.run(2 * SECOND);
    assert_eq!(names(three.table(2, 0)).len(), 2_000);
}

#[cfg(feature = "seeded-bugs")]
#[test]
fn with_the_seeded_bug_an_old_start_comes_back() {
    let mut origin = logs(7, 1);
    origin
        .set("a", name("old.x"), Time::ZERO)
        .expect("can be announced");
    let old = written(&mut origin);
    let mut origin = logs(7, 2);
    origin
        .set("a", name("new.x"), Time::ZERO)
        .expect("can be announced");
    let new = written(&mut origin);
    for (bug, expected) in [
        (None, "new.x"),
        (Some(crate::seeded::SeededBug::Merge), "old.x"),
    ] {
        let mut net = Net::chain(2, 1);
        net.nodes[0].seed_bug(bug);
        let batches = [new.clone(), old.clone()].concat();
        net.inject(net.ids[1], 0, Body::Delta(Delta { batches }));
        assert_eq!(
            names(net.nodes[0].table(&origin.me)),
            [expected.to_owned()].into()
        );
    }
}
