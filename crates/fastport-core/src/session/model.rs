//! A session against a plain model: devices that publish and read over links that carry bytes in any
//! pieces, lose what is under way when they are cut, and come back.
//!
//! The model knows what the relay took from each device, whom that is for, and what each device has
//! received, been told of as dropped, or lost with a link; the three have to add up.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};
use std::{format, vec};

use fastport_wire::control::options;
use fastport_wire::field::{MAX_BODY, kind};
use fastport_wire::frame::{self, DataFlags, Head};
use fastport_wire::{Filter, Topic as TopicName, TopicId};
use proptest::prelude::*;
use proptest::test_runner::RngAlgorithm;

use super::attach::peer_charge;
use super::tests::{Rig, ack, admission, control, data, limits};
use super::*;

const TOPICS: [&str; 5] = ["a/x", "a/y", "b/x", "b/y/z", "c"];
const FILTERS: [&str; 7] = ["a/x", "a/+", "#", "b/#", "+/x", "b/y/z", "c"];

#[derive(Debug, Clone)]
enum Step {
    Open {
        device: usize,
        topic: usize,
    },
    CloseTopic {
        device: usize,
        topic: usize,
    },
    Subscribe {
        device: usize,
        filter: usize,
        no_local: bool,
        past: Option<u64>,
    },
    Unsubscribe {
        device: usize,
        filter: usize,
    },
    History {
        device: usize,
        filter: usize,
        count: u64,
    },
    Publish {
        device: usize,
        runs: Vec<MessageRun>,
    },
    Emit {
        device: usize,
        topic: usize,
        flags: u8,
    },
    /// The device's bytes reach the relay, up to so many.
    Send {
        device: usize,
        at_most: usize,
    },
    /// The relay writes so many bytes, and so many arrive.
    Write {
        device: usize,
        at_most: usize,
        arrive: usize,
    },
    Ack {
        device: usize,
        fewer: u64,
    },
    /// The link is gone, with what was under way.
    Cut {
        device: usize,
    },
    /// The link is back; `anew`: the device has lost its state.
    Return {
        device: usize,
        anew: bool,
    },
    Pass {
        millis: u64,
    },
    /// Other sessions leave no more than so many bytes of the budget.
    Press {
        free: usize,
    },
    /// The process is gone; another makes the session from its journal.
    Crash,
    /// The journal is written anew.
    Rewrite,
}

#[derive(Debug, Clone)]
struct MessageRun {
    topic: usize,
    flags: u8,
    count: usize,
    size: usize,
}

#[derive(Clone)]
struct Plan {
    policies: [usize; DEVICES],
    lingers: [bool; DEVICES],
    clocks: [bool; DEVICES],
    keepalives: [bool; DEVICES],
    /// what each device opens and subscribes to at the start, as bits
    opens: [u8; DEVICES],
    filters: [u8; DEVICES],
    outbox: usize,
    retained: u32,
    stall_ms: u64,
    is_journaled: bool,
    steps: Vec<Step>,
}

const DEVICES: usize = 4;
const BUDGET: usize = 1 << 20;

/// A line for each step, as it can be read and put into a test of its own.
impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { policies, lingers, clocks, keepalives, .. } = self;
        let policies = policies.map(|policy| WhenFull::ALL[policy].name());
        let Self { opens, filters, outbox, retained, stall_ms, is_journaled, steps, .. } = self;
        writeln!(f, "policies {policies:?}, lingers {lingers:?}")?;
        writeln!(f, "clocks {clocks:?}, keepalives {keepalives:?}")?;
        writeln!(f, "opens {opens:?}, filters {filters:?}")?;
        writeln!(
            f,
            "outbox {outbox}, retained {retained}, stall {stall_ms}, journal {is_journaled}"
        )?;
        // proptest asks for {:#?}, a step of many lines
        steps.iter().try_for_each(|step| writeln!(f, "    {step:?}"))
    }
}

/// A peer, as it sees itself and as the relay should see it.
#[derive(Debug, Default)]
struct Device {
    // what the relay has of it
    key: Option<PeerKey>,
    index: u32,
    /// of the relay's state; 0: none
    serial: u64,
    filters: BTreeMap<usize, bool>,
    taken: u64,
    /// messages for it, in order, and where each stands
    routed: BTreeMap<u32, usize>,
    routed_counted: BTreeSet<u32>,
    routed_count: u64,
    has_replayed: bool,
    /// what was not counted, and waited, is lost with the process
    has_crashed: bool,
    // the link
    to_send: Vec<u8>,
    under_way: Vec<u8>,
    inbox: Vec<u8>,
    is_blocked: bool,
    is_welcome: bool,
    // what it knows itself
    epoch: u64,
    counted_received: u64,
    acked: u64,
    requests: BTreeMap<u32, usize>,
    open: BTreeMap<usize, TopicId>,
    /// all counted frames of the epoch
    sent: Vec<Vec<u8>>,
    announced: BTreeSet<u32>,
    // what it found
    last: Option<usize>,
    received: BTreeSet<u32>,
    received_count: u64,
    told: u64,
    lost: u64,
}

