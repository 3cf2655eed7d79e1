//! Topics, publishers and boots, which rows name by number.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Result};

use super::database::damaged;
use super::entry::{Publisher, Topic};
use super::sum::Sum;

/// The numbers of names, as far as one piece of work met them.
#[derive(Debug, Default)]
pub(super) struct Numbers<'a> {
    topics: HashMap<(&'a str, Option<&'a [u8]>), i64>,
    publishers: HashMap<&'a Publisher, i64>,
}

impl<'a> Numbers<'a> {
    /// A topic's number; it gets one where it has none.
    pub(super) fn topic(
        &mut self,
        sql: &Connection,
        name: &'a str,
        schema: Option<&'a [u8]>,
    ) -> Result<i64> {
        if let Some(id) = self.topics.get(&(name, schema)) {
            return Ok(*id);
        }
        let find = "SELECT id FROM topic WHERE name = ? AND schema IS ?";
        let found = sql.prepare(find)?.query_row((name, schema), |row| row.get(0)).optional()?;
        let id = match found {
            Some(id) => id,
            None => {
                let id = next_id(sql, "topic")?;
                let write = "INSERT INTO topic (id, name, schema, sum) VALUES (?, ?, ?, ?)";
                sql.execute(write, (id, name, schema, topic_sum(id, name, schema)))?;
                id
            }
        };
        self.topics.insert((name, schema), id);
        Ok(id)
    }

    /// The number of a topic whose schema is not known here.
    pub(super) fn topic_by_name(&mut self, sql: &Connection, name: &'a str) -> Result<i64> {
        let find = "SELECT id FROM topic WHERE name = ? ORDER BY id DESC LIMIT 1";
        match sql.query_row(find, [name], |row| row.get(0)).optional()? {
            Some(id) => Ok(id),
            None => self.topic(sql, name, None),
        }
    }

    /// A publisher's number; it gets one where it has none.
    pub(super) fn publisher(&mut self, sql: &Connection, publisher: &'a Publisher) -> Result<i64> {
        if let Some(id) = self.publishers.get(publisher) {
            return Ok(*id);
        }
        let Publisher { identity, name, epoch } = publisher;
        let epoch = epoch.cast_signed();
        let find = "SELECT id FROM publisher WHERE identity = ? AND name = ? AND epoch = ?";
        let found = sql.query_row(find, (identity, name, epoch), |row| row.get(0)).optional()?;
        let id = match found {
            Some(id) => id,
            None => {
                let id = next_id(sql, "publisher")?;
                let write = "INSERT INTO publisher (id, identity, name, epoch, sum)
                    VALUES (?, ?, ?, ?, ?)";
                let sum = publisher_sum(id, publisher);
                sql.execute(write, (id, identity, name, epoch, sum))?;
                id
            }
        };
        self.publishers.insert(publisher, id);
        Ok(id)
    }
}

/// The topics of what is read.
#[derive(Debug, Default)]
pub(super) struct Topics(HashMap<i64, Arc<Topic>>);

impl Topics {
    /// None: it is not there, or not what was written.
    pub(super) fn by_number(&mut self, sql: &Connection, id: i64) -> Result<Option<Arc<Topic>>> {
        if let Some(topic) = self.0.get(&id) {
            return Ok(Some(Arc::clone(topic)));
        }
        let find = "SELECT name, schema, sum FROM topic WHERE id = ?";
        let found = sql
            .prepare(find)?
            .query_row([id], |row| {
                let topic = Topic { name: row.get(0)?, schema: row.get(1)? };
                let sum = topic_sum(id, &topic.name, topic.schema.as_deref());
                Ok((row.get::<_, i64>(2)? == sum).then_some(topic))
            })
            .optional()?
            .flatten();
        let Some(topic) = found.map(Arc::new) else { return Ok(None) };
        self.0.insert(id, Arc::clone(&topic));
        Ok(Some(topic))
    }
}

/// A publisher by its number; none: it is not there, or not what was written.
pub(super) fn publisher(sql: &Connection, id: i64) -> Result<Option<Publisher>> {
    let find = "SELECT identity, name, epoch, sum FROM publisher WHERE id = ?";
    let found = sql.query_row(find, [id], |row| {
        let epoch = row.get::<_, i64>(2)?.cast_unsigned();
        let publisher = Publisher { identity: row.get(0)?, name: row.get(1)?, epoch };
        let is_whole = row.get::<_, i64>(3)? == publisher_sum(id, &publisher);
        Ok(is_whole.then_some(publisher))
    });
    Ok(found.optional()?.flatten())
}

