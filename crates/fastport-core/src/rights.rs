//! What an identity may publish and read.

use alloc::boxed::Box;
use alloc::vec::Vec;

use fastport_wire::topic::TopicError;
use fastport_wire::{Filter, Topic};

/// Filters for publishing and for reading. Nobody but the daemon publishes on `$` topics.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rights {
    publish: Vec<Box<str>>,
    /// the first that selects a topic says whether it may be read
    read: Vec<(Box<str>, bool)>,
    is_gateway: bool,
}

impl Rights {
    /// Rights by filters.
    ///
    /// # Errors
    /// [`TopicError`] of the first text that is not a filter.
    pub fn new<'a>(
        publish: impl IntoIterator<Item = &'a str>,
        read: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, TopicError> {
        let check = |text: &str| Filter::parse(text).map(|filter| filter.as_str().into());
        Ok(Self {
            publish: publish.into_iter().map(check).collect::<Result<_, _>>()?,
            read: read
                .into_iter()
                .map(|text| check(text).map(|filter| (filter, true)))
                .collect::<Result<_, _>>()?,
            is_gateway: false,
        })
    }

    /// As [`Rights::new`], where of the filters for reading the first that selects a topic says
    /// whether it may be read.
    ///
    /// # Errors
    /// As [`Rights::new`].
    pub fn in_order<'a>(
        publish: impl IntoIterator<Item = &'a str>,
        read: impl IntoIterator<Item = (&'a str, bool)>,
    ) -> Result<Self, TopicError> {
        let mut rights = Self::new(publish, [])?;
        for (text, allows) in read {
            rights.read.push((Filter::parse(text)?.as_str().into(), allows));
        }
        Ok(rights)
    }

    /// The same for a gateway: what it publishes it has taken from others, so it may say when that
    /// was, and what of it will not come.
    #[must_use]
    pub fn of_gateway(self) -> Self {
        Self { is_gateway: true, ..self }
    }

    /// Whether they are a gateway's.
    #[must_use]
    pub fn is_gateway(&self) -> bool {
        self.is_gateway
    }

    /// Everything that a peer can be allowed: all topics, and reading the daemon's own.
    #[must_use]
    pub fn everything() -> Self {
        Self {
            publish: [Box::from("#")].into(),
            read: [(Box::from("#"), true), (Box::from("$board/#"), true)].into(),
            is_gateway: false,
        }
    }

    /// Whether publishing on `topic` is allowed.
    #[must_use]
    pub fn may_publish(&self, topic: Topic<'_>) -> bool {
        let mut filters = self.publish.iter().filter_map(|text| Filter::parse(text).ok());
        !topic.is_reserved() && filters.any(|filter| filter.matches(topic))
    }

    /// Whether reading `topic` is allowed.
    #[must_use]
    pub fn may_read(&self, topic: Topic<'_>) -> bool {
        let first = self.reading().find(|(filter, _)| filter.matches(topic));
        first.is_some_and(|(_, allows)| allows)
    }

    /// Whether some topic that `wanted` selects may be read.
    #[must_use]
    pub fn may_subscribe(&self, wanted: Filter<'_>) -> bool {
        self.reading().any(|(filter, allows)| allows && filter.overlaps(wanted))
    }

    fn reading(&self) -> impl Iterator<Item = (Filter<'_>, bool)> {
        // checked when the rights were made, so none is left out
        self.read.iter().filter_map(|(text, allows)| Some((Filter::parse(text).ok()?, *allows)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str) -> Topic<'_> {
        Topic::parse(name).expect("a topic")
    }

    #[test]
    fn the_daemons_topics_are_read_only() {
        let rights = Rights::everything();
        assert!(rights.may_read(topic("$board/load")));
        assert!(!rights.may_publish(topic("$board/load")));
        let greedy = Rights::new(["$board/#"], []).expect("filters");
        assert!(!greedy.may_publish(topic("$board/load")));
    }

    #[test]
    fn the_first_filter_in_order_says_whether_a_topic_may_be_read() {
        let read = [("alarm/test", true), ("alarm/#", false), ("#", true)];
        let rights = Rights::in_order([], read).expect("filters");
        assert!(rights.may_read(topic("alarm/test")));
        assert!(!rights.may_read(topic("alarm/fire")));
        assert!(rights.may_read(topic("plant/temp")));
        assert!(!rights.may_read(topic("$board/load")));
    }

    #[test]
    fn a_subscription_needs_a_readable_topic() {
        let rights = Rights::new([], ["plant/+/out"]).expect("filters");
        assert!(rights.may_subscribe(Filter::parse("#").expect("a filter")));
        assert!(!rights.may_subscribe(Filter::parse("plant/+/in").expect("a filter")));
    }
}
