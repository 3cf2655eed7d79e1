//! What is done within one transaction.

use rusqlite::{Connection, Result};

use super::age::Ages;
use super::database;
use super::entry::Moment;
use super::head::Confirmed;
use super::limits::Room;
use super::row;
use super::state::{LANES, SENT_ALL, State};
use crate::config::Lane;

/// The spool within a transaction. What it changes of `state` and `memory` is undone with it.
pub(super) struct Work<'a> {
    pub(super) sql: &'a Connection,
    pub(super) state: &'a mut State,
    pub(super) memory: &'a mut Memory,
    pub(super) room: Room,
    pub(super) now: Moment,
    /// this boot's number
    pub(super) boot: i64,
    /// the counts are to be written, even if they are as they were
    pub(super) must_save: bool,
}

/// What need not be stored.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Memory {
    pub(super) lanes: [LaneMemory; LANES.len()],
    /// the offset of this boot is stored
    pub(super) offset: Option<i64>,
    /// the earliest that this boot can have been, by all that the clock showed so far
    pub(super) least_offset: Option<i64>,
    /// names in the file after those without use were removed
    pub(super) names_used: u64,
    /// rows were dropped, and a loss of power could bring them back
    pub(super) owes_sync: bool,
    /// days since the boot, where the clock is not set: for the flash bytes of a day
    pub(super) day: u64,
    /// when to look for old rows again, in milliseconds since the boot
    pub(super) age_check_at: u64,
}

/// Of a lane.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LaneMemory {
    /// rows up to here may have been sent: exact, where [`super::state::LaneState::sent`] is not
    pub(super) sent: u64,
    /// before it no row can be dropped to make room
    pub(super) droppable_from: u64,
    /// messages under the policy `latest` since the lane was thinned out
    pub(super) latest_new: u64,
    /// and those that were left then
    pub(super) latest_left: u64,
    /// where thinning goes on, and how many it has left so far
    pub(super) thinning: Option<(u64, u64)>,
    /// no row of the lane has a shorter maximum age, in seconds; 0: not known
    pub(super) least_age: u64,
    /// where looking for old rows goes on, and the shortest maximum age so far
    pub(super) aging: Option<(u64, u64)>,
}

impl Work<'_> {
    /// Bytes that messages may still take of the file.
    pub(super) fn free_bytes(&self) -> Result<u64> {
        let pages = self.room.full_pages.saturating_sub(database::pages_in_use(self.sql)?);
        Ok(pages * self.room.page)
    }

    /// Notes, where a lane has no rows, that nothing of it is under way; and frees the pages of those
    /// that it had.
    ///
    /// `confirmed`: of the rows that went just now; where nothing is left it is all publishers, for a GAP
    /// does not say whose messages it stands for.
    pub(super) fn note_empty(
        &mut self,
        lane: Lane,
        confirmed: Vec<Confirmed>,
    ) -> Result<Vec<Confirmed>> {
        if !self.has_rows(lane)? {
            let state = self.state.lane_mut(lane);
            state.acked = state.next - 1;
            // a whole table: its pages are not even read
            self.sql.execute(&format!("DELETE FROM {}", row::table(lane)), [])?;
            return self.all_confirmed();
        }
        Ok(confirmed)
    }

    /// How long the lane's first message has waited, in milliseconds.
    pub(super) fn oldest(&self, lane: Lane) -> Result<Option<u64>> {
        let Some((boot, at)) = self.first_time(lane)? else { return Ok(None) };
        Ages::default().of(self, boot, at).map(Some)
    }
}

impl LaneMemory {
    /// Nothing that was sent is at the central instance.
    pub(super) fn forget_sent(&mut self) {
        (self.sent, self.droppable_from, self.thinning, self.aging) = (0, 0, None, None);
        self.latest_new = self.latest_new.max(1);
    }
}

impl Memory {
    /// After a start: what may have been sent is what the last run left.
    pub(super) fn new(state: &State) -> Self {
        let mut memory = Self::default();
        for (lane, stored) in memory.lanes.iter_mut().zip(&state.lanes) {
            lane.sent = if stored.sent == SENT_ALL { stored.next - 1 } else { stored.sent };
            // not known: look once
            lane.latest_new = 1;
        }
        memory
    }
}
