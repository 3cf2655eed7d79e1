//! What all links share: the way into the hub, and their limits.

use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fastport_core::session::{About, Ask};
use fastport_wire::control::ErrorCode;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::Instant;
use tracing::error;
use tracing::{debug, info};

use crate::guard::{Gate, Origin, RefusalLog};
use crate::hub::{Hub, RoomError, Seat};
use crate::status::Status;

/// Limits of links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Handshakes at once; beyond it each listener accepts one connection, and lets it wait.
    pub handshakes: usize,
    /// From the handshake's first byte, that of TLS or HTTP where there is one, to WELCOME.
    pub handshake_timeout: Duration,
}

/// A place among the handshakes, held until this link's is over.
#[derive(Debug)]
pub(super) struct Permit {
    _place: OwnedSemaphorePermit,
    /// When it must be over.
    pub(super) until: Instant,
}

/// The way into the hub.
#[derive(Debug)]
pub struct Door {
    pub(super) hub: Arc<Hub>,
    pub(super) gate: Arc<Gate>,
    pub(super) handshakes: Arc<Semaphore>,
    handshake_timeout: Mutex<Duration>,
    refusals: Mutex<RefusalLog>,
    /// For links that are over and wait for their peers to see it.
    goodbyes: Semaphore,
    /// Links that there are, those in their handshakes included.
    links: AtomicUsize,
    /// Tells that there are none any more.
    gone: Notify,
}

/// Counts a link for as long as it lives. A link's task is owned by nobody else: a list of tasks
/// would take 64 bytes for each.
#[derive(Debug)]
pub(super) struct Presence(Arc<Door>);

impl Presence {
    pub(super) fn new(door: Arc<Door>) -> Self {
        door.links.fetch_add(1, Ordering::Relaxed);
        Self(door)
    }
}

impl Deref for Presence {
    type Target = Door;

    fn deref(&self) -> &Door {
        &self.0
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.status().panics.add(1);
            error!("a link's task panicked; the others go on");
        }
        if self.links.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.gone.notify_waiters();
        }
    }
}

impl Door {
    /// The way into `hub`, past `gate`.
    #[must_use]
    pub fn new(hub: Arc<Hub>, gate: Arc<Gate>, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            hub,
            gate,
            handshakes: Arc::new(Semaphore::new(limits.handshakes)),
            handshake_timeout: Mutex::new(limits.handshake_timeout),
            refusals: Mutex::default(),
            goodbyes: Semaphore::new(GOODBYES),
            links: AtomicUsize::new(0),
            gone: Notify::new(),
        })
    }

    /// Gives handshakes that begin from now on so much time.
    pub fn set_handshake_timeout(&self, timeout: Duration) {
        *self.handshake_timeout.lock().unwrap_or_else(PoisonError::into_inner) = timeout;
    }

    /// Waits for a place among the handshakes; the link's time runs from then on.
    ///
    /// Cancel-safe: a place is taken by nobody who does not wait for it any more.
    pub(super) async fn permit(&self) -> Permit {
        let place = Arc::clone(&self.handshakes).acquire_owned().await;
        let place = place.expect("the semaphore is never closed");
        let timeout = *self.handshake_timeout.lock().unwrap_or_else(PoisonError::into_inner);
        Permit { _place: place, until: Instant::now() + timeout }
    }

    /// A place for a link that is over, held until its peer has seen that; `None`: there is none
    /// left, and the link is to be closed at once.
    pub(super) fn goodbye(&self) -> Option<SemaphorePermit<'_>> {
        self.goodbyes.try_acquire().ok()
    }

    /// Logs a link that is refused in its handshake, or counts it where that would fill the log.
    pub(super) fn note_refusal(&self, origin: &Origin, code: ErrorCode) {
        let now = self.hub.clock().mono();
        let noted = {
            let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
            refusals.note(now, origin.source())
        };
        if let Some(links) = noted.left_out {
            info!(links, "links refused in the minutes before, beside those that were logged");
        }
        if noted.is_logged {
            info!(%origin, code = code.name(), "link refused");
        } else {
            self.status().refused_unlogged.add(1);
            debug!(%origin, code = code.name(), "link refused");
        }
    }

    /// Waits until there is no link.
    ///
    /// Cancel-safe: it changes nothing.
    pub async fn emptied(&self) {
        loop {
            // before the look: the last one that goes in between is not missed
            let gone = self.gone.notified();
            if self.links.load(Ordering::Relaxed) == 0 {
                return;
            }
            gone.await;
        }
    }

    pub(super) fn status(&self) -> &Status {
        self.hub.status()
    }

    /// Answers what a peer asked that concerns more than its session.
    pub(super) async fn answer(&self, seat: &Seat, is_local: bool, ask: &Ask) {
        match &ask.about {
            About::Status => {
                let only = (!is_local).then(|| seat.session());
                let text = self.hub.figures(only).to_string();
                seat.answer(ask, Ok(Some(&text)));
            }
            About::CreateSession { session, identity, password } => {
                let made =
                    self.create_session(session, identity.as_deref(), password.as_deref()).await;
                seat.answer(ask, made.map(|()| None));
            }
        }
    }

    async fn create_session(
        &self,
        session: &str,
        identity: Option<&str>,
        password: Option<&[u8]>,
    ) -> Result<(), ErrorCode> {
        self.gate.may_create_session(session)?;
        if self.hub.room(session).is_some() {
            return Err(ErrorCode::Conflict);
        }
        let made = self.gate.make_credentials(identity, password).await?;
        self.hub.open_made_room(session).map_err(|error| match error {
            RoomError::Exists => ErrorCode::Conflict,
            RoomError::TooMany => ErrorCode::LimitReached,
        })?;
        // only now: they must not hold for a moment for a session that somebody else made
        self.gate.open_made_session(session, made);
        Ok(())
    }
}
/// Each costs a file descriptor, for seconds; who can make links in plenty shall not have them all.
const GOODBYES: usize = 256;
