//! Where a sender's counters survive: a folder in which each sender that runs at one time has a place.
//!
//! It promises: a place is one process's; what is written is on disk when the call returns; and a
//! reader finds the old or the new text, never part of one.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fastport_seal::SenderId;

/// Why nothing can be sealed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum SealFailure {
    /// The sender's counters cannot be written down, so none may be used.
    State {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        why: Arc<io::Error>,
    },
    /// All counters of the sender are used.
    Exhausted,
    /// There are no keys: [`crate::Options::seal`] is not set.
    NoKeys,
    /// A bug of this library; its task ended.
    Internal,
}

impl SealFailure {
    /// The system has none.
    pub(super) fn randomness(why: io::Error) -> Self {
        Self::State { path: PathBuf::from("/dev/urandom"), why: Arc::new(why) }
    }
}

impl fmt::Display for SealFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State { path, why } => write!(
                f,
                "{}: {why}; what is sealed needs its counters on disk, in a folder that can be \
                 written",
                path.display()
            ),
            Self::Exhausted => f.write_str(
                "all counters of this sender are used; remove its state and start again, as a new \
                 sender",
            ),
            Self::NoKeys => f.write_str("there is no key to seal with"),
            Self::Internal => f.write_str("bug: the task that writes counters down ended"),
        }
    }
}

impl std::error::Error for SealFailure {}

/// A sender's place in the folder, its own until this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    folder: PathBuf,
    number: u32,
    /// who it is
    pub(super) sender: SenderId,
    /// up to where counters were reserved
    pub(super) written: u64,
    /// locked; another process takes another place
    _lock: File,
}

impl Place {
    /// The first place that nobody has; `None`: there are as many senders as there are places.
    pub(super) fn take(folder: &Path) -> Result<Option<Self>, SealFailure> {
        let failed = |path: &Path, why: io::Error| SealFailure::State {
            path: path.to_owned(),
            why: Arc::new(why),
        };
        DirBuilder::new()
            .recursive(true)
            .mode(OWNER_FOLDER)
            .create(folder)
            .map_err(|error| failed(folder, error))?;
        for number in 0..PLACES {
            let path = folder.join(format!("{number}.lock"));
            let lock = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(OWNER_FILE)
                .open(&path)
                .map_err(|error| failed(&path, error))?;
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(error)) => return Err(failed(&path, error)),
            }
            let path = folder.join(number.to_string());
            let (sender, written) = match fs::read_to_string(&path) {
                Ok(text) => parse(&text),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(failed(&path, error)),
            }
            // whose counters are not known begins as another
            .map_or_else(|| new_sender().map(|sender| (sender, 0)), Ok)
            .map_err(|error| failed(&path, error))?;
            let folder = folder.to_owned();
            return Ok(Some(Self { folder, number, sender, written, _lock: lock }));
        }
        Ok(None)
    }

    /// Writes down that counters up to that one are reserved. It blocks until that is on disk.
    pub(super) fn write(&self, up_to: u64) -> Result<(), SealFailure> {
        let path = self.folder.join(self.number.to_string());
        self.replace(&path, &format!("{HEAD}\n{}\n{up_to}\n", self.sender))
            .map_err(|why| SealFailure::State { path, why: Arc::new(why) })
    }

    fn replace(&self, path: &Path, text: &str) -> io::Result<()> {
        let beside = self.folder.join(format!("{}.new", self.number));
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(OWNER_FILE)
            .open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        // the name, too
        File::open(&self.folder)?.sync_all()
    }
}

/// An id that no other sender has.
pub(super) fn new_sender() -> io::Result<SenderId> {
    let mut id = [0; 8];
    getrandom::fill(&mut id).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(SenderId(id))
}

fn parse(text: &str) -> Option<(SenderId, u64)> {
    let mut lines = text.lines();
    if lines.next() != Some(HEAD) {
        return None;
    }
    let id = lines.next().filter(|line| line.len() == 16)?;
    let sender = SenderId(u64::from_str_radix(id, 16).ok()?.to_be_bytes());
    let written = lines.next()?.parse().ok()?;
    // cut off in the middle of a number it would be a smaller one
    (text.ends_with('\n') && lines.next().is_none()).then_some((sender, written))
}

/// What the file begins with.
const HEAD: &str = "fastport sender 1";
/// Senders at one time; more are new ones each time.
const PLACES: u32 = 16;
const OWNER_FOLDER: u32 = 0o700;
const OWNER_FILE: u32 = 0o600;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_found_again_with_what_was_written() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let folder = folder.path().join("made/on/the/way");
        let first = Place::take(&folder).expect("writable").expect("free");
        first.write(4096).expect("writable");
        let (sender, path) = (first.sender, folder.join("0"));
        drop(first);
        let again = Place::take(&folder).expect("writable").expect("free");
        assert_eq!((again.sender, again.written), (sender, 4096));
        drop(again);
        let text = fs::read_to_string(&path).expect("it is there");
        for cut in 0..text.len() {
            fs::write(&path, &text[..cut]).expect("writable");
            let other = Place::take(&folder).expect("writable").expect("free");
            assert_eq!(other.written, 0, "{cut}");
            assert_ne!(other.sender, sender, "{cut}");
        }
    }

    #[test]
    fn two_senders_at_one_time_have_two_places() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let places: Vec<Place> =
            std::iter::from_fn(|| Place::take(folder.path()).expect("writable")).collect();
        assert_eq!(places.len(), PLACES as usize);
        let mut senders: Vec<_> = places.iter().map(|place| place.sender).collect();
        senders.sort_unstable();
        senders.dedup();
        assert_eq!(senders.len(), places.len());
    }

    #[test]
    fn a_folder_that_cannot_be_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("file");
        fs::write(&file, "").expect("writable");
        let error = Place::take(&file.join("state")).map(|_| ()).expect_err("under a file");
        assert!(error.to_string().contains("file/state"), "{error}");
    }
}
