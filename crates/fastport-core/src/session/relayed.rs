//! What a gateway says of the messages it passes on: when they were taken (TIME), and which will not
//! come (GAP).

use alloc::boxed::Box;
use alloc::vec::Vec;

use fastport_wire::control::ErrorCode;
use fastport_wire::frame::GapCause;
use fastport_wire::{Frame, TopicId};

use super::peer::Peer;
use super::{Session, push_frame};
use crate::budget::NoBudget;
use crate::time::{CLOCK_FLOOR_MS, NOT_KNOWN, Now};

/// What a gateway said on the way to its next message.
#[derive(Debug, Default)]
pub(super) struct Relayed {
    /// When its messages from here on were taken, in milliseconds since 1970, or [`NOT_KNOWN`].
    time: Option<u64>,
    /// Counted frames that had come from it before the first of `gaps`.
    at: u64,
    /// What it said is missing at that place: after a reconnect it may say so again.
    gaps: Vec<Missing>,
}

/// Messages of one topic that will not come.
#[derive(Debug, Clone, Copy)]
struct Missing {
    topic: TopicId,
    cause: GapCause,
    count: u64,
}

impl Relayed {
    /// Notes that `said` is missing behind `at` counted frames; how many of it nobody was told of.
    /// At one place the larger count replaces the smaller: a gateway that does not know whether an
    /// earlier GAP came says all of it again. `None`: there is no room for more at this place.
    fn note(&mut self, at: u64, said: Missing) -> Option<u64> {
        if self.at != at {
            (self.at, self.gaps) = (at, Vec::new());
        }
        let is_of_same =
            |known: &&mut Missing| (known.topic, known.cause) == (said.topic, said.cause);
        if let Some(known) = self.gaps.iter_mut().find(is_of_same) {
            let fresh = said.count.saturating_sub(known.count);
            known.count += fresh;
            return Some(fresh);
        }
        if self.gaps.len() >= GAPS_AT_ONE_PLACE {
            return None;
        }
        self.gaps.push(said);
        Some(said.count)
    }
}

impl Session {
    /// The clock that what comes from the peer is stamped with: its own, where it told that.
    #[inline]
    pub(super) fn stamped(&self, now: Now, index: u32) -> Now {
        let relayed = self.at(index).and_then(|peer| peer.tiers.as_ref()?.relayed.as_ref());
        let time = relayed.and_then(|relayed| relayed.time);
        Now { unix_ms: time.unwrap_or(now.unix_ms), ..now }
    }

    /// A TIME frame of a peer.
    pub(super) fn handle_time(&mut self, index: u32, unix_ms: u64) {
        if let Some(relayed) = self.relayed_mut(index) {
            // its boot is not ours
            relayed.time = Some(if unix_ms < CLOCK_FLOOR_MS { NOT_KNOWN } else { unix_ms });
        }
    }

    /// A GAP frame of a peer.
    pub(super) fn handle_gap(
        &mut self,
        index: u32,
        topic: Option<TopicId>,
        count: u64,
        cause: GapCause,
    ) {
        let Some(peer) = self.at(index) else { return };
        let (at, opened) = (peer.taken, topic.filter(|&topic| peer.has_open(topic)));
        let Some(relayed) = self.relayed_mut(index) else { return };
        let Some(topic) = opened else {
            self.fail(index, ErrorCode::UnknownId, "GAP on a topic that was not opened");
            return;
        };
        match relayed.note(at, Missing { topic, cause, count }) {
            Some(0) => {}
            Some(fresh) => {
                self.record_said(index, topic, cause, count);
                self.report_missing(index, topic, fresh, cause);
            }
            None => self.fail(index, ErrorCode::LimitReached, "too many GAPs in one place"),
        }
    }

    /// Tells every reader of the topic, behind what waits for it, of messages that it will not get.
    fn report_missing(&mut self, from: u32, id: TopicId, count: u64, cause: GapCause) {
        self.ledger.reported += count;
        let Some(topic) = self.topics.get_mut(id) else { return };
        let mut announcement = Vec::new();
        topic.announce(id, &mut announcement);
        let mut readers = core::mem::take(&mut topic.readers);
        for reader in readers.as_mut_slice() {
            if reader.no_local && reader.peer == from {
                continue;
            }
            let Some(peer) = self.at(reader.peer).filter(|peer| !peer.is_leaving) else { continue };
            let announced = peer.announced;
            if reader.announced != announced && self.announce(reader.peer, id).is_ok() {
                reader.announced = announced;
            }
            // without memory for its name the topic is not named
            let named = (reader.announced == announced).then_some(id);
            self.ledger.routed += count;
            let Self { peers, ledger, .. } = self;
            let slot = peers.get_mut(reader.peer as usize);
            if let Some(peer) = slot.and_then(|slot| slot.peer.as_mut()) {
                peer.outbox.note_missing(ledger, named, count, cause);
            }
            // as it was told, so that a store knows it again
            self.record_told(reader.peer, named, cause, count);
            self.wake(reader.peer);
        }
        if let Some(topic) = self.topics.get_mut(id) {
            topic.readers = readers;
        }
    }

    /// Says to a peer what an id stands for.
    fn announce(&mut self, index: u32, id: TopicId) -> Result<(), NoBudget> {
        let mut bytes = Vec::new();
        if let Some(topic) = self.topics.get(id) {
            push_frame(&mut bytes, &topic.frame(id));
        }
        let Ok(Some((frame, _))) = Frame::decode(&bytes, bytes.len()) else { return Ok(()) };
        self.with_room(index, |peer, buffers, _| peer.outbox.push_frame(buffers, &frame))
    }

    /// What a gateway said; any other peer says such things to nobody, and its link ends.
    fn relayed_mut(&mut self, index: u32) -> Option<&mut Relayed> {
        if !self.at(index)?.rights.is_gateway() {
            self.fail(index, ErrorCode::Unexpected, "only gateways send this frame");
            return None;
        }
        Some(self.at_mut(index)?.tiers_mut().relayed.get_or_insert_with(Box::default))
    }

    /// A new link begins without a TIME.
    pub(super) fn forget_time(&mut self, index: u32) {
        let tiers = self.at_mut(index).and_then(|peer| peer.tiers.as_mut());
        if let Some(relayed) = tiers.and_then(|tiers| tiers.relayed.as_mut()) {
            relayed.time = None;
        }
    }
}

impl Peer {
    /// What the gateway has said behind what came from it so far: topics, causes, counts.
    pub(super) fn said(&self) -> impl Iterator<Item = (TopicId, GapCause, u64)> {
        let relayed = self.tiers.as_ref().and_then(|tiers| tiers.relayed.as_ref());
        let here = relayed.filter(|relayed| relayed.at == self.taken);
        let all = here.into_iter().flat_map(|relayed| &relayed.gaps);
        all.map(|known| (known.topic, known.cause, known.count))
    }

    /// Notes again what the gateway had said.
    pub(super) fn note_said(&mut self, topic: TopicId, cause: GapCause, count: u64) {
        let at = self.taken;
        let relayed = self.tiers_mut().relayed.get_or_insert_with(Box::default);
        // what finds no room had found none
        relayed.note(at, Missing { topic, cause, count }).unwrap_or_default();
    }
}

/// What a gateway may say is missing between two counted messages: topics times causes. 6 KiB.
const GAPS_AT_ONE_PLACE: usize = 256;
