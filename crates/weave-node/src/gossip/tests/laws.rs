//! Merge laws: whatever order batches arrive in, doubled or lost, all tables become equal.

use proptest::prelude::*;
use weave_wire::proto::SignedBatch;

use super::*;

/// What an origin does.
#[derive(Debug, Clone)]
enum Step {
    Set(u8, u8),
    Remove(u8),
    Write,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..12_u8, any::<u8>()).prop_map(|(key, value)| Step::Set(key, value)),
        2 => (0..12_u8).prop_map(Step::Remove),
        4 => Just(Step::Write),
        1 => Just(Step::Restart),
    ]
}

/// Plays the steps; gives the origin as it ends, and every batch it ever wrote.
fn play(steps: &[Step]) -> (Logs, Vec<SignedBatch>) {
    let now = Time::from_secs(1);
    let mut origin = logs(0, 1);
    let mut history: Vec<SignedBatch> = Vec::new();
    for step in steps.iter().chain(&[Step::Set(0, 0), Step::Write]) {
        match step {
            Step::Set(key, value) => {
                let text = format!("{value}-{}.x", "long".repeat(usize::from(*value) % 40));
                origin
                    .set(&format!("key-{key}"), name(&text), now)
                    .expect("can be announced");
            }
            Step::Remove(key) => {
                origin
                    .set(&format!("key-{key}"), None, now)
                    .expect("can be announced");
            }
            Step::Write => {
                let batches = written(&mut origin);
                history.extend(
                    batches
                        .into_iter()
                        .filter(|new| !history.contains(new))
                        .collect::<Vec<_>>(),
                );
            }
            Step::Restart => origin = logs(0, origin.boot() + 1),
        }
    }
    (origin, history)
}

fn deliver(to: &mut Logs, batches: &[SignedBatch], order: &[prop::sample::Index]) {
    for index in order {
        let batches = vec![index.get(batches).clone()];
        to.handle_delta(PeerId([9; 32]), Delta { batches }, Time::from_secs(1));
    }
    std::iter::from_fn(|| to.poll_action()).for_each(drop);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn in_any_order_doubled_or_lost_then_repaired_all_tables_are_equal(
        steps in prop::collection::vec(step(), 0..60),
        first in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
        second in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
    ) {
        let (origin, history) = play(&steps);
        let mut net = Net::new(3, 1);
        let mut replicas = [logs(1, 1), logs(2, 1)];
        deliver(&mut replicas[0], &history, &first);
        deliver(&mut replicas[1], &history, &second);
        let [a, b] = replicas;
        net.nodes = vec![origin, a, b];
        net.link(0, 1);
        net.link(1, 2);
        net.run_unshadowed(Duration::from_secs(5));
        net.assert_converged();
    }

    #[test]
    fn delivery_in_order_gives_the_table_of_the_origin_and_twice_changes_nothing(
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let (origin, history) = play(&steps);
        let mut replica = logs(1, 1);
        for _ in 0..2 {
            for signed in &history {
                let delta = Delta { batches: vec![signed.clone()] };
                replica.handle_delta(PeerId([9; 32]), delta, Time::from_secs(1));
            }
            prop_assert_eq!(replica.table(&origin.me), origin.table(&origin.me));
            prop_assert_eq!(replica.version(&origin.me), origin.version(&origin.me));
        }
    }

    #[test]
    fn the_version_of_a_table_never_goes_back(
        steps in prop::collection::vec(step(), 0..60),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..120),
    ) {
        let (origin, history) = play(&steps);
        let mut replica = logs(1, 1);
        let mut last = Version::NONE;
        for index in &order {
            deliver(&mut replica, &history, &[*index]);
            let version = replica.version(&origin.me);
            prop_assert!(version >= last);
            last = version;
        }
    }
}

/// A newer run that its origin never finished must not hide the last complete one from those who
/// come later.
#[test]
fn an_origin_that_died_in_mid_snapshot_leaves_its_last_complete_table_to_all() {
    let now = Time::from_secs(1);
    let mut origin = logs(7, 1);
    for text in many("old", 3) {
        origin
            .set(&text, name(&text), now)
            .expect("can be announced");
    }
    let old = written(&mut origin);
    let mut origin = logs(7, 2);
    for text in many("new-and-much-longer", 200) {
        origin
            .set(&text, name(&text), now)
            .expect("can be announced");
    }
    let new = written(&mut origin);
    assert!(new.len() > 3);

    let mut net = Net::chain(3, 1);
    let origin = origin.me;
    let batches = [old, new[..2].to_vec()].concat();
    net.inject(origin, 0, Body::Delta(Delta { batches }));
    net.inject(
        origin,
        2,
        Body::Delta(Delta {
            batches: vec![new[0].clone()],
        }),
    );
    net.run(20 * SECOND);
    for node in &net.nodes {
        assert_eq!(names(node.table(&origin)), many("old", 3).collect());
    }
}
