//! Two builds of one relay, on the same work in interleaved pairs.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

use crate::bench::Bench;
use crate::protocol::ProtocolKind;
use crate::scenario::case::Case;
use crate::stats::{Spread, spread};
use crate::work::Work;

#[derive(Args)]
pub struct Compare {
    /// The program before.
    #[arg(long)]
    a: PathBuf,
    /// The program after.
    #[arg(long)]
    b: PathBuf,
    /// Whose configuration and protocols they have.
    #[arg(long, default_value = "fastportd")]
    peer: String,
    /// Cases of throughput; more than one may be named.
    #[arg(long, default_value = "fan-in")]
    case: Vec<String>,
    #[arg(long, default_value = "fastport-tcp")]
    protocol: Vec<ProtocolKind>,
    #[arg(long, default_value = "32")]
    payload: Vec<usize>,
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    #[arg(long, default_value_t = 0.3)]
    warmup_s: f64,
    #[arg(long, default_value_t = 1.0)]
    measure_s: f64,
}

/// Prints, for each work, CPU time for each delivered message with either, and the ratio b to a of
/// each round.
pub fn run(bench: &Bench, options: &Compare) -> Result<()> {
    for name in &options.case {
        let case = Case::named(name).with_context(|| format!("no case named {name}"))?;
        for &protocol in &options.protocol {
            for &payload in &options.payload {
                compare(bench, options, case, protocol, payload)?;
            }
        }
    }
    Ok(())
}

fn compare(
    bench: &Bench,
    options: &Compare,
    case: Case,
    protocol: ProtocolKind,
    payload: usize,
) -> Result<()> {
    let (warmup, measure) = (options.warmup_s, options.measure_s);
    let (warmup, measure) = (Duration::from_secs_f64(warmup), Duration::from_secs_f64(measure));
    let work = Work::throughput(case, payload, warmup, measure);
    let cpu = |name: &str, file: &Path, round: usize| -> Result<f64> {
        let peer = bench.peer(&options.peer)?.with_binary(name, file)?;
        let record = work.run(&peer, Some(protocol), Some(round));
        if let Some(out) = &bench.out {
            let mut out = std::fs::OpenOptions::new().create(true).append(true).open(out)?;
            writeln!(out, "{}", record.json())?;
        }
        if let Some(fault) = record.failure() {
            anyhow::bail!("{name}: {fault}");
        }
        record.number(FIGURE).context("a run without its figure")
    };
    println!("# {} {payload} B {protocol}: relay CPU µs a delivered message", case.name);
    let (mut before, mut after, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        // either is first in every second round
        let (a, b) = if round % 2 == 1 {
            let a = cpu("a", &options.a, round)?;
            (a, cpu("b", &options.b, round)?)
        } else {
            let b = cpu("b", &options.b, round)?;
            (cpu("a", &options.a, round)?, b)
        };
        println!("#   round {round}: a {a:.4}, b {b:.4}, b/a {:.3}", b / a);
        before.push(a);
        after.push(b);
        ratios.push(b / a);
    }
    let show = |values: &[f64]| match spread(values) {
        Some(Spread { median, min, max }) => format!("{median:.4} [{min:.4}–{max:.4}]"),
        None => "–".into(),
    };
    println!("# a {}, b {}, b/a {}", show(&before), show(&after), show(&ratios));
    Ok(())
}

const FIGURE: &str = "cpu_us_per_delivered";
