//! Walking over the frames of an outbox. All of them were checked when they came in.

use fastport_wire::field::{MAX_BODY, data_flag, kind};
use fastport_wire::frame::{self, Head};
use fastport_wire::{Frame, TopicId};

use super::Outbox;

impl Outbox {
    /// The start of the first frame of which nothing is written. Settle first.
    pub(super) fn boundary(&self) -> usize {
        if self.sent == self.settled {
            return self.settled;
        }
        self.frame_at(self.settled)
            .map_or(self.bytes.len(), |(head, _)| self.settled + head.total())
    }

    /// Where the frame behind the first `count` counted ones from `kept` on starts.
    pub(super) fn start_of_counted(&self, count: u64) -> usize {
        let (mut at, mut left) = (self.kept, count);
        while left > 0 && at < self.settled {
            let Some((head, _)) = self.frame_at(at) else { break };
            at += head.total();
            left -= u64::from(is_counted(head));
        }
        at
    }

    /// Keeps only those frames from `from` on that `is_kept` (offset, head, body) names; of several
    /// TIME frames with nothing between them, the last.
    pub(super) fn retain_frames(
        &mut self,
        from: usize,
        mut is_kept: impl FnMut(usize, Head, &[u8]) -> bool,
    ) {
        let (mut read, mut write) = (from, from);
        let mut last_time = None;
        while let Some((head, body)) = self.frame_at(read) {
            let total = head.total();
            if is_kept(read, head, body) {
                let is_time = head.kind() == kind::TIME;
                if let Some(start) = last_time.take().filter(|_| is_time) {
                    write = start;
                }
                last_time = is_time.then_some(write);
                self.bytes.copy_within(read..read + total, write);
                write += total;
            }
            read += total;
        }
        self.bytes.truncate(write);
    }

    pub(super) fn data_frames(&self, from: usize) -> impl Iterator<Item = (usize, TopicId)> {
        self.frames(from).filter_map(|(at, head, body)| Some((at, data_topic(head, body)?)))
    }

    pub(super) fn frames(&self, from: usize) -> impl Iterator<Item = (usize, Head, &[u8])> {
        let mut next = from;
        core::iter::from_fn(move || {
            let (at, (head, body)) = (next, self.frame_at(next)?);
            next += head.total();
            Some((at, head, body))
        })
    }

    /// The frame at `at`, if there is one; all that is in here was checked when it came in.
    pub(super) fn frame_at(&self, at: usize) -> Option<(Head, &[u8])> {
        frame::split(self.bytes.get(at..)?, MAX_BODY).ok().flatten()
    }
}

/// Whether a frame is a message in its reader's count.
pub(super) fn is_counted(head: Head) -> bool {
    head.kind() == kind::DATA && head.flags() & data_flag::COUNTED != 0
}

/// The topic that a frame names.
pub(super) fn topic_of(head: Head, body: &[u8]) -> Option<TopicId> {
    match Frame::from_parts(head, body) {
        Ok(Frame::Data { topic, .. }) => Some(topic),
        Ok(Frame::Gap { topic, .. }) => topic,
        _ => None,
    }
}

pub(super) fn data_topic(head: Head, body: &[u8]) -> Option<TopicId> {
    match Frame::from_parts(head, body) {
        Ok(Frame::Data { topic, .. }) => Some(topic),
        _ => None,
    }
}
