//! Readers that must not lose: their room is checked, and reserved, before a counted run goes to any.

use fastport_wire::TopicId;

use super::Session;
use super::peer::Link;
use super::topics::Reader;
use crate::time::{Instant, Now};

/// A counted run that is to go to all readers of a topic.
#[derive(Debug, Clone, Copy)]
pub(super) struct Coming {
    pub(super) from: u32,
    pub(super) topic: TopicId,
    /// Bytes of its first frame: <= wanted.
    pub(super) least: usize,
    /// Bytes of all its frames.
    pub(super) wanted: usize,
}

impl Session {
    /// How many bytes of a run all readers that must not lose can take; that much is reserved at
    /// them. With less than the run's first frame the publisher is to wait, and those that it waits
    /// for are asked to acknowledge what they have.
    pub(super) fn room_at_holders(&mut self, now: Now, run: &Coming) -> usize {
        let Some(topic) = self.topics.get_mut(run.topic).filter(|topic| topic.holders > 0) else {
            return run.wanted;
        };
        let taken = core::mem::take(&mut topic.readers);
        let readers = taken.as_slice();
        let is_waited_for =
            |reader: &&Reader| reader.holds && !(reader.no_local && reader.peer == run.from);
        let mut room = run.wanted;
        for reader in readers.iter().filter(is_waited_for) {
            room = room.min(self.room_of(now, run, reader));
        }
        if room >= run.least {
            let mut all = readers.iter().filter(is_waited_for);
            if !all.all(|reader| self.try_reserve(now, run, reader, room)) {
                room = self.reserve_parts(now, run, readers.iter().filter(is_waited_for), room);
            }
        }
        if room < run.least {
            room = 0;
        }
        if let Some(topic) = self.topics.get_mut(run.topic) {
            topic.readers = taken;
        }
        room
    }

    /// How much a reader's outbox can take. One that is empty and yet too small for the first frame
    /// is not waited for, nor is one that leaves, nor a gateway that is away for long.
    fn room_of(&mut self, now: Now, run: &Coming, reader: &Reader) -> usize {
        let Some(mut here) = self.free_of(now, run, reader) else { return run.wanted };
        // a part of the run goes with a PING
        let least = run.wanted.min(run.least + PING_BYTES);
        if here < least && self.sheds(reader.peer) {
            self.make_room_at(reader.peer, run.least + EXTRAS_ROOM, run.topic);
            let Some(more) = self.free_of(now, run, reader) else { return run.wanted };
            here = more;
            if here < least && self.lets_go_of(reader.peer, run.topic) {
                // it is dropped, alone, and booked: of more it would not be known which were
                return run.least;
            }
        }
        if here < run.wanted {
            self.ask_for_ack(reader.peer);
            return here.saturating_sub(PING_BYTES);
        }
        here
    }

    /// Free bytes of a reader's outbox beside what goes before the run; `None`: it is not waited for.
    fn free_of(&mut self, now: Now, run: &Coming, reader: &Reader) -> Option<usize> {
        let Self { peers, topics, ledger, limits, .. } = self;
        let slot = peers.get_mut(reader.peer as usize);
        let peer = slot.and_then(|slot| slot.peer.as_mut()).filter(|peer| !peer.is_leaving)?;
        let announcement = topics.get(run.topic).map(|topic| topic.frame(run.topic));
        let preface = peer.preface(reader.announced, announcement, now.unix_ms).encoded_len();
        let here = peer.outbox.room(ledger).saturating_sub(preface);
        let may_come =
            !peer.outbox.is_empty() && peer.overdue_since(now.mono, limits.linger).is_none();
        (here >= run.least || may_come).then_some(here)
    }

    /// Reserves `room` bytes at a reader, and what comes before them; whether there is memory.
    fn try_reserve(&mut self, now: Now, run: &Coming, reader: &Reader, room: usize) -> bool {
        let Some(peer) = self.at(reader.peer).filter(|peer| !peer.is_leaving) else { return true };
        let announcement = self.topics.get(run.topic).map(|topic| topic.frame(run.topic));
        let preface = peer.preface(reader.announced, announcement, now.unix_ms).encoded_len();
        let extras = preface + peer.outbox.gap_room();
        let reserve = |peer: &mut super::Peer, buffers: &mut _, ledger: &mut _| {
            // what is to be dropped needs none
            let is_for_it = peer.outbox.room(ledger) >= run.least;
            peer.outbox.reserve(buffers, if is_for_it { extras + room } else { extras })
        };
        self.with_room(reader.peer, reserve).is_ok()
    }

    /// Memory is short: each reader gets the same part of what is left. A part that is little is
    /// not worth a round: the publisher rather waits for what others have still to acknowledge.
    fn reserve_parts<'a>(
        &mut self,
        now: Now,
        run: &Coming,
        readers: impl Iterator<Item = &'a Reader> + Clone,
        room: usize,
    ) -> usize {
        for reader in readers.clone() {
            let Self { peers, buffers, .. } = self;
            let slot = peers.get_mut(reader.peer as usize);
            if let Some(peer) = slot.and_then(|slot| slot.peer.as_mut()) {
                peer.outbox.shrink(buffers);
            }
        }
        self.buffers.trim();
        let part = self.buffers.budget().free() / readers.clone().count().max(1);
        let room = room.min(part.saturating_sub(EXTRAS_ROOM).max(run.least));
        let is_enough = room >= run.wanted.min(LEAST_PART);
        let owes = |reader: &Reader| self.at(reader.peer).is_some_and(|peer| peer.has_queued());
        let may_go = is_enough || !readers.clone().any(owes);
        if may_go && readers.clone().all(|reader| self.try_reserve(now, run, reader, room)) {
            return room;
        }
        readers.for_each(|reader| self.ask_for_ack(reader.peer));
        0
    }
}

impl super::Peer {
    /// Whether it has messages still to get or to acknowledge, and so memory to give back.
    pub(super) fn has_queued(&self) -> bool {
        !self.is_leaving && self.outbox.figures().queued > 0
    }

    /// Since when a gateway is away, where that is for longer than `linger` seconds: so long others are
    /// held up by any reader.
    pub(super) fn overdue_since(&self, now: Instant, linger: u32) -> Option<Instant> {
        let Link::Lingering { until } = self.link else { return None };
        let since = until.before(u64::from(self.cold.linger) * 1000);
        let is_overdue = now.since(since) > u64::from(linger) * 1000;
        (is_overdue && self.rights.is_gateway() && !self.is_own).then_some(since)
    }
}

/// Bytes of a run that are worth a round for all readers when memory is short.
const LEAST_PART: usize = 4096;
/// A PING without a token.
const PING_BYTES: usize = 2;
/// What goes before a run at a reader: TOPIC, TIME, GAP frames.
const EXTRAS_ROOM: usize = 512;
