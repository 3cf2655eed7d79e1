//! The relay's promises, one test each, by hand-moved time.

mod acks;
mod away;
mod clocks;
mod emit;
mod fan_out;
mod journal;
mod memory;
mod opening;
mod past;
mod questions;
mod refused;
mod relayed;
mod resume;
mod shed;
mod slow_readers;
mod streams;
mod subscriptions;
mod time;

use std::borrow::ToOwned;
use std::string::String;
use std::vec;

use fastport_wire::TopicId;
use fastport_wire::control::options;
use fastport_wire::field::MAX_BODY;
use fastport_wire::frame::DataFlags;

use super::acks::ACK_TICK_MS;
use super::*;
use crate::time::Now;

const NOTHING: [u8; 0] = [];
pub(super) const DAY: u64 = 1_700_000_000_000;

/// A session with a clock that the test moves.
pub(super) struct Rig {
    pub(super) session: Session,
    pub(super) budget: Arc<Budget>,
    /// Milliseconds, of the monotonic clock.
    pub(super) clock: u64,
    /// What the time of day is beyond that; none: it is not set.
    pub(super) day: Option<u64>,
    requests: u32,
}

/// What a peer found in its link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    Welcome { resumed: bool, taken: u64 },
    Ok { id: Option<u32>, count: Option<u64>, text: Option<String> },
    Error { request: Option<u32>, code: ErrorCode },
    Bye(ByeReason),
    Cancel(u32),
    Offer(u32),
    Accept(u32),
    Decline(u32),
    Topic(u32, String),
    Data(u32, Vec<u8>),
    Ack { taken: u64, durable: Option<u64>, central: Option<u64> },
    Time(u64),
    Ping,
    Pong(Vec<u8>),
    Gap { topic: Option<u32>, count: u64, cause: GapCause },
}

/// The longest that an ACK waits.
const ACK_DELAY_MS: u64 = 2 * ACK_TICK_MS;

pub(super) fn limits() -> Limits {
    Limits {
        peers: 100,
        topics: 100,
        outbox: 4096,
        payload: 1024,
        sealed: false,
        subscriptions: 8,
        open_topics: 8,
        keepalive: 0,
        linger: 60,
        gateway_linger: 600,
        stall_ms: 0,
        retention: Retention { messages: 0, age_ms: 10_000, bytes: 4096 },
        when_full: WhenFull::DropOldest,
        streams: StreamLimits { per_peer: 4, per_session: 8, size: 1 << 40, window: 4096 },
    }
}

fn keeping(messages: u32) -> Limits {
    Limits { retention: Retention { messages, ..limits().retention }, ..limits() }
}

pub(super) fn admission(epoch: u64) -> Admission {
    Admission {
        identity: "".into(),
        name: "".into(),
        rights: Arc::new(Rights::everything()),
        epoch,
        taken: 0,
        flags: 0,
        when_full: None,
        keepalive: None,
        linger: None,
        proof: None,
        own: None,
    }
}

fn lingering(epoch: u64) -> Admission {
    Admission { linger: Some(10), ..admission(epoch) }
}

fn with_policy(epoch: u64, when_full: WhenFull) -> Admission {
    Admission { when_full: Some(when_full), ..admission(epoch) }
}

fn allowed(epoch: u64, publish: &[&str], read: &[&str]) -> Admission {
    let rights = Rights::new(publish.iter().copied(), read.iter().copied()).expect("filters");
    Admission { rights: Arc::new(rights), ..admission(epoch) }
}

pub(super) fn frame(frame: &Frame<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    push_frame(&mut bytes, frame);
    bytes
}

pub(super) fn control<'a>(message: impl Into<Control<'a>>) -> Vec<u8> {
    let mut body = vec![0; 2048];
    let length = message.into().encode(&mut body).expect("2 KiB are enough");
    frame(&Frame::Control(&body[..length]))
}

pub(super) fn data(topic: TopicId, flags: DataFlags, payload: &[u8]) -> Vec<u8> {
    frame(&Frame::Data { flags, topic, payload })
}

