//! The task of a lane: links one after another, to the first central instance that takes it.

mod outcome;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastport_client::raw::Connected;
use fastport_client::{ConnectError, Proxy, ProxyError, Target, TargetError};
use fastport_core::client::{Options, Secret};
use fastport_core::handshake::Refusal;
use fastport_core::proof::NONCE_BYTES;
use fastport_wire::control::{WhenFull, features};
use tokio::sync::watch;
use tracing::{debug, info};

use self::outcome::Told;
use super::bridge::{Backlog, Bridge, Gaps, Task};
use super::ceiling::Ceiling;
use super::choice::Choice;
use super::commit::Commit;
use super::drain::Drain;
use super::figures::{Figures, LaneFigures, LinkState};
use super::flow;
use super::local::Place;
use super::note::Note;
use super::retry::Retry;
use super::rules::Rules;
use super::run::{Probe, Run, Times, Why, local};
use super::store::{DiskLog, Store};
use super::way::Way;
use crate::clock::{Clock, Heard};
use crate::config::{self, Lane};
use crate::hub::Hub;

/// An uplink; see the module `uplink`.
pub struct Uplink {
    config: config::Uplink,
    central_session: Box<str>,
    rules: Arc<Rules>,
    places: Vec<(Lane, Place)>,
    ceiling: Ceiling,
    figures: Arc<Figures>,
    store: Option<Arc<Store>>,
    memory: Memory,
    stop: watch::Sender<bool>,
    /// lanes that have not ended
    left: watch::Sender<usize>,
}

/// What becomes of that which waits in memory when there is no process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// It is lost: it goes to the disk before.
    Lost,
    /// The service manager holds it; a loss of power takes it.
    Held,
    /// It is on disk, too.
    OnDisk,
}

/// An uplink cannot be set up: the operator's to mend.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum UplinkError {
    /// A URL of a central instance.
    Central(String, TargetError),
    /// The proxy's URL.
    Proxy(String, ProxyError),
    /// The local session does not take a lane.
    NoPlace(&'static str, Refusal),
    /// The spool cannot be used.
    Spool(String),
}

impl fmt::Display for UplinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Central(url, error) => write!(f, "uplink.central: {url:?}: {error}"),
            Self::Proxy(url, error) => write!(f, "uplink.proxy: {url:?}: {error}"),
            Self::Spool(error) => write!(f, "uplink.spool: {error}"),
            Self::NoPlace(lane, refusal) => write!(
                f,
                "uplink: no place for lane {lane} in the session ({}): raise limits.memory",
                refusal.code
            ),
        }
    }
}

impl std::error::Error for UplinkError {}

impl Uplink {
    /// An uplink of a session of the hub; `state` is the daemon's directory, to which what waits
    /// in memory goes as far as needs be. From here on the session keeps for it what its rules select.
    /// It waits for the disk.
    ///
    /// # Errors
    /// [`UplinkError`].
    pub fn new(
        config: &config::Uplink,
        session: &str,
        (state, memory): (Option<&Path>, Memory),
        hub: &Arc<Hub>,
    ) -> Result<Arc<Self>, UplinkError> {
        for url in &config.central {
            Target::parse(url).map_err(|error| UplinkError::Central(url.clone(), error))?;
        }
        if let Some(url) = &config.proxy {
            Proxy::parse(url).map_err(|error| UplinkError::Proxy(url.clone(), error))?;
        }
        let rules = Arc::new(Rules::new(config));
        let spool = (&config.spool, config.spool.disk.0 > 0 && state.is_some());
        let place = |lane| Place::new(Arc::clone(hub), session, &rules, lane, spool);
        let places: Vec<_> = rules.lanes().into_iter().map(|lane| (lane, place(lane))).collect();
        for (lane, place) in &places {
            place.settle(random()).map_err(|refusal| UplinkError::NoPlace(lane.name(), refusal))?;
        }
        // what an earlier configuration left there goes up all the same
        let is_wanted = |folder: &&Path| config.spool.disk.0 > 0 || Store::is_in(folder);
        let on_disk = state.filter(is_wanted);
        let store =
            on_disk.map(|folder| Store::open(folder, &config.spool, hub.clock())).transpose();
        let store = store.map_err(|error| UplinkError::Spool(error.to_string()))?;
        let central_session = config.central_session.as_ref();
        let central_session = central_session.map_or(session, |session| session.as_str()).into();
        Ok(Arc::new(Self {
            config: config.clone(),
            central_session,
            figures: Arc::new(Figures::new(&rules.lanes(), store.clone())),
            store,
            memory,
            stop: watch::Sender::new(false),
            left: watch::Sender::new(places.len()),
            rules,
            places,
            ceiling: Ceiling::new(config.bytes_per_second.0, Instant::now()),
        }))
    }

