//! A store in one SQLite file.
//!
//! Write-ahead log, synchronous FULL: a commit that returned outlives a power cut. After an error the
//! file is opened anew, since what SQLite holds of it may not be what is there.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction, params};

use super::{
    Entry, Figures, Keep, Lived, Missing, Part, Position, Store, StoreError, Topic, Trimmed,
    message_bytes,
};

/// See the module's text.
#[derive(Debug)]
pub struct Sqlite {
    path: PathBuf,
    /// `None`: to be opened again.
    opened: Option<Opened>,
}

#[derive(Debug)]
struct Opened {
    connection: Connection,
    /// By stream; as many as there are topics in the sessions, and no more than [`KNOWN_TOPICS`].
    topics: HashMap<(i64, Arc<Topic>), i64>,
}

type Result<T, E = rusqlite::Error> = std::result::Result<T, E>;

impl Sqlite {
    /// Opens the file at `path`, and makes it if there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut store = Self { path: path.to_owned(), opened: None };
        store.with("open", |_| Ok(()))?;
        Ok(store)
    }

    /// Works on the open file; after an error it is closed.
    fn with<T>(
        &mut self,
        doing: &'static str,
        work: impl FnOnce(&mut Opened) -> Result<T>,
    ) -> Result<T, StoreError> {
        let mut opened = match self.opened.take() {
            Some(opened) => opened,
            None => self.open_file()?,
        };
        let done = work(&mut opened).map_err(|error| self.error(doing, error))?;
        self.opened = Some(opened);
        Ok(done)
    }

    fn open_file(&self) -> Result<Opened, StoreError> {
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| StoreError::Failed {
                doing: "make the folder of",
                place: self.place(),
                error: Box::new(error),
            })?;
        }
        let connection = open(&self.path).map_err(|error| self.error("open", error))?;
        let version = version(&connection).map_err(|error| self.error("open", error))?;
        if version > SCHEMAS.len() as i64 {
            return Err(StoreError::Newer { place: self.place(), version });
        }
        let mut opened = Opened { connection, topics: HashMap::new() };
        opened.migrate(version).map_err(|error| self.error("update", error))?;
        Ok(opened)
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn error(&self, doing: &'static str, error: rusqlite::Error) -> StoreError {
        let place = self.place();
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => StoreError::Full { place },
            _ => StoreError::Failed { doing, place, error: Box::new(error) },
        }
    }
}

impl Store for Sqlite {
    fn position(&mut self, session: &str) -> Result<Option<Position>, StoreError> {
        self.with("read", |opened| {
            let sql = "SELECT epoch, count, serial FROM stream WHERE session = ?";
            let mut statement = opened.connection.prepare(sql)?;
            let position = |row: &rusqlite::Row<'_>| {
                let (epoch, count, serial) = (row.get(0)?, row.get(1)?, row.get(2)?);
                Ok(Position {
                    epoch: from_sql(epoch),
                    count: from_sql(count),
                    serial: from_sql(serial),
                })
            };
            statement.query_row([session], position).optional()
        })
    }

    fn missing_at(&mut self, session: &str, position: Position) -> Result<Missing, StoreError> {
        self.with("read", |opened| {
            let sql = "SELECT coalesce(topic.name, ''), cause, sum(messages) FROM gap \
                       JOIN stream ON stream.id = gap.stream LEFT JOIN topic ON topic.id = gap.topic \
                       WHERE session = ? AND gap.epoch = ? AND place = ? GROUP BY 1, 2";
            let mut statement = opened.connection.prepare(sql)?;
            let place = params![session, to_sql(position.epoch), to_sql(position.count)];
            let mut missing = Missing::default();
            let mut rows = statement.query(place)?;
            while let Some(row) = rows.next()? {
                let name: String = row.get(0)?;
                missing.insert((name.into(), row.get(1)?), from_sql(row.get(2)?));
            }
            Ok(missing)
        })
    }

    fn set_position(&mut self, session: &str, position: Position) -> Result<(), StoreError> {
        self.with("write", |opened| {
            let transaction = opened.connection.transaction()?;
            put_position(&transaction, session, position)?;
            transaction.commit()
        })
    }

    fn commit(&mut self, now: Lived, parts: &[Part]) -> Result<(), StoreError> {
        self.with("commit", |opened| {
            let Opened { connection, topics } = opened;
            let transaction = connection.transaction()?;
            let mut added = Figures::default();
            for part in parts {
                put_part(&transaction, topics, now, part, &mut added)?;
            }
            let sql =
                "UPDATE total SET messages = messages + ?, bytes = bytes + ?, lived = ?, at = ?";
            let (messages, bytes) = (to_sql(added.messages), to_sql(added.bytes));
            let values = params![messages, bytes, to_sql(now.ms), to_sql(now.at_ms)];
            transaction.prepare(sql)?.execute(values)?;
            transaction.commit()
        })
    }

    fn lived(&mut self) -> Result<Lived, StoreError> {
        self.with("read", |opened| {
            let mut statement = opened.connection.prepare("SELECT lived, at FROM total")?;
            statement.query_row([], |row| {
                let (ms, at_ms) = (row.get(0)?, row.get(1)?);
                Ok(Lived { ms: from_sql(ms), at_ms: from_sql(at_ms) })
            })
        })
    }

    fn trim(&mut self, now: Lived, keep: Keep) -> Result<Trimmed, StoreError> {
        self.with("make room", |opened| opened.trim(now, keep))
    }

    fn figures(&mut self) -> Result<Figures, StoreError> {
        self.with("read", |opened| opened.figures())
    }
}

