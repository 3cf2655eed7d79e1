//! From the frames that a session gives its store to what is stored: decisions without I/O.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use fastport_core::session::Counts;
use fastport_core::time::{NOT_KNOWN, Now};
use fastport_wire::control::Control;
use fastport_wire::field::MAX_BODY;
use fastport_wire::frame::{DataFlags, GapCause};
use fastport_wire::{Frame, TopicId, WireError};

use super::{Entry, Missing, Part, Position, Topic};

/// Where a session's stream goes on, and whether the store has to be told before it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) position: Position,
    pub(super) is_new_to_store: bool,
    /// What the session and the store say does not fit together.
    pub(super) is_at_odds: bool,
}

impl Start {
    /// By what the session knows of the store's peer, and what the store knows of the session;
    /// `fresh` is an epoch that neither of them knows.
    pub(super) fn choose(known: Option<Counts>, stored: Option<Position>, fresh: u64) -> Self {
        let serial = stored.map_or(0, |stored| stored.serial);
        let at = |epoch, count, is_at_odds| Self {
            position: Position { epoch, count, serial },
            is_new_to_store: true,
            is_at_odds,
        };
        match (known, stored) {
            (None, _) => at(fresh, 0, false),
            (Some(known), Some(stored)) if stored.epoch == known.epoch => {
                if (known.acked..=known.total).contains(&stored.count) {
                    return Self { position: stored, is_new_to_store: false, is_at_odds: false };
                }
                // the store is an older copy, or the session's journal is: what the session still
                // holds is all there is
                at(known.epoch, known.acked, true)
            }
            // a store of another life: the session knows what the one before had
            (Some(known), _) => at(known.epoch, known.acked, stored.is_some()),
        }
    }
}

/// What the session said that a store's peer does not expect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TapError {
    /// Bytes that are no frame.
    Wire(WireError),
    /// A message of a topic that was not announced.
    UnknownTopic(TopicId),
    /// It refused something.
    Refused(Option<u32>, u8),
}

impl fmt::Display for TapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wire(error) => write!(f, "no frame: {error}"),
            Self::UnknownTopic(id) => write!(f, "topic {} was not announced", id.get()),
            Self::Refused(request, code) => write!(f, "request {request:?} refused, code {code}"),
        }
    }
}

/// Reads one session's frames into a [`Part`].
#[derive(Debug)]
pub(super) struct Tap {
    /// Where the part at hand ends.
    position: Position,
    /// The start of a frame.
    input: Vec<u8>,
    topics: HashMap<TopicId, Known>,
    /// The TIME before the next message.
    stamp: u64,
    /// Missing messages at the place where the stream began, which the store has already.
    stored_missing: Missing,
    began_at: u64,
    part: Part,
    is_resumed: bool,
    is_asked: bool,
}

#[derive(Debug)]
struct Known {
    topic: Arc<Topic>,
    /// The batch in which it has a place, and the place.
    place: (u64, usize),
}

impl Tap {
    /// A tap of a session whose stream goes on at `position`, where `stored_missing` are stored.
    pub(super) fn new(session: &str, position: Position, stored_missing: Missing) -> Self {
        Self {
            position,
            input: Vec::new(),
            topics: HashMap::new(),
            stamp: NOT_KNOWN,
            stored_missing,
            began_at: position.count,
            part: Part { session: session.into(), ..Part::default() },
            is_resumed: false,
            is_asked: false,
        }
    }

    /// The session went on with its peer's state; as its WELCOME said.
    pub(super) fn is_resumed(&self) -> bool {
        self.is_resumed
    }

    /// Counted frames of the epoch before what this reads.
    pub(super) fn began_at(&self) -> u64 {
        self.began_at
    }

    /// How far the stream was read.
    pub(super) fn position(&self) -> Position {
        self.position
    }

    /// Takes what comes next; a message whose time nobody knows has [`NOT_KNOWN`].
    pub(super) fn handle(&mut self, now: Now, bytes: &[u8]) -> Result<(), TapError> {
        let joined;
        let mut rest = if self.input.is_empty() {
            bytes
        } else {
            self.input.extend_from_slice(bytes);
            joined = std::mem::take(&mut self.input);
            &joined
        };
        while let Some((frame, length)) = Frame::decode(rest, MAX_BODY).map_err(TapError::Wire)? {
            self.handle_frame(now, &frame)?;
            rest = rest.get(length..).unwrap_or_default();
        }
        self.input.extend_from_slice(rest);
        Ok(())
    }

