//! A session made again from its journal.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use fastport_wire::control::Tier;
use fastport_wire::frame::GapCause;
use fastport_wire::{Filter, Frame, Topic as TopicName, TopicId};
use hashbrown::HashMap;

use super::record::{BadRecord, CountsRecord, Numbers, PeerRecord, Record};
use crate::ledger::Ledger;
use crate::outbox::{Outbox, RestoreError, Run, count_frames};
use crate::rights::Rights;
use crate::session::attach::peer_charge;
use crate::session::own::Own;
use crate::session::peer::{Handed, Held, Link, Mark, Peer};
use crate::session::shed::SENT_NOT_KNOWN;
use crate::session::{PeerKey, Session, wants_time};
use crate::time::{CLOCK_FLOOR_MS, Instant, NOT_KNOWN, Now};

/// What came of a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Restored {
    /// Peers that may come back.
    pub peers: usize,
    /// Those that may not: their identity is no more, or there was no memory.
    pub dropped_peers: usize,
    /// Counted messages that wait for readers.
    pub messages: u64,
    /// Of those, what was for peers that are dropped, and is booked as such.
    pub dropped_messages: u64,
}

/// A session that is being made from records, in pieces; without a word, what came so far is dropped.
pub struct Restoring<'a> {
    session: &'a mut Session,
    now: Instant,
    /// finds the rights of an identity; `None`: it is no more
    rights: &'a mut dyn FnMut(&str) -> Option<Arc<Rights>>,
    /// by their place in the session that wrote the journal
    peers: HashMap<u32, Place>,
    lost_peers: usize,
    is_of_other_boot: bool,
}

/// Where a peer is, and what is not in its outbox.
struct Place {
    index: u32,
    /// Its state cannot be what it was.
    is_given_up: bool,
}

impl Session {
    /// Makes an empty session what it was when the records were written; see [`Restoring`].
    ///
    /// # Errors
    /// [`BadRecord`]; the session has then what was before it.
    pub fn restore(
        &mut self,
        now: Instant,
        records: &[u8],
        rights: &mut dyn FnMut(&str) -> Option<Arc<Rights>>,
    ) -> (Restored, Result<(), BadRecord>) {
        let mut restoring = Restoring::new(self, now, rights);
        let applied = restoring.apply(records);
        (restoring.finish(), applied)
    }
}

impl<'a> Restoring<'a> {
    /// Begins to make a session, which must be empty. Its peers linger from `now` on.
    #[must_use]
    pub fn new(
        session: &'a mut Session,
        now: Instant,
        rights: &'a mut dyn FnMut(&str) -> Option<Arc<Rights>>,
    ) -> Self {
        // while nobody is there, topics would be forgotten
        session.lingering += 1;
        Self { session, now, rights, peers: HashMap::new(), lost_peers: 0, is_of_other_boot: false }
    }

    /// The records are of another boot of the machine: what came before its clock was set came nobody
    /// knows when.
    pub fn note_other_boot(&mut self) {
        self.is_of_other_boot = true;
    }

    /// Applies records.
    ///
    /// # Errors
    /// [`BadRecord`]: those before it are applied.
    pub fn apply(&mut self, records: &[u8]) -> Result<(), BadRecord> {
        let mut rest = records;
        while !rest.is_empty() {
            let at = records.len() - rest.len();
            let record = Record::take(&mut rest).ok_or(BadRecord { at })?;
            self.apply_one(&record).ok_or(BadRecord { at })?;
        }
        Ok(())
    }

    /// Ends it: the peers that may come back linger, the others are dropped and booked.
    pub fn finish(mut self) -> Restored {
        let mut restored = Restored { dropped_peers: self.lost_peers, ..Restored::default() };
        self.session.lingering -= 1;
        for (_, place) in core::mem::take(&mut self.peers) {
            let messages = self.finish_peer(&place);
            let is_known = self.session.at(place.index).is_some_and(|peer| peer.is_known);
            restored.messages += messages;
            if !place.is_given_up && is_known {
                restored.peers += 1;
                continue;
            }
            // who has not read its WELCOME takes its state for lost anyhow
            restored.dropped_peers += usize::from(place.is_given_up);
            restored.dropped_messages += messages;
            self.session.remove(place.index, GapCause::ReaderGone);
        }
        self.session.tidy();
        restored
    }

