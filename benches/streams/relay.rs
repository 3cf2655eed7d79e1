//! Streams through the daemon, to peers as thin as they can be: a rate, and what alarms wait beside one.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::peer::{Receiver, Sender, alarms};
use crate::process::cpu_seconds;
use crate::support::Daemon;
use crate::{CONFIG, copy};

/// Bytes on their way through one program.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Passed {
    /// MB a second.
    pub(crate) rate: f64,
    /// CPU seconds a GB, of that program alone.
    pub(crate) cpu: f64,
}

impl Passed {
    fn of(bytes: u64, took: Duration, cpu: f64) -> Self {
        Self { rate: bytes as f64 / took.as_secs_f64() / 1e6, cpu: cpu / (bytes as f64 / 1e9) }
    }
}

/// One round: so many bytes through the daemon, and through a thread that only copies.
pub(crate) fn pass(folder: &Path, bytes: u64) -> [Passed; 2] {
    let daemon = Daemon::start(folder, CONFIG);
    let before = cpu_seconds(daemon.pid());
    let begun = Instant::now();
    stream(&daemon.address("tcp"), bytes);
    let took = begun.elapsed();
    let daemons = Passed::of(bytes, took, cpu_seconds(daemon.pid()) - before);
    drop(daemon);
    let begun = Instant::now();
    let cpu = copy::copy(bytes);
    [daemons, Passed::of(bytes, begun.elapsed(), cpu)]
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

/// One round of alarms on the link of a file's receiver: when it is idle, and while the file comes. In
/// microseconds: median, 99 % and 99.9 %.
pub(crate) fn delays(folder: &Path) -> [[f64; 3]; 2] {
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
    assert!(sent > 1 << 20, "a file came meanwhile");
    [idle, busy].map(|delays| {
        SHARES.map(|share| delays[(delays.len() - 1) * share / 1000].as_secs_f64() * 1e6)
    })
}

/// Thousandths.
const SHARES: [usize; 3] = [500, 990, 999];
const ALARMS: usize = 2000;
