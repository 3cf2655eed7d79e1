//! The journal of a session: what it has promised, as records of each change, so that another process
//! can go on where this one was.
//!
//! It promises: what a peer of the session is shown, and what it is told of its own messages, is in
//! the records that were there before ([`Session::journaled`]); the caller brings them to where they
//! outlive the process before it wakes anybody. In it are the peers whose state outlives their links,
//! what came from them, what readers that must not lose have still to get, topics, last values and the
//! tiers beyond memory. Not in it are messages that are not counted, and the past.

mod record;
mod restore;
mod snapshot;

use alloc::vec::Vec;

use fastport_wire::control::{Tier, WhenFull};
use fastport_wire::frame::{DataFlags, GapCause};
use fastport_wire::{Frame, TopicId};

pub use self::record::BadRecord;
use self::record::{CountsRecord, Numbers, PeerRecord, Record, push_number};
pub use self::restore::{Restored, Restoring};
use super::peer::{Held, Mark, Peer};
use super::{Note, PeerKey, Session, push_frame};
use crate::outbox::Run;
use crate::time::Now;

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Journal {
    /// Records that the caller has not taken yet.
    records: Vec<u8>,
    /// They cannot be brought to where they outlive the process for now.
    is_frozen: bool,
    /// Readers that must not lose a run, with their `counted_total` before it; kept for its memory.
    watched: Vec<(u32, u64)>,
    /// Messages that were dropped for want of memory before that run.
    without_memory: u64,
    /// As in [`Record::Run`]; kept for its memory.
    holders: Vec<u8>,
}

impl Journal {
    pub(super) fn is_frozen(&self) -> bool {
        self.is_frozen
    }

    /// Lets go of the memory of what was much.
    fn shrink(&mut self) {
        self.records.clear();
        self.records.shrink_to(RECORDS_KEPT);
        self.watched.shrink_to(RECORDS_KEPT);
        self.holders.shrink_to(RECORDS_KEPT);
    }
}

impl Session {
    /// Has changes written down from now on; what there is already is in [`Session::snapshot`].
    pub fn start_journal(&mut self) {
        self.journal.get_or_insert_default();
    }

    /// Ends it.
    pub fn stop_journal(&mut self) {
        self.journal = None;
        self.wake_blocked();
    }

    /// The records of what has changed since [`Session::clear_journal`]: they are to outlive the
    /// process before anybody is woken, all of them or none.
    #[must_use]
    #[inline]
    pub fn journaled(&self) -> &[u8] {
        self.journal.as_ref().map_or(&[], |journal| &journal.records)
    }

    /// The records were written.
    pub fn clear_journal(&mut self) {
        if let Some(journal) = &mut self.journal {
            journal.shrink();
        }
    }

    /// The journal so far, for tests that have no other place for it.
    #[cfg(test)]
    pub(super) fn restart_journal(&mut self, records: Vec<u8>) {
        if let Some(journal) = &mut self.journal {
            journal.records = records;
        }
    }

    /// Records cannot be written for now, or can again. While they cannot, publishers of counted
    /// messages wait, nobody is told that messages are taken, and peers that would be waited for get
    /// nothing ([`Session::is_withheld`]), so that nothing has left that may be forgotten.
    pub fn set_frozen(&mut self, is_frozen: bool) {
        let Some(journal) = &mut self.journal else { return };
        let was_frozen = core::mem::replace(&mut journal.is_frozen, is_frozen);
        if was_frozen && !is_frozen {
            self.wake_blocked();
            for index in 0..u32::try_from(self.peers.len()).unwrap_or(u32::MAX) {
                self.send_ack(index);
                self.wake(index);
            }
        }
    }

    /// Whether records cannot be written.
    #[must_use]
    #[inline]
    pub fn is_frozen(&self) -> bool {
        self.journal.as_ref().is_some_and(|journal| journal.is_frozen)
    }

    /// Whether the peer's output is to be kept back for now.
    #[must_use]
    pub fn is_withheld(&self, key: PeerKey) -> bool {
        self.is_frozen()
            && self.at(key.index).is_some_and(|peer| peer.is_lasting() && peer.must_not_lose())
    }

    #[inline]
    pub(super) fn is_journaled(&self) -> bool {
        self.journal.is_some()
    }

    fn record(&mut self, record: &Record<'_>) {
        if let Some(journal) = &mut self.journal {
            record.encode(&mut journal.records);
        }
    }

