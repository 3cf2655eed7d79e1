//! What is sent next, and what the central instance has.

use rusqlite::{OptionalExtension, Result};

use super::age::Ages;
use super::append::to_i64;
use super::database::damaged;
use super::entry::{Body, Publisher, Row, Stamp};
use super::names::{self, Topics};
use super::row::{self, COLUMNS, Stored, What};
use super::work::Work;
use crate::config::Lane;

/// How far a lane was read to be sent, on one link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    pub(super) seq: u64,
    pub(super) count: u64,
}

/// A publisher's messages that are all at the central instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmed {
    /// Whose.
    pub publisher: Publisher,
    /// Up to which of its counted messages; those that went to other lanes of the spool included.
    pub count: u64,
}

impl Work<'_> {
    /// The rows behind the cursor: one at least, if there is one; and the cursor behind them. None:
    /// some are too old, and were not dropped yet.
    pub(super) fn read(
        &self,
        lane: Lane,
        mut cursor: Cursor,
        most_rows: usize,
        most_bytes: usize,
    ) -> Result<Option<(Vec<Row>, Cursor)>> {
        let find = format!("SELECT {COLUMNS} FROM {} WHERE seq > ? ORDER BY seq", row::table(lane));
        let mut find = self.sql.prepare(&find)?;
        let mut rows = find.query([to_i64(cursor.seq)])?;
        let (mut topics, mut ages) = (Topics::default(), Ages::default());
        let (mut read, mut bytes) = (Vec::new(), 0);
        while read.len() < most_rows.max(1) && (read.is_empty() || bytes < most_bytes) {
            let Some(row) = rows.next()? else { break };
            let stored = Stored::read(row)?.ok_or_else(|| damaged("a row of another sum"))?;
            let is_message = stored.what == What::Message;
            if is_message && self.is_over(&stored, &mut ages)? {
                return Ok(None);
            }
            bytes += stored.payload.map_or(0, <[u8]>::len);
            cursor.seq = stored.seq.cast_unsigned();
            cursor.count += u64::from(is_message);
            let body = self.body(&stored, &mut topics)?;
            read.push(Row { seq: cursor.seq, central_count: cursor.count, body });
        }
        Ok(Some((read, cursor)))
    }

    /// Removes what the central instance has, up to its count. `Err`: how much it can have at most.
    pub(super) fn acknowledge(
        &mut self,
        lane: Lane,
        count: u64,
    ) -> Result<std::result::Result<Vec<Confirmed>, u64>> {
        let state = *self.state.lane(lane);
        let messages = count.saturating_sub(state.head_count);
        if messages == 0 {
            return Ok(Ok(Vec::new()));
        }
        let table = row::table(lane);
        let sent = to_i64(self.memory.lanes[lane as usize].sent);
        let find = format!(
            "SELECT seq FROM {table} WHERE what = 0 AND seq <= ? ORDER BY seq LIMIT 1 OFFSET ?"
        );
        let place = to_i64(messages - 1);
        let last = self.sql.query_row(&find, (sent, place), |row| row.get::<_, i64>(0));
        let Some(last) = last.optional()? else {
            let find = format!("SELECT COUNT(*) FROM {table} WHERE what = 0 AND seq <= ?");
            let most: u64 = self.sql.query_row(&find, [sent], |row| row.get(0))?;
            return Ok(Err(state.head_count + most));
        };
        let publishers = self.mark_central(lane, last)?;
        self.sql.execute(&format!("DELETE FROM {table} WHERE seq <= ?"), [last])?;
        let state = self.state.lane_mut(lane);
        state.acked = last.cast_unsigned();
        state.head_count = count;
        state.acknowledged += messages;
        publishers.into_iter().map(|id| self.confirmed(id)).collect::<Result<_>>().map(Ok)
    }

    /// Removes GAPs at the lane's start, up to a row.
    pub(super) fn forget_gaps(&mut self, lane: Lane, through: u64) -> Result<()> {
        let table = row::table(lane);
        let delete = format!(
            "DELETE FROM {table} WHERE seq <= ?1 AND seq < COALESCE(
                (SELECT seq FROM {table} WHERE what = 0 ORDER BY seq LIMIT 1), ?1 + 1)"
        );
        self.sql.execute(&delete, [to_i64(through)]).map(|_| ())
    }

    /// Whether the lane has rows.
    pub(super) fn has_rows(&self, lane: Lane) -> Result<bool> {
        self.sql.prepare(&format!("SELECT 1 FROM {} LIMIT 1", row::table(lane)))?.exists([])
    }

    /// Since which boot, and when, the lane's first message waits.
    pub(super) fn first_time(&self, lane: Lane) -> Result<Option<(Option<i64>, i64)>> {
        let find = format!(
            "SELECT boot, at FROM {} WHERE what = 0 ORDER BY seq LIMIT 1",
            row::table(lane)
        );
        self.sql.query_row(&find, [], |row| Ok((row.get(0)?, row.get(1)?))).optional()
    }

    fn is_over(&self, stored: &Stored<'_>, ages: &mut Ages) -> Result<bool> {
        let limit = stored.max_age.cast_unsigned().saturating_mul(1000);
        Ok(limit > 0 && ages.of(self, stored.boot, stored.at)? > limit)
    }

    fn body(&self, stored: &Stored<'_>, topics: &mut Topics) -> Result<Body> {
        let topic = match stored.topic {
            Some(id) => {
                let topic = topics.by_number(self.sql, id)?;
                Some(topic.ok_or_else(|| damaged("a topic is missing"))?)
            }
            None => None,
        };
        Ok(match (stored.what, topic) {
            (What::Gap(cause), topic) => Body::Gap { topic, count: stored.count, cause },
            (What::Message, Some(topic)) => Body::Message {
                topic,
                flags: fastport_wire::frame::DataFlags::from_bits(stored.flags),
                stamp: self.stamp(stored)?,
                payload: stored.payload.unwrap_or_default().to_vec(),
            },
            (What::Message, None) => return Err(damaged("a message without a topic")),
        })
    }

    fn stamp(&self, stored: &Stored<'_>) -> Result<Stamp> {
        if let Some(unix) = stored.unix {
            return Ok(Stamp::Unix(unix.cast_unsigned()));
        }
        let at = stored.at.cast_unsigned();
        let Some(boot) = stored.boot.filter(|boot| *boot != self.boot) else {
            let unix = self
                .now
                .unix_ms
                .map(|unix| Stamp::Unix((unix + at).saturating_sub(self.now.boot_ms)));
            return Ok(unix.unwrap_or(Stamp::Boot(at)));
        };
        if let Some(offset) = names::boot_offset(self.sql, boot)? {
            return Ok(Stamp::Unix(at.saturating_add_signed(offset)));
        }
        let name = names::boot_name(self.sql, boot)?;
        Ok(Stamp::OtherBoot { boot: name.into(), ms: at })
    }

    /// Notes how far publishers' messages are at the central instance, once the lane's rows up to
    /// `last` are; which publishers these are.
    fn mark_central(&mut self, lane: Lane, last: i64) -> Result<Vec<i64>> {
        let find = format!(
            "SELECT publisher, MAX(count) FROM {}
             WHERE seq <= ? AND what = 0 AND publisher IS NOT NULL GROUP BY publisher",
            row::table(lane)
        );
        let mut find = self.sql.prepare(&find)?;
        let mut mark = self.sql.prepare(
            "UPDATE mark SET central = MAX(central, ?) WHERE publisher = ? AND lane = ?",
        )?;
        let mut publishers = Vec::new();
        let mut rows = find.query([last])?;
        while let Some(row) = rows.next()? {
            let (publisher, count): (i64, i64) = (row.get(0)?, row.get(1)?);
            mark.execute((count, publisher, lane as i64))?;
            publishers.push(publisher);
        }
        Ok(publishers)
    }

    /// How far a publisher's messages are at the central instance in all lanes.
    fn confirmed(&self, id: i64) -> Result<Confirmed> {
        let publisher = names::publisher(self.sql, id)?;
        let publisher = publisher.ok_or_else(|| damaged("a publisher is missing"))?;
        let mut find =
            self.sql.prepare("SELECT lane, last, central FROM mark WHERE publisher = ?")?;
        let mut rows = find.query([id])?;
        let (mut furthest, mut least_pending) = (0, u64::MAX);
        while let Some(row) = rows.next()? {
            let lane: usize = row.get(0)?;
            let central = row.get::<_, i64>(2)?.cast_unsigned();
            furthest = furthest.max(central);
            let acked = self.state.lanes.get(lane).map_or(0, |lane| lane.acked);
            if row.get::<_, i64>(1)? > to_i64(acked) {
                least_pending = least_pending.min(central);
            }
        }
        Ok(Confirmed { publisher, count: furthest.min(least_pending) })
    }
}
