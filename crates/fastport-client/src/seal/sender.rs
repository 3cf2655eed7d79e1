//! Sealing what is published.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fastport_seal::{
    Content, MESSAGE_HEAD, Scope, SealError, Sealed, Sealer, SenderId, StreamSealer, TAG,
    sealed_len,
};

use super::state::{Place, SealFailure, new_sender};
use super::{SealOptions, SealedNames, SealedTopics};

/// One sender: its keys, its counters, and where they are written down. Its place is taken when there
/// is something to seal: who only reads needs none.
pub(crate) struct Sender {
    scope: Scope,
    state: Option<PathBuf>,
    topics: SealedTopics,
    names: SealedNames,
    /// `None`: nothing was sealed yet
    sealer: Mutex<Option<Sealer>>,
    /// whoever writes counters down has it; `None`: the sender is no more when this is dropped, and
    /// so nothing need survive
    place: tokio::sync::Mutex<Option<Arc<Place>>>,
    sealed: AtomicU64,
}

impl Sender {
    /// A sender of that session; `None`: there is no key.
    pub(crate) fn new(options: &SealOptions, session: &str) -> Option<Self> {
        Some(Self {
            scope: options.keys.keys().first()?.scope(session),
            state: options.state.clone(),
            topics: SealedTopics::new(&options.topics),
            names: SealedNames::new(options.prefix.as_deref()),
            sealer: Mutex::default(),
            place: tokio::sync::Mutex::default(),
            sealed: AtomicU64::new(0),
        })
    }

    /// Whether what is published on a topic is to be sealed.
    pub(crate) fn seals(&self, topic: &str) -> bool {
        self.topics.contains(topic)
    }

    /// The name that a topic is sealed under.
    pub(crate) fn name_of<'t>(&self, topic: &'t str) -> &'t str {
        self.names.of(topic)
    }

    /// How many messages it has sealed.
    pub(crate) fn sealed(&self) -> u64 {
        self.sealed.load(Ordering::Relaxed)
    }

    /// Whether [`Sender::reserve`] should be called by now.
    pub(crate) fn wants_counters(&self) -> bool {
        self.lock().as_ref().is_none_or(|sealer| sealer.wants().is_some())
    }

    /// Whether somebody is at that.
    pub(crate) fn is_reserving(&self) -> bool {
        self.place.try_lock().is_err()
    }

    /// Writes down that more counters are used, if it is time for that. Cancel-safe: what is written
    /// and not noted is skipped.
    pub(crate) async fn reserve(&self) -> Result<(), SealFailure> {
        let mut place = self.place.lock().await;
        // another may have done it meanwhile
        if !self.wants_counters() {
            return Ok(());
        }
        let is_new = self.lock().is_none();
        if is_new {
            let folder = self.state.clone();
            let begun = blocking(move || Begun::at(folder.as_deref())).await?;
            *place = begun.place;
            *self.lock() = Some(Sealer::new(&self.scope, begun.sender, begun.written));
        }
        let wanted = self.lock().as_ref().and_then(Sealer::wants);
        let Some(up_to) = wanted else { return Ok(()) };
        if let Some(place) = place.clone() {
            blocking(move || place.write(up_to)).await?;
        }
        if let Some(sealer) = self.lock().as_mut() {
            sealer.reserved(up_to);
        }
        Ok(())
    }

    /// Seals a message; `None`: no counter is reserved.
    pub(crate) fn seal(
        &self,
        content: Content<'_>,
        plain: &[u8],
    ) -> Result<Option<Vec<u8>>, SealFailure> {
        self.seal_with(plain, |sealer, buffer| sealer.seal(content, buffer, plain.len()))
    }

    /// Seals what the offer of a stream says of it; `None`: no counter is reserved.
    pub(crate) fn seal_offer(
        &self,
        topic: &str,
        plain: &[u8],
    ) -> Result<Option<(Vec<u8>, StreamSealer)>, SealFailure> {
        let mut stream = None;
        let sealed = self.seal_with(plain, |sealer, buffer| {
            let (sealed, chunks) = sealer.seal_offer(self.names.of(topic), buffer, plain.len())?;
            stream = Some(chunks);
            Ok(sealed)
        });
        Ok(sealed?.zip(stream))
    }

    fn seal_with(
        &self,
        plain: &[u8],
        seal: impl FnOnce(&mut Sealer, &mut [u8]) -> Result<Sealed, SealError>,
    ) -> Result<Option<Vec<u8>>, SealFailure> {
        let mut buffer = vec![0; sealed_len(plain.len())];
        buffer[MESSAGE_HEAD..][..plain.len()].copy_from_slice(plain);
        let mut sealer = self.lock();
        let Some(sealer) = sealer.as_mut() else { return Ok(None) };
        match seal(sealer, &mut buffer) {
            Ok(_) => {
                self.sealed.fetch_add(1, Ordering::Relaxed);
                Ok(Some(buffer))
            }
            Err(SealError::NotReserved) => Ok(None),
            Err(_) => Err(SealFailure::Exhausted),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Sealer>> {
        // nobody panics while holding it
        self.sealer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who the sender is, up to where its counters are used, and its place.
struct Begun {
    sender: SenderId,
    written: u64,
    place: Option<Arc<Place>>,
}

impl Begun {
    fn at(folder: Option<&Path>) -> Result<Self, SealFailure> {
        let place = folder.map(Place::take).transpose()?.flatten();
        Ok(match place {
            Some(place) => {
                Self { sender: place.sender, written: place.written, place: Some(Arc::new(place)) }
            }
            None => Self {
                sender: new_sender().map_err(SealFailure::randomness)?,
                written: 0,
                place: None,
            },
        })
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SealFailure> + Send + 'static,
) -> Result<T, SealFailure> {
    tokio::task::spawn_blocking(work).await.map_err(|_| SealFailure::Internal)?
}

/// What of a limit on payloads is left for what is sealed.
pub(crate) fn plain_limit(limit: usize) -> usize {
    let blocks = limit.saturating_sub(MESSAGE_HEAD + TAG);
    blocks - blocks % fastport_seal::BLOCK
}
