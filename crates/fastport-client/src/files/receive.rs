//! Receiving files: what is offered on some topics, into a folder.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastport_seal::StreamOpener;
use fastport_wire::Filter;
use fastport_wire::control::ErrorCode;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::error::ReceiveError;
use super::name::FileName;
use super::part::{self, Identity, Part, WhenExists};
use super::registry::{Came, Offered, Piece};
use super::sealed::{self, About};
use crate::client::Client;
use crate::error::RequestError;
use crate::options::{SubscribeOptions, WhenSlow};
use crate::seal::NotOpened;
use crate::shared::State;
use crate::subscription::Intake;

/// Where files go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Into that folder, each under its name.
    Folder(PathBuf),
    /// To standard output, one after another.
    Output,
}

/// How to receive files.
#[derive(Debug, Clone)]
pub struct ReceiveOptions {
    /// Where they go.
    pub place: Place,
    /// What is done where there is a file of the same name.
    pub when_exists: WhenExists,
    /// Bytes of a file that may wait in memory here. Default 1 MiB.
    pub window: u64,
    /// The longest file that is taken. Default: any.
    pub size_max: u64,
    /// Files at once; others wait. Default 8.
    pub at_once: usize,
}

impl ReceiveOptions {
    /// The defaults.
    #[must_use]
    pub fn new(place: Place) -> Self {
        let at_once = if place == Place::Output { 1 } else { 8 };
        Self {
            place,
            when_exists: WhenExists::default(),
            window: 1024 * 1024,
            size_max: u64::MAX,
            at_once,
        }
    }
}

/// What happens with files.
#[derive(Debug, Clone)]
pub enum FileEvent {
    /// A file is being received.
    Begun {
        /// Its name.
        name: FileName,
        /// Its length.
        size: u64,
        /// How much of it is here, and every change of that.
        progress: watch::Receiver<u64>,
    },
    /// A file is here, whole and sound.
    Finished {
        /// Its name, as it was offered.
        name: FileName,
        /// Its length.
        size: u64,
        /// Where it is; `None`: it went to standard output.
        path: Option<PathBuf>,
        /// It was here before.
        was_here: bool,
    },
    /// A file is not received.
    Failed {
        /// Its name, as it was offered.
        name: String,
        /// Why.
        error: ReceiveError,
    },
}

/// Receives the files that are offered on some topics, until it is dropped. What is here of a file
/// that did not come to its end stays, for the next time.
pub struct Receiving {
    client: Client,
    filter: Box<str>,
    options: Arc<ReceiveOptions>,
    known: Arc<Mutex<Known>>,
    /// offers of this link that were looked at
    looked_at: HashSet<u32>,
    link: u64,
    tasks: JoinSet<()>,
    tell: mpsc::Sender<FileEvent>,
    events: mpsc::Receiver<FileEvent>,
    /// its messages are not wanted: it holds the subscription
    _intake: Intake,
}

/// What was said of files before.
#[derive(Default)]
struct Known {
    under_way: HashSet<Identity>,
    /// at most [`MOST_FINISHED`]
    finished: HashSet<Identity>,
    /// sealed offers that were opened, by what they are sealed: at most [`MOST_FINISHED`]. The same
    /// opens once; it comes again after each reconnect
    opened: HashMap<Box<[u8]>, Opened>,
}

/// A sealed offer.
struct Opened {
    identity: Identity,
    /// opens its chunks; whoever receives the file has it
    opener: Option<StreamOpener>,
}

impl Client {
    /// Receives the files that are offered on the topics that `filter` selects.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn receive_files(
        &self,
        filter: &str,
        options: ReceiveOptions,
    ) -> Result<Receiving, RequestError> {
        let subscribe = SubscribeOptions {
            no_last: true,
            no_local: true,
            queue: 0,
            when_slow: WhenSlow::DropOldest,
            ..SubscribeOptions::default()
        };
        let intake = self.take_in(&[filter], subscribe).await?;
        let (tell, events) = mpsc::channel(EVENTS);
        Ok(Receiving {
            client: self.clone(),
            filter: filter.into(),
            options: Arc::new(options),
            known: Arc::default(),
            looked_at: HashSet::new(),
            link: 0,
            tasks: JoinSet::new(),
            tell,
            events,
            _intake: intake,
        })
    }
}

