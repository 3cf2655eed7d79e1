//! The relay of one session: its peers, its topics, and what goes between them.
//!
//! It promises: a published frame's bytes are what every reader gets; what a reader does not take
//! costs only its own outbox; all memory is charged to the budget; every message is in the ledger.
//! The caller brings bytes and time in ([`Session::handle_bytes`], [`Session::handle_timeout`]) and
//! takes out bytes ([`Session::output`]), peers to wake ([`Session::poll_wake`]) and questions that
//! concern more than the session ([`Session::poll_ask`]).

mod acks;
mod attach;
mod holders;
mod journal;
mod members;
mod memory;
mod output;
pub(crate) mod own;
mod peer;
mod publish;
mod relayed;
mod requests;
mod shed;
mod streams;
mod subscriptions;
mod timers;
mod topics;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use fastport_wire::Frame;
use fastport_wire::control::{self, ByeReason, Control, ErrorCode, Tier, WhenFull, features};
use fastport_wire::frame::GapCause;
use hashbrown::HashMap;

use self::journal::Journal;
pub use self::journal::{BadRecord, Restored, Restoring};
pub use self::members::Spooled;
pub use self::own::{Counts, Note, Own, Publisher};
use self::peer::{Link, Peer};
pub use self::publish::PublishError;
pub use self::shed::Policy;
pub(crate) use self::shed::gone_before;
use self::streams::Streams;
pub use self::streams::{StreamFigures, StreamLimits};
use self::topics::Topics;
use crate::budget::{Budget, Buffers, NoBudget};
use crate::handshake::Refusal;
use crate::ledger::Ledger;
use crate::matcher::Matcher;
use crate::proof::PROOF_BYTES;
use crate::retention::Retention;
use crate::rights::Rights;
use crate::time::Instant;
use crate::wheel::Wheel;

/// What a session and its peers may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Peers at once, those that may come back included.
    pub peers: usize,
    /// Topics at once.
    pub topics: usize,
    /// Bytes of messages in a peer's outbox.
    pub outbox: usize,
    /// Bytes of a payload.
    pub payload: usize,
    /// Whether payloads of peers must be sealed end to end.
    pub sealed: bool,
    /// Subscriptions of a peer.
    pub subscriptions: usize,
    /// Topics a peer has open for publishing.
    pub open_topics: usize,
    /// Seconds between signs of life of a peer that states no wish; 0: none needed.
    pub keepalive: u32,
    /// The most seconds for which a peer's state is held after its link is gone.
    pub linger: u32,
    /// The same for gateways. One that is away for longer than `linger` keeps nobody waiting, and gives
    /// way where there is no room for others.
    pub gateway_linger: u32,
    /// Milliseconds after which a link that takes no bytes is closed; 0: never.
    pub stall_ms: u64,
    /// What of each topic's past is kept.
    pub retention: Retention,
    /// What happens at a full outbox whose peer states no wish.
    pub when_full: WhenFull,
    /// What streams may use.
    pub streams: StreamLimits,
}

/// Names a peer's link: after a reconnect the key of the old one is stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerKey {
    index: u32,
    generation: u32,
}

impl PeerKey {
    /// The peer's place, for tables beside the session's: less than the number of peers there ever
    /// were at once.
    #[must_use]
    pub fn index(self) -> usize {
        self.index as usize
    }
}

/// A peer whose handshake is done.
#[derive(Debug, Clone)]
pub struct Admission {
    /// Whose credential it proved to have; empty in an open session.
    pub identity: Box<str>,
    /// What it calls itself; empty: nothing.
    pub name: Box<str>,
    /// What it may publish and read.
    pub rights: Arc<Rights>,
    /// Of its HELLO.
    pub epoch: u64,
    /// Counted frames of the epoch that it has.
    pub taken: u64,
    /// [`features`] of its HELLO.
    pub flags: u32,
    /// Its wish.
    pub when_full: Option<WhenFull>,
    /// Its wish, in seconds.
    pub keepalive: Option<u32>,
    /// Its wish, in seconds.
    pub linger: Option<u32>,
    /// The relay's proof for it.
    pub proof: Option<[u8; PROOF_BYTES]>,
    /// One of the daemon's own parts; a peer from outside is none.
    pub own: Option<Own>,
}

