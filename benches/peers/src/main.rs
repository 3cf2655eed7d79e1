//! Puts the same work on several pub/sub relays and measures what each takes for it: `README.md`.

mod bench;
mod codec;
mod compare;
mod floor;
mod link;
mod machine;
mod peer;
mod procfs;
mod protocol;
mod relay;
mod report;
mod scenario;
mod stats;
mod suite;
mod summary;
mod syscalls;
mod transport;
mod work;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};

use crate::bench::Bench;
use crate::compare::Compare;
use crate::protocol::ProtocolKind;
use crate::report::Report;
use crate::scenario::case::Case;
use crate::scenario::{footprint, idle, latency, throughput};
use crate::suite::Suite;
use crate::work::Work;

/// Puts the same work on several pub/sub relays and measures what each takes for it.
///
/// Every scenario starts the relay itself, on loopback, and ends it. Each prints one JSON line with
/// all figures and one line for people, which starts with '#'.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// The relays: how to start each.
    #[arg(long, global = true, default_value = "peers.toml")]
    peers: PathBuf,
    /// Also append the JSON lines to this file.
    #[arg(long, global = true)]
    out: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// As many messages as the relay takes, with a bounded number on the way.
    Throughput {
        #[command(flatten)]
        target: Target,
        /// one-to-one, fan-in, fan-in-single, fan-in-paced, fan-out; topics-100 and so on
        #[arg(long, default_value = "one-to-one")]
        case: String,
        #[command(flatten)]
        timing: Timing,
        #[command(flatten)]
        shape: Shape,
        /// Count system calls with perf; not for timing.
        #[arg(long)]
        syscalls: bool,
    },
    /// One publisher at a steady pace, one subscriber.
    Latency {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        timing: Timing,
        #[arg(long, default_value_t = 1000)]
        rate: u64,
    },
    /// Many connections with nothing on the way.
    Idle {
        #[command(flatten)]
        target: Target,
        #[arg(long, default_value_t = 1000)]
        connections: usize,
        #[arg(long, default_value_t = 3.0)]
        settle_s: f64,
        #[arg(long, default_value_t = 5.0)]
        hold_s: f64,
    },
    /// Binary, libraries, memory and wake-ups with no client, and the time to the first connection.
    Footprint {
        #[arg(long)]
        peer: String,
        #[arg(long, default_value_t = 5.0)]
        settle_s: f64,
        #[arg(long, default_value_t = 5.0)]
        watch_s: f64,
    },
    /// Scenarios over all relays, round by round, so that a noisy spell hits all of them.
    Suite(Suite),
    /// Two builds of one relay in interleaved pairs.
    Compare(Compare),
    /// `docs/benchmarks.md` and its charts, out of the lines of a suite.
    Report(Report),
    /// Markdown tables of medians out of JSON lines.
    Summarize { files: Vec<PathBuf> },
    /// Becomes the given program, which then ends with the process that started this one.
    #[command(hide = true)]
    Run { command: Vec<OsString> },
    /// Serves as the floor: a relay that only moves bytes (protocol `raw`).
    FloorRelay {
        #[arg(long)]
        port: u16,
    },
}

#[derive(Args)]
struct Target {
    /// A relay's name in the peers file.
    #[arg(long)]
    peer: String,
    /// mqtt-qos0, mqtt-qos1, nats, raw, or fastport-{tcp,websocket,tls}[-readings][-counted]; the
    /// relay's first one if not given
    #[arg(long)]
    protocol: Option<ProtocolKind>,
}

#[derive(Args)]
struct Timing {
    #[arg(long, default_value_t = 32)]
    payload: usize,
    #[arg(long, default_value_t = 1.0)]
    warmup_s: f64,
    #[arg(long, default_value_t = 4.0)]
    measure_s: f64,
}

