//! How peers come in, go, and come back.

use alloc::boxed::Box;
use alloc::vec::Vec;

use fastport_wire::TopicId;
use fastport_wire::control::{self, features};
use fastport_wire::frame::GapCause;

use super::peer::{Cold, Link, Peer, Tiers};
use super::{
    Admission, AttachError, Limits, Own, PeerKey, Session, Slot, push_control, push_frame,
};
use crate::budget::NoBudget;
use crate::outbox::Outbox;
use crate::proof::PROOF_BYTES;
use crate::time::{Instant, NOT_KNOWN, Now};

impl Session {
    /// Lets a peer in. Its WELCOME is the first of its output; a peer whose state is still here goes
    /// on where it was.
    ///
    /// # Errors
    /// [`AttachError`].
    pub fn attach(&mut self, now: Now, admission: Admission) -> Result<PeerKey, AttachError> {
        let wants_to_last =
            admission.own.is_some() || admission.linger.is_some_and(|wish| wish > 0);
        if wants_to_last && self.is_frozen() {
            return Err(AttachError::Frozen);
        }
        let mut lost = 0;
        if let Some(index) = self.find_resumable(&admission) {
            if let Some(key) = self.try_resume(now, index, &admission)? {
                return Ok(key);
            }
            lost = self.missing_at(index);
            self.remove(index, GapCause::LinkLost);
        }
        if let Some(&index) =
            self.by_name.get(&(admission.identity.clone(), admission.name.clone()))
        {
            self.remove(index, GapCause::ReaderGone);
        }
        let key = self.attach_new(now, admission)?;
        if let Some(peer) = self.at_mut(key.index).filter(|_| lost > 0) {
            peer.outbox.tell_missing(None, lost, GapCause::LinkLost);
        }
        Ok(key)
    }

    /// How many messages a peer has not got, and has not been told of.
    pub(super) fn missing_at(&mut self, index: u32) -> u64 {
        let slot = self.peers.get_mut(index as usize);
        let peer = slot.and_then(|slot| slot.peer.as_mut());
        peer.map_or(0, |peer| peer.outbox.missing(&mut self.ledger))
    }

    /// The peer's link is gone. Its state stays for a while if it may come back.
    pub fn detach(&mut self, now: Instant, key: PeerKey) {
        let Ok(peer) = self.peer_mut(key) else { return };
        if peer.cold.linger == 0 || peer.is_leaving || !peer.is_known {
            self.remove(key.index, GapCause::ReaderGone);
            return;
        }
        self.note_sent(key.index);
        self.let_linger(now, key.index);
    }

    /// The peer has no link, and may come back.
    fn let_linger(&mut self, now: Instant, index: u32) {
        let Some(slot) = self.peers.get_mut(index as usize) else { return };
        let Some(peer) = slot.peer.as_mut() else { return };
        let until = now.after(u64::from(peer.cold.linger) * 1000);
        if !matches!(peer.link, Link::Lingering { .. }) {
            self.attached -= 1;
            self.lingering += 1;
        }
        peer.link = Link::Lingering { until };
        peer.outbox.own(&mut self.buffers);
        slot.generation = slot.generation.wrapping_add(1);
        self.peer_wheel.schedule(index, until);
        self.end_streams_of(index);
    }

    fn find_resumable(&self, admission: &Admission) -> Option<u32> {
        let key = (admission.epoch, admission.identity.clone(), admission.name.clone());
        self.by_epoch.get(&key).copied()
    }

    /// Gives a peer's state a new link; `None` when that cannot go on where it was.
    fn try_resume(
        &mut self,
        now: Now,
        index: u32,
        admission: &Admission,
    ) -> Result<Option<PeerKey>, AttachError> {
        let Some(slot) = self.peers.get_mut(index as usize) else { return Ok(None) };
        let Some(peer) = slot.peer.as_mut() else { return Ok(None) };
        if peer.is_leaving || !peer.is_known || peer.outbox.has_overflowed() {
            return Ok(None);
        }
        self.note_sent(index);
        let Some(slot) = self.peers.get_mut(index as usize) else { return Ok(None) };
        let Some(peer) = slot.peer.as_mut() else { return Ok(None) };
        if peer.outbox.resume(&mut self.buffers, &mut self.ledger, admission.taken).is_err() {
            return Ok(None);
        }
        peer.announced = peer.announced.wrapping_add(1).max(1);
        peer.flags = admission.flags;
        peer.cold.linger = peer.cold.linger.max(granted_linger(&self.limits, admission));
        if let Some(own) = admission.own {
            peer.outbox.set_limit(own.outbox_limit(&self.limits));
        }
        (peer.last_time, peer.acked_ahead) = (NOT_KNOWN, 0);
        peer.is_blocked = false;
        peer.forget_acks();
        self.forget_time(index);
        self.record_resumed(index);
        let is_ready = self.adopt_rights(index, &admission.rights)
            && self.push_welcome_back(now, index, admission.proof.as_ref()).is_ok();
        // the old link, if it is still there, finds itself gone
        self.wake(index);
        self.wake_blocked();
        self.let_linger(now.mono, index);
        if !is_ready {
            return Err(AttachError::NoBudget);
        }
        self.lingering -= 1;
        self.attached += 1;
        if let Some(peer) = self.at_mut(index) {
            peer.link = Link::attached(now.mono);
        }
        self.schedule_look(now.mono, index);
        self.offer_standing(index, |_| true);
        Ok(Some(self.key_of(index)))
    }

