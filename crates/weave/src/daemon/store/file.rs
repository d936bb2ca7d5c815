//! The file itself: made whole, opened only when sound, read and written as a whole.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use redb::{Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};

use super::{Contents, format};

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("weave/v1");
/// Written to find out whether writing works again.
const PROBE: TableDefinition<'_, u8, &[u8]> = TableDefinition::new("weave/probe");
const PROBE_BYTES: usize = 16 << 10;
/// Small: the whole state is read once, at start.
const CACHE_BYTES: usize = 1 << 20;

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
        /// Why, and what to do.
        why: String,
    },
    /// What the file holds makes no sense. Nothing was changed.
    #[error(
        "the store {path} is damaged: {why}; put back a copy of it, or run `weave reset` to begin \
         as a new peer (stop the containers of weave networks first: their addresses would be \
         given out again)"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A newer weave wrote what this one would misread. Nothing was changed.
    #[error(
        "the store {path} has format {found}, which weave reads from format {oldest_reader} on; \
         this is weave of format {ours}: run the newer weave again, or `weave reset` to begin as a \
         new peer (stop the containers of weave networks first: their addresses would be given out \
         again)"
    )]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Format of the store.
        found: u64,
        /// The oldest that may read it.
        oldest_reader: u64,
        /// Format of this program.
        ours: u64,
    },
}

impl StoreError {
    /// What an error of redb means for this file.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "they are of others, and most cannot happen here"
    )]
    pub(super) fn of(path: &Path, error: &redb::Error) -> Self {
        let path = path.to_owned();
        let why = error.to_string();
        match error {
            redb::Error::Corrupted(_) | redb::Error::UpgradeRequired(_) => {
                Self::Damaged { path, why }
            }
            redb::Error::Io(error) => match error.kind() {
                ErrorKind::InvalidData | ErrorKind::UnexpectedEof => Self::Damaged { path, why },
                ErrorKind::ReadOnlyFilesystem | ErrorKind::StorageFull => Self::Open {
                    path,
                    why: format!("{why}; the router must be able to write it"),
                },
                _ => Self::Open { path, why },
            },
            redb::Error::DatabaseAlreadyOpen => Self::Open {
                path,
                why: "another router has it open; stop that one first".to_owned(),
            },
            _ => Self::Open { path, why },
        }
    }
}

/// Opens a store whose every page is sound; makes it when there is none.
///
/// # Errors
/// When it cannot be opened, or is damaged.
pub(super) fn open_database(path: &Path) -> Result<Database, StoreError> {
    let of_io = |error: std::io::Error| StoreError::of(path, &redb::Error::Io(error));
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => make(path)?,
        Err(error) => return Err(of_io(error)),
        // ours are never empty, for they get their name when they are whole
        Ok(metadata) if metadata.len() == 0 => {
            return Err(StoreError::Damaged {
                path: path.to_owned(),
                why: "it is empty".to_owned(),
            });
        }
        Ok(_) => {}
    }
    let of_redb = |error: DatabaseError| StoreError::of(path, &error.into());
    let mut database = Builder::new()
        .set_cache_size(CACHE_BYTES)
        .open(path)
        .map_err(of_redb)?;
    if !database.check_integrity().map_err(of_redb)? {
        tracing::warn!(file = %path.display(), "the store was repaired");
    }
    Ok(database)
}

/// Everything in the store.
///
/// # Errors
/// When it cannot be read.
pub(super) fn read_all(database: &Database) -> Result<Contents, redb::Error> {
    let transaction = database.begin_read()?;
    let table = transaction.open_table(TABLE)?;
    let mut contents = Contents::new();
    for row in table.iter()? {
        let (key, value) = row?;
        contents.push((key.value().to_vec(), value.value().to_vec()));
    }
    Ok(contents)
}

/// Makes all of these writes durable, or none of them. `probes`: writes something else, too.
///
/// # Errors
/// Why it may not be durable.
pub(super) fn commit(
    database: &Database,
    writes: &super::Writes,
    probes: bool,
) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    // what was acknowledged is never given up for what was there before
    transaction.set_two_phase_commit(true);
    {
        let mut table = transaction.open_table(TABLE)?;
        for (key, value) in writes {
            match value {
                Some(value) => table.insert(key.as_slice(), value.as_slice())?,
                None => table.remove(key.as_slice())?,
            };
        }
    }
    if probes {
        let filling = vec![0; PROBE_BYTES];
        transaction
            .open_table(PROBE)?
            .insert(0, filling.as_slice())?;
    }
    transaction.commit()?;
    Ok(())
}

/// Makes an empty store; it gets its name when it is whole.
fn make(path: &Path) -> Result<(), StoreError> {
    let of = |error: redb::Error| StoreError::of(path, &error);
    let of_io = |error: std::io::Error| StoreError::of(path, &redb::Error::Io(error));
    let new = path.with_extension("new");
    if let Err(error) = fs::remove_file(&new)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(of_io(error));
    }
    let database = Builder::new()
        .set_cache_size(CACHE_BYTES)
        .create(&new)
        .map_err(|error| of(error.into()))?;
    restrict(&new).map_err(of_io)?;
    commit(&database, &super::Writes::new(), false).map_err(of)?;
    drop(database);
    fs::rename(&new, path).map_err(of_io)?;
    let directory = path.parent().unwrap_or_else(|| Path::new("/"));
    let synced = fs::File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(of_io)
}

fn restrict(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
}

/// Opens and reads a store. A panic is taken for a damaged file: redb checks most of what it
/// reads, not all.
///
/// # Errors
/// When it cannot be opened, is damaged or of too new a format. Where a panic ends the process, it says so before.
pub(super) fn open_and_read(path: &Path) -> Result<(Database, Contents), StoreError> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let damaged = StoreError::Damaged {
        path: path.to_owned(),
        why: "it contradicts itself".to_owned(),
    };
    let text = damaged.to_string();
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tracing::debug!(%panic, "while opening the store");
        if cfg!(panic = "abort") {
            let _ = writeln!(std::io::stderr(), "error: {text}");
            std::process::exit(1);
        }
    }));
    let result = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let database = open_database(path)?;
        format::admit(&database, path, format::ours())?;
        let contents = read_all(&database).map_err(|error| StoreError::of(path, &error))?;
        Ok((database, contents))
    }));
    std::panic::set_hook(before);
    drop(guard);
    result.unwrap_or(Err(damaged))
}
