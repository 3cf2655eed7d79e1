//! A peer's place in a session, as its link holds it.

use std::sync::Arc;
use std::task::Waker;

use fastport_core::session::{
    Ask, Counts, Gone, Note, Output, PeerKey, Policy, Progress, Publisher, Spooled,
};
use fastport_wire::TopicId;
use fastport_wire::control::{ErrorCode, Tier};

use super::Room;

/// A peer's place. Dropping it says that the link is gone.
#[derive(Debug)]
pub struct Seat {
    room: Arc<Room>,
    key: PeerKey,
}

/// What became of bytes that a peer sent.
#[derive(Debug, Default)]
pub struct Taken {
    /// How far they are done with.
    pub progress: Progress,
    /// Questions that concern more than the session.
    pub asks: Vec<Ask>,
}

impl Seat {
    pub(super) fn new(room: Arc<Room>, key: PeerKey) -> Self {
        room.status().peers.add(1);
        Self { room, key }
    }

    /// The session's name.
    #[must_use]
    pub fn session(&self) -> &str {
        self.room.name()
    }

    /// Says that the peer keeps what it reads; see [`fastport_core::session::Session::make_member`].
    pub fn make_member(&self, tier: Tier) {
        self.room.make_member(self.key, tier);
    }

    /// Says what of the peer's messages is let go of when there are too many; see
    /// [`fastport_core::session::Session::set_policy`].
    pub fn set_policy(&self, policy: Policy) {
        self.room.with(|session| session.set_policy(self.key, policy));
    }

    /// How far the peer is; `None`: it is gone.
    #[must_use]
    pub fn counts(&self) -> Option<Counts> {
        self.room.lock().session.counts_of(self.key)
    }

    /// Lets the peer publish on a topic, as OPEN does, and tells its id at once.
    ///
    /// # Errors
    /// As OPEN is refused.
    pub fn open(&self, topic: &str, schema: Option<&[u8]>) -> Result<TopicId, ErrorCode> {
        self.room.with(|session| session.open_on(self.key, topic, schema))
    }

    /// Has some numbers remembered with the peer's state.
    pub fn set_note(&self, note: Note) {
        self.room.with(|session| session.set_note(self.key, note));
    }

    /// What ACKs of the first `count` frames would have said of the central instance; see
    /// [`fastport_core::session::Session::take_marks`].
    #[must_use]
    pub fn take_marks(&self, count: u64) -> Vec<Spooled> {
        self.room.with(|session| session.take_marks(self.key, count))
    }

    /// What [`Seat::take_marks`] would give, which stays where it is.
    #[must_use]
    pub fn marks(&self, count: u64) -> Vec<Spooled> {
        self.room.lock().session.marks(self.key, count)
    }

    /// Says that `tier` holds a publisher's frames up to `count`; see
    /// [`fastport_core::session::Session::confirm`].
    pub fn confirm(&self, publisher: &Publisher, tier: Tier, count: u64) {
        self.room.with(|session| session.confirm(self.key, publisher, tier, count));
    }

    /// Makes safe from a loss of power what the session has acknowledged; see [`Room::sync_journal`].
    ///
    /// # Errors
    /// The disk's.
    pub async fn sync_journal(&self) -> std::io::Result<()> {
        self.room.sync_journal().await
    }

    /// Notes whom to wake when there is something to write.
    pub fn register(&self, waker: &Waker) {
        self.room.register(self.key, waker);
    }

    /// Hands over bytes that the peer sent. Where some are taken, the caller looks at the peer's
    /// output next, and is not woken for that.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn handle_bytes(&self, bytes: &[u8]) -> Result<Taken, Gone> {
        let now = self.room.now();
        let mut inner = self.room.lock();
        let progress = inner.session.handle_bytes(now, self.key, bytes)?;
        let mut asks = Vec::new();
        while let Some(ask) = inner.session.poll_ask() {
            asks.push(ask);
        }
        // where nothing was taken, it may wait rather than look
        let awake = (progress.consumed > 0).then_some(self.key);
        self.room.settle(&mut inner, awake);
        Ok(Taken { progress, asks })
    }

    /// Looks for ACKs in bytes that wait behind those that are blocked: one may be what makes room.
    pub fn look_ahead(&self, bytes: &[u8]) {
        self.room.with(|session| session.look_behind(self.key, bytes));
    }

    /// Lets `write` write the peer's output; it returns how many bytes it wrote, and something more.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn write_with<T>(&self, write: impl FnOnce(Output<'_>) -> (usize, T)) -> Result<T, Gone> {
        let mut inner = self.room.lock();
        let is_withheld = inner.session.is_withheld(self.key);
        let mut output = inner.session.output(self.key)?;
        if is_withheld {
            output = Output { bytes: &[], is_last: false };
        }
        let was_empty = output.bytes.is_empty();
        let (written, more) = write(output);
        if !was_empty {
            inner.session.advance(self.key, written);
            self.room.settle(&mut inner, None);
        }
        Ok(more)
    }

    /// Answers a question of [`Taken::asks`].
    pub fn answer(&self, ask: &Ask, answer: Result<Option<&str>, ErrorCode>) {
        self.room.with(|session| session.answer(ask.peer, ask.request, answer));
    }

    /// Refuses a request that its link could not read, or with 0 one that has no number; `false`:
    /// too many answers wait already, and this one does too.
    #[must_use]
    pub fn refuse(&self, request: u32, code: ErrorCode) -> bool {
        self.room.with(|session| {
            let has_room = !session.is_choked(self.key);
            if has_room {
                session.answer(self.key, request, Err(code));
            }
            has_room
        })
    }

    /// Says that the peer is not read for a while; see
    /// [`fastport_core::session::Session::hold_off`].
    pub fn hold_off(&self) {
        let now = self.room.now().mono;
        self.room.with(|session| session.hold_off(now, self.key));
    }

    /// Ends the peer for a fault that its link found.
    pub fn close_for_error(&self, code: ErrorCode, text: &str) {
        self.room.with(|session| session.close_for_error(self.key, code, text));
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.room.status().peers.subtract(1);
        self.room.detach(self.key);
    }
}
