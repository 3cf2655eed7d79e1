//! Sending a file to all who take it, each at its own pace.

use std::sync::Arc;
use std::time::Duration;

use fastport_core::client::{ChunkError, NewOffer};
use fastport_seal::StreamSealer;
use fastport_wire::Topic;
use fastport_wire::control::{ErrorCode, offers};
use fastport_wire::field::MAX_CHUNK;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::error::SendError;
use super::sealed::{self, About};
use super::source::FileSource;
use crate::client::Client;
use crate::shared::State;

/// A file that is offered; dropping it takes the offer back.
pub struct Sending {
    client: Client,
    offer: u32,
    source: FileSource,
    sealer: Option<Arc<StreamSealer>>,
    /// of the stream: with sealing longer than the file
    size: u64,
    progress: watch::Sender<SendProgress>,
    /// whose turn it is to be read for
    last: u32,
}

/// How far a file is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SendProgress {
    /// Its receivers at the moment: how much was sent to each, those that are furthest first.
    pub receivers: Vec<u64>,
    /// Receivers that said that they have all of it, and found it sound.
    pub has_all: u32,
    /// Receivers that do not want it.
    pub declined: u32,
    /// Receivers that stopped, for a fault of theirs or of what came.
    pub failed: u32,
    /// Why the last of these stopped or declined.
    pub last_code: Option<ErrorCode>,
}

impl Client {
    /// Offers a file on a topic, sealed if the topic is. Nothing is sent but while
    /// [`Sending::deliver`] runs.
    ///
    /// # Errors
    /// [`SendError::BadTopic`], [`SendError::Seal`], [`SendError::Ended`].
    pub async fn send_file(&self, topic: &str, source: FileSource) -> Result<Sending, SendError> {
        Topic::parse(topic).map_err(SendError::BadTopic)?;
        let (new, sealer) = match self.is_sealed(topic) {
            true => self.sealed_offer(topic, &source).await?,
            false => (plain_offer(topic, &source), None),
        };
        let size = new.size;
        let mut state = self.shared().lock();
        if let Some(error) = &state.end {
            return Err(SendError::Ended(error.clone()));
        }
        let offer = state.machine.offer(new);
        state.files.begin_sending(offer);
        drop(state);
        self.shared().wake_driver();
        let (progress, _) = watch::channel(SendProgress::default());
        Ok(Sending { client: self.clone(), offer, source, sealer, size, progress, last: 0 })
    }

    async fn sealed_offer(
        &self,
        topic: &str,
        source: &FileSource,
    ) -> Result<(NewOffer, Option<Arc<StreamSealer>>), SendError> {
        let about = About {
            name: source.name.as_str().into(),
            size: source.size,
            digest: source.digest,
            is_directory: source.is_directory,
        };
        let sealed = self.seal_offer(topic, &about.encode()).await;
        let (data, sealer) = sealed.map_err(SendError::Seal)?;
        let offer = NewOffer {
            topic: topic.into(),
            name: None,
            size: sealed::stream_size(source.size),
            digest: None,
            flags: offers::SEALED,
            data: Some(data.into()),
        };
        Ok((offer, Some(Arc::new(sealer))))
    }
}

fn plain_offer(topic: &str, source: &FileSource) -> NewOffer {
    NewOffer {
        topic: topic.into(),
        name: Some(source.name.as_str().into()),
        size: source.size,
        digest: Some(source.digest),
        flags: if source.is_directory { offers::DIRECTORY } else { 0 },
        data: None,
    }
}

/// What is to be done for a file next.
enum Step {
    Feed { stream: u32, at: u64, length: usize },
    Look,
    Refused(Option<ErrorCode>),
    Done,
    Ended(crate::ConnectError),
}

