//! What an outbox says of messages that it dropped: GAP frames, in the place of what is missing.

use alloc::vec::Vec;

use fastport_wire::field::kind;
use fastport_wire::frame::{GapCause, Head};
use fastport_wire::{Frame, TopicId};

use super::Outbox;
use crate::budget::{Buffers, NoBudget};
use crate::ledger::Ledger;

/// Dropped messages that the reader has not been told of.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    /// dropped from the front of what waits
    pub(super) front: GapCounts,
    /// dropped instead of being put behind what waits
    pub(super) back: GapCounts,
    /// As `back`, of further topics: for a reader that is told of each topic by its name. Empty where
    /// `back` is.
    others: Vec<GapCounts>,
}

impl Gaps {
    /// All that is missing behind what waits.
    pub(super) fn at_back(&self) -> impl Iterator<Item = GapCounts> {
        core::iter::once(self.back).chain(self.others.iter().copied())
    }

    /// All that the reader has not been told of.
    pub(super) fn all(&self) -> impl Iterator<Item = GapCounts> {
        core::iter::once(self.front).chain(self.at_back())
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut GapCounts> {
        [&mut self.front, &mut self.back].into_iter().chain(&mut self.others)
    }

    /// Adds to what is missing behind what waits, and keeps topics apart where there is room.
    fn add_apart(&mut self, cause: GapCause, topic: Option<TopicId>, count: u64) {
        let others = &mut self.others;
        if self.back.is_empty() || self.back.topic == Some(topic) {
            self.back.add(cause, topic, count);
        } else if let Some(known) = others.iter_mut().find(|known| known.topic == Some(topic)) {
            known.add(cause, topic, count);
        } else if others.len() < TOPICS_APART {
            let mut counts = GapCounts::default();
            counts.add(cause, topic, count);
            others.push(counts);
        } else if let Some(last) = others.last_mut() {
            // it becomes one of several topics
            last.add(cause, topic, count);
        }
    }
}

#[derive(Debug, Default, Clone, Copy)]
pub(super) struct GapCounts {
    by_cause: [u64; GapCause::ALL.len()],
    /// `None`: none dropped yet; `Some(None)`: of several topics
    pub(super) topic: Option<Option<TopicId>>,
}

impl GapCounts {
    pub(super) fn add(&mut self, cause: GapCause, topic: Option<TopicId>, count: u64) {
        self.by_cause[cause as usize] += count;
        self.topic = match self.topic {
            None => Some(topic),
            Some(same) if same == topic => Some(same),
            Some(_) => Some(None),
        };
    }

    fn is_empty(&self) -> bool {
        self.topic.is_none()
    }

    /// The GAP frames that say it.
    pub(super) fn to_frames(self, out: &mut [u8; GAP_FRAMES_MAX]) -> &[u8] {
        let mut at = 0;
        let causes = GapCause::ALL.into_iter().zip(self.by_cause);
        for (cause, count) in causes.filter(|&(_, count)| count > 0) {
            let frame = Frame::Gap { topic: self.topic.flatten(), count, cause };
            let room = out.get_mut(at..).unwrap_or_default();
            at += frame.encode(room).expect("GAP_FRAMES_MAX is room for all causes");
        }
        &out[..at]
    }
}

impl Outbox {
    /// Books messages as dropped that never came this far: the reader is told behind what waits.
    pub fn note_missing(
        &mut self,
        ledger: &mut Ledger,
        topic: Option<TopicId>,
        count: u64,
        cause: GapCause,
    ) {
        ledger.drop_messages(cause, count);
        self.tell_missing(topic, count, cause);
    }

    /// Tells the reader, behind what waits, of messages that are booked as dropped already.
    pub fn tell_missing(&mut self, topic: Option<TopicId>, count: u64, cause: GapCause) {
        let is_exact = self.exact.is_some();
        let gaps = self.gaps.get_or_insert_default();
        if is_exact {
            gaps.add_apart(cause, topic, count);
        } else {
            gaps.back.add(cause, topic, count);
        }
    }

    /// Tells of drops in these topics, where it is not written yet, as of several: their names are gone.
    pub(super) fn forget_names(&mut self, topics: &[TopicId]) {
        for counts in self.gaps.iter_mut().flat_map(|gaps| gaps.all_mut()) {
            if counts.topic.flatten().is_some_and(|topic| topics.contains(&topic)) {
                counts.topic = Some(None);
            }
        }
        let mut at = self.boundary();
        while let Some((head, body)) = self.frame_at(at) {
            let mut end = at + head.total();
            if let Ok(Frame::Gap { topic: Some(topic), count, cause }) =
                Frame::from_parts(head, body)
                && topics.contains(&topic)
            {
                let mut room = [0; GAP_FRAMES_MAX];
                let frame = Frame::Gap { topic: None, count, cause };
                // it is no longer than with a name
                let length = frame.encode(&mut room).unwrap_or_default();
                self.bytes.splice(at..end, room[..length].iter().copied());
                end = at + length;
            }
            at = end;
        }
    }

