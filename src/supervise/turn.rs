//! Which part of the daemon each thread is running: two stores without order a turn, read by the
//! watchdog only. So a loop that does not end has a name, and so has a thread that never comes back from a
//! disk.

use std::cell::OnceCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::task::{JoinHandle, spawn_blocking};

/// A part of the daemon that has turns on the runtime's threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Part {
    /// None: the thread waits, or runs what has no name here.
    Nothing,
    /// The daemon's own loop.
    App,
    /// A link with a peer.
    Link,
    /// Accepting links.
    Listener,
    /// A link's handshake.
    Handshake,
    /// A session's timer.
    Timer,
    /// The board's readings.
    Board,
    /// A lane of the uplink.
    Uplink,
    /// The store of a central instance.
    Store,
    /// What is known of the time, for the next life.
    Clock,
    /// Taking a session's lock.
    SessionLock,
    /// Reading or writing a file where that cannot be left to another thread.
    Disk,
    /// Work on the uplink's spool, on a thread that may wait.
    SpoolDisk,
    /// Work on a central instance's store, on a thread that may wait.
    StoreDisk,
    /// Making a journal safe from a loss of power, on a thread that may wait.
    JournalDisk,
    /// Writing the floor of time, on a thread that may wait.
    FloorDisk,
    /// A fault that a test wants.
    Fault,
}

impl Part {
    const ALL: [Self; 17] = [
        Self::Nothing,
        Self::App,
        Self::Link,
        Self::Listener,
        Self::Handshake,
        Self::Timer,
        Self::Board,
        Self::Uplink,
        Self::Store,
        Self::Clock,
        Self::SessionLock,
        Self::Disk,
        Self::SpoolDisk,
        Self::StoreDisk,
        Self::JournalDisk,
        Self::FloorDisk,
        Self::Fault,
    ];

    /// Whether it waits for a disk beside the runtime, where nobody waits for it with a lock in hand.
    #[must_use]
    pub const fn is_beside(self) -> bool {
        matches!(self, Self::SpoolDisk | Self::StoreDisk | Self::JournalDisk | Self::FloorDisk)
    }

    /// As logs have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "the runtime",
            Self::App => "the daemon's own loop",
            Self::Link => "a link",
            Self::Listener => "a listener",
            Self::Handshake => "a handshake",
            Self::Timer => "a session's timer",
            Self::Board => "the board's readings",
            Self::Uplink => "the uplink",
            Self::Store => "the store",
            Self::Clock => "the floor of time",
            Self::SessionLock => "a session's lock",
            Self::Disk => "a disk",
            Self::SpoolDisk => "the spool's disk",
            Self::StoreDisk => "the store's disk",
            Self::JournalDisk => "a journal's disk",
            Self::FloorDisk => "the disk of the floor of time",
            Self::Fault => "a fault on purpose",
        }
    }
}

/// What a thread is at.
#[derive(Debug, Default)]
pub struct Slot {
    part: AtomicU8,
    turns: AtomicU32,
}

impl Slot {
    /// What the thread runs, and a number that changes with each turn.
    #[must_use]
    pub fn look(&self) -> (Part, u32) {
        let part = usize::from(self.part.load(Ordering::Relaxed));
        let part = Part::ALL.get(part).copied().unwrap_or(Part::Nothing);
        (part, self.turns.load(Ordering::Relaxed))
    }
}

/// The slots of all threads that had a turn; those of threads that are gone wait for new ones, so there
/// are as many as there were threads at once.
#[must_use]
pub fn slots() -> Vec<Arc<Slot>> {
    SLOTS.lock().unwrap_or_else(PoisonError::into_inner).all.clone()
}

/// Runs `work`, which may wait for a disk, as a turn of `part` on a thread beside the runtime's.
pub fn beside<T: Send + 'static>(
    part: Part,
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    spawn_blocking(move || run(part, work))
}

