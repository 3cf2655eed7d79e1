//! What peers ask for: topics to publish on, subscriptions, the past.

use alloc::boxed::Box;
use alloc::vec::Vec;

use fastport_wire::control::{self, Control, ErrorCode, Tier, options};
use fastport_wire::field::data_flag;
use fastport_wire::frame::{DataFlags, GapCause};
use fastport_wire::{Filter, Frame, Schema, Topic as TopicName, TopicId, WireError};

use super::peer::{Peer, Subscription};
use super::topics::{self, Reader};
use super::{About, Ask, PeerKey, Session, push_frame, wants_time};
use crate::outbox::Run;
use crate::time::Now;

/// Which part of the past is wanted.
#[derive(Debug, Clone, Copy)]
struct Past {
    count: u64,
    since: u64,
    /// The last value, where nothing else of the topic is sent.
    with_last: bool,
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
            Control::Offer(offer) => {
                let code = Some(ErrorCode::Unavailable.number());
                self.send(
                    index,
                    &control::Cancel { id: offer.id, code, ..Default::default() }.into(),
                );
                Ok(())
            }
            Control::Bye(_) => {
                self.leave(index);
                Ok(())
            }
            // the peer's own words about an error of ours; its link tells the rest
            Control::Error(_) | Control::Ok(_) => Ok(()),
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
        if tier != Tier::Taken && !self.members.iter().any(|&(_, offered)| offered == tier) {
            return Err(ErrorCode::TierNotOffered);
        }
        if open.schema.is_some_and(|schema| Schema::decode(schema).is_err()) {
            return Err(ErrorCode::BadReadings);
        }
        let id = self.open_topic(index, name)?;
        self.adopt_schema(id, open.schema)?;
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
    fn open_topic(&mut self, index: u32, name: TopicName<'_>) -> Result<TopicId, ErrorCode> {
        let limit = self.limits.open_topics;
        let peer = self.at(index).ok_or(ErrorCode::Unavailable)?;
        if !peer.rights.may_publish(name) {
            return Err(ErrorCode::Forbidden);
        }
        let is_full = peer.open_topics.len() >= limit;
        let known = self.topics.find(name);
        if let Some(id) = known.filter(|&id| self.at(index).is_some_and(|peer| peer.has_open(id))) {
            return Ok(id);
        }
        if is_full {
            return Err(ErrorCode::LimitReached);
        }
        let id = self.find_or_make_topic(name).ok_or(ErrorCode::LimitReached)?;
        if !self.make_room(size_of::<TopicId>()) {
            return Err(ErrorCode::LimitReached);
        }
        if let Some(topic) = self.topics.get_mut(id) {
            topic.publishers += 1;
        }
        if let Some(peer) = self.at_mut(index) {
            let at = peer.open_topics.partition_point(|&open| open < id);
            peer.open_topics.insert(at, id);
        }
        Ok(id)
    }

    /// The first schema of a topic stays while others publish on it.
    fn adopt_schema(&mut self, id: TopicId, schema: Option<&[u8]>) -> Result<(), ErrorCode> {
        let Some(schema) = schema else { return Ok(()) };
        let topic = self.topics.get(id).ok_or(ErrorCode::Unavailable)?;
        let differs = topic.schema.as_deref().is_some_and(|known| known != schema);
        if differs && topic.publishers > 1 {
            return Err(ErrorCode::Conflict);
        }
        self.set_schema(id, Some(schema));
        Ok(())
    }

    pub(super) fn set_schema(&mut self, id: TopicId, schema: Option<&[u8]>) {
        let known = self.topics.get(id).and_then(|topic| topic.schema.as_deref());
        let (Some(schema), true) = (schema, known != schema) else { return };
        let known = known.map_or(0, <[u8]>::len);
        if !self.make_room(schema.len()) {
            return;
        }
        self.buffers.budget().give_back(known);
        if let Some(topic) = self.topics.get_mut(id) {
            topic.schema = Some(schema.into());
            // all readers are told again, before the next message
            topic.readers.iter_mut().for_each(|reader| reader.announced = 0);
        }
    }