    /// Whether the peer's state is in the journal.
    fn lasts(&self, index: u32) -> bool {
        self.journal.is_some() && self.at(index).is_some_and(Peer::is_lasting)
    }

    // peers

    pub(super) fn record_peer(&mut self, index: u32) {
        let Self { peers, journal, .. } = self;
        let peer = peers.get(index as usize).and_then(|slot| slot.peer.as_ref());
        if let (Some(journal), Some(peer)) = (journal, peer.filter(|peer| peer.is_lasting())) {
            Record::Peer(peer.to_record(index)).encode(&mut journal.records);
        }
    }

    /// The peer has sent something.
    #[cold]
    pub(super) fn note_known(&mut self, index: u32) {
        if let Some(peer) = self.at_mut(index) {
            peer.is_known = true;
        }
        if self.lasts(index) {
            self.record(&Record::Known { peer: index });
        }
    }

    pub(super) fn record_resumed(&mut self, index: u32) {
        if let Some(peer) = self.at(index).filter(|_| self.lasts(index)) {
            let (count, total) = (peer.outbox.figures().acked, peer.outbox.counted_total());
            self.record(&Record::Resume { peer: index, flags: peer.flags, count, total });
        }
    }

    /// The peer's state ends with its link.
    pub(super) fn note_leaving(&mut self, index: u32) {
        if self.lasts(index) {
            self.record(&Record::Gone { peer: index });
        }
        if let Some(peer) = self.at_mut(index) {
            peer.is_leaving = true;
        }
    }

    pub(super) fn record_gone(&mut self, index: u32, peer: &Peer) {
        if self.is_journaled() && peer.is_lasting() {
            self.record(&Record::Gone { peer: index });
        }
    }

    pub(super) fn record_ack(&mut self, index: u32, count: u64) {
        if let Some(peer) = self.at(index).filter(|_| self.lasts(index)) {
            let total = peer.outbox.counted_total();
            self.record(&Record::Ack { peer: index, count, total });
        }
    }

    /// What was dropped cannot be told from what is left: all that is left is recorded.
    pub(super) fn record_state(&mut self, index: u32) {
        if self.lasts(index)
            && let Some(mut journal) = self.journal.take()
        {
            self.push_state(index, &mut journal.records);
            self.journal = Some(journal);
        }
    }

    // what they ask for

    pub(super) fn record_topic(&mut self, id: TopicId) {
        let Self { topics, journal, .. } = self;
        let (Some(journal), Some(topic)) = (journal, topics.get(id)) else { return };
        let schema = topic.schema().unwrap_or_default();
        Record::Topic { id, name: &topic.name, schema }.encode(&mut journal.records);
    }

    pub(super) fn record_open(&mut self, index: u32, id: TopicId) {
        if self.lasts(index) {
            self.record(&Record::Open { peer: index, id });
        }
    }

    pub(super) fn record_close(&mut self, index: u32, id: TopicId) {
        if self.lasts(index) {
            self.record(&Record::Close { peer: index, id });
        }
    }

    pub(super) fn record_subscribe(&mut self, index: u32, filter: &str, no_local: bool) {
        if self.lasts(index) {
            self.record(&Record::Subscribe { peer: index, no_local, filter });
        }
    }

    pub(super) fn record_unsubscribe(&mut self, index: u32, filter: &str) {
        if self.lasts(index) {
            self.record(&Record::Unsubscribe { peer: index, filter });
        }
    }

    // members and the daemon's own parts

    pub(super) fn record_member(&mut self, index: u32, tier: Tier) {
        if self.lasts(index) {
            self.record(&Record::Member { peer: index, tier });
        }
    }

    pub(super) fn record_note(&mut self, index: u32, note: Note) {
        if self.lasts(index) {
            self.record(&Record::Note { peer: index, note });
        }
    }

    pub(super) fn record_take(&mut self, index: u32, count: u64) {
        if self.lasts(index) {
            self.record(&Record::Take { peer: index, count });
        }
    }

    pub(super) fn record_sent(&mut self, index: u32, count: u64) {
        if self.lasts(index) {
            self.record(&Record::Sent { peer: index, count });
        }
    }

    /// Records that a publisher's frames were dropped for a member.
    pub(super) fn record_over(&mut self, index: u32, mark: &Mark) {
        let Mark { at, length, count, publisher, tier, .. } = *mark;
        if self.lasts(index) && self.lasts(publisher) {
            self.record(&Record::Mark { peer: index, publisher, tier, at, length, count });
        }
    }

