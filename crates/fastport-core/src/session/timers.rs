//! What a session does when nothing happens: it asks silent peers, closes dead links, forgets.

use fastport_wire::control::ByeReason;
use fastport_wire::frame::GapCause;
use fastport_wire::{Frame, TopicId};

use super::Session;
use super::peer::Link;
use crate::time::Instant;

impl Session {
    /// When to call [`Session::handle_timeout`] next; `None`: not before something happens.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let (peers, topics) = (self.peer_wheel.next_deadline(), self.topic_wheel.next_deadline());
        peers.into_iter().chain(topics).min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(index) = self.peer_wheel.poll(now) {
            self.look_at_peer(now, index);
        }
        while let Some(index) = self.topic_wheel.poll(now) {
            let Some(id) = TopicId::new(index) else { continue };
            self.expire_topic(now, id);
        }
    }

    pub(super) fn schedule_look(&mut self, now: Instant, index: u32) {
        let stall_ms = self.limits.stall_ms;
        let Some(peer) = self.at(index) else { return };
        let keepalive_ms = u64::from(peer.keepalive) * 1000;
        let pause = [keepalive_ms, stall_ms].into_iter().filter(|&pause| pause > 0).min();
        if let Some(pause) = pause {
            self.peer_wheel.schedule(index, now.after(pause));
        }
    }

    pub(super) fn schedule_expiry(&mut self, id: TopicId) {
        let age_ms = self.limits.retention.age_ms;
        let log = self.topics.get(id).and_then(|topic| topic.log.as_ref());
        if let Some(oldest) = log.and_then(|log| log.oldest()) {
            self.topic_wheel.schedule(id.get(), oldest.after(age_ms));
        }
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
        let first = peer.stuck.filter(|&(written, _)| written == peer.written);
        peer.stuck = (peer.outbox.unsent() > 0).then(|| first.unwrap_or((peer.written, now)));
        let is_stuck = |(_, since)| stall_ms > 0 && now.since(since) >= stall_ms;
        if peer.stuck.is_some_and(is_stuck) {
            return self.say_bye(index, ByeReason::TooSlow, None);
        }
        let keepalive_ms = u64::from(peer.keepalive) * 1000;
        let silent_ms = now.since(heard);
        if keepalive_ms > 0 && silent_ms >= 2 * keepalive_ms {
            return self.say_bye(index, ByeReason::Silent, None);
        }
        if keepalive_ms > 0 && silent_ms >= keepalive_ms && !is_asked {
            peer.link = Link::Attached { heard, is_asked: true };
            self.send_frame(index, &Frame::Ping { token: &[] });
        }
        self.schedule_look(now, index);
        // asked peers are looked at again when their time is up, and not later
        if keepalive_ms > 0 {
            let turn = if silent_ms >= keepalive_ms { 2 } else { 1 };
            self.peer_wheel.schedule(index, heard.after(turn * keepalive_ms));
        }
    }

    fn expire_topic(&mut self, now: Instant, id: TopicId) {
        let limit = Instant::from_millis(
            now.since(Instant::from_millis(self.limits.retention.age_ms.saturating_sub(1))),
        );
        let Some(log) = self.topics.get_mut(id).and_then(|topic| topic.log.as_mut()) else {
            return;
        };
        let before = log.messages();
        log.expire(&mut self.buffers, limit);
        let after = log.messages();
        self.topics.note_retained(before, after);
        self.schedule_expiry(id);
        if self.next_timeout().is_none() {
            self.buffers.trim();
        }
    }
}
