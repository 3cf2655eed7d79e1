//! The relay's promises, one test each, by hand-moved time.

mod clocks;
mod journal;
mod relayed;
mod streams;

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

// fan-out

#[test]
fn every_reader_gets_the_published_bytes_as_they_are() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(admission(1));
    let readers = [2, 3].map(|epoch| rig.attach(admission(epoch)));
    readers.iter().for_each(|&reader| rig.subscribe(reader, "a/b"));
    let id = rig.open(publisher, "a/b");
    let flags = DataFlags::SEALED.with(DataFlags::COUNTED);
    let bytes = [plain(id, b"one"), data(id, flags, b"two"), plain(id, b"")].concat();
    rig.give_all(publisher, &bytes);
    for reader in readers {
        let seen = rig.take_bytes(reader);
        let announced = frame(&Frame::Topic { id, name: "a/b", schema: None });
        assert_eq!(seen, [announced, bytes.clone()].concat());
    }
    assert_eq!((rig.ledger().published, rig.ledger().routed, rig.ledger().delivered), (3, 6, 6));
}

#[test]
fn a_topic_is_announced_before_its_first_message_and_once_a_link() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(admission(1));
    let reader = rig.attach(admission(2));
    rig.subscribe(reader, "#");
    let id = rig.open(publisher, "a");
    assert_eq!(rig.take(reader), []);
    rig.give_all(publisher, &plain(id, &[1]));
    assert_eq!(rig.take(reader), [Seen::Topic(1, "a".into()), Seen::Data(1, vec![1])]);
    rig.give_all(publisher, &plain(id, &[2]));
    assert_eq!(rig.take(reader), [Seen::Data(1, vec![2])]);
}

#[test]
fn a_resumed_link_hears_each_topic_again() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(admission(1));
    let reader = rig.attach(lingering(2));
    rig.subscribe(reader, "#");
    let (a, b) = (rig.open(publisher, "a"), rig.open(publisher, "b"));
    rig.give_all(publisher, &[counted(a, &[1]), plain(b, &[2])].concat());
    assert_eq!(rig.take(reader).len(), 4);
    let now = rig.now();
    rig.session.detach(now.mono, reader);
    let reader = rig.session.attach(now, lingering(2)).expect("room");
    let seen = rig.take(reader);
    let expected = [
        Seen::Welcome { resumed: true, taken: 0 },
        Seen::Topic(1, "a".into()),
        Seen::Data(1, vec![1]),
    ];
    assert_eq!(seen, expected);
    rig.give_all(publisher, &plain(b, &[3]));
    assert_eq!(rig.take(reader), [Seen::Topic(2, "b".into()), Seen::Data(2, vec![3])]);
}

#[test]
fn a_schema_that_comes_later_is_announced_before_the_next_message() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(admission(1));
    let reader = rig.attach(admission(2));
    rig.subscribe(reader, "a");
    let id = rig.open(publisher, "a");
    rig.give_all(publisher, &plain(id, &[1]));
    rig.take(reader);
    let seen = rig.open_with(publisher, "a", Some(&schema(1)));
    assert!(matches!(seen.last(), Some(Seen::Ok { .. })), "{seen:?}");
    rig.give_all(publisher, &plain(id, &[2]));
    assert_eq!(rig.take(reader), [Seen::Topic(1, "a".into()), Seen::Data(1, vec![2])]);
}

// subscriptions

#[test]
fn no_local_leaves_out_only_the_publishers_own() {
    let mut rig = Rig::new(limits());
    let [one, two] = [1, 2].map(|epoch| rig.attach(admission(epoch)));
    let flags = Some(options::NO_LOCAL);
    for peer in [one, two] {
        rig.subscribe_with(peer, control::Subscribe { topic: "a", flags, ..Default::default() });
    }
    let id = rig.open(one, "a");
    rig.give_all(one, &plain(id, &[1]));
    assert_eq!(numbers(&rig.take(one)), NOTHING);
    assert_eq!(numbers(&rig.take(two)), [1]);
    assert_eq!(rig.ledger().routed, 1);
}

#[test]
fn a_peer_hears_itself_when_one_of_its_filters_wants_that() {
    let mut rig = Rig::new(limits());
    let peer = rig.attach(admission(1));
    let early = rig.open(peer, "a/early");
    rig.subscribe(peer, "a/+");
    let flags = Some(options::NO_LOCAL);
    rig.subscribe_with(peer, control::Subscribe { topic: "a/#", flags, ..Default::default() });
    let late = rig.open(peer, "a/late");
    rig.give_all(peer, &[plain(early, &[1]), plain(late, &[2])].concat());
    assert_eq!(numbers(&rig.take(peer)), [1, 2]);
    rig.unsubscribe(peer, "a/+");
    rig.give_all(peer, &[plain(early, &[3]), plain(late, &[4])].concat());
    assert_eq!(numbers(&rig.take(peer)), NOTHING);
}

#[test]
fn filters_select_topics_and_overlapping_ones_select_once() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(admission(1));
    let reader = rig.attach(admission(2));
    let topics = ["a/b", "a/b/c", "d", "d/e", "f"];
    let before = topics.map(|name| rig.open(publisher, name));
    for filter in ["a/+", "a/b", "d/#", "g"] {
        rig.subscribe(reader, filter);
    }
    let after = [rig.open(publisher, "a/x"), rig.open(publisher, "g")];
    for (number, &id) in (0..).zip(before.iter().chain(&after)) {
        rig.give_all(publisher, &plain(id, &[number]));
    }
    assert_eq!(numbers(&rig.take(reader)), [0, 2, 3, 5, 6]);
}

#[test]
fn the_daemons_topics_are_read_by_name_only() {
    let mut rig = Rig::new(limits());
    let [all, board] = [1, 2].map(|epoch| rig.attach(admission(epoch)));
    rig.subscribe(all, "#");
    rig.subscribe(board, "$board/#");
    let now = rig.now();
    rig.session
        .publish_own(now, "$board/load", None, DataFlags::KEEP, &[7])
        .expect("room for a topic");
    assert_eq!(rig.take(all), []);
    assert_eq!(numbers(&rig.take(board)), [7]);
    let seen = rig.open_with(all, "$board/load", None);
    assert_eq!(refusal(&seen), Some(ErrorCode::Forbidden));
}

#[test]
fn a_wildcard_gives_no_more_than_the_rights_do() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(admission(1));
    let reader = rig.attach(allowed(2, &[], &["plant/+/out"]));
    let secret = rig.open(publisher, "plant/1/in");
    let open = rig.open(publisher, "plant/1/out");
    rig.subscribe(reader, "#");
    let later = [rig.open(publisher, "plant/2/in"), rig.open(publisher, "plant/2/out")];
    for (number, id) in (0..).zip([secret, open].into_iter().chain(later)) {
        rig.give_all(publisher, &data(id, DataFlags::KEEP, &[number]));
    }
    assert_eq!(numbers(&rig.take(reader)), [1, 3]);
    let seen = rig.history(reader, control::History { topic: "#", ..Default::default() });
    assert_eq!(numbers(&seen), [1, 3]);
    for topic in ["plant/1/in", "home/#"] {
        let seen = rig.subscribe_with(reader, control::Subscribe { topic, ..Default::default() });
        assert_eq!(refusal(&seen), Some(ErrorCode::Forbidden));
    }
}

#[test]
fn unsubscribing_leaves_what_another_filter_selects() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(admission(1));
    let reader = rig.attach(admission(2));
    ["a/b", "a/+", "a/#"].iter().for_each(|filter| rig.subscribe(reader, filter));
    let [ab, abc] = ["a/b", "a/b/c"].map(|name| rig.open(publisher, name));
    let heard = |rig: &mut Rig| {
        rig.give_all(publisher, &[plain(ab, &[1]), plain(abc, &[2])].concat());
        numbers(&rig.take(reader))
    };
    assert_eq!(heard(&mut rig), [1, 2]);
    rig.unsubscribe(reader, "a/#");
    assert_eq!(heard(&mut rig), [1]);
    rig.unsubscribe(reader, "a/b");
    assert_eq!(heard(&mut rig), [1]);
    rig.unsubscribe(reader, "a/+");
    assert_eq!(heard(&mut rig), NOTHING);
    assert_eq!(refusal(&rig.unsubscribe(reader, "a/+")), None, "it is not subscribed, as wished");
    assert_eq!(refusal(&rig.unsubscribe(reader, "a/+b")), Some(ErrorCode::BadTopic));
}

#[test]
fn subscriptions_are_limited_and_the_same_one_counts_once() {
    let mut rig = Rig::new(Limits { subscriptions: 2, ..limits() });
    let reader = rig.attach(admission(1));
    ["a", "b/#", "a"].iter().for_each(|filter| rig.subscribe(reader, filter));
    let third = control::Subscribe { topic: "c", ..Default::default() };
    let seen = rig.subscribe_with(reader, third);
    assert_eq!(refusal(&seen), Some(ErrorCode::LimitReached));
    rig.unsubscribe(reader, "a");
    rig.subscribe(reader, "c");
}

#[test]
fn a_subscription_whose_topic_cannot_be_made_is_not_left_behind() {
    let mut rig = Rig::new(Limits { topics: 1, subscriptions: 1, ..limits() });
    let [publisher, reader] = [1, 2].map(|epoch| rig.attach(admission(epoch)));
    let id = rig.open(publisher, "a");
    let seen = rig.subscribe_with(reader, control::Subscribe { topic: "b", ..Default::default() });
    assert_eq!(refusal(&seen), Some(ErrorCode::LimitReached));
    rig.subscribe(reader, "a");
    rig.give_all(publisher, &plain(id, &[1]));
    assert_eq!(numbers(&rig.take(reader)), [1]);
}

#[test]
fn a_filter_that_is_none_is_refused() {
    let mut rig = Rig::new(limits());
    let reader = rig.attach(admission(1));
    let bad = control::Subscribe { topic: "#/a", ..Default::default() };
    assert_eq!(refusal(&rig.subscribe_with(reader, bad)), Some(ErrorCode::BadTopic));
    let bad = control::History { topic: "a//b", ..Default::default() };
    assert_eq!(refusal(&rig.history(reader, bad)), Some(ErrorCode::BadTopic));
}

// opening

#[test]
fn open_says_what_it_refuses() {
    let mut rig = Rig::new(Limits { open_topics: 1, topics: 2, ..limits() });
    let peer = rig.attach(allowed(1, &["a/#"], &[]));
    assert_eq!(refusal(&rig.open_with(peer, "b", None)), Some(ErrorCode::Forbidden));
    assert_eq!(refusal(&rig.open_with(peer, "a/+", None)), Some(ErrorCode::BadTopic));
    assert_eq!(refusal(&rig.open_with(peer, "a", Some(&[]))), Some(ErrorCode::BadReadings));
    let id = rig.open(peer, "a");
    assert_eq!(rig.open(peer, "a"), id, "opening again gives the same id");
    assert_eq!(refusal(&rig.open_with(peer, "a/b", None)), Some(ErrorCode::LimitReached));
    let others = [2, 3].map(|epoch| rig.attach(admission(epoch)));
    rig.open(others[0], "b");
    let seen = rig.open_with(others[1], "c", None);
    assert_eq!(refusal(&seen), Some(ErrorCode::LimitReached), "topics of the session");
}

