//! The member of each session that stores its messages: one task, which owns the store.
//!
//! It reads what the session has for it, stores that in batches, and acknowledges only what is
//! committed. While the store fails nothing is acknowledged: the session holds the frames, and slows
//! their publishers when its room is used up.

use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use fastport_core::time::{NOT_KNOWN, Now};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{error, info};

use super::lived::{Life, Lived};
use super::seated::{READ_BYTES, Seated};
use super::{Entry, Keep, Part, Store, StoreError};
use crate::hub::Hub;
use crate::supervise::turn;

/// How messages are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// How much is held.
    pub keep: Keep,
    /// The longest that a message waits for company.
    pub commit: Duration,
    /// Bytes of a session's messages that wait to be committed; beyond them publishers are slowed.
    pub outbox: usize,
}

type Open = Box<dyn Fn() -> Result<Box<dyn Store>, StoreError> + Send + Sync>;

/// See the module's text.
pub struct Keeper {
    hub: Arc<Hub>,
    options: Options,
    open: Arc<Open>,
    /// Opened before the task runs.
    first: Mutex<Option<Works>>,
    opened_room: Notify,
    stopping: watch::Sender<bool>,
    ended: watch::Sender<bool>,
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Keeper {
    /// Opens the store and takes its place in every session there is: before anybody publishes.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn start(
        hub: Arc<Hub>,
        options: Options,
        open: impl Fn() -> Result<Box<dyn Store>, StoreError> + Send + Sync + 'static,
    ) -> Result<Arc<Self>, StoreError> {
        let mut works = Works { store: Some(open()?), ..Works::default() };
        works.attach_all(&hub, &options)?;
        works.note_held(&hub);
        hub.status().central.is_on.set(1);
        Ok(Arc::new(Self {
            hub,
            options,
            open: Arc::new(Box::new(open)),
            first: Mutex::new(Some(works)),
            opened_room: Notify::new(),
            stopping: watch::channel(false).0,
            ended: watch::channel(false).0,
        }))
    }

    /// Says that there is another session.
    pub fn note_room(&self) {
        self.opened_room.notify_one();
    }

    /// Stores what comes, until [`Keeper::stop`]. After a panic it may be run again.
    pub async fn run(&self) {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut works = match first {
            Some(works) => works,
            None => self.reopen().await,
        };
        let mut stopping = self.stopping.subscribe();
        loop {
            tokio::select! {
                () = works.due(&self.hub, &self.options) => self.commit(&mut works).await,
                () = self.opened_room.notified() => self.attach(&mut works).await,
                () = tokio::time::sleep(IDLE) => self.commit(&mut works).await,
                () = stopped(&mut stopping) => break,
            }
        }
        works.read_all(&self.hub);
        self.commit(&mut works).await;
        self.ended.send_replace(true);
    }

    /// Has everything stored that was taken, at most within `wait`; whether it was.
    pub async fn stop(&self, wait: Duration) -> bool {
        self.stopping.send_replace(true);
        let mut ended = self.ended.subscribe();
        let ended = timeout(wait, ended.wait_for(|&ended| ended)).await;
        ended.is_ok_and(|ended| ended.is_ok())
    }

    /// Opens the store again, however long that takes.
    async fn reopen(&self) -> Works {
        let mut works = Works::default();
        self.attach(&mut works).await;
        works
    }

    /// Takes a place in every session that has none, however long that takes.
    async fn attach(&self, works: &mut Works) {
        loop {
            let (hub, options, open) =
                (Arc::clone(&self.hub), self.options, Arc::clone(&self.open));
            let done = blocking(works, move |works| {
                works.store = Some(match works.store.take() {
                    Some(store) => store,
                    None => open()?,
                });
                works.attach_all(&hub, &options)
            });
            match done.await {
                Ok(()) => return works.note_success(&self.hub),
                Err(error) => works.note_failure(&self.hub, &error).await,
            }
        }
    }

    /// Stores what was read, however long that takes, and acknowledges it; makes some room for more.
    async fn commit(&self, works: &mut Works) {
        works.since = None;
        let parts: Arc<[Part]> =
            works.taps.iter_mut().filter_map(|seated| seated.tap.take()).collect();
        let entries = parts.iter().map(|part| part.entries.len()).sum::<usize>();
        while let Err(error) = self.try_commit(works, &parts).await {
            works.note_failure(&self.hub, &error).await;
        }
        works.note_success(&self.hub);
        works.acknowledge();
        works.note_stored(&self.hub, &parts, entries);
        if works.taps.iter().any(|seated| seated.is_gone) {
            works.taps.retain(|seated| !seated.is_gone);
            self.attach(works).await;
        }
    }

