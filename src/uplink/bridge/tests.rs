use std::collections::BTreeMap;

use fastport_core::budget::Budget;
use fastport_core::client::Secret;
use fastport_core::handshake::{Credential, Handshake, Step};
use fastport_core::retention::Retention;
use fastport_core::rights::Rights;
use fastport_core::session::{Admission, Limits, Own, PeerKey, Session, StreamLimits};
use fastport_core::time::Now;
use fastport_wire::control::{self, Control, Tier, WhenFull, features};
use fastport_wire::field::MAX_BODY;
use fastport_wire::frame::{DataFlags, GapCause};
use fastport_wire::{Frame, TopicId};
use proptest::prelude::*;

use super::*;
use crate::config::{Direction, Rule, TopicFilter, Uplink};

const LIMITS: Limits = Limits {
    peers: 100,
    topics: 1000,
    outbox: 4096,
    payload: 1024,
    sealed: false,
    subscriptions: 16,
    open_topics: 16,
    keepalive: 0,
    linger: u32::MAX,
    gateway_linger: u32::MAX,
    stall_ms: 0,
    streams: StreamLimits::DEFAULT,
    retention: Retention { messages: 8, age_ms: 60_000, bytes: 4096 },
    when_full: WhenFull::Hold,
};
const OUTBOX: usize = 1 << 16;
/// Bytes of messages in the lane.
const LANE: usize = 6000;
const PREFIX: &str = "g";

fn now() -> Now {
    Now { mono: Instant::from_millis(1000), unix_ms: 1_700_000_000_000, boot_ms: 1000 }
}

fn session() -> Session {
    Session::new(LIMITS, Arc::new(Budget::new(1 << 22)), now().mono)
}

fn admission(identity: &str, name: &str, rights: Rights) -> Admission {
    Admission {
        identity: identity.into(),
        name: name.into(),
        rights: Arc::new(rights),
        epoch: 9,
        taken: 0,
        flags: features::ACK_CENTRAL,
        when_full: Some(WhenFull::Hold),
        keepalive: Some(0),
        linger: Some(u32::MAX),
        proof: None,
        own: Some(Own { outbox: OUTBOX }),
    }
}

fn frame(frame: &Frame<'_>) -> Vec<u8> {
    let mut bytes = vec![0; frame.encoded_len()];
    frame.encode(&mut bytes).expect("room was made");
    bytes
}

fn message(message: Control<'_>) -> Vec<u8> {
    let mut body = [0; 768];
    let length = message.encode(&mut body).expect("it is short");
    frame(&Frame::Control(&body[..length]))
}

/// A peer that publishes and reads, and always has time.
struct Peer {
    key: PeerKey,
    names: BTreeMap<TopicId, String>,
    opened: BTreeMap<u32, TopicId>,
    counted: u64,
    got: Vec<(String, Vec<u8>)>,
    central: u64,
    /// By topic and cause.
    gaps: BTreeMap<(String, GapCause), u64>,
    times: Vec<u64>,
}

impl Peer {
    fn new(session: &mut Session, admission: Admission, filter: &str) -> Self {
        let key = session.attach(now(), admission).expect("room");
        let mut peer = Self {
            key,
            names: BTreeMap::new(),
            opened: BTreeMap::new(),
            counted: 0,
            got: Vec::new(),
            central: 0,
            gaps: BTreeMap::new(),
            times: Vec::new(),
        };
        let flags = Some(options::NO_LOCAL);
        let subscribe =
            control::Subscribe { request: 1, topic: filter, flags, ..Default::default() };
        peer.say(session, &message(subscribe.into()));
        peer
    }

    fn say(&mut self, session: &mut Session, bytes: &[u8]) -> bool {
        let progress = session.handle_bytes(now(), self.key, bytes).expect("it is there");
        self.read(session);
        progress.consumed == bytes.len()
    }

    fn open(&mut self, session: &mut Session, request: u32, topic: &str) -> TopicId {
        let open = control::Open { request, topic, ..Default::default() };
        self.say(session, &message(open.into()));
        self.opened[&request]
    }

    /// Takes all there is, and acknowledges it.
    fn read(&mut self, session: &mut Session) {
        loop {
            let bytes = session.output(self.key).expect("it is there").bytes.to_vec();
            if bytes.is_empty() {
                return;
            }
            session.advance(self.key, bytes.len());
            let before = self.counted;
            let mut rest = &bytes[..];
            while let Ok(Some((next, length))) = Frame::decode(rest, MAX_BODY) {
                rest = &rest[length..];
                self.note(&next);
            }
            if self.counted > before {
                let (taken, repeat) = (self.counted, false);
                let ack = frame(&Frame::Ack { taken, durable: None, central: None, repeat });
                session.handle_bytes(now(), self.key, &ack).expect("it is there");
            }
        }
    }

