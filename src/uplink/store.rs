//! The spool on disk, shared by the lanes: each piece of work on a thread that may wait for it.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fastport_core::session::Spooled;
use fastport_core::time::{CLOCK_FLOOR_MS, NOT_KNOWN};
use fastport_wire::frame::{DataFlags, GapCause};
use serde_json::{Value, json};
use tracing::{error, info, warn};

use super::local::Place;
use super::spool::{
    Appended, Confirmed, Cursor, Entry, Figures, LaneCounts, Limits, Local, Message, Moment,
    Publisher, Row, Spool, SpoolError, Stamp,
};
use crate::clock::{self, Clock};
use crate::config::{self, Lane, WhenSpoolFull};
use crate::supervise::turn::{self, Part};

/// A spool that all lanes use.
pub(super) struct Store {
    /// the spool, and when to try again to open it
    spool: Mutex<(Spool, Instant)>,
    clock: Clock,
    seen: Mutex<Option<Figures>>,
    /// when to look for old rows again
    ages_at: Mutex<Instant>,
    takes: bool,
    /// how often the file was set aside, and another took its place
    set_aside: AtomicU64,
}

/// Something of the local session, on its way to the disk.
pub(super) enum Item {
    /// A counted message.
    Message {
        topic: Arc<str>,
        schema: Option<Arc<[u8]>>,
        flags: DataFlags,
        /// Milliseconds since 1970, or since the boot where the clock is not set.
        stamp: Option<u64>,
        payload: Box<[u8]>,
        when_full: WhenSpoolFull,
        max_age: Duration,
        publisher: Option<(Arc<Publisher>, u64)>,
    },
    /// Messages that are lost already.
    Gap { topic: Option<Arc<str>>, count: u64, cause: GapCause },
}

/// What goes to the disk in one transaction.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) items: Vec<Item>,
    /// Payloads, and what rows take beside them.
    pub(super) bytes: usize,
    /// Counted frames of the local epoch, those of the batch included.
    pub(super) count: u64,
}

impl Store {
    /// Opens the spool in a directory. It waits for the disk. One that is full, read-only or broken
    /// is said, and tried again when a lane needs it.
    ///
    /// # Errors
    /// [`SpoolError`]: what no time mends; the directory is none or of others, or another process has
    /// the spool.
    pub(super) fn open(
        folder: &Path,
        config: &config::Spool,
        clock: &Clock,
    ) -> Result<Arc<Self>, SpoolError> {
        let takes = config.disk.0 > 0;
        let defaults = Limits::default();
        let disk = if takes { config.disk.0 } else { defaults.disk };
        let limits = Limits { disk, flash_per_day: config.flash_per_day.0, ..defaults };
        let spool = Spool::closed(&folder.join(FILE), limits, &clock::boot_id());
        let spool = Mutex::new((spool, Instant::now()));
        let ages_at = Mutex::new(Instant::now() + AGES);
        let clock = clock.clone();
        let store = Arc::new(Self {
            spool,
            clock,
            seen: Mutex::new(None),
            ages_at,
            takes,
            set_aside: AtomicU64::new(0),
        });
        match store.ready(&mut store.lock()) {
            Ok(()) | Err(SpoolError::Damaged(_)) => {}
            Err(error) if error.is_for_operator() => return Err(error),
            Err(error) => {
                error!(%error, "the spool is not to be had, so the uplink waits and messages with it, \
                    in memory; make room, or look after the disk");
            }
        }
        Ok(store)
    }

    /// Sees that the spool is open. An attempt that fails is followed by a pause: a damaged spool on
    /// a full disk is read and written each time.
    fn ready(&self, (spool, again_at): &mut (Spool, Instant)) -> Result<(), SpoolError> {
        if spool.is_open() {
            return Ok(());
        }
        let begun = Instant::now();
        if begun < *again_at {
            let error = "it failed a moment ago, as the log says".into();
            return Err(SpoolError::Disk { action: "open", path: FILE.into(), error });
        }
        let opened = spool.reopen(moment(&self.clock));
        let pause = begun.elapsed().saturating_mul(PAUSES).clamp(LEAST_PAUSE, MOST_PAUSE);
        *again_at = Instant::now() + pause;
        let opened = opened?;
        if opened.unread > 1 {
            warn!(transactions = opened.unread, "the end of the spool's log could not be read");
        }
        let Some(set_aside) = opened.set_aside else { return Ok(()) };
        error!(%set_aside, "the spool was damaged; it is set aside, and what could be read is kept");
        Err(SpoolError::Damaged(Box::new(set_aside)))
    }

