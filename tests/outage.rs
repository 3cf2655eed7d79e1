//! Long outages: messages arrive faster than they could ever be kept, until memory and disk are full
//! for long. The gateway stays within its memory, which the kernel limits where that can be had, serves its
//! local peers as before, says little, and accounts for every message.
#![allow(
    clippy::panic,
    clippy::print_stdout,
    reason = "what a test relies on and does not get fails it; what it found is shown"
)]

#[path = "support/access.rs"]
mod access;
#[path = "support/black_hole.rs"]
mod black_hole;
#[path = "support/ceiling.rs"]
mod ceiling;
#[path = "support/site.rs"]
mod site;
mod support;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use black_hole::BlackHole;
use ceiling::Ceiling;
use fastport_client::{Client, Incoming, SubscribeOptions, Subscription, init};
use serde_json::Value;
use site::Site;
use support::{Daemon, fastportd};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

/// Messages a second, and how many arrive at a time: not in step with what the gateway does twice a second. In
/// step with it, all of a run's bursts met that or none did.
const RATE: u64 = 3_000;
const BURST: u64 = 31;
/// A message: as many bytes.
const PAYLOAD: usize = 100;
/// Each has a 99th percentile of its own, of 1,500 messages. Of these the middle ones are compared: one
/// window swings by a factor of three on a machine that does other things, too.
const WINDOW: Duration = Duration::from_millis(500);
/// So often all is well for so many windows, and then there is no central instance for so many: in turns,
/// so that what else happens on this machine meets both.
const ROUNDS: usize = 4;
const CALM: usize = 8;
const OUTAGE: usize = 24;
/// The disk's limit: passed after some four seconds of an outage.
const DISK: u64 = 2 * 1024 * 1024;
/// A local message may take so many times longer while there is an outage.
const SLOWER: f64 = 1.5;
/// What the gateway may take of memory at any time.
const MEMORY: u64 = 24 * 1024 * 1024;
/// What it may write to its log.
const LOG_BYTES: usize = 64 * 1024;
/// Until all is told in the end.
const SETTLE: Duration = Duration::from_secs(120);
/// The gateway's program, where another build than the tests' is to be looked at.
const PROGRAM: &str = "FASTPORT_TEST_DAEMON";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_that_outlasts_memory_and_disk_costs_only_what_is_accounted_for() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let hole = BlackHole::new();
    let mut site = Site::new(folder.path());
    // refused where the central instance was, silent, and without a name, in turns
    site.more_central = format!(r#", "tcp://{}", "tcp://nowhere.invalid:7470""#, hole.address());
    site.gateway_lines = format!(
        "connect_timeout = '1s'
spool.memory = '512KiB'
spool.disk = {DISK}

[[uplink.rule]]
filter = 'up/#'
when_full = 'drop-oldest'
"
    );
    let ceiling = Ceiling::new(MEMORY);
    let (central, mut gateway) = (site.start_central(), start_gateway(&site, ceiling.as_ref()));
    let pid = gateway.pid();
    let mut run = Run::new(&site, pid).await;
    let mut central = Some(central);
    for _ in 0..ROUNDS {
        central.get_or_insert_with(|| site.start_central());
        run.wait_until_drained().await;
        let calm = run.windows(CALM).await;
        central = None;
        let outage = run.windows(OUTAGE).await;
        println!("outage: p99 {:?} before, {:?} in it", median(&calm), median(&outage));
        run.calm.extend(calm);
        run.outage.extend(outage);
    }
    let failures = run.lane().await["failures"].take();
    let central = site.start_central();
    let told = wait_for_all(&site.store(), run.published).await;

    println!(
        "outage: {} published, {} held, {} said to be missing",
        run.published, told.held, told.missing
    );
    assert_eq!(told.held + told.missing, run.published);
    assert!(told.missing > 0, "the limit was not passed");
    assert!(told.is_ordered, "out of order or doubled");
    for kind in ["unreachable", "timed-out", "name"] {
        assert!(failures[kind].as_u64() >= Some(ROUNDS as u64), "{kind}: {failures}");
    }
    println!("outage: failed {failures}");
    check_memory(ceiling.as_ref(), pid, run.peak_kib);
    run.check_delays();
    let log = gateway.log();
    assert!(log.len() < LOG_BYTES, "{} bytes of log", log.len());
    assert_eq!(log.matches("INFO ready").count(), 1, "it was started again");
    println!("outage: {} bytes of log", log.len());
    drop((central, gateway));
}

