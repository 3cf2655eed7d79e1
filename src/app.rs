//! The composition root: the only place that names concrete links, and owns every task.

mod central;
#[cfg(feature = "faults")]
mod faults;
mod journals;
mod listeners;
mod uplink;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use fastport_core::retention::Retention;
use fastport_core::session::Limits as SessionLimits;
use fastport_wire::control::ByeReason;
use fastport_wire::frame::DataFlags;
use rustix::process::{Resource, Rlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tracing::{error, info, warn};

use self::journals::{HeldFiles, Journals};
use self::listeners::Bound;
use crate::board::Board;
use crate::clock::{self, Clock, keep_floor};
use crate::config::{self, Config, ConfigError};
use crate::guard::{Credentials, Gate};
use crate::hub::{Hub, Room, RoomError};
use crate::link::{BindError, Door, Limits as LinkLimits, Listener, TlsError};
use crate::log::LevelHandle;
use crate::status::Status;
use crate::store::{Keeper, StoreError};
use crate::supervise::fds::Store;
use crate::supervise::inherited::Inherited;
use crate::supervise::tasks::{Panic, Tasks};
use crate::supervise::turn::{self, Part, Turns};
use crate::supervise::watchdog::{self, Probe};
use crate::supervise::{self, Change, traces};
use crate::uplink::{Uplink, UplinkError};

/// Where the configuration came from, for reading it again.
#[derive(Debug, Clone)]
pub struct Source {
    /// The file; `None`: there is none, the defaults hold.
    pub path: Option<PathBuf>,
}

impl Source {
    /// Reads the configuration, with the environment's overrides, and the credentials.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(&self) -> Result<Settings, ConfigError> {
        let config = Config::load(self.path.as_deref(), std::env::vars())?;
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
    fn sessions(&self) -> Vec<config::Session> {
        let records = self.credentials.sessions.iter();
        let made = records.map(|record| record.to_session(&self.config.limits));
        self.config.sessions.iter().cloned().chain(made).collect()
    }
}

/// The daemon cannot start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// A socket cannot be bound.
    Bind(BindError),
    /// A listener's TLS cannot be set up.
    Tls(TlsError),
    /// A Unix socket's group does not exist.
    NoSuchGroup(String),
    /// A session cannot be made.
    Session(RoomError),
    /// A central instance's store cannot be opened.
    Store(StoreError),
    /// A central instance has no place for its store.
    NoPlaceForStore,
    /// Signals cannot be received.
    Signals(std::io::Error),
    /// The uplink cannot be set up.
    Uplink(UplinkError),
    /// The machine has no randomness: nobody could be let in safely.
    NoRandomness(getrandom::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(error) => write!(f, "{error}"),
            Self::Tls(error) => write!(f, "{error}"),
            Self::NoSuchGroup(group) => {
                write!(f, "there is no group {group:?}: make it, or name another in listen.group")
            }
            Self::Session(error) => write!(f, "cannot make a session: {error:?}"),
            Self::Store(error) => write!(f, "{error}"),
            Self::NoPlaceForStore => f.write_str(
                "a central instance stores messages: name a folder in daemon.state, or a file in \
                 central.store",
            ),
            Self::Signals(error) => write!(f, "cannot receive signals: {error}"),
            Self::Uplink(error) => write!(f, "{error}"),
            Self::NoRandomness(error) => write!(f, "no randomness from the kernel: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<BindError> for StartError {
    fn from(error: BindError) -> Self {
        Self::Bind(error)
    }
}

impl From<TlsError> for StartError {
    fn from(error: TlsError) -> Self {
        Self::Tls(error)
    }
}

/// A part of the daemon panicked again and again: it ended, and is to be started anew.
#[derive(Debug)]
pub struct Unsound;

impl fmt::Display for Unsound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a part of the daemon panicked too often; the log says which")
    }
}

impl std::error::Error for Unsound {}

/// The daemon with its sockets bound.
pub struct App {
    source: Source,
    config: Config,
    /// The names of the sessions of configuration and credentials.
    sessions: BTreeSet<Box<str>>,
    /// The configuration of the start; it holds for what only a restart changes.
    started: Config,
    level: LevelHandle,
    hub: Arc<Hub>,
    gate: Arc<Gate>,
    rooms: mpsc::Receiver<Arc<Room>>,
    /// Of a central instance.
    keeper: Option<Arc<Keeper>>,
    listeners: Vec<Listener>,
    bound: Vec<Bound>,
    door: Arc<Door>,
    uplink: Option<Arc<Uplink>>,
    journals: Journals,
    signals: Signals,
    probe: Option<Arc<Probe>>,
    traces: Option<PathBuf>,
    /// what the service manager holds beside sockets
    held: Arc<Store>,
}