#[test]
fn what_is_retained_under_one_schema_is_not_given_out_under_another() {
    let limits = Limits { retention: Retention { messages: 9, ..limits().retention }, ..limits() };
    let mut rig = Rig::new(limits);
    let publisher = rig.attach(admission(1));
    let reader = rig.attach(admission(2));
    let past = |rig: &mut Rig| {
        let seen = rig.history(reader, control::History { topic: "a", ..Default::default() });
        numbers(&seen)
    };
    rig.open_with(publisher, "a", Some(&schema(1)));
    let id = rig.open(publisher, "a");
    let flags = DataFlags::READINGS.with(DataFlags::KEEP);
    rig.give_all(publisher, &data(id, flags, &[1]));
    assert_eq!(past(&mut rig), [1]);
    rig.open_with(publisher, "a", Some(&schema(1)));
    assert_eq!(past(&mut rig), [1], "it is the same schema");
    rig.open_with(publisher, "a", Some(&schema(2)));
    assert_eq!(past(&mut rig), NOTHING);
    assert_eq!((rig.session.figures().retained, rig.session.figures().evicted), (0, 1));
}

#[test]
fn two_publishers_agree_on_a_schema_or_the_second_is_refused() {
    let mut rig = Rig::new(Limits { open_topics: 1, ..limits() });
    let [one, two] = [1, 2].map(|epoch| rig.attach(admission(epoch)));
    rig.open_with(one, "a", Some(&schema(1)));
    let seen = rig.open_with(two, "a", Some(&schema(2)));
    assert_eq!(refusal(&seen), Some(ErrorCode::Conflict));
    // what was refused is not open and takes no place
    rig.open(two, "b");
    let seen = rig.open_with(one, "a", Some(&schema(2)));
    assert!(matches!(seen.last(), Some(Seen::Ok { .. })), "alone it may change: {seen:?}");
}

#[test]
fn a_closed_topic_may_be_opened_again_but_not_published_on() {
    let mut rig = Rig::new(Limits { open_topics: 1, ..limits() });
    let peer = rig.attach(admission(1));
    let id = rig.open(peer, "a");
    let close = |rig: &mut Rig| {
        let request = Some(rig.next_request());
        let close = control::CloseTopic { request, id: id.get(), ..Default::default() };
        rig.give_all(peer, &control(close));
        rig.take(peer)
    };
    assert!(matches!(close(&mut rig)[..], [Seen::Ok { .. }]));
    assert_eq!(refusal(&close(&mut rig)), Some(ErrorCode::UnknownId));
    assert_eq!(rig.open(peer, "a"), id);
    close(&mut rig);
    rig.give(peer, &plain(id, &[1]));
    assert_eq!(refusal(&rig.take(peer)), Some(ErrorCode::UnknownId));
    assert!(rig.is_last(peer));
}

#[test]
fn ids_of_topics_nobody_uses_make_room_for_others() {
    let mut rig = Rig::new(Limits { topics: 2, open_topics: 2, ..limits() });
    let peer = rig.attach(admission(1));
    for round in 0..100 {
        rig.emit(peer, &std::format!("t/{round}"), DataFlags::NONE, &[1]);
    }
    assert!(rig.session.figures().topics <= 2);
    let kept = rig.open(peer, "kept");
    assert_eq!(rig.open(peer, "kept"), kept);
}

#[test]
fn topics_that_nobody_remembers_do_not_hold_the_memory() {
    let mut rig = Rig::with_budget(Limits { topics: 100_000, ..limits() }, 64 * 1024);
    let peer = rig.attach(admission(1));
    for round in 0..2000 {
        let seen = rig.emit(peer, &std::format!("t/{round}"), DataFlags::NONE, &[1]);
        assert_eq!(refusal(&seen), None, "round {round}");
    }
    assert!(rig.session.figures().topics < 400);
}

#[test]
fn topics_that_nobody_remembers_make_room_for_messages_in_time() {
    let mut rig = Rig::with_budget(Limits { stall_ms: 1000, ..limits() }, 40 * 1024);
    let [peer, reader] = [1, 2].map(|epoch| rig.attach(admission(epoch)));
    rig.subscribe(reader, "kept");
    let kept = rig.open(peer, "kept");
    let mut limits = *rig.session.limits();
    limits.topics = 100_000;
    rig.session.set_limits(limits);
    while rig.budget.used() + 500 < rig.budget.limit() {
        let name = std::format!("t/{}", rig.session.figures().topics);
        assert_eq!(refusal(&rig.emit(peer, &name, DataFlags::NONE, &[1])), None);
    }
    rig.give_all(peer, &plain(kept, &[7; 1000]));
    assert_eq!(rig.dropped(GapCause::Budget), 1, "the test is about memory that is used up");
    rig.pass(2000);
    rig.take_until_drained(reader);
    rig.give_all(peer, &plain(kept, &[8; 1000]));
    assert_eq!(numbers(&rig.take(reader)), [8]);
}

#[test]
fn an_id_that_is_not_given_again_is_charged_until_all_are_gone() {
    let mut rig = Rig::new(Limits { topics: 10, ..limits() });
    let peer = rig.attach(admission(1));
    let before = rig.budget.used();
    for round in 0..600 {
        rig.emit(peer, &std::format!("t/{round}"), DataFlags::NONE, &[1]);
    }
    assert!(rig.budget.used() >= before + 590 * size_of::<usize>());
    let now = rig.now().mono;
    rig.session.detach(now, peer);
    assert_eq!(rig.budget.used(), 0);
}

// what a peer may not do

#[test]
fn data_on_an_id_that_is_not_open_ends_the_link_and_the_peer() {
    let mut rig = Rig::new(limits());
    let peer = rig.attach(lingering(1));
    let id = TopicId::new(1).expect("not 0");
    let bytes = [plain(id, &[1]), control(control::Status::default())].concat();
    assert_eq!(rig.give(peer, &bytes).consumed, bytes.len());
    assert_eq!(refusal(&rig.take(peer)), Some(ErrorCode::UnknownId));
    assert!(rig.is_last(peer));
    assert_eq!(rig.session.poll_ask(), None, "nothing behind it was read");
    let now = rig.now().mono;
    rig.session.detach(now, peer);
    assert_eq!((rig.session.figures().peers, rig.session.figures().lingering), (0, 0));
}

#[test]
fn a_payload_over_the_limit_ends_the_link() {
    let mut rig = Rig::new(Limits { payload: 8, ..limits() });
    let peer = rig.attach(admission(1));
    let id = rig.open(peer, "a");
    rig.give_all(peer, &plain(id, &[1; 8]));
    rig.give(peer, &plain(id, &[1; 9]));
    assert_eq!(refusal(&rig.take(peer)), Some(ErrorCode::PayloadTooLong));
    assert!(rig.is_last(peer));
    assert_eq!(rig.ledger().published, 1);
}

#[test]
fn a_long_payload_behind_good_ones_is_refused_alone() {
    let mut rig = Rig::new(Limits { payload: 8, ..limits() });
    let peer = rig.attach(admission(1));
    let id = rig.open(peer, "a");
    rig.give(peer, &[plain(id, &[1; 8]), plain(id, &[2; 9])].concat());
    assert_eq!(rig.ledger().published, 1);
    assert_eq!(refusal(&rig.take(peer)), Some(ErrorCode::PayloadTooLong));
}

#[test]
fn a_session_for_sealed_payloads_refuses_others_and_takes_the_daemons_own() {
    let mut rig = Rig::new(Limits { sealed: true, ..limits() });
    let peer = rig.attach(admission(1));
    let id = rig.open(peer, "a");
    rig.give_all(peer, &data(id, DataFlags::SEALED, &[1]));
    assert_eq!(refusal(&rig.emit(peer, "a", DataFlags::SEALED, &[2])), None);
    assert_eq!(refusal(&rig.emit(peer, "a", DataFlags::NONE, &[3])), Some(ErrorCode::Unsealed));
    assert!(!rig.is_last(peer), "who asks is answered");
    rig.give(peer, &data(id, DataFlags::KEEP, &[4]));
    assert_eq!(refusal(&rig.take(peer)), Some(ErrorCode::Unsealed));
    assert!(rig.is_last(peer));
    assert_eq!(rig.ledger().published, 2);
    let now = rig.now();
    rig.session
        .publish_own(now, "$board/load", None, DataFlags::KEEP, &[7])
        .expect("the daemon's own");
    assert_eq!(rig.ledger().published, 3);
}

#[test]
fn bytes_that_are_no_frame_end_the_link_and_name_the_fault() {
    for (bytes, code) in [
        (&[0xb0, 0][..], ErrorCode::BadFrame),
        (&[0x20, 0xff, 0xff, 0x7f], ErrorCode::FrameTooLong),
        (&[0x10, 1, 0xff], ErrorCode::BadControl),
        (&[0x40, 1, 1], ErrorCode::Unexpected),
        (&[0x20, 1, 0], ErrorCode::BadFrame),
    ] {
        let mut rig = Rig::new(limits());
        let peer = rig.attach(admission(1));
        rig.give(peer, bytes);
        assert_eq!(refusal(&rig.take(peer)), Some(code), "{bytes:x?}");
        assert!(rig.is_last(peer));
    }
}

#[test]
fn a_message_of_a_later_version_is_answered_and_the_link_stays() {
    let mut rig = Rig::new(limits());
    let peer = rig.attach(admission(1));
    // {0: 200, 1: 7}
    rig.give_all(peer, &frame(&Frame::Control(b"\xa2\x00\x18\xc8\x01\x07")));
    let expected = Seen::Error { request: Some(7), code: ErrorCode::UnknownMessage };
    assert_eq!(rig.take(peer), [expected]);
    assert!(!rig.is_last(peer));
}

#[test]
fn an_acknowledgement_of_more_than_was_written_ends_the_link() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(admission(1));
    let reader = rig.attach(lingering(2));
    rig.subscribe(reader, "a");
    let id = rig.open(publisher, "a");
    rig.give_all(publisher, &counted(id, &[1]));
    rig.give(reader, &ack(1));
    assert_eq!(refusal(&rig.take(reader)), Some(ErrorCode::BadAck), "not written yet");
    assert!(rig.is_last(reader));
}

#[test]
fn what_only_serial_lines_or_the_relay_say_ends_the_link() {
    let repeat = Frame::Ack { taken: 0, durable: None, central: None, repeat: true };
    for (bytes, code) in [
        (frame(&repeat), ErrorCode::BadAck),
        (control(control::Ok { request: 1, ..Default::default() }), ErrorCode::Unexpected),
        (control(control::Challenge::default()), ErrorCode::Unexpected),
        (control(control::Hello { version: 2, ..Default::default() }), ErrorCode::Unexpected),
    ] {
        let mut rig = Rig::new(limits());
        let peer = rig.attach(admission(1));
        rig.give(peer, &bytes);
        assert_eq!(refusal(&rig.take(peer)), Some(code));
        assert!(rig.is_last(peer));
    }
}

#[test]
fn frames_that_the_protocol_grants_everybody_are_taken_however_short_payloads_are() {
    let mut rig = Rig::new(Limits { payload: 4, ..limits() });
    let peer = rig.attach(admission(1));
    // {0: 18, 1: 7, 99: 4000 bytes}
    let mut body = b"\xa3\x00\x12\x01\x07\x18\x63\x59\x0f\xa0".to_vec();
    body.resize(body.len() + 4000, 0);
    rig.give_all(peer, &frame(&Frame::Control(&body)));
    assert_eq!(rig.session.poll_ask().map(|ask| ask.request), Some(7));
}

#[test]
fn a_ping_is_answered_with_its_token() {
    let mut rig = Rig::new(limits());
    let peer = rig.attach(admission(1));
    rig.give_all(peer, &[vec![0, 0], frame(&Frame::Ping { token: b"xyz" }), vec![0]].concat());
    assert_eq!(rig.take(peer), [Seen::Pong(b"xyz".to_vec())]);
}

