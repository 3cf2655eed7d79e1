//! Topic names and the filters that select them, by MQTT's rules for `/`, `+` and `#`.

use core::fmt;

/// The most bytes a topic or filter may have.
pub const MAX_BYTES: usize = 255;
/// The most levels, separated by `/`, that a topic or filter may have.
pub const MAX_LEVELS: usize = 16;

/// Why a text is not a topic or a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TopicError {
    /// No bytes, or nothing between two slashes, or a slash at an end.
    EmptyLevel,
    /// More than [`MAX_BYTES`] bytes.
    TooLong,
    /// More than [`MAX_LEVELS`] levels.
    TooDeep,
    /// A control character (U+0000 to U+001F, U+007F).
    ControlCharacter,
    /// `+` or `#` in a topic name, or in a filter where it is not a level of its own.
    WildcardInLevel,
    /// `#` anywhere but at the end of a filter.
    HashNotLast,
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EmptyLevel => "topic has an empty level",
            Self::TooLong => "topic is over 255 bytes",
            Self::TooDeep => "topic has more than 16 levels",
            Self::ControlCharacter => "topic has a control character",
            Self::WildcardInLevel => "wildcard must be a level of its own, in a filter",
            Self::HashNotLast => "# must be the last level of a filter",
        })
    }
}

impl core::error::Error for TopicError {}

/// A well-formed topic name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic<'a>(&'a str);

impl<'a> Topic<'a> {
    /// The only way to make one.
    ///
    /// # Errors
    /// [`TopicError`] for what is wrong with `name`.
    pub fn parse(name: &'a str) -> Result<Self, TopicError> {
        check(name, false).map(|()| Self(name))
    }

    /// The name.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// Whether the topic is the daemon's own: its first level begins with `$`.
    #[must_use]
    pub fn is_reserved(self) -> bool {
        self.0.starts_with('$')
    }
}

impl fmt::Display for Topic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// A well-formed filter: levels, of which `+` stands for any one and a final `#` for any number
/// (none included). A first `+` or `#` does not match a topic that begins with `$`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Filter<'a>(&'a str);

impl<'a> Filter<'a> {
    /// The only way to make one.
    ///
    /// # Errors
    /// [`TopicError`] for what is wrong with `text`.
    pub fn parse(text: &'a str) -> Result<Self, TopicError> {
        check(text, true).map(|()| Self(text))
    }

    /// The text.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// The topic, when the filter has no wildcard and so selects one topic only.
    #[must_use]
    pub fn as_topic(self) -> Option<Topic<'a>> {
        (!self.0.contains(['+', '#'])).then_some(Topic(self.0))
    }

    /// Whether the filter selects `topic`.
    #[must_use]
    pub fn matches(self, topic: Topic<'_>) -> bool {
        if topic.is_reserved() && self.0.starts_with(['+', '#']) {
            return false;
        }
        let mut levels = topic.0.split('/');
        for wanted in self.0.split('/') {
            match (wanted, levels.next()) {
                ("#", _) => return true,
                ("+", Some(_)) => {}
                (wanted, Some(level)) if wanted == level => {}
                _ => return false,
            }
        }
        levels.next().is_none()
    }

    /// Whether some topic is selected by both filters.
    #[must_use]
    pub fn overlaps(self, other: Filter<'_>) -> bool {
        let reserved = |filter: &str| filter.starts_with('$');
        let wild = |filter: &str| filter.starts_with(['+', '#']);
        if (reserved(self.0) && wild(other.0)) || (reserved(other.0) && wild(self.0)) {
            return false;
        }
        let (mut ours, mut theirs) = (self.0.split('/'), other.0.split('/'));
        loop {
            match (ours.next(), theirs.next()) {
                (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
                (Some("+"), Some(_)) | (Some(_), Some("+")) => {}
                (Some(a), Some(b)) if a == b => {}
                _ => return false,
            }
        }
    }
}

