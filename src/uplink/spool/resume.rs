//! What a lane's rows are worth when two sides meet again: those that the central instance has are gone,
//! whatever was noted of them here.

use super::entry::Moment;
use super::error::SpoolError;
use super::head::{Confirmed, Cursor};
use super::work::Work;
use super::{Local, Spool};
use crate::config::Lane;

impl Spool {
    /// Begins to send on a new link: the central instance has `count` of the epoch. What it has of the
    /// rows is acknowledged, as [`Spool::acknowledge_first`] does, however old it is and whoever noted
    /// that it was sent; what is behind that is not there.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn resume(
        &mut self,
        now: Moment,
        lane: Lane,
        count: u64,
    ) -> Result<(Cursor, Vec<Confirmed>), SpoolError> {
        self.run(now, "begin to send", |work| {
            let confirmed = work.acknowledge_any(lane, count)?;
            let confirmed = work.note_empty(lane, confirmed)?;
            work.memory.lanes[lane as usize].forget_sent();
            Ok((Cursor { seq: 0, count: work.state.lane(lane).head_count }, confirmed))
        })
    }

    /// Removes all rows of a lane: the central instance has them, which something else than its count
    /// says.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn settle(&mut self, now: Moment, lane: Lane) -> Result<Vec<Confirmed>, SpoolError> {
        self.run(now, "remove what was sent", |work| {
            let confirmed = work.acknowledge_any(lane, u64::MAX)?;
            let last = work.state.lane(lane).next - 1;
            work.forget_gaps(lane, last)?;
            work.note_empty(lane, confirmed)
        })
    }

    /// Says how far the local outbox was moved here, where that is not what [`Spool::append`] was told.
    /// On the disk when this returns.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn set_local(&mut self, now: Moment, lane: Lane, local: Local) -> Result<(), SpoolError> {
        self.run_durably(now, "note counts", |work| {
            let state = work.state.lane_mut(lane);
            (state.local_epoch, state.local_count) = (local.epoch, local.count);
            Ok(())
        })
    }
}

impl Work<'_> {
    /// Counts as gone what the central instance has up to `count`, as far as there are rows.
    fn acknowledge_any(&mut self, lane: Lane, count: u64) -> rusqlite::Result<Vec<Confirmed>> {
        let state = *self.state.lane(lane);
        self.memory.lanes[lane as usize].sent = state.next - 1;
        let most = state.head_count.saturating_add(state.held());
        let done = self.acknowledge(lane, count.min(most))?;
        done.map_err(|_| super::database::damaged("fewer rows than are counted"))
    }
}
