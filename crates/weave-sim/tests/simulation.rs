//! Small meshes, every time the tests run.

use weave_sim::{Options, simulate};

#[test]
fn small_meshes_stay_sound_under_all_faults() {
    for seed in 1..=6 {
        let report = simulate(&Options::new(5, seed));
        assert!(
            report.violations.is_empty(),
            "{:#?}\n{:#?}",
            report.plan,
            report.violations
        );
        assert!(
            report.counters.given > 20,
            "seed {seed}: {}",
            report.counters
        );
    }
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_seed_another() {
    let run = |seed| simulate(&Options::new(4, seed)).trace;
    assert_eq!(run(11), run(11));
    assert_ne!(run(11), run(12));
}

#[cfg(feature = "seeded-bugs")]
mod seeded_bugs {
    use weave_node::seeded::SeededBug;
    use weave_sim::{Options, simulate};

    fn is_caught(bug: SeededBug) -> bool {
        (1..=8).any(|seed| {
            let options = Options {
                bug: Some(bug),
                ..Options::new(6, seed)
            };
            !simulate(&options).violations.is_empty()
        })
    }

    #[test]
    fn a_merge_that_lets_old_logs_win_is_caught() {
        assert!(is_caught(SeededBug::Merge));
    }

    #[test]
    fn an_allocator_that_forgets_what_it_gave_is_caught() {
        assert!(is_caught(SeededBug::Allocator));
    }

    #[test]
    fn names_that_outlive_their_peer_are_caught() {
        assert!(is_caught(SeededBug::NameExpiry));
    }
}
