//! The store on a temporary directory, with files damaged on purpose.

use std::os::unix::fs::FileExt as _;

use super::*;

fn pair(number: u32) -> (Vec<u8>, Vec<u8>) {
    let key = format!("key/{number:04}").into_bytes();
    (key, vec![u8::try_from(number % 251).unwrap(); 40])
}

/// A store with this many keys, closed again.
fn written(directory: &Path, keys: u32) -> Contents {
    let path = directory.join(FILE);
    let database = open_database(&path).unwrap();
    for part in 0..4 {
        let numbers = (0..keys).filter(|number| number % 4 == part);
        let writes = numbers.map(pair).map(|(key, value)| (key, Some(value)));
        commit(&database, &writes.collect(), false).unwrap();
    }
    (0..keys).map(pair).collect()
}

fn read(directory: &Path) -> Result<Contents, StoreError> {
    open_and_read(&directory.join(FILE)).map(|(_, contents)| contents)
}

#[tokio::test]
async fn what_was_written_is_there_after_opening_again() {
    let directory = tempfile::tempdir().unwrap();
    let (store, contents) = Store::open(directory.path()).unwrap();
    assert!(contents.is_empty());
    store
        .write(vec![(b"a".to_vec(), Some(b"1".to_vec()))])
        .await
        .unwrap();
    store
        .write(vec![
            (b"b".to_vec(), Some(b"2".to_vec())),
            (b"a".to_vec(), None),
        ])
        .await
        .unwrap();
    assert_eq!(store.failure(), None);
    drop(store);
    let mut contents = None;
    for _ in 0..100 {
        // the thread lets go of the file a moment after its handle
        match Store::open(directory.path()) {
            Ok((_, found)) => contents = Some(found),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
    assert_eq!(contents, Some(vec![(b"b".to_vec(), b"2".to_vec())]));
}

#[test]
fn two_routers_cannot_have_the_same_store() {
    let directory = tempfile::tempdir().unwrap();
    let _first = Store::open(directory.path()).unwrap();
    let error = Store::open(directory.path()).unwrap_err().to_string();
    let path = directory.path().join(FILE);
    assert_eq!(
        error,
        format!(
            "cannot open the store {}: another router has it open; stop that one first",
            path.display()
        )
    );
}

#[test]
fn a_directory_that_cannot_be_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = Store::open(&file.join("state")).unwrap_err().to_string();
    let expected = format!("cannot make the state directory {}/state", file.display());
    assert_eq!(error, expected);
}

#[test]
fn files_that_are_no_store_are_refused_with_their_name_and_what_to_do() {
    for bytes in [&b""[..], b"something else", &[0; 4096], &[0xff; 70_000]] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        std::fs::write(&path, bytes).unwrap();
        let error = Store::open(directory.path()).unwrap_err().to_string();
        for text in ["weave.redb is damaged", "put back a copy", "weave reset"] {
            assert!(error.contains(text), "{error}");
        }
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "it is left as it was");
    }
}

#[test]
fn a_file_cut_short_anywhere_is_refused_or_whole() {
    let directory = tempfile::tempdir().unwrap();
    let expected = written(directory.path(), 300);
    let path = directory.path().join(FILE);
    let whole = std::fs::read(&path).unwrap();
    let mut refused = 0;
    for cut in (0..whole.len()).step_by(whole.len() / 40) {
        std::fs::write(&path, &whole[..cut]).unwrap();
        match read(directory.path()) {
            Ok(found) => assert_eq!(found, expected, "cut at {cut}"),
            Err(error) => {
                refused += 1;
                assert!(error.to_string().contains("damaged"), "{error}");
            }
        }
    }
    assert!(refused > 30, "{refused}");
}

#[test]
fn a_flipped_byte_anywhere_is_refused_or_does_no_harm() {
    let directory = tempfile::tempdir().unwrap();
    let expected = written(directory.path(), 300);
    let path = directory.path().join(FILE);
    let whole = std::fs::read(&path).unwrap();
    let mut refused = 0;
    let used = whole.len() - whole.iter().rev().take_while(|byte| **byte == 0).count();
    for at in (0..used).step_by(used / 150) {
        std::fs::write(&path, &whole).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&[!whole[at]], at as u64).unwrap();
        match read(directory.path()) {
            Ok(found) => assert_eq!(found, expected, "flipped at {at}"),
            Err(error) => {
                refused += 1;
                assert!(error.to_string().contains("weave.redb"), "{error}");
            }
        }
    }
    assert!(refused > 10, "{refused}");
}