#[test]
fn frames_may_come_in_any_pieces() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(admission(1));
    let reader = rig.attach(admission(2));
    rig.subscribe(reader, "a");
    let id = rig.open(publisher, "a");
    let bytes: Vec<u8> = (0..20).flat_map(|number| counted(id, &[number; 30])).collect();
    let mut held = Vec::new();
    for piece in bytes.chunks(7) {
        held.extend_from_slice(piece);
        let consumed = rig.give(publisher, &held).consumed;
        held.drain(..consumed);
    }
    assert!(held.is_empty());
    assert_eq!(numbers(&rig.take(reader)), (0..20).collect::<Vec<_>>());
}

// EMIT

#[test]
fn emit_publishes_by_name_and_answers_where_asked() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(admission(1));
    let reader = rig.attach(admission(2));
    rig.subscribe(reader, "a/#");
    let seen = rig.emit(publisher, "a/b", DataFlags::COUNTED, &[1]);
    assert_eq!(seen, [Seen::Ok { id: None, count: None, text: None }]);
    let quiet = control::Emit { topic: "a/c", data: &[2], ..Default::default() };
    rig.give_all(publisher, &control(quiet));
    assert_eq!(rig.take(publisher), []);
    assert_eq!(numbers(&rig.take(reader)), [1, 2]);
}

#[test]
fn a_wrong_emit_is_answered_whether_asked_or_not_and_the_link_stays() {
    let mut rig = Rig::new(Limits { payload: 4, ..limits() });
    for (topic, data, code) in [
        ("a/+", &[1][..], ErrorCode::BadTopic),
        ("b", &[1], ErrorCode::Forbidden),
        ("a", &[1; 5], ErrorCode::PayloadTooLong),
    ] {
        let peer = rig.attach(allowed(1, &["a"], &[]));
        assert_eq!(refusal(&rig.emit(peer, topic, DataFlags::NONE, data)), Some(code));
        rig.give_all(peer, &control(control::Emit { topic, data, ..Default::default() }));
        assert_eq!(rig.take(peer), [Seen::Error { request: Some(0), code }]);
        assert!(!rig.is_last(peer));
    }
}

// the past

#[test]
fn the_last_value_comes_first_and_an_empty_one_clears_it() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(admission(1));
    let id = rig.open(publisher, "a");
    let kept = |payload: &[u8]| data(id, DataFlags::KEEP, payload);
    rig.give_all(publisher, &[kept(&[1]), kept(&[2]), plain(id, &[3])].concat());
    let heard = |rig: &mut Rig, flags| {
        let reader = rig.attach(admission(2));
        let topic = "a";
        numbers(
            &rig.subscribe_with(reader, control::Subscribe { topic, flags, ..Default::default() }),
        )
    };
    assert_eq!(heard(&mut rig, None), [2]);
    assert_eq!(heard(&mut rig, Some(options::NO_LAST)), NOTHING);
    rig.give_all(publisher, &kept(&[]));
    assert_eq!(heard(&mut rig, None), NOTHING);
}

#[test]
fn history_is_by_count_and_age_and_says_when_each_was() {
    let mut rig = Rig::new(keeping(10));
    let publisher = rig.attach(admission(1));
    let reader = rig.attach(Admission { flags: features::TIME, ..admission(2) });
    let id = rig.open(publisher, "a");
    let start = rig.now().unix_ms;
    for number in 0..4 {
        rig.give_all(publisher, &plain(id, &[number]));
        rig.pass(100);
    }
    let ask = |rig: &mut Rig, count, age| {
        let seen =
            rig.history(reader, control::History { topic: "+", count, age, ..Default::default() });
        let found = numbers(&seen);
        let expected = Seen::Ok { id: None, count: Some(found.len() as u64), text: None };
        assert_eq!(seen.last(), Some(&expected));
        found
    };
    assert_eq!(ask(&mut rig, None, None), [0, 1, 2, 3]);
    assert_eq!(ask(&mut rig, Some(2), None), [2, 3]);
    assert_eq!(ask(&mut rig, None, Some(200)), [2, 3]);
    assert_eq!(ask(&mut rig, Some(1), Some(200)), [3]);
    assert_eq!(ask(&mut rig, Some(0), None), NOTHING);
    let seen =
        rig.history(reader, control::History { topic: "a", count: Some(2), ..Default::default() });
    let expected = [
        Seen::Topic(1, "a".into()),
        Seen::Time(start + 200),
        Seen::Data(1, vec![2]),
        Seen::Time(start + 300),
        Seen::Data(1, vec![3]),
    ];
    assert_eq!(seen[..5], expected);
}

#[test]
fn a_subscription_may_begin_in_the_past() {
    let mut rig = Rig::new(keeping(10));
    let publisher = rig.attach(admission(1));
    let reader = rig.attach(admission(2));
    let id = rig.open(publisher, "a");
    (0..5).for_each(|number| rig.give_all(publisher, &plain(id, &[number])));
    let from_past = control::Subscribe { topic: "a", count: Some(3), ..Default::default() };
    assert_eq!(numbers(&rig.subscribe_with(reader, from_past)), [2, 3, 4]);
    rig.give_all(publisher, &plain(id, &[5]));
    assert_eq!(numbers(&rig.take(reader)), [5]);
    assert_eq!(rig.ledger().queued(), 0);
}

#[test]
fn the_clock_is_told_to_those_who_ask_when_it_changed() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(admission(1));
    let reader = rig.attach(Admission { flags: features::TIME, ..admission(2) });
    rig.subscribe(reader, "a");
    let id = rig.open(publisher, "a");
    let start = rig.now().unix_ms;
    rig.give_all(publisher, &[plain(id, &[1]), plain(id, &[2])].concat());
    rig.give_all(publisher, &plain(id, &[3]));
    rig.pass(5);
    rig.give_all(publisher, &plain(id, &[4]));
    let expected = [
        Seen::Topic(1, "a".into()),
        Seen::Time(start),
        Seen::Data(1, vec![1]),
        Seen::Data(1, vec![2]),
        Seen::Data(1, vec![3]),
        Seen::Time(start + 5),
        Seen::Data(1, vec![4]),
    ];
    assert_eq!(rig.take(reader), expected);
}

#[test]
fn retained_messages_expire_by_themselves() {
    let mut rig = Rig::new(keeping(10));
    let publisher = rig.attach(admission(1));
    let id = rig.open(publisher, "a");
    rig.give_all(publisher, &plain(id, &[1]));
    rig.pass(6000);
    rig.give_all(publisher, &plain(id, &[2]));
    rig.pass(3000);
    assert_eq!(rig.session.figures().retained, 2);
    rig.pass(2000);
    assert_eq!(rig.session.figures().retained, 1);
    rig.pass(6000);
    assert_eq!(rig.session.figures().retained, 0);
    assert_eq!(rig.session.next_timeout(), None);
}

#[test]
fn no_age_and_no_end_are_ages_too() {
    for (age_ms, retained) in [(0, 0), (u64::MAX, 1)] {
        let retention = Retention { messages: 10, age_ms, bytes: 4096 };
        let mut rig = Rig::with_budget(Limits { retention, ..limits() }, 16 * 1024);
        let publisher = rig.attach(admission(1));
        let id = rig.open(publisher, "a");
        rig.give_all(publisher, &plain(id, &[1]));
        let now = rig.now().mono;
        rig.session.handle_timeout(now);
        rig.pass(1_000_000);
        assert_eq!(rig.session.figures().retained, retained);
        while rig.session.evict_oldest() {}
        assert_eq!(rig.session.figures().retained, 0);
    }
}

