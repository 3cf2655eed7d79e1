//! The daemon's own parts: peers that live in the process, such as a store or a lane of the uplink.
//! They are trusted, and their state is not forgotten while they are away.

use alloc::boxed::Box;

use fastport_wire::control::ErrorCode;
use fastport_wire::{Schema, Topic as TopicName, TopicId};

use super::{Limits, PeerKey, Session};
use crate::time::Instant;

/// What one of the daemon's own parts is allowed beyond what peers are: it may be away for ever, is
/// not closed for being slow, and opens and reads as much as there is. Its identity begins with `$`,
/// which no other may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Own {
    /// Bytes of messages in its outbox.
    pub outbox: usize,
}

impl Own {
    pub(super) fn outbox_limit(self, limits: &Limits) -> usize {
        // one message of any length always fits, whatever the configuration says
        self.outbox.max(limits.payload.saturating_add(MESSAGE_EXTRAS))
    }
}

/// Names a publisher beyond the life of its links, and of the process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Publisher {
    /// Whose credential it proved to have.
    pub identity: Box<str>,
    /// What it calls itself.
    pub name: Box<str>,
    /// Of its HELLO.
    pub epoch: u64,
}

/// How far a peer and the session are with each other's counted frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// The epoch that is counted in.
    pub epoch: u64,
    /// Frames to the peer that it has acknowledged.
    pub acked: u64,
    /// Frames to the peer, those included that wait: acked <= total
    pub total: u64,
    /// Frames from the peer.
    pub taken: u64,
    /// Bytes of messages in its outbox.
    pub held: usize,
    /// Since when the oldest of what it has not acknowledged waits, as far as [`Session::expire`] looked.
    pub waits_since: Option<Instant>,
    /// What it noted with [`Session::set_note`].
    pub note: Note,
}

/// What one of the daemon's own parts wants to find again; zeros at first.
pub type Note = [u64; 4];

impl Session {
    /// How far the peer of that identity and name is, with a link or without; a peer without a name
    /// is not found.
    #[must_use]
    pub fn counts(&self, identity: &str, name: &str) -> Option<Counts> {
        let index = *self.by_name.get(&(identity.into(), name.into()))?;
        self.counts_at(index)
    }

    /// How far the peer is.
    #[must_use]
    pub fn counts_of(&self, key: PeerKey) -> Option<Counts> {
        let slot = self.peers.get(key.index())?;
        self.counts_at(key.index).filter(|_| slot.generation == key.generation)
    }

    /// The key of the peer of that identity and name, also where it has no link.
    #[must_use]
    pub fn key(&self, identity: &str, name: &str) -> Option<PeerKey> {
        let index = *self.by_name.get(&(identity.into(), name.into()))?;
        let slot = self.peers.get(index as usize)?;
        Some(PeerKey { index, generation: slot.generation })
    }

    /// Has the session remember some numbers for as long as the peer's state is there.
    pub fn set_note(&mut self, key: PeerKey, note: Note) {
        if let Ok(peer) = self.peer_mut(key) {
            peer.tiers_mut().note = note;
            self.record_note(key.index, note);
        }
    }

    /// Lets the peer publish on a topic, as OPEN does, and tells its id at once.
    ///
    /// # Errors
    /// As OPEN is refused.
    pub fn open_on(
        &mut self,
        key: PeerKey,
        name: &str,
        schema: Option<&[u8]>,
    ) -> Result<TopicId, ErrorCode> {
        let name = TopicName::parse(name).map_err(|_| ErrorCode::BadTopic)?;
        if schema.is_some_and(|schema| Schema::decode(schema).is_err()) {
            return Err(ErrorCode::BadReadings);
        }
        self.peer_mut(key).map_err(|_| ErrorCode::Unavailable)?;
        self.open_topic(key.index, name, schema)
    }

    fn counts_at(&self, index: u32) -> Option<Counts> {
        let peer = self.at(index)?;
        Some(Counts {
            epoch: peer.cold.epoch,
            acked: peer.outbox.figures().acked,
            total: peer.outbox.counted_total(),
            taken: peer.taken,
            held: peer.outbox.held_bytes(),
            waits_since: peer.tiers.as_ref().and_then(|tiers| tiers.ages.oldest()),
            note: peer.tiers.as_ref().map_or_else(Note::default, |tiers| tiers.note),
        })
    }
}

/// Whether an identity is one of the daemon's own parts.
#[must_use]
pub(crate) fn is_reserved(identity: &str) -> bool {
    identity.starts_with('$')
}

/// The most that goes with a payload: heads, a TOPIC frame with name and schema, a TIME frame.
const MESSAGE_EXTRAS: usize = 400;
