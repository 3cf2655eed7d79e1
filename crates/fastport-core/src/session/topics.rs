//! The topics of a session: an id is an index, and stays its topic's for good.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::hash::BuildHasher;

use fastport_wire::{Frame, Topic as TopicName, TopicId};
use hashbrown::{DefaultHashBuilder, HashTable};

use super::push_frame;
use crate::budget::Buffers;
use crate::retention::TopicLog;

#[derive(Debug, Default)]
pub(super) struct Topics {
    /// id - 1 to topic; what was removed leaves a hole
    by_id: Vec<Option<Box<Topic>>>,
    /// by the hash of the name, which stands in the topic alone
    by_name: HashTable<TopicId>,
    hasher: DefaultHashBuilder,
    retained: u64,
    /// Some topic may have become unused since they were last looked through.
    may_have_unused: bool,
}

#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: Box<str>,
    /// Sorted by peer.
    pub(super) readers: Readers,
    /// Of the readers, how many must not lose.
    pub(super) holders: u32,
    pub(super) publishers: u32,
    /// Most topics have neither schema nor past.
    rest: Option<Box<Rest>>,
}

#[derive(Debug, Default)]
struct Rest {
    schema: Option<Box<[u8]>>,
    log: TopicLog,
}

/// A topic's readers. Most topics of their own have one, and then it lies here.
#[derive(Debug)]
pub(super) enum Readers {
    One(Reader),
    /// None, or some.
    Many(Vec<Reader>),
}

impl Default for Readers {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Readers {
    #[inline]
    pub(super) fn as_slice(&self) -> &[Reader] {
        match self {
            Self::One(one) => core::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }

    #[inline]
    pub(super) fn as_mut_slice(&mut self) -> &mut [Reader] {
        match self {
            Self::One(one) => core::slice::from_mut(one),
            Self::Many(many) => many,
        }
    }

    /// `place` <= how many there are.
    fn insert(&mut self, place: usize, reader: Reader) {
        match self {
            Self::Many(many) if many.is_empty() => *self = Self::One(reader),
            Self::Many(many) => many.insert(place, reader),
            Self::One(one) => {
                let mut many = Vec::with_capacity(2);
                many.push(*one);
                many.insert(place, reader);
                *self = Self::Many(many);
            }
        }
    }

    /// `place` < how many there are.
    fn remove(&mut self, place: usize) -> Reader {
        match self {
            Self::One(one) => {
                let gone = *one;
                *self = Self::default();
                gone
            }
            Self::Many(many) => {
                let gone = many.remove(place);
                match many[..] {
                    [one] => *self = Self::One(one),
                    _ if many.capacity() > 2 * LEAST_READERS.max(many.len()) => {
                        many.shrink_to(LEAST_READERS.max(many.len()));
                    }
                    _ => {}
                }
                gone
            }
        }
    }
}

/// A peer that reads a topic.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader {
    pub(super) peer: u32,
    /// The peer's count of links when the topic was announced to it; 0: not yet.
    pub(super) announced: u16,
    pub(super) no_local: bool,
    /// It must not lose counted messages.
    pub(super) holds: bool,
}

impl Topic {
    /// Appends the TOPIC frame that says what `id` stands for.
    pub(super) fn announce(&self, id: TopicId, out: &mut Vec<u8>) {
        push_frame(out, &self.frame(id));
    }

    pub(super) fn frame(&self, id: TopicId) -> Frame<'_> {
        Frame::Topic { id, name: &self.name, schema: self.schema() }
    }