/// The number of a boot; it gets one where it has none.
pub(super) fn boot(sql: &Connection, name: &str) -> Result<i64> {
    let found =
        sql.query_row("SELECT id FROM boot WHERE name = ?", [name], |row| row.get(0)).optional()?;
    match found {
        Some(id) => Ok(id),
        None => {
            let id = next_id(sql, "boot")?;
            sql.execute(
                "INSERT INTO boot (id, name, sum) VALUES (?, ?, ?)",
                (id, name, boot_sum(id, name, None)),
            )?;
            Ok(id)
        }
    }
}

/// A boot.
#[derive(Debug, Clone)]
pub(super) struct Boot {
    /// The kernel's id of it.
    pub(super) name: String,
    /// Milliseconds from its zero to 1970, if the clock was set in it.
    pub(super) offset: Option<i64>,
}

/// A boot by its number.
pub(super) fn boot_by_number(sql: &Connection, id: i64) -> Result<Boot> {
    sql.query_row("SELECT name, offset, sum FROM boot WHERE id = ?", [id], |row| {
        let boot = Boot { name: row.get(0)?, offset: row.get(1)? };
        if row.get::<_, i64>(2)? != boot_sum(id, &boot.name, boot.offset) {
            return Err(damaged("a boot of another sum"));
        }
        Ok(boot)
    })
}

/// Notes when a boot began, as the clock has it now.
pub(super) fn set_boot_offset(sql: &Connection, id: i64, offset: i64) -> Result<()> {
    let boot = boot_by_number(sql, id)?;
    let sum = boot_sum(id, &boot.name, Some(offset));
    sql.execute("UPDATE boot SET offset = ?, sum = ? WHERE id = ?", (offset, sum, id)).map(|_| ())
}

/// Forgets names that no row uses. `boot` stays, and so do publishers while they are few: how far
/// their messages are may not have been heard.
pub(super) fn tidy(sql: &Connection, boot: i64) -> Result<()> {
    let used = |column: &str| {
        let of = |table| format!("SELECT {column} FROM {table} WHERE {column} IS NOT NULL");
        ["rows_alarm", "rows_normal", "rows_bulk"].map(of).join(" UNION ")
    };
    sql.execute_batch(&format!(
        "DELETE FROM topic WHERE id NOT IN ({});
         DELETE FROM boot WHERE id <> {boot} AND id NOT IN ({})",
        used("topic"),
        used("boot")
    ))?;
    let publishers: u64 = sql.query_row("SELECT COUNT(*) FROM publisher", [], |row| row.get(0))?;
    if publishers <= FEW_PUBLISHERS {
        return Ok(());
    }
    sql.execute_batch(&format!(
        "DELETE FROM publisher WHERE id NOT IN ({});
         DELETE FROM mark WHERE publisher NOT IN (SELECT id FROM publisher)",
        used("publisher")
    ))
}

/// How many topics and publishers have a number.
pub(super) fn count(sql: &Connection) -> Result<u64> {
    let count = "SELECT (SELECT COUNT(*) FROM topic) + (SELECT COUNT(*) FROM publisher)";
    sql.query_row(count, [], |row| row.get(0))
}

fn next_id(sql: &Connection, table: &str) -> Result<i64> {
    sql.query_row(&format!("SELECT COALESCE(MAX(id), 0) + 1 FROM {table}"), [], |row| row.get(0))
}

fn topic_sum(id: i64, name: &str, schema: Option<&[u8]>) -> i64 {
    Sum::new().number(id).text(Some(name.as_bytes())).text(schema).finish()
}

fn publisher_sum(id: i64, publisher: &Publisher) -> i64 {
    Sum::new()
        .number(id)
        .text(Some(publisher.identity.as_bytes()))
        .text(Some(publisher.name.as_bytes()))
        .number(publisher.epoch.cast_signed())
        .finish()
}

fn boot_sum(id: i64, name: &str, offset: Option<i64>) -> i64 {
    Sum::new().number(id).text(Some(name.as_bytes())).optional(offset).finish()
}

/// Publishers that nothing of is held, and that are remembered.
const FEW_PUBLISHERS: u64 = 512;
