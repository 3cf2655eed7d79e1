//! `[daemon]` and `[board]`: the process as a whole, and the board it runs on.

use std::path::PathBuf;
use std::time::Duration;

use super::schema::{Fields, Reload, Visit, within};
use super::value::{SessionName, words};

/// `[daemon]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Daemon {
    /// Threads that serve peers. 1: small boards have little to gain from more, and each costs a
    /// scratch buffer and a lock that is no longer free.
    pub workers: u16,
    /// The longest wait at shutdown for what peers still have to get. Well inside the 90 s after
    /// which systemd kills.
    pub drain: Duration,
    /// The folder for what outlives the process; none: there is none, and nothing does but what
    /// systemd holds.
    pub state: Option<PathBuf>,
    /// `[daemon.log]`.
    pub log: Log,
}

impl Default for Daemon {
    fn default() -> Self {
        Self { workers: 1, drain: Duration::from_secs(5), state: None, log: Log::default() }
    }
}

impl Fields for Daemon {
    fn fields(&mut self, visit: &mut dyn Visit) {
        let drain = Duration::ZERO..=Duration::from_secs(80);
        visit.key("workers", Reload::Restart, &mut within(&mut self.workers, 1..=64));
        visit.key("drain", Reload::Live, &mut within(&mut self.drain, drain));
        visit.key("state", Reload::Restart, &mut self.state);
        visit.table("log", &mut self.log);
    }
}

/// `[daemon.log]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// For people or for programs. Text: what `journalctl` shows best.
    pub format: LogFormat,
    /// The least important lines that are written. `info`: one line a connection or less.
    pub level: LogLevel,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: LogLevel::Info }
    }
}

impl Fields for Log {
    fn fields(&mut self, visit: &mut dyn Visit) {
        visit.key("format", Reload::Restart, &mut self.format);
        visit.key("level", Reload::Live, &mut self.level);
    }
}

words! {
    /// What a log line looks like.
    LogFormat {
        /// Text for people.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
    /// How important a log line is.
    LogLevel {
        /// Nothing.
        Off = "off",
        /// What wakes a person.
        Error = "error",
        /// What somebody should look into.
        Warn = "warn",
        /// Once per connection or less.
        Info = "info",
        /// What helps to find a fault.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

/// `[board]`: the daemon's own readings of the board (load, memory, temperature) under `$board/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Board {
    /// Whether they are published. On: a board shows something from the first start.
    pub enabled: bool,
    /// The time between two readings. 10 s: often enough for a chart, and no load.
    pub interval: Duration,
    /// The session they are published in; none: there is no session in the configuration.
    pub session: Option<SessionName>,
}

impl Default for Board {
    fn default() -> Self {
        Self { enabled: true, interval: Duration::from_secs(10), session: None }
    }
}

impl Fields for Board {
    fn fields(&mut self, visit: &mut dyn Visit) {
        let interval = Duration::from_secs(1)..=Duration::from_secs(86_400);
        visit.key("enabled", Reload::Live, &mut self.enabled);
        visit.key("interval", Reload::Live, &mut within(&mut self.interval, interval));
        visit.key("session", Reload::Live, &mut self.session);
    }
}