fn counted(topic: TopicId, payload: &[u8]) -> Vec<u8> {
    data(topic, DataFlags::COUNTED, payload)
}

fn plain(topic: TopicId, payload: &[u8]) -> Vec<u8> {
    data(topic, DataFlags::NONE, payload)
}

pub(super) fn ack(taken: u64) -> Vec<u8> {
    frame(&Frame::Ack { taken, durable: None, central: None, repeat: false })
}

pub(super) fn see(mut bytes: &[u8]) -> Vec<Seen> {
    let mut seen = Vec::new();
    while let Some((frame, taken)) = Frame::decode(bytes, MAX_BODY).expect("the relay's frames") {
        bytes = &bytes[taken..];
        seen.push(match frame {
            Frame::Control(body) => see_control(body),
            Frame::Data { topic, payload, .. } => Seen::Data(topic.get(), payload.to_vec()),
            Frame::Ack { taken, durable, central, .. } => Seen::Ack { taken, durable, central },
            Frame::Time { unix_ms } => Seen::Time(unix_ms),
            Frame::Ping { .. } => Seen::Ping,
            Frame::Pong { token } => Seen::Pong(token.to_vec()),
            Frame::Topic { id, name, .. } => Seen::Topic(id.get(), name.to_owned()),
            Frame::Gap { topic, count, cause } => {
                Seen::Gap { topic: topic.map(TopicId::get), count, cause }
            }
            other => panic!("not from a relay: {other:?}"),
        });
    }
    assert!(bytes.is_empty(), "the output ends with a whole frame");
    seen
}

fn see_control(body: &[u8]) -> Seen {
    let code_of = |code| ErrorCode::from_number(code).expect("a known code");
    match Control::decode(body).expect("the relay's message") {
        Control::Welcome(message) => {
            Seen::Welcome { resumed: message.resumed, taken: message.taken }
        }
        Control::Ok(message) => Seen::Ok {
            id: message.id,
            count: message.count,
            text: message.text.map(ToOwned::to_owned),
        },
        Control::Error(message) => {
            Seen::Error { request: message.request, code: code_of(message.code) }
        }
        Control::Bye(message) => {
            Seen::Bye(ByeReason::from_number(message.code).expect("a known reason"))
        }
        Control::Cancel(message) => Seen::Cancel(message.id),
        Control::Offer(message) => Seen::Offer(message.id),
        Control::Accept(message) => Seen::Accept(message.id),
        Control::Decline(message) => Seen::Decline(message.id),
        other => panic!("not from a relay: {other:?}"),
    }
}

impl Rig {
    fn new(limits: Limits) -> Self {
        Self::with_budget(limits, 1 << 20)
    }

    pub(super) fn with_budget(limits: Limits, bytes: usize) -> Self {
        let budget = Arc::new(Budget::new(bytes));
        let clock = 1_000_000;
        let session = Session::new(limits, Arc::clone(&budget), Instant::from_millis(clock));
        Self { session, budget, clock, day: Some(DAY), requests: 0 }
    }

    pub(super) fn now(&self) -> Now {
        let boot_ms = self.clock - 990_000;
        let unix_ms = self.day.map_or(boot_ms, |day| day + self.clock);
        Now { mono: Instant::from_millis(self.clock), unix_ms, boot_ms }
    }

    /// Lets time pass, doing what is due when it is.
    pub(super) fn pass(&mut self, millis: u64) {
        let end = self.clock + millis;
        while let Some(due) = self.session.next_timeout().filter(|due| due.as_millis() <= end) {
            let is_later = due.as_millis() > self.clock;
            self.clock = self.clock.max(due.as_millis());
            self.session.handle_timeout(self.now().mono);
            let next = self.session.next_timeout();
            assert!(next.is_none_or(|next| next > due || is_later), "a timeout that does nothing");
        }
        self.clock = end;
    }

