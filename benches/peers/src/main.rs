mod codec;
mod floor;
mod link;
mod peer;
mod procfs;
mod protocol;
mod scenario;
mod stats;
mod summary;
mod syscalls;
mod transport;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};

use crate::peer::Peer;
use crate::protocol::ProtocolKind;
use crate::scenario::{Record, footprint, idle, latency, throughput};

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
        /// one-to-one, fan-in, fan-in-single, fan-in-paced or fan-out
        #[arg(long, default_value = "one-to-one")]
        case: String,
        #[command(flatten)]
        timing: Timing,
        /// Publishers, in place of the case's own number (likewise the four below).
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
        #[arg(long, default_value_t = 5.0)]
        hold_s: f64,
    },
    /// Binary, libraries and memory with no client.
    Footprint {
        #[arg(long)]
        peer: String,
    },
    /// Scenarios over all relays, round by round, so that a noisy spell hits all of them.
    Suite {
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// throughput, latency, idle, footprint; all of them if none is named
        #[arg(long)]
        scenario: Vec<String>,
        /// Only these relays.
        #[arg(long)]
        peer: Vec<String>,
        /// Only these cases of throughput.
        #[arg(long)]
        case: Vec<String>,
        /// Count system calls instead of timing.
        #[arg(long)]
        syscalls: bool,
    },
    /// Markdown tables of medians out of JSON lines.
    Summarize { files: Vec<PathBuf> },
    /// Becomes the given program, which then ends with the process that started this one.
    #[command(hide = true)]
    Run { command: Vec<std::ffi::OsString> },
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
    /// mqtt-qos0, mqtt-qos1, nats or raw; the relay's first one if not given
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
    /// Count system calls with perf; not for timing.
    #[arg(long)]
    syscalls: bool,
}

impl Timing {
    fn warmup(&self) -> Duration {
        Duration::from_secs_f64(self.warmup_s)
    }

    fn measure(&self) -> Duration {
        Duration::from_secs_f64(self.measure_s)
    }
}

const THROUGHPUT_LINE: [&str; 12] = [
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
    "stalls",
];
const LATENCY_LINE: [&str; 9] = [
    "peer",
    "protocol",
    "p50_us",
    "p99_us",
    "p999_us",
    "max_us",
    "cpu_us_per_delivered",
    "late_sends",
    "lost",
];
const IDLE_LINE: [&str; 9] = [
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
    "peer",
    "version",
    "binary_bytes",
    "stripped_bytes",
    "library_bytes",
    "rss_kib",
    "pss_kib",
    "private_dirty_kib",
    "threads",
];

fn main() -> Result<()> {
    let cli = Cli::parse();
    match &cli.command {
        Command::FloorRelay { port } => return floor::serve(*port),
        Command::Run { command } => return peer::become_relay(command),
        Command::Summarize { files } => {
            let mut lines = String::new();
            for file in files {
                let text =
                    std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
                lines.push_str(&text);
            }
            print!("{}", summary::tables(&lines)?);
            return Ok(());
        }
        _ => {}
    }
    procfs::raise_open_files();
    let bench = Bench { peers: peer::load(&cli.peers)?, out: cli.out };
    match cli.command {
        Command::Throughput {
            target,
            case,
            timing,
            publishers,
            subscribers,
            batch,
            window,
            rate,
        } => {
            let (peer, kind) = bench.target(&target)?;
            let mut case = *throughput::CASES
                .iter()
                .find(|c| c.name == case)
                .with_context(|| format!("no case named {case}"))?;
            case.publishers = publishers.unwrap_or(case.publishers);
            case.subscribers = subscribers.unwrap_or(case.subscribers);
            case.batch = batch.unwrap_or(case.batch);
            case.window = window.unwrap_or(case.window);
            case.rate = rate.or(case.rate);
            if case.batch == 0 || case.window < case.batch || case.window > 60_000 {
                bail!("the window must hold a batch, and at most 60000 messages");
            }
            let options = throughput::Options {
                payload: timing.payload,
                warmup: timing.warmup(),
                measure: timing.measure(),
                syscalls: timing.syscalls,
            };
            bench.show(&throughput::run(peer, kind, &case, &options)?, &THROUGHPUT_LINE)
        }
        Command::Latency { target, timing, rate } => {
            let (peer, kind) = bench.target(&target)?;
            let options = latency::Options {
                payload: timing.payload,
                rate,
                warmup: timing.warmup(),
                measure: timing.measure(),
                syscalls: timing.syscalls,
            };
            bench.show(&latency::run(peer, kind, &options)?, &LATENCY_LINE)
        }
        Command::Idle { target, connections, hold_s } => {
            let (peer, kind) = bench.target(&target)?;
            let options = idle::Options { connections, hold: Duration::from_secs_f64(hold_s) };
            bench.show(&idle::run(peer, kind, &options)?, &IDLE_LINE)
        }
        Command::Footprint { peer } => {
            bench.show(&footprint::run(bench.peer(&peer)?)?, &FOOTPRINT_LINE)
        }
        Command::Suite { rounds, scenario, peer, case, syscalls } => {
            let chosen = Suite { scenarios: scenario, peers: peer, cases: case, syscalls };
            for round in 1..=rounds {
                eprintln!("# round {round} of {rounds}");
                bench.round(&chosen)?;
            }
            Ok(())
        }
        Command::Summarize { .. } | Command::FloorRelay { .. } | Command::Run { .. } => {
            unreachable!("handled above")
        }
    }
}