    fn note(&mut self, frame: &Frame<'_>) {
        match *frame {
            Frame::Topic { id, name, .. } => {
                self.names.insert(id, name.to_owned());
            }
            Frame::Data { flags, topic, payload } => {
                self.counted += u64::from(flags.contains(DataFlags::COUNTED));
                self.got.push((self.names[&topic].clone(), payload.to_vec()));
            }
            Frame::Ack { taken, central, .. } => self.central = central.unwrap_or(taken),
            Frame::Gap { topic: Some(topic), count, cause } => {
                let gaps = self.gaps.entry((self.names[&topic].clone(), cause)).or_default();
                *gaps += count;
            }
            Frame::Time { unix_ms } => self.times.push(unix_ms),
            Frame::Control(body) => {
                if let Ok(Control::Ok(ok)) = Control::decode(body) {
                    self.opened.extend(ok.id.and_then(TopicId::new).map(|id| (ok.request, id)));
                }
            }
            _ => {}
        }
    }
}

struct Link {
    bridge: Bridge,
    handshake: Handshake,
    there: Option<PeerKey>,
    here: Option<PeerKey>,
    to_central: Vec<u8>,
    to_gateway: Vec<u8>,
}

/// A gateway's session and a central instance's, and a lane between them.
struct World {
    local: Session,
    central: Session,
    device: Peer,
    store: Peer,
    rules: Arc<Rules>,
    /// what the gateway may publish there
    rights: Arc<Rights>,
    link: Option<Link>,
    figures: Arc<LaneFigures>,
    renews: bool,
    epochs: u64,
    notices: Vec<Notice>,
    relays: bool,
    /// What the lane remembers from link to link.
    gaps: Gaps,
    /// The store takes nothing for now.
    is_asleep: bool,
}

impl World {
    fn new(rules: &[(Direction, &str)], may_publish: &[&str]) -> Self {
        let rules: Vec<Rule> = rules
            .iter()
            .map(|&(direction, filter)| Rule {
                direction,
                filter: TopicFilter::parse(filter).expect(filter),
                ..Rule::default()
            })
            .collect();
        let uplink = Uplink { prefix: Some(PREFIX.to_owned()), rules, ..Uplink::default() };
        let rules = Arc::new(Rules::new(&uplink));
        let (mut local, mut central) = (session(), session());
        let everything = Rights::everything;
        let lane = Self::lane(&mut local, &rules);
        local.detach(now().mono, lane);
        let device = Peer::new(&mut local, admission("", "device", everything()), "cmd/#");
        let store = Peer::new(&mut central, admission("$store", "", everything()), "#");
        central.make_member(store.key, Tier::Central);
        let rights = Rights::new(may_publish.iter().copied(), ["#"]).expect("filters");
        Self {
            local,
            central,
            device,
            store,
            rules,
            rights: Arc::new(rights),
            link: None,
            figures: Arc::default(),
            renews: false,
            epochs: 0,
            notices: Vec::new(),
            relays: false,
            gaps: Gaps::default(),
            is_asleep: false,
        }
    }

    fn both() -> Self {
        Self::new(&[(Direction::Up, "#"), (Direction::Down, "cmd/#")], &["#"])
    }

    /// The lane's place in the local session, with what it reads.
    fn lane(local: &mut Session, rules: &Rules) -> PeerKey {
        let rights = Rights::in_order(["#"], rules.reads(Lane::Normal)).expect("filters");
        let known = local.counts("$uplink", "normal");
        let taken = known.map_or(0, |counts| counts.acked);
        let own = Some(Own { outbox: LANE });
        let lane = admission("$uplink", "normal", rights);
        let admission = Admission { taken, own, flags: features::TIME, ..lane };
        let key = local.attach(now(), admission).expect("room");
        local.make_member(key, Tier::Central);
        if known.is_none() {
            for filter in rules.up_filters(Lane::Normal) {
                let flags = Some(options::NO_LOCAL | options::NO_LAST);
                let topic = filter.as_str();
                let subscribe =
                    control::Subscribe { request: 1, topic, flags, ..Default::default() };
                local.handle_bytes(now(), key, &message(subscribe.into())).expect("it is there");
            }
        }
        key
    }

