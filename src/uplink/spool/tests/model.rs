//! The spool against a plain model: random work, links that break, restarts, losses of power. A central
//! instance that takes what it is sent must end up with every message once, in order.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;

use super::super::head::Cursor;
use super::super::*;
use super::rig::*;
use super::steps::{Shape, Step, step, when_full};
use crate::config::WhenSpoolFull::SlowPublisher;

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn every_message_is_central_once_or_held_or_told_of_as_dropped(
        steps in prop::collection::vec(step(), 1..90),
    ) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
        }
        world.finish();
    }
}

/// Something that came into a lane and is not known to be at the central instance.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    Message { id: u64, shape: ShapeOf, is_dropped: bool },
    Gap { topic: String, count: u64 },
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct ShapeOf {
    topic: String,
    must_stay: bool,
    expires: Option<u64>,
    publisher: (u8, u64),
}

/// What is known of a lane's spool; a loss of power brings an earlier one back.
#[derive(Debug, Clone, Default)]
struct Held {
    items: VecDeque<Item>,
    acknowledged: u64,
    dropped: u64,
}

#[derive(Debug, Default)]
struct OfLane {
    held: Held,
    /// what the central instance has, in its order, since its epoch began
    central: Vec<u64>,
    /// of earlier epochs: what it said that it has
    before: Vec<u64>,
    epoch: u64,
    /// read and not delivered
    under_way: VecDeque<Row>,
    sent: HashSet<u64>,
    cursor: Option<Cursor>,
}

struct World {
    place: Place,
    spool: Option<Spool>,
    now: u64,
    next: u64,
    counts: [u64; 3],
    lanes: [OfLane; 3],
    /// the files and what was in them when they were last made safe
    safe: Vec<(PathBuf, Vec<u8>)>,
    safe_held: [Held; 3],
    syncs: u64,
}

impl World {
    fn new() -> Self {
        let place = Place::with_disk(Limits::LEAST_DISK);
        let spool = Some(place.open());
        let mut world = Self {
            place,
            spool,
            now: 0,
            next: 1,
            counts: [0; 3],
            lanes: Default::default(),
            safe: Vec::new(),
            safe_held: Default::default(),
            syncs: 0,
        };
        for (of_lane, lane) in world.lanes.iter_mut().zip(LANES) {
            of_lane.epoch = 1;
            world.spool.as_mut().unwrap().restart(at(0), lane, 1).unwrap();
        }
        world.note_safe();
        world
    }

    fn spool(&mut self) -> &mut Spool {
        self.spool.as_mut().unwrap()
    }

    fn take(&mut self, step: Step) {
        let now = at(self.now);
        let is_append = matches!(step, Step::Append { .. } | Step::Gap { .. });
        match step {
            Step::Append { lane, messages } => self.append(lane, &messages),
            Step::Gap { lane, topic, count } => self.append_gap(lane, topic, count),
            Step::Link { lane } => self.link(lane),
            Step::Read { lane, rows } => self.read(lane, rows),
            Step::Deliver { lane, rows } => self.deliver(lane, rows),
            Step::Acknowledge { lane } => {
                if self.lanes[lane].cursor.is_some() {
                    self.acknowledge(lane);
                }
            }
            Step::ForgetGaps { lane } => self.forget_gaps(lane),
            Step::Cut { lane } => {
                if self.lanes[lane].cursor.take().is_some() {
                    self.lanes[lane].under_way.clear();
                    self.spool().end(now, LANES[lane]).unwrap();
                }
            }
            Step::Restart { lane } => self.restart(lane),
            Step::Wait { ms } => self.now += ms,
            Step::Expire => drop(self.spool().expire(now).unwrap()),
            Step::Reopen => self.reopen(),
            Step::LosePower => self.lose_power(),
        }
        self.compare(is_append);
        self.note_safe();
    }

