//! From the frames that the local session has for a lane to batches for the disk.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use fastport_core::session::Spooled;
use fastport_core::time::NOT_KNOWN;
use fastport_wire::field::MAX_BODY;
use fastport_wire::frame::{self, DataFlags, GapCause};
use fastport_wire::{Frame, Topic, TopicId};

use super::rules::Rules;
use super::spool::{Body, Row, Stamp, Topic as RowTopic};
use super::store::{Batch, Item, Marks};
use crate::config::WhenSpoolFull;

/// Reads one link of the lane's seat.
pub(super) struct Filler {
    rules: Arc<Rules>,
    max_age: Duration,
    topics: HashMap<TopicId, Known>,
    input: Vec<u8>,
    clock: Option<u64>,
    batch: Batch,
    most: u64,
    /// Messages that do not ask for delivery, for a link that is there.
    pub(super) fresh: VecDeque<Row>,
    /// Bytes of them that are wanted.
    pub(super) fresh_room: usize,
    /// Whether others are gaps; else they wait, and what is behind them.
    pub(super) has_gaps: bool,
}

struct Known {
    name: Arc<str>,
    schema: Option<Arc<[u8]>>,
    when_full: WhenSpoolFull,
    max_age: Duration,
}

impl Filler {
    /// Takes no more than so many counted frames.
    pub(super) fn up_to(self, most: u64) -> Self {
        Self { most, ..self }
    }

    /// For a seat that gives what follows `acked` counted frames.
    pub(super) fn new(rules: Arc<Rules>, max_age: Duration, acked: u64) -> Self {
        Self {
            rules,
            max_age,
            topics: HashMap::new(),
            input: Vec::new(),
            clock: None,
            batch: Batch { count: acked, ..Batch::default() },
            most: u64::MAX,
            fresh: VecDeque::new(),
            fresh_room: 0,
            has_gaps: true,
        }
    }

    /// Takes bytes of the seat's output; returns how many.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        self.read();
        if self.waits() {
            return 0;
        }
        let left = MOST_BATCH.saturating_sub(self.batch.bytes);
        // what is read up to a count is not for a batch
        let left = if self.most == u64::MAX { left } else { bytes.len() };
        let taken = bytes.len().min(left);
        self.input.extend_from_slice(bytes.get(..taken).unwrap_or_default());
        self.read();
        taken
    }

    /// Whether there is room for what is fresh first.
    fn waits(&self) -> bool {
        self.fresh_room == 0 && !self.has_gaps
    }

    /// Reads what was taken, as far as it may.
    pub(super) fn read(&mut self) {
        let input = std::mem::take(&mut self.input);
        let mut rest = &input[..];
        while self.batch.count < self.most
            && !self.waits()
            && let Ok(Some((head, body))) = frame::split(rest, MAX_BODY)
        {
            if let Ok(frame) = Frame::from_parts(head, body) {
                self.note(&frame);
            }
            rest = rest.get(head.total()..).unwrap_or_default();
        }
        self.input = rest.to_vec();
    }

    /// Counted frames in the batch at hand are those up to this count.
    pub(super) fn count(&self) -> u64 {
        self.batch.count
    }

    /// Bytes of the batch at hand.
    pub(super) fn bytes(&self) -> usize {
        self.batch.bytes
    }

    /// Whether there is something to put on disk.
    pub(super) fn is_empty(&self) -> bool {
        self.batch.items.is_empty()
    }

    /// The batch, with whose frames it has; `acked` counted frames lie before it.
    pub(super) fn take_batch(&mut self, acked: u64, marks: Vec<Spooled>) -> Batch {
        let next = Batch { count: self.batch.count, ..Batch::default() };
        let mut batch = std::mem::replace(&mut self.batch, next);
        let mut marks = Marks::new(marks);
        let mut count = acked;
        for item in &mut batch.items {
            if let Item::Message { publisher, .. } = item {
                count += 1;
                *publisher = marks.publisher(count);
            }
        }
        batch
    }

    fn note(&mut self, frame: &Frame<'_>) {
        match *frame {
            Frame::Topic { id, name, schema } => {
                let carried = Topic::parse(name).ok().and_then(|topic| self.rules.up(topic));
                let when_full =
                    carried.as_ref().map_or(WhenSpoolFull::DropOldest, |c| c.rule.when_full);
                let max_age = carried.and_then(|carried| carried.rule.max_age);
                let known = Known {
                    name: name.into(),
                    schema: schema.map(Arc::from),
                    when_full,
                    max_age: max_age.unwrap_or(self.max_age),
                };
                self.topics.insert(id, known);
            }
            Frame::Time { unix_ms } => self.clock = Some(unix_ms),
            Frame::Data { flags, topic, payload } => self.message(flags, topic, payload),
            Frame::Gap { topic, count, cause } => {
                let topic = topic.and_then(|topic| self.topics.get(&topic));
                let topic = topic.map(|known| Arc::clone(&known.name));
                self.gap(topic, count, cause);
            }
            _ => {}
        }
    }

    fn message(&mut self, flags: DataFlags, topic: TopicId, payload: &[u8]) {
        let is_counted = flags.contains(DataFlags::COUNTED);
        let Some(known) = self.topics.get(&topic) else { return };
        if !is_counted {
            // it goes up with a link or not at all
            if self.fresh_room > 0 {
                self.fresh_room = self.fresh_room.saturating_sub(payload.len() + ROW);
                self.fresh.push_back(fresh(known, flags, self.clock, payload));
                return;
            }
            let topic = Some(Arc::clone(&known.name));
            return self.gap(topic, 1, GapCause::LinkLost);
        }
        self.batch.count += 1;
        self.batch.bytes += payload.len() + ROW;
        self.batch.items.push(Item::Message {
            topic: Arc::clone(&known.name),
            schema: known.schema.clone(),
            flags,
            stamp: self.clock,
            payload: payload.into(),
            when_full: known.when_full,
            max_age: known.max_age,
            publisher: None,
        });
    }

    fn gap(&mut self, topic: Option<Arc<str>>, count: u64, cause: GapCause) {
        if let Some(Item::Gap { topic: last, count: known, cause: why }) =
            self.batch.items.last_mut()
            && *last == topic
            && *why == cause
        {
            *known += count;
            return;
        }
        self.batch.bytes += ROW;
        self.batch.items.push(Item::Gap { topic, count, cause });
    }
}