    fn connect(&mut self) {
        let counts = self.local.counts("$uplink", "normal").expect("it was settled");
        let local = Local { acked: counts.acked, total: counts.total, taken: counts.taken };
        let mut note = Note::from_words(counts.note);
        if std::mem::take(&mut self.renews) || !note.is_of("central") {
            self.epochs += 1;
            note = Note::begin("central", self.epochs << 20, &local);
        }
        let task = Task {
            rules: Arc::clone(&self.rules),
            lane: Lane::Normal,
            wait_for: WaitFor::Central,
            relays: self.relays,
            payload_limit: LIMITS.payload,
            is_sealed: LIMITS.sealed,
        };
        let options = Options {
            session: "home".into(),
            identity: "".into(),
            name: "gateway".into(),
            secret: Secret::None,
            epoch: 0,
            continues: None,
            confirms: true,
            when_full: Some(WhenFull::Hold),
            keepalive: None,
            linger: u32::MAX,
            flags: features::ACK_CENTRAL,
            outbox: 2048,
        };
        let mut bridge = Bridge::new(task, options, (local, note), Arc::clone(&self.figures));
        bridge = bridge.with_gaps(std::mem::take(&mut self.gaps));
        bridge.connected(now().mono, [3; NONCE_BYTES]);
        self.link = Some(Link {
            bridge,
            handshake: Handshake::new(),
            there: None,
            here: None,
            to_central: Vec::new(),
            to_gateway: Vec::new(),
        });
    }

    /// The link, and all that the lane has in memory, is gone.
    fn cut(&mut self) {
        let Some(link) = self.link.take() else { return };
        if let Some(key) = link.here {
            self.local.detach(now().mono, key);
        }
        if let Some(key) = link.there {
            self.central.detach(now().mono, key);
        }
        self.gaps = link.bridge.into_gaps();
    }

    /// Moves at most so many bytes of each stream.
    fn pump(&mut self, up: usize, down: usize) {
        let Some(link) = &mut self.link else { return };
        let bridge = &mut link.bridge;
        if bridge.is_ready() {
            let here = *link.here.get_or_insert_with(|| Self::lane(&mut self.local, &self.rules));
            let output = self.local.output(here).expect("it is there");
            let taken = bridge.take_local(&output.bytes[..output.bytes.len().min(up)]);
            self.local.advance(here, taken);
            if let Err(ended) = bridge.carry_up(now(), usize::MAX) {
                self.end(ended);
                return;
            }
            self.publish(here);
        }
        let Some(link) = &mut self.link else { return };
        let output = link.bridge.client().output();
        let length = output.len().min(up);
        link.to_central.extend_from_slice(&output[..length]);
        link.bridge.client().advance(length);
        self.shake();
        let Some(link) = &mut self.link else { return };
        if let Some(there) = link.there {
            let taken = self.central.handle_bytes(now(), there, &link.to_central).expect("there");
            link.to_central.drain(..taken.consumed);
            let output = self.central.output(there).expect("it is there");
            let length = output.bytes.len().min(down);
            link.to_gateway.extend_from_slice(&output.bytes[..length]);
            self.central.advance(there, length);
        }
        let mut whole = 0;
        while let Ok(Some((_, length))) = Frame::decode(&link.to_gateway[whole..], MAX_BODY) {
            whole += length;
        }
        let frames: Vec<u8> = link.to_gateway.drain(..whole).collect();
        if let Err(ended) = link.bridge.handle_central(now().mono, &frames, |_| {}) {
            self.end(ended);
        }
        if !self.is_asleep {
            self.store.read(&mut self.central);
        }
        self.device.read(&mut self.local);
        // ACKs have their time
        let later = now().mono.after(10_000);
        self.central.handle_timeout(later);
        self.local.handle_timeout(later);
        if let Some(link) = &mut self.link {
            link.bridge.client().handle_timeout(later).unwrap_or_default();
            self.notices.extend(std::iter::from_fn(|| link.bridge.poll_notice()));
        }
    }

    fn end(&mut self, ended: Ended) {
        assert_ne!(ended, Ended::NoStore);
        self.renews = matches!(ended, Ended::OtherState { .. });
        self.cut();
    }

