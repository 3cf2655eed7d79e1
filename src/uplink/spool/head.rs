//! What is sent next, and what the central instance has.

use fastport_wire::frame::GapCause;
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
        let mut rows = find.query([to_i64(cursor.seq.max(self.state.lane(lane).acked))])?;
        let (mut topics, mut ages) = (Topics::default(), Ages::default());
        let (mut read, mut bytes) = (Vec::new(), 0);
        while read.len() < most_rows.max(1) && (read.is_empty() || bytes < most_bytes) {
            let Some(row) = rows.next()? else { break };
            let stored = Stored::read(row)?.ok_or_else(|| damaged("a row of another sum"))?;
            let is_message = stored.what == What::Message;
            if is_message && self.is_over(lane, &stored, &mut ages)? {
                return Ok((!read.is_empty()).then_some((read, cursor)));
            }
            bytes += stored.payload.map_or(0, <[u8]>::len);
            cursor.seq = stored.seq.cast_unsigned();
            cursor.count += u64::from(is_message);
            let body = self.body(&stored, &mut topics)?;
            read.push(Row { seq: cursor.seq, central_count: cursor.count, body });
        }
        Ok(Some((read, cursor)))
    }

    /// Counts as gone what the central instance has, up to its count. `Err`: how much it can have at most.
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
        let (acked, sent) = (to_i64(state.acked), to_i64(self.memory.lanes[lane as usize].sent));
        let find = format!(
            "SELECT seq FROM {table} WHERE what = 0 AND seq > ? AND seq <= ?
             ORDER BY seq LIMIT 1 OFFSET ?"
        );
        let place = to_i64(messages - 1);
        let last = self.sql.query_row(&find, (acked, sent, place), |row| row.get::<_, i64>(0));
        let Some(last) = last.optional()? else {
            let find =
                format!("SELECT COUNT(*) FROM {table} WHERE what = 0 AND seq > ? AND seq <= ?");
            let most: u64 = self.sql.query_row(&find, (acked, sent), |row| row.get(0))?;
            return Ok(Err(state.head_count + most));
        };
        let publishers = self.mark_central(lane, acked, last)?;
        let state = self.state.lane_mut(lane);
        state.acked = last.cast_unsigned();
        state.head_count = count;
        state.acknowledged += messages;
        publishers.into_iter().map(|id| self.confirmed(id)).collect::<Result<_>>().map(Ok)
    }

    /// Drops the lane's first message, with the GAPs before it.
    pub(super) fn refuse_first(&mut self, lane: Lane) -> Result<Option<Vec<Confirmed>>> {
        let find = format!(
            "SELECT seq FROM {} WHERE what = 0 AND seq > ? ORDER BY seq LIMIT 1",
            row::table(lane)
        );
        let acked = to_i64(self.state.lane(lane).acked);
        let first = self.sql.query_row(&find, [acked], |row| row.get::<_, i64>(0));
        let Some(first) = first.optional()? else { return Ok(None) };
        let publishers = self.mark_central(lane, acked, first)?;
        let state = self.state.lane_mut(lane);
        state.acked = first.cast_unsigned();
        state.dropped[GapCause::Other as usize] += 1;
        publishers.into_iter().map(|id| self.confirmed(id)).collect::<Result<_>>().map(Some)
    }

    /// Removes GAPs at the lane's start, up to a row.
    pub(super) fn forget_gaps(&mut self, lane: Lane, through: u64) -> Result<()> {
        let find = format!(
            "SELECT MAX(seq) FROM {0} WHERE seq > ?1 AND seq <= ?2 AND seq < COALESCE(
                (SELECT seq FROM {0} WHERE seq > ?1 AND what = 0 ORDER BY seq LIMIT 1), ?2 + 1)",
            row::table(lane)
        );
        let acked = self.state.lane(lane).acked;
        let range = (to_i64(acked), to_i64(through));
        let last: Option<u64> = self.sql.query_row(&find, range, |row| row.get(0))?;
        self.state.lane_mut(lane).acked = last.unwrap_or(acked);
        Ok(())
    }

    /// Whether the lane has rows.
    pub(super) fn has_rows(&self, lane: Lane) -> Result<bool> {
        let find = format!("SELECT 1 FROM {} WHERE seq > ? LIMIT 1", row::table(lane));
        self.sql.prepare(&find)?.exists([to_i64(self.state.lane(lane).acked)])
    }

    /// Since which boot, and when, the lane's first message waits.
    pub(super) fn first_time(&self, lane: Lane) -> Result<Option<(Option<i64>, i64)>> {
        let find = format!(
            "SELECT boot, at FROM {} WHERE what = 0 AND seq > ? ORDER BY seq LIMIT 1",
            row::table(lane)
        );
        let acked = to_i64(self.state.lane(lane).acked);
        self.sql.query_row(&find, [acked], |row| Ok((row.get(0)?, row.get(1)?))).optional()
    }

    fn is_over(&self, lane: Lane, stored: &Stored<'_>, ages: &mut Ages) -> Result<bool> {
        if stored.seq <= to_i64(self.memory.lanes[lane as usize].sent) {
            return Ok(false);
        }
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
        let boot = names::boot_by_number(self.sql, boot)?;
        if let Some(offset) = boot.offset {
            return Ok(Stamp::Unix(at.saturating_add_signed(offset)));
        }
        Ok(Stamp::OtherBoot { boot: boot.name.into(), ms: at })
    }
}
