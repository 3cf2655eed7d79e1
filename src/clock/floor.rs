//! The floor of time in a file: what one life proved, the next takes for granted.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::warn;

use super::Clock;
use crate::supervise::turn::{self, Part};

/// The floor that an earlier life left in the folder, in milliseconds since 1970.
///
/// # Errors
/// What the file system says; that it is not a number is [`io::ErrorKind::InvalidData`]. That there is
/// none is no error.
pub fn load(folder: &Path) -> io::Result<Option<u64>> {
    let text = match fs::read_to_string(folder.join(FILE)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let seconds = text.trim().parse::<u64>().map_err(|_| io::ErrorKind::InvalidData)?;
    Ok(Some(seconds.saturating_mul(1000)))
}

/// Writes the floor beside the old one and puts it in its place, unless that one is as good: however
/// often a life ends, there is a write an hour at most.
fn store(folder: &Path, floor_ms: u64) -> io::Result<()> {
    let known = load(folder).ok().flatten();
    if known.is_some_and(|known| u128::from(known.abs_diff(floor_ms)) < PAUSE.as_millis()) {
        return Ok(());
    }
    let beside = folder.join(BESIDE);
    let mut file = File::create(&beside)?;
    writeln!(file, "{}", floor_ms / 1000)?;
    file.sync_all()?;
    fs::rename(&beside, folder.join(FILE))
}

/// Has what is proven in this life known to the next: when it is proven, and then once an hour.
///
/// Cancel-safe: the file is the old one or the new one.
pub async fn keep_floor(clock: Clock, folder: PathBuf) {
    loop {
        if Path::new(SYNCHRONIZED).exists() {
            clock.trust_system();
        }
        if clock.proven_floor().is_some() {
            write_floor(&clock, &folder).await;
            tokio::time::sleep(PAUSE).await;
        } else {
            tokio::select! {
                () = clock.known.news.notified() => {}
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }
}

impl Clock {
    /// Has what is proven so far known to the next life; the process ends.
    pub async fn leave_floor(&self, folder: &Path) {
        write_floor(self, folder).await;
    }
}

async fn write_floor(clock: &Clock, folder: &Path) {
    let Some(floor) = clock.proven_floor() else { return };
    let path = folder.to_owned();
    let written = turn::beside(Part::FloorDisk, move || store(&path, floor)).await;
    if let Err(error) = written.unwrap_or_else(|error| Err(io::Error::other(error))) {
        warn!(file = %folder.join(FILE).display(), %error, "the next start will not know this day");
    }
}

/// In `daemon.state`: seconds since 1970.
const FILE: &str = "time-floor";
const BESIDE: &str = "time-floor.new";
/// 24 pages a day at most.
const PAUSE: Duration = Duration::from_secs(3600);
/// systemd-timesyncd touches it when it has set the clock (systemd-time-wait-sync.service(8)).
const SYNCHRONIZED: &str = "/run/systemd/timesync/synchronized";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_is_read_as_it_was_written_and_rubbish_is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(load(folder.path()).expect("nothing is there"), None);
        store(folder.path(), 1_700_000_000_999).expect("written");
        store(folder.path(), 1_600_000_000_999).expect("written again");
        assert_eq!(load(folder.path()).expect("it is there"), Some(1_600_000_000_000));
        assert!(!folder.path().join(BESIDE).exists());
        fs::write(folder.path().join(FILE), "soon").expect("written");
        let error = load(folder.path()).expect_err("no number");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_life_that_begins_within_the_hour_writes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let hour = 3_600_000;
        store(folder.path(), 1_700_000_000_000).expect("written");
        store(folder.path(), 1_700_000_000_000 + hour - 1).expect("nothing to write");
        assert_eq!(load(folder.path()).expect("it is there"), Some(1_700_000_000_000));
        store(folder.path(), 1_700_000_000_000 + hour).expect("written");
        assert_eq!(load(folder.path()).expect("it is there"), Some(1_700_000_000_000 + hour));
    }

    #[tokio::test]
    async fn what_is_proven_is_in_the_file_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Clock::start();
        let keeper = tokio::spawn(keep_floor(clock.clone(), folder.path().to_owned()));
        clock.hear(clock.now().clock().expect("the machine that tests has a clock"));
        let written = async {
            while load(folder.path()).ok().flatten().is_none() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), written).await.expect("it is written");
        keeper.abort();
    }
}
