//! Faults on purpose, for the tests of the watchdog: a file says which. Only with the feature `faults`,
//! which no release has.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, memfd_create};
use tracing::info;

use crate::hub::Hub;
use crate::supervise::fds::Store;
use crate::supervise::turn::{self, Part};

/// The file that says which fault is wanted; none: none.
pub(super) fn file() -> Option<PathBuf> {
    std::env::var_os("FAULT_FILE").map(PathBuf::from)
}

/// Waits for a fault to be wanted, and commits it; once, until another is.
pub(super) async fn obey(hub: Arc<Hub>, file: PathBuf) {
    let mut last = String::new();
    loop {
        let wanted = std::fs::read_to_string(&file).unwrap_or_default();
        let fault = if wanted == last { "" } else { wanted.trim() };
        match fault {
            "busy" => spin(),
            "blocked" => block(),
            "deadlock" => deadlock(&hub),
            "panic" => fail(),
            "disk" => stall_disk().await,
            "journal" => stall_journal(&hub),
            "dead" => leave_dead(),
            _ => {}
        }
        last = wanted;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[allow(clippy::panic, reason = "that is the fault")]
fn fail() -> ! {
    panic!("on purpose")
}

/// Adds a line to a file in memory that the service manager holds, and says how many there are.
pub(super) fn hold(store: &Store) {
    let held = store.take(HELD).map(File::from);
    let is_new = held.is_none();
    let mut file = held.unwrap_or_else(|| {
        File::from(memfd_create(HELD, MemfdFlags::CLOEXEC).expect("the kernel has memfd"))
    });
    file.rewind().expect("a file in memory");
    let mut lines = String::new();
    file.read_to_string(&mut lines).expect("a file in memory");
    file.write_all(b"a run\n").expect("a file in memory");
    if is_new {
        store.store(HELD, file.as_fd());
    }
    info!(runs = lines.lines().count(), "in the held file");
}

/// A disk that takes its time when the daemon stops: as many seconds as the environment says.
pub(super) async fn flush() {
    let seconds = std::env::var("FAULT_FLUSH_SECONDS").ok().and_then(|text| text.parse().ok());
    tokio::time::sleep(Duration::from_secs(seconds.unwrap_or(0))).await;
}

fn spin() -> ! {
    loop {
        std::hint::spin_loop();
    }
}

fn block() -> ! {
    loop {
        thread::park();
    }
}

/// Takes a session's lock on a thread of its own, for good.
fn deadlock(hub: &Arc<Hub>) {
    for room in hub.all_rooms() {
        thread::spawn(move || room.hold_for_ever());
    }
}

/// A disk that takes a minute for what is asked of it beside the runtime.
async fn stall_disk() {
    info!("the disk stalls");
    // that it takes its time is all that is wanted of it
    turn::beside(Part::SpoolDisk, || pause(STALL)).await.unwrap_or_default();
    info!("the disk is back");
}

/// The same while the runtime waits for it, with a session's lock in hand: what a journal does.
fn stall_journal(hub: &Hub) {
    info!("the disk stalls");
    for room in hub.all_rooms() {
        turn::run(Part::Disk, || room.hold_for(STALL));
    }
    info!("the disk is back");
}

/// A thread that never comes back from the disk, while all else goes on.
fn leave_dead() {
    info!("a thread is dead");
    drop(turn::beside(Part::SpoolDisk, || block()));
}

fn pause(time: Duration) {
    let until = Instant::now() + time;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        thread::park_timeout(left);
    }
}

/// Thirty times the period of the tests' watchdog.
const STALL: Duration = Duration::from_secs(60);
const HELD: &str = "fault";
