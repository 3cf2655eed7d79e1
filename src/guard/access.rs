//! What an identity may publish on and read.

use std::fmt;

use fastport_wire::Filter;
use fastport_wire::topic::TopicError;

use crate::config::TopicFilter;
use crate::config::schema::{Problem, Raw, Value, quoted};

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
    use fastport_wire::Topic;
    use proptest::prelude::*;

    use super::*;

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
            let name = format!("own/{level}/x");
            let topic = Topic::parse(&name).expect("no wildcards, no controls");
            prop_assert_eq!(filter.matches(topic), level == id);
        }
    }
}
