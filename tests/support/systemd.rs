//! Commands under a real systemd, with files of this machine bound into its root.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::support::skip::skip;

/// A file with that text in a test's folder.
#[allow(dead_code, reason = "some tests bind files of the project alone")]
pub(crate) fn file(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("the test's folder is writable");
    path
}

/// Runs a command for so many seconds at most; its output, or none where there is no systemd to run.
pub(crate) fn run(
    name: &str,
    seconds: u32,
    bound: &[(&Path, &str)],
    words: &[&str],
) -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(root.join("tools/under-systemd.sh"));
    command.arg("-t").arg(seconds.to_string());
    for (source, target) in bound {
        command.arg("-b").arg(format!("{}:{target}", source.display()));
    }
    let output =
        command.arg("--").args(words).stdin(Stdio::null()).output().expect("the script is there");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.code() == Some(77) {
        skip(&format!("{name}: {}", text.trim().trim_start_matches("SKIPPED ")));
        return None;
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {}\n{text}\n{errors}", output.status);
    Some(text)
}