impl Receiving {
    /// What happens next; `None` when there is no link any more and there will be none. Files are
    /// taken only while this is waited for, and go on in the meantime.
    ///
    /// Cancel-safe: what is not returned is returned next time.
    pub async fn next(&mut self) -> Option<FileEvent> {
        loop {
            let may_begin = self.tasks.len() < self.options.at_once;
            let Self { client, filter, looked_at, link, tasks, events, .. } = self;
            let found = tokio::select! {
                biased;
                Some(event) = events.recv() => return Some(event),
                Some(_) = tasks.join_next() => continue,
                found = find_offer(client, filter, *link, looked_at), if may_begin => found?,
                () = client.has_ended(), if !may_begin => return None,
            };
            self.look_at(found);
        }
    }

    fn look_at(&mut self, offered: Arc<Offered>) {
        if self.link != offered.link {
            self.link = offered.link;
            self.looked_at.clear();
        }
        self.looked_at.insert(offered.id);
        let identity = match self.identify(&offered) {
            Ok(identity) => identity,
            Err(error) => {
                let name = offered.name.as_deref().unwrap_or("a sealed file");
                let name = name.escape_debug().to_string();
                self.client.decline(&offered, &error);
                let (tell, failed) = (self.tell.clone(), FileEvent::Failed { name, error });
                self.tasks.spawn(async move { tell.send(failed).await.unwrap_or_default() });
                return;
            }
        };
        let mut known = lock(&self.known);
        if known.finished.contains(&identity) {
            self.client.says_it_has(&offered);
        } else if known.under_way.insert(identity.clone()) {
            let take = Take {
                client: self.client.clone(),
                filter: self.filter.clone(),
                options: Arc::clone(&self.options),
                known: Arc::clone(&self.known),
                tell: self.tell.clone(),
                identity,
            };
            self.tasks.spawn(take.run(offered));
        }
    }

    fn identify(&self, offered: &Offered) -> Result<Identity, ReceiveError> {
        let about = match &offered.sealed {
            Some(sealed) => return self.open_sealed(offered, sealed),
            None if self.client.is_sealed(&offered.topic) => {
                return Err(ReceiveError::NotOpened(NotOpened::Unsealed));
            }
            None => offered.about().ok_or(ReceiveError::Unchecked)?,
        };
        self.identity(offered, &about)
    }

    /// What a sealed offer says. It opens once, and is remembered.
    fn open_sealed(&self, offered: &Offered, sealed: &[u8]) -> Result<Identity, ReceiveError> {
        if let Some(opened) = lock(&self.known).opened.get(sealed) {
            return Ok(opened.identity.clone());
        }
        let opened = self.client.open_offer(&offered.topic, sealed);
        let (about, _, opener) = opened.map_err(ReceiveError::NotOpened)?;
        let about = About::decode(&about).ok_or(ReceiveError::Unchecked)?;
        if offered.size != Some(sealed::stream_size(about.size)) {
            return Err(ReceiveError::Unchecked);
        }
        let identity = self.identity(offered, &about)?;
        let opened = Opened { identity: identity.clone(), opener: Some(opener) };
        let mut known = lock(&self.known);
        if known.opened.len() >= MOST_FINISHED {
            return Err(ReceiveError::Busy);
        }
        known.opened.insert(sealed.into(), opened);
        drop(known);
        // one that waits for this file
        self.client.shared().changed.notify_waiters();
        Ok(identity)
    }

    fn identity(&self, offered: &Offered, about: &About) -> Result<Identity, ReceiveError> {
        let name = FileName::parse(&about.name).map_err(ReceiveError::BadName)?;
        if about.size > self.options.size_max {
            return Err(ReceiveError::TooLong);
        }
        let (topic, size, digest) = (offered.topic.clone(), about.size, about.digest);
        Ok(Identity { topic, name, size, digest, is_directory: about.is_directory })
    }
}

