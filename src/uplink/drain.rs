//! The rows on disk, on their way to the central instance: they go before what the local session has.
//!
//! One piece of work at a time is with the disk; [`Drain::poll`] gives what came of it, and
//! [`Drain::start`] begins the next.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::filler::Filler;
use super::fresh::Fresh;
use super::local::Place;
use super::spool::{Appended, Body, Confirmed, Cursor, Row, SpoolError};
use super::store::{Batch, DiskLog, Store};
use crate::config::Lane;

/// What a link has to do with a lane's rows.
pub(super) struct Drain {
    store: Arc<Store>,
    /// of the store, when this began
    life: u64,
    lane: Lane,
    /// of the lane at the central instance
    epoch: u64,
    local_epoch: u64,
    cursor: Option<Cursor>,
    /// read, and not sent
    pub(super) rows: VecDeque<Row>,
    is_all_read: bool,
    /// The central instance's count once it has all rows that were read.
    end: u64,
    /// Of that, what the store was told that is there.
    acked: u64,
    /// What it is to begin with; see [`Drain::begin`].
    begins_with: Option<Option<u64>>,
    /// The last row that was read, if it is a GAP: no count will say that it has come.
    last_gap: Option<u64>,
    /// Bytes of the link that have to have arrived for that.
    mark: Option<u64>,
    has_rested: bool,
    /// Reads what the local session has.
    pub(super) filler: Option<Filler>,
    /// What it read goes behind the rows.
    pub(super) is_gathering: bool,
    /// What came while rows waited and does not ask for delivery: it goes before them.
    fresh: Fresh,
    job: Option<Job>,
    log: DiskLog,
    /// after a failure: not before then
    not_before: Option<tokio::time::Instant>,
}

type Job = Pin<Box<dyn Future<Output = Done> + Send>>;

enum Done {
    Began(Result<(Cursor, Vec<Confirmed>), SpoolError>),
    Read(Result<(Cursor, Vec<Row>), SpoolError>),
    Acknowledged(u64, Result<Vec<Confirmed>, SpoolError>),
    Appended(u64, Result<Appended, SpoolError>),
    Refused(Result<(Cursor, Vec<Confirmed>), SpoolError>),
    Forgotten(Result<Vec<Confirmed>, SpoolError>),
    Rested(Result<(), SpoolError>),
}

/// What came of a piece of work.
pub(super) enum News {
    /// So far the publishers' messages are there.
    Confirmed(Vec<Confirmed>),
    /// There are more rows.
    Rows,
    /// So many counted frames of the local session are on disk.
    Moved(u64),
    /// The disk does not do it now.
    Failed,
    /// Nor does it take what the local session has.
    NotMoved,
}

impl Drain {
    pub(super) fn new(
        store: Arc<Store>,
        lane: Lane,
        (epoch, local_epoch): (u64, u64),
        head: u64,
    ) -> Self {
        Self {
            life: store.life(),
            store,
            lane,
            epoch,
            local_epoch,
            cursor: None,
            rows: VecDeque::new(),
            is_all_read: false,
            end: head,
            acked: head,
            begins_with: None,
            last_gap: None,
            mark: None,
            has_rested: false,
            filler: None,
            is_gathering: false,
            fresh: Fresh::default(),
            job: None,
            log: DiskLog::default(),
            not_before: None,
        }
    }

    /// Begins with what the central instance has of the epoch; `None`: nothing, and it begins anew.
    pub(super) fn begin(&mut self, count: Option<u64>) {
        let (store, lane, epoch) = (Arc::clone(&self.store), self.lane, self.epoch);
        self.begins_with = Some(count);
        self.acked = count.unwrap_or(0);
        self.end = self.acked;
        self.job =
            Some(Box::pin(async move { Done::Began(store.begin(lane, epoch, count).await) }));
    }