/// The gateway, below the ceiling where there is one.
fn start_gateway(site: &Site, ceiling: Option<&Ceiling>) -> Daemon {
    let own = || fastportd().get_program().into();
    let program: PathBuf = std::env::var_os(PROGRAM).map_or_else(own, PathBuf::from);
    println!("outage: {}", program.display());
    match ceiling {
        Some(ceiling) => site.start_gateway_by(ceiling.command(&program)),
        None => {
            site.start_gateway_by(support::without_settings(std::process::Command::new(program)))
        }
    }
}

fn check_memory(ceiling: Option<&Ceiling>, pid: u32, peak_kib: u64) {
    println!("outage: peak {peak_kib} KiB of its own (PSS)");
    assert!(peak_kib * 1024 <= MEMORY, "{peak_kib} KiB");
    let Some(ceiling) = ceiling else { return };
    assert_eq!(ceiling.processes(), [pid], "the gateway is not below the ceiling");
    let account = ceiling.account();
    println!("outage: under {MEMORY} bytes that the kernel enforces: {account:?}");
    assert_eq!(account.kills, 0, "{account:?}");
}

#[test]
fn a_process_that_takes_more_than_the_ceiling_is_killed() {
    let Some(ceiling) = Ceiling::new(MEMORY) else { return };
    let mut command = ceiling.command("sh".as_ref());
    // `tail` keeps all of it
    let greedy = format!("head -c {0} /dev/zero | tail -c {0} | wc -c", 2 * MEMORY);
    let output = command.args(["-c", &greedy]).output().expect("there is a shell");
    // the kernel chooses whom it kills: `tail`, mostly, and then nothing is left to be counted
    let counted = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert_ne!(counted, (2 * MEMORY).to_string());
    assert!(ceiling.account().kills > 0, "{:?}", ceiling.account());
}

/// The middle one of some.
fn median(all: &[Duration]) -> Duration {
    let mut all = all.to_vec();
    all.sort_unstable();
    all[all.len() / 2]
}

struct Run {
    device: Client,
    local: Client,
    readings: Subscription,
    pid: u32,
    published: u64,
    started: Instant,
    peak_kib: u64,
    /// The windows' 99th percentiles while all was well.
    calm: Vec<Duration>,
    /// And in outages.
    outage: Vec<Duration>,
}

impl Run {
    async fn new(site: &Site, pid: u32) -> Self {
        let device = init(site.device("device")).await.expect("the gateway is there");
        let local = init(site.device("local")).await.expect("the gateway is there");
        let options = SubscribeOptions::default();
        let readings = local.subscribe("up/n", options).await.expect("it may be read");
        Self {
            device,
            local,
            readings,
            pid,
            published: 0,
            started: Instant::now(),
            peak_kib: 0,
            calm: Vec::new(),
            outage: Vec::new(),
        }
    }

    /// Publishes for so many windows and reads all of it back; the 99th percentile of each.
    async fn windows(&mut self, count: usize) -> Vec<Duration> {
        let mut ticks = interval(Duration::from_nanos(1_000_000_000 * BURST / RATE));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut percentiles = Vec::new();
        for _ in 0..count {
            let (until, mut delays) = (Instant::now() + WINDOW, Vec::new());
            while Instant::now() < until {
                ticks.tick().await;
                self.burst(&mut delays).await;
            }
            self.peak_kib = self.peak_kib.max(own_memory_kib(self.pid));
            delays.sort_unstable();
            percentiles.push(delays[delays.len() * 99 / 100]);
        }
        percentiles
    }

