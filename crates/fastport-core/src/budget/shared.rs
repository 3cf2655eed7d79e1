//! Bytes that stand once for all outboxes that will write them.

use alloc::vec::Vec;

use super::{Buffers, NoBudget};

/// Buffers that several outboxes refer to; each is freed with its last [`Span`].
#[derive(Debug, Default)]
pub(super) struct Chunks {
    all: Vec<Chunk>,
    /// places in `all` that are free
    free: Vec<u32>,
    /// the one that is being filled
    open: Option<u32>,
}

#[derive(Debug, Default)]
struct Chunk {
    bytes: Vec<u8>,
    spans: u32,
}

/// Where bytes lie that are shared. Who has one holds it, and says by [`Buffers::let_go`] when it does
/// not need it any more; who gives it to another says so by [`Buffers::hold`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub(crate) chunk: u32,
    pub(crate) start: u32,
    /// start <= end
    pub(crate) end: u32,
}

impl Span {
    /// How many bytes it has.
    #[must_use]
    pub fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

impl Buffers {
    /// Copies bytes to where they can be shared.
    ///
    /// # Errors
    /// [`NoBudget`].
    pub fn share(&mut self, bytes: &[u8]) -> Result<Span, NoBudget> {
        let (number, start) = self.open_chunk(bytes.len())?;
        let chunk = self.chunks.all.get_mut(number as usize).ok_or(NoBudget)?;
        chunk.bytes.extend_from_slice(bytes);
        chunk.spans += 1;
        let end = u32::try_from(chunk.bytes.len()).map_err(|_| NoBudget)?;
        Ok(Span { chunk: number, start, end })
    }

    /// Whether somebody holds something of the buffer that is being filled.
    #[inline]
    #[must_use]
    pub fn is_sharing(&self) -> bool {
        let open = self.chunks.open.and_then(|open| self.chunks.all.get(open as usize));
        open.is_some_and(|chunk| chunk.spans > 0)
    }

    /// The bytes of a span that is held.
    #[inline]
    #[must_use]
    pub fn shared(&self, span: Span) -> &[u8] {
        let chunk = self.chunks.all.get(span.chunk as usize);
        let bytes = chunk.and_then(|chunk| chunk.bytes.get(span.start as usize..span.end as usize));
        bytes.unwrap_or_default()
    }

    /// Notes another holder of bytes of the span's buffer.
    #[inline]
    pub fn hold(&mut self, span: Span) {
        if let Some(chunk) = self.chunks.all.get_mut(span.chunk as usize) {
            chunk.spans += 1;
        }
    }

    /// A holder does not need the bytes any more.
    #[inline]
    pub fn let_go(&mut self, span: Span) {
        let Some(chunk) = self.chunks.all.get_mut(span.chunk as usize) else { return };
        chunk.spans = chunk.spans.saturating_sub(1);
        if chunk.spans > 0 {
            return;
        }
        chunk.bytes.clear();
        if self.chunks.open != Some(span.chunk) {
            self.free_chunk(span.chunk);
        }
    }

    /// Frees the buffer that is being filled, where nobody holds anything of it.
    pub(super) fn close_unheld(&mut self) {
        let Some(open) = self.chunks.open else { return };
        let is_held = self.chunks.all.get(open as usize).is_some_and(|chunk| chunk.spans > 0);
        if !is_held {
            self.chunks.open = None;
            self.free_chunk(open);
        }
    }

    /// What the shared buffers are charged with.
    pub(super) fn shared_capacity(&self) -> usize {
        self.chunks.all.iter().map(|chunk| chunk.bytes.capacity()).sum()
    }

    /// The chunk that `length` bytes fit into, and where.
    fn open_chunk(&mut self, length: usize) -> Result<(u32, u32), NoBudget> {
        if let Some(open) = self.chunks.open
            && let Some(chunk) = self.chunks.all.get(open as usize)
        {
            if chunk.bytes.capacity() - chunk.bytes.len() >= length {
                return Ok((open, u32::try_from(chunk.bytes.len()).map_err(|_| NoBudget)?));
            }
            self.close_unheld();
            self.chunks.open = None;
        }
        let mut bytes = Vec::new();
        self.reserve(&mut bytes, length.max(CHUNK_BYTES))?;
        let chunk = Chunk { bytes, spans: 0 };
        let number = match self.chunks.free.pop() {
            Some(number) => number,
            None => {
                self.chunks.all.push(Chunk::default());
                u32::try_from(self.chunks.all.len() - 1).map_err(|_| NoBudget)?
            }
        };
        if let Some(place) = self.chunks.all.get_mut(number as usize) {
            *place = chunk;
        }
        self.chunks.open = Some(number);
        Ok((number, 0))
    }

    fn free_chunk(&mut self, number: u32) {
        let Some(chunk) = self.chunks.all.get_mut(number as usize) else { return };
        let mut bytes = core::mem::take(&mut chunk.bytes);
        self.chunks.free.push(number);
        self.release(&mut bytes);
    }
}

/// As much as a link reads at once; little enough in tests that there are several.
const CHUNK_BYTES: usize = if cfg!(test) { 256 } else { 64 * 1024 };
