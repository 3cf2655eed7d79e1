//! What became of sealed messages.

use std::fmt;

use fastport_seal::OpenError;

/// Why a message on a sealed topic is not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotOpened {
    /// It does not open.
    Seal(OpenError),
    /// It is not sealed.
    Unsealed,
    /// There are no keys: [`crate::Options::seal`] is not set.
    NoKeys,
}

impl NotOpened {
    /// The cause in a word, as `docs/sealing.md` has it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        CAUSES[self.number()]
    }

    /// The cause's place in [`CAUSES`].
    fn number(self) -> usize {
        match self {
            Self::Seal(error) => match error {
                OpenError::Truncated => 0,
                OpenError::UnknownFormat(_) => 1,
                OpenError::UnknownKey(_) => 2,
                OpenError::OtherSession => 3,
                OpenError::OtherTopic => 4,
                OpenError::Replay { .. } => 6,
                OpenError::TooOld { .. } => 7,
                OpenError::TooManySenders => 8,
                // what a later version tells apart is not authentic either
                _ => 5,
            },
            Self::Unsealed | Self::NoKeys => 9,
        }
    }
}

impl fmt::Display for NotOpened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seal(error) => error.fmt(f),
            Self::NoKeys => f.write_str("there is no key to open it with"),
            Self::Unsealed => f.write_str("not sealed, on a topic where all is to be"),
        }
    }
}

impl std::error::Error for NotOpened {}

impl From<OpenError> for NotOpened {
    fn from(error: OpenError) -> Self {
        Self::Seal(error)
    }
}

/// How many messages were sealed, opened, and refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SealFigures {
    /// Published sealed.
    pub sealed: u64,
    /// Opened and delivered.
    pub opened: u64,
    refused: [u64; CAUSES.len()],
}

impl SealFigures {
    /// How many were refused, by cause, those that there were.
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        CAUSES.into_iter().zip(self.refused).filter(|(_, count)| *count > 0)
    }

    /// How many were refused for that cause.
    #[must_use]
    pub fn refused_for(&self, cause: NotOpened) -> u64 {
        self.refused[cause.number()]
    }

    pub(super) fn note(&mut self, cause: NotOpened) {
        self.refused[cause.number()] += 1;
    }
}

const CAUSES: [&str; 10] = [
    "truncated",
    "unknown-format",
    "unknown-key",
    "other-session",
    "other-topic",
    "altered",
    "replay",
    "too-old",
    "too-many-senders",
    "unsealed",
];