#[test]
fn a_full_budget_evicts_the_oldest_first() {
    for age_ms in [10_000, 1_000_000] {
        let retention = Retention { messages: 100, age_ms, bytes: 4096 };
        let mut rig = Rig::with_budget(Limits { retention, ..limits() }, 20_000);
        let publisher = rig.attach(admission(1));
        let ids = ["a", "b", "c", "d", "e", "f"].map(|name| rig.open(publisher, name));
        // a is written to all the time, yet what it has is never the oldest for long
        for round in 0..50u8 {
            let id = ids[usize::from(round) % ids.len()];
            rig.give_all(publisher, &plain(id, &[round; 900]));
            rig.pass(700);
            let mut held = Vec::new();
            for id in ids {
                let log = rig.session.topics.get(id).and_then(|topic| topic.log());
                let Some(log) = log else { continue };
                log.replay(u64::MAX, Instant::default(), |entry| held.push(entry.frames[4]));
            }
            held.sort_unstable();
            assert!(held.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{held:?}");
            if age_ms > 100_000 {
                assert_eq!(held.last(), Some(&round));
            }
            assert!(rig.budget.used() <= rig.budget.limit());
        }
        let figures = rig.session.figures();
        assert!(figures.evicted > 0 || age_ms < 100_000);
    }
}

#[test]
fn what_makes_room_for_its_own_topic_is_counted_once() {
    let retention = Retention { messages: 100, age_ms: 10_000, bytes: 1 << 20 };
    let mut rig = Rig::with_budget(Limits { retention, ..limits() }, 12_000);
    let publisher = rig.attach(admission(1));
    let id = rig.open(publisher, "a");
    for number in 0..40 {
        rig.give_all(publisher, &data(id, DataFlags::KEEP, &[number; 1000]));
        rig.pass(1);
        let log = rig.session.topics.get(id).and_then(|topic| topic.log());
        let mut held = Vec::new();
        if let Some(log) = log {
            log.replay(u64::MAX, Instant::default(), |entry| held.push(entry.frames[4]));
        }
        assert!(held.is_sorted_by(|a, b| a < b), "nothing is retained twice: {held:?}");
        assert_eq!(rig.session.figures().retained, held.len() as u64);
    }
    assert!(rig.session.figures().evicted > 0);
    rig.pass(20_000);
    assert_eq!(rig.session.figures().retained, 0);
}

// slow readers

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

fn numbers_of_quick(slow: &mut Slow) -> Vec<u8> {
    let seen = slow.rig.take(slow.quick);
    assert_eq!(gaps(&seen), 0);
    numbers(&seen)
}

#[test]
fn a_slow_reader_loses_the_oldest_and_is_told_while_others_lose_nothing() {
    let mut slow = Slow::new(with_policy(1, WhenFull::DropOldest));
    slow.publish(0..50, DataFlags::NONE);
    let seen = slow.rig.take(slow.slow);
    let found = numbers(&seen);
    assert_eq!(found, (50 - u8::try_from(found.len()).expect("few")..50).collect::<Vec<_>>());
    assert_eq!(gaps(&seen) + found.len() as u64, 50);
    assert_eq!(slow.rig.dropped(GapCause::Overflow), gaps(&seen));
    assert_eq!(slow.rig.ledger().queued(), 0);
}

#[test]
fn under_latest_a_slow_reader_gets_the_newest_of_each_topic() {
    let mut slow = Slow::new(with_policy(1, WhenFull::Latest));
    slow.publish(0..1, DataFlags::NONE);
    slow.rig.take_some(slow.slow, 1);
    slow.publish(1..50, DataFlags::NONE);
    let Slow { mut rig, slow, .. } = slow;
    let rest = rig.take_bytes(slow);
    let seen = see(&[
        frame(&Frame::Topic { id: slow_topic(), name: "a", schema: None })[..1].to_vec(),
        rest,
    ]
    .concat());
    assert_eq!(numbers(&seen), [49]);
    assert_eq!(gaps(&seen), 49);
    assert_eq!(rig.dropped(GapCause::Superseded) + rig.dropped(GapCause::Overflow), 49);
}

fn slow_topic() -> TopicId {
    TopicId::new(1).expect("not 0")
}

#[test]
fn under_hold_the_publisher_waits_and_nothing_counted_is_lost() {
    let mut slow = Slow::new(with_policy(1, WhenFull::Hold));
    let mut heard = Vec::new();
    let mut next = 0;
    while next < 50 {
        let taken = slow.publish(next..50, DataFlags::COUNTED);
        next = if taken == u8::MAX { 50 } else { next + taken };
        if next < 50 {
            assert!(taken > 0, "{next}");
            while slow.rig.session.poll_wake().is_some() {}
            heard.extend(numbers(&slow.rig.take(slow.slow)));
            assert!(slow.rig.is_woken(slow.publisher));
        }
    }
    heard.extend(numbers(&slow.rig.take(slow.slow)));
    assert_eq!(heard, (0..50).collect::<Vec<_>>());
    assert_eq!((slow.rig.ledger().dropped_total(), slow.rig.ledger().queued()), (0, 0));
}

#[test]
fn under_hold_what_goes_before_a_message_takes_none_of_its_room() {
    let mut rig = Rig::new(Limits { outbox: 60, payload: 10, ..limits() });
    let publisher = rig.attach(admission(1));
    let flags = features::TIME;
    let reader = rig.attach(Admission { flags, ..with_policy(2, WhenFull::Hold) });
    rig.subscribe(reader, "#");
    let ids = ["a/rather/long/name", "b/rather/long/name", "c/rather/long/name"]
        .map(|name| rig.open(publisher, name));
    let mut heard = Vec::new();
    for number in 0..30u8 {
        let bytes = counted(ids[usize::from(number % 3)], &[number; 10]);
        while rig.give(publisher, &bytes).is_blocked {
            let seen = rig.take(reader);
            assert!(!seen.is_empty(), "it waits for nothing");
            heard.extend(numbers(&seen));
        }
        rig.pass(1);
    }
    heard.extend(numbers(&rig.take(reader)));
    assert_eq!(heard, (0..30).collect::<Vec<_>>());
    assert_eq!(rig.ledger().dropped_total(), 0);
}

#[test]
fn under_hold_messages_that_ask_for_no_delivery_are_dropped_and_told() {
    let mut slow = Slow::new(with_policy(1, WhenFull::Hold));
    slow.publish(0..50, DataFlags::NONE);
    let seen = slow.rig.take_until_drained(slow.slow);
    assert_eq!(numbers(&seen).len() as u64 + gaps(&seen), 50);
    assert_eq!(numbers(&seen)[0], 0);
}

#[test]
fn a_publisher_is_woken_when_the_reader_it_waits_for_unsubscribes() {
    let mut slow = Slow::new(with_policy(1, WhenFull::Hold));
    assert!(slow.publish(0..50, DataFlags::COUNTED) < 50);
    let Slow { mut rig, publisher, slow, .. } = slow;
    while rig.session.poll_wake().is_some() {}
    let request = rig.next_request();
    let topic = "a";
    rig.give_all(slow, &control(control::Unsubscribe { request, topic, ..Default::default() }));
    assert!(rig.is_woken(publisher));
}

#[test]
fn a_publisher_is_woken_when_the_reader_it_waits_for_acknowledges() {
    let held = Admission { linger: Some(10), ..with_policy(1, WhenFull::Hold) };
    let mut slow = Slow::new(held);
    let taken = slow.publish(0..50, DataFlags::COUNTED);
    let Slow { mut rig, publisher, slow, id, .. } = slow;
    rig.take(slow);
    let next = counted(id, &[taken; 47]);
    assert!(rig.give(publisher, &next).is_blocked, "written is not enough");
    while rig.session.poll_wake().is_some() {}
    rig.give_all(slow, &ack(taken.into()));
    assert!(rig.is_woken(publisher));
    rig.give_all(publisher, &next);
}

#[test]
fn a_publisher_is_woken_when_the_reader_it_waits_for_is_gone() {
    let mut slow = Slow::new(with_policy(1, WhenFull::Hold));
    let taken = slow.publish(0..50, DataFlags::COUNTED);
    let Slow { mut rig, publisher, slow, quick, id } = slow;
    let now = rig.now().mono;
    rig.session.detach(now, slow);
    assert!(rig.is_woken(publisher));
    rig.give_all(publisher, &counted(id, &[taken; 47]));
    assert_eq!(numbers(&rig.take(quick)), [taken]);
}

#[test]
fn a_reader_that_is_being_closed_holds_nobody_up() {
    let mut slow = Slow::new(with_policy(1, WhenFull::Hold));
    let taken = slow.publish(0..50, DataFlags::COUNTED);
    let Slow { mut rig, publisher, slow, id, .. } = slow;
    rig.give(slow, &[0xb0, 0]);
    assert!(rig.is_woken(publisher));
    rig.give_all(publisher, &counted(id, &[taken; 47]));
    assert_eq!(rig.dropped(GapCause::ReaderGone), 1);
    let seen = rig.take(slow);
    assert_eq!(refusal(&seen), Some(ErrorCode::BadFrame), "nothing comes behind it: {seen:?}");
}

#[test]
fn a_message_that_no_outbox_can_hold_is_not_waited_for() {
    let mut slow = Slow::new(with_policy(1, WhenFull::Hold));
    slow.rig.session.set_limits(Limits { payload: 2000, ..limits() });
    let long = counted(slow.id, &[7; 1500]);
    let mut rounds = 0;
    while slow.rig.give(slow.publisher, &long).is_blocked {
        slow.rig.take(slow.slow);
        rounds += 1;
        assert!(rounds < 10, "it waits for ever");
    }
    assert_eq!(gaps(&slow.rig.take_until_drained(slow.slow)), 1);
}

#[test]
fn an_outbox_is_never_too_small_for_one_message() {
    let mut rig = Rig::new(Limits { outbox: 10, payload: 500, ..limits() });
    let publisher = rig.attach(admission(1));
    for policy in 0..4 {
        let reader = rig.attach(with_policy(2, WhenFull::ALL[policy]));
        rig.subscribe(reader, "a");
        let id = rig.open(publisher, "a");
        rig.give_all(publisher, &counted(id, &[9; 500]));
        assert_eq!(numbers(&rig.take(reader)), [9]);
        let now = rig.now().mono;
        rig.session.detach(now, reader);
    }
    assert_eq!(rig.ledger().dropped_total(), 0);
}

#[test]
fn who_waits_for_memory_is_woken_though_nothing_tells_of_it() {
    let mut rig = Rig::with_budget(limits(), 30_000);
    let publisher = rig.attach(admission(1));
    let reader = rig.attach(with_policy(2, WhenFull::Hold));
    rig.subscribe(reader, "a");
    let id = rig.open(publisher, "a");
    // another session has it all
    let budget = Arc::clone(&rig.budget);
    let rest = budget.limit() - budget.used();
    assert!(budget.try_take(rest));
    let bytes = counted(id, &[1; 1000]);
    assert!(rig.give(publisher, &bytes).is_blocked);
    while rig.session.poll_wake().is_some() {}
    budget.give_back(rest);
    rig.pass(2000);
    assert!(rig.is_woken(publisher));
    rig.give_all(publisher, &bytes);
    assert_eq!(numbers(&rig.take(reader)), [1]);
}

#[test]
fn under_close_a_slow_reader_is_told_and_closed() {
    let mut slow = Slow::new(Admission { linger: Some(10), ..with_policy(1, WhenFull::Close) });
    slow.publish(0..50, DataFlags::NONE);
    let Slow { mut rig, slow, .. } = slow;
    assert!(rig.is_last(slow));
    let seen = rig.take(slow);
    assert!(matches!(
        seen.iter().rfind(|seen| !matches!(seen, Seen::Gap { .. })),
        Some(Seen::Bye(ByeReason::TooSlow))
    ));
    let now = rig.now().mono;
    rig.session.detach(now, slow);
    assert_eq!(rig.session.figures().lingering, 0);
    let ledger = rig.ledger();
    assert_eq!((ledger.routed, ledger.queued()), (100, 0));
}

#[test]
fn under_close_a_reader_that_missed_something_does_not_resume() {
    let mut slow = Slow::new(Admission { linger: Some(10), ..with_policy(1, WhenFull::Close) });
    let now = slow.rig.now();
    slow.rig.session.detach(now.mono, slow.slow);
    slow.publish(0..50, DataFlags::NONE);
    let back = Admission { linger: Some(10), ..with_policy(1, WhenFull::Close) };
    let key = slow.rig.session.attach(now, back).expect("room");
    let seen = slow.rig.take_until_drained(key);
    let [Seen::Welcome { resumed: false, taken: 0 }, Seen::Gap { topic: None, count, cause }] =
        seen[..]
    else {
        panic!("{seen:?}")
    };
    let ledger = slow.rig.ledger();
    assert_eq!((cause, ledger.queued()), (GapCause::LinkLost, 0));
    assert_eq!(count, ledger.routed - ledger.delivered, "it is told of all that it did not get");
}

#[test]
fn a_peer_that_only_asks_and_does_not_read_is_not_read_either() {
    for policy in 0..4 {
        let mut rig = Rig::new(Limits { outbox: 500, ..limits() });
        let peer = rig.attach(with_policy(1, WhenFull::ALL[policy]));
        let mut asked = 0;
        loop {
            let progress = rig.give(peer, &frame(&Frame::Ping { token: &[1; 16] }));
            if progress.is_blocked {
                break;
            }
            asked += 1;
            assert!(asked < 100, "it is read for ever");
        }
        while rig.session.poll_wake().is_some() {}
        assert_eq!(rig.take(peer).len(), asked);
        assert!(rig.is_woken(peer), "{:?}", WhenFull::ALL[policy]);
        rig.give_all(peer, &frame(&Frame::Ping { token: &[] }));
    }
}

#[test]
fn a_choked_peer_is_woken_even_if_only_outdated_messages_went() {
    let mut slow = Slow::new(with_policy(1, WhenFull::Latest));
    slow.publish(0..5, DataFlags::NONE);
    slow.rig.take_some(slow.slow, 1);
    let ping = frame(&Frame::Ping { token: &[1; 16] });
    slow.publish(5..10, DataFlags::NONE);
    while !slow.rig.give(slow.slow, &ping).is_blocked {}
    let Slow { mut rig, slow, .. } = slow;
    while rig.session.poll_wake().is_some() {}
    rig.take_bytes(slow);
    assert!(rig.is_woken(slow));
}

#[test]
fn a_publisher_that_does_not_read_piles_up_no_acknowledgements() {
    let mut rig = Rig::new(Limits { outbox: 200, payload: 100, ..limits() });
    let publisher = rig.attach(admission(1));
    let id = rig.open(publisher, "a");
    for _ in 0..10_000 {
        rig.give_all(publisher, &counted(id, &[1]));
    }
    assert!(rig.session.output(publisher).expect("there").bytes.len() < 2000);
    let mut last = None;
    while rig.session.has_output(publisher) {
        last = rig.take(publisher).pop();
    }
    assert_eq!(last, Some(Seen::Ack { taken: 10_000, durable: None, central: None }));
}

#[test]
fn a_reader_that_does_not_read_piles_up_no_clocks() {
    for policy in 0..4 {
        let flags = features::TIME;
        let mut slow = Slow::new(Admission { flags, ..with_policy(1, WhenFull::ALL[policy]) });
        for number in 0..2000u32 {
            let [number, ..] = number.to_le_bytes();
            slow.rig.give_all(slow.publisher, &plain(slow.id, &[number; 47]));
            slow.rig.take(slow.quick);
            slow.rig.pass(1);
        }
        let held = slow.rig.session.output(slow.slow).expect("there").bytes.len();
        assert!(held < 1500, "{held} bytes under {:?}", WhenFull::ALL[policy]);
    }
}

// time

#[test]
fn a_peer_that_is_not_read_is_not_silent_and_is_told_that_its_link_lives() {
    let mut rig = Rig::new(limits());
    let peer = rig.attach(Admission { keepalive: Some(2), ..lingering(1) });
    for _ in 0..30 {
        for _ in 0..2 {
            rig.pass(1_000);
            rig.session.hold_off(rig.now().mono, peer);
        }
        // within each time after which it would ask
        let seen = rig.take(peer);
        assert!(!seen.is_empty() && seen.iter().all(|seen| *seen == Seen::Ping), "{seen:?}");
    }
    // once it is read again its own signs count
    rig.pass(2_500);
    assert_eq!(rig.take(peer), [Seen::Ping]);
    rig.pass(2_000);
    assert_eq!(rig.take(peer), [Seen::Bye(ByeReason::Silent)]);
}

#[test]
fn an_identity_that_is_no_more_has_no_peers() {
    let mut rig = Rig::new(limits());
    let of = |identity: &str, epoch| Admission { identity: identity.into(), ..lingering(epoch) };
    let (anna, away, bert) =
        (rig.attach(of("anna", 1)), rig.attach(of("anna", 2)), rig.attach(of("bert", 3)));
    rig.session.detach(rig.now().mono, away);
    rig.session.remove_identity("anna");
    assert_eq!(rig.take(anna), [Seen::Bye(ByeReason::Removed)]);
    rig.session.detach(rig.now().mono, anna);
    assert_eq!(rig.take(bert), []);
    let figures = rig.session.figures();
    assert_eq!((figures.peers, figures.lingering), (1, 0));
}

#[test]
fn a_silent_peer_is_asked_and_then_closed() {
    let mut rig = Rig::new(limits());
    let peer = rig.attach(Admission { keepalive: Some(10), ..lingering(1) });
    rig.pass(9_500);
    assert_eq!(rig.take(peer), []);
    rig.pass(1_000);
    assert_eq!(rig.take(peer), [Seen::Ping]);
    rig.pass(9_000);
    assert_eq!(rig.take(peer), []);
    rig.pass(1_000);
    assert_eq!(rig.take(peer), [Seen::Bye(ByeReason::Silent)]);
    assert!(rig.is_last(peer));
    let now = rig.now().mono;
    rig.session.detach(now, peer);
    assert_eq!(rig.session.figures().lingering, 1, "it may come back");
}

#[test]
fn a_peer_that_says_something_stays() {
    let mut rig = Rig::new(limits());
    let peer = rig.attach(Admission { keepalive: Some(10), ..admission(1) });
    for _ in 0..20 {
        rig.pass(10_500);
        assert_eq!(rig.take(peer), [Seen::Ping]);
        rig.give_all(peer, &frame(&Frame::Pong { token: &[] }));
        rig.pass(4_000);
        rig.give_all(peer, &[0]);
    }
}

#[test]
fn a_link_that_takes_no_bytes_is_closed_when_its_time_is_up() {
    for keepalive in [0, 2] {
        let mut rig = Rig::new(Limits { stall_ms: 30_000, ..limits() });
        let publisher = rig.attach(admission(1));
        let reader = rig.attach(Admission { keepalive: Some(keepalive), ..admission(2) });
        rig.subscribe(reader, "a");
        let id = rig.open(publisher, "a");
        for _ in 0..7 {
            rig.pass(1_000);
            rig.give_all(reader, &[0]);
        }
        rig.give_all(publisher, &plain(id, &[1]));
        for _ in 0..29 {
            rig.pass(1_000);
            rig.give_all(reader, &[0]);
            assert!(!matches!(rig.session.output(reader), Ok(Output { is_last: true, .. })));
        }
        for _ in 0..32 {
            rig.pass(1_000);
            rig.give_all(reader, &[0]);
        }
        assert!(rig.is_last(reader));
        assert_eq!(rig.take(reader).last(), Some(&Seen::Bye(ByeReason::TooSlow)));
    }
}

#[test]
fn a_link_that_takes_a_byte_now_and_then_has_not_stalled() {
    let mut rig = Rig::new(Limits { stall_ms: 3_000, outbox: 100, ..limits() });
    let reader = rig.attach(admission(2));
    for _ in 0..10 {
        rig.give_all(reader, &frame(&Frame::Ping { token: &[1; 8] }));
    }
    for _ in 0..50 {
        rig.pass(2_000);
        assert_eq!(rig.take_some(reader, 1).len(), 1);
        assert!(!rig.is_last(reader));
    }
}

#[test]
fn without_a_stall_limit_no_link_is_closed_for_it() {
    let mut rig = Rig::new(limits());
    let reader = rig.attach(Admission { keepalive: Some(2), ..admission(2) });
    rig.give_all(reader, &frame(&Frame::Ping { token: &[] }));
    for _ in 0..100 {
        rig.pass(1_000);
        rig.give_all(reader, &[0]);
        assert!(!rig.is_last(reader));
    }
}

// coming back

#[test]
fn a_reader_that_comes_back_gets_the_counted_frames_it_lacks_and_no_other_twice() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(admission(1));
    let reader = rig.attach(lingering(2));
    rig.subscribe(reader, "a");
    let id = rig.open(publisher, "a");
    let (one, two) = ([counted(id, &[1]), plain(id, &[2]), counted(id, &[3])], counted(id, &[4]));
    rig.give_all(publisher, &one.concat());
    assert_eq!(numbers(&rig.take(reader)), [1, 2, 3]);
    let now = rig.now();
    rig.session.detach(now.mono, reader);
    assert_eq!((rig.session.figures().peers, rig.session.figures().lingering), (1, 1));
    assert_eq!(rig.session.output(reader), Err(Gone));
    rig.give_all(publisher, &two);
    let reader = rig.session.attach(now, Admission { taken: 1, ..lingering(2) }).expect("room");
    let seen = rig.take(reader);
    assert_eq!(numbers(&seen), [3, 4]);
    assert_eq!((rig.session.figures().peers, rig.session.figures().lingering), (2, 0));
    rig.give_all(reader, &ack(3));
    assert_eq!((rig.ledger().routed, rig.ledger().delivered), (4, 4));
}

