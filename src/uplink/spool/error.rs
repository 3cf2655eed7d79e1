//! What goes wrong with a spool.

use std::fmt;
use std::fs::File;
use std::io::ErrorKind;
use std::path::PathBuf;

use rusqlite::ErrorCode;

use crate::config::Lane;

/// The spool could not do it. Nothing was changed, but in the case of [`SpoolError::Damaged`].
#[derive(Debug)]
#[non_exhaustive]
pub enum SpoolError {
    /// The machine: the file cannot be made, opened, read or written. Worth another try later.
    Disk {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        error: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file was found damaged and set aside; the spool goes on with what could be saved. What
    /// was asked for was not done: look at the lanes anew, then ask again.
    Damaged(Box<SetAside>),
    /// The central instance says that it has more than was sent to it.
    BeyondSent {
        /// The lane.
        lane: Lane,
        /// Its count.
        count: u64,
        /// What it can have at most.
        most: u64,
    },
    /// The lane holds rows, so their counts cannot be changed.
    NotEmpty(Lane),
    /// The batch is larger than [`super::Spool::batch_bytes`].
    BatchTooLarge {
        /// What it takes on disk.
        bytes: u64,
        /// What it may take.
        most: u64,
    },
}

impl fmt::Display for SpoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk { action, path, error } => {
                write!(f, "the spool {}: cannot {action}: {error}", path.display())
            }
            Self::Damaged(set_aside) => write!(f, "{set_aside}"),
            Self::BeyondSent { lane, count, most } => write!(
                f,
                "lane {}: the central instance claims {count} messages, and {most} can be there",
                lane.name()
            ),
            Self::NotEmpty(lane) => {
                write!(f, "lane {}: it holds rows, whose counts go on", lane.name())
            }
            Self::BatchTooLarge { bytes, most } => {
                write!(f, "a batch of {bytes} bytes on disk, at most {most}: append it in parts")
            }
        }
    }
}

impl std::error::Error for SpoolError {}

impl SpoolError {
    /// Whether another try will not do: another process has the file, or it is not ours to write. It is
    /// tried, since SQLite says of all kinds only that it could not open it.
    #[must_use]
    pub fn is_for_operator(&self) -> bool {
        let Self::Disk { path, error, .. } = self else { return false };
        let error = error.downcast_ref::<rusqlite::Error>();
        if error.and_then(rusqlite::Error::sqlite_error_code) == Some(ErrorCode::DatabaseBusy) {
            return true;
        }
        let opened = File::options().append(true).create(true).open(path);
        opened.is_err_and(|error| OPERATORS.contains(&error.kind()))
    }
}

/// A damaged file that was put out of the way, and what was saved of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// Where it lies now; none: it could not be renamed and was removed.
    pub path: Option<PathBuf>,
    /// What was wrong with it.
    pub reason: String,
    /// Messages that go on in the new file.
    pub saved: u64,
    /// Messages that do not, where their number is known. A GAP of cause `other` is in their place.
    pub lost: Option<u64>,
    /// Lanes that cannot tell any more how far the central instance has them: they need a new epoch,
    /// and what was sent may be there twice.
    pub in_doubt: Vec<Lane>,
}

impl fmt::Display for SetAside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the spool was damaged ({}); ", self.reason)?;
        match &self.path {
            Some(path) => write!(f, "it is set aside as {}; ", path.display())?,
            None => write!(f, "it was removed; ")?,
        }
        match self.lost {
            Some(lost) => write!(f, "{} messages saved, {lost} lost", self.saved),
            None => write!(f, "{} messages saved, an unknown number lost", self.saved),
        }
    }
}

/// Of a file that is not ours, or no file.
const OPERATORS: [ErrorKind; 3] =
    [ErrorKind::PermissionDenied, ErrorKind::NotADirectory, ErrorKind::IsADirectory];
