//! Ten receivers of one file on lines of different speed, one of which stops: each of the others takes what
//! its own line takes, and no longer.
//!
//! With FASTPORT_TEST_FILE_MIB, a sixteenth of that is sent. `make large-files` runs this with 4096.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::scene::{
    Proxy, Tool, folder_on_disk, is_same, mib, names, plain, recv, send, wait_for_part,
    wait_for_receivers, write_large,
};

#[test]
fn nine_receivers_of_different_speeds_keep_their_pace_beside_one_that_stopped() {
    let mib = mib(SIZE_MIB * SHARE) / SHARE;
    let slowest = SLOWEST_SECONDS.max(mib as f64 / 10.0);
    let (_daemon_folder, daemon) = plain();
    let from = folder_on_disk();
    let source = from.path().join("a.bin");
    write_large(&source, mib);
    let line_of = |seconds: f64| (mib << 20) as f64 / seconds;
    // from the slowest line to one that is five times as fast, and the one that stops
    let lines: Vec<f64> =
        (0..=MOVING).map(|at| slowest * (1.0 - 0.8 * at as f64 / MOVING as f64)).collect();
    let folders: Vec<TempDir> = lines.iter().map(|_| folder_on_disk()).collect();
    let proxies: Vec<Proxy> = lines
        .iter()
        .map(|&seconds| Proxy::start_slow(&daemon.address("tcp"), line_of(seconds)))
        .collect();
    let mut receivers: Vec<Tool> = proxies
        .iter()
        .zip(&folders)
        .map(|(proxy, to)| recv(&format!("tcp://{}", proxy.address), to.path(), &["--count", "1"]))
        .collect();
    wait_for_receivers(&daemon, 1 + MOVING as u64);
    let begun = Instant::now();
    let sender = send(&daemon.url("tcp"), &source, &["--receivers", "10"]);
    let stopped = receivers.pop().expect("there are ten");
    let stopped_at = folders.last().expect("there are ten").path();
    wait_for_part(stopped_at, 1);
    stopped.signal("STOP");
    let times = ends(receivers, begun);
    for ((took, line), to) in times.iter().zip(&lines).zip(&folders) {
        println!("{mib} MiB, a line for {line:.1} s: {:.1} s", took.as_secs_f64());
        assert!(is_same(&source, &to.path().join("a.bin")));
    }
    let part = part_of(stopped_at);
    println!("the one that stopped has {part} bytes, and goes on");
    for (took, &line) in times.iter().zip(&lines) {
        let took = took.as_secs_f64();
        assert!(took >= 0.9 * line, "{took} s: its line is no slower than that of others");
        assert!(took <= 1.3 * line + START_SECONDS, "{took} s on a line for {line} s");
    }
    assert!(part < mib << 20, "it stopped on the way");
    stopped.signal("CONT");
    stopped.succeed();
    assert!(is_same(&source, &stopped_at.join("a.bin")), "and it goes on");
    let said = sender.succeed();
    assert!(said.contains("10 receivers have it"), "{said}");
}

/// When each of them ended well.
fn ends(tools: Vec<Tool>, begun: Instant) -> Vec<Duration> {
    thread::scope(|scope| {
        let ends: Vec<_> = tools
            .into_iter()
            .map(|tool| {
                scope.spawn(move || {
                    tool.succeed();
                    begun.elapsed()
                })
            })
            .collect();
        ends.into_iter().map(|end| end.join().expect("it ended well")).collect()
    })
}

fn part_of(folder: &Path) -> u64 {
    let names = names(folder);
    let part = names.iter().find(|name| name.ends_with(".part")).expect("a part of the file");
    fs::metadata(folder.join(part)).expect("it is there").len()
}

const MOVING: usize = 9;
/// As `make test` runs it.
const SIZE_MIB: u64 = 4;
/// Of the large files' size.
const SHARE: u64 = 16;
/// On the slowest line.
const SLOWEST_SECONDS: f64 = 5.0;
/// Until all have begun, on a machine under load.
const START_SECONDS: f64 = 2.5;
