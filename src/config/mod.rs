//! `gateway.toml`: what it may say, what it means, and what is assumed where it is silent.
//!
//! It promises: an accepted configuration is complete and free of contradictions; a refused one is
//! refused with the place of every fault and what to do. It never opens the files it names.
//! The reference for operators is `docs/configuration.md`.

use std::collections::BTreeMap;
use std::path::Path;

pub mod boards;
mod carry;
pub mod central;
pub mod daemon;
mod error;
pub mod hardware;
pub mod limits;
pub mod listen;
pub mod origin;
pub mod parts;
pub(crate) mod print;
pub(crate) mod read;
pub mod reload;
pub(crate) mod schema;
mod service;
pub mod session;
mod source;
pub mod uplink;
pub mod value;

pub use boards::{BoardError, BoardFile};
pub use central::{Central, Journal, JournalPlace, STORE_FILE};
pub use daemon::{Board, Ciphers, Daemon, LogFormat, LogLevel};
pub use error::{ConfigError, Fault, FaultKind, Place};
pub use limits::{Limits, Rate, SourceLimits};
pub use listen::{ClientAuth, Listen, ListenKind, Tls};
pub use origin::Origins;
pub use parts::Part;
pub use reload::{Change, Changes};
pub use schema::Reload;
pub use session::{Access, OpenFrom, Promise, Retention, Session};
pub use uplink::{Direction, Lane, Rule, Spool, Uplink, WaitFor, WhenSpoolFull};
pub use value::{Bytes, Mode, Seconds, SessionName, TopicFilter};

use listen::ListenTable;
use read::Findings;
use schema::{Fields, Visit};
use service::Folders;
use session::SessionTable;
pub(crate) use source::into_text;

/// A complete configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `[daemon]`.
    pub daemon: Daemon,
    /// `[[listen]]`: where peers connect. No two at one address.
    pub listen: Vec<Listen>,
    /// `[limits]`.
    pub limits: Limits,
    /// `[access]`.
    pub access: Access,
    /// `[[session]]`. No two of one name.
    pub sessions: Vec<Session>,
    /// `[board]`.
    pub board: Board,
    /// `[journal]`.
    pub journal: Journal,
    /// `[uplink]`.
    pub uplink: Uplink,
    /// `[central]`.
    pub central: Central,
}

impl Default for Config {
    /// What there is without a file: listeners on loopback, an open session `demo`.
    fn default() -> Self {
        let limits = Limits::default();
        let demo = Session::built_in(limits.payload);
        Self {
            daemon: Daemon::default(),
            listen: Listen::built_in(),
            access: Access::default(),
            board: Board { session: Some(demo.name.clone()), ..Board::default() },
            sessions: vec![demo],
            journal: Journal::default(),
            uplink: Uplink::default(),
            central: Central::default(),
            limits,
        }
    }
}

impl Config {
    /// The configuration in the file at `path` (none: the defaults), as `environment` changes it.
    ///
    /// Of `environment` only variables count whose name begins with `FASTPORT_`; those in
    /// [`NOT_OVERRIDES`] are for others. Beside them it is told of two folders by systemd:
    /// `STATE_DIRECTORY` and `CREDENTIALS_DIRECTORY`.
    ///
    /// # Errors
    /// [`ConfigError`], with all faults that were found.
    pub fn load(
        path: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        Self::load_on(None, path, environment)
    }

