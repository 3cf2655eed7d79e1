//! What a lane of the uplink lets go of when it is full, and what it does not.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::journal::{publisher, restored, tiers};
use super::*;

const NAMES: [&str; 4] = ["oldest/a", "oldest/b", "latest/a", "wait/a"];
/// Bytes of messages in the lane.
const ROOM: usize = 1500;

fn lane(epoch: u64) -> Admission {
    Admission {
        own: Some(Own { outbox: ROOM }),
        linger: Some(u32::MAX),
        flags: features::TIME,
        ..own(epoch, "normal")
    }
}

fn policy(topic: &str) -> WhenFull {
    match topic.split_once('/') {
        Some(("oldest", _)) => WhenFull::DropOldest,
        Some(("latest", _)) => WhenFull::Latest,
        _ => WhenFull::Hold,
    }
}

/// A message: who published it, and which of his it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Message {
    from: usize,
    number: u64,
    topic: usize,
}

/// What a central instance makes of what it gets: counts, and gaps by place.
#[derive(Default)]
struct Central {
    messages: Vec<Message>,
    /// What it had when the link began.
    began: u64,
    /// How far the lane has read on the link at hand.
    read: u64,
    /// By place, topic and cause; of what several links say the most counts.
    gaps: BTreeMap<(u64, String, GapCause), u64>,
    /// As the link at hand says it.
    on_link: BTreeMap<(u64, String, GapCause), u64>,
}

impl Central {
    fn gap(&mut self, topic: &str, cause: GapCause, count: u64) {
        if self.read < self.began {
            // it has that since an earlier link
            return;
        }
        let place = (self.read, topic.to_owned(), cause);
        let sum = self.on_link.entry(place.clone()).or_default();
        *sum += count;
        let most = self.gaps.entry(place).or_default();
        *most = (*most).max(*sum);
    }

    /// How much is missing of a topic.
    fn missing(&self, topic: &str) -> u64 {
        self.gaps.iter().filter(|((_, of, _), _)| of == topic).map(|(_, count)| count).sum()
    }
}

struct Site {
    rig: Rig,
    lane: Option<PeerKey>,
    publishers: [PeerKey; 2],
    topics: Vec<TopicId>,
    names: BTreeMap<u32, String>,
    /// what was taken, in its order
    published: Vec<Message>,
    counts: [u64; 2],
    central: Central,
}

impl Site {
    fn new() -> Self {
        let mut rig = Rig::new(limits());
        rig.session.start_journal();
        let key = rig.attach(lane(9));
        rig.session.make_member(key, Tier::Central);
        rig.session.set_policy(key, Arc::new(policy));
        rig.subscribe(key, "#");
        let publishers = [1, 2].map(|epoch| rig.attach(publisher(epoch)));
        let topics: Vec<_> = NAMES.iter().map(|name| rig.open(publishers[0], name)).collect();
        NAMES.iter().for_each(|name| _ = rig.open(publishers[1], name));
        Self {
            rig,
            lane: Some(key),
            publishers,
            topics,
            names: BTreeMap::new(),
            published: Vec::new(),
            counts: [0; 2],
            central: Central::default(),
        }
    }

    /// How many of the messages were taken.
    fn publish(&mut self, from: usize, topic: usize, count: u64) -> u64 {
        let mut frames = Vec::new();
        for number in 1..=count {
            let number = self.counts[from] + number;
            let mut payload = [u8::try_from(from).expect("two"); 40];
            payload[1..9].copy_from_slice(&number.to_be_bytes());
            payload[9] = u8::try_from(topic).expect("four");
            frames.extend(counted(self.topics[topic], &payload));
        }
        self.rig.clock += 1;
        let mut taken = 0;
        let mut rest = &frames[..];
        while !rest.is_empty() {
            let progress = self.rig.give_alone(self.publishers[from], rest);
            rest = &rest[progress.consumed..];
            taken += u64::from(progress.messages);
            if progress.is_blocked {
                break;
            }
        }
        for _ in 0..taken {
            self.counts[from] += 1;
            self.published.push(Message { from, number: self.counts[from], topic });
        }
        taken
    }