/// Runs `work` as a turn of `part`.
#[inline]
pub fn run<T>(part: Part, work: impl FnOnce() -> T) -> T {
    SLOT.with(|slot| {
        let Own(slot) = slot.get_or_init(enter);
        let outer = slot.part.load(Ordering::Relaxed);
        // no other thread writes here
        slot.turns.store(slot.turns.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        slot.part.store(part as u8, Ordering::Relaxed);
        let _back = Back { slot, outer };
        work()
    })
}

/// Also where `work` panics.
struct Back<'a> {
    slot: &'a Slot,
    outer: u8,
}

impl Drop for Back<'_> {
    fn drop(&mut self) {
        self.slot.part.store(self.outer, Ordering::Relaxed);
    }
}

/// A thread's slot, given back when the thread ends.
struct Own(Arc<Slot>);

impl Drop for Own {
    fn drop(&mut self) {
        let mut slots = SLOTS.lock().unwrap_or_else(PoisonError::into_inner);
        slots.free.push(Arc::clone(&self.0));
    }
}

#[cold]
fn enter() -> Own {
    let mut slots = SLOTS.lock().unwrap_or_else(PoisonError::into_inner);
    // its turns are counted on: no turn is taken for one of the thread before
    let slot = slots.free.pop().unwrap_or_else(|| {
        let slot = Arc::new(Slot::default());
        slots.all.push(Arc::clone(&slot));
        slot
    });
    Own(slot)
}

struct Slots {
    all: Vec<Arc<Slot>>,
    /// of threads that are gone; all of them are in `all`
    free: Vec<Arc<Slot>>,
}

/// A future each of whose turns is one of `part`.
#[derive(Debug)]
pub struct Turns<F> {
    part: Part,
    future: F,
}

impl<F: Future + Unpin> Turns<F> {
    /// See the type.
    pub fn new(part: Part, future: F) -> Self {
        Self { part, future }
    }
}

impl<F: Future + Unpin> Future for Turns<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { part, future } = &mut *self;
        run(*part, || Pin::new(future).poll(cx))
    }
}

static SLOTS: Mutex<Slots> = Mutex::new(Slots { all: Vec::new(), free: Vec::new() });

thread_local! {
    static SLOT: OnceCell<Own> = const { OnceCell::new() };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_within_a_turn_gives_the_outer_one_back() {
        let own = || SLOT.with(|slot| Arc::clone(&slot.get_or_init(enter).0));
        run(Part::App, || {
            let (part, turns) = own().look();
            assert_eq!(part, Part::App);
            run(Part::SessionLock, || assert_eq!(own().look().0, Part::SessionLock));
            assert_eq!(own().look(), (Part::App, turns.wrapping_add(1)));
        });
        assert_eq!(own().look().0, Part::Nothing);
        assert!(slots().iter().any(|slot| Arc::ptr_eq(slot, &own())));
    }

    #[test]
    fn a_turn_that_panics_is_over() {
        let panicked = std::panic::catch_unwind(|| run(Part::Link, || panic!("on purpose")));
        assert!(panicked.is_err());
        SLOT.with(|slot| assert_eq!(slot.get().expect("it had a turn").0.look().0, Part::Nothing));
    }

    #[test]
    fn threads_that_are_gone_leave_their_slots_to_new_ones() {
        for _ in 0..1000 {
            let turn = std::thread::spawn(|| run(Part::SpoolDisk, || ()));
            turn.join().expect("it does nothing");
        }
        // other tests run on other threads
        assert!(slots().len() < 500, "{}", slots().len());
    }

    #[tokio::test]
    async fn work_beside_the_runtime_is_seen_while_it_lasts() {
        let (let_go, wait) = std::sync::mpsc::channel::<()>();
        let work = beside(Part::SpoolDisk, move || wait.recv());
        let is_seen = || slots().iter().any(|slot| slot.look().0 == Part::SpoolDisk);
        let seen = async {
            while !is_seen() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), seen).await.expect("it runs");
        drop(let_go);
        assert!(work.await.expect("no panic").is_err());
    }

    #[test]
    fn every_part_is_found_by_its_number() {
        for (number, part) in Part::ALL.into_iter().enumerate() {
            assert_eq!(part as usize, number);
        }
    }
}
