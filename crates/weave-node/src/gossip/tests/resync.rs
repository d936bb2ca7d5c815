//! A start that asks for what was said before it.

use std::time::Duration;

use weave_wire::proto::control_message::Body;
use weave_wire::proto::{Digest, LogVersion};

use super::super::testing::{Net, name, names};

const SECOND: Duration = Duration::from_secs(1);

fn old(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("old{number}")).collect()
}

/// Three peers, the first of which has said this much and starts again.
fn scene(count: usize, known: u64, boot: u64) -> Net {
    let mut net = Net::full_mesh(3, 5);
    net.restart(0, 4);
    net.add_names(0, old(count));
    net.run(3 * SECOND);
    net.restart_asking(0, known, boot);
    net
}

fn found(net: &Net) -> usize {
    net.former.first().map_or(0, |(_, bodies)| bodies.len())
}

#[test]
fn what_was_said_before_is_found_within_moments_and_only_then_replaced() {
    for count in [1, 30, 900] {
        let mut net = scene(count, 4, 9);
        net.set(0, "new", name("new"));
        net.run_checked(2 * SECOND, |net| {
            if net.former.is_empty() {
                assert_eq!(names(net.table(1, 0)).len(), count, "not replaced yet");
            }
        });
        assert_eq!(found(&net), count);
        assert!(net.behind.is_empty());
        assert_eq!(names(net.table(2, 0)), ["new".to_owned()].into());
    }
}

#[test]
fn a_normal_start_goes_on_after_less_than_half_a_second() {
    let mut net = scene(30, 4, 9);
    net.run(SECOND / 2);
    assert_eq!(net.former.len(), 1);
}

#[test]
fn a_log_that_goes_on_below_what_others_know_is_moved_beyond_it() {
    let mut net = scene(20, 2, 3);
    net.run(2 * SECOND);
    assert_eq!((found(&net), net.behind.first()), (20, Some(&(0, 4))));
    assert_eq!(net.nodes[0].boot(), 5);
}

#[test]
fn under_loss_everything_is_found_all_the_same() {
    for seed in 0..20 {
        let mut net = Net::full_mesh(4, seed);
        net.add_names(0, old(200));
        net.run(3 * SECOND);
        net.loss_percent = 30;
        net.restart_asking(0, 1, 6);
        net.run(30 * SECOND);
        assert_eq!(found(&net), 200, "seed {seed}");
    }
}

#[test]
fn who_holds_the_latest_is_waited_for_when_it_is_live() {
    let mut net = Net::chain(3, 2);
    net.restart(0, 4);
    net.add_names(0, old(5));
    net.run(3 * SECOND);
    // the first hears only of the second, which has forgotten everything
    net.cut(1, 2);
    net.restart(1, 2);
    net.restart_asking(0, 4, 9);
    let live = net.ids.iter().copied().collect();
    net.nodes[0].set_live(&live);
    net.run(SECOND);
    assert!(
        net.former.is_empty(),
        "one that knows nothing is not enough"
    );
    net.link(1, 2);
    net.run(SECOND);
    net.link(0, 2);
    net.run(SECOND);
    assert_eq!(found(&net), 5);
}

#[test]
fn where_nobody_knows_anything_it_goes_on_after_two_seconds() {
    let mut net = Net::full_mesh(2, 3);
    net.restart_asking(0, 4, 9);
    net.run(SECOND * 19 / 10);
    assert!(net.former.is_empty());
    net.run(SECOND);
    assert_eq!((net.former.len(), found(&net)), (1, 0));
}

#[test]
fn where_nobody_answers_it_goes_on_after_ten_seconds() {
    let mut net = Net::new(2, 3);
    net.restart_asking(0, 4, 9);
    net.run(SECOND * 99 / 10);
    assert!(net.former.is_empty());
    net.run(SECOND);
    assert_eq!(net.former.len(), 1);
}

#[test]
fn what_a_peer_only_claims_to_hold_moves_nothing_and_is_not_waited_for_without_end() {
    let mut net = scene(5, 4, 9);
    let (me, liar) = (net.ids[0], net.ids[1]);
    let claim = Digest {
        from: me.0.to_vec(),
        logs: vec![LogVersion {
            origin: me.0.to_vec(),
            boot: u64::MAX,
            snapshot: 0,
            seq: 7,
        }],
        more: true,
        last: Vec::new(),
        news: false,
    };
    net.inject(liar, 0, Body::Digest(claim));
    net.run(12 * SECOND);
    assert_eq!(found(&net), 5);
    assert_eq!((net.nodes[0].boot(), net.behind.len()), (9, 0));
}
