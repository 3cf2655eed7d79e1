//! What a reload changes while the daemon runs.

use std::collections::BTreeSet;

use tracing::{error, info, warn};

use super::limits::{made_limits, session_limits};
use super::{App, Settings, listeners};

impl App {
    /// Reads the configuration again and applies what can change without a restart.
    pub(super) async fn reload(&mut self) {
        let source = self.source.clone();
        let loaded = tokio::task::spawn_blocking(move || source.load()).await;
        let new = match loaded {
            Ok(Ok(new)) => new,
            Ok(Err(error)) => {
                self.hub.status().reload_errors.add(1);
                error!(%error, "configuration not reloaded; the old one stays");
                return;
            }
            Err(error) => {
                self.hub.status().reload_errors.add(1);
                error!(%error, "configuration not reloaded");
                return;
            }
        };
        for change in &self.started.changes_on_reload(&new.config).restart {
            warn!(%change, "takes effect at the next start");
        }
        let changes = self.config.changes_on_reload(&new.config);
        for change in &changes.live {
            info!(%change, "changed");
        }
        let ciphers = self.started.daemon.ciphers;
        listeners::reload(&mut self.bound, &new.config.listen, ciphers, self.hub.clock());
        self.apply(new);
        self.hub.status().reloads.add(1);
        info!(changes = changes.live.len(), "configuration reloaded");
    }

    fn apply(&mut self, new: Settings) {
        let sessions = new.sessions();
        let Settings { config, credentials } = new;
        self.level.set(config.daemon.log.level);
        for (session, identity) in self.gate.set_rules(&config, credentials) {
            if let Some(room) = self.hub.room(session.as_str()) {
                room.remove_identity(identity.as_str());
            }
        }
        let names: BTreeSet<Box<str>> =
            sessions.iter().map(|session| session.name.as_str().into()).collect();
        for name in self.sessions.difference(&names) {
            self.hub.close_room(name);
        }
        for session in &sessions {
            let (name, limits) = (session.name.as_str(), session_limits(&config, session));
            if let Some(room) = self.hub.room(name) {
                room.set_limits(limits);
            } else if let Err(error) = self.hub.open_room(name, limits) {
                error!(session = name, ?error, "session not made");
            } else {
                self.journals.begin(&self.hub, &self.gate, session);
            }
        }
        self.hub.set_made_limits(config.limits.sessions as usize, made_limits(&config));
        self.door.set_handshake_timeout(config.limits.handshake_timeout);
        self.hub.set_peers_max(config.limits.peers as usize);
        (self.config, self.sessions) = (config, names);
    }
}
