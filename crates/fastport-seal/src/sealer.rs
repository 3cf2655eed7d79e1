//! Sealing a sender's messages.

use crate::content::Content;
use crate::counters::Counters;
use crate::error::SealError;
use crate::head::{Head, MESSAGE_HEAD, Shape, padded, sealed_len};
use crate::key::{KeyId, Scope, SenderId};
use crate::stream::StreamSealer;
use crate::suite::{SealingSuite, TAG};

/// Seals one sender's messages. Its keys are erased when it is dropped.
pub struct Sealer {
    scope: Scope,
    sender: SenderId,
    suite: SealingSuite,
    counters: Counters,
}

/// What was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealed {
    /// Its bytes, from the buffer's first.
    pub len: usize,
    /// Its number among the sender's.
    pub counter: u64,
}

impl Sealer {
    /// Seals as `sender`; `written` is the last [`Sealer::wants`] that an earlier life of it wrote
    /// down, or 0. A sender whose `written` is lost must have a new id.
    #[must_use]
    pub fn new(scope: &Scope, sender: SenderId, written: u64) -> Self {
        let suite = SealingSuite::new(&scope.sender(sender));
        Self { scope: scope.clone(), sender, suite, counters: Counters::new(written) }
    }

    /// With which key it seals.
    #[must_use]
    pub fn key(&self) -> KeyId {
        self.scope.key
    }

    /// As who.
    #[must_use]
    pub fn sender(&self) -> SenderId {
        self.sender
    }

    /// As [`Counters::wants`].
    #[must_use]
    pub fn wants(&self) -> Option<u64> {
        self.counters.wants()
    }

    /// As [`Counters::reserved`].
    pub fn reserved(&mut self, up_to: u64) {
        self.counters.reserved(up_to);
    }

    /// Seals the `plain` bytes that lie in `buffer` behind [`MESSAGE_HEAD`] others, in place: the
    /// first [`Sealed::len`] bytes are then the payload to send.
    ///
    /// # Errors
    /// [`SealError`]; the buffer is then as it was.
    pub fn seal(
        &mut self,
        content: Content<'_>,
        buffer: &mut [u8],
        plain: usize,
    ) -> Result<Sealed, SealError> {
        let needs = sealed_len(plain);
        let buffer = buffer.get_mut(..needs).ok_or(SealError::NoRoom { needs })?;
        let counter = self.counters.take()?;
        let place = self.scope.place(content);
        let head = Head {
            key: self.scope.key,
            session: self.scope.session,
            hint: [place[0], place[1]],
            sender: self.sender,
            counter,
        };
        let head = head.encode(Shape::of(plain).encode());
        let (front, rest) = buffer.split_at_mut(MESSAGE_HEAD);
        let (body, end) = rest.split_at_mut(padded(plain));
        front.copy_from_slice(&head);
        body[plain..].fill(0);
        end[..TAG].copy_from_slice(&self.suite.seal(counter, &[&place, &head], body));
        Ok(Sealed { len: needs, counter })
    }

    /// Seals what the offer of a stream says of it, as [`Sealer::seal`] does, and gives what seals
    /// the stream's chunks. An offer that is sealed again begins another stream.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal_offer(
        &mut self,
        topic: &str,
        buffer: &mut [u8],
        plain: usize,
    ) -> Result<(Sealed, StreamSealer), SealError> {
        let sealed = self.seal(Content::offer(topic), buffer, plain)?;
        let keys = self.scope.stream(self.sender, sealed.counter);
        Ok((sealed, StreamSealer::new(&keys)))
    }
}
