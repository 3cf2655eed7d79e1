//! What was asked of the relay and what it confirmed: requests, topics, counted messages.

use std::collections::HashMap;
use std::sync::Arc;

use fastport_wire::control::{ErrorCode, Tier};
use tokio::sync::oneshot;

use crate::error::Refused;
use crate::subscription::Delivery;

/// What came back for a request.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// STATUS.
    pub(crate) text: Option<String>,
    /// HISTORY.
    pub(crate) past: Vec<Delivery>,
}

pub(crate) type Reply = Result<Answer, Refused>;

#[derive(Default)]
pub(crate) struct Book {
    awaited: HashMap<u32, oneshot::Sender<Reply>>,
    topics: HashMap<Arc<str>, TopicEntry>,
    /// a topic is asked for by the same request after each reconnect
    topic_of: HashMap<u32, Arc<str>>,
    confirmed: [u64; TIERS],
    doubt: [Doubt; TIERS],
    /// of the last counted message
    last_number: u64,
}

struct TopicEntry {
    request: u32,
    state: TopicState,
    schema: Option<Box<[u8]>>,
    tier: Option<Tier>,
}

/// How it stands with a topic to publish on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TopicState {
    /// An OPEN is under way.
    Pending,
    /// Messages can be published.
    Open,
    /// The relay refused.
    Refused(Refused),
}

/// Numbers of which some may never be confirmed: `after < number <= to`.
#[derive(Debug, Clone, Copy, Default)]
struct Doubt {
    after: u64,
    to: u64,
}

impl Book {
    /// A request went out; its answer goes to `reply`.
    pub(crate) fn expect(&mut self, request: u32) -> oneshot::Receiver<Reply> {
        let (reply, answer) = oneshot::channel();
        self.awaited.insert(request, reply);
        answer
    }

    /// Nobody waits for the answer any more.
    pub(crate) fn forget(&mut self, request: u32) {
        self.awaited.remove(&request);
    }

    /// A request for a topic went out.
    pub(crate) fn expect_topic(
        &mut self,
        topic: &Arc<str>,
        request: u32,
        schema: Option<&[u8]>,
        tier: Option<Tier>,
    ) {
        let schema = schema.map(Box::from);
        let entry = TopicEntry { request, state: TopicState::Pending, schema, tier };
        if let Some(old) = self.topics.insert(Arc::clone(topic), entry) {
            self.topic_of.remove(&old.request);
        }
        self.topic_of.insert(request, Arc::clone(topic));
    }

    /// How it stands with a topic; `None`: it was not asked for.
    pub(crate) fn topic(&self, topic: &str) -> Option<&TopicState> {
        self.topics.get(topic).map(|entry| &entry.state)
    }

    /// The schema that a topic was asked for with.
    pub(crate) fn schema(&self, topic: &str) -> Option<&[u8]> {
        self.topics.get(topic)?.schema.as_deref()
    }

    /// Whether a topic was asked for in this way.
    pub(crate) fn is_asked_so(
        &self,
        topic: &str,
        schema: Option<&[u8]>,
        tier: Option<Tier>,
    ) -> bool {
        self.topics.get(topic).is_some_and(|entry| {
            let knows_schema = schema.is_none() || entry.schema.as_deref() == schema;
            knows_schema && (tier.is_none() || entry.tier == tier)
        })
    }

    pub(crate) fn strike_topic(&mut self, topic: &str) {
        if let Some(entry) = self.topics.remove(topic) {
            self.topic_of.remove(&entry.request);
        }
    }

    /// An answer came.
    pub(crate) fn finish(&mut self, request: u32, reply: Reply) {
        let topic = self.topic_of.get(&request).and_then(|topic| self.topics.get_mut(topic));
        if let Some(entry) = topic {
            entry.state = match &reply {
                Ok(_) => TopicState::Open,
                Err(refused) => TopicState::Refused(refused.clone()),
            };
        }
        if let Some(awaiting) = self.awaited.remove(&request) {
            // who asked may have given up
            awaiting.send(reply).unwrap_or_default();
        }
    }

    /// A counted message was published.
    pub(crate) fn note_number(&mut self, number: u64) {
        self.last_number = number;
    }

    /// The number of the last counted message; 0: none yet.
    pub(crate) fn last_number(&self) -> u64 {
        self.last_number
    }

    /// The relay confirmed counted messages up to these numbers.
    pub(crate) fn confirm(&mut self, numbers: [u64; TIERS]) {
        for (confirmed, number) in self.confirmed.iter_mut().zip(numbers) {
            *confirmed = number.max(*confirmed);
        }
    }

