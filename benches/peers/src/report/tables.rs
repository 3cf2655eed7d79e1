//! The tables of `docs/benchmarks.md`.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::runs::{FASTPORT, FLOOR, Key, Runs, Series, is_peer, ratios};
use crate::scenario::case::{CASES, Case};
use crate::stats::spread;

/// Relays in columns, in the order of the tables: the floor, fastPort, then its peers.
pub struct Columns {
    pub peers: Vec<String>,
}

impl Columns {
    pub fn of(runs: &Runs) -> Columns {
        let named: BTreeSet<_> = runs.keys().map(|key| &key.peer).collect();
        Columns { peers: named.into_iter().filter(|name| is_peer(name)).cloned().collect() }
    }
}

/// The protocol over TCP in which a relay is spoken to, with or without acknowledgement.
pub fn protocol_of(peer: &str, counted: bool) -> &'static str {
    match (peer, counted) {
        (FLOOR, _) => "raw",
        ("nats-server", _) => "nats",
        (name, false) if name.starts_with(FASTPORT) => "fastport-tcp",
        (name, true) if name.starts_with(FASTPORT) => "fastport-tcp-counted",
        (_, false) => "mqtt-qos0",
        (_, true) => "mqtt-qos1",
    }
}

pub fn key(scenario: &str, case: &str, payload: Option<u64>, peer: &str, protocol: &str) -> Key {
    let text = |text: &str| text.to_string();
    Key {
        scenario: text(scenario),
        case: text(case),
        payload,
        peer: text(peer),
        protocol: text(protocol),
    }
}

/// A work in words.
pub fn work(case: &str, payload: Option<u64>) -> String {
    let words = match Case::named(case) {
        Some(case) => {
            let Case { publishers, subscribers, batch, rate, .. } = case;
            let mut words = format!("{publishers} → {subscribers}");
            match (batch, rate) {
                (1, Some(rate)) => words += &format!(", single, {rate}/s in all"),
                (1, None) => words += ", single",
                _ => words += &format!(", writes of {batch}"),
            }
            words
        }
        None => case.to_string(),
    };
    match payload {
        Some(bytes) if bytes >= 1024 => format!("{words}, {} KiB", bytes / 1024),
        Some(bytes) => format!("{words}, {bytes} B"),
        None => words,
    }
}

/// The works of throughput in the order of `CASES`.
pub fn works() -> Vec<(&'static str, u64)> {
    let of = |case: &Case| case.payloads.iter().map(|&bytes| bytes as u64).collect::<Vec<_>>();
    CASES.iter().flat_map(|case| of(case).into_iter().map(|bytes| (case.name, bytes))).collect()
}

/// Relay CPU time for each delivered message: the floor's in µs, the others' by it.
pub fn cpu(runs: &Runs, columns: &Columns, counted: bool) -> String {
    let mut relays: Vec<&str> = vec![FASTPORT];
    relays.extend(columns.peers.iter().map(String::as_str));
    relays.retain(|name| !counted || *name != "nats-server");
    let mut table = Table::new(&["work", "floor, µs", "fastPort, µs"]);
    for relay in &relays {
        let name = if *relay == FASTPORT { "fastPort" } else { relay };
        table.head(&format!("{name}, × floor"));
    }
    table.head("fastPort, × best peer");
    for (case, bytes) in works() {
        let of =
            |peer: &str| key("throughput", case, Some(bytes), peer, protocol_of(peer, counted));
        let series = |peer: &str| runs.series(&of(peer), CPU);
        let floor = series(FLOOR);
        let mut row = vec![work(case, Some(bytes)), shown(&floor), shown(&series(FASTPORT))];
        row.extend(relays.iter().map(|relay| ratio(&series(relay), &floor)));
        row.push(ratio(&series(FASTPORT), &runs.best(&of(FASTPORT), CPU)));
        table.row(row);
    }
    table.text
}

/// What acknowledgement, another transport and readings cost over the plain figure of the round.
pub fn flavours(runs: &Runs) -> String {
    let mut table = Table::new(&["work"]);
    for (_, name) in FLAVOURS {
        table.head(name);
    }
    for (case, bytes) in works() {
        let of =
            |protocol| runs.series(&key("throughput", case, Some(bytes), FASTPORT, protocol), CPU);
        let plain = of("fastport-tcp");
        let mut row = vec![work(case, Some(bytes))];
        row.extend(FLAVOURS.iter().map(|(protocol, _)| ratio(&of(protocol), &plain)));
        table.row(row);
    }
    table.text
}

const FLAVOURS: [(&str, &str); 7] = [
    ("fastport-tcp-counted", "counted"),
    ("fastport-websocket", "WebSocket"),
    ("fastport-websocket-counted", "WebSocket, counted"),
    ("fastport-tls", "TLS"),
    ("fastport-tls-counted", "TLS, counted"),
    ("fastport-tcp-readings", "readings"),
    ("fastport-tcp-readings-counted", "readings, counted"),
];

