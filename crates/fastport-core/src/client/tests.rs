mod streams;

use alloc::string::String;
use std::collections::BTreeMap;

use fastport_wire::control::features;
use proptest::prelude::*;

use super::requests::Past;
use super::*;
use crate::handshake::{Credential, Handshake, Step};
use crate::proof::KEY_BYTES;
use crate::retention::Retention;
use crate::rights::Rights;
use crate::session::{Limits, PeerKey, Session, StreamLimits};
use crate::time::Now;

const LIMITS: Limits = Limits {
    peers: 100,
    topics: 1000,
    outbox: 4096,
    payload: 1024,
    sealed: false,
    subscriptions: 16,
    open_topics: 16,
    keepalive: 10,
    linger: 60,
    gateway_linger: 600,
    stall_ms: 0,
    retention: Retention { messages: 8, age_ms: 60_000, bytes: 4096 },
    when_full: WhenFull::DropOldest,
    streams: StreamLimits::DEFAULT,
};

fn options(epoch: u64, name: &str) -> Options {
    Options {
        session: "demo".into(),
        identity: "".into(),
        name: name.into(),
        secret: Secret::None,
        epoch,
        continues: None,
        confirms: false,
        when_full: Some(WhenFull::Hold),
        keepalive: None,
        linger: 30,
        flags: features::TIME,
        outbox: 2048,
    }
}

/// A client, its link to the relay, and what it saw.
struct Rig {
    client: Client,
    handshake: Option<Handshake>,
    key: Option<PeerKey>,
    to_relay: Vec<u8>,
    to_client: Vec<u8>,
    messages: Vec<(String, Vec<u8>)>,
    acked: u64,
    unpublished: u64,
    resumed: u32,
    streams: Vec<streams::Told>,
    credential: Credential,
}

impl Rig {
    fn new(options: Options) -> Self {
        Self {
            client: Client::new(options),
            handshake: None,
            key: None,
            to_relay: Vec::new(),
            to_client: Vec::new(),
            messages: Vec::new(),
            acked: 0,
            unpublished: 0,
            resumed: 0,
            streams: Vec::new(),
            credential: Credential::Granted {
                identity: Box::default(),
                rights: Arc::new(Rights::everything()),
            },
        }
    }

    fn connect(&mut self, now: Now) {
        self.client.connected(now.mono, [3; NONCE_BYTES]);
        self.handshake = Some(Handshake::new());
    }

    fn cut(&mut self, session: &mut Session, now: Now) {
        self.client.disconnected();
        self.streams.push(streams::Told::Lost);
        self.to_relay.clear();
        self.to_client.clear();
        self.handshake = None;
        if let Some(key) = self.key.take() {
            session.detach(now.mono, key);
        }
    }

    fn is_linked(&self) -> bool {
        self.handshake.is_some() || self.key.is_some()
    }