    fn close_topic(&mut self, index: u32, close: &control::CloseTopic<'_>) -> bool {
        let id = TopicId::new(close.id);
        let peer = self.at_mut(index);
        let place = peer.zip(id).and_then(|(peer, id)| {
            let at = peer.open_topics.binary_search(&id).ok()?;
            Some(peer.open_topics.remove(at))
        });
        if let Some(id) = place {
            self.buffers.budget().give_back(size_of::<TopicId>());
            self.topics.close(id);
        }
        match (close.request, place) {
            (Some(request), Some(_)) => {
                self.send(index, &control::Ok { request, ..Default::default() }.into());
            }
            (Some(request), None) => self.refuse(index, request, ErrorCode::UnknownId),
            (None, _) => {}
        }
        true
    }

    fn subscribe(
        &mut self,
        now: Now,
        index: u32,
        subscribe: &control::Subscribe<'_>,
    ) -> Result<(), ErrorCode> {
        let filter = Filter::parse(subscribe.topic).map_err(|_| ErrorCode::BadTopic)?;
        let flags = subscribe.flags.unwrap_or(0);
        let no_local = flags & options::NO_LOCAL != 0;
        self.add_subscription(index, filter, no_local)?;
        for id in self.start_reading(index, filter, no_local)? {
            self.add_reader(index, id, no_local);
        }
        let past = Past {
            count: subscribe.count.unwrap_or(if subscribe.age.is_some() { u64::MAX } else { 0 }),
            since: subscribe.age.map_or(0, |age| now.unix_ms.saturating_sub(age)),
            with_last: flags & options::NO_LAST == 0,
        };
        let count = Some(self.replay(index, filter, past));
        let request = subscribe.request;
        self.send(index, &control::Ok { request, count, ..Default::default() }.into());
        Ok(())
    }

    fn add_subscription(
        &mut self,
        index: u32,
        filter: Filter<'_>,
        no_local: bool,
    ) -> Result<(), ErrorCode> {
        let limit = self.limits.subscriptions;
        let peer = self.at_mut(index).ok_or(ErrorCode::Unavailable)?;
        if !peer.rights.may_subscribe(filter) {
            return Err(ErrorCode::Forbidden);
        }
        let known = peer.subscriptions.iter_mut().find(|known| *known.filter == *filter.as_str());
        if let Some(known) = known {
            known.no_local = no_local;
            return Ok(());
        }
        if peer.subscriptions.len() >= limit {
            return Err(ErrorCode::LimitReached);
        }
        let subscription = Subscription { filter: filter.as_str().into(), no_local };
        if !self.make_room(subscription.charge()) {
            return Err(ErrorCode::LimitReached);
        }
        if let Some(peer) = self.at_mut(index) {
            peer.subscriptions.push(subscription);
        }
        if filter.as_topic().is_none() {
            self.matcher.insert(filter, index);
        }
        Ok(())
    }

    /// The topics that a new subscription selects. A topic that it names is made, so that there is
    /// a place to note its reader.
    fn start_reading(
        &mut self,
        index: u32,
        filter: Filter<'_>,
        no_local: bool,
    ) -> Result<Vec<TopicId>, ErrorCode> {
        let Some(name) = filter.as_topic() else {
            let rights = &self.at(index).ok_or(ErrorCode::Unavailable)?.rights;
            let selected = self.topics.iter().filter(|(_, topic)| {
                topic.name().is_some_and(|name| filter.matches(name) && rights.may_read(name))
            });
            return Ok(selected.map(|(id, _)| id).collect());
        };
        if let Some(id) = self.find_or_make_topic(name) {
            return Ok([id].into());
        }
        let subscription = Subscription { filter: filter.as_str().into(), no_local };
        self.drop_subscription(index, &subscription);
        Err(ErrorCode::LimitReached)
    }

    fn drop_subscription(&mut self, index: u32, subscription: &Subscription) {
        self.buffers.budget().give_back(subscription.charge());
        if let Some(peer) = self.at_mut(index) {
            peer.subscriptions.retain(|known| known.filter != subscription.filter);
        }
    }

