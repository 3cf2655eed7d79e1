//! What peers ask for: topics to publish on, subscriptions, the past.

use alloc::boxed::Box;
use alloc::vec::Vec;

use fastport_wire::control::{self, ByeReason, Control, ErrorCode, Tier};
use fastport_wire::field::data_flag;
use fastport_wire::frame::{DataFlags, GapCause};
use fastport_wire::{Filter, Frame, Schema, Topic as TopicName, TopicId, WireError};

use super::holders::Coming;
use super::topics::{self, READER_BYTES};
use super::{About, Ask, PeerKey, Session, push_frame, wants_time};
use crate::outbox::Run;
use crate::time::{Instant, Now};

/// Which part of the past is wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Past {
    pub(super) count: u64,
    pub(super) since: Instant,
    /// The last value, where nothing else of the topic is sent.
    pub(super) with_last: bool,
}

impl Session {
    /// Whether the message is done with; otherwise it waits for room.
    pub(super) fn handle_control(&mut self, now: Now, key: PeerKey, body: &[u8]) -> bool {
        let index = key.index;
        let message = match Control::decode(body) {
            Ok(message) => message,
            Err(WireError::UnknownOp(_)) => {
                // 0 answers a message that has no request, and leaves the link open
                let request = Some(Control::request_of(body).unwrap_or(0));
                let code = ErrorCode::UnknownMessage.number();
                self.send(index, &control::Error { request, code, ..Default::default() }.into());
                return true;
            }
            Err(_) => {
                let code = ErrorCode::BadControl;
                match Control::request_of(body) {
                    Some(request) => self.refuse(index, request, code),
                    None => self.fail(index, code, "control message of no known shape"),
                }
                return true;
            }
        };
        let done = match message {
            Control::Open(open) => self.open(index, &open).map_err(|code| (open.request, code)),
            Control::CloseTopic(close) => return self.close_topic(index, &close),
            Control::Subscribe(subscribe) => {
                let done = self.subscribe(now, index, &subscribe);
                done.map_err(|code| (subscribe.request, code))
            }
            Control::Unsubscribe(unsubscribe) => {
                let done = self.unsubscribe(index, &unsubscribe);
                done.map_err(|code| (unsubscribe.request, code))
            }
            Control::History(history) => {
                self.history(now, index, &history).map_err(|code| (history.request, code))
            }
            Control::Emit(emit) => return self.emit(now, index, &emit),
            Control::Status(status) => {
                self.asks.push_back(Ask {
                    peer: key,
                    request: status.request,
                    about: About::Status,
                });
                Ok(())
            }
            Control::CreateSession(create) => {
                let about = About::CreateSession {
                    session: create.session.into(),
                    identity: create.identity.map(Box::from),
                    password: create.proof.map(Box::from),
                };
                self.asks.push_back(Ask { peer: key, request: create.request, about });
                Ok(())
            }
            Control::Offer(_) | Control::Accept(_) | Control::Decline(_) | Control::Cancel(_) => {
                self.handle_stream(index, &message);
                Ok(())
            }
            Control::Bye(bye) => {
                self.leave(index, ByeReason::from_number(bye.code));
                Ok(())
            }
            // the peer's own words about an error of ours; its link tells the rest
            Control::Error(_) => Ok(()),
            _ => {
                self.fail(index, ErrorCode::Unexpected, message.name());
                Ok(())
            }
        };
        if let Err((request, code)) = done {
            self.refuse(index, request, code);
        }
        true
    }

    fn open(&mut self, index: u32, open: &control::Open<'_>) -> Result<(), ErrorCode> {
        let name = TopicName::parse(open.topic).map_err(|_| ErrorCode::BadTopic)?;
        let tier = match open.tier {
            None => Tier::Taken,
            Some(number) => Tier::from_number(number).ok_or(ErrorCode::TierNotOffered)?,
        };
        if tier != Tier::Taken && !self.is_offered(tier, name) {
            return Err(ErrorCode::TierNotOffered);
        }
        if open.schema.is_some_and(|schema| Schema::decode(schema).is_err()) {
            return Err(ErrorCode::BadReadings);
        }
        let id = self.open_topic(index, name, open.schema)?;
        if let Some(topic) = self.topics.get(id) {
            let mut frame = Vec::new();
            topic.announce(id, &mut frame);
            if let Ok(Some((topic, _))) = Frame::decode(&frame, frame.len()) {
                self.send_frame(index, &topic);
            }
        }
        let id = Some(id.get());
        self.send(index, &control::Ok { request: open.request, id, ..Default::default() }.into());
        Ok(())
    }