    /// Moves at most that many bytes each way.
    fn pump(&mut self, session: &mut Session, now: Now, up: usize, down: usize) {
        let output = self.client.output();
        let length = output.len().min(up);
        self.to_relay.extend_from_slice(&output[..length]);
        self.client.advance(length);
        self.shake(session, now);
        if let Some(key) = self.key {
            let taken = session.handle_bytes(now, key, &self.to_relay).expect("the seat is ours");
            self.to_relay.drain(..taken.consumed);
            let output = session.output(key).expect("the seat is ours");
            let length = output.bytes.len().min(down);
            self.to_client.extend_from_slice(&output.bytes[..length]);
            session.advance(key, length);
        }
        let (messages, acked) = (&mut self.messages, &mut self.acked);
        let (unpublished, resumed) = (&mut self.unpublished, &mut self.resumed);
        let told = &mut self.streams;
        let tell = |event: Event<'_>| match event {
            Event::Message(message) => {
                messages.push((message.topic.into(), message.payload.to_vec()));
            }
            Event::Acked { taken, .. } => *acked = taken.max(*acked),
            Event::Unpublished { count } => *unpublished += count,
            Event::Welcome { resumed: true, .. } => *resumed += 1,
            Event::Offered { id, .. } => told.push(streams::Told::Offered(id)),
            Event::Withdrawn { id, .. } => told.push(streams::Told::Withdrawn(id)),
            Event::Chunk { id, offset, bytes, .. } => {
                let bytes = bytes.to_vec();
                told.push(streams::Told::Chunk { id, offset, bytes });
            }
            Event::Taken { stream, offset, .. } => {
                told.push(streams::Told::Taken { stream, offset });
            }
            Event::HasAll { .. } => told.push(streams::Told::HasAll),
            _ => {}
        };
        match self.client.handle_bytes(now.mono, &self.to_client, tell) {
            Ok(consumed) => {
                self.to_client.drain(..consumed);
            }
            // it was silent for too long
            Err(Fault::Bye { .. }) => self.cut(session, now),
            Err(fault) => panic!("{fault:?}"),
        }
    }

    /// The relay's side of the handshake.
    fn shake(&mut self, session: &mut Session, now: Now) {
        let Some(mut handshake) = self.handshake.take() else { return };
        while let Ok(Some((head, body))) = frame::split(&self.to_relay, 1024) {
            let body = body.to_vec();
            self.to_relay.drain(..head.total());
            let mut step = handshake.handle_control(&body).expect("the client speaks the protocol");
            loop {
                step = match step {
                    Step::Identify => handshake
                        .identified(self.credential.clone(), [5; NONCE_BYTES])
                        .expect("a HELLO was seen"),
                    Step::Send(bytes) => {
                        self.to_client.extend_from_slice(&bytes);
                        break;
                    }
                    Step::Admit(_, admission) => {
                        self.key = Some(session.attach(now, *admission).expect("there is room"));
                        return;
                    }
                    Step::CheckPassword(password) => {
                        let rights = Arc::new(Rights::everything());
                        let rights = (&*password == b"secret").then_some(rights);
                        handshake.checked(rights).expect("the password is right")
                    }
                };
            }
        }
        self.handshake = Some(handshake);
    }

    fn settle(&mut self, session: &mut Session, now: Now) {
        for _ in 0..8 {
            self.client.ask_for_ack();
            self.pump(session, now, usize::MAX, usize::MAX);
        }
    }
}

fn session(now: Now) -> Session {
    Session::new(LIMITS, Arc::new(Budget::new(1 << 20)), now.mono)
}

fn at(millis: u64) -> Now {
    Now { mono: Instant::from_millis(millis), unix_ms: 1_700_000_000_000 + millis, boot_ms: millis }
}

#[test]
fn a_message_reaches_a_subscriber_and_its_publisher_is_told() {
    let now = at(0);
    let mut session = session(now);
    let (mut publisher, mut reader) = (Rig::new(options(1, "")), Rig::new(options(2, "")));
    for rig in [&mut publisher, &mut reader] {
        rig.connect(now);
        rig.settle(&mut session, now);
    }
    reader.client.subscribe("chat/#", 0, Past::default());
    publisher.client.open_topic("chat/room1", None, None);
    publisher.settle(&mut session, now);
    reader.settle(&mut session, now);
    let number = publisher.client.publish("chat/room1", DataFlags::COUNTED, b"Hello!");
    assert_eq!(number, Ok(1));
    publisher.settle(&mut session, now);
    reader.settle(&mut session, now);
    assert_eq!(reader.messages, [("chat/room1".into(), b"Hello!".to_vec())]);
    assert_eq!((publisher.acked, publisher.client.queued()), (1, 0));
}