/// What became of bytes that a peer sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Bytes that are done with. The rest is the start of a frame, or waits for room.
    pub consumed: usize,
    /// Messages among them.
    pub messages: u32,
    /// The rest waits until the peer is woken: a reader that must not lose has no room.
    pub is_blocked: bool,
    /// The rest is to be given again once the peer's question is answered, or others had their turn.
    pub pauses: bool,
}

/// What a peer's link should do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Output<'a> {
    /// Write these.
    pub bytes: &'a [u8],
    /// Then close the link.
    pub is_last: bool,
}

/// The peer's link was replaced or its session ended: close it without a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// Why a peer is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachError {
    /// The session is full.
    TooManyPeers,
    /// The memory budget is used up.
    NoBudget,
    /// What it would be told cannot be made to outlive the process for now.
    Frozen,
}

/// A question of a peer that the session cannot answer itself; answer by [`Session::answer`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Who asks.
    pub peer: PeerKey,
    /// To be repeated in the answer.
    pub request: u32,
    /// What is asked.
    pub about: About,
}

/// See [`Ask`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum About {
    /// The relay's figures.
    Status,
    /// To make a session.
    CreateSession {
        /// Its name.
        session: Box<str>,
        /// Its first identity.
        identity: Option<Box<str>>,
        /// That identity's password.
        password: Option<Box<[u8]>>,
    },
}

/// Figures of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// Peers with a link.
    pub peers: usize,
    /// Peers that may come back.
    pub lingering: usize,
    /// Gateways that were away, and gave way to others before their time.
    pub forgotten: u64,
    /// Topics.
    pub topics: usize,
    /// Retained messages.
    pub retained: u64,
    /// Retained messages that made room for newer ones before their time.
    pub evicted: u64,
    /// Messages.
    pub ledger: Ledger,
    /// Streams.
    pub streams: StreamFigures,
}

/// See the module's text.
#[derive(Debug)]
pub struct Session {
    limits: Limits,
    buffers: Buffers,
    peers: Vec<Slot>,
    free: Vec<u32>,
    attached: usize,
    lingering: usize,
    /// peers whose state outlives their link: epoch, identity, name
    by_epoch: HashMap<(u64, Box<str>, Box<str>), u32>,
    /// peers with a name: identity, name
    by_name: HashMap<(Box<str>, Box<str>), u32>,
    topics: Topics,
    matcher: Matcher,
    peer_wheel: Wheel,
    topic_wheel: Wheel,
    /// peers whose link has something to do, each once
    wakes: VecDeque<u32>,
    /// publishers that wait for room at a reader
    blocked: Vec<u32>,
    /// publishers whose ACK has a time, the earliest first
    ack_times: VecDeque<(Instant, PeerKey)>,
    asks: VecDeque<Ask>,
    /// What was just asked took a look at every topic: others get their turn first.
    is_costly: bool,
    ledger: Ledger,
    evicted: u64,
    forgotten: u64,
    /// there was no memory, and nothing that was only nice to have
    is_short: bool,
    /// how often the budget had refused at the last look
    refused: u64,
    /// when to look whether warm buffers are still wanted
    trim_at: Option<Instant>,
    members: Vec<(u32, Tier)>,
    /// states that peers have had
    serials: u64,
    /// what outlives the process; `None`: nothing does
    journal: Option<Box<Journal>>,
    /// files under way; `None`: there never were any
    streams: Option<Box<Streams>>,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    peer: Option<Box<Peer>>,
}

impl Session {
    /// An empty session.
    #[must_use]
    pub fn new(limits: Limits, budget: Arc<Budget>, now: Instant) -> Self {
        Self {
            limits,
            buffers: Buffers::new(budget),
            peers: Vec::new(),
            free: Vec::new(),
            attached: 0,
            lingering: 0,
            by_epoch: HashMap::new(),
            by_name: HashMap::new(),
            topics: Topics::default(),
            matcher: Matcher::default(),
            peer_wheel: Wheel::new(PEER_TICK_MS, now),
            topic_wheel: Wheel::new(TOPIC_TICK_MS, now),
            wakes: VecDeque::new(),
            blocked: Vec::new(),
            ack_times: VecDeque::new(),
            asks: VecDeque::new(),
            is_costly: false,
            ledger: Ledger::default(),
            evicted: 0,
            forgotten: 0,
            is_short: false,
            refused: 0,
            trim_at: None,
            members: Vec::new(),
            serials: 0,
            journal: None,
            streams: None,
        }
    }