    /// `None`: the records are not those of a session.
    fn apply_one(&mut self, record: &Record<'_>) -> Option<()> {
        match *record {
            Record::Ids { count } => self.session.restore_ids(count),
            Record::Topic { id, name, schema } => {
                self.session.restore_topic(id, TopicName::parse(name).ok()?, schema);
            }
            Record::Keep { topic, unix_ms, frame } => self.keep(topic, unix_ms, frame)?,
            Record::Peer(peer) => self.add_peer(&peer),
            Record::Known { peer } => self.with(peer, |peer| peer.is_known = true),
            Record::Resume { peer, flags, count, total } => {
                self.with(peer, |peer| peer.flags = flags);
                self.note_sent(peer, SENT_NOT_KNOWN);
                self.resume(peer, count, total);
            }
            Record::Open { peer, id } => self.open(peer, id),
            Record::Close { peer, id } => {
                if let Some(index) = self.index_of(peer) {
                    self.session.close_id(index, id);
                }
            }
            Record::Subscribe { peer, no_local, filter } => {
                self.subscribe(peer, Filter::parse(filter).ok()?, no_local);
            }
            Record::Unsubscribe { peer, filter } => {
                let filter = Filter::parse(filter).ok()?;
                if let Some(index) = self.index_of(peer) {
                    self.session.drop_subscription(index, filter);
                }
            }
            Record::Run { from, topic, unix_ms, messages, holders, frames } => {
                let run = Run { bytes: frames, messages, is_counted: true, topic };
                self.run(from, unix_ms, &run, holders)?;
            }
            Record::Pushed { peer, frames } => self.push(peer, frames)?,
            Record::Ack { peer, count, total } => self.acknowledge(peer, count, total)?,
            Record::Gone { peer } => {
                if let Some(place) = self.peers.remove(&peer) {
                    self.forget(place.index);
                }
            }
            Record::Counts(counts) => self.counts(&counts),
            Record::Said { peer, topic, cause, count } => {
                self.with(peer, |peer| peer.note_said(topic, cause, count));
            }
            _ => self.apply_to_member(record)?,
        }
        Some(())
    }

    fn apply_to_member(&mut self, record: &Record<'_>) -> Option<()> {
        match *record {
            Record::Member { peer, tier } => {
                if let Some(index) = self.index_of(peer) {
                    let generation = self.session.peers.get(index as usize)?.generation;
                    self.session.make_member(PeerKey { index, generation }, tier);
                }
            }
            Record::Note { peer, note } => self.with(peer, |peer| peer.tiers_mut().note = note),
            Record::Sent { peer, count } => self.note_sent(peer, count),
            Record::Shed { peer, after, cause, runs } => self.shed(peer, after, cause, runs)?,
            Record::Take { peer, count } => {
                if let Some(index) = self.index_of(peer) {
                    self.session.hand_over(index, count);
                }
            }
            Record::Confirm { peer, publisher, tier, count } => {
                if let (Some(index), Some(publisher)) =
                    (self.index_of(peer), self.index_of(publisher))
                {
                    self.session.confirm_at(index, publisher, tier, count);
                }
            }
            Record::Mark { peer, publisher, tier, at, length, count } => {
                let is_sound = length <= at && length <= count;
                let (publisher, serial) = match self.publisher(publisher).filter(|_| is_sound) {
                    Some(publisher) => publisher,
                    None => return is_sound.then_some(()),
                };
                let mark = Mark { at, length, count, publisher, serial, tier };
                match self.index_of(peer) {
                    Some(index) if length == 0 => self.session.push_over(index, mark),
                    _ => self.with(peer, |peer| peer.push_mark(mark)),
                }
            }
            Record::Handed { peer, publisher, from, to } => {
                let (publisher, serial) = match self.publisher(publisher).filter(|_| from < to) {
                    Some(publisher) => publisher,
                    None => return (from < to).then_some(()),
                };
                self.with(peer, |peer| {
                    let handed = &mut peer.tiers_mut().handed;
                    let place = handed.partition_point(|known| known.publisher < publisher);
                    handed.insert(place, Handed { publisher, serial, from, to });
                });
            }
            _ => return None,
        }
        Some(())
    }

