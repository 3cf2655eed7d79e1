//! A session with its peers, driven as `hub` and `link` drive it: bytes in, wake-ups, bytes out.
//! What a link reads is here already, and what it writes is taken away at once, so all that is left
//! is the work of the core and the order of the calls.

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;

use fastport_core::budget::Budget;
use fastport_core::ledger::Ledger;
use fastport_core::retention::Retention;
use fastport_core::rights::Rights;
use fastport_core::session::{Admission, Limits, PeerKey, Session, StreamLimits};
use fastport_core::time::{Instant, Now};
use fastport_wire::control::{self, Control, WhenFull};
use fastport_wire::field::{MAX_BODY, MAX_HEAD};
use fastport_wire::{Frame, TopicId};

/// A session and the links of its peers.
#[derive(Debug)]
pub struct Rig {
    session: Session,
    now: Now,
    /// when the timer's task would wake up
    armed: Option<Instant>,
    /// by [`PeerKey::index`]
    links: Vec<Link>,
    /// peers whose task is to run
    woken: VecDeque<usize>,
    /// What is written is kept, to be looked at.
    pub is_watched: bool,
    epochs: u64,
    requests: u32,
}

/// A peer's end of its link.
#[derive(Debug)]
struct Link {
    key: PeerKey,
    is_queued: bool,
    /// bytes that were written to it
    written: u64,
    /// what was written, where that is watched
    seen: Vec<u8>,
}

impl Rig {
    /// A session without peers.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let mono = Instant::from_millis(CLOCK_MS);
        let budget = Arc::new(Budget::part_of(Arc::new(Budget::new(MEMORY))));
        Self {
            session: Session::new(limits, budget, mono),
            now: Now { mono, unix_ms: CLOCK_MS, boot_ms: 0 },
            armed: None,
            links: Vec::new(),
            woken: VecDeque::new(),
            is_watched: true,
            epochs: 0,
            requests: 0,
        }
    }

    /// Lets a peer in; returns its index. One that keeps its past gets counted messages at least
    /// once: they wait for room, and for its ACK.
    ///
    /// # Panics
    /// When it is refused.
    pub fn attach(&mut self, keeps_past: bool) -> usize {
        self.epochs += 1;
        let admission = Admission {
            identity: "".into(),
            name: "".into(),
            rights: Arc::new(Rights::everything()),
            epoch: self.epochs,
            taken: 0,
            flags: 0,
            when_full: keeps_past.then_some(WhenFull::Hold),
            keepalive: None,
            linger: keeps_past.then_some(60),
            proof: None,
            own: None,
        };
        let key = self.session.attach(self.now, admission).expect("the limits are wide enough");
        assert_eq!(
            key.index(),
            self.links.len(),
            "nobody leaves, so peers are numbered as they come"
        );
        self.links.push(Link { key, is_queued: false, written: 0, seen: Vec::new() });
        self.drive(key.index(), &[]);
        self.take_seen(key.index());
        key.index()
    }

    /// Subscribes a peer to a filter.
    ///
    /// # Panics
    /// When that is refused.
    pub fn subscribe(&mut self, peer: usize, filter: &str) {
        self.requests += 1;
        let request = self.requests;
        let ask = control::Subscribe { request, topic: filter, ..Default::default() };
        self.ask(peer, ask.into());
    }

    /// Opens a topic for publishing.
    ///
    /// # Panics
    /// When that is refused.
    pub fn open(&mut self, peer: usize, topic: &str) -> TopicId {
        self.requests += 1;
        let request = self.requests;
        let id = self.ask(peer, control::Open { request, topic, ..Default::default() }.into());
        id.and_then(TopicId::new).expect("the answer to OPEN has the topic's id")
    }

    /// Sends a request; returns the id in its answer, which must be OK.
    fn ask(&mut self, peer: usize, message: Control<'_>) -> Option<u32> {
        let mut body = [0; REQUEST_MAX];
        let length = message.encode(&mut body).expect("the names here are short");
        let bytes = encode(&Frame::Control(body.get(..length).unwrap_or_default()));
        self.drive(peer, &bytes);
        let seen = self.take_seen(peer);
        let mut rest = &seen[..];
        let mut answer = None;
        while let Some((frame, length)) = decode(rest) {
            if let Frame::Control(body) = frame {
                answer = Control::decode(body).ok();
            }
            rest = rest.get(length..).unwrap_or_default();
        }
        assert!(matches!(answer, Some(Control::Ok(_))), "{message:?} is answered {answer:?}");
        match answer {
            Some(Control::Ok(answer)) => answer.id,
            _ => None,
        }
    }

    /// Runs a peer's task: its link has `input` to read, and then nothing more.
    ///
    /// # Panics
    /// When not all of it is taken.
    pub fn drive(&mut self, peer: usize, input: &[u8]) {
        let mut input = Some(input).filter(|input| !input.is_empty());
        loop {
            let wrote = self.write(peer);
            let Some(input) = input.take() else {
                if wrote {
                    continue;
                }
                return;
            };
            self.read(peer, input);
        }
    }

    /// Runs the tasks of all peers that were woken.
    pub fn drive_woken(&mut self) {
        while let Some(peer) = self.woken.pop_front() {
            if let Some(link) = self.links.get_mut(peer) {
                link.is_queued = false;
            }
            self.drive(peer, &[]);
        }
    }

    fn read(&mut self, peer: usize, input: &[u8]) {
        let Some(key) = self.links.get(peer).map(|link| link.key) else { return };
        let progress = self.session.handle_bytes(self.now, key, input).expect("its link is there");
        assert_eq!(progress.consumed, input.len(), "a reader has no room: {progress:?}");
        assert_eq!(self.session.poll_ask(), None, "nobody asks what concerns more than a session");
        self.settle();
    }

    /// Writes what the session has for a peer; whether that was something.
    fn write(&mut self, peer: usize) -> bool {
        let Some(link) = self.links.get_mut(peer) else { return false };
        let output = self.session.output(link.key).expect("its link is there");
        assert!(!output.is_last, "the session closes the link of a peer that did nothing wrong");
        let length = black_box(output.bytes).len();
        if length == 0 {
            return false;
        }
        if self.is_watched {
            link.seen.extend_from_slice(output.bytes);
        }
        link.written += length as u64;
        self.session.advance(link.key, length);
        self.settle();
        true
    }

    /// Wakes those that have something to do, and sets the timer.
    fn settle(&mut self) {
        while let Some(index) = self.session.poll_wake() {
            if let Some(link) = self.links.get_mut(index).filter(|link| !link.is_queued) {
                link.is_queued = true;
                self.woken.push_back(index);
            }
        }
        let next = self.session.next_timeout();
        if next.is_some_and(|next| self.armed.is_none_or(|armed| next < armed)) {
            self.armed = next;
        }
    }

    /// What was written to a peer since the last time, as far as it was watched.
    pub fn take_seen(&mut self, peer: usize) -> Vec<u8> {
        self.links.get_mut(peer).map(|link| std::mem::take(&mut link.seen)).unwrap_or_default()
    }

    /// How many bytes were written to a peer.
    #[must_use]
    pub fn written(&self, peer: usize) -> u64 {
        self.links.get(peer).map_or(0, |link| link.written)
    }

    /// What became of all messages.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.session.figures().ledger
    }
}

