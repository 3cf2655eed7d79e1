//! What only a peer says that carries the messages of others: an uplink.

use fastport_wire::frame::{DataFlags, GapCause};
use fastport_wire::{Frame, TopicId};

use super::{ACK_DELAY_MS, ACK_WEIGHT, Client, MESSAGE_WEIGHT, PublishError};
use crate::time::Instant;

impl Client {
    /// As [`Client::publish`], on a topic that is open under `id` ([`super::Event::Done`]); `clock` is
    /// when the message was taken, told where it differs from what was told before.
    ///
    /// # Errors
    /// [`PublishError`]; the message is then not published.
    pub fn publish_on(
        &mut self,
        id: TopicId,
        clock: Option<u64>,
        flags: DataFlags,
        payload: &[u8],
    ) -> Result<u64, PublishError> {
        if payload.len() > self.payload_limit {
            return Err(PublishError::TooLong);
        }
        let clock = clock.filter(|_| clock != self.told_clock);
        self.put_message(id, flags, payload, clock)
    }

    /// Tells of messages of an open topic that will not come.
    pub fn tell_gap(&mut self, id: TopicId, count: u64, cause: GapCause) {
        self.push(&Frame::Gap { topic: Some(id), count, cause });
    }

    /// Asks for a sign of life, which comes as [`super::Event::Pong`] with the same token.
    pub fn ping(&mut self, token: &[u8]) {
        self.push(&Frame::Ping { token });
    }

    /// Says that the first `count` counted frames of the epoch that came are safe here; see
    /// [`super::Options::confirms`].
    pub fn confirm(&mut self, now: Instant, count: u64) {
        let count = count.min(self.taken);
        let newly = count.saturating_sub(self.confirmed);
        if newly == 0 {
            return;
        }
        self.confirmed = count;
        let newly = usize::try_from(newly).unwrap_or(usize::MAX);
        let weight = newly.saturating_mul(MESSAGE_WEIGHT);
        self.unacked_weight = self.unacked_weight.saturating_add(weight);
        if self.unacked_weight >= ACK_WEIGHT {
            self.send_ack();
        } else if self.ack_due.is_none() {
            self.ack_due = Some(now.after(ACK_DELAY_MS));
        }
    }

    /// Bytes of messages that wait for the link or for an acknowledgement.
    #[must_use]
    pub fn held_bytes(&mut self) -> usize {
        self.options.outbox.saturating_sub(self.outbox.room(&mut self.ledger))
    }

    /// How many of the counted frames that came the relay may be told of.
    pub(super) fn reported(&self) -> u64 {
        if self.options.confirms { self.confirmed } else { self.taken }
    }
}