impl fmt::Display for Filter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

fn check(text: &str, wildcards: bool) -> Result<(), TopicError> {
    if text.len() > MAX_BYTES {
        return Err(TopicError::TooLong);
    }
    if text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
        return Err(TopicError::ControlCharacter);
    }
    let mut hash_seen = false;
    for (index, level) in text.split('/').enumerate() {
        if index == MAX_LEVELS {
            return Err(TopicError::TooDeep);
        }
        if level.is_empty() {
            return Err(TopicError::EmptyLevel);
        }
        if hash_seen {
            return Err(TopicError::HashNotLast);
        }
        if level.contains(['+', '#']) && !(wildcards && level.len() == 1) {
            return Err(TopicError::WildcardInLevel);
        }
        hash_seen = level == "#";
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(filter: &str, topic: &str) -> bool {
        Filter::parse(filter).expect(filter).matches(Topic::parse(topic).expect(topic))
    }

    fn overlap(a: &str, b: &str) -> bool {
        Filter::parse(a).expect(a).overlaps(Filter::parse(b).expect(b))
    }

    #[test]
    fn wildcards_stand_for_levels() {
        assert!(matches("a/+/c", "a/b/c"));
        assert!(matches("a/#", "a"));
        assert!(matches("a/#", "a/b/c"));
        assert!(matches("#", "a/b"));
        assert!(!matches("a/+", "a"));
        assert!(!matches("a/+", "a/b/c"));
        assert!(!matches("a", "a/b"));
    }

    #[test]
    fn the_daemons_topics_need_to_be_named() {
        assert!(!matches("#", "$board/load"));
        assert!(!matches("+/load", "$board/load"));
        assert!(matches("$board/#", "$board/load"));
    }

    #[test]
    fn each_fault_has_its_name() {
        let deep = ["a"; 17].join("/");
        let long = "a".repeat(256);
        for (text, error) in [
            ("", TopicError::EmptyLevel),
            ("a//b", TopicError::EmptyLevel),
            ("/a", TopicError::EmptyLevel),
            ("a/", TopicError::EmptyLevel),
            ("a/\u{7}", TopicError::ControlCharacter),
            (deep.as_str(), TopicError::TooDeep),
            (long.as_str(), TopicError::TooLong),
            ("a/b+", TopicError::WildcardInLevel),
        ] {
            assert_eq!(Topic::parse(text), Err(error), "{text}");
            assert_eq!(Filter::parse(text), Err(error), "{text}");
        }
        assert_eq!(Topic::parse("a/+"), Err(TopicError::WildcardInLevel));
        assert_eq!(Filter::parse("#/a"), Err(TopicError::HashNotLast));
    }

    #[test]
    fn overlap_is_found_without_a_topic() {
        assert!(overlap("a/+/c", "a/b/#"));
        assert!(overlap("#", "a/b"));
        assert!(overlap("a/#", "a"));
        assert!(!overlap("a/+", "a/b/c"));
        assert!(!overlap("#", "$board/load"));
        assert!(overlap("$board/#", "$board/+"));
    }

    proptest! {
        #[test]
        fn filters_that_share_a_topic_overlap(
            topic in "[ab]{1,2}(/[ab]{1,2}){0,3}", f in "([ab]|\\+)(/([ab]|\\+)){0,3}(/#)?",
            g in "([ab]|\\+)(/([ab]|\\+)){0,3}(/#)?",
        ) {
            if matches(&f, &topic) && matches(&g, &topic) {
                prop_assert!(overlap(&f, &g));
            }
            prop_assert_eq!(overlap(&f, &g), overlap(&g, &f));
        }

        #[test]
        fn any_text_is_a_topic_or_an_error(text in ".{0,300}") {
            if let Ok(topic) = Topic::parse(&text) {
                prop_assert!(Filter::parse(&text).expect("a topic is a filter").matches(topic));
            }
        }
    }
}