    #[inline(never)]
    fn index_of(&self, peer: u32) -> Option<u32> {
        Some(self.peers.get(&peer)?.index)
    }

    fn publisher(&self, peer: u32) -> Option<(u32, u64)> {
        let index = self.index_of(peer)?;
        Some((index, self.session.at(index)?.cold.serial))
    }

    /// Changes a peer, if there is one.
    fn with(&mut self, peer: u32, change: impl FnOnce(&mut Peer)) {
        if let Some(peer) = self.index_of(peer).and_then(|index| self.session.at_mut(index)) {
            change(peer);
        }
    }

    /// There is no memory for what a peer had; what it is to be is not what it was.
    fn give_up(&mut self, peer: u32) {
        if let Some(place) = self.peers.get_mut(&peer) {
            place.is_given_up = true;
        }
    }

    fn add_peer(&mut self, record: &PeerRecord<'_>) {
        let PeerRecord { peer, identity, name, epoch, flags, when_full, .. } = *record;
        if let Some(place) = self.peers.remove(&peer) {
            self.forget(place.index);
        }
        let key = (epoch, identity.into(), name.into());
        let named = self.session.by_name.get(&(identity.into(), name.into()));
        if let Some(&index) = self.session.by_epoch.get(&key).or(named) {
            self.peers.retain(|_, place| place.index != index);
            self.forget(index);
        }
        let session = &mut *self.session;
        if !session.make_room(peer_charge(identity, name)) {
            self.lost_peers += 1;
            return;
        }
        let own = record.own.map(|own| Own { outbox: usize::try_from(own).unwrap_or(usize::MAX) });
        let rights = (self.rights)(identity);
        let is_given_up = rights.is_none();
        let rights = rights.unwrap_or_default();
        let limit = own.unwrap_or(Own { outbox: session.limits.outbox });
        let mut state = Box::new(Peer {
            outbox: Outbox::new(limit.outbox_limit(&session.limits), when_full, true),
            ..Peer::new(identity.into(), name.into(), rights, self.now)
        });
        state.cold.epoch = epoch;
        // one that is 0 would not be in a journal
        (state.cold.linger, state.cold.keepalive) = (record.linger.max(1), record.keepalive);
        if state.rights.is_gateway() && record.linger >= session.limits.linger {
            // it was cut by a limit that was lower than a gateway's is now
            state.cold.linger = record.linger.max(session.limits.gateway_linger);
        }
        (state.flags, state.is_own) = (flags, own.is_some());
        if state.is_own {
            state.outbox.keep_exact();
            state.tiers_mut().sent = SENT_NOT_KNOWN;
        }
        let until = self.now.after(u64::from(state.cold.linger) * 1000);
        state.link = Link::Lingering { until };
        let index = session.place(state, true);
        session.lingering += 1;
        self.peers.insert(peer, Place { index, is_given_up });
    }

    /// A peer's state had ended: what it did not get was booked then.
    fn forget(&mut self, index: u32) {
        let Session { peers, buffers, .. } = &mut *self.session;
        let slot = peers.get_mut(index as usize);
        if let Some(peer) = slot.and_then(|slot| slot.peer.as_mut()) {
            peer.outbox.restore_at(buffers, 0, 0);
        }
        self.session.remove(index, GapCause::ReaderGone);
    }

    fn finish_peer(&mut self, place: &Place) -> u64 {
        let Session { peers, ledger, peer_wheel, .. } = &mut *self.session;
        let slot = peers.get_mut(place.index as usize);
        let Some(peer) = slot.and_then(|slot| slot.peer.as_mut()) else { return 0 };
        let (messages, may_be_missed) = peer.outbox.finish_restore();
        let total = peer.outbox.counted_total();
        if let Some(tiers) = &mut peer.tiers {
            tiers.sent = tiers.sent.min(total);
        }
        ledger.routed += messages + may_be_missed;
        // it comes out when the reader says what it has
        ledger.delivered += may_be_missed;
        peer.forget_acks();
        if let Link::Lingering { until } = peer.link {
            peer_wheel.schedule(place.index, until);
        }
        messages
    }

