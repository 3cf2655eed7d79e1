//! Making room, in the order of what is missed least: names that nothing uses, rows that are gone, values that newer
//! ones took the place of, then the oldest of the least urgent.

use fastport_wire::frame::GapCause;
use rusqlite::Result;

use super::names;
use super::row;
use super::state::LANES;
use super::sweep::Meta;
use super::work::Work;
use crate::config::{Lane, WhenSpoolFull};

impl Work<'_> {
    /// Drops some of what may be dropped for a batch of `lane`: nothing of a more urgent one.
    /// `false`: there is no more.
    pub(super) fn make_room(&mut self, lane: Lane) -> Result<bool> {
        for lane in LANES {
            if self.free_gone(lane)? {
                return Ok(true);
            }
        }
        if names::count(self.sql)? > 2 * self.memory.names_used + NAMES {
            names::tidy(self.sql, self.boot)?;
            self.memory.names_used = names::count(self.sql)?;
            return Ok(true);
        }
        let may_drop = || LANES.into_iter().rev().filter(|other| *other as u8 >= lane as u8);
        for lane in may_drop() {
            if self.thin_out(lane)? {
                return Ok(true);
            }
        }
        for lane in may_drop() {
            if self.drop_oldest(lane)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Frees pages of rows that the central instance has; whether there were some.
    fn free_gone(&mut self, lane: Lane) -> Result<bool> {
        let table = row::table(lane);
        let first = format!("SELECT MIN(seq) FROM {table}");
        let first: Option<u64> = self.sql.query_row(&first, [], |row| row.get(0))?;
        let acked = self.state.lane(lane).acked;
        let Some(first) = first.filter(|first| *first <= acked) else { return Ok(false) };
        let last = acked.min(first + ROWS);
        self.sql.execute(&format!("DELETE FROM {table} WHERE seq <= ?"), [last])?;
        Ok(true)
    }

    /// Drops messages under the policy `latest` that newer ones took the place of; whether it did
    /// or will with the next call.
    fn thin_out(&mut self, lane: Lane) -> Result<bool> {
        let memory = &self.memory.lanes[lane as usize];
        // not for each batch through all rows
        let is_due = memory.latest_new > memory.latest_left / 4;
        if memory.thinning.is_none() && !is_due {
            return Ok(false);
        }
        let (from, mut left) = memory.thinning.unwrap_or((0, 0));
        let swept = self.sweep(lane, from, &mut |work, meta| {
            let is_superseded = work.is_superseded(lane, meta)?;
            left += u64::from(!is_superseded && meta.policy == WhenSpoolFull::Latest as i64);
            Ok(is_superseded.then_some(GapCause::Superseded))
        })?;
        let memory = &mut self.memory.lanes[lane as usize];
        memory.thinning = swept.next.map(|next| (next, left));
        if swept.next.is_none() {
            (memory.latest_new, memory.latest_left) = (0, left);
        }
        Ok(swept.dropped > 0 || swept.next.is_some())
    }

    /// Drops the oldest that do not ask their publishers to wait; as [`Work::thin_out`].
    fn drop_oldest(&mut self, lane: Lane) -> Result<bool> {
        let from = self.memory.lanes[lane as usize].droppable_from;
        let swept = self.sweep(lane, from, &mut |work: &mut Self, meta: &Meta| {
            if meta.policy == WhenSpoolFull::SlowPublisher as i64 {
                return Ok(None);
            }
            let is_superseded = work.is_superseded(lane, meta)?;
            Ok(Some(if is_superseded { GapCause::Superseded } else { GapCause::Overflow }))
        })?;
        self.memory.lanes[lane as usize].droppable_from = swept.settled;
        Ok(swept.dropped > 0 || swept.next.is_some())
    }
}

/// So many names without use are left in peace.
const NAMES: u64 = 1024;
/// Rows that are freed at a time.
const ROWS: u64 = 2048;
