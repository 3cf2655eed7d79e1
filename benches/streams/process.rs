//! The processor's time that a process took.

use std::fs;
use std::process::{Child, ExitStatus};
use std::time::Duration;

/// Of all threads since its start; 0 once it is waited for.
pub(crate) fn cpu_seconds(pid: u32) -> f64 {
    let ticks: u64 = after_name(pid).split_whitespace().skip(11).take(2).filter_map(number).sum();
    ticks as f64 / TICKS
}

/// Waits for a child; how it ended, and the processor's time that it took.
pub(crate) fn finish(mut child: Child) -> (ExitStatus, f64) {
    // its figures are there as long as it is not waited for
    while !after_name(child.id()).trim_start().starts_with('Z') {
        std::thread::park_timeout(Duration::from_millis(1));
    }
    let cpu = cpu_seconds(child.id());
    (child.wait().expect("the child is ours"), cpu)
}

/// What /proc/PID/stat says behind the name, which may have spaces and brackets in it.
fn after_name(pid: u32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    text.rsplit_once(')').map(|(_, rest)| rest.to_owned()).unwrap_or_default()
}

fn number(word: &str) -> Option<u64> {
    word.parse().ok()
}

/// A second of /proc has so many (USER_HZ), on every machine that Linux runs on today.
const TICKS: f64 = 100.0;
