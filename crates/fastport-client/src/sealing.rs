//! What of a client seals: publishing on sealed topics, the offers of sealed streams, figures.

use fastport_seal::{SenderId, StreamOpener, StreamSealer};
use fastport_wire::frame::DataFlags;

use crate::client::Client;
use crate::error::PublishError;
use crate::options::OpenOptions;
use crate::seal::{NotOpened, SealFailure, SealFigures, Sender, content, plain_limit};

impl Client {
    /// How many messages were sealed, opened, and refused, by cause; `None` where
    /// [`crate::Options::seal`] is not set.
    #[must_use]
    pub fn seal_figures(&self) -> Option<SealFigures> {
        let sealed = self.shared().sender.as_ref()?.sealed();
        let mut figures = self.shared().lock().desk.receiver_mut()?.figures();
        figures.sealed = sealed;
        Some(figures)
    }

    /// Whether what is published on a topic is sealed, and what comes on it must be.
    #[must_use]
    pub fn is_sealed(&self, topic: &str) -> bool {
        self.sender_for(topic, DataFlags::NONE).is_some()
    }

    /// Seals what the offer of a stream on `topic` says of it, and gives what seals its chunks. An
    /// offer that is sealed again begins another stream.
    ///
    /// # Errors
    /// [`SealFailure`].
    pub async fn seal_offer(
        &self,
        topic: &str,
        plain: &[u8],
    ) -> Result<(Vec<u8>, StreamSealer), SealFailure> {
        let sender = self.shared().sender.as_ref().ok_or(SealFailure::NoKeys)?;
        loop {
            if sender.wants_counters() {
                sender.reserve().await?;
            }
            // others may have used them up meanwhile
            if let Some(sealed) = sender.seal_offer(topic, plain)? {
                return Ok(sealed);
            }
        }
    }

    /// Opens what the offer of a stream on `topic` says of it; gives its sender, and what opens its
    /// chunks.
    ///
    /// # Errors
    /// [`NotOpened`]; it is counted. Without keys all is.
    pub fn open_offer(
        &self,
        topic: &str,
        sealed: &[u8],
    ) -> Result<(Vec<u8>, SenderId, StreamOpener), NotOpened> {
        let mut state = self.shared().lock();
        let receiver = state.desk.receiver_mut().ok_or(NotOpened::NoKeys)?;
        receiver.open_offer(topic, sealed)
    }

    /// Who seals what is published on a topic; `None`: it goes as it is.
    pub(crate) fn sender_for(&self, topic: &str, flags: DataFlags) -> Option<&Sender> {
        let sender = self.shared().sender.as_ref()?;
        // what somebody else has sealed is sealed
        (!flags.contains(DataFlags::SEALED) && sender.seals(topic)).then_some(sender)
    }

    /// Seals a message, waiting until counters are written down.
    pub(crate) async fn seal(
        &self,
        sender: &Sender,
        topic: &str,
        payload: &[u8],
        flags: DataFlags,
    ) -> Result<Vec<u8>, PublishError> {
        if flags.contains(DataFlags::READINGS) && self.shared().lock().book.topic(topic).is_none() {
            // its schema is sealed in
            self.open(topic, OpenOptions::default()).await.map_err(PublishError::Open)?;
        }
        loop {
            if sender.wants_counters() {
                sender.reserve().await?;
            }
            if let Some(sealed) = self.try_seal(sender, topic, payload, flags)? {
                return Ok(sealed);
            }
        }
    }

    /// Publishes at once or not at all; sealed where it is to be.
    pub(crate) fn try_publish(
        &self,
        topic: &str,
        payload: &[u8],
        flags: DataFlags,
    ) -> Result<u64, PublishError> {
        let Some(sender) = self.sender_for(topic, flags) else {
            return self.shared().try_publish(topic, payload, flags);
        };
        if sender.wants_counters() && !sender.is_reserving() {
            self.reserve_beside();
        }
        let sealed = self.try_seal(sender, topic, payload, flags)?.ok_or(PublishError::NotNow)?;
        self.shared().try_publish(topic, &sealed, flags.with(DataFlags::SEALED))
    }

    fn try_seal(
        &self,
        sender: &Sender,
        topic: &str,
        payload: &[u8],
        flags: DataFlags,
    ) -> Result<Option<Vec<u8>>, PublishError> {
        let state = self.shared().lock();
        let limit = plain_limit(state.payload_limit());
        if payload.len() > limit {
            return Err(PublishError::TooLong { limit });
        }
        let has_readings = flags.contains(DataFlags::READINGS);
        let schema = state.schema_of(topic).filter(|_| has_readings).map(<[u8]>::to_vec);
        let schema = schema.unwrap_or_default();
        drop(state);
        Ok(sender.seal(content(sender.name_of(topic), flags, &schema), payload)?)
    }
}