#[test]
fn a_publisher_that_comes_back_hears_what_was_taken() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(lingering(1));
    let reader = rig.attach(admission(2));
    rig.subscribe(reader, "a");
    let id = rig.open(publisher, "a");
    let frames: Vec<_> = (0..5).map(|number| counted(id, &[number])).collect();
    let cut = frames[..3].concat().len() + 2;
    assert_eq!(rig.give(publisher, &frames.concat()[..cut]).consumed, cut - 2);
    let now = rig.now();
    rig.session.detach(now.mono, publisher);
    let publisher = rig.session.attach(now, lingering(1)).expect("room");
    assert_eq!(rig.take(publisher), [Seen::Welcome { resumed: true, taken: 3 }]);
    // what was open is still open
    rig.give_all(publisher, &frames[3..].concat());
    assert_eq!(numbers(&rig.take(reader)), [0, 1, 2, 3, 4]);
    assert_eq!(rig.take(publisher), [Seen::Ack { taken: 5, durable: None, central: None }]);
}

#[test]
fn welcome_is_the_first_frame_also_where_something_was_lost() {
    let mut slow =
        Slow::new(Admission { linger: Some(10), ..with_policy(1, WhenFull::DropOldest) });
    slow.publish(0..5, DataFlags::COUNTED);
    let now = slow.rig.now();
    let seen = slow.rig.take(slow.slow);
    assert_eq!(numbers(&seen), [0, 1, 2, 3, 4]);
    slow.rig.session.detach(now.mono, slow.slow);
    slow.publish(5..50, DataFlags::COUNTED);
    let back = Admission { linger: Some(10), taken: 2, ..with_policy(1, WhenFull::DropOldest) };
    let key = slow.rig.session.attach(now, back).expect("room");
    slow.publish(50..60, DataFlags::COUNTED);
    let seen = slow.rig.take(key);
    assert!(matches!(seen[0], Seen::Welcome { resumed: true, .. }), "{seen:?}");
    assert!(matches!(seen[1], Seen::Topic(1, _)), "{seen:?}");
    assert_eq!(2 + gaps(&seen) + numbers(&seen).len() as u64, 60);
    assert!(slow.rig.dropped(GapCause::LinkLost) > 0);
}

#[test]
fn a_gap_names_no_topic_that_its_reader_has_not_heard_of() {
    let mut rig = Rig::new(Limits { outbox: 125, payload: 20, ..limits() });
    let publisher = rig.attach(admission(1));
    let reader = rig.attach(with_policy(2, WhenFull::Latest));
    rig.subscribe(reader, "#");
    let [a, b] = ["a", "b"].map(|name| rig.open(publisher, name));
    rig.give_all(publisher, &plain(a, &[0; 9]));
    let mut bytes = rig.take_some(reader, 7);
    rig.give_all(publisher, &plain(a, &[1; 9]));
    for number in 2..9 {
        rig.give_all(publisher, &plain(b, &[number; 9]));
    }
    bytes.extend(rig.take_bytes(reader));
    let mut known = Vec::new();
    for seen in see(&bytes) {
        match seen {
            Seen::Topic(id, _) => known.push(id),
            Seen::Gap { topic: Some(id), .. } | Seen::Data(id, _) => {
                assert!(known.contains(&id), "{id} in {:?}", see(&bytes));
            }
            _ => {}
        }
    }
}

#[test]
fn who_does_not_come_back_in_time_is_booked_as_gone() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(admission(1));
    let reader = rig.attach(lingering(2));
    rig.subscribe(reader, "a");
    let id = rig.open(publisher, "a");
    rig.give_all(publisher, &[counted(id, &[1]), plain(id, &[2])].concat());
    rig.take(reader);
    rig.give_all(publisher, &plain(id, &[3]));
    let now = rig.now().mono;
    rig.session.detach(now, reader);
    rig.pass(9_000);
    assert_eq!(rig.session.figures().lingering, 1);
    rig.pass(2_000);
    assert_eq!(rig.session.figures().lingering, 0);
    let ledger = rig.ledger();
    assert_eq!((ledger.routed, ledger.delivered), (3, 1));
    assert_eq!(rig.dropped(GapCause::ReaderGone), 2);
    rig.give_all(publisher, &plain(id, &[4]));
    assert_eq!(rig.ledger().routed, 3);
}

#[test]
fn a_wish_for_signs_of_life_is_limited() {
    for (limit, wish, granted) in [
        (60, None, 60),
        (60, Some(20), 20),
        (60, Some(61), 60),
        (60, Some(0), 60),
        (60, Some(1), 2),
        (1, Some(5), 1),
        (0, None, 0),
        (0, Some(0), 0),
        (0, Some(20), 20),
        (0, Some(u32::MAX), 3600),
    ] {
        let mut rig = Rig::new(Limits { keepalive: limit, ..limits() });
        let wish_of = Admission { keepalive: wish, ..admission(1) };
        let peer = rig.session.attach(rig.now(), wish_of).expect("room");
        let bytes = rig.take_bytes(peer);
        let Ok(Some((Frame::Control(body), _))) = Frame::decode(&bytes, MAX_BODY) else { panic!() };
        let Ok(Control::Welcome(welcome)) = Control::decode(body) else { panic!("{body:x?}") };
        assert_eq!(welcome.keepalive, Some(granted), "{wish:?} of {limit}");
    }
}

#[test]
fn a_wish_to_linger_is_limited() {
    let mut rig = Rig::new(Limits { linger: 5, ..limits() });
    let peer = rig.attach(Admission { linger: Some(u32::MAX), ..admission(1) });
    let now = rig.now().mono;
    rig.session.detach(now, peer);
    rig.pass(6_000);
    assert_eq!(rig.session.figures().lingering, 0);
}

