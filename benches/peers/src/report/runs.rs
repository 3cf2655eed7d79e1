//! The runs of a suite, and what can be asked of them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

/// Which runs: those of one work on one relay.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    #[serde(default = "throughput")]
    pub scenario: String,
    #[serde(default)]
    pub case: String,
    pub payload: Option<u64>,
    #[serde(default = "fastportd")]
    pub peer: String,
    #[serde(default = "fastport_tcp")]
    pub protocol: String,
}

fn throughput() -> String {
    "throughput".into()
}

fn fastportd() -> String {
    FASTPORT.into()
}

fn fastport_tcp() -> String {
    "fastport-tcp".into()
}

/// A figure of each round.
pub type Series = BTreeMap<u64, f64>;

/// All runs of a suite.
#[derive(Default)]
pub struct Runs {
    /// The line of the machine.
    pub machine: Value,
    good: BTreeMap<Key, BTreeMap<u64, Value>>,
    /// The runs that failed, in the words of their lines.
    pub failed: Vec<String>,
    pub count: usize,
}

impl Runs {
    /// Reads JSON lines.
    ///
    /// # Errors
    /// For a line that begins with `{` and is no JSON.
    pub fn read(lines: &str) -> Result<Runs> {
        let mut runs = Runs::default();
        for line in lines.lines().filter(|line| line.starts_with('{')) {
            let run: Value = serde_json::from_str(line).with_context(|| line.to_string())?;
            let text = |name| run.get(name).and_then(Value::as_str).unwrap_or("").to_string();
            let round = run.get("round").and_then(Value::as_u64).unwrap_or(0);
            let key = Key {
                scenario: text("scenario"),
                case: text("case"),
                payload: run.get("payload").and_then(Value::as_u64),
                peer: text("peer"),
                protocol: text("protocol"),
            };
            if key.scenario == "machine" {
                runs.machine = run;
                continue;
            }
            runs.count += 1;
            if let Some(why) = run.get("failed").and_then(Value::as_str) {
                let Key { scenario, case, peer, protocol, .. } = &key;
                let line = format!("round {round}, {scenario} {case}, {peer} {protocol}: {why}");
                runs.failed.push(line);
            } else {
                runs.good.entry(key).or_default().insert(round, run);
            }
        }
        Ok(runs)
    }

    /// The keys of runs that did not fail.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.good.keys()
    }

    /// The works of a scenario, each as case and payload.
    pub fn works(&self, scenario: &str) -> Vec<(String, Option<u64>)> {
        let of_it = self.keys().filter(|key| key.scenario == scenario);
        let works: BTreeSet<_> = of_it.map(|key| (key.case.clone(), key.payload)).collect();
        works.into_iter().collect()
    }

    /// A figure of every round that has it. Footprints have no protocol.
    pub fn series(&self, key: &Key, figure: &str) -> Series {
        let mut key = key.clone();
        if key.scenario == "footprint" {
            key.protocol.clear();
        }
        let rounds = self.good.get(&key).into_iter().flatten();
        rounds.filter_map(|(&round, run)| Some((round, run.get(figure)?.as_f64()?))).collect()
    }

    /// Why a figure is not there, where the run says so.
    pub fn excuse(&self, key: &Key) -> Option<&str> {
        self.good.get(key)?.values().find_map(|run| run.get("calls")?.as_str())
    }

    /// The figure of the best peer of each round at the work of `key`, with acknowledgement if `key`
    /// has it: neither fastPort nor the floor.
    pub fn best(&self, key: &Key, figure: &str) -> Series {
        let more_is_better = figure.ends_with("_per_s") && figure.starts_with("connects");
        let mut best = Series::new();
        let others = self.keys().filter(|other| {
            other.scenario == key.scenario
                && other.case == key.case
                && other.payload == key.payload
                && is_peer(&other.peer)
                && is_counted(&other.protocol) == is_counted(&key.protocol)
        });
        for other in others {
            for (round, value) in self.series(other, figure) {
                let so_far = best.entry(round).or_insert(value);
                *so_far = if more_is_better { so_far.max(value) } else { so_far.min(value) };
            }
        }
        best
    }
}

