//! A long outage: messages arrive faster than they could ever be kept, until memory and disk are full
//! for long. The gateway stays within its memory, serves its local peers as before, says little, and
//! accounts for every message.
#![allow(
    clippy::panic,
    clippy::print_stdout,
    reason = "what a test relies on and does not get fails it; what it found is shown"
)]

#[path = "support/access.rs"]
mod access;
#[path = "support/site.rs"]
mod site;
mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use fastport_client::{Client, Incoming, SubscribeOptions, Subscription, init};
use site::Site;
use support::Daemon;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Messages a second, and how many arrive at a time.
const RATE: u64 = 3_000;
const BURST: u64 = 30;
/// A message: as many bytes.
const PAYLOAD: usize = 100;
/// While all is well, and then without a central instance. The disk's limit is passed after some five
/// seconds.
const CALM: Duration = Duration::from_secs(5);
const OUTAGE: Duration = Duration::from_secs(25);
/// What the gateway may take of memory that is its own, at any time.
const MEMORY_KIB: u64 = 24 * 1024;
/// What it may write to its log.
const LOG_BYTES: usize = 64 * 1024;
/// Until all is told in the end.
const SETTLE: Duration = Duration::from_secs(120);
/// A local message that is faster is fast, whatever other tests do on this machine.
const FAST: Duration = Duration::from_millis(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_that_outlasts_memory_and_disk_costs_only_what_is_accounted_for() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut site = Site::new(folder.path());
    // refused, silent, and without a name, in turns
    site.more_central = r#", "tcp://192.0.2.1:7470", "tcp://nowhere.invalid:7470""#.to_owned();
    site.gateway_lines = "
spool.memory = '512KiB'
spool.disk = '2MiB'

[[uplink.rule]]
filter = 'up/#'
when_full = 'drop-oldest'
"
    .to_owned();
    let (central, mut gateway) = (site.start_central(), site.start_gateway());
    let device = init(site.device("device")).await.expect("the gateway is there");
    let local = init(site.device("local")).await.expect("the gateway is there");
    let mut readings =
        local.subscribe("up/n", SubscribeOptions::default()).await.expect("it may be read");
    let mut run = Run { published: 0, started: Instant::now(), peak_kib: 0 };

    let calm = run.publish(&device, &mut readings, &gateway, CALM).await;
    drop(central);
    let outage = run.publish(&device, &mut readings, &gateway, OUTAGE).await;
    println!(
        "outage: p99 {calm:?} before, {outage:?} in it; peak {} KiB of its own; {} published",
        run.peak_kib, run.published
    );
    let central = site.start_central();
    let told = wait_for_all(&site.store(), run.published).await;
    println!("outage: {} held, {} said to be missing", told.held, told.missing);
    assert_eq!(told.held + told.missing, run.published);
    assert!(told.missing > 0, "the limit was not passed");
    assert!(told.is_ordered, "out of order or doubled");
    assert!(run.peak_kib <= MEMORY_KIB, "{} KiB", run.peak_kib);
    assert!(outage <= FAST.max(calm.mul_f64(1.5)), "{outage:?}, {calm:?} before");
    let log = gateway.log().len();
    assert!(log < LOG_BYTES, "{log} bytes of log");
    assert_eq!(gateway.log().matches("INFO ready").count(), 1, "it was started again");
    drop(central);
}

struct Run {
    published: u64,
    started: Instant,
    peak_kib: u64,
}

impl Run {
    /// Publishes for a while, and reads all of it back; the 99th percentile of the way through the
    /// gateway.
    async fn publish(
        &mut self,
        device: &Client,
        readings: &mut Subscription,
        gateway: &Daemon,
        time: Duration,
    ) -> Duration {
        let mut ticks = interval(Duration::from_millis(1000 * BURST / RATE));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let (until, mut delays) = (Instant::now() + time, Vec::new());
        while Instant::now() < until {
            ticks.tick().await;
            for _ in 0..BURST {
                self.published += 1;
                let stamp = self.started.elapsed().as_nanos();
                let payload = format!("{} {stamp} {:x<PAYLOAD$}", self.published, "");
                device
                    .emit_counted("up/n", &payload.as_bytes()[..PAYLOAD])
                    .await
                    .expect("published");
            }
            for _ in 0..BURST {
                let came = timeout(SETTLE, readings.next()).await.expect("in time");
                delays.push(self.started.elapsed().saturating_sub(sent(came)));
            }
            if self.published % (RATE / 5) < BURST {
                self.peak_kib = self.peak_kib.max(own_memory_kib(gateway.pid()));
            }
        }
        delays.sort_unstable();
        delays[delays.len() * 99 / 100]
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
