//! `[daemon]` and `[board]`: the process as a whole, and the board it runs on.

use std::path::PathBuf;
use std::time::Duration;

use super::hardware::Hardware;
use super::schema::{Fields, Reload, Visit, within, within_if};
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
    /// What the service manager's watchdog is set to; none: what the unit says.
    pub watchdog: Option<Duration>,
    /// Which of TLS's ciphers is tried first.
    pub ciphers: Ciphers,
    /// The folder for what outlives the process; none: there is none, and nothing does but what
    /// systemd holds.
    pub state: Option<PathBuf>,
    /// `[daemon.log]`.
    pub log: Log,
}

impl Default for Daemon {
    fn default() -> Self {
        Self {
            workers: 1,
            drain: Duration::from_secs(5),
            watchdog: None,
            ciphers: Ciphers::Auto,
            state: None,
            log: Log::default(),
        }
    }
}

impl Fields for Daemon {
    fn fields(&mut self, visit: &mut dyn Visit) {
        let drain = Duration::ZERO..=Duration::from_secs(80);
        visit.key("workers", Reload::Restart, &mut within(&mut self.workers, 1..=64));
        visit.key("drain", Reload::Live, &mut within(&mut self.drain, drain));
        let watchdog = Duration::from_secs(1)..=Duration::from_secs(3_600);
        visit.key("watchdog", Reload::Restart, &mut within_if(&mut self.watchdog, watchdog));
        visit.key("ciphers", Reload::Restart, &mut self.ciphers);
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
    /// Which of TLS's ciphers is tried first. ChaCha20 takes half the time of AES where the processor has
    /// no instructions for it, and AES less where it has.
    Ciphers {
        /// As the processor is.
        Auto = "auto",
        /// AES.
        Aes = "aes",
        /// ChaCha20.
        ChaCha20 = "chacha20",
    }
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

impl Ciphers {
    /// Whether ChaCha20 is to be tried first on this processor.
    #[must_use]
    pub fn is_chacha20_first(self) -> bool {
        match self {
            Self::Auto => !has_aes(),
            Self::Aes => false,
            Self::ChaCha20 => true,
        }
    }
}

fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
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
    /// `[board.hardware]`.
    pub hardware: Hardware,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            enabled: true,
            interval: Duration::from_secs(10),
            session: None,
            hardware: Hardware::default(),
        }
    }
}

impl Fields for Board {
    fn fields(&mut self, visit: &mut dyn Visit) {
        let interval = Duration::from_secs(1)..=Duration::from_secs(86_400);
        visit.key("enabled", Reload::Live, &mut self.enabled);
        visit.key("interval", Reload::Live, &mut within(&mut self.interval, interval));
        visit.key("session", Reload::Live, &mut self.session);
        visit.table("hardware", &mut self.hardware);
    }
}