struct World {
    rig: Rig,
    plan: Plan,
    devices: Vec<Device>,
    published: u64,
    routed: u64,
    next_number: u32,
    next_epoch: u64,
    taken_numbers: BTreeSet<u32>,
    /// bytes of the budget that other sessions have
    ballast: usize,
    /// the journal before what the session has of it
    journal: Vec<u8>,
}

fn step() -> impl Strategy<Value = Step> {
    let device = 0..DEVICES;
    let (topic, filter) = (0..TOPICS.len(), 0..FILTERS.len());
    prop_oneof![
        2 => (device.clone(), topic.clone())
            .prop_map(|(device, topic)| Step::Open { device, topic }),
        1 => (device.clone(), topic.clone())
            .prop_map(|(device, topic)| Step::CloseTopic { device, topic }),
        2 => (device.clone(), filter.clone(), any::<bool>(), proptest::option::weighted(0.1, 0u64..5))
            .prop_map(|(device, filter, no_local, past)| Step::Subscribe { device, filter, no_local, past }),
        1 => (device.clone(), filter.clone())
            .prop_map(|(device, filter)| Step::Unsubscribe { device, filter }),
        1 => (device.clone(), filter, 0u64..6)
            .prop_map(|(device, filter, count)| Step::History { device, filter, count }),
        12 => (device.clone(), proptest::collection::vec(message_run(), 1..4))
            .prop_map(|(device, runs)| Step::Publish { device, runs }),
        1 => (device.clone(), topic, 0u8..4)
            .prop_map(|(device, topic, flags)| Step::Emit { device, topic, flags }),
        12 => (device.clone(), piece()).prop_map(|(device, at_most)| Step::Send { device, at_most }),
        8 => (device.clone(), piece(), piece())
            .prop_map(|(device, at_most, arrive)| Step::Write { device, at_most, arrive }),
        4 => (device.clone(), 0u64..6).prop_map(|(device, fewer)| Step::Ack { device, fewer }),
        2 => device.clone().prop_map(|device| Step::Cut { device }),
        4 => (device, proptest::bool::weighted(0.1))
            .prop_map(|(device, anew)| Step::Return { device, anew }),
        2 => (0u64..4000).prop_map(|millis| Step::Pass { millis }),
        1 => prop_oneof![Just(0usize), 0usize..3000, Just(1 << 20)]
            .prop_map(|free| Step::Press { free }),
        1 => Just(Step::Crash),
        1 => Just(Step::Rewrite),
    ]
}

/// A few bytes, or many.
fn piece() -> impl Strategy<Value = usize> {
    prop_oneof![1 => 1usize..40, 2 => 1usize..1500, 1 => Just(usize::MAX)]
}

fn message_run() -> impl Strategy<Value = MessageRun> {
    let flags = prop_oneof![3 => Just(1u8), 2 => Just(0), 1 => Just(2), 1 => Just(3)];
    (0..TOPICS.len(), flags, 1usize..20, 4usize..60)
        .prop_map(|(topic, flags, count, size)| MessageRun { topic, flags, count, size })
}

fn plan() -> impl Strategy<Value = Plan> {
    let policies = proptest::array::uniform4(0..WhenFull::ALL.len());
    let flags = (any::<[bool; 4]>(), any::<[bool; 4]>(), any::<[bool; 4]>());
    let starts = (any::<[u8; 4]>(), any::<[u8; 4]>());
    let times = (prop_oneof![Just(0u32), Just(8)], prop_oneof![Just(0u64), Just(5_000)]);
    let times = (times, any::<bool>());
    let steps = proptest::collection::vec(step(), 1..150);
    (policies, flags, starts, 0usize..1200, times, steps).prop_map(
        |(policies, flags, (opens, filters), outbox, (times, is_journaled), steps)| {
            let (retained, stall_ms) = times;
            let (lingers, clocks, keepalives) = flags;
            Plan {
                policies,
                lingers,
                clocks,
                keepalives,
                opens,
                filters,
                outbox,
                retained,
                stall_ms,
                is_journaled,
                steps,
            }
        },
    )
}

