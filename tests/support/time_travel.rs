//! A machine's clock that a test sets: libfaketime between the daemon and the C library. Timers see the
//! real monotonic clock, as they do when somebody sets a real machine's clock.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::support::fastportd;
use super::support::skip::skip;

/// A clock that is the real one and so many seconds more.
pub struct FakeClock {
    library: PathBuf,
    file: PathBuf,
}

impl FakeClock {
    /// A clock whose state is in the folder, beyond the real one by so many seconds; `None` where there is
    /// no libfaketime, which it says.
    pub fn new(folder: &Path, beyond: i64) -> Option<Self> {
        let Some(library) = library() else {
            skip("no libfaketime: tools/install-test-needs.sh installs it");
            return None;
        };
        let clock = Self { library, file: folder.join("clock") };
        clock.set(beyond);
        Some(clock)
    }

    /// Steps the clock.
    pub fn set(&self, beyond: i64) {
        let beside = self.file.with_extension("new");
        std::fs::write(&beside, format!("{beyond:+}\n")).expect("the test's folder is writable");
        std::fs::rename(&beside, &self.file).expect("the test's folder is writable");
    }

    /// The command `fastportd` on a machine with this clock.
    pub fn fastportd(&self, config: &Path) -> Command {
        let mut command = fastportd();
        command
            .arg("--config")
            .arg(config)
            .env("FASTPORT_DAEMON_LOG_FORMAT", "text")
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME_TIMESTAMP_FILE", &self.file)
            .env("FAKETIME_NO_CACHE", "1")
            .env("DONT_FAKE_MONOTONIC", "1")
            // files are as old as they are
            .env("NO_FAKE_STAT", "1");
        command
    }
}

/// Seconds since 1970.
pub fn today() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the tests' machine has a clock");
    now.as_secs().cast_signed()
}

/// What a clock is beyond the real one that is a minute after 1970 began.
pub fn at_1970() -> i64 {
    60 - today()
}

/// How far a time of day, in milliseconds since 1970, is from the real one.
pub fn from_today(unix_ms: u64) -> Duration {
    let real = u64::try_from(today()).expect("after 1970") * 1000;
    Duration::from_millis(real.abs_diff(unix_ms))
}

fn library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    let file = "faketime/libfaketimeMT.so.1";
    let mut found = folders.map(|folder| folder.join(file)).filter(|path| path.exists());
    found.next()
}