    /// The lane's link writes at most so many bytes, of which the last are `lost` with it.
    fn read(&mut self, at_most: usize, lost: Option<usize>) {
        let Some(key) = self.lane else { return };
        let mut bytes = self.rig.take_some(key, at_most);
        if let Some(lost) = lost {
            bytes.truncate(bytes.len().saturating_sub(lost));
        }
        let mut rest = &bytes[..];
        while let Some((frame, taken)) = Frame::decode(rest, MAX_BODY).expect("its frames") {
            rest = &rest[taken..];
            match frame {
                Frame::Topic { id, name, .. } => {
                    self.names.insert(id.get(), name.to_owned());
                }
                Frame::Gap { topic, count, cause } => {
                    let topic = topic.unwrap_or_else(|| panic!("of no topic: {count} {cause:?}"));
                    let name = self.names.get(&topic.get()).expect("it was announced on this link");
                    self.central.gap(&name.clone(), cause, count);
                }
                Frame::Data { topic, payload, .. } => {
                    assert!(self.names.contains_key(&topic.get()), "it was announced");
                    let (from, number) = (payload[0].into(), payload[1..9].try_into());
                    let number = u64::from_be_bytes(number.expect("8 bytes"));
                    let peer = self.rig.session.peer_mut(self.publishers[from]).expect("there");
                    assert!(peer.held(Tier::Central) < number, "told before it was held");
                    let message = Message { from, number, topic: payload[9].into() };
                    let central = &mut self.central;
                    central.read += 1;
                    if central.read > central.began {
                        central.messages.push(message);
                    } else {
                        let at = usize::try_from(central.read).expect("few") - 1;
                        assert_eq!(central.messages[at], message, "the counts are the same");
                    }
                }
                _ => {}
            }
        }
        if lost.is_some() || !rest.is_empty() {
            self.detach();
        }
    }

    fn detach(&mut self) {
        if let Some(key) = self.lane.take() {
            self.rig.session.detach(self.rig.now().mono, key);
        }
    }

    /// A new link; one that is there still is taken over from.
    fn attach(&mut self) {
        let known = self.rig.session.counts("$uplink", "normal").expect("it lasts");
        self.names.clear();
        self.central.on_link.clear();
        self.central.began = self.central.messages.len() as u64;
        self.central.read = known.acked;
        let admission = Admission { taken: known.acked, ..lane(known.epoch) };
        let key = self.rig.session.attach(self.rig.now(), admission).expect("room");
        self.rig.session.make_member(key, Tier::Central);
        self.lane = Some(key);
    }

    /// All that the lane has read is where it has to be.
    fn acknowledge(&mut self) {
        if let Some(key) = self.lane {
            self.rig.give_alone(key, &ack(self.central.read));
        }
    }

    /// Messages of one topic live for so long.
    fn expire(&mut self, millis: u64) -> u64 {
        let key = self.rig.session.key("$uplink", "normal").expect("it lasts");
        let now = self.rig.now().mono;
        let mut max_age = |topic: &str| if topic == NAMES[1] { millis } else { DAY };
        self.rig.session.expire(now, key, &mut max_age)
    }

    fn crash(&mut self) {
        let before = tiers(&self.rig.session);
        let had_link = self.lane.take().is_some();
        restored(&mut self.rig);
        assert_eq!(tiers(&self.rig.session), before);
        let key = self.rig.session.key("$uplink", "normal").expect("it lasts");
        // as an uplink does at its start, before it connects
        let known = self.rig.session.counts("$uplink", "normal").expect("it lasts");
        let admission = Admission { taken: known.acked, ..lane(known.epoch) };
        let entered = self.rig.session.attach(self.rig.now(), admission).expect("room");
        assert_eq!(entered.index(), key.index());
        self.rig.session.set_policy(entered, Arc::new(policy));
        self.lane = Some(entered);
        self.detach();
        for (key, epoch) in self.publishers.iter_mut().zip([1, 2]) {
            *key = super::journal::back(&mut self.rig, publisher(epoch));
        }
        if had_link {
            self.attach();
        }
    }

