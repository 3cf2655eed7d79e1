//! What is done to a spool while it is recorded, and what must be in it afterwards.

use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use fastport::config::{Lane, WhenSpoolFull};
use fastport::uplink::spool::{
    Appended, Body, Cursor, Entry, Figures, Limits, Local, Message, Moment, Row, Spool, SpoolError,
    Stamp,
};
use fastport_wire::frame::DataFlags;
use tempfile::TempDir;

use crate::trace::MARKS;

const LANES: [Lane; 3] = [Lane::Alarm, Lane::Normal, Lane::Bulk];
const STEPS: usize = 150;

/// What was read of a lane: messages with their counts at the central instance.
type Held = BTreeMap<u64, u64>;

/// What was found in a spool.
pub(crate) struct Seen {
    held: [Held; 3],
    local: [Option<u64>; 3],
    figures: Option<Figures>,
    pub(crate) is_damaged: bool,
    unread: u64,
    complaints: Vec<String>,
}

impl Seen {
    /// Something that must not be, whatever happened to the files.
    pub(crate) fn complaint(&self) -> Option<&str> {
        self.complaints.first().map(String::as_str)
    }

    /// What each lane has.
    pub(crate) fn ids(&self) -> [Vec<u64>; 3] {
        self.held.each_ref().map(|held| held.keys().copied().collect())
    }

    /// Whether somebody is told that something may be missing.
    pub(crate) fn is_told(&self) -> bool {
        self.is_damaged || self.unread > 0
    }
}

/// The spool after each step, where nothing happened to it.
pub(crate) struct Known {
    states: Vec<Seen>,
    /// by step: the last one that was made safe
    safe: Vec<usize>,
    /// by step: what was sent, and as which count
    sent: Vec<[Held; 3]>,
    batches: Vec<Vec<u64>>,
}

impl Known {
    pub(crate) fn of_workload() -> Self {
        let folder = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
        let mut known = Self { states: Vec::new(), safe: vec![], sent: vec![], batches: vec![] };
        run(folder.path(), &mut |folder, step| {
            let copy = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
            for entry in std::fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
            }
            let place = known.states.len();
            let last_safe = known.safe.last().copied().unwrap_or(0);
            known.safe.push(if step.is_safe { place } else { last_safe });
            known.sent.push(step.sent.clone());
            known.batches.push(step.batch.clone());
            known.states.push(look(copy.path(), limits()));
        });
        assert!(known.states.iter().all(|seen| seen.complaint().is_none() && !seen.is_told()));
        let last = known.states.last().unwrap().figures.unwrap().lanes[1];
        assert!(last.dropped.iter().sum::<u64>() > 0 && last.acknowledged > 0, "{last:?}");
        known
    }

    pub(crate) fn limits(&self) -> Limits {
        limits()
    }

    /// Whether what was seen is what a loss of power may leave, when step `begun` was begun and `done`
    /// was done.
    pub(crate) fn check(&self, begun: usize, done: usize, seen: &Seen) -> Result<(), String> {
        let Some(from) = self.safe.get(done) else { return Ok(()) };
        // before the first step was done nothing was promised
        let states = &self.states[*from..=begun.min(self.states.len() - 1)];
        for lane in 0..3 {
            let held = &seen.held[lane];
            let mut always = states.iter().map(|state| &state.held[lane]);
            let first = always.next().unwrap();
            for id in first.keys().filter(|id| states.iter().all(|s| s.held[lane].contains_key(id)))
            {
                if !held.contains_key(id) && done > 0 {
                    return Err(format!("lane {lane}: {id} is missing"));
                }
            }
            let may_be = |id: &&u64| states.iter().any(|state| state.held[lane].contains_key(id));
            if let Some(id) = held.keys().find(|id| !may_be(id)) {
                return Err(format!("lane {lane}: {id} came back"));
            }
            for (id, count) in &self.sent[done][lane] {
                if let Some(other) = held.get(id).filter(|other| *other != count) {
                    return Err(format!("lane {lane}: {id} was sent as {count}, now {other}"));
                }
            }
            let locals: Vec<_> = states.iter().map(|state| state.local[lane]).collect();
            if !locals.contains(&seen.local[lane]) && done > 0 {
                return Err(format!("lane {lane}: {:?}, not {locals:?}", seen.local[lane]));
            }
            let batch = &self.batches[begun.min(self.batches.len() - 1)];
            let end = &states.last().unwrap().held[lane];
            let of_batch: HashSet<_> = batch
                .iter()
                .filter(|id| end.contains_key(id))
                .map(|id| held.contains_key(id))
                .collect();
            if of_batch.len() > 1 {
                return Err(format!("lane {lane}: a part of a batch"));
            }
        }
        Ok(())
    }

    /// Whether what is missing after damage is told.
    pub(crate) fn check_flipped(&self, done: usize, seen: &Seen) -> Result<(), String> {
        if let Some(complaint) = seen.complaint() {
            return Err(complaint.to_owned());
        }
        for lane in 0..3 {
            let held = &seen.held[lane];
            let ever: HashSet<_> =
                self.states[..=done].iter().flat_map(|state| state.held[lane].keys()).collect();
            if let Some(id) = held.keys().find(|id| !ever.contains(id)) {
                return Err(format!("lane {lane}: {id} never was"));
            }
            let whole = &self.states[done];
            let is_whole = held == &whole.held[lane] && seen.local[lane] == whole.local[lane];
            if !is_whole && !seen.is_told() {
                return Err(format!("lane {lane}: a loss, and nobody is told"));
            }
        }
        Ok(())
    }
}

