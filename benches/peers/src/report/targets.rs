//! What is to be reached, and whether it is.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::runs::{Key, Runs, ratios};
use crate::stats::{Spread, spread};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    what: String,
    #[serde(default)]
    best_here: String,
    run: Key,
    #[serde(default = "cpu")]
    figure: String,
    over: Option<Over>,
    #[serde(default = "one")]
    per: f64,
    #[serde(default)]
    unit: String,
    at_most: Option<f64>,
    at_least: Option<f64>,
}

/// What a figure is divided by, of the same round.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Over {
    Words(String),
    #[serde(rename_all = "snake_case")]
    Other {
        case: Option<String>,
        peer: Option<String>,
        protocol: Option<String>,
    },
}

fn cpu() -> String {
    "cpu_us_per_delivered".into()
}

fn one() -> f64 {
    1.0
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    target: Vec<Target>,
}

/// Reads the targets.
///
/// # Errors
/// For what cannot be read, and for a target without exactly one bound.
pub fn load(path: &Path) -> Result<Vec<Target>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    parse(&text).with_context(|| path.display().to_string())
}

fn parse(text: &str) -> Result<Vec<Target>> {
    let targets = toml::from_str::<File>(text)?.target;
    for target in &targets {
        let bounds = target.at_most.is_some() != target.at_least.is_some();
        ensure!(bounds, "{}: at_most or at_least must be there", target.what);
        if let Some(Over::Words(words)) = &target.over {
            ensure!(words == BEST_PEER, "{}: over {words:?} means nothing", target.what);
        }
    }
    Ok(targets)
}

impl Target {
    fn measured(&self, runs: &Runs) -> Option<Spread> {
        let figure = runs.series(&self.run, &self.figure);
        let values: Vec<f64> = match &self.over {
            None => figure.values().map(|value| value / self.per).collect(),
            Some(Over::Words(_)) => ratios(&figure, &runs.best(&self.run, &self.figure)),
            Some(Over::Other { case, peer, protocol }) => {
                let mut other = self.run.clone();
                other.case = case.clone().unwrap_or(other.case);
                other.peer = peer.clone().unwrap_or(other.peer);
                other.protocol = protocol.clone().unwrap_or(other.protocol);
                ratios(&figure, &runs.series(&other, &self.figure))
            }
        };
        spread(&values)
    }

    fn is_met(&self, measured: Spread) -> bool {
        self.at_most.is_none_or(|most| measured.median <= most)
            && self.at_least.is_none_or(|least| measured.median >= least)
    }

    fn bound(&self) -> String {
        match (self.at_most, self.at_least) {
            (Some(most), _) => format!("≤ {most} {}", self.unit),
            (None, Some(least)) => format!("≥ {least} {}", self.unit),
            (None, None) => String::new(),
        }
    }
}

/// A Markdown table: each target, what was measured, and whether that meets it.
pub fn table(targets: &[Target], runs: &Runs) -> String {
    let mut text = String::from(
        "| work | best peer when the target was set | target | measured | |\n|---|---|--:|--:|---|\n",
    );
    for target in targets {
        let (measured, verdict) = match target.measured(runs) {
            Some(measured) if target.is_met(measured) => (measured.to_string(), "met"),
            Some(measured) => (measured.to_string(), "**not met**"),
            None => {
                let why = runs.excuse(&target.run).unwrap_or("not measured");
                (why.to_string(), "")
            }
        };
        let (what, best, bound) = (&target.what, &target.best_here, target.bound());
        let best = if best.is_empty() { "–" } else { best };
        writeln!(text, "| {what} | {best} | {} | {measured} | {verdict} |", bound.trim_end())
            .expect("a String takes all that is written");
    }
    text
}

const BEST_PEER: &str = "best peer";

#[cfg(test)]
mod tests {
    use super::super::runs::testing::line;
    use super::*;

    fn target(over: &str, bound: &str) -> Vec<Target> {
        let text = format!(
            "[[target]]\nwhat = 'x'\nrun = {{ case = 'fan-in', payload = 32 }}\n{over}\n{bound}"
        );
        parse(&text).unwrap()
    }

    #[test]
    fn the_file_of_the_project_can_be_read() {
        let targets =
            load(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/targets.toml"))).unwrap();
        assert!(targets.len() > 20);
    }

    #[test]
    fn a_target_is_met_by_the_median_of_the_rounds() {
        let runs: Vec<String> = [(1, 1.2), (2, 1.4), (3, 9.0)]
            .into_iter()
            .flat_map(|(round, ratio)| {
                [
                    line(round, "fan-in", "fastportd", "fastport-tcp", 2.0 * ratio),
                    line(round, "fan-in", "floor", "raw", 2.0),
                    line(round, "fan-in", "rumqttd", "mqtt-qos0", 4.0 * ratio),
                ]
            })
            .collect();
        let runs = Runs::read(&runs.join("\n")).unwrap();
        let floor = "over = { peer = 'floor', protocol = 'raw' }";
        let told = |over, bound| table(&target(over, bound), &runs);
        assert!(told(floor, "at_most = 1.5").ends_with("| ≤ 1.5 | 1.40 [1.20–9.00] | met |\n"));
        assert!(told(floor, "at_most = 1.3").contains("not met"));
        assert!(told("over = 'best peer'", "at_least = 0.6").contains("| 0.50 | **not met** |"));
        assert!(told("over = { case = 'none' }", "at_most = 1").contains("| not measured |"));
    }

    #[test]
    fn a_target_has_one_bound() {
        assert!(parse("[[target]]\nwhat = 'x'\nrun = {}").is_err());
        assert!(parse("[[target]]\nwhat = 'x'\nrun = {}\nat_most = 1\nat_least = 1").is_err());
        assert!(parse("[[target]]\nwhat = 'x'\nrun = {}\nat_most = 1\nover = 'flor'").is_err());
    }
}