    /// A session that forgot what the store has would take it again: its journal first.
    async fn try_commit(&self, works: &mut Works, parts: &Arc<[Part]>) -> Result<(), StoreError> {
        for part in parts.iter() {
            let of_part = |seated: &&Seated| seated.seat.session() == &*part.session;
            let Some(seated) = works.taps.iter().find(of_part) else { continue };
            seated.seat.sync_journal().await.map_err(|error| StoreError::Failed {
                doing: "sync",
                place: format!("journal of session {}", part.session),
                error: Box::new(error),
            })?;
        }
        let (hub, keep, parts) = (Arc::clone(&self.hub), self.options.keep, Arc::clone(parts));
        blocking(works, move |works| works.store_parts(&hub, keep, &parts)).await
    }
}

/// The store, and a place in each session.
#[derive(Debug, Default)]
struct Works {
    store: Option<Box<dyn Store>>,
    taps: Vec<Seated>,
    /// Since when something waits to be stored.
    since: Option<Instant>,
    /// How often the store failed, one after the other.
    failures: u32,
    /// How long the store has lived; `None`: it was not asked yet.
    life: Option<Life>,
}

impl Works {
    fn store(&mut self) -> Result<&mut dyn Store, StoreError> {
        match &mut self.store {
            Some(store) => Ok(&mut **store),
            None => Err(StoreError::Failed {
                doing: "go on",
                place: String::new(),
                error: "the store was lost with a panic".into(),
            }),
        }
    }

    /// Waits until what was read is to be stored.
    ///
    /// Cancel-safe: what was read is in the taps.
    async fn due(&mut self, hub: &Hub, options: &Options) {
        loop {
            let until = self.since.map(|since| since + options.commit);
            let is_due = poll_fn(|cx| self.poll_read(hub, cx));
            match until {
                None => {
                    if is_due.await {
                        return;
                    }
                }
                Some(until) => tokio::select! {
                    is_due = is_due => if is_due { return },
                    () = sleep_until(until) => return,
                },
            }
        }
    }

    /// Reads what there is. Ready with true: it is to be stored at once; with false: something came
    /// that may wait for company.
    fn poll_read(&mut self, hub: &Hub, cx: &mut Context<'_>) -> Poll<bool> {
        for seated in &mut self.taps {
            // first: what comes after the look is not missed
            seated.seat.register(cx.waker());
        }
        self.read(hub, BATCH_BYTES);
        let has_entries = self.taps.iter().any(|seated| seated.tap.has_entries());
        let is_urgent = self.taps.iter().any(|seated| seated.tap.is_asked() || seated.is_gone);
        if is_urgent || self.waiting_bytes() >= BATCH_BYTES {
            return Poll::Ready(true);
        }
        if has_entries && self.since.is_none() {
            self.since = Some(Instant::now());
            return Poll::Ready(false);
        }
        Poll::Pending
    }

    /// Reads from all sessions in turn, until nothing is left or `most` bytes wait.
    fn read(&mut self, hub: &Hub, most: usize) {
        let mut left = most.saturating_sub(self.waiting_bytes());
        let mut moved = true;
        while moved && left > 0 {
            moved = false;
            for seated in self.taps.iter_mut().filter(|seated| !seated.is_gone) {
                let read = seated.read(hub, left.min(READ_BYTES));
                moved |= read > 0;
                left = left.saturating_sub(read);
            }
        }
        hub.status().central.unstored_bytes.set(self.waiting_bytes() as u64);
    }

    fn read_all(&mut self, hub: &Hub) {
        self.read(hub, usize::MAX);
    }

    fn waiting_bytes(&self) -> usize {
        self.taps.iter().map(|seated| seated.tap.waiting_bytes()).sum()
    }

    /// Takes a place in every session that has none.
    fn attach_all(&mut self, hub: &Arc<Hub>, options: &Options) -> Result<(), StoreError> {
        for room in hub.all_rooms() {
            let has_place =
                |seated: &Seated| seated.seat.session() == room.name() && !seated.is_gone;
            if !self.taps.iter().any(has_place) {
                let seated = Seated::attach(self.store()?, hub, &room, options.outbox)?;
                self.taps.extend(seated);
            }
        }
        Ok(())
    }