    /// Finds or makes a topic and lets a peer publish on it.
    pub(super) fn open_topic(
        &mut self,
        index: u32,
        name: TopicName<'_>,
        schema: Option<&[u8]>,
    ) -> Result<TopicId, ErrorCode> {
        let limit = self.limits.open_topics;
        let peer = self.at(index).ok_or(ErrorCode::Unavailable)?;
        if !peer.rights.may_publish(name) {
            return Err(ErrorCode::Forbidden);
        }
        let is_full = peer.open_topics.len() >= limit && !peer.is_own;
        let known = self.topics.find(name);
        let is_open = known.is_some_and(|id| peer.has_open(id));
        if is_full && !is_open {
            return Err(ErrorCode::LimitReached);
        }
        let id = self.find_or_make_topic(name).ok_or(ErrorCode::LimitReached)?;
        self.adopt_schema(id, schema, u32::from(is_open))?;
        if is_open {
            return Ok(id);
        }
        if !self.make_room(size_of::<TopicId>()) {
            return Err(ErrorCode::LimitReached);
        }
        if let Some(topic) = self.topics.get_mut(id) {
            topic.publishers += 1;
        }
        if let Some(peer) = self.at_mut(index) {
            peer.note_open(id);
        }
        self.record_open(index, id);
        Ok(id)
    }

    /// Opens a topic again that a peer had open, if it still may; whether there was memory.
    pub(super) fn restore_open(&mut self, index: u32, id: TopicId) -> bool {
        let Some(topic) = self.topics.get(id) else { return false };
        let Some(peer) = self.at(index) else { return true };
        let may = topic.name().is_some_and(|name| peer.rights.may_publish(name));
        if !may || peer.has_open(id) {
            return true;
        }
        if !self.make_room(size_of::<TopicId>()) {
            return false;
        }
        if let Some(topic) = self.topics.get_mut(id) {
            topic.publishers += 1;
        }
        if let Some(peer) = self.at_mut(index) {
            peer.note_open(id);
        }
        true
    }

    /// Gives so many ids to topics that are no more, as far as there is memory.
    pub(super) fn restore_ids(&mut self, count: u32) {
        while self.topics.ids() < count && self.make_room(topics::HOLE_BYTES) {
            self.topics.push_hole();
        }
    }

    /// Makes a topic with its id, if there is memory.
    pub(super) fn restore_topic(&mut self, id: TopicId, name: TopicName<'_>, schema: &[u8]) {
        let known = self.topics.find(name);
        if known != Some(id) {
            // topics that nobody used any more went without a word
            for stale in known.into_iter().chain([id]) {
                self.topics.remove(stale, &mut self.buffers);
            }
            self.restore_ids(id.get());
            let readers = self.readers_of(name);
            let charge = topics::charge(name.as_str()) - topics::HOLE_BYTES;
            let charge = charge + readers.len() * READER_BYTES;
            if self.topics.ids() < id.get() || !self.make_room(charge) {
                return;
            }
            self.topics.fill(id, name);
            self.put_readers(id, name, readers);
        }
        let schema = (!schema.is_empty()).then_some(schema);
        self.set_schema(id, schema);
    }

    /// Whether some member of that tier reads the topic, or will once there is one.
    fn is_offered(&self, tier: Tier, name: TopicName<'_>) -> bool {
        let id = self.topics.find(name);
        let mut members = self.members.iter().filter(|&&(_, offered)| offered == tier);
        members.any(|&(member, _)| {
            self.at(member).is_some_and(|peer| {
                peer.rights.may_read(name) && peer.reads_no_local(id, name).is_some()
            })
        })
    }

    /// The first schema of a topic stays while others publish on it than the `own` ones.
    fn adopt_schema(
        &mut self,
        id: TopicId,
        schema: Option<&[u8]>,
        own: u32,
    ) -> Result<(), ErrorCode> {
        let Some(schema) = schema else { return Ok(()) };
        let topic = self.topics.get(id).ok_or(ErrorCode::Unavailable)?;
        let differs = topic.schema().is_some_and(|known| known != schema);
        if differs && topic.publishers > own {
            return Err(ErrorCode::Conflict);
        }
        if self.set_schema(id, Some(schema)) { Ok(()) } else { Err(ErrorCode::LimitReached) }
    }

    /// Gives a topic a schema, if there is one to give; whether there was memory for it. What is
    /// retained under another goes: it would be misread under this one.
    pub(super) fn set_schema(&mut self, id: TopicId, schema: Option<&[u8]>) -> bool {
        let known = self.topics.get(id).and_then(|topic| topic.schema());
        let (Some(schema), true) = (schema, known != schema) else { return true };
        let known = known.map_or(0, <[u8]>::len);
        if !self.make_room(schema.len()) {
            return false;
        }
        self.buffers.budget().give_back(known);
        let log = self.topics.get_mut(id).and_then(|topic| topic.log_mut());
        if let Some(log) = log.filter(|_| known > 0) {
            let before = log.messages();
            log.clear(&mut self.buffers);
            self.evicted += u64::from(before);
            self.topics.note_retained(before, 0);
        }
        if let Some(topic) = self.topics.get_mut(id) {
            topic.set_schema(schema);
            // all readers are told again, before the next message
            topic.readers.as_mut_slice().iter_mut().for_each(|reader| reader.announced = 0);
        }
        self.record_topic(id);
        true
    }