    /// How many messages its reader has not got, or has not said that it has, and how many it has
    /// not been told of.
    pub fn missing(&mut self, ledger: &mut Ledger) -> u64 {
        self.settle(ledger);
        let untold = self.gaps.iter().flat_map(|gaps| gaps.all());
        let untold: u64 = untold.flat_map(|counts| counts.by_cause).sum();
        self.waiting + self.unacked + untold
    }

    /// What the GAP frames take at most that go in with the next message.
    #[must_use]
    pub fn gap_room(&self) -> usize {
        self.gaps.as_ref().map_or(0, |gaps| gaps.at_back().count() * GAP_FRAMES_MAX)
    }

    /// Makes sure, as far as the budget goes, that the next output tells of all drops.
    ///
    /// # Errors
    /// [`NoBudget`].
    pub fn reserve_gaps(&mut self, buffers: &mut Buffers) -> Result<(), NoBudget> {
        let Some(gaps) = &self.gaps else { return Ok(()) };
        let most = gaps.all().count() * GAP_FRAMES_MAX;
        self.reserve(buffers, most)
    }

    /// Tells of all drops: those from the front before what waits, those at the back behind it when
    /// nothing else will come there.
    pub(super) fn tell_gaps(&mut self, buffers: &mut Buffers) -> Result<(), NoBudget> {
        self.own(buffers);
        let at = self.front();
        self.absorb_gaps(at);
        let Some(gaps) = &self.gaps else { return Ok(()) };
        let mut front = gaps.front;
        if !front.is_empty() {
            if let Some(Some(topic)) = front.topic
                && self.announces(at, topic)
            {
                front.topic = Some(None);
            }
            self.insert(buffers, at, front.to_frames(&mut [0; GAP_FRAMES_MAX]))?;
            self.note_told_gaps();
            if let Some(gaps) = &mut self.gaps {
                gaps.front = GapCounts::default();
            }
        }
        if self.waiting == 0 {
            self.tell_gaps_at_back(buffers)?;
        }
        if self.gaps.as_ref().is_some_and(|gaps| gaps.back.is_empty()) {
            self.gaps = None;
        }
        Ok(())
    }

    pub(super) fn tell_gaps_at_back(&mut self, buffers: &mut Buffers) -> Result<(), NoBudget> {
        self.own(buffers);
        let Some(gaps) = &self.gaps else { return Ok(()) };
        if gaps.back.is_empty() {
            return Ok(());
        }
        let mut room = [0; GAP_FRAMES_MAX];
        let length = gaps.at_back().map(|counts| counts.to_frames(&mut room).len()).sum();
        self.reserve(buffers, length)?;
        let Some(gaps) = &mut self.gaps else { return Ok(()) };
        for counts in gaps.at_back() {
            self.bytes.extend_from_slice(counts.to_frames(&mut room));
        }
        (gaps.back, gaps.others) = (GapCounts::default(), Vec::new());
        self.note_told_gaps();
        Ok(())
    }

    /// Takes unwritten GAP frames at `at` back into the counts, so that a reader that does not read
    /// gets one and not many.
    fn absorb_gaps(&mut self, at: usize) {
        let mut end = at;
        while let Some((head, body)) = self.frame_at(end) {
            let Ok(Frame::Gap { topic, count, cause }) = Frame::from_parts(head, body) else {
                break;
            };
            let front = self.gaps.as_ref().and_then(|gaps| gaps.front.topic);
            let Some(front) = front else { return };
            if self.exact.is_some() && front != topic {
                // it would lose its name
                break;
            }
            self.gaps.get_or_insert_default().front.add(cause, topic, count);
            end += head.total();
        }
        self.bytes.drain(at..end);
    }

    /// Where what was dropped from the front is missing: before the first message of which nothing
    /// is written, or before the mark that tells of others; behind a WELCOME, say.
    fn front(&self) -> usize {
        let is_message = |head: &Head| [kind::DATA, kind::GAP].contains(&head.kind());
        let mut unwritten = self.frames(self.boundary());
        unwritten.find(|(_, head, _)| is_message(head)).map_or(self.bytes.len(), |(at, ..)| at)
    }

    /// Whether the reader hears of the topic only behind `at`.
    fn announces(&self, at: usize, topic: TopicId) -> bool {
        self.frames(at).any(|(_, head, body)| {
            matches!(Frame::from_parts(head, body), Ok(Frame::Topic { id, .. }) if id == topic)
        })
    }
}

/// Bytes of one GAP frame: 2 before the body, id, count, cause.
const GAP_FRAME_MAX: usize = 2 + 5 + 10 + 1;
pub(super) const GAP_FRAMES_MAX: usize = GAP_FRAME_MAX * GapCause::ALL.len();
/// Topics beside the first that one of the daemon's own parts is told of by name where no message
/// comes between them: 64 KiB, while they wait. With more the last becomes one of several topics.
pub(super) const TOPICS_APART: usize = 1024;
