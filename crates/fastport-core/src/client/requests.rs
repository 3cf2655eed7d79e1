//! What a client asks for, and asks for again after a reconnect.

use alloc::boxed::Box;
use alloc::vec::Vec;

use fastport_wire::control::{self, Control};
use fastport_wire::frame::DataFlags;
use fastport_wire::{Frame, TopicId};

use super::{Client, Event, OpenTopic, PublishError};
use crate::session::CONTROL_MAX;

/// Which past of a topic is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Past {
    /// At most that many messages of each topic.
    pub count: Option<u64>,
    /// Not older than that many milliseconds.
    pub age_ms: Option<u64>,
}

impl Client {
    /// Asks to publish on a topic; it stays open over reconnects until [`Client::close_topic`].
    pub fn open_topic(&mut self, topic: &str, schema: Option<&[u8]>, tier: Option<u8>) -> u32 {
        let request = self.take_request();
        let schema: Option<Box<[u8]>> = schema.map(Box::from);
        let open = OpenTopic { id: None, schema, tier, request, has_failed: false };
        self.send_open(topic, &open);
        self.open.insert(topic.into(), open);
        request
    }

    /// The schema of a topic that is open, as the relay says it; `None`: it has none, or is not open.
    #[must_use]
    pub fn schema_of(&self, topic: &str) -> Option<&[u8]> {
        let id = self.open.get(topic)?.id?;
        self.names.get(&id)?.schema.as_deref()
    }

    /// Gives back the right to publish on a topic.
    pub fn close_topic(&mut self, topic: &str) {
        let Some(id) = self.open.remove(topic).and_then(|open| open.id) else { return };
        self.send(
            &control::CloseTopic { request: None, id: id.get(), ..Default::default() }.into(),
        );
    }

    /// Asks for the messages of the topics that `filter` selects, see [`control::options`]; the
    /// subscription stays over reconnects until [`Client::unsubscribe`].
    pub fn subscribe(&mut self, filter: &str, flags: u32, past: Past) -> u32 {
        let request = self.take_request();
        let message = control::Subscribe {
            request,
            topic: filter,
            flags: Some(flags),
            count: past.count,
            age: past.age_ms,
            ..Default::default()
        };
        self.subscriptions.insert(filter.into(), (request, flags));
        self.ask(request, &message.into());
        request
    }

    /// Ends a subscription.
    pub fn unsubscribe(&mut self, filter: &str) -> u32 {
        let request = self.take_request();
        self.subscriptions.remove(filter);
        self.ask(
            request,
            &control::Unsubscribe { request, topic: filter, ..Default::default() }.into(),
        );
        request
    }

    /// Asks for retained messages.
    pub fn history(&mut self, filter: &str, past: Past) -> u32 {
        let request = self.take_request();
        let (count, age) = (past.count, past.age_ms);
        let message = control::History { request, topic: filter, count, age, ..Default::default() };
        self.ask(request, &message.into());
        request
    }

    /// Asks for the relay's figures.
    pub fn status(&mut self) -> u32 {
        let request = self.take_request();
        self.ask(request, &control::Status { request, ..Default::default() }.into());
        request
    }

    /// Asks the relay to make a session.
    pub fn create_session(
        &mut self,
        session: &str,
        identity: Option<&str>,
        password: Option<&[u8]>,
    ) -> u32 {
        let request = self.take_request();
        let message = control::CreateSession {
            request,
            session,
            proof: password,
            identity,
            ..Default::default()
        };
        self.ask(request, &message.into());
        request
    }

    /// Says goodbye: the relay forgets the client's state when it has read this.
    pub fn say_bye(&mut self) {
        let code = control::ByeReason::Done.number();
        self.send(&control::Bye { code, retry: None, ..Default::default() }.into());
    }

    /// A request has its answer; an OPEN's topic is open, or cannot be.
    pub(super) fn finish(
        &mut self,
        request: u32,
        id: Option<TopicId>,
        tell: &mut impl FnMut(Event<'_>),
    ) {
        self.pending.remove(&request);
        let Some(open) = self.open.values_mut().find(|open| open.request == request) else {
            return;
        };
        (open.id, open.has_failed) = (id, id.is_none());
        self.adopt_orphans(tell);
    }

    /// After a handshake: what has no answer is asked again; what a relay without this client's
    /// state cannot know, too.
    pub(super) fn ask_again(&mut self, resumed: bool) {
        let pending: Vec<Box<[u8]>> = self.pending.values().cloned().collect();
        for body in pending {
            self.push(&Frame::Control(&body));
        }
        let open: Vec<(Box<str>, OpenTopic)> =
            self.open.iter().map(|(name, open)| (name.clone(), open.clone())).collect();
        for (name, open) in open.iter().filter(|(_, open)| !resumed || open.id.is_none()) {
            self.send_open(name, open);
        }
        if resumed {
            return;
        }
        let subscriptions: Vec<_> =
            self.subscriptions.iter().map(|(filter, &asked)| (filter.clone(), asked)).collect();
        for (filter, (request, flags)) in subscriptions {
            if self.pending.contains_key(&request) {
                continue;
            }
            let message = control::Subscribe {
                request,
                topic: &filter,
                flags: Some(flags),
                ..Default::default()
            };
            self.send(&message.into());
        }
    }

    /// Publishes the messages of a lost epoch once every topic's fate is known: their order holds
    /// across topics.
    fn adopt_orphans(&mut self, tell: &mut impl FnMut(Event<'_>)) {
        let is_undecided = |open: &OpenTopic| open.id.is_none() && !open.has_failed;
        if self.orphans.is_empty() || self.open.values().any(is_undecided) {
            return;
        }
        let mut lost = 0;
        for orphan in core::mem::take(&mut self.orphans) {
            let id = self.open.get(&*orphan.topic).and_then(|open| open.id);
            let published = id.ok_or(PublishError::NotOpen).and_then(|id| {
                // they were within the outbox's limit before
                self.put_message(id, orphan.flags, &orphan.payload, None)
            });
            lost += u64::from(published.is_err());
            if published.is_err() && orphan.flags.contains(DataFlags::COUNTED) {
                // its number will not be acknowledged by the relay, nor waited for by it
                self.published += 1;
                self.before_epoch += 1;
            }
        }
        if lost > 0 {
            tell(Event::Unpublished { count: lost });
        }
    }

    fn send_open(&mut self, topic: &str, open: &OpenTopic) {
        let message = control::Open {
            request: open.request,
            topic,
            schema: open.schema.as_deref(),
            tier: open.tier,
            ..Default::default()
        };
        self.send(&message.into());
    }

    /// Sends a request, and keeps it until its answer comes.
    fn ask(&mut self, request: u32, message: &Control<'_>) {
        if let Some(body) = self.send(message) {
            self.pending.insert(request, body);
        }
    }

    /// Sends a message; before the handshake is done nothing goes out, and [`Client::ask_again`]
    /// makes up for it.
    fn send(&mut self, message: &Control<'_>) -> Option<Box<[u8]>> {
        let mut body = [0; CONTROL_MAX];
        let length = message.encode(&mut body).ok()?;
        let body = body.get(..length)?;
        if self.is_ready() {
            self.push(&Frame::Control(body));
        }
        Some(body.into())
    }

    fn take_request(&mut self) -> u32 {
        let request = self.next_request;
        self.next_request = self.next_request.wrapping_add(1).max(1);
        request
    }
}
