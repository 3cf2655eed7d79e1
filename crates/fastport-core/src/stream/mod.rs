//! What both ends of a link know of streams: where chunks wait, and whose turn it is to be written.
//!
//! Chunks do not lie in an [`crate::outbox`], since messages go before them: each stream has a
//! [`Ring`] of its own, and a [`Lane`] says which of a link's rings is written next.

mod lane;
mod ring;

pub use self::lane::{Lane, Turn};
pub use self::ring::{Full, Ring, Written};

/// The bytes that a ring needs for `window` bytes of a stream in chunks of a reasonable length: their
/// heads, and what may stay empty at its end.
#[must_use]
pub const fn ring_bytes(window: usize) -> usize {
    window + window / HEADS_SHARE + fastport_wire::field::MAX_CHUNK + HEAD_ROOM
}

/// Heads of chunks of 320 bytes or more take less than a sixteenth.
const HEADS_SHARE: usize = 16;
/// Heads of the few chunks that a small window has.
const HEAD_ROOM: usize = 256;