impl World {
    fn new(plan: Plan) -> Self {
        let limits = Limits {
            payload: 64,
            outbox: plan.outbox,
            stall_ms: plan.stall_ms,
            retention: Retention { messages: plan.retained, age_ms: 6_000, bytes: 1_000 },
            ..limits()
        };
        let mut world = Self {
            rig: Rig::with_budget(limits, BUDGET),
            plan,
            devices: (0..DEVICES).map(|_| Device::default()).collect(),
            published: 0,
            routed: 0,
            next_number: 0,
            next_epoch: 0,
            taken_numbers: BTreeSet::new(),
            ballast: 0,
            journal: Vec::new(),
        };
        if world.plan.is_journaled {
            world.rig.session.start_journal();
        }
        for device in 0..DEVICES {
            world.start(device);
        }
        world
    }

    fn start(&mut self, device: usize) {
        self.come_back(device, true);
        self.write(device, usize::MAX);
        self.arrive(device, usize::MAX);
        for topic in 0..TOPICS.len() {
            if self.plan.opens[device] >> topic & 1 != 0 {
                self.open(device, topic);
            }
        }
        for filter in 0..FILTERS.len() {
            if self.plan.filters[device] >> filter & 1 != 0 {
                let no_local = self.plan.filters[device] >> 7 != 0;
                self.run(Step::Subscribe { device, filter, no_local, past: None });
            }
        }
        while !self.devices[device].to_send.is_empty() {
            self.send(device, usize::MAX);
        }
        self.write(device, usize::MAX);
        self.arrive(device, usize::MAX);
    }

    fn press(&mut self, free: usize) {
        let budget = &self.rig.budget;
        budget.give_back(core::mem::take(&mut self.ballast));
        let ballast = (budget.limit() - budget.used()).saturating_sub(free);
        assert!(budget.try_take(ballast), "nobody else takes any");
        self.ballast = ballast;
    }

