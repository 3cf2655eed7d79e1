//! Where a session finds memory when there is none: in buffers that are only warm, and in the past.

use fastport_wire::TopicId;
use fastport_wire::frame::GapCause;

use super::Session;
use super::peer::Peer;
use crate::budget::{Buffers, NoBudget};
use crate::ledger::Ledger;
use crate::time::Instant;

impl Session {
    /// Charges `bytes`, evicting retained messages where that helps.
    pub(super) fn make_room(&mut self, bytes: usize) -> bool {
        loop {
            if self.buffers.budget().try_take(bytes) {
                return true;
            }
            if self.buffers.trim() == 0 && !self.evict_oldest() {
                return false;
            }
        }
    }

    /// Frees some memory that is only nice to have; whether there was any.
    pub fn evict_oldest(&mut self) -> bool {
        self.buffers.trim();
        while let Some((number, at)) = self.topic_wheel.pop_earliest() {
            let Some(id) = TopicId::new(number) else { continue };
            match self.expiry(id) {
                None => continue,
                // what made the topic the first has gone by other ways
                Some(due) if due > at => {
                    self.topic_wheel.schedule(number, due);
                    continue;
                }
                Some(_) => {}
            }
            let Some(log) = self.topics.get_mut(id).and_then(|topic| topic.log_mut()) else {
                continue;
            };
            let before = log.messages();
            log.evict(&mut self.buffers);
            let after = log.messages();
            self.buffers.trim();
            self.evicted += u64::from(before - after);
            self.topics.note_retained(before, after);
            self.schedule_expiry(id);
            return true;
        }
        self.is_short = true;
        false
    }

    /// Gives up the gateway that is away for longest, of those that nobody waits for any more, to make
    /// room; one that `has_queued`, where memory is wanted. Whether there was one.
    pub(super) fn forget_longest_away(&mut self, now: Instant, has_queued: bool) -> bool {
        let mut longest = None;
        for index in 0..u32::try_from(self.peers.len()).unwrap_or(u32::MAX) {
            let Some(peer) = self.at(index) else { continue };
            let Some(since) = peer.overdue_since(now, self.limits.linger) else { continue };
            if (!has_queued || peer.has_queued()) && longest.is_none_or(|(than, _)| since < than) {
                longest = Some((since, index));
            }
        }
        let Some((_, index)) = longest else { return false };
        self.forgotten += 1;
        self.remove(index, GapCause::ReaderGone);
        true
    }

    /// Runs `push`, and again after evicting retained messages, until it has room or there is
    /// nothing left to evict.
    pub(super) fn with_room(
        &mut self,
        index: u32,
        mut push: impl FnMut(&mut Peer, &mut Buffers, &mut Ledger) -> Result<(), NoBudget>,
    ) -> Result<(), NoBudget> {
        loop {
            let slot = self.peers.get_mut(index as usize);
            let Some(peer) = slot.and_then(|slot| slot.peer.as_mut()) else { return Ok(()) };
            let pushed = push(peer, &mut self.buffers, &mut self.ledger);
            if pushed.is_ok() || !self.evict_oldest() {
                return pushed;
            }
        }
    }
}