#[test]
fn a_newer_link_of_the_same_name_replaces_the_old_one() {
    let mut rig = Rig::new(limits());
    let named = |epoch| Admission { name: "panel".into(), ..lingering(epoch) };
    let old = rig.attach(named(1));
    rig.subscribe(old, "a");
    let new = rig.attach(named(2));
    let now = rig.now();
    assert_eq!(rig.session.output(old), Err(Gone));
    assert_eq!(rig.session.handle_bytes(now, old, &[0]), Err(Gone));
    assert!(rig.session.has_output(old), "its link is to look, and finds itself gone");
    assert!(rig.is_woken(old));
    rig.session.detach(now.mono, old);
    assert!(rig.session.output(new).is_ok(), "the old link's end is not the new one's");
    assert_eq!((rig.session.figures().peers, rig.session.figures().lingering), (1, 0));
    let other = rig.attach(Admission { identity: "somebody".into(), ..named(3) });
    assert!(rig.session.output(new).is_ok(), "another identity's name is another name");
    assert!(rig.session.output(other).is_ok());
}

#[test]
fn a_resume_takes_over_from_a_link_that_is_still_there() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(admission(1));
    let old = rig.attach(lingering(2));
    rig.subscribe(old, "a");
    let id = rig.open(publisher, "a");
    rig.give_all(publisher, &counted(id, &[1]));
    let new = rig.session.attach(rig.now(), lingering(2)).expect("room");
    assert_eq!(rig.session.output(old), Err(Gone));
    assert!(rig.is_woken(old));
    assert_eq!(numbers(&rig.take(new)), [1]);
    let now = rig.now().mono;
    rig.session.detach(now, old);
    assert_eq!((rig.session.figures().peers, rig.session.figures().lingering), (2, 0));
}

#[test]
fn a_peer_whose_count_cannot_be_begins_anew() {
    let mut rig = Rig::new(limits());
    let peer = rig.attach(lingering(1));
    let now = rig.now();
    rig.session.detach(now.mono, peer);
    let peer = rig.session.attach(now, Admission { taken: 5, ..lingering(1) }).expect("room");
    assert_eq!(rig.take(peer), [Seen::Welcome { resumed: false, taken: 0 }]);
    assert_eq!((rig.session.figures().peers, rig.session.figures().lingering), (1, 0));
}

#[test]
fn peers_that_chose_the_same_epoch_do_not_disturb_each_other() {
    let mut rig = Rig::new(limits());
    let named = |name: &str| Admission { name: name.into(), ..lingering(7) };
    let keys = ["one", "two"].map(|name| rig.attach(named(name)));
    let now = rig.now();
    keys.iter().for_each(|&key| rig.session.detach(now.mono, key));
    for name in ["one", "two"] {
        let key = rig.session.attach(now, named(name)).expect("room");
        assert_eq!(rig.take(key), [Seen::Welcome { resumed: true, taken: 0 }]);
    }
}

#[test]
fn a_peer_that_says_bye_leaves_nothing() {
    let mut rig = Rig::new(limits());
    let peer = rig.attach(lingering(1));
    let now = rig.now().mono;
    rig.give(peer, &control(control::Bye::default()));
    assert!(rig.is_last(peer));
    rig.session.detach(now, peer);
    assert_eq!((rig.session.figures().peers, rig.session.figures().lingering), (0, 0));
}

#[test]
fn a_peer_that_says_it_restarts_finds_its_state() {
    let mut rig = Rig::new(limits());
    let peer = rig.attach(lingering(1));
    rig.open(peer, "a");
    let now = rig.now();
    let code = ByeReason::ShuttingDown.number();
    rig.give(peer, &control(control::Bye { code, ..Default::default() }));
    assert!(rig.is_last(peer));
    rig.session.detach(now.mono, peer);
    let peer = rig.session.attach(now, lingering(1)).expect("room");
    assert_eq!(rig.take(peer), [Seen::Welcome { resumed: true, taken: 0 }]);
}

#[test]
fn what_is_published_behind_a_bye_is_not_delivered_to_who_does_not_come_back() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(lingering(1));
    let reader = rig.attach(admission(2));
    rig.subscribe(reader, "a");
    let id = rig.open(publisher, "a");
    rig.session.close_all(ByeReason::ShuttingDown, Some(1000));
    let now = rig.now();
    rig.session.detach(now.mono, publisher);
    let publisher = rig.session.attach(now, lingering(1)).expect("room");
    rig.give_all(publisher, &plain(id, &[1]));
    assert!(matches!(rig.take(reader)[..], [Seen::Bye { .. }]), "BYE is the last frame");
    assert_eq!(rig.dropped(GapCause::ReaderGone), 1);
}

#[test]
fn who_comes_back_with_fewer_rights_has_no_more_than_those() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(admission(1));
    let peer = rig.attach(lingering(2));
    ["a", "b", "+"].iter().for_each(|filter| rig.subscribe(peer, filter));
    let [a, b] = ["a", "b"].map(|name| {
        rig.open(peer, name);
        rig.open(publisher, name)
    });
    let now = rig.now();
    rig.session.detach(now.mono, peer);
    let back = Admission { linger: Some(10), ..allowed(2, &["b"], &["b"]) };
    let peer = rig.session.attach(now, back).expect("room");
    assert_eq!(rig.take(peer), [Seen::Welcome { resumed: true, taken: 0 }]);
    rig.give_all(publisher, &[plain(a, &[1]), plain(b, &[2])].concat());
    assert_eq!(numbers(&rig.take(peer)), [2]);
    rig.give_all(peer, &plain(b, &[3]));
    assert_eq!(numbers(&rig.take(peer)), [3]);
    rig.give(peer, &plain(a, &[4]));
    assert_eq!(refusal(&rig.take(peer)), Some(ErrorCode::UnknownId));
}

#[test]
fn without_memory_to_say_welcome_a_state_waits_for_a_better_time() {
    let mut rig = Rig::with_budget(limits(), 100_000);
    let publisher = rig.attach(admission(1));
    let reader = rig.attach(lingering(2));
    rig.subscribe(reader, "a");
    let id = rig.open(publisher, "a");
    let now = rig.now();
    rig.session.detach(now.mono, reader);
    rig.give_all(publisher, &counted(id, &[1; 1000]));
    let budget = Arc::clone(&rig.budget);
    rig.session.evict_oldest();
    let rest = budget.limit() - budget.used();
    assert!(budget.try_take(rest));
    assert_eq!(rig.session.attach(now, lingering(2)), Err(AttachError::NoBudget));
    assert_eq!((rig.session.figures().peers, rig.session.figures().lingering), (1, 1));
    budget.give_back(rest);
    let reader = rig.session.attach(now, lingering(2)).expect("room");
    assert_eq!(numbers(&rig.take(reader)), [1]);
}

#[test]
fn a_resume_for_which_memory_almost_suffices_comes_to_an_end() {
    for free in 0..1200 {
        let mut rig = Rig::with_budget(limits(), 100_000);
        let publisher = rig.attach(admission(1));
        let reader = rig.attach(lingering(2));
        rig.subscribe(reader, "#");
        let now = rig.now();
        rig.session.detach(now.mono, reader);
        for topic in ["a/rather/long/name", "another/rather/long/name", "c"] {
            let id = rig.open(publisher, topic);
            rig.give_all(publisher, &counted(id, &[1; 300]));
            rig.take(publisher);
        }
        let rest = rig.budget.limit() - rig.budget.used() - free;
        assert!(rig.budget.try_take(rest));
        if let Ok(reader) = rig.session.attach(now, lingering(2)) {
            assert_eq!(numbers(&rig.take(reader)), [1, 1, 1]);
        }
        assert_eq!((rig.ledger().dropped_total(), rig.session.figures().topics), (0, 3));
        rig.budget.give_back(rest);
    }
}

#[test]
fn a_peer_gets_in_where_only_the_past_is_in_its_way() {
    let retention = Retention { messages: 1000, age_ms: 10_000, bytes: 1 << 20 };
    let mut rig = Rig::with_budget(Limits { retention, ..limits() }, 30_000);
    let publisher = rig.attach(lingering(1));
    let id = rig.open(publisher, "a");
    for _ in 0..100 {
        rig.give_all(publisher, &plain(id, &[1; 777]));
    }
    let now = rig.now();
    rig.session.detach(now.mono, publisher);
    for epoch in 1..20 {
        let key = rig.session.attach(now, lingering(epoch)).expect("what is retained gives way");
        assert_eq!(rig.take(key).len(), 1);
    }
}

#[test]
fn a_state_whose_peer_may_take_it_for_another_is_not_resumed() {
    let mut rig = Rig::new(limits());
    // a publisher comes back to a relay that was restarted, and does not hear of that: it would send
    // again what the old relay took, on ids that are not open
    let first = rig.session.attach(rig.now(), lingering(1)).expect("room");
    let second = rig.session.attach(rig.now(), lingering(1)).expect("room");
    assert_eq!(rig.session.output(first), Err(Gone));
    assert_eq!(rig.take(second), [Seen::Welcome { resumed: false, taken: 0 }]);
    let now = rig.now();
    rig.session.detach(now.mono, second);
    assert_eq!(rig.session.figures().lingering, 0);
    let third = rig.session.attach(now, lingering(1)).expect("room");
    assert_eq!(rig.take(third), [Seen::Welcome { resumed: false, taken: 0 }]);
    rig.give_all(third, &[0]);
    let fourth = rig.session.attach(now, lingering(1)).expect("room");
    assert_eq!(rig.take(fourth), [Seen::Welcome { resumed: true, taken: 0 }]);
}

#[test]
fn two_that_wait_for_each_other_get_each_others_acknowledgements() {
    let mut rig = Rig::new(Limits { outbox: 530, payload: 100, ..limits() });
    let held = |epoch| Admission { linger: Some(10), ..with_policy(epoch, WhenFull::Hold) };
    let peers = [1, 2].map(|epoch| rig.attach(held(epoch)));
    rig.subscribe(peers[0], "b");
    rig.subscribe(peers[1], "a");
    let ids = [rig.open(peers[0], "a"), rig.open(peers[1], "b")];
    let mut sent: [Vec<u8>; 2] = Default::default();
    for (peer, id) in [0, 1].into_iter().zip(ids) {
        sent[peer].extend((0..30).flat_map(|number| counted(id, &[number; 40])));
    }
    let (mut heard, mut rounds) = ([0u64; 2], 0);
    while heard != [30, 30] {
        for peer in [0, 1] {
            let consumed = rig.give(peers[peer], &sent[peer].clone()).consumed;
            sent[peer].drain(..consumed);
            let seen = rig.take(peers[peer]);
            heard[peer] += numbers(&seen).len() as u64;
            // behind all that it has to say
            sent[peer].extend(ack(heard[peer]));
        }
        rounds += 1;
        assert!(rounds < 50, "they wait for ever: {heard:?}");
    }
    assert_eq!(rig.ledger().dropped_total(), 0);
    for peer in [0, 1] {
        rig.give_all(peers[peer], &sent[peer].clone());
    }
    assert_eq!(rig.ledger().queued(), 0);
}

// acknowledgements

#[test]
fn a_batch_is_acknowledged_once() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(admission(1));
    let id = rig.open(publisher, "a");
    let batch = [counted(id, &[1]), plain(id, &[2]), counted(id, &[3])].concat();
    rig.give_all(publisher, &batch);
    let expected = |taken| [Seen::Ack { taken, durable: None, central: None }];
    assert_eq!(rig.take(publisher), expected(2));
    rig.give_all(publisher, &plain(id, &[4]));
    assert_eq!(rig.take(publisher), []);
    rig.give_all(publisher, &batch);
    assert_eq!(rig.take(publisher), expected(4));
}

