//! What files cost the release daemon: how many bytes a second it passes on beside a program that only
//! copies them over the same sockets; what sealing costs from end to end, beside the primitives; and how
//! long an alarm takes on the link that a file goes over.
//!
//! `cargo bench --bench streams`; `STREAM_MIB` says how long a stream is. With `UPDATE_DOCS=1` the tables
//! also go to `docs/benchmarks-streams.md`. All ends are on this machine, so the figures are of one that
//! does everything. What is compared runs in turns, and shown are the medians of all rounds.
#![allow(clippy::print_stdout, reason = "a bench prints")]

#[path = "../../tests/support/mod.rs"]
mod support;

mod copy;
mod page;
mod peer;
mod primitives;
mod process;
mod relay;
mod tools;

use std::net::TcpStream;
use std::time::Duration;

fn main() {
    // what cargo's test runner says to every target
    if std::env::args().any(|argument| argument == "--test" || argument == "--list") {
        return;
    }
    let mib = std::env::var("STREAM_MIB").ok().and_then(|text| text.parse().ok());
    let folder = tempfile::tempdir().expect("a folder for the daemon");
    let (mut passed, mut alarms) = (Vec::new(), Vec::new());
    let (mut files, mut primitives) = (Vec::new(), Vec::new());
    let tools = tools::Scene::new(mib.unwrap_or(FILE_MIB));
    for _ in 0..ROUNDS {
        passed.push(relay::pass(folder.path(), mib.unwrap_or(STREAM_MIB) << 20));
        files.push([false, true].map(|is_sealed| tools.send(folder.path(), is_sealed)));
        primitives.push(primitives::measure());
        alarms.push(relay::delays(folder.path()));
    }
    let tables = [
        page::throughput(&passed),
        page::sealing(&files, &primitives),
        page::primitives(&primitives),
        page::delays(&alarms),
        page::machine(ROUNDS),
    ];
    let text = tables.join("\n");
    println!("{text}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        page::update(&text);
    }
}

fn connect(address: &str) -> TcpStream {
    let io = TcpStream::connect(address).expect("it listens");
    io.set_nodelay(true).expect("TCP has it");
    io.set_read_timeout(Some(Duration::from_secs(60))).expect("not zero");
    io
}

/// The daemon that passes streams on: any number of bytes, and nothing is retained.
const CONFIG: &str = r#"
board = { enabled = false }
listen = [{ kind = "tcp", address = "127.0.0.1:0" }]
session = [{ name = "demo", open = true, retention = { messages = 0 } }]
limits = { stream = { size = "1TiB" } }
"#;
const STREAM_MIB: u64 = 2048;
/// Of the file between tools, which is hashed twice and sealed.
const FILE_MIB: u64 = 512;
const ROUNDS: usize = 5;
