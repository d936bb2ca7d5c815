//! Runs that bytes decide: those of the corpus, and random ones.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use weave_sim::simulate_bytes;

fn assert_sound(name: &str, bytes: &[u8]) {
    let report = simulate_bytes(bytes);
    assert!(
        report.violations.is_empty(),
        "{name}\n{}\n{:#?}",
        report.events.join("\n"),
        report.violations
    );
}

#[test]
fn everybody_agrees_after_each_script_of_the_corpus() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/script");
    let files = fs::read_dir(dir).expect("the corpus is readable");
    let mut count = 0;
    for file in files {
        let path = file.expect("a directory entry").path();
        let bytes = fs::read(&path).expect("a readable file");
        assert_sound(&path.display().to_string(), &bytes);
        count += 1;
    }
    assert!(count > 0, "no corpus");
}

#[test]
fn the_same_bytes_give_the_same_trace_and_other_bytes_another() {
    let run = |bytes: &[u8]| simulate_bytes(bytes).trace;
    assert_eq!(
        run(&[0, 1, 13, 0, 7, 12, 3, 0]),
        run(&[0, 1, 13, 0, 7, 12, 3, 0])
    );
    assert_ne!(
        run(&[0, 1, 13, 0, 7, 12, 3, 0]),
        run(&[0, 1, 13, 1, 7, 12, 3, 0])
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn everybody_agrees_after_whatever_bytes_decided(
        bytes in prop::collection::vec(any::<u8>(), 0..400)
    ) {
        assert_sound("random bytes", &bytes);
    }
}
