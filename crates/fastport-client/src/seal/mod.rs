//! Sealing end to end, see `docs/sealing.md`: what is published on sealed topics goes out sealed, and
//! what comes in sealed is opened, before anybody else sees it.
//!
//! It promises: a topic that is to be sealed neither sends nor delivers anything unsealed; what does not
//! open is counted by its cause and takes its place in the subscription as
//! [`crate::Incoming::NotOpened`]; no counter is used twice, whatever happens to the program.

mod figures;
mod keys;
mod receiver;
mod sender;
mod state;

use std::path::PathBuf;
use std::sync::Arc;

use fastport_wire::{Filter, Topic};

pub use self::figures::{NotOpened, SealFigures};
pub use self::keys::{KeyRing, KeyRingError};
pub(crate) use self::receiver::{Receiver, content};
pub(crate) use self::sender::{Sender, plain_limit};
pub use self::state::SealFailure;

/// How to seal.
#[derive(Debug, Clone)]
pub struct SealOptions {
    /// The keys of the session: the first seals, all open.
    pub keys: KeyRing,
    /// The topics that are sealed, as filters; on others messages are published as they are, and come
    /// as they are. Default: `#`, all.
    pub topics: Vec<String>,
    /// The session in which messages are sealed, where an uplink brings them from one of another
    /// name. Default: the one that is joined.
    pub session: Option<String>,
    /// The levels that an uplink puts before the topics of messages that are sealed at its other end,
    /// as a filter (`gateways/+`): topics are sealed without them. Default: none.
    pub prefix: Option<String>,
    /// The folder in which the counters of this sender survive; it is made where it is not. Default:
    /// none, and each client is a new sender. Receivers know so many senders only.
    pub state: Option<PathBuf>,
    /// How many messages of a sender may overtake one; rounded up to 64. Default 1024.
    pub window: usize,
    /// How many senders are known at most; each takes a kilobyte. Default 1024.
    pub senders: usize,
}

impl SealOptions {
    /// The defaults, with these keys.
    #[must_use]
    pub fn new(keys: KeyRing) -> Self {
        Self {
            keys,
            topics: vec!["#".to_owned()],
            session: None,
            prefix: None,
            state: None,
            window: 1024,
            senders: 1024,
        }
    }

    /// The session in which messages are sealed, by one who is in `joined`.
    pub(crate) fn session_or<'s>(&'s self, joined: &'s str) -> &'s str {
        self.session.as_deref().unwrap_or(joined)
    }

    /// What is wrong with them.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        if self.topics.iter().any(|filter| Filter::parse(filter).is_err()) {
            return Some("a filter of sealed topics is not well formed");
        }
        if self.prefix.as_ref().is_some_and(|prefix| Filter::parse(&below(prefix)).is_err()) {
            return Some("a prefix of sealed topics is not well formed");
        }
        if self.window > MOST_WINDOW {
            return Some("a window of over a million messages");
        }
        None
    }
}

/// The topics that are sealed.
#[derive(Debug, Clone)]
pub(crate) struct SealedTopics(Arc<[Box<str>]>);

impl SealedTopics {
    pub(crate) fn new(filters: &[String]) -> Self {
        Self(filters.iter().map(|filter| filter.as_str().into()).collect())
    }

    pub(crate) fn contains(&self, topic: &str) -> bool {
        let Ok(topic) = Topic::parse(topic) else { return false };
        self.0.iter().any(|filter| Filter::parse(filter).is_ok_and(|filter| filter.matches(topic)))
    }
}

/// The names that topics have where they are sealed.
#[derive(Debug, Clone, Default)]
pub(crate) struct SealedNames(Option<Box<str>>);

impl SealedNames {
    pub(crate) fn new(prefix: Option<&str>) -> Self {
        Self(prefix.map(Box::from))
    }

    /// The name of what is this topic here.
    pub(crate) fn of<'t>(&self, topic: &'t str) -> &'t str {
        let Some(prefix) = &self.0 else { return topic };
        let is_below = SealedTopics(Arc::from([below(prefix).into()])).contains(topic);
        let levels = prefix.split('/').count();
        let rest = topic.match_indices('/').nth(levels - 1).and_then(|(at, _)| topic.get(at + 1..));
        rest.filter(|_| is_below).unwrap_or(topic)
    }
}

/// A filter for all below a prefix.
fn below(prefix: &str) -> String {
    format!("{prefix}/#")
}

/// A window of as many messages takes 128 KiB for each sender.
const MOST_WINDOW: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_sealed_without_the_levels_of_an_uplink() {
        let names = SealedNames::new(Some("gateways/+"));
        for (topic, sealed) in [
            ("gateways/cellar/boiler/temperature", "boiler/temperature"),
            ("gateways/cellar/a", "a"),
            ("gateways/cellar", "gateways/cellar"),
            ("gateways", "gateways"),
            ("others/cellar/a", "others/cellar/a"),
        ] {
            assert_eq!(names.of(topic), sealed);
        }
        assert_eq!(SealedNames::new(None).of("gateways/cellar/a"), "gateways/cellar/a");
    }

    #[test]
    fn options_that_make_no_sense_are_named() {
        let mut options = SealOptions::new(KeyRing::new(fastport_seal::SessionKey::new([1; 32])));
        assert_eq!(options.fault(), None);
        options.prefix = Some("a/#".to_owned());
        assert!(options.fault().is_some());
        options.prefix = Some("a/+".to_owned());
        options.topics = vec!["a/#/b".to_owned()];
        assert!(options.fault().is_some());
    }
}