    /// The handshake is done. Where the relay has lost its state, what it had taken but not made
    /// durable may be lost with it; what it had not taken is published again.
    pub(crate) fn begin(&mut self, resumed: bool) {
        if resumed {
            return;
        }
        let taken = self.confirmed[Tier::Taken as usize];
        for tier in [Tier::Durable, Tier::Central] {
            self.doubt_between(tier, self.confirmed[tier as usize], taken);
        }
        for entry in self.topics.values_mut() {
            entry.state = TopicState::Pending;
        }
    }

    /// Some of the messages that are not confirmed were not published.
    pub(crate) fn doubt_unconfirmed(&mut self) {
        for tier in [Tier::Taken, Tier::Durable, Tier::Central] {
            self.doubt_between(tier, self.confirmed[tier as usize], self.last_number);
        }
    }

    /// How it stands with the messages `after < number <= to`: `Some(true)` all are where `tier`
    /// says, `Some(false)` some may never be, `None` not yet.
    pub(crate) fn is_confirmed(&self, after: u64, to: u64, tier: Tier) -> Option<bool> {
        let doubt = self.doubt[tier as usize];
        if doubt.after.max(after) < doubt.to.min(to) {
            return Some(false);
        }
        (self.confirmed[tier as usize] >= to).then_some(true)
    }

    /// There will be no link any more: who waits learns it by the channel's end.
    pub(crate) fn close(&mut self) {
        self.awaited.clear();
    }

    fn doubt_between(&mut self, tier: Tier, after: u64, to: u64) {
        if after >= to {
            return;
        }
        let doubt = &mut self.doubt[tier as usize];
        // one range covers several losses: who waited in between asks for later numbers only
        doubt.after = if doubt.to == 0 { after } else { doubt.after.min(after) };
        doubt.to = doubt.to.max(to);
    }
}

impl Refused {
    pub(crate) fn new(code: Option<ErrorCode>, text: Option<&str>) -> Self {
        Self { code, text: text.map(str::to_owned) }
    }
}

const TIERS: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn published(last: u64, confirmed: [u64; TIERS]) -> Book {
        let mut book = Book::default();
        book.note_number(last);
        book.confirm(confirmed);
        book
    }

    #[test]
    fn a_message_is_confirmed_when_its_tier_is() {
        let book = published(10, [9, 5, 0]);
        assert_eq!(book.is_confirmed(0, 9, Tier::Taken), Some(true));
        assert_eq!(book.is_confirmed(0, 10, Tier::Taken), None);
        assert_eq!(book.is_confirmed(0, 5, Tier::Durable), Some(true));
        assert_eq!(book.is_confirmed(0, 6, Tier::Durable), None);
        assert_eq!(book.is_confirmed(0, 1, Tier::Central), None);
    }

    #[test]
    fn what_a_lost_relay_had_only_taken_is_not_called_durable() {
        let mut book = published(10, [9, 5, 0]);
        book.begin(false);
        book.confirm([10, 10, 10]);
        assert_eq!(book.is_confirmed(0, 10, Tier::Taken), Some(true), "10 was published again");
        assert_eq!(book.is_confirmed(0, 5, Tier::Durable), Some(true));
        assert_eq!(book.is_confirmed(5, 6, Tier::Durable), Some(false));
        assert_eq!(book.is_confirmed(9, 10, Tier::Durable), Some(true));
        assert_eq!(book.is_confirmed(0, 10, Tier::Central), Some(false));
    }

    #[test]
    fn a_relay_that_goes_on_leaves_no_doubt() {
        let mut book = published(10, [9, 5, 0]);
        book.begin(true);
        assert_eq!(book.is_confirmed(0, 10, Tier::Durable), None);
        book.confirm([10, 10, 0]);
        assert_eq!(book.is_confirmed(0, 10, Tier::Durable), Some(true));
    }

    #[test]
    fn messages_whose_topic_is_refused_after_a_restart_are_in_doubt() {
        let mut book = published(10, [9, 9, 9]);
        book.doubt_unconfirmed();
        book.confirm([10, 10, 10]);
        assert_eq!(book.is_confirmed(9, 10, Tier::Taken), Some(false));
        assert_eq!(book.is_confirmed(0, 9, Tier::Taken), Some(true));
    }

    #[test]
    fn a_topic_is_refused_open_or_pending_as_the_relay_says() {
        let mut book = Book::default();
        let topic: Arc<str> = "a".into();
        book.expect_topic(&topic, 1, None, None);
        assert_eq!(book.topic("a"), Some(&TopicState::Pending));
        book.finish(1, Ok(Answer::default()));
        assert_eq!(book.topic("a"), Some(&TopicState::Open));
        book.begin(false);
        assert_eq!(book.topic("a"), Some(&TopicState::Pending));
        let refused = Refused::new(Some(ErrorCode::Forbidden), None);
        book.finish(1, Err(refused.clone()));
        assert_eq!(book.topic("a"), Some(&TopicState::Refused(refused)));
    }
}