    fn close_topic(&mut self, index: u32, close: &control::CloseTopic<'_>) -> bool {
        let is_closed = TopicId::new(close.id).is_some_and(|id| self.close_id(index, id));
        match close.request {
            Some(request) if is_closed => {
                self.send(index, &control::Ok { request, ..Default::default() }.into());
            }
            Some(request) => self.refuse(index, request, ErrorCode::UnknownId),
            None => {}
        }
        true
    }

    pub(super) fn close_id(&mut self, index: u32, id: TopicId) -> bool {
        let was_open = self.at_mut(index).is_some_and(|peer| peer.note_closed(id));
        if was_open {
            self.record_close(index, id);
            self.buffers.budget().give_back(size_of::<TopicId>());
            self.topics.close(id);
        }
        was_open
    }

    fn history(
        &mut self,
        now: Now,
        index: u32,
        history: &control::History<'_>,
    ) -> Result<(), ErrorCode> {
        let filter = Filter::parse(history.topic).map_err(|_| ErrorCode::BadTopic)?;
        let peer = self.at(index).ok_or(ErrorCode::Unavailable)?;
        if !peer.rights.may_subscribe(filter) {
            return Err(ErrorCode::Forbidden);
        }
        let past = Past {
            count: history.count.unwrap_or(u64::MAX),
            since: history.age.map_or(Instant::default(), |age| now.mono.before(age)),
            with_last: true,
        };
        let count = Some(self.replay(now, index, filter, past));
        let request = history.request;
        self.send(index, &control::Ok { request, count, ..Default::default() }.into());
        Ok(())
    }

    /// Sends a peer the past of all topics that `filter` selects and it may read, as far as its
    /// outbox has room; returns how many messages that is.
    pub(super) fn replay(&mut self, now: Now, index: u32, filter: Filter<'_>, past: Past) -> u64 {
        self.is_costly |= filter.as_topic().is_none();
        let Some(peer) = self.at(index) else { return 0 };
        let ids: Vec<TopicId> = match filter.as_topic() {
            Some(name) if !peer.rights.may_read(name) => return 0,
            Some(name) => self.topics.find(name).into_iter().collect(),
            None => {
                let with_past = self.topics.iter().filter(|(_, topic)| topic.log().is_some());
                let wanted = with_past.filter(|(_, topic)| {
                    topic
                        .name()
                        .is_some_and(|name| filter.matches(name) && peer.rights.may_read(name))
                });
                wanted.map(|(id, _)| id).collect()
            }
        };
        let before = self.counted_at_holder(index);
        let sent = ids.into_iter().map(|id| self.replay_topic(now, index, id, past)).sum();
        self.record_pushed(index, before);
        sent
    }

    fn replay_topic(&mut self, now: Now, index: u32, id: TopicId, past: Past) -> u64 {
        let Self { topics, peers, buffers, ledger, .. } = self;
        let slot = peers.get_mut(index as usize);
        let Some(peer) = slot.and_then(|slot| slot.peer.as_mut()) else { return 0 };
        let Some(topic) = topics.get_mut(id) else { return 0 };
        let Some(log) = topic.log_mut().map(core::mem::take) else { return 0 };
        let mut entries = Vec::new();
        if past.count > 0 {
            log.replay(past.count, past.since, |entry| entries.push(entry));
        }
        if entries.is_empty() && past.with_last {
            entries.extend(log.last());
        }
        let mut announced = topic.reader_mut(index).map_or(0, |reader| reader.announced);
        let mut sent = 0;
        for entry in entries {
            ledger.routed += u64::from(entry.messages);
            let is_counted =
                entry.frames.first().is_some_and(|first| first & data_flag::COUNTED != 0);
            let run = Run { bytes: entry.frames, messages: entry.messages, is_counted, topic: id };
            let stamp = now.corrected(entry.unix_ms);
            let mut preface = peer.preface(announced, Some(topic.frame(id)), stamp);
            // the present is not dropped for the past
            let fits = preface.encoded_len() + entry.frames.len() <= peer.outbox.room(ledger);
            let cause = if fits { GapCause::Budget } else { GapCause::Overflow };
            if fits && peer.outbox.push_run_after(buffers, ledger, &mut preface, &run).is_ok() {
                announced = peer.announced;
                if wants_time(peer.flags) {
                    peer.note_time(stamp);
                }
                sent += u64::from(entry.messages);
            } else {
                peer.outbox.skip_run_after(ledger, &preface, &run, cause);
            }
        }
        if let Some(reader) = topic.reader_mut(index) {
            reader.announced = announced;
        }
        *topic.log_or_new() = log;
        self.wake(index);
        sent
    }