    fn publish(&mut self, here: PeerKey) {
        let Some(link) = &mut self.link else { return };
        loop {
            while let Some(words) = link.bridge.poll_local() {
                match words {
                    ToLocal::Note(note) => self.local.set_note(here, note.to_words()),
                    ToLocal::Say(bytes) => {
                        let taken = self.local.handle_bytes(now(), here, &bytes).expect("there");
                        assert_eq!(taken.consumed, bytes.len());
                    }
                }
            }
            let is_published = match link.bridge.next_down() {
                None => return,
                Some(Coming::Unwanted { .. }) => false,
                Some(Coming::Message(message)) => {
                    let id = self.local.open_on(here, &message.topic, None).expect("allowed");
                    let data =
                        Frame::Data { flags: message.flags, topic: id, payload: &message.payload };
                    let taken = self.local.handle_bytes(now(), here, &frame(&data)).expect("there");
                    if taken.consumed == 0 {
                        return;
                    }
                    true
                }
            };
            link.bridge.down_done(now().mono, is_published);
        }
    }

    fn shake(&mut self) {
        let Some(link) = &mut self.link else { return };
        while link.there.is_none() {
            let Ok(Some((Frame::Control(body), length))) =
                Frame::decode(&link.to_central, MAX_BODY)
            else {
                return;
            };
            let body = body.to_vec();
            link.to_central.drain(..length);
            let mut step = link.handshake.handle_control(&body).expect("a handshake");
            if matches!(step, Step::Identify) {
                let credential = Credential::Granted {
                    identity: "gateway".into(),
                    rights: Arc::clone(&self.rights),
                };
                step = link.handshake.identified(credential, [5; NONCE_BYTES]).expect("open");
            }
            if let Step::Admit(_, admission) = step {
                let there = self.central.attach(now(), *admission).expect("room");
                link.there = Some(there);
            }
        }
    }

    fn settle(&mut self) {
        for _ in 0..60 {
            self.pump(usize::MAX, usize::MAX);
        }
    }

    fn emit(&mut self, id: TopicId, flags: DataFlags, payload: &[u8]) -> bool {
        let data = frame(&Frame::Data { flags, topic: id, payload });
        self.device.say(&mut self.local, &data)
    }

    fn stored(&self) -> Vec<(&str, &[u8])> {
        self.store.got.iter().map(|(topic, payload)| (&**topic, &**payload)).collect()
    }
}

const COUNTED: DataFlags = DataFlags::COUNTED;

#[test]
fn what_goes_up_is_acknowledged_when_the_central_instance_has_it() {
    let mut world = World::both();
    let id = world.device.open(&mut world.local, 1, "plant/a");
    assert!(world.emit(id, COUNTED, b"1"));
    world.connect();
    world.settle();
    assert_eq!(world.stored(), [("g/plant/a", &b"1"[..])]);
    assert_eq!(world.device.central, 1);
    assert!(world.emit(id, DataFlags::NONE, b"2"));
    assert!(world.emit(id, COUNTED, b"3"));
    world.settle();
    assert_eq!(world.stored()[1..], [("g/plant/a", &b"2"[..]), ("g/plant/a", &b"3"[..])]);
    assert_eq!(world.device.central, 2);
}

#[test]
fn what_comes_down_is_published_and_not_sent_up_again() {
    let mut world = World::new(&[(Direction::Up, "#"), (Direction::Down, "#")], &["#"]);
    world.connect();
    world.settle();
    let id = world.store.open(&mut world.central, 5, "g/cmd/valve");
    let data = frame(&Frame::Data { flags: COUNTED, topic: id, payload: b"open" });
    world.store.say(&mut world.central, &data);
    world.settle();
    assert_eq!(world.device.got, [("cmd/valve".to_owned(), b"open".to_vec())]);
    assert_eq!(world.stored(), []);
}

#[test]
fn without_a_link_what_is_not_counted_is_booked_and_what_is_waits() {
    let mut world = World::both();
    let id = world.device.open(&mut world.local, 1, "plant/a");
    for payload in [b"1", b"2", b"3"] {
        assert!(world.emit(id, DataFlags::NONE, payload));
    }
    assert!(world.emit(id, COUNTED, b"4"));
    world.connect();
    world.settle();
    assert_eq!(world.stored(), [("g/plant/a", &b"4"[..])]);
    let ledger = world.local.figures().ledger;
    assert_eq!(ledger.dropped.iter().sum::<u64>(), 3);
}

