//! The spool's second level: rows on disk, in SQLite, for an outage that outlasts memory.
//!
//! What [`Spool::append`] has taken is on the disk when it returns, and stays there until the central
//! instance has it, it is too old, or it is full and the row's policy lets it go; then a GAP is in its
//! place. Rows that may have been sent are never dropped: so the count of each row at the central
//! instance, which is its place, does not change. Counts lie in the same transaction as the rows,
//! so a crash between any two steps neither loses nor doubles one. At any time
//! `appended = acknowledged + held + dropped`.
//!
//! A damaged file is set aside, what can be read of it is saved, and the spool goes on.
//!
//! Everything here waits for the disk: one task owns a spool and calls it where that may be. It never
//! starts a thread, and never reads a clock but to bound [`Limits::check`].

mod age;
mod append;
mod database;
mod entry;
mod error;
mod flash;
mod full;
mod head;
mod limits;
mod log;
mod marks;
mod names;
mod open;
mod resume;
mod row;
mod run;
mod salvage;
mod state;
mod sum;
mod sweep;
#[cfg(test)]
mod tests;
mod work;

use std::path::PathBuf;

use fastport_wire::frame::GapCause;

pub use append::{Appended, Local};
use append::{FlashLeft, Verdict, bytes_of, judge};
pub use entry::{Body, Entry, Message, Moment, Publisher, Row, Stamp, Topic};
pub use error::{SetAside, SpoolError};
pub use head::{Confirmed, Cursor};
pub use limits::Limits;
use limits::Room;
use open::Inner;
pub use open::Opened;
use state::{LANES, SENT_ALL};

use crate::config::Lane;

/// Rows on disk.
#[derive(Debug)]
pub struct Spool {
    path: PathBuf,
    limits: Limits,
    room: Room,
    boot: String,
    /// none: it could not be opened, or not again after it was set aside; the next call tries
    inner: Option<Inner>,
}

/// A lane's counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneCounts {
    /// The epoch of the link to the central instance; none: not known, a new one is needed.
    pub epoch: Option<u64>,
    /// What the central instance has of the epoch; the first message held is one more.
    pub head_count: u64,
    /// How far the local outbox was moved here; none: never.
    pub local: Option<Local>,
    /// Messages held.
    pub held: u64,
    /// Whether there is a row, be it a GAP.
    pub has_rows: bool,
}

/// A lane's ledger: `appended = acknowledged + held + dropped`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneFigures {
    /// Messages that came in.
    pub appended: u64,
    /// Of those, messages that the central instance has.
    pub acknowledged: u64,
    /// Of those, messages that wait.
    pub held: u64,
    /// Of those, messages that were dropped, by cause.
    pub dropped: [u64; GapCause::ALL.len()],
    /// How long the first that waits has waited, in milliseconds; it may be more where the clock was
    /// not set in between.
    pub oldest_ms: Option<u64>,
}

/// Figures of a spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// By lane, the most urgent first.
    pub lanes: [LaneFigures; 3],
    /// Bytes of the file and its log.
    pub bytes: u64,
    /// Bytes written today.
    pub flash_today: u64,
}