struct Signals {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
}

impl App {
    /// Binds all sockets and makes all sessions. Call it in the runtime that will run the daemon.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(
        source: Source,
        settings: Settings,
        level: LevelHandle,
        mut inherited: Inherited,
    ) -> Result<Self, StartError> {
        let sessions = settings.sessions();
        let Settings { config, credentials } = settings;
        // before any socket: a signal that comes early must not be lost
        let signals = Signals::new().map_err(StartError::Signals)?;
        let status = Arc::new(Status::default());
        let (hub, rooms) = Hub::new(
            config.limits.memory.as_usize(),
            config.limits.peers as usize,
            made_limits(&config),
            status,
        );
        if let Some(folder) = &config.daemon.state {
            know_floor(hub.clock(), folder);
        }
        if hub.clock().now().clock().is_none() {
            warn!("the machine's clock is not set: messages get their times when it is");
        }
        for session in &sessions {
            hub.open_room(session.name.as_str(), session_limits(&config, session))
                .map_err(StartError::Session)?;
        }
        hub.set_made_limits(config.limits.sessions as usize, made_limits(&config));
        let gate = Gate::new(&config, credentials).map_err(StartError::NoRandomness)?;
        let held = Arc::new(Store::new(inherited.take_files()));
        let journals = Journals::new(&config, Arc::new(HeldFiles(Arc::clone(&held))));
        for session in &sessions {
            journals.begin(&hub, &gate, session);
        }
        // before anybody can publish, and after what was published before is there again
        let keeper = central::open(&config, &hub)?;
        let uplink = uplink::set_up(&config, &sessions, &hub, held.is_there())?;
        let link_limits = LinkLimits {
            handshakes: config.limits.handshakes as usize,
            handshake_timeout: config.limits.handshake_timeout,
        };
        let door = Door::new(Arc::clone(&hub), Arc::clone(&gate), link_limits);
        let bind = |listen| listeners::bind(listen, &mut inherited, hub.clock());
        let listeners = config.listen.iter().map(bind).collect::<Result<Vec<_>, _>>()?;
        inherited.report_unused();
        let bound = config.listen.iter().zip(&listeners).map(Bound::new).collect();
        let sessions = sessions.iter().map(|session| session.name.as_str().into()).collect();
        let started = config.clone();
        let traces = traces_folder(&config);
        if let Some(why) = traces.as_deref().and_then(traces::begin) {
            warn!(why, "the last run did not end in order");
            hub.status().last_run.set(why);
        }
        let figures = Arc::clone(hub.status());
        let probe = watchdog::start(traces.clone(), move || figures.line()).map(Arc::new);
        Ok(Self {
            source,
            config,
            started,
            sessions,
            level,
            hub,
            gate,
            rooms,
            keeper,
            listeners,
            bound,
            door,
            uplink,
            journals,
            signals,
            probe,
            traces,
            held,
        })
    }

    /// Where peers can connect, as URLs.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.listeners.iter().map(Listener::url).collect()
    }

    /// Runs until a signal ends it, and a while longer for the links to end in order.
    ///
    /// # Errors
    /// [`Unsound`].
    pub async fn run(self) -> Result<(), Unsound> {
        let run = pin!(self.serve());
        Turns::new(Part::App, run).await
    }

    async fn serve(mut self) -> Result<(), Unsound> {
        let (stop, stopped) = watch::channel(false);
        let mut listeners = JoinSet::new();
        for listener in std::mem::take(&mut self.listeners) {
            info!(url = %listener.url(), "listening");
            let run = Box::pin(listener.run(Arc::clone(&self.door), stopped.clone()));
            listeners.spawn(Turns::new(Part::Listener, run));
        }
        let mut tasks = Tasks::default();
        self.spawn_probe(&mut tasks);
        let mut board = self.spawn_board(&mut tasks);
        #[cfg(feature = "faults")]
        if let Some(file) = faults::file() {
            faults::hold(&self.held);
            let hub = Arc::clone(&self.hub);
            tasks.spawn(Part::Fault, move || faults::obey(Arc::clone(&hub), file.clone()));
        }
        if let Some(folder) = self.started.daemon.state.clone() {
            let clock = self.hub.clock().clone();
            tasks.spawn(Part::Clock, move || keep_floor(clock.clone(), folder.clone()));
        }
        uplink::spawn(self.uplink.as_ref(), &mut tasks);
        if let Some(keeper) = &self.keeper {
            let keeper = Arc::clone(keeper);
            tasks.spawn(Part::Store, move || {
                let keeper = Arc::clone(&keeper);
                async move { keeper.run().await }
            });
        }
        self.held.report_unused();
        info!(version = env!("CARGO_PKG_VERSION"), "ready");
        supervise::tell(Change::Ready);
        let mut is_sound = true;
        loop {
            tokio::select! {
                // holds for the daemon's whole life, since the hub holds the sender
                Some(room) = self.rooms.recv() => {
                    if let Some(keeper) = &self.keeper {
                        keeper.note_room();
                    }
                    if let Some(pause) = self.journals.sync().filter(|_| room.has_journal()) {
                        let room = Arc::clone(&room);
                        tasks.spawn(Part::Timer, move || {
                            let room = Arc::clone(&room);
                            async move { room.run_journal(pause).await }
                        });
                    }
                    tasks.spawn(Part::Timer, move || {
                        let room = Arc::clone(&room);
                        async move { room.run_timer().await }
                    });
                }
                Some(panic) = tasks.next_panic() => {
                    self.hub.status().panics.add(1);
                    let Panic { part, error, again } = panic;
                    if again.is_none() {
                        error!(part, %error, "panics again and again: the daemon ends");
                        is_sound = false;
                        break;
                    }
                    error!(part, %error, ?again, "panicked and is started again; the others go on");
                }
                // none ends before it is told to
                Some(Err(error)) = listeners.join_next() => {
                    self.hub.status().panics.add(1);
                    error!(%error, "a listener panicked: the daemon ends");
                    is_sound = false;
                    break;
                }
                _ = self.signals.hangup.recv() => {
                    let before = self.config.board.clone();
                    supervise::tell(Change::Reloading);
                    self.reload().await;
                    supervise::tell(Change::Ready);
                    if self.config.board != before {
                        board.abort();
                        board = self.spawn_board(&mut tasks);
                    }
                }
                _ = self.signals.interrupt.recv() => break,
                _ = self.signals.terminate.recv() => break,
            }
        }
        info!("stopping");
        supervise::tell(Change::Stopping(self.config.daemon.drain));
        // no receiver is no listener, and then there is nothing to stop
        stop.send(true).unwrap_or_default();
        let gate = &self.gate;
        self.hub.close_guests(ByeReason::ShuttingDown, RETRY_AFTER_RESTART_MS, |number| {
            gate.farewell(RETRY_AFTER_RESTART_MS, number)
        });
        let drained = async {
            while listeners.join_next().await.is_some() {}
            self.door.emptied().await;
        };
        if tokio::time::timeout(self.config.daemon.drain, drained).await.is_err() {
            warn!(
                peers = self.hub.status().peers.get(),
                "links cut at the end of the grace period"
            );
        }
        supervise::flush(FLUSH_TIMEOUT, self.flush()).await.unwrap_or_else(|| {
            warn!("the disk was too slow: not all that waits is kept");
        });
        #[cfg(feature = "faults")]
        supervise::flush(FLUSH_TIMEOUT, faults::flush()).await.unwrap_or_default();
        info!("stopped");
        if !is_sound {
            return Err(Unsound);
        }
        if let Some(folder) = &self.traces {
            traces::end(folder);
        }
        Ok(())
    }

    /// Brings to where it outlives the process what its parts still have in hand.
    async fn flush(&self) {
        if let Some(uplink) = &self.uplink
            && !uplink.end(self.config.daemon.drain).await
        {
            warn!("what waits for the central instance is not all kept");
        }
        if let Some(keeper) = &self.keeper
            && !keeper.stop(self.config.daemon.drain).await
        {
            // their publishers were not told that they are stored, and hold them
            warn!("the last messages are not stored");
        }
        journals::sync_all(&self.hub).await;
        if let Some(folder) = &self.started.daemon.state {
            self.hub.clock().leave_floor(folder).await;
        }
    }

    /// Answers the watchdog for the runtime, with every session's lock in hand once.
    fn spawn_probe(&self, tasks: &mut Tasks) {
        let Some(probe) = &self.probe else { return };
        let (probe, hub) = (Arc::clone(probe), Arc::clone(&self.hub));
        tasks.spawn(Part::App, move || {
            let (probe, hub) = (Arc::clone(&probe), Arc::clone(&hub));
            async move { probe.answer(|| turn::run(Part::SessionLock, || hub.touch())).await }
        });
    }

    fn spawn_board(&self, tasks: &mut Tasks) -> AbortHandle {
        let (hub, board) = (Arc::clone(&self.hub), Arc::new(self.config.board.clone()));
        tasks.spawn(Part::Board, move || {
            let (hub, board) = (Arc::clone(&hub), Arc::clone(&board));
            async move { publish_board(&hub, &board).await }
        })
    }

    async fn reload(&mut self) {
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
        listeners::reload(&mut self.bound, &new.config.listen, self.hub.clock());
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

/// Has the clock know the day up to which an earlier life came.
fn know_floor(clock: &Clock, folder: &Path) {
    match clock::load_floor(folder) {
        Ok(floor) => clock.note_floor(floor.unwrap_or(0)),
        Err(error) => warn!(
            folder = %folder.display(), %error,
            "the day up to which the last life came cannot be read: the program's build holds"
        ),
    }
}

/// Where a run leaves traces for the next: where systemd made a folder for this boot, else with what
/// outlives the process.
fn traces_folder(config: &Config) -> Option<PathBuf> {
    let runtime = std::env::var_os("RUNTIME_DIRECTORY").filter(|folder| !folder.is_empty());
    runtime.map(PathBuf::from).or_else(|| config.daemon.state.clone())
}

/// Lets the process open as many files as it may: each peer is one, and the usual limit is 1024.
pub fn raise_open_files(peers: u32) {
    let before = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: before.maximum, maximum: before.maximum };
    if let Err(error) = rustix::process::setrlimit(Resource::Nofile, raised) {
        warn!(%error, "the limit of open files stays as it is");
    }
    // none: no limit
    let Some(files) = rustix::process::getrlimit(Resource::Nofile).current else { return };
    info!(before = before.current, files, "limit of open files");
    if files < u64::from(peers) + FILES_BESIDE_PEERS {
        warn!(
            files,
            peers,
            "fewer open files than limits.peers: raise LimitNOFILE of the service (or ulimit -Hn)"
        );
    }
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }
}