    fn append(&mut self, lane: usize, shapes: &[Shape]) {
        let now = at(self.now);
        let mut items = Vec::new();
        let mut messages = Vec::new();
        for shape in shapes {
            let id = self.next;
            self.next += 1;
            let publisher = usize::from(shape.publisher);
            self.counts[publisher] += 1;
            let count = self.counts[publisher];
            let mut payload = id.to_le_bytes().to_vec();
            payload.resize(shape.bytes, b'x');
            let topic = format!("topic/{}", shape.topic);
            messages.push(Made {
                max_age: Duration::from_secs(shape.max_age),
                publisher: Some((whom(shape.publisher), count)),
                ..made(&topic, &payload, when_full(shape.topic))
            });
            let expires = (shape.max_age > 0).then_some(self.now + shape.max_age * 1000);
            let must_stay = when_full(shape.topic) == SlowPublisher;
            let publisher = (shape.publisher, count);
            let shape = ShapeOf { topic, must_stay, expires, publisher };
            items.push(Item::Message { id, shape, is_dropped: false });
        }
        let entries: Vec<_> = messages.iter().map(Made::entry).collect();
        let local = Local { epoch: 5, count: self.next };
        match self.spool().append(now, LANES[lane], &entries, Some(local)) {
            Ok(Appended::Taken { .. }) => self.lanes[lane].held.items.extend(items),
            Ok(Appended::DiskFull) => {
                assert!(shapes.iter().any(|shape| when_full(shape.topic) == SlowPublisher));
            }
            // the least spool has room for little
            Err(SpoolError::BatchTooLarge { .. }) => assert!(shapes.len() > 8),
            other => panic!("{other:?}"),
        }
    }

    fn append_gap(&mut self, lane: usize, topic: Option<u8>, count: u64) {
        let name = topic.map(|topic| format!("topic/{topic}"));
        let cause = GapCause::Overflow;
        let entry = Entry::Gap { topic: name.as_deref(), count, cause };
        let now = at(self.now);
        let appended = self.spool().append(now, LANES[lane], &[entry], None).unwrap();
        if appended == (Appended::Taken { dropped: 0 }) {
            let topic = name.unwrap_or_else(|| "*".to_owned());
            self.lanes[lane].held.items.push_back(Item::Gap { topic, count });
        }
    }

    /// A new link: the central instance says what it has.
    fn link(&mut self, lane: usize) {
        self.lanes[lane].under_way.clear();
        self.lanes[lane].sent.clear();
        self.acknowledge(lane);
        let now = at(self.now);
        let cursor = self.spool().begin(now, LANES[lane]).unwrap();
        self.lanes[lane].cursor = Some(cursor);
    }

    fn read(&mut self, lane: usize, rows: usize) {
        let Some(mut cursor) = self.lanes[lane].cursor else { return };
        let now = at(self.now);
        let read = self.spool().read(now, LANES[lane], &mut cursor, rows, 20_000).unwrap();
        let time = self.now;
        let of_lane = &mut self.lanes[lane];
        of_lane.cursor = Some(cursor);
        for row in read {
            if let Some(id) = id_of(&row) {
                of_lane.sent.insert(id);
                let is_over = of_lane.held.items.iter().any(|item| {
                    matches!(item, Item::Message { id: other, shape, .. }
                        if *other == id && shape.expires.is_some_and(|at| at < time))
                });
                assert!(!is_over, "{id} is too old to be sent");
            }
            of_lane.under_way.push_back(row);
        }
    }

    fn deliver(&mut self, lane: usize, rows: usize) {
        let of_lane = &mut self.lanes[lane];
        for _ in 0..rows {
            let Some(row) = of_lane.under_way.pop_front() else { return };
            if let Some(id) = id_of(&row) {
                of_lane.central.push(id);
            }
            assert_eq!(row.central_count, of_lane.central.len() as u64, "counts agree");
        }
    }

