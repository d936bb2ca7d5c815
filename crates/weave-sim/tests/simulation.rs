//! Small meshes, every time the tests run.

use weave_sim::{Counters, Options, Report, simulate};

/// Fails with all that is known of what went wrong.
fn assert_sound(options: &Options, report: &Report) {
    assert!(
        report.violations.is_empty(),
        "{:#?}\n{}\n{:#?}\nagain: cargo xtask sim --replay {options}",
        report.plan,
        report.events.join("\n"),
        report.violations
    );
}

#[test]
fn small_meshes_of_two_versions_stay_sound_under_all_faults() {
    let mut total = Counters::default();
    let mut missing = Vec::new();
    // all that can happen must: with some more seeds, as their course changes with the code
    for seed in 1..=24 {
        let options = Options::new(5, seed);
        let report = simulate(&options);
        assert_sound(&options, &report);
        assert!(
            report.counters.given > 20,
            "seed {seed}: {}",
            report.counters
        );
        total.add(&report.counters);
        missing = total.missing();
        // the next test but one has these
        missing.retain(|what| !what.contains("through NATs"));
        if seed >= 12 && missing.is_empty() {
            break;
        }
    }
    assert_eq!(missing, [""; 0], "{total}");
    assert_eq!(total.newer_records > 0, cfg!(feature = "next-format"));
}

#[test]
fn meshes_of_more_peers_than_sessions_stay_sound_under_all_faults() {
    for seed in 101..=102 {
        let options = Options {
            conn_limit: Some(3),
            ..Options::new(8, seed)
        };
        assert_sound(&options, &simulate(&options));
    }
}

#[test]
fn hosts_behind_nats_reach_each_other_directly_or_through_a_relay() {
    let mut total = Counters::default();
    // what a seed does to whom changes with the code: as many as it takes, but not for ever
    for seed in 11..=20 {
        let options = Options::new(7, seed);
        let report = simulate(&options);
        assert_sound(&options, &report);
        total.add(&report.counters);
        if total.direct_through_nats > 0 && total.relayed_through_nats > 0 {
            return;
        }
    }
    panic!("{total}");
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_seed_another() {
    let run = |seed| simulate(&Options::new(4, seed)).trace;
    assert_eq!(run(11), run(11));
    assert_ne!(run(11), run(12));
}

#[test]
fn seeds_that_once_failed_are_sound() {
    for line in include_str!("seeds").lines() {
        let Some(line) = line.split_whitespace().next().filter(|word| *word != "#") else {
            continue;
        };
        let options = Options::new(50, 0).with(line).expect("SEED,peers=N");
        assert_sound(&options, &simulate(&options));
    }
}

#[cfg(feature = "seeded-bugs")]
mod seeded_bugs {
    use std::time::Duration;

    use weave_node::seeded::SeededBug;
    use weave_sim::{Options, simulate};

    /// The rarest shows in one of twelve seeds.
    fn is_caught(bug: SeededBug, peers: usize, churn: Duration) -> bool {
        (1..=100).any(|seed| {
            let options = Options {
                bug: Some(bug),
                churn,
                ..Options::new(peers, seed)
            };
            !simulate(&options).violations.is_empty()
        })
    }

    #[test]
    fn a_merge_that_lets_old_logs_win_is_caught() {
        assert!(is_caught(SeededBug::Merge, 6, Duration::from_secs(60)));
    }

    #[test]
    fn an_allocator_that_forgets_what_it_gave_is_caught() {
        assert!(is_caught(SeededBug::Allocator, 6, Duration::from_secs(20)));
    }

    #[test]
    fn a_start_that_does_not_ask_what_its_disk_forgot_is_caught() {
        assert!(is_caught(SeededBug::Resync, 4, Duration::from_secs(60)));
    }

    #[test]
    fn a_narrowed_path_that_nobody_notices_is_caught() {
        assert!(is_caught(SeededBug::PathMtu, 4, Duration::from_secs(20)));
    }

    #[test]
    fn a_ban_that_is_forgotten_in_a_restart_is_caught() {
        assert!(is_caught(SeededBug::Ban, 5, Duration::from_secs(20)));
    }

    #[test]
    fn sessions_that_a_stranger_can_end_are_caught() {
        assert!(is_caught(SeededBug::Reject, 4, Duration::from_secs(5)));
    }

    #[test]
    fn messages_that_anybody_can_read_are_caught() {
        assert!(is_caught(SeededBug::Plaintext, 4, Duration::from_secs(5)));
    }

    #[test]
    fn frames_that_arrive_twice_are_caught() {
        assert!(is_caught(SeededBug::Replay, 4, Duration::from_secs(20)));
    }

    #[test]
    fn names_that_outlive_their_peer_are_caught() {
        assert!(is_caught(SeededBug::NameExpiry, 6, Duration::from_secs(20)));
    }
}