    /// Applies other limits; they hold for what comes from now on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// The limits.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Its figures.
    #[must_use]
    pub fn figures(&self) -> Figures {
        Figures {
            peers: self.attached,
            lingering: self.lingering,
            forgotten: self.forgotten,
            topics: self.topics.len(),
            retained: self.topics.retained(),
            evicted: self.evicted,
            ledger: self.ledger,
            streams: self.stream_figures(),
        }
    }

    /// The index ([`PeerKey::index`]) of a peer whose link should look at its output, and at input
    /// that it held back.
    pub fn poll_wake(&mut self) -> Option<usize> {
        let index = self.wakes.pop_front()?;
        if let Some(peer) = self.at_mut(index) {
            peer.is_woken = false;
        }
        Some(index as usize)
    }

    /// A question that concerns more than this session.
    pub fn poll_ask(&mut self) -> Option<Ask> {
        self.asks.pop_front()
    }

    /// Answers a question; `Ok` with the text for [`About::Status`].
    pub fn answer(&mut self, peer: PeerKey, request: u32, answer: Result<Option<&str>, ErrorCode>) {
        if !self.is_attached(peer) {
            return;
        }
        match answer {
            Ok(text) => {
                self.send(peer.index, &control::Ok { request, text, ..Default::default() }.into());
            }
            Err(code) => self.refuse(peer.index, request, code),
        }
    }

    /// Closes the link of every peer, for `reason`; their state stays as after a lost link.
    pub fn close_all(&mut self, reason: ByeReason, retry_ms: Option<u32>) {
        for index in 0..self.peers.len() {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            let is_attached =
                self.at(index).is_some_and(|peer| matches!(peer.link, Link::Attached { .. }));
            if is_attached {
                self.say_bye(index, reason, retry_ms);
            }
        }
    }

    /// Closes the links of all peers but the daemon's own parts, each of which has its own end;
    /// `retry_ms` says after what time a peer of those rights should come back.
    pub fn close_guests(
        &mut self,
        reason: ByeReason,
        retry_ms: &mut dyn FnMut(&Rights) -> Option<u32>,
    ) {
        for index in 0..self.peers.len() {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            let guest = self
                .at(index)
                .filter(|peer| matches!(peer.link, Link::Attached { .. }) && !peer.is_own);
            if let Some(retry_ms) = guest.map(|peer| retry_ms(&peer.rights)) {
                self.say_bye(index, reason, retry_ms);
            }
        }
    }

    /// Ends all peers of an identity that is no more: they are told so, and their state goes with
    /// their links.
    pub fn remove_identity(&mut self, identity: &str) {
        for index in 0..self.peers.len() {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            let Some(peer) = self.at_mut(index) else { continue };
            if *peer.cold.identity != *identity {
                continue;
            }
            let link = peer.link;
            self.note_leaving(index);
            match link {
                Link::Attached { .. } => self.say_bye(index, ByeReason::Removed, None),
                Link::Lingering { .. } => self.remove(index, GapCause::ReaderGone),
                Link::Closing => {}
            }
        }
        self.wake_blocked();
    }

    /// Closes the link of a peer that did what it may not; its state ends with it.
    pub fn close_for_error(&mut self, key: PeerKey, code: ErrorCode, text: &str) {
        if self.is_attached(key) {
            self.fail(key.index, code, text);
        }
    }

    /// Whether the peer's link is there, and its last frame not said.
    fn is_attached(&mut self, key: PeerKey) -> bool {
        self.peer_mut(key).is_ok_and(|peer| matches!(peer.link, Link::Attached { .. }))
    }

    /// Puts a control message into a peer's outbox. Without memory for even that the link is closed:
    /// a peer that waits for an answer must not wait for ever.
    fn send(&mut self, index: u32, message: &Control<'_>) {
        let mut body = [0; CONTROL_MAX];
        let length = match message.encode(&mut body) {
            Ok(length) => length,
            Err(_) => return self.send_long(index, message),
        };
        self.send_frame(index, &Frame::Control(body.get(..length).unwrap_or_default()));
    }

    #[cold]
    fn send_long(&mut self, index: u32, message: &Control<'_>) {
        let text = message.to_fields().text.map_or(0, str::len);
        let mut body = alloc::vec![0; text + control::BODY_ROOM];
        match message.encode(&mut body) {
            Ok(length) => {
                self.send_frame(index, &Frame::Control(body.get(..length).unwrap_or_default()));
            }
            Err(_) => self.drop_link(index),
        }
    }

