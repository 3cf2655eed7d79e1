//! Tables of medians, out of the JSON lines of many runs.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::stats::spread;

/// A column: the figure's name, the heading, what to divide by, and the decimals shown.
struct Column(&'static str, &'static str, f64, usize);

const KIB: f64 = 1024.0;

fn columns(scenario: &str) -> &'static [Column] {
    match scenario {
        "throughput" => &[
            Column("cpu_us_per_delivered", "relay CPU µs/delivered", 1.0, 3),
            Column("delivered_per_s", "k delivered/s", 1e3, 1),
            Column("relay_cores", "relay cores", 1.0, 2),
            Column("generator_cores", "generator cores", 1.0, 2),
            Column("publish_wire_bytes", "wire B/publish", 1.0, 1),
            Column("deliver_wire_bytes", "wire B/delivery", 1.0, 1),
            Column("switches_per_delivered", "switches/delivered", 1.0, 4),
            Column("relay_pss_kib", "relay PSS MiB", KIB, 1),
        ],
        "calls" => &[
            Column("calls_all_per_delivered", "system calls/delivered", 1.0, 3),
            Column("switches_per_delivered", "switches/delivered", 1.0, 4),
        ],
        "latency" => &[
            Column("p50_us", "p50 µs", 1.0, 0),
            Column("p99_us", "p99 µs", 1.0, 0),
            Column("p999_us", "p99.9 µs", 1.0, 0),
            Column("max_us", "max µs", 1.0, 0),
            Column("cpu_us_per_delivered", "relay CPU µs/delivered", 1.0, 1),
            Column("switches_per_delivered", "switches/delivered", 1.0, 2),
            Column("late_sends", "late sends", 1.0, 0),
        ],
        "idle" => &[
            Column("pss_bytes_per_connection", "PSS B/connection", 1.0, 0),
            Column("rss_bytes_per_connection", "RSS B/connection", 1.0, 0),
            Column("pss_before_kib", "PSS before MiB", KIB, 2),
            Column("pss_after_kib", "PSS after MiB", KIB, 2),
            Column("connects_per_s", "connects/s", 1.0, 0),
            Column("connect_cpu_us", "CPU µs/connect", 1.0, 1),
            Column("idle_cpu_us_per_s", "held: CPU µs/s", 1.0, 0),
            Column("closed", "closed by relay", 1.0, 0),
        ],
        _ => &[
            Column("binary_bytes", "binary KiB", KIB, 0),
            Column("stripped_bytes", "stripped KiB", KIB, 0),
            Column("library_bytes", "shared libs KiB", KIB, 0),
            Column("rss_kib", "RSS MiB", KIB, 2),
            Column("pss_kib", "PSS MiB", KIB, 2),
            Column("private_dirty_kib", "Private_Dirty MiB", KIB, 2),
            Column("threads", "threads", 1.0, 0),
            Column("idle_cpu_us_per_s", "CPU µs/s", 1.0, 0),
            Column("idle_switches_per_s", "switches/s", 1.0, 1),
        ],
    }
}

fn text<'a>(run: &'a Value, name: &str) -> &'a str {
    run.get(name).and_then(Value::as_str).unwrap_or("")
}

fn numbers(runs: &[&Value], name: &str) -> Vec<f64> {
    runs.iter().filter_map(|run| run.get(name)?.as_f64()).collect()
}

/// Figures of which any is worth a remark at all.
const FAULTS: [&str; 4] = ["lost", "out_of_order", "unacknowledged", "stalls"];

fn cell(runs: &[&Value], column: &Column) -> String {
    let Column(name, _, unit, places) = column;
    let values: Vec<f64> = numbers(runs, name).iter().map(|v| v / unit).collect();
    let Some(s) = spread(&values) else { return "–".into() };
    let show = |v: f64| format!("{v:.places$}");
    if show(s.min) == show(s.max) {
        return show(s.median);
    }
    format!("{} [{}–{}]", show(s.median), show(s.min), show(s.max))
}

