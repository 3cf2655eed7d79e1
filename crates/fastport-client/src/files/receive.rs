//! Receiving files: what is offered on some topics, into a folder.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fastport_seal::StreamOpener;
use fastport_wire::Filter;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::error::ReceiveError;
use super::name::FileName;
use super::part::{Identity, WhenExists};
use super::registry::Offered;
use super::sealed::{self, About};
use super::take::Take;
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
    /// Bytes of a file that may be under way to here, and wait in memory here. Default 256 KiB: a
    /// message behind them waits two seconds on a link of a megabit.
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
            window: 256 * 1024,
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
    /// files that wait until others are here
    waiting: VecDeque<(Identity, Arc<Offered>)>,
    tasks: JoinSet<()>,
    tell: mpsc::Sender<FileEvent>,
    events: mpsc::Receiver<FileEvent>,
    /// its messages are not wanted: it holds the subscription
    _intake: Intake,
}

/// What was said of files before.
#[derive(Default)]
pub(super) struct Known {
    pub(super) under_way: HashSet<Identity>,
    /// at most [`MOST_FINISHED`]
    pub(super) finished: HashSet<Identity>,
    /// sealed offers that were opened, by what they are sealed: at most [`MOST_FINISHED`]. The same
    /// opens once; it comes again after each reconnect
    pub(super) opened: HashMap<Box<[u8]>, Opened>,
}

impl Known {
    /// A file is offered: whether it is here, and else whether it is not under way, as it is now.
    fn note(&mut self, identity: &Identity) -> (bool, bool) {
        if self.finished.contains(identity) {
            return (true, false);
        }
        (false, self.under_way.insert(identity.clone()))
    }
}

/// A sealed offer.
pub(super) struct Opened {
    pub(super) identity: Identity,
    /// opens its chunks; whoever receives the file has it
    pub(super) opener: Option<StreamOpener>,
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
            waiting: VecDeque::new(),
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
            while self.tasks.len() < self.options.at_once
                && let Some((identity, offered)) = self.waiting.pop_front()
            {
                self.begin(identity, offered);
            }
            let Self { client, filter, looked_at, link, tasks, events, .. } = self;
            let found = tokio::select! {
                biased;
                Some(event) = events.recv() => return Some(event),
                Some(_) = tasks.join_next() => continue,
                found = find_offer(client, filter, *link, looked_at) => found?,
            };
            self.look_at(found);
        }
    }

    /// Looks at an offer that is new on this link. What is under way already finds it by itself.
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
                self.tasks.spawn(tell(self.tell.clone(), FileEvent::Failed { name, error }));
                return;
            }
        };
        let (is_finished, is_new) = lock(&self.known).note(&identity);
        if is_finished {
            self.client.says_it_has(&offered);
        } else if is_new {
            self.waiting.push_back((identity, offered));
        }
    }

    fn begin(&mut self, identity: Identity, offered: Arc<Offered>) {
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

async fn tell(to: mpsc::Sender<FileEvent>, event: FileEvent) {
    // nobody may listen any more
    to.send(event).await.unwrap_or_default();
}

pub(super) fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    // nobody panics while holding it
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Events that wait to be taken; files wait when there are more.
const EVENTS: usize = 64;
/// Files that are remembered as here, for when they are offered again.
pub(super) const MOST_FINISHED: usize = 4096;
