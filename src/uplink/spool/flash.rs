//! What a piece of work writes: the bytes that its thread gives to write calls, as the kernel
//! counts them. SQLite writes in the caller's thread and, as it is set up here, by such calls only.

use std::fs;

/// Counts from its start on.
#[derive(Debug)]
pub(super) struct Meter {
    before: Option<u64>,
}

impl Meter {
    pub(super) fn start() -> Self {
        Self { before: written() }
    }

    /// Bytes written since the start; none where the kernel does not count.
    pub(super) fn bytes(&self) -> Option<u64> {
        Some(written()?.saturating_sub(self.before?))
    }
}

/// Of this thread, since it began.
fn written() -> Option<u64> {
    let text = fs::read_to_string("/proc/thread-self/io").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("wchar:"))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_is_written_is_counted() {
        let mut file = tempfile::tempfile().unwrap();
        let meter = Meter::start();
        file.write_all(&[0; 5000]).unwrap();
        assert_eq!(meter.bytes(), Some(5000));
    }
}