fn session_limits(config: &Config, session: &config::Session) -> SessionLimits {
    let limits = &config.limits;
    SessionLimits {
        peers: limits.peers as usize,
        topics: limits.topics as usize,
        outbox: limits.outbox.as_usize(),
        payload: session.payload.as_usize(),
        subscriptions: limits.subscriptions_per_peer as usize,
        open_topics: limits.topics_per_peer as usize,
        keepalive: limits.keepalive.0,
        linger: limits.linger.0,
        stall_ms: millis(limits.stall_timeout),
        retention: Retention {
            messages: session.retention.messages,
            age_ms: millis(session.retention.age),
            bytes: session.retention.bytes_per_topic.as_usize(),
        },
        when_full: session.when_full,
    }
}

/// Sessions that peers make are as the built-in one.
fn made_limits(config: &Config) -> SessionLimits {
    session_limits(config, &config::Session::built_in(config.limits.payload))
}

/// Publishes the board's own readings until it is dropped; a daemon that is alone sleeps.
async fn publish_board(hub: &Hub, options: &config::Board) {
    if !options.enabled {
        return;
    }
    let Some(room) = options.session.as_ref().and_then(|session| hub.room(session.as_str())) else {
        return;
    };
    room.occupied().await;
    // a sensor's file can take its driver a while, so all of it happens beside the runtime
    let discovered = tokio::task::spawn_blocking(|| Board::discover(Path::new("/"))).await;
    let Ok(mut board) = discovered else { return };
    info!(sensors = board.sensors().len(), "publishing the board's sensors");
    let mut ticks = tokio::time::interval(options.interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        // nobody would read it; who comes after a pause finds a tick that is past already
        room.occupied().await;
        ticks.tick().await;
        let sampled = tokio::task::spawn_blocking(move || {
            let samples: Vec<(usize, Vec<u8>)> = board
                .sample()
                .iter()
                .map(|sample| (sample.sensor, sample.payload().to_vec()))
                .collect();
            (board, samples)
        });
        let Ok((back, samples)) = sampled.await else { return };
        board = back;
        publish_samples(&room, &board, &samples);
    }
}

fn publish_samples(room: &Room, board: &Board, samples: &[(usize, Vec<u8>)]) {
    let flags = DataFlags::READINGS.with(DataFlags::KEEP);
    for (index, payload) in samples {
        let Some(sensor) = board.sensors().get(*index) else { continue };
        let mut schema = [0; fastport_wire::schema::MAX_SCHEMA];
        let Ok(length) = sensor.schema().encode(&mut schema) else { continue };
        let schema = schema.get(..length);
        if let Err(error) = room.publish_own(sensor.topic(), schema, flags, payload) {
            warn!(topic = sensor.topic(), ?error, "the board's reading is not published");
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Listeners, the runtime, sensors and TLS files being read.
const FILES_BESIDE_PEERS: u64 = 64;
/// A restart takes less.
const RETRY_AFTER_RESTART_MS: u32 = 1000;
/// For what is on its way to a disk when the daemon stops; longer than that it is broken.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(120);