#[test]
fn a_topic_that_is_refused_holds_nothing_up() {
    let mut world = World::new(&[(Direction::Up, "#")], &["g/good"]);
    let [good, bad] =
        [(1, "good"), (2, "bad")].map(|(n, name)| world.device.open(&mut world.local, n, name));
    world.connect();
    for number in 0..6u8 {
        let id = if number % 2 == 0 { good } else { bad };
        assert!(world.emit(id, COUNTED, &[number]));
    }
    world.settle();
    let payloads: Vec<u8> = world.store.got.iter().map(|(_, payload)| payload[0]).collect();
    assert_eq!(payloads, [0, 2, 4]);
    assert_eq!(world.device.central, 6);
    assert_eq!(world.figures.refused_up.get(), 3);
    let code = Some(ErrorCode::Forbidden);
    assert_eq!(world.notices, [Notice::TopicRefused { topic: "g/bad".into(), code }]);
    // and the counts go on over links
    world.cut();
    world.connect();
    assert!(world.emit(good, COUNTED, &[6]));
    world.settle();
    assert_eq!((world.store.got.len(), world.device.central), (4, 7));
}

#[test]
fn a_central_instance_that_forgot_gets_what_was_not_acknowledged() {
    let mut world = World::both();
    let id = world.device.open(&mut world.local, 1, "plant/a");
    world.connect();
    assert!(world.emit(id, COUNTED, b"1"));
    world.settle();
    world.cut();
    assert!(world.emit(id, COUNTED, b"2"));
    world.central = session();
    world.store = Peer::new(&mut world.central, admission("$store", "", Rights::everything()), "#");
    world.central.make_member(world.store.key, Tier::Central);
    world.connect();
    world.settle();
    assert_eq!(world.stored(), [("g/plant/a", &b"2"[..])]);
    assert_eq!(world.device.central, 2);
}

#[test]
fn another_state_of_the_lane_begins_a_new_epoch() {
    let mut world = World::both();
    let id = world.device.open(&mut world.local, 1, "plant/a");
    world.connect();
    for number in 0..5u8 {
        assert!(world.emit(id, COUNTED, &[number]));
    }
    world.settle();
    world.cut();
    // the local session comes back older than it was
    let lane = World::lane(&mut world.local, &world.rules);
    let counts = world.local.counts("$uplink", "normal").expect("it is there");
    let mut note = Note::from_words(counts.note);
    note.up = note.up.wrapping_add(3);
    world.local.set_note(lane, note.to_words());
    world.local.detach(now().mono, lane);
    world.connect();
    world.settle();
    assert!(world.link.is_none() && world.renews);
    world.connect();
    assert!(world.emit(id, COUNTED, &[5]));
    world.settle();
    assert_eq!(world.store.got.last(), Some(&("g/plant/a".to_owned(), vec![5])));
    assert_eq!(world.device.central, 6);
}

#[derive(Debug, Clone)]
enum Act {
    Up { topic: u8, is_counted: bool },
    Down { topic: u8 },
    Pump { up: usize, down: usize },
    Cut,
    Connect,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        5 => (0u8..4, any::<bool>()).prop_map(|(topic, is_counted)| Act::Up { topic, is_counted }),
        2 => (0u8..3).prop_map(|topic| Act::Down { topic }),
        8 => (0usize..150, 0usize..150).prop_map(|(up, down)| Act::Pump { up, down }),
        1 => Just(Act::Cut),
        2 => Just(Act::Connect),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    /// The lane's memory is lost at any byte; both sessions keep their state. One topic of four is
    /// refused up, one of three is unwanted down.
    #[test]
    fn counted_messages_arrive_once_and_in_order_whenever_the_lane_dies(
        acts in proptest::collection::vec(act(), 1..160),
    ) {
        let rules = [(Direction::Up, "up/#"), (Direction::Down, "cmd/a"), (Direction::Down, "cmd/b/#")];
        let mut world = World::new(&rules, &["g/up/0", "g/up/1", "g/up/2"]);
        let ids: Vec<TopicId> = (0..4)
            .map(|n| world.device.open(&mut world.local, n + 1, &format!("up/{n}")))
            .collect();
        let commands: Vec<TopicId> = ["g/cmd/a", "g/cmd/b/c", "g/other"]
            .iter()
            .zip(10..)
            .map(|(name, n)| world.store.open(&mut world.central, n, name))
            .collect();
        // the subscriptions are there from the start
        world.connect();
        world.settle();
        let (mut up, mut down, mut number) = (Vec::new(), Vec::new(), 0u32);
        let mut counted = 0;
        for act in acts {
            number += 1;
            let payload = number.to_be_bytes();
            match act {
                Act::Up { topic, is_counted } => {
                    let flags = if is_counted { COUNTED } else { DataFlags::NONE };
                    if world.emit(ids[usize::from(topic)], flags, &payload) && is_counted {
                        counted += 1;
                        if topic < 3 {
                            up.push(payload.to_vec());
                        }
                    }
                }
                Act::Down { topic } => {
                    let id = commands[usize::from(topic)];
                    let data = frame(&Frame::Data { flags: COUNTED, topic: id, payload: &payload });
                    if world.store.say(&mut world.central, &data) && topic < 2 {
                        down.push(payload.to_vec());
                    }
                }
                Act::Pump { up, down } => world.pump(up, down),
                Act::Cut => world.cut(),
                Act::Connect => if world.link.is_none() { world.connect() },
            }
        }
        world.cut();
        world.connect();
        world.settle();
        prop_assert!(world.link.is_some(), "the counts fit");
        let is_counted = |payload: &&Vec<u8>| up.contains(payload);
        let stored = world.store.got.iter().map(|(_, payload)| payload);
        let stored: Vec<_> = stored.filter(is_counted).cloned().collect();
        prop_assert_eq!(stored, up);
        let got: Vec<_> = world.device.got.iter().map(|(_, payload)| payload.clone()).collect();
        prop_assert_eq!(got, down);
        prop_assert_eq!(world.device.central, counted);
    }
}

