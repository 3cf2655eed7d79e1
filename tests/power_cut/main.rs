//! The spool's files as a loss of power leaves them: every write of a workload is recorded (strace),
//! and the files are made anew as they were at each write, with what was not yet synced there, gone,
//! there in part, or torn. Each time the spool opens and has what it promised. Then with flipped bits.
//!
//! `FASTPORT_POWER_CUT=all` loses some of what was not synced at every write, and flips bits for minutes;
//! without, at some writes, and for seconds.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "what a test relies on and does not get fails it"
)]

#[cfg(feature = "central")]
#[path = "../support/access.rs"]
mod access;
#[cfg(feature = "central")]
mod daemon;
mod image;
#[cfg(feature = "central")]
#[path = "../support/site.rs"]
mod site;
#[path = "../support/mod.rs"]
mod support;
mod trace;
mod workload;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use fastport::uplink::spool::Limits;
use image::{Disk, Wanted};
use support::skip::skip;
use tempfile::TempDir;
use trace::Event;
use workload::{Known, Seen};

#[test]
fn a_spool_opens_with_what_it_promised_wherever_the_power_was_cut() {
    let Some(events) = recorded() else { return };
    let known = Known::of_workload();
    let boundaries = boundaries(&events);
    assert!(boundaries.len() > 500, "{} writes recorded", boundaries.len());
    let began = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let looked: usize = std::thread::scope(|scope| {
        let (events, known, boundaries) = (&events, &known, &boundaries);
        let share = |part| move || cut_everywhere(events, known, boundaries, (part, threads));
        let shares: Vec<_> = (0..threads).map(|part| scope.spawn(share(part))).collect();
        shares.into_iter().map(|share| share.join().expect("what it says is above")).sum()
    });
    println!("{looked} images of {} writes in {:?}", boundaries.len(), began.elapsed());
}

/// Looks at one part of so many of the boundaries; at how many images.
fn cut_everywhere(
    events: &[Event],
    known: &Known,
    boundaries: &[usize],
    (part, parts): (usize, usize),
) -> usize {
    let mut random = Random(1 + part as u64);
    let mut disk = Disk::default();
    let (mut from, mut looked, mut last_synced) = (0, 0, None);
    for (place, at) in boundaries.iter().enumerate() {
        events[from..=*at].iter().for_each(|event| disk.take(event));
        from = at + 1;
        // the later the fuller: small pieces, so that all have the same
        if place / PIECE % parts != part {
            continue;
        }
        let (begun, done) = (disk.steps_begun(), disk.steps_done());
        let synced = Some((disk.synced(), begun, done));
        let is_new = std::mem::replace(&mut last_synced, synced) != synced;
        let wanted = Wanted { synced: is_new, some: is_thorough() || place % SOME == 0 };
        for image in disk.images(&mut random, wanted) {
            looked += 1;
            let seen = open(&image, known.limits());
            let text = seen.complaint();
            assert!(text.is_none(), "write {place}, {}: {text:?}", image.name);
            assert!(!seen.is_damaged, "write {place}, {}: set aside", image.name);
            known.check(begun, done, &seen).unwrap_or_else(|wrong| {
                panic!("write {place}, {}: {wrong}", image.name);
            });
        }
    }
    looked
}

/// Where the power may be cut: behind each event that changes the disk.
fn boundaries(events: &[Event]) -> Vec<usize> {
    (0..events.len()).filter(|at| events[*at].changes_disk()).collect()
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
/// At every such boundary some of the writes are lost, and the last is torn.
const SOME: usize = 8;
/// Boundaries in a row that one thread looks at.
const PIECE: usize = 16;
const FLIPPING: Duration = Duration::from_secs(8);
