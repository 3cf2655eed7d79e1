//! A large file through a small gateway: sealed or plain, over cut links and a killed gateway, both ends
//! have the same bytes, and the gateway never holds more of it than its window.
//!
//! FASTPORT_TEST_FILE_MIB is the size. `make large-files` runs this with 4096.

#![allow(clippy::print_stdout, reason = "what it measured is shown")]

use std::path::Path;
use std::time::{Duration, Instant};

use crate::scene::{
    Peak, Proxy, Tool, folder_on_disk, is_alone, is_same, mib, recv, seal_keys, send,
    wait_for_part_within, write_large,
};
use crate::support::{DEADLINE, Daemon, demo_config, folder};

#[test]
fn a_large_file_passes_a_small_gateway_over_cuts_and_a_kill() {
    passes_a_small_gateway(false);
}

#[test]
fn a_large_sealed_file_passes_a_small_gateway_over_cuts_and_a_kill() {
    passes_a_small_gateway(true);
}

fn passes_a_small_gateway(is_sealed: bool) {
    let mib = mib(if is_sealed { SEALED_MIB } else { PLAIN_MIB });
    let config = demo_config("") + "[limits]\nmemory = \"16MiB\"\nstream.window = \"1MiB\"\n";
    let daemon_folder = folder();
    let mut daemon = Daemon::start(daemon_folder.path(), &config);
    let proxy = Proxy::start(&daemon.address("tcp"));
    let url = format!("tcp://{}", proxy.address);
    let (from, to) = (folder_on_disk(), folder_on_disk());
    let source = from.path().join("large.bin");
    write_large(&source, mib);
    let keys = is_sealed.then(|| seal_keys(from.path()));
    let seal: Vec<&str> = keys.iter().flat_map(|keys| ["--seal", keys]).collect();
    let fixed = config.replacen("127.0.0.1:0", &daemon.address("tcp"), 1);

    let first = Peak::watch(daemon.pid());
    let begun = Instant::now();
    let receiver = recv(&url, to.path(), &[&seal[..], &["--count", "1"]].concat());
    let sender = send(&url, &source, &seal);
    for part in 1..=CUTS {
        wait_for_eighths(to.path(), part, mib);
        proxy.cut();
    }
    wait_for_eighths(to.path(), CUTS + 1, mib);
    daemon.signal("KILL");
    daemon.wait();
    let daemon = Daemon::start(daemon_folder.path(), &fixed);
    let second = Peak::watch(daemon.pid());
    for tool in [sender, receiver] {
        succeed_within(tool, patience(mib));
    }
    let took = begun.elapsed();
    assert!(is_same(&source, &to.path().join("large.bin")), "both ends have the same bytes");
    let rate = (mib << 20) as f64 / took.as_secs_f64() / 1e6;
    println!(
        "{mib} MiB{}: {:.1} s, {rate:.0} MB/s, {CUTS} cuts, 1 kill",
        if is_sealed { ", sealed" } else { "" },
        took.as_secs_f64(),
    );
    for (when, peak) in [("before", &first), ("after", &second)] {
        println!("the gateway {when} the kill: {peak}");
        assert!(peak.growth() <= MOST_KIB, "{when} the kill: {peak}");
        // beside other tests' daemons its share of the program's pages is not its own doing
        assert!(!is_alone() || peak.pss_growth() <= MOST_KIB, "{when} the kill: {peak}");
    }
}

fn wait_for_eighths(folder: &Path, eighths: u64, mib: u64) {
    wait_for_part_within(folder, eighths * (mib << 20) / 8, patience(mib));
}

fn succeed_within(tool: Tool, within: Duration) {
    let output = tool.finish_within(within);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {said}", output.status);
}

/// How long so much may take at the slowest.
fn patience(mib: u64) -> Duration {
    4 * DEADLINE + Duration::from_secs(mib / 10)
}

/// As `make test` runs it. Most of the time is that of links between attempts.
const PLAIN_MIB: u64 = 64;
const SEALED_MIB: u64 = 24;
const CUTS: u64 = 5;
/// The window.
const MOST_KIB: u64 = 1024;
