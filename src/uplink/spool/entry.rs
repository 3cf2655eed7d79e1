//! What goes into the spool, and what comes out.

use std::sync::Arc;
use std::time::Duration;

use fastport_wire::frame::{DataFlags, GapCause};

use crate::config::WhenSpoolFull;

/// What the caller's clocks show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds since the machine was booted, suspension included (`CLOCK_BOOTTIME`).
    pub boot_ms: u64,
    /// Milliseconds since 1970; none while the machine's clock is not set.
    pub unix_ms: Option<u64>,
}

/// When a message was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stamp {
    /// Milliseconds since 1970.
    Unix(u64),
    /// Milliseconds since this boot: the clock was not set. Read back after the clock was set, also
    /// in a later boot, it is [`Stamp::Unix`].
    Boot(u64),
    /// Read only: milliseconds since another boot, in which the clock was never set.
    OtherBoot {
        /// The boot's id.
        boot: Arc<str>,
        /// Milliseconds.
        ms: u64,
    },
}

/// Something to keep, in the order of its lane.
#[derive(Debug, Clone, Copy)]
pub enum Entry<'a> {
    /// A message.
    Message(Message<'a>),
    /// Messages that were dropped before they came here; not in this spool's ledger.
    Gap {
        /// Their topic; none: several.
        topic: Option<&'a str>,
        /// How many.
        count: u64,
        /// Why.
        cause: GapCause,
    },
}

/// A message to keep.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// Its topic's name.
    pub topic: &'a str,
    /// The topic's schema, where its messages are readings.
    pub schema: Option<&'a [u8]>,
    /// Its flags.
    pub flags: DataFlags,
    /// When it was taken; [`Stamp::OtherBoot`] counts as of this boot.
    pub stamp: &'a Stamp,
    /// What was published.
    pub payload: &'a [u8],
    /// What its rule does when the spool is full.
    pub when_full: WhenSpoolFull,
    /// The longest that it may wait, from when it is appended on; whole seconds. Zero: no limit.
    pub max_age: Duration,
    /// Who waits to hear that it is at the central instance.
    pub publisher: Option<(&'a Publisher, u64)>,
}

/// A publisher and the life that its counts are of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Publisher {
    /// Who it is.
    pub identity: String,
    /// Which of its devices.
    pub name: String,
    /// The link epoch of its counts.
    pub epoch: u64,
}

/// A row of a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its place in the lane; later rows have higher ones.
    pub seq: u64,
    /// The central instance's count once it has this row and all before it.
    pub central_count: u64,
    /// What it holds.
    pub body: Body,
}

/// What a row holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A message: one counted frame.
    Message {
        /// Its topic.
        topic: Arc<Topic>,
        /// Its flags.
        flags: DataFlags,
        /// When it was taken.
        stamp: Stamp,
        /// What was published.
        payload: Vec<u8>,
    },
    /// In place of messages that were dropped: no counted frame.
    Gap {
        /// Their topic; none: several.
        topic: Option<Arc<Topic>>,
        /// How many.
        count: u64,
        /// Why.
        cause: GapCause,
    },
}

/// A topic of a row; rows of one reading share it.
#[derive(Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its schema, where its messages are readings.
    pub schema: Option<Vec<u8>>,
}