    /// Records what a peer is not to get any more.
    pub(super) fn record_shed(&mut self, index: u32, after: u64, cause: GapCause, runs: &[u32]) {
        if self.lasts(index) {
            let mut numbers = Vec::new();
            runs.iter().for_each(|&run| push_number(&mut numbers, run.into()));
            let runs = Numbers::of(&numbers);
            self.record(&Record::Shed { peer: index, after, cause, runs });
        }
    }

    pub(super) fn record_confirm(&mut self, index: u32, publisher: u32, tier: Tier, count: u64) {
        if self.lasts(index) && self.lasts(publisher) {
            self.record(&Record::Confirm { peer: index, publisher, tier, count });
        }
    }

    // messages

    /// Publishes a run and records it; apart from where sessions without a journal publish. It is in the count of `from`, if that `counts`.
    #[cold]
    #[inline(never)]
    pub(super) fn publish_recorded(
        &mut self,
        now: Now,
        from: Option<u32>,
        counts: bool,
        run: &Run<'_>,
        flags: DataFlags,
    ) {
        if run.is_counted {
            self.watch_holders(from, run);
        }
        match from.filter(|_| counts) {
            Some(from) => self.publish_taken(now, from, run, flags),
            None => self.publish(now, from, run, flags),
        }
        if run.is_counted {
            self.record_run(now, from.filter(|_| counts), run);
        }
        if flags.contains(DataFlags::KEEP) {
            self.record_last(run.topic);
        }
    }

    /// Records a topic's last value; that there is none by a frame without payload.
    fn record_last(&mut self, id: TopicId) {
        let Self { topics, journal, .. } = self;
        let Some(journal) = journal else { return };
        let last = topics.get(id).and_then(|topic| topic.log()?.last());
        if let Some(last) = last {
            let (unix_ms, frame) = (last.unix_ms, last.frames);
            Record::Keep { topic: id, unix_ms, frame }.encode(&mut journal.records);
            return;
        }
        let mut frame = Vec::new();
        push_frame(&mut frame, &Frame::Data { flags: DataFlags::KEEP, topic: id, payload: &[] });
        Record::Keep { topic: id, unix_ms: 0, frame: &frame }.encode(&mut journal.records);
    }

    /// Notes how many counted frames those readers have had that must not lose the run.
    fn watch_holders(&mut self, from: Option<u32>, run: &Run<'_>) {
        let Self { journal, topics, peers, ledger, .. } = self;
        let Some(journal) = journal else { return };
        journal.without_memory = ledger.dropped[GapCause::Budget as usize];
        journal.watched.clear();
        let Some(topic) = topics.get(run.topic).filter(|topic| topic.holders > 0) else { return };
        let holders = topic.readers.as_slice().iter().filter(|reader| reader.holds);
        for reader in holders.filter(|reader| !(reader.no_local && Some(reader.peer) == from)) {
            let peer = peers.get(reader.peer as usize).and_then(|slot| slot.peer.as_ref());
            if let Some(peer) = peer.filter(|peer| peer.is_lasting()) {
                journal.watched.push((reader.peer, peer.outbox.counted_total()));
            }
        }
    }

    /// Records a run that came from `from`, and who of the watched got it.
    fn record_run(&mut self, now: Now, from: Option<u32>, run: &Run<'_>) {
        let from = from.filter(|&from| self.lasts(from));
        let Some(journal) = &mut self.journal else { return };
        let watched = core::mem::take(&mut journal.watched);
        let mut holders = core::mem::take(&mut journal.holders);
        holders.clear();
        let mut has_missed = false;
        for &(peer, before) in &watched {
            let got = self.at(peer).map_or(0, |peer| peer.outbox.counted_total() - before);
            if got == u64::from(run.messages) {
                push_number(&mut holders, peer.into());
            } else {
                has_missed = true;
            }
        }
        if from.is_some() || !holders.is_empty() {
            let frames = if holders.is_empty() { &[] } else { run.bytes };
            let (topic, unix_ms, messages) = (run.topic, now.unix_ms, run.messages);
            let holders = Numbers::of(&holders);
            self.record(&Record::Run { from, topic, unix_ms, messages, holders, frames });
        }
        if has_missed {
            watched.iter().for_each(|&(peer, before)| self.record_missed(peer, before, run));
        }
        if let Some(journal) = &mut self.journal {
            (journal.watched, journal.holders) = (watched, holders);
        }
    }

