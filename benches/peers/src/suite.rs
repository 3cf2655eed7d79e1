//! All works over all relays, round by round, so that a noisy spell hits all of them.

use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::bench::Bench;
use crate::machine;
use crate::peer::Peer;
use crate::protocol::{Flavour, ProtocolKind};
use crate::scenario::case::{CASES, Case, FLAT_CASES};
use crate::scenario::{footprint, idle, latency, throughput};
use crate::transport::TransportKind;
use crate::work::Work;

#[derive(Args)]
pub struct Suite {
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long each run is.
    #[arg(long, value_enum, default_value_t = Form::Long)]
    form: Form,
    /// throughput, flat, latency, idle, footprint, calls; all of them if none is named
    #[arg(long)]
    scenario: Vec<String>,
    /// Only these relays.
    #[arg(long)]
    peer: Vec<String>,
    /// Only these cases.
    #[arg(long)]
    case: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// About a second each and fewer of them; what hardly changes from round to round is taken in
    /// the first only.
    Short,
    /// Two and a half seconds each, and all of them.
    Long,
}

/// One entry of a round.
struct Entry<'a> {
    work: Work,
    peer: &'a Peer,
    kind: Option<ProtocolKind>,
}

pub fn run(bench: &Bench, suite: &Suite) -> Result<()> {
    let chosen = bench.peers.iter().filter(|peer| chosen(&suite.peer, &peer.name));
    let (peers, missing): (Vec<&Peer>, Vec<&Peer>) = chosen.partition(|it| it.binary().is_ok());
    let left_out: Vec<&str> = missing.iter().map(|peer| peer.name.as_str()).collect();
    let machine = machine::record(&peers, &left_out, suite.rounds);
    bench.show(&machine, &["cpu", "cores", "kernel", "not installed, so left out"])?;
    for round in 1..=suite.rounds {
        let entries = suite.round(&peers, round)?;
        eprintln!("# round {round} of {}, {} runs", suite.rounds, entries.len());
        for Entry { work, peer, kind } in entries {
            bench.show(&work.run(peer, kind, Some(round)), work.line())?;
        }
    }
    Ok(())
}

/// Whether a list names this; an empty one stands for all.
fn chosen(list: &[String], name: &str) -> bool {
    list.is_empty() || list.iter().any(|n| n == name)
}

