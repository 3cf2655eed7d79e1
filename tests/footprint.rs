//! What an idle daemon promises to cost: no wake-up, and little memory for a peer.

mod support;

use std::time::{Duration, Instant};

use support::peer::Peer;
use support::{DEADLINE, Daemon};

/// How often the daemon's threads have gone to sleep, or were put aside.
fn switches(pid: u32) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let count = |thread: std::io::Result<std::fs::DirEntry>| -> u64 {
        let status = thread.expect("a thread").path().join("status");
        // a thread that has ended since counts no more
        let status = std::fs::read_to_string(status).unwrap_or_default();
        let counts = status.lines().filter_map(|line| line.split_once("ctxt_switches:"));
        counts.map(|(_, count)| count.trim().parse::<u64>().expect("a number")).sum()
    };
    threads.map(count).sum()
}

/// Whether the daemon sleeps for all of `window`, after what it still has to do at first.
#[allow(clippy::disallowed_methods, reason = "the promise is about time, so time must pass")]
fn sleeps_for(pid: u32, window: Duration) -> bool {
    let until = Instant::now() + DEADLINE;
    while Instant::now() < until {
        let before = switches(pid);
        std::thread::sleep(window);
        if switches(pid) == before {
            return true;
        }
    }
    false
}

/// Bytes of heap, stacks and changed pages.
fn anonymous_bytes(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix("Pss_Anon:")).expect("Linux has it");
    let kilobytes = line.trim().strip_suffix(" kB").expect("in kB");
    kilobytes.parse::<u64>().expect("a number") * 1024
}

#[test]
fn a_daemon_that_is_alone_sleeps() {
    let folder = tempfile::tempdir().expect("temporary folders can be made");
    // its sensors would be read thrice in the window
    let config = "board.interval = \"1s\"\n[[listen]]\nkind = \"tcp\"\naddress = \"127.0.0.1:0\"\n\
                  [[session]]\nname = \"demo\"\nopen = true\n";
    let daemon = Daemon::start(folder.path(), config);
    assert!(sleeps_for(daemon.pid(), WINDOW), "it never sleeps for {WINDOW:?}");
    // and again when it has had a peer; the sensors' last values are kept by then
    let mut peer = Peer::join(&daemon.address("tcp"), "demo");
    let mut events = peer.subscribe("$board/#");
    while events.is_empty() {
        events.push(peer.next());
    }
    drop(peer);
    assert!(sleeps_for(daemon.pid(), WINDOW), "it does not sleep again");
}

#[test]
fn peers_that_say_nothing_wake_nobody() {
    let folder = tempfile::tempdir().expect("temporary folders can be made");
    let daemon = Daemon::start(folder.path(), CONFIG);
    let peers: Vec<_> = (0..100).map(|_| subscribed(&daemon)).collect();
    assert!(sleeps_for(daemon.pid(), WINDOW), "{} peers keep it awake", peers.len());
}

#[test]
fn an_idle_tcp_peer_costs_little() {
    let folder = tempfile::tempdir().expect("temporary folders can be made");
    let daemon = Daemon::start(folder.path(), CONFIG);
    // the first bring what is there once
    let mut peers: Vec<_> = (0..100).map(|_| subscribed(&daemon)).collect();
    let before = anonymous_bytes(daemon.pid());
    peers.extend((0..MEASURED).map(|_| subscribed(&daemon)));
    let each = (anonymous_bytes(daemon.pid()) - before) / MEASURED;
    println!("{each} bytes for each idle TCP peer");
    assert!(each <= MOST_BYTES, "{each} bytes for each idle peer");
}

fn subscribed(daemon: &Daemon) -> Peer<std::net::TcpStream> {
    let mut peer = Peer::join(&daemon.address("tcp"), "demo");
    peer.subscribe("to/all");
    peer
}

const WINDOW: Duration = Duration::from_secs(3);
const MEASURED: u64 = 700;
/// A tenth above what it is; that is more than at 10,000, since tables have just doubled.
const MOST_BYTES: u64 = 1280;
const CONFIG: &str = "listen = [{ kind = \"tcp\", address = \"127.0.0.1:0\" }]\n\
                      board.enabled = false\nlimits.peers_per_address = 10000\n";
