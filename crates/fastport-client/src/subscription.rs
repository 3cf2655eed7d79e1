//! What a subscription has received and its owner not yet taken.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use fastport_seal::SenderId;
use fastport_wire::frame::{DataFlags, GapCause};
use futures_util::Stream;

use crate::client::Client;
use crate::options::WhenSlow;
use crate::seal::NotOpened;
use crate::shared::Shared;

/// A message.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The topic's name.
    pub topic: Arc<str>,
    /// What was published. It shares memory with what came with it: copy it to keep it for long.
    pub payload: Bytes,
    /// Counted, keep, readings; sealed, where there was no key to open it.
    pub flags: DataFlags,
    /// Who says to have sealed it, where it was sealed and is opened. Any member of the session can
    /// say to be any other.
    pub sealed_by: Option<SenderId>,
    /// The relay's clock when the message came to it, in milliseconds since 1970; where
    /// [`crate::Options::times`] is set.
    pub unix_ms: Option<u64>,
    /// The schema of the topic's readings, encoded ([`fastport_wire::Schema`]).
    pub schema: Option<Arc<[u8]>>,
}

/// What comes out of a [`Subscription`].
#[derive(Debug, Clone)]
pub enum Incoming {
    /// A message.
    Message(Delivery),
    /// Messages that will not come.
    Gap {
        /// Of that topic; `None`: of several.
        topic: Option<Arc<str>>,
        /// How many.
        count: u64,
        /// Why.
        cause: GapCause,
    },
    /// A message that came, and is refused: it does not open, or is not sealed and should be. Where
    /// [`crate::Options::seal`] is set.
    NotOpened {
        /// Its topic.
        topic: Arc<str>,
        /// Why.
        cause: NotOpened,
    },
}

impl Incoming {
    /// The message, if it is one.
    #[must_use]
    pub fn into_message(self) -> Option<Delivery> {
        match self {
            Self::Message(delivery) => Some(delivery),
            Self::Gap { .. } | Self::NotOpened { .. } => None,
        }
    }

    fn charge(&self) -> usize {
        let payload = match self {
            Self::Message(delivery) => delivery.payload.len(),
            Self::Gap { .. } | Self::NotOpened { .. } => 0,
        };
        payload + ITEM_BYTES
    }
}

/// Messages and gaps, in order. Dropping it ends the subscription.
pub struct Subscription {
    intake: Intake,
    /// a subscription keeps its client alive
    _client: Client,
}

impl Subscription {
    pub(crate) fn new(intake: Intake, client: Client) -> Self {
        Self { intake, _client: client }
    }

    /// The next message or gap; `None` when there is no link any more and there will be none.
    /// Cancel-safe: what is not returned is returned next time.
    pub async fn next(&mut self) -> Option<Incoming> {
        self.intake.next().await
    }

    /// The next message or gap, if there is one already.
    pub fn try_next(&mut self) -> Option<Incoming> {
        self.intake.try_next()
    }
}

impl Stream for Subscription {
    type Item = Incoming;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Incoming>> {
        self.intake.poll_next(cx)
    }
}

/// The owner's end of a queue.
pub(crate) struct Intake {
    shared: Arc<Shared>,
    id: u64,
    queue: Arc<Queue>,
    /// taken from the queue at once, given out one by one
    at_hand: VecDeque<Incoming>,
}

impl Intake {
    pub(crate) fn new(shared: Arc<Shared>, id: u64, queue: Arc<Queue>) -> Self {
        Self { shared, id, queue, at_hand: VecDeque::new() }
    }

    pub(crate) async fn next(&mut self) -> Option<Incoming> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn try_next(&mut self) -> Option<Incoming> {
        if self.at_hand.is_empty() {
            self.refill();
        }
        self.at_hand.pop_front()
    }

    fn poll_next(&mut self, cx: &Context<'_>) -> Poll<Option<Incoming>> {
        if let Some(item) = self.at_hand.pop_front() {
            return Poll::Ready(Some(item));
        }
        let is_closed = self.refill();
        match self.at_hand.pop_front() {
            Some(item) => return Poll::Ready(Some(item)),
            None if is_closed => return Poll::Ready(None),
            None => {}
        }
        let mut inner = self.queue.lock();
        // what came since the refill
        if !inner.items.is_empty() || inner.is_closed {
            drop(inner);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        inner.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Takes all there is; whether nothing will follow.
    fn refill(&mut self) -> bool {
        let mut inner = self.queue.lock();
        std::mem::swap(&mut inner.items, &mut self.at_hand);
        inner.bytes = 0;
        let dropped = std::mem::take(&mut inner.dropped);
        let was_full = std::mem::take(&mut inner.is_awaited);
        let is_closed = inner.is_closed;
        drop(inner);
        if dropped > 0 {
            let gap = Incoming::Gap { topic: None, count: dropped, cause: GapCause::Overflow };
            self.at_hand.push_front(gap);
        }
        if was_full {
            self.shared.wake_driver();
        }
        is_closed
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        self.shared.unsubscribe(self.id);
    }
}

/// Between the link's task and a subscription's owner.
pub(crate) struct Queue {
    inner: Mutex<Inner>,
    limit: usize,
    when_slow: WhenSlow,
}

#[derive(Default)]
struct Inner {
    items: VecDeque<Incoming>,
    /// what `items` are charged with
    bytes: usize,
    /// dropped before the first of `items`
    dropped: u64,
    /// the owner waits
    waker: Option<Waker>,
    /// the link's task waits for room
    is_awaited: bool,
    is_closed: bool,
}

impl Queue {
    pub(crate) fn new(limit: usize, when_slow: WhenSlow) -> Self {
        Self { inner: Mutex::default(), limit, when_slow }
    }

    /// Puts all of `batch` in, and wakes the owner.
    pub(crate) fn push_all(&self, batch: &mut Vec<Incoming>) {
        let mut inner = self.lock();
        for item in batch.drain(..) {
            inner.bytes += item.charge();
            inner.items.push_back(item);
        }
        while self.when_slow == WhenSlow::DropOldest && inner.bytes > self.limit {
            let Some(oldest) = inner.items.pop_front() else { break };
            inner.bytes -= oldest.charge();
            inner.dropped += match oldest {
                Incoming::Message(_) | Incoming::NotOpened { .. } => 1,
                Incoming::Gap { count, .. } => count,
            };
        }
        let waker = inner.waker.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Whether nothing should be read for now; the link's task is then woken when that changes.
    pub(crate) fn is_full(&self) -> bool {
        let mut inner = self.lock();
        let is_full = self.when_slow == WhenSlow::Wait && inner.bytes >= self.limit;
        inner.is_awaited |= is_full;
        is_full
    }

    /// Nothing will follow.
    pub(crate) fn close(&self) {
        let mut inner = self.lock();
        inner.is_closed = true;
        let waker = inner.waker.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    #[cfg(test)]
    pub(crate) fn drain(&self) -> Vec<Incoming> {
        self.lock().items.drain(..).collect()
    }

    #[cfg(test)]
    pub(crate) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // nobody panics while holding it; what it guards is whole between statements
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a message takes in a queue beside its payload.
const ITEM_BYTES: usize = size_of::<Incoming>();