    /// The lanes that some rule names.
    #[must_use]
    pub fn lanes(&self) -> Vec<Lane> {
        self.rules.lanes()
    }

    pub(super) fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }

    /// When memory goes to the disk behind what is there: never, where it is there already.
    fn commit(&self) -> Commit {
        let within = self.config.spool.commit;
        Commit::new(Some(within).filter(|_| self.memory != Memory::OnDisk))
    }

    /// The longest that a message waits, where its rule says nothing.
    pub(super) fn max_age(&self) -> Duration {
        self.config.spool.max_age
    }

    /// What it counts and shows.
    #[must_use]
    pub fn figures(&self) -> &Arc<Figures> {
        &self.figures
    }

    /// Whether everything counted is where it has to be.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        let counts = self.places.iter().filter_map(|(_, place)| place.counts());
        counts.into_iter().all(|counts| counts.acked == counts.total)
    }

    /// Has the lanes end: what they have is sent, as far as that goes within the time; what is left
    /// goes to the disk where nothing else outlives the process. Whether all of it was done in time.
    pub async fn end(&self, within: Duration) -> bool {
        let until = tokio::time::Instant::now() + within;
        while !self.is_drained() && self.is_linked() && tokio::time::Instant::now() < until {
            tokio::time::sleep(LOOK / 10).await;
        }
        self.stop.send_replace(true);
        let mut left = self.left.subscribe();
        let ended =
            tokio::time::timeout_at(until.max(tokio::time::Instant::now() + FLUSH), async {
                // an error means that the lanes are gone
                left.wait_for(|left| *left == 0).await.map(|_| ()).unwrap_or_default();
            });
        ended.await.is_ok()
    }

    fn is_linked(&self) -> bool {
        self.places.iter().any(|(lane, _)| self.figures.of(*lane).state().link == LinkState::Ready)
    }

    /// Carries a lane, until it is dropped or the uplink ends.
    ///
    /// Cancel-safe: what a lane has to remember is in the local session.
    pub async fn run(&self, lane: Lane) {
        let Some((_, place)) = self.places.iter().find(|(known, _)| *known == lane) else { return };
        let figures = self.figures.of(lane);
        let known = place.counts().map(|counts| Note::from_words(counts.note));
        let level = known.map_or(0, |note| note.level);
        let retry = Retry::after(self.config.retry_first, self.config.retry_most, level);
        let store = self.store.clone();
        // what an earlier life of the process sent is not known
        let maybe_sent = place.counts().map_or(0, |counts| counts.total);
        let mut carrier = Carrier {
            uplink: self,
            lane,
            place,
            figures,
            ways: self.config.central.iter().map(|_| None).collect(),
            choice: Choice::new(Instant::now(), self.config.central.len()),
            retry,
            relays: true,
            renews: false,
            astray: 0,
            told: vec![None; self.config.central.len()],
            store,
            maybe_sent,
            is_reconciled: false,
            gaps: Gaps::default(),
            log: DiskLog::default(),
            commit: self.commit(),
        };
        carrier.figures.state().retry_level = level >> 1;
        carrier.reconcile().await;
        let mut stop = self.stop.subscribe();
        carrier.run(&mut stop).await;
        if self.memory == Memory::Lost {
            // the stop may have cut off what moved some there
            carrier.is_reconciled = false;
            carrier.gather(true).await;
        }
        self.left.send_modify(|left| *left = left.saturating_sub(1));
    }
}

