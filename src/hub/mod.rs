//! Where core meets tokio: sessions behind a short lock, and wake-ups.
//!
//! It promises: no lock is held across an await, and none but a session's while its frames are
//! moved; a peer's task is woken when it has something to write, not per message.

mod room;
mod seat;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fastport_core::budget::Budget;
use fastport_core::handshake::Refusal;
use fastport_core::session::{Admission, AttachError, Limits};
use fastport_core::time::{Instant, Now};
use fastport_wire::control::{ByeReason, ErrorCode};

pub use self::room::Room;
pub use self::seat::{Seat, Taken};
use crate::status::Status;

/// All sessions of the daemon.
#[derive(Debug)]
pub struct Hub {
    rooms: Mutex<BTreeMap<Box<str>, Arc<Room>>>,
    budget: Arc<Budget>,
    clock: Clock,
    status: Arc<Status>,
    /// Peers of all sessions at once.
    peers_max: AtomicUsize,
}

/// The clocks that core is told of.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: std::time::Instant,
}

impl Clock {
    /// A clock whose monotonic zero is now.
    #[must_use]
    pub fn start() -> Self {
        Self { start: std::time::Instant::now() }
    }

    /// What the clocks show.
    #[must_use]
    pub fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono: self.mono(), unix_ms: millis(unix) }
    }

    /// What the monotonic clock shows.
    #[must_use]
    pub fn mono(&self) -> Instant {
        Instant::from_millis(millis(self.start.elapsed()))
    }

    /// The runtime's name for a time of this clock.
    #[must_use]
    pub fn at(&self, instant: Instant) -> tokio::time::Instant {
        (self.start + Duration::from_millis(instant.as_millis())).into()
    }
}

/// A session cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoomExists;

impl Hub {
    /// A hub without sessions, whose traffic lives within `memory` bytes.
    #[must_use]
    pub fn new(memory: usize, peers: usize, status: Arc<Status>) -> Arc<Self> {
        Arc::new(Self {
            rooms: Mutex::default(),
            budget: Arc::new(Budget::new(memory)),
            clock: Clock::start(),
            status,
            peers_max: AtomicUsize::new(peers),
        })
    }

    /// The clock that all sessions are told of.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// The memory budget of all sessions.
    #[must_use]
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// The daemon's counters.
    #[must_use]
    pub fn status(&self) -> &Arc<Status> {
        &self.status
    }

    /// Makes a session.
    ///
    /// # Errors
    /// [`RoomExists`] when there is one of that name.
    pub fn open_room(&self, name: &str, limits: Limits) -> Result<Arc<Room>, RoomExists> {
        let mut rooms = self.rooms();
        if rooms.contains_key(name) {
            return Err(RoomExists);
        }
        let room = Room::new(name, limits, Arc::clone(&self.budget), self.clock);
        rooms.insert(name.into(), Arc::clone(&room));
        Ok(room)
    }

    /// Ends a session: its peers are told, and their state is gone with it.
    pub fn close_room(&self, name: &str) {
        let room = self.rooms().remove(name);
        if let Some(room) = room {
            room.close_all(ByeReason::Removed, None);
        }
    }

    /// The session of that name.
    #[must_use]
    pub fn room(&self, name: &str) -> Option<Arc<Room>> {
        self.rooms().get(name).cloned()
    }

    /// All sessions.
    #[must_use]
    pub fn all_rooms(&self) -> Vec<Arc<Room>> {
        self.rooms().values().cloned().collect()
    }

    /// Applies another limit on peers at once.
    pub fn set_peers_max(&self, peers: usize) {
        self.peers_max.store(peers, Ordering::Relaxed);
    }

    /// Lets a peer whose handshake is done into its session.
    ///
    /// # Errors
    /// [`Refusal`]: no such session, or no room.
    pub fn attach(&self, session: &str, admission: Admission) -> Result<Seat, Refusal> {
        let room = self.room(session).ok_or(Refusal::because(ErrorCode::NotAuthenticated))?;
        let full = Refusal { code: ErrorCode::LimitReached, retry_ms: Some(RETRY_WHEN_FULL_MS) };
        if self.status.peers.get() >= self.peers_max.load(Ordering::Relaxed) as u64 {
            return Err(full);
        }
        let key = room.attach(self.clock.now(), admission).map_err(|error| match error {
            AttachError::TooManyPeers | AttachError::NoBudget => full,
        })?;
        Ok(Seat::new(room, key, Arc::clone(&self.status)))
    }

    /// Tells all peers that the daemon stops, and closes their links.
    pub fn close_all(&self, reason: ByeReason, retry_ms: Option<u32>) {
        for room in self.all_rooms() {
            room.close_all(reason, retry_ms);
        }
    }

    /// The figures of one session, or of all, as a JSON object.
    #[must_use]
    pub fn figures(&self, only: Option<&str>) -> serde_json::Value {
        let rooms = self.all_rooms();
        let sessions: serde_json::Map<_, _> = rooms
            .iter()
            .filter(|room| only.is_none_or(|only| only == room.name()))
            .map(|room| (room.name().to_owned(), room.figures_json()))
            .collect();
        let mut all = self.status.to_json();
        let memory = serde_json::json!({
            "limit": self.budget.limit(),
            "used": self.budget.used(),
            "refused": self.budget.refused(),
        });
        all.insert("uptime_seconds".to_owned(), (self.clock.mono().as_millis() / 1000).into());
        all.insert("memory".to_owned(), memory);
        all.insert("sessions".to_owned(), sessions.into());
        all.into()
    }

    fn rooms(&self) -> MutexGuard<'_, BTreeMap<Box<str>, Arc<Room>>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Room may come when peers leave; until then they should not all knock.
const RETRY_WHEN_FULL_MS: u32 = 5000;
