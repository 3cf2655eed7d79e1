//! How far publishers' messages are at the central instance, over all lanes: a publisher's count
//! includes those that went to other lanes, so it is there only as far as the slowest lane is.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, Result, Row as SqlRow, Statement};

use super::append::to_i64;
use super::database::damaged;
use super::head::Confirmed;
use super::names;
use super::row;
use super::sum::Sum;
use super::work::Work;
use crate::config::Lane;

/// A publisher's messages in a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    /// The first one's count.
    pub(super) first: u64,
    /// The last one's place; of one that was dropped, a GAP's.
    pub(super) last_seq: u64,
    /// The last one's count.
    pub(super) last: u64,
}

impl Span {
    /// A publisher's next message.
    pub(super) fn note(spans: &mut HashMap<i64, Self>, publisher: i64, count: u64, seq: u64) {
        let first = spans.get(&publisher).map_or(count, |span| span.first);
        spans.insert(publisher, Self { first, last_seq: seq, last: count });
    }
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    publisher: i64,
    lane: i64,
    /// place of its last row in the lane
    last: i64,
    /// its count up to which the lane holds nothing any more
    central: u64,
}

impl Work<'_> {
    /// Notes publishers' messages of a batch.
    pub(super) fn write_marks(&mut self, lane: Lane, spans: &HashMap<i64, Span>) -> Result<()> {
        let acked = to_i64(self.state.lane(lane).acked);
        let (mut find, mut write) = (Mark::find(self.sql)?, Mark::write(self.sql)?);
        for (&publisher, span) in spans {
            let last = to_i64(span.last_seq);
            let before = span.first.saturating_sub(1);
            let mark = find.query_row((publisher, lane as i64), Mark::read).optional()?;
            let mark = match mark {
                // where nothing of it was under way, all before its first message is done
                Some(mark) if mark.last <= acked => {
                    Mark { last, central: mark.central.max(before), ..mark }
                }
                Some(mark) => Mark { last, ..mark },
                None => Mark { publisher, lane: lane as i64, last, central: before },
            };
            mark.put(&mut write)?;
            // what gives way has no row with its count any more, and is over with the last row
            let lane = mark.lane + TAIL;
            Mark { lane, last, central: span.last, ..mark }.put(&mut write)?;
        }
        Ok(())
    }

    /// Notes how far publishers' messages are at the central instance, once the lane's rows behind
    /// `acked` up to `last` are; which publishers these are.
    pub(super) fn mark_central(&mut self, lane: Lane, acked: i64, last: i64) -> Result<Vec<i64>> {
        let find = format!(
            "SELECT publisher, MAX(count) FROM {}
             WHERE seq > ? AND seq <= ? AND what = 0 AND publisher IS NOT NULL
             GROUP BY publisher",
            row::table(lane)
        );
        let mut find = self.sql.prepare(&find)?;
        let (mut find_mark, mut write) = (Mark::find(self.sql)?, Mark::write(self.sql)?);
        let mut publishers = Vec::new();
        let mut rows = find.query((acked, last))?;
        while let Some(row) = rows.next()? {
            let (publisher, count): (i64, i64) = (row.get(0)?, row.get(1)?);
            let mark = find_mark.query_row((publisher, lane as i64), Mark::read).optional()?;
            let mark = mark.ok_or_else(|| damaged("a mark is missing"))?;
            let central = mark.central.max(count.cast_unsigned());
            Mark { central, ..mark }.put(&mut write)?;
            publishers.push(publisher);
        }
        Ok(publishers)
    }

    /// How far each publisher's messages are.
    pub(super) fn all_confirmed(&self) -> Result<Vec<Confirmed>> {
        let mut find = self.sql.prepare("SELECT DISTINCT publisher FROM mark")?;
        let ids = find.query_map([], |row| row.get::<_, i64>(0))?.collect::<Result<Vec<_>>>()?;
        let all = ids.into_iter().map(|id| self.confirmed(id)).collect::<Result<Vec<_>>>()?;
        Ok(all.into_iter().filter(|confirmed| confirmed.count > 0).collect())
    }

    /// How far a publisher's messages are at the central instance in all lanes.
    pub(super) fn confirmed(&self, id: i64) -> Result<Confirmed> {
        let publisher = names::publisher(self.sql, id)?;
        let publisher = publisher.ok_or_else(|| damaged("a publisher is missing"))?;
        let mut find = self.sql.prepare(&format!("SELECT {MARK} FROM mark WHERE publisher = ?"))?;
        let mut rows = find.query([id])?;
        let (mut furthest, mut least_pending) = (0, u64::MAX);
        while let Some(row) = rows.next()? {
            let mark = Mark::read(row)?;
            let is_tail = mark.lane >= TAIL;
            let lane = usize::try_from(mark.lane % TAIL).ok();
            let lane = lane.and_then(|at| self.state.lanes.get(at));
            let acked = lane.ok_or_else(|| damaged("a mark of no lane"))?.acked;
            let is_pending = mark.last > to_i64(acked);
            if !(is_tail && is_pending) {
                furthest = furthest.max(mark.central);
            }
            if is_pending && !is_tail {
                least_pending = least_pending.min(mark.central);
            }
        }
        Ok(Confirmed { publisher, count: furthest.min(least_pending) })
    }
}

/// Makes the marks of a lane from its rows: what is held is not at the central instance, and what was
/// before it is.
pub(super) fn rebuild(sql: &Connection, lane: Lane) -> Result<()> {
    let find = format!(
        "SELECT publisher, MAX(seq), MIN(count) FROM {}
         WHERE what = 0 AND publisher IS NOT NULL GROUP BY publisher",
        row::table(lane)
    );
    let (mut find, mut write) = (sql.prepare(&find)?, Mark::write(sql)?);
    let mut rows = find.query([])?;
    while let Some(row) = rows.next()? {
        let first = row.get::<_, i64>(2)?.cast_unsigned();
        let central = first.saturating_sub(1);
        let mark = Mark { publisher: row.get(0)?, lane: lane as i64, last: row.get(1)?, central };
        mark.put(&mut write)?;
    }
    Ok(())
}

impl Mark {
    /// The statement that finds one, by publisher and lane.
    fn find(sql: &Connection) -> Result<Statement<'_>> {
        sql.prepare(&format!("SELECT {MARK} FROM mark WHERE publisher = ? AND lane = ?"))
    }

    /// The statement for [`Mark::put`].
    fn write(sql: &Connection) -> Result<Statement<'_>> {
        sql.prepare(&format!("INSERT OR REPLACE INTO mark ({MARK}) VALUES (?, ?, ?, ?, ?)"))
    }

    fn read(row: &SqlRow<'_>) -> Result<Self> {
        let central = row.get::<_, i64>(3)?.cast_unsigned();
        let mark = Self { publisher: row.get(0)?, lane: row.get(1)?, last: row.get(2)?, central };
        if row.get::<_, i64>(4)? != mark.sum() {
            return Err(damaged("a mark of another sum"));
        }
        Ok(mark)
    }

    fn put(&self, write: &mut Statement<'_>) -> Result<()> {
        let Self { publisher, lane, last, central } = self;
        let central = central.cast_signed();
        write.execute((publisher, lane, last, central, self.sum())).map(|_| ())
    }

    fn sum(&self) -> i64 {
        Sum::new()
            .number(self.publisher)
            .number(self.lane)
            .number(self.last)
            .number(self.central.cast_signed())
            .finish()
    }
}

/// Added to a lane's number: the mark of the publisher's last message in the lane, whatever became of it.
const TAIL: i64 = 3;
const MARK: &str = "publisher, lane, last, central, sum";