    async fn burst(&mut self, delays: &mut Vec<Duration>) {
        for _ in 0..BURST {
            self.published += 1;
            let stamp = self.started.elapsed().as_nanos();
            let payload = format!("{} {stamp} {:x<PAYLOAD$}", self.published, "");
            let payload = &payload.as_bytes()[..PAYLOAD];
            self.device.emit_counted("up/n", payload).await.expect("published");
        }
        for _ in 0..BURST {
            let came = timeout(SETTLE, self.readings.next()).await.expect("in time");
            delays.push(self.started.elapsed().saturating_sub(sent(came)));
        }
    }

    /// What the gateway says of its lane.
    async fn lane(&self) -> Value {
        self.uplink().await["lanes"]["normal"].take()
    }

    async fn uplink(&self) -> Value {
        let text = self.local.status().await.expect("the gateway answers");
        let mut figures: Value = serde_json::from_str(&text).expect("JSON");
        figures["uplink"].take()
    }

    /// Waits until the central instance has all that waited for it.
    async fn wait_until_drained(&self) {
        let until = Instant::now() + SETTLE;
        loop {
            let uplink = self.uplink().await;
            let (lane, rows) = (&uplink["lanes"]["normal"], &uplink["spool"]["lanes"]["normal"]);
            let is_empty = lane["unacknowledged"] == 0 && rows["held"].as_u64().unwrap_or(0) == 0;
            if lane["link"] == "ready" && is_empty {
                return;
            }
            assert!(Instant::now() < until, "{uplink}");
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Local peers are served in an outage as they are before it.
    fn check_delays(&self) {
        let (calm, outage) = (median(&self.calm), median(&self.outage));
        println!("outage: p99 {calm:?} while all is well, {outage:?} in an outage");
        assert!(outage <= calm.mul_f64(SLOWER), "{outage:?}, {calm:?} while all is well");
    }
}

fn sent(came: Option<Incoming>) -> Duration {
    let Some(Incoming::Message(message)) = came else { panic!("instead of a message: {came:?}") };
    let text = String::from_utf8(message.payload.to_vec()).expect("text");
    let stamp = text.split(' ').nth(1).and_then(|stamp| stamp.parse().ok());
    Duration::from_nanos(stamp.expect("a number"))
}

/// Memory that is the process's own: heap, stacks, files in memory. Not the program's text: that of a
/// build with debugging is many times the released one's.
fn own_memory_kib(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("it runs");
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    value("Pss_Anon:") + value("Pss_Shmem:")
}

/// What the central instance says of all that was published.
struct Told {
    held: u64,
    missing: u64,
    is_ordered: bool,
}

async fn wait_for_all(store: &Path, published: u64) -> Told {
    let until = Instant::now() + SETTLE;
    loop {
        let told = read(store);
        if told.held + told.missing >= published || Instant::now() > until {
            return told;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn read(store: &Path) -> Told {
    let database = rusqlite::Connection::open(store).expect("the store is there");
    database.busy_timeout(Duration::from_secs(10)).expect("a setting");
    let mut query = database.prepare("SELECT payload FROM message ORDER BY id").expect("a table");
    let number = |row: &rusqlite::Row<'_>| row.get::<_, Vec<u8>>(0);
    let numbers: Vec<u64> = query
        .query_map([], number)
        .expect("a query")
        .map(|payload| {
            let text = String::from_utf8(payload.expect("a row")).expect("text");
            text.split(' ').next().and_then(|text| text.parse().ok()).expect("a number")
        })
        .collect();
    let missing = database
        .query_row("SELECT coalesce(sum(messages), 0) FROM gap", [], |row| row.get(0))
        .expect("a sum");
    Told {
        held: numbers.len() as u64,
        missing,
        is_ordered: numbers.is_sorted_by(|before, after| before < after),
    }
}