/// Waits for an offer that was not looked at; `None`: there will be none.
async fn find_offer(
    client: &Client,
    filter: &str,
    link: u64,
    looked_at: &HashSet<u32>,
) -> Option<Arc<Offered>> {
    let filter = Filter::parse(filter).ok()?;
    let find = |state: &mut State| {
        if state.end.is_some() {
            return Some(None);
        }
        let is_same_link = state.files.link() == link;
        let is_new = |it: &Offered| !(is_same_link && looked_at.contains(&it.id));
        state.files.find(filter, is_new).map(Some)
    };
    client.until(find).await
}

/// One file, over as many links as it takes.
struct Take {
    client: Client,
    filter: Box<str>,
    options: Arc<ReceiveOptions>,
    known: Arc<Mutex<Known>>,
    tell: mpsc::Sender<FileEvent>,
    identity: Identity,
}

/// How far one link got.
enum Reached {
    End,
    /// To be tried again: with the next offer of the same file, or after a while with this one.
    Lost,
    Later,
}

impl Take {
    async fn run(self, offered: Arc<Offered>) {
        let (name, size) = (self.identity.name.clone(), self.identity.size);
        let event = match self.receive(offered).await {
            Ok((path, was_here)) => FileEvent::Finished { name, size, path, was_here },
            Err(error) => FileEvent::Failed { name: name.as_str().to_owned(), error },
        };
        self.note_end(matches!(event, FileEvent::Finished { .. }));
        // nobody may listen any more
        self.tell.send(event).await.unwrap_or_default();
    }

    fn note_end(&self, is_finished: bool) {
        let mut known = lock(&self.known);
        known.under_way.remove(&self.identity);
        if is_finished && known.finished.len() < MOST_FINISHED {
            known.finished.insert(self.identity.clone());
        }
    }

    /// Receives the file; where it is, and whether it was there before.
    async fn receive(
        &self,
        mut offered: Arc<Offered>,
    ) -> Result<(Option<PathBuf>, bool), ReceiveError> {
        if let Some(path) = self.find_there().await? {
            self.client.says_it_has(&offered);
            return Ok((Some(path), true));
        }
        let opened = self.open().await;
        let mut part = opened.inspect_err(|error| self.client.decline(&offered, error))?;
        let (progress, receiver) = watch::channel(part.at());
        let (name, size) = (self.identity.name.clone(), self.identity.size);
        let begun = FileEvent::Begun { name, size, progress: receiver };
        self.tell.send(begun).await.map_err(|_| ReceiveError::Internal)?;
        let mut damaged = 0;
        loop {
            let reached = match self.over_this_link(&offered, part, &progress).await {
                Ok((whole, Reached::End)) => {
                    part = whole;
                    match self.finish(part).await {
                        Ok(placed) => {
                            self.client.says_it_has(&offered);
                            return Ok((placed, false));
                        }
                        Err((again, ReceiveError::Damaged)) if damaged == 0 && again.is_some() => {
                            // what was here before may have been damaged, and not what came
                            damaged += 1;
                            self.client.stop_taking(&offered, ErrorCode::Damaged);
                            part = again.ok_or(ReceiveError::Internal)?;
                            Reached::Later
                        }
                        Err((_, error)) => {
                            self.client.stop_taking(&offered, error.code());
                            return Err(error);
                        }
                    }
                }
                Ok((rest, reached)) => {
                    part = rest;
                    reached
                }
                Err(error) => {
                    self.client.stop_taking(&offered, error.code());
                    return Err(error);
                }
            };
            if matches!(reached, Reached::Later) {
                sleep(AGAIN_AFTER).await;
            }
            offered = self.offered_again().await?;
        }
    }

