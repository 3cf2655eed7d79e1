//! What can go wrong.

use core::fmt;

use crate::key::KeyId;

/// Why a sealed message does not open. Nothing of it was decrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenError {
    /// Bytes are missing, or there are more than were sealed.
    Truncated,
    /// Sealed in a format of that number, which this version does not know.
    UnknownFormat(u8),
    /// Sealed with another key than those at hand.
    UnknownKey(KeyId),
    /// Sealed with a key at hand, in another session.
    OtherSession,
    /// Sealed for another topic, as another kind of content, or under another schema.
    OtherTopic,
    /// Something of it was changed since it was sealed.
    Altered,
    /// It came before.
    Replay {
        /// Its number.
        counter: u64,
    },
    /// It is authentic, and so old that nobody knows whether it came before.
    TooOld {
        /// Its number.
        counter: u64,
        /// The least that could be taken.
        oldest: u64,
    },
    /// It is authentic, and its sender one more than there is room for.
    TooManySenders,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("truncated: bytes are missing, or were added"),
            Self::UnknownFormat(number) => {
                write!(f, "sealed in format {number}, which this version does not know")
            }
            Self::UnknownKey(key) => {
                write!(f, "wrong key: sealed with key {key}, which is not among those at hand")
            }
            Self::OtherSession => f.write_str("sealed in another session"),
            Self::OtherTopic => {
                f.write_str("sealed for another topic, or as another kind of content")
            }
            Self::Altered => f.write_str("altered since it was sealed"),
            Self::Replay { counter } => write!(f, "replayed: message {counter} came before"),
            Self::TooOld { counter, oldest } => {
                write!(
                    f,
                    "too old: message {counter}, where {oldest} is the oldest that could be new"
                )
            }
            Self::TooManySenders => f.write_str("from one sender more than there is room for"),
        }
    }
}

impl core::error::Error for OpenError {}

/// Why a message or chunk is not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SealError {
    /// The buffer is too short.
    NoRoom {
        /// What it needs.
        needs: usize,
    },
    /// No counter is reserved: write [`crate::Sealer::wants`] down first.
    NotReserved,
    /// All counters of this sender are used: begin with a new [`crate::SenderId`].
    Exhausted,
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoom { needs } => write!(f, "the buffer needs {needs} bytes to seal in"),
            Self::NotReserved => f.write_str("no counter is reserved to seal with"),
            Self::Exhausted => {
                f.write_str("all counters of this sender are used; it needs a new id")
            }
        }
    }
}

impl core::error::Error for SealError {}

/// Why a sealed chunk does not open. Nothing of it was decrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChunkError {
    /// Bytes are missing, or there are more than were sealed.
    Truncated,
    /// Sealed in a format of that number, which this version does not know.
    UnknownFormat(u8),
    /// Of another stream, for another offset, with another end, or changed since it was sealed.
    Altered,
    /// Its offset is not where the stream goes on: chunks are missing, or came again.
    OutOfPlace {
        /// Where it goes on.
        expected: u64,
    },
    /// The stream had its end.
    AfterEnd,
    /// It reaches beyond what a stream can hold.
    TooLong,
}

impl fmt::Display for ChunkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => OpenError::Truncated.fmt(f),
            Self::UnknownFormat(number) => OpenError::UnknownFormat(*number).fmt(f),
            Self::Altered => {
                f.write_str("altered since it was sealed, or of another stream or place in it")
            }
            Self::OutOfPlace { expected } => {
                write!(f, "out of place: the stream goes on at byte {expected}")
            }
            Self::AfterEnd => f.write_str("behind the stream's end"),
            Self::TooLong => f.write_str("beyond what a stream can hold"),
        }
    }
}

impl core::error::Error for ChunkError {}

/// A stream ended without its authentic end: it is truncated behind that many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unfinished {
    /// How many are authentic.
    pub bytes: u64,
}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the stream is truncated behind {} bytes: its end did not come", self.bytes)
    }
}

impl core::error::Error for Unfinished {}
