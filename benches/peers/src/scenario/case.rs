//! The shapes of traffic.

/// A shape of traffic.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    pub publishers: usize,
    pub subscribers: usize,
    /// Messages in one write of a publisher.
    pub batch: u64,
    /// Messages that a publisher may have on the way.
    pub window: u64,
    /// Messages a second of all publishers together, released every millisecond; no bound if absent.
    pub rate: Option<u64>,
    /// Payload sizes that a suite runs it with.
    pub payloads: &'static [usize],
    /// Topics of all publishers together, used in turn; at least one each.
    pub topics: usize,
    /// Connections that only stand by, and the filters that each is subscribed to; none of them
    /// selects what is published.
    pub bystanders: usize,
    pub bystander_filters: usize,
}

const fn case(name: &'static str, publishers: usize, subscribers: usize) -> Case {
    Case {
        name,
        publishers,
        subscribers,
        batch: 1,
        window: 64,
        rate: None,
        payloads: &[32, 1024],
        topics: publishers,
        bystanders: 0,
        bystander_filters: 0,
    }
}

pub const CASES: [Case; 5] = [
    Case { batch: 64, window: 1024, ..case("one-to-one", 1, 1) },
    Case { batch: 16, window: 64, ..case("fan-in", 50, 1) },
    // As sensors send: every message a write of its own.
    Case { batch: 1, window: 4, payloads: &[32], ..case("fan-in-single", 50, 1) },
    Case {
        batch: 1,
        window: 64,
        payloads: &[32],
        rate: Some(10_000),
        ..case("fan-in-paced", 50, 1)
    },
    Case { batch: 16, window: 128, ..case("fan-out", 1, 50) },
];

/// What must stay flat, in pairs: many of something against few of it, on the same traffic.
pub const FLAT_CASES: [Case; 6] = [
    Case { topics: 100, ..flat("topics-100") },
    Case { topics: 100_000, ..flat("topics-100000") },
    Case { bystanders: 100, bystander_filters: 1, ..flat("subscriptions-100") },
    Case { bystanders: 100, bystander_filters: 100, ..flat("subscriptions-10000") },
    Case { bystanders: 100, bystander_filters: 1, ..flat("peers-100") },
    Case { bystanders: 10_000, bystander_filters: 1, ..flat("peers-10000") },
];

/// As `fan-in`.
const fn flat(name: &'static str) -> Case {
    Case { batch: 16, window: 64, payloads: &[32], ..case(name, 50, 1) }
}

impl Case {
    /// The case of this name.
    pub fn named(name: &str) -> Option<Case> {
        CASES.iter().chain(&FLAT_CASES).find(|case| case.name == name).copied()
    }

    /// Topics of each publisher.
    pub fn topics_each(&self) -> usize {
        (self.topics / self.publishers).max(1)
    }

    /// The name of one topic of a publisher.
    pub fn topic(&self, publisher: usize, number: usize) -> String {
        match (self.publishers, number) {
            (1, 0) => "plant/7/line/3/temp".into(),
            (_, 0) => format!("plant/7/line/{publisher}/temp"),
            _ => format!("plant/7/line/{publisher}-{number}/temp"),
        }
    }

    /// What the subscribers subscribe to.
    pub fn filter(&self) -> String {
        match self.publishers {
            1 if self.topics_each() == 1 => self.topic(0, 0),
            _ => "plant/7/line/+/temp".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart_and_topics_too() {
        let mut names: Vec<_> = CASES.iter().chain(&FLAT_CASES).map(|case| case.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CASES.len() + FLAT_CASES.len());
        let case = Case::named("topics-100").unwrap();
        let mut topics: Vec<_> = (0..case.publishers)
            .flat_map(|publisher| (0..case.topics_each()).map(move |n| case.topic(publisher, n)))
            .collect();
        topics.sort_unstable();
        topics.dedup();
        assert_eq!(topics.len(), 100);
    }
}