/// What a step was.
#[derive(Default)]
pub(crate) struct Step {
    is_safe: bool,
    sent: [Held; 3],
    batch: Vec<u64>,
}

/// Does the same each time; `on_step` is told of each step's end.
pub(crate) fn run(folder: &Path, on_step: &mut dyn FnMut(&Path, &Step)) {
    let mut marks =
        std::fs::OpenOptions::new().create(true).append(true).open(folder.join(MARKS)).unwrap();
    let (mut spool, _) =
        Spool::open(&folder.join("spool.sqlite"), limits(), "boot", at(0)).unwrap();
    let mut step = Step { is_safe: false, ..Step::default() };
    let mut next = 1;
    let mut central = [0; 3];
    let mut cursors: [Option<Cursor>; 3] = [None; 3];
    on_step(folder, &step);
    for number in 1..STEPS {
        marks.write_all(format!("begun {number}\n").as_bytes()).unwrap();
        step.batch.clear();
        step.is_safe = false;
        let now = at(u64::try_from(number).unwrap() * 1000);
        let lane = [1, 1, 0, 1, 2][number / 4 % 5];
        match number % 8 {
            // a link: what is there is removed, some is sent, some of it arrives
            4 => {
                spool.acknowledge(now, LANES[lane], central[lane]).unwrap();
                step.sent[lane].clear();
            }
            5 => cursors[lane] = Some(spool.begin(now, LANES[lane]).unwrap()),
            6 => {
                if let Some(cursor) = &mut cursors[lane] {
                    for row in spool.read(now, LANES[lane], cursor, 25, 30_000).unwrap() {
                        if let Some(id) = id_of(&row) {
                            step.sent[lane].insert(id, row.central_count);
                        }
                        central[lane] = row.central_count - u64::from(row.seq % 3 == 0);
                    }
                }
            }
            7 if number % 3 == 0 => spool.end(now, LANES[lane]).unwrap(),
            _ => {
                let messages = batch(number, &mut next);
                step.batch.extend(messages.iter().map(|message| message.id));
                let local = Local { epoch: 9, count: next };
                let entries: Vec<_> = messages.iter().map(Made::entry).collect();
                let done = spool.append(now, LANES[lane], &entries, Some(local)).unwrap();
                assert!(matches!(done, Appended::Taken { .. }));
                step.is_safe = true;
            }
        }
        marks.write_all(format!("done {number}\n").as_bytes()).unwrap();
        on_step(folder, &step);
    }
}

/// Opens what is in a folder, and looks at everything; then uses it.
pub(crate) fn look(folder: &Path, limits: Limits) -> Seen {
    let mut seen = Seen {
        held: Default::default(),
        local: [None; 3],
        figures: None,
        is_damaged: false,
        unread: 0,
        complaints: Vec::new(),
    };
    let now = at(1_000_000);
    let (mut spool, opened) = match Spool::open(&folder.join("spool.sqlite"), limits, "boot", now) {
        Ok(opened) => opened,
        Err(error) => {
            seen.complaints.push(format!("it does not open: {error}"));
            return seen;
        }
    };
    seen.unread = opened.unread;
    seen.is_damaged = opened.set_aside.is_some();
    let mut asides = opened.set_aside.into_iter().collect::<Vec<_>>();
    for _ in 0..3 {
        match look_at_rows(&mut spool, now, &mut seen) {
            Ok(()) => break,
            Err(SpoolError::Damaged(aside)) => {
                seen.is_damaged = true;
                asides.push(*aside);
            }
            Err(error) => {
                seen.complaints.push(error.to_string());
                return seen;
            }
        }
    }
    if seen.figures.is_none() {
        seen.complaints.push("it is damaged again and again".into());
    }
    if asides.last().is_some_and(|aside| !aside.path.as_ref().is_some_and(|path| path.exists())) {
        seen.complaints.push("what was set aside is not there".into());
    }
    if let Err(error) = use_it(&mut spool, now) {
        seen.complaints.push(format!("it cannot be used: {error}"));
    }
    seen
}

