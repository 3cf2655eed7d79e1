//! The other end of a link: what a peer does, from HELLO on, over as many links as it takes.
//!
//! It promises: a counted message is held until the relay has it, and published again, in order,
//! after a reconnect; what was asked for (topics, subscriptions, requests without an answer) is
//! asked for again. The caller brings bytes, time and randomness in, writes what
//! [`Client::output`] gives, and gets [`Event`]s.

mod handshake;
mod receiving;
mod relaying;
mod requests;
mod streams;
mod types;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use fastport_wire::control::WhenFull;
use fastport_wire::frame::{self, DataFlags};
use fastport_wire::{Frame, TopicId};
use hashbrown::HashMap;

use crate::budget::{Budget, Buffers};
use crate::ledger::Ledger;
use crate::outbox::{Outbox, Preface, Run};
use crate::proof::NONCE_BYTES;
use crate::session::push_frame;
use crate::time::Instant;

pub use self::requests::Past;
pub use self::streams::{ChunkError, NewOffer, PartRoom};
pub use self::types::{Event, Fault, Message, Options, PublishError, Secret};

/// See the module's text.
pub struct Client {
    options: Options,
    phase: Phase,
    /// written before the outbox; holds the handshake
    prologue: Vec<u8>,
    outbox: Outbox,
    buffers: Buffers,
    /// of no interest here: the outbox books into it
    ledger: Ledger,
    payload_limit: usize,
    keepalive_ms: u64,
    heard: Instant,
    is_asked: bool,
    /// counted frames of the epoch that came from the relay
    taken: u64,
    /// of them, those that the relay may be told of: <= taken
    confirmed: u64,
    /// the clock of the last TIME that was sent on this link
    told_clock: Option<u64>,
    /// when the relay is to be told of them; `None`: it was
    ack_due: Option<Instant>,
    /// what the relay was not told of, in bytes and [`MESSAGE_WEIGHT`]s
    unacked_weight: usize,
    /// how many counted messages were published when the relay was last asked for an ACK
    asked_at: u64,
    clock: Option<u64>,
    /// both sides take PACK frames
    packs: bool,
    names: HashMap<TopicId, Name>,
    /// open for publishing, by name
    open: BTreeMap<Box<str>, OpenTopic>,
    subscriptions: BTreeMap<Box<str>, (u32, u32)>,
    /// requests without an answer, to be sent again after a reconnect
    pending: BTreeMap<u32, Box<[u8]>>,
    next_request: u32,
    /// counted messages published before the epoch's first
    before_epoch: u64,
    published: u64,
    /// messages of a lost epoch, with their topics' names, to be published again
    orphans: Vec<Orphan>,
    /// The relay has lost counted messages that it had acknowledged and that are not here any more.
    is_epoch_lost: bool,
    streams: streams::Streams,
}

struct Name {
    name: Arc<str>,
    schema: Option<Box<[u8]>>,
}

#[derive(Clone)]
struct OpenTopic {
    id: Option<TopicId>,
    schema: Option<Box<[u8]>>,
    tier: Option<u8>,
    request: u32,
    has_failed: bool,
}

struct Orphan {
    topic: Arc<str>,
    flags: DataFlags,
    payload: Box<[u8]>,
}

enum Phase {
    Unlinked,
    ExpectWelcome {
        nonce: [u8; NONCE_BYTES],
        /// of the relay's CHALLENGE, for checking its proof
        relay_nonce: Option<Box<[u8]>>,
    },
    Ready,
}

