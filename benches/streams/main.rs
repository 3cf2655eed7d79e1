//! What files cost the release daemon: how many bytes a second it passes on beside a program that only
//! copies them over the same sockets, and how long an alarm takes on the link that a file goes over.
//!
//! `cargo bench --bench streams`; `STREAM_MIB` says how long a stream is. All ends are threads of this
//! process, so the figures are of one machine that does everything.
#![allow(clippy::print_stdout, reason = "a bench prints")]

#[path = "../../tests/support/mod.rs"]
mod support;

mod copy;
mod peer;

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use self::peer::{Receiver, Sender, alarms};
use crate::support::Daemon;

fn main() {
    // what cargo's test runner says to every target
    if std::env::args().any(|argument| argument == "--test" || argument == "--list") {
        return;
    }
    let mib = std::env::var("STREAM_MIB").ok().and_then(|text| text.parse().ok());
    let bytes = mib.unwrap_or(MIB) << 20;
    let folder = tempfile::tempdir().expect("a folder for the daemon");
    throughput(folder.path(), bytes);
    delays(folder.path());
}

fn throughput(folder: &std::path::Path, bytes: u64) {
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        let daemon = Daemon::start(folder, CONFIG);
        rates[0].push(rate(bytes, || stream(&daemon.address("tcp"), bytes)));
        rates[1].push(rate(bytes, || copy::copy(bytes)));
    }
    let [streams, copies] = rates.map(median);
    println!("a stream of {} MiB through the daemon: {streams:.0} MB/s", bytes >> 20);
    println!("the same bytes copied between two sockets: {copies:.0} MB/s");
    println!("ratio: {:.2} (at least 0.5)", streams / copies);
}

/// Alarms on the link of a file's receiver, when it is idle and while the file comes.
fn delays(folder: &std::path::Path) {
    let daemon = Daemon::start(folder, CONFIG);
    let address = daemon.address("tcp");
    let idle = alarms(&address, ALARMS, Receiver::join(&address), &AtomicBool::new(true));
    let is_over = Arc::new(AtomicBool::new(false));
    let receiver = Receiver::join(&address);
    let sender = {
        let (address, is_over) = (address.clone(), Arc::clone(&is_over));
        std::thread::spawn(move || Sender::join(&address).send_until(u64::MAX >> 8, &is_over))
    };
    let busy = alarms(&address, ALARMS, receiver, &is_over);
    is_over.store(true, Ordering::Relaxed);
    let sent = sender.join().expect("no panic");
    for (name, delays) in [("idle", idle), ("while a file comes", busy)] {
        let at = |share: usize| delays[(delays.len() - 1) * share / 1000].as_secs_f64() * 1e6;
        println!(
            "alarm, {name}: median {:.0} us, p99 {:.0} us, p99.9 {:.0} us",
            at(500),
            at(990),
            at(999)
        );
    }
    println!("the file came to {} MiB meanwhile", sent >> 20);
}

/// One stream through the daemon.
fn stream(address: &str, bytes: u64) {
    let receiver = Receiver::join(address);
    let sender = {
        let address = address.to_owned();
        std::thread::spawn(move || {
            Sender::join(&address).send_until(bytes, &AtomicBool::new(false));
        })
    };
    receiver.receive(bytes);
    sender.join().expect("no panic");
}

fn rate(bytes: u64, run: impl FnOnce()) -> f64 {
    let begun = Instant::now();
    run();
    bytes as f64 / begun.elapsed().as_secs_f64() / 1e6
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn connect(address: &str) -> TcpStream {
    let io = TcpStream::connect(address).expect("it listens");
    io.set_nodelay(true).expect("TCP has it");
    io.set_read_timeout(Some(Duration::from_secs(60))).expect("not zero");
    io
}

const CONFIG: &str = r#"
board = { enabled = false }
listen = [{ kind = "tcp", address = "127.0.0.1:0" }]
session = [{ name = "demo", open = true, retention = { messages = 0 } }]
limits = { stream = { size = "1TiB" } }
"#;
const MIB: u64 = 2048;
const ROUNDS: usize = 5;
const ALARMS: usize = 5000;