fn look_at_rows(spool: &mut Spool, now: Moment, seen: &mut Seen) -> Result<(), SpoolError> {
    seen.held = Default::default();
    for (lane, held) in LANES.into_iter().zip(&mut seen.held) {
        let mut cursor = spool.begin(now, lane)?;
        let mut last = 0;
        loop {
            let rows = spool.read(now, lane, &mut cursor, 200, 200_000)?;
            for row in &rows {
                let Some(id) = id_of(row) else { continue };
                if id <= last {
                    seen.complaints.push(format!("{id} after {last}"));
                }
                last = id;
                held.insert(id, row.central_count);
                if !is_whole(id, row) {
                    seen.complaints.push(format!("{id} is not what was appended"));
                }
            }
            if rows.is_empty() {
                break;
            }
        }
        let counts = spool.counts(now, lane)?;
        seen.local[lane as usize] = counts.local.map(|local| local.count);
        if counts.held != u64::try_from(held.len()).unwrap() {
            seen.complaints.push(format!("{} held, not {}", held.len(), counts.held));
        }
    }
    let figures = spool.figures(now)?;
    for lane in &figures.lanes {
        let dropped: u64 = lane.dropped.iter().sum();
        if lane.appended != lane.acknowledged + lane.held + dropped {
            seen.complaints.push(format!("the ledger: {lane:?}"));
        }
    }
    seen.figures = Some(figures);
    Ok(())
}

/// A message goes in and comes out.
fn use_it(spool: &mut Spool, now: Moment) -> Result<(), SpoolError> {
    let made = Made { id: u64::MAX, payload: payload(u64::MAX, 100) };
    let appended = match spool.append(now, Lane::Alarm, &[made.entry()], None) {
        Err(SpoolError::Damaged(_)) => spool.append(now, Lane::Alarm, &[made.entry()], None)?,
        other => other?,
    };
    assert!(matches!(appended, Appended::Taken { .. }), "{appended:?}");
    Ok(())
}

/// A message that its id says all of.
struct Made {
    id: u64,
    payload: Vec<u8>,
}

impl Made {
    fn entry(&self) -> Entry<'_> {
        Entry::Message(Message {
            topic: TOPICS[usize::try_from(self.id % 5).unwrap()],
            schema: None,
            flags: DataFlags::COUNTED,
            stamp: &Stamp::Unix(1_780_000_000_000),
            payload: &self.payload,
            when_full: match self.id % 5 {
                0 | 1 => WhenSpoolFull::Latest,
                _ => WhenSpoolFull::DropOldest,
            },
            // whenever it is that a daemon starts on it
            max_age: Duration::ZERO,
            publisher: None,
        })
    }
}

fn payload(id: u64, bytes: usize) -> Vec<u8> {
    let pattern = id.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    let mut payload = [id.to_le_bytes().to_vec(), pattern.repeat(bytes / pattern.len())].concat();
    payload.truncate(bytes.max(size_of::<u64>()));
    payload
}

fn batch(number: usize, next: &mut u64) -> Vec<Made> {
    let count = 5 + number * 7 % 19;
    let mut made = Vec::new();
    for place in 0..count {
        let bytes = [60, 300, 1500, 90, 2500][(number + place) % 5];
        made.push(Made { id: *next, payload: payload(*next, bytes) });
        *next += 1;
    }
    made
}

fn id_of(row: &Row) -> Option<u64> {
    match &row.body {
        Body::Message { payload, .. } => Some(u64::from_le_bytes(*payload.first_chunk()?)),
        Body::Gap { .. } => None,
    }
}

fn is_whole(id: u64, row: &Row) -> bool {
    let Body::Message { topic, payload: found, .. } = &row.body else { return false };
    topic.name == TOPICS[usize::try_from(id % 5).unwrap()] && *found == payload(id, found.len())
}

fn limits() -> Limits {
    Limits { disk: Limits::LEAST_DISK, ..Limits::default() }
}

fn at(ms: u64) -> Moment {
    Moment { boot_ms: 1_000_000 + ms, unix_ms: Some(1_780_000_000_000 + ms) }
}

const TOPICS: [&str; 5] = ["a/b", "a/c", "hall/1/temperature", "hall/2", "x"];
