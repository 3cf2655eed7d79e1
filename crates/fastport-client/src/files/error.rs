//! What can go wrong with files, and who is at fault.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use fastport_seal::ChunkError;
use fastport_wire::control::ErrorCode;
use fastport_wire::topic::TopicError;

use super::name::NameError;
use crate::error::ConnectError;
use crate::seal::{NotOpened, SealFailure};

/// Why a file is not sent, or not to as many receivers as it should be.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum SendError {
    /// The topic is not well formed.
    BadTopic(TopicError),
    /// The file's name cannot be one at its receivers.
    BadName(NameError),
    /// The file cannot be read.
    File(Arc<io::Error>),
    /// The file became shorter while it was sent.
    Cut,
    /// The relay does not take the offer.
    Refused(Option<ErrorCode>),
    /// There is no link any more.
    Ended(ConnectError),
    /// It cannot be sealed.
    Seal(SealFailure),
    /// A bug of this library.
    Internal,
}

/// Why a file is not received.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ReceiveError {
    /// Its name is none that a file here may have.
    BadName(NameError),
    /// It has no length or no digest, and so nobody could say whether it is whole.
    Unchecked,
    /// What is said of it does not open, or is not sealed where all is to be.
    NotOpened(NotOpened),
    /// A chunk of it does not open.
    Chunk(ChunkError),
    /// There is a file of that name, and it is to stay alone.
    Exists,
    /// It is longer than this side takes.
    TooLong,
    /// There is no room for it on the disk: so many bytes are missing, where that is known.
    NoSpace(Option<u64>),
    /// A file cannot be written.
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        why: Arc<io::Error>,
    },
    /// What came is not what was offered: its digest is another.
    Damaged,
    /// What came cannot be unpacked as a directory.
    BadArchive(String),
    /// Another program receives the same file into the same folder.
    Busy,
    /// The sender took it back.
    Cancelled(Option<ErrorCode>),
    /// There is no link any more.
    Ended(ConnectError),
    /// A bug of this library.
    Internal,
}

impl ReceiveError {
    pub(super) fn file(path: impl Into<PathBuf>, why: io::Error) -> Self {
        if why.kind() == io::ErrorKind::StorageFull || why.kind() == io::ErrorKind::QuotaExceeded {
            return Self::NoSpace(None);
        }
        Self::File { path: path.into(), why: Arc::new(why) }
    }

    /// What the sender is told.
    pub(super) fn code(&self) -> ErrorCode {
        match self {
            Self::BadName(_) | Self::Unchecked | Self::NotOpened(_) => ErrorCode::BadControl,
            Self::Exists => ErrorCode::Conflict,
            Self::TooLong => ErrorCode::PayloadTooLong,
            Self::NoSpace(_) => ErrorCode::NoSpace,
            Self::Damaged | Self::Chunk(_) | Self::BadArchive(_) => ErrorCode::Damaged,
            _ => ErrorCode::Unavailable,
        }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadTopic(error) => write!(f, "no topic: {error}"),
            Self::BadName(error) => write!(f, "no name that a receiver takes: {error}"),
            Self::File(error) => write!(f, "cannot be read: {error}"),
            Self::Cut => f.write_str("became shorter while it was sent"),
            Self::Refused(code) => match code {
                Some(ErrorCode::Forbidden) => f.write_str("not allowed on that topic"),
                Some(ErrorCode::PayloadTooLong) => {
                    f.write_str("longer than the relay takes (limits.stream.size there)")
                }
                Some(ErrorCode::LimitReached) => {
                    f.write_str("the relay has too many streams, or no memory, for now")
                }
                Some(code) => write!(f, "refused by the relay: {code}"),
                None => f.write_str("refused by the relay"),
            },
            Self::Ended(error) => error.fmt(f),
            Self::Seal(error) => write!(f, "cannot be sealed: {error}"),
            Self::Internal => f.write_str("a bug in the client library"),
        }
    }
}

impl fmt::Display for ReceiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadName(error) => write!(f, "not a name for a file here: {error}"),
            Self::Unchecked => f.write_str("offered without a length or digest to check it by"),
            Self::NotOpened(error) => write!(f, "its offer is refused: {error} ({})", error.name()),
            Self::Chunk(error) => write!(f, "a chunk of it is refused: {error}"),
            Self::Exists => f.write_str("there is a file of that name"),
            Self::TooLong => f.write_str("longer than is taken here"),
            Self::NoSpace(Some(missing)) => {
                write!(f, "no room on the disk: {missing} bytes are missing")
            }
            Self::NoSpace(None) => f.write_str("no room on the disk"),
            Self::File { path, why } => write!(f, "{}: {why}", path.display()),
            Self::Damaged => f.write_str("damaged: not what the sender offered"),
            Self::BadArchive(why) => write!(f, "cannot be unpacked: {why}"),
            Self::Busy => f.write_str("another program is receiving it into that folder"),
            Self::Cancelled(None) => f.write_str("taken back by its sender"),
            Self::Cancelled(Some(code)) => write!(f, "taken back: {code}"),
            Self::Ended(error) => error.fmt(f),
            Self::Internal => f.write_str("a bug in the client library"),
        }
    }
}

impl std::error::Error for SendError {}

impl std::error::Error for ReceiveError {}
