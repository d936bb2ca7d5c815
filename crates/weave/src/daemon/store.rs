//! The durable store: one redb file, one table of keys and values.
//!
//! Writes go through one thread that commits everything waiting together, so
//! that concurrent allocations share an fsync. A write is answered only when it
//! is on disk.
//!
//! A file that is damaged is refused, never begun anew: the addresses in use
//! would be given out again. When a write fails, the thread goes on trying, and
//! says so once a minute. What was acknowledged is kept in memory, for a commit
//! that failed may be on the disk in spite of that: once the file can be opened
//! again, it is made to hold exactly what was acknowledged.

mod file;
mod format;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use redb::Database;

pub(crate) use file::StoreError;
use file::{commit, open_and_read, open_database, read_all};

/// Name of the file in the state directory.
const FILE: &str = "weave.redb";
/// Commits that share an fsync, at most.
const MAX_GROUP: usize = 256;
/// A store that failed is tried this often, also when nothing is to be written.
const PROBE_EVERY: Duration = Duration::from_secs(2);
/// A failure that lasts is logged again this often.
const REMIND_EVERY: Duration = Duration::from_secs(60);

/// Keys with new values, or with none to remove them.
pub(crate) type Writes = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// All keys and values of the store.
pub(crate) type Contents = Vec<(Vec<u8>, Vec<u8>)>;

struct Job {
    writes: Writes,
    done: Box<dyn FnOnce(Result<(), String>) + Send>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job")
            .field("writes", &self.writes.len())
            .finish_non_exhaustive()
    }
}

/// Hands writes to the thread that commits them.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    jobs: mpsc::Sender<Job>,
    path: Arc<PathBuf>,
    failure: Arc<Mutex<Option<String>>>,
}

impl Store {
    /// Opens (and makes) the store in `directory`, checks and reads all of it.
    ///
    /// # Errors
    /// When the directory or the file cannot be used, or is damaged; another router may hold it.
    pub(crate) fn open(directory: &Path) -> Result<(Self, Contents), StoreError> {
        std::fs::create_dir_all(directory).map_err(|source| StoreError::Directory {
            path: directory.to_owned(),
            source,
        })?;
        let path = directory.join(FILE);
        let (database, contents) = open_and_read(&path)?;
        let failure = Arc::default();
        let writer = Writer {
            path: path.clone(),
            database: Some(database),
            acknowledged: contents.iter().cloned().collect(),
            failing: None,
            failure: Arc::clone(&failure),
        };
        let (jobs, waiting) = mpsc::channel();
        std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || writer.run(&waiting))
            .map_err(|error| StoreError::of(&path, &redb::Error::Io(error)))?;
        let path = Arc::new(path);
        Ok((
            Self {
                jobs,
                path,
                failure,
            },
            contents,
        ))
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Why nothing can be stored at present, with the file and the cause.
    pub(crate) fn failure(&self) -> Option<String> {
        let failure = self.failure.lock();
        failure.unwrap_or_else(PoisonError::into_inner).clone()
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
    /// The reason, with the file, when nothing was stored.
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

/// Since when writes fail, and when that was last logged.
#[derive(Debug, Clone, Copy)]
struct Failing {
    since: Instant,
    logged: Instant,
}

/// What the store's thread owns.
struct Writer {
    path: PathBuf,
    /// None after a failure: redb takes no more writes until the file is opened anew.
    database: Option<Database>,
    acknowledged: BTreeMap<Vec<u8>, Vec<u8>>,
    failing: Option<Failing>,
    /// The same for others to see, in words.
    failure: Arc<Mutex<Option<String>>>,
}

impl Writer {
    fn run(mut self, jobs: &mpsc::Receiver<Job>) {
        loop {
            let mut group = Vec::new();
            if self.failing.is_none() {
                let Ok(first) = jobs.recv() else { return };
                group.push(first);
            } else {
                match jobs.recv_timeout(PROBE_EVERY) {
                    Ok(first) => group.push(first),
                    Err(mpsc::RecvTimeoutError::Timeout) => {}
                    Err(mpsc::RecvTimeoutError::Disconnected) => return,
                }
            }
            group.extend(jobs.try_iter().take(MAX_GROUP - 1));
            let writes: Writes = group
                .iter_mut()
                .flat_map(|job| std::mem::take(&mut job.writes))
                .collect();
            let result = self.store(writes);
            self.note(result.as_ref().err());
            for job in group {
                (job.done)(result.clone());
            }
        }
    }

    fn store(&mut self, writes: Writes) -> Result<(), String> {
        if let Err(why) = self.try_to_store(&writes) {
            self.database = None;
            return Err(why);
        }
        for (key, value) in writes {
            match value {
                Some(value) => self.acknowledged.insert(key, value),
                None => self.acknowledged.remove(&key),
            };
        }
        Ok(())
    }

    fn try_to_store(&mut self, writes: &Writes) -> Result<(), String> {
        let cannot = |error: &redb::Error| format!("cannot write {}: {error}", self.path.display());
        let is_probe = self.failing.is_some();
        if let Some(database) = &self.database {
            return commit(database, writes, is_probe).map_err(|error| cannot(&error));
        }
        let database = open_database(&self.path).map_err(|error| format!("{error}"))?;
        let found = read_all(&database).map_err(|error| cannot(&error))?;
        let mut all = self.unacknowledged(found);
        all.extend_from_slice(writes);
        commit(&database, &all, is_probe).map_err(|error| cannot(&error))?;
        self.database = Some(database);
        Ok(())
    }

    /// What leads from what is on disk back to what was acknowledged.
    fn unacknowledged(&self, found: Contents) -> Writes {
        let found: BTreeMap<Vec<u8>, Vec<u8>> = found.into_iter().collect();
        let extra = found
            .keys()
            .filter(|key| !self.acknowledged.contains_key(*key));
        let mut writes: Writes = extra.map(|key| (key.clone(), None)).collect();
        for (key, value) in &self.acknowledged {
            if found.get(key) != Some(value) {
                writes.push((key.clone(), Some(value.clone())));
            }
        }
        writes
    }

    /// Tells of failures: when they begin, now and then, and when they are over.
    fn note(&mut self, why: Option<&String>) {
        let now = Instant::now();
        let file = self.path.display();
        match (why, &mut self.failing) {
            (Some(why), Some(failing)) => {
                if now.duration_since(failing.logged) >= REMIND_EVERY {
                    failing.logged = now;
                    let seconds = now.duration_since(failing.since).as_secs();
                    tracing::error!(%why, seconds, "still cannot write the store");
                }
            }
            (Some(why), None) => {
                self.failing = Some(Failing {
                    since: now,
                    logged: now,
                });
                tracing::error!(%why, "cannot write the store: no address is given out until it can");
            }
            (None, Some(failing)) => {
                let seconds = now.duration_since(failing.since).as_secs();
                tracing::info!(%file, seconds, "the store can be written again");
                self.failing = None;
            }
            (None, None) => return,
        }
        let mut shared = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        *shared = why.cloned();
    }
}

#[cfg(test)]
mod tests;