impl Spool {
    /// Takes a batch behind the lane's rows, whole or not at all, in one transaction with `local`. It
    /// is on the disk when this returns.
    ///
    /// # Errors
    /// [`SpoolError`]; then nothing was taken.
    pub fn append(
        &mut self,
        now: Moment,
        lane: Lane,
        entries: &[Entry<'_>],
        local: Option<Local>,
    ) -> Result<Appended, SpoolError> {
        self.append_behind(now, lane, entries, local, 0)
    }

    /// As [`Spool::append`], where the first `maybe_sent` messages of the batch may be at the central
    /// instance already, if all rows before them are: none of them is dropped.
    ///
    /// # Errors
    /// As [`Spool::append`].
    pub fn append_behind(
        &mut self,
        now: Moment,
        lane: Lane,
        entries: &[Entry<'_>],
        local: Option<Local>,
        maybe_sent: u64,
    ) -> Result<Appended, SpoolError> {
        let room = self.room;
        let (bytes, free, maybe_sent) = self.run(now, "look for room", |work| {
            work.expire()?;
            // what is behind a row that was not sent was not sent either
            let maybe_sent = if work.has_unsent(lane)? { 0 } else { maybe_sent };
            Ok((bytes_of(work, entries), work.free_bytes()?, maybe_sent))
        })?;
        if bytes > room.batch_bytes() {
            return Err(SpoolError::BatchTooLarge { bytes, most: room.batch_bytes() });
        }
        if free < bytes {
            self.make_room(now, lane, bytes)?;
        }
        let limit = self.limits.flash_per_day;
        self.run_durably(now, "append", |work| {
            let flash = FlashLeft::new(limit, work.state.flash.bytes);
            let cost = |entry: &Entry<'_>| bytes_of(work, std::slice::from_ref(entry));
            let drop_first = match judge(entries, cost, work.free_bytes()?, flash, maybe_sent) {
                Verdict::Take { drop_first } => drop_first,
                Verdict::Refuse(refusal) => return Ok(refusal),
            };
            let dropped = work.append(lane, entries, drop_first, maybe_sent)?;
            if let Some(local) = local {
                let state = work.state.lane_mut(lane);
                (state.local_epoch, state.local_count) = (local.epoch, local.count);
            }
            Ok(Appended::Taken { dropped })
        })
    }

    /// The most that a batch may take on disk: payloads, and up to 64 bytes for each row. A larger
    /// message is never taken.
    #[must_use]
    pub fn batch_bytes(&self) -> u64 {
        self.room.batch_bytes()
    }

    /// A lane's counts.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn counts(&mut self, now: Moment, lane: Lane) -> Result<LaneCounts, SpoolError> {
        self.run(now, "read", |work| {
            let state = work.state.lane(lane);
            Ok(LaneCounts {
                epoch: (state.epoch != 0).then_some(state.epoch),
                head_count: state.head_count,
                local: (state.local_epoch != 0)
                    .then_some(Local { epoch: state.local_epoch, count: state.local_count }),
                held: state.held(),
                has_rows: work.has_rows(lane)?,
            })
        })
    }

    /// Says what the central instance has before the first row comes into an empty lane. Written
    /// with the next batch.
    ///
    /// # Errors
    /// [`SpoolError::NotEmpty`], and others.
    pub fn start_at(
        &mut self,
        now: Moment,
        lane: Lane,
        epoch: u64,
        head_count: u64,
    ) -> Result<(), SpoolError> {
        if self.counts(now, lane)?.has_rows {
            return Err(SpoolError::NotEmpty(lane));
        }
        let inner = self.inner(now)?;
        let state = inner.state.lane_mut(lane);
        (state.epoch, state.head_count) = (epoch, head_count);
        Ok(())
    }

    /// Begins a new epoch with the central instance: it has nothing of it, and all rows are to be sent.
    /// On the disk when this returns.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn restart(&mut self, now: Moment, lane: Lane, epoch: u64) -> Result<(), SpoolError> {
        self.run_durably(now, "begin an epoch", |work| {
            let state = work.state.lane_mut(lane);
            (state.epoch, state.head_count, state.sent) = (epoch, 0, 0);
            work.memory.lanes[lane as usize].forget_sent();
            Ok(())
        })
    }

