//! Opening a spool, and one piece of work on it: what happens when the file turns out damaged.

use std::path::Path;

use rusqlite::Connection;

use super::database::{self, Unusable};
use super::entry::Moment;
use super::error::{SetAside, SpoolError};
use super::flash::Meter;
use super::limits::{self, Limits, Room};
use super::log;
use super::salvage;
use super::state::{LANES, State};
use super::work::{Memory, Work};
use super::{Spool, names};

/// What was found when a spool was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// A damaged file that was there, and what was saved of it.
    pub set_aside: Option<SetAside>,
    /// Whether the file was looked through to its end within [`Limits::check`].
    pub is_checked: bool,
    /// Transactions at the end of the log that could not be read. One is what a loss of power leaves,
    /// and was not finished; more were damaged later, and their messages are lost.
    pub unread: u64,
}

/// An open file.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) sql: Connection,
    pub(super) state: State,
    pub(super) memory: Memory,
    pub(super) boot: i64,
    /// pages in the log when they were last counted
    logged: u64,
    /// commits that were made safe
    #[cfg(test)]
    pub(super) syncs: u64,
}

impl Spool {
    /// Opens the spool at `path`, or makes one; `boot` is the kernel's id of this boot. A damaged
    /// file is set aside, and what can be read of it is saved.
    ///
    /// # Errors
    /// [`SpoolError::Disk`]: nothing can be written there.
    pub fn open(
        path: &Path,
        limits: Limits,
        boot: &str,
        now: Moment,
    ) -> Result<(Self, Opened), SpoolError> {
        let mut spool = Self::closed(path, limits, boot);
        let opened = spool.reopen(now)?;
        Ok((spool, opened))
    }

    /// The spool at `path`, as [`Spool::open`] has it, before its disk is touched.
    #[must_use]
    pub fn closed(path: &Path, limits: Limits, boot: &str) -> Self {
        let room = Room::new(&limits, limits::PAGE);
        Self { path: path.to_owned(), limits, room, boot: boot.to_owned(), inner: None }
    }

