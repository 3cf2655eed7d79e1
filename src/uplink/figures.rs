//! What an uplink counts and shows.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fastport_core::session::Counts;
use fastport_wire::frame::GapCause;
use serde_json::{Map, Value, json};

use super::store::Store;
use crate::config::Lane;
use crate::hub::Show;
use crate::status::Number;

/// The figures of all lanes.
#[derive(Default)]
pub struct Figures {
    lanes: Vec<(Lane, Arc<LaneFigures>)>,
    store: Option<Arc<Store>>,
}

/// The figures of a lane.
#[derive(Debug, Default)]
pub struct LaneFigures {
    /// Messages that went up.
    pub messages_up: Number,
    /// Bytes of their payloads.
    pub payload_up: Number,
    /// Messages that came down and were published here.
    pub messages_down: Number,
    /// Messages that the central instance does not take.
    pub refused_up: Number,
    /// Messages from there that this session does not take, or no rule wants.
    pub refused_down: Number,
    /// Messages that the central instance had to drop before they came down.
    pub gaps_down: Number,
    /// Bytes of the frames that were written to links, before they were packed.
    pub frames_out: Number,
    /// Bytes of the frames that were read from links, unpacked.
    pub frames_in: Number,
    /// Bytes written to links.
    pub bytes_out: Number,
    /// Bytes read from links.
    pub bytes_in: Number,
    /// Attempts to connect.
    pub attempts: Number,
    /// Links that came to be.
    pub connects: Number,
    /// Attempts that failed, and links that were lost, by [`Failure`].
    failures: [Number; Failure::ALL.len()],
    /// Messages that never went up, by cause.
    dropped: [Number; GapCause::ALL.len()],
    is_too_long_known: AtomicBool,
    state: Mutex<State>,
}

/// How it stands with a lane.
#[derive(Debug, Default)]
pub struct State {
    /// The link.
    pub link: LinkState,
    /// The central instance's URL.
    pub url: String,
    /// Its address.
    pub address: Option<String>,
    /// The last round trip.
    pub round_trip_ms: Option<u64>,
    /// What ended the last link or attempt.
    pub error: Option<String>,
    /// When the state last changed.
    pub since: Option<Instant>,
    /// Counted messages that are not where they have to be.
    pub unacknowledged: u64,
    /// When the oldest of them was seen first.
    pub waits_since: Option<Instant>,
    /// Messages that went up in the last second.
    pub drain_rate: u64,
    /// Failures that the next wait is reckoned by: kept for a process that comes after this one.
    pub retry_level: u64,
}

/// How it stands with a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LinkState {
    /// There is none, and the next attempt has its time.
    #[default]
    Waiting,
    /// An attempt is under way.
    Connecting,
    /// Messages go up and come down.
    Ready,
}

impl LinkState {
    /// As `fastport uplink status` has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Connecting => "connecting",
            Self::Ready => "ready",
        }
    }
}

/// Why there is no link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The name has no address, or no name server answers.
    Name,
    /// Nobody takes a connection.
    Unreachable,
    /// In time nothing came of it.
    TimedOut,
    /// TLS, WebSocket or the proxy.
    Transport,
    /// The central instance refused.
    Refused,
    /// The link broke.
    Lost,
    /// It was silent.
    Silent,
    /// The central instance said goodbye.
    Bye,
    /// Something here: a file, memory.
    Here,
}

impl Failure {
    /// All of them, in order.
    pub const ALL: [Self; 9] = [
        Self::Name,
        Self::Unreachable,
        Self::TimedOut,
        Self::Transport,
        Self::Refused,
        Self::Lost,
        Self::Silent,
        Self::Bye,
        Self::Here,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed-out",
            Self::Transport => "transport",
            Self::Refused => "refused",
            Self::Lost => "lost",
            Self::Silent => "silent",
            Self::Bye => "bye",
            Self::Here => "here",
        }
    }
}

impl Figures {
    /// The figures of these lanes, all 0.
    #[must_use]
    pub(super) fn new(lanes: &[Lane], store: Option<Arc<Store>>) -> Self {
        Self { lanes: lanes.iter().map(|&lane| (lane, Arc::default())).collect(), store }
    }

    /// Those of a lane.
    #[must_use]
    pub fn of(&self, lane: Lane) -> Arc<LaneFigures> {
        let known = self.lanes.iter().find(|(known, _)| *known == lane);
        known.map(|(_, figures)| Arc::clone(figures)).unwrap_or_default()
    }
}

