//! A session's journal, as the hub keeps it: written before anybody is woken, and nobody is told what
//! is not in it.
//!
//! It promises: while the journal cannot be written, publishers of counted messages wait and the rest
//! goes on; it is tried again every second.

use std::fmt;
use std::io;
use std::time::Duration;

use fastport_core::session::{BadRecord, Restored, Restoring};
use fastport_core::time::Instant;
use tracing::{error, info, warn};

use super::Room;
use super::room::Inner;
use crate::supervise::turn::{self, Part};

/// Gives out a snapshot piece by piece.
pub type Pieces<'a> = dyn FnMut(&mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> + 'a;

/// Work that blocks, for a thread of its own.
pub type Syncing = Box<dyn FnOnce() -> io::Result<()> + Send>;

/// Finds the rights of an identity; `None`: it is no more.
pub type FindRights<'a> =
    dyn FnMut(&str) -> Option<std::sync::Arc<fastport_core::rights::Rights>> + 'a;

/// Applies some of a journal's records.
pub type Apply<'a> = dyn FnMut(&[u8]) -> Result<(), BadRecord> + 'a;

/// Where a session's journal is.
pub trait JournalSink: Send + fmt::Debug {
    /// Adds records, all or none of them; they then outlive the process.
    ///
    /// # Errors
    /// The disk's.
    fn write(&mut self, records: &[u8]) -> io::Result<()>;

    /// Whether it is so long that it should be written anew.
    fn is_long(&self) -> bool;

