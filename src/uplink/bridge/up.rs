//! What the local session has for the central instance: its frames, in their order.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use fastport_core::client::{Client, PublishError};
use fastport_core::time::{NOT_KNOWN, Now};
use fastport_wire::control::{ErrorCode, Tier};
use fastport_wire::field::{MAX_BODY, kind};
use fastport_wire::frame::{self, DataFlags, GapCause};
use fastport_wire::{Frame, Topic, TopicId};

use super::gaps::Gaps;
use super::{Ended, Notice, Task, push_notice};
use crate::config::WaitFor;
use crate::uplink::figures::LaneFigures;
use crate::uplink::note::Note;

/// Where a topic's messages go.
pub(super) enum Route {
    /// The answer to OPEN is not here yet.
    Opening,
    /// To that topic at the central instance.
    Open(TopicId),
    /// The central instance does not want them.
    Refused,
    /// No rule carries them on this lane.
    NotOurs,
}

/// Whose topic an OPEN is for.
pub(super) enum Asked {
    Frame(TopicId),
    Row(Box<str>),
    Again(Box<str>),
    Early(Box<str>),
}

pub(super) struct Known {
    pub(super) route: Route,
    /// its name at the central instance
    pub(super) name: Box<str>,
    pub(super) schema: Option<Box<[u8]>>,
}

pub(super) struct Up {
    topics: HashMap<TopicId, Known>,
    pub(super) opening: HashMap<u32, Asked>,
    /// of rows, by their names here
    pub(super) rows: HashMap<Box<str>, Known>,
    /// of gaps that are told again, by their names there
    again: HashMap<Box<str>, Route>,
    /// of topics that rules name, by their names there
    early: HashMap<Box<str>, Route>,
    input: Vec<u8>,
    /// Before it all is done with: 0 <= done <= seen <= input.len()
    done: usize,
    /// Before it every TOPIC was looked at.
    seen: usize,
    clock: Option<u64>,
    /// Counted frames of the local epoch that were carried, or need not be.
    read: u64,
    /// Counted frames that are acknowledged here: <= read
    acked: u64,
    told: u64,
    /// Counted frames that the central instance had when the link began, by its count.
    at_central: u64,
    /// Counted frames that are where they have to be, by the central instance's count.
    held: u64,
    /// As many it counts with the rows of the disk that went before.
    rows_end: u64,
    words: Vec<u8>,
}

/// What became of the first frame of the input.
enum Step {
    /// It is done with, for so many bytes.
    Done(usize),
    /// It waits: for an answer, for an acknowledgement, for room.
    Waits,
}

impl Up {
    pub(super) fn new(acked: u64) -> Self {
        Self {
            topics: HashMap::new(),
            opening: HashMap::new(),
            rows: HashMap::new(),
            again: HashMap::new(),
            early: HashMap::new(),
            input: Vec::new(),
            done: 0,
            seen: 0,
            clock: None,
            read: acked,
            acked,
            told: acked,
            at_central: 0,
            held: 0,
            rows_end: 0,
            words: Vec::new(),
        }
    }

    pub(super) fn begin(&mut self, at_central: u64) {
        self.at_central = at_central;
    }

    pub(super) fn acked(&self) -> u64 {
        self.acked
    }

    pub(super) fn at_central(&self) -> u64 {
        self.at_central
    }

    pub(super) fn read(&self) -> u64 {
        self.read
    }

    pub(super) fn held(&self) -> u64 {
        self.held
    }

    /// Begins anew behind so many acknowledged frames, on another link of the local session, and
    /// behind rows of the disk up to that count of the central instance.
    pub(super) fn restart(&mut self, acked: u64, rows_end: u64) {
        self.rows_end = rows_end;
        self.topics.clear();
        self.opening.retain(|_, asked| matches!(asked, Asked::Row(_)));
        self.input.clear();
        (self.done, self.seen, self.clock) = (0, 0, None);
        (self.read, self.acked, self.told) = (acked, acked, acked);
    }

    /// The central instance holds so many, by its count.
    pub(super) fn note_held(&mut self, held: u64) {
        self.held = self.held.max(held);
    }