/// A member that keeps topic `a`, a publisher that wants to know of it.
fn with_member(tier: Tier) -> (Rig, PeerKey, PeerKey, TopicId) {
    let mut rig = Rig::new(limits());
    let member = rig.attach(Admission { linger: Some(10), ..with_policy(9, WhenFull::Hold) });
    rig.session.make_member(member, tier);
    rig.subscribe(member, "a/#");
    let flags = features::ACK_DURABLE | features::ACK_CENTRAL;
    let publisher = rig.attach(Admission { flags, ..lingering(1) });
    let id = rig.open(publisher, "a");
    (rig, member, publisher, id)
}

#[test]
fn a_tier_nobody_offers_is_refused() {
    let (mut rig, _, publisher, id) = with_member(Tier::Durable);
    let mut open = |tier: u8| {
        let (request, tier) = (rig.next_request(), Some(tier));
        let open = control::Open { request, topic: "a", tier, ..Default::default() };
        rig.give_all(publisher, &control(open));
        rig.take(publisher).pop()
    };
    let refused = |seen| matches!(seen, Some(Seen::Error { code: ErrorCode::TierNotOffered, .. }));
    assert!(refused(open(Tier::Central.number())));
    assert!(refused(open(77)));
    let granted = Seen::Ok { id: Some(id.get()), count: None, text: None };
    assert_eq!(open(Tier::Durable.number()), Some(granted));
}

#[test]
fn durable_is_what_a_member_has_acknowledged() {
    for tier in [Tier::Durable, Tier::Central] {
        let (mut rig, member, publisher, id) = with_member(tier);
        let told = |taken, count| {
            let [durable, central] = if tier == Tier::Durable {
                [(count != taken).then_some(count), Some(0)]
            } else {
                [Some(0), (count != taken).then_some(count)]
            };
            [Seen::Ack { taken, durable, central }]
        };
        rig.give_all(publisher, &[counted(id, &[1]), counted(id, &[2])].concat());
        assert_eq!(rig.take(publisher), told(2, 0));
        rig.take(member);
        rig.give_all(member, &ack(1));
        assert_eq!(rig.take(publisher), told(2, 1));
        rig.give_all(publisher, &counted(id, &[3]));
        assert_eq!(rig.take(publisher), told(3, 1));
        rig.take(member);
        rig.give_all(member, &ack(2));
        assert_eq!(rig.take(publisher), told(3, 2));
        rig.give_all(member, &ack(3));
        assert_eq!(rig.take(publisher), told(3, 3));
    }
}

#[test]
fn durable_grows_while_the_publisher_does_not_pause() {
    let (mut rig, member, publisher, id) = with_member(Tier::Durable);
    let mut durable = 0;
    for number in 0..50u8 {
        rig.give_all(publisher, &counted(id, &[number]));
        rig.take(member);
        rig.give_all(member, &ack(u64::from(number).saturating_sub(3)));
        for seen in rig.take(publisher) {
            let Seen::Ack { taken, durable: told, .. } = seen else { continue };
            durable = told.unwrap_or(taken);
        }
    }
    assert_eq!(durable, 46);
}

#[test]
fn durable_is_not_ahead_of_the_slowest_member_that_has_to_keep_it() {
    let mut rig = Rig::new(limits());
    let members = [8, 9].map(|epoch| {
        let member = rig.attach(with_policy(epoch, WhenFull::Hold));
        rig.session.make_member(member, Tier::Durable);
        member
    });
    rig.subscribe(members[0], "a");
    rig.subscribe(members[1], "b");
    let publisher = rig.attach(Admission { flags: features::ACK_DURABLE, ..admission(1) });
    let [a, b] = ["a", "b"].map(|name| rig.open(publisher, name));
    rig.give_all(publisher, &[counted(a, &[1]), counted(b, &[2]), counted(a, &[3])].concat());
    members.iter().for_each(|&member| assert!(!rig.take(member).is_empty()));
    rig.take(publisher);
    let mut durable_after = |member: usize, count| {
        rig.give_all(members[member], &ack(count));
        match rig.take(publisher).last() {
            Some(&Seen::Ack { taken, durable, .. }) => durable.unwrap_or(taken),
            _ => 0,
        }
    };
    assert_eq!(durable_after(1, 1), 0, "the first is not kept yet");
    assert_eq!(durable_after(0, 1), 2);
    assert_eq!(durable_after(0, 2), 3);
}

#[test]
fn what_was_durable_is_said_again_after_a_reconnect() {
    let (mut rig, member, publisher, id) = with_member(Tier::Durable);
    rig.give_all(publisher, &[counted(id, &[1]), counted(id, &[2])].concat());
    rig.take(publisher);
    rig.take(member);
    let now = rig.now();
    rig.session.detach(now.mono, publisher);
    rig.give_all(member, &ack(1));
    let back = Admission { flags: features::ACK_DURABLE, ..lingering(1) };
    let publisher = rig.session.attach(now, back).expect("room");
    let expected = [
        Seen::Welcome { resumed: true, taken: 2 },
        Seen::Ack { taken: 2, durable: Some(1), central: None },
    ];
    assert_eq!(rig.take(publisher), expected);
}

#[test]
fn a_commit_for_a_peer_that_is_gone_is_not_another_ones() {
    let (mut rig, member, publisher, id) = with_member(Tier::Durable);
    rig.give_all(publisher, &[counted(id, &[1]), counted(id, &[2])].concat());
    rig.take(member);
    rig.give(publisher, &control(control::Bye::default()));
    let now = rig.now().mono;
    rig.session.detach(now, publisher);
    // the same device again, with the same epoch, in the same place
    let publisher = rig.attach(Admission { flags: features::ACK_DURABLE, ..lingering(1) });
    let id = rig.open(publisher, "a");
    rig.give_all(member, &ack(2));
    rig.give_all(publisher, &counted(id, &[3]));
    let expected = [Seen::Ack { taken: 1, durable: Some(0), central: None }];
    assert_eq!(rig.take(publisher), expected);
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

#[test]
fn the_daemons_own_parts_are_waited_for_and_not_limited() {
    let limits = Limits { peers: 1, open_topics: 1, subscriptions: 1, stall_ms: 1000, ..limits() };
    let mut rig = Rig::new(limits);
    let publisher = rig.attach(lingering(1));
    let id = rig.open(publisher, "a");
    let lane = rig.attach(own(9, "alarm"));
    for topic in ["a", "b", "c/#"] {
        rig.subscribe(lane, topic);
        rig.open(lane, &topic.replace('#', "x"));
    }
    // more than others' outboxes hold
    for number in 0..100u8 {
        rig.give_all(publisher, &counted(id, &[&[number][..], &[0; 99]].concat()));
        rig.take(publisher);
    }
    rig.pass(5000);
    assert!(rig.session.output(lane).is_ok_and(|output| !output.is_last), "not closed as slow");
    let now = rig.now().mono;
    rig.session.detach(now, lane);
    rig.pass(u64::from(limits.linger) * 1000 * 100);
    let counts = rig.session.counts("$uplink", "alarm").expect("it lingers for ever");
    assert_eq!((counts.epoch, counts.acked, counts.total, counts.taken), (9, 0, 100, 0));
    let back = rig.session.attach(rig.now(), own(9, "alarm")).expect("room");
    assert_eq!(rig.take(back).first(), Some(&Seen::Welcome { resumed: true, taken: 0 }));
}

#[test]
fn what_is_not_counted_does_not_wait_for_an_own_part_that_is_away() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(lingering(1));
    let id = rig.open(publisher, "a");
    let lane = rig.attach(own(9, "alarm"));
    rig.subscribe(lane, "a");
    let now = rig.now().mono;
    rig.session.detach(now, lane);
    rig.give_all(publisher, &[plain(id, &[1]), plain(id, &[2]), counted(id, &[3])].concat());
    assert_eq!(rig.dropped(GapCause::LinkLost), 2);
    let back = rig.session.attach(rig.now(), own(9, "alarm")).expect("room");
    let seen = rig.take_until_drained(back);
    assert_eq!(gaps(&seen), 2);
    assert!(seen.contains(&Seen::Data(id.get(), vec![3])), "{seen:?}");
}

#[test]
fn an_own_part_opens_a_topic_at_once_and_looks_at_its_marks() {
    let (mut rig, member, publisher, id) = with_member(Tier::Central);
    let opened = rig.session.open_on(member, "down", None).expect("allowed");
    rig.give_all(member, &counted(opened, &[1]));
    assert_eq!(rig.session.open_on(member, "a+b", None), Err(ErrorCode::BadTopic));
    rig.give_all(publisher, &counted(id, &[1]));
    rig.take(member);
    assert_eq!(rig.session.marks(member, 1).len(), 1);
    assert_eq!(rig.session.marks(member, 1), rig.session.take_marks(member, 1));
    assert_eq!(rig.session.marks(member, 1), []);
}

#[test]
fn a_note_is_found_again() {
    let mut rig = Rig::new(limits());
    let lane = rig.attach(own(9, "bulk"));
    rig.session.set_note(lane, [7, u64::MAX, 0, 1]);
    let now = rig.now().mono;
    rig.session.detach(now, lane);
    assert_eq!(
        rig.session.counts("$uplink", "bulk").map(|counts| counts.note),
        Some([7, u64::MAX, 0, 1])
    );
    assert_eq!(rig.session.counts("$uplink", "alarm"), None);
    assert_eq!(rig.session.counts_of(lane), None, "that link is gone");
}

#[test]
fn marks_that_are_taken_are_confirmed_by_hand() {
    let (mut rig, member, publisher, id) = with_member(Tier::Central);
    for number in 1..=3 {
        rig.give_all(publisher, &counted(id, &[number]));
    }
    rig.take(member);
    let taken = rig.session.take_marks(member, 2);
    let spooled = [Spooled {
        publisher: Publisher { identity: "".into(), name: "".into(), epoch: 1 },
        count: 2,
        at: 2,
    }];
    assert_eq!(taken, spooled);
    assert_eq!(rig.session.take_marks(member, 2), [], "they are taken once");
    rig.give_all(member, &ack(2));
    assert_eq!(central(&mut rig, publisher), Some(0), "an ACK speaks for them no more");
    rig.session.confirm(member, &spooled[0].publisher, Tier::Central, 1);
    assert_eq!(central(&mut rig, publisher), Some(1));
    rig.session.confirm(member, &spooled[0].publisher, Tier::Central, 2);
    assert_eq!(central(&mut rig, publisher), Some(2));
    rig.give_all(member, &ack(3));
    assert_eq!(central(&mut rig, publisher), Some(3), "it speaks for what was not taken");
}

#[test]
fn what_another_member_spooled_is_missing_until_it_is_confirmed() {
    let mut rig = Rig::new(limits());
    let lanes = [("alarm", "a"), ("bulk", "b")].map(|(name, topic)| {
        let lane = rig.attach(own(9, name));
        rig.session.make_member(lane, Tier::Central);
        rig.subscribe(lane, topic);
        lane
    });
    let publisher = rig.attach(Admission { flags: features::ACK_CENTRAL, ..admission(1) });
    let [a, b] = ["a", "b"].map(|name| rig.open(publisher, name));
    rig.give_all(publisher, &[counted(a, &[1]), counted(b, &[2])].concat());
    lanes.iter().for_each(|&lane| drop(rig.take(lane)));
    let spooled = rig.session.take_marks(lanes[0], 1);
    rig.give_all(lanes[0], &ack(1));
    rig.give_all(lanes[1], &ack(1));
    assert_eq!(central(&mut rig, publisher), Some(0), "the first is in the spool");
    // a publisher that cannot come back is found by what was taken
    rig.session.confirm(lanes[0], &spooled[0].publisher, Tier::Central, spooled[0].count);
    assert_eq!(central(&mut rig, publisher), Some(2));
    let nobody = Publisher { epoch: 77, ..spooled[0].publisher.clone() };
    rig.session.confirm(lanes[0], &nobody, Tier::Central, 100);
    assert_eq!(central(&mut rig, publisher), None);
}

