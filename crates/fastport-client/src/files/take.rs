//! Receiving one file, over as many links as it takes.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastport_seal::StreamOpener;
use fastport_wire::Filter;
use fastport_wire::control::ErrorCode;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::error::ReceiveError;
use super::part::{self, Identity, Part, WhenExists};
use super::receive::{FileEvent, Known, MOST_FINISHED, Place, ReceiveOptions, lock};
use super::registry::{Came, Offered, Piece};
use super::sealed;
use crate::client::Client;
use crate::shared::State;

/// One file, over as many links as it takes.
pub(super) struct Take {
    pub(super) client: Client,
    pub(super) filter: Box<str>,
    pub(super) options: Arc<ReceiveOptions>,
    pub(super) known: Arc<Mutex<Known>>,
    pub(super) tell: mpsc::Sender<FileEvent>,
    pub(super) identity: Identity,
}

/// How far one link got.
enum Reached {
    End,
    /// To be tried again: with the next offer of the same file, or after a while with this one.
    Lost,
    Later,
}

impl Take {
    pub(super) async fn run(self, offered: Arc<Offered>) {
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
                            part = *again.ok_or(ReceiveError::Internal)?;
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
                Came::Ended(code) => {
                    self.keep_opener(offered, opener);
                    return Err(ReceiveError::Cancelled(code));
                }
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
        // it is gone with a chunk that did not open
        let mut opener = opener.ok_or(ReceiveError::Damaged)?;
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
    ) -> Result<Option<PathBuf>, (Option<Box<Part>>, ReceiveError)> {
        let when_exists = self.options.when_exists;
        let finished = blocking(move || match part.finish(when_exists) {
            Ok(placed) => Ok(placed),
            Err(ReceiveError::Damaged) => match part.restart() {
                Ok(true) => Err((Some(Box::new(part)), ReceiveError::Damaged)),
                Ok(false) => Err((None, ReceiveError::Damaged)),
                Err(error) => Err((None, error)),
            },
            Err(error) => Err((None, error)),
        });
        finished.await.map_err(|error| (None, error))?
    }
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
    pub(super) fn decline(&self, offered: &Offered, error: &ReceiveError) {
        self.on_link(offered, |state| state.machine.decline(offered.id, error.code()));
    }

    pub(super) fn says_it_has(&self, offered: &Offered) {
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

/// When a relay that had no room is asked again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
