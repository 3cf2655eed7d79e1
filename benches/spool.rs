//! What the spool on disk costs: 3,000 messages a second in batches of one second, then the backlog
//! sent and acknowledged. CPU time of the process and bytes given to write calls, for each message.
//!
//! `cargo bench --bench spool [folder]`; the folder lies on the disk that is meant. `BATCH_KIB` says how much
//! goes into one transaction, as the uplink counts it: payloads, and 64 bytes for each row.
#![allow(clippy::print_stdout, reason = "a bench prints")]

use std::path::Path;
use std::time::{Duration, Instant};

use fastport::config::{Lane, WhenSpoolFull};
use fastport::uplink::spool::{
    Appended, Entry, Limits, Local, Message, Moment, Publisher, Spool, SpoolError, Stamp,
};
use fastport_wire::frame::DataFlags;
use rustix::time::{ClockId, clock_gettime};

const BATCHES: u64 = 60;
const MESSAGES: u64 = 3_000;
const DEVICES: u64 = 50;

fn main() -> Result<(), SpoolError> {
    // what cargo's test runner says to every target
    if std::env::args().any(|argument| argument == "--test" || argument == "--list") {
        return Ok(());
    }
    let folder = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let folder = match folder {
        Some(folder) => tempfile::tempdir_in(folder),
        None => tempfile::tempdir(),
    }
    .expect("a folder for the spool");
    let runs = [
        ("60 bytes, an empty spool", 60, 64, WhenSpoolFull::DropOldest, BATCHES),
        ("60 bytes, a full spool", 60, 8, WhenSpoolFull::DropOldest, 3 * BATCHES),
        ("60 bytes, `latest`, a full spool", 60, 8, WhenSpoolFull::Latest, 3 * BATCHES),
        ("1 KiB, an empty spool", 1024, 256, WhenSpoolFull::DropOldest, BATCHES),
    ];
    println!("batches of {MESSAGES} messages      CPU us a message   bytes written   ms a batch");
    for (name, bytes, mib, when_full, batches) in runs {
        let path = folder.path().join(format!("{bytes}-{mib}-{}", when_full.name()));
        run(name, &path, bytes, mib, when_full, batches)?;
    }
    Ok(())
}

fn run(
    name: &str,
    path: &Path,
    bytes: usize,
    mib: u64,
    when_full: WhenSpoolFull,
    batches: u64,
) -> Result<(), SpoolError> {
    let limits = Limits { disk: mib * 1024 * 1024, ..Limits::default() };
    let (mut spool, _) = Spool::open(path, limits, "bench", at(0))?;
    let topics: Vec<_> = (0..DEVICES).map(|d| format!("site/device/{d}/temperature")).collect();
    let devices = (0..DEVICES).map(|d| Publisher {
        identity: "sensor".into(),
        name: d.to_string(),
        epoch: 0x1234_5678_9abc,
    });
    let devices: Vec<_> = devices.collect();
    let payload = vec![b'x'; bytes];
    let start = Usage::now();
    let mut longest = Duration::ZERO;
    for batch in 0..batches {
        let stamp = Stamp::Unix(at(batch * 1000).unix_ms.unwrap_or(0));
        let entries = (0..MESSAGES).map(|place| {
            let device = usize::try_from(place % DEVICES).unwrap_or(0);
            let count = (batch * MESSAGES + place) / DEVICES + 1;
            Entry::Message(Message {
                topic: &topics[device],
                schema: None,
                flags: DataFlags::NONE,
                stamp: &stamp,
                payload: &payload,
                when_full,
                max_age: Duration::from_secs(604_800),
                publisher: Some((&devices[device], count)),
            })
        });
        let entries: Vec<_> = entries.collect();
        let began = Instant::now();
        let local = Local { epoch: 1, count: (batch + 1) * MESSAGES };
        for part in entries.chunks(in_transaction(bytes)) {
            let done = spool.append(at(batch * 1000), Lane::Normal, part, Some(local))?;
            assert!(matches!(done, Appended::Taken { .. }), "{done:?}");
        }
        longest = longest.max(began.elapsed());
    }
    start.print(name, batches * MESSAGES, batches, longest);
    let held = spool.figures(at(0))?.lanes[1].held;
    let start = Usage::now();
    let mut cursor = spool.begin(at(0), Lane::Normal)?;
    loop {
        let rows = spool.read(at(0), Lane::Normal, &mut cursor, 1000, 128 * 1024)?;
        let Some(last) = rows.last() else { break };
        spool.acknowledge(at(0), Lane::Normal, last.central_count)?;
    }
    start.print("  sent and acknowledged", held, held.div_ceil(MESSAGES), Duration::ZERO);
    Ok(())
}

/// Messages of one transaction: as many as it takes, or as the environment says.
fn in_transaction(bytes: usize) -> usize {
    let kib = std::env::var("BATCH_KIB").ok().and_then(|kib| kib.parse::<usize>().ok());
    match kib {
        Some(kib) => (kib * 1024 / (bytes + 64)).max(1),
        None if bytes > 100 => 1000,
        None => 3000,
    }
}

struct Usage {
    cpu: Duration,
    written: u64,
    began: Instant,
}

impl Usage {
    fn now() -> Self {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        let cpu = Duration::try_from(time).unwrap_or_default();
        let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
        let written = io.lines().find_map(|line| line.strip_prefix("wchar: "));
        let written = written.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        Self { cpu, written, began: Instant::now() }
    }

    #[allow(clippy::cast_precision_loss, reason = "figures for people")]
    fn print(&self, name: &str, messages: u64, batches: u64, longest: Duration) {
        let now = Self::now();
        let each = |total: f64| total / messages as f64;
        let cpu = each((now.cpu - self.cpu).as_secs_f64() * 1e6);
        let written = each((now.written - self.written) as f64);
        let batch = self.began.elapsed().as_secs_f64() * 1e3 / batches as f64;
        let longest = longest.as_secs_f64() * 1e3;
        println!("{name:34} {cpu:10.2} {written:15.0} {batch:12.1} (longest {longest:.0})");
    }
}

fn at(ms: u64) -> Moment {
    Moment { boot_ms: 1_000_000 + ms, unix_ms: Some(1_780_000_000_000 + ms) }
}