impl Opened {
    /// Brings an older file, or a new one, to the schema of now.
    fn migrate(&mut self, version: i64) -> Result<()> {
        for (number, schema) in (1i64..).zip(SCHEMAS).skip_while(|&(number, _)| number <= version) {
            let transaction = self.connection.transaction()?;
            transaction.execute_batch(schema)?;
            transaction.pragma_update(None, "user_version", number)?;
            transaction.commit()?;
        }
        Ok(())
    }

    fn figures(&self) -> Result<Figures> {
        let mut statement = self.connection.prepare("SELECT messages, bytes FROM total")?;
        statement.query_row([], |row| {
            let (messages, bytes) = (row.get(0)?, row.get(1)?);
            Ok(Figures { messages: from_sql(messages), bytes: from_sql(bytes) })
        })
    }

    fn trim(&mut self, now: Lived, keep: Keep) -> Result<Trimmed> {
        let age = u64::try_from(keep.age.as_millis()).unwrap_or(u64::MAX);
        let oldest = to_sql(now.ms.saturating_sub(age));
        let held = self.figures()?;
        let Some((last, freed)) = self.outdated(oldest, held.bytes, keep.bytes)? else {
            let sql = "DELETE FROM gap WHERE id IN (SELECT id FROM gap WHERE lived < ? LIMIT ?)";
            let mut statement = self.connection.prepare(sql)?;
            let gaps = statement.execute(params![oldest, TRIM_ROWS])?;
            return Ok(Trimmed { messages: 0, goes_on: gaps >= TRIM_ROWS as usize });
        };
        let transaction = self.connection.transaction()?;
        let sql = "DELETE FROM gap WHERE lived < (SELECT lived FROM message WHERE id = ?)";
        transaction.prepare(sql)?.execute([last])?;
        transaction.prepare("DELETE FROM message WHERE id <= ?")?.execute([last])?;
        let sql = "UPDATE total SET messages = messages - ?, bytes = bytes - ?";
        let freed_of = params![to_sql(freed.messages), to_sql(freed.bytes)];
        transaction.prepare(sql)?.execute(freed_of)?;
        transaction.commit()?;
        // pages that are free go back to the file system, a few at a time
        let mut vacuum = self.connection.prepare(VACUUM_STEP)?;
        let mut pages = vacuum.query([])?;
        while pages.next()?.is_some() {}
        Ok(Trimmed { messages: freed.messages, goes_on: true })
    }

    /// The last of the oldest messages that are to go in one step, and what they are together.
    fn outdated(&self, oldest: i64, held: u64, most: u64) -> Result<Option<(i64, Figures)>> {
        let sql = "SELECT id, lived, length(payload) FROM message ORDER BY id LIMIT ?";
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = statement.query([TRIM_ROWS])?;
        let (mut last, mut freed) = (None, Figures::default());
        while let Some(row) = rows.next()? {
            let (id, lived, payload): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            if lived >= oldest && held.saturating_sub(freed.bytes) <= most {
                break;
            }
            last = Some(id);
            freed.messages += 1;
            freed.bytes += message_bytes(from_sql(payload));
        }
        Ok(last.map(|last| (last, freed)))
    }
}

fn open(path: &Path) -> Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // before the first table, or it has no effect
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}

