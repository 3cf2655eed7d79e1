//! What a session knows of one peer.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use fastport_wire::control::{Tier, WhenFull};
use fastport_wire::{Filter, Topic as TopicName, TopicId};

use super::own::Note;
use super::relayed::Relayed;
use super::shed::Sheds;
use super::topics::Topics;
use crate::ages::Ages;
use crate::outbox::Outbox;
use crate::rights::Rights;
use crate::time::{Instant, NOT_KNOWN};

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) outbox: Outbox,
    pub(super) link: Link,
    pub(super) cold: Box<Cold>,
    pub(super) rights: Arc<Rights>,
    pub(super) flags: u32,
    /// Counted frames of the epoch that came from the peer.
    pub(super) taken: u64,
    /// What tiers beyond memory hold; most peers have none of it.
    pub(super) tiers: Option<Box<Tiers>>,
    /// It is not told yet of all that is here of its frames.
    pub(super) owes_ack: bool,
    /// Its ACK has a time by which it goes out.
    pub(super) has_ack_time: bool,
    /// It was asked to acknowledge, and has not yet.
    pub(super) is_asked_for_ack: bool,
    /// What it was not told of, see [`super::acks`].
    pub(super) unacked_weight: u32,
    pub(super) is_woken: bool,
    pub(super) is_blocked: bool,
    /// The peer's state ends with its link.
    pub(super) is_leaving: bool,
    /// It has sent something, and so read the WELCOME that said whether its state was still here.
    /// Before that it may take this state for the one it had.
    pub(super) is_known: bool,
    /// One of the daemon's own parts: it is trusted, and waited for.
    pub(super) is_own: bool,
    /// The count of an ACK that was taken out of the order of the link's bytes.
    pub(super) acked_ahead: u64,
    /// Counts the links: a topic announced on an earlier one is announced again. Never 0.
    pub(super) announced: u16,
    /// The clock of the last TIME frame; [`NOT_KNOWN`] is as good as none.
    pub(super) last_time: u64,
    /// Bytes written to its links, for telling whether one has stalled: it wraps.
    pub(super) written: u32,
    /// Sorted.
    pub(super) open_topics: Box<[TopicId]>,
}

/// What of a peer no message asks for. Apart, since tokio's parts of a link are aligned to 128 bytes:
/// with these 104 bytes at most lie in the holes between them, and 232 of the rest between two.
#[derive(Debug)]
pub(super) struct Cold {
    pub(super) identity: Box<str>,
    pub(super) name: Box<str>,
    pub(super) epoch: u64,
    /// Tells this state from any other that has its place before or after.
    pub(super) serial: u64,
    /// Seconds; 0: none.
    pub(super) keepalive: u32,
    /// Seconds; 0: the peer's state ends with its link.
    pub(super) linger: u32,
    /// `written` at the last look, when something was waiting then.
    written_then: Option<u32>,
    /// Since when nothing of what was waiting then is written.
    stalled_since: Instant,
    pub(super) subscriptions: Subscriptions,
}

/// What a publisher's frames and a member's commits have to do with tiers beyond memory.
#[derive(Debug, Default)]
pub(super) struct Tiers {
    /// Of the counted frames that came from the peer, what members have made durable.
    pub(super) durable: Held,
    /// Of them, what the central instance holds.
    pub(super) central: Held,
    /// Of a member: which publishers' frames its next commits cover, oldest first.
    pub(super) marks: VecDeque<Mark>,
    /// Of a member: `counted_total` of its outbox before the run at hand.
    pub(super) counted_before: u64,
    /// Of a gateway: what it said of the messages it passes on.
    pub(super) relayed: Option<Box<Relayed>>,
    /// Of a member: what it was handed to hold elsewhere and has not confirmed, sorted by
    /// publisher.
    pub(super) handed: Vec<Handed>,
    /// Of one of the daemon's own parts: what it wants to find again.
    pub(super) note: Note,
    /// Of one of the daemon's own parts: what it lets go of when it is full.
    pub(super) sheds: Option<Sheds>,
    /// Of the counted frames to it, how many earlier links may have written.
    pub(super) sent: u64,
    /// Since when they wait, as far as was looked at.
    pub(super) ages: Ages,
}

impl Tiers {
    pub(super) fn held_mut(&mut self, tier: Tier) -> &mut Held {
        match tier {
            Tier::Central => &mut self.central,
            _ => &mut self.durable,
        }
    }
}

/// How many of a publisher's counted frames a tier holds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Held {
    /// All up to this one, by all members of the tier: what the publisher is told.
    pub(super) count: u64,
    /// The furthest that some member holds.
    pub(super) furthest: u64,
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

/// A peer's subscriptions. Most have one, and then it lies here.
#[derive(Debug)]
pub(super) enum Subscriptions {
    One(Subscription),
    /// None, or some.
    Many(Box<[Subscription]>),
}

