//! What a central instance keeps: messages and gaps of its sessions, with how far each session's
//! stream is.
//!
//! It promises: what a [`Store`] has committed is on disk, once, in the order in which it came, with
//! the count that says so in the same transaction; a store that fails leaves the frames with the
//! session, which holds them, and is tried again. The oldest make room.

mod keeper;
mod lived;
mod seated;
mod sqlite;
mod tap;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use fastport_wire::frame::GapCause;

pub use self::keeper::{Keeper, Options};
pub use self::lived::Lived;
pub use self::sqlite::Sqlite;

/// How far a session's stream is in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// The epoch of the store's peer in the session.
    pub epoch: u64,
    /// Counted frames of the epoch.
    pub count: u64,
    /// Batches that were committed.
    pub serial: u64,
}

/// A topic as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Topic {
    /// Its name.
    pub name: Box<str>,
    /// Its schema; empty: none.
    pub schema: Box<[u8]>,
}

/// A message, or some that did not come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A message.
    Message {
        /// Its place in [`Part::topics`].
        topic: usize,
        /// The flags of its DATA frame.
        flags: u8,
        /// When it was taken, in milliseconds since 1970.
        stamp: u64,
        /// Its place in [`Part::payloads`].
        payload: Range<usize>,
    },
    /// Messages that did not come.
    Gap {
        /// Their topic's place in [`Part::topics`]; `None`: several.
        topic: Option<usize>,
        /// How many.
        messages: u64,
        /// Why.
        cause: GapCause,
        /// Counted frames of the epoch before them.
        place: u64,
    },
}

/// What came in one session since the last commit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Part {
    /// The session's name.
    pub session: Box<str>,
    /// How far the session's stream is with this.
    pub position: Position,
    /// In the order in which they came.
    pub entries: Vec<Entry>,
    /// What the entries name.
    pub topics: Vec<Arc<Topic>>,
    /// The messages' payloads, one behind the other.
    pub payloads: Vec<u8>,
}

/// How much is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// For how long.
    pub age: Duration,
    /// How many bytes, by [`message_bytes`].
    pub bytes: u64,
}

/// What a store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// Messages.
    pub messages: u64,
    /// Their bytes, by [`message_bytes`].
    pub bytes: u64,
}

/// What one step of making room came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trimmed {
    /// Messages that made room.
    pub messages: u64,
    /// There is more to make room for.
    pub goes_on: bool,
}

/// A place where messages are kept. Its calls block; one task makes them, one after the other.
pub trait Store: Send + fmt::Debug {
    /// How far a session's stream is; `None`: nothing of it was ever stored.
    ///
    /// # Errors
    /// [`StoreError`].
    fn position(&mut self, session: &str) -> Result<Option<Position>, StoreError>;

    /// How many messages are noted as missing at that position.
    ///
    /// # Errors
    /// [`StoreError`].
    fn missing_at(&mut self, session: &str, position: Position) -> Result<Missing, StoreError>;

    /// Says that a session's stream begins anew, or goes on elsewhere.
    ///
    /// # Errors
    /// [`StoreError`].
    fn set_position(&mut self, session: &str, position: Position) -> Result<(), StoreError>;

    /// Stores all parts and their positions, or nothing. A part whose batch was committed before is
    /// passed over, so that one whose commit may have failed can be given again.
    ///
    /// # Errors
    /// [`StoreError`]: nothing is stored, or nobody knows.
    fn commit(&mut self, now: Lived, parts: &[Part]) -> Result<(), StoreError>;

    /// How long it had lived at its last commit.
    ///
    /// # Errors
    /// [`StoreError`].
    fn lived(&mut self) -> Result<Lived, StoreError>;

    /// Takes one small step to hold no more than `keep`; the oldest go first.
    ///
    /// # Errors
    /// [`StoreError`].
    fn trim(&mut self, now: Lived, keep: Keep) -> Result<Trimmed, StoreError>;

    /// What it holds.
    ///
    /// # Errors
    /// [`StoreError`].
    fn figures(&mut self) -> Result<Figures, StoreError>;
}

/// Messages that are missing, by topic (empty: of several) and by the cause's number: what is said again
/// after a crash may come in another order.
pub type Missing = BTreeMap<(Box<str>, u8), u64>;

/// A store cannot do what was asked of it.
#[derive(Debug)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no room where it is.
    Full {
        /// Where.
        place: String,
    },
    /// It was written by a later version of fastPort.
    Newer {
        /// Where.
        place: String,
        /// The version of its schema.
        version: i64,
    },
    /// Anything else.
    Failed {
        /// What was tried: "open", "commit".
        doing: &'static str,
        /// Where.
        place: String,
        /// What the store says.
        error: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { place } => {
                write!(f, "{place}: no room left; make some, or lower central.bytes")
            }
            Self::Newer { place, version } => write!(
                f,
                "{place}: written by a later fastPort (schema {version}); update this one, or \
                 name another file in central.store"
            ),
            Self::Failed { doing, place, error } => write!(f, "{place}: cannot {doing}: {error}"),
        }
    }
}

impl std::error::Error for StoreError {}

/// What a message counts towards [`Keep::bytes`]: its payload, and what its row and a GAP's take.
#[must_use]
pub const fn message_bytes(payload: u64) -> u64 {
    payload + ROW_BYTES
}

/// Numbers of a row, and its share of a page.
const ROW_BYTES: u64 = 32;
