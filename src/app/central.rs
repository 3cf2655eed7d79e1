//! From `[central]` to the store.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use crate::config::{Config, STORE_FILE};
use crate::hub::Hub;
use crate::store::{Keep, Keeper, Options, Sqlite, Store, StoreError};
use crate::supervise::tasks::Tasks;
use crate::supervise::turn::Part;

/// A central instance's store, which reads every session; `None`: this is no central instance.
pub(super) struct Central(Option<Arc<Keeper>>);

/// A central instance cannot keep messages.
#[derive(Debug)]
#[non_exhaustive]
pub enum CentralError {
    /// Its store cannot be opened.
    Store(StoreError),
    /// It has no place for its store.
    NoPlace,
}

impl fmt::Display for CentralError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => write!(f, "{error}"),
            Self::NoPlace => f.write_str(
                "a central instance stores messages: name a folder in daemon.state, or a file in \
                 central.store",
            ),
        }
    }
}

impl std::error::Error for CentralError {}

impl Central {
    /// Opens the store that the configuration asks for.
    pub(super) fn open(config: &Config, hub: &Arc<Hub>) -> Result<Self, CentralError> {
        let central = &config.central;
        if !central.enabled {
            return Ok(Self(None));
        }
        let in_state = || config.daemon.state.as_ref().map(|state| state.join(STORE_FILE));
        let path = central.store.clone().or_else(in_state).ok_or(CentralError::NoPlace)?;
        let options = Options {
            keep: Keep { age: central.keep, bytes: central.bytes.0 },
            commit: central.commit,
            // what waits is charged to the memory of all, and so is what others wait for
            outbox: (config.limits.memory.as_usize() / STORE_SHARE).max(LEAST_OUTBOX),
        };
        info!(store = %path.display(), "this is a central instance");
        let open = move || Sqlite::open(&path).map(|store| Box::new(store) as Box<dyn Store>);
        let keeper = Keeper::start(Arc::clone(hub), options, open).map_err(CentralError::Store)?;
        Ok(Self(Some(keeper)))
    }

    /// Has it read and store.
    pub(super) fn spawn(&self, tasks: &mut Tasks) {
        let Some(keeper) = self.0.clone() else { return };
        tasks.spawn(Part::Store, move || {
            let keeper = Arc::clone(&keeper);
            async move { keeper.run().await }
        });
    }

    /// There is a session more.
    pub(super) fn note_room(&self) {
        if let Some(keeper) = &self.0 {
            keeper.note_room();
        }
    }

    /// Stores what it has in hand, and ends.
    pub(super) async fn stop(&self, within: Duration) {
        if let Some(keeper) = &self.0
            && !keeper.stop(within).await
        {
            // their publishers were not told that they are stored, and hold them
            warn!("the last messages are not stored");
        }
    }
}

/// A session's messages that are not stored yet may take this part of all memory.
const STORE_SHARE: usize = 4;
/// Bytes: a commit's worth.
const LEAST_OUTBOX: usize = 256 * 1024;