impl Suite {
    fn round<'a>(&self, peers: &[&'a Peer], round: usize) -> Result<Vec<Entry<'a>>> {
        let mut pairs = Vec::new();
        for &peer in peers {
            for kind in peer.protocols()? {
                pairs.push((peer, kind));
            }
        }
        // nobody is always the first after a pause, or always behind the same other
        let length = pairs.len().max(1);
        pairs.rotate_left(round * ROTATION % length);
        let long = self.form == Form::Long;
        let mut entries = Vec::new();
        if chosen(&self.scenario, "throughput") {
            self.throughputs(&pairs, &mut entries);
        }
        if chosen(&self.scenario, "flat") {
            self.flats(&pairs, &mut entries);
        }
        if chosen(&self.scenario, "latency") {
            self.latencies(&pairs, &mut entries);
        }
        if chosen(&self.scenario, "idle") {
            self.idles(&pairs, round, &mut entries);
        }
        if chosen(&self.scenario, "footprint") && (round == 1 || long && round <= REPEATS) {
            let (settle, watch) = if long { (5, 5) } else { (1, 2) };
            for &peer in peers.iter().filter(|peer| !peer.is_variant()) {
                let (settle, watch) = (Duration::from_secs(settle), Duration::from_secs(watch));
                let work = Work::Footprint(footprint::Options { settle, watch });
                entries.push(Entry { work, peer, kind: None });
            }
        }
        if chosen(&self.scenario, "calls") && (round == 1 || long && round <= REPEATS) {
            self.calls(&pairs, &mut entries);
        }
        Ok(entries)
    }

    fn times(&self) -> (Duration, Duration) {
        match self.form {
            Form::Short => (Duration::from_millis(200), Duration::from_millis(800)),
            Form::Long => (Duration::from_millis(500), Duration::from_secs(2)),
        }
    }

    fn throughputs<'a>(&self, pairs: &[(&'a Peer, ProtocolKind)], entries: &mut Vec<Entry<'a>>) {
        let (warmup, measure) = self.times();
        for case in CASES.into_iter().filter(|case| chosen(&self.case, case.name)) {
            for &payload in case.payloads {
                for &(peer, kind) in pairs {
                    let asked = peer.does(case.name, payload)
                        && is_of_interest(&case, payload, kind)
                        && (self.form == Form::Long || is_in_short(&case, peer, kind));
                    if asked {
                        let work = Work::throughput(case, payload, warmup, measure);
                        entries.push(Entry { work, peer, kind: Some(kind) });
                    }
                }
            }
        }
    }

    /// fastPort only: the others' figures would say nothing of whether its own are flat.
    fn flats<'a>(&self, pairs: &[(&'a Peer, ProtocolKind)], entries: &mut Vec<Entry<'a>>) {
        let (warmup, measure) = self.times();
        for case in FLAT_CASES.into_iter().filter(|case| chosen(&self.case, case.name)) {
            for &(peer, kind) in pairs.iter().filter(|(peer, _)| !peer.is_variant()) {
                if matches!(kind, ProtocolKind::Fastport(Flavour::PLAIN_TCP)) {
                    let work = Work::throughput(case, 32, warmup, measure);
                    entries.push(Entry { work, peer, kind: Some(kind) });
                }
            }
        }
    }

    fn latencies<'a>(&self, pairs: &[(&'a Peer, ProtocolKind)], entries: &mut Vec<Entry<'a>>) {
        let (warmup, _) = self.times();
        let measure = Duration::from_secs(if self.form == Form::Long { 5 } else { 1 });
        for &(peer, kind) in pairs.iter().filter(|(peer, _)| !peer.is_variant()) {
            let asked = self.form == Form::Long || !kind.is_counted();
            if asked && !kind.has_readings() {
                let options = latency::Options { payload: 32, rate: 1000, warmup, measure };
                entries.push(Entry { work: Work::Latency(options), peer, kind: Some(kind) });
            }
        }
    }

    fn idles<'a>(
        &self,
        pairs: &[(&'a Peer, ProtocolKind)],
        round: usize,
        entries: &mut Vec<Entry<'a>>,
    ) {
        let long = self.form == Form::Long;
        let connections: &[usize] = match (self.form, round) {
            (Form::Long, ..=REPEATS) => &[1_000, 10_000],
            (Form::Long, _) | (Form::Short, 1) => &[10_000],
            (Form::Short, _) => &[],
        };
        let (settle, hold) = if long { (2, 3) } else { (1, 1) };
        for &connections in connections {
            for &(peer, kind) in pairs.iter().filter(|(peer, _)| !peer.is_variant()) {
                if kind.is_counted() || kind.has_readings() {
                    continue;
                }
                let (settle, hold) = (Duration::from_secs(settle), Duration::from_secs(hold));
                let work = Work::Idle(idle::Options { connections, settle, hold });
                entries.push(Entry { work, peer, kind: Some(kind) });
            }
        }
    }

    fn calls<'a>(&self, pairs: &[(&'a Peer, ProtocolKind)], entries: &mut Vec<Entry<'a>>) {
        let (warmup, measure) = self.times();
        let named = |case: &Case| chosen(&self.case, case.name);
        for case in CASES.into_iter().filter(named) {
            for &(peer, kind) in pairs.iter().filter(|(peer, _)| !peer.is_variant()) {
                let asked =
                    self.form == Form::Long || !kind.is_counted() && case.name == "fan-in-paced";
                let over_tcp = kind.transport() == TransportKind::Tcp;
                if asked && over_tcp && !kind.has_readings() {
                    let options =
                        throughput::Options { payload: 32, warmup, measure, syscalls: true };
                    let work = Work::Throughput { case, options };
                    entries.push(Entry { work, peer, kind: Some(kind) });
                }
            }
        }
    }
}

/// Everything over TCP with opaque payloads; what another transport or readings add is asked of the
/// works that show it.
fn is_of_interest(case: &Case, payload: usize, kind: ProtocolKind) -> bool {
    let ProtocolKind::Fastport(flavour) = kind else { return true };
    let batched = matches!(case.name, "one-to-one" | "fan-in");
    match flavour {
        Flavour { readings: true, .. } => batched && payload == 32,
        Flavour { transport: TransportKind::Tcp, .. } => true,
        Flavour { counted: true, .. } => batched && payload == 32,
        Flavour { .. } => batched || case.publishers > 1,
    }
}

/// Of these the short form leaves out what no target asks for.
fn is_in_short(case: &Case, peer: &Peer, kind: ProtocolKind) -> bool {
    let batched = matches!(case.name, "one-to-one" | "fan-in");
    match kind {
        _ if peer.is_variant() => case.name == "fan-in",
        ProtocolKind::Fastport(Flavour { transport: TransportKind::Tcp, readings, .. }) => {
            !readings || case.name == "fan-in"
        }
        ProtocolKind::Fastport(Flavour { readings, counted, .. }) => {
            batched && !readings && !counted
        }
        ProtocolKind::MqttQos1 => matches!(case.name, "one-to-one" | "fan-out"),
        _ => true,
    }
}

/// Rounds of the long form in which figures are taken that repeat anyway.
const REPEATS: usize = 3;
/// How far the order of relays turns from round to round.
const ROTATION: usize = 3;
