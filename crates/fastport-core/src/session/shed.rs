//! What one of the daemon's own parts lets go of that holds: messages that grew too old, and those that
//! give way to newer ones when it is full. Never what its links may have written: its reader counts that.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use fastport_wire::TopicId;
use fastport_wire::control::WhenFull;
use fastport_wire::frame::GapCause;

use super::peer::{Mark, Tiers};
use super::{PeerKey, Session};
use crate::outbox::{Shed, Waiting};
use crate::time::Instant;

/// By a topic's name, what happens to its messages when the outbox is full: [`WhenFull::DropOldest`],
/// [`WhenFull::Latest`], or else they stay and their publishers wait.
pub type Policy = Arc<dyn Fn(&str) -> WhenFull + Send + Sync>;

/// See [`Policy`].
#[derive(Clone)]
pub(super) struct Sheds {
    policy: Policy,
    /// There was nothing to let go of when the outbox had been given so many counted frames, and so
    /// many of them could have been written.
    futile: Option<(u64, u64)>,
}

impl fmt::Debug for Sheds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sheds").field("futile", &self.futile).finish_non_exhaustive()
    }
}

impl Sheds {
    fn policy_of(&self, topic: &str) -> u64 {
        match (self.policy)(topic) {
            WhenFull::DropOldest => GIVES_WAY,
            WhenFull::Latest => GIVES_WAY_TO_NEWER,
            _ => STAYS,
        }
    }
}

/// Of a topic's messages.
const STAYS: u64 = 0;
const GIVES_WAY: u64 = 1;
const GIVES_WAY_TO_NEWER: u64 = 2;

/// A number for each topic; sorted. One type for all that is asked of topics here, lest each has code of
/// its own.
#[derive(Default)]
struct ByTopic(Vec<(TopicId, u64)>);

impl ByTopic {
    fn get(&mut self, topic: TopicId) -> Option<&mut u64> {
        let at = self.0.binary_search_by_key(&topic, |&(topic, _)| topic).ok()?;
        self.0.get_mut(at).map(|(_, number)| number)
    }

    /// The topic's number, which is `make`'s if it has none.
    fn of(&mut self, topic: TopicId, make: &mut dyn FnMut() -> u64) -> u64 {
        match self.0.binary_search_by_key(&topic, |&(topic, _)| topic) {
            Ok(at) => self.0.get(at).map_or(0, |&(_, number)| number),
            Err(at) => {
                let number = make();
                self.0.insert(at, (topic, number));
                number
            }
        }
    }
}

/// That it is not known how many counted frames earlier links have written.
pub(super) const SENT_NOT_KNOWN: u64 = u64::MAX;

impl Session {
    /// Has one of the daemon's own parts let go of messages when its outbox is full, in the order of
    /// what is missed least: of topics under [`WhenFull::Latest`] those that newer ones took the place
    /// of, then the oldest. A GAP comes in their place. What its links may have written stays; where
    /// nothing else is there, what comes is dropped.
    pub fn set_policy(&mut self, key: PeerKey, policy: Policy) {
        if let Ok(peer) = self.peer_mut(key)
            && peer.is_own
        {
            let tiers = peer.tiers_mut();
            tiers.sheds = Some(Sheds { policy, futile: None });
        }
    }

    /// Looks at what waits for one of the daemon's own parts, and lets go of counted messages that were
    /// there at a look `max_age(topic)` milliseconds ago. How many; a GAP comes in their place. What its
    /// links may have written stays. For how long something waited before a crash is not known.
    pub fn expire(
        &mut self,
        now: Instant,
        key: PeerKey,
        max_age: &mut dyn FnMut(&str) -> u64,
    ) -> u64 {
        let index = key.index;
        let Ok(peer) = self.peer_mut(key) else { return 0 };
        let (acked, total) = (peer.outbox.figures().acked, peer.outbox.counted_total());
        let ages = &mut peer.tiers_mut().ages;
        ages.look(now, acked, total);
        // they shift with what goes
        let ages = ages.clone();
        if self.is_frozen() || total == acked {
            return 0;
        }
        let Some(after) = self.shed_after(index).filter(|&after| after < total) else { return 0 };
        let mut last = ByTopic::default();
        let mut is_old = |message: &Waiting, topic: &str| {
            let last = last.of(message.topic, &mut || ages.through(now, max_age(topic)));
            message.count.is_some_and(|count| count <= last)
        };
        let shed = self.shed(index, after, GapCause::Expired, &mut is_old);
        if shed > 0 {
            self.wake_blocked();
        }
        shed
    }

