//! Which format a store has, and who may read it.
//!
//! A store says the format that last wrote it, and the oldest format that still reads it right.
//! One that says nothing has format 1. Whoever may read it leaves keys that it does not know as
//! they are, so that a newer weave finds them again.

use std::path::Path;

use redb::{Database, ReadableDatabase as _, TableDefinition, TableError};

use super::StoreError;

/// Beside the contents, which may look different in every format.
const TABLE: TableDefinition<'_, &str, u64> = TableDefinition::new("weave/format");
const WRITTEN_BY: &str = "written by";
const OLDEST_READER: &str = "oldest reader";

/// What this program writes.
pub(super) const OURS: Format = Format {
    written_by: if cfg!(feature = "next-format") { 2 } else { 1 },
    oldest_reader: 1,
};

/// What this run marks the store with: [`OURS`], unless a test of a build of the next format asks
/// for a later one in `WEAVE_MARK_FORMAT`.
pub(super) fn ours() -> Format {
    #[cfg(feature = "next-format")]
    if let Some(later) = std::env::var("WEAVE_MARK_FORMAT")
        .ok()
        .and_then(|text| text.parse().ok())
    {
        return Format {
            written_by: later,
            oldest_reader: later,
        };
    }
    OURS
}

/// The format of a store, or of what a program writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Format {
    /// The format itself; grows by one with every change.
    pub(super) written_by: u64,
    /// Programs of an older format than this would misread it.
    pub(super) oldest_reader: u64,
}

/// Refuses a store that a program writing `ours` would misread, and marks any other as written by
/// it. Returns the format that the store had.
///
/// # Errors
/// When the store is too new, or the record cannot be read or written.
pub(super) fn admit(database: &Database, path: &Path, ours: Format) -> Result<Format, StoreError> {
    let failed = |error: redb::Error| StoreError::of(path, &error);
    let (recorded, found) = read(database).map_err(failed)?;
    if found.oldest_reader > ours.written_by {
        return Err(StoreError::TooNew {
            path: path.to_owned(),
            found: found.written_by,
            oldest_reader: found.oldest_reader,
            ours: ours.written_by,
        });
    }
    let marked = Format {
        // what a newer format left is kept, and so is what it asks of its readers
        oldest_reader: ours.oldest_reader.max(found.oldest_reader),
        ..ours
    };
    if !recorded || marked != found {
        write(database, marked).map_err(failed)?;
    }
    Ok(found)
}

/// The format of a store, and whether the store says so itself.
fn read(database: &Database) -> Result<(bool, Format), redb::Error> {
    let first = Format {
        written_by: 1,
        oldest_reader: 1,
    };
    let table = match database.begin_read()?.open_table(TABLE) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok((false, first)),
        Err(error) => return Err(error.into()),
    };
    let number = |key| Ok::<_, redb::Error>(table.get(key)?.map(|value| value.value()));
    let (written_by, oldest_reader) = (number(WRITTEN_BY)?, number(OLDEST_READER)?);
    let format = Format {
        written_by: written_by.unwrap_or(first.written_by),
        oldest_reader: oldest_reader.unwrap_or(first.oldest_reader),
    };
    Ok((written_by.is_some() && oldest_reader.is_some(), format))
}

fn write(database: &Database, format: Format) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    {
        let mut table = transaction.open_table(TABLE)?;
        table.insert(WRITTEN_BY, format.written_by)?;
        table.insert(OLDEST_READER, format.oldest_reader)?;
    }
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "weave.redb";

    const fn format(written_by: u64, oldest_reader: u64) -> Format {
        Format {
            written_by,
            oldest_reader,
        }
    }

    fn store() -> (tempfile::TempDir, Database) {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::create(directory.path().join(FILE)).unwrap();
        (directory, database)
    }

    fn marked(database: &Database) -> (bool, Format) {
        read(database).unwrap()
    }

    #[test]
    fn a_store_that_says_nothing_has_format_one_and_is_marked() {
        let (_directory, database) = store();
        let found = admit(&database, Path::new(FILE), format(2, 1)).unwrap();
        assert_eq!(found, format(1, 1));
        assert_eq!(marked(&database), (true, format(2, 1)));
    }

    #[test]
    fn a_store_goes_to_the_next_format_and_back_again() {
        let (_directory, database) = store();
        for (ours, found) in [
            (format(1, 1), format(1, 1)),
            (format(2, 1), format(1, 1)),
            (format(1, 1), format(2, 1)),
            (format(2, 1), format(1, 1)),
        ] {
            assert_eq!(admit(&database, Path::new(FILE), ours).unwrap(), found);
            assert_eq!(marked(&database), (true, ours));
        }
    }

    #[test]
    fn a_store_two_formats_newer_is_refused_with_words_and_left_as_it_is() {
        let (_directory, database) = store();
        admit(&database, Path::new(FILE), format(3, 2)).unwrap();
        let error = admit(&database, Path::new(FILE), format(1, 1)).unwrap_err();
        let text = error.to_string();
        for words in [
            "weave.redb",
            "has format 3",
            "from format 2",
            "of format 1",
            "weave reset",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert_eq!(marked(&database), (true, format(3, 2)));
    }

    #[test]
    fn going_back_one_format_does_not_open_the_store_to_older_ones() {
        let (_directory, database) = store();
        admit(&database, Path::new(FILE), format(3, 2)).unwrap();
        admit(&database, Path::new(FILE), format(2, 1)).unwrap();
        assert_eq!(marked(&database), (true, format(2, 2)));
        assert!(admit(&database, Path::new(FILE), format(1, 1)).is_err());
    }

    #[test]
    fn a_record_of_another_shape_is_refused_with_the_file() {
        let (_directory, database) = store();
        let other: TableDefinition<'_, u64, u64> = TableDefinition::new("weave/format");
        let transaction = database.begin_write().unwrap();
        transaction.open_table(other).unwrap();
        transaction.commit().unwrap();
        let error = admit(&database, Path::new(FILE), OURS).unwrap_err();
        assert!(error.to_string().contains(FILE), "{error}");
    }
}
