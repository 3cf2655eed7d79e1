//! Letting go of messages in the middle of what waits: for a reader that holds, and may have been sent
//! what lies before them.

use alloc::vec::Vec;

use fastport_wire::frame::{GapCause, Head};
use fastport_wire::{Frame, TopicId};

use super::frames::{data_topic, is_counted};
use super::gaps::TOPICS_APART;
use super::{Outbox, RestoreError};
use crate::budget::Buffers;
use crate::ledger::Ledger;

/// A message that may be let go of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Its place in the epoch's count; `None`: it is not counted.
    pub count: Option<u64>,
    /// Its topic.
    pub topic: TopicId,
    /// Bytes of its frame.
    pub bytes: usize,
}

/// What was let go of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shed {
    /// All messages.
    pub messages: u64,
    /// Of the counted ones behind the count that was asked for: by turns how many stay and how many
    /// have gone, up to the last that has.
    pub runs: Vec<u32>,
}

impl Outbox {
    /// How many counted frames of the epoch its links may have written, whole or in part; of one that is
    /// made from a journal, those since.
    pub fn counted_written(&mut self, buffers: &mut Buffers, ledger: &mut Ledger) -> u64 {
        self.settle_all(buffers, ledger);
        if self.is_restored {
            return 0;
        }
        let under_way = self.frame_at(self.settled).filter(|_| self.sent > self.settled);
        let is_counted = under_way.is_some_and(|(head, _)| is_counted(head));
        self.released + self.unacked + u64::from(is_counted)
    }

    /// The messages behind the first `after` counted frames of the epoch of which nothing is written.
    pub fn waiting_behind(
        &mut self,
        buffers: &mut Buffers,
        ledger: &mut Ledger,
        after: u64,
    ) -> impl Iterator<Item = Waiting> {
        self.settle_all(buffers, ledger);
        let (from, first) = self.behind(after, self.boundary());
        let mut count = first;
        self.frames(from).filter_map(move |(_, head, body)| waiting(head, body, &mut count))
    }

    /// Lets go of those messages behind the first `after` counted frames of the epoch that
    /// `is_dropped` names, where nothing of them is written: a GAP frame of each topic is put before
    /// the first of the rest.
    pub fn shed(
        &mut self,
        buffers: &mut Buffers,
        ledger: &mut Ledger,
        after: u64,
        cause: GapCause,
        is_dropped: &mut dyn FnMut(&Waiting) -> bool,
    ) -> Shed {
        self.settle_all(buffers, ledger);
        let place = self.behind(after, self.boundary());
        let (shed, plain) = self.drop_in_place(buffers, place, after, cause, is_dropped);
        self.waiting -= shed.messages;
        self.waiting_counted -= shed.messages - plain;
        ledger.drop_messages(cause, shed.messages);
        shed
    }

    /// Does to an outbox that is made from a journal what [`Outbox::shed`] did.
    ///
    /// # Errors
    /// `RestoreError::BadFrames`: these frames are not there.
    pub fn restore_shed(
        &mut self,
        buffers: &mut Buffers,
        after: u64,
        cause: GapCause,
        runs: &[u32],
    ) -> Result<(), RestoreError> {
        self.settle_all(buffers, &mut Ledger::default());
        let place = self.behind(after, self.kept);
        let (mut left, mut goes, mut rest) = (0, true, runs.iter());
        let mut is_dropped = |_: &Waiting| {
            while left == 0 {
                let Some(&next) = rest.next() else { return false };
                (left, goes) = (next, !goes);
            }
            left -= 1;
            goes
        };
        let (shed, _) = self.drop_in_place(buffers, place, after, cause, &mut is_dropped);
        (self.settled, self.sent) = (self.bytes.len(), self.bytes.len());
        self.unacked -= shed.messages;
        let gone = runs.iter().skip(1).step_by(2).fold(0, |sum, &run| sum + u64::from(run));
        if gone == shed.messages { Ok(()) } else { Err(RestoreError::BadFrames) }
    }

    /// Where the frames behind the first `after` counted ones of the epoch start, but not before
    /// `least`, a frame's start; and how many counted ones there are before that.
    fn behind(&self, after: u64, least: usize) -> (usize, u64) {
        let (mut at, mut count) = (self.kept, self.released);
        while (count < after || at < least)
            && let Some((head, _)) = self.frame_at(at)
        {
            at += head.total();
            count += u64::from(is_counted(head));
        }
        (at, count)
    }