/// The ratio of each round that has both.
pub fn ratios(over: &Series, under: &Series) -> Vec<f64> {
    over.iter().filter_map(|(round, value)| Some(value / under.get(round)?)).collect()
}

/// Whether messages are acknowledged.
pub fn is_counted(protocol: &str) -> bool {
    protocol == "mqtt-qos1" || protocol.ends_with("-counted")
}

/// Whether a relay is somebody else's.
pub fn is_peer(name: &str) -> bool {
    name != FLOOR && !name.starts_with(FASTPORT)
}

pub const FASTPORT: &str = "fastportd";
pub const FLOOR: &str = "floor";

#[cfg(test)]
pub mod testing {
    use super::Key;

    /// A line of a throughput run of 32 bytes.
    pub fn line(round: u64, case: &str, peer: &str, protocol: &str, cpu: f64) -> String {
        serde_json::json!({"scenario": "throughput", "case": case, "payload": 32, "round": round,
            "peer": peer, "protocol": protocol, "cpu_us_per_delivered": cpu})
        .to_string()
    }

    pub fn key(case: &str, peer: &str, protocol: &str) -> Key {
        let text = |text: &str| text.to_string();
        Key {
            scenario: text("throughput"),
            case: text(case),
            payload: Some(32),
            peer: text(peer),
            protocol: text(protocol),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{key, line};
    use super::*;

    #[test]
    fn ratios_are_those_of_the_same_round() {
        let lines = [
            line(1, "fan-in", "fastportd", "fastport-tcp", 2.0),
            line(1, "fan-in", "floor", "raw", 1.0),
            line(2, "fan-in", "fastportd", "fastport-tcp", 9.0),
            line(2, "fan-in", "floor", "raw", 3.0),
            line(3, "fan-in", "fastportd", "fastport-tcp", 5.0),
        ];
        let runs = Runs::read(&lines.join("\n")).unwrap();
        let series = |peer, protocol| runs.series(&key("fan-in", peer, protocol), CPU);
        assert_eq!(
            ratios(&series("fastportd", "fastport-tcp"), &series("floor", "raw")),
            [2.0, 3.0]
        );
    }

    #[test]
    fn the_best_peer_of_a_round_gives_the_same_guarantee_and_is_no_other_fastport() {
        let lines = [
            line(1, "fan-in", "nats-server", "nats", 4.0),
            line(1, "fan-in", "rumqttd", "mqtt-qos0", 5.0),
            line(1, "fan-in", "rumqttd", "mqtt-qos1", 3.0),
            line(1, "fan-in", "fastportd-2-workers", "fastport-tcp", 1.0),
            line(1, "fan-in", "floor", "raw", 1.0),
            line(2, "fan-in", "nats-server", "nats", 7.0),
            line(2, "fan-in", "rumqttd", "mqtt-qos0", 6.0),
        ];
        let runs = Runs::read(&lines.join("\n")).unwrap();
        let best = |protocol| runs.best(&key("fan-in", "fastportd", protocol), CPU);
        assert_eq!(best("fastport-tcp"), Series::from([(1, 4.0), (2, 6.0)]));
        assert_eq!(best("fastport-tcp-counted"), Series::from([(1, 3.0)]));
    }

    #[test]
    fn a_failed_run_counts_nowhere_but_is_named() {
        let mut run: Value = serde_json::from_str(&line(1, "fan-in", "floor", "raw", 1.0)).unwrap();
        run["failed"] = "lost 3".into();
        let runs = Runs::read(&run.to_string()).unwrap();
        assert!(runs.series(&key("fan-in", "floor", "raw"), CPU).is_empty());
        assert_eq!(runs.failed, ["round 1, throughput fan-in, floor raw: lost 3"]);
    }

    const CPU: &str = "cpu_us_per_delivered";
}
