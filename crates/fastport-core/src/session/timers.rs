//! What a session does when nothing happens: it asks silent peers, closes dead links, forgets.

use fastport_wire::control::ByeReason;
use fastport_wire::frame::GapCause;
use fastport_wire::{Frame, TopicId};

use super::peer::Link;
use super::{PeerKey, Session};
use crate::time::Instant;

impl Session {
    /// When to call [`Session::handle_timeout`] next; `None`: not before something happens.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let (peers, topics) = (self.peer_wheel.next_deadline(), self.topic_wheel.next_deadline());
        let others = self.next_ack_time().into_iter().chain(self.trim_at);
        peers.into_iter().chain(topics).chain(others).min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.send_acks_due(now);
        while let Some(index) = self.peer_wheel.poll(now) {
            self.look_at_peer(now, index);
        }
        while let Some(index) = self.topic_wheel.poll(now) {
            let Some(id) = TopicId::new(index) else { continue };
            self.expire_topic(now, id);
        }
        let refused = self.buffers.budget().refused();
        if core::mem::replace(&mut self.refused, refused) != refused {
            // memory is short, and topics that nobody remembers hold some
            self.topics.sweep(&mut self.buffers);
        }
        if core::mem::take(&mut self.is_short) {
            self.forget_longest_away(now, true);
        }
        if self.trim_at.is_some_and(|due| due <= now) {
            self.trim_at = self.buffers.take_busy().then(|| now.after(TRIM_MS));
            if self.trim_at.is_none() {
                self.buffers.trim();
            }
        }
        if self.next_timeout().is_none() {
            self.buffers.trim();
        }
        self.tidy();
    }

    /// The peer's link is not read for a while, by the relay's own choice: the peer is not silent
    /// meanwhile, and gets signs of life itself, since its own questions wait. Call it at least
    /// every second.
    pub fn hold_off(&mut self, now: Instant, key: PeerKey) {
        let Ok(peer) = self.peer_mut(key) else { return };
        let Link::Attached { heard, .. } = peer.link else { return };
        let keepalive_ms = u64::from(peer.cold.keepalive) * 1000;
        if keepalive_ms > 0 && now.since(heard) >= keepalive_ms / 2 {
            peer.link = Link::attached(now);
            self.send_frame(key.index, &Frame::Ping { token: &[] });
        }
    }

    /// Sees to it that large buffers do not stay warm for ever.
    #[inline]
    pub(super) fn plan_trim(&mut self, now: Instant) {
        if self.trim_at.is_none() && self.buffers.take_busy() {
            self.trim_at = Some(now.after(TRIM_MS));
        }
    }

    pub(super) fn schedule_look(&mut self, now: Instant, index: u32) {
        let stall_ms = self.limits.stall_ms;
        let Some(peer) = self.at(index) else { return };
        let keepalive_ms = u64::from(peer.cold.keepalive) * 1000;
        let pause = [keepalive_ms, stall_ms].into_iter().filter(|&pause| pause > 0).min();
        if let Some(pause) = pause {
            self.peer_wheel.schedule(index, now.after(pause));
        }
    }

    pub(super) fn schedule_expiry(&mut self, id: TopicId) {
        if let Some(due) = self.expiry(id) {
            self.topic_wheel.schedule(id.get(), due);
        }
    }

    /// When a topic's oldest message expires; `None`: it has none.
    pub(super) fn expiry(&self, id: TopicId) -> Option<Instant> {
        let log = self.topics.get(id)?.log()?;
        Some(log.oldest()?.after(self.age_ms()))
    }

    fn age_ms(&self) -> u64 {
        self.limits.retention.age_ms.clamp(LEAST_AGE_MS, MOST_AGE_MS)
    }

    fn look_at_peer(&mut self, now: Instant, index: u32) {
        let stall_ms = self.limits.stall_ms;
        let Some(peer) = self.at_mut(index) else { return };
        let (heard, is_asked) = match peer.link {
            Link::Closing => return,
            Link::Lingering { until } if now < until => {
                self.peer_wheel.schedule(index, until);
                return;
            }
            Link::Lingering { .. } => return self.remove(index, GapCause::ReaderGone),
            Link::Attached { heard, is_asked } => (heard, is_asked),
        };
        let keepalive_ms = u64::from(peer.cold.keepalive) * 1000;
        let stalled_ms = peer.stalled_ms(now);
        let (is_blocked, peer_is_own) = (peer.is_blocked, peer.is_own);
        if stall_ms > 0 && stalled_ms >= stall_ms && !peer_is_own {
            return self.say_bye(index, ByeReason::TooSlow, None);
        }
        let silent_ms = now.since(heard);
        if keepalive_ms > 0 && silent_ms >= 2 * keepalive_ms {
            return self.say_bye(index, ByeReason::Silent, None);
        }
        if keepalive_ms > 0 && silent_ms >= keepalive_ms && !is_asked {
            peer.link = Link::Attached { heard, is_asked: true };
            self.send_frame(index, &Frame::Ping { token: &[] });
        }
        if is_blocked {
            self.wake(index);
        }
        self.schedule_look(now, index);
        // asked peers are looked at again when their time is up, and not later
        if keepalive_ms > 0 {
            let turn = if silent_ms >= keepalive_ms { 2 } else { 1 };
            self.peer_wheel.schedule(index, heard.after(turn * keepalive_ms));
        }
    }

    fn expire_topic(&mut self, now: Instant, id: TopicId) {
        let limit = Instant::from_millis(now.since(Instant::from_millis(self.age_ms() - 1)));
        let Some(log) = self.topics.get_mut(id).and_then(|topic| topic.log_mut()) else {
            return;
        };
        let before = log.messages();
        log.expire(&mut self.buffers, limit);
        let after = log.messages();
        self.topics.note_retained(before, after);
        self.schedule_expiry(id);
    }
}

/// How long the buffers of a stream are kept warm when it has ended.
const TRIM_MS: u64 = 1000;
/// What came this very millisecond is kept for it; so something always lies behind the limit.
const LEAST_AGE_MS: u64 = 1;
/// For ever, and yet far from the end of the numbers.
const MOST_AGE_MS: u64 = u64::MAX / 4;
