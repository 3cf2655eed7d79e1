//! What an identity may publish on and read.

use std::fmt;

use fastport_wire::topic::TopicError;
use fastport_wire::{Filter, Topic};

use crate::config::TopicFilter;
use crate::config::schema::{Problem, Raw, Value, quoted};

/// The topics an identity may publish on and read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccessList {
    publish: Vec<TopicFilter>,
    subscribe: Vec<TopicFilter>,
}

impl AccessList {
    /// The list with those filters. Empty: nothing is allowed.
    #[must_use]
    pub const fn new(publish: Vec<TopicFilter>, subscribe: Vec<TopicFilter>) -> Self {
        Self { publish, subscribe }
    }

    /// Whether messages on `topic` may be published. Never on the daemon's own topics.
    #[must_use]
    pub fn may_publish(&self, topic: Topic<'_>) -> bool {
        !topic.is_reserved() && self.publish.iter().any(|filter| filter.matches(topic))
    }

    /// Whether messages on `topic` may be read.
    #[must_use]
    pub fn may_read(&self, topic: Topic<'_>) -> bool {
        self.subscribe.iter().any(|filter| filter.matches(topic))
    }

    /// Whether `filter` selects some topic that may be read. What it selects beside is not
    /// delivered: each topic is asked for with [`AccessList::may_read`].
    #[must_use]
    pub fn may_subscribe(&self, filter: Filter<'_>) -> bool {
        self.subscribe.iter().any(|allowed| allowed.as_filter().overlaps(filter))
    }
}

/// A filter in which `%d`, wherever it stands in a level, stands for the identity's id:
/// `sensors/%d/#`, `sensors/board-%d/temp`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterTemplate(Box<str>);

impl FilterTemplate {
    /// The only way to make one.
    ///
    /// # Errors
    /// As [`Filter::parse`], with an ordinary id in the place of `%d`.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        Filter::parse(&text.replace(PLACEHOLDER, "x")).map(|_| Self(text.into()))
    }

    /// The filter for the identity of that id.
    ///
    /// # Errors
    /// [`FillError`] when the id would make it a filter for other topics than one level of the
    /// identity's own, or one that is not well formed.
    pub fn fill(&self, id: &str) -> Result<TopicFilter, FillError> {
        if self.0.contains(PLACEHOLDER) && id.contains(['/', '+', '#']) {
            return Err(FillError::IdHasLevels);
        }
        let text = self.0.replace(PLACEHOLDER, id);
        if text.starts_with('$') && !self.0.starts_with('$') {
            return Err(FillError::IdIsReserved);
        }
        TopicFilter::parse(&text).map_err(FillError::NotAFilter)
    }

    /// The text, with `%d`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Value for FilterTemplate {
    const EXPECTED: &'static str = r#"a topic filter as "sensors/%d/#""#;

    fn read(raw: Raw<'_>) -> Result<Self, Problem> {
        let text = raw.text().ok_or_else(|| raw.wrong_type(Self::EXPECTED))?;
        Self::parse(text).map_err(|error| Problem::bad(format!("{text:?}: {error}")))
    }

    fn toml(&self) -> String {
        quoted(&self.0)
    }
}

/// Why an id cannot take the place of `%d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FillError {
    /// It has `/`, `+` or `#`: the filter would select what is not the identity's.
    IdHasLevels,
    /// It begins with `$` where the filter begins: the filter would select the daemon's topics.
    IdIsReserved,
    /// The filter is then too long, or has a control character.
    NotAFilter(TopicError),
}

impl fmt::Display for FillError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IdHasLevels => {
                f.write_str("an id with /, + or # cannot stand for %d; write the filter out")
            }
            Self::IdIsReserved => f.write_str(
                "an id that begins with $ cannot be a first level: those are the daemon's",
            ),
            Self::NotAFilter(error) => write!(f, "with the id in it, the {error}"),
        }
    }
}

impl std::error::Error for FillError {}

const PLACEHOLDER: &str = "%d";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(publish: &[&str], subscribe: &[&str]) -> AccessList {
        let filters =
            |list: &[&str]| list.iter().map(|f| TopicFilter::parse(f).expect("a filter")).collect();
        AccessList::new(filters(publish), filters(subscribe))
    }

    fn topic(name: &str) -> Topic<'_> {
        Topic::parse(name).expect("tests use topics")
    }

    #[test]
    fn a_list_allows_what_it_says_and_nothing_else() {
        let list = list(&["sensors/a/#"], &["commands/a", "$board/#"]);
        assert!(list.may_publish(topic("sensors/a/temp")));
        assert!(!list.may_publish(topic("sensors/b/temp")));
        assert!(!list.may_publish(topic("commands/a")));
        assert!(list.may_read(topic("commands/a")) && list.may_read(topic("$board/load")));
        assert!(!list.may_read(topic("sensors/a/temp")));
        assert!(!AccessList::default().may_publish(topic("a")));
        assert!(!AccessList::default().may_read(topic("a")));
    }

    #[test]
    fn nobody_publishes_on_the_daemons_topics() {
        let list = list(&["#", "$board/#"], &["#"]);
        assert!(!list.may_publish(topic("$board/load")));
        assert!(!list.may_read(topic("$board/load")));
    }

    #[test]
    fn a_subscription_needs_one_topic_it_may_read() {
        let list = list(&[], &["home/+/temp"]);
        let may = |filter| list.may_subscribe(Filter::parse(filter).expect("a filter"));
        assert!(may("#") && may("home/#") && may("home/kitchen/temp") && may("+/+/temp"));
        assert!(!may("garden/#") && !may("home/+/door") && !may("$board/#"));
    }

    #[test]
    fn an_id_takes_its_place_within_one_level() {
        let fill = |text, id| {
            let filter = FilterTemplate::parse(text).expect("a template").fill(id);
            filter.map(|filter| filter.as_str().to_owned())
        };
        assert_eq!(fill("sensors/%d/#", "pump-1"), Ok("sensors/pump-1/#".into()));
        assert_eq!(fill("board-%d/%d", "7"), Ok("board-7/7".into()));
        assert_eq!(fill("all/+", "any/+/#"), Ok("all/+".into()));
        for id in ["a/b", "+", "#", "a+"] {
            assert_eq!(fill("sensors/%d/#", id), Err(FillError::IdHasLevels));
        }
        assert_eq!(fill("%d/#", "$board"), Err(FillError::IdIsReserved));
        assert_eq!(fill("sensors/%d", "$board"), Ok("sensors/$board".into()));
        let too_long = Err(FillError::NotAFilter(TopicError::TooLong));
        assert_eq!(fill("%d/%d/%d/%d", &"a".repeat(64)), too_long);
        assert_eq!(FilterTemplate::parse("%d/#/a"), Err(TopicError::HashNotLast));
    }

    proptest! {
        #[test]
        fn an_id_never_opens_topics_outside_its_own_level(
            id in "\\PC{1,8}|[%d/+#$a]{1,4}", level in "[a-z%$]{1,4}",
        ) {
            let template = FilterTemplate::parse("own/%d/x").expect("a template");
            let Ok(filter) = template.fill(&id) else { return Ok(()) };
            let allowed = AccessList::new(vec![filter.clone()], vec![filter]);
            let name = format!("own/{level}/x");
            prop_assert_eq!(allowed.may_publish(topic(&name)), level == id);
        }
    }
}
