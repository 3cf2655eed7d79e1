//! From one link to the next: what is written again, and what it needs to be understood.

use alloc::vec::Vec;

use fastport_wire::TopicId;
use fastport_wire::field::{data_flag, kind};
use fastport_wire::frame::GapCause;

use super::frames::topic_of;
use super::{BadAck, Outbox};
use crate::budget::{Buffers, NoBudget};
use crate::ledger::Ledger;

impl Outbox {
    /// Makes ready for a new link whose reader has `count` counted frames of the epoch: what it
    /// lacks will be written again, then what waits. Control frames of the old link are gone.
    ///
    /// # Errors
    /// [`BadAck`]: the reader's state is not the one this outbox belongs to.
    pub fn resume(
        &mut self,
        buffers: &mut Buffers,
        ledger: &mut Ledger,
        count: u64,
    ) -> Result<(), BadAck> {
        self.own(buffers);
        self.settle(ledger);
        let is_restored = core::mem::take(&mut self.is_restored);
        if is_restored && count > self.released + self.unacked {
            self.catch_up(ledger, count);
        }
        if count < self.acked || count > self.released + self.unacked {
            return Err(BadAck);
        }
        if let Some(lost) = self.released.checked_sub(count).filter(|&lost| lost > 0) {
            // forgotten under DropOldest, and booked as delivered then
            ledger.delivered -= lost;
            ledger.drop_messages(GapCause::LinkLost, lost);
            self.gaps.get_or_insert_default().front.add(GapCause::LinkLost, None, lost);
        } else {
            let newly = count - self.released;
            ledger.delivered += newly;
            self.unacked -= newly;
            self.move_kept(self.start_of_counted(newly));
        }
        (self.released, self.acked) = (count, count);
        let (settled, keeps_gaps) = (self.settled, self.has_told_gaps());
        self.sent = self.kept;
        self.settled = self.kept;
        self.retain_frames(self.kept, |offset, head, _| {
            let is_counted = head.flags() & data_flag::COUNTED != 0;
            match head.kind() {
                kind::DATA => offset >= settled || is_counted,
                kind::TIME => true,
                kind::GAP => offset >= settled || is_restored || keeps_gaps,
                _ => false,
            }
        });
        self.waiting += self.unacked;
        self.waiting_counted += self.unacked;
        self.unacked = 0;
        self.is_stalled = false;
        self.compact();
        // without memory for it the time is that of the link
        self.restore_time(buffers).unwrap_or_default();
        Ok(())
    }

    /// Goes on, without messages so far, where another outbox of the epoch was: its reader has
    /// `count` counted frames.
    pub fn start_at(&mut self, count: u64) {
        debug_assert_eq!(self.counted_total(), 0, "no messages so far");
        (self.released, self.acked) = (count, count);
    }

    /// Puts frames that `announce` makes before the first waiting message of each topic: a new link
    /// knows none of them. Not all at the front, so that a link that does not last gets on.
    ///
    /// # Errors
    /// [`NoBudget`].
    pub fn announce_waiting(
        &mut self,
        buffers: &mut Buffers,
        mut announce: impl FnMut(TopicId, &mut Vec<u8>),
    ) -> Result<(), NoBudget> {
        self.own(buffers);
        self.compact();
        let mut frames = Vec::new();
        // where in the bytes, and how far in the frames
        let mut places = Vec::new();
        // gaps that are no frames yet come first
        let mut announced = self.untold_topics();
        announced.sort_unstable();
        announced.dedup();
        announced.iter().for_each(|&topic| announce(topic, &mut frames));
        places.push((self.settled, frames.len()));
        for (at, head, body) in self.frames(self.settled) {
            let Some(topic) = topic_of(head, body) else { continue };
            if let Err(place) = announced.binary_search(&topic) {
                announced.insert(place, topic);
                announce(topic, &mut frames);
                places.push((at, frames.len()));
            }
        }
        // at once: a failure leaves nothing behind that a retry would find in its way
        self.reserve(buffers, frames.len())?;
        let (mut from, mut to) = (self.bytes.len(), self.bytes.len() + frames.len());
        self.bytes.resize(to, 0);
        while let Some((at, end)) = places.pop() {
            to -= from - at;
            self.bytes.copy_within(at..from, to);
            from = at;
            let start = places.last().map_or(0, |&(_, end)| end);
            let piece = frames.get(start..end).unwrap_or_default();
            to -= piece.len();
            if let Some(room) = self.bytes.get_mut(to..to + piece.len()) {
                room.copy_from_slice(piece);
            }
        }
        Ok(())
    }

    /// The topics of the messages that wait and of the gaps among them, each once. All that waits is
    /// its own, as after [`Outbox::resume`].
    #[must_use]
    pub fn topics(&self) -> Vec<TopicId> {
        let mut topics = self.untold_topics();
        topics.extend(self.frames(self.settled).filter_map(|(_, head, body)| topic_of(head, body)));
        topics.sort_unstable();
        topics.dedup();
        topics
    }

    /// Drops the messages of topics that are no more: their reader could not be told what they are. Nor
    /// are gaps told by names that the new link does not announce.
    pub fn drop_topics(&mut self, ledger: &mut Ledger, topics: &[TopicId]) {
        self.settle(ledger);
        self.drop_messages(ledger, GapCause::LinkLost, |_, _, topic| topics.contains(&topic));
        self.forget_names(topics);
    }

    /// Takes all messages out that wait or are unacknowledged, as whole DATA frames: a publisher
    /// whose epoch ended will publish them again. Not for use with a ledger.
    #[must_use]
    pub fn take_messages(&mut self, buffers: &mut Buffers) -> Vec<u8> {
        self.own(buffers);
        self.settle(&mut Ledger::default());
        let settled = self.settled;
        self.retain_frames(self.kept, |offset, head, _| {
            let is_counted = head.flags() & data_flag::COUNTED != 0;
            head.kind() == kind::DATA && (offset >= settled || is_counted)
        });
        let messages = self.bytes.get(self.kept..).unwrap_or_default().to_vec();
        *self = Self {
            bytes: core::mem::take(&mut self.bytes),
            ..Self::new(self.limit, self.when_full, self.is_resumable)
        };
        self.empty(buffers);
        messages
    }

    /// The topics of gaps that are no frames yet.
    fn untold_topics(&self) -> Vec<TopicId> {
        let untold = self.gaps.iter().flat_map(|gaps| gaps.all());
        untold.filter_map(|counts| counts.topic.flatten()).collect()
    }
}
