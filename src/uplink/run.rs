//! One link of a lane, from its first byte to its end: what [`Bridge`] decides is done here.

pub(super) mod behind;

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use fastport_client::ConnectError;
use fastport_client::raw::Link;
use fastport_core::client::Fault;
use fastport_core::proof::NONCE_BYTES;
use fastport_core::time::Instant;
use fastport_pack::PackError;
use fastport_wire::frame::GapCause;
use fastport_wire::{Frame, TopicId};
use tracing::warn;

use super::bridge::{Bridge, Coming, Ended, Gaps, Message, Notice, ToLocal};
use super::ceiling::Ceiling;
use super::commit::Commit;
use super::drain::Drain;
use super::figures::LaneFigures;
use super::flow::Flow;
use super::local::Place;
use super::note::Local;
use super::rules::Rules;
use super::wire::Wire;
use crate::clock::Clock;
use crate::config::Lane;
use crate::hub::Seat;

/// Why a link is over.
#[derive(Debug)]
pub(super) enum Why {
    /// The network, the transport or the central instance.
    Connect(ConnectError),
    /// The central instance was silent for too long.
    Silent(Duration),
    /// It sent a PACK frame that is none.
    BadPack(PackError),
    /// Its counts are of another state.
    OtherState { taken: u64, least: u64, most: u64 },
    /// It stores nothing.
    NoStore,
    /// A frame would have had another count than it should.
    Astray { expected: u64, counted: u64 },
    /// The local session has no place for the lane.
    Here(&'static str),
    /// A better central instance is there.
    Return,
    /// More comes than goes: it is to be put on disk.
    Spill,
    /// The spool was damaged, and what could be read of it begins anew.
    SetAside,
    /// The daemon ends.
    Stop,
}

impl From<Ended> for Why {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Fault(fault) => Self::Connect(ConnectError::Fault(fault)),
            Ended::OtherState { taken, least, most } => Self::OtherState { taken, least, most },
            Ended::NoStore => Self::NoStore,
            Ended::Astray { expected, counted } => Self::Astray { expected, counted },
        }
    }
}

/// What a link may take its time for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// The handshake is done by then.
    pub(super) welcome_by: tokio::time::Instant,
    /// For the message of one who waited in vain.
    pub(super) connect_timeout: Duration,
    /// A link that is silent for so long is dead.
    pub(super) dead_after: Duration,
    /// A message waits for so long for others to go up with it.
    pub(super) delay: Duration,
    /// Behind rows on disk nothing waits longer in memory only.
    pub(super) commit: Commit,
}

/// Looks now and then whether the favourite is back.
pub(super) type Probe = Pin<Box<dyn Future<Output = ()> + Send>>;

pub(super) struct Run<'a> {
    pub(super) lane: Lane,
    pub(super) place: &'a Place,
    pub(super) figures: &'a Arc<LaneFigures>,
    pub(super) ceiling: &'a Ceiling,
    pub(super) times: Times,
    pub(super) bridge: Bridge,
    pub(super) link: Link,
    pub(super) probe: Option<Probe>,
    /// The lane's rows on disk, if there are any.
    pub(super) drain: Option<Drain>,
    pub(super) rules: &'a Arc<Rules>,
    pub(super) max_age: Duration,
    /// Whether what does not fit into memory can go to the disk.
    pub(super) can_spill: bool,
    /// Called when the handshake is done, and with each look from then on; whether it went on where
    /// it was, and the central instance's clock.
    pub(super) on_ready: &'a mut (dyn FnMut(bool, Option<u64>) + Send),
    state: Doing,
}

/// What changes while a link runs.
struct Doing {
    clock: Clock,
    seat: Option<Seat>,
    wire: Wire,
    flow: Flow,
    heard: Instant,
    opened: HashMap<Box<str>, TopicId>,
    /// words for the local session that it did not take yet
    unsaid: Vec<u8>,
    is_at_ceiling: bool,
    /// until when what is to go up waits for more
    batch_at: Option<tokio::time::Instant>,
    has_begun_drain: bool,
    next_gather: tokio::time::Instant,
    next_append: tokio::time::Instant,
    commit: Commit,
    /// since when memory is nearly full
    full_since: Option<tokio::time::Instant>,
    next_look: tokio::time::Instant,
    sent_then: u64,
    random: u64,
}