    /// As [`Config::load`], on a board whose file says what is assumed.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load_on(
        board: Option<&BoardFile>,
        path: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let text = match path {
            Some(path) => source::read_text(path, MAX_FILE_BYTES)?,
            None => String::new(),
        };
        let path = path.unwrap_or(Path::new("defaults"));
        Self::parse_over(Tables::on(board)?, &text, path, environment)
    }

    /// As [`Config::load`], from text already read from `path`. Relative paths in it begin where
    /// `path` lies.
    ///
    /// # Errors
    /// [`ConfigError::Faults`].
    pub fn parse(
        text: &str,
        path: &Path,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        Self::parse_over(Tables::default(), text, path, environment)
    }

    /// As [`Config::parse`], where `tables` has what is assumed.
    fn parse_over(
        mut tables: Tables,
        text: &str,
        path: &Path,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut folders = Folders::default();
        let variables: BTreeMap<_, _> = environment
            .inspect(|(name, value)| folders.note(name, value))
            .filter(|(name, _)| name.starts_with(read::PREFIX))
            .filter(|(name, _)| !NOT_OVERRIDES.contains(&name.as_str()))
            .collect();
        let mut findings = read::read(text, path, variables, &mut tables);
        folders.apply(&mut tables, &mut findings);
        let base = path.parent().unwrap_or(Path::new(""));
        let config = tables.build(base, &mut findings);
        if findings.is_clean() {
            return Ok(config);
        }
        Err(ConfigError::Faults(findings.into_faults()))
    }

    /// The configuration as TOML, complete with what was assumed. Loading it gives an equal one,
    /// as long as the paths in it are UTF-8.
    #[must_use]
    pub fn to_toml(&self) -> String {
        print::print(&mut self.to_tables())
    }

    fn to_tables(&self) -> Tables {
        Tables {
            daemon: self.daemon.clone(),
            listen: self.listen.iter().map(ListenTable::from).collect(),
            limits: self.limits.clone(),
            access: self.access.clone(),
            session: self.sessions.iter().map(SessionTable::from).collect(),
            board: self.board.clone(),
            journal: self.journal.clone(),
            uplink: self.uplink.clone(),
            central: self.central.clone(),
        }
    }
}

/// The file as it is written.
struct Tables {
    daemon: Daemon,
    listen: Vec<ListenTable>,
    limits: Limits,
    access: Access,
    session: Vec<SessionTable>,
    board: Board,
    journal: Journal,
    uplink: Uplink,
    central: Central,
}

impl Default for Tables {
    fn default() -> Self {
        let mut tables = Config::default().to_tables();
        tables.board.session = None;
        tables
    }
}

impl Fields for Tables {
    fn fields(&mut self, visit: &mut dyn Visit) {
        visit.table("daemon", &mut self.daemon);
        visit.tables("listen", Reload::Restart, &mut self.listen);
        visit.table("limits", &mut self.limits);
        visit.table("access", &mut self.access);
        visit.tables("session", Reload::Live, &mut self.session);
        visit.table("board", &mut self.board);
        visit.table("journal", &mut self.journal);
        visit.table("uplink", &mut self.uplink);
        visit.table("central", &mut self.central);
    }
}

impl Tables {
    /// What is assumed on that board.
    fn on(board: Option<&BoardFile>) -> Result<Self, ConfigError> {
        let mut tables = Self::default();
        let Some(board) = board else { return Ok(tables) };
        let mut findings = read::read(&board.text, &board.path, BTreeMap::new(), &mut tables);
        for list in ["listen", "session", "uplink.rule"] {
            if findings.sets(list) {
                let text = "not a matter of the board; write it into the configuration file";
                findings.report(list, FaultKind::Conflict(text.to_owned()));
            }
        }
        if findings.is_clean() {
            return Ok(tables);
        }
        Err(ConfigError::Faults(findings.into_faults()))
    }

    /// The configuration that the tables mean; what is wrong between them is reported.
    fn build(self, base: &Path, findings: &mut Findings<'_>) -> Config {
        // what is read does not depend on what is built, and its tests have all parts
        parts::check(&self, |part| cfg!(test) || part.is_built_in(), findings);
        let Self { mut daemon, listen, limits, mut access, session, mut board, .. } = self;
        let (journal, mut central) = (self.journal, self.central);
        daemon.state = daemon.state.map(|path| base.join(path));
        central.store = central.store.map(|path| base.join(path));
        let mut uplink = self.uplink.build(base, findings);
        uplink.ciphers = daemon.ciphers;
        access.credentials = access.credentials.map(|path| base.join(path));
        let sessions = build_sessions(session, &limits, &access, findings);
        let listen = build_listeners(listen, base, findings);
        // what could not be read would be compared as its default
        if findings.is_clean() {
            check_limits(&limits, findings);
            check_board(&board, &sessions, &access, findings);
            check_state(&daemon, &sessions, (&journal, &uplink, &central), findings);
        }
        board.session = board.session.or_else(|| Some(sessions.first()?.name.clone()));
        Config { daemon, listen, limits, access, sessions, board, journal, uplink, central }
    }
}