impl Client {
    /// A client without a link.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let budget = Arc::new(Budget::new(options.outbox * 4 + CONTROL_ROOM));
        let outbox = Outbox::new(options.outbox, WhenFull::Hold, true);
        Self {
            phase: Phase::Unlinked,
            prologue: Vec::new(),
            outbox,
            buffers: Buffers::new(budget),
            ledger: Ledger::default(),
            payload_limit: usize::MAX,
            keepalive_ms: 0,
            heard: Instant::default(),
            is_asked: false,
            taken: options.continues.unwrap_or(0),
            confirmed: options.continues.unwrap_or(0),
            told_clock: None,
            ack_due: None,
            unacked_weight: 0,
            asked_at: 0,
            clock: None,
            packs: false,
            names: HashMap::new(),
            open: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            pending: BTreeMap::new(),
            next_request: 1,
            before_epoch: 0,
            published: 0,
            orphans: Vec::new(),
            is_epoch_lost: false,
            streams: streams::Streams::default(),
            options,
        }
    }

    /// The link is gone.
    pub fn disconnected(&mut self) {
        self.phase = Phase::Unlinked;
        self.prologue.clear();
        self.streams.lose_link();
    }

    /// Whether the client is in its session.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready)
    }

    /// Whether both sides take PACK frames on this link, which whoever carries the bytes makes and
    /// reads.
    #[must_use]
    pub fn packs(&self) -> bool {
        self.packs && self.is_ready()
    }

    /// The bytes to write next.
    pub fn output(&mut self) -> &[u8] {
        if !self.prologue.is_empty() {
            return &self.prologue;
        }
        if self.ack_due.is_some() && self.outbox.unsent() > 0 {
            self.send_ack();
        }
        if !self.streams.is_idle()
            && let Some(turn) = self.stream_turn()
        {
            return self.stream_output(turn);
        }
        match self.phase {
            Phase::Ready => self.outbox.output(&mut self.buffers, &mut self.ledger),
            _ => &[],
        }
    }

    /// Notes that `written` bytes of [`Client::output`] were written.
    pub fn advance(&mut self, written: usize) {
        if !self.prologue.is_empty() {
            self.prologue.drain(..written.min(self.prologue.len()));
        } else if self.streams.is_idle() || !self.advance_stream(written) {
            self.outbox.advance(&mut self.buffers, &mut self.ledger, written);
        }
    }

    /// Takes bytes from the relay and tells what they mean; returns how many are done with. The
    /// rest is the start of a frame, to be given again with what comes after it.
    ///
    /// # Errors
    /// [`Fault`]: the link is of no more use.
    pub fn handle_bytes(
        &mut self,
        now: Instant,
        input: &[u8],
        mut tell: impl FnMut(Event<'_>),
    ) -> Result<usize, Fault> {
        (self.heard, self.is_asked) = (now, false);
        let mut consumed = 0;
        while let Some(rest) = input.get(consumed..).filter(|rest| !rest.is_empty()) {
            let split = frame::split(rest, fastport_wire::field::MAX_BODY).map_err(Fault::Wire)?;
            let Some((head, body)) = split else { break };
            consumed += head.total();
            if head.kind() == fastport_wire::field::kind::PADDING {
                continue;
            }
            let frame = Frame::from_parts(head, body).map_err(Fault::Wire)?;
            self.handle_frame(&frame, &mut tell)?;
        }
        if self.unacked_weight >= ACK_WEIGHT {
            self.send_ack();
        } else if self.unacked_weight > 0 && self.ack_due.is_none() {
            self.ack_due = Some(now.after(ACK_DELAY_MS));
        }
        Ok(consumed)
    }

    /// Publishes on an open topic. A counted message's number is returned: once
    /// [`Event::Acked`] has come so far, it is with the relay. Others are sent once, if at all.
    ///
    /// # Errors
    /// [`PublishError`]; the message is then not published.
    pub fn publish(
        &mut self,
        topic: &str,
        flags: DataFlags,
        payload: &[u8],
    ) -> Result<u64, PublishError> {
        if payload.len() > self.payload_limit {
            return Err(PublishError::TooLong);
        }
        let id = self.open.get(topic).and_then(|open| open.id).ok_or(PublishError::NotOpen)?;
        if !self.orphans.is_empty() {
            return Err(PublishError::NotOpen);
        }
        self.put_message(id, flags, payload, None)
    }

    /// How many counted messages the relay does not have yet, and how many others are not written.
    #[must_use]
    pub fn queued(&self) -> u64 {
        self.outbox.figures().queued + self.orphans.len() as u64
    }

    /// Bytes of output that are not written.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.prologue.len() + if self.is_ready() { self.outbox.unsent() } else { 0 }
    }

    /// When to call [`Client::handle_timeout`] next.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let turns = if self.is_asked { 2 } else { 1 };
        let silence = (self.keepalive_ms > 0).then(|| self.heard.after(turns * self.keepalive_ms));
        silence.into_iter().chain(self.ack_due).min().filter(|_| self.is_ready())
    }

    /// Has the relay say at once what it has of the counted messages: it may take some milliseconds
    /// otherwise. Whether there was something to ask: not all is acknowledged or asked about.
    pub fn ask_for_ack(&mut self) -> bool {
        let is_open = self.outbox.figures().acked < self.outbox.counted_total();
        let asks = is_open && self.is_ready() && self.asked_at < self.published;
        if asks {
            self.asked_at = self.published;
            self.push(&Frame::Ping { token: &[] });
        }
        asks
    }

    /// Acknowledges what is due, and asks a silent relay whether it is there.
    ///
    /// # Errors
    /// [`Fault::Silent`].
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Fault> {
        if !self.is_ready() {
            return Ok(());
        }
        if self.ack_due.is_some_and(|due| due <= now) {
            self.send_ack();
        }
        if self.keepalive_ms == 0 {
            return Ok(());
        }
        let silent_ms = now.since(self.heard);
        if silent_ms >= 2 * self.keepalive_ms {
            return Err(Fault::Silent);
        }
        if silent_ms >= self.keepalive_ms && !self.is_asked {
            self.is_asked = true;
            self.push(&Frame::Ping { token: &[] });
        }
        Ok(())
    }

    fn put_message(
        &mut self,
        topic: TopicId,
        flags: DataFlags,
        payload: &[u8],
        clock: Option<u64>,
    ) -> Result<u64, PublishError> {
        let mut bytes = Vec::new();
        push_frame(&mut bytes, &Frame::Data { flags, topic, payload });
        let mut preface = Preface { topic: None, unix_ms: clock };
        let room = self.outbox.room(&mut self.ledger);
        if room < bytes.len() + preface.encoded_len() {
            self.ask_for_ack();
            return Err(PublishError::Full);
        }
        let is_counted = flags.contains(DataFlags::COUNTED);
        let run = Run { bytes: &bytes, messages: 1, is_counted, topic };
        self.outbox
            .push_run_after(&mut self.buffers, &mut self.ledger, &mut preface, &run)
            .map_err(|_| PublishError::Full)?;
        self.told_clock = clock.or(self.told_clock);
        self.published += u64::from(is_counted);
        let has_answer = self.before_epoch + self.outbox.figures().acked >= self.asked_at;
        if room < self.options.outbox / 2 && has_answer {
            // before it is full
            self.ask_for_ack();
        }
        Ok(self.published)
    }

    fn send_ack(&mut self) {
        (self.ack_due, self.unacked_weight) = (None, 0);
        let taken = self.reported();
        let ack = Frame::Ack { taken, durable: None, central: None, repeat: false };
        self.push(&ack);
    }

    fn push(&mut self, frame: &Frame<'_>) {
        // the budget has room for the outbox four times over; a client that outgrows it with
        // requests is told by their silence and its own deadline
        self.outbox.push_frame(&mut self.buffers, frame).unwrap_or_default();
    }
}

/// The longest that an ACK waits for company: a second is allowed, and a relay that holds messages
/// for it asks earlier when it needs their room.
const ACK_DELAY_MS: u64 = 100;
/// An ACK goes out at once for so many bytes, or for some 500 small messages.
const ACK_WEIGHT: usize = 128 * 1024;
/// What a message weighs beside its payload.
const MESSAGE_WEIGHT: usize = 224;
/// Room for requests beside the messages.
const CONTROL_ROOM: usize = 256 * 1024;

#[cfg(test)]
mod tests;