    pub(super) fn name(&self) -> Option<TopicName<'_>> {
        TopicName::parse(&self.name).ok()
    }

    pub(super) fn schema(&self) -> Option<&[u8]> {
        self.rest.as_ref()?.schema.as_deref()
    }

    pub(super) fn set_schema(&mut self, schema: &[u8]) {
        self.rest.get_or_insert_default().schema = Some(schema.into());
    }

    /// The topic's past, if there ever was any.
    pub(super) fn log(&self) -> Option<&TopicLog> {
        self.rest.as_ref().map(|rest| &rest.log)
    }

    pub(super) fn log_mut(&mut self) -> Option<&mut TopicLog> {
        self.rest.as_mut().map(|rest| &mut rest.log)
    }

    pub(super) fn log_or_new(&mut self) -> &mut TopicLog {
        &mut self.rest.get_or_insert_default().log
    }

    /// Where the peer is among the readers, or would be.
    pub(super) fn place_of(&self, peer: u32) -> Result<usize, usize> {
        self.readers.as_slice().binary_search_by_key(&peer, |reader| reader.peer)
    }

    pub(super) fn reader_mut(&mut self, peer: u32) -> Option<&mut Reader> {
        let place = self.place_of(peer).ok()?;
        self.readers.as_mut_slice().get_mut(place)
    }

    /// Adds a reader, whose charge is taken already, or changes what it wants.
    pub(super) fn put_reader(&mut self, peer: u32, holds: bool, no_local: bool) {
        match self.place_of(peer) {
            Ok(_) => {
                if let Some(reader) = self.reader_mut(peer) {
                    reader.no_local = no_local;
                }
            }
            Err(place) => {
                self.readers.insert(place, Reader { peer, announced: 0, no_local, holds });
                self.holders += u32::from(holds);
            }
        }
    }

    /// Takes a reader off, if it is one; its charge is to be given back.
    pub(super) fn remove_reader(&mut self, peer: u32) {
        let Ok(place) = self.place_of(peer) else { return };
        let gone = self.readers.remove(place);
        self.holders -= u32::from(gone.holds);
    }

    pub(super) fn is_read_by(&self, peer: u32) -> bool {
        self.place_of(peer).is_ok()
    }

    fn is_unused(&self) -> bool {
        let is_quiet = self.log().is_none_or(TopicLog::is_empty);
        is_quiet && self.readers.as_slice().is_empty() && self.publishers == 0
    }
}