    fn is_hold(&self, device: usize) -> bool {
        WhenFull::ALL[self.plan.policies[device]] == WhenFull::Hold
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Open { device, topic } => self.open(device, topic),
            Step::CloseTopic { device, topic } => {
                if let Some(id) = self.welcome_device(device).and_then(|it| it.open.remove(&topic))
                {
                    let close = control::CloseTopic { id: id.get(), ..Default::default() };
                    self.devices[device].to_send.extend(control(close));
                }
            }
            Step::Subscribe { device, filter, no_local, past } => {
                let flags = if no_local { options::NO_LOCAL } else { 0 }
                    | if past.is_none() { options::NO_LAST } else { 0 };
                let subscribe = control::Subscribe {
                    request: self.rig.next_request(),
                    topic: FILTERS[filter],
                    flags: Some(flags),
                    count: past,
                    ..Default::default()
                };
                self.say(device, control(subscribe));
            }
            Step::Unsubscribe { device, filter } => {
                let (request, topic) = (self.rig.next_request(), FILTERS[filter]);
                self.say(
                    device,
                    control(control::Unsubscribe { request, topic, ..Default::default() }),
                );
            }
            Step::History { device, filter, count } => {
                let (request, topic) = (self.rig.next_request(), FILTERS[filter]);
                let count = Some(count);
                self.say(
                    device,
                    control(control::History { request, topic, count, ..Default::default() }),
                );
            }
            Step::Publish { device, runs } => {
                runs.into_iter().for_each(|run| self.publish(device, &run));
            }
            Step::Emit { device, topic, flags } => {
                let data = self.number().to_le_bytes();
                let emit = control::Emit {
                    topic: TOPICS[topic],
                    flags: Some(flags.into()),
                    data: &data,
                    request: Some(self.rig.next_request()),
                    ..Default::default()
                };
                self.say(device, control(emit));
            }
            Step::Send { device, at_most } => self.send(device, at_most),
            Step::Write { device, at_most, arrive } => {
                self.write(device, at_most);
                self.arrive(device, arrive);
            }
            Step::Press { free } => self.press(free),
            Step::Crash => self.crash(),
            Step::Rewrite => self.rewrite(),
            Step::Ack { device, fewer } => self.acknowledge(device, fewer),
            Step::Cut { device } => self.cut(device),
            Step::Return { device, anew } => self.come_back(device, anew),
            Step::Pass { millis } => {
                self.rig.pass(millis);
                self.notice();
            }
        }
    }

    // what devices do

    fn welcome_device(&mut self, device: usize) -> Option<&mut Device> {
        self.devices.get_mut(device).filter(|device| device.is_welcome)
    }

    fn say(&mut self, device: usize, bytes: Vec<u8>) {
        if let Some(device) = self.welcome_device(device) {
            device.to_send.extend(bytes);
        }
    }

    fn number(&mut self) -> u32 {
        self.next_number += 1;
        self.next_number
    }

    fn open(&mut self, device: usize, topic: usize) {
        let request = self.rig.next_request();
        let Some(device) = self.welcome_device(device) else { return };
        if device.open.contains_key(&topic) {
            return;
        }
        device.requests.insert(request, topic);
        let topic = TOPICS[topic];
        device.to_send.extend(control(control::Open { request, topic, ..Default::default() }));
    }

    fn publish(&mut self, device: usize, run: &MessageRun) {
        let id =
            self.welcome_device(device).and_then(|device| device.open.get(&run.topic).copied());
        let Some(id) = id else { return };
        for _ in 0..run.count {
            let mut payload = vec![0; run.size];
            payload[..4].copy_from_slice(&self.number().to_le_bytes());
            let bytes = data(id, DataFlags::from_bits(run.flags), &payload);
            let device = &mut self.devices[device];
            if run.flags & 1 != 0 {
                device.sent.push(bytes.clone());
            }
            device.to_send.extend(bytes);
        }
    }

    fn acknowledge(&mut self, device: usize, fewer: u64) {
        let Some(device) = self.welcome_device(device) else { return };
        device.acked = device.counted_received.saturating_sub(fewer).max(device.acked);
        let bytes = ack(device.acked);
        device.to_send.extend(bytes);
    }

    fn come_back(&mut self, at: usize, anew: bool) {
        let device = &mut self.devices[at];
        if device.key.is_some() {
            return;
        }
        if anew {
            self.next_epoch += 1;
            device.epoch = self.next_epoch;
            device.begin_anew();
        }
        // HELLO says what was received, and so acknowledges it
        device.acked = device.counted_received;
        let lingers = self.plan.lingers[at];
        let admission = Admission {
            name: format!("device {at}").into(),
            taken: device.counted_received,
            when_full: Some(WhenFull::ALL[self.plan.policies[at]]),
            linger: lingers.then_some(10),
            keepalive: Some(if self.plan.keepalives[at] { 5 } else { 0 }),
            flags: if self.plan.clocks[at] { features::TIME } else { 0 },
            ..admission(device.epoch)
        };
        let state = (admission.epoch, admission.identity.clone(), admission.name.clone());
        let state = self.rig.session.by_epoch.get(&state).copied();
        let missing = state.map_or(0, |index| self.rig.session.missing_at(index));
        let Ok(key) = self.rig.session.attach(self.rig.now(), admission) else {
            self.notice();
            return;
        };
        let serial = self.rig.session.at(key.index).expect("it was just let in").cold.serial;
        let device = &mut self.devices[at];
        (device.key, device.index, device.is_blocked) = (Some(key), key.index, false);
        if device.serial != serial {
            device.forget_state();
            device.serial = serial;
            // it is told of what it can have no more
            device.routed_count = missing;
        }
        self.notice();
    }

    fn cut(&mut self, at: usize) {
        let device = &mut self.devices[at];
        let Some(key) = device.key.take() else { return };
        device.lose_link();
        let now = self.rig.now().mono;
        self.rig.session.detach(now, key);
        self.notice();
    }

    /// The session is gone, and made again from its journal: who may come back finds what it had.
    fn crash(&mut self) {
        if !self.plan.is_journaled {
            return;
        }
        self.press(BUDGET);
        let mut journal = core::mem::take(&mut self.journal);
        journal.extend_from_slice(self.rig.session.journaled());
        let now = self.rig.now().mono;
        let next = Session::new(*self.rig.session.limits(), Arc::clone(&self.rig.budget), now);
        let old = core::mem::replace(&mut self.rig.session, next);
        let lasts = |device: &Device| {
            let peer = old.at(device.index).filter(|peer| peer.cold.serial == device.serial);
            peer.is_some_and(|peer| peer.is_lasting() && peer.is_known)
        };
        let lasting: Vec<bool> = self.devices.iter().map(lasts).collect();
        let values = last_values(&old);
        drop(old);
        let mut rights = |_: &str| Some(Arc::new(Rights::everything()));
        let (restored, applied) = self.rig.session.restore(now, &journal, &mut rights);
        assert_eq!((applied, restored.dropped_peers), (Ok(()), 0));
        assert_eq!(restored.peers, lasting.iter().filter(|&&lasts| lasts).count());
        assert_eq!(last_values(&self.rig.session), values);
        self.rig.session.start_journal();
        for (at, lasts) in lasting.into_iter().enumerate() {
            let device = &mut self.devices[at];
            if device.key.take().is_some() {
                device.lose_link();
            }
            if !lasts {
                device.forget_state();
                continue;
            }
            device.has_crashed = true;
            let state = (device.epoch, "".into(), format!("device {at}").into());
            let index = self.rig.session.by_epoch.get(&state).copied().expect("it lasts");
            let peer = self.rig.session.at(index).expect("in the table");
            (device.index, device.serial) = (index, peer.cold.serial);
            assert_eq!(subscriptions(&self.rig.session, peer), device.filters);
        }
        let ledger = self.rig.session.figures().ledger;
        (self.published, self.routed) = (ledger.published, ledger.routed);
        self.rewrite();
    }

    fn rewrite(&mut self) {
        if !self.plan.is_journaled {
            return;
        }
        self.rig.session.clear_journal();
        let mut journal = Vec::new();
        let copied = self.rig.session.snapshot(|records| {
            journal.extend_from_slice(records);
            Ok::<_, ()>(())
        });
        assert_eq!(copied, Ok(()));
        self.journal = journal;
    }

    // what links do

    fn send(&mut self, at: usize, at_most: usize) {
        let Device { key: Some(key), is_blocked: false, .. } = self.devices[at] else { return };
        let end = end_of_piece(&self.devices[at].to_send, at_most);
        let bytes = self.devices[at].to_send[..end].to_vec();
        if bytes.is_empty() {
            return;
        }
        let before = self.rig.session.figures().ledger;
        let progress = self.rig.give_alone(key, &bytes);
        let after = self.rig.session.figures().ledger;
        let device = &mut self.devices[at];
        device.is_blocked = progress.is_blocked;
        device.to_send.drain(..progress.consumed);
        if matches!(self.rig.session.at(key.index), Some(Peer { link: Link::Closing, .. })) {
            device.to_send.clear();
        }
        let has_emitted = after.published - before.published > progress.messages.into();
        let mut messages = 0;
        for (start, head) in frames(&bytes[..progress.consumed]) {
            let body = &bytes[start + head.head..start + head.total()];
            match head.kind() {
                kind::DATA if messages < progress.messages => {
                    self.took(at, head, body);
                    messages += 1;
                }
                // the link is being closed; what else came was not read
                kind::DATA => {}
                kind::CONTROL => self.took_control(at, body, has_emitted),
                _ => {}
            }
        }
        assert_eq!(messages, progress.messages);
        // the rest of what was routed are retained messages for the device itself
        let replayed = after.routed - self.routed;
        self.routed += replayed;
        let device = &mut self.devices[at];
        device.routed_count += replayed;
        device.has_replayed |= replayed > 0;
        if progress.is_blocked {
            self.show_newest_ack(at, key);
        }
    }

    /// A link has more at hand than the piece at which it was blocked: an ACK that is in it counts.
    fn show_newest_ack(&mut self, at: usize, key: PeerKey) {
        let acked_ahead = self.rig.session.at(key.index).map_or(0, |peer| peer.acked_ahead);
        let rest = &self.devices[at].to_send;
        let newest = last_ack(rest).filter(|&newest| newest > acked_ahead);
        let (Some(newest), Some((_, first))) = (newest, frames(rest).next()) else { return };
        let others = frames(rest).skip(1).filter(|(_, head)| head.kind() != kind::ACK);
        let others: Vec<_> =
            others.flat_map(|(start, head)| rest[start..start + head.total()].to_vec()).collect();
        let ahead = [&rest[..first.total()], &ack(newest)].concat();
        let device = &mut self.devices[at];
        device.to_send = [&ahead[..], &others].concat();
        device.is_blocked = false;
        self.send(at, ahead.len());
    }

    /// The relay took a message from a device.
    fn took(&mut self, from: usize, head: Head, body: &[u8]) {
        let Ok(Frame::Data { flags, topic, payload }) = Frame::from_parts(head, body) else {
            panic!("made as DATA")
        };
        let name = self.devices[from].open.iter().find(|&(_, &id)| id == topic);
        // it may have been closed by the device since
        let name = name.map(|(&topic, _)| TOPICS[topic]).unwrap_or_else(|| {
            let known = self.rig.session.topics.get(topic).expect("open at the relay");
            TOPICS.into_iter().find(|&name| *name == *known.name).expect("one of ours")
        });
        let is_counted = flags.contains(DataFlags::COUNTED);
        self.devices[from].taken += u64::from(is_counted);
        self.route(from, name, is_counted, number_in(payload));
    }

    fn route(&mut self, from: usize, name: &str, is_counted: bool, number: u32) {
        assert!(self.taken_numbers.insert(number), "message {number} is taken twice");
        self.published += 1;
        let topic = TopicName::parse(name).expect("one of ours");
        for (at, device) in self.devices.iter_mut().enumerate() {
            let mut selecting = device.filters.iter().filter(|&(&filter, _)| {
                Filter::parse(FILTERS[filter]).expect("one of ours").matches(topic)
            });
            let wants_own = selecting.clone().any(|(_, &no_local)| !no_local);
            if device.serial == 0 || selecting.next().is_none() || (at == from && !wants_own) {
                continue;
            }
            self.routed += 1;
            device.routed.insert(number, device.routed.len());
            device.routed_count += 1;
            if is_counted {
                device.routed_counted.insert(number);
            }
        }
    }

    /// The relay took a control message from a device, the only one of its piece.
    fn took_control(&mut self, at: usize, body: &[u8], has_emitted: bool) {
        match Control::decode(body).expect("made above") {
            Control::Subscribe(_) | Control::Unsubscribe(_) => {
                let peer = self.rig.session.at(self.devices[at].index).expect("it has a link");
                // memory may have been refused
                self.devices[at].filters = subscriptions(&self.rig.session, peer);
            }
            Control::Emit(emit) if has_emitted => {
                let is_counted = emit.flags.is_some_and(|flags| flags & 1 != 0);
                self.route(at, emit.topic, is_counted, number_in(emit.data));
            }
            _ => {}
        }
    }

    fn write(&mut self, at: usize, at_most: usize) {
        let Some(key) = self.devices[at].key else { return };
        let bytes = self.rig.take_some(key, at_most);
        self.devices[at].under_way.extend(bytes);
        let output = self.rig.session.output(key).expect("the link is there");
        if output.is_last && output.bytes.is_empty() {
            self.arrive(at, usize::MAX);
            self.cut(at);
        }
    }

    fn arrive(&mut self, at: usize, at_most: usize) {
        let device = &mut self.devices[at];
        let at_most = at_most.min(device.under_way.len());
        device.inbox.extend(device.under_way.drain(..at_most));
        let inbox = core::mem::take(&mut device.inbox);
        let mut rest = &inbox[..];
        while let Some((frame, taken)) = Frame::decode(rest, MAX_BODY).expect("the relay's") {
            rest = &rest[taken..];
            device.receive(&frame);
        }
        device.inbox = rest.to_vec();
    }

    // what holds at all times

    /// States that the relay has given up are no more.
    fn notice(&mut self) {
        for device in &mut self.devices {
            let peer = self.rig.session.at(device.index);
            let is_here = peer.is_some_and(|peer| peer.cold.serial == device.serial);
            if device.serial != 0 && !is_here {
                assert_eq!(device.key, None, "a link without a state");
                device.forget_state();
            }
        }
        while let Some(index) = self.rig.session.poll_wake() {
            let woken = self
                .devices
                .iter_mut()
                .find(|device| device.key.is_some_and(|key| key.index() == index));
            if let Some(device) = woken {
                device.is_blocked = false;
            }
        }
    }

    fn check(&mut self) {
        let session = &mut self.rig.session;
        let ledger = session.figures().ledger;
        let peers = || session.peers.iter().filter_map(|slot| slot.peer.as_ref());
        let queued: u64 = peers().map(|peer| peer.outbox.figures().queued).sum();
        assert_eq!(ledger.published, self.published);
        assert_eq!(ledger.routed, self.routed);
        assert_eq!(ledger.routed, ledger.delivered + queued + ledger.dropped_total());
        let lingering = peers().filter(|peer| matches!(peer.link, Link::Lingering { .. })).count();
        assert_eq!(session.lingering, lingering);
        assert_eq!(session.attached + session.lingering, peers().count());
        for device in self.devices.iter().filter(|device| device.serial != 0) {
            let sum = device.received_count + device.told + device.lost;
            assert!(sum <= device.routed_count || device.has_crashed, "{device:?}");
            let peer = session.at(device.index).expect("noticed otherwise");
            assert_eq!(peer.taken, device.taken, "counted frames of a publisher");
        }
        assert!(self.rig.budget.used() <= self.rig.budget.limit());
        assert_eq!(self.rig.budget.used(), self.ballast + held(session));
        let retained: u64 = session
            .topics
            .iter()
            .filter_map(|(_, topic)| topic.log())
            .map(|log| u64::from(log.messages()))
            .sum();
        assert_eq!(session.figures().retained, retained);
        for (_, topic) in session.topics.iter() {
            let readers = topic.readers.as_slice();
            assert!(readers.is_sorted_by(|a, b| a.peer < b.peer));
            let holders = readers.iter().filter(|reader| reader.holds).count();
            assert_eq!(topic.holders as usize, holders);
            assert!(readers.iter().all(|reader| session.at(reader.peer).is_some()));
            let id = session.topics.find(topic.name().expect("a name")).expect("in the table");
            let open = peers().filter(|peer| peer.has_open(id)).count();
            assert_eq!(topic.publishers as usize, open);
            let log = topic.log().filter(|log| log.messages() > 0);
            assert!(log.is_none() || session.topic_wheel.next_deadline().is_some());
        }
    }

    /// All come back, all is sent, written, received and acknowledged, and then adds up exactly.
    fn finish(&mut self) {
        self.press(BUDGET);
        let mut quiet = 0;
        for round in 0.. {
            assert!(round < 400, "it does not come to rest: {:?}", self.devices);
            let before = (self.rig.session.figures(), self.bytes_left());
            for device in 0..DEVICES {
                self.come_back(device, false);
                self.write(device, usize::MAX);
                self.arrive(device, usize::MAX);
                let is_new = self.devices[device].acked < self.devices[device].counted_received;
                if is_new {
                    self.acknowledge(device, 0);
                }
                self.send(device, usize::MAX);
                self.notice();
            }
            self.check();
            let is_same = before == (self.rig.session.figures(), self.bytes_left());
            quiet = if is_same { quiet + 1 } else { 0 };
            if round == 0 {
                // who waited for memory looks again by the clock; nothing else needs it
                self.rig.pass(1_500);
                self.notice();
            }
            if quiet == 2 {
                break;
            }
        }
        for (at, device) in self.devices.iter().enumerate() {
            assert!(device.key.is_some(), "let in again: {device:?}");
            assert!(device.to_send.is_empty(), "all is taken: {device:?}");
            assert_eq!(device.taken, device.sent.len() as u64, "and once");
            let sum = device.received_count + device.told + device.lost;
            assert!(sum == device.routed_count || device.has_crashed, "{device:?}");
            if self.is_hold(at) && !device.has_replayed {
                assert!(device.routed_counted.is_subset(&device.received), "{device:?}");
            }
        }
    }

    fn bytes_left(&self) -> usize {
        self.devices.iter().map(|device| device.to_send.len() + device.inbox.len()).sum()
    }

    /// All leave, and nothing stays behind.
    fn end(&mut self) {
        for device in 0..DEVICES {
            self.cut(device);
            self.check();
        }
        self.rig.pass(30_000);
        self.notice();
        self.check();
        let figures = self.rig.session.figures();
        assert_eq!((figures.peers, figures.lingering, figures.retained), (0, 0, 0));
        assert_eq!(figures.ledger.queued(), 0);
        // last values stay
        self.rig.session.topics.forget(&mut self.rig.session.buffers);
        self.rig.session.tidy();
        assert_eq!((self.rig.session.figures().topics, self.rig.budget.used()), (0, 0));
    }
}

