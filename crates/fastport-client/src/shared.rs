//! What the link's task and the handles share: the state machine behind a short lock, wake-ups.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use fastport_core::client::PublishError as Refusal;
use fastport_core::client::{Client as Machine, Event, Fault};
use fastport_core::time::Instant as Moment;
use fastport_wire::frame::DataFlags;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::book::{Answer, Book, TopicState};
use crate::desk::Desk;
use crate::error::{ConnectError, PublishError, Refused, RequestError};
use crate::files::Registry;
use crate::options::Options;
use crate::seal::{Receiver, Sender};

/// How it stands with the link.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum LinkState {
    /// An attempt is under way.
    Connecting,
    /// The client is in its session.
    Ready {
        /// The relay went on where it was.
        resumed: bool,
    },
    /// The next attempt comes at that time.
    Waiting {
        /// What ended the link or the attempt.
        error: ConnectError,
        /// When.
        until: Instant,
    },
    /// There will be no other.
    Ended(ConnectError),
}

pub(crate) struct Shared {
    state: Mutex<State>,
    pub(crate) options: Options,
    /// where messages are sealed
    pub(crate) sender: Option<Sender>,
    /// something for the link's task
    wake: Notify,
    /// something was written, confirmed, opened or refused, or the link ended
    pub(crate) changed: Notify,
    pub(crate) link: watch::Sender<LinkState>,
    origin: Instant,
}

pub(crate) struct State {
    pub(crate) machine: Machine,
    pub(crate) desk: Desk,
    pub(crate) book: Book,
    pub(crate) files: Registry,
    /// the client is to end when all is delivered, or then
    pub(crate) closing: Option<Instant>,
    pub(crate) end: Option<ConnectError>,
    /// nobody on the way can read what goes over the link, the last one where there is none
    pub(crate) is_private: bool,
    /// the smaller of what the relay takes and what the outbox can hold
    payload_limit: usize,
    outbox_limit: usize,
}