    /// Puts a snapshot into the place of all that is in it. When that fails, it is what it was.
    ///
    /// # Errors
    /// The disk's.
    fn rewrite(&mut self, snapshot: &mut Pieces<'_>) -> io::Result<()>;

    /// What makes safe from a loss of power what was written so far; `None`: it is, or never will be.
    fn syncing(&mut self) -> Option<Syncing>;

    /// The session is no more.
    fn discard(&mut self);
}

/// A session's journal and how it is.
#[derive(Debug)]
pub(super) struct Journal {
    sink: Box<dyn JournalSink>,
    /// Records were let go of that were not written: only a snapshot helps.
    has_holes: bool,
    /// When to try again after a failure.
    retry_at: Option<Instant>,
}

impl Room {
    /// Makes the session what it was by its journal. `read` gives the journal's records, some at a
    /// time, to what it is given; `is_of_this_boot`: they were written since the machine was started.
    pub fn restore<T>(
        &self,
        is_of_this_boot: bool,
        rights: &mut FindRights<'_>,
        read: impl FnOnce(&mut Apply<'_>) -> T,
    ) -> (Restored, T) {
        let now = self.now().mono;
        let mut inner = self.lock();
        let mut find = |identity: &str| rights(identity);
        let mut restoring = Restoring::new(&mut inner.session, now, &mut find);
        if !is_of_this_boot {
            restoring.note_other_boot();
        }
        let done = read(&mut |records| restoring.apply(records));
        let restored = restoring.finish();
        self.settle(&mut inner, None);
        (restored, done)
    }

    /// Keeps a journal from now on. A sink that fails is tried again later.
    pub fn start_journal(&self, sink: Box<dyn JournalSink>) {
        let mut inner = self.lock();
        inner.session.start_journal();
        inner.journal = Some(Journal { sink, has_holes: false, retry_at: None });
        if !self.rewrite_journal(&mut inner) {
            // there is nothing yet that records could be added to
            self.freeze(&mut inner);
            if let Some(journal) = &mut inner.journal {
                journal.has_holes = true;
            }
        }
    }

    /// Whether the session has a journal.
    #[must_use]
    pub fn has_journal(&self) -> bool {
        self.lock().journal.is_some()
    }

    /// Makes safe from a loss of power what the session has acknowledged so far. Where there is no
    /// journal, or it is not on a disk, there is nothing to do.
    ///
    /// # Errors
    /// The disk's; nothing is known then.
    pub async fn sync_journal(&self) -> io::Result<()> {
        let syncing = self.lock().journal.as_mut().and_then(|journal| journal.sink.syncing());
        let Some(syncing) = syncing else { return Ok(()) };
        let synced = turn::beside(Part::JournalDisk, syncing).await;
        let synced = synced.unwrap_or_else(|error| Err(io::Error::other(error)));
        if synced.is_err() {
            self.status().journal_errors.add(1);
        }
        synced
    }

    /// Syncs the journal again and again, for as long as the session is there.
    ///
    /// Cancel-safe: what was not synced is when it runs again.
    pub async fn run_journal(&self, pause: Duration) {
        let mut has_failed = false;
        while !self.is_closed() {
            tokio::time::sleep(pause).await;
            let failed = self.sync_journal().await.err();
            if let Some(error) = failed.as_ref().filter(|_| !has_failed) {
                warn!(session = self.name(), %error, "journal not synced: a power cut would cost more than journal.sync");
            }
            has_failed = failed.is_some();
        }
    }

    /// Ends the journal, with the session.
    pub(super) fn end_journal(&self) {
        let mut inner = self.lock();
        inner.session.stop_journal();
        if let Some(mut journal) = inner.journal.take() {
            journal.sink.discard();
        }
    }

    /// Writes what has changed. Before anybody is woken by it.
    pub(super) fn write_journal(&self, inner: &mut Inner) {
        let Inner { session, journal: Some(journal), .. } = inner else { return };
        let records = session.journaled();
        if records.is_empty() {
            return;
        }
        if session.is_frozen() {
            if records.len() > MOST_PENDING {
                journal.has_holes = true;
                session.clear_journal();
            }
            return;
        }
        // the disk may take its time, and that is no hang
        match turn::run(Part::Disk, || journal.sink.write(records)) {
            Ok(()) => {
                self.status().journal_bytes.add(records.len() as u64);
                session.clear_journal();
                if journal.sink.is_long() {
                    self.rewrite_journal(inner);
                }
            }
            Err(error) => {
                error!(session = self.name(), %error, "journal not written: counted messages wait until it is; is the disk full?");
                self.freeze(inner);
            }
        }
    }

    /// Writes the journal anew; whether that worked. One that has no holes goes on without.
    fn rewrite_journal(&self, inner: &mut Inner) -> bool {
        let Inner { session, journal: Some(journal), .. } = inner else { return false };
        let mut bytes = 0;
        let mut snapshot = |write: &mut dyn FnMut(&[u8]) -> io::Result<()>| {
            session.snapshot(|records| {
                bytes += records.len() as u64;
                write(records)
            })
        };
        let rewritten = turn::run(Part::Disk, || journal.sink.rewrite(&mut snapshot));
        match rewritten {
            Ok(()) => {
                self.status().journal_bytes.add(bytes);
                self.status().journal_rewrites.add(1);
                session.clear_journal();
                (journal.has_holes, journal.retry_at) = (false, None);
                session.set_frozen(false);
                true
            }
            Err(error) => {
                warn!(session = self.name(), %error, "journal not written anew");
                self.status().journal_errors.add(1);
                false
            }
        }
    }

    fn freeze(&self, inner: &mut Inner) {
        self.status().journal_errors.add(1);
        inner.session.set_frozen(true);
        if let Some(journal) = &mut inner.journal {
            journal.retry_at = Some(self.now().mono.after(RETRY_MS));
        }
        // its task sleeps for longer
        self.wake_timer();
    }

    /// When the journal is to be tried again.
    pub(super) fn journal_retry(inner: &Inner) -> Option<Instant> {
        inner.journal.as_ref()?.retry_at
    }

    /// Tries again to write what could not be.
    pub(super) fn retry_journal(&self) {
        let now = self.now().mono;
        let mut inner = self.lock();
        let Inner { session, journal: Some(journal), .. } = &mut *inner else { return };
        if journal.retry_at.is_none_or(|due| due > now) {
            return;
        }
        journal.retry_at = Some(now.after(RETRY_MS));
        if journal.has_holes {
            self.rewrite_journal(&mut inner);
        } else if let Err(error) = turn::run(Part::Disk, || journal.sink.write(session.journaled()))
        {
            tracing::debug!(session = self.name(), %error, "journal still not written");
            self.status().journal_errors.add(1);
        } else {
            self.status().journal_bytes.add(session.journaled().len() as u64);
            session.clear_journal();
            journal.retry_at = None;
            session.set_frozen(false);
        }
        if !inner.session.is_frozen() {
            info!(session = self.name(), "journal written again");
        }
        self.settle(&mut inner, None);
    }
}

/// A disk that is full may have room again.
const RETRY_MS: u64 = 1000;
/// Bytes of records that wait for a journal that fails; beyond, a snapshot is shorter.
const MOST_PENDING: usize = 256 * 1024;
