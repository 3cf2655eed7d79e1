//! Where messages go that come from the relay: which subscription gets which.
//!
//! A relay sends a message once, however many of this client's filters select it; and the past that
//! a SUBSCRIBE or HISTORY asks for comes in the same stream, right before the answer. So while such
//! a request waits, what its filter selects is held; the answer's count says which of it was the past.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use fastport_core::client::Message;
use fastport_seal::Freshness;
use fastport_wire::frame::GapCause;
use fastport_wire::{Filter, Topic, TopicId};

use crate::seal::Receiver;
use crate::subscription::{Delivery, Incoming, Queue};

#[derive(Default)]
pub(crate) struct Desk {
    subscribers: Vec<Subscriber>,
    next_id: u64,
    routes: HashMap<TopicId, Route>,
    /// requests for the past without an answer, in the order of asking
    replays: VecDeque<Replay>,
    held: VecDeque<Held>,
    held_bytes: usize,
    /// where messages are sealed
    receiver: Option<Receiver>,
}

struct Subscriber {
    id: u64,
    filters: Box<[Box<str>]>,
    queue: Arc<Queue>,
    /// what the bytes at hand bring
    batch: Vec<Incoming>,
    /// a SUBSCRIBE of it is answered
    is_live: bool,
}

/// What is known of a topic id; the subscribers by their places.
struct Route {
    topic: Arc<str>,
    schema: Option<Arc<[u8]>>,
    subscribers: Vec<usize>,
}

struct Replay {
    request: u32,
    filter: Box<str>,
    /// the subscription that asked; `None`: a HISTORY
    subscriber: Option<u64>,
}

struct Held {
    id: TopicId,
    delivery: Delivery,
}

impl Desk {
    /// A desk that opens what is sealed.
    pub(crate) fn new(receiver: Option<Receiver>) -> Self {
        Self { receiver, ..Self::default() }
    }

    /// What opens sealed messages.
    pub(crate) fn receiver_mut(&mut self) -> Option<&mut Receiver> {
        self.receiver.as_mut()
    }

    /// Enters a subscription; nothing is delivered to it before [`Desk::expect_past`]'s answer.
    pub(crate) fn subscribe(&mut self, filters: &[&str], queue: Arc<Queue>) -> u64 {
        self.next_id += 1;
        let id = self.next_id;
        let filters = filters.iter().map(|&filter| filter.into()).collect();
        self.subscribers.push(Subscriber { id, filters, queue, batch: Vec::new(), is_live: false });
        self.find_places();
        id
    }

    /// Strikes a subscription out; returns those of its filters that no other has.
    pub(crate) fn unsubscribe(&mut self, id: u64) -> Vec<Box<str>> {
        let Some(at) = self.subscribers.iter().position(|subscriber| subscriber.id == id) else {
            return Vec::new();
        };
        let gone = self.subscribers.swap_remove(at);
        gone.queue.close();
        self.find_places();
        let mut filters = gone.filters.into_vec();
        filters
            .retain(|filter| !self.subscribers.iter().any(|other| other.filters.contains(filter)));
        filters
    }

    /// A request for the past goes out.
    pub(crate) fn expect_past(&mut self, request: u32, filter: &str, subscriber: Option<u64>) {
        self.replays.push_back(Replay { request, filter: filter.into(), subscriber });
    }

    /// Takes a message; `chunk` is what its payload lies in.
    pub(crate) fn take_message(&mut self, chunk: &Bytes, message: &Message<'_>) {
        let Self { routes, subscribers, replays, receiver, .. } = self;
        let route = routes.entry(message.id).or_insert_with(|| Route::of(message, subscribers));
        if *route.topic != *message.topic || route.schema.as_deref() != message.schema {
            *route = Route::of(message, subscribers);
        }
        let delivery = Delivery {
            topic: Arc::clone(&route.topic),
            payload: chunk.slice_ref(message.payload),
            flags: message.flags,
            sealed_by: None,
            unix_ms: message.unix_ms,
            schema: route.schema.clone(),
        };
        if replays.iter().any(|replay| selects(&replay.filter, message.topic)) {
            self.hold(message.id, delivery);
            return;
        }
        deliver(subscribers, receiver, &route.subscribers, delivery);
    }

    /// Takes a gap: those whose filter selects the topic may have missed something.
    pub(crate) fn take_gap(&mut self, topic: Option<&str>, count: u64, cause: GapCause) {
        let name: Option<Arc<str>> = topic.map(Arc::from);
        for subscriber in &mut self.subscribers {
            if topic.is_none_or(|topic| subscriber.selects(topic)) {
                subscriber.batch.push(Incoming::Gap { topic: name.clone(), count, cause });
            }
        }
    }