/// Numbers in place of the case's own.
#[derive(Args)]
struct Shape {
    #[arg(long)]
    publishers: Option<usize>,
    #[arg(long)]
    subscribers: Option<usize>,
    /// Messages in one write.
    #[arg(long)]
    batch: Option<u64>,
    /// Messages that a publisher may have on the way.
    #[arg(long)]
    window: Option<u64>,
    /// Messages a second of all publishers together.
    #[arg(long)]
    rate: Option<u64>,
    /// Topics of all publishers together.
    #[arg(long)]
    topics: Option<usize>,
    /// Connections that only stand by.
    #[arg(long)]
    bystanders: Option<usize>,
    /// Subscriptions of each of them.
    #[arg(long)]
    bystander_filters: Option<usize>,
}

impl Shape {
    fn of(&self, name: &str) -> Result<Case> {
        let mut case = Case::named(name).with_context(|| format!("no case named {name}"))?;
        case.publishers = self.publishers.unwrap_or(case.publishers);
        case.subscribers = self.subscribers.unwrap_or(case.subscribers);
        case.batch = self.batch.unwrap_or(case.batch);
        case.window = self.window.unwrap_or(case.window);
        case.rate = self.rate.or(case.rate);
        case.topics = self.topics.unwrap_or(case.topics);
        case.bystanders = self.bystanders.unwrap_or(case.bystanders);
        case.bystander_filters = self.bystander_filters.unwrap_or(case.bystander_filters);
        if case.batch == 0 || case.window < case.batch || case.window > 60_000 {
            bail!("the window must hold a batch, and at most 60000 messages");
        }
        if case.publishers == 0 || case.subscribers == 0 {
            bail!("a publisher and a subscriber are needed");
        }
        Ok(case)
    }
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    match &cli.command {
        Command::FloorRelay { port } => return floor::serve(*port),
        Command::Run { command } => return relay::become_program(command),
        Command::Summarize { files } => {
            print!("{}", summary::tables(&read_all(files)?)?);
            return Ok(());
        }
        Command::Report(options) => return report::run(options),
        _ => {}
    }
    procfs::raise_open_files();
    let bench = Bench { peers: peer::load(&cli.peers)?, out: cli.out };
    let seconds = Duration::from_secs_f64;
    match cli.command {
        Command::Throughput { target, case, timing, shape, syscalls } => {
            let options = throughput::Options {
                payload: timing.payload,
                warmup: seconds(timing.warmup_s),
                measure: seconds(timing.measure_s),
                syscalls,
            };
            one(&bench, &target, &Work::Throughput { case: shape.of(&case)?, options })
        }
        Command::Latency { target, timing, rate } => {
            let options = latency::Options {
                payload: timing.payload,
                rate,
                warmup: seconds(timing.warmup_s),
                measure: seconds(timing.measure_s),
            };
            one(&bench, &target, &Work::Latency(options))
        }
        Command::Idle { target, connections, settle_s, hold_s } => {
            let (settle, hold) = (seconds(settle_s), seconds(hold_s));
            one(&bench, &target, &Work::Idle(idle::Options { connections, settle, hold }))
        }
        Command::Footprint { peer, settle_s, watch_s } => {
            let (settle, watch) = (seconds(settle_s), seconds(watch_s));
            let work = Work::Footprint(footprint::Options { settle, watch });
            let record = work.run(bench.peer(&peer)?, None, None);
            bench.show(&record, work.line())
        }
        Command::Suite(suite) => suite::run(&bench, &suite),
        Command::Compare(options) => compare::run(&bench, &options),
        Command::Report(_)
        | Command::Summarize { .. }
        | Command::FloorRelay { .. }
        | Command::Run { .. } => Ok(()),
    }
}

/// One run, which must not fail.
fn one(bench: &Bench, target: &Target, work: &Work) -> Result<()> {
    let peer = bench.peer(&target.peer)?;
    let kind = match target.protocol {
        Some(kind) => kind,
        None => peer.first_protocol()?,
    };
    let record = work.run(peer, Some(kind), None);
    bench.show(&record, work.line())?;
    match record.failure() {
        Some(fault) => bail!("the run failed: {fault}"),
        None => Ok(()),
    }
}

fn read_all(files: &[PathBuf]) -> Result<String> {
    let mut text = String::new();
    for file in files {
        text += &std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    }
    Ok(text)
}
