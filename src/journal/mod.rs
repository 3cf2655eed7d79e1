//! Where sessions' journals are: in memory that the service manager holds while the process is away,
//! or in files of the daemon's state.
//!
//! It promises: what is written outlives the process; a journal that was cut short or damaged is read
//! up to there and set aside, and never keeps the daemon from starting. It knows nothing of what the
//! records say.

mod disk;
mod format;
mod memory;

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use fastport_core::session::BadRecord;
use tracing::warn;

use self::disk::Disk;
pub use self::format::{Damage, Found};
use self::memory::Memory;
use crate::hub::JournalSink;

/// Holds files while the process is away, as systemd's file descriptor store does.
pub trait FdKeeper: Send + Sync + std::fmt::Debug {
    /// Has a file held under that name.
    fn store(&self, name: &str, file: BorrowedFd<'_>);
    /// The file that was held under that name when the process started.
    fn take(&self, name: &str) -> Option<OwnedFd>;
    /// Has the file under that name let go.
    fn remove(&self, name: &str);
}

/// Where journals are.
#[derive(Debug, Clone)]
pub enum Place {
    /// In memory, which the keeper holds while the process is away.
    Memory(Arc<dyn FdKeeper>),
    /// In files in that folder.
    Disk(PathBuf),
}

/// Nobody: what is in memory ends with the process.
#[derive(Debug, Clone, Copy)]
pub struct NoKeeper;

impl FdKeeper for NoKeeper {
    fn store(&self, _: &str, _: BorrowedFd<'_>) {}

    fn take(&self, _: &str) -> Option<OwnedFd> {
        None
    }

    fn remove(&self, _: &str) {}
}

/// The journal that a session had in the daemon's last life, and what it will have in this one.
#[derive(Debug)]
pub struct Opened {
    old: Option<File>,
    sink: Sink,
    session: String,
}

#[derive(Debug)]
enum Sink {
    Memory(Memory),
    Disk(Disk),
}

/// Opens a session's journal; one longer than `least` bytes, and than four times what it is about,
/// is to be written anew.
///
/// # Errors
/// The disk's, or that of memory.
pub fn open(place: &Place, session: &str, least: u64) -> io::Result<Opened> {
    let (old, sink) = match place {
        Place::Memory(keeper) => {
            let (old, memory) = Memory::open(keeper, session, least)?;
            (old, Sink::Memory(memory))
        }
        Place::Disk(folder) => {
            let (old, disk) = Disk::open(folder, session, least)?;
            (old, Sink::Disk(disk))
        }
    };
    Ok(Opened { old, sink, session: session.to_owned() })
}

impl Opened {
    /// Whether the old journal, if there is one, was written since the machine was started.
    #[must_use]
    pub fn is_of_this_boot(&self) -> bool {
        self.old.as_ref().is_none_or(format::is_of_this_boot)
    }

    /// Reads the old journal, if there is one, piece by piece, up to its end or to the first damage.
    /// One that is damaged is set aside.
    pub fn read(&mut self, mut apply: impl FnMut(&[u8]) -> Result<(), BadRecord>) -> Option<Found> {
        let old = self.old.take()?;
        let found = format::read(&old, &mut apply);
        if let Some(damage) = &found.damage {
            let aside = match &self.sink {
                Sink::Memory(_) => Ok(None),
                Sink::Disk(disk) => disk.set_aside().map(Some),
            };
            let session = &*self.session;
            match aside {
                Ok(aside) => warn!(
                    session,
                    %damage,
                    bytes = found.bytes,
                    aside = aside.map(|path| path.display().to_string()),
                    "journal damaged: what is before that is used"
                ),
                Err(error) => warn!(
                    session,
                    %damage,
                    %error,
                    "journal damaged, and not set aside: what is before that is used"
                ),
            }
        }
        Some(found)
    }

    /// What is written from now on goes here. Begin with a snapshot: before that the old journal is
    /// what another process would find.
    #[must_use]
    pub fn into_sink(self) -> Box<dyn JournalSink> {
        match self.sink {
            Sink::Memory(memory) => Box::new(memory),
            Sink::Disk(disk) => Box::new(disk),
        }
    }
}

/// A journal is written anew when it is this many times as long as what it is about.
const LENGTH: u64 = 4;

/// When a journal is to be written anew.
#[derive(Debug, Clone, Copy)]
struct Length {
    least: u64,
    /// What the last snapshot took.
    snapshot: u64,
    /// After a failure: not before it is that long.
    not_before: u64,
}

impl Length {
    fn new(least: u64) -> Self {
        Self { least, snapshot: 0, not_before: 0 }
    }

    fn is_long(&self, length: u64) -> bool {
        let most = self.least.max(self.snapshot.saturating_mul(LENGTH));
        length > most.max(self.not_before)
    }

    fn note_snapshot(&mut self, bytes: u64) {
        (self.snapshot, self.not_before) = (bytes, 0);
    }

    fn note_failure(&mut self, length: u64) {
        self.not_before = length.saturating_add(self.least);
    }
}

#[cfg(test)]
mod tests;