    fn lived(&mut self, now: Now) -> Result<Lived, StoreError> {
        let life = match self.life {
            Some(life) => life,
            None => Life::resume(self.store()?.lived()?, now),
        };
        self.life = Some(life);
        Ok(life.at(now))
    }

    fn store_parts(&mut self, hub: &Hub, keep: Keep, parts: &[Part]) -> Result<(), StoreError> {
        let now = self.lived(hub.clock().now())?;
        let store = self.store()?;
        if !parts.is_empty() {
            store.commit(now, parts)?;
        }
        let entries = parts.iter().map(|part| part.entries.len() as u64).sum::<u64>();
        let mut freed = 0;
        loop {
            let trimmed = store.trim(now, keep)?;
            freed += trimmed.messages;
            hub.status().central.trimmed.add(trimmed.messages);
            // more than came, so that an end comes in sight
            if !trimmed.goes_on || freed > 2 * entries {
                return Ok(());
            }
        }
    }

    /// Tells each session what is stored.
    fn acknowledge(&mut self) {
        for seated in &mut self.taps {
            seated.tell();
        }
    }

    fn note_held(&mut self, hub: &Hub) {
        let figures = self.store().and_then(|store| store.figures()).unwrap_or_default();
        hub.status().central.held.set(figures.messages);
        hub.status().central.held_bytes.set(figures.bytes);
    }

    fn note_stored(&mut self, hub: &Hub, parts: &[Part], entries: usize) {
        let central = &hub.status().central;
        if !parts.is_empty() {
            let missing =
                parts.iter().flat_map(|part| &part.entries).filter_map(|entry| match entry {
                    Entry::Gap { messages, .. } => Some(*messages),
                    Entry::Message { .. } => None,
                });
            let (gaps, missing) = missing.fold((0, 0), |(gaps, sum), more| (gaps + 1, sum + more));
            central.stored.add((entries - gaps) as u64);
            central.missing.add(missing);
            central.batches.add(1);
            central.last_commit_ms.set(hub.clock().now().clock().unwrap_or(NOT_KNOWN));
        }
        central.unstored_bytes.set(self.waiting_bytes() as u64);
        self.note_held(hub);
    }

    fn note_success(&mut self, hub: &Hub) {
        if self.failures > 0 {
            info!(failures = self.failures, "the store works again; nothing was lost");
        }
        self.failures = 0;
        hub.status().central.is_failing.set(0);
    }

    /// Counts a failure, says the first, and waits before the next try.
    async fn note_failure(&mut self, hub: &Hub, error: &StoreError) {
        if self.failures == 0 {
            error!(%error, "messages are not stored; they wait, and it is tried again");
        }
        hub.status().central.store_errors.add(1);
        hub.status().central.is_failing.set(1);
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(MOST_DOUBLINGS));
        self.failures = self.failures.saturating_add(1);
        tokio::time::sleep(pause).await;
    }
}

/// Waits until the daemon stops.
///
/// Cancel-safe: it changes nothing.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // the sender lives as long as the task
    stopping.wait_for(|&stops| stops).await.map(|_| ()).unwrap_or_default();
}

/// Works on the store beside the runtime's threads.
async fn blocking<T: Send + 'static>(
    works: &mut Works,
    work: impl FnOnce(&mut Works) -> T + Send + 'static,
) -> T {
    let mut moved = std::mem::take(works);
    let done = turn::beside(turn::Part::StoreDisk, move || {
        let done = work(&mut moved);
        (moved, done)
    });
    match done.await {
        Ok((moved, done)) => {
            *works = moved;
            done
        }
        // the task ends as well, and is started again with a store that is opened anew
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // the runtime ends, and this task with it
            Err(_) => std::future::pending().await,
        },
    }
}

/// A batch of that many bytes does not wait for more.
const BATCH_BYTES: usize = 1024 * 1024;
/// When nothing comes, outdated messages are looked for after that time.
const IDLE: Duration = Duration::from_secs(10);
/// After the first failure; it doubles to half a minute.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const MOST_DOUBLINGS: u32 = 7;

#[cfg(test)]
mod tests;