    /// Whether the peer lets go of something, ever.
    pub(super) fn sheds(&self, index: u32) -> bool {
        let tiers = self.at(index).and_then(|peer| peer.tiers.as_ref());
        tiers.is_some_and(|tiers| tiers.sheds.is_some())
    }

    /// Whether the peer rather lets go of the topic's messages than have their publishers wait.
    pub(super) fn lets_go_of(&self, index: u32, topic: TopicId) -> bool {
        let tiers = self.at(index).and_then(|peer| peer.tiers.as_ref());
        let sheds = tiers.and_then(|tiers| tiers.sheds.as_ref());
        let topic = self.topics.get(topic);
        sheds.zip(topic).is_some_and(|(sheds, topic)| sheds.policy_of(&topic.name) != STAYS)
    }

    /// Makes room at a peer for `need` bytes of a topic: an eighth of all, so that not each message has
    /// to, and not more, however long the run is that they are the first of.
    #[cold]
    pub(super) fn make_room_at(&mut self, index: u32, need: usize, coming: TopicId) {
        let Some(after) = self.shed_after(index) else { return };
        let Some(peer) = self.at(index) else { return };
        let limit = peer.outbox.limit();
        let state = (peer.outbox.counted_total(), after);
        let sheds = peer.tiers.as_ref().and_then(|tiers| tiers.sheds.clone());
        let Some(sheds) = sheds.filter(|sheds| sheds.futile != Some(state)) else { return };
        let wanted = need.max(limit / ROOM_SHARE);
        let mut known = ByTopic::default();
        let mut policy = |id: TopicId, topic: &str| known.of(id, &mut || sheds.policy_of(topic));
        let mut newest = self.newest(index, after, coming, &mut policy);
        let mut shed = 0;
        if !newest.0.is_empty() {
            let mut place = 0;
            shed += self.shed(index, after, GapCause::Superseded, &mut |message, _| {
                place += 1;
                newest.get(message.topic).is_some_and(|newest| *newest != place)
            });
        }
        let left = self.at(index).map_or(0, |peer| peer.outbox.held_bytes());
        let mut excess = (left + wanted).saturating_sub(limit);
        if excess > 0 {
            shed += self.shed(index, after, GapCause::Overflow, &mut |message, topic| {
                let goes = excess > 0 && policy(message.topic, topic) != STAYS;
                excess = excess.saturating_sub(if goes { message.bytes } else { 0 });
                goes
            });
        }
        if shed > 0 {
            self.wake_blocked();
        } else if let Some(peer) = self.at_mut(index)
            && let Some(sheds) = &mut peer.tiers_mut().sheds
        {
            sheds.futile = Some(state);
        }
    }

    /// Of the topics under [`WhenFull::Latest`], the place of the newest message among those that may
    /// go, from 1; of the one that comes, none.
    fn newest(
        &mut self,
        index: u32,
        after: u64,
        coming: TopicId,
        policy: &mut dyn FnMut(TopicId, &str) -> u64,
    ) -> ByTopic {
        let mut newest = ByTopic::default();
        let Self { peers, topics, buffers, ledger, .. } = self;
        let slot = peers.get_mut(index as usize);
        let Some(peer) = slot.and_then(|slot| slot.peer.as_mut()) else { return newest };
        for (place, message) in (1..).zip(peer.outbox.waiting_behind(buffers, ledger, after)) {
            let topic = topics.get(message.topic).map_or("", |topic| &topic.name);
            if policy(message.topic, topic) == GIVES_WAY_TO_NEWER {
                newest.of(message.topic, &mut || 0);
                let place = if message.topic == coming { 0 } else { place };
                newest.get(message.topic).into_iter().for_each(|newest| *newest = place);
            }
        }
        newest
    }

