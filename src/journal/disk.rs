//! A journal in a file, which is synced now and then.
//!
//! A snapshot is written beside it. Until that is synced, records go to both; then it takes the
//! journal's name. So there is a whole journal under that name at all times.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::warn;

use super::Length;
use super::format::{self, HEAD};
use crate::hub::{JournalSink, Pieces, Syncing};

/// See the module's text.
#[derive(Debug)]
pub(super) struct Disk {
    files: Arc<Mutex<Files>>,
    paths: Arc<Paths>,
}

#[derive(Debug)]
struct Paths {
    folder: PathBuf,
    journal: PathBuf,
    /// A snapshot that is not in its place yet.
    next: PathBuf,
    /// What was found damaged last.
    damaged: PathBuf,
}

#[derive(Debug)]
struct Files {
    /// Under the journal's name.
    current: Option<Written>,
    /// Beside it.
    next: Option<Written>,
    length: Length,
    /// Pieces and snapshots written, and how many of them are safe from a loss of power.
    written: u64,
    synced: u64,
}

#[derive(Debug, Clone)]
struct Written {
    file: Arc<File>,
    end: u64,
}

impl Disk {
    /// The journal of that session; the file to be read, if there was one.
    pub(super) fn open(
        folder: &Path,
        session: &str,
        least: u64,
    ) -> io::Result<(Option<File>, Self)> {
        fs::create_dir_all(folder)?;
        let named = |end: &str| folder.join(format!("journal-{session}.{end}"));
        let paths = Paths {
            folder: folder.to_owned(),
            journal: named("log"),
            next: named("new"),
            damaged: named("damaged"),
        };
        let old = match File::open(&paths.journal) {
            Ok(old) => Some(old),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let length = Length::new(least);
        let files = Files { current: None, next: None, length, written: 0, synced: 0 };
        Ok((old, Self { files: Arc::new(Mutex::new(files)), paths: Arc::new(paths) }))
    }

    /// Gives the journal that was found another name, and leaves it where it is until there is a new
    /// one; returns that name. An earlier one of that name is gone.
    pub(super) fn set_aside(&self) -> io::Result<PathBuf> {
        let Paths { journal, damaged, .. } = &*self.paths;
        match fs::remove_file(damaged) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // some file systems of small boards have no links
        if fs::hard_link(journal, damaged).is_err() {
            fs::copy(journal, damaged)?;
        }
        Ok(damaged.clone())
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        lock(&self.files)
    }
}

impl JournalSink for Disk {
    fn write(&mut self, records: &[u8]) -> io::Result<()> {
        let mut files = self.files();
        let Some(current) = &mut files.current else {
            return Err(io::Error::other("the journal was not begun"));
        };
        current.end = format::write_piece(&current.file, current.end, records)?;
        files.written += 1;
        if let Some(next) = &mut files.next {
            match format::write_piece(&next.file, next.end, records) {
                Ok(end) => next.end = end,
                // the journal goes on as it is
                Err(error) => files.give_up_next(&self.paths, &error),
            }
        }
        Ok(())
    }

    fn is_long(&self) -> bool {
        let files = self.files();
        let current = files.current.as_ref().filter(|_| files.next.is_none());
        current.is_some_and(|current| files.length.is_long(current.end))
    }

    fn rewrite(&mut self, snapshot: &mut Pieces<'_>) -> io::Result<()> {
        let mut files = self.files();
        let next = match write_snapshot(&self.paths.next, snapshot) {
            Ok(next) => next,
            Err(error) => {
                let length = files.current.as_ref().map_or(0, |current| current.end);
                files.length.note_failure(length);
                return Err(error);
            }
        };
        files.length.note_snapshot(next.end);
        files.written += 1;
        if files.current.is_some() {
            files.next = Some(next);
            return Ok(());
        }
        // the first: there is nothing that records could go to meanwhile
        next.file.sync_data()?;
        fs::rename(&self.paths.next, &self.paths.journal)?;
        files.current = Some(next);
        File::open(&self.paths.folder)?.sync_all()
    }

    fn syncing(&mut self) -> Option<Syncing> {
        let files = self.files();
        let (target, next) = (files.written, files.next.clone());
        let file = Arc::clone(&next.as_ref().or(files.current.as_ref())?.file);
        if target == files.synced {
            return None;
        }
        drop(files);
        let (files, paths) = (Arc::clone(&self.files), Arc::clone(&self.paths));
        Some(Box::new(move || {
            file.sync_data()?;
            if next.is_some() {
                put_in_place(&files, &paths, &file)?;
            }
            let mut files = lock(&files);
            files.synced = files.synced.max(target);
            Ok(())
        }))
    }

    fn discard(&mut self) {
        let Paths { journal, next, .. } = &*self.paths;
        for path in [journal, next] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    warn!(path = %path.display(), %error, "journal of a session that is no more not removed");
                }
                _ => {}
            }
        }
    }
}

impl Files {
    fn give_up_next(&mut self, paths: &Paths, error: &io::Error) {
        warn!(path = %paths.next.display(), %error, "journal not written anew");
        self.next = None;
        let length = self.current.as_ref().map_or(0, |current| current.end);
        self.length.note_failure(length);
        // what is left of it is written over by the next
        fs::remove_file(&paths.next).unwrap_or_default();
    }
}

/// Gives a snapshot that is synced the journal's name, unless it was given up meanwhile.
fn put_in_place(files: &Mutex<Files>, paths: &Paths, file: &Arc<File>) -> io::Result<()> {
    {
        let mut files = lock(files);
        match files.next.take() {
            Some(next) if Arc::ptr_eq(&next.file, file) => {
                if let Err(error) = fs::rename(&paths.next, &paths.journal) {
                    files.next = Some(next);
                    return Err(error);
                }
                files.current = Some(next);
            }
            // another task was first
            other => files.next = other,
        }
    }
    File::open(&paths.folder)?.sync_all()
}

fn write_snapshot(path: &Path, snapshot: &mut Pieces<'_>) -> io::Result<Written> {
    let written = try_write_snapshot(path, snapshot);
    if written.is_err() {
        // it takes room that others want
        fs::remove_file(path).unwrap_or_default();
    }
    written
}

fn try_write_snapshot(path: &Path, snapshot: &mut Pieces<'_>) -> io::Result<Written> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all_at(&format::head(HEAD as u64), 0)?;
    let mut end = HEAD as u64;
    snapshot(&mut |records| {
        end = format::write_piece(&file, end, records)?;
        Ok(())
    })?;
    Ok(Written { file: Arc::new(file), end })
}

fn lock(files: &Mutex<Files>) -> MutexGuard<'_, Files> {
    // what it guards is whole between the calls
    files.lock().unwrap_or_else(PoisonError::into_inner)
}
