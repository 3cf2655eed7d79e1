//! `[board.hardware]`: what a board is made of, as far as the daemon's settings follow from it.
//!
//! The daemon decides nothing by these facts: what follows from them is in the other sections of the
//! board's file, where a configuration can override it. They are for people, for `--board auto`, and for
//! the tests that compare the two. None is known without `--board`.

use std::time::Duration;

use super::schema::{Fields, Reload, Visit};
use super::value::{Bytes, words};

/// `[board.hardware]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hardware {
    /// What people call the board.
    pub name: Option<String>,
    /// The target triple that the board's programs are built for.
    pub target: Option<String>,
    /// How the models begin that its device trees state.
    pub models: Vec<String>,
    /// The least memory that it is sold with.
    pub ram: Option<Bytes>,
    /// Cores of its processor.
    pub cores: Option<u16>,
    /// Whether the processor has instructions for AES.
    pub aes: Option<bool>,
    /// Whether the processor has instructions for SHA-256.
    pub sha2: Option<bool>,
    /// The kernel's driver of the watchdog that resets it.
    pub watchdog: Option<String>,
    /// The longest time that this watchdog can be set to.
    pub watchdog_longest: Option<Duration>,
    /// The time to set it to: `RuntimeWatchdogSec=` of systemd.
    pub watchdog_reset: Option<Duration>,
    /// How soon its storage wears out.
    pub storage: Option<Storage>,
    /// The sensors that the kernel shows: `thermal/TYPE` and `hwmon/NAME`, after the files of those names
    /// below `/sys/class`.
    pub sensors: Vec<String>,
}

impl Fields for Hardware {
    fn fields(&mut self, visit: &mut dyn Visit) {
        use Reload::Restart;
        visit.key("name", Restart, &mut self.name);
        visit.key("target", Restart, &mut self.target);
        visit.key("models", Restart, &mut self.models);
        visit.key("ram", Restart, &mut self.ram);
        visit.key("cores", Restart, &mut self.cores);
        visit.key("aes", Restart, &mut self.aes);
        visit.key("sha2", Restart, &mut self.sha2);
        visit.key("watchdog", Restart, &mut self.watchdog);
        visit.key("watchdog_longest", Restart, &mut self.watchdog_longest);
        visit.key("watchdog_reset", Restart, &mut self.watchdog_reset);
        visit.key("storage", Restart, &mut self.storage);
        visit.key("sensors", Restart, &mut self.sensors);
    }
}

words! {
    /// How soon a board's storage wears out; the soonest first.
    Storage {
        /// An SD card.
        SdCard = "sd-card",
        /// Flash that is soldered on, with a controller.
        Emmc = "emmc",
        /// A disk of the machine that runs a virtual one.
        Virtual = "virtual",
    }
}