    fn counts(&mut self, counts: &CountsRecord) {
        let Some(place) = self.peers.get(&counts.peer) else { return };
        let Session { peers, buffers, .. } = &mut *self.session;
        let slot = peers.get_mut(place.index as usize);
        let Some(peer) = slot.and_then(|slot| slot.peer.as_mut()) else { return };
        peer.taken = counts.taken;
        peer.outbox.restore_at(buffers, counts.released, counts.acked);
        if counts.held != [0; 4] {
            let [durable, furthest_durable, central, furthest_central] = counts.held;
            let tiers = peer.tiers_mut();
            tiers.durable = Held { count: durable, furthest: furthest_durable };
            tiers.central = Held { count: central, furthest: furthest_central };
        }
    }

    fn keep(&mut self, topic: TopicId, unix_ms: u64, frame: &[u8]) -> Option<()> {
        let (decoded, length) = Frame::decode(frame, frame.len()).ok()??;
        let Frame::Data { topic: named, payload, .. } = decoded else { return None };
        if named != topic || length != frame.len() {
            return None;
        }
        let now = Now { mono: self.now, unix_ms: self.stamp(unix_ms), ..Now::default() };
        self.session.keep_last(topic, now, frame, !payload.is_empty());
        Some(())
    }

    fn stamp(&self, stamp: u64) -> u64 {
        stamp_of(stamp, self.is_of_other_boot)
    }

    fn open(&mut self, peer: u32, id: TopicId) {
        let Some(index) = self.index_of(peer) else { return };
        if !self.session.restore_open(index, id) {
            self.give_up(peer);
        }
    }

    fn subscribe(&mut self, peer: u32, filter: Filter<'_>, no_local: bool) {
        let Some(index) = self.index_of(peer) else { return };
        let may_read = self.session.at(index).is_some_and(|peer| peer.rights.may_subscribe(filter));
        if !may_read {
            return;
        }
        let session = &mut *self.session;
        let added = session.insert_subscription(index, filter, no_local, usize::MAX);
        if added.and_then(|named| session.start_reading(index, filter, named)).is_err() {
            self.give_up(peer);
        }
    }

    fn run(
        &mut self,
        from: Option<u32>,
        unix_ms: u64,
        run: &Run<'_>,
        holders: Numbers<'_>,
    ) -> Option<()> {
        let count = u64::from(run.messages);
        if let Some(from) = from {
            self.with(from, |peer| peer.taken = peer.taken.saturating_add(count));
        }
        if !holders.is_empty() && count_frames(run.bytes, run.topic)? != run.messages {
            return None;
        }
        for holder in holders.iter() {
            self.push_run(holder, unix_ms, run, from);
        }
        // what others were to get, as far as it can be known
        let Session { topics, peers, .. } = &mut *self.session;
        let readers = topics.get(run.topic).map(|topic| topic.readers.as_slice());
        for reader in readers.unwrap_or_default().iter().filter(|reader| !reader.holds) {
            let slot = peers.get_mut(reader.peer as usize);
            if let Some(peer) = slot.and_then(|slot| slot.peer.as_mut()) {
                peer.outbox.restore_missed(count);
            }
        }
        Some(())
    }

    fn push_run(&mut self, holder: u32, unix_ms: u64, run: &Run<'_>, from: Option<u32>) {
        let Some(index) = self.index_of(holder) else { return };
        let stamp = self.stamp(unix_ms);
        let push = |peer: &mut Peer, buffers: &mut _, _: &mut _| {
            let time = peer.time_of(stamp);
            let is_later = wants_time(peer.flags) && peer.last_time != time;
            peer.outbox.restore_run(buffers, is_later.then_some(time), run)?;
            peer.last_time = time;
            Ok(())
        };
        if self.session.with_room(index, push).is_err() {
            self.give_up(holder);
            return;
        }
        let Some((publisher, serial)) = from.and_then(|from| self.publisher(from)) else { return };
        let count = self.session.at(publisher).map_or(0, |peer| peer.taken);
        let length = u64::from(run.messages);
        let tiers = self.session.members.iter().filter(|&&(member, _)| member == index);
        let tiers: [Option<Tier>; 2] = {
            let mut tiers = tiers.map(|&(_, tier)| tier);
            [tiers.next(), tiers.next()]
        };
        if let Some(peer) = self.session.at_mut(index) {
            let at = peer.outbox.counted_total();
            for tier in tiers.into_iter().flatten() {
                peer.push_mark(Mark { at, length, count, publisher, serial, tier });
            }
        }
    }

