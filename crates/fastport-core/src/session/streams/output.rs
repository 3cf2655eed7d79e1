//! What a receiver's link writes of its streams, when it has no messages to write.

use super::super::peer::Link;
use super::super::{Output, PeerKey};
use super::Session;
use crate::stream::Turn;

impl Session {
    /// Whose turn it is at the peer's link; `None`: its outbox's. Of a link that is to be closed only
    /// what is begun is written.
    pub(in crate::session) fn stream_turn(&mut self, key: PeerKey) -> Option<Turn> {
        let Self { peers, buffers, ledger, streams, .. } = self;
        let slot = peers.get_mut(key.index()).filter(|slot| slot.generation == key.generation);
        let peer = slot?.peer.as_mut()?;
        let lane = streams.as_mut()?.lanes.get_mut(&key.index)?;
        lane.pass();
        if !lane.is_begun() {
            let is_last = matches!(peer.link, Link::Closing);
            if is_last || !peer.outbox.output(buffers, ledger).is_empty() {
                return None;
            }
        }
        lane.begin()
    }

    /// The bytes of that turn.
    pub(in crate::session) fn stream_output(&self, turn: Turn) -> Output<'_> {
        let flow = self.streams.as_ref().and_then(|all| all.flows.get(&turn.stream));
        let bytes = flow.map_or(&[][..], |flow| match turn {
            Turn { is_rest: true, .. } => flow.ring.rest_of_begun(),
            Turn { is_alone: true, .. } => flow.ring.front(TURN_BYTES),
            Turn { .. } => flow.ring.front(0),
        });
        Output { bytes, is_last: false }
    }

    /// As [`Session::advance`], where there are or were streams.
    #[inline(never)]
    pub(in crate::session) fn advance_beside_streams(&mut self, key: PeerKey, written: usize) {
        let Ok(peer) = self.peer_mut(key) else { return };
        let was_choked = peer.outbox.is_choked();
        if self.advance_stream(key, written) {
            if let Ok(peer) = self.peer_mut(key) {
                let more = u32::try_from(written).unwrap_or(u32::MAX);
                peer.written = peer.written.wrapping_add(more);
            }
            return;
        }
        self.advance_messages(key, written);
        if was_choked && self.takes_more(key.index) {
            // what was not said to it meanwhile
            self.grant_all(key.index);
            self.offer_standing(key.index, |_| true);
        }
    }

    /// Whether what was written was of a stream.
    fn advance_stream(&mut self, key: PeerKey, written: usize) -> bool {
        let Some(streams) = &mut self.streams else { return false };
        let Some(lane) = streams.lanes.get_mut(&key.index) else { return false };
        let Some(stream) = lane.take_writing() else { return false };
        let Some(flow) = streams.flows.get_mut(&stream) else { return false };
        let done = flow.ring.advance(written);
        flow.drained += done.stream_bytes;
        streams.figures.bytes += done.stream_bytes;
        lane.end(flow.ring.is_begun());
        let (is_empty, is_over) = (flow.ring.is_empty(), flow.is_over);
        if is_empty {
            lane.leave(stream);
            if lane.is_empty() {
                streams.lanes.remove(&key.index);
            }
        }
        match (is_empty, is_over) {
            (true, true) => self.forget_flow(stream),
            (_, false) => self.grant(stream),
            (false, true) => {}
        }
        true
    }

    /// Whether the peer's link has something of streams to write.
    pub(in crate::session) fn has_chunks(&self, index: u32) -> bool {
        self.streams.as_ref().is_some_and(|streams| streams.lanes.contains_key(&index))
    }
}

/// What a link is given at once of the only stream that has something for it: a message that comes
/// meanwhile waits for the chunk that is begun, and not for all of it.
const TURN_BYTES: usize = 64 * 1024;
