//! The bytes of a frame that has not all come, or that waits for room.

use std::sync::Arc;

use fastport_core::budget::{Budget, NoBudget};

/// Bytes that are charged to the memory budget while they are held, but for the start of a small
/// frame.
#[derive(Debug)]
pub(super) struct Pending {
    bytes: Vec<u8>,
    /// What is charged; while bytes are being handed over, for what of them may come back.
    charged: usize,
    budget: Arc<Budget>,
}

impl Pending {
    /// Begins with the few bytes that came behind a handshake.
    pub(super) fn new(bytes: Vec<u8>, budget: &Arc<Budget>) -> Self {
        Self { bytes, charged: 0, budget: Arc::clone(budget) }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many bytes to read at most: as many as could be held, should they have to wait.
    pub(super) fn room(&self, wanted: usize) -> usize {
        if self.budget.free() >= wanted { wanted } else { wanted.min(FREE_BYTES) }
    }

    /// Charges `length` bytes that are about to be handed over, so that handing them over does not
    /// take the memory that the rest of them needs. Without memory there is what [`Pending::room`]
    /// left.
    pub(super) fn expect(&mut self, length: usize) {
        let more = length.saturating_sub(self.charged);
        if more > 0 && self.budget.try_take(more) {
            self.charged += more;
        }
    }

    /// Copies the bytes to the front of `buffer`, which must have room; returns their number.
    pub(super) fn copy_to(&self, buffer: &mut [u8]) -> usize {
        match buffer.get_mut(..self.bytes.len()) {
            Some(front) => {
                front.copy_from_slice(&self.bytes);
                self.bytes.len()
            }
            None => 0,
        }
    }

    /// Takes the bytes out to hand them over; what is not done with is to be set again, and has its
    /// place until then.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Holds `bytes` instead of what it held; without any it owns no memory.
    pub(super) fn set(&mut self, bytes: &[u8]) -> Result<(), NoBudget> {
        self.bytes = Vec::new();
        let held = if bytes.is_empty() { Ok(()) } else { self.extend(bytes) };
        let surplus = self.charged.saturating_sub(self.bytes.capacity());
        if surplus > 0 {
            self.budget.give_back(surplus);
            self.charged -= surplus;
        }
        held
    }

    /// Holds `bytes` behind what it holds.
    pub(super) fn extend(&mut self, bytes: &[u8]) -> Result<(), NoBudget> {
        let needed = self.bytes.len() + bytes.len();
        if needed > self.bytes.capacity() {
            let generous = needed.max(self.bytes.len().saturating_mul(2).min(needed + GENEROUS));
            let capacity = if self.charge(generous) {
                generous
            } else if self.charge(needed) || needed <= self.charged + FREE_BYTES {
                needed
            } else {
                return Err(NoBudget);
            };
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Whether so much is charged, now or before.
    fn charge(&mut self, bytes: usize) -> bool {
        self.expect(bytes);
        self.charged >= bytes
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.budget.give_back(self.charged);
    }
}

/// Held without a charge: a link without memory must be able to read the ACKs that free some.
const FREE_BYTES: usize = 512;
/// Room beyond what is needed, so that a long frame is not copied for each of its pieces.
const GENEROUS: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_holds_is_charged_and_given_back() {
        let budget = Arc::new(Budget::new(1000));
        let mut pending = Pending::new(Vec::new(), &budget);
        assert!(pending.set(&[1; 600]).is_ok());
        assert_eq!(budget.used(), 600);
        assert!(pending.extend(&[2; 600]).is_err());
        assert!(pending.set(&[]).is_ok());
        assert_eq!(budget.used(), 0);
        assert!(pending.set(&[1; 10]).is_ok());
        drop(pending);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn what_is_handed_over_keeps_its_place() {
        let budget = Arc::new(Budget::new(1000));
        let mut pending = Pending::new(Vec::new(), &budget);
        pending.expect(800);
        assert!(!budget.try_take(300), "nobody else gets it meanwhile");
        assert!(pending.set(&[1; 700]).is_ok());
        let waiting = pending.take();
        assert!(!budget.try_take(400));
        assert!(pending.set(&waiting[100..]).is_ok());
        assert_eq!(budget.used(), 600);
    }

    #[test]
    fn without_memory_little_is_read_and_that_is_held() {
        let budget = Arc::new(Budget::new(1000));
        assert!(budget.try_take(900));
        let mut pending = Pending::new(Vec::new(), &budget);
        let room = pending.room(64 * 1024);
        assert_eq!(room, FREE_BYTES);
        pending.expect(room);
        assert!(pending.set(&vec![1; room]).is_ok());
    }
}