impl Default for Subscriptions {
    fn default() -> Self {
        Self::Many(Box::default())
    }
}

impl Subscriptions {
    pub(super) fn as_slice(&self) -> &[Subscription] {
        match self {
            Self::One(one) => core::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [Subscription] {
        match self {
            Self::One(one) => core::slice::from_mut(one),
            Self::Many(many) => many,
        }
    }

    pub(super) fn take(&mut self) -> Vec<Subscription> {
        match core::mem::take(self) {
            Self::One(one) => [one].into(),
            Self::Many(many) => many.into_vec(),
        }
    }

    pub(super) fn push(&mut self, subscription: Subscription) {
        let mut all = self.take();
        all.reserve_exact(1);
        all.push(subscription);
        *self = all.into();
    }
}

impl From<Vec<Subscription>> for Subscriptions {
    fn from(all: Vec<Subscription>) -> Self {
        match <[Subscription; 1]>::try_from(all) {
            Ok([one]) => Self::One(one),
            Err(all) => Self::Many(all.into_boxed_slice()),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subscription {
    selects: Selects,
    pub(super) no_local: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Selects {
    /// The topic that it names. Who subscribes to one reads it, so it is there for as long.
    Topic(TopicId),
    /// Of more topics than one.
    Filter(Box<str>),
}

impl Subscription {
    /// `named` is the topic that the filter names, if it does.
    pub(super) fn new(filter: Filter<'_>, named: Option<TopicId>, no_local: bool) -> Self {
        let selects = match named {
            Some(id) => Selects::Topic(id),
            None => Selects::Filter(filter.as_str().into()),
        };
        Self { selects, no_local }
    }

    /// Whether it is the one with that filter, which names the topic `named`, or none that there is.
    pub(super) fn is_for(&self, filter: Filter<'_>, named: Option<TopicId>) -> bool {
        match &self.selects {
            Selects::Topic(id) => named == Some(*id),
            Selects::Filter(own) => **own == *filter.as_str(),
        }
    }

    /// Whether it selects the topic. Who has thousands has them by name: those cost a comparison.
    fn selects(&self, topic: Option<TopicId>, name: TopicName<'_>) -> bool {
        match &self.selects {
            Selects::Topic(id) => topic == Some(*id),
            Selects::Filter(own) => Filter::parse(own).is_ok_and(|own| own.matches(name)),
        }
    }

    /// What it is charged with.
    pub(super) fn charge(&self) -> usize {
        let text = match &self.selects {
            Selects::Topic(_) => 0,
            Selects::Filter(own) => own.len(),
        };
        size_of::<Self>() + text + SUBSCRIPTION_OVERHEAD
    }

    /// The topic that it names.
    pub(super) fn named(&self) -> Option<TopicId> {
        match self.selects {
            Selects::Topic(id) => Some(id),
            Selects::Filter(_) => None,
        }
    }

    /// The filter; `None` cannot be, since only well-formed ones get in.
    pub(super) fn filter<'a>(&'a self, topics: &'a Topics) -> Option<Filter<'a>> {
        let text = match &self.selects {
            Selects::Topic(id) => &*topics.get(*id)?.name,
            Selects::Filter(own) => own,
        };
        Filter::parse(text).ok()
    }
}

/// A member has the publisher's frames from `from` on to `to`, or some of them, outside the session,
/// and has still to confirm them. from < to
#[derive(Debug, Clone, Copy)]
pub(super) struct Handed {
    pub(super) publisher: u32,
    /// The publisher's, as in [`Mark`].
    pub(super) serial: u64,
    pub(super) from: u64,
    pub(super) to: u64,
}

/// The last `length` of a publisher's first `count` counted frames are the last of the first `at`
/// that a member gets: it holds them once it has committed so many. Where `length` is 0 they were dropped,
/// and nobody waits for them any more then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    pub(super) at: u64,
    pub(super) length: u64,
    pub(super) count: u64,
    pub(super) publisher: u32,
    /// The publisher's, lest another peer has its place by then.
    pub(super) serial: u64,
    pub(super) tier: Tier,
}

impl Mark {
    /// The part of it that lies within the first `count` frames that the member gets.
    pub(super) fn split(&self, count: u64) -> Option<Self> {
        let left = self.at.saturating_sub(count);
        let length = self.length.checked_sub(left).filter(|&length| length > 0)?;
        Some(Self { at: self.at - left, count: self.count - left, length, ..*self })
    }

    /// Whether both are of frames that were dropped, of one publisher.
    pub(super) fn is_over_like(&self, other: &Self) -> bool {
        self.length == 0
            && other.length == 0
            && (self.publisher, self.serial, self.tier)
                == (other.publisher, other.serial, other.tier)
    }

    /// Takes `next` in where it follows without anything between.
    pub(super) fn extend(&mut self, next: &Self) -> bool {
        let is_next = (self.publisher, self.serial, self.tier)
            == (next.publisher, next.serial, next.tier)
            && self.length > 0
            && next.length > 0
            && self.at + next.length == next.at
            && self.count + next.length == next.count;
        if is_next {
            (self.at, self.count, self.length) = (next.at, next.count, self.length + next.length);
        }
        is_next
    }
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
            cold: Box::new(Cold {
                identity,
                name,
                epoch: 0,
                serial: 0,
                keepalive: 0,
                linger: 0,
                written_then: None,
                stalled_since: now,
                subscriptions: Subscriptions::default(),
            }),
            rights,
            flags: 0,
            taken: 0,
            tiers: None,
            owes_ack: false,
            has_ack_time: false,
            is_asked_for_ack: false,
            unacked_weight: 0,
            is_woken: false,
            is_blocked: false,
            is_leaving: false,
            is_known: false,
            is_own: false,
            acked_ahead: 0,
            announced: 1,
            last_time: NOT_KNOWN,
            written: 0,
            open_topics: Box::default(),
        }
    }

    /// For how long nothing was written of what waits, as far as this was looked at.
    pub(super) fn stalled_ms(&mut self, now: Instant) -> u64 {
        let waits = self.outbox.unsent() > 0;
        if !waits || self.cold.written_then != Some(self.written) {
            self.cold.stalled_since = now;
        }
        self.cold.written_then = waits.then_some(self.written);
        now.since(self.cold.stalled_since)
    }

    /// Whether a subscription selects the topic, and if so, whether all that do want nothing of the
    /// peer's own.
    pub(super) fn reads_no_local(
        &self,
        topic: Option<TopicId>,
        name: TopicName<'_>,
    ) -> Option<bool> {
        no_local(self.cold.subscriptions.as_slice(), topic, name)
    }

    /// Whether all subscriptions want nothing of the peer's own, or none: which ones select a topic
    /// does not matter then. `None`: it does.
    pub(super) fn common_no_local(&self) -> Option<bool> {
        let subscriptions = self.cold.subscriptions.as_slice();
        let first = subscriptions.first()?.no_local;
        let is_common = subscriptions.iter().all(|known| known.no_local == first);
        is_common.then_some(first)
    }

    pub(super) fn tiers_mut(&mut self) -> &mut Tiers {
        self.tiers.get_or_insert_default()
    }

    /// How many of the peer's counted frames a tier beyond memory holds.
    pub(super) fn held(&self, tier: Tier) -> u64 {
        self.tiers.as_ref().map_or(0, |tiers| match tier {
            Tier::Central => tiers.central.count,
            _ => tiers.durable.count,
        })
    }

    /// Of a member: whether it has frames to commit of which publishers wait to be told.
    pub(super) fn has_marks(&self) -> bool {
        self.tiers.as_ref().is_some_and(|tiers| !tiers.marks.is_empty())
    }

    pub(super) fn has_open(&self, id: TopicId) -> bool {
        self.open_topics.binary_search(&id).is_ok()
    }

    /// Notes that the peer has a topic open, which it had not.
    pub(super) fn note_open(&mut self, id: TopicId) {
        let mut open = core::mem::take(&mut self.open_topics).into_vec();
        open.reserve_exact(1);
        open.insert(open.partition_point(|&open| open < id), id);
        self.open_topics = open.into_boxed_slice();
    }

    /// Notes that the peer no longer has a topic open; whether it had.
    pub(super) fn note_closed(&mut self, id: TopicId) -> bool {
        let Ok(at) = self.open_topics.binary_search(&id) else { return false };
        let mut open = core::mem::take(&mut self.open_topics).into_vec();
        open.remove(at);
        self.open_topics = open.into_boxed_slice();
        true
    }

    pub(super) fn open_topics_charge(&self) -> usize {
        self.open_topics.len() * size_of::<TopicId>()
    }
}

/// Whether one of the subscriptions selects the topic, and if so, whether all that do want nothing
/// of the peer's own.
pub(super) fn no_local(
    subscriptions: &[Subscription],
    topic: Option<TopicId>,
    name: TopicName<'_>,
) -> Option<bool> {
    let mut selecting =
        subscriptions.iter().filter(|subscription| subscription.selects(topic, name)).peekable();
    selecting.peek()?;
    Some(selecting.all(|subscription| subscription.no_local))
}

/// Its place in the tree of filters, if it has one.
const SUBSCRIPTION_OVERHEAD: usize = 96;

#[cfg(test)]
mod tests {
    use super::*;

    /// Times ten thousand.
    #[test]
    #[cfg(target_pointer_width = "64")]
    fn a_peers_parts_fit_where_memory_is_left_between_others() {
        let (hot, cold) = (size_of::<Peer>(), size_of::<Cold>());
        assert!(hot <= 232 && cold <= 104, "{hot} {cold}");
    }
}