    /// A request was answered. If it asked for the past, the last `count` messages that its filter
    /// selects were that; returns them for a HISTORY.
    pub(crate) fn finish(&mut self, request: u32, count: Option<u64>) -> Vec<Delivery> {
        let Some(at) = self.replays.iter().position(|replay| replay.request == request) else {
            return Vec::new();
        };
        let Some(replay) = self.replays.remove(at) else { return Vec::new() };
        let count = usize::try_from(count.unwrap_or(0)).unwrap_or(usize::MAX);
        let past = self.take_past(&replay.filter, count);
        self.release_held();
        let Self { subscribers, receiver, .. } = self;
        let Some(id) = replay.subscriber else {
            let open = |delivery| opened(receiver, delivery, Freshness::Any);
            return past.into_iter().map(open).filter_map(Incoming::into_message).collect();
        };
        if let Some(subscriber) = subscribers.iter_mut().find(|known| known.id == id) {
            subscriber.is_live = true;
            // what an earlier filter of it selects has come with that one's past
            let earlier = subscriber.filters.iter().take_while(|&filter| *filter != replay.filter);
            let is_new = |delivery: &Delivery| {
                !earlier.clone().any(|filter| selects(filter, &delivery.topic))
            };
            let past: Vec<Delivery> = past.into_iter().filter(is_new).collect();
            let past = past.into_iter().map(|past| opened(receiver, past, Freshness::Any));
            subscriber.batch.extend(past);
        }
        Vec::new()
    }

    /// The handshake is done. What is held belongs to answers that did not come.
    pub(crate) fn begin(&mut self, resumed: bool) {
        let held = std::mem::take(&mut self.held);
        self.held_bytes = 0;
        for Held { id, delivery } in held {
            self.deliver_live(id, delivery);
        }
        if !resumed {
            self.routes.clear();
        }
    }

    /// Hands out what the bytes at hand brought.
    pub(crate) fn flush(&mut self) {
        for subscriber in self.subscribers.iter_mut().filter(|known| !known.batch.is_empty()) {
            subscriber.queue.push_all(&mut subscriber.batch);
        }
    }

    /// Whether some subscription wants the link not to be read. All are asked: each notes it. One
    /// that still waits for an answer has no owner yet who could make room.
    pub(crate) fn is_full(&self) -> bool {
        let is_pending = |id: u64| self.replays.iter().any(|replay| replay.subscriber == Some(id));
        let full = self.subscribers.iter().filter(|known| !is_pending(known.id));
        full.filter(|known| known.queue.is_full()).count() > 0
    }

    /// There will be no link any more.
    pub(crate) fn close(&mut self) {
        self.flush();
        self.subscribers.iter().for_each(|subscriber| subscriber.queue.close());
    }

    fn hold(&mut self, id: TopicId, delivery: Delivery) {
        self.held_bytes += charge(&delivery);
        self.held.push_back(Held { id, delivery });
        // the past is no longer than the relay's outbox; what is before it is live
        while self.held_bytes > HELD_MAX {
            let Some(Held { id, delivery }) = self.held.pop_front() else { break };
            self.held_bytes -= charge(&delivery);
            self.deliver_live(id, delivery);
        }
    }

    /// Takes the last `count` held messages that `filter` selects, oldest first.
    fn take_past(&mut self, filter: &str, count: usize) -> Vec<Delivery> {
        let mut past = Vec::new();
        let mut others = VecDeque::new();
        while let Some(held) = self.held.pop_back() {
            if past.len() < count && selects(filter, &held.delivery.topic) {
                self.held_bytes -= charge(&held.delivery);
                past.push(held.delivery);
            } else {
                others.push_front(held);
            }
        }
        self.held = others;
        past.reverse();
        past
    }

    /// Delivers what no request waits for any more.
    fn release_held(&mut self) {
        for held in std::mem::take(&mut self.held) {
            let is_awaited =
                self.replays.iter().any(|replay| selects(&replay.filter, &held.delivery.topic));
            if is_awaited {
                self.held.push_back(held);
            } else {
                self.held_bytes -= charge(&held.delivery);
                self.deliver_live(held.id, held.delivery);
            }
        }
    }

    fn deliver_live(&mut self, id: TopicId, delivery: Delivery) {
        let Some(route) = self.routes.get(&id) else { return };
        deliver(&mut self.subscribers, &mut self.receiver, &route.subscribers, delivery);
    }