    /// Where the live frames' counts begin, once there is nothing left to send.
    pub(super) fn is_sent(&self) -> Option<u64> {
        let is_idle = self.job.is_none() && self.rows.is_empty() && self.is_all_read;
        let has_read = self.filler.as_ref().is_some_and(|filler| !filler.is_empty());
        // the session gives again what only was read
        (is_idle && !(has_read && self.is_gathering)).then_some(self.end)
    }

    /// Whether the central instance has all rows, and the store knows.
    pub(super) fn is_over(&self) -> bool {
        self.has_rested
            && self.fresh.len() == 0
            && self.last_gap.is_none()
            && self.is_sent().is_some_and(|end| self.acked >= end)
    }

    /// Has the filler read what it took and could not read, and takes over what is fresh of it.
    pub(super) fn take_fresh(&mut self) {
        let Some(filler) = &mut self.filler else { return };
        filler.fresh_room = self.fresh.room();
        filler.has_gaps = self.is_gathering;
        filler.read();
        self.fresh.append(&mut filler.fresh);
        filler.fresh_room = self.fresh.room();
    }

    /// How many fresh messages wait.
    pub(super) fn fresh(&self) -> usize {
        self.fresh.len()
    }

    /// What goes next, and whether it is fresh. With `only_rows` what is fresh waits.
    pub(super) fn next(&self, only_rows: bool) -> Option<(&Row, bool)> {
        let row = self.rows.front();
        let fresh = self.fresh.next(row.is_some()).filter(|_| !only_rows);
        fresh.map(|row| (row, true)).or(row.map(|row| (row, false)))
    }

    /// That one is done with.
    pub(super) fn next_done(&mut self, is_fresh: bool) {
        if is_fresh {
            self.fresh.done();
        } else {
            self.rows.pop_front();
            self.fresh.row_done();
        }
    }

    /// Whether the rows are those of another file than it began with.
    pub(super) fn is_stale(&self) -> bool {
        self.store.life() != self.life
    }

    /// Whether a piece of work is with the disk.
    pub(super) fn is_busy(&self) -> bool {
        self.job.is_some()
    }

    /// Whether the disk failed just now.
    pub(super) fn is_early(&self) -> bool {
        self.not_before.is_some_and(|then| tokio::time::Instant::now() < then)
    }

    /// Starts the next piece of work; the central instance holds `held`, and of the bytes that were
    /// `sent` so many have `passed`.
    pub(super) fn start(&mut self, held: u64, is_live: bool, (sent, passed): (u64, u64)) {
        if self.job.is_some() || self.is_early() {
            return;
        }
        let Some(cursor) = self.cursor else {
            // the disk failed when it was to begin
            return self.begins_with.into_iter().for_each(|count| self.begin(count));
        };
        let (store, lane) = (Arc::clone(&self.store), self.lane);
        let there = held.min(self.end);
        #[cfg(feature = "faults")]
        let there = if super::store::is_held() { self.acked } else { there };
        if there > self.acked {
            self.job = Some(Box::pin(async move {
                let done =
                    store.run(move |spool, now| spool.acknowledge_first(now, lane, there)).await;
                Done::Acknowledged(there, done)
            }));
        } else if let Some(through) = self.last_gap.filter(|_| is_live && there >= self.end) {
            if passed < *self.mark.get_or_insert(sent) {
                return;
            }
            self.job = Some(Box::pin(async move {
                let done = store.run(move |spool, now| spool.forget_gaps(now, lane, through));
                Done::Forgotten(done.await)
            }));
        } else if is_live && there >= self.end && !self.has_rested {
            // the publishers are told
            self.job = Some(Box::pin(async move {
                let done = store.run(|spool, now| {
                    spool.rest(now);
                    Ok(())
                });
                Done::Rested(done.await)
            }));
        } else if !self.is_all_read && self.rows.len() < FEW && !is_live {
            self.job = Some(Box::pin(async move { Done::Read(store.read(lane, cursor).await) }));
        }
    }

