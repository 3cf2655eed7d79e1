//! Bytes that a socket has still to take, since the message that they belong to has begun.

use std::sync::Arc;

use fastport_core::budget::Budget;

use super::framing::SentHead;

/// Bytes that are charged to the memory budget as far as it has room: a message that was begun must
/// be ended. Who fills it begins no more than one message while [`Unsent::is_charged`] is false.
#[derive(Debug)]
pub(super) struct Unsent {
    bytes: Vec<u8>,
    /// All before it is written. start <= bytes.len()
    start: usize,
    charged: usize,
    budget: Arc<Budget>,
}

impl Unsent {
    pub(super) fn new(budget: &Arc<Budget>) -> Self {
        Self { bytes: Vec::new(), start: 0, charged: 0, budget: Arc::clone(budget) }
    }

    /// Bytes that have still to be written.
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// Notes that `length` bytes were written; without any left it owns no memory.
    pub(super) fn advance(&mut self, length: usize) {
        self.start += length;
        if self.start >= self.bytes.len() {
            (self.bytes, self.start) = (Vec::new(), 0);
            self.budget.give_back(std::mem::take(&mut self.charged));
        }
    }

    /// Whether all that it holds is charged.
    pub(super) fn is_charged(&self) -> bool {
        self.charged >= self.bytes.capacity()
    }

    /// Whether `length` bytes more could be charged now.
    pub(super) fn has_room(&self, length: usize) -> bool {
        self.is_charged() && self.budget.free() >= length
    }

    /// Puts `bytes` behind what it holds.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.reserve(bytes.len());
        let more = self.bytes.capacity().saturating_sub(self.charged);
        if more > 0 && self.budget.try_take(more) {
            self.charged += more;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Puts a whole message or control frame behind what it holds.
    pub(super) fn push_message(&mut self, opcode: u8, payload: &[u8]) {
        self.push(SentHead::new(opcode, payload.len()).as_bytes());
        self.push(payload);
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        self.budget.give_back(self.charged);
    }
}
