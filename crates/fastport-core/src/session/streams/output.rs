//! What a receiver's link writes of its streams, when it has no messages to write.

use super::super::{Output, PeerKey};
use super::Session;
use crate::stream::Turn;

impl Session {
    /// Whose turn it is at the peer's link; `None`: its outbox's. Before `is_last`, its last bytes,
    /// only what is begun is written.
    pub(in crate::session) fn stream_turn(&mut self, key: PeerKey, is_last: bool) -> Option<Turn> {
        let lane = self.streams.as_mut()?.lanes.get_mut(&key.index)?;
        lane.pass();
        let is_begun = lane.is_begun();
        if is_last && !is_begun {
            return None;
        }
        if !is_begun {
            let Self { peers, buffers, ledger, .. } = self;
            let peer = peers.get_mut(key.index())?.peer.as_mut()?;
            if !peer.outbox.output(buffers, ledger).is_empty() {
                return None;
            }
        }
        self.streams.as_mut()?.lanes.get_mut(&key.index)?.begin()
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

    /// Notes that so many bytes of the peer's output were written; whether they were a stream's.
    pub(in crate::session) fn advance_stream(&mut self, key: PeerKey, written: usize) -> bool {
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
