//! The bytes of a frame that has not all come, or that waits for room.

use std::sync::Arc;

use fastport_core::budget::{Budget, NoBudget};

/// Bytes that are charged to the memory budget while they are held.
#[derive(Debug)]
pub(super) struct Pending {
    bytes: Vec<u8>,
    /// <= bytes.capacity()
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

    /// Takes the bytes out; what is not done with is to be set again.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.budget.give_back(std::mem::take(&mut self.charged));
        std::mem::take(&mut self.bytes)
    }

    /// Holds `bytes` instead of what it held; without any it owns no memory.
    pub(super) fn set(&mut self, bytes: &[u8]) -> Result<(), NoBudget> {
        if bytes.is_empty() {
            if self.bytes.capacity() > 0 {
                self.take();
            }
            return Ok(());
        }
        self.bytes.clear();
        self.extend(bytes)
    }

    /// Holds `bytes` behind what it holds.
    pub(super) fn extend(&mut self, bytes: &[u8]) -> Result<(), NoBudget> {
        let needed = self.bytes.len() + bytes.len();
        if needed > self.charged {
            let wanted = needed.max(self.charged.saturating_mul(2).min(needed + GENEROUS));
            if !self.budget.try_take(wanted - self.charged) {
                return Err(NoBudget);
            }
            self.charged = wanted;
            self.bytes.reserve_exact(wanted - self.bytes.len());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.budget.give_back(self.charged);
    }
}

/// Room beyond what is needed, so that a long frame is not copied for each of its pieces.
const GENEROUS: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_holds_is_charged_and_given_back() {
        let budget = Arc::new(Budget::new(100));
        let mut pending = Pending::new(Vec::new(), &budget);
        assert!(pending.set(&[1; 60]).is_ok());
        assert_eq!(budget.used(), 60);
        assert!(pending.extend(&[2; 60]).is_err());
        assert!(pending.set(&[]).is_ok());
        assert_eq!(budget.used(), 0);
        assert!(pending.set(&[1; 10]).is_ok());
        drop(pending);
        assert_eq!(budget.used(), 0);
    }
}
