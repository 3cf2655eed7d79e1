//! Dropping rows: GAPs come in their place, and those that then stand together become one.

use fastport_wire::frame::GapCause;
use rusqlite::{Result, Row as SqlRow};

use super::append::to_i64;
use super::row::{self, What};
use super::run::Run;
use super::work::Work;
use crate::config::{Lane, WhenSpoolFull};

/// What is looked at to decide whether a row is dropped.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meta {
    pub(super) seq: u64,
    what: What,
    pub(super) topic: Option<i64>,
    count: u64,
    pub(super) policy: i64,
    pub(super) boot: Option<i64>,
    pub(super) at: i64,
    pub(super) max_age: i64,
    bytes: u64,
}

/// What a sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Swept {
    /// messages dropped
    pub(super) dropped: u64,
    /// where to go on; none: the lane's end was reached
    pub(super) next: Option<u64>,
    /// the first row that a later sweep could drop, if it decides as this one
    pub(super) settled: u64,
}

impl Work<'_> {
    /// Drops those of the lane's next messages, from `from` on, for which `decide` has a cause.
    /// Rows that may have been sent stay.
    pub(super) fn sweep(
        &mut self,
        lane: Lane,
        from: u64,
        decide: &mut dyn FnMut(&mut Self, &Meta) -> Result<Option<GapCause>>,
    ) -> Result<Swept> {
        let from = from.max(self.kept_from(lane));
        let (metas, is_end) = self.metas(lane, from)?;
        let mut dropped = 0;
        let mut span = Span::new(from);
        for meta in &metas {
            let cause = match meta.what {
                What::Gap(cause) => Some(cause),
                What::Message => decide(self, meta)?,
            };
            let Some(cause) = cause else {
                self.close(lane, std::mem::replace(&mut span, Span::new(meta.seq + 1)))?;
                continue;
            };
            span.run.add(meta.topic, cause, meta.count_of_messages());
            span.last = meta.seq;
            if meta.what == What::Message {
                span.has_messages = true;
                dropped += 1;
                self.state.lane_mut(lane).dropped[cause as usize] += 1;
            }
        }
        let settled = span.first;
        // the run at the end is met again, so that it can grow; it is far shorter than a sweep
        let next = (!is_end).then_some(settled);
        self.close(lane, span)?;
        self.memory.owes_sync |= dropped > 0;
        Ok(Swept { dropped, next, settled })
    }

    /// The first row that is neither gone nor may have been sent.
    fn kept_from(&self, lane: Lane) -> u64 {
        self.memory.lanes[lane as usize].sent.max(self.state.lane(lane).acked) + 1
    }

    /// Takes the GAPs at the lane's end out of it; those that may have been sent stay.
    pub(super) fn take_last_run(&mut self, lane: Lane) -> Result<Run> {
        let from = to_i64(self.kept_from(lane));
        let table = row::table(lane);
        let find = format!(
            "SELECT seq, what, topic, count, policy, boot, at, max_age, 0 FROM {table}
             WHERE seq >= ? ORDER BY seq DESC"
        );
        let mut find = self.sql.prepare(&find)?;
        let mut rows = find.query([from])?;
        let mut run = Run::default();
        let mut first = None;
        while let Some(row) = rows.next()? {
            let meta = Meta::read(row)?;
            let What::Gap(cause) = meta.what else { break };
            run.add(meta.topic, cause, meta.count);
            first = Some(meta.seq);
        }
        drop(rows);
        if let Some(first) = first {
            let delete = format!("DELETE FROM {table} WHERE seq >= ?");
            self.sql.execute(&delete, [to_i64(first)])?;
        }
        Ok(run)
    }

    /// Whether the lane has a later message of the topic.
    pub(super) fn is_superseded(&self, lane: Lane, meta: &Meta) -> Result<bool> {
        if meta.policy != WhenSpoolFull::Latest as i64 {
            return Ok(false);
        }
        let find = format!(
            "SELECT 1 FROM {} WHERE policy = 1 AND what = 0 AND topic = ? AND seq > ?",
            row::table(lane)
        );
        self.sql.prepare(&find)?.exists((meta.topic, to_i64(meta.seq)))
    }

    /// The next rows from `from` on, and whether they are the last.
    fn metas(&self, lane: Lane, from: u64) -> Result<(Vec<Meta>, bool)> {
        let find = format!(
            "SELECT seq, what, topic, count, policy, boot, at, max_age, length(payload) FROM {}
             WHERE seq >= ? ORDER BY seq",
            row::table(lane)
        );
        let mut find = self.sql.prepare(&find)?;
        let mut rows = find.query([to_i64(from)])?;
        let mut metas = Vec::new();
        let mut bytes = 0;
        while metas.len() < ROWS && bytes < self.room.batch_bytes() / 2 {
            let Some(row) = rows.next()? else { return Ok((metas, true)) };
            let meta = Meta::read(row)?;
            bytes += meta.bytes;
            metas.push(meta);
        }
        Ok((metas, false))
    }

    /// Writes a run in place of the rows that it is made of.
    fn close(&mut self, lane: Lane, mut span: Span) -> Result<()> {
        if !span.has_messages && !span.run.is_shorter() {
            return Ok(());
        }
        let delete = format!("DELETE FROM {} WHERE seq BETWEEN ? AND ?", row::table(lane));
        self.sql.execute(&delete, (to_i64(span.first), to_i64(span.last)))?;
        span.run.write(&mut row::insert(self.sql, lane)?, &mut span.first)
    }
}

impl Meta {
    fn read(row: &SqlRow<'_>) -> Result<Self> {
        let number: i64 = row.get(1)?;
        let what =
            What::from_number(number).ok_or(rusqlite::Error::IntegralValueOutOfRange(1, number))?;
        Ok(Self {
            seq: row.get(0)?,
            what,
            topic: row.get(2)?,
            count: row.get::<_, i64>(3)?.cast_unsigned(),
            policy: row.get(4)?,
            boot: row.get(5)?,
            at: row.get(6)?,
            max_age: row.get(7)?,
            bytes: row.get::<_, Option<u64>>(8)?.unwrap_or(0),
        })
    }

    fn count_of_messages(&self) -> u64 {
        match self.what {
            What::Message => 1,
            What::Gap(_) => self.count,
        }
    }
}

/// Rows that become one run.
struct Span {
    first: u64,
    last: u64,
    has_messages: bool,
    run: Run,
}

impl Span {
    fn new(first: u64) -> Self {
        Self { first, last: first, has_messages: false, run: Run::default() }
    }
}

/// Rows of one sweep, several times [`super::run::MOST_GAPS`].
const ROWS: usize = 2048;