    fn lock(&self) -> MutexGuard<'_, (Spool, Instant)> {
        self.spool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, spool: &mut Spool) {
        let figures = spool.is_open().then(|| spool.figures(moment(&self.clock)).ok());
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = figures.flatten();
    }

    /// Whether a directory has a spool, or its disk does not say: rows that are there have counts that
    /// others must not get.
    pub(super) fn is_in(folder: &Path) -> bool {
        folder.join(FILE).try_exists().unwrap_or(true)
    }

    /// Changes when the file is another one: places and counts of before mean nothing in it.
    pub(super) fn life(&self) -> u64 {
        self.set_aside.load(Ordering::Relaxed)
    }

    /// Whether rows may be added, and not only what is there go up.
    pub(super) fn takes(&self) -> bool {
        self.takes
    }

    /// A piece of work, on a thread that may wait.
    pub(super) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&mut Spool, Moment) -> Result<T, SpoolError> + Send + 'static,
    ) -> Result<T, SpoolError> {
        let store = Arc::clone(self);
        let done = turn::beside(Part::SpoolDisk, move || {
            let mut spool = store.lock();
            let ready = store.ready(&mut spool);
            let done = ready.and_then(|()| work(&mut spool.0, moment(&store.clock)));
            if matches!(done, Err(SpoolError::Damaged(_))) {
                store.set_aside.fetch_add(1, Ordering::Relaxed);
            }
            store.look(&mut spool.0);
            done
        });
        done.await.unwrap_or_else(|error| {
            let error = io::Error::other(error);
            Err(SpoolError::Disk { action: "use", path: FILE.into(), error: error.into() })
        })
    }

    /// A lane's counts.
    pub(super) async fn counts(self: &Arc<Self>, lane: Lane) -> Result<LaneCounts, SpoolError> {
        self.run(move |spool, now| spool.counts(now, lane)).await
    }

    /// Puts a batch behind the lane's rows. Before the first row of an empty lane it notes what the
    /// central instance has, with epoch 0 that it is not known; the first `maybe_sent` messages of the
    /// batch may be there already.
    pub(super) async fn append(
        self: &Arc<Self>,
        (lane, place): (Lane, &Place),
        batch: Arc<Batch>,
        local_epoch: u64,
        (epoch, head): (u64, u64),
        maybe_sent: u64,
    ) -> Result<Appended, SpoolError> {
        // else a loss of power could leave frames here that the session takes a second time
        place.sync().await.map_err(|error| SpoolError::Disk {
            action: "sync the journal before",
            path: FILE.into(),
            error: error.into(),
        })?;
        self.run(move |spool, now| {
            if !spool.counts(now, lane)?.has_rows {
                spool.start_at(now, lane, epoch, head)?;
            }
            let stamps: Vec<Stamp> = batch.items.iter().map(|item| stamp(item, now)).collect();
            let entries: Vec<Entry<'_>> =
                batch.items.iter().zip(&stamps).map(|(item, stamp)| entry(item, stamp)).collect();
            let local = Local { epoch: local_epoch, count: batch.count };
            spool.append_behind(now, lane, &entries, Some(local), maybe_sent)
        })
        .await
    }

    /// A new link: the central instance has `count` of the epoch, or nothing where it begins anew.
    /// What is behind that is to be sent.
    pub(super) async fn begin(
        self: &Arc<Self>,
        lane: Lane,
        epoch: u64,
        count: Option<u64>,
    ) -> Result<(Cursor, Vec<Confirmed>), SpoolError> {
        self.run(move |spool, now| {
            if let Some(count) = count {
                return spool.resume(now, lane, count);
            }
            spool.restart(now, lane, epoch)?;
            Ok((spool.begin(now, lane)?, Vec::new()))
        })
        .await
    }

    /// The central instance has all rows of the lane: they are gone.
    pub(super) async fn settle(self: &Arc<Self>, lane: Lane) -> Result<Vec<Confirmed>, SpoolError> {
        self.run(move |spool, now| spool.settle(now, lane)).await
    }

    /// Rows to be sent.
    pub(super) async fn read(
        self: &Arc<Self>,
        lane: Lane,
        mut cursor: Cursor,
    ) -> Result<(Cursor, Vec<Row>), SpoolError> {
        self.run(move |spool, now| {
            let rows = spool.read(now, lane, &mut cursor, ROWS, READ)?;
            Ok((cursor, rows))
        })
        .await
    }

    /// Drops what waited too long, of all lanes, every [`AGES`]; whoever calls it more often, or while
    /// nothing is held, does nothing. `None`: nothing was due.
    pub(super) async fn expire(self: &Arc<Self>) -> Option<Result<u64, SpoolError>> {
        let seen = *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let is_empty = |figures: Figures| figures.lanes.iter().all(|lane| lane.held == 0);
        if seen.is_none_or(is_empty) {
            return None;
        }
        {
            let mut at = self.ages_at.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            if now < *at {
                return None;
            }
            *at = now + AGES;
        }
        Some(self.run(|spool, now| spool.expire(now)).await)
    }

    /// Whether messages of a lane are on disk, as far as is known.
    pub(super) fn holds(&self, lane: Lane) -> bool {
        let seen = *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let place = LANES.iter().position(|known| *known == lane);
        let figures = seen.as_ref().zip(place).and_then(|(seen, place)| seen.lanes.get(place));
        figures.is_some_and(|figures| figures.held > 0)
    }

    /// As `fastport status` has it.
    pub(super) fn to_json(&self) -> Value {
        let Some(figures) = *self.seen.lock().unwrap_or_else(PoisonError::into_inner) else {
            return Value::Null;
        };
        let mut lanes = serde_json::Map::new();
        for (lane, figures) in LANES.iter().zip(figures.lanes) {
            let dropped: serde_json::Map<_, _> = GapCause::ALL
                .iter()
                .zip(figures.dropped)
                .filter(|&(_, count)| count > 0)
                .map(|(cause, count)| (cause.name().to_owned(), count.into()))
                .collect();
            let value = json!({
                "appended": figures.appended,
                "acknowledged": figures.acknowledged,
                "held": figures.held,
                "dropped": dropped,
                "oldest_seconds": figures.oldest_ms.map(|ms| ms / 1000),
            });
            lanes.insert(lane.name().to_owned(), value);
        }
        json!({ "bytes": figures.bytes, "flash_today": figures.flash_today, "lanes": lanes })
    }
}