    /// Acknowledges what is where it has to be, as far as it was read.
    pub(super) fn settle(&mut self, note: &Note) {
        // the numbers wrap; a count of before the link began lies behind what is acknowledged
        let newly = note.up_here(self.held).wrapping_sub(self.acked);
        if newly <= u64::MAX / 2 {
            self.acked = self.read.min(self.acked.saturating_add(newly));
        }
    }

    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        let rest = self.input.get(self.done..).unwrap_or_default();
        let first = frame::head(rest, MAX_BODY).ok().flatten().map_or(0, |head| head.total());
        let room = INPUT.max(first).saturating_sub(rest.len()).min(bytes.len());
        if room > 0 {
            self.input.drain(..self.done);
            (self.seen, self.done) = (self.seen - self.done, 0);
            self.input.extend_from_slice(bytes.get(..room).unwrap_or_default());
        }
        room
    }

    /// Bytes of it that wait to be carried.
    pub(super) fn waiting(&self) -> usize {
        self.input.len() - self.done
    }

    /// Frames for the local session.
    pub(super) fn poll_words(&mut self) -> Option<Vec<u8>> {
        if self.told < self.acked {
            self.told = self.acked;
            let taken = self.acked;
            self.say(&Frame::Ack { taken, durable: None, central: None, repeat: false });
        }
        (!self.words.is_empty()).then(|| std::mem::take(&mut self.words))
    }

    /// A request succeeded; if it was OPEN, its topic is open.
    pub(super) fn opened(&mut self, request: u32, id: Option<TopicId>) {
        if let Some((route, _)) = self.asked(request) {
            *route = id.map_or(Route::Refused, Route::Open);
        }
    }

    /// A request failed; if it was OPEN, what people should know.
    pub(super) fn refused(&mut self, request: u32, code: Option<ErrorCode>) -> Option<Notice> {
        let (route, topic) = self.asked(request)?;
        *route = Route::Refused;
        Some(Notice::TopicRefused { topic, code })
    }

    fn asked(&mut self, request: u32) -> Option<(&mut Route, Box<str>)> {
        let known = match self.opening.remove(&request)? {
            Asked::Frame(topic) => self.topics.get_mut(&topic)?,
            Asked::Row(name) => self.rows.get_mut(&name)?,
            Asked::Again(name) => return Some((self.again.get_mut(&name)?, name)),
            Asked::Early(name) => return Some((self.early.get_mut(&name)?, name)),
        };
        Some((&mut known.route, known.name.clone()))
    }

    /// Asks for the topics of gaps that the last link may not have brought.
    pub(super) fn ask_again(&mut self, client: &mut Client, task: &Task, gaps: &Gaps) {
        for topic in gaps.topics() {
            if task.relays && !self.again.contains_key(topic) {
                let request = client.open_topic(topic, None, None);
                self.opening.insert(request, Asked::Again(topic.into()));
                self.again.insert(topic.into(), Route::Opening);
            }
        }
    }

    /// Asks for the topics that rules name, before there is a message: an alarm does not wait for a round
    /// trip on a slow line.
    pub(super) fn ask_early(&mut self, client: &mut Client, task: &Task) {
        for filter in task.rules.up_filters(task.lane) {
            let topic = filter.as_filter().as_topic();
            let Some(carried) = topic.and_then(|topic| task.rules.up(topic)) else { continue };
            let name = carried.name.into_boxed_str();
            if carried.rule.lane == task.lane && !self.early.contains_key(&name) {
                let request = client.open_topic(&name, None, task.tier());
                self.opening.insert(request, Asked::Early(name.clone()));
                self.early.insert(name, Route::Opening);
            }
        }
    }

    /// Tells again what stands here; whether all of it is told.
    fn tell_again(&mut self, hand: &mut Hand<'_>) -> bool {
        while let Some(told) = hand.gaps.next(self.read) {
            match self.again.get(&told.topic) {
                Some(Route::Opening) => return false,
                Some(Route::Open(id)) => hand.client.tell_gap(*id, told.count, told.cause),
                _ => {}
            }
            hand.gaps.done();
        }
        true
    }

    pub(super) fn carry(
        &mut self,
        client: &mut Client,
        task: &Task,
        note: &mut Note,
        (figures, gaps): (&Arc<LaneFigures>, &mut Gaps),
        notices: &mut VecDeque<Notice>,
        (now, allowance): (Now, usize),
    ) -> Result<usize, Ended> {
        self.look_ahead(client, task);
        let is_told =
            self.tell_again(&mut Hand { client, task, note, figures, gaps, notices, now });
        if !is_told {
            return Ok(0);
        }
        let mut carried = 0;
        let input = std::mem::take(&mut self.input);
        let mut done = Ok(());
        while carried < allowance {
            let rest = input.get(self.done..).unwrap_or_default();
            let Ok(Some((head, body))) = frame::split(rest, MAX_BODY) else { break };
            let mut hand = Hand { client, task, note, figures, gaps, notices, now };
            let step = match head.kind() {
                kind::PADDING => Ok(Step::Done(0)),
                _ => match Frame::from_parts(head, body) {
                    Ok(frame) => self.step(&mut hand, &frame),
                    // the local session is this very program
                    Err(_) => Ok(Step::Done(0)),
                },
            };
            match step {
                Ok(Step::Done(bytes)) => carried += bytes,
                Ok(Step::Waits) => break,
                Err(error) => {
                    done = Err(error);
                    break;
                }
            }
            self.done += head.total();
            self.seen = self.seen.max(self.done);
        }
        self.input = input;
        done.map(|()| carried)
    }

    /// Asks for every topic that is announced in the input before its first message has its turn:
    /// a thousand new topics cost one round trip.
    fn look_ahead(&mut self, client: &mut Client, task: &Task) {
        let input = std::mem::take(&mut self.input);
        while let Some(rest) = input.get(self.seen..) {
            let Ok(Some((head, body))) = frame::split(rest, MAX_BODY) else { break };
            if head.kind() == kind::TOPIC
                && let Ok(Frame::Topic { id, name, schema }) = Frame::from_parts(head, body)
                // one that changes has its turn after the messages before it
                && !self.topics.contains_key(&id)
            {
                self.meet(client, task, id, name, schema);
            }
            self.seen += head.total();
        }
        self.input = input;
    }

    fn meet(
        &mut self,
        client: &mut Client,
        task: &Task,
        id: TopicId,
        name: &str,
        schema: Option<&[u8]>,
    ) {
        let topic = Topic::parse(name).ok();
        let carried = topic.and_then(|topic| task.rules.up(topic));
        let carried = carried.filter(|carried| carried.rule.lane == task.lane);
        let (route, name) = match carried {
            None => (Route::NotOurs, name.into()),
            Some(carried) if Topic::parse(&carried.name).is_err() => {
                (Route::Refused, carried.name.into_boxed_str())
            }
            Some(carried) => match self.early.get(&*carried.name) {
                Some(&Route::Open(early)) if schema.is_none() => {
                    (Route::Open(early), carried.name.into_boxed_str())
                }
                _ => {
                    let request = client.open_topic(&carried.name, schema, task.tier());
                    self.opening.insert(request, Asked::Frame(id));
                    (Route::Opening, carried.name.into_boxed_str())
                }
            },
        };
        self.topics.insert(id, Known { route, name, schema: schema.map(Box::from) });
    }

    fn step(&mut self, hand: &mut Hand<'_>, frame: &Frame<'_>) -> Result<Step, Ended> {
        match *frame {
            Frame::Data { flags, topic, payload } => return self.data(hand, flags, topic, payload),
            Frame::Time { unix_ms } => self.clock = Some(unix_ms),
            Frame::Topic { id, name, schema } => {
                let known = self.topics.get(&id);
                if known.is_none_or(|known| known.schema.as_deref() != schema) {
                    self.meet(hand.client, hand.task, id, name, schema);
                }
            }
            Frame::Gap { topic, count, cause } => return Ok(self.gap(hand, topic, count, cause)),
            Frame::Ping { token } => {
                // the session asks since it waits for room
                self.say(&Frame::Pong { token });
            }
            // WELCOME, answers to SUBSCRIBE, BYE: the seat says the same
            _ => {}
        }
        Ok(Step::Done(0))
    }

    /// The local session lacks messages in this place.
    fn gap(
        &mut self,
        hand: &mut Hand<'_>,
        topic: Option<TopicId>,
        count: u64,
        cause: GapCause,
    ) -> Step {
        if self.is_there(hand.note.up_there(self.read + 1)) {
            // the central instance was told before it got what stands behind
            return Step::Done(0);
        }
        let known = topic.and_then(|topic| self.topics.get(&topic));
        let new = match known.map(|known| (&known.route, &known.name)) {
            Some((Route::Opening, _)) => return Step::Waits,
            Some((Route::Open(id), name)) if hand.task.relays => {
                let sum = hand.gaps.add(self.read, name, cause, count);
                if let Some(count) = sum.count {
                    hand.client.tell_gap(*id, count, cause);
                }
                sum.new
            }
            _ => count,
        };
        hand.figures.note_dropped(cause, new);
        Step::Done(0)
    }

    /// Whether the frame of that count came to the central instance over an earlier link.
    fn is_there(&self, there: u64) -> bool {
        // the numbers wrap
        self.at_central.wrapping_sub(there) <= u64::MAX / 2
    }

    fn data(
        &mut self,
        hand: &mut Hand<'_>,
        flags: DataFlags,
        topic: TopicId,
        payload: &[u8],
    ) -> Result<Step, Ended> {
        let is_counted = flags.contains(DataFlags::COUNTED);
        if !self.tell_again(hand) {
            return Ok(Step::Waits);
        }
        let number = self.read + u64::from(is_counted);
        let there = hand.note.up_there(number);
        if is_counted && self.is_there(there) {
            self.read = number;
            return Ok(Step::Done(0));
        }
        let Some(known) = self.topics.get(&topic) else { return Ok(self.skip(hand, is_counted)) };
        let id = match known.route {
            Route::Opening => return Ok(Step::Waits),
            Route::Refused | Route::NotOurs => return Ok(self.skip(hand, is_counted)),
            Route::Open(id) => id,
        };
        // no TIME before it: its stamp is not known
        let stamp = self.clock.and_then(|stamp| hand.now.known(stamp)).unwrap_or(NOT_KNOWN);
        let clock = hand.task.relays.then_some(stamp);
        match hand.client.publish_on(id, clock, flags, payload) {
            Ok(counted) if is_counted && counted != there => {
                Err(Ended::Astray { expected: there, counted })
            }
            Ok(_) => {
                self.read = number;
                hand.figures.messages_up.add(1);
                hand.figures.payload_up.add(payload.len() as u64);
                Ok(Step::Done(payload.len() + FRAME))
            }
            Err(PublishError::TooLong) => {
                let (topic, bytes) = (known.name.clone(), payload.len());
                if !hand.figures.note_too_long() {
                    push_notice(hand.notices, Some(Notice::TooLong { topic, bytes }));
                }
                Ok(self.skip(hand, is_counted))
            }
            Err(PublishError::Full | PublishError::NotOpen) => Ok(Step::Waits),
        }
    }

    /// A message is not carried. A counted one leaves a hole in the count, which is closed when all
    /// before it, rows of the disk too, is where it has to be: then either side's count says the same,
    /// whatever is lost.
    fn skip(&mut self, hand: &mut Hand<'_>, is_counted: bool) -> Step {
        if is_counted {
            if self.acked < self.read || self.held < self.rows_end {
                hand.client.ask_for_ack();
                return Step::Waits;
            }
            self.read += 1;
            self.acked = self.read;
            hand.note.up = hand.note.up.wrapping_sub(1);
        }
        hand.figures.refused_up.add(1);
        Step::Done(0)
    }

    fn say(&mut self, frame: &Frame<'_>) {
        let at = self.words.len();
        self.words.resize(at + frame.encoded_len(), 0);
        let room = self.words.get_mut(at..).unwrap_or_default();
        // room was just made
        let length = frame.encode(room).unwrap_or_default();
        self.words.truncate(at + length);
    }
}

impl Task {
    /// What OPEN asks for.
    pub(super) fn tier(&self) -> Option<u8> {
        match self.wait_for {
            WaitFor::Central => Some(Tier::Central.number()),
            WaitFor::Taken => None,
        }
    }
}

/// What a step works with.
struct Hand<'a> {
    client: &'a mut Client,
    task: &'a Task,
    note: &'a mut Note,
    figures: &'a Arc<LaneFigures>,
    gaps: &'a mut Gaps,
    notices: &'a mut VecDeque<Notice>,
    now: Now,
}

/// Bytes that are looked ahead for topics.
const INPUT: usize = 64 * 1024;
/// What a frame is beside its payload, about.
pub(super) const FRAME: usize = 6;