    /// Puts what was read of the local session behind the rows.
    pub(super) fn append(&mut self, batch: Batch, place: Place) {
        let (store, lane, local_epoch) = (Arc::clone(&self.store), self.lane, self.local_epoch);
        let (central, count) = ((self.epoch, self.end), batch.count);
        let batch = Arc::new(batch);
        self.job = Some(Box::pin(async move {
            let done = store.append((lane, &place), batch, local_epoch, central, 0);
            Done::Appended(count, done.await)
        }));
    }

    /// The first row is not taken by the central instance, which has all before it.
    pub(super) fn refuse_first(&mut self) {
        let (store, lane) = (Arc::clone(&self.store), self.lane);
        self.rows.clear();
        self.job = Some(Box::pin(async move {
            let done = store.run(move |spool, now| {
                let confirmed = spool.refuse_first(now, lane)?.unwrap_or_default();
                Ok((spool.begin(now, lane)?, confirmed))
            });
            Done::Refused(done.await)
        }));
    }

    /// Whether the store knows that the central instance has all before the first row.
    pub(super) fn is_first_alone(&self) -> bool {
        let first = self.rows.iter().find(|row| matches!(row.body, Body::Message { .. }));
        first.is_some_and(|row| row.central_count == self.acked + 1) && self.job.is_none()
    }

    /// What came of the work at hand. Cancel-safe: the work goes on.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<News> {
        let Some(job) = &mut self.job else { return Poll::Pending };
        let Poll::Ready(done) = job.as_mut().poll(cx) else { return Poll::Pending };
        self.job = None;
        Poll::Ready(self.note(done))
    }

    fn note(&mut self, done: Done) -> News {
        match done {
            Done::Began(done) | Done::Refused(done) => {
                self.log.note(self.lane, &done);
                let Ok((cursor, confirmed)) = done else { return self.fail() };
                (self.cursor, self.is_all_read) = (Some(cursor), false);
                self.end = self.acked;
                News::Confirmed(confirmed)
            }
            Done::Read(done) => {
                self.log.note(self.lane, &done);
                let Ok((cursor, rows)) = done else { return self.fail() };
                self.cursor = Some(cursor);
                self.is_all_read = rows.is_empty();
                if let Some(last) = rows.last() {
                    self.end = last.central_count;
                    let is_gap = matches!(last.body, Body::Gap { .. });
                    self.last_gap = is_gap.then_some(last.seq);
                }
                self.rows.extend(rows);
                News::Rows
            }
            Done::Rested(done) => {
                self.log.note(self.lane, &done);
                self.has_rested = true;
                News::Confirmed(Vec::new())
            }
            Done::Forgotten(done) => {
                self.log.note(self.lane, &done);
                let Ok(confirmed) = done else { return self.fail() };
                self.last_gap = None;
                News::Confirmed(confirmed)
            }
            Done::Acknowledged(count, done) => {
                self.log.note(self.lane, &done);
                let Ok(confirmed) = done else { return self.fail() };
                self.acked = count;
                News::Confirmed(confirmed)
            }
            Done::Appended(count, done) => {
                self.log.note(self.lane, &done);
                match done {
                    Ok(Appended::Taken { .. }) => {
                        self.is_all_read = false;
                        News::Moved(count)
                    }
                    // rows are read and sent all the same: that is what makes room
                    _ => News::NotMoved,
                }
            }
        }
    }

    fn fail(&mut self) -> News {
        self.not_before = Some(tokio::time::Instant::now() + PAUSE);
        News::Failed
    }

    /// What the store has to know when the link is over.
    pub(super) async fn end(self) {
        let (store, lane) = (self.store, self.lane);
        if let Some(job) = self.job {
            job.await;
        }
        let mut log = self.log;
        log.note(lane, &store.run(move |spool, now| spool.end(now, lane)).await);
    }
}

/// Rows at hand under which more are read.
const FEW: usize = 128;
/// Before the disk is asked again that has failed.
const PAUSE: std::time::Duration = std::time::Duration::from_secs(1);