impl Shared {
    pub(crate) fn new(options: Options, epoch: u64) -> Self {
        let seal = options.seal.as_ref();
        let sender = seal.and_then(|seal| Sender::new(seal, seal.session_or(&options.session)));
        let receiver = seal.map(|seal| Receiver::new(seal, seal.session_or(&options.session)));
        let outbox_limit = options.outbox.saturating_sub(FRAME_ROOM);
        let state = State {
            machine: Machine::new(options.to_core(epoch)),
            desk: Desk::new(receiver),
            book: Book::default(),
            files: Registry::default(),
            closing: None,
            end: None,
            is_private: false,
            payload_limit: outbox_limit,
            outbox_limit,
        };
        Self {
            state: Mutex::new(state),
            options,
            sender,
            wake: Notify::new(),
            changed: Notify::new(),
            link: watch::Sender::new(LinkState::Connecting),
            origin: Instant::now(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // a panic under the lock ends the link's task, and that ends the client
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time as the state machine has it.
    pub(crate) fn moment(&self, now: Instant) -> Moment {
        let millis = now.saturating_duration_since(self.origin).as_millis();
        Moment::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
    }

    /// The inverse of [`Shared::moment`].
    pub(crate) fn instant(&self, moment: Moment) -> Instant {
        self.origin + std::time::Duration::from_millis(moment.as_millis())
    }

    /// Tells the link's task to look again.
    pub(crate) fn wake_driver(&self) {
        self.wake.notify_one();
    }

    /// Waits until the link's task is told to look again. Cancel-safe: a wake-up is not lost.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Publishes now or not at all; the number is that of the last counted message.
    pub(crate) fn try_publish(
        &self,
        topic: &str,
        payload: &[u8],
        flags: DataFlags,
    ) -> Result<u64, PublishError> {
        let mut state = self.lock();
        let State { machine, book, end, payload_limit, .. } = &mut *state;
        if let Some(error) = end {
            return Err(PublishError::Ended(error.clone()));
        }
        if payload.len() > *payload_limit {
            return Err(PublishError::TooLong { limit: *payload_limit });
        }
        // otherwise the task is at work already, or waits for the socket
        let is_first = machine.unsent() == 0;
        let number = match machine.publish(topic, flags, payload) {
            Ok(number) => number,
            Err(Refusal::TooLong) => return Err(PublishError::TooLong { limit: *payload_limit }),
            Err(Refusal::Full) => {
                // it has asked for an ACK
                self.wake_driver();
                return Err(PublishError::NotNow);
            }
            Err(Refusal::NotOpen) => {
                return Err(match book.topic(topic) {
                    Some(TopicState::Refused(refused)) => {
                        PublishError::Open(RequestError::Refused(refused.clone()))
                    }
                    _ => PublishError::NotNow,
                });
            }
        };
        if flags.contains(DataFlags::COUNTED) {
            book.note_number(number);
        }
        drop(state);
        if is_first {
            self.wake_driver();
        }
        Ok(number)
    }

    /// A subscription has no owner any more.
    pub(crate) fn unsubscribe(&self, id: u64) {
        let mut state = self.lock();
        let State { machine, desk, .. } = &mut *state;
        for filter in desk.unsubscribe(id) {
            machine.unsubscribe(&filter);
        }
        drop(state);
        self.wake_driver();
    }

    /// Asks the link's task to end when all is delivered.
    pub(crate) fn start_closing(&self) {
        let mut state = self.lock();
        let latest = Instant::now() + self.options.close_timeout;
        state.closing.get_or_insert(latest);
        drop(state);
        self.wake_driver();
    }

    /// The link's task ends: everybody learns why.
    pub(crate) fn end(&self, error: ConnectError) {
        let mut state = self.lock();
        if state.end.is_some() {
            return;
        }
        state.end = Some(error.clone());
        state.machine.disconnected();
        state.desk.close();
        state.book.close();
        drop(state);
        self.link.send_replace(LinkState::Ended(error));
        self.changed.notify_waiters();
    }
}

impl State {
    /// The most bytes of a payload.
    pub(crate) fn payload_limit(&self) -> usize {
        self.payload_limit
    }

    /// The schema of a topic that is open, as it was asked for or as the relay says.
    pub(crate) fn schema_of(&self, topic: &str) -> Option<&[u8]> {
        self.book.schema(topic).or_else(|| self.machine.schema_of(topic))
    }

    /// Takes whole frames from the relay; whether the handshake was done by them, and how.
    pub(crate) fn handle_bytes(
        &mut self,
        now: Moment,
        chunk: &Bytes,
    ) -> Result<Option<LinkState>, Fault> {
        let Self { machine, desk, book, files, payload_limit, outbox_limit, .. } = self;
        let mut welcomed = None;
        let handled = machine.handle_bytes(now, chunk, |event| match event {
            Event::Message(message) => desk.take_message(chunk, &message),
            Event::Gap { topic, count, cause } => desk.take_gap(topic, count, cause),
            Event::Welcome { resumed, payload_limit: limit, .. } => {
                *payload_limit = usize::try_from(limit).unwrap_or(usize::MAX).min(*outbox_limit);
                desk.begin(resumed);
                book.begin(resumed);
                files.take(chunk, &event);
                welcomed = Some(LinkState::Ready { resumed });
            }
            Event::Done { request, count, text, .. } => {
                let past = desk.finish(request, count);
                let text = text.map(str::to_owned);
                book.finish(request, Ok(Answer { text, past }));
            }
            Event::Failed { request, code, text } => {
                desk.finish(request, None);
                book.finish(request, Err(Refused::new(code, text)));
            }
            Event::Acked { taken, durable, central } => book.confirm([taken, durable, central]),
            Event::Unpublished { .. } => book.doubt_unconfirmed(),
            event => files.take(chunk, &event),
        });
        // what came before the fault came
        desk.flush();
        handled.map(|_| welcomed)
    }
}

/// What a message takes in the outbox beside its payload.
const FRAME_ROOM: usize = 16;

/// Held by whoever may ask for something; the client ends with the last.
pub(crate) struct Lease(pub(crate) Arc<Shared>);

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.start_closing();
    }
}
