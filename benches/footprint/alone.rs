//! The daemon without a peer, and how often it wakes up with peers that say nothing.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::process::{Memory, switches};
use crate::support::peer::Peer;
use crate::support::{Daemon, fastportd};

/// What a daemon takes that has nothing to do.
pub(crate) struct Figures {
    /// Memory: of the starts the one in the middle, by its proportional set.
    pub(crate) memory: Memory,
    /// From exec to the word that it is ready: the median.
    pub(crate) ready: Duration,
    /// Wake-ups a second without a peer.
    pub(crate) alone: f64,
    /// Wake-ups a second with [`PEERS`] idle peers.
    pub(crate) with_peers: f64,
}

/// Measures the daemon with its defaults, but for the ports.
pub(crate) fn measure(folder: &Path) -> Result<Figures, Failure> {
    let path = folder.join("alone.toml");
    std::fs::write(&path, CONFIG)?;
    let mut memories = Vec::new();
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let begun = Instant::now();
        let daemon = Daemon::spawn(fastportd().arg("--config").arg(&path));
        times.push(begun.elapsed());
        let settled = quiet(daemon.pid())?;
        memories.push(settled);
    }
    times.sort();
    memories.sort_by_key(|memory| memory.proportional);
    let daemon = Daemon::spawn(fastportd().arg("--config").arg(&path));
    quiet(daemon.pid())?;
    let alone = wake_ups(daemon.pid(), ALONE)?;
    let address = daemon.address("tcp");
    let peers: Vec<_> = (0..PEERS)
        .map(|_| {
            let mut peer = Peer::join(&address, "demo");
            peer.subscribe("to/all");
            peer
        })
        .collect();
    let with_peers = wake_ups(daemon.pid(), WITH_PEERS)?;
    drop(peers);
    Ok(Figures {
        memory: *memories.get(STARTS / 2).ok_or("no start")?,
        ready: *times.get(STARTS / 2).ok_or("no start")?,
        alone,
        with_peers,
    })
}

/// Waits until the threads have slept for a while; the memory then.
#[allow(clippy::disallowed_methods, reason = "what is measured is what happens in that time")]
fn quiet(pid: u32) -> Result<Memory, Failure> {
    loop {
        let before = switches(pid)?;
        std::thread::sleep(Duration::from_millis(100));
        if switches(pid)? == before {
            return Memory::of(pid);
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "what is measured is what happens in that time")]
fn wake_ups(pid: u32, window: Duration) -> Result<f64, Failure> {
    let before = switches(pid)?;
    std::thread::sleep(window);
    Ok((switches(pid)? - before) as f64 / window.as_secs_f64())
}

/// Idle peers for which wake-ups are counted.
pub(crate) const PEERS: usize = 100;
const STARTS: usize = 21;
/// Longer than the time between two readings of the board's sensors.
const ALONE: Duration = Duration::from_secs(15);
/// Longer than a keepalive.
const WITH_PEERS: Duration = Duration::from_secs(65);
/// The defaults, with ports that are free.
const CONFIG: &str = r#"
listen = [
    { kind = "tcp", address = "127.0.0.1:0" },
    { kind = "websocket", address = "127.0.0.1:0" },
]
"#;