#[test]
fn no_more_is_confirmed_than_was_taken() {
    let (mut rig, member, publisher, id) = with_member(Tier::Central);
    rig.give_all(publisher, &counted(id, &[1]));
    rig.take(member);
    let taken = rig.session.take_marks(member, 1);
    rig.session.confirm(member, &taken[0].publisher, Tier::Central, u64::MAX);
    assert_eq!(central(&mut rig, publisher), Some(1));
}

// questions

#[test]
fn a_peer_has_one_question_open_however_many_it_sends_at_once() {
    let mut rig = Rig::new(limits());
    let peer = rig.attach(admission(1));
    let status = |request| control(control::Status { request, ..Default::default() });
    let mut bytes: Vec<u8> = (1..=100).flat_map(status).collect();
    for request in 1..=100 {
        let progress = rig.give(peer, &bytes);
        assert_eq!(progress.pauses, request < 100, "what is left waits for the answer");
        bytes.drain(..progress.consumed);
        assert_eq!(rig.session.poll_ask().map(|ask| ask.request), Some(request));
        assert_eq!(rig.session.poll_ask(), None);
        rig.session.answer(peer, request, Ok(Some("{}")));
    }
    assert!(bytes.is_empty());
}

#[test]
fn what_looks_at_every_topic_lets_others_have_their_turn() {
    let mut rig = Rig::new(limits());
    let peer = rig.attach(admission(1));
    let topic = "a/#";
    let requests = [
        control(control::Subscribe { request: 1, topic, ..Default::default() }),
        control(control::History { request: 2, topic, ..Default::default() }),
        control(control::Unsubscribe { request: 3, topic, ..Default::default() }),
        control(control::Subscribe { request: 4, topic: "a", ..Default::default() }),
        control(control::History { request: 5, topic: "a", ..Default::default() }),
    ];
    let mut bytes = requests.concat();
    for done in &requests[..3] {
        let progress = rig.give(peer, &bytes);
        assert_eq!((progress.consumed, progress.pauses), (done.len(), true));
        bytes.drain(..progress.consumed);
    }
    let progress = rig.give(peer, &bytes);
    assert_eq!((progress.consumed, progress.pauses), (bytes.len(), false));
}

#[test]
fn questions_go_to_the_caller_and_answers_to_the_peer() {
    let mut rig = Rig::new(limits());
    let peer = rig.attach(admission(1));
    let status = control::Status { request: 4, ..Default::default() };
    let create = control::CreateSession {
        request: 5,
        session: "lab",
        identity: Some("ann"),
        proof: Some(b"secret"),
        ..Default::default()
    };
    rig.give_all(peer, &control(status));
    let asked = rig.session.poll_ask().expect("asked");
    assert_eq!((asked.peer, asked.request, asked.about), (peer, 4, About::Status));
    rig.give_all(peer, &control(create));
    let asked = rig.session.poll_ask().expect("asked");
    let about = About::CreateSession {
        session: "lab".into(),
        identity: Some("ann".into()),
        password: Some((*b"secret").into()),
    };
    assert_eq!((asked.request, asked.about), (5, about));
    let long = "x".repeat(5000);
    rig.session.answer(peer, 4, Ok(Some(&long)));
    rig.session.answer(peer, 5, Err(ErrorCode::Forbidden));
    let expected = [
        Seen::Ok { id: None, count: None, text: Some(long.clone()) },
        Seen::Error { request: Some(5), code: ErrorCode::Forbidden },
    ];
    assert_eq!(rig.take(peer), expected);
    let now = rig.now().mono;
    rig.session.detach(now, peer);
    rig.session.answer(peer, 6, Ok(None));
    assert_eq!(rig.session.figures().peers, 0);
}

#[test]
fn all_are_told_when_the_relay_stops() {
    let mut rig = Rig::new(limits());
    let peers = [lingering(1), admission(2)].map(|admission| rig.attach(admission));
    rig.session.close_all(ByeReason::ShuttingDown, Some(500));
    for peer in peers {
        assert!(rig.is_last(peer));
        assert_eq!(rig.take(peer), [Seen::Bye(ByeReason::ShuttingDown)]);
        let now = rig.now().mono;
        rig.session.detach(now, peer);
    }
    assert_eq!(rig.session.figures().lingering, 1);
}

// memory

/// A session in which everything that is charged happens.
fn busy(rig: &mut Rig) -> [PeerKey; 3] {
    let publisher = rig.attach(lingering(1));
    let named = Admission { name: "panel".into(), identity: "ann".into(), ..admission(2) };
    let readers = [rig.attach(named), rig.attach(lingering(3))];
    for filter in ["a", "a/+", "b/#"] {
        readers.iter().for_each(|&reader| rig.subscribe(reader, filter));
    }
    rig.open_with(publisher, "a", Some(&schema(1)));
    let ids = ["a", "a/b", "b", "b/c", "c"].map(|name| rig.open(publisher, name));
    rig.open_with(publisher, "a", Some(&schema(2)));
    for (number, &id) in (0..).zip(ids.iter().cycle().take(50)) {
        rig.give_all(publisher, &counted(id, &[number; 40]));
    }
    rig.give_all(publisher, &data(ids[4], DataFlags::KEEP, &[1; 40]));
    rig.give_all(publisher, &data(ids[4], DataFlags::KEEP, &[]));
    rig.unsubscribe(readers[0], "a/+");
    rig.take_some(readers[0], 100);
    [publisher, readers[0], readers[1]]
}

#[test]
fn when_all_are_gone_and_all_is_forgotten_no_memory_is_in_use() {
    for messages in [0, 20] {
        let mut rig = Rig::new(keeping(messages));
        let keys = busy(&mut rig);
        assert!(rig.budget.used() > 0);
        let now = rig.now().mono;
        keys.iter().for_each(|&key| rig.session.detach(now, key));
        rig.pass(11_000);
        assert_eq!(rig.session.figures().peers + rig.session.figures().lingering, 0);
        rig.pass(11_000);
        assert_eq!(rig.session.figures().topics, 0);
        assert_eq!(rig.budget.used(), 0);
        assert_eq!(rig.ledger().queued(), 0);
    }
}

#[test]
fn a_session_that_is_dropped_gives_all_back() {
    let mut rig = Rig::new(keeping(20));
    busy(&mut rig);
    let Rig { session, budget, .. } = rig;
    assert!(budget.used() > 0);
    drop(session);
    assert_eq!(budget.used(), 0);
}

#[test]
fn a_session_that_empties_can_be_filled_for_ever() {
    let mut rig = Rig::new(Limits { topics: 4, ..limits() });
    for round in 0..1000 {
        let peer = rig.attach(admission(round));
        for name in ["a", "b", "c", "d"] {
            rig.open(peer, name);
        }
        let now = rig.now().mono;
        rig.session.detach(now, peer);
    }
    assert_eq!(rig.session.figures().topics, 0);
}

#[test]
fn every_reader_of_every_topic_is_charged() {
    let mut rig = Rig::new(Limits { topics: 2000, open_topics: 2000, ..limits() });
    let publisher = rig.attach(admission(1));
    let reader = rig.attach(admission(2));
    for number in 0..1000 {
        rig.open(publisher, &std::format!("t/{number}"));
    }
    let before = rig.budget.used();
    rig.subscribe(reader, "#");
    assert!(rig.budget.used() >= before + 1000 * size_of::<topics::Reader>());
    rig.unsubscribe(reader, "#");
    assert!(rig.budget.used() <= before);
}

#[test]
fn the_place_of_a_peer_is_used_again_and_nothing_of_it_is_inherited() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(admission(1));
    let old = rig.attach(Admission { keepalive: Some(2), ..with_policy(2, WhenFull::Hold) });
    rig.subscribe(old, "a");
    let id = rig.open(old, "b");
    let now = rig.now().mono;
    rig.session.detach(now, old);
    let new = rig.attach(admission(3));
    assert_eq!(new.index(), old.index());
    assert_ne!(new, old);
    rig.pass(60_000);
    assert_eq!(rig.take(new), [], "the old one's keepalive is not the new one's");
    let a = rig.open(publisher, "a");
    rig.give_all(publisher, &counted(a, &[1]));
    assert_eq!(rig.take(new), []);
    rig.give(new, &plain(id, &[1]));
    assert_eq!(refusal(&rig.take(new)), Some(ErrorCode::UnknownId));
}

fn schema(scale: i8) -> Vec<u8> {
    let mut bytes = vec![0; fastport_wire::schema::MAX_SCHEMA];
    let length = fastport_wire::Schema::int("Cel", scale).encode(&mut bytes).expect("it fits");
    bytes.truncate(length);
    bytes
}

#[test]
fn an_ack_waits_for_company_and_not_for_long() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(admission(1));
    let topic = rig.open(publisher, "a");
    let frame = data(topic, DataFlags::COUNTED, b"x");
    rig.give_alone(publisher, &frame);
    rig.pass(1);
    rig.give_alone(publisher, &frame);
    assert_eq!(rig.take(publisher), [], "more may come");
    rig.pass(ACK_DELAY_MS / 2 - 2);
    assert_eq!(rig.take(publisher), []);
    rig.pass(ACK_DELAY_MS / 2 + 1);
    assert_eq!(rig.take(publisher), [Seen::Ack { taken: 2, durable: None, central: None }]);
    rig.pass(10 * ACK_DELAY_MS);
    assert_eq!(rig.take(publisher), [], "once");
}

#[test]
fn who_asks_by_ping_has_its_ack_before_the_pong() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(admission(1));
    let topic = rig.open(publisher, "a");
    rig.give_alone(publisher, &data(topic, DataFlags::COUNTED, b"x"));
    rig.give_alone(publisher, &frame(&Frame::Ping { token: b"t" }));
    let ack = Seen::Ack { taken: 1, durable: None, central: None };
    assert_eq!(rig.take(publisher), [ack, Seen::Pong(b"t".to_vec())]);
}

#[test]
fn what_is_written_anyhow_takes_the_ack_along() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(admission(1));
    let topic = rig.open(publisher, "a");
    rig.subscribe(publisher, "a");
    rig.give_alone(publisher, &data(topic, DataFlags::COUNTED, b"x"));
    let seen = rig.take(publisher);
    assert!(matches!(seen[..], [.., Seen::Data { .. }, Seen::Ack { taken: 1, .. }]), "{seen:?}");
}

#[test]
fn much_is_acknowledged_at_once() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(admission(1));
    let topic = rig.open(publisher, "a");
    rig.give_alone(publisher, &data(topic, DataFlags::COUNTED, b"x").repeat(1000));
    let ack = Seen::Ack { taken: 1000, durable: None, central: None };
    assert_eq!(rig.take(publisher), [ack]);
}

#[test]
fn a_reader_without_room_is_asked_for_its_ack_once() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(admission(1));
    let reader = rig.attach(Admission {
        when_full: Some(WhenFull::Hold),
        name: "r".into(),
        linger: Some(10),
        ..admission(2)
    });
    rig.subscribe(reader, "a");
    let topic = rig.open(publisher, "a");
    let many = data(topic, DataFlags::COUNTED, &[0; 100]).repeat(200);
    let progress = rig.give(publisher, &many);
    assert!(progress.is_blocked);
    let rest = &many[progress.consumed..];
    assert_eq!(rig.give(publisher, rest).consumed, 0);
    let seen = rig.take(reader);
    let pings = seen.iter().filter(|seen| matches!(seen, Seen::Ping)).count();
    assert_eq!(pings, 1, "{seen:?}");
}
