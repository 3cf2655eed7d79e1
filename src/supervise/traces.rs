//! What one run leaves for the next: the name of what hung, and whether the run ended in order.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use tracing::warn;

/// Writes the cause of a hang for the next start.
///
/// # Errors
/// What the file system says.
pub fn write_cause(folder: &Path, part: &str, since: Duration) -> io::Result<()> {
    let text = format!("{part} made no progress for {} ms\n", since.as_millis());
    fs::write(folder.join(CAUSE), text)
}

/// What the run before left, and notes that this one runs. A folder that is gone after the machine
/// has started (`RuntimeDirectory=`) is the right place: what it says is about this boot.
///
/// Returns why the run before ended, where it did not end in order.
#[must_use]
pub fn begin(folder: &Path) -> Option<String> {
    let cause = fs::read_to_string(folder.join(CAUSE)).ok();
    let was_cut = folder.join(RUNNING).exists();
    let seen = cause.as_ref().map(|_| fs::rename(folder.join(CAUSE), folder.join(SEEN)));
    for result in [seen.unwrap_or(Ok(())), fs::write(folder.join(RUNNING), "")] {
        if let Err(error) = result {
            warn!(folder = %folder.display(), %error, "no trace of this run can be left");
        }
    }
    let first_line = |text: String| text.lines().next().map(str::to_owned).unwrap_or_default();
    match cause {
        Some(text) => Some(format!("the watchdog: {}", first_line(text))),
        None if was_cut => Some(CUT.to_owned()),
        None => None,
    }
}

/// Notes that this run ends in order.
pub fn end(folder: &Path) {
    if let Err(error) = fs::remove_file(folder.join(RUNNING)) {
        warn!(folder = %folder.display(), %error, "the next start will take this run for cut off");
    }
}

/// What there is to say where the daemon could not say it.
const CUT: &str = "it was killed, by the watchdog or by somebody, or crashed";
/// Holds the name of what hung.
const CAUSE: &str = "watchdog-cause";
/// The same once it was shown.
const SEEN: &str = "watchdog-cause.seen";
/// Is there while the daemon runs.
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
        assert!(told.contains("a link made no progress for 1500 ms"), "{told}");
        end(folder.path());
        assert_eq!(begin(folder.path()), None);
    }
}