/// What a lane knows from link to link.
pub(super) struct Carrier<'a> {
    pub(super) uplink: &'a Uplink,
    pub(super) lane: Lane,
    pub(super) place: &'a Place,
    figures: Arc<LaneFigures>,
    ways: Vec<Option<Arc<Way>>>,
    choice: Choice,
    retry: Retry,
    /// the central instance takes TIME and GAP, as far as is known
    relays: bool,
    /// its state is not this lane's: the next link begins an epoch
    renews: bool,
    /// links in a row on which a frame would have had another count
    astray: u32,
    /// what people were told of each central instance last, until there is a link that is news
    told: Vec<Option<Told>>,
    pub(super) store: Option<Arc<Store>>,
    /// counted frames of the local session up to here may be at the central instance
    pub(super) maybe_sent: u64,
    /// the local session and the disk say the same of how far the lane is
    pub(super) is_reconciled: bool,
    /// what the last links may not have told
    pub(super) gaps: Gaps,
    pub(super) log: DiskLog,
    pub(super) commit: Commit,
}

impl Carrier<'_> {
    async fn run(&mut self, stop: &mut watch::Receiver<bool>) {
        while !*stop.borrow() {
            let (why, held) = self.attempt().await;
            if matches!(why, Why::Stop) {
                return;
            }
            let judged = self.judge(&why);
            let is_stable = self.retry.note_link(held.unwrap_or_default());
            self.report(&why, judged, held, is_stable);
            if !matches!(why, Why::Astray { .. } | Why::OtherState { .. }) {
                self.astray = 0;
            }
            let (now, (_, cause)) = (Instant::now(), judged);
            let wait = self.retry.next(now, random(), cause);
            let wait = self.choice.ended(now, (cause, wait), is_stable);
            self.keep_level();
            self.show(LinkState::Waiting);
            tokio::select! {
                () = self.look_while_waiting(wait) => {}
                () = stopped(stop) => return,
            }
        }
    }

    /// Makes one link and runs it; why it is over, and for how long there was one.
    async fn attempt(&mut self) -> (Why, Option<Duration>) {
        let config = &self.uplink.config;
        let Some(url) = config.central.get(self.choice.at()).cloned() else {
            return (Why::Here("there is no central instance"), None);
        };
        self.figures.attempts.add(1);
        self.figures.state().url.clone_from(&url);
        self.show(LinkState::Connecting);
        let times = Times {
            welcome_by: tokio::time::Instant::now() + config.connect_timeout,
            connect_timeout: config.connect_timeout,
            dead_after: config.dead_after,
            delay: config.delay,
            commit: self.uplink.commit(),
        };
        let way = match self.way(&url).await {
            Ok(way) => way,
            Err(error) => return (Why::Connect(error), None),
        };
        let connected = match self.connect(&way, times).await {
            Ok(connected) => connected,
            Err(error) => return (Why::Connect(error), None),
        };
        self.figures.state().address = Some(connected.peer.clone());
        let mut nonce = [0; NONCE_BYTES];
        if getrandom::fill(&mut nonce).is_err() {
            return (Why::Here("no randomness from the kernel"), None);
        }
        let (bridge, drain) = match self.bridge(&url, &way.secret).await {
            Ok(bridge) => bridge,
            Err(why) => return (why, None),
        };
        let probe = self.probe();
        let (lane, figures) = (self.lane, Arc::clone(&self.figures));
        let (at, told) = (self.choice.at(), &mut self.told);
        // where one did not hold, the next is news when it does
        let is_news = !told.get(at).is_some_and(|told| told.is_some_and(|told| told.was_link));
        let news_after = if is_news { Duration::ZERO } else { self.retry.stable() };
        let mut ready_at = None;
        let mut is_told = false;
        let peer = connected.peer;
        let clock = self.place.hub().clock();
        let mut on_ready = |resumed: bool, unix_ms: Option<u64>| {
            let since = *ready_at.get_or_insert_with(|| {
                if let Some(unix_ms) = unix_ms.filter(|_| way.is_authentic) {
                    hear(clock, unix_ms, &url);
                }
                figures.connects.add(1);
                let mut state = figures.state();
                (state.link, state.error) = (LinkState::Ready, None);
                let now = Instant::now();
                state.since = Some(now);
                now
            });
            if !is_told && since.elapsed() >= news_after {
                is_told = true;
                for (of, told) in told.iter_mut().enumerate() {
                    *told = told.filter(|told| told.was_link && of != at);
                }
                info!(lane = lane.name(), %url, address = %peer, resumed, "uplink ready");
            }
        };
        let parts = (self.place, &self.figures, &self.uplink.ceiling);
        let random = random();
        let rules = (&self.uplink.rules, self.uplink.config.spool.max_age);
        let disk = (drain, self.store.as_ref().is_some_and(|store| store.takes()));
        let link = connected.link;
        let mut run =
            Run::new(lane, parts, rules, disk, times, bridge, link, probe, &mut on_ready, random);
        let mut stop = self.uplink.stop.subscribe();
        let why = tokio::select! {
            why = Box::pin(run.until_end(nonce)) => why,
            () = stopped(&mut stop) => Why::Stop,
        };
        let (read, gaps, drain) = run.into_rest();
        self.gaps = gaps;
        self.maybe_sent = self.maybe_sent.max(read);
        if let Some(drain) = drain {
            drain.end().await;
            self.reconcile().await;
        }
        (why, ready_at.map(|since| since.elapsed()))
    }

    /// Connects, and sees meanwhile to what gathers.
    async fn connect(&mut self, way: &Way, times: Times) -> Result<Connected, ConnectError> {
        let mut connecting =
            Box::pin(tokio::time::timeout_at(times.welcome_by, way.connector.connect()));
        let mut stop = self.uplink.stop.subscribe();
        loop {
            tokio::select! {
                () = stopped(&mut stop) => return Err(ConnectError::Closed),
                connected = &mut connecting => {
                    let late = ConnectError::TimedOut(times.connect_timeout);
                    return connected.unwrap_or(Err(late));
                }
                () = tokio::time::sleep(self.looks()) => self.look().await,
            }
        }
    }

    /// The bridge for a link to that central instance; `None`: the lane has no place.
    async fn bridge(&mut self, url: &str, secret: &Secret) -> Result<(Bridge, Option<Drain>), Why> {
        let no_place = Why::Here("the local session has no place for the lane");
        if self.store.is_some() && !self.is_reconciled {
            self.reconcile().await;
        }
        let on_disk = match &self.store {
            None => None,
            Some(_) if !self.is_reconciled => return Err(Why::Here(NOT_READ)),
            Some(store) => {
                let counts = store.counts(self.lane).await;
                self.log.note(self.lane, &counts);
                // without it nobody knows what was promised
                Some(counts.map_err(|_| Why::Here(NOT_READ))?)
            }
        };
        let Some(counts) = self.place.counts() else {
            // the session was made anew
            return match self.place.settle(random()) {
                Ok(()) | Err(_) => Err(no_place),
            };
        };
        let local = local(&counts);
        let rows = on_disk.filter(|counts| counts.has_rows);
        let mut known = Note::from_words(counts.note);
        let is_alone = known.epoch == 0 && rows.is_some_and(|rows| rows.epoch.is_some());
        if let Some(rows) = rows {
            if is_alone {
                known.epoch = rows.epoch.unwrap_or_default();
            }
            self.renews |= rows.epoch != Some(known.epoch);
        }
        let renews = std::mem::take(&mut self.renews) || !known.is_of(url);
        let note = if renews { Note::begin(url, random(), &local) } else { known };
        let backlog = rows.map(|rows| Backlog {
            head: if renews { 0 } else { rows.head_count },
            held: rows.held,
            is_alone: is_alone && !renews,
        });
        let payload_limit = self.place.payload_limit();
        let uplink = self.uplink;
        let task = Task {
            rules: Arc::clone(&uplink.rules),
            lane: self.lane,
            wait_for: uplink.config.wait_for,
            relays: self.relays,
            payload_limit,
            is_sealed: self.place.is_sealed(),
        };
        let identity = uplink.config.identity.as_deref().unwrap_or_default();
        // without a credential all gateways are one identity, and a name would be one for all
        let name = if matches!(secret, Secret::None) { "" } else { self.lane.name() };
        let dead_after = u32::try_from(uplink.config.dead_after.as_secs()).unwrap_or(u32::MAX);
        let packs = if uplink.config.compress { features::PACKS } else { 0 };
        let options = Options {
            session: uplink.central_session.clone(),
            identity: identity.into(),
            name: name.into(),
            secret: secret.clone(),
            epoch: 0,
            continues: None,
            confirms: true,
            when_full: Some(WhenFull::Hold),
            keepalive: Some((dead_after / 2).max(1)),
            linger: u32::MAX,
            flags: features::ACK_CENTRAL | packs,
            outbox: flow::MOST.max(payload_limit.saturating_add(FRAME_ROOM)),
        };
        let bridge = Bridge::new(task, options, (local, note), Arc::clone(&self.figures));
        let bridge = bridge.with_gaps(std::mem::take(&mut self.gaps));
        let Some((backlog, store)) = backlog.zip(self.store.clone()) else {
            return Ok((bridge, None));
        };
        let drain = Drain::new(store, self.lane, (note.epoch, counts.epoch), backlog.head);
        Ok((bridge.behind(backlog), Some(drain)))
    }

    /// The way to a central instance. Its files are read when it is needed first, and again when
    /// nothing else would help.
    async fn way(&mut self, url: &str) -> Result<Arc<Way>, ConnectError> {
        if let Some(Some(way)) = self.ways.get(self.choice.at()) {
            return Ok(Arc::clone(way));
        }
        let (config, url) = (self.uplink.config.clone(), url.to_owned());
        let clock = self.place.hub().clock().clone();
        let found = tokio::task::spawn_blocking(move || Way::find(&config, &url, &clock)).await;
        let way = Arc::new(found.map_err(|_| ConnectError::Internal)??);
        if let Some(place) = self.ways.get_mut(self.choice.at()) {
            *place = Some(Arc::clone(&way));
        }
        Ok(way)
    }

    /// While another than the favourite serves: ends when that one takes connections again.
    fn probe(&mut self) -> Option<Probe> {
        let favourite = self.ways.first()?.clone();
        let pause = self.choice.look_back(Instant::now(), self.uplink.config.look_back)?;
        let after = self.uplink.config.connect_timeout;
        Some(Box::pin(async move {
            loop {
                tokio::time::sleep(pause).await;
                // its files are read anew with an attempt
                let Some(favourite) = &favourite else { return };
                if let Ok(Ok(())) = tokio::time::timeout(after, favourite.connector.probe()).await {
                    return;
                }
            }
        }))
    }

    /// Keeps how patient the lane has become with its state, for a process that comes after this one.
    fn keep_level(&self) {
        let level = self.retry.level();
        self.figures.state().retry_level = level >> 1;
        let Some(counts) = self.place.counts() else { return };
        let note = Note::from_words(counts.note);
        if note.level == level {
            return;
        }
        // what cannot be kept now is with the next change
        if let Ok(seat) = self.place.enter(random()) {
            seat.set_note(Note { level, ..note }.to_words());
        }
    }

    fn show(&self, link: LinkState) {
        let mut state = self.figures.state();
        state.link = link;
        if link != LinkState::Ready {
            (state.round_trip_ms, state.drain_rate) = (None, 0);
        }
    }

    /// Between looks at what gathers.
    fn looks(&self) -> Duration {
        self.commit.looks(LOOK)
    }

    /// Waits, and sees meanwhile what gathers.
    async fn look_while_waiting(&mut self, wait: Duration) {
        let until = tokio::time::Instant::now() + wait;
        loop {
            self.look().await;
            if let Some(counts) = self.place.expire() {
                self.figures.look(self.place.hub().clock().mono(), &counts);
            }
            let next = tokio::time::Instant::now() + self.looks();
            if next >= until {
                tokio::time::sleep_until(until).await;
                return;
            }
            tokio::time::sleep_until(next).await;
        }
    }
}

/// Waits until the uplink is to end.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // an error means that it is gone
    stop.wait_for(|is_over| *is_over).await.map(|_| ()).unwrap_or_default();
}

/// The central instance says what time it is.
fn hear(clock: &Clock, told_ms: u64, url: &str) {
    match clock.hear(told_ms) {
        Heard::Agrees => {}
        Heard::Adopted => {
            info!(url, told_ms, "the clock is not set; the central instance's is used")
        }
        Heard::Differs { by_ms } => {
            debug!(url, by_ms, "the central instance's clock shows another time");
        }
    }
}

fn random() -> u64 {
    // without randomness all wait the longest
    getrandom::u64().unwrap_or(u64::MAX)
}

const NOT_READ: &str = "the spool cannot be read";
/// What a frame takes beside its payload.
const FRAME_ROOM: usize = 1024;
/// For what is to go to the disk at the end.
const FLUSH: Duration = Duration::from_secs(10);
/// Between looks at what waits.
const LOOK: Duration = Duration::from_millis(500);