    /// Puts what a resumed link begins with before all that waits for it.
    fn push_welcome_back(
        &mut self,
        now: Now,
        index: u32,
        proof: Option<&[u8; PROOF_BYTES]>,
    ) -> Result<(), NoBudget> {
        let Self { peers, topics, ledger, .. } = self;
        let slot = peers.get_mut(index as usize);
        let Some(peer) = slot.and_then(|slot| slot.peer.as_mut()) else { return Ok(()) };
        let mut front = Vec::new();
        welcome(&mut front, now, &self.limits, peer, true, proof);
        if peer.flags & (features::ACK_DURABLE | features::ACK_CENTRAL) != 0 {
            // WELCOME says what was taken; the ACK that said more may be lost with the link
            push_frame(&mut front, &peer.ack());
        }
        let topics_of = peer.outbox.topics().into_iter();
        let gone: Vec<TopicId> = topics_of.filter(|&id| topics.get(id).is_none()).collect();
        if !gone.is_empty() {
            peer.outbox.drop_topics(ledger, &gone);
            self.record_state(index);
        }
        self.announce_waiting(index)?;
        self.with_room(index, |peer, buffers, _| peer.outbox.push_front(buffers, &front))
    }

    /// Announces to a peer, on its new link, the topics of all that waits for it.
    fn announce_waiting(&mut self, index: u32) -> Result<(), NoBudget> {
        loop {
            let Self { peers, topics, buffers, .. } = self;
            let slot = peers.get_mut(index as usize);
            let Some(peer) = slot.and_then(|slot| slot.peer.as_mut()) else { return Ok(()) };
            let announced = peer.announced;
            let announce = |id, out: &mut Vec<u8>| {
                let Some(topic) = topics.get_mut(id) else { return };
                topic.announce(id, out);
                if let Some(reader) = topic.reader_mut(index) {
                    reader.announced = announced;
                }
            };
            let done = peer.outbox.announce_waiting(buffers, announce);
            if done.is_ok() || !self.evict_oldest() {
                return done;
            }
        }
    }

    pub(super) fn key_of(&self, index: u32) -> PeerKey {
        let generation = self.peers.get(index as usize).map_or(0, |slot| slot.generation);
        PeerKey { index, generation }
    }

    fn attach_new(&mut self, now: Now, admission: Admission) -> Result<PeerKey, AttachError> {
        let own = admission.own;
        // the daemon does without its own parts last
        let is_full = own.is_none() && self.attached + self.lingering >= self.limits.peers;
        if is_full && !self.forget_longest_away(now.mono, false) {
            return Err(AttachError::TooManyPeers);
        }
        let charge = peer_charge(&admission.identity, &admission.name);
        while !self.make_room(charge) {
            if !self.forget_longest_away(now.mono, true) {
                return Err(AttachError::NoBudget);
            }
        }
        let linger = granted_linger(&self.limits, &admission);
        let keepalive = match own {
            Some(_) => admission.keepalive.unwrap_or(0),
            None => granted_keepalive(self.limits.keepalive, admission.keepalive),
        };
        let when_full = admission.when_full.unwrap_or(self.limits.when_full);
        let limit = own.unwrap_or(Own { outbox: self.limits.outbox }).outbox_limit(&self.limits);
        let mut peer = Box::new(Peer {
            outbox: Outbox::new(limit, when_full, linger > 0),
            ..Peer::new(admission.identity, admission.name, admission.rights, now.mono)
        });
        (peer.cold.keepalive, peer.cold.linger) = (keepalive, linger);
        peer.cold.epoch = admission.epoch;
        peer.flags = admission.flags;
        peer.is_own = own.is_some();
        if peer.is_own {
            peer.outbox.keep_exact();
        }
        let mut front = Vec::new();
        welcome(&mut front, now, &self.limits, &peer, false, admission.proof.as_ref());
        let index = self.place(peer, linger > 0);
        self.attached += 1;
        if self
            .with_room(index, |peer, buffers, _| peer.outbox.push_front(buffers, &front))
            .is_err()
        {
            self.remove(index, GapCause::Budget);
            return Err(AttachError::NoBudget);
        }
        self.record_peer(index);
        self.schedule_look(now.mono, index);
        Ok(self.key_of(index))
    }

    pub(super) fn place(&mut self, mut peer: Box<Peer>, is_resumable: bool) -> u32 {
        self.serials += 1;
        peer.cold.serial = self.serials;
        let index = self.free.pop().unwrap_or_else(|| {
            self.peers.push(Slot::default());
            u32::try_from(self.peers.len() - 1).unwrap_or(u32::MAX)
        });
        if is_resumable {
            let key = (peer.cold.epoch, peer.cold.identity.clone(), peer.cold.name.clone());
            self.by_epoch.insert(key, index);
        }
        if !peer.cold.name.is_empty() {
            self.by_name.insert((peer.cold.identity.clone(), peer.cold.name.clone()), index);
        }
        if let Some(slot) = self.peers.get_mut(index as usize) {
            slot.peer = Some(peer);
        }
        index
    }