    fn send_frame(&mut self, index: u32, frame: &Frame<'_>) {
        let pushed =
            self.with_room(index, |peer, buffers, _| peer.outbox.push_frame(buffers, frame));
        match pushed {
            Ok(()) => self.wake(index),
            Err(NoBudget) => self.drop_link(index),
        }
    }

    fn drop_link(&mut self, index: u32) {
        if let Some(peer) = self.at_mut(index) {
            peer.link = Link::Closing;
        }
        self.wake(index);
    }

    fn refuse(&mut self, index: u32, request: u32, code: ErrorCode) {
        let request = Some(request);
        let message = control::Error { request, code: code.number(), ..Default::default() };
        self.send(index, &message.into());
    }

    /// Tells a peer what it did wrong and closes its link; its state ends with it.
    fn fail(&mut self, index: u32, code: ErrorCode, text: &str) {
        self.send_ack(index);
        let retry = Refusal::because(code).retry_ms;
        let (code, text) = (code.number(), Some(text));
        self.send(index, &control::Error { code, text, retry, ..Default::default() }.into());
        if let Some(peer) = self.at_mut(index) {
            peer.link = Link::Closing;
        }
        self.note_leaving(index);
        // it holds nobody up any more
        self.wake_blocked();
    }

    fn say_bye(&mut self, index: u32, reason: ByeReason, retry: Option<u32>) {
        self.send_ack(index);
        let message = control::Bye { code: reason.number(), retry, ..Default::default() };
        self.send(index, &message.into());
        let Some(peer) = self.at_mut(index) else { return };
        peer.link = Link::Closing;
        // BYE is its last frame: what comes behind it reaches nobody, unless the peer comes back
        if peer.cold.linger == 0 {
            self.note_leaving(index);
        }
        self.wake_blocked();
    }

    fn wake(&mut self, index: u32) {
        let slot = self.peers.get_mut(index as usize);
        let Some(peer) = slot.and_then(|slot| slot.peer.as_mut()) else { return };
        if !peer.is_woken {
            peer.is_woken = true;
            self.wakes.push_back(index);
        }
    }

    fn wake_blocked(&mut self) {
        if self.blocked.is_empty() {
            return;
        }
        for index in core::mem::take(&mut self.blocked) {
            if let Some(peer) = self.at_mut(index) {
                peer.is_blocked = false;
            }
            self.wake(index);
        }
    }

    fn peer_mut(&mut self, key: PeerKey) -> Result<&mut Peer, Gone> {
        let slot = self.peers.get_mut(key.index()).filter(|slot| slot.generation == key.generation);
        slot.and_then(|slot| slot.peer.as_deref_mut()).ok_or(Gone)
    }

    fn at(&self, index: u32) -> Option<&Peer> {
        self.peers.get(index as usize)?.peer.as_deref()
    }

    fn at_mut(&mut self, index: u32) -> Option<&mut Peer> {
        self.peers.get_mut(index as usize)?.peer.as_deref_mut()
    }
}

/// Appends a control message of bounded size to frames that are made up outside an outbox.
pub(crate) fn push_control(out: &mut Vec<u8>, message: &Control<'_>) {
    let mut body = [0; CONTROL_MAX];
    let length = message.encode(&mut body).unwrap_or_default();
    push_frame(out, &Frame::Control(body.get(..length).unwrap_or_default()));
}

/// Appends a frame to frames that are made up outside an outbox.
pub(crate) fn push_frame(out: &mut Vec<u8>, frame: &Frame<'_>) {
    let at = out.len();
    out.resize(at + frame.encoded_len(), 0);
    // room was just made; a frame over the wire's limit is none
    let length = frame.encode(out.get_mut(at..).unwrap_or_default()).unwrap_or_default();
    out.truncate(at + length);
}

/// Room for any control message but STATUS's answer: texts are at most 255 bytes, proofs 32.
pub(crate) const CONTROL_MAX: usize = 768;
/// Peers are looked at every few seconds; a quarter of one more does not matter.
const PEER_TICK_MS: u64 = 250;
/// Retained messages expire after tens of seconds.
const TOPIC_TICK_MS: u64 = 500;

/// Whether TIME frames are wanted.
fn wants_time(flags: u32) -> bool {
    flags & features::TIME != 0
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