/// Where a publisher's frames are among a lane's: marks say it for their last ones.
pub(super) struct Marks {
    marks: std::collections::VecDeque<Spooled>,
}

impl Marks {
    /// Of what a session hands out.
    pub(super) fn new(mut marks: Vec<Spooled>) -> Self {
        marks.sort_by_key(|mark| mark.at);
        Self { marks: marks.into() }
    }

    /// Whose the lane's frame of that count is, and which of his; asked in rising order.
    pub(super) fn publisher(&mut self, count: u64) -> Option<(Arc<Publisher>, u64)> {
        while self.marks.front().is_some_and(|mark| mark.at < count) {
            self.marks.pop_front();
        }
        let mark = self.marks.front()?;
        let number = mark.count.checked_sub(mark.at - count).filter(|&number| number > 0)?;
        let publisher = Publisher {
            identity: mark.publisher.identity.as_ref().into(),
            name: mark.publisher.name.as_ref().into(),
            epoch: mark.publisher.epoch,
        };
        Some((Arc::new(publisher), number))
    }
}

fn stamp(item: &Item, now: Moment) -> Stamp {
    match item {
        Item::Message { stamp: Some(ms), .. } if *ms >= CLOCK_FLOOR_MS => Stamp::Unix(*ms),
        Item::Message { stamp: Some(ms), .. } if *ms != NOT_KNOWN => Stamp::Boot(*ms),
        // of a boot before this one; now is not long after
        _ => Stamp::Boot(now.boot_ms),
    }
}

fn entry<'a>(item: &'a Item, stamp: &'a Stamp) -> Entry<'a> {
    match item {
        Item::Message { topic, schema, flags, payload, when_full, max_age, publisher, .. } => {
            Entry::Message(Message {
                topic,
                schema: schema.as_deref(),
                flags: *flags,
                stamp,
                payload,
                when_full: *when_full,
                max_age: *max_age,
                publisher: publisher.as_ref().map(|(publisher, count)| (&**publisher, *count)),
            })
        }
        Item::Gap { topic, count, cause } => {
            Entry::Gap { topic: topic.as_deref(), count: *count, cause: *cause }
        }
    }
}

/// What the clocks show, as the spool has it.
fn moment(clock: &Clock) -> Moment {
    let now = clock.now();
    Moment { boot_ms: now.boot_ms, unix_ms: now.clock() }
}

/// Says once that the disk fails, and once that it works again.
#[derive(Default)]
pub(super) struct DiskLog {
    is_failing: bool,
}

impl DiskLog {
    pub(super) fn note<T>(&mut self, lane: Lane, done: &Result<T, SpoolError>) {
        match (done, self.is_failing) {
            (Ok(_), true) => info!(lane = lane.name(), "the spool works again"),
            (Err(error), false) => {
                error!(lane = lane.name(), %error, "the spool fails: messages wait in memory");
            }
            _ => {}
        }
        self.is_failing = done.is_err();
    }
}

/// A fault on purpose: the disk is told of no acknowledgement while the file is there that the
/// environment names. What a busy machine does for a moment.
#[cfg(feature = "faults")]
pub(super) fn is_held() -> bool {
    std::env::var_os("FAULT_HOLD_SPOOL").is_some_and(|file| Path::new(&file).exists())
}

/// In the order of their figures.
const LANES: [Lane; 3] = [Lane::Alarm, Lane::Normal, Lane::Bulk];
/// The spool's file in `daemon.state`.
const FILE: &str = "spool.db";
/// Between looks at how old the rows are.
const AGES: Duration = Duration::from_secs(10);
/// Rows read at once.
const ROWS: usize = 256;
/// Bytes of them.
const READ: usize = 64 * 1024;
/// So many times as long as an attempt to open the spool took nothing is tried.
const PAUSES: u32 = 20;
const LEAST_PAUSE: Duration = Duration::from_secs(1);
const MOST_PAUSE: Duration = Duration::from_secs(300);