    /// Whether the message is done with; otherwise it waits for room.
    fn emit(&mut self, now: Now, index: u32, emit: &control::Emit<'_>) -> bool {
        let refuse = |this: &mut Self, code: ErrorCode| {
            this.refuse(index, emit.request.unwrap_or(0), code);
            true
        };
        if emit.data.len() > self.limits.payload {
            return refuse(self, ErrorCode::PayloadTooLong);
        }
        let Ok(name) = TopicName::parse(emit.topic) else {
            return refuse(self, ErrorCode::BadTopic);
        };
        if !self.at(index).is_some_and(|peer| peer.rights.may_publish(name)) {
            return refuse(self, ErrorCode::Forbidden);
        }
        let Some(topic) = self.find_or_make_topic(name) else {
            return refuse(self, ErrorCode::LimitReached);
        };
        // a topic's readings need its schema, which comes with OPEN: that flag means nothing here
        let known = DataFlags::COUNTED.with(DataFlags::KEEP).with(DataFlags::SEALED);
        let bits = emit.flags.unwrap_or(0) & u32::from(known.bits());
        let flags = DataFlags::from_bits(u8::try_from(bits).unwrap_or(0));
        if self.limits.sealed && !flags.contains(DataFlags::SEALED) {
            return refuse(self, ErrorCode::Unsealed);
        }
        let mut bytes = Vec::new();
        push_frame(&mut bytes, &Frame::Data { flags, topic, payload: emit.data });
        let is_counted = flags.contains(DataFlags::COUNTED);
        let length = bytes.len();
        let coming = Coming { from: index, topic, least: length, wanted: length };
        if is_counted && (self.is_frozen() || self.room_at_holders(now, &coming) < length) {
            return false;
        }
        let run = Run { bytes: &bytes, messages: 1, is_counted, topic };
        self.publish_uncounted(now, Some(index), &run, flags);
        if let Some(request) = emit.request {
            self.send(index, &control::Ok { request, ..Default::default() }.into());
        }
        true
    }

    /// The peer's last word: unless its reason says that it comes back, its state ends.
    fn leave(&mut self, index: u32, reason: Option<ByeReason>) {
        self.send_ack(index);
        if matches!(reason, None | Some(ByeReason::Done)) {
            self.note_leaving(index);
        }
        self.drop_link(index);
        self.wake_blocked();
    }

    /// Forgets the topics that nobody remembers; whether there were any. It takes a look at each.
    pub(super) fn sweep_topics(&mut self) -> bool {
        let has_swept = self.topics.sweep(&mut self.buffers);
        self.is_costly |= has_swept;
        has_swept
    }

    /// The topic of that name, made if there is none; its readers are those whose filters select it.
    pub(super) fn find_or_make_topic(&mut self, name: TopicName<'_>) -> Option<TopicId> {
        if let Some(id) = self.topics.find(name) {
            return Some(id);
        }
        if self.topics.len() >= self.limits.topics {
            self.sweep_topics();
        }
        let is_full = self.topics.len() >= self.limits.topics;
        if is_full || self.topics.is_out_of_ids(self.limits.topics) {
            return None;
        }
        let readers = self.readers_of(name);
        let charge = topics::charge(name.as_str()) + readers.len() * READER_BYTES;
        let has_room = self.make_room(charge) || (self.sweep_topics() && self.make_room(charge));
        if !has_room {
            return None;
        }
        let id = self.topics.insert(name)?;
        self.put_readers(id, name, readers);
        self.record_topic(id);
        Some(id)
    }

    /// The peers with a filter that selects the topic, and that may read it.
    fn readers_of(&self, name: TopicName<'_>) -> Vec<u32> {
        let mut readers = Vec::new();
        self.matcher.for_each(name, |index| readers.push(index));
        readers.sort_unstable();
        readers.dedup();
        readers.retain(|&index| self.at(index).is_some_and(|peer| peer.rights.may_read(name)));
        readers
    }

    /// Makes peers the readers of a new topic; they are charged already.
    fn put_readers(&mut self, id: TopicId, name: TopicName<'_>, readers: Vec<u32>) {
        let Self { peers, topics, .. } = self;
        let Some(topic) = topics.get_mut(id) else { return };
        for index in readers {
            let peer = peers.get(index as usize).and_then(|slot| slot.peer.as_deref());
            let Some(peer) = peer else { continue };
            let no_local = peer.reads_no_local(Some(id), name).unwrap_or(false);
            topic.put_reader(index, peer.must_not_lose(), no_local);
        }
    }
}
