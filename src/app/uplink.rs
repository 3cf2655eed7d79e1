//! From `[uplink]` to tasks.

use std::sync::Arc;

use super::StartError;
use crate::config::{Config, JournalPlace, Promise, Session};
use crate::hub::{Hub, Show};
use crate::supervise::tasks::Tasks;
use crate::supervise::turn::Part;
use crate::uplink::Uplink;

/// The uplink, if there is one to be; before any listener, so that it gets all that comes.
pub(super) fn set_up(
    config: &Config,
    sessions: &[Session],
    hub: &Arc<Hub>,
    holds_files: bool,
) -> Result<Option<Arc<Uplink>>, StartError> {
    if !config.uplink.is_on() {
        return Ok(None);
    }
    let first = || sessions.first().map(|session| session.name.clone());
    let Some(session) = config.uplink.session.clone().or_else(first) else { return Ok(None) };
    let is_journaled =
        sessions.iter().any(|known| known.name == session && known.promise == Promise::Journal);
    let outlives = is_journaled && (holds_files || config.journal.place == JournalPlace::Disk);
    let state = (config.daemon.state.as_deref(), !outlives);
    let uplink =
        Uplink::new(&config.uplink, session.as_str(), state, hub).map_err(StartError::Uplink)?;
    hub.show_part("uplink", figures(&uplink));
    Ok(Some(uplink))
}

/// What it has to show.
pub(super) fn figures(uplink: &Arc<Uplink>) -> Arc<dyn Show> {
    Arc::clone(uplink.figures()) as Arc<dyn Show>
}

/// A task for each lane.
pub(super) fn spawn(uplink: Option<&Arc<Uplink>>, tasks: &mut Tasks) {
    let Some(uplink) = uplink else { return };
    for lane in uplink.lanes() {
        let uplink = Arc::clone(uplink);
        tasks.spawn(Part::Uplink, move || {
            let uplink = Arc::clone(&uplink);
            async move { uplink.run(lane).await }
        });
    }
}
