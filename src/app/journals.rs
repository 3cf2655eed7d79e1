//! Which sessions have a journal, and what they find in it when the daemon starts.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use fastport_core::rights::Rights;
use fastport_core::session::Restored;
use tracing::{error, info, warn};

use crate::config::{self, Config, JournalPlace, Promise};
use crate::guard::Gate;
use crate::hub::{Hub, Room};
use crate::journal::{self, FdKeeper, Found, Opened, Place};
use crate::supervise::fds::Store;

/// The files that the service manager holds, for journals in memory.
#[derive(Debug)]
pub(super) struct HeldFiles(pub(super) Arc<Store>);

impl FdKeeper for HeldFiles {
    fn store(&self, name: &str, file: BorrowedFd<'_>) {
        self.0.store(name, file);
    }

    fn take(&self, name: &str) -> Option<OwnedFd> {
        self.0.take(name)
    }

    fn remove(&self, name: &str) {
        self.0.remove(name);
    }
}

/// See the module's text.
pub(super) struct Journals {
    place: Option<Place>,
    /// Whatever a session promises: this is a central instance.
    of_all: bool,
    least: u64,
    sync: Duration,
    /// The daemon's own parts, by identity, that are there in this life.
    own: Vec<&'static str>,
}

impl Journals {
    pub(super) fn new(config: &Config, keeper: Arc<dyn FdKeeper>) -> Self {
        let is_central = config.central.enabled;
        let on_disk = is_central || config.journal.place == JournalPlace::Disk;
        // a configuration that wants journals on disk without a folder was refused
        let disk = || config.daemon.state.clone().map(Place::Disk);
        let own = [(UPLINK, config.uplink.is_on()), (STORE, is_central)];
        Self {
            place: if on_disk { disk() } else { Some(Place::Memory(keeper)) },
            of_all: is_central,
            least: config.journal.least.0,
            sync: config.journal.sync,
            own: own
                .into_iter()
                .filter(|&(_, is_on)| is_on)
                .map(|(identity, _)| identity)
                .collect(),
        }
    }

    /// Makes a session what it was, if it is to have a journal, and keeps that from now on. Before
    /// peers can come in.
    pub(super) fn begin(&self, hub: &Hub, gate: &Gate, session: &config::Session) {
        if !self.of_all && session.promise != Promise::Journal {
            return;
        }
        let name = session.name.as_str();
        let (Some(place), Some(room)) = (&self.place, hub.room(name)) else { return };
        let mut opened = match journal::open(place, name, self.least) {
            Ok(opened) => opened,
            Err(error) => {
                hub.status().journal_errors.add(1);
                error!(session = name, %error, "the session has no journal: what it acknowledges is in memory only");
                return;
            }
        };
        let mut rights = |identity: &str| self.rights(gate, name, identity);
        let (restored, found) = read(&room, &mut opened, &mut rights);
        if let Some(found) = found {
            hub.status().journals_damaged.add(u64::from(found.damage.is_some()));
            let Restored { peers, dropped_peers, messages, dropped_messages } = restored;
            let Found { bytes, is_of_this_boot, .. } = found;
            info!(
                session = name,
                peers,
                dropped_peers,
                messages,
                dropped_messages,
                bytes,
                is_of_this_boot,
                "the session goes on where its journal ends"
            );
        }
        room.start_journal(opened.into_sink());
    }

    fn rights(&self, gate: &Gate, session: &str, identity: &str) -> Option<Arc<Rights>> {
        if identity.starts_with('$') {
            let is_there = self.own.contains(&identity);
            return is_there.then(|| Arc::new(Rights::everything()));
        }
        gate.rights_of(session, identity)
    }

    /// Between syncs of journals; `None`: there is nothing to sync.
    pub(super) fn sync(&self) -> Option<Duration> {
        matches!(self.place, Some(Place::Disk(_))).then_some(self.sync)
    }
}

fn read(
    room: &Room,
    opened: &mut Opened,
    rights: &mut dyn FnMut(&str) -> Option<Arc<Rights>>,
) -> (Restored, Option<Found>) {
    room.restore(opened.is_of_this_boot(), rights, |apply| opened.read(apply))
}

/// Before the process ends: what is acknowledged is to survive a loss of power, too.
pub(super) async fn sync_all(hub: &Hub) {
    for room in hub.all_rooms() {
        match tokio::time::timeout(SYNC_TIMEOUT, room.sync_journal()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(session = room.name(), %error, "journal not synced"),
            Err(_) => warn!(session = room.name(), "journal not synced in time"),
        }
    }
}

/// The identity of the uplink's lanes.
const UPLINK: &str = "$uplink";
/// The identity of a central instance's store.
const STORE: &str = "$store";
/// A disk that takes longer is broken; the service manager would kill soon.
const SYNC_TIMEOUT: Duration = Duration::from_secs(30);