fn version(connection: &Connection) -> Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn put_part(
    transaction: &Transaction<'_>,
    topics: &mut HashMap<(i64, Arc<Topic>), i64>,
    now: Lived,
    part: &Part,
    added: &mut Figures,
) -> Result<()> {
    let sql = "SELECT id, serial FROM stream WHERE session = ?";
    let known = transaction
        .prepare(sql)?
        .query_row([&*part.session], |row| Ok((row.get(0)?, from_sql(row.get(1)?))))
        .optional()?;
    if known.is_some_and(|(_, serial): (i64, u64)| serial >= part.position.serial) {
        return Ok(());
    }
    put_position(transaction, &part.session, part.position)?;
    let stream = match known {
        Some((stream, _)) => stream,
        None => transaction.prepare(sql)?.query_row([&*part.session], |row| row.get(0))?,
    };
    let ids = part.topics.iter().map(|topic| topic_id(transaction, topics, stream, topic));
    let ids = ids.collect::<Result<Vec<i64>>>()?;
    let mut put_message = transaction.prepare(
        "INSERT INTO message (topic, flags, stamp, stored, lived, payload) \
         VALUES (?, ?, ?, ?, ?, ?)",
    )?;
    let mut put_gap = transaction.prepare(
        "INSERT INTO gap (stream, topic, messages, cause, epoch, place, stored, lived) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    let (stored, lived) = (to_sql(now.at_ms), to_sql(now.ms));
    for entry in &part.entries {
        match entry {
            Entry::Message { topic, flags, stamp, payload } => {
                let payload = part.payloads.get(payload.clone()).unwrap_or_default();
                let topic = ids.get(*topic);
                let stamp = to_sql(*stamp);
                put_message.execute(params![topic, flags, stamp, stored, lived, payload])?;
                added.messages += 1;
                added.bytes += message_bytes(payload.len() as u64);
            }
            &Entry::Gap { topic, messages, cause, place } => {
                let topic = topic.and_then(|topic| ids.get(topic));
                let (messages, cause) = (to_sql(messages), cause as u8);
                let (epoch, place) = (to_sql(part.position.epoch), to_sql(place));
                let of_topic = params![stream, topic, messages, cause, epoch, place, stored, lived];
                put_gap.execute(of_topic)?;
            }
        }
    }
    Ok(())
}

fn put_position(transaction: &Transaction<'_>, session: &str, position: Position) -> Result<()> {
    let Position { epoch, count, serial } = position;
    let sql = "INSERT INTO stream (session, epoch, count, serial) VALUES (?, ?, ?, ?) \
               ON CONFLICT (session) DO UPDATE SET \
               epoch = excluded.epoch, count = excluded.count, serial = excluded.serial";
    let values = params![session, to_sql(epoch), to_sql(count), to_sql(serial)];
    transaction.prepare(sql)?.execute(values).map(|_| ())
}

fn topic_id(
    transaction: &Transaction<'_>,
    known: &mut HashMap<(i64, Arc<Topic>), i64>,
    stream: i64,
    topic: &Arc<Topic>,
) -> Result<i64> {
    if let Some(&id) = known.get(&(stream, Arc::clone(topic))) {
        return Ok(id);
    }
    let values = params![stream, &*topic.name, &*topic.schema];
    let sql = "INSERT INTO topic (stream, name, schema) VALUES (?, ?, ?) ON CONFLICT DO NOTHING";
    transaction.prepare(sql)?.execute(values)?;
    let sql = "SELECT id FROM topic WHERE stream = ? AND name = ? AND schema = ?";
    let id = transaction.prepare(sql)?.query_row(values, |row| row.get(0))?;
    if known.len() >= KNOWN_TOPICS {
        known.clear();
    }
    known.insert((stream, Arc::clone(topic)), id);
    Ok(id)
}

/// SQLite's numbers have a sign: those beyond its largest keep their bits, so that epochs stay what
/// they are.
const fn to_sql(number: u64) -> i64 {
    number.cast_signed()
}

const fn from_sql(number: i64) -> u64 {
    number.cast_unsigned()
}

/// What brings a file from each version to the next.
const SCHEMAS: [&str; 2] = [include_str!("schema/1.sql"), include_str!("schema/2.sql")];
/// Rows that one step of making room takes: some milliseconds.
const TRIM_ROWS: u32 = 1000;
/// Pages that one step gives back.
const VACUUM_STEP: &str = "PRAGMA incremental_vacuum(256)";
/// Somebody looks at the file: they get so long.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Topics whose rows are remembered.
const KNOWN_TOPICS: usize = 100_000;

#[cfg(test)]
mod tests;