    /// Returns what has gone, and how much of that was not counted; the caller books it.
    fn drop_in_place(
        &mut self,
        buffers: &mut Buffers,
        (from, mut count): (usize, u64),
        after: u64,
        cause: GapCause,
        is_dropped: &mut dyn FnMut(&Waiting) -> bool,
    ) -> (Shed, u64) {
        let mut runs = Runs::new(count.saturating_sub(after));
        let (mut gone, mut plain) = (0, 0);
        let mut gaps = GapsByTopic::default();
        let mut topics = Announced::default();
        let mut is_first = true;
        self.retain_frames(from, |_, head, body| {
            if let Some(message) = waiting(head, body, &mut count) {
                let goes = is_dropped(&message);
                is_first &= goes;
                match message.count {
                    Some(_) => runs.add(goes),
                    None => plain += u64::from(goes),
                }
                if goes {
                    gone += 1;
                    gaps.add(Some(message.topic), cause, 1);
                }
                return !goes;
            }
            match Frame::from_parts(head, body) {
                // what is before the first of the rest is in one place with what goes now
                Ok(Frame::Gap { topic, count, cause }) if is_first => {
                    gaps.add(topic, cause, count);
                    false
                }
                Ok(Frame::Topic { id, name, schema }) => {
                    !topics.take(id, &Frame::Topic { id, name, schema })
                }
                _ => true,
            }
        });
        // what was taken out of there has room there
        self.insert(buffers, from, &topics.frames).unwrap_or_default();
        self.put_gaps(buffers, from + topics.frames.len(), gaps);
        (Shed { messages: gone, runs: runs.into_vec() }, plain)
    }

    fn put_gaps(&mut self, buffers: &mut Buffers, at: usize, gaps: GapsByTopic) {
        let mut bytes = Vec::new();
        for &(topic, cause, count) in &gaps.0 {
            crate::session::push_frame(&mut bytes, &Frame::Gap { topic, count, cause });
        }
        if bytes.is_empty() {
            return;
        }
        if self.insert(buffers, at, &bytes).is_ok() {
            self.note_told_gaps();
            return;
        }
        // they took more than the messages did: it is told later, without the topics
        let front = &mut self.gaps.get_or_insert_default().front;
        for (topic, cause, count) in gaps.0 {
            front.add(cause, topic, count);
        }
    }
}

/// Counts by topic, `None` for several, and by cause; sorted.
#[derive(Default)]
struct GapsByTopic(Vec<(Option<TopicId>, GapCause, u64)>);

impl GapsByTopic {
    fn add(&mut self, topic: Option<TopicId>, cause: GapCause, count: u64) {
        let find = |topic| self.0.binary_search_by_key(&(topic, cause), |&(t, c, _)| (t, c));
        let (topic, place) = match find(topic) {
            Err(_) if self.0.len() >= TOPICS_APART => (None, find(None)),
            place => (topic, place),
        };
        match place {
            Ok(at) => self.0.get_mut(at).into_iter().for_each(|known| known.2 += count),
            Err(at) => self.0.insert(at, (topic, cause, count)),
        }
    }
}

/// The first TOPIC frame of each topic: what is missing is named by it.
#[derive(Default)]
struct Announced {
    /// sorted
    ids: Vec<TopicId>,
    frames: Vec<u8>,
}

impl Announced {
    /// Whether it took the frame.
    fn take(&mut self, id: TopicId, frame: &Frame<'_>) -> bool {
        let Err(at) = self.ids.binary_search(&id) else { return false };
        self.ids.insert(at, id);
        crate::session::push_frame(&mut self.frames, frame);
        true
    }
}

/// See [`Shed::runs`].
struct Runs {
    runs: Vec<u32>,
    goes: bool,
}

impl Runs {
    fn new(stay: u64) -> Self {
        // as many as there is room for in memory
        Self { runs: [u32::try_from(stay).unwrap_or(u32::MAX)].into(), goes: false }
    }

    fn add(&mut self, goes: bool) {
        if goes != self.goes {
            self.runs.push(0);
            self.goes = goes;
        }
        if let Some(last) = self.runs.last_mut() {
            *last += 1;
        }
    }

    fn into_vec(mut self) -> Vec<u32> {
        if !self.goes {
            self.runs.pop();
        }
        self.runs
    }
}

/// The message that a frame is; `count` counts the counted ones so far.
fn waiting(head: Head, body: &[u8], count: &mut u64) -> Option<Waiting> {
    let topic = data_topic(head, body)?;
    let is_counted = is_counted(head);
    *count += u64::from(is_counted);
    Some(Waiting { count: is_counted.then_some(*count), topic, bytes: head.total() })
}