/// A figure of every relay at every work, without acknowledgement.
pub fn plain(runs: &Runs, columns: &Columns, scenario: &str, figure: &str, per: f64) -> String {
    let mut relays = vec![FLOOR, FASTPORT];
    relays.extend(columns.peers.iter().map(String::as_str));
    let mut table = Table::new(&["work"]);
    for relay in &relays {
        table.head(if *relay == FASTPORT { "fastPort" } else { relay });
    }
    for (case, bytes) in works() {
        let cells = relays.iter().map(|relay| {
            let key = key(scenario, case, Some(bytes), relay, protocol_of(relay, false));
            let series = runs.series(&key, figure);
            match runs.excuse(&key) {
                Some(why) if series.is_empty() => why.to_string(),
                _ => shown(&series.into_iter().map(|(r, v)| (r, v / per)).collect()),
            }
        });
        let cells: Vec<_> = cells.collect();
        if cells.iter().any(|cell| cell != NOTHING) {
            table.row([work(case, Some(bytes))].into_iter().chain(cells).collect());
        }
    }
    table.text
}

/// Every relay and protocol of a scenario, and these figures of each: name, heading, divisor.
pub fn by_relay(
    runs: &Runs,
    scenario: &str,
    case: &str,
    figures: &[(&str, &str, f64)],
    ratio_to_floor: Option<&str>,
) -> String {
    let mut table = Table::new(&["relay", "protocol"]);
    for (_, heading, _) in figures {
        table.head(heading);
    }
    if ratio_to_floor.is_some() {
        table.head("× floor");
    }
    for key in runs.keys().filter(|key| key.scenario == scenario && key.case == case) {
        let protocol = if key.protocol.is_empty() { NOTHING } else { &key.protocol };
        let mut row = vec![key.peer.clone(), protocol.to_string()];
        for (figure, _, per) in figures {
            let series = runs.series(key, figure);
            row.push(shown(&series.into_iter().map(|(r, v)| (r, v / per)).collect()));
        }
        if let Some(figure) = ratio_to_floor {
            let floor = Key { peer: FLOOR.into(), protocol: "raw".into(), ..key.clone() };
            row.push(ratio(&runs.series(key, figure), &runs.series(&floor, figure)));
        }
        table.row(row);
    }
    table.text
}

/// fastPort against itself: many against few, and set in other ways.
pub fn flat(runs: &Runs) -> String {
    let mut table = Table::new(&["what", "µs", "against", "µs", "ratio"]);
    let of = |case: &str, peer: &str| {
        runs.series(&key("throughput", case, Some(32), peer, "fastport-tcp"), CPU)
    };
    let mut pair = |names: [&str; 2], many: Series, few: Series| {
        let [name, against] = names.map(str::to_string);
        if many.is_empty() {
            return;
        }
        let ratio = ratio(&many, &few);
        table.row(vec![name, shown(&many), against, shown(&few), ratio]);
    };
    for (many, few) in [
        ("topics-100000", "topics-100"),
        ("subscriptions-10000", "subscriptions-100"),
        ("peers-10000", "peers-100"),
    ] {
        pair([many, few], of(many, FASTPORT), of(few, FASTPORT));
    }
    for (variant, words) in
        [("fastportd-2-workers", "2 workers"), ("fastportd-retaining", "history of 16 messages")]
    {
        for case in ["one-to-one", "fan-in", "fan-out"] {
            let names = [format!("{}: {words}", work(case, Some(32)))];
            pair([&names[0], "as in the tables above"], of(case, variant), of(case, FASTPORT));
        }
    }
    table.text
}

/// A Markdown table: text to the left in the first column, figures to the right.
struct Table {
    text: String,
    columns: usize,
    headed: bool,
}

impl Table {
    fn new(headings: &[&str]) -> Table {
        let text = format!("| {} |", headings.join(" | "));
        Table { text, columns: headings.len(), headed: false }
    }

    fn head(&mut self, heading: &str) {
        write!(self.text, " {heading} |").expect(STRING);
        self.columns += 1;
    }

    fn row(&mut self, cells: Vec<String>) {
        if !self.headed {
            self.text += &format!("\n|---|{}\n", "--:|".repeat(self.columns - 1));
            self.headed = true;
        }
        writeln!(self.text, "| {} |", cells.join(" | ")).expect(STRING);
    }
}

fn shown(series: &Series) -> String {
    let values: Vec<f64> = series.values().copied().collect();
    spread(&values).map_or(NOTHING.into(), |spread| spread.to_string())
}

fn ratio(over: &Series, under: &Series) -> String {
    spread(&ratios(over, under)).map_or(NOTHING.into(), |spread| spread.to_string())
}

pub const CPU: &str = "cpu_us_per_delivered";
const NOTHING: &str = "–";
const STRING: &str = "a String takes all that is written";

#[cfg(test)]
mod tests {
    use super::super::runs::testing::line;
    use super::*;

    #[test]
    fn a_work_has_one_row_with_its_ratios() {
        let lines = [
            line(1, "fan-in", "floor", "raw", 1.0),
            line(1, "fan-in", "fastportd", "fastport-tcp", 1.5),
            line(1, "fan-in", "fastportd", "fastport-tcp-counted", 1.8),
            line(1, "fan-in", "rumqttd", "mqtt-qos0", 3.0),
        ];
        let runs = Runs::read(&lines.join("\n")).unwrap();
        let text = cpu(&runs, &Columns::of(&runs), false);
        let row = "| 50 → 1, writes of 16, 32 B | 1.00 | 1.50 | 1.50 | 3.00 | 0.50 |\n";
        assert!(text.contains(row), "{text}");
        assert!(flavours(&runs).contains("| 50 → 1, writes of 16, 32 B | 1.20 | – |"));
    }
}