fn build_listeners(
    tables: Vec<ListenTable>,
    base: &Path,
    findings: &mut Findings<'_>,
) -> Vec<Listen> {
    let mut listeners: Vec<(usize, Listen)> = Vec::new();
    for (index, table) in tables.into_iter().enumerate() {
        let at = format!("listen[{index}]");
        // what is missing because it could not be read is not missing
        if findings.has_fault_in(&at) {
            continue;
        }
        let Some(listen) = table.build(&at, base, findings) else { continue };
        if let Some((other, _)) = listeners.iter().find(|(_, other)| listen::clash(other, &listen))
        {
            let key = if listen.address().is_some() { "address" } else { "path" };
            let text = format!("the same place as listen[{other}]; choose another");
            findings.report(&format!("{at}.{key}"), FaultKind::Conflict(text));
        }
        listeners.push((index, listen));
    }
    listeners.into_iter().map(|(_, listen)| listen).collect()
}

fn build_sessions(
    tables: Vec<SessionTable>,
    limits: &Limits,
    access: &Access,
    findings: &mut Findings<'_>,
) -> Vec<Session> {
    if !findings.sets("session") {
        // who has credentials has sessions of their own, and wants no open one beside them
        let built_in = access.credentials.is_none();
        return built_in.then(|| Session::built_in(limits.payload)).into_iter().collect();
    }
    let mut sessions: Vec<Session> = Vec::new();
    for (index, table) in tables.into_iter().enumerate() {
        let at = format!("session[{index}]");
        if findings.has_fault_in(&at) {
            continue;
        }
        let Some(session) = table.build(&at, limits.payload, findings) else { continue };
        if sessions.iter().any(|other| other.name == session.name) {
            let text = format!("a second session {}; names are unique", session.name);
            findings.report(&format!("{at}.name"), FaultKind::Conflict(text));
        }
        sessions.push(session);
    }
    if sessions.len() > limits.sessions as usize {
        let text = format!("below the {} sessions of this file; raise it", sessions.len());
        findings.report("limits.sessions", FaultKind::Conflict(text));
    }
    sessions
}

fn check_limits(limits: &Limits, findings: &mut Findings<'_>) {
    let frame = Bytes(limits.payload.0 + Limits::FRAME_OVERHEAD.0);
    if limits.outbox < frame {
        let text = format!(
            "{} cannot hold one payload of limits.payload = {}; use at least {frame}",
            limits.outbox, limits.payload
        );
        findings.report("limits.outbox", FaultKind::Conflict(text));
    }
    if limits.outbox > limits.memory {
        let text = format!(
            "{} for one peer is more than limits.memory = {} for all; lower it",
            limits.outbox, limits.memory
        );
        findings.report("limits.outbox", FaultKind::Conflict(text));
    }
}

fn check_board(board: &Board, sessions: &[Session], access: &Access, findings: &mut Findings<'_>) {
    let Some(name) = &board.session else { return };
    // a session can also come from the credentials file
    if access.credentials.is_some() || sessions.iter().any(|session| session.name == *name) {
        return;
    }
    let known = sessions.iter().map(|session| session.name.as_str());
    let hint = match read::nearest(name.as_str(), known) {
        Some(nearest) => format!("did you mean {nearest:?}?"),
        None => "name one of [[session]]".to_owned(),
    };
    let text = format!("there is no session {:?}; {hint}", name.as_str());
    findings.report("board.session", FaultKind::Conflict(text));
}

/// Reports what wants to outlive the process and has no place for that.
fn check_state(
    daemon: &Daemon,
    sessions: &[Session],
    (journal, uplink, central): (&Journal, &Uplink, &Central),
    findings: &mut Findings<'_>,
) {
    let has_journal = sessions.iter().any(|session| session.promise == Promise::Journal);
    let is_on_disk = journal.place == JournalPlace::Disk;
    let needs = [
        ("journal.place", has_journal && is_on_disk, "journals on disk"),
        ("central.enabled", central.enabled, "a central instance"),
        ("uplink.spool.disk", uplink.is_on() && uplink.spool.disk.0 > 0, "a spool on disk"),
    ];
    for (key, is_wanted, what) in needs {
        if is_wanted && daemon.state.is_none() {
            let text = format!("{what} needs a folder; set daemon.state");
            findings.report(key, FaultKind::Missing(text));
        }
    }
}

/// Variables that begin as ours do but override no key: the path of the configuration itself, what
/// the tool reads, what the tests read.
pub const NOT_OVERRIDES: &[&str] = &[
    "FASTPORT_CONFIG",
    "FASTPORT_BOARD",
    "FASTPORT_URL",
    "FASTPORT_SESSION",
    "FASTPORT_TEST_PYTHON",
];

/// No configuration of a board comes near it; a wrong file may.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

#[cfg(test)]
mod tests;
