//! Where core meets tokio: sessions behind a short lock, and wake-ups.
//!
//! It promises: no lock is held across an await, and none but a session's while its frames are
//! moved; a peer's task is woken when it has something to write, not per message.

mod journal;
mod room;
mod seat;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use fastport_core::budget::Budget;
use fastport_core::handshake::Refusal;
use fastport_core::rights::Rights;
use fastport_core::session::{Admission, AttachError, Limits};
use fastport_wire::control::{ByeReason, ErrorCode};
use tokio::sync::mpsc;

pub use self::journal::{Apply, FindRights, JournalSink, Pieces, Syncing};
pub use self::room::Room;
pub use self::seat::{Seat, Taken};
use crate::clock::Clock;
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
    /// Sessions at once, and what those may use that peers make.
    made: Mutex<MadeLimits>,
    /// The daemon stops; the milliseconds after which peers may come back.
    closing: OnceLock<Option<u32>>,
    /// Figures of parts that the hub does not know.
    parts: Mutex<Vec<(&'static str, Figures)>>,
    /// Tells the owner of the timers' tasks of new sessions.
    opened: mpsc::Sender<Arc<Room>>,
}

#[derive(Debug)]
struct MadeLimits {
    rooms: usize,
    limits: Limits,
}

/// A part of the daemon that has figures to show.
pub trait Show: Send + Sync {
    /// They, by name.
    fn to_json(&self) -> serde_json::Value;
}

struct Figures(Arc<dyn Show>);

impl std::fmt::Debug for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Figures")
    }
}

/// A session cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoomError {
    /// There is one of that name.
    Exists,
    /// There are as many as there may be.
    TooMany,
}

impl Hub {
    /// A hub without sessions, whose traffic lives within `memory` bytes; sessions that peers make
    /// get the limits `made`. Who holds the receiver runs the timer of every session it gives.
    #[must_use]
    pub fn new(
        memory: usize,
        peers: usize,
        made: Limits,
        status: Arc<Status>,
    ) -> (Arc<Self>, mpsc::Receiver<Arc<Room>>) {
        let (opened, rooms) = mpsc::channel(ROOMS_AT_ONCE);
        let hub = Arc::new(Self {
            rooms: Mutex::default(),
            budget: Arc::new(Budget::new(memory)),
            clock: Clock::start(),
            status,
            peers_max: AtomicUsize::new(peers),
            made: Mutex::new(MadeLimits { rooms: 0, limits: made }),
            closing: OnceLock::new(),
            parts: Mutex::default(),
            opened,
        });
        (hub, rooms)
    }

    /// The clock that all sessions are told of.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
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
    /// [`RoomError`].
    pub fn open_room(&self, name: &str, limits: Limits) -> Result<Arc<Room>, RoomError> {
        let mut rooms = self.rooms();
        if rooms.contains_key(name) {
            return Err(RoomError::Exists);
        }
        // it sends no more than fit; a full channel means that nobody runs the timers
        let place = self.opened.try_reserve().map_err(|_| RoomError::TooMany)?;
        let budget = Arc::new(Budget::part_of(Arc::clone(&self.budget)));
        let room = Room::new(name, limits, budget, self.clock.clone(), Arc::clone(&self.status));
        rooms.insert(name.into(), Arc::clone(&room));
        place.send(Arc::clone(&room));
        Ok(room)
    }

    /// Makes a session that a peer asked for.
    ///
    /// # Errors
    /// [`RoomError`].
    pub fn open_made_room(&self, name: &str) -> Result<(), RoomError> {
        let limits = {
            let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
            if self.rooms().len() >= made.rooms {
                return Err(RoomError::TooMany);
            }
            made.limits
        };
        self.open_room(name, limits).map(|_| ())
    }

    /// Applies other limits: sessions at once, and what those may use that peers make.
    pub fn set_made_limits(&self, rooms: usize, limits: Limits) {
        *self.made.lock().unwrap_or_else(PoisonError::into_inner) = MadeLimits { rooms, limits };
    }

    /// Ends a session: its peers are told, and their state is gone with it.
    pub fn close_room(&self, name: &str) {
        let room = self.rooms().remove(name);
        if let Some(room) = room {
            room.close(ByeReason::Removed);
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

    /// Takes every session's lock once, and lets it go.
    pub fn touch(&self) {
        for room in self.all_rooms() {
            drop(room.lock());
        }
    }

    /// The most bytes that a payload may have in any session.
    #[must_use]
    pub fn payload_max(&self) -> usize {
        let rooms = self.rooms();
        rooms.values().map(|room| room.payload_max()).max().unwrap_or(0)
    }

    /// Applies another limit on peers at once; those that are over it stay.
    pub fn set_peers_max(&self, peers: usize) {
        self.peers_max.store(peers, Ordering::Relaxed);
    }

    /// Lets a peer whose handshake is done into its session.
    ///
    /// # Errors
    /// [`Refusal`]: no such session, no room, or [`Hub::close_guests`] was called.
    pub fn attach(&self, session: &str, admission: Admission) -> Result<Seat, Refusal> {
        let room = self.room(session).ok_or(Refusal::because(ErrorCode::NotAuthenticated))?;
        let full = Refusal { code: ErrorCode::LimitReached, retry_ms: Some(RETRY_WHEN_FULL_MS) };
        let is_own = admission.own.is_some();
        if !is_own && self.status.peers.get() >= self.peers_max.load(Ordering::Relaxed) as u64 {
            return Err(full);
        }
        let key = room.attach(self.clock.now(), admission).map_err(|error| match error {
            AttachError::TooManyPeers | AttachError::NoBudget | AttachError::Frozen => full,
        })?;
        let seat = Seat::new(Arc::clone(&room), key);
        if room.is_closed() {
            return Err(Refusal::because(ErrorCode::NotAuthenticated));
        }
        // looked at last: who came in before it was set is told with the others
        match self.closing.get().filter(|_| !is_own) {
            Some(&retry_ms) => Err(Refusal { code: ErrorCode::Unavailable, retry_ms }),
            None => Ok(seat),
        }
    }

    /// Tells all peers but the daemon's own parts that it stops, and closes their links; no more are
    /// let in. They should come back after `least_ms`, but gateways, of which there may be many, when
    /// `of_gateway` says, by their number.
    pub fn close_guests(
        &self,
        reason: ByeReason,
        least_ms: u32,
        of_gateway: impl Fn(usize) -> u32,
    ) {
        self.closing.get_or_init(|| Some(least_ms));
        let mut gateways = 0;
        let mut retry_ms = |rights: &Rights| {
            if !rights.is_gateway() {
                return Some(least_ms);
            }
            gateways += 1;
            Some(of_gateway(gateways - 1))
        };
        for room in self.all_rooms() {
            room.close_guests(reason, &mut retry_ms);
        }
    }

    /// Shows the figures of another part of the daemon under that name, to those who may see all.
    pub fn show_part(&self, name: &'static str, figures: Arc<dyn Show>) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.retain(|(known, _)| *known != name);
        parts.push((name, Figures(figures)));
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
        if only.is_none() {
            let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend(parts.iter().map(|(name, part)| ((*name).to_owned(), part.0.to_json())));
        }
        all.into()
    }

    fn rooms(&self) -> MutexGuard<'_, BTreeMap<Box<str>, Arc<Room>>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sessions that wait for their timer to be run.
const ROOMS_AT_ONCE: usize = 256;
/// Room may come when peers leave; until then they should not all knock.
const RETRY_WHEN_FULL_MS: u32 = 5000;
