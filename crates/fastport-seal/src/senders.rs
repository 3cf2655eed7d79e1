//! Whose messages were opened, and which of them came.

use crate::key::{KeyId, Scope, SenderId};
use crate::suite::OpeningSuite;
use crate::window::Window;

/// A sender that has proven itself by a message. Its keys are erased when it is dropped.
pub struct Known<B> {
    key: KeyId,
    sender: SenderId,
    pub(crate) suite: OpeningSuite,
    pub(crate) window: Window<B>,
}

impl<B: AsRef<[u64]> + AsMut<[u64]>> Known<B> {
    pub(crate) fn new(scope: &Scope, sender: SenderId, bits: B) -> Self {
        let suite = OpeningSuite::new(&scope.sender(sender));
        Self { key: scope.key, sender, suite, window: Window::new(bits) }
    }

    /// With which key it seals.
    pub fn key(&self) -> KeyId {
        self.key
    }

    /// Who it is.
    pub fn sender(&self) -> SenderId {
        self.sender
    }
}

/// The senders that are known. What implements it has a bound: only members of a session become
/// known, but a member can be as many senders as it likes. A sender that is forgotten can be replayed.
pub trait Senders {
    /// The bits of a window: an array, or what is allocated. 64 of each word.
    type Bits: AsRef<[u64]> + AsMut<[u64]>;

    /// Bits for the window of a new sender.
    fn bits(&self) -> Self::Bits;

    /// The sender with that key and id.
    fn find(&mut self, key: KeyId, sender: SenderId) -> Option<&mut Known<Self::Bits>>;

    /// Takes a sender in that was not found; whether there was room.
    fn add(&mut self, known: Known<Self::Bits>) -> bool;
}

/// Up to `N` senders with windows of 64 times `WORDS` messages, without alloc.
pub struct Few<const N: usize, const WORDS: usize>([Option<Known<[u64; WORDS]>>; N]);

impl<const N: usize, const WORDS: usize> Few<N, WORDS> {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self([const { None }; N])
    }
}

impl<const N: usize, const WORDS: usize> Default for Few<N, WORDS> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize, const WORDS: usize> Senders for Few<N, WORDS> {
    type Bits = [u64; WORDS];

    fn bits(&self) -> Self::Bits {
        [0; WORDS]
    }

    fn find(&mut self, key: KeyId, sender: SenderId) -> Option<&mut Known<Self::Bits>> {
        self.0.iter_mut().flatten().find(|known| (known.key, known.sender) == (key, sender))
    }

    fn add(&mut self, known: Known<Self::Bits>) -> bool {
        let free = self.0.iter_mut().find(|place| place.is_none());
        free.map(|place| *place = Some(known)).is_some()
    }
}