    fn add_reader(&mut self, index: u32, id: TopicId, no_local: bool) {
        let holds = self.at(index).is_some_and(Peer::must_not_lose);
        let Some(topic) = self.topics.get_mut(id) else { return };
        if let Some(known) = topic.readers.iter_mut().find(|reader| reader.peer == index) {
            known.no_local = no_local;
            return;
        }
        topic.readers.push(Reader { peer: index, announced: 0, no_local, holds });
        topic.holders += u32::from(holds);
    }

    fn unsubscribe(
        &mut self,
        index: u32,
        unsubscribe: &control::Unsubscribe<'_>,
    ) -> Result<(), ErrorCode> {
        let peer = self.at_mut(index).ok_or(ErrorCode::Unavailable)?;
        let place = peer.subscriptions.iter().position(|known| *known.filter == *unsubscribe.topic);
        let subscription = peer.subscriptions.swap_remove(place.ok_or(ErrorCode::UnknownId)?);
        let others = core::mem::take(&mut peer.subscriptions);
        self.buffers.budget().give_back(subscription.charge());
        self.stop_reading(index, &subscription, &others);
        if let Some(peer) = self.at_mut(index) {
            peer.subscriptions = others;
        }
        let request = unsubscribe.request;
        self.send(index, &control::Ok { request, ..Default::default() }.into());
        Ok(())
    }

    /// Takes a peer off the topics that its subscription selects and none of its others.
    pub(super) fn stop_reading(
        &mut self,
        index: u32,
        ended: &Subscription,
        others: &[Subscription],
    ) {
        let Some(filter) = ended.filter() else { return };
        let ids: Vec<TopicId> = match filter.as_topic() {
            Some(name) => self.topics.find(name).into_iter().collect(),
            None => {
                self.matcher.remove(filter, index);
                let selected = self
                    .topics
                    .iter()
                    .filter(|(_, topic)| topic.name().is_some_and(|name| filter.matches(name)));
                selected.map(|(id, _)| id).collect()
            }
        };
        for id in ids {
            let Some(topic) = self.topics.get(id) else { continue };
            let Some(name) = topic.name() else { continue };
            let selects =
                |other: &Subscription| other.filter().is_some_and(|other| other.matches(name));
            if !others.iter().any(selects) {
                self.remove_reader(index, id);
            }
        }
    }