    /// Begins to send on a new link, after [`Spool::acknowledge`] of what the central instance says
    /// that it has: whatever else was sent is not there.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn begin(&mut self, now: Moment, lane: Lane) -> Result<Cursor, SpoolError> {
        let inner = self.inner(now)?;
        inner.memory.lanes[lane as usize].forget_sent();
        Ok(Cursor { seq: 0, count: inner.state.lane(lane).head_count })
    }

    /// The rows behind the cursor, to be sent: one at least, where there is one. They are noted as
    /// sent, so they stay until the central instance has them.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn read(
        &mut self,
        now: Moment,
        lane: Lane,
        cursor: &mut Cursor,
        most_rows: usize,
        most_bytes: usize,
    ) -> Result<Vec<Row>, SpoolError> {
        loop {
            let from = *cursor;
            let read = self.run(now, "read", |work| {
                let read = work.read(lane, from, most_rows, most_bytes)?;
                if read.is_none() {
                    work.expire_from(lane, from.seq + 1)?;
                }
                Ok(read)
            })?;
            let Some((rows, to)) = read else { continue };
            if !rows.is_empty() {
                self.note_sent(now, lane, to.seq)?;
                *cursor = to;
            }
            return Ok(rows);
        }
    }

    /// Ends sending: the link is gone. What was read may be at the central instance.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn end(&mut self, now: Moment, lane: Lane) -> Result<(), SpoolError> {
        self.run(now, "end a link", |work| {
            let sent = work.memory.lanes[lane as usize].sent;
            work.state.lane_mut(lane).sent = sent;
            Ok(())
        })
    }

    /// Removes what the central instance has, by its count of the lane's epoch; says how far their
    /// publishers' messages are there.
    ///
    /// # Errors
    /// [`SpoolError::BeyondSent`], and others.
    pub fn acknowledge(
        &mut self,
        now: Moment,
        lane: Lane,
        count: u64,
    ) -> Result<Vec<Confirmed>, SpoolError> {
        let confirmed = self.acknowledge_first(now, lane, count)?;
        self.rest(now);
        Ok(confirmed)
    }

    /// As [`Spool::acknowledge`], and whose messages these were is remembered until [`Spool::rest`]:
    /// a caller that crashes before the publishers are told finds it in [`Spool::confirmed`].
    ///
    /// # Errors
    /// As [`Spool::acknowledge`].
    pub fn acknowledge_first(
        &mut self,
        now: Moment,
        lane: Lane,
        count: u64,
    ) -> Result<Vec<Confirmed>, SpoolError> {
        let done =
            self.run(now, "remove what was sent", |work| match work.acknowledge(lane, count)? {
                Ok(confirmed) => work.note_empty(lane, confirmed).map(Ok),
                Err(most) => Ok(Err(most)),
            })?;
        done.map_err(|most| SpoolError::BeyondSent { lane, count, most })
    }

    /// How far all publishers' messages are at the central instance: what [`Spool::acknowledge`] said,
    /// which may not have been heard.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn confirmed(&mut self, now: Moment) -> Result<Vec<Confirmed>, SpoolError> {
        self.run(now, "read", |work| work.all_confirmed())
    }

    /// Drops the lane's first message, which the central instance does not take: all before it is
    /// there, so no count changes. What its publisher waited for is over. `None`: there is none.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn refuse_first(
        &mut self,
        now: Moment,
        lane: Lane,
    ) -> Result<Option<Vec<Confirmed>>, SpoolError> {
        self.run_durably(now, "drop what is refused", |work| {
            let done = work.refuse_first(lane)?;
            done.map(|confirmed| work.note_empty(lane, confirmed)).transpose()
        })
    }

    /// Removes the GAPs at the lane's start up to the row `through`: the central instance has them,
    /// which no count says when no message is behind them. How far publishers' messages are there: whose
    /// they were is remembered until [`Spool::rest`].
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn forget_gaps(
        &mut self,
        now: Moment,
        lane: Lane,
        through: u64,
    ) -> Result<Vec<Confirmed>, SpoolError> {
        self.run(now, "remove what was sent", |work| {
            work.forget_gaps(lane, through)?;
            work.note_empty(lane, Vec::new())
        })
    }

    /// Drops what is too old, a part at a time; how many messages. [`Spool::append`] does so too, and
    /// [`Spool::read`] gives none that is.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn expire(&mut self, now: Moment) -> Result<u64, SpoolError> {
        self.run(now, "look for old rows", |work| work.expire())
    }

    /// The figures.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn figures(&mut self, now: Moment) -> Result<Figures, SpoolError> {
        let bytes = database::bytes_on_disk(&self.path);
        self.run(now, "read", |work| {
            let mut lanes = LANES.map(|lane| {
                let state = work.state.lane(lane);
                LaneFigures {
                    appended: state.appended,
                    acknowledged: state.acknowledged,
                    held: state.held(),
                    dropped: state.dropped,
                    oldest_ms: None,
                }
            });
            for (lane, figures) in LANES.into_iter().zip(&mut lanes) {
                figures.oldest_ms = work.oldest(lane)?;
            }
            Ok(Figures { lanes, bytes, flash_today: work.state.flash.bytes })
        })
    }

    /// Drops what may be dropped until a batch of `bytes` has room, and a little more: so that not
    /// every batch has to.
    fn make_room(&mut self, now: Moment, lane: Lane, bytes: u64) -> Result<(), SpoolError> {
        let wanted = bytes + self.room.spare_bytes();
        loop {
            let goes_on = self.run(now, "make room", |work| {
                Ok(work.free_bytes()? < wanted && work.make_room(lane)?)
            })?;
            if !goes_on {
                return Ok(());
            }
        }
    }

    /// Notes that rows are being sent, before the first of them is; and makes sure that none that was
    /// dropped before them comes back, which would change their counts.
    fn note_sent(&mut self, now: Moment, lane: Lane, seq: u64) -> Result<(), SpoolError> {
        let inner = self.inner(now)?;
        if inner.state.lane(lane).sent != SENT_ALL || inner.memory.owes_sync {
            self.run_durably(now, "begin to send", |work| {
                work.state.lane_mut(lane).sent = SENT_ALL;
                work.must_save = true;
                Ok(())
            })?;
        }
        let memory = &mut self.inner(now)?.memory.lanes[lane as usize];
        memory.sent = memory.sent.max(seq);
        Ok(())
    }
}
