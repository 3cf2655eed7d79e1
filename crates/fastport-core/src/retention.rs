//! What a topic's past is: its last value, where a publisher asked for that, and the messages of a
//! short while.

use alloc::boxed::Box;
use alloc::vec::Vec;

use fastport_wire::field::MAX_BODY;
use fastport_wire::frame;

use crate::budget::{Budget, Buffers, NoBudget};
use crate::outbox::Run;
use crate::time::{Instant, Now};

/// How much of a topic's past is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// At most that many messages; 0: none.
    pub messages: u32,
    /// At most that old, in milliseconds.
    pub age_ms: u64,
    /// At most that many bytes.
    pub bytes: usize,
}

/// A topic's retained messages, as the frames they came in, oldest first.
#[derive(Debug, Default)]
pub struct TopicLog {
    /// entries of [`ENTRY_HEAD`] bytes and frames, from `start` on
    bytes: Vec<u8>,
    start: usize,
    messages: u32,
    last: Option<Last>,
}

/// A topic's last value.
#[derive(Debug)]
struct Last {
    unix_ms: u64,
    frame: Box<[u8]>,
}

/// Retained frames that came together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// When, as [`Now::unix_ms`] has it.
    pub unix_ms: u64,
    /// Whole DATA frames.
    pub frames: &'a [u8],
    /// How many.
    pub messages: u32,
}

#[derive(Clone, Copy)]
struct Head {
    mono: Instant,
    unix_ms: u64,
    length: u32,
    messages: u32,
}

impl TopicLog {
    /// How many messages are retained, the last value not included.
    #[must_use]
    pub fn messages(&self) -> u32 {
        self.messages
    }