impl Device {
    /// The relay has no state of it any more, or another.
    fn forget_state(&mut self) {
        self.serial = 0;
        self.filters.clear();
        self.taken = 0;
        self.routed.clear();
        self.routed_counted.clear();
        self.routed_count = 0;
        self.has_replayed = false;
        self.has_crashed = false;
        self.last = None;
        self.received.clear();
        (self.received_count, self.told, self.lost) = (0, 0, 0);
    }

    /// It has no state of the relay's any more.
    fn begin_anew(&mut self) {
        (self.counted_received, self.acked) = (0, 0);
        self.open.clear();
        self.sent.clear();
    }

    fn lose_link(&mut self) {
        let mut bytes = core::mem::take(&mut self.inbox);
        bytes.append(&mut self.under_way);
        let mut rest = &bytes[..];
        while let Some((frame, taken)) = Frame::decode(rest, MAX_BODY).expect("the relay's") {
            rest = &rest[taken..];
            match frame {
                Frame::Data { flags, .. } if !flags.contains(DataFlags::COUNTED) => self.lost += 1,
                Frame::Gap { count, .. } => self.lost += count,
                _ => {}
            }
        }
        self.to_send.clear();
        self.requests.clear();
        self.announced.clear();
        (self.is_welcome, self.is_blocked) = (false, false);
    }