    fn acknowledge(&mut self, lane: usize) {
        let count = self.lanes[lane].central.len() as u64;
        let now = at(self.now);
        let confirmed = self.spool().acknowledge(now, LANES[lane], count).unwrap();
        let of_lane = &mut self.lanes[lane];
        while of_lane.held.acknowledged < count {
            let item = of_lane.held.items.pop_front().expect("the central instance has no more");
            let is_there = matches!(item, Item::Message { is_dropped: false, .. });
            of_lane.held.acknowledged += u64::from(is_there);
        }
        for Confirmed { publisher, count } in confirmed {
            let whose: u8 = publisher.name.parse().unwrap();
            let items = self.lanes.iter().flat_map(|lane| &lane.held.items);
            let pending = items.filter_map(|item| match item {
                Item::Message { shape, is_dropped: false, .. } if shape.publisher.0 == whose => {
                    Some(shape.publisher.1)
                }
                _ => None,
            });
            let least = pending.min();
            assert!(least.is_none_or(|least| count < least), "{count} of {whose} is not there");
            assert!(count <= self.counts[usize::from(whose)]);
        }
    }

    fn forget_gaps(&mut self, lane: usize) {
        let rows = self.peek(lane);
        let gaps: Vec<_> = rows.iter().take_while(|row| id_of(row).is_none()).collect();
        let Some(last) = gaps.last() else { return };
        let now = at(self.now);
        self.spool().forget_gaps(now, LANES[lane], last.seq).unwrap();
        let items = &mut self.lanes[lane].held.items;
        while let Some(Item::Gap { .. } | Item::Message { is_dropped: true, .. }) = items.front() {
            items.pop_front();
        }
    }

    /// The central instance has lost its state: what it had not acknowledged is sent again.
    fn restart(&mut self, lane: usize) {
        let now = at(self.now);
        let of_lane = &mut self.lanes[lane];
        of_lane.epoch += 1;
        let said = usize::try_from(of_lane.held.acknowledged).unwrap();
        of_lane.before.extend(of_lane.central.drain(..said));
        of_lane.central.clear();
        of_lane.under_way.clear();
        of_lane.sent.clear();
        of_lane.cursor = None;
        of_lane.held.acknowledged = 0;
        let epoch = of_lane.epoch;
        self.spool().restart(now, LANES[lane], epoch).unwrap();
    }

    fn reopen(&mut self) {
        self.spool = None;
        let (spool, opened) = self.place.open_and_tell(at(self.now));
        assert_eq!(opened.set_aside, None);
        self.spool = Some(spool);
        for of_lane in &mut self.lanes {
            of_lane.under_way.clear();
            of_lane.cursor = None;
        }
        self.syncs = 0;
    }

    /// All that was not synced is gone.
    fn lose_power(&mut self) {
        self.spool = None;
        for entry in fs::read_dir(self.place.folder()).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        for (path, bytes) in &self.safe {
            fs::write(path, bytes).unwrap();
        }
        for (of_lane, held) in self.lanes.iter_mut().zip(&self.safe_held) {
            of_lane.held = held.clone();
        }
        self.reopen();
    }

    /// Keeps the files if they were synced since.
    fn note_safe(&mut self) {
        let syncs = self.spool().inner.as_ref().unwrap().syncs;
        if syncs == self.syncs && !self.safe.is_empty() {
            return;
        }
        self.syncs = syncs;
        let entries = fs::read_dir(self.place.folder()).unwrap().map(|entry| entry.unwrap().path());
        self.safe = entries.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
        self.safe_held = [0, 1, 2].map(|lane| self.lanes[lane].held.clone());
    }

    /// All rows of a lane, without sending them.
    fn peek(&mut self, lane: usize) -> Vec<Row> {
        let now = at(self.now);
        let lane = LANES[lane];
        let spool = self.spool();
        spool
            .run(now, "peek", |work| {
                let sent = std::mem::replace(&mut work.memory.lanes[lane as usize].sent, u64::MAX);
                let cursor = Cursor { seq: 0, count: work.state.lane(lane).head_count };
                let read = work.read(lane, cursor, usize::MAX, usize::MAX)?;
                work.memory.lanes[lane as usize].sent = sent;
                Ok(read.unwrap().0)
            })
            .unwrap()
    }

