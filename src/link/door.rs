//! What all links share: the way into the hub, and their limits.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fastport_core::session::{About, Ask};
use fastport_wire::control::ErrorCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::guard::Gate;
use crate::hub::{Hub, Seat};
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
                let made = self
                    .gate
                    .create_session(session, identity.as_deref(), password.as_deref())
                    .await;
                let opened = made.and_then(|()| {
                    self.hub.open_made_room(session).map_err(|_| ErrorCode::Conflict)
                });
                seat.answer(ask, opened.map(|()| None));
            }
        }
    }
}