    fn receive(&mut self, frame: &Frame<'_>) {
        let first = !self.is_welcome;
        match *frame {
            Frame::Control(body) => self.receive_control(body),
            Frame::Topic { id, .. } => {
                self.announced.insert(id.get());
            }
            Frame::Data { flags, topic, payload } => {
                assert!(self.announced.contains(&topic.get()), "a topic that was not announced");
                self.counted_received += u64::from(flags.contains(DataFlags::COUNTED));
                self.received_count += 1;
                let number = number_in(payload);
                self.received.insert(number);
                if self.has_replayed {
                    return;
                }
                let place = self.routed.get(&number).copied();
                assert!(place.is_some(), "{number} is not for it: {self:?}");
                assert!(place > self.last, "{number} comes late or twice: {self:?}");
                self.last = place;
            }
            Frame::Gap { topic, count, .. } => {
                let known = topic.is_none_or(|topic| self.announced.contains(&topic.get()));
                assert!(known, "a gap in a topic that was not announced");
                self.told += count;
            }
            Frame::Ack { taken, .. } => assert!(taken <= self.sent.len() as u64),
            Frame::Ping { .. } => {
                let pong = Frame::Pong { token: &[] };
                self.to_send.extend(super::tests::frame(&pong));
            }
            _ => {}
        }
        assert!(!first || self.is_welcome, "WELCOME is the first frame, not {frame:?}");
    }