    fn handle_frame(&mut self, now: Now, frame: &Frame<'_>) -> Result<(), TapError> {
        match *frame {
            Frame::Data { flags, topic, payload } => {
                let topic = self.place_of(topic)?;
                let from = self.part.payloads.len();
                self.part.payloads.extend_from_slice(payload);
                self.part.entries.push(Entry::Message {
                    topic,
                    flags: flags.bits(),
                    stamp: now.known(self.stamp).unwrap_or(NOT_KNOWN),
                    payload: from..self.part.payloads.len(),
                });
                self.position.count += u64::from(flags.contains(DataFlags::COUNTED));
            }
            Frame::Topic { id, name, schema } => {
                let schema = schema.unwrap_or_default().into();
                let topic = Arc::new(Topic { name: name.into(), schema });
                self.topics.insert(id, Known { topic, place: (0, 0) });
            }
            Frame::Time { unix_ms } => self.stamp = unix_ms,
            Frame::Gap { topic, count, cause } => {
                // a topic that was not announced is as good as several
                let topic = topic.filter(|topic| self.topics.contains_key(topic));
                let messages = self.not_stored(topic, count, cause);
                if messages > 0 {
                    let topic = topic.map(|topic| self.place_of(topic)).transpose()?;
                    let place = self.position.count;
                    self.part.entries.push(Entry::Gap { topic, messages, cause, place });
                }
            }
            Frame::Ping { .. } => self.is_asked = true,
            Frame::Control(body) => self.handle_control(body)?,
            _ => {}
        }
        Ok(())
    }

    fn handle_control(&mut self, body: &[u8]) -> Result<(), TapError> {
        match Control::decode(body).map_err(TapError::Wire)? {
            Control::Welcome(welcome) => {
                self.is_resumed = welcome.resumed;
                if !welcome.resumed {
                    // the epoch begins with nothing
                    (self.position.count, self.began_at) = (0, 0);
                }
                Ok(())
            }
            Control::Error(error) => Err(TapError::Refused(error.request, error.code)),
            _ => Ok(()),
        }
    }

    /// How many of the missing messages are not in the store: where the stream went on after a
    /// crash, the session may say again what it had said. All that is stored there is said again, but
    /// maybe not by the same names: what was named may be among several topics, or the reverse.
    fn not_stored(&mut self, topic: Option<TopicId>, count: u64, cause: GapCause) -> u64 {
        if self.position.count != self.began_at || self.stored_missing.is_empty() {
            return count;
        }
        let known = topic.and_then(|topic| self.topics.get(&topic));
        let name: Box<str> = known.map_or_else(Box::default, |known| known.topic.name.clone());
        let is_unnamed = name.is_empty();
        let left = self.take_stored(name, cause, count);
        if left == 0 || !is_unnamed {
            return self.take_stored(Box::default(), cause, left);
        }
        let of_cause = |stored: &&(Box<str>, u8)| stored.1 == cause as u8;
        let names: Vec<_> = self.stored_missing.keys().filter(of_cause).cloned().collect();
        names.into_iter().fold(left, |left, (name, _)| self.take_stored(name, cause, left))
    }

    /// Takes up to `count` of what is stored by that name; how many are left.
    fn take_stored(&mut self, name: Box<str>, cause: GapCause, count: u64) -> u64 {
        let Some(stored) = self.stored_missing.get_mut(&(name, cause as u8)) else { return count };
        let known = count.min(*stored);
        *stored -= known;
        count - known
    }

    fn place_of(&mut self, id: TopicId) -> Result<usize, TapError> {
        let batch = self.position.serial + 1;
        let known = self.topics.get_mut(&id).ok_or(TapError::UnknownTopic(id))?;
        if known.place.0 != batch {
            known.place = (batch, self.part.topics.len());
            self.part.topics.push(Arc::clone(&known.topic));
        }
        Ok(known.place.1)
    }

    /// Bytes of messages that wait to be stored, with what they take beside their payloads.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.part.payloads.len() + self.part.entries.len() * size_of::<Entry>()
    }

    /// Whether something waits to be stored.
    pub(super) fn has_entries(&self) -> bool {
        !self.part.entries.is_empty()
    }

    /// Whether the session waits for what was read to be acknowledged.
    pub(super) fn is_asked(&self) -> bool {
        self.is_asked
    }

    /// As [`Tap::is_asked`], for the last time: the session is being answered.
    pub(super) fn take_asked(&mut self) -> bool {
        std::mem::take(&mut self.is_asked)
    }

    /// What came since the last time, for the store.
    pub(super) fn take(&mut self) -> Option<Part> {
        if self.part.entries.is_empty() {
            return None;
        }
        self.position.serial += 1;
        let next = Part { session: self.part.session.clone(), ..Part::default() };
        let part = std::mem::replace(&mut self.part, next);
        Some(Part { position: self.position, ..part })
    }
}

#[cfg(test)]
mod tests;
