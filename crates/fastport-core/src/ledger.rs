//! The loss ledger: every message that was to reach a reader is delivered, queued or dropped for a
//! cause, and the three add up.

use fastport_wire::frame::GapCause;

/// Counts of messages, each times the readers it was for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Messages taken from publishers.
    pub published: u64,
    /// Messages that gateways said will not come.
    pub reported: u64,
    /// Messages times their readers, replays of retained messages included, and so are those that
    /// gateways said will not come.
    pub routed: u64,
    /// Of `routed`: written to the reader's link or, where the link can be resumed and the frame is
    /// counted, acknowledged by the reader.
    pub delivered: u64,
    /// Of `routed`: dropped, by cause.
    pub dropped: [u64; GapCause::ALL.len()],
}

impl Ledger {
    /// Notes that `count` messages were dropped.
    pub fn drop_messages(&mut self, cause: GapCause, count: u64) {
        self.dropped[cause as usize] += count;
    }

    /// All that was dropped, whatever the cause.
    #[must_use]
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().sum()
    }

    /// What is neither delivered nor dropped yet.
    #[must_use]
    pub fn queued(&self) -> u64 {
        self.routed - self.delivered - self.dropped_total()
    }
}
