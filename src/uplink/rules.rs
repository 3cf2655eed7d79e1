//! Which topics are carried, which way, on which lane and under which name.
//!
//! Decisions only. The first rule of a direction that selects a topic by its name here counts. A rule
//! takes the daemon's own topics (`$…`) only where its filter names them.

use fastport_wire::Topic;

use crate::config::{Direction, Lane, Rule, TopicFilter, Uplink, WhenSpoolFull};

/// The rules of an uplink.
#[derive(Debug, Clone)]
pub struct Rules {
    rules: Vec<Rule>,
    /// with the identity in it, without a `/` at its end
    prefix: Option<Box<str>>,
}

/// What the rules make of a topic in one direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried<'a> {
    /// The rule's place in the configuration, from 0.
    pub place: usize,
    /// The rule.
    pub rule: &'a Rule,
    /// The topic's name at the other side.
    pub name: String,
}

impl Rules {
    /// The rules of a configuration, which has checked them.
    #[must_use]
    pub fn new(uplink: &Uplink) -> Self {
        let identity = uplink.identity.as_deref().unwrap_or_default();
        let prefix = uplink.prefix.as_ref().map(|prefix| prefix.replace("%d", identity).into());
        Self { rules: uplink.rules.clone(), prefix }
    }

    /// What goes up under which name, of a topic by its name here.
    #[must_use]
    pub fn up(&self, topic: Topic<'_>) -> Option<Carried<'_>> {
        let (place, rule) = self.first(Direction::Up, topic)?;
        Some(Carried { place, rule, name: self.central_name(topic.as_str()) })
    }

    /// What comes down under which name, of a topic by its name at the central instance.
    #[must_use]
    pub fn down(&self, central: &str) -> Option<Carried<'_>> {
        let name = match &self.prefix {
            None => central,
            Some(prefix) => central.strip_prefix(&**prefix)?.strip_prefix('/')?,
        };
        let topic = Topic::parse(name).ok()?;
        let (place, rule) = self.first(Direction::Down, topic)?;
        Some(Carried { place, rule, name: name.to_owned() })
    }

    /// The name at the central instance of what is `name` here: a topic or a filter.
    #[must_use]
    pub fn central_name(&self, name: &str) -> String {
        match &self.prefix {
            None => name.to_owned(),
            Some(prefix) => format!("{prefix}/{name}"),
        }
    }

    /// The lanes that some rule names, the most urgent first.
    #[must_use]
    pub fn lanes(&self) -> Vec<Lane> {
        let all = [Lane::Alarm, Lane::Normal, Lane::Bulk];
        let is_named = |lane: &Lane| self.rules.iter().any(|rule| rule.lane == *lane);
        all.into_iter().filter(is_named).collect()
    }

    /// What a lane reads here: filters in their order, and whether what the first that selects a
    /// topic selects is the lane's.
    #[must_use]
    pub fn reads(&self, lane: Lane) -> Vec<(&str, bool)> {
        let of_direction = self.of(Direction::Up);
        of_direction.map(|(_, rule)| (rule.filter.as_str(), rule.lane == lane)).collect()
    }

    /// The filters of a lane's rules that go up.
    pub fn up_filters(&self, lane: Lane) -> impl Iterator<Item = &TopicFilter> {
        self.of(Direction::Up).filter(move |(_, rule)| rule.lane == lane).map(|(_, r)| &r.filter)
    }

    /// The filters of a lane's rules that come down, as they are at the central instance.
    pub fn down_filters(&self, lane: Lane) -> impl Iterator<Item = String> {
        let of_lane = self.of(Direction::Down).filter(move |(_, rule)| rule.lane == lane);
        of_lane.map(|(_, rule)| self.central_name(rule.filter.as_str()))
    }