    /// Sets [`Route::subscribers`] right.
    fn find_places(&mut self) {
        let Self { routes, subscribers, .. } = self;
        for route in routes.values_mut() {
            route.subscribers = places(subscribers, &route.topic);
        }
    }
}

impl Subscriber {
    fn selects(&self, topic: &str) -> bool {
        self.filters.iter().any(|filter| selects(filter, topic))
    }
}

impl Route {
    fn of(message: &Message<'_>, subscribers: &[Subscriber]) -> Self {
        Self {
            topic: Arc::from(message.topic),
            schema: message.schema.map(Arc::from),
            subscribers: places(subscribers, message.topic),
        }
    }
}

fn places(subscribers: &[Subscriber], topic: &str) -> Vec<usize> {
    let selected = |(at, known): (usize, &Subscriber)| known.selects(topic).then_some(at);
    subscribers.iter().enumerate().filter_map(selected).collect()
}

fn deliver(
    subscribers: &mut [Subscriber],
    receiver: &mut Option<Receiver>,
    places: &[usize],
    delivery: Delivery,
) {
    let Some((&last, others)) = places.split_last() else { return };
    // once for all who get it: the second time it would be a replay
    let incoming = opened(receiver, delivery, Freshness::New);
    for &at in others {
        if let Some(subscriber) = subscribers.get_mut(at).filter(|known| known.is_live) {
            subscriber.batch.push(incoming.clone());
        }
    }
    if let Some(subscriber) = subscribers.get_mut(last).filter(|known| known.is_live) {
        subscriber.batch.push(incoming);
    }
}

fn opened(receiver: &mut Option<Receiver>, delivery: Delivery, freshness: Freshness) -> Incoming {
    let Some(receiver) = receiver else { return Incoming::Message(delivery) };
    let topic = Arc::clone(&delivery.topic);
    match receiver.open(delivery, freshness) {
        Ok(delivery) => Incoming::Message(delivery),
        Err(cause) => Incoming::NotOpened { topic, cause },
    }
}

fn selects(filter: &str, topic: &str) -> bool {
    match (Filter::parse(filter), Topic::parse(topic)) {
        (Ok(filter), Ok(topic)) => filter.matches(topic),
        _ => false,
    }
}

fn charge(delivery: &Delivery) -> usize {
    delivery.payload.len() + size_of::<Held>()
}