#[test]
fn an_epoch_goes_on_in_the_next_life_of_a_client() {
    let now = at(0);
    let mut session = session(now);
    let (mut publisher, mut reader) = (Rig::new(options(1, "")), Rig::new(options(2, "")));
    for rig in [&mut publisher, &mut reader] {
        rig.connect(now);
        rig.settle(&mut session, now);
    }
    publisher.client.subscribe("down", 0, Past::default());
    reader.client.subscribe("up", 0, Past::default());
    publisher.settle(&mut session, now);
    reader.settle(&mut session, now);
    for (rig, topic) in [(&mut publisher, "up"), (&mut reader, "down")] {
        rig.client.open_topic(topic, None, None);
        rig.settle(&mut session, now);
        for payload in [b"1", b"2"] {
            assert!(rig.client.publish(topic, DataFlags::COUNTED, payload).is_ok());
        }
        rig.settle(&mut session, now);
    }
    reader.settle(&mut session, now);
    publisher.settle(&mut session, now);
    publisher.cut(&mut session, now);
    reader.client.publish("down", DataFlags::COUNTED, b"3").expect("room");
    reader.settle(&mut session, now);

    let mut next = Rig::new(Options { continues: Some(2), ..options(1, "") });
    next.connect(now);
    next.settle(&mut session, now);
    assert_eq!((next.resumed, next.acked), (1, 2), "it is told where the epoch is");
    assert_eq!(next.messages, [("down".into(), b"3".to_vec())]);
    next.client.open_topic("up", None, None);
    next.settle(&mut session, now);
    assert_eq!(next.client.publish("up", DataFlags::COUNTED, b"3"), Ok(3));
    // and over a lost link as always
    next.cut(&mut session, now);
    next.connect(now);
    next.settle(&mut session, now);
    reader.settle(&mut session, now);
    assert_eq!((next.acked, next.client.queued()), (3, 0));
    let got: Vec<_> = reader.messages.iter().map(|(_, payload)| payload[0]).collect();
    assert_eq!(got, *b"123");
}

#[test]
fn an_epoch_that_the_relay_does_not_know_begins_anew() {
    let now = at(0);
    let mut session = session(now);
    let mut next = Rig::new(Options { continues: Some(7), ..options(1, "") });
    next.connect(now);
    next.settle(&mut session, now);
    next.client.open_topic("up", None, None);
    next.settle(&mut session, now);
    assert_eq!(next.client.publish("up", DataFlags::COUNTED, b"1"), Ok(1));
    next.settle(&mut session, now);
    assert_eq!((next.resumed, next.acked), (0, 1));
}

#[test]
fn a_relay_that_lost_what_it_had_acknowledged_gets_the_rest_in_a_new_epoch() {
    let now = at(0);
    let mut relay = session(now);
    relay.start_journal();
    let (mut publisher, mut reader) = (Rig::new(options(1, "")), Rig::new(options(2, "")));
    for rig in [&mut publisher, &mut reader] {
        rig.connect(now);
        rig.settle(&mut relay, now);
    }
    reader.client.subscribe("up", 0, Past::default());
    reader.settle(&mut relay, now);
    publisher.client.open_topic("up", None, None);
    publisher.settle(&mut relay, now);
    let journal = relay.journaled().to_vec();
    for payload in [b"1", b"2"] {
        publisher.client.publish("up", DataFlags::COUNTED, payload).expect("room");
    }
    publisher.settle(&mut relay, now);
    reader.settle(&mut relay, now);
    assert_eq!((publisher.acked, reader.messages.len()), (2, 2));
    publisher.client.publish("up", DataFlags::COUNTED, b"3").expect("room");
    for rig in [&mut publisher, &mut reader] {
        rig.cut(&mut relay, now);
    }

    // as after a power cut: the end of the journal is not there
    let mut relay = session(now);
    let mut rights = |_: &str| Some(Arc::new(Rights::everything()));
    let (restored, applied) = relay.restore(now.mono, &journal, &mut rights);
    assert_eq!((restored.peers, applied), (2, Ok(())));
    reader.connect(now);
    reader.settle(&mut relay, now);
    assert_eq!(reader.resumed, 1, "what it had more is no reason to forget the rest");
    publisher.connect(now);
    publisher.client.output();
    let output = publisher.client.output().to_vec();
    publisher.client.advance(output.len());
    publisher.to_relay.extend(output);
    publisher.shake(&mut relay, now);
    let key = publisher.key.expect("it is let in");
    let welcome = relay.output(key).expect("it is there").bytes.to_vec();
    let handled = publisher.client.handle_bytes(now.mono, &welcome, |_| {});
    assert_eq!(handled, Err(Fault::BadAck), "it cannot send again what the relay has lost");
    publisher.cut(&mut relay, now);
    publisher.connect(now);
    publisher.settle(&mut relay, now);
    reader.settle(&mut relay, now);
    assert_eq!((publisher.acked, publisher.client.queued()), (3, 0));
    let got: Vec<_> = reader.messages.iter().map(|(_, payload)| payload[0]).collect();
    assert_eq!(got, *b"123", "once and in order");
}