impl Show for Figures {
    fn to_json(&self) -> Value {
        let lanes: Map<_, _> = self
            .lanes
            .iter()
            .map(|(lane, figures)| (lane.name().to_owned(), figures.to_json()))
            .collect();
        let spool = self.store.as_ref().map_or(Value::Null, |store| store.to_json());
        json!({ "lanes": lanes, "spool": spool })
    }
}

impl LaneFigures {
    /// The state, to look at and to change.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far the lane is at the local session.
    pub(super) fn look(&self, now: fastport_core::time::Instant, counts: &Counts) {
        let mut state = self.state();
        state.unacknowledged = counts.total.saturating_sub(counts.acked);
        let waited = counts.waits_since.map(|since| Duration::from_millis(now.since(since)));
        state.waits_since = waited.and_then(|waited| Instant::now().checked_sub(waited));
    }

    /// Another failure.
    pub fn note_failure(&self, failure: Failure) {
        if let Some(number) = self.failures.get(failure as usize) {
            number.add(1);
        }
    }

    /// Messages that never go up.
    pub fn note_dropped(&self, cause: GapCause, count: u64) {
        let place = GapCause::ALL.iter().position(|known| *known == cause);
        if let Some(number) = place.and_then(|place| self.dropped.get(place)) {
            number.add(count);
        }
    }

    /// Messages that never go up, whatever the cause.
    #[cfg(test)]
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.iter().map(Number::get).sum()
    }

    /// A payload is too long for the central instance; whether one was before.
    pub fn note_too_long(&self) -> bool {
        self.is_too_long_known.swap(true, Ordering::Relaxed)
    }

    fn to_json(&self) -> Value {
        let state = self.state();
        let failures = named(Failure::ALL.iter().map(|failure| failure.name()), &self.failures);
        let mut dropped = named(GapCause::ALL.iter().map(|cause| cause.name()), &self.dropped);
        let refused = self.refused_up.get();
        if refused > 0 {
            let known = dropped.get("other").and_then(Value::as_u64).unwrap_or(0);
            dropped.insert("other".to_owned(), (known + refused).into());
        }
        let numbers = [
            ("messages_up", &self.messages_up),
            ("payload_up", &self.payload_up),
            ("messages_down", &self.messages_down),
            ("refused_down", &self.refused_down),
            ("gaps_down", &self.gaps_down),
            ("frames_out", &self.frames_out),
            ("frames_in", &self.frames_in),
            ("bytes_out", &self.bytes_out),
            ("bytes_in", &self.bytes_in),
            ("attempts", &self.attempts),
            ("connects", &self.connects),
        ];
        let mut all: Map<String, Value> = numbers
            .into_iter()
            .map(|(name, number)| (name.to_owned(), number.get().into()))
            .collect();
        let reconnects = self.connects.get().saturating_sub(1);
        all.insert("reconnects".to_owned(), reconnects.into());
        let since = state.since.map(|since| since.elapsed().as_secs());
        all.insert("link".to_owned(), state.link.name().into());
        all.insert("central".to_owned(), state.url.as_str().into());
        all.insert("address".to_owned(), state.address.as_deref().into());
        all.insert("round_trip_ms".to_owned(), state.round_trip_ms.into());
        all.insert("error".to_owned(), state.error.as_deref().into());
        all.insert("since_seconds".to_owned(), since.into());
        all.insert("unacknowledged".to_owned(), state.unacknowledged.into());
        let oldest = state.waits_since.map_or(0, |since| since.elapsed().as_secs());
        all.insert("oldest_seconds".to_owned(), oldest.into());
        all.insert("drain_rate".to_owned(), state.drain_rate.into());
        all.insert("retry_level".to_owned(), state.retry_level.into());
        all.insert("failures".to_owned(), failures.into());
        all.insert("dropped".to_owned(), dropped.into());
        all.into()
    }
}

/// The numbers that are not 0, by name.
fn named<'a>(names: impl Iterator<Item = &'a str>, numbers: &[Number]) -> Map<String, Value> {
    let numbers = numbers.iter().map(Number::get);
    let counted = names.zip(numbers).filter(|&(_, number)| number > 0);
    counted.map(|(name, number)| (name.to_owned(), number.into())).collect()
}
