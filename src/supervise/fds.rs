//! Files that the service manager holds while the daemon is away: its file descriptor store
//! (`FileDescriptorStoreMax=` of systemd.service(5)). What lies in a memfd there outlives a crash
//! and an upgrade without a write to flash.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use tracing::warn;

use super::notify;

/// The files that were held, and the way to have more held.
#[derive(Debug, Default)]
pub struct Store {
    held: Mutex<Vec<(String, OwnedFd)>>,
}

impl Store {
    /// With what came from the service manager at the start.
    #[must_use]
    pub fn new(held: Vec<(String, OwnedFd)>) -> Self {
        Self { held: Mutex::new(held) }
    }

    /// Whether files can be held at all.
    #[must_use]
    pub fn is_there(&self) -> bool {
        notify::is_heard()
    }

    /// Has a file held under that name, of at most 255 bytes without `:` and control characters.
    pub fn store(&self, name: &str, file: BorrowedFd<'_>) {
        self.say(&[("FDSTORE", "1".to_owned()), ("FDNAME", name.to_owned())], Some(file));
    }

    /// Has the files under that name let go. They may still be open here.
    pub fn remove(&self, name: &str) {
        self.say(&[("FDSTOREREMOVE", "1".to_owned()), ("FDNAME", name.to_owned())], None);
    }

    /// The file that was held under that name.
    pub fn take(&self, name: &str) -> Option<OwnedFd> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let at = held.iter().position(|(known, _)| known == name)?;
        Some(held.swap_remove(at).1)
    }

    /// Says what was held and nobody took. It stays with the service manager: what took it may be
    /// back with the next configuration.
    pub fn report_unused(&self) {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, _) in &*held {
            warn!(name, "held by the service manager, but of no use to this configuration");
        }
    }

    fn say(&self, state: &[(&'static str, String)], file: Option<BorrowedFd<'_>>) {
        if let Err(error) = notify::send(state, file) {
            warn!(?state, %error, "service manager not told");
        }
    }
}