    /// Whether nothing is retained.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages == 0 && self.last.is_none()
    }

    /// Retains messages, and lets the oldest go that are then too many.
    ///
    /// # Errors
    /// [`NoBudget`]; the messages are then not retained.
    pub fn push(
        &mut self,
        buffers: &mut Buffers,
        limits: &Retention,
        now: Now,
        run: &Run<'_>,
    ) -> Result<(), NoBudget> {
        let (mut frames, mut messages) = newest(run.bytes, run.messages, limits.messages);
        while messages > 0 && ENTRY_HEAD + frames.len() > limits.bytes {
            (frames, messages) = newest(frames, messages, messages - 1);
        }
        let needed = ENTRY_HEAD + frames.len();
        let Ok(length) = u32::try_from(frames.len()) else { return Ok(()) };
        if messages == 0 {
            self.drop_front(self.messages);
            self.free_if_empty(buffers);
            return Ok(());
        }
        self.drop_front((self.messages + messages).saturating_sub(limits.messages));
        while self.bytes.len() - self.start + needed > limits.bytes {
            self.drop_front(1);
        }
        if self.bytes.capacity() - self.bytes.len() < needed {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        buffers.reserve(&mut self.bytes, needed)?;
        let head = Head { mono: now.mono, unix_ms: now.unix_ms, length, messages };
        self.bytes.extend_from_slice(&head.to_bytes());
        self.bytes.extend_from_slice(frames);
        self.messages += messages;
        Ok(())
    }

    /// Makes `frame` the topic's last value; one without payload clears it. [`TopicLog::evict`] leaves it:
    /// a message that is not in the past any more is missed by who asks for the past, but a last value
    /// by everybody who comes later, and nothing would say so.
    ///
    /// # Errors
    /// [`NoBudget`]; the last value is then none, since the one before is out of date.
    pub fn keep(
        &mut self,
        budget: &Budget,
        now: Now,
        frame: &[u8],
        has_payload: bool,
    ) -> Result<(), NoBudget> {
        if let Some(old) = self.last.take() {
            budget.give_back(old.frame.len());
        }
        if !has_payload {
            return Ok(());
        }
        if !budget.try_take(frame.len()) {
            return Err(NoBudget);
        }
        self.last = Some(Last { unix_ms: now.unix_ms, frame: frame.into() });
        Ok(())
    }

    /// The last value.
    #[must_use]
    pub fn last(&self) -> Option<Entry<'_>> {
        let last = self.last.as_ref()?;
        Some(Entry { unix_ms: last.unix_ms, frames: &last.frame, messages: 1 })
    }

    /// The newest messages, oldest first: at most `count`, and none that came before `since`.
    pub fn replay<'a>(&'a self, count: u64, since: Instant, mut found: impl FnMut(Entry<'a>)) {
        let mut skipped = u64::from(self.messages).saturating_sub(count);
        let mut at = self.start;
        while let Some((head, frames)) = self.entry_at(at) {
            at += ENTRY_HEAD + frames.len();
            let whole = u64::from(head.messages);
            if skipped >= whole || head.mono < since {
                skipped = skipped.saturating_sub(whole);
                continue;
            }
            let wanted = u32::try_from(whole - skipped).unwrap_or(head.messages);
            skipped = 0;
            let (frames, messages) = newest(frames, head.messages, wanted);
            found(Entry { unix_ms: head.unix_ms, frames, messages });
        }
    }

    /// When the oldest message came.
    #[must_use]
    pub fn oldest(&self) -> Option<Instant> {
        self.entry_at(self.start).map(|(head, _)| head.mono)
    }

    /// Lets go of the messages that came before `limit`.
    pub fn expire(&mut self, buffers: &mut Buffers, limit: Instant) {
        while let Some((head, _)) = self.entry_at(self.start).filter(|(head, _)| head.mono < limit)
        {
            self.drop_front(head.messages);
        }
        self.free_if_empty(buffers);
    }

    /// Lets go of the oldest entry, and of the unused room; whether there was one.
    pub fn evict(&mut self, buffers: &mut Buffers) -> bool {
        let Some((head, _)) = self.entry_at(self.start) else { return false };
        self.drop_front(head.messages);
        if self.messages > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
            let before = self.bytes.capacity();
            self.bytes.shrink_to_fit();
            buffers.budget().give_back(before - self.bytes.capacity());
        }
        self.free_if_empty(buffers);
        true
    }

    /// Lets go of everything.
    pub fn clear(&mut self, buffers: &mut Buffers) {
        if let Some(last) = self.last.take() {
            buffers.budget().give_back(last.frame.len());
        }
        self.drop_front(self.messages);
        self.free_if_empty(buffers);
    }

    /// What it is charged with.
    #[cfg(test)]
    pub(crate) fn charge(&self) -> usize {
        self.bytes.capacity() + self.last.as_ref().map_or(0, |last| last.frame.len())
    }

    fn free_if_empty(&mut self, buffers: &mut Buffers) {
        if self.messages == 0 {
            self.bytes.clear();
            self.start = 0;
            buffers.release(&mut self.bytes);
        }
    }

    /// Lets go of the oldest `count` messages.
    fn drop_front(&mut self, count: u32) {
        let mut left = count.min(self.messages);
        self.messages -= left;
        while left > 0 {
            let Some((mut head, frames)) = self.entry_at(self.start) else { break };
            if head.messages <= left {
                left -= head.messages;
                self.start += ENTRY_HEAD + frames.len();
                continue;
            }
            let (rest, messages) = newest(frames, head.messages, head.messages - left);
            let gone = frames.len() - rest.len();
            head.messages = messages;
            head.length -= u32::try_from(gone).unwrap_or(head.length);
            self.start += gone;
            let start = self.start;
            if let Some(place) = self.bytes.get_mut(start..start + ENTRY_HEAD) {
                place.copy_from_slice(&head.to_bytes());
            }
            left = 0;
        }
    }

    fn entry_at(&self, at: usize) -> Option<(Head, &[u8])> {
        let (head, rest) = self.bytes.get(at..)?.split_first_chunk()?;
        let head = Head::from_bytes(head);
        Some((head, rest.get(..head.length as usize)?))
    }
}

impl Head {
    fn to_bytes(self) -> [u8; ENTRY_HEAD] {
        let mut bytes = [0; ENTRY_HEAD];
        bytes[..8].copy_from_slice(&self.mono.as_millis().to_ne_bytes());
        bytes[8..16].copy_from_slice(&self.unix_ms.to_ne_bytes());
        bytes[16..20].copy_from_slice(&self.length.to_ne_bytes());
        bytes[20..].copy_from_slice(&self.messages.to_ne_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; ENTRY_HEAD]) -> Self {
        let [mono, unix_ms, rest] = [0, 8, 16].map(|at| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[at..at + 8]);
            number
        });
        let [a, b, c, d, e, f, g, h] = rest;
        Self {
            mono: Instant::from_millis(u64::from_ne_bytes(mono)),
            unix_ms: u64::from_ne_bytes(unix_ms),
            length: u32::from_ne_bytes([a, b, c, d]),
            messages: u32::from_ne_bytes([e, f, g, h]),
        }
    }
}