impl<'a> Run<'a> {
    #[allow(clippy::too_many_arguments, reason = "all of a link, in one place")]
    pub(super) fn new(
        lane: Lane,
        (place, figures, ceiling): (&'a Place, &'a Arc<LaneFigures>, &'a Ceiling),
        (rules, max_age): (&'a Arc<Rules>, Duration),
        (drain, can_spill): (Option<Drain>, bool),
        times: Times,
        bridge: Bridge,
        link: Link,
        probe: Option<Probe>,
        on_ready: &'a mut (dyn FnMut(bool, Option<u64>) + Send),
        random: u64,
    ) -> Self {
        let clock = place.hub().clock().clone();
        let now = clock.mono();
        let state = Doing {
            clock,
            seat: None,
            wire: Wire::default(),
            flow: Flow::new(now),
            heard: now,
            opened: HashMap::new(),
            unsaid: Vec::new(),
            is_at_ceiling: false,
            batch_at: None,
            has_begun_drain: false,
            next_gather: tokio::time::Instant::now(),
            next_append: tokio::time::Instant::now(),
            commit: times.commit,
            full_since: None,
            next_look: tokio::time::Instant::now(),
            sent_then: figures.messages_up.get(),
            random,
        };
        Self {
            lane,
            place,
            figures,
            ceiling,
            times,
            bridge,
            link,
            probe,
            drain,
            rules,
            max_age,
            can_spill,
            on_ready,
            state,
        }
    }

    /// What the link leaves: counted frames that may be at the central instance, what it may not
    /// have told, and its work on the disk.
    pub(super) fn into_rest(self) -> (u64, Gaps, Option<Drain>) {
        let fresh = self.drain.as_ref().map_or(0, Drain::fresh);
        self.figures.note_dropped(GapCause::LinkLost, fresh as u64);
        (self.bridge.read(), self.bridge.into_gaps(), self.drain)
    }

    /// Runs the link until it is over.
    pub(super) async fn until_end(&mut self, nonce: [u8; NONCE_BYTES]) -> Why {
        self.bridge.connected(self.state.clock.mono(), nonce);
        loop {
            let next = match self.look() {
                Ok(next) => next,
                Err(why) => return why,
            };
            // what happened is found by the next look; both branches are cancel-safe
            tokio::select! {
                turn = poll_fn(|cx| self.poll_turn(cx)) => {
                    if let Err(why) = turn {
                        return why;
                    }
                }
                () = tokio::time::sleep_until(next) => {}
            }
        }
    }

    /// Does what is due by the clock, and says when to look again.
    fn look(&mut self) -> Result<tokio::time::Instant, Why> {
        let (now, here) = (self.state.clock.mono(), tokio::time::Instant::now());
        let is_ready = self.bridge.is_ready();
        if !is_ready && self.times.welcome_by <= here {
            return Err(Why::Connect(ConnectError::TimedOut(self.times.connect_timeout)));
        }
        let dead_ms = millis(self.times.dead_after);
        let dead_at = self.state.heard.after(dead_ms);
        if self.is_reading() && dead_at <= now {
            return Err(Why::Silent(self.times.dead_after));
        }
        if is_ready && self.state.next_look <= here {
            self.state.next_look = here + LOOK;
            self.show()?;
        }
        while let Some(notice) = self.bridge.poll_notice() {
            tell(self.lane, &notice);
        }
        let client = self.bridge.client();
        if client.next_timeout().is_some_and(|due| due <= now) {
            // its own idea of silence is ours
            let handled = client.handle_timeout(now);
            if let Err(fault) = handled.or_else(|fault| match fault {
                Fault::Silent => Ok(()),
                fault => Err(fault),
            }) {
                return Err(Why::Connect(ConnectError::Fault(fault)));
            }
        }
        let ask_ms = self.ask_ms();
        let soon = here + LEAST_WAIT;
        let at = |instant: Instant| self.state.clock.at(instant).max(soon);
        let client_due = self.bridge_timeout(now).map(at);
        let ask = is_ready.then(|| at(self.state.flow.next_ask(ask_ms)));
        let welcome = (!is_ready).then_some(self.times.welcome_by);
        let ceiling = self.state.is_at_ceiling.then(|| here + self.ceiling.pause());
        let looks = (is_ready && self.has_waiting()).then_some(self.state.next_look.max(soon));
        let batch = self.state.batch_at.filter(|&at| at > here);
        let all = [client_due, ask, welcome, ceiling, looks, batch, Some(at(dead_at))];
        Ok(all.into_iter().flatten().min().unwrap_or(soon))
    }

    fn bridge_timeout(&self, now: Instant) -> Option<Instant> {
        self.bridge.client_timeout().filter(|&due| due > now)
    }

    /// Moves what can be moved. Cancel-safe: progress is in the link, the bridge and the session.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Why>> {
        if let Some(seat) = &self.state.seat {
            seat.register(cx.waker());
        }
        if let Some(probe) = &mut self.probe
            && probe.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(Why::Return));
        }
        let mut has_moved = false;
        for _ in 0..TURNS {
            let moved = self.turn(cx)?;
            has_moved |= moved;
            if !moved {
                // the times may be others now
                return if has_moved { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
        }
        // others want to be served too
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Result<bool, Why> {
        let now = self.state.clock.mono();
        let mut moved = false;
        if self.bridge.is_ready() {
            if self.state.seat.is_none() {
                self.enter(cx)?;
            }
            moved |= self.drain(now, cx)?;
            if !self.bridge.is_draining() {
                moved |= self.fetch()?;
                moved |= self.carry(now)?;
            }
            moved |= self.publish(now)?;
            moved |= self.tell_local()?;
        }
        let wire = &mut self.state.wire;
        let written = wire
            .poll_write(&mut self.link, self.bridge.client(), self.figures, cx)
            .map_err(lost)?;
        self.ceiling.spend(written);
        self.figures.bytes_out.add(written as u64);
        Ok(moved | (written > 0) | self.read(now, cx)?)
    }

    /// Takes the lane's place in the local session, which gives what is not acknowledged.
    fn enter(&mut self, cx: &Context<'_>) -> Result<(), Why> {
        let (local, _) = self.bridge.counts();
        let seat = self.place.enter(self.state.random).map_err(|_| Why::Here(NO_PLACE))?;
        let counts = seat.counts().map(|counts| (counts.acked, counts.taken));
        if counts != Some((local.acked, local.taken)) {
            return Err(Why::Here("the local session has begun anew"));
        }
        seat.register(cx.waker());
        self.state.seat = Some(seat);
        self.state.flow.welcomed(self.state.clock.mono());
        self.tell_ready();
        Ok(())
    }

    fn tell_ready(&mut self) {
        (self.on_ready)(self.bridge.is_resumed(), self.bridge.central_clock());
    }

    /// From the local session to the bridge.
    fn fetch(&mut self) -> Result<bool, Why> {
        let Some(seat) = &self.state.seat else { return Ok(false) };
        let bridge = &mut self.bridge;
        let fetched = seat.write_with(|output| {
            let taken = bridge.take_local(output.bytes);
            (taken, (taken, output.is_last && taken == output.bytes.len()))
        });
        match fetched {
            Ok((_, true)) | Err(_) => Err(Why::Here(LOCAL_OVER)),
            Ok((taken, false)) => Ok(taken > 0),
        }
    }

    /// From the bridge to the central instance, as much as may be on its way.
    fn carry(&mut self, now: Instant) -> Result<bool, Why> {
        let allowance = if self.is_batch_due() { self.allowance() } else { 0 };
        let carried = if allowance > 0 {
            self.bridge.carry_up(self.state.clock.now(), allowance)?
        } else {
            0
        };
        self.state.flow.sent(carried);
        self.ask(now);
        Ok(carried > 0)
    }

    /// Whether what waits to be carried has waited long enough for more. An alarm does not wait.
    fn is_batch_due(&mut self) -> bool {
        let waiting = self.bridge.waiting();
        if self.times.delay.is_zero() || self.lane == Lane::Alarm || waiting == 0 {
            self.state.batch_at = None;
            return true;
        }
        // until all of it is carried: what then waits for an answer does not wait for company again
        let here = tokio::time::Instant::now();
        let due = *self.state.batch_at.get_or_insert(here + self.times.delay);
        due <= here || waiting >= BATCH_ENOUGH
    }

    /// How many bytes may be put on their way.
    fn allowance(&mut self) -> usize {
        let mut free = self.ceiling.allowance(self.lane, std::time::Instant::now());
        let wire = &self.state.wire;
        if wire.is_packing() {
            free = if free < self.ceiling.batch() { 0 } else { wire.unpacked(free) };
        }
        self.state.is_at_ceiling = free == 0;
        self.state.flow.allowance().min(free)
    }

    /// Asks whether what was sent has arrived, and whether the other side is there.
    fn ask(&mut self, now: Instant) {
        let ask_ms = self.ask_ms();
        if let Some(token) = self.state.flow.poll_ask(now, ask_ms) {
            self.bridge.client().ping(&token);
        }
    }

    /// What came down goes into the local session.
    fn publish(&mut self, now: Instant) -> Result<bool, Why> {
        let mut has_moved = false;
        while let (Some(seat), Some(coming)) = (&self.state.seat, self.bridge.next_down()) {
            let is_published = match coming {
                Coming::Unwanted { .. } => false,
                Coming::Message(message) if !self.bridge.is_taken_here(message) => false,
                Coming::Message(message) => {
                    match publish(seat, &mut self.state.opened, message)? {
                        Some(is_published) => is_published,
                        // a reader that must not lose has no room
                        None => break,
                    }
                }
            };
            self.bridge.down_done(now, is_published);
            self.tell_local()?;
            has_moved = true;
        }
        Ok(has_moved)
    }

    /// Notes and acknowledgements for the local session.
    fn tell_local(&mut self) -> Result<bool, Why> {
        let Some(seat) = &self.state.seat else { return Ok(false) };
        let mut has_moved = false;
        loop {
            if !self.state.unsaid.is_empty() {
                let gone = |_| Why::Here(LOCAL_OVER);
                let taken = seat.handle_bytes(&self.state.unsaid).map_err(gone)?;
                self.state.unsaid.drain(..taken.progress.consumed);
                has_moved |= taken.progress.consumed > 0;
                if taken.progress.consumed == 0 {
                    return Ok(has_moved);
                }
                continue;
            }
            match self.bridge.poll_local() {
                Some(ToLocal::Note(note)) => seat.set_note(note.to_words()),
                Some(ToLocal::Say(words)) => self.state.unsaid = words,
                None => return Ok(has_moved),
            }
        }
    }

    fn read(&mut self, now: Instant, cx: &mut Context<'_>) -> Result<bool, Why> {
        if !self.is_reading() {
            // it may well speak: we do not listen
            self.state.heard = now;
            return Ok(false);
        }
        let Doing { wire, flow, heard, .. } = &mut self.state;
        if !wire.has_frames() {
            match wire.poll_read(&mut self.link, cx).map_err(lost)? {
                None => return Ok(false),
                Some(0) => return Err(Why::Connect(ConnectError::Hangup)),
                Some(bytes) => self.figures.bytes_in.add(bytes as u64),
            }
            *heard = now;
        }
        if wire.has_frames() {
            let frames = wire.next_frames().map_err(Why::BadPack)?;
            self.figures.frames_in.add(frames.len() as u64);
            self.bridge.handle_central(now, frames, |token| {
                flow.answered(now, token);
            })?;
            if self.bridge.client().packs() {
                wire.start_packing();
            }
        }
        Ok(true)
    }

    fn is_reading(&self) -> bool {
        self.bridge.down_bytes() < DOWN_MOST
    }

    fn has_waiting(&self) -> bool {
        let state = self.figures.state();
        state.unacknowledged > 0 || state.drain_rate > 0
    }

    /// How long a link may be silent before it is asked.
    fn ask_ms(&self) -> u64 {
        millis(self.times.dead_after) * 2 / 5
    }

    fn show(&mut self) -> Result<(), Why> {
        if self.state.seat.is_some() {
            self.tell_ready();
        }
        let sent = self.figures.messages_up.get();
        let counts = self.state.seat.as_ref().and_then(|_| self.place.expire());
        if let Some(counts) = counts {
            self.figures.look(self.state.clock.mono(), &counts);
        }
        let mut state = self.figures.state();
        state.round_trip_ms = self.state.flow.round_trip_ms();
        state.drain_rate = sent - self.state.sent_then;
        drop(state);
        self.state.sent_then = sent;
        self.look_at_memory(counts.map_or(0, |counts| counts.held))
    }

    /// A link that is there and too slow for what comes fills the memory, and then publishers would
    /// wait: what is more goes to the disk.
    fn look_at_memory(&mut self, held: usize) -> Result<(), Why> {
        let here = tokio::time::Instant::now();
        let is_full = held > self.place.outbox() / 4 * 3;
        if !is_full || !self.can_spill || self.bridge.is_draining() {
            self.state.full_since = None;
            return Ok(());
        }
        let since = *self.state.full_since.get_or_insert(here);
        if here - since >= FULL_FOR { Err(Why::Spill) } else { Ok(()) }
    }
}

/// Publishes a message; `None`: not now; `false`: the session does not take it.
fn publish(
    seat: &Seat,
    opened: &mut HashMap<Box<str>, TopicId>,
    message: &Message,
) -> Result<Option<bool>, Why> {
    let known = opened.get(&message.topic).copied().filter(|_| message.schema.is_none());
    let topic = match known {
        Some(topic) => topic,
        None => match seat.open(&message.topic, message.schema.as_deref()) {
            Ok(topic) => {
                if opened.len() >= MOST_OPENED {
                    opened.clear();
                }
                opened.insert(message.topic.clone(), topic);
                topic
            }
            Err(_) => return Ok(Some(false)),
        },
    };
    let frame = Frame::Data { flags: message.flags, topic, payload: &message.payload };
    let mut bytes = vec![0; frame.encoded_len()];
    let length = frame.encode(&mut bytes).unwrap_or_default();
    let bytes = bytes.get(..length).unwrap_or_default();
    let gone = |_| Why::Here(LOCAL_OVER);
    let taken = seat.handle_bytes(bytes).map_err(gone)?;
    Ok((taken.progress.consumed == bytes.len()).then_some(true))
}

fn tell(lane: Lane, notice: &Notice) {
    let lane = lane.name();
    match notice {
        Notice::TopicRefused { topic, code } => {
            warn!(lane, %topic, ?code, "the central instance does not take a topic");
        }
        Notice::FilterRefused { filter, code } => {
            warn!(lane, %filter, ?code, "the central instance does not give what a rule wants");
        }
        Notice::TooLong { topic, bytes } => {
            warn!(lane, %topic, bytes, "a message is longer than the central instance takes");
        }
    }
}

fn lost(error: io::Error) -> Why {
    Why::Connect(ConnectError::Lost(Arc::new(error)))
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What the lane is at the local session, as the bridge wants it.
pub(super) fn local(counts: &fastport_core::session::Counts) -> Local {
    Local { acked: counts.acked, total: counts.total, taken: counts.taken }
}

const LOCAL_OVER: &str = "the local session ended the lane's link";
const NO_PLACE: &str = "the local session has no place for the lane";
/// Memory that is nearly full for so long is too small.
const FULL_FOR: Duration = Duration::from_secs(2);
/// What goes up without waiting for more.
const BATCH_ENOUGH: usize = 8 * 1024;
/// Moves before the others' turn.
const TURNS: usize = 32;
/// What came down and waits here; then the central instance keeps the rest.
const DOWN_MOST: usize = 256 * 1024;
/// Topics whose ids are remembered; the session remembers all.
const MOST_OPENED: usize = 1024;
/// Between looks at what waits.
const LOOK: Duration = Duration::from_secs(1);
/// A clock of whole milliseconds is looked at no more often.
const LEAST_WAIT: Duration = Duration::from_millis(1);
