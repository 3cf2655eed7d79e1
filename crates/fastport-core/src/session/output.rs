//! What a peer's link writes, and what comes of that.

use super::peer::Link;
use super::{Gone, Output, PeerKey, Session};

impl Session {
    /// What the peer's link should write. Call [`Session::advance`] with what it wrote.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn output(&mut self, key: PeerKey) -> Result<Output<'_>, Gone> {
        let room_for_gaps =
            self.with_room(key.index, |peer, buffers, _| peer.outbox.reserve_gaps(buffers));
        // without any the reader is told of what it missed at a later write
        room_for_gaps.unwrap_or_default();
        self.add_ack(key);
        if self.streams.is_some()
            && let Some(turn) = self.stream_turn(key)
        {
            return Ok(self.stream_output(turn));
        }
        let slot = self.peers.get_mut(key.index()).filter(|slot| slot.generation == key.generation);
        let peer = slot.and_then(|slot| slot.peer.as_mut()).ok_or(Gone)?;
        let is_last = matches!(peer.link, Link::Closing);
        if is_last {
            // then the output is all there is
            peer.outbox.own(&mut self.buffers);
        }
        Ok(Output { bytes: peer.outbox.output(&mut self.buffers, &mut self.ledger), is_last })
    }

    /// Notes that the peer's link wrote `written` bytes of its output.
    pub fn advance(&mut self, key: PeerKey, written: usize) {
        if self.streams.is_some() {
            return self.advance_beside_streams(key, written);
        }
        self.advance_messages(key, written);
    }

    #[inline]
    pub(super) fn advance_messages(&mut self, key: PeerKey, written: usize) {
        let slot = self.peers.get_mut(key.index()).filter(|slot| slot.generation == key.generation);
        let Some(peer) = slot.and_then(|slot| slot.peer.as_mut()) else { return };
        peer.written = peer.written.wrapping_add(u32::try_from(written).unwrap_or(u32::MAX));
        peer.outbox.advance(&mut self.buffers, &mut self.ledger, written);
        let frees_itself = peer.is_blocked && !peer.outbox.is_choked();
        let is_ack_due = peer.is_ack_due();
        if peer.must_not_lose() || frees_itself {
            self.wake_blocked();
        }
        if is_ack_due {
            self.send_ack(key.index);
        }
    }

    /// Whether the peer has bytes to write or is to be closed. Where [`Session::output`] is empty
    /// all the same, there is no memory to say what was dropped: wait for a wake-up.
    #[must_use]
    pub fn has_output(&self, key: PeerKey) -> bool {
        let slot = self.peers.get(key.index()).filter(|slot| slot.generation == key.generation);
        slot.and_then(|slot| slot.peer.as_ref())
            .is_none_or(|peer| !peer.outbox.is_drained() || matches!(peer.link, Link::Closing))
            || self.has_chunks(key.index)
    }

    /// Whether a peer that does not read its answers gets no more of them for now.
    #[must_use]
    pub fn is_choked(&self, key: PeerKey) -> bool {
        let slot = self.peers.get(key.index()).filter(|slot| slot.generation == key.generation);
        slot.and_then(|slot| slot.peer.as_ref()).is_some_and(|peer| peer.outbox.is_choked())
    }
}