/// One Markdown table for each scenario, case and payload, rows by the first column's median.
pub fn tables(lines: &str) -> Result<String> {
    let mut groups: BTreeMap<(String, String, u64), Vec<Value>> = BTreeMap::new();
    for line in lines.lines().filter(|line| line.starts_with('{')) {
        let run: Value = serde_json::from_str(line).with_context(|| line.to_string())?;
        if text(&run, "scenario") == "machine" {
            continue;
        }
        let payload = run.get("payload").and_then(Value::as_u64).unwrap_or(0);
        let key = (text(&run, "scenario").to_string(), text(&run, "case").to_string(), payload);
        groups.entry(key).or_default().push(run);
    }
    let mut out = String::new();
    for ((scenario, case, payload), runs) in &groups {
        let loads = spread(&numbers(&runs.iter().collect::<Vec<_>>(), "load1"));
        write!(out, "### {scenario}")?;
        if !case.is_empty() {
            write!(out, ", {case}")?;
        }
        if *payload > 0 {
            write!(out, ", {payload}-byte payload")?;
        }
        writeln!(out, "\n")?;
        if let Some(first) = runs.first().filter(|_| scenario == "throughput") {
            writeln!(out, "{}\n", shape(first))?;
        }
        let columns = columns(scenario);
        write!(out, "| relay | protocol |")?;
        for Column(_, heading, ..) in columns {
            write!(out, " {heading} |")?;
        }
        writeln!(out, " lost | runs |")?;
        writeln!(out, "|---|---|{}---:|---:|", "---:|".repeat(columns.len()))?;

        let mut rows: BTreeMap<(&str, &str), Vec<&Value>> = BTreeMap::new();
        for run in runs {
            rows.entry((text(run, "peer"), text(run, "protocol"))).or_default().push(run);
        }
        let mut rows: Vec<_> = rows.into_iter().collect();
        let key = |runs: &[&Value]| {
            spread(&numbers(runs, columns[0].0)).map_or(f64::INFINITY, |s| s.median)
        };
        rows.sort_by(|a, b| key(&a.1).total_cmp(&key(&b.1)));
        for ((peer, protocol), runs) in rows {
            let good = runs.iter().filter(|run| run.get("failed").is_none());
            let good: Vec<&Value> = good.copied().collect();
            let protocol = if protocol.is_empty() { "–" } else { protocol };
            write!(out, "| {peer} | {protocol} |")?;
            for column in columns {
                write!(out, " {} |", cell(&good, column))?;
            }
            let faults = faults(&runs);
            let failed = runs.iter().filter(|run| run.get("failed").is_some()).count();
            let failed = if failed > 0 { format!(", {failed} failed") } else { String::new() };
            writeln!(out, " {faults} | {}{failed} |", runs.len())?;
        }
        if let Some(load) = loads {
            writeln!(
                out,
                "\nLoad average at the runs' starts: median {:.1}, {:.1}–{:.1}.",
                load.median, load.min, load.max
            )?;
        }
        writeln!(out)?;
    }
    Ok(out)
}

/// The traffic of a throughput run.
fn shape(run: &Value) -> String {
    let n = |name| run.get(name).and_then(Value::as_u64).unwrap_or(0);
    let rate = match n("rate") {
        0 => "unbounded".to_string(),
        rate => format!("{rate} messages/s in all"),
    };
    format!(
        "Publishers {}, subscribers {}, messages per write {}, in flight per publisher at most {}, \
         rate {rate}.",
        n("publishers"),
        n("subscribers"),
        n("batch"),
        n("window"),
    )
}

/// What is worth a remark, summed over the runs.
fn faults(runs: &[&Value]) -> String {
    let sums = FAULTS.iter().filter_map(|name| {
        let seen = numbers(runs, name);
        let sum: f64 = seen.iter().sum();
        match *name {
            "lost" => (!seen.is_empty()).then(|| format!("{sum:.0}")),
            other => (sum > 0.0).then(|| format!("{} {sum:.0}", other.replace('_', " "))),
        }
    });
    let sums: Vec<String> = sums.collect();
    if sums.is_empty() { "–".into() } else { sums.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_become_one_row_with_their_median() {
        let run = |peer: &str, p50: f64, lost: u64| {
            serde_json::json!({"scenario": "latency", "case": "paced", "peer": peer,
                "protocol": "nats", "payload": 32, "p50_us": p50, "lost": lost, "load1": 1.0})
            .to_string()
        };
        let lines = [run("b", 30.0, 0), run("b", 10.0, 2), run("b", 20.0, 0), run("a", 90.0, 0)];
        let table = tables(&lines.join("\n")).unwrap();
        let rows: Vec<&str> = table.lines().filter(|l| l.contains("| nats |")).collect();
        assert!(rows[0].starts_with("| b | nats | 20 [10–30] |"), "{table}");
        assert!(rows[0].ends_with("| 2 | 3 |"), "{table}");
        assert!(rows[1].starts_with("| a | nats | 90 |"), "{table}");
    }
}
