//! The SQLite file: how it is opened, what its layout is, and how large it is.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, ErrorCode, OpenFlags, Result, ffi};

use super::limits::Room;

/// Why a file cannot be gone on with.
#[derive(Debug)]
pub(super) enum Unusable {
    /// It is damaged, or not ours: set aside, and saved what can be.
    Damaged(String),
    /// The machine does not let us.
    Machine(rusqlite::Error),
}

impl From<rusqlite::Error> for Unusable {
    fn from(error: rusqlite::Error) -> Self {
        if is_damage(&error) { Self::Damaged(error.to_string()) } else { Self::Machine(error) }
    }
}

/// Whether an error says that the file is not what was written. A failed read of the device counts:
/// what it does not give back is lost.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::Error as E;
    match error {
        E::SqliteFailure(failure, _) => match failure.code {
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::TypeMismatch => true,
            // a row where there must be none, a NULL where there is none: an index or a page is wrong
            ErrorCode::ConstraintViolation => true,
            ErrorCode::SystemIoFailure => READ_ERRORS.contains(&failure.extended_code),
            // a table is gone
            ErrorCode::Unknown => true,
            _ => false,
        },
        // what a column holds is of another type, or out of range
        E::FromSqlConversionFailure(..)
        | E::IntegralValueOutOfRange(..)
        | E::InvalidColumnType(..)
        | E::Utf8Error(..)
        | E::QueryReturnedNoRows
        | E::SqlInputError { .. } => true,
        _ => false,
    }
}

/// The error for what is not as it was written.
pub(super) fn damaged(what: &str) -> rusqlite::Error {
    let code = ffi::Error::new(ffi::SQLITE_CORRUPT);
    rusqlite::Error::SqliteFailure(code, Some(what.to_owned()))
}

/// Opens or creates the file. `room`: of a spool; none: of one that is only read.
pub(super) fn open(path: &Path, room: Option<&Room>) -> Result<Connection> {
    // no mutex: one owner; no URI: the path is a path
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let sql = Connection::open_with_flags(path, flags)?;
    sql.busy_timeout(BUSY)?;
    // closing must not take long, nor write: the next start reads the log
    sql.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    sql.execute_batch(SETTINGS)?;
    if let Some(room) = room {
        // of a new file only
        sql.pragma_update(None, "page_size", room.page)?;
        sql.pragma_update(None, "journal_size_limit", room.log)?;
    }
    let mode: String =
        sql.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        tracing::warn!(mode, "the spool's file system allows no write-ahead log");
    }
    Ok(sql)
}

/// Brings the layout up to date.
pub(super) fn migrate(sql: &mut Connection) -> Result<(), Unusable> {
    let version: usize = sql.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let Some(missing) = SCHEMA.get(version..) else {
        let text = format!("of version {version}; this program knows up to {}", SCHEMA.len());
        return Err(Unusable::Damaged(text));
    };
    for (at, script) in missing.iter().enumerate() {
        let step = sql.transaction()?;
        step.execute_batch(script)?;
        step.pragma_update(None, "user_version", version + at + 1)?;
        step.commit()?;
    }
    Ok(())
}

/// Looks whether the file is whole, for so long at most; `false`: it was not seen to the end.
pub(super) fn check(sql: &mut Connection, limit: Duration) -> Result<bool, Unusable> {
    let until = Instant::now() + limit;
    sql.progress_handler(OPERATIONS, Some(move || Instant::now() >= until))?;
    let found = sql.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    sql.progress_handler(0, None::<fn() -> bool>)?;
    match found {
        Ok(text) if text == "ok" => Ok(true),
        Ok(text) => Err(Unusable::Damaged(text)),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether the next commit waits until it is on the disk. Without, a loss of power may undo the last
/// commits; a crash of the process never does.
pub(super) fn set_durable(sql: &Connection, durable: bool) -> Result<()> {
    sql.pragma_update(None, "synchronous", if durable { "FULL" } else { "NORMAL" })
}

/// Pages that hold something.
pub(super) fn pages_in_use(sql: &Connection) -> Result<u64> {
    let number = |name| sql.pragma_query_value(None, name, |row| row.get::<_, u64>(0));
    Ok(number("page_count")?.saturating_sub(number("freelist_count")?))
}

/// Bytes of a page.
pub(super) fn page_bytes(sql: &Connection) -> Result<u64> {
    sql.pragma_query_value(None, "page_size", |row| row.get(0))
}

/// Pages of the file.
pub(super) fn pages(sql: &Connection) -> Result<u64> {
    sql.pragma_query_value(None, "page_count", |row| row.get(0))
}

/// Bytes of a file and its log.
pub(super) fn bytes_on_disk(path: &Path) -> u64 {
    let bytes = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.len());
    bytes(path) + bytes(&log_of(path))
}

/// Pages that wait in the log.
pub(super) fn log_pages(sql: &Connection) -> Result<u64> {
    let (pages, _) = sql.wal_checkpoint_v2(rusqlite::MAIN_DB.into(), CheckpointMode::NOOP)?;
    Ok(u64::try_from(pages).unwrap_or(0))
}

/// Moves the log's pages to their places; the next transaction begins the log anew.
pub(super) fn empty_log(sql: &Connection, truncate: bool) -> Result<()> {
    let mode = if truncate { CheckpointMode::TRUNCATE } else { CheckpointMode::PASSIVE };
    sql.wal_checkpoint_v2(rusqlite::MAIN_DB.into(), mode).map(|_| ())
}

/// Gives the bytes back that nothing is in.
pub(super) fn shrink(sql: &Connection) -> Result<()> {
    sql.execute_batch("VACUUM")
}

/// The log beside a file.
pub(super) fn log_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

/// The files that the layout was built from; `user_version` is how many were run.
pub(super) const SCHEMA: [&str; 1] = [include_str!("schema/001.sql")];

/// - exclusive: no second process, and no shared memory file beside the log
/// - 64 pages of cache: a batch is written once, in order, and what is read is read once
/// - no mapping: what is mapped counts as the daemon's memory
/// - the log is emptied when we say so
const SETTINGS: &str = "
    PRAGMA locking_mode = EXCLUSIVE;
    PRAGMA cache_size = 64;
    PRAGMA mmap_size = 0;
    PRAGMA temp_store = MEMORY;
    PRAGMA wal_autocheckpoint = 0;
    PRAGMA cell_size_check = ON;
    PRAGMA trusted_schema = OFF;
    PRAGMA foreign_keys = OFF;
";

/// For the daemon's predecessor to end.
const BUSY: Duration = Duration::from_secs(2);

/// Virtual machine steps between two looks at the clock.
const OPERATIONS: i32 = 1000;

/// Extended codes of `SQLITE_IOERR`: read, short read, damaged file system.
const READ_ERRORS: [i32; 4] = [
    ffi::SQLITE_IOERR_READ,
    ffi::SQLITE_IOERR_SHORT_READ,
    ffi::SQLITE_IOERR_DATA,
    ffi::SQLITE_IOERR_CORRUPTFS,
];
