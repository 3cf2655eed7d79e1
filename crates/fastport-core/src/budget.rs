//! One budget for all memory that grows with traffic, and the buffers taken from it.

mod shared;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

use self::shared::Chunks;
pub use self::shared::Span;

/// A number of bytes that all parts share. It is never exceeded: who asks for more is refused.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    used: AtomicUsize,
    /// of the machine's width: small processors have no wider atomics, and a counter may wrap
    refused: AtomicUsize,
    /// what this is a part of
    whole: Option<Arc<Self>>,
}

impl Budget {
    /// A budget of `limit` bytes.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { limit, used: AtomicUsize::new(0), refused: AtomicUsize::new(0), whole: None }
    }

    /// A part of `whole`, which may use all of it: what is taken here is taken there as well. What
    /// was not given back is when the part is dropped, so that a session that ends owes nothing.
    #[must_use]
    pub fn part_of(whole: Arc<Self>) -> Self {
        let mut part = Self::new(whole.limit);
        part.whole = Some(whole);
        part
    }

    /// The most bytes that may be in use.
    #[must_use]
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes in use: 0 to [`Budget::limit`].
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Bytes that can still be taken, as far as others leave them.
    #[must_use]
    pub fn free(&self) -> usize {
        let here = self.limit.saturating_sub(self.used());
        self.whole.as_ref().map_or(here, |whole| here.min(whole.free()))
    }

    /// How often bytes were refused; on a 32-bit machine it starts again at zero after 2^32.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed) as u64
    }

    /// Takes `bytes`; whether there was room for them.
    #[must_use]
    pub fn try_take(&self, bytes: usize) -> bool {
        let within = |used: usize| used.checked_add(bytes).filter(|&sum| sum <= self.limit);
        let mut taken =
            self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).is_ok();
        if taken && self.whole.as_ref().is_some_and(|whole| !whole.try_take(bytes)) {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
            taken = false;
        }
        if !taken {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    /// Gives back bytes taken before.
    pub fn give_back(&self, bytes: usize) {
        let less = |used: usize| {
            debug_assert!(used >= bytes, "{bytes} bytes given back where {used} are taken");
            Some(used.saturating_sub(bytes))
        };
        let before = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        if let (Some(whole), Ok(before)) = (&self.whole, before) {
            whole.give_back(before.min(bytes));
        }
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        if let Some(whole) = &self.whole {
            whole.give_back(self.used());
        }
    }
}

/// There is no room left in the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoBudget;

/// Buffers charged to a budget by their capacity, with a few warm ones kept for the next reader.
#[derive(Debug)]
pub struct Buffers {
    budget: Arc<Budget>,
    /// at most [`SMALL_BUFFERS`], each of at most [`SMALL_CAPACITY`] bytes
    small: Vec<Vec<u8>>,
    /// at most [`LARGE_BUFFERS`], each of at most [`LARGE_CAPACITY`] bytes
    large: Vec<Vec<u8>>,
    /// what the large ones are charged with: at most half the budget
    large_bytes: usize,
    /// large ones were wanted since the last look
    is_busy: bool,
    chunks: Chunks,
}

impl Buffers {
    /// Buffers charged to `budget`.
    #[must_use]
    pub fn new(budget: Arc<Budget>) -> Self {
        Self {
            budget,
            small: Vec::new(),
            large: Vec::new(),
            large_bytes: 0,
            is_busy: false,
            chunks: Chunks::default(),
        }
    }

    /// The budget.
    #[must_use]
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Makes room for `more` bytes behind those in `buffer`.
    ///
    /// # Errors
    /// [`NoBudget`]; `buffer` is then as it was.
    #[inline]
    pub fn reserve(&mut self, buffer: &mut Vec<u8>, more: usize) -> Result<(), NoBudget> {
        self.reserve_within(buffer, more, 0)
    }

    /// As [`Buffers::reserve`]; `buffer` may become as large as `spacious`, though less will do.
    ///
    /// # Errors
    /// As [`Buffers::reserve`].
    #[inline]
    pub fn reserve_within(
        &mut self,
        buffer: &mut Vec<u8>,
        more: usize,
        spacious: usize,
    ) -> Result<(), NoBudget> {
        if buffer.capacity() - buffer.len() >= more {
            return Ok(());
        }
        self.grow(buffer, more, spacious)
    }

