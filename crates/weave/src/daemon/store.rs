//! The durable store: one redb file, one table of keys and values.
//!
//! Writes go through one thread that commits everything waiting together, so
//! that concurrent allocations share an fsync. A write is answered only when it
//! is on disk.

use std::path::{Path, PathBuf};
use std::sync::mpsc;

use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition};

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("weave/v1");
/// Small: the whole state is read once, at start.
const CACHE_BYTES: usize = 1 << 20;
/// Commits that share an fsync, at most.
const MAX_GROUP: usize = 256;

/// Keys with new values, or with none to remove them.
pub(crate) type Writes = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum StoreError {
    /// The directory cannot be made.
    #[error("cannot make the state directory {path}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file cannot be opened or read.
    #[error("cannot open the store {path}: {why}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

struct Job {
    writes: Writes,
    done: Box<dyn FnOnce(Result<(), String>) + Send>,
}

/// Hands writes to the thread that commits them.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    jobs: mpsc::Sender<Job>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job")
            .field("writes", &self.writes.len())
            .finish_non_exhaustive()
    }
}

/// All keys and values of the store.
pub(crate) type Contents = Vec<(Vec<u8>, Vec<u8>)>;

impl Store {
    /// Opens (and makes) the store in `directory`, and reads all of it.
    ///
    /// # Errors
    /// When the directory or the file cannot be used; another router may hold it.
    pub(crate) fn open(directory: &Path) -> Result<(Self, Contents), StoreError> {
        std::fs::create_dir_all(directory).map_err(|source| StoreError::Directory {
            path: directory.to_owned(),
            source,
        })?;
        let path = directory.join("weave.redb");
        let open_error = |why: &dyn std::fmt::Display| StoreError::Open {
            path: path.clone(),
            why: why.to_string(),
        };
        let database = Builder::new()
            .set_cache_size(CACHE_BYTES)
            .create(&path)
            .map_err(|error| open_error(&error))?;
        restrict(&path).map_err(|error| open_error(&error))?;
        let contents = read_all(&database).map_err(|error| open_error(&error))?;
        let (jobs, waiting) = mpsc::channel();
        std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || commit_forever(&database, &waiting))
            .map_err(|error| open_error(&error))?;
        Ok((Self { jobs }, contents))
    }

    /// Makes `writes` durable, then calls `done`, from the store's thread.
    pub(crate) fn commit(
        &self,
        writes: Writes,
        done: impl FnOnce(Result<(), String>) + Send + 'static,
    ) {
        let job = Job {
            writes,
            done: Box::new(done),
        };
        if let Err(mpsc::SendError(job)) = self.jobs.send(job) {
            (job.done)(Err("the store has ended".to_owned()));
        }
    }

    /// Makes `writes` durable; the answer comes when they are.
    ///
    /// # Errors
    /// The reason, when nothing was stored.
    pub(crate) async fn write(&self, writes: Writes) -> Result<(), String> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.commit(writes, move |result| {
            let _ = sender.send(result);
        });
        receiver
            .await
            .unwrap_or_else(|_| Err("the store has ended".to_owned()))
    }
}

fn restrict(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
}

fn read_all(database: &Database) -> Result<Contents, redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(TABLE)?;
    transaction.commit()?;
    let transaction = database.begin_read()?;
    let table = transaction.open_table(TABLE)?;
    let mut contents = Contents::new();
    for row in table.iter()? {
        let (key, value) = row?;
        contents.push((key.value().to_vec(), value.value().to_vec()));
    }
    Ok(contents)
}

fn commit_forever(database: &Database, jobs: &mpsc::Receiver<Job>) {
    while let Ok(first) = jobs.recv() {
        let mut group = vec![first];
        group.extend(jobs.try_iter().take(MAX_GROUP - 1));
        let result = commit(database, &group).map_err(|error| error.to_string());
        if let Err(why) = &result {
            tracing::error!(%why, "cannot write the store: no address is given out until it can");
        }
        for job in group {
            (job.done)(result.clone());
        }
    }
}

fn commit(database: &Database, group: &[Job]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(TABLE)?;
        for (key, value) in group.iter().flat_map(|job| &job.writes) {
            match value {
                Some(value) => table.insert(key.as_slice(), value.as_slice())?,
                None => table.remove(key.as_slice())?,
            };
        }
    }
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
        drop(store);
        let mut contents = None;
        for _ in 0..100 {
            // the thread lets go of the file a moment after its handle
            match Store::open(directory.path()) {
                Ok((_, found)) => contents = Some(found),
                Err(_) => std::thread::sleep(std::time::Duration::from_millis(10)),
            }
        }
        assert_eq!(contents, Some(vec![(b"b".to_vec(), b"2".to_vec())]));
    }

    #[test]
    fn a_file_that_is_no_store_is_named() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("weave.redb"), b"something else").unwrap();
        let error = Store::open(directory.path()).unwrap_err();
        assert!(error.to_string().contains("weave.redb"), "{error}");
    }
}
