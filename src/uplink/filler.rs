//! From the frames that the local session has for a lane to batches for the disk.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use fastport_core::session::Spooled;
use fastport_wire::field::MAX_BODY;
use fastport_wire::frame::{self, DataFlags, GapCause};
use fastport_wire::{Frame, Topic, TopicId};

use super::rules::Rules;
use super::store::{Batch, Item, Marks};
use crate::config::WhenSpoolFull;

/// Reads one link of the lane's seat.
pub(super) struct Filler {
    rules: Arc<Rules>,
    max_age: Duration,
    topics: HashMap<TopicId, Known>,
    input: Vec<u8>,
    clock: Option<u64>,
    /// Counted frames of the local epoch that were read.
    read: u64,
    batch: Batch,
    most: u64,
    /// PINGs that want an answer
    pub(super) is_asked: bool,
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
            read: acked,
            batch: Batch { count: acked, ..Batch::default() },
            most: u64::MAX,
            is_asked: false,
        }
    }

    /// Takes bytes of the seat's output; returns how many.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        let left = MOST_BATCH.saturating_sub(self.batch.bytes);
        // what is read up to a count is not for a batch
        let left = if self.most == u64::MAX { left } else { bytes.len() };
        let taken = bytes.len().min(left);
        self.input.extend_from_slice(bytes.get(..taken).unwrap_or_default());
        let input = std::mem::take(&mut self.input);
        let mut rest = &input[..];
        while self.read < self.most
            && let Ok(Some((head, body))) = frame::split(rest, MAX_BODY)
        {
            if let Ok(frame) = Frame::from_parts(head, body) {
                self.note(&frame);
            }
            rest = rest.get(head.total()..).unwrap_or_default();
        }
        self.input = rest.to_vec();
        taken
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
            Frame::Ping { .. } => self.is_asked = true,
            _ => {}
        }
    }

    fn message(&mut self, flags: DataFlags, topic: TopicId, payload: &[u8]) {
        let is_counted = flags.contains(DataFlags::COUNTED);
        let Some(known) = self.topics.get(&topic) else { return };
        if !is_counted {
            // it goes up with a link or not at all
            let topic = Some(Arc::clone(&known.name));
            return self.gap(topic, 1, GapCause::LinkLost);
        }
        self.read += 1;
        self.batch.count = self.read;
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

/// Bytes in one transaction.
pub(super) const MOST_BATCH: usize = 64 * 1024;
/// What a row takes beside its payload.
const ROW: usize = 64;