    fn receive_control(&mut self, body: &[u8]) {
        match Control::decode(body).expect("the relay's") {
            Control::Welcome(welcome) => {
                self.is_welcome = true;
                if !welcome.resumed {
                    assert_eq!(welcome.taken, 0);
                    return self.begin_anew();
                }
                assert_eq!(welcome.taken, self.taken);
                let taken = usize::try_from(welcome.taken).expect("few");
                let missing = self.sent.get(taken..).expect("no more than was sent");
                self.to_send.extend(missing.concat());
            }
            Control::Ok(ok) => {
                if let (Some(topic), Some(id)) = (self.requests.remove(&ok.request), ok.id) {
                    self.open.insert(topic, TopicId::new(id).expect("not 0"));
                }
            }
            Control::Error(error) => {
                let request = error.request.expect("it does nothing that it may not");
                self.requests.remove(&request);
            }
            Control::Bye(bye) => {
                let reason = ByeReason::from_number(bye.code);
                let expected = [Some(ByeReason::TooSlow), Some(ByeReason::Silent)];
                assert!(expected.contains(&reason), "{reason:?}");
            }
            other => panic!("not asked for: {other:?}"),
        }
    }
}

/// Up to `at_most` bytes, of which at most the first frame is a control message: what one does should
/// be seen by itself.
fn end_of_piece(bytes: &[u8], at_most: usize) -> usize {
    let second_control = frames(bytes).skip(1).find(|(_, head)| head.kind() == kind::CONTROL);
    let end = second_control.map_or(bytes.len(), |(start, _)| start + 1);
    end.min(at_most.max(1))
}