    /// How many of a peer's counted frames its links may have written.
    fn shed_after(&mut self, index: u32) -> Option<u64> {
        let Self { peers, buffers, ledger, .. } = self;
        let slot = peers.get_mut(index as usize);
        let peer = slot.and_then(|slot| slot.peer.as_mut())?;
        let written = peer.outbox.counted_written(buffers, ledger);
        Some(written.max(peer.tiers.as_ref().map_or(0, |tiers| tiers.sent)))
    }

    /// Lets go of those messages that `is_dropped` (message, topic) names; how many.
    fn shed(
        &mut self,
        index: u32,
        after: u64,
        cause: GapCause,
        is_dropped: &mut dyn FnMut(&Waiting, &str) -> bool,
    ) -> u64 {
        let Self { peers, topics, buffers, ledger, .. } = self;
        let slot = peers.get_mut(index as usize);
        let Some(peer) = slot.and_then(|slot| slot.peer.as_mut()) else { return 0 };
        let mut is_dropped = |message: &Waiting| {
            let topic = topics.get(message.topic).map_or("", |topic| &topic.name);
            is_dropped(message, topic)
        };
        let shed = peer.outbox.shed(buffers, ledger, after, cause, &mut is_dropped);
        let Shed { messages, runs } = shed;
        if let Some(tiers) = &mut peer.tiers {
            tiers.shift_marks(after, &runs);
            tiers.ages.shift(after, &runs);
        }
        if !runs.is_empty() {
            self.record_shed(index, after, cause, &runs);
            self.end_waits(index);
        }
        messages
    }

    /// Nobody waits any more for what was dropped with nothing before it.
    pub(super) fn end_waits(&mut self, index: u32) {
        if let Some(acked) = self.at(index).map(|peer| peer.outbox.figures().acked) {
            self.commit(index, acked);
        }
    }

    /// A peer's link ends: notes how much of what it is to get it may have.
    pub(super) fn note_sent(&mut self, index: u32) {
        if !self.at(index).is_some_and(|peer| peer.is_own) {
            return;
        }
        let Some(sent) = self.shed_after(index) else { return };
        if let Some(peer) = self.at_mut(index) {
            peer.tiers_mut().sent = sent;
        }
        self.record_sent(index, sent);
    }
}

impl Tiers {
    /// Of the member's counted frames behind the first `after`, by turns so many stayed and so many
    /// have gone: marks are of those that stayed.
    pub(super) fn shift_marks(&mut self, after: u64, runs: &[u32]) {
        if runs.is_empty() {
            return;
        }
        let marks = core::mem::take(&mut self.marks);
        for mark in marks {
            for part in stayed(mark, after, runs) {
                self.push_mark(part);
            }
        }
    }
}

/// The parts of a mark whose frames stayed, by their new places; behind them one of none if the last have
/// gone.
fn stayed(mark: Mark, after: u64, runs: &[u32]) -> Vec<Mark> {
    let first = mark.at - mark.length;
    let mut parts = Vec::new();
    let mut push = |from: u64, to: u64, gone: u64| {
        let (from, to) = (from.max(first), to.min(mark.at));
        if from < to {
            let count = mark.count - (mark.at - to);
            parts.push(Mark { at: to - gone, length: to - from, count, ..mark });
        }
    };
    if mark.length == 0 {
        let at = mark.at - gone_before(mark.at, after, runs);
        return [Mark { at, ..mark }].into();
    }
    // before `after` all stayed, and behind the last run
    let (mut from, mut at, mut gone) = (0, after, 0);
    let mut goes = false;
    for run in runs.iter().copied().map(u64::from) {
        at += run;
        if goes {
            gone += run;
            from = at;
        } else {
            push(from, at, gone);
        }
        goes = !goes;
    }
    push(from, u64::MAX, gone);
    if parts.last().is_none_or(|last| last.count < mark.count) {
        let at = mark.at - gone_before(mark.at, after, runs);
        parts.push(Mark { at, length: 0, ..mark });
    }
    parts
}

/// How many of the first `count` have gone.
pub(crate) fn gone_before(count: u64, after: u64, runs: &[u32]) -> u64 {
    let (mut at, mut gone, mut goes) = (after, 0, false);
    for run in runs.iter().copied().map(u64::from) {
        if goes {
            gone += run.min(count.saturating_sub(at));
        }
        at += run;
        goes = !goes;
    }
    gone
}

/// Room is made for an eighth of an outbox at once.
const ROOM_SHARE: usize = 8;
