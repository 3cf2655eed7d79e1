//! What becomes of the bytes of a link, in both directions.

use super::drive::Written;
use crate::hub::Taken;

/// What became of a peer's output.
pub(super) struct Wrote {
    /// bytes that the transport took
    pub(super) written: usize,
    pub(super) state: Written,
    /// nothing comes behind it
    pub(super) is_last: bool,
}

/// What became of bytes that a peer sent.
#[derive(Default)]
pub(super) struct Given {
    pub(super) taken: Taken,
    /// bytes of the frames that are done with, unpacked
    pub(super) weight: usize,
}

impl Given {
    /// Of bytes that are frames as they came.
    pub(super) fn plain(taken: Taken) -> Self {
        Self { weight: taken.progress.consumed, taken }
    }

    /// What became of the next of them, which were `consumed` bytes as they came.
    #[cfg(feature = "pack")]
    pub(super) fn add(&mut self, next: Taken, consumed: usize) {
        let progress = &mut self.taken.progress;
        self.weight += next.progress.consumed;
        progress.consumed += consumed;
        progress.messages = progress.messages.saturating_add(next.progress.messages);
        progress.is_blocked |= next.progress.is_blocked;
        progress.pauses |= next.progress.pauses;
        self.taken.asks.extend(next.asks);
    }

    /// Whether more may be handed over now.
    #[cfg(feature = "pack")]
    pub(super) fn goes_on(&self) -> bool {
        let Taken { progress, asks } = &self.taken;
        !progress.is_blocked && !progress.pauses && asks.is_empty()
    }
}