/// A writer whose file is gone, as after an error of the disk.
fn writer(directory: &Path, acknowledged: Contents) -> Writer {
    Writer {
        path: directory.join(FILE),
        database: None,
        acknowledged: acknowledged.into_iter().collect(),
        failing: None,
        failure: Arc::default(),
    }
}

#[test]
fn after_a_failure_the_file_is_made_to_hold_exactly_what_was_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let on_disk = written(directory.path(), 8);
    // a commit that failed reached the disk all the same, another one was lost
    let mut acknowledged = on_disk;
    acknowledged.remove(3);
    acknowledged.push((b"lost".to_vec(), b"1".to_vec()));
    let mut writer = writer(directory.path(), acknowledged.clone());
    writer
        .store(vec![(b"new".to_vec(), Some(b"2".to_vec()))])
        .unwrap();
    drop(writer);
    acknowledged.push((b"new".to_vec(), b"2".to_vec()));
    assert_eq!(read(directory.path()).unwrap(), acknowledged);
}

#[test]
fn a_failure_names_file_and_cause_and_ends_when_the_disk_is_well() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = writer(directory.path(), Contents::new());
    let whole = directory.path().join("aside");
    written(directory.path(), 4);
    std::fs::rename(&writer.path, &whole).unwrap();
    std::fs::write(&writer.path, b"").unwrap();
    let result = writer.store(Writes::new());
    writer.note(result.as_ref().err());
    let failure = writer.failure.lock().unwrap().clone().unwrap();
    assert!(
        failure.contains("weave.redb") && failure.contains("empty"),
        "{failure}"
    );
    std::fs::rename(&whole, &writer.path).unwrap();
    let result = writer.store(Writes::new());
    writer.note(result.as_ref().err());
    assert_eq!(*writer.failure.lock().unwrap(), None);
}

/// The store as another weave leaves it: of this format, with these keys. Returns what it found.
fn written_by(path: &Path, format: format::Format, writes: &[(&str, &str)]) -> Contents {
    // the thread lets go of the file a moment after its handle
    let database = (0..500)
        .find_map(|_| {
            std::thread::sleep(Duration::from_millis(10));
            open_database(path).ok()
        })
        .unwrap();
    format::admit(&database, path, format).unwrap();
    let bytes = |text: &str| text.as_bytes().to_vec();
    let writes = writes
        .iter()
        .map(|(key, value)| (bytes(key), Some(bytes(value))));
    commit(&database, &writes.collect(), false).unwrap();
    read_all(&database).unwrap()
}

#[tokio::test]
async fn the_format_before_keeps_what_the_next_one_added() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE);
    let next = format::Format {
        written_by: format::OURS.written_by + 1,
        oldest_reader: format::OURS.written_by,
    };
    written_by(&path, next, &[("ours", "1"), ("of the next weave", "2")]);
    let (store, _) = Store::open(directory.path()).unwrap();
    let writes = vec![(b"ours".to_vec(), Some(b"3".to_vec()))];
    store.write(writes).await.unwrap();
    drop(store);
    let pair = |key: &str, value: &str| (key.as_bytes().to_vec(), value.as_bytes().to_vec());
    assert_eq!(
        written_by(&path, next, &[]),
        [pair("of the next weave", "2"), pair("ours", "3")]
    );
}

#[test]
fn a_store_two_formats_newer_is_refused_before_its_contents_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE);
    let newer = format::OURS.written_by + 1;
    let format = format::Format {
        written_by: newer + 1,
        oldest_reader: newer,
    };
    written_by(&path, format, &[("key", "value")]);
    let error = Store::open(directory.path()).unwrap_err().to_string();
    assert!(error.contains(&path.display().to_string()), "{error}");
    assert!(error.contains("run the newer weave again"), "{error}");
}
