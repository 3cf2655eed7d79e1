//! The files and the environment, read at the start and again by a reload.

use std::path::PathBuf;

use crate::config::{self, BoardFile, Config, ConfigError};
use crate::guard::Credentials;

/// Where the configuration came from, for reading it again.
#[derive(Debug, Clone)]
pub struct Source {
    /// The file; `None`: there is none, the defaults hold.
    pub path: Option<PathBuf>,
    /// The board's own file, where a board was named: what is assumed where the file is silent.
    pub board: Option<BoardFile>,
}

impl Source {
    /// Reads the configuration, with the environment's overrides, and the credentials.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(&self) -> Result<Settings, ConfigError> {
        let config = Config::load_on(self.board.as_ref(), self.path.as_deref(), std::env::vars())?;
        let credentials = match &config.access.credentials {
            Some(path) => Credentials::load(path)?,
            None => Credentials::default(),
        };
        credentials.check_against(&config)?;
        Ok(Settings { config, credentials })
    }
}

/// What the files and the environment say.
#[derive(Debug)]
pub struct Settings {
    /// The configuration.
    pub config: Config,
    /// Who may come in.
    pub credentials: Credentials,
}

impl Settings {
    /// The sessions of both files.
    pub(super) fn sessions(&self) -> Vec<config::Session> {
        let records = self.credentials.sessions.iter();
        let made = records.map(|record| record.to_session(&self.config.limits));
        self.config.sessions.iter().cloned().chain(made).collect()
    }
}