    fn push(&mut self, peer: u32, frames: &[u8]) -> Option<()> {
        let Some(index) = self.index_of(peer) else { return Some(()) };
        let is_of_other_boot = self.is_of_other_boot;
        let Session { peers, buffers, .. } = &mut *self.session;
        let slot = peers.get_mut(index as usize);
        let Some(state) = slot.and_then(|slot| slot.peer.as_mut()) else { return Some(()) };
        let stamp = |time| stamp_of(time, is_of_other_boot);
        match state.outbox.restore_frames(buffers, frames, stamp) {
            Ok(()) => {}
            Err(RestoreError::BadFrames) => return None,
            // some of them may be in: it is not what it was
            Err(RestoreError::NoBudget) => self.give_up(peer),
        }
        Some(())
    }

    /// How much of what one of the daemon's own parts is to get its links may have written.
    fn note_sent(&mut self, peer: u32, count: u64) {
        self.with(peer, |peer| {
            if peer.is_own {
                peer.tiers_mut().sent = count;
            }
        });
    }

    fn shed(&mut self, peer: u32, after: u64, cause: GapCause, runs: Numbers<'_>) -> Option<()> {
        let Some(place) = self.peers.get(&peer) else { return Some(()) };
        let Session { peers, buffers, .. } = &mut *self.session;
        let slot = peers.get_mut(place.index as usize);
        let Some(state) = slot.and_then(|slot| slot.peer.as_mut()) else { return Some(()) };
        let runs: Vec<u32> = runs.iter().collect();
        let shed = state.outbox.restore_shed(buffers, after, cause, &runs);
        if let Some(tiers) = &mut state.tiers {
            tiers.shift_marks(after, &runs);
        }
        let (is_whole, index) = (shed.is_ok() || place.is_given_up, place.index);
        self.session.end_waits(index);
        // of one that is given up not all is there
        is_whole.then_some(())
    }

    fn resume(&mut self, peer: u32, count: u64, total: u64) {
        let Some(place) = self.peers.get_mut(&peer) else { return };
        let Session { peers, buffers, .. } = &mut *self.session;
        let slot = peers.get_mut(place.index as usize);
        let Some(state) = slot.and_then(|slot| slot.peer.as_mut()) else { return };
        if !state.must_not_lose() {
            return state.outbox.restore_at(buffers, total, count);
        }
        if state.outbox.acknowledge(buffers, &mut Ledger::default(), count).is_err() {
            // it had more than the journal before this one knew, and waits for what came since
            let rest = state.outbox.last_counted(buffers, total.saturating_sub(count));
            state.outbox.restore_at(buffers, count, count);
            place.is_given_up |= state.outbox.restore_frames(buffers, &rest, |time| time).is_err();
        }
    }

    fn acknowledge(&mut self, peer: u32, count: u64, total: u64) -> Option<()> {
        let Some(place) = self.peers.get(&peer) else { return Some(()) };
        let (index, is_given_up) = (place.index, place.is_given_up);
        let Session { peers, buffers, .. } = &mut *self.session;
        let slot = peers.get_mut(index as usize);
        let Some(state) = slot.and_then(|slot| slot.peer.as_mut()) else { return Some(()) };
        if !state.must_not_lose() {
            state.outbox.restore_at(buffers, total, count);
            return Some(());
        }
        let known = state.outbox.acknowledge(buffers, &mut Ledger::default(), count);
        // of one that is given up not all is there
        if known.is_err() && !is_given_up {
            return None;
        }
        self.session.commit(index, count);
        Some(())
    }
}

/// What a recorded stamp says in this boot.
const fn stamp_of(stamp: u64, is_of_other_boot: bool) -> u64 {
    if is_of_other_boot && stamp < CLOCK_FLOOR_MS { NOT_KNOWN } else { stamp }
}
