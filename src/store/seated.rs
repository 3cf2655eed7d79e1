//! The store's place in one session.

use std::sync::Arc;

use fastport_core::rights::Rights;
use fastport_core::session::{Admission, Gone, Own};
use fastport_wire::control::{self, Control, Tier, WhenFull, features, options};
use fastport_wire::{Frame, field};
use tracing::{error, warn};

use super::tap::{Start, Tap};
use super::{Position, Store, StoreError};
use crate::hub::{Hub, Room, Seat};

/// See the module's text.
#[derive(Debug)]
pub(super) struct Seated {
    pub(super) tap: Tap,
    pub(super) seat: Seat,
    /// What the session was told that is stored.
    acknowledged: u64,
    /// It has to be taken anew, or its session is no more.
    pub(super) is_gone: bool,
}

impl Seated {
    /// Takes the store's place in a session; `None`: the session is gone.
    pub(super) fn attach(
        store: &mut dyn Store,
        hub: &Arc<Hub>,
        room: &Room,
        outbox: usize,
    ) -> Result<Option<Self>, StoreError> {
        let session = room.name();
        let fresh = fresh_epoch()?;
        let start = Start::choose(room.counts(IDENTITY, NAME), store.position(session)?, fresh);
        if start.is_at_odds {
            warn!(
                session,
                "session and store do not fit together: what is between them is missing, or stored twice"
            );
        }
        let position = start.position;
        if start.is_new_to_store {
            store.set_position(session, position)?;
        }
        let missing = store.missing_at(session, position)?;
        let tap = Tap::new(session, position, missing);
        let admission = admission(position.epoch, position.count, outbox);
        let seat = match hub.attach(session, admission) {
            Ok(seat) => seat,
            Err(_) if hub.room(session).is_none() => return Ok(None),
            Err(refusal) => {
                return Err(StoreError::Failed {
                    doing: "read",
                    place: format!("session {session}"),
                    error: refusal.code.name().into(),
                });
            }
        };
        let mut seated = Self { tap, seat, acknowledged: 0, is_gone: false };
        seated.read(hub, READ_BYTES);
        // more than WELCOME may be read already
        let count = seated.tap.began_at();
        if count != position.count {
            warn!(session, "the session began the store's stream anew");
            store.set_position(session, Position { count, ..position })?;
        }
        seated.seat.make_member(Tier::Durable);
        seated.seat.make_member(Tier::Central);
        if seated.tap.is_resumed() {
            // what was stored when the process ended, and not said
            seated.acknowledge(count);
        }
        seated.subscribe();
        Ok(Some(seated))
    }

    /// Reads at most so many bytes; how many it were.
    pub(super) fn read(&mut self, hub: &Hub, most: usize) -> usize {
        let now = hub.clock().now();
        let Self { tap, seat, .. } = self;
        let read = seat.write_with(|output| {
            let bytes = output.bytes.get(..most).unwrap_or(output.bytes);
            (bytes.len(), (bytes.len(), tap.handle(now, bytes)))
        });
        match read {
            Ok((length, Ok(()))) => length,
            Ok((_, Err(error))) => {
                error!(session = seat.session(), %error, "the store's place is taken anew");
                self.is_gone = true;
                0
            }
            // the session has ended
            Err(Gone) => {
                self.is_gone = true;
                0
            }
        }
    }

    /// Tells the session what is stored: all that was read.
    pub(super) fn tell(&mut self) {
        let count = self.tap.position().count;
        let was_asked = self.tap.take_asked();
        if count > self.acknowledged {
            self.acknowledge(count);
        }
        if was_asked {
            self.say(&Frame::Pong { token: &[] });
        }
    }

    fn acknowledge(&mut self, taken: u64) {
        self.acknowledged = taken;
        self.say(&Frame::Ack { taken, durable: None, central: None, repeat: false });
    }

    /// Asks for everything from now on; what was asked for before stays as it is.
    fn subscribe(&mut self) {
        let flags = Some(options::NO_LAST);
        let message = control::Subscribe { request: 1, topic: "#", flags, ..Default::default() };
        let mut body = [0; 64];
        let length = Control::from(message).encode(&mut body).unwrap_or_default();
        self.say(&Frame::Control(body.get(..length).unwrap_or_default()));
    }

    fn say(&mut self, frame: &Frame<'_>) {
        let mut bytes = [0; field::MAX_HEAD + 64];
        let length = frame.encode(&mut bytes).unwrap_or_default();
        let taken = self.seat.handle_bytes(bytes.get(..length).unwrap_or_default());
        // who asks nothing has no questions to be answered
        self.is_gone |= taken.is_err();
    }
}

pub(super) fn admission(epoch: u64, taken: u64, outbox: usize) -> Admission {
    Admission {
        identity: IDENTITY.into(),
        name: NAME.into(),
        rights: Arc::new(Rights::everything()),
        epoch,
        taken,
        flags: features::TIME,
        when_full: Some(WhenFull::Hold),
        keepalive: None,
        linger: None,
        proof: None,
        own: Some(Own { outbox }),
    }
}

fn fresh_epoch() -> Result<u64, StoreError> {
    let mut epoch = [0; 8];
    getrandom::fill(&mut epoch).map_err(|error| StoreError::Failed {
        doing: "choose an epoch",
        place: "the system's randomness".to_owned(),
        error: Box::new(error),
    })?;
    Ok(u64::from_le_bytes(epoch))
}

/// Who the store is in each session.
const IDENTITY: &str = "$store";
const NAME: &str = "store";
/// Bytes read while a session is locked.
pub(super) const READ_BYTES: usize = 64 * 1024;