fn last_ack(bytes: &[u8]) -> Option<u64> {
    let (start, _) = frames(bytes).filter(|(_, head)| head.kind() == kind::ACK).last()?;
    match Frame::decode(&bytes[start..], MAX_BODY) {
        Ok(Some((Frame::Ack { taken, .. }, _))) => Some(taken),
        other => panic!("not an ACK: {other:?}"),
    }
}

/// Where the whole frames are.
fn frames(bytes: &[u8]) -> impl Iterator<Item = (usize, Head)> {
    let mut at = 0;
    core::iter::from_fn(move || {
        let (head, _) = frame::split(&bytes[at..], MAX_BODY).expect("made here")?;
        at += head.total();
        Some((at - head.total(), head))
    })
}

fn number_in(payload: &[u8]) -> u32 {
    let (number, _) = payload.split_first_chunk().expect("each payload begins with its number");
    u32::from_le_bytes(*number)
}

fn subscriptions(session: &Session, peer: &Peer) -> BTreeMap<usize, bool> {
    let known = peer.cold.subscriptions.as_slice().iter().map(|known| {
        let text = known.filter(&session.topics).expect("it has one");
        let filter = FILTERS.iter().position(|filter| text.as_str() == *filter);
        (filter.expect("one of ours"), known.no_local)
    });
    known.collect()
}

/// The last values, by topic.
fn last_values(session: &Session) -> BTreeMap<Box<str>, Vec<u8>> {
    let logs = session.topics.iter().filter_map(|(_, topic)| Some((topic, topic.log()?)));
    let values = logs.filter_map(|(topic, log)| Some((topic.name.clone(), log.last()?)));
    values.map(|(name, last)| (name, last.frames.to_vec())).collect()
}

/// What the session should be charged for.
fn held(session: &Session) -> usize {
    let peers = session.peers.iter().filter_map(|slot| slot.peer.as_ref());
    let of_peers: usize = peers
        .map(|peer| {
            let subscriptions: usize =
                peer.cold.subscriptions.as_slice().iter().map(|it| it.charge()).sum();
            peer_charge(&peer.cold.identity, &peer.cold.name)
                + peer.outbox.figures().bytes
                + peer.open_topics_charge()
                + subscriptions
        })
        .sum();
    let of_topics: usize = session
        .topics
        .iter()
        .map(|(_, topic)| {
            topics::charge(&topic.name)
                + topic.schema().map_or(0, <[u8]>::len)
                + topic.readers.as_slice().len() * topics::READER_BYTES
                + topic.log().map_or(0, |log| log.charge())
        })
        .sum();
    of_peers + of_topics + session.topics.holes_charge() + session.buffers.spare_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig {
        // most of the time would go into the numbers, unoptimized as they are here
        rng_algorithm: RngAlgorithm::XorShift,
        max_shrink_iters: 20_000,
        ..ProptestConfig::with_cases(1500)
    })]

    #[test]
    fn whatever_happens_all_adds_up(plan in plan()) {
        let steps = plan.steps.clone();
        let mut world = World::new(plan);
        for step in steps {
            world.run(step);
            world.notice();
            world.check();
        }
        world.finish();
        world.end();
    }
}
