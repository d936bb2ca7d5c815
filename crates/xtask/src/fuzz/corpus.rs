//! Directories of inputs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// As many bytes of a target go into the repository at most.
const MOST_BYTES: u64 = 300 * 1024;

/// The files of a directory.
///
/// # Errors
/// When it cannot be read.
pub(super) fn files(dir: &Path) -> Result<BTreeSet<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))?;
    let paths = entries.map(|entry| Ok(entry?.path()));
    paths.collect()
}

/// Makes the inputs in `corpus` that a fuzzer wrote those in `merged`, the shortest first as far
/// as there is room, `most_files` in all. What people gave a name stays.
///
/// # Errors
/// When one of them cannot be read or written.
pub(super) fn replace(corpus: &Path, merged: &Path, most_files: usize) -> Result<()> {
    for file in files(corpus)?.iter().filter(|file| is_generated(file)) {
        fs::remove_file(file).with_context(|| format!("remove {}", file.display()))?;
    }
    let named = files(corpus)?;
    let mut count = named.len();
    let mut bytes = 0;
    for file in &named {
        bytes += len(file)?;
    }
    let mut new = Vec::new();
    for file in files(merged)? {
        new.push((len(&file)?, file));
    }
    new.sort();
    for (len, file) in new {
        if count >= most_files || bytes + len > MOST_BYTES {
            break;
        }
        let name = file.file_name().context("a file without a name")?;
        let to = corpus.join(name);
        fs::copy(&file, &to).with_context(|| format!("write {}", to.display()))?;
        (count, bytes) = (count + 1, bytes + len);
    }
    Ok(())
}

fn len(file: &Path) -> Result<u64> {
    let metadata = fs::metadata(file).with_context(|| format!("read {}", file.display()))?;
    Ok(metadata.len())
}

/// Whether its name is a hash, as libFuzzer gives them.
fn is_generated(file: &Path) -> bool {
    let name = file.file_name().map(|name| name.to_string_lossy());
    name.is_some_and(|name| name.len() == 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_people_gave_stay_and_the_shortest_new_inputs_come_first() {
        let dir = tempfile::tempdir().expect("a directory");
        let (corpus, merged) = (dir.path().join("corpus"), dir.path().join("merged"));
        let hash = |digit: char| String::from(digit).repeat(40);
        for (dir, name, len) in [
            (&corpus, "frame-that-ends-early".to_owned(), 5),
            (&corpus, hash('a'), 5),
            (&merged, hash('b'), 10),
            (&merged, hash('c'), 300 * 1024 - 10),
            (&merged, hash('d'), 4),
            (&merged, hash('e'), 11),
        ] {
            fs::create_dir_all(dir).expect("a directory");
            fs::write(dir.join(name), vec![0; len]).expect("written");
        }
        replace(&corpus, &merged, 3).expect("replaced");
        let left: Vec<_> = files(&corpus)
            .expect("readable")
            .iter()
            .map(|file| file.file_name().expect("a name").to_owned())
            .collect();
        assert_eq!(left, [&*hash('b'), &*hash('d'), "frame-that-ends-early"]);
    }
}