/// What a suite runs; an empty list stands for all.
struct Suite {
    scenarios: Vec<String>,
    peers: Vec<String>,
    cases: Vec<String>,
    syscalls: bool,
}

fn chosen(list: &[String], name: &str) -> bool {
    list.is_empty() || list.iter().any(|n| n == name)
}

struct Bench {
    peers: Vec<Peer>,
    out: Option<PathBuf>,
}

impl Bench {
    fn peer(&self, name: &str) -> Result<&Peer> {
        self.peers.iter().find(|p| p.name == name).with_context(|| format!("no peer named {name}"))
    }

    fn target(&self, target: &Target) -> Result<(&Peer, ProtocolKind)> {
        let peer = self.peer(&target.peer)?;
        let protocols = peer.protocols()?;
        let kind = match target.protocol {
            Some(kind) => kind,
            None => *protocols.first().context("no protocol of it is spoken here")?,
        };
        Ok((peer, kind))
    }

    fn show(&self, record: &Record, names: &[&str]) -> Result<()> {
        println!("{}\n{}", record.json(), record.line(names));
        if let Some(path) = &self.out {
            let mut file = OpenOptions::new().create(true).append(true).open(path)?;
            writeln!(file, "{}", record.json())?;
        }
        Ok(())
    }

    /// Shows a run's figures; a failed run is shown and kept too, and does not end the suite.
    fn note(&self, run: Result<Record>, failed: Record, names: &[&str]) -> Result<()> {
        let record = run.unwrap_or_else(|error| {
            let mut record = failed;
            record.put("error", format!("{error:#}"));
            eprintln!("# failed: {error:#}");
            record
        });
        self.show(&record, names)
    }

    fn round(&self, suite: &Suite) -> Result<()> {
        let peers: Vec<(&Peer, Vec<ProtocolKind>)> = self
            .peers
            .iter()
            .filter(|p| chosen(&suite.peers, &p.name))
            .map(|p| Ok((p, p.protocols()?)))
            .collect::<Result<_>>()?;
        let pairs =
            || peers.iter().flat_map(|(peer, kinds)| kinds.iter().map(move |kind| (*peer, *kind)));
        let (warmup, measure) = (Duration::from_secs(1), Duration::from_secs(3));
        if chosen(&suite.scenarios, "throughput") {
            for case in throughput::CASES.iter().filter(|c| chosen(&suite.cases, c.name)) {
                for &payload in case.payloads {
                    for (peer, kind) in pairs() {
                        let syscalls = suite.syscalls;
                        let options = throughput::Options { payload, warmup, measure, syscalls };
                        let mut failed = Record::new("throughput", &peer.name);
                        failed
                            .put("protocol", kind.name())
                            .put("case", case.name)
                            .put("payload", payload);
                        let run = throughput::run(peer, kind, case, &options);
                        self.note(run, failed, &THROUGHPUT_LINE)?;
                    }
                }
            }
        }
        if chosen(&suite.scenarios, "latency") {
            for (peer, kind) in pairs() {
                let options = latency::Options {
                    payload: 32,
                    rate: 1000,
                    warmup,
                    measure: Duration::from_secs(8),
                    syscalls: suite.syscalls,
                };
                let mut failed = Record::new("latency", &peer.name);
                failed.put("protocol", kind.name()).put("case", "paced").put("payload", 32);
                self.note(latency::run(peer, kind, &options), failed, &LATENCY_LINE)?;
            }
        }
        if chosen(&suite.scenarios, "idle") {
            for connections in [1_000, 10_000] {
                for (peer, kinds) in &peers {
                    let Some(&kind) = kinds.first() else { continue };
                    let options = idle::Options { connections, hold: Duration::from_secs(5) };
                    let mut failed = Record::new("idle", &peer.name);
                    failed
                        .put("protocol", kind.name())
                        .put("case", format!("{connections} connections"));
                    self.note(idle::run(peer, kind, &options), failed, &IDLE_LINE)?;
                }
            }
        }
        if chosen(&suite.scenarios, "footprint") {
            for (peer, _) in &peers {
                let failed = Record::new("footprint", &peer.name);
                self.note(footprint::run(peer), failed, &FOOTPRINT_LINE)?;
            }
        }
        Ok(())
    }
}
