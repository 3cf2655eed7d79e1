//! The scenarios. Each starts a fresh relay, drives it, and returns one `Record`.

pub mod case;
pub mod crowd;
pub mod footprint;
pub mod idle;
pub mod latency;
pub mod stamp;
pub mod throughput;
pub mod traffic;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::procfs;

/// The figures of one run, in the order in which they are printed.
#[derive(Debug, Clone, Default)]
pub struct Record {
    figures: Map<String, Value>,
}

impl Record {
    pub fn new(scenario: &str, peer: &str) -> Self {
        let mut record = Record::default();
        record.put("scenario", scenario);
        record.put("peer", peer);
        record.put("load1", procfs::load_average());
        record
    }

    /// Adds a figure; numbers are kept to four places, which is finer than any of them is known.
    pub fn put(&mut self, name: &str, value: impl Serialize) -> &mut Self {
        let mut value = serde_json::to_value(value).unwrap_or(Value::Null);
        if let Some(n) = value.as_f64().filter(|_| value.is_f64()) {
            value = Value::from((n * 1e4).round() / 1e4);
        }
        self.figures.insert(name.to_string(), value);
        self
    }

    /// A figure that is a number.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.figures.get(name)?.as_f64()
    }

    /// Why the run is worth nothing, if it is.
    pub fn failure(&self) -> Option<&str> {
        self.figures.get("failed")?.as_str()
    }

    pub fn json(&self) -> String {
        Value::Object(self.figures.clone()).to_string()
    }

    pub fn text(&self, name: &str) -> String {
        match self.figures.get(name) {
            None | Some(Value::Null) => "-".into(),
            Some(Value::String(s)) => s.clone(),
            Some(Value::Number(n)) if n.is_f64() => {
                let n = n.as_f64().unwrap_or(f64::NAN);
                if n.abs() >= 1000.0 { format!("{n:.0}") } else { format!("{n:.3}") }
            }
            Some(other) => other.to_string(),
        }
    }

    /// The named figures in one line for people.
    pub fn line(&self, names: &[&str]) -> String {
        let mut line = format!("# {}", self.text("scenario"));
        for name in names {
            line.push_str(&format!(" {name}={}", self.text(name)));
        }
        line
    }
}

/// CPU time of this process, to see that the generator is not what limits a run.
pub fn own_cpu_us() -> f64 {
    procfs::cpu(std::process::id()).map(|c| c.total_us).unwrap_or(f64::NAN)
}
