//! `[central]` and `[journal]`: what a central instance does beside relaying, and what outlives the
//! process.

use std::path::PathBuf;
use std::time::Duration;

use super::schema::{Fields, Reload, Visit, within};
use super::value::{Bytes, words};

/// `[central]`: the role of a central instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Central {
    /// Whether gateways are taken in, and messages stored.
    pub enabled: bool,
    /// The SQLite file that holds the messages; none: [`STORE_FILE`] in the daemon's state.
    pub store: Option<PathBuf>,
    /// How long messages are held.
    pub keep: Duration,
    /// The most bytes of messages held; the oldest make room.
    pub bytes: Bytes,
    /// The longest that a message waits to be committed with others.
    pub commit: Duration,
    /// How many gateways may connect each second; more are told when to come back. 0: no limit.
    pub connects_per_second: u32,
}

impl Default for Central {
    fn default() -> Self {
        Self {
            enabled: false,
            store: None,
            keep: Duration::from_secs(30 * 86_400),
            bytes: Bytes::mib(1024),
            commit: Duration::from_millis(50),
            connects_per_second: 100,
        }
    }
}

impl Fields for Central {
    fn fields(&mut self, visit: &mut dyn Visit) {
        use Reload::Restart;
        let commit = Duration::from_millis(1)..=Duration::from_secs(10);
        visit.key("enabled", Restart, &mut self.enabled);
        visit.key("store", Restart, &mut self.store);
        visit.key("keep", Restart, &mut self.keep);
        visit.key("bytes", Restart, &mut self.bytes);
        visit.key("commit", Restart, &mut within(&mut self.commit, commit));
        visit.key("connects_per_second", Restart, &mut self.connects_per_second);
    }
}

/// `[journal]`: how sessions whose promise is `journal` outlive the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journal {
    /// Where journals are.
    pub place: JournalPlace,
    /// On disk: the longest between what is taken and what a power cut leaves.
    pub sync: Duration,
    /// A journal longer than this, and than four times what it is about, is written anew.
    pub least: Bytes,
}

impl Default for Journal {
    fn default() -> Self {
        Self { place: JournalPlace::Memory, sync: Duration::from_secs(1), least: Bytes::mib(1) }
    }
}

impl Fields for Journal {
    fn fields(&mut self, visit: &mut dyn Visit) {
        use Reload::Restart;
        let sync = Duration::from_millis(10)..=Duration::from_secs(60);
        visit.key("place", Restart, &mut self.place);
        visit.key("sync", Restart, &mut within(&mut self.sync, sync));
        visit.key(
            "least",
            Restart,
            &mut within(&mut self.least, Bytes::kib(64)..=Bytes::mib(1024)),
        );
    }
}

words! {
    /// Where journals are.
    JournalPlace {
        /// In memory that systemd holds while the process is away: no write to flash, gone with the
        /// machine's power.
        Memory = "memory",
        /// In files in `daemon.state`.
        Disk = "disk",
    }
}

/// The name of the file that holds a central instance's messages.
pub const STORE_FILE: &str = "central.db";
