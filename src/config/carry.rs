//! What `[[uplink.rule]]` must not say: it would pass topics round and round, or what nobody can carry.

use fastport_wire::Filter;

use super::error::FaultKind;
use super::read::Findings;
use super::uplink::{Direction, Rule, Uplink};

/// Reports rules that cannot be followed.
pub(super) fn check(uplink: &Uplink, findings: &mut Findings<'_>) {
    for (place, rule) in uplink.rules.iter().enumerate() {
        let key = format!("uplink.rule[{place}].filter");
        if !rule.filter.as_str().starts_with('$') {
            continue;
        }
        if rule.direction == Direction::Down {
            let text = "topics that begin with $ are the daemon's own: nothing comes down to them";
            findings.report(&key, FaultKind::Conflict(text.to_owned()));
        } else if uplink.prefix.is_none() {
            let text = "topics that begin with $ are the central instance's own there; set \
                        uplink.prefix, to carry these under it";
            findings.report(&key, FaultKind::Conflict(text.to_owned()));
        }
    }
    if let Some((up, down)) = find_loop(&uplink.rules) {
        let shown = |place: usize| {
            let rule = uplink.rules.get(place);
            rule.map_or_else(String::new, |rule| {
                format!("{} {:?} on lane {}", place + 1, rule.filter.as_str(), rule.lane.name())
            })
        };
        let text = format!(
            "a loop: up rule {} and down rule {} select the same topics, so that what one carries \
             the other carries back; give both the same lane, or narrow one filter",
            shown(up),
            shown(down)
        );
        findings.report(&format!("uplink.rule[{down}].filter"), FaultKind::Conflict(text));
    }
}

/// An up and a down rule that take the same topic on different lanes. On the same lane there is no
/// loop: a lane does not carry what it published itself.
fn find_loop(rules: &[Rule]) -> Option<(usize, usize)> {
    let of = |direction: Direction| {
        rules.iter().enumerate().filter(move |(_, rule)| rule.direction == direction)
    };
    for (up_place, up) in of(Direction::Up) {
        for (down_place, down) in of(Direction::Down) {
            let (up_filter, down_filter) = (up.filter.as_filter(), down.filter.as_filter());
            // an earlier rule that selects all of one of them leaves nothing of it for this one
            let is_taken = |direction: Direction, before: usize| {
                let mut earlier = of(direction).take_while(|&(place, _)| place < before);
                earlier.any(|(_, rule)| {
                    let filter = rule.filter.as_filter();
                    covers(filter, up_filter) || covers(filter, down_filter)
                })
            };
            let meets = up.lane != down.lane && up_filter.overlaps(down_filter);
            if meets && !is_taken(Direction::Up, up_place) && !is_taken(Direction::Down, down_place)
            {
                return Some((up_place, down_place));
            }
        }
    }
    None
}

/// Whether the first filter selects all that the second does.
fn covers(all: Filter<'_>, some: Filter<'_>) -> bool {
    if some.as_str().starts_with('$') && all.as_str().starts_with(['+', '#']) {
        return false;
    }
    let (mut all, mut some) = (all.as_str().split('/'), some.as_str().split('/'));
    loop {
        match (all.next(), some.next()) {
            (Some("#"), _) | (None, None) => return true,
            (_, Some("#")) => return false,
            (Some("+"), Some(_)) => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::uplink::Lane;
    use super::super::value::TopicFilter;
    use super::*;

    fn rule(direction: Direction, filter: &str, lane: Lane) -> Rule {
        let filter = TopicFilter::parse(filter).expect(filter);
        Rule { direction, filter, lane, ..Rule::default() }
    }

    #[test]
    fn a_topic_that_goes_up_on_one_lane_and_comes_down_on_another_is_a_loop() {
        use Direction::{Down, Up};
        use Lane::{Alarm, Normal};
        let all = rule(Up, "#", Normal);
        let commands = rule(Down, "cmd/#", Alarm);
        assert_eq!(find_loop(&[all.clone(), commands.clone()]), Some((0, 1)));
        // on one lane it goes neither back nor round
        assert_eq!(find_loop(&[all.clone(), rule(Down, "cmd/#", Normal)]), None);
        // nor where an earlier rule has it on that lane
        assert_eq!(find_loop(&[rule(Up, "cmd/#", Alarm), all.clone(), commands.clone()]), None);
        assert_eq!(find_loop(&[rule(Up, "cmd/+", Alarm), all, commands.clone()]), Some((1, 2)));
        assert_eq!(find_loop(&[rule(Up, "plant/#", Normal), commands]), None);
    }

    #[test]
    fn a_filter_covers_what_it_selects_all_of() {
        let covers = |all, some| {
            covers(Filter::parse(all).expect("a filter"), Filter::parse(some).expect("a filter"))
        };
        for (all, some) in [("#", "a/b"), ("a/#", "a"), ("a/#", "a/+/#"), ("+/b", "a/b")] {
            assert!(covers(all, some), "{all} {some}");
        }
        for (all, some) in [("a/b", "a/#"), ("a/+", "a/#"), ("#", "$board/#"), ("a", "a/b")] {
            assert!(!covers(all, some), "{all} {some}");
        }
    }
}