#[test]
fn a_device_key_works_both_ways() {
    let now = at(0);
    let mut session = session(now);
    let key = [7; KEY_BYTES];
    let with_key = |key: [u8; KEY_BYTES]| Options {
        secret: Secret::Key(Box::new(key)),
        ..options(1, "sensor")
    };
    let rights = Some(Arc::new(Rights::everything()));
    let mut rig = Rig::new(with_key(key));
    rig.credential = Credential::Key { key, rights };
    rig.connect(now);
    rig.settle(&mut session, now);
    assert!(rig.client.is_ready());

    // a relay without the key can let in whom it wants, but not be believed
    let mut rig = Rig::new(with_key(key));
    rig.connect(now);
    let hello = rig.client.output().to_vec();
    rig.client.advance(hello.len());
    rig.to_relay = hello;
    rig.shake(&mut session, now);
    let admitted = rig.key.take().expect("the impostor lets everybody in");
    let welcome = session.output(admitted).expect("it was just attached").bytes.to_vec();
    let result = rig.client.handle_bytes(now.mono, &welcome, |_| {});
    assert_eq!(result, Err(Fault::RelayNotProven));
}

#[test]
fn a_password_is_sent_when_it_is_asked_for() {
    let now = at(0);
    let mut session = session(now);
    let secret = Secret::Password(Box::from(*b"secret"));
    let mut rig = Rig::new(Options { secret, ..options(1, "") });
    rig.credential = Credential::Password;
    rig.connect(now);
    rig.settle(&mut session, now);
    assert!(rig.client.is_ready());
}

#[test]
fn a_silent_relay_is_asked_and_then_given_up() {
    let mut session = session(at(0));
    let mut rig = Rig::new(options(1, ""));
    rig.connect(at(0));
    rig.settle(&mut session, at(0));
    assert_eq!(rig.client.next_timeout(), Some(Instant::from_millis(10_000)));
    assert_eq!(rig.client.handle_timeout(Instant::from_millis(10_000)), Ok(()));
    assert!(rig.client.unsent() > 0, "a PING");
    assert_eq!(rig.client.handle_timeout(Instant::from_millis(20_000)), Err(Fault::Silent));
}

#[test]
fn a_relay_that_forgot_everything_gets_what_it_had_not_acknowledged() {
    let now = at(0);
    let mut before = session(now);
    let mut publisher = Rig::new(options(1, "p"));
    publisher.connect(now);
    publisher.client.open_topic("a", None, None);
    publisher.client.open_topic("b", None, None);
    publisher.settle(&mut before, now);
    for number in 0..3u8 {
        publisher.client.publish("a", DataFlags::COUNTED, &[number]).expect("there is room");
    }
    publisher.settle(&mut before, now);
    assert_eq!(publisher.acked, 3);
    publisher.cut(&mut before, now);
    for number in 3..6u8 {
        let topic = if number == 4 { "b" } else { "a" };
        publisher.client.publish(topic, DataFlags::COUNTED, &[number]).expect("there is room");
    }

    let mut after = session(now);
    let mut reader = Rig::new(options(2, "r"));
    reader.connect(now);
    reader.client.subscribe("#", 0, Past::default());
    reader.settle(&mut after, now);
    publisher.connect(now);
    publisher.settle(&mut after, now);
    reader.settle(&mut after, now);
    let payloads: Vec<u8> = reader.messages.iter().map(|message| message.1[0]).collect();
    assert_eq!(payloads, [3, 4, 5]);
    assert_eq!((publisher.acked, publisher.client.queued()), (6, 0));
}

