//! When a publisher is told what is here of its counted frames.
//!
//! An ACK for each read would double what a stream of small messages costs. So it goes out with
//! whatever else is written to the publisher; at once when much has come, when the publisher asks
//! by PING, or when its link is to be closed; and else within two times [`ACK_TICK_MS`].

use fastport_wire::Frame;

use super::peer::{Link, Peer};
use super::{PeerKey, Session};
use crate::time::Instant;

impl Session {
    /// Sees to it that the peer is told in time of what has come from it.
    #[inline]
    pub(super) fn plan_ack(&mut self, now: Instant, key: PeerKey) {
        let Ok(peer) = self.peer_mut(key) else { return };
        if !peer.owes_ack {
            return;
        }
        if peer.unacked_weight >= ACK_WEIGHT {
            self.send_ack(key.index);
        } else if !peer.has_ack_time {
            peer.has_ack_time = true;
            self.ack_times.push_back((ack_time(now), key));
        }
    }

    /// Puts the ACK that is owed to a peer into its outbox.
    pub(super) fn send_ack(&mut self, index: u32) {
        let is_frozen = self.is_frozen();
        let Some(peer) = self.at_mut(index).filter(|peer| peer.owes_ack) else { return };
        if is_frozen {
            // it is told at once when it can be
            peer.unacked_weight = ACK_WEIGHT;
            return;
        }
        if !matches!(peer.link, Link::Attached { .. }) {
            // a link that is gone is told by WELCOME
            return;
        }
        if peer.outbox.is_choked() {
            // one that does not read is told at once when it does
            peer.unacked_weight = ACK_WEIGHT;
            return;
        }
        (peer.owes_ack, peer.unacked_weight) = (false, 0);
        let ack = peer.ack();
        self.send_frame(index, &ack);
    }

    /// Lets the ACK that is owed go with what is written anyhow.
    #[inline]
    pub(super) fn add_ack(&mut self, key: PeerKey) {
        let Self { peers, buffers, journal, .. } = self;
        let slot = peers.get_mut(key.index()).filter(|slot| slot.generation == key.generation);
        let Some(peer) = slot.and_then(|slot| slot.peer.as_mut()) else { return };
        let is_frozen = || journal.as_ref().is_some_and(|journal| journal.is_frozen());
        let goes = peer.owes_ack && matches!(peer.link, Link::Attached { .. }) && !is_frozen();
        if goes && peer.outbox.unsent() > 0 && !peer.outbox.is_choked() {
            let ack = peer.ack();
            // without memory it goes by itself, later
            if peer.outbox.push_frame(buffers, &ack).is_ok() {
                (peer.owes_ack, peer.unacked_weight) = (false, 0);
            }
        }
    }

    pub(super) fn next_ack_time(&self) -> Option<Instant> {
        self.ack_times.front().map(|&(time, _)| time)
    }

    pub(super) fn send_acks_due(&mut self, now: Instant) {
        while self.next_ack_time().is_some_and(|time| time <= now) {
            let Some((_, key)) = self.ack_times.pop_front() else { return };
            let Ok(peer) = self.peer_mut(key) else { continue };
            peer.has_ack_time = false;
            self.send_ack(key.index);
        }
    }

    /// Asks a reader that must not lose to acknowledge what it has, since others wait for its room.
    pub(super) fn ask_for_ack(&mut self, index: u32) {
        let Some(peer) = self.at_mut(index) else { return };
        let may_ask = matches!(peer.link, Link::Attached { .. }) && !peer.outbox.is_choked();
        if may_ask && !peer.is_asked_for_ack {
            peer.is_asked_for_ack = true;
            self.send_frame(index, &Frame::Ping { token: &[] });
        }
    }
}

impl Peer {
    /// Notes that so many counted messages have come from it.
    pub(super) fn take_counted(&mut self, messages: u32, bytes: usize) {
        self.taken += u64::from(messages);
        self.owes_ack = true;
        let weight = u32::try_from(bytes).unwrap_or(u32::MAX);
        let weight = weight.saturating_add(messages.saturating_mul(MESSAGE_WEIGHT));
        self.unacked_weight = self.unacked_weight.saturating_add(weight);
    }

    /// Whether its ACK could not go out when it should have.
    pub(super) fn is_ack_due(&self) -> bool {
        self.owes_ack && self.unacked_weight >= ACK_WEIGHT
    }

    /// A new link begins with a WELCOME that says what is here.
    pub(super) fn forget_acks(&mut self) {
        (self.owes_ack, self.has_ack_time, self.is_asked_for_ack) = (false, false, false);
        self.unacked_weight = 0;
    }
}

/// When what comes now is acknowledged at the latest: at an end of a tick, so that many peers' ACKs
/// cost one wake-up of the timer.
fn ack_time(now: Instant) -> Instant {
    let ticks = now.as_millis() / ACK_TICK_MS;
    Instant::from_millis(ticks.saturating_add(2).saturating_mul(ACK_TICK_MS))
}

/// An ACK waits for company for one to two of these. A publisher that waits for it sends PING.
pub(super) const ACK_TICK_MS: u64 = 64;
/// An ACK goes out at once for so many bytes, or for some 500 small messages: what a publisher has
/// to hold for the relay's sake.
const ACK_WEIGHT: u32 = 128 * 1024;
/// What a message weighs beside its bytes.
const MESSAGE_WEIGHT: u32 = 224;