    /// Takes what comes over this link.
    async fn over_this_link(
        &self,
        offered: &Offered,
        mut part: Part,
        progress: &watch::Sender<u64>,
    ) -> Result<(Part, Reached), ReceiveError> {
        if part.is_whole() {
            return Ok((part, Reached::End));
        }
        let mut opener = self.opener(offered, part.at())?;
        let offset = opener.as_ref().map_or(part.at(), |_| sealed::to_stream(part.at()));
        let window = self.options.window.max(1);
        let _inbox = OpenInbox { client: &self.client, id: offered.id, link: offered.link };
        if !self.client.takes(offered, offset, window) {
            self.keep_opener(offered, opener);
            return Ok((part, Reached::Lost));
        }
        let reached = loop {
            match self.client.came(offered).await? {
                Came::Pieces(pieces) => {
                    let length: usize = pieces.iter().map(|piece| piece.bytes.len()).sum();
                    (part, opener) = self.write(part, opener, pieces).await?;
                    progress.send_replace(part.at());
                    if part.is_whole() {
                        break Reached::End;
                    }
                    self.client.grants(offered, length as u64);
                }
                Came::Lost => break Reached::Lost,
                Came::Ended(Some(ErrorCode::Unavailable)) => break Reached::Lost,
                Came::Ended(Some(ErrorCode::LimitReached)) => break Reached::Later,
                Came::Ended(code) => return Err(ReceiveError::Cancelled(code)),
            }
        };
        if let (Some(opener), Reached::End) = (&opener, &reached)
            && opener.finish().is_err()
        {
            // as long as it should be, and yet its end is not there
            return Err(ReceiveError::Damaged);
        }
        self.keep_opener(offered, opener);
        Ok((part, reached))
    }

    /// What opens a stream from that place of the file on, if it is sealed.
    fn opener(&self, offered: &Offered, at: u64) -> Result<Option<StreamOpener>, ReceiveError> {
        let Some(sealed) = &offered.sealed else { return Ok(None) };
        let mut known = lock(&self.known);
        let opener = known.opened.get_mut(sealed).and_then(|opened| opened.opener.take());
        let mut opener = opener.ok_or(ReceiveError::Internal)?;
        opener.resume_at(at);
        Ok(Some(opener))
    }

    fn keep_opener(&self, offered: &Offered, opener: Option<StreamOpener>) {
        let Some(sealed) = &offered.sealed else { return };
        if let Some(opened) = lock(&self.known).opened.get_mut(sealed) {
            opened.opener = opener;
        }
    }

    /// Waits until the same file is offered, again or still.
    async fn offered_again(&self) -> Result<Arc<Offered>, ReceiveError> {
        let filter = Filter::parse(&self.filter).map_err(|_| ReceiveError::Internal)?;
        let identity = &self.identity;
        let find = |state: &mut State| {
            if let Some(error) = &state.end {
                return Some(Err(ReceiveError::Ended(error.clone())));
            }
            let known = lock(&self.known);
            let is_it = |it: &Offered| match &it.sealed {
                Some(sealed) => {
                    known.opened.get(sealed).is_some_and(|opened| opened.identity == *identity)
                }
                None => *it.topic == *identity.topic && it.about() == Some(identity.about()),
            };
            state.files.find(filter, is_it).map(Ok)
        };
        self.client.until(find).await
    }

    async fn find_there(&self) -> Result<Option<PathBuf>, ReceiveError> {
        let Place::Folder(folder) = &self.options.place else { return Ok(None) };
        if self.identity.is_directory {
            return Ok(None);
        }
        let (folder, identity) = (folder.clone(), self.identity.clone());
        blocking(move || {
            let is_there = part::is_there(&folder, &identity);
            is_there.then(|| folder.join(identity.name.as_str()))
        })
        .await
    }

    async fn open(&self) -> Result<Part, ReceiveError> {
        let identity = self.identity.clone();
        let Place::Folder(folder) = self.options.place.clone() else {
            return Ok(Part::to_output(identity));
        };
        let when_exists = self.options.when_exists;
        blocking(move || {
            if when_exists == WhenExists::Decline && part::is_taken(&folder, &identity.name) {
                return Err(ReceiveError::Exists);
            }
            Part::open(&folder, identity, sealed::CONTENT)
        })
        .await?
    }

