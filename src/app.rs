//! The composition root: the only place that names concrete links, and owns every task.

mod board;
#[cfg(feature = "central")]
mod central;
mod error;
#[cfg(feature = "faults")]
mod faults;
mod figures;
mod journals;
mod limits;
mod listeners;
mod reload;
mod settings;
mod signals;
#[cfg(feature = "uplink")]
mod uplink;
#[cfg(not(feature = "central"))]
mod without_central;
#[cfg(not(feature = "uplink"))]
mod without_uplink;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use fastport_wire::control::ByeReason;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tracing::{error, info, warn};

use self::central::Central;
pub use self::central::CentralError;
pub use self::error::{StartError, Unsound};
use self::figures::{StatusLine, WatchdogFigures};
use self::journals::{HeldFiles, Journals};
pub use self::limits::raise_open_files;
use self::limits::{made_limits, session_limits};
use self::listeners::Bound;
pub use self::settings::{Settings, Source};
use self::signals::Signals;
use self::uplink::Uplink;
pub use self::uplink::UplinkError;
#[cfg(not(feature = "central"))]
use self::without_central as central;
#[cfg(not(feature = "uplink"))]
use self::without_uplink as uplink;
use crate::clock::{self, Clock, keep_floor};
use crate::config::Config;
use crate::guard::Gate;
use crate::hub::{Hub, Room};
use crate::link::{Door, Limits as LinkLimits, Listener};
use crate::log::LevelHandle;
use crate::status::Status;
use crate::supervise::fds::Store;
use crate::supervise::inherited::Inherited;
use crate::supervise::starting::Starting;
use crate::supervise::tasks::{Panic, Tasks};
use crate::supervise::turn::{self, Part, Turns};
use crate::supervise::watchdog::{self, Probe};
use crate::supervise::{self, Change, traces};

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
    central: Central,
    listeners: Vec<Listener>,
    bound: Vec<Bound>,
    door: Arc<Door>,
    uplink: Uplink,
    journals: Journals,
    signals: Signals,
    probe: Option<Arc<Probe>>,
    line: Arc<StatusLine>,
    traces: Option<PathBuf>,
    /// what the service manager holds beside sockets
    held: Arc<Store>,
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
        let starting = Starting::begin();
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
            starting.note_progress();
        }
        // before anybody can publish, and after what was published before is there again
        let central = Central::open(&config, &hub).map_err(StartError::Central)?;
        starting.note_progress();
        let uplink = Uplink::set_up(&config, &sessions, &hub, held.is_there())
            .map_err(StartError::Uplink)?;
        drop(starting);
        let link_limits = LinkLimits {
            handshakes: config.limits.handshakes as usize,
            handshake_timeout: config.limits.handshake_timeout,
        };
        let door = Door::new(Arc::clone(&hub), Arc::clone(&gate), link_limits);
        let listeners = listeners::bind_all(&config, inherited, &held, hub.clock())?;
        let bound = config.listen.iter().zip(&listeners).map(Bound::new).collect();
        let sessions = sessions.iter().map(|session| session.name.as_str().into()).collect();
        let started = config.clone();
        let traces = traces_folder(&config);
        if let Some(why) = traces.as_deref().and_then(traces::begin) {
            warn!(why, "the last run did not end in order");
            hub.status().last_run.set(why);
        }
        let line = Arc::new(StatusLine::new(Arc::clone(&hub), uplink.figures()));
        let shown = Arc::clone(&line);
        let probe = watchdog::start(config.daemon.watchdog, traces.clone(), move || shown.text());
        let probe = probe.map(Arc::new);
        if let Some(probe) = &probe {
            hub.show_part("watchdog", Arc::new(WatchdogFigures(Arc::clone(probe))));
        }
        Ok(Self {
            source,
            config,
            started,
            sessions,
            level,
            hub,
            gate,
            rooms,
            central,
            listeners,
            bound,
            door,
            uplink,
            journals,
            signals,
            probe,
            line,
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
        let mut board = self.spawn_all(&mut tasks);
        self.held.report_unused();
        let hardware = &self.started.board.hardware;
        info!(version = env!("CARGO_PKG_VERSION"), board = hardware.name.as_deref(), "ready");
        supervise::tell(Change::Ready);
        let mut is_sound = true;
        loop {
            tokio::select! {
                // holds for the daemon's whole life, since the hub holds the sender
                Some(room) = self.rooms.recv() => {
                    self.run_room(&room, &mut tasks);
                }
                Some(panic) = tasks.next_panic() => {
                    is_sound = self.survives(panic);
                    if !is_sound {
                        break;
                    }
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
        self.stop(&stop, listeners).await;
        if !is_sound {
            return Err(Unsound);
        }
        if let Some(folder) = &self.traces {
            traces::end(folder);
        }
        Ok(())
    }

    /// Starts all tasks but those of listeners and sessions; the board's can be stopped by itself.
    fn spawn_all(&self, tasks: &mut Tasks) -> AbortHandle {
        self.spawn_probe(tasks);
        let board = self.spawn_board(tasks);
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
        self.uplink.spawn(tasks);
        self.central.spawn(tasks);
        board
    }

    /// Starts the tasks of a session that is new.
    fn run_room(&self, room: &Arc<Room>, tasks: &mut Tasks) {
        self.central.note_room();
        if let Some(pause) = self.journals.sync().filter(|_| room.has_journal()) {
            let room = Arc::clone(room);
            tasks.spawn(Part::Timer, move || {
                let room = Arc::clone(&room);
                async move { room.run_journal(pause).await }
            });
        }
        let room = Arc::clone(room);
        tasks.spawn(Part::Timer, move || {
            let room = Arc::clone(&room);
            async move { room.run_timer().await }
        });
    }

    /// Counts a panic and says it; whether the daemon goes on.
    fn survives(&self, panic: Panic) -> bool {
        self.hub.status().panics.add(1);
        let Panic { part, error, again } = panic;
        if again.is_none() {
            error!(part, %error, "panics again and again: the daemon ends");
            return false;
        }
        error!(part, %error, ?again, "panicked and is started again; the others go on");
        true
    }

    /// Sees the links out, and has kept what is to outlive the process.
    async fn stop(&self, stop: &watch::Sender<bool>, mut listeners: JoinSet<()>) {
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
    }

    /// Brings to where it outlives the process what its parts still have in hand.
    async fn flush(&self) {
        self.uplink.end(self.config.daemon.drain).await;
        self.central.stop(self.config.daemon.drain).await;
        journals::sync_all(&self.hub).await;
        if let Some(folder) = &self.started.daemon.state {
            self.hub.clock().leave_floor(folder).await;
        }
    }

    /// Answers the watchdog for the runtime, with every session's lock in hand once.
    fn spawn_probe(&self, tasks: &mut Tasks) {
        let Some(probe) = &self.probe else { return };
        let (probe, hub) = (Arc::clone(probe), Arc::clone(&self.hub));
        let line = Arc::clone(&self.line);
        tasks.spawn(Part::App, move || {
            let (probe, hub, line) = (Arc::clone(&probe), Arc::clone(&hub), Arc::clone(&line));
            let touch = move || {
                turn::run(Part::SessionLock, || hub.touch());
                line.renew();
            };
            async move { probe.answer(touch).await }
        });
    }

    fn spawn_board(&self, tasks: &mut Tasks) -> AbortHandle {
        let (hub, options) = (Arc::clone(&self.hub), Arc::new(self.config.board.clone()));
        tasks.spawn(Part::Board, move || {
            let (hub, options) = (Arc::clone(&hub), Arc::clone(&options));
            async move { board::publish(&hub, &options).await }
        })
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

/// A restart takes less.
const RETRY_AFTER_RESTART_MS: u32 = 1000;
/// For what is on its way to a disk when the daemon stops; longer than that it is broken.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(120);
