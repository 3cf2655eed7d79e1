//! What a full outbox does: making room by the policy its reader chose.

use alloc::collections::BTreeMap;

use fastport_wire::TopicId;
use fastport_wire::control::WhenFull;
use fastport_wire::field::{MAX_BODY, data_flag};
use fastport_wire::frame::{self, GapCause};

use super::frames::data_topic;
use super::gaps::GapCounts;
use super::{Outbox, Preface, Run};
use crate::budget::{Buffers, NoBudget};
use crate::ledger::Ledger;

impl Outbox {
    /// Makes room for a run of `topic` by the policy; whether there is any now.
    #[cold]
    pub(super) fn make_room(
        &mut self,
        buffers: &mut Buffers,
        ledger: &mut Ledger,
        more: usize,
        topic: TopicId,
    ) -> bool {
        self.own(buffers);
        self.settle(ledger);
        if self.has_room(more) {
            return true;
        }
        match self.when_full {
            WhenFull::Hold => return false,
            WhenFull::Close => {
                self.has_overflowed = true;
                return false;
            }
            _ if more > self.limit => return false,
            WhenFull::Latest => self.keep_newest(ledger, Some(topic)),
            _ => {}
        }
        // what `Latest` has now is wanted, each of it
        let share = if self.when_full == WhenFull::Latest { 0 } else { self.limit / ROOM_SHARE };
        let wanted = more.max(share);
        if !self.has_room(wanted) {
            self.forget_unacked(ledger);
        }
        if !self.has_room(wanted) {
            self.drop_oldest(ledger, (self.held() + wanted).saturating_sub(self.limit));
        }
        self.has_room(more)
    }

    /// A run longer than the outbox, or than its room under `Hold` or `Latest`: each message for
    /// itself.
    #[cold]
    pub(super) fn push_one_by_one(
        &mut self,
        buffers: &mut Buffers,
        ledger: &mut Ledger,
        preface: &mut Preface<'_>,
        run: &Run<'_>,
    ) -> Result<(), NoBudget> {
        let mut rest = run.bytes;
        while let Ok(Some((head, _))) = frame::split(rest, MAX_BODY) {
            let Some((bytes, after)) = rest.split_at_checked(head.total()) else { break };
            rest = after;
            let one = Run { bytes, messages: 1, ..*run };
            // part of the run may be in by now, so a later refusal is booked here
            if self.push_run_after(buffers, ledger, preface, &one).is_err() {
                self.skip_run_after(ledger, preface, &one, GapCause::Budget);
            }
        }
        Ok(())
    }

    /// Lets go of what was written and not acknowledged: if the link is lost, so is it.
    pub(super) fn forget_unacked(&mut self, ledger: &mut Ledger) {
        self.released += self.unacked;
        ledger.delivered += self.unacked;
        self.unacked = 0;
        self.kept = self.settled;
    }

    /// Drops the oldest messages until at least `wanted` bytes are free.
    pub(super) fn drop_oldest(&mut self, ledger: &mut Ledger, wanted: usize) {
        let mut freed = 0;
        self.drop_messages(ledger, GapCause::Overflow, |_, frame_bytes, _| {
            let is_dropped = freed < wanted;
            freed += if is_dropped { frame_bytes } else { 0 };
            is_dropped
        });
    }

    /// Drops every message that a newer one of its topic follows; one of `coming` is about to.
    pub(super) fn keep_newest(&mut self, ledger: &mut Ledger, coming: Option<TopicId>) {
        let newest: BTreeMap<TopicId, usize> =
            self.data_frames(self.boundary()).map(|(offset, topic)| (topic, offset)).collect();
        self.drop_messages(ledger, GapCause::Superseded, |offset, _, topic| {
            coming == Some(topic) || newest.get(&topic).is_some_and(|&newest| newest != offset)
        });
    }

    /// Drops those waiting messages that `is_dropped` (offset, bytes, topic) names.
    pub(super) fn drop_messages(
        &mut self,
        ledger: &mut Ledger,
        cause: GapCause,
        mut is_dropped: impl FnMut(usize, usize, TopicId) -> bool,
    ) {
        let mut gaps = GapCounts::default();
        let (mut dropped, mut dropped_counted) = (0, 0);
        self.retain_frames(self.boundary(), |offset, head, body| {
            let Some(topic) = data_topic(head, body) else { return true };
            if !is_dropped(offset, head.total(), topic) {
                return true;
            }
            gaps.add(cause, Some(topic), 1);
            dropped += 1;
            dropped_counted += u64::from(head.flags() & data_flag::COUNTED != 0);
            false
        });
        if dropped == 0 {
            return;
        }
        self.waiting -= dropped;
        self.waiting_counted -= dropped_counted;
        ledger.drop_messages(cause, dropped);
        let front = &mut self.gaps.get_or_insert_default().front;
        front.add(cause, gaps.topic.flatten(), dropped);
    }
}

/// Dropping makes room for an eighth of the outbox at once, so that its cost is spread.
const ROOM_SHARE: usize = 8;
