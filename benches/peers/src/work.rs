//! One run: a scenario with all its numbers, on one relay over one protocol.

use std::time::Duration;

use anyhow::Result;

use crate::peer::Peer;
use crate::protocol::ProtocolKind;
use crate::scenario::case::Case;
use crate::scenario::{Record, footprint, idle, latency, throughput};

/// What a run does.
pub enum Work {
    Throughput { case: Case, options: throughput::Options },
    Latency(latency::Options),
    Idle(idle::Options),
    Footprint(footprint::Options),
}

impl Work {
    pub fn throughput(case: Case, payload: usize, warmup: Duration, measure: Duration) -> Work {
        let options = throughput::Options { payload, warmup, measure, syscalls: false };
        Work::Throughput { case, options }
    }

    /// Does it. A run that failed, or that lost or reordered anything, says so under `failed`.
    pub fn run(&self, peer: &Peer, kind: Option<ProtocolKind>, round: Option<usize>) -> Record {
        let mut record = Record::new(self.scenario(), &peer.name);
        if let Some(round) = round {
            record.put("round", round);
        }
        if let Some(kind) = kind {
            record.put("protocol", kind.name());
        }
        record.put("case", self.case());
        if let Some(payload) = self.payload() {
            record.put("payload", payload);
        }
        let done = self.fill(peer, kind, &mut record);
        let faults = match done {
            Ok(()) => faults(&record),
            Err(error) => Some(format!("{error:#}")),
        };
        if let Some(faults) = faults {
            eprintln!("# failed: {}: {faults}", peer.name);
            record.put("failed", faults);
        }
        record
    }

    fn fill(&self, peer: &Peer, kind: Option<ProtocolKind>, record: &mut Record) -> Result<()> {
        let spoken = || match kind {
            Some(kind) => Ok(kind),
            None => peer.first_protocol(),
        };
        match self {
            Work::Throughput { case, options } => {
                throughput::run(peer, spoken()?, case, options, record)
            }
            Work::Latency(options) => latency::run(peer, spoken()?, options, record),
            Work::Idle(options) => idle::run(peer, spoken()?, options, record),
            Work::Footprint(options) => footprint::run(peer, options, record),
        }
    }

    /// Runs that count system calls are slowed by it, so they are a scenario of their own.
    fn scenario(&self) -> &'static str {
        match self {
            Work::Throughput { options, .. } if options.syscalls => "calls",
            Work::Throughput { .. } => "throughput",
            Work::Latency(_) => "latency",
            Work::Idle(_) => "idle",
            Work::Footprint(_) => "footprint",
        }
    }

    fn case(&self) -> String {
        match self {
            Work::Throughput { case, .. } => case.name.to_string(),
            Work::Latency(_) => "paced".into(),
            Work::Idle(options) => format!("{} connections", options.connections),
            Work::Footprint(_) => String::new(),
        }
    }

    fn payload(&self) -> Option<usize> {
        match self {
            Work::Throughput { options, .. } => Some(options.payload),
            Work::Latency(options) => Some(options.payload),
            Work::Idle(_) | Work::Footprint(_) => None,
        }
    }

    /// The figures worth a line for people.
    pub fn line(&self) -> &'static [&'static str] {
        match self {
            Work::Throughput { options, .. } if options.syscalls => &CALLS_LINE,
            Work::Throughput { .. } => &THROUGHPUT_LINE,
            Work::Latency(_) => &LATENCY_LINE,
            Work::Idle(_) => &IDLE_LINE,
            Work::Footprint(_) => &FOOTPRINT_LINE,
        }
    }
}

/// What makes a run worth nothing.
fn faults(record: &Record) -> Option<String> {
    let found: Vec<String> = ["lost", "out_of_order", "unacknowledged", "closed"]
        .into_iter()
        .filter_map(|name| Some((name, record.number(name).filter(|&n| n > 0.0)?)))
        .map(|(name, n)| format!("{} {n:.0}", name.replace('_', " ")))
        .collect();
    (!found.is_empty()).then(|| found.join(", "))
}

const THROUGHPUT_LINE: [&str; 14] = [
    "round",
    "peer",
    "protocol",
    "case",
    "payload",
    "delivered_per_s",
    "cpu_us_per_delivered",
    "relay_cores",
    "generator_cores",
    "publish_wire_bytes",
    "deliver_wire_bytes",
    "lost",
    "out_of_order",
    "stalls",
];
const CALLS_LINE: [&str; 6] =
    ["round", "peer", "protocol", "case", "calls_all_per_delivered", "calls"];
const LATENCY_LINE: [&str; 11] = [
    "round",
    "peer",
    "protocol",
    "p50_us",
    "p99_us",
    "p999_us",
    "max_us",
    "cpu_us_per_delivered",
    "late_sends",
    "lost",
    "out_of_order",
];
const IDLE_LINE: [&str; 10] = [
    "round",
    "peer",
    "protocol",
    "connections",
    "alive",
    "connects_per_s",
    "pss_before_kib",
    "pss_after_kib",
    "pss_bytes_per_connection",
    "idle_cpu_us_per_s",
];
const FOOTPRINT_LINE: [&str; 9] = [
    "round",
    "peer",
    "version",
    "binary_bytes",
    "pss_kib",
    "private_dirty_kib",
    "ready_ms",
    "idle_switches_per_s",
    "threads",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_lost_or_reordered_is_a_failed_run() {
        let mut record = Record::new("throughput", "x");
        record.put("lost", 0).put("out_of_order", 0).put("stalls", 1);
        assert_eq!(faults(&record), None);
        record.put("lost", 3).put("out_of_order", 2);
        assert_eq!(faults(&record).as_deref(), Some("lost 3, out of order 2"));
    }
}
