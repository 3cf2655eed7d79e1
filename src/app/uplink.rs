//! From `[uplink]` to tasks.

use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use crate::config::{Config, JournalPlace, Promise, Session};
use crate::hub::{Hub, Show};
use crate::supervise::tasks::Tasks;
use crate::supervise::turn::Part;
use crate::uplink::{self, Memory};

pub use crate::uplink::UplinkError;

/// The uplink, if there is one to be.
pub(super) struct Uplink(Option<Arc<uplink::Uplink>>);

impl Uplink {
    /// As the configuration says; before any listener, so that it gets all that comes.
    pub(super) fn set_up(
        config: &Config,
        sessions: &[Session],
        hub: &Arc<Hub>,
        holds_files: bool,
    ) -> Result<Self, UplinkError> {
        let options = &config.uplink;
        let first = || sessions.first().map(|session| session.name.clone());
        let session = options.session.clone().or_else(first).filter(|_| options.is_on());
        let Some(session) = session else { return Ok(Self(None)) };
        let is_journaled =
            sessions.iter().any(|known| known.name == session && known.promise == Promise::Journal);
        let is_on_disk = is_journaled && config.journal.place == JournalPlace::Disk;
        let memory = if is_on_disk {
            Memory::OnDisk
        } else if is_journaled && holds_files {
            Memory::Held
        } else {
            Memory::Lost
        };
        let state = (config.daemon.state.as_deref(), memory);
        let uplink = uplink::Uplink::new(options, session.as_str(), state, hub)?;
        let uplink = Self(Some(uplink));
        if let Some(figures) = uplink.figures() {
            hub.show_part("uplink", figures);
        }
        Ok(uplink)
    }

    /// What it has to show.
    pub(super) fn figures(&self) -> Option<Arc<dyn Show>> {
        self.0.as_ref().map(|uplink| Arc::clone(uplink.figures()) as Arc<dyn Show>)
    }

    /// A task for each lane.
    pub(super) fn spawn(&self, tasks: &mut Tasks) {
        let Some(uplink) = &self.0 else { return };
        for lane in uplink.lanes() {
            let uplink = Arc::clone(uplink);
            tasks.spawn(Part::Uplink, move || {
                let uplink = Arc::clone(&uplink);
                async move { uplink.run(lane).await }
            });
        }
    }

    /// Keeps what it has in hand, and ends.
    pub(super) async fn end(&self, within: Duration) {
        if let Some(uplink) = &self.0
            && !uplink.end(within).await
        {
            warn!("what waits for the central instance is not all kept");
        }
    }
}