    /// Whether there is a file to work on.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.inner.is_some()
    }

    /// Opens the file, as [`Spool::open`]; whatever it held stays where that fails.
    ///
    /// # Errors
    /// As [`Spool::open`].
    pub fn reopen(&mut self, now: Moment) -> Result<Opened, SpoolError> {
        let meter = Meter::start();
        salvage::finish(&self.path).map_err(|error| self.disk("finish saving", error))?;
        let (mut inner, opened) = match self.try_open(now) {
            Ok(opened) => opened,
            Err(Unusable::Machine(error)) => return Err(self.disk("open", error)),
            Err(Unusable::Damaged(reason)) => {
                let set_aside = Some(self.set_aside(now, reason)?);
                let (inner, opened) = self.try_open(now).map_err(|error| match error {
                    Unusable::Machine(error) => self.disk("open", error),
                    Unusable::Damaged(reason) => self.disk("open what was saved", reason),
                })?;
                (inner, Opened { set_aside, ..opened })
            }
        };
        inner.count_flash(now, &meter, self.room.page);
        self.inner = Some(inner);
        Ok(opened)
    }

    fn try_open(&mut self, now: Moment) -> Result<(Inner, Opened), Unusable> {
        let mut sql = database::open(&self.path, Some(&self.room))?;
        // before anything is written over it; a log that cannot be read says so elsewhere
        let unread = log::unread(&self.path, database::log_pages(&sql)?).unwrap_or(0);
        let is_checked = database::check(&mut sql, self.limits.check)?;
        database::migrate(&mut sql)?;
        // a file that another version made may have other pages
        self.room = Room::new(&self.limits, database::page_bytes(&sql)?);
        sql.pragma_update(None, "max_page_count", self.room.most_pages)?;
        let step = sql.transaction()?;
        let state = if salvage::is_new(&step)? {
            let mut state = State::new();
            state.save(&step)?;
            state
        } else {
            State::load(&step)?.ok_or_else(|| Unusable::Damaged("its counts".into()))?
        };
        let boot = names::boot(&step, &self.boot)?;
        let offset = names::boot_by_number(&step, boot)?.offset;
        step.commit()?;
        let day = now.boot_ms / DAY_MS;
        let memory = Memory { offset, day, ..Memory::new(&state) };
        let opened = Opened { set_aside: None, is_checked, unread };
        let inner = Inner {
            sql,
            state,
            memory,
            boot,
            logged: 0,
            #[cfg(test)]
            syncs: 0,
        };
        Ok((inner, opened))
    }

    /// The open file; opens it again, where that failed.
    pub(super) fn inner(&mut self, now: Moment) -> Result<&mut Inner, SpoolError> {
        if self.inner.is_none()
            && let Some(set_aside) = self.reopen(now)?.set_aside
        {
            return Err(SpoolError::Damaged(Box::new(set_aside)));
        }
        Ok(self.inner.as_mut().expect("reopen leaves an open file, or an error"))
    }

    /// Does some work in a transaction of its own. A loss of power may undo it.
    pub(super) fn run<T>(
        &mut self,
        now: Moment,
        action: &'static str,
        work: impl FnOnce(&mut Work<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, SpoolError> {
        self.run_as(now, action, false, work)
    }

    /// The same, and it is on the disk when this returns.
    pub(super) fn run_durably<T>(
        &mut self,
        now: Moment,
        action: &'static str,
        work: impl FnOnce(&mut Work<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, SpoolError> {
        self.run_as(now, action, true, work)
    }

    fn run_as<T>(
        &mut self,
        now: Moment,
        action: &'static str,
        durable: bool,
        work: impl FnOnce(&mut Work<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, SpoolError> {
        let room = self.room;
        let meter = Meter::start();
        let inner = self.inner(now)?;
        let before = (inner.state.clone(), inner.memory);
        let done = inner.transact(now, room, durable, work);
        if done.is_err() {
            (inner.state, inner.memory) = before;
        }
        inner.count_flash(now, &meter, room.page);
        match done {
            Ok(done) => Ok(done),
            Err(error) if database::is_damage(&error) => {
                self.inner = None;
                let set_aside = self.set_aside(now, error.to_string())?;
                self.reopen(now)?;
                Err(SpoolError::Damaged(Box::new(set_aside)))
            }
            Err(error) => Err(self.disk(action, error)),
        }
    }

    /// When all lanes are empty: what was large becomes small, and names are forgotten. What was asked
    /// for is done already, so a failure is only noted; what is wrong shows with the next work.
    pub fn rest(&mut self, now: Moment) {
        if let Err(error) = self.try_rest(now) {
            tracing::warn!(%error, "the empty spool stays as large as it is");
        }
    }

    fn try_rest(&mut self, now: Moment) -> Result<(), SpoolError> {
        let is_empty = self.run(now, "tidy up", |work| {
            for lane in LANES {
                if work.has_rows(lane)? {
                    return Ok(false);
                }
            }
            Ok(true)
        })?;
        let room = self.room;
        let inner = self.inner(now)?;
        let is_large = |sql: &Connection| -> rusqlite::Result<bool> {
            Ok(database::pages(sql)? > LARGE_PAGES
                || database::log_pages(sql)? > room.log_pages() / 2)
        };
        if !is_empty || !is_large(&inner.sql).map_err(|error| self.disk("tidy up", error))? {
            return Ok(());
        }
        self.run(now, "tidy up", |work| {
            work.memory.names_used = 0;
            names::tidy(work.sql, work.boot)
        })?;
        let meter = Meter::start();
        let inner = self.inner(now)?;
        let done =
            database::shrink(&inner.sql).and_then(|()| database::empty_log(&inner.sql, true));
        inner.count_flash(now, &meter, room.page);
        done.map_err(|error| self.disk("tidy up", error))
    }

    fn set_aside(&self, now: Moment, reason: String) -> Result<SetAside, SpoolError> {
        salvage::set_aside(&self.path, &self.room, now, reason)
            .map_err(|error| self.disk("set a damaged file aside", error))
    }

    fn disk(
        &self,
        action: &'static str,
        error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> SpoolError {
        SpoolError::Disk { action, path: self.path.clone(), error: error.into() }
    }
}

impl Inner {
    fn transact<T>(
        &mut self,
        now: Moment,
        room: Room,
        durable: bool,
        work: impl FnOnce(&mut Work<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        // before, not after: what fails here has changed nothing
        if database::log_pages(&self.sql)? > room.log_pages() {
            database::empty_log(&self.sql, false)?;
        }
        database::set_durable(&self.sql, durable)?;
        let step = self.sql.transaction()?;
        let (boot, changes, lanes) = (self.boot, step.total_changes(), self.state.lanes);
        let (state, memory) = (&mut self.state, &mut self.memory);
        let mut doing = Work { sql: &step, state, memory, room, now, boot, must_save: false };
        doing.note_clock()?;
        let done = work(&mut doing)?;
        let must_save = doing.must_save;
        // the flash bytes alone would make every look into the spool a write
        if must_save || step.total_changes() > changes || self.state.lanes != lanes {
            self.state.save(&step)?;
        }
        step.commit()?;
        self.memory.owes_sync &= !durable;
        #[cfg(test)]
        {
            self.syncs += u64::from(durable);
        }
        Ok(done)
    }

    fn count_flash(&mut self, now: Moment, meter: &Meter, page: u64) {
        let flash = &mut self.state.flash;
        let boot_day = now.boot_ms / DAY_MS;
        match now.unix_ms.map(|unix| unix / DAY_MS) {
            Some(day) if flash.day != day => (flash.day, flash.bytes) = (day, 0),
            Some(_) => {}
            None if self.memory.day < boot_day => flash.bytes = 0,
            None => {}
        }
        self.memory.day = boot_day;
        let written = match meter.bytes() {
            Some(bytes) => bytes,
            None => self.pages_logged().saturating_mul(2 * page),
        };
        self.state.flash.bytes += written;
    }

    /// Pages that went into the log since the last call: an estimate, where the kernel does not count.
    /// Each goes to its place in the file later.
    fn pages_logged(&mut self) -> u64 {
        let before = self.logged;
        self.logged = database::log_pages(&self.sql).unwrap_or(before);
        self.logged.checked_sub(before).unwrap_or(self.logged)
    }
}

impl Work<'_> {
    /// Notes when this boot began, once the clock is set; again when the clock was changed.
    fn note_clock(&mut self) -> rusqlite::Result<()> {
        let Some(unix) = self.now.unix_ms else { return Ok(()) };
        let offset = unix.cast_signed().saturating_sub(self.now.boot_ms.cast_signed());
        let least = self.memory.least_offset.map_or(offset, |least| least.min(offset));
        self.memory.least_offset = Some(least);
        let is_known = |known: i64| known.abs_diff(offset) < CLOCK_STEP_MS;
        if !self.memory.offset.is_some_and(is_known) {
            names::set_boot_offset(self.sql, self.boot, offset)?;
            self.memory.offset = Some(offset);
        }
        Ok(())
    }
}

/// A file of more pages shrinks when nothing is in it.
const LARGE_PAGES: u64 = 256;
/// Less is the clock being slewed.
const CLOCK_STEP_MS: u64 = 2_000;
const DAY_MS: u64 = 86_400_000;