    /// Lets a peer in, reads its WELCOME, and has it show that it did.
    fn attach(&mut self, admission: Admission) -> PeerKey {
        let key = self.session.attach(self.now(), admission).expect("room for a peer");
        let seen = self.take(key);
        assert!(matches!(seen.first(), Some(Seen::Welcome { .. })), "{seen:?}");
        self.give_all(key, &[0]);
        key
    }

    /// Gives bytes, and does not wait for ACKs: those are due at once.
    fn give(&mut self, key: PeerKey, bytes: &[u8]) -> Progress {
        let progress = self.give_alone(key, bytes);
        self.session.send_acks_due(self.now().mono.after(ACK_DELAY_MS));
        progress
    }

    /// Gives bytes.
    pub(super) fn give_alone(&mut self, key: PeerKey, bytes: &[u8]) -> Progress {
        self.session.handle_bytes(self.now(), key, bytes).expect("the link is there")
    }

    /// Gives bytes that must all be taken.
    fn give_all(&mut self, key: PeerKey, bytes: &[u8]) {
        let progress = self.give(key, bytes);
        assert_eq!((progress.consumed, progress.is_blocked), (bytes.len(), false));
    }

    /// Writes at most that many bytes.
    pub(super) fn take_some(&mut self, key: PeerKey, at_most: usize) -> Vec<u8> {
        let bytes = self.session.output(key).expect("the link is there").bytes;
        let bytes = bytes[..at_most.min(bytes.len())].to_vec();
        if !bytes.is_empty() {
            self.session.advance(key, bytes.len());
        }
        bytes
    }

    fn take_bytes(&mut self, key: PeerKey) -> Vec<u8> {
        self.take_some(key, usize::MAX)
    }

    fn take(&mut self, key: PeerKey) -> Vec<Seen> {
        see(&self.take_bytes(key))
    }

    /// What was dropped behind all that waits is told when nothing waits any more.
    fn take_until_drained(&mut self, key: PeerKey) -> Vec<Seen> {
        let mut seen = Vec::new();
        while self.session.has_output(key) {
            seen.extend(self.take(key));
        }
        seen
    }

    fn is_last(&mut self, key: PeerKey) -> bool {
        self.session.output(key).expect("the link is there").is_last
    }

    pub(super) fn next_request(&mut self) -> u32 {
        self.requests += 1;
        self.requests
    }

    fn open_with(&mut self, key: PeerKey, topic: &str, schema: Option<&[u8]>) -> Vec<Seen> {
        let request = self.next_request();
        let open = control::Open { request, topic, schema, ..Default::default() };
        self.give_all(key, &control(open));
        self.take(key)
    }

    fn open(&mut self, key: PeerKey, topic: &str) -> TopicId {
        let seen = self.open_with(key, topic, None);
        let Some(&Seen::Ok { id: Some(id), .. }) = seen.last() else { panic!("{seen:?}") };
        TopicId::new(id).expect("not 0")
    }

    fn subscribe_with(&mut self, key: PeerKey, subscribe: control::Subscribe<'_>) -> Vec<Seen> {
        let request = self.next_request();
        self.give_all(key, &control(control::Subscribe { request, ..subscribe }));
        self.take(key)
    }

    fn subscribe(&mut self, key: PeerKey, topic: &str) {
        let seen = self.subscribe_with(key, control::Subscribe { topic, ..Default::default() });
        assert!(matches!(seen.last(), Some(Seen::Ok { .. })), "{seen:?}");
    }

    fn unsubscribe(&mut self, key: PeerKey, topic: &str) -> Vec<Seen> {
        let request = self.next_request();
        self.give_all(key, &control(control::Unsubscribe { request, topic, ..Default::default() }));
        self.take(key)
    }

    fn history(&mut self, key: PeerKey, history: control::History<'_>) -> Vec<Seen> {
        let request = self.next_request();
        self.give_all(key, &control(control::History { request, ..history }));
        self.take(key)
    }