#[test]
fn a_relay_that_forgets_twice_still_gets_each_message_once_under_its_number() {
    let now = at(0);
    let mut first = session(now);
    let mut publisher = Rig::new(options(1, "p"));
    publisher.connect(now);
    publisher.client.open_topic("a", None, None);
    publisher.settle(&mut first, now);
    publisher.cut(&mut first, now);
    for number in 0..2u8 {
        publisher.client.publish("a", DataFlags::COUNTED, &[number]).expect("there is room");
    }
    // the second one welcomes the client and is gone before the topic is open again
    let mut second = session(now);
    publisher.connect(now);
    publisher.pump(&mut second, now, usize::MAX, usize::MAX);
    assert!(publisher.client.is_ready());
    publisher.cut(&mut second, now);

    let mut third = session(now);
    let mut reader = Rig::new(options(2, "r"));
    reader.connect(now);
    reader.client.subscribe("a", 0, Past::default());
    reader.settle(&mut third, now);
    publisher.connect(now);
    publisher.settle(&mut third, now);
    let number = publisher.client.publish("a", DataFlags::COUNTED, &[2]);
    assert_eq!(number, Ok(3));
    publisher.settle(&mut third, now);
    reader.settle(&mut third, now);
    let payloads: Vec<u8> = reader.messages.iter().map(|message| message.1[0]).collect();
    assert_eq!(payloads, [0, 1, 2]);
    assert_eq!((publisher.acked, publisher.client.queued()), (3, 0));
}

#[derive(Debug, Clone)]
enum Act {
    Publish(u8, bool),
    Pump { rig: usize, up: usize, down: usize },
    Cut(usize),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0u8..3, any::<bool>()).prop_map(|(topic, counted)| Act::Publish(topic, counted)),
        6 => (0usize..2, 0usize..200, 0usize..200)
            .prop_map(|(rig, up, down)| Act::Pump { rig, up, down }),
        1 => (0usize..2).prop_map(Act::Cut),
        1 => (0u64..5_000).prop_map(Act::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    /// Links are cut at any byte; both ends come back within the linger time.
    #[test]
    fn counted_messages_arrive_once_and_in_order_over_cut_links(
        steps in proptest::collection::vec(step(), 1..150),
    ) {
        let mut clock = 0;
        let mut session = session(at(0));
        let mut rigs = [Rig::new(options(1, "p")), Rig::new(options(2, "r"))];
        for rig in &mut rigs {
            rig.connect(at(0));
        }
        for topic in ["t/0", "t/1", "t/2"] {
            rigs[0].client.open_topic(topic, None, None);
        }
        rigs[1].client.subscribe("t/+", 0, Past::default());
        for _ in 0..2 {
            for rig in &mut rigs {
                rig.settle(&mut session, at(0));
            }
        }
        let mut expected: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        let mut number = 0u32;
        for step in steps {
            let now = at(clock);
            match step {
                Act::Publish(topic, is_counted) => {
                    let name = std::format!("t/{topic}");
                    let flags = if is_counted { DataFlags::COUNTED } else { DataFlags::NONE };
                    let tag = number * 2 + u32::from(is_counted);
                    if rigs[0].client.publish(&name, flags, &tag.to_be_bytes()).is_ok() {
                        if is_counted {
                            expected.entry(name).or_default().push(tag);
                        }
                        number += 1;
                    }
                }
                Act::Pump { rig, up, down } => {
                    if !rigs[rig].is_linked() {
                        rigs[rig].connect(now);
                    }
                    rigs[rig].pump(&mut session, now, up, down);
                }
                Act::Cut(rig) => rigs[rig].cut(&mut session, now),
                Act::Pass(millis) => {
                    clock += millis;
                    session.handle_timeout(at(clock).mono);
                    for rig in &mut rigs {
                        // a relay that is not pumped is silent
                        rig.client.handle_timeout(at(clock).mono).unwrap_or_default();
                    }
                }
            }
        }
        let now = at(clock);
        for rig in &mut rigs {
            rig.cut(&mut session, now);
            rig.connect(now);
        }
        for _ in 0..40 {
            for rig in &mut rigs {
                rig.client.ask_for_ack();
                rig.pump(&mut session, now, usize::MAX, usize::MAX);
            }
        }
        prop_assert_eq!(rigs[0].client.queued(), 0);
        prop_assert_eq!(rigs[0].unpublished, 0);
        let mut seen: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for (topic, payload) in &rigs[1].messages {
            let mut tag = [0; 4];
            tag.copy_from_slice(payload);
            let tag = u32::from_be_bytes(tag);
            if tag % 2 == 1 {
                seen.entry(topic.clone()).or_default().push(tag);
            }
        }
        prop_assert_eq!(seen, expected);
    }
}