    /// Records what a gateway said.
    pub(super) fn record_said(&mut self, peer: u32, topic: TopicId, cause: GapCause, count: u64) {
        if self.lasts(peer) {
            self.record(&Record::Said { peer, topic, cause, count });
        }
    }

    /// Records that a reader that must not lose is told of messages that will not come.
    pub(super) fn record_told(
        &mut self,
        peer: u32,
        topic: Option<TopicId>,
        cause: GapCause,
        count: u64,
    ) {
        if self.counted_at_holder(peer).is_some() {
            let mut frames = Vec::new();
            push_frame(&mut frames, &Frame::Gap { topic, count, cause });
            self.record(&Record::Pushed { peer, frames: &frames });
        }
    }

    /// Records what a reader that must not lose got of a run, and that it did not get the rest.
    #[cold]
    fn record_missed(&mut self, index: u32, before: u64, run: &Run<'_>) {
        let Self { peers, buffers, ledger, journal, .. } = self;
        let without_memory = journal.as_ref().map_or(0, |journal| journal.without_memory);
        let peer = peers.get_mut(index as usize).and_then(|slot| slot.peer.as_mut());
        let Some(peer) = peer else { return };
        let got = peer.outbox.counted_total() - before;
        let count = u64::from(run.messages).saturating_sub(got);
        if count == 0 {
            return;
        }
        let mut frames = peer.outbox.last_counted(buffers, got);
        let is_too_long = run.bytes.len() > peer.outbox.limit();
        let is_full = ledger.dropped[GapCause::Budget as usize] == without_memory;
        let cause = if is_too_long || is_full { GapCause::Overflow } else { GapCause::Budget };
        push_frame(&mut frames, &Frame::Gap { topic: Some(run.topic), count, cause });
        self.record(&Record::Pushed { peer: index, frames: &frames });
    }

    /// How many counted frames a reader has had that must not lose any.
    pub(super) fn counted_at_holder(&self, index: u32) -> Option<u64> {
        let peer = self.at(index).filter(|peer| self.lasts(index) && peer.must_not_lose())?;
        Some(peer.outbox.counted_total())
    }

    /// Records what came into the outbox of a reader beside runs.
    pub(super) fn record_pushed(&mut self, index: u32, before: Option<u64>) {
        let Some(before) = before else { return };
        let Self { peers, buffers, .. } = self;
        let peer = peers.get_mut(index as usize).and_then(|slot| slot.peer.as_mut());
        let Some(peer) = peer else { return };
        let got = peer.outbox.counted_total() - before;
        if got > 0 {
            let frames = peer.outbox.last_counted(buffers, got);
            self.record(&Record::Pushed { peer: index, frames: &frames });
        }
    }
}

impl Peer {
    /// Whether its state outlives its link, and so the process.
    pub(super) fn is_lasting(&self) -> bool {
        self.cold.linger > 0 && !self.is_leaving
    }

    fn to_record(&self, peer: u32) -> PeerRecord<'_> {
        PeerRecord {
            peer,
            identity: &self.cold.identity,
            name: &self.cold.name,
            epoch: self.cold.epoch,
            flags: self.flags,
            when_full: self.outbox.when_full(),
            linger: self.cold.linger,
            keepalive: self.cold.keepalive,
            own: self.is_own.then_some(self.outbox.limit() as u64),
        }
    }

    fn to_counts(&self, peer: u32) -> CountsRecord {
        let held = |held: Held| [held.count, held.furthest];
        let tiers = self.tiers.as_ref();
        let [durable, furthest_durable] = tiers.map_or([0; 2], |tiers| held(tiers.durable));
        let [central, furthest_central] = tiers.map_or([0; 2], |tiers| held(tiers.central));
        let outbox = &self.outbox;
        let is_holder = outbox.when_full() == WhenFull::Hold;
        CountsRecord {
            peer,
            taken: self.taken,
            acked: outbox.figures().acked,
            // what others miss is counted, and not kept
            released: if is_holder { outbox.released() } else { outbox.counted_total() },
            held: [durable, furthest_durable, central, furthest_central],
        }
    }
}

/// Bytes of records that a session has room for all the time.
const RECORDS_KEPT: usize = 16 * 1024;