    /// Ends a peer: what it did not get is booked, all it had is freed.
    pub(super) fn remove(&mut self, index: u32, cause: GapCause) {
        self.end_streams_of(index);
        let Some(slot) = self.peers.get_mut(index as usize) else { return };
        let Some(mut peer) = slot.peer.take() else { return };
        self.record_gone(index, &peer);
        let Some(slot) = self.peers.get_mut(index as usize) else { return };
        slot.generation = slot.generation.wrapping_add(1);
        match peer.link {
            Link::Lingering { .. } => self.lingering -= 1,
            Link::Attached { .. } | Link::Closing => self.attached -= 1,
        }
        peer.outbox.discard(&mut self.buffers, &mut self.ledger, cause);
        for subscription in peer.cold.subscriptions.take() {
            self.buffers.budget().give_back(subscription.charge());
            self.stop_reading(index, &subscription, &[]);
        }
        for &id in peer.open_topics.iter() {
            self.topics.close(id);
        }
        self.members.retain(|&(member, _)| member != index);
        let charge = peer_charge(&peer.cold.identity, &peer.cold.name) + peer.open_topics_charge();
        self.buffers.budget().give_back(charge);
        let Cold { epoch, identity, name, .. } = *peer.cold;
        let key = (epoch, identity, name);
        if self.by_epoch.get(&key) == Some(&index) {
            self.by_epoch.remove(&key);
        }
        let name = (key.1, key.2);
        if self.by_name.get(&name) == Some(&index) {
            self.by_name.remove(&name);
        }
        // its link, if there is one, finds itself gone
        self.wakes.push_back(index);
        self.free.push(index);
        self.wake_blocked();
        self.tidy();
    }

    /// Once nobody is there or may come back, forgets the topics that nobody remembers.
    pub(super) fn tidy(&mut self) {
        if self.attached + self.lingering == 0 {
            self.topics.sweep(&mut self.buffers);
            self.topics.reclaim_ids(&mut self.buffers);
            self.buffers.trim();
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        for index in 0..self.peers.len() {
            self.remove(u32::try_from(index).unwrap_or(u32::MAX), GapCause::ReaderGone);
        }
        self.topics.forget(&mut self.buffers);
        self.tidy();
    }
}

fn welcome(
    out: &mut Vec<u8>,
    now: Now,
    limits: &Limits,
    peer: &Peer,
    resumed: bool,
    proof: Option<&[u8; PROOF_BYTES]>,
) {
    let message = control::Welcome {
        version: control::VERSION,
        resumed,
        taken: peer.taken,
        keepalive: Some(peer.cold.keepalive),
        linger: Some(peer.cold.linger),
        payload_limit: u32::try_from(limits.payload).unwrap_or(u32::MAX),
        clock: now.clock(),
        proof: proof.map(|proof| &proof[..]),
        flags: Some(peer.flags & features::PACKS).filter(|&flags| flags != 0),
        text: Some(SOFTWARE),
        ..Default::default()
    };
    push_control(out, &message.into());
}

/// The seconds for which a peer's state is held.
fn granted_linger(limits: &Limits, admission: &Admission) -> u32 {
    if admission.own.is_some() {
        return admission.linger.unwrap_or(u32::MAX);
    }
    let limit = if admission.rights.is_gateway() { limits.gateway_linger } else { limits.linger };
    admission.linger.unwrap_or(0).min(limit)
}

/// The seconds between signs of life of a peer with that wish, where `limit` holds for those without.
fn granted_keepalive(limit: u32, wish: Option<u32>) -> u32 {
    match (limit, wish) {
        // never is longer than any limit: links that nobody asks stay when they are dead
        (_, None) | (1.., Some(0)) => limit,
        (0, Some(0)) => 0,
        (0, Some(wish)) => wish.clamp(LEAST_KEEPALIVE, MOST_KEEPALIVE),
        (limit, Some(wish)) => wish.max(LEAST_KEEPALIVE).min(limit),
    }
}

/// What a peer costs beside its outbox, subscriptions and topics: it is in two tables by its names.
pub(super) fn peer_charge(identity: &str, name: &str) -> usize {
    let own = size_of::<Peer>() + size_of::<Cold>() + size_of::<Tiers>() + size_of::<Slot>();
    own + 3 * (identity.len() + name.len()) + PEER_OVERHEAD
}

/// What WELCOME calls the relay.
const SOFTWARE: &str = concat!("fastport ", env!("CARGO_PKG_VERSION"));
/// Seconds. Shorter ones would cost more than they find.
const LEAST_KEEPALIVE: u32 = 2;
/// Seconds. Longer ones outlast the tables of address translators.
const MOST_KEEPALIVE: u32 = 3600;
/// A peer's share of the tables.
const PEER_OVERHEAD: usize = 192;
