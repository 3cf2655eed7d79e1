//! From `[central]` to the store.

use std::sync::Arc;

use tracing::info;

use super::StartError;
use crate::config::{Config, STORE_FILE};
use crate::hub::Hub;
use crate::store::{Keep, Keeper, Options, Sqlite, Store};

/// Opens the store of a central instance, which then reads every session; `None`: this is none.
pub(super) fn open(config: &Config, hub: &Arc<Hub>) -> Result<Option<Arc<Keeper>>, StartError> {
    let central = &config.central;
    if !central.enabled {
        return Ok(None);
    }
    let in_state = || config.daemon.state.as_ref().map(|state| state.join(STORE_FILE));
    let path = central.store.clone().or_else(in_state).ok_or(StartError::NoPlaceForStore)?;
    let options = Options {
        keep: Keep { age: central.keep, bytes: central.bytes.0 },
        commit: central.commit,
        // what waits is charged to the memory of all, and so is what others wait for
        outbox: (config.limits.memory.as_usize() / STORE_SHARE).max(LEAST_OUTBOX),
    };
    info!(store = %path.display(), "this is a central instance");
    let open = move || Sqlite::open(&path).map(|store| Box::new(store) as Box<dyn Store>);
    Keeper::start(Arc::clone(hub), options, open).map(Some).map_err(StartError::Store)
}

/// A session's messages that are not stored yet may take this part of all memory.
const STORE_SHARE: usize = 4;
/// Bytes: a commit's worth.
const LEAST_OUTBOX: usize = 256 * 1024;