    /// Frees `buffer`, or keeps it warm.
    #[inline]
    pub fn release(&mut self, buffer: &mut Vec<u8>) {
        if buffer.capacity() == 0 {
            return;
        }
        let mut freed = core::mem::take(buffer);
        let capacity = freed.capacity();
        if capacity <= SMALL_CAPACITY && self.small.len() < SMALL_BUFFERS {
            freed.clear();
            self.small.push(freed);
        } else if capacity > SMALL_CAPACITY && self.keeps_large(capacity) {
            freed.clear();
            self.large_bytes += capacity;
            self.large.push(freed);
            self.drop_smallest();
        } else {
            self.budget.give_back(capacity);
        }
    }

    fn keeps_large(&self, capacity: usize) -> bool {
        capacity <= LARGE_CAPACITY && self.large_bytes + capacity <= self.budget.limit() / 2
    }

    /// Of too many large buffers the smallest goes: streams want the others.
    fn drop_smallest(&mut self) {
        if self.large.len() <= LARGE_BUFFERS {
            return;
        }
        let smallest = (0..).zip(&self.large).min_by_key(|(_, buffer)| buffer.capacity());
        if let Some((place, _)) = smallest {
            let capacity = self.large.swap_remove(place).capacity();
            self.large_bytes -= capacity;
            self.budget.give_back(capacity);
        }
    }

    /// Whether large buffers were in use since this was last asked.
    #[must_use]
    pub fn take_busy(&mut self) -> bool {
        core::mem::take(&mut self.is_busy)
    }

    /// Gives back what `buffer` has room for and does not hold.
    pub fn shrink(&self, buffer: &mut Vec<u8>) {
        let before = buffer.capacity();
        buffer.shrink_to_fit();
        self.budget.give_back(before - buffer.capacity());
    }

    /// Frees the warm buffers: their room is wanted, or nothing happens any more. Returns how many
    /// bytes that gave back.
    pub fn trim(&mut self) -> usize {
        self.close_unheld();
        let warm = self.small.drain(..).chain(self.large.drain(..));
        let freed = warm.map(|buffer| buffer.capacity()).sum();
        self.large_bytes = 0;
        self.budget.give_back(freed);
        freed
    }

    /// What the warm buffers are charged with.
    #[cfg(test)]
    pub(crate) fn spare_bytes(&self) -> usize {
        let warm: usize = self.small.iter().chain(&self.large).map(Vec::capacity).sum();
        warm + self.shared_capacity()
    }

    fn grow(&mut self, buffer: &mut Vec<u8>, more: usize, spacious: usize) -> Result<(), NoBudget> {
        let needed = buffer.len().checked_add(more).ok_or(NoBudget)?;
        if needed > SMALL_CAPACITY {
            self.is_busy = true;
            // one that is far too large may be held for long
            let most = spacious.max(SPACIOUS * needed);
            let fits = |warm: &Vec<u8>| (needed..=most).contains(&warm.capacity());
            if let Some(place) = self.large.iter().rposition(fits) {
                let mut warm = self.large.swap_remove(place);
                self.large_bytes -= warm.capacity();
                warm.extend_from_slice(buffer);
                core::mem::swap(buffer, &mut warm);
                self.release(&mut warm);
                return Ok(());
            }
        } else if buffer.capacity() == 0
            && let Some(warm) = self.small.pop()
        {
            *buffer = warm;
            let reserved = self.reserve(buffer, more);
            if reserved.is_err() {
                self.release(buffer);
            }
            return reserved;
        }
        let generous = needed.max(buffer.capacity() * 2).max(LEAST_CAPACITY);
        self.grow_to(buffer, generous).or_else(|NoBudget| {
            self.trim();
            self.grow_to(buffer, needed)
        })
    }

    fn grow_to(&self, buffer: &mut Vec<u8>, capacity: usize) -> Result<(), NoBudget> {
        let before = buffer.capacity();
        if !self.budget.try_take(capacity - before) {
            return Err(NoBudget);
        }
        if buffer.try_reserve_exact(capacity - buffer.len()).is_err() {
            self.budget.give_back(capacity - before);
            return Err(NoBudget);
        }
        Ok(())
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        self.trim();
        self.budget.give_back(self.shared_capacity());
    }
}