    /// All goes up; each message came once and in order, or is missing, by its topic.
    fn finish(&mut self) {
        self.attach();
        for _ in 0..100 {
            self.read(usize::MAX, None);
            self.acknowledge();
        }
        let central = &self.central;
        let mut known = central.messages.clone();
        known.sort_unstable();
        known.dedup();
        assert_eq!(known.len(), central.messages.len(), "none came twice");
        let mut rest = self.published.iter();
        for message in &central.messages {
            assert!(rest.any(|published| published == message), "{message:?} is out of order");
        }
        for (topic, name) in NAMES.iter().enumerate() {
            let of = |messages: &[Message]| {
                messages.iter().filter(|message| message.topic == topic).count() as u64
            };
            let came = of(&central.messages);
            assert_eq!(of(&self.published), came + central.missing(name), "{name}");
        }
        assert_eq!(central.missing("wait/a"), 0);
        let ledger = self.rig.ledger();
        assert_eq!(ledger.queued(), 0, "{ledger:?}");
        for from in 0..2 {
            let peer = self.rig.session.peer_mut(self.publishers[from]).expect("there");
            assert_eq!(peer.held(Tier::Central), peer.taken, "nobody waits for ever");
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Publish { from: usize, topic: usize, count: u64 },
    Read { at_most: usize, lost: Option<usize> },
    Acknowledge,
    Detach,
    Attach,
    Expire { millis: u64 },
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let lost = prop_oneof![3 => Just(None), 1 => (0usize..300).prop_map(Some)];
    prop_oneof![
        10 => (0usize..2, 0usize..4, 1u64..8)
            .prop_map(|(from, topic, count)| Step::Publish { from, topic, count }),
        3 => (1usize..900, lost).prop_map(|(at_most, lost)| Step::Read { at_most, lost }),
        2 => Just(Step::Acknowledge),
        1 => Just(Step::Detach),
        2 => Just(Step::Attach),
        2 => (0u64..20).prop_map(|millis| Step::Expire { millis }),
        1 => Just(Step::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn what_was_taken_comes_once_or_is_told_as_missing(
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut site = Site::new();
        for step in steps {
            match step {
                Step::Publish { from, topic, count } => _ = site.publish(from, topic, count),
                Step::Read { at_most, lost } => site.read(at_most, lost),
                Step::Acknowledge => site.acknowledge(),
                Step::Detach => site.detach(),
                Step::Attach => site.attach(),
                Step::Expire { millis } => _ = site.expire(millis),
                Step::Crash => site.crash(),
            }
        }
        site.finish();
    }
}

#[test]
fn a_full_lane_without_a_link_keeps_the_newest_and_slows_nobody() {
    let mut site = Site::new();
    site.detach();
    for _ in 0..40 {
        assert_eq!(site.publish(0, 0, 5), 5);
    }
    site.finish();
    let numbers: Vec<u64> = site.central.messages.iter().map(|message| message.number).collect();
    let first = *numbers.first().expect("some are left");
    assert_eq!(numbers, (first..=200).collect::<Vec<_>>(), "the newest, without a hole");
    assert!(numbers.len() > 20, "{}", numbers.len());
    assert_eq!(site.central.missing(NAMES[0]), first - 1);
}

#[test]
fn values_that_newer_ones_took_the_place_of_go_first() {
    let mut site = Site::new();
    site.detach();
    site.publish(0, 0, 10);
    for _ in 0..40 {
        assert_eq!(site.publish(0, 2, 1), 1);
    }
    site.finish();
    assert_eq!(site.central.missing(NAMES[0]), 0, "room was made without them");
    let last = site.central.messages.last().expect("some are left");
    assert_eq!((last.topic, last.number), (2, 50));
    let superseded = site.central.gaps.keys().all(|key| key.2 == GapCause::Superseded);
    assert!(superseded, "{:?}", site.central.gaps);
}

#[test]
fn publishers_that_are_to_wait_do_and_lose_nothing() {
    let mut site = Site::new();
    site.detach();
    let taken: u64 = (0..40).map(|_| site.publish(0, 3, 5)).sum();
    assert!(taken < 40, "{taken}");
    assert_eq!(site.publish(0, 3, 1), 0);
    // others that are not to wait go instead of being waited for
    assert_eq!(site.publish(1, 0, 3), 3);
    site.finish();
    assert_eq!(site.central.missing(NAMES[0]), 3);
    assert_eq!(site.central.missing(NAMES[3]), 0);
}

#[test]
fn what_a_link_may_have_carried_stays_also_after_a_crash() {
    let mut site = Site::new();
    assert_eq!(site.publish(0, 0, 20), 20);
    // half of it is on its way when the link and the process end
    site.read(500, None);
    site.crash();
    site.detach();
    for _ in 0..40 {
        site.publish(0, 0, 5);
    }
    let sent = site.central.messages.len();
    site.finish();
    assert!(sent > 5 && site.central.messages[..sent] == site.published[..sent]);
}

#[test]
fn what_is_too_old_goes_whether_or_not_there_is_room() {
    let mut site = Site::new();
    site.detach();
    site.publish(0, 1, 4);
    site.publish(0, 0, 2);
    assert_eq!(site.expire(1000), 0, "they are new");
    site.rig.clock += 998;
    site.publish(0, 1, 3);
    assert_eq!(site.expire(1000), 0);
    site.rig.clock += 1;
    // whatever happens to the time of day
    site.rig.day = Some(3 * DAY);
    assert_eq!(site.expire(1000), 4);
    assert_eq!(site.expire(1000), 0);
    site.finish();
    let left: Vec<_> = site.central.messages.iter().map(|message| message.number).collect();
    assert_eq!(left, [5, 6, 7, 8, 9]);
    let key = (0, NAMES[1].to_owned(), GapCause::Expired);
    assert_eq!(site.central.gaps, BTreeMap::from([(key, 4)]), "{left:?}");
}

#[test]
fn an_outage_that_a_crash_falls_into_goes_on_as_before() {
    let mut site = Site::new();
    site.publish(0, 0, 2);
    site.read(usize::MAX, None);
    site.acknowledge();
    site.detach();
    site.publish(0, 0, 200);
    site.crash();
    // nothing of it was sent, so all of it may go
    site.publish(0, 3, 12);
    assert_eq!(site.publish(0, 3, 5), 5, "the older ones gave way");
    site.publish(0, 0, 200);
    site.finish();
    assert_eq!(site.central.messages.last().map(|last| last.number), Some(419));
}
