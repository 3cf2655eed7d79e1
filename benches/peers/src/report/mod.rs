//! `docs/benchmarks.md` and its charts, out of the lines of a suite.

mod charts;
mod runs;
mod svg;
mod tables;
mod targets;

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use serde_json::Value;

use self::runs::Runs;
use self::tables::Columns;

#[derive(Args)]
pub struct Report {
    /// The file that a suite wrote with `--out`.
    lines: PathBuf,
    /// What is to be reached.
    #[arg(long, default_value = "targets.toml")]
    targets: PathBuf,
    /// The page: what is between its marks is written anew, the rest stays. Charts go to a folder
    /// beside it that has its name. Without it the page's part is printed.
    #[arg(long)]
    page: Option<PathBuf>,
}

pub fn run(report: &Report) -> Result<()> {
    let lines = &report.lines;
    let text = fs::read_to_string(lines).with_context(|| lines.display().to_string())?;
    let runs = Runs::read(&text)?;
    let targets = targets::load(&report.targets)?;
    let charts = charts::all(&runs);
    let folder = match &report.page {
        Some(page) => page.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default(),
        None => "",
    };
    let part = part(&runs, &targets::table(&targets, &runs), &charts, folder);
    let Some(page) = &report.page else {
        print!("{part}");
        return Ok(());
    };
    let text = fs::read_to_string(page).with_context(|| page.display().to_string())?;
    fs::write(page, between_marks(&text, &part).with_context(|| page.display().to_string())?)?;
    let folder = page.with_extension("");
    fs::create_dir_all(&folder)?;
    for (name, svg) in &charts {
        fs::write(Path::new(&folder).join(name), svg)?;
    }
    Ok(())
}

/// The page with a new part between the marks.
fn between_marks(page: &str, part: &str) -> Result<String> {
    let (before, rest) = page.split_once(BEGIN).context("no begin mark")?;
    let (_, after) = rest.split_once(END).context("no end mark")?;
    Ok(format!("{before}{BEGIN}\n{part}{END}{after}"))
}

fn part(runs: &Runs, targets: &str, charts: &[(String, String)], folder: &str) -> String {
    let columns = Columns::of(runs);
    let mut text = String::new();
    let mut section = |title: &str, words: &str, table: &str| {
        write!(text, "\n## {title}\n\n").expect(STRING);
        if !words.is_empty() {
            write!(text, "{words}\n\n").expect(STRING);
        }
        text.push_str(table);
    };
    section("What it ran on", "", &machine(runs));
    section("Targets", "", targets);
    let chart = |name: &str| match charts.iter().any(|(chart, _)| chart == name) {
        true => format!("![{name}]({folder}/{name})"),
        false => String::new(),
    };
    let plain = "Relay CPU time for each delivered message, without acknowledgement.\n\n";
    let words = format!("{plain}{}", chart("plain.svg"));
    section("Plain", &words, &tables::cpu(runs, &columns, false));
    let counted = "The same with every message acknowledged on both sides: counted, MQTT QoS 1. The \
                   floor acknowledges nothing; NATS has no acknowledgement.\n\n";
    let words = format!("{counted}{}", chart("counted.svg"));
    section("Counted", &words, &tables::cpu(runs, &columns, true));
    let words = "fastPort's relay CPU time by that of its plain TCP run of the same round.";
    section("Acknowledgement, transports, readings", words, &tables::flavours(runs));
    section("Costs that must stay flat", "", &tables::flat(runs));
    let words = format!(
        "One publisher, one subscriber, 1,000 messages a second.\n\n{}",
        chart("latency.svg")
    );
    section(
        "Latency",
        &words,
        &tables::by_relay(runs, "latency", "paced", &LATENCY, Some("p50_us")),
    );
    let calls = tables::plain(runs, &columns, "calls", "calls_all_per_delivered", 1.0);
    section("System calls for each delivered message", "", &calls);
    let words = "Bytes that a subscriber read for each message, without TCP/IP headers.";
    let bytes = tables::plain(runs, &columns, "throughput", "deliver_wire_bytes", 1.0);
    section("Wire bytes", words, &bytes);
    let words = "Thousands of messages a second that subscribers got. The generator shares the \
                 machine and is one thread, so this says more of both than of the relay.";
    let rate = tables::plain(runs, &columns, "throughput", "delivered_per_s", 1e3);
    section("Rates", words, &rate);
    let words = "Of the relay, at the end of the measured time, MiB.";
    let memory = tables::plain(runs, &columns, "throughput", "relay_pss_kib", 1024.0);
    section("Memory under load (PSS)", words, &memory);
    for (case, _) in runs.works("idle") {
        let title = format!("Idle peers: {case}, each subscribed to a topic of its own");
        section(&title, "", &tables::by_relay(runs, "idle", &case, &IDLE, None));
    }
    let footprint = tables::by_relay(runs, "footprint", "", &FOOTPRINT, None);
    section("No client at all", "", &footprint);
    let failed = match runs.failed.is_empty() {
        true => "None. Every message of every run arrived, once, in order.\n".to_string(),
        false => runs.failed.iter().map(|line| format!("- {line}\n")).collect(),
    };
    section("Failed runs", "", &failed);
    text
}

fn machine(runs: &Runs) -> String {
    let Value::Object(machine) = &runs.machine else { return String::new() };
    let mut text = String::from("| | |\n|---|---|\n");
    let shown = machine.iter().filter(|(name, _)| !matches!(name.as_str(), "scenario" | "peer"));
    for (name, value) in shown {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_string);
        let name = if name == "load1" { "load at the start" } else { name };
        writeln!(text, "| {name} | {} |", value.replace('|', "\\|")).expect(STRING);
    }
    writeln!(text, "| runs | {}, of them failed {} |", runs.count, runs.failed.len())
        .expect(STRING);
    text
}

const LATENCY: [(&str, &str, f64); 5] = [
    ("p50_us", "p50, µs", 1.0),
    ("p99_us", "p99, µs", 1.0),
    ("p999_us", "p99.9, µs", 1.0),
    ("cpu_us_per_delivered", "relay CPU, µs", 1.0),
    ("late_sends", "late sends", 1.0),
];
const IDLE: [(&str, &str, f64); 4] = [
    ("connects_per_s", "connects/s", 1.0),
    ("connect_cpu_us", "relay CPU/connect, µs", 1.0),
    ("pss_bytes_per_connection", "PSS a peer, KiB", 1024.0),
    ("idle_cpu_us_per_s", "CPU µs/s, held", 1.0),
];
const FOOTPRINT: [(&str, &str, f64); 6] = [
    ("pss_kib", "PSS, MiB", 1024.0),
    ("private_dirty_kib", "private dirty, MiB", 1024.0),
    ("ready_ms", "exec to first connection, ms", 1.0),
    ("idle_switches_per_s", "wake-ups/s", 1.0),
    ("stripped_bytes", "binary, KiB", 1024.0),
    ("library_bytes", "shared libraries, KiB", 1024.0),
];
const BEGIN: &str = "<!-- peerbench writes from here -->";
const END: &str = "<!-- to here -->";
const STRING: &str = "a String takes all that is written";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_by_hand_stays() {
        let page = format!("# Title\n{BEGIN}\nold\n{END}\nreasons\n");
        let new = between_marks(&page, "new\n").unwrap();
        assert_eq!(new, format!("# Title\n{BEGIN}\nnew\n{END}\nreasons\n"));
        assert_eq!(between_marks(&new, "new\n").unwrap(), new);
        assert!(between_marks("# Title", "new").is_err());
    }
}
