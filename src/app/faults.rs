//! Faults on purpose, for the tests of the watchdog: a file says which. Only with the feature `faults`,
//! which no release has.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::hub::Hub;

/// The file that says which fault is wanted; none: none.
pub(super) fn file() -> Option<PathBuf> {
    std::env::var_os("FAULT_FILE").map(PathBuf::from)
}

/// Waits for a fault to be wanted, and commits it.
pub(super) async fn obey(hub: Arc<Hub>, file: PathBuf) {
    loop {
        let wanted = std::fs::read_to_string(&file).unwrap_or_default();
        match wanted.trim() {
            "busy" => spin(),
            "blocked" => block(),
            "deadlock" => deadlock(&hub),
            "panic" => fail(),
            "disk" => stall_disk(&file).await,
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[allow(clippy::panic, reason = "that is the fault")]
fn fail() -> ! {
    panic!("on purpose")
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

/// A disk that takes a minute for what is asked of it.
async fn stall_disk(file: &std::path::Path) {
    let wait = || thread::park_timeout(Duration::from_secs(60));
    // that it takes its time is all that is wanted of it
    tokio::task::spawn_blocking(wait).await.unwrap_or_default();
    std::fs::remove_file(file).unwrap_or_default();
}