/// Warm buffers kept for single messages.
const SMALL_BUFFERS: usize = 16;
/// The most that a reader holds who gets a message now and then.
const SMALL_CAPACITY: usize = 4 * 1024;
/// Warm buffers kept for streams: many readers' are filled, and emptied one after another. Memory
/// fresh from the system costs a page fault for each 4 KiB, five times what filling it does.
const LARGE_BUFFERS: usize = 64;
/// A larger buffer is freed at once: it was an exception.
const LARGE_CAPACITY: usize = 512 * 1024;
/// A buffer this many times as large as what it is to hold is not given for it unasked.
const SPACIOUS: usize = 4;
/// The least worth allocating.
const LEAST_CAPACITY: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_never_exceeded() {
        let budget = Budget::new(100);
        assert!(budget.try_take(60));
        assert!(!budget.try_take(41));
        assert!(budget.try_take(40));
        assert_eq!((budget.used(), budget.refused()), (100, 1));
        budget.give_back(100);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_part_takes_from_the_whole_and_owes_nothing_when_it_ends() {
        let whole = Arc::new(Budget::new(100));
        let (one, other) =
            (Budget::part_of(Arc::clone(&whole)), Budget::part_of(Arc::clone(&whole)));
        assert!(one.try_take(60) && other.try_take(30));
        assert!(!one.try_take(11), "the whole has no more");
        assert_eq!((one.used(), other.used(), whole.used()), (60, 30, 90));
        one.give_back(20);
        assert_eq!((one.used(), whole.used()), (40, 70));
        drop(one);
        assert_eq!(whole.used(), 30);
        drop(other);
        assert_eq!(whole.used(), 0);
    }

    #[test]
    fn buffers_are_charged_by_what_they_hold_in_memory() {
        let budget = Arc::new(Budget::new(4096));
        let mut buffers = Buffers::new(Arc::clone(&budget));
        let mut buffer = Vec::new();
        assert_eq!(buffers.reserve(&mut buffer, 1000), Ok(()));
        assert_eq!(budget.used(), buffer.capacity());
        assert_eq!(buffers.reserve(&mut buffer, 5000), Err(NoBudget));
        buffers.release(&mut buffer);
        assert!(budget.used() > 0, "kept warm");
        buffers.trim();
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_stream_gets_the_warm_buffer_of_the_one_before() {
        let budget = Arc::new(Budget::new(1 << 20));
        let mut buffers = Buffers::new(Arc::clone(&budget));
        let mut first = Vec::new();
        assert_eq!(buffers.reserve(&mut first, 50_000), Ok(()));
        let place = first.as_ptr();
        buffers.release(&mut first);
        assert!(buffers.take_busy() && !buffers.take_busy());

        let mut second = Vec::new();
        assert_eq!(buffers.reserve(&mut second, 100), Ok(()));
        assert!(second.capacity() <= SMALL_CAPACITY, "one message needs no large one");
        second.extend_from_slice(b"begun");
        assert_eq!(buffers.reserve(&mut second, 10_000), Ok(()));
        assert!(second.capacity() < 50_000, "nor does one a little longer");
        assert_eq!(buffers.reserve(&mut second, 40_000), Ok(()));
        assert_eq!((second.as_ptr(), &second[..]), (place, &b"begun"[..]));
        buffers.release(&mut second);
        assert_eq!(budget.used(), buffers.spare_bytes());
        buffers.trim();
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn no_more_is_kept_warm_than_half_the_budget() {
        let budget = Arc::new(Budget::new(100_000));
        let mut buffers = Buffers::new(Arc::clone(&budget));
        let (mut first, mut second) = (Vec::new(), Vec::new());
        assert_eq!(buffers.reserve(&mut first, 40_000), Ok(()));
        assert_eq!(buffers.reserve(&mut second, 40_000), Ok(()));
        buffers.release(&mut first);
        buffers.release(&mut second);
        assert_eq!((buffers.spare_bytes(), budget.used()), (40_000, 40_000));
    }
}