    /// What happens to a topic's messages when there is no room for them.
    #[must_use]
    pub fn when_full(&self, topic: Topic<'_>) -> WhenSpoolFull {
        self.first(Direction::Up, topic)
            .map_or(WhenSpoolFull::DropOldest, |(_, rule)| rule.when_full)
    }

    fn first(&self, direction: Direction, topic: Topic<'_>) -> Option<(usize, &Rule)> {
        self.of(direction).find(|(_, rule)| rule.filter.matches(topic))
    }

    fn of(&self, direction: Direction) -> impl Iterator<Item = (usize, &Rule)> {
        self.rules.iter().enumerate().filter(move |(_, rule)| rule.direction == direction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(direction: Direction, filter: &str, lane: Lane) -> Rule {
        let filter = TopicFilter::parse(filter).expect(filter);
        Rule { direction, filter, lane, ..Rule::default() }
    }

    fn rules(prefix: Option<&str>, rules: Vec<Rule>) -> Rules {
        Rules::new(&Uplink {
            identity: Some("gw-7".to_owned()),
            prefix: prefix.map(str::to_owned),
            rules,
            ..Uplink::default()
        })
    }

    fn topic(name: &str) -> Topic<'_> {
        Topic::parse(name).expect(name)
    }

    #[test]
    fn the_first_rule_that_selects_a_topic_counts() {
        let rules = rules(
            None,
            vec![
                rule(Direction::Down, "cmd/#", Lane::Normal),
                rule(Direction::Up, "alarm/+", Lane::Alarm),
                rule(Direction::Up, "#", Lane::Bulk),
            ],
        );
        let up = |name| rules.up(topic(name)).map(|carried| (carried.place, carried.rule.lane));
        assert_eq!(up("alarm/fire"), Some((1, Lane::Alarm)));
        assert_eq!(up("alarm/fire/west"), Some((2, Lane::Bulk)));
        assert_eq!(rules.down("cmd/open").map(|carried| carried.place), Some(0));
        assert_eq!(rules.down("alarm/fire"), None);
        assert_eq!(rules.lanes(), [Lane::Alarm, Lane::Normal, Lane::Bulk]);
    }

    #[test]
    fn a_lane_reads_what_no_earlier_rule_gives_to_another() {
        let rules = rules(
            None,
            vec![rule(Direction::Up, "alarm/#", Lane::Alarm), rule(Direction::Up, "#", Lane::Bulk)],
        );
        assert_eq!(rules.reads(Lane::Alarm), [("alarm/#", true), ("#", false)]);
        assert_eq!(rules.reads(Lane::Bulk), [("alarm/#", false), ("#", true)]);
    }

    #[test]
    fn names_go_under_the_prefix_and_come_back_from_under_it() {
        let both =
            vec![rule(Direction::Up, "#", Lane::Normal), rule(Direction::Down, "#", Lane::Normal)];
        let rules = rules(Some("gateways/%d"), both);
        let up = rules.up(topic("plant/temp")).expect("# selects it");
        assert_eq!(up.name, "gateways/gw-7/plant/temp");
        assert_eq!(rules.down(&up.name).expect("it comes back").name, "plant/temp");
        for other in ["gateways/gw-7", "gateways/gw-77/a", "plant/temp", "gateways/gw-7/"] {
            assert_eq!(rules.down(other), None, "{other}");
        }
        let filters: Vec<String> = rules.down_filters(Lane::Normal).collect();
        assert_eq!(filters, ["gateways/gw-7/#"]);
    }

    #[test]
    fn the_daemons_own_topics_are_carried_only_where_a_rule_names_them() {
        let all = rules(Some("g"), vec![rule(Direction::Up, "#", Lane::Normal)]);
        assert_eq!(all.up(topic("$board/load")), None);
        let board = rules(Some("g"), vec![rule(Direction::Up, "$board/#", Lane::Normal)]);
        let up = board.up(topic("$board/load")).expect("it is named");
        assert_eq!(up.name, "g/$board/load");
    }
}