/// A message as if it were a row: no count is its.
fn fresh(known: &Known, flags: DataFlags, clock: Option<u64>, payload: &[u8]) -> Row {
    let topic = RowTopic {
        name: known.name.as_ref().into(),
        schema: known.schema.as_deref().map(Into::into),
    };
    let stamp = Stamp::Boot(clock.unwrap_or(NOT_KNOWN));
    let body = Body::Message { topic: Arc::new(topic), flags, stamp, payload: payload.to_vec() };
    Row { seq: 0, central_count: 0, body }
}

/// Bytes in one transaction.
pub(super) const MOST_BATCH: usize = 64 * 1024;
/// What a row takes beside its payload.
pub(super) const ROW: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// A topic, a message with delivery, one without, and one with.
    fn bytes() -> Vec<u8> {
        let id = TopicId::new(1).expect("not zero");
        let data = |flags| Frame::Data { flags, topic: id, payload: b"12345" };
        let (plain, counted) = (data(DataFlags::default()), data(DataFlags::COUNTED));
        let mut bytes = Vec::new();
        for frame in [Frame::Topic { id, name: "t", schema: None }, counted, plain, counted] {
            let at = bytes.len();
            bytes.resize(at + frame.encoded_len(), 0);
            frame.encode(&mut bytes[at..]).expect("room for it");
        }
        bytes
    }

    fn filler(room: usize, has_gaps: bool) -> Filler {
        let rules = Arc::new(Rules::new(&crate::config::Uplink::default()));
        let filler = Filler::new(rules, Duration::MAX, 0);
        Filler { fresh_room: room, has_gaps, ..filler }
    }

    #[test]
    fn what_is_fresh_goes_to_the_link_and_has_no_place_in_the_batch() {
        let mut filler = filler(1000, false);
        assert_eq!(filler.take(&bytes()), bytes().len());
        assert_eq!((filler.fresh.len(), filler.count()), (1, 2));
        assert_eq!(filler.take_batch(0, Vec::new()).items.len(), 2);
    }

    #[test]
    fn without_room_for_it_what_is_fresh_waits_and_all_behind_it() {
        let mut filler = filler(0, false);
        assert_eq!(filler.take(&bytes()), 0);
        filler.fresh_room = 1;
        assert_eq!(filler.take(&bytes()), bytes().len());
        // the second counted one is behind a fresh one that left no room
        assert_eq!((filler.fresh.len(), filler.count()), (1, 1));
        assert_eq!(filler.take(b""), 0);
        filler.fresh_room = 1;
        filler.read();
        assert_eq!(filler.count(), 2);
    }

    #[test]
    fn without_a_link_it_is_a_gap() {
        let mut filler = filler(0, true);
        filler.take(&bytes());
        let batch = filler.take_batch(0, Vec::new());
        let is_gap = |item: &Item| matches!(item, Item::Gap { count: 1, .. });
        assert_eq!(batch.items.iter().filter(|item| is_gap(item)).count(), 1);
        assert_eq!((filler.fresh.len(), batch.count), (0, 2));
    }
}
