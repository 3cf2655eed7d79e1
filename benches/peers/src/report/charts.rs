//! What is drawn of a suite.

use super::runs::{FASTPORT, FLOOR, Runs, ratios};
use super::svg::{Chart, Group, Mark};
use super::tables::{CPU, Columns, key, protocol_of, work, works};
use crate::stats::spread;

/// The charts that there are figures for, each with the name of its file.
pub fn all(runs: &Runs) -> Vec<(String, String)> {
    let columns = Columns::of(runs);
    let plain = cpu(runs, &columns, false, "Relay CPU time for each delivered message, plain");
    let counted = cpu(runs, &columns, true, "Relay CPU time for each delivered message, counted");
    [("plain.svg", plain), ("counted.svg", counted), ("latency.svg", latency(runs, &columns))]
        .into_iter()
        .filter_map(|(name, chart)| Some((name.to_string(), chart.draw()?)))
        .collect()
}

/// fastPort first, so that its colour is the same in all.
fn relays(columns: &Columns) -> Vec<&str> {
    let mut relays = vec![FASTPORT];
    relays.extend(columns.peers.iter().map(String::as_str));
    relays
}

fn cpu(runs: &Runs, columns: &Columns, counted: bool, title: &str) -> Chart {
    let relays = relays(columns);
    let groups = works().into_iter().map(|(case, bytes)| {
        let of = |peer: &str, counted| {
            let protocol = protocol_of(peer, counted);
            runs.series(&key("throughput", case, Some(bytes), peer, protocol), CPU)
        };
        let floor = of(FLOOR, counted);
        let mark = |(series, relay): (usize, &&str)| {
            let known = !counted || *relay != "nats-server";
            let spread = spread(&ratios(&of(relay, counted), &floor)).filter(|_| known)?;
            Some(Mark { series, spread })
        };
        let marks = relays.iter().enumerate().filter_map(mark).collect();
        Group { label: work(case, Some(bytes)), marks }
    });
    Chart {
        title: title.to_string(),
        axis: "× floor, logarithmic; median, whiskers from the least to the greatest round".into(),
        groups: groups.filter(|group: &Group| !group.marks.is_empty()).collect(),
        series: relays.iter().map(ToString::to_string).collect(),
        line_at: Some(1.0),
        dots: false,
    }
}

fn latency(runs: &Runs, columns: &Columns) -> Chart {
    let percentiles = [("p50_us", "p50"), ("p99_us", "p99"), ("p999_us", "p99.9")];
    let mut relays = relays(columns);
    relays.insert(0, FLOOR);
    let groups = relays.into_iter().map(|relay| {
        let key = key("latency", "paced", Some(32), relay, protocol_of(relay, false));
        let marks = percentiles.iter().enumerate().filter_map(|(series, (figure, _))| {
            let values: Vec<f64> = runs.series(&key, figure).into_values().collect();
            Some(Mark { series, spread: spread(&values)? })
        });
        Group { label: relay.to_string(), marks: marks.collect() }
    });
    Chart {
        title: "Latency at 1,000 messages a second, 1 → 1, 32 B".into(),
        axis: "µs, logarithmic; median of the rounds, whiskers from the least to the greatest"
            .into(),
        groups: groups.filter(|group| !group.marks.is_empty()).collect(),
        series: percentiles.map(|(_, name)| name.to_string()).to_vec(),
        line_at: None,
        dots: true,
    }
}
