//! Sealing and opening the chunks of a stream.
//!
//! A stream has keys of its own, which come from the counter of its offer: a chunk has no more to
//! carry than its shape and its tag. Its offset and whether it is the last are bound into the seal.

use crate::error::{ChunkError, OpenError, SealError, Unfinished};
use crate::head::{Shape, padded};
use crate::suite::{BLOCK, OpeningSuite, SealingSuite, SuiteKeys, TAG};

/// The bytes before the content of a sealed chunk.
pub const CHUNK_HEAD: usize = Shape::BYTES;

/// How long a chunk of `plain` bytes is when it is sealed.
#[must_use]
pub const fn sealed_chunk_len(plain: usize) -> usize {
    CHUNK_HEAD + padded(plain) + TAG
}

/// Seals a stream's chunks. Its keys are erased when it is dropped.
pub struct StreamSealer(SealingSuite);

impl StreamSealer {
    pub(crate) fn new(keys: &SuiteKeys) -> Self {
        Self(SealingSuite::new(keys))
    }

    /// Seals the `plain` bytes that lie in `buffer` behind [`CHUNK_HEAD`] others, in place, and gives
    /// how many bytes from the buffer's first are the chunk to send. `offset` is where they lie in
    /// the stream, `last` whether it ends behind them.
    ///
    /// Sealing the same bytes at the same offset again, as after a reconnect, is fine. Other bytes
    /// there need another offer: who reads the wire would see how far both are alike.
    ///
    /// # Errors
    /// [`SealError::NoRoom`].
    pub fn seal_chunk(
        &self,
        offset: u64,
        last: bool,
        buffer: &mut [u8],
        plain: usize,
    ) -> Result<usize, SealError> {
        let needs = sealed_chunk_len(plain);
        let buffer = buffer.get_mut(..needs).ok_or(SealError::NoRoom { needs })?;
        let (front, rest) = buffer.split_at_mut(CHUNK_HEAD);
        let (body, end) = rest.split_at_mut(padded(plain));
        front.copy_from_slice(&Shape::of(plain).encode());
        body[plain..].fill(0);
        let bound = [&offset.to_be_bytes()[..], &[last.into()], front];
        end.copy_from_slice(&self.0.seal(offset, &bound, body));
        Ok(needs)
    }
}

/// Opens a stream's chunks in their order, and knows whether its end came. Its keys are erased when
/// it is dropped.
pub struct StreamOpener {
    suite: OpeningSuite,
    /// the offset of what comes next
    next: u64,
    has_ended: bool,
}

impl StreamOpener {
    pub(crate) fn new(keys: &SuiteKeys) -> Self {
        Self { suite: OpeningSuite::new(keys), next: 0, has_ended: false }
    }

    /// Goes on at that offset: what is before it came by an earlier link, or offer.
    pub fn resume_at(&mut self, offset: u64) {
        self.next = offset;
        self.has_ended = false;
    }

    /// Where the stream goes on: all before it came.
    #[must_use]
    pub fn next_offset(&self) -> u64 {
        self.next
    }

    /// Opens a chunk in place. `offset` and `last` are what its frame says.
    ///
    /// # Errors
    /// [`ChunkError`]; the stream is where it was, and the right chunk can still come.
    pub fn open_chunk<'b>(
        &mut self,
        offset: u64,
        last: bool,
        buffer: &'b mut [u8],
    ) -> Result<&'b mut [u8], ChunkError> {
        let (front, rest) =
            buffer.split_first_chunk_mut::<CHUNK_HEAD>().ok_or(ChunkError::Truncated)?;
        let length = rest.len().checked_sub(TAG).ok_or(ChunkError::Truncated)?;
        let (body, tag) = rest.split_at_mut(length);
        let is_authentic = |front: [u8; CHUNK_HEAD]| {
            let bound = [&offset.to_be_bytes()[..], &[last.into()], &front];
            self.suite.is_authentic(&bound, body, tag)
        };
        let shape = Shape::decode(*front, length).map_err(|error| {
            let blocks = (length / BLOCK).to_le_bytes()[0];
            let should_be = Shape { pad: front[0] & 0x0f, blocks }.encode();
            match error {
                _ if is_authentic(should_be) => ChunkError::Altered,
                OpenError::UnknownFormat(number) => ChunkError::UnknownFormat(number),
                _ => ChunkError::Truncated,
            }
        })?;
        if !is_authentic(*front) {
            return Err(ChunkError::Altered);
        }
        self.step(offset, last, shape.plain(length))?;
        self.suite.decrypt(offset, body);
        Ok(&mut body[..shape.plain(length)])
    }

    /// The stream ended: how many bytes it has.
    ///
    /// # Errors
    /// [`Unfinished`]: its last chunk did not come.
    pub fn finish(&self) -> Result<u64, Unfinished> {
        if self.has_ended { Ok(self.next) } else { Err(Unfinished { bytes: self.next }) }
    }

    /// An authentic chunk came.
    fn step(&mut self, offset: u64, last: bool, plain: usize) -> Result<(), ChunkError> {
        if self.has_ended {
            return Err(ChunkError::AfterEnd);
        }
        if offset != self.next {
            return Err(ChunkError::OutOfPlace { expected: self.next });
        }
        self.next = offset.checked_add(plain as u64).ok_or(ChunkError::TooLong)?;
        self.has_ended = last;
        Ok(())
    }
}
