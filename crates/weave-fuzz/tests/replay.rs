//! Replays what fuzzing found: `tests/corpus/TARGET/*`, and the corpora of other crates that are
//! inputs of a target.

#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};

use weave_fuzz::{TARGETS, Target};

/// More than this is not worth its place in the repository.
const MOST_BYTES: usize = 300 * 1024;

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("a directory entry").path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", directory.display());
    files
}

fn replay(name: &str) {
    let target = Target::named(name).expect("a target");
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let own = files(&home.join("tests/corpus").join(name));
    let others = target.others.iter();
    let others = others.flat_map(|other| files(&home.join("../..").join(other)));
    let mut bytes = 0;
    for path in own.iter().cloned().chain(others) {
        let input = fs::read(&path).expect("a readable file");
        bytes += input.len();
        let result = std::panic::catch_unwind(|| (target.run)(&input));
        assert!(result.is_ok(), "{}", path.display());
    }
    assert!(own.len() <= target.most_files, "{} files", own.len());
    assert!(bytes <= MOST_BYTES, "{bytes} bytes");
}

macro_rules! replays {
    ($($name:ident),*) => {
        $(#[test]
        fn $name() {
            replay(stringify!($name));
        })*

        #[test]
        fn every_target_is_replayed() {
            let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}

replays!(control, datagram, frame, gossip, handshake, message, sim);

#[test]
fn any_target_takes_no_bytes_and_senseless_ones() {
    for target in TARGETS {
        (target.run)(&[]);
        (target.run)(&[0xff; 64]);
    }
}