/// The newest `wanted` of `messages` frames, and how many they are.
fn newest(frames: &[u8], messages: u32, wanted: u32) -> (&[u8], u32) {
    let mut rest = frames;
    for _ in wanted..messages {
        let Ok(Some((head, _))) = frame::split(rest, MAX_BODY) else { break };
        rest = rest.get(head.total()..).unwrap_or_default();
    }
    (rest, messages.min(wanted))
}

/// Times, length and count before each entry's frames.
const ENTRY_HEAD: usize = 24;

#[cfg(test)]
mod tests {
    use alloc::sync::Arc;
    use std::collections::VecDeque;
    use std::vec;

    use fastport_wire::frame::DataFlags;
    use fastport_wire::{Frame, TopicId};
    use proptest::prelude::*;

    use super::*;

    fn frames(first: u8, count: u8) -> Vec<u8> {
        let topic = TopicId::new(1).expect("not 0");
        let mut bytes = Vec::new();
        for number in first..first + count {
            let payload = vec![number; usize::from(number % 5) + 1];
            let frame = Frame::Data { flags: DataFlags::NONE, topic, payload: &payload };
            let at = bytes.len();
            bytes.resize(at + frame.encoded_len(), 0);
            frame.encode(&mut bytes[at..]).expect("encoded_len bytes");
        }
        bytes
    }

    fn replayed(log: &TopicLog, count: u64, since: Instant) -> Vec<u8> {
        let mut numbers = Vec::new();
        log.replay(count, since, |entry| {
            let mut rest = entry.frames;
            let mut messages = 0;
            while let Ok(Some((Frame::Data { payload, .. }, taken))) = Frame::decode(rest, 100) {
                numbers.push(payload[0]);
                rest = &rest[taken..];
                messages += 1;
            }
            assert_eq!(messages, entry.messages);
        });
        numbers
    }

    #[test]
    fn a_last_value_stays_until_it_is_cleared() {
        let budget = Budget::new(100);
        let mut log = TopicLog::default();
        log.keep(&budget, Now::default(), &[1, 2, 3], true).expect("room");
        log.keep(&budget, Now::default(), &[1, 2], true).expect("room");
        assert_eq!(log.last().map(|entry| entry.frames), Some(&[1, 2][..]));
        assert_eq!(budget.used(), 2);
        log.keep(&budget, Now::default(), &[], false).expect("room");
        assert!(log.is_empty() && budget.used() == 0);
    }

    proptest! {
        #[test]
        fn it_holds_the_newest_within_count_age_and_bytes(
            runs in proptest::collection::vec((1u8..20, 0u64..30), 1..60),
            messages in 0u32..30, age_ms in 1u64..200, bytes in 60usize..600, wanted in 0u64..30,
        ) {
            let limits = Retention { messages, age_ms, bytes };
            let budget = Arc::new(Budget::new(1 << 20));
            let mut buffers = Buffers::new(Arc::clone(&budget));
            let mut log = TopicLog::default();
            let mut model: VecDeque<(u64, u8)> = VecDeque::new();
            let (mut clock, mut number) = (1000, 0u8);
            let topic = TopicId::new(1).expect("not 0");
            for (count, pause) in runs {
                clock += pause;
                number = if number > 200 { 0 } else { number };
                let now = Now { mono: Instant::from_millis(clock), ..Now::default() };
                let frames = frames(number, count);
                let run = Run { bytes: &frames, messages: count.into(), is_counted: false, topic };
                log.push(&mut buffers, &limits, now, &run).expect("budget");
                log.expire(&mut buffers, Instant::from_millis(clock - age_ms));
                model.extend((number..number + count).map(|number| (clock, number)));
                model.retain(|&(at, _)| at >= clock - age_ms);
                while model.len() > messages as usize {
                    model.pop_front();
                }
                number += count;
                let held = replayed(&log, u64::MAX, Instant::default());
                prop_assert!(log.bytes.len() - log.start <= bytes);
                prop_assert_eq!(held.len(), log.messages() as usize);
                let newest: Vec<u8> = model.iter().map(|&(_, number)| number).collect();
                prop_assert!(newest.ends_with(&held));
                if bytes > 30 * (ENTRY_HEAD + 9) {
                    prop_assert_eq!(&newest, &held);
                }
                let asked = replayed(&log, wanted, Instant::default());
                prop_assert!(held.ends_with(&asked));
                prop_assert_eq!(asked.len(), held.len().min(usize::try_from(wanted).expect("small")));
            }
            while log.evict(&mut buffers) {}
            buffers.trim();
            prop_assert_eq!(budget.used(), 0);
        }
    }
}
