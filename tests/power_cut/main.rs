//! The spool's files as a loss of power leaves them: every write of a workload is recorded (strace),
//! and the files are made anew as they were at each write, with what was not yet synced there, gone,
//! there in part, or torn. Each time the spool opens and has what it promised. Then with flipped bits.
//!
//! `FASTPORT_POWER_CUT=all` looks at every write; without, at some of them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "what a test relies on and does not get fails it"
)]

mod image;
#[path = "../support/skip.rs"]
mod skip;
mod trace;
mod workload;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use fastport::uplink::spool::Limits;
use image::Disk;
use skip::skip;
use tempfile::TempDir;
use trace::Event;
use workload::{Known, Seen};

#[test]
fn a_spool_opens_with_what_it_promised_wherever_the_power_was_cut() {
    let Some(events) = recorded() else { return };
    let known = Known::of_workload();
    let boundaries: Vec<_> = (0..events.len()).filter(|at| events[*at].changes_disk()).collect();
    assert!(boundaries.len() > 500, "{} writes recorded", boundaries.len());
    let step = if is_thorough() { 1 } else { boundaries.len().div_ceil(BOUNDARIES) };
    let mut random = Random(1);
    let mut disk = Disk::default();
    let mut next = random.below(step);
    let mut looked = 0;
    let began = Instant::now();
    for (place, at) in boundaries.iter().enumerate() {
        let from = if place == 0 { 0 } else { boundaries[place - 1] + 1 };
        for event in &events[from..=*at] {
            disk.take(event);
        }
        if place < next {
            continue;
        }
        next = place + step;
        for image in disk.images(&mut random) {
            looked += 1;
            let seen = open(&image, known.limits());
            let text = seen.complaint();
            assert!(text.is_none(), "write {place}, {}: {text:?}", image.name);
            assert!(!seen.is_damaged, "write {place}, {}: set aside", image.name);
            known.check(disk.steps_begun(), disk.steps_done(), &seen).unwrap_or_else(|wrong| {
                panic!("write {place}, {}: {wrong}", image.name);
            });
        }
    }
    println!("{looked} images of {} writes in {:?}", boundaries.len(), began.elapsed());
}

#[test]
fn a_spool_with_flipped_bits_opens_and_what_is_missing_is_told() {
    let Some(events) = recorded() else { return };
    let known = Known::of_workload();
    let mut random = Random(2);
    let began = Instant::now();
    let most = if is_thorough() { Duration::from_secs(600) } else { FLIPPING };
    let mut disk = Disk::default();
    let ends = (0..events.len()).filter(|at| matches!(events[*at], Event::StepDone(_)));
    let ends: Vec<_> = ends.collect();
    let mut from = 0;
    let (mut looked, mut told) = (0, 0);
    // the later the fuller: twice as many of each
    for at in ends.iter().skip(1).step_by(3) {
        for event in &events[from..=*at] {
            disk.take(event);
        }
        from = at + 1;
        for _ in 0..6 {
            if began.elapsed() > most {
                break;
            }
            let image = disk.flipped(&mut random);
            let seen = open(&image, known.limits());
            looked += 1;
            told += u32::from(seen.is_told());
            known.check_flipped(disk.steps_done(), &seen).unwrap_or_else(|wrong| {
                panic!("after step {}, {}: {wrong}", disk.steps_done(), image.name);
            });
        }
    }
    println!("{looked} images, {told} with a loss that is told, in {:?}", began.elapsed());
    assert!(looked > 20);
}

/// The child of the other tests: what strace looks at.
#[test]
#[ignore = "run by the others"]
fn workload() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    workload::run(Path::new(&folder), &mut |_, _| {});
}

/// Runs the workload under strace; none, and a line that says so, where that cannot be.
fn recorded() -> Option<Vec<Event>> {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("trace");
    let spool = folder.path().join("spool");
    std::fs::create_dir(&spool).unwrap();
    let calls =
        "trace=openat,close,pwrite64,write,ftruncate,fsync,fdatasync,unlink,rename,renameat2";
    let status = Command::new("strace")
        .args(["-f", "-xx", "-s", "2000000", "-e", calls, "-o"])
        .arg(&output)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "workload", "--ignored", "--test-threads=1"])
        .env(FOLDER, &spool)
        .output();
    match status {
        Ok(done) if done.status.success() => {}
        Ok(done) => {
            let text = String::from_utf8_lossy(&done.stderr);
            let may_trace = !text.contains("ptrace");
            assert!(!may_trace, "the workload failed: {text}");
            skip(&format!("strace may not trace here: {text}"));
            return None;
        }
        Err(error) => {
            skip(&format!("no strace ({error}): tools/install-test-needs.sh installs it"));
            return None;
        }
    }
    Some(trace::parse(&std::fs::read_to_string(&output).unwrap(), &spool))
}

fn open(image: &image::Image, limits: Limits) -> Seen {
    let folder = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
    for (name, bytes) in &image.files {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    workload::look(folder.path(), limits)
}

fn is_thorough() -> bool {
    std::env::var("FASTPORT_POWER_CUT").is_ok_and(|value| value == "all")
}

/// A small generator, so that a failure comes again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit.max(1)).unwrap()).unwrap()
    }
}

const FOLDER: &str = "FASTPORT_POWER_CUT_FOLDER";
/// Writes that are looked at where not all are.
const BOUNDARIES: usize = 80;
const FLIPPING: Duration = Duration::from_secs(8);