    fn remove_reader(&mut self, index: u32, id: TopicId) {
        let Some(topic) = self.topics.get_mut(id) else { return };
        let Some(at) = topic.readers.iter().position(|reader| reader.peer == index) else { return };
        let gone = topic.readers.swap_remove(at);
        topic.holders -= u32::from(gone.holds);
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
            since: history.age.map_or(0, |age| now.unix_ms.saturating_sub(age)),
            with_last: true,
        };
        let count = Some(self.replay(index, filter, past));
        let request = history.request;
        self.send(index, &control::Ok { request, count, ..Default::default() }.into());
        Ok(())
    }

    /// Sends a peer the past of all topics that `filter` selects and it may read, as far as its
    /// outbox has room; returns how many messages that is.
    fn replay(&mut self, index: u32, filter: Filter<'_>, past: Past) -> u64 {
        let Some(peer) = self.at(index) else { return 0 };
        let with_past = self.topics.iter().filter(|(_, topic)| topic.log.is_some());
        let wanted = with_past.filter(|(_, topic)| {
            topic.name().is_some_and(|name| filter.matches(name) && peer.rights.may_read(name))
        });
        let ids: Vec<TopicId> = wanted.map(|(id, _)| id).collect();
        ids.into_iter().map(|id| self.replay_topic(index, id, past)).sum()
    }

    fn replay_topic(&mut self, index: u32, id: TopicId, past: Past) -> u64 {
        let Self { topics, peers, buffers, ledger, .. } = self;
        let slot = peers.get_mut(index as usize);
        let Some(peer) = slot.and_then(|slot| slot.peer.as_mut()) else { return 0 };
        let Some(topic) = topics.get_mut(id) else { return 0 };
        let Some(log) = topic.log.take() else { return 0 };
        let mut entries = Vec::new();
        if past.count > 0 {
            log.replay(past.count, past.since, |entry| entries.push(entry));
        }
        if entries.is_empty() && past.with_last {
            entries.extend(log.last());
        }
        let mut sent = 0;
        let can_announce =
            !entries.is_empty() && peer.outbox.push_frame(buffers, &topic.frame(id)).is_ok();
        if can_announce {
            if let Some(reader) = topic.readers.iter_mut().find(|reader| reader.peer == index) {
                reader.announced = peer.announced;
            }
            for entry in entries {
                let messages = u64::from(entry.messages);
                ledger.routed += messages;
                let fits = entry.frames.len() <= peer.outbox.room(ledger);
                let is_counted =
                    entry.frames.first().is_some_and(|first| first & data_flag::COUNTED != 0);
                let run =
                    Run { bytes: entry.frames, messages: entry.messages, is_counted, topic: id };
                let pushed = fits && push_past(peer, buffers, ledger, entry.unix_ms, &run);
                if pushed {
                    sent += messages;
                } else {
                    peer.outbox.skip_run(ledger, &run, GapCause::Overflow);
                }
            }
        }
        topic.log = Some(log);
        self.wake(index);
        sent
    }

    /// Whether the message is done with; otherwise it waits for room.
    fn emit(&mut self, now: Now, index: u32, emit: &control::Emit<'_>) -> bool {
        let refuse = |this: &mut Self, code: ErrorCode| {
            match emit.request {
                Some(request) => this.refuse(index, request, code),
                None => this.fail(index, code, emit.topic),
            }
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
        let bits = u8::try_from(emit.flags.unwrap_or(0) & 0xf).unwrap_or(0);
        let flags = DataFlags::from_bits(bits);
        let mut bytes = Vec::new();
        push_frame(&mut bytes, &Frame::Data { flags, topic, payload: emit.data });
        let is_counted = flags.contains(DataFlags::COUNTED);
        if is_counted && self.room_at_holders(index, topic, bytes.len()) < bytes.len() {
            return false;
        }
        let run = Run { bytes: &bytes, messages: 1, is_counted, topic };
        self.publish(now, Some(index), &run, flags);
        if let Some(request) = emit.request {
            self.send(index, &control::Ok { request, ..Default::default() }.into());
        }
        true
    }

    fn leave(&mut self, index: u32) {
        if let Some(peer) = self.at_mut(index) {
            peer.is_leaving = true;
        }
        self.drop_link(index);
    }

    /// The topic of that name, made if there is none; its readers are those whose filters select it.
    pub(super) fn find_or_make_topic(&mut self, name: TopicName<'_>) -> Option<TopicId> {
        if let Some(id) = self.topics.find(name) {
            return Some(id);
        }
        if self.topics.len() >= self.limits.topics {
            let freed = self.topics.sweep();
            self.buffers.budget().give_back(freed);
        }
        let is_full = self.topics.len() >= self.limits.topics;
        if is_full || self.topics.is_out_of_ids(self.limits.topics) {
            return None;
        }
        if !self.make_room(topics::charge(name.as_str())) {
            return None;
        }
        let id = self.topics.insert(name)?;
        let mut readers = Vec::new();
        self.matcher.for_each(name, |index| readers.push(index));
        readers.sort_unstable();
        readers.dedup();
        for index in readers {
            let Some(peer) = self.at(index).filter(|peer| peer.rights.may_read(name)) else {
                continue;
            };
            let mut selecting = peer.subscriptions.iter().filter(|subscription| {
                subscription.filter().is_some_and(|filter| filter.matches(name))
            });
            let no_local = selecting.all(|subscription| subscription.no_local);
            self.add_reader(index, id, no_local);
        }
        Some(id)
    }
}

/// Puts retained messages into a peer's outbox, with their time where it wants that.
fn push_past(
    peer: &mut Peer,
    buffers: &mut crate::budget::Buffers,
    ledger: &mut crate::ledger::Ledger,
    unix_ms: u64,
    run: &Run<'_>,
) -> bool {
    if wants_time(peer.flags) {
        if peer.outbox.push_frame(buffers, &Frame::Time { unix_ms }).is_err() {
            return false;
        }
        peer.last_time = Some(unix_ms);
    }
    peer.outbox.push_run(buffers, ledger, run).is_ok()
}