    /// The rows are the model's, and all that is missing is told of at its place.
    fn compare(&mut self, is_append: bool) {
        let now = at(self.now);
        for lane in 0..3 {
            let rows = self.peek(lane);
            let there: HashSet<_> = rows.iter().filter_map(id_of).collect();
            let time = self.now;
            let of_lane = &mut self.lanes[lane];
            for item in &mut of_lane.held.items {
                let Item::Message { id, shape, is_dropped } = item else { continue };
                if *is_dropped || there.contains(id) {
                    continue;
                }
                *is_dropped = true;
                of_lane.held.dropped += 1;
                let is_over = shape.expires.is_some_and(|at| at < time);
                assert!(is_over || (is_append && !shape.must_stay), "{id} was dropped");
                assert!(!of_lane.sent.contains(id), "{id} may have been sent, and was dropped");
            }
            assert_eq!(told(&rows), expected(&of_lane.held.items), "lane {lane}");
        }
        let figures = self.spool().figures(now).unwrap();
        assert!(figures.bytes <= Limits::LEAST_DISK, "{} bytes on disk", figures.bytes);
        for (of_lane, figures) in self.lanes.iter().zip(figures.lanes) {
            let held = of_lane.held.items.iter();
            let held = held.filter(|item| matches!(item, Item::Message { is_dropped: false, .. }));
            assert_eq!(figures.held, held.count() as u64);
            let dropped: u64 = figures.dropped.iter().sum();
            assert_eq!(dropped, of_lane.held.dropped);
            assert_eq!(figures.appended, figures.acknowledged + figures.held + dropped);
        }
    }

    /// Sends everything: nothing is missing then, and nothing is double.
    fn finish(&mut self) {
        for lane in 0..3 {
            self.link(lane);
            loop {
                self.read(lane, 50);
                if self.lanes[lane].under_way.is_empty() {
                    self.compare(false);
                    break;
                }
                self.compare(false);
                self.deliver(lane, 50);
                self.acknowledge(lane);
            }
            let of_lane = &self.lanes[lane];
            let all: Vec<_> = of_lane.before.iter().chain(&of_lane.central).collect();
            assert!(all.is_sorted_by(|one, other| one < other), "in order, each once: {all:?}");
            let left = of_lane.held.items.iter();
            let left = left.filter(|item| matches!(item, Item::Message { is_dropped: false, .. }));
            assert_eq!(left.count(), 0);
        }
    }
}

/// Between two messages, how many of each topic are told of as dropped.
type Told = Vec<(BTreeMap<String, u64>, Option<u64>)>;

fn told(rows: &[Row]) -> Told {
    let mut told = vec![(BTreeMap::new(), None)];
    for row in rows {
        let last = told.last_mut().unwrap();
        match &row.body {
            Body::Message { .. } => {
                last.1 = id_of(row);
                told.push((BTreeMap::new(), None));
            }
            Body::Gap { topic, count, .. } => {
                let topic = topic.as_ref().map_or("*".to_owned(), |topic| topic.name.clone());
                *last.0.entry(topic).or_default() += count;
            }
        }
    }
    told
}

fn expected(items: &VecDeque<Item>) -> Told {
    let mut told = vec![(BTreeMap::new(), None)];
    for item in items {
        let last = told.last_mut().unwrap();
        match item {
            Item::Message { id, is_dropped: false, .. } => {
                last.1 = Some(*id);
                told.push((BTreeMap::new(), None));
            }
            Item::Message { shape, .. } => *last.0.entry(shape.topic.clone()).or_default() += 1,
            Item::Gap { topic, count } => *last.0.entry(topic.clone()).or_default() += count,
        }
    }
    told
}

fn id_of(row: &Row) -> Option<u64> {
    match &row.body {
        Body::Message { payload, .. } => Some(u64::from_le_bytes(*payload.first_chunk().unwrap())),
        Body::Gap { .. } => None,
    }
}

fn whom(publisher: u8) -> Publisher {
    let name = publisher.to_string();
    Publisher { identity: "device".into(), name, epoch: 77 + u64::from(publisher) }
}
