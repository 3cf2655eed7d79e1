//! How far files are, for a person at a terminal; elsewhere only what came of them.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::exit::note;

/// A bar for each file under way.
#[derive(Clone)]
pub(super) struct Bars {
    all: MultiProgress,
}

impl Bars {
    /// Bars on standard error, if that is a terminal and they are wanted.
    pub(super) fn new(quiet: bool) -> Self {
        let shown = !quiet && stderr().is_terminal();
        let target = if shown {
            ProgressDrawTarget::stderr_with_hz(8)
        } else {
            ProgressDrawTarget::hidden()
        };
        Self { all: MultiProgress::with_draw_target(target) }
    }

    /// A bar for a file of that size, of which `at` bytes are there already.
    pub(super) fn bar(&self, what: &str, size: u64, at: u64) -> Bar {
        let style = ProgressStyle::with_template(TEMPLATE);
        let bar = ProgressBar::new(size).with_style(style.unwrap_or(ProgressStyle::default_bar()));
        let bar = self.all.add(bar);
        bar.set_message(what.to_owned());
        bar.set_position(at);
        bar.reset_eta();
        Bar { bar, from: at, since: Instant::now() }
    }

    /// Says something above the bars.
    pub(super) fn note(&self, text: impl std::fmt::Display) {
        self.all.suspend(|| note(text));
    }
}

/// A file's bar; gone when it is dropped.
pub(super) struct Bar {
    bar: ProgressBar,
    from: u64,
    since: Instant,
}

impl Bar {
    /// So much is there.
    pub(super) fn set(&self, at: u64) {
        self.bar.set_position(at);
    }

    /// What the bar stands for now.
    pub(super) fn say(&self, what: impl Into<String>) {
        self.bar.set_message(what.into());
    }

    /// How much has gone by since the bar is there, and how fast.
    pub(super) fn rate(&self, at: u64) -> String {
        let bytes = at.saturating_sub(self.from);
        let time = self.since.elapsed().max(Duration::from_millis(1));
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let per_second = bytes.saturating_mul(1000) / millis;
        format!("{} at {}/s", HumanBytes(at), HumanBytes(per_second))
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

const TEMPLATE: &str =
    "{msg:28!} {wide_bar} {bytes:>11}/{total_bytes:<11} {bytes_per_sec:>13} {eta:>4}";