    fn emit(&mut self, key: PeerKey, topic: &str, flags: DataFlags, data: &[u8]) -> Vec<Seen> {
        let request = Some(self.next_request());
        let flags = Some(flags.bits().into());
        let emit = control::Emit { request, topic, flags, data, ..Default::default() };
        self.give_all(key, &control(emit));
        self.take(key)
    }

    fn ledger(&self) -> Ledger {
        self.session.figures().ledger
    }

    fn dropped(&self, cause: GapCause) -> u64 {
        self.ledger().dropped[cause as usize]
    }

    fn is_woken(&mut self, key: PeerKey) -> bool {
        let mut is_woken = false;
        while let Some(index) = self.session.poll_wake() {
            is_woken |= index == key.index();
        }
        is_woken
    }
}

/// The numbers of the messages, where each is the first byte of the payload.
fn numbers(seen: &[Seen]) -> Vec<u8> {
    let number = |seen: &Seen| match seen {
        Seen::Data(_, payload) => payload.first().copied(),
        _ => None,
    };
    seen.iter().filter_map(number).collect()
}

fn gaps(seen: &[Seen]) -> u64 {
    let count = |seen: &Seen| if let Seen::Gap { count, .. } = seen { *count } else { 0 };
    seen.iter().map(count).sum()
}

fn refusal(seen: &[Seen]) -> Option<ErrorCode> {
    match seen.last() {
        Some(&Seen::Error { code, .. }) => Some(code),
        _ => None,
    }
}

/// A publisher with an open topic, a reader that does not read, and one that does.
struct Slow {
    rig: Rig,
    publisher: PeerKey,
    slow: PeerKey,
    quick: PeerKey,
    id: TopicId,
}

impl Slow {
    /// The slow reader's outbox has room for about ten messages of 50 bytes behind the TOPIC frame.
    fn new(admission_of_slow: Admission) -> Self {
        let mut rig = Rig::new(Limits { outbox: 530, payload: 100, ..limits() });
        let publisher = rig.attach(admission(100));
        let slow = rig.attach(admission_of_slow);
        let quick = rig.attach(admission(102));
        [slow, quick].iter().for_each(|&reader| rig.subscribe(reader, "a"));
        let id = rig.open(publisher, "a");
        Self { rig, publisher, slow, quick, id }
    }

    /// Publishes messages one by one, as far as they are taken; returns how many were.
    fn publish(&mut self, numbers: core::ops::Range<u8>, flags: DataFlags) -> u8 {
        let first = numbers.start;
        for number in numbers {
            let bytes = data(self.id, flags, &[number; 47]);
            let progress = self.rig.give(self.publisher, &bytes);
            if progress.is_blocked {
                assert_eq!(progress.consumed, 0);
                return number - first;
            }
            assert_eq!(numbers_of_quick(self), [number]);
        }
        u8::MAX
    }
}

/// One of the daemon's own parts.
fn own(epoch: u64, name: &str) -> Admission {
    Admission {
        identity: "$uplink".into(),
        name: name.into(),
        own: Some(Own { outbox: 1 << 16 }),
        ..with_policy(epoch, WhenFull::Hold)
    }
}

/// What the publisher was last told of the tier central.
fn central(rig: &mut Rig, publisher: PeerKey) -> Option<u64> {
    let mut told = rig.take(publisher).into_iter().filter_map(|seen| match seen {
        Seen::Ack { taken, central, .. } => Some(central.unwrap_or(taken)),
        _ => None,
    });
    told.next_back()
}

fn schema(scale: i8) -> Vec<u8> {
    let mut bytes = vec![0; fastport_wire::schema::MAX_SCHEMA];
    let length = fastport_wire::Schema::int("Cel", scale).encode(&mut bytes).expect("it fits");
    bytes.truncate(length);
    bytes
}

fn numbers_of_quick(slow: &mut Slow) -> Vec<u8> {
    let seen = slow.rig.take(slow.quick);
    assert_eq!(gaps(&seen), 0);
    numbers(&seen)
}
