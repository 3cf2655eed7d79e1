//! What one run leaves for the next: the name of what hung, and whether the run ended in order.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{fs, io};

use tracing::warn;

/// Writes the cause of a hang for the next start, with the time and the kernel's name for this boot.
///
/// # Errors
/// What the file system says.
pub fn write_cause(folder: &Path, part: &str, since: Duration) -> io::Result<()> {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (since, boot) = (since.as_millis(), boot_id());
    let text = format!("{part} made no progress for {since} ms\nunix time {unix}\nboot {boot}\n");
    fs::write(folder.join(CAUSE), text)
}

/// What the run before left, and notes that this one runs.
///
/// Returns why the run before ended, where it did not end in order.
#[must_use]
pub fn begin(folder: &Path) -> Option<String> {
    begin_in(folder, &boot_id())
}

fn begin_in(folder: &Path, boot: &str) -> Option<String> {
    let cause = fs::read_to_string(folder.join(CAUSE)).ok();
    let running = fs::read_to_string(folder.join(RUNNING)).ok();
    let seen = cause.as_ref().map(|_| fs::rename(folder.join(CAUSE), folder.join(SEEN)));
    for result in [seen.unwrap_or(Ok(())), fs::write(folder.join(RUNNING), boot)] {
        if let Err(error) = result {
            warn!(folder = %folder.display(), %error, "no trace of this run can be left");
        }
    }
    if let Some(text) = cause {
        return Some(format!("the watchdog: {}", text.lines().collect::<Vec<_>>().join(", ")));
    }
    let ended = if running? == boot { CUT } else { CUT_WITH_THE_MACHINE };
    Some(ended.to_owned())
}

/// Notes that this run ends in order.
pub fn end(folder: &Path) {
    if let Err(error) = fs::remove_file(folder.join(RUNNING)) {
        warn!(folder = %folder.display(), %error, "the next start will take this run for cut off");
    }
}

/// The kernel's name for the time since the machine was started; empty where it has none.
fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// What there is to say where the daemon could not say it.
const CUT: &str = "it was killed, by the watchdog or by somebody, or crashed";
/// The same from another boot.
const CUT_WITH_THE_MACHINE: &str = "the machine went down or was started again while it ran";
/// Holds the name of what hung.
const CAUSE: &str = "watchdog-cause";
/// The same once it was shown.
const SEEN: &str = "watchdog-cause.seen";
/// Is there while the daemon runs, and names the boot.
const RUNNING: &str = "running";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_ended_in_order_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(begin(folder.path()), None);
        end(folder.path());
        assert_eq!(begin(folder.path()), None);
    }

    #[test]
    fn a_run_that_was_cut_is_told_of_once_and_its_cause_where_there_is_one() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(begin(folder.path()), None);
        assert_eq!(begin(folder.path()).as_deref(), Some(CUT));
        write_cause(folder.path(), "a link", Duration::from_millis(1500)).expect("written");
        let told = begin(folder.path()).expect("there is a cause");
        assert!(told.contains("a link made no progress for 1500 ms, unix time "), "{told}");
        assert!(told.ends_with(&format!(", boot {}", boot_id())), "{told}");
        end(folder.path());
        assert_eq!(begin(folder.path()), None);
    }

    #[test]
    fn a_run_that_was_cut_with_the_machine_is_not_laid_to_the_watchdog() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(begin_in(folder.path(), "one boot"), None);
        let told = begin_in(folder.path(), "the next");
        assert_eq!(told.as_deref(), Some(CUT_WITH_THE_MACHINE));
        assert_eq!(begin_in(folder.path(), "the next").as_deref(), Some(CUT));
    }
}