/// The most bytes held while a request for the past waits: what a relay's outbox may hold, and more.
const HELD_MAX: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use fastport_wire::frame::DataFlags;

    use super::*;
    use crate::options::WhenSlow;

    struct Reader {
        id: u64,
        queue: Arc<Queue>,
    }

    /// A desk whose subscribers are live.
    fn desk(filters: &[&str]) -> (Desk, Vec<Reader>) {
        let mut desk = Desk::default();
        let mut readers = Vec::new();
        for filter in filters {
            readers.push(subscribe(&mut desk, filter, 0));
            desk.finish(0, Some(0));
        }
        (desk, readers)
    }

    fn subscribe(desk: &mut Desk, filter: &str, request: u32) -> Reader {
        let queue = Arc::new(Queue::new(usize::MAX, WhenSlow::Wait));
        let id = desk.subscribe(&[filter], Arc::clone(&queue));
        desk.expect_past(request, filter, Some(id));
        Reader { id, queue }
    }

    fn send(desk: &mut Desk, topic: &str, payload: &'static str) {
        let chunk = Bytes::from_static(payload.as_bytes());
        let number = topic.bytes().map(u32::from).sum();
        let id = TopicId::new(number).expect("topics have characters over 0");
        let flags = DataFlags::NONE;
        let message = Message { topic, schema: None, id, flags, payload: &chunk, unix_ms: None };
        desk.take_message(&chunk, &message);
    }

    fn read(desk: &mut Desk, reader: &Reader) -> Vec<String> {
        desk.flush();
        let text = |item| match item {
            Incoming::Message(delivery) => {
                String::from_utf8(delivery.payload.to_vec()).expect("sent as text")
            }
            Incoming::Gap { count, .. } => format!("gap {count}"),
            Incoming::NotOpened { cause, .. } => cause.name().to_owned(),
        };
        reader.queue.drain().into_iter().map(text).collect()
    }

    #[test]
    fn a_message_goes_to_each_subscription_that_selects_it_once() {
        let (mut desk, readers) = desk(&["a/#", "a/b", "c"]);
        send(&mut desk, "a/b", "1");
        send(&mut desk, "a/c", "2");
        assert_eq!(read(&mut desk, &readers[0]), ["1", "2"]);
        assert_eq!(read(&mut desk, &readers[1]), ["1"]);
        assert!(read(&mut desk, &readers[2]).is_empty());
    }

    #[test]
    fn the_past_goes_to_who_asked_for_it_and_live_messages_to_the_others() {
        let (mut desk, readers) = desk(&["#"]);
        let new = subscribe(&mut desk, "a/b", 7);
        send(&mut desk, "a/b", "live, asked for before");
        send(&mut desk, "c", "of no interest");
        send(&mut desk, "a/b", "past 1");
        send(&mut desk, "a/b", "past 2");
        assert_eq!(read(&mut desk, &readers[0]), ["of no interest"]);
        assert!(read(&mut desk, &new).is_empty());
        desk.finish(7, Some(2));
        send(&mut desk, "a/b", "live");
        assert_eq!(read(&mut desk, &readers[0]), ["live, asked for before", "live"]);
        assert_eq!(read(&mut desk, &new), ["past 1", "past 2", "live"]);
    }

    #[test]
    fn two_requests_for_the_past_do_not_mix() {
        let (mut desk, readers) = desk(&["a"]);
        desk.expect_past(7, "a", None);
        desk.expect_past(8, "#", None);
        send(&mut desk, "a", "live");
        send(&mut desk, "a", "of 7");
        let of_7 = desk.finish(7, Some(1));
        send(&mut desk, "a", "of 8");
        send(&mut desk, "b", "of 8");
        let of_8 = desk.finish(8, Some(2));
        assert_eq!(of_7.len(), 1);
        assert_eq!(of_7[0].payload, "of 7");
        assert!(of_8.iter().all(|delivery| delivery.payload == "of 8"));
        assert_eq!((of_8.len(), read(&mut desk, &readers[0])), (2, vec!["live".to_owned()]));
    }

    #[test]
    fn a_request_without_an_answer_costs_nobody_a_message() {
        let (mut desk, readers) = desk(&["a"]);
        desk.expect_past(7, "a", None);
        send(&mut desk, "a", "1");
        desk.begin(true);
        assert_eq!(read(&mut desk, &readers[0]), ["1"]);
    }

    #[test]
    fn a_filter_is_given_up_with_its_last_subscription() {
        let (mut desk, readers) = desk(&["a", "a"]);
        assert!(desk.unsubscribe(readers[0].id).is_empty());
        send(&mut desk, "a", "1");
        assert_eq!(read(&mut desk, &readers[1]), ["1"]);
        assert_eq!(desk.unsubscribe(readers[1].id), [Box::from("a")]);
    }

    #[test]
    fn filters_of_one_subscription_that_overlap_double_nothing() {
        let mut desk = Desk::default();
        let queue = Arc::new(Queue::new(usize::MAX, WhenSlow::Wait));
        let id = desk.subscribe(&["a/#", "#"], Arc::clone(&queue));
        desk.expect_past(1, "a/#", Some(id));
        desk.expect_past(2, "#", Some(id));
        send(&mut desk, "a/b", "past of 1");
        desk.finish(1, Some(1));
        send(&mut desk, "a/b", "past of 1");
        send(&mut desk, "c", "past of 2");
        desk.finish(2, Some(2));
        send(&mut desk, "a/b", "live");
        let reader = Reader { id, queue };
        assert_eq!(read(&mut desk, &reader), ["past of 1", "past of 2", "live"]);
    }

    #[test]
    fn a_gap_is_told_to_those_it_concerns() {
        let (mut desk, readers) = desk(&["a", "b"]);
        desk.take_gap(Some("a"), 3, GapCause::Overflow);
        desk.take_gap(None, 5, GapCause::Overflow);
        assert_eq!(read(&mut desk, &readers[0]), ["gap 3", "gap 5"]);
        assert_eq!(read(&mut desk, &readers[1]), ["gap 5"]);
    }

    #[test]
    fn a_full_subscription_holds_the_link_or_drops_its_oldest() {
        for (when_slow, is_full) in [(WhenSlow::Wait, true), (WhenSlow::DropOldest, false)] {
            let mut desk = Desk::default();
            let queue = Arc::new(Queue::new(1000, when_slow));
            let id = desk.subscribe(&["a"], Arc::clone(&queue));
            desk.expect_past(1, "a", Some(id));
            desk.finish(1, Some(0));
            for _ in 0..20 {
                send(&mut desk, "a", "x");
            }
            desk.flush();
            assert_eq!(desk.is_full(), is_full);
            let (kept, dropped) = (queue.drain().len(), queue.dropped());
            assert_eq!(kept as u64 + dropped, 20);
            assert_eq!(dropped == 0, is_full);
        }
    }
}
