//! What a session knows of one peer.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use fastport_wire::control::{Tier, WhenFull};
use fastport_wire::{Filter, TopicId};

use crate::outbox::Outbox;
use crate::rights::Rights;
use crate::time::Instant;

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) outbox: Outbox,
    pub(super) link: Link,
    pub(super) identity: Box<str>,
    pub(super) name: Box<str>,
    pub(super) rights: Arc<Rights>,
    pub(super) epoch: u64,
    pub(super) flags: u32,
    /// Seconds; 0: none.
    pub(super) keepalive: u32,
    /// Seconds; 0: the peer's state ends with its link.
    pub(super) linger: u32,
    /// Counted frames of the epoch that came from the peer.
    pub(super) taken: u64,
    /// Of them, what members have made durable.
    pub(super) durable: u64,
    /// Of them, what the central instance holds.
    pub(super) central: u64,
    /// An ACK is due at the end of the bytes at hand.
    pub(super) owes_ack: bool,
    pub(super) is_woken: bool,
    pub(super) is_blocked: bool,
    /// The peer's state ends with its link.
    pub(super) is_leaving: bool,
    /// Counts the links: a topic announced on an earlier one is announced again. Never 0.
    pub(super) announced: u16,
    /// The clock of the last TIME frame.
    pub(super) last_time: Option<u64>,
    /// Bytes written to its links, for telling whether one has stalled.
    pub(super) written: u64,
    /// `written` at the first look that found the link without progress since, and when that was;
    /// none while nothing waits.
    pub(super) stuck: Option<(u64, Instant)>,
    pub(super) subscriptions: Vec<Subscription>,
    /// Sorted.
    pub(super) open_topics: Vec<TopicId>,
    /// Of a member: which publishers' frames its next commits cover, oldest first.
    pub(super) marks: VecDeque<Mark>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    Attached {
        /// When bytes came last.
        heard: Instant,
        /// A PING has gone out since.
        is_asked: bool,
    },
    /// The link is to be closed once its output is written.
    Closing,
    /// The link is gone; the peer may come back.
    Lingering { until: Instant },
}

impl Link {
    pub(super) const fn attached(now: Instant) -> Self {
        Self::Attached { heard: now, is_asked: false }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subscription {
    pub(super) filter: Box<str>,
    pub(super) no_local: bool,
}

impl Subscription {
    /// What it is charged with.
    pub(super) fn charge(&self) -> usize {
        size_of::<Self>() + self.filter.len() + SUBSCRIPTION_OVERHEAD
    }

    /// The filter; `None` cannot be, since only well-formed ones get in.
    pub(super) fn filter(&self) -> Option<Filter<'_>> {
        Filter::parse(&self.filter).ok()
    }
}

/// A publisher's frames up to `count` are held by a member once it has committed `at`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    pub(super) at: u64,
    pub(super) publisher: u32,
    /// The publisher's, lest another peer has its place by then.
    pub(super) epoch: u64,
    pub(super) count: u64,
    pub(super) tier: Tier,
}

impl Peer {
    pub(super) fn new(
        identity: Box<str>,
        name: Box<str>,
        rights: Arc<Rights>,
        now: Instant,
    ) -> Self {
        Self {
            outbox: Outbox::new(0, WhenFull::DropOldest, false),
            link: Link::attached(now),
            identity,
            name,
            rights,
            epoch: 0,
            flags: 0,
            keepalive: 0,
            linger: 0,
            taken: 0,
            durable: 0,
            central: 0,
            owes_ack: false,
            is_woken: false,
            is_blocked: false,
            is_leaving: false,
            announced: 1,
            last_time: None,
            written: 0,
            stuck: None,
            subscriptions: Vec::new(),
            open_topics: Vec::new(),
            marks: VecDeque::new(),
        }
    }

    pub(super) fn has_open(&self, id: TopicId) -> bool {
        self.open_topics.binary_search(&id).is_ok()
    }

    pub(super) fn open_topics_charge(&self) -> usize {
        self.open_topics.len() * size_of::<TopicId>()
    }
}

/// Its place in the tree of filters, or in its topic's list of readers.
const SUBSCRIPTION_OVERHEAD: usize = 96;
