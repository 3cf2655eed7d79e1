//! The head of a sealed message.

use crate::error::OpenError;
use crate::key::{KeyId, SenderId};
use crate::suite::{BLOCK, TAG};

/// The bytes before the content of a sealed message.
pub const MESSAGE_HEAD: usize = 22;

/// How long a message of `plain` bytes is when it is sealed.
#[must_use]
pub const fn sealed_len(plain: usize) -> usize {
    MESSAGE_HEAD + padded(plain) + TAG
}

/// Up to whole blocks.
pub(crate) const fn padded(plain: usize) -> usize {
    plain.next_multiple_of(BLOCK)
}

/// Format and length: the first two bytes of what is sealed, message or chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// 0 <= pad < BLOCK
    pub(crate) pad: u8,
    /// the number of blocks, of which these bits travel
    pub(crate) blocks: u8,
}

impl Shape {
    pub(crate) const BYTES: usize = 2;

    pub(crate) fn of(plain: usize) -> Self {
        let pad = (padded(plain) - plain).to_le_bytes()[0];
        Self { pad, blocks: (padded(plain) / BLOCK).to_le_bytes()[0] }
    }

    pub(crate) fn encode(self) -> [u8; Self::BYTES] {
        [FORMAT << 4 | self.pad, self.blocks]
    }

    /// What that says of a body of so many bytes, tag not counted.
    pub(crate) fn decode(bytes: [u8; Self::BYTES], body: usize) -> Result<Self, OpenError> {
        let [first, blocks] = bytes;
        let (format, pad) = (first >> 4, first & 0x0f);
        if format != FORMAT {
            return Err(OpenError::UnknownFormat(format));
        }
        let is_whole = body.is_multiple_of(BLOCK) && blocks == (body / BLOCK).to_le_bytes()[0];
        if !is_whole || body < pad.into() {
            return Err(OpenError::Truncated);
        }
        Ok(Self { pad, blocks })
    }

    /// How much of a body of so many bytes is content.
    pub(crate) fn plain(self, body: usize) -> usize {
        body - usize::from(self.pad)
    }
}

/// What a sealed message says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) key: KeyId,
    pub(crate) session: [u8; 2],
    /// of the place
    pub(crate) hint: [u8; 2],
    pub(crate) sender: SenderId,
    pub(crate) counter: u64,
}

impl Head {
    pub(crate) fn encode(&self, shape: [u8; Shape::BYTES]) -> [u8; MESSAGE_HEAD] {
        let mut out = [0; MESSAGE_HEAD];
        out[field::SHAPE].copy_from_slice(&shape);
        out[field::KEY].copy_from_slice(&self.key.0);
        out[field::SESSION].copy_from_slice(&self.session);
        out[field::HINT].copy_from_slice(&self.hint);
        out[field::SENDER].copy_from_slice(&self.sender.0);
        out[field::COUNTER].copy_from_slice(&self.counter.to_be_bytes()[8 - COUNTER_BYTES..]);
        out
    }

    pub(crate) fn decode(bytes: &[u8; MESSAGE_HEAD]) -> Self {
        let two = |at: usize| [bytes[at], bytes[at + 1]];
        let mut sender = SenderId([0; 8]);
        sender.0.copy_from_slice(&bytes[field::SENDER]);
        let mut counter = [0; 8];
        counter[8 - COUNTER_BYTES..].copy_from_slice(&bytes[field::COUNTER]);
        Self {
            key: KeyId(two(field::KEY.start)),
            session: two(field::SESSION.start),
            hint: two(field::HINT.start),
            sender,
            counter: u64::from_be_bytes(counter),
        }
    }
}

/// Where what lies in a head.
mod field {
    use core::ops::Range;

    pub(super) const SHAPE: Range<usize> = 0..2;
    pub(super) const KEY: Range<usize> = 2..4;
    pub(super) const SESSION: Range<usize> = 4..6;
    pub(super) const HINT: Range<usize> = 6..8;
    pub(super) const SENDER: Range<usize> = 8..16;
    pub(super) const COUNTER: Range<usize> = 16..22;
}

/// The number of this format, the high half of the first byte.
const FORMAT: u8 = 0x1;
const COUNTER_BYTES: usize = 6;
/// The counters end here: at a million messages a second, in nine years.
pub(crate) const COUNTERS: u64 = 1 << (8 * COUNTER_BYTES);
