//! A journal in a memfd, which the service manager holds while the process is away.
//!
//! It is one file for good: a snapshot goes behind what there is, then the head names it as the start,
//! then what lies before is given back to the kernel.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, memfd_create};
use tracing::debug;

use super::format::{self, HEAD};
use super::{FdKeeper, Length};
use crate::hub::{JournalSink, Pieces, Syncing};

/// See the module's text.
#[derive(Debug)]
pub(super) struct Memory {
    keeper: Arc<dyn FdKeeper>,
    name: String,
    file: File,
    start: u64,
    /// start <= end
    end: u64,
    length: Length,
}

impl Memory {
    /// The journal of that session; the file to be read, if there was one.
    pub(super) fn open(
        keeper: &Arc<dyn FdKeeper>,
        session: &str,
        least: u64,
    ) -> io::Result<(Option<File>, Self)> {
        let name = format!("journal-{session}");
        let old = keeper.take(&name).map(File::from);
        let (file, end) = match &old {
            Some(old) => (old.try_clone()?, old.metadata()?.len().max(HEAD as u64)),
            None => {
                let file = File::from(memfd_create(&*name, MemfdFlags::CLOEXEC)?);
                file.write_all_at(&format::head(HEAD as u64), 0)?;
                keeper.store(&name, file.as_fd());
                (file, HEAD as u64)
            }
        };
        let length = Length::new(least);
        let keeper = Arc::clone(keeper);
        Ok((old, Self { keeper, name, file, start: HEAD as u64, end, length }))
    }
}

impl JournalSink for Memory {
    fn write(&mut self, records: &[u8]) -> io::Result<()> {
        self.end = format::write_piece(&self.file, self.end, records)?;
        Ok(())
    }

    fn is_long(&self) -> bool {
        self.length.is_long(self.end - self.start)
    }

    fn rewrite(&mut self, snapshot: &mut Pieces<'_>) -> io::Result<()> {
        let mut end = self.end;
        let written = snapshot(&mut |records| {
            end = format::write_piece(&self.file, end, records)?;
            Ok(())
        });
        let written = written.and_then(|()| self.file.write_all_at(&format::head(self.end), 0));
        if let Err(error) = written {
            self.length.note_failure(self.end - self.start);
            // where this fails, too, the next piece is written over it
            self.file.set_len(self.end).unwrap_or_default();
            return Err(error);
        }
        (self.start, self.end) = (self.end, end);
        self.length.note_snapshot(self.end - self.start);
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        if let Some(before) = self.start.checked_sub(HEAD as u64).filter(|&before| before > 0)
            && let Err(error) = fallocate(&self.file, hole, HEAD as u64, before)
        {
            debug!(%error, "what the journal no longer needs stays in memory");
        }
        Ok(())
    }

    fn syncing(&mut self) -> Option<Syncing> {
        None
    }

    fn discard(&mut self) {
        self.keeper.remove(&self.name);
    }
}