/// The daemon's own limits as its configuration has them by default, but for what is kept of a
/// topic's past: that is a path of its own.
#[must_use]
pub fn limits() -> Limits {
    Limits {
        peers: 100_000,
        topics: 200_000,
        outbox: 256 * 1024,
        payload: 64 * 1024,
        sealed: false,
        subscriptions: 256,
        open_topics: 4096,
        keepalive: 60,
        linger: 60,
        gateway_linger: 600,
        stall_ms: 30_000,
        streams: StreamLimits::DEFAULT,
        retention: Retention { messages: 0, age_ms: 60_000, bytes: 64 * 1024 },
        when_full: WhenFull::DropOldest,
    }
}

/// A frame's bytes.
///
/// # Panics
/// When it is longer than the wire allows.
#[must_use]
pub fn encode(frame: &Frame<'_>) -> Vec<u8> {
    let mut bytes = vec![0; frame.encoded_len().max(MAX_HEAD)];
    let length = frame.encode(&mut bytes).expect("there is room for it");
    bytes.truncate(length);
    bytes
}

/// The first frame of what a session wrote, and its length.
///
/// # Panics
/// When it is none.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<(Frame<'_>, usize)> {
    Frame::decode(bytes, MAX_BODY).expect("the relay writes frames")
}

/// Any time will do: it does not pass.
const CLOCK_MS: u64 = 1_000_000;
/// More than any path needs.
const MEMORY: usize = 1 << 30;
/// A request with a short name.
const REQUEST_MAX: usize = 256;