impl Sending {
    /// How far it is, and every change of that.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<SendProgress> {
        self.progress.subscribe()
    }

    /// Serves all receivers until so many have the whole file and none is at it any more; once so
    /// many have it, a receiver that takes nothing for `patience` is left behind.
    ///
    /// Cancel-safe: it goes on where it was when it is called again.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn deliver(&mut self, receivers: u32, patience: Duration) -> Result<(), SendError> {
        let mut moved = Instant::now();
        let mut seen = u64::MAX;
        loop {
            let wait = self.next_step(receivers, seen);
            let step = match timeout_at(moved + patience, wait).await {
                Ok(step) => step,
                Err(_) => {
                    moved = Instant::now();
                    self.leave_behind(receivers);
                    continue;
                }
            };
            match step {
                Step::Feed { stream, at, length } => {
                    let (from, length) = self.in_file(at, length);
                    let chunks = self.source.chunks(from, length, self.sealer.clone()).await;
                    self.feed(stream, at, &chunks?);
                    (self.last, moved) = (stream, Instant::now());
                }
                Step::Look => {}
                Step::Refused(code) => return Err(SendError::Refused(code)),
                Step::Done => return Ok(()),
                Step::Ended(error) => return Err(SendError::Ended(error)),
            }
            seen = self.show();
        }
    }

    async fn next_step(&self, receivers: u32, seen: u64) -> Step {
        let (offer, last, size) = (self.offer, self.last, self.size);
        let is_sealed = self.sealer.is_some();
        let step = |state: &mut State| {
            if let Some(error) = &state.end {
                return Some(Step::Ended(error.clone()));
            }
            let State { machine, files, .. } = state;
            let sending = files.sending(offer)?;
            if let Some(code) = sending.refused {
                return Some(Step::Refused(code));
            }
            if sending.changes != seen {
                return Some(Step::Look);
            }
            if sending.has_all >= receivers && sending.parts.is_empty() {
                return Some(Step::Done);
            }
            // the next in turn that can be sent something
            let after =
                sending.parts.range(last.wrapping_add(1)..).chain(sending.parts.range(..=last));
            for (&stream, _) in after {
                let Some(room) = machine.part_room(stream) else { continue };
                let mut length = room.length.min(BLOCK);
                if is_sealed && room.at + length as u64 != size {
                    // whole chunks
                    length -= length % sealed::SEALED;
                }
                let is_all = length as u64 == room.granted || is_sealed;
                if length > 0 && (length >= LEAST || is_all) {
                    return Some(Step::Feed { stream, at: room.at, length });
                }
            }
            None
        };
        self.client.until(step).await
    }

    /// Where in the file what lies in the stream from `at` on is, and how long.
    fn in_file(&self, at: u64, length: usize) -> (u64, usize) {
        if self.sealer.is_none() {
            return (at, length);
        }
        // parts begin and go on at chunks, see `feed`
        let from = sealed::to_file(at).unwrap_or(self.source.size);
        let content = length.div_ceil(sealed::SEALED) * sealed::CONTENT;
        let left = usize::try_from(self.source.size.saturating_sub(from)).unwrap_or(usize::MAX);
        (from, content.min(left))
    }

    /// Puts chunks behind those that wait, as far as there is still room.
    fn feed(&self, stream: u32, at: u64, chunks: &[Vec<u8>]) {
        let mut state = self.client.shared().lock();
        let State { machine, files, .. } = &mut *state;
        let is_sealed = self.sealer.is_some();
        let mut next = at;
        if is_sealed && sealed::to_file(at).is_none() {
            // a receiver that wants a part of a chunk
            machine.cancel_part(stream, Some(ErrorCode::Unexpected));
        }
        for chunk in chunks {
            // the link may have been lost meanwhile, and another part have its number
            if machine.part_room(stream).is_none_or(|room| room.at != next) {
                break;
            }
            let after = next + chunk.len() as u64;
            match machine.send_chunk(stream, chunk, after == self.size, is_sealed) {
                Ok(()) => next = after,
                Err(ChunkError::NotNow | ChunkError::Gone) => break,
            }
        }
        if let Some(part) = files.sending(self.offer).and_then(|it| it.parts.get_mut(&stream)) {
            *part = next;
        }
        drop(state);
        self.client.shared().wake_driver();
    }

    /// Tells how far it is; what was told of.
    fn show(&self) -> u64 {
        let mut state = self.client.shared().lock();
        let Some(sending) = state.files.sending(self.offer) else { return 0 };
        let mut receivers: Vec<u64> = sending.parts.values().copied().collect();
        receivers.sort_unstable_by(|one, other| other.cmp(one));
        let progress = SendProgress {
            receivers,
            has_all: sending.has_all,
            declined: sending.declined,
            failed: sending.failed,
            last_code: sending.last_code,
        };
        let changes = sending.changes;
        drop(state);
        self.progress.send_replace(progress);
        changes
    }

    /// Ends the parts of those that take nothing, if so many have all.
    fn leave_behind(&self, receivers: u32) {
        let mut state = self.client.shared().lock();
        let State { machine, files, .. } = &mut *state;
        let Some(sending) = files.sending(self.offer) else { return };
        if sending.has_all < receivers {
            return;
        }
        for &stream in sending.parts.keys() {
            machine.cancel_part(stream, Some(ErrorCode::Unavailable));
        }
        sending.failed += u32::try_from(sending.parts.len()).unwrap_or(u32::MAX);
        sending.parts.clear();
        sending.changes += 1;
        drop(state);
        self.client.shared().wake_driver();
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        let mut state = self.client.shared().lock();
        state.machine.withdraw(self.offer, None);
        state.files.end_sending(self.offer);
        drop(state);
        self.client.shared().wake_driver();
    }
}

/// Read from the file at once.
const BLOCK: usize = 4 * MAX_CHUNK;
/// Less is not worth a look, unless no more is granted.
const LEAST: usize = 2 * MAX_CHUNK;
