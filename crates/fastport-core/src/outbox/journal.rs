//! What of an outbox outlives the process, and how it is made again from that.

use alloc::vec::Vec;

use fastport_wire::field::kind;
use fastport_wire::frame::{self, GapCause};
use fastport_wire::{Frame, TopicId};

use super::frames::is_counted;
use super::gaps::GAP_FRAMES_MAX;
use super::{Outbox, Preface, Run};
use crate::budget::{Buffers, NoBudget};
use crate::ledger::Ledger;

/// Frames that an outbox cannot have held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestoreError {
    /// They are not counted DATA frames, or GAP frames.
    BadFrames,
    /// There is no memory for them.
    NoBudget,
}

impl From<NoBudget> for RestoreError {
    fn from(NoBudget: NoBudget) -> Self {
        Self::NoBudget
    }
}

impl Outbox {
    /// The most bytes of messages that it may hold.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// How many counted frames of the epoch it has let go of: those before what
    /// [`Outbox::visit_kept`] shows.
    #[must_use]
    pub fn released(&self) -> u64 {
        self.released
    }

    /// Books what is written, and makes all that it holds its own: for [`Outbox::visit_kept`].
    pub fn settle_all(&mut self, buffers: &mut Buffers, ledger: &mut Ledger) {
        self.own(buffers);
        self.settle(ledger);
    }

    /// Shows, in order, the counted frames that its reader may still need, the clocks they came
    /// at and the gaps that it was not told of, as whole frames. Call [`Outbox::settle_all`] first.
    pub fn visit_kept(&self, mut visit: impl FnMut(&[u8])) {
        let gaps = self.gaps.as_ref();
        let mut room = [0; GAP_FRAMES_MAX];
        let mut front = gaps.map(|gaps| gaps.front);
        if let Some(time) = self.time_before_kept() {
            let length = time.encode(&mut room).expect("GAP_FRAMES_MAX is room for a TIME frame");
            visit(room.get(..length).unwrap_or_default());
        }
        let boundary = self.boundary();
        for (at, head, _) in self.frames(self.kept) {
            if at >= boundary
                && let Some(front) = front.take()
            {
                visit(front.to_frames(&mut room));
            }
            let is_untold = at >= self.settled || self.is_restored || self.has_told_gaps();
            let is_gap = head.kind() == kind::GAP && is_untold;
            if is_gap || is_counted(head) || head.kind() == kind::TIME {
                visit(self.bytes.get(at..at + head.total()).unwrap_or_default());
            }
        }
        let back = gaps.iter().flat_map(|gaps| gaps.at_back());
        for rest in front.into_iter().chain(back) {
            visit(rest.to_frames(&mut room));
        }
    }

    /// The last `count` counted frames that came in.
    #[must_use]
    pub fn last_counted(&mut self, buffers: &mut Buffers, count: u64) -> Vec<u8> {
        self.own(buffers);
        let all = self.unacked + self.waiting_counted;
        let mut skipped = all.saturating_sub(count);
        let mut last = Vec::new();
        for (at, head, _) in self.frames(self.kept).filter(|&(_, head, _)| is_counted(head)) {
            if skipped > 0 {
                skipped -= 1;
            } else {
                last.extend_from_slice(self.bytes.get(at..at + head.total()).unwrap_or_default());
            }
        }
        last
    }

    /// Makes it one whose reader has `acked` counted frames and may have `released`, and that holds
    /// nothing.
    pub fn restore_at(&mut self, buffers: &mut Buffers, released: u64, acked: u64) {
        self.discard(buffers, &mut Ledger::default(), GapCause::LinkLost);
        (self.released, self.acked) = (released, acked.min(released));
    }

    /// Counts frames that its reader may have missed, and that are not held.
    pub fn restore_missed(&mut self, count: u64) {
        self.released = self.released.saturating_add(count);
    }

    /// Puts in what [`Outbox::visit_kept`] showed, as if it were written, with `stamp` of the clocks.
    ///
    /// # Errors
    /// `RestoreError`.
    pub fn restore_frames(
        &mut self,
        buffers: &mut Buffers,
        frames: &[u8],
        stamp: impl Fn(u64) -> u64,
    ) -> Result<(), RestoreError> {
        let mut rest = frames;
        while !rest.is_empty() {
            let bad = RestoreError::BadFrames;
            let (head, body) = frame::split(rest, rest.len()).ok().flatten().ok_or(bad)?;
            let (bytes, after) = rest.split_at_checked(head.total()).ok_or(bad)?;
            rest = after;
            match Frame::from_parts(head, body) {
                Ok(Frame::Data { topic, .. }) if is_counted(head) => {
                    self.restore_run(
                        buffers,
                        None,
                        &Run { bytes, messages: 1, is_counted: true, topic },
                    )?;
                }
                Ok(Frame::Time { unix_ms }) => {
                    self.push_frame(buffers, &Frame::Time { unix_ms: stamp(unix_ms) })?;
                    self.sent = self.bytes.len();
                    self.settled = self.sent;
                }
                Ok(Frame::Gap { topic, count, cause }) => self.tell_missing(topic, count, cause),
                _ => return Err(bad),
            }
        }
        Ok(())
    }

    /// Puts a run in, as if it were written, with the clock it came at where its reader was told;
    /// its frames were looked at by `count_frames`.
    ///
    /// # Errors
    /// [`NoBudget`].
    pub fn restore_run(
        &mut self,
        buffers: &mut Buffers,
        unix_ms: Option<u64>,
        run: &Run<'_>,
    ) -> Result<(), NoBudget> {
        let limit = core::mem::replace(&mut self.limit, usize::MAX / 4);
        let ledger = &mut Ledger::default();
        let mut preface = Preface { topic: None, unix_ms };
        let pushed = self.push_run_after(buffers, ledger, &mut preface, run);
        self.limit = limit;
        pushed?;
        let unsent = self.unsent();
        self.advance(buffers, ledger, unsent);
        Ok(())
    }

    /// All that it held is in again: its reader, when it comes back, says what it has of that.
    /// Returns how many messages it holds, and how many more its reader may miss.
    pub fn finish_restore(&mut self) -> (u64, u64) {
        self.is_restored = true;
        (self.unacked, self.released - self.acked)
    }

    /// Its reader has more than the journal knew, which has lost its end: goes on from there.
    pub(super) fn catch_up(&mut self, ledger: &mut Ledger, count: u64) {
        ledger.delivered += self.unacked;
        self.unacked = 0;
        self.kept = self.settled;
        (self.released, self.acked) = (count, count);
    }
}

/// How many frames of a run `bytes` are; `None`: they are not all counted DATA frames of `topic`.
#[must_use]
pub(crate) fn count_frames(bytes: &[u8], topic: TopicId) -> Option<u32> {
    let (mut rest, mut count) = (bytes, 0u32);
    while !rest.is_empty() {
        let (head, body) = frame::split(rest, rest.len()).ok().flatten()?;
        rest = rest.get(head.total()..)?;
        let of = match Frame::from_parts(head, body) {
            Ok(Frame::Data { topic, .. }) if is_counted(head) => topic,
            _ => return None,
        };
        count = count.checked_add(1).filter(|_| of == topic)?;
    }
    Some(count)
}