impl Topics {
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// How many ids were given, those of topics included that are no more.
    pub(super) fn ids(&self) -> u32 {
        u32::try_from(self.by_id.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn retained(&self) -> u64 {
        self.retained
    }

    pub(super) fn note_retained(&mut self, before: u32, after: u32) {
        self.retained = self.retained + u64::from(after) - u64::from(before);
        self.may_have_unused |= after == 0 && before > 0;
    }

    /// A topic has lost a reader, or its last value.
    pub(super) fn note_quieter(&mut self) {
        self.may_have_unused = true;
    }

    /// What ids cost that no topic has any more.
    #[cfg(test)]
    pub(super) fn holes_charge(&self) -> usize {
        self.by_id.iter().filter(|place| place.is_none()).count() * HOLE_BYTES
    }

    #[inline]
    pub(super) fn get(&self, id: TopicId) -> Option<&Topic> {
        self.by_id.get(id.get() as usize - 1)?.as_deref()
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: TopicId) -> Option<&mut Topic> {
        self.by_id.get_mut(id.get() as usize - 1)?.as_deref_mut()
    }

    pub(super) fn find(&self, name: TopicName<'_>) -> Option<TopicId> {
        let has_name =
            |&id: &TopicId| self.get(id).is_some_and(|known| *known.name == *name.as_str());
        self.by_name.find(self.hasher.hash_one(name.as_str()), has_name).copied()
    }

    /// The topics with their ids.
    pub(super) fn iter(&self) -> impl Iterator<Item = (TopicId, &Topic)> {
        (1..)
            .zip(&self.by_id)
            .filter_map(|(number, topic)| Some((TopicId::new(number)?, topic.as_deref()?)))
    }

    /// Whether the session has no more ids to give.
    pub(super) fn is_out_of_ids(&self, topics: usize) -> bool {
        self.by_id.len() >= topics.saturating_mul(IDS_PER_TOPIC)
    }

    pub(super) fn insert(&mut self, name: TopicName<'_>) -> Option<TopicId> {
        let id = TopicId::new(u32::try_from(self.by_id.len() + 1).ok()?)?;
        self.by_id.push(None);
        self.fill(id, name);
        Some(id)
    }

    /// Gives an id that no topic will have.
    pub(super) fn push_hole(&mut self) {
        self.by_id.push(None);
    }

    /// Makes a topic in a hole, where there is one of that id.
    pub(super) fn fill(&mut self, id: TopicId, name: TopicName<'_>) {
        self.may_have_unused = true;
        let Some(hole) = self.by_id.get_mut(id.get() as usize - 1) else { return };
        *hole = Some(Box::new(Topic {
            name: name.as_str().into(),
            readers: Readers::default(),
            holders: 0,
            publishers: 0,
            rest: None,
        }));
        let Self { by_id, by_name, hasher, .. } = self;
        let hash_of = |&id: &TopicId| {
            let topic = by_id.get(id.get() as usize - 1).and_then(Option::as_deref);
            // what has no topic is not in the table
            hasher.hash_one(topic.map_or("", |topic| &*topic.name))
        };
        by_name.insert_unique(hash_of(&id), id, hash_of);
    }

    /// A publisher no longer has the topic open.
    pub(super) fn close(&mut self, id: TopicId) {
        if let Some(topic) = self.get_mut(id) {
            topic.publishers = topic.publishers.saturating_sub(1);
            self.may_have_unused = true;
        }
    }

    /// Removes all topics that nobody reads, publishes or remembers; whether there were any. Not
    /// while a topic is at work: it would seem to be one of them.
    pub(super) fn sweep(&mut self, buffers: &mut Buffers) -> bool {
        if !core::mem::take(&mut self.may_have_unused) {
            return false;
        }
        let mut freed = 0;
        for number in (1..).take(self.by_id.len()) {
            let Some(id) = TopicId::new(number) else { continue };
            if self.get(id).is_some_and(Topic::is_unused) {
                freed += self.take_out(id, buffers);
            }
        }
        buffers.budget().give_back(freed);
        freed > 0
    }

    /// Removes a topic, which nobody reads or publishes.
    pub(super) fn remove(&mut self, id: TopicId, buffers: &mut Buffers) {
        let freed = self.take_out(id, buffers);
        buffers.budget().give_back(freed);
    }

    /// Removes a topic; returns what its charge was beside the hole that stays.
    fn take_out(&mut self, id: TopicId, buffers: &mut Buffers) -> usize {
        let place = self.by_id.get_mut(id.get() as usize - 1);
        let Some(mut topic) = place.and_then(Option::take) else { return 0 };
        let hash = self.hasher.hash_one(&*topic.name);
        if let Ok(entry) = self.by_name.find_entry(hash, |&known| known == id) {
            entry.remove();
        }
        if let Some(log) = topic.log_mut() {
            self.retained -= u64::from(log.messages());
            log.clear(buffers);
        }
        let schema = topic.schema().map_or(0, <[u8]>::len);
        let readers = topic.readers.as_slice().len() * READER_BYTES;
        // its id is not given again, and the hole in the table stays
        charge(&topic.name) + schema + readers - HOLE_BYTES
    }

    /// Makes the highest ids free again that no topic has. Only while there is no peer: nobody
    /// then knows what they were.
    pub(super) fn reclaim_ids(&mut self, buffers: &mut Buffers) {
        let mut holes = 0;
        while self.by_id.pop_if(|place| place.is_none()).is_some() {
            holes += 1;
        }
        buffers.budget().give_back(holes * HOLE_BYTES);
        self.by_id.shrink_to(2 * self.by_id.len());
    }

    /// Forgets everything that is retained.
    pub(super) fn forget(&mut self, buffers: &mut Buffers) {
        for topic in self.by_id.iter_mut().flatten() {
            if let Some(log) = topic.log_mut() {
                log.clear(buffers);
            }
        }
        self.may_have_unused = true;
        self.retained = 0;
    }
}

/// What a topic of that name is charged with.
pub(super) fn charge(name: &str) -> usize {
    size_of::<Topic>() + size_of::<Rest>() + 2 * name.len() + TOPIC_OVERHEAD + HOLE_BYTES
}

/// What each reader of a topic is charged with: a list may have twice the room it needs.
pub(super) const READER_BYTES: usize = 2 * size_of::<Reader>();

/// Room for so many readers is not given back.
const LEAST_READERS: usize = 4;
/// What an id costs for as long as it must not be given again: the table may have twice the room it
/// needs.
pub(super) const HOLE_BYTES: usize = 2 * size_of::<Option<Box<Topic>>>();
/// A topic's share of the tables.
const TOPIC_OVERHEAD: usize = 64;
/// An id is not given twice, so a session's ids can be used up by topics that come and go: this
/// many times the topics it may have at once.
const IDS_PER_TOPIC: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// With malloc's head 64 bytes, of which there are as many as topics.
    #[test]
    #[cfg(target_pointer_width = "64")]
    fn a_topic_is_small() {
        assert!(size_of::<Topic>() <= 56, "{}", size_of::<Topic>());
    }
}