#[derive(Debug, Clone)]
enum Loss {
    Up {
        topic: usize,
        count: u8,
    },
    Pump {
        up: usize,
        down: usize,
    },
    /// The store takes something again, or nothing any more.
    Store(bool),
    Cut,
    /// The lane's memory is lost, too.
    Crash,
    Connect,
}

fn loss() -> impl Strategy<Value = Loss> {
    prop_oneof![
        8 => (0usize..3, 1u8..30).prop_map(|(topic, count)| Loss::Up { topic, count }),
        6 => (0usize..400, 0usize..400).prop_map(|(up, down)| Loss::Pump { up, down }),
        2 => any::<bool>().prop_map(Loss::Store),
        2 => Just(Loss::Cut),
        1 => Just(Loss::Crash),
        3 => Just(Loss::Connect),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    /// Memory is short, and messages give way: at the central instance each is there or missing, by
    /// its topic.
    #[test]
    fn what_gives_way_is_told_once_whenever_links_end(
        losses in proptest::collection::vec(loss(), 1..120),
    ) {
        let mut world = World::new(&[(Direction::Up, "up/#")], &["g/up/#"]);
        let rights = Rights::new(["g/up/#"], ["#"]).expect("filters").of_gateway();
        (world.relays, world.rights) = (true, Arc::new(rights));
        let names = ["up/oldest", "up/latest", "up/other"];
        let lane = World::lane(&mut world.local, &world.rules);
        world.local.set_policy(lane, Arc::new(|topic| match topic {
            "up/latest" => WhenFull::Latest,
            _ => WhenFull::DropOldest,
        }));
        world.local.detach(now().mono, lane);
        let ids = [(1, 0), (2, 1), (3, 2)]
            .map(|(request, n)| world.device.open(&mut world.local, request, names[n]));
        let (mut published, mut has_crashed) = ([0u64; 3], false);
        for loss in losses {
            match loss {
                Loss::Up { topic, count } => {
                    for number in 0..count {
                        let taken = world.emit(ids[topic], COUNTED, &[number; 60]);
                        prop_assert!(taken, "nobody waits");
                        published[topic] += 1;
                    }
                }
                Loss::Pump { up, down } => world.pump(up, down),
                Loss::Store(is_asleep) => world.is_asleep = is_asleep,
                Loss::Cut => world.cut(),
                Loss::Crash => {
                    world.cut();
                    world.gaps = Gaps::default();
                    has_crashed = true;
                }
                Loss::Connect => if world.link.is_none() { world.connect() },
            }
        }
        world.is_asleep = false;
        world.cut();
        world.connect();
        world.settle();
        prop_assert!(world.link.is_some(), "the counts fit");
        for (name, published) in names.iter().zip(published) {
            let there = format!("g/{name}");
            let came = world.store.got.iter().filter(|(topic, _)| *topic == there).count() as u64;
            let missing = world.store.gaps.iter().filter(|((topic, _), _)| *topic == there);
            let missing: u64 = missing.map(|(_, count)| count).sum();
            prop_assert_eq!(published, came + missing, "{} {:?}", name, world.store.gaps);
        }
        let dropped = world.figures.dropped();
        let missing: u64 = world.store.gaps.values().sum();
        prop_assert!(dropped == missing || has_crashed, "{} {}", dropped, missing);
    }
}