    /// Writes pieces, opened if they are sealed; where there is no room, what is here of the file makes
    /// some for others.
    async fn write(
        &self,
        mut part: Part,
        mut opener: Option<StreamOpener>,
        pieces: Vec<Piece>,
    ) -> Result<(Part, Option<StreamOpener>), ReceiveError> {
        blocking(move || {
            for Piece { bytes, is_last } in pieces {
                let written = match &mut opener {
                    Some(opener) => part.write(&sealed::open(opener, &bytes, is_last)?),
                    None => part.write(&bytes),
                };
                if let Err(error @ ReceiveError::NoSpace(_)) = written {
                    // if even that fails the first fault is the one to tell
                    part.remove().unwrap_or_default();
                    return Err(error);
                }
                written?;
            }
            Ok((part, opener))
        })
        .await?
    }

    /// Gives the file its name; a part that is damaged comes back empty, to be filled again.
    async fn finish(
        &self,
        mut part: Part,
    ) -> Result<Option<PathBuf>, (Option<Part>, ReceiveError)> {
        let when_exists = self.options.when_exists;
        let finished = blocking(move || match part.finish(when_exists) {
            Ok(placed) => Ok(placed),
            Err(ReceiveError::Damaged) => match part.restart() {
                Ok(true) => Err((Some(part), ReceiveError::Damaged)),
                Ok(false) => Err((None, ReceiveError::Damaged)),
                Err(error) => Err((None, error)),
            },
            Err(error) => Err((None, error)),
        });
        finished.await.map_err(|error| (None, error))?
    }
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    // nobody panics while holding it
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Closes an inbox when its stream is not taken any more.
struct OpenInbox<'a> {
    client: &'a Client,
    id: u32,
    link: u64,
}

impl Drop for OpenInbox<'_> {
    fn drop(&mut self) {
        let mut state = self.client.shared().lock();
        if state.files.link() == self.link {
            state.files.close_inbox(self.id);
        }
    }
}

/// What a task of a file says to the relay, if its link is still the one it means.
impl Client {
    fn decline(&self, offered: &Offered, error: &ReceiveError) {
        self.on_link(offered, |state| state.machine.decline(offered.id, error.code()));
    }

    fn says_it_has(&self, offered: &Offered) {
        let end = offered.size.unwrap_or(0);
        self.on_link(offered, |state| state.machine.has_all(offered.id, end));
    }

    fn stop_taking(&self, offered: &Offered, code: ErrorCode) {
        self.on_link(offered, |state| state.machine.stop_taking(offered.id, Some(code)));
    }

    fn grants(&self, offered: &Offered, bytes: u64) {
        self.on_link(offered, |state| state.machine.grant(offered.id, bytes));
    }

    /// Takes a stream; `false`: the link is another one by now.
    fn takes(&self, offered: &Offered, offset: u64, window: u64) -> bool {
        self.on_link(offered, |state| {
            state.files.open_inbox(offered.id);
            state.machine.accept(offered.id, offset);
            state.machine.grant(offered.id, window);
        })
    }

    async fn came(&self, offered: &Offered) -> Result<Came, ReceiveError> {
        let came = |state: &mut State| match &state.end {
            Some(error) => Some(Err(ReceiveError::Ended(error.clone()))),
            None => state.files.came(offered).map(Ok),
        };
        self.until(came).await
    }

    async fn has_ended(&self) {
        self.until(|state| state.end.is_some().then_some(())).await;
    }

    fn on_link(&self, offered: &Offered, say: impl FnOnce(&mut State)) -> bool {
        let mut state = self.shared().lock();
        let is_it = state.files.link() == offered.link && state.end.is_none();
        if is_it {
            say(&mut state);
        }
        drop(state);
        self.shared().wake_driver();
        is_it
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ReceiveError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| ReceiveError::Internal)
}

/// Events that wait to be taken; files wait when there are more.
const EVENTS: usize = 64;
/// Files that are remembered as here, for when they are offered again.
const MOST_FINISHED: usize = 4096;
/// When a relay that had no room is asked again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
