//! `fastport uplink`.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;

use fastport_wire::Topic;
use serde_json::Value;

use super::arguments::{Common, UplinkStatus, UplinkTest};
use super::exit::{FILE, Failure, Outcome};
use super::link::{self, connect};
use crate::config::{Config, ConfigError, Uplink};
use crate::uplink::{Carried, Rules};

pub(super) async fn status(status: &UplinkStatus, common: Common) -> Outcome {
    let options = link::options(&common)?;
    let url = options.target.to_string();
    let client = connect(options).await?;
    let text = client.status().await.map_err(|error| Failure::request(&url, "status", &error))?;
    // nothing was published
    client.close().await.unwrap_or_default();
    let figures: Value = serde_json::from_str(&text)
        .map_err(|error| Failure::data(format!("{url}: status is no JSON: {error}")))?;
    let uplink = figures.get("uplink").ok_or_else(|| {
        Failure::data(format!(
            "{url}: tells of no uplink: there is none, or it is told on the board itself only"
        ))
    })?;
    match status.json {
        true => print(&format!("{uplink}\n")),
        false => print(&lanes(uplink)),
    }
}

pub(super) fn test(test: &UplinkTest) -> Outcome {
    let config = load(&test.config)?;
    let topic = Topic::parse(&test.topic)
        .map_err(|error| Failure::usage(format!("{:?}: {error}", test.topic)))?;
    print(&verdict(&config.uplink, topic))
}

fn load(path: &Path) -> Result<Config, Failure> {
    Config::load(Some(path), std::env::vars()).map_err(|error| match error {
        ConfigError::Unreadable { .. } => Failure::new(FILE, error.to_string()),
        _ => Failure::data(error.to_string()),
    })
}

fn print(text: &str) -> Outcome {
    let mut out = io::stdout();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| Failure::output(&error))
}

/// What the rules make of a topic, in both directions.
fn verdict(uplink: &Uplink, topic: Topic<'_>) -> String {
    let rules = Rules::new(uplink);
    let there = rules.central_name(topic.as_str());
    let up = match rules.up(topic) {
        Some(carried) => format!("{} to {}", rule(&carried), carried.name),
        None => "stays here: no rule takes it".to_owned(),
    };
    let down = match rules.down(&there) {
        Some(carried) => format!("{} from {there}", rule(&carried)),
        None => "stays there: no rule takes it".to_owned(),
    };
    let off =
        if uplink.is_on() { "" } else { "off   uplink.central is empty: nothing is carried\n" };
    format!("up    {up}\ndown  {down}\n{off}")
}

fn rule(carried: &Carried<'_>) -> String {
    let rule = carried.rule;
    format!("rule {} {:?}, lane {},", carried.place + 1, rule.filter.as_str(), rule.lane.name())
}

/// A paragraph for each lane.
fn lanes(uplink: &Value) -> String {
    let mut text = String::new();
    let Some(lanes) = uplink.get("lanes").and_then(Value::as_object) else { return text };
    for (name, lane) in lanes {
        let number = |key: &str| lane.get(key).and_then(Value::as_u64).unwrap_or(0);
        let word = |key: &str| lane.get(key).and_then(Value::as_str).unwrap_or_default();
        let since = number("since_seconds");
        // a String takes all
        writeln!(
            text,
            "{name}: {} for {since} s, {} {}",
            word("link"),
            word("central"),
            word("address")
        )
        .unwrap_or_default();
        if !word("error").is_empty() {
            writeln!(text, "  last error   {}", word("error")).unwrap_or_default();
        }
        if let Some(round_trip) = lane.get("round_trip_ms").and_then(Value::as_u64) {
            writeln!(text, "  round trip   {round_trip} ms").unwrap_or_default();
        }
        writeln!(
            text,
            "  waiting      {} messages, the oldest for {} s; {} went up in the last second",
            number("unacknowledged"),
            number("oldest_seconds"),
            number("drain_rate")
        )
        .unwrap_or_default();
        writeln!(
            text,
            "  carried      {} up, {} down; {} bytes out, {} in",
            number("messages_up"),
            number("messages_down"),
            number("bytes_out"),
            number("bytes_in")
        )
        .unwrap_or_default();
        writeln!(
            text,
            "  packed       from {} bytes out, {} in",
            number("frames_out"),
            number("frames_in")
        )
        .unwrap_or_default();
        let listed = |key: &str| list(lane.get(key));
        writeln!(text, "  dropped      {}", listed("dropped")).unwrap_or_default();
        writeln!(
            text,
            "  connections  {} of {} attempts; failed: {}",
            number("connects"),
            number("attempts"),
            listed("failures")
        )
        .unwrap_or_default();
    }
    text
}

/// `3 lost, 1 name`
fn list(numbers: Option<&Value>) -> String {
    let numbers = numbers.and_then(Value::as_object);
    let all: Vec<String> =
        numbers.into_iter().flatten().map(|(name, number)| format!("{number} {name}")).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_told_in_both_directions() {
        let text = r#"
            [[session]]
            name = "home"
            [uplink]
            central = ["tcp://a"]
            identity = "gw"
            prefix = "gateways/%d"
            spool.disk = 0
            [[uplink.rule]]
            filter = "plant/#"
            lane = "bulk"
            [[uplink.rule]]
            direction = "down"
            filter = "cmd/+"
        "#;
        let config = Config::parse(text, Path::new("gateway.toml"), std::iter::empty());
        let uplink = config.expect("a configuration").uplink;
        let verdict = |topic| verdict(&uplink, Topic::parse(topic).expect("a topic"));
        assert_eq!(
            verdict("plant/a"),
            "up    rule 1 \"plant/#\", lane bulk, to gateways/gw/plant/a\n\
             down  stays there: no rule takes it\n"
        );
        assert_eq!(
            verdict("cmd/open"),
            "up    stays here: no rule takes it\n\
             down  rule 2 \"cmd/+\", lane normal, from gateways/gw/cmd/open\n"
        );
    }

    #[test]
    fn a_lane_is_told_in_lines() {
        let uplink = serde_json::json!({ "lanes": { "normal": {
            "link": "ready", "since_seconds": 7, "central": "tcp://a:1", "address": "1.2.3.4:1",
            "round_trip_ms": 12, "unacknowledged": 3, "oldest_seconds": 1, "drain_rate": 50,
            "messages_up": 9, "messages_down": 2, "bytes_out": 100, "bytes_in": 50,
            "frames_out": 400, "frames_in": 80,
            "dropped": {}, "connects": 1, "attempts": 4, "failures": { "name": 3 },
        }}});
        let expected = "normal: ready for 7 s, tcp://a:1 1.2.3.4:1\n\
            \x20 round trip   12 ms\n\
            \x20 waiting      3 messages, the oldest for 1 s; 50 went up in the last second\n\
            \x20 carried      9 up, 2 down; 100 bytes out, 50 in\n\
            \x20 packed       from 400 bytes out, 80 in\n\
            \x20 dropped      none\n\
            \x20 connections  1 of 4 attempts; failed: 3 name\n";
        assert_eq!(lanes(&uplink), expected);
    }
}
