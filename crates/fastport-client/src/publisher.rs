//! Publishing on one topic.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fastport_wire::control::Tier;
use fastport_wire::frame::DataFlags;

use crate::client::Client;
use crate::error::{PublishError, WaitError};

/// A topic that is open for publishing. Cheap to clone; a clone has the same [`Publisher::wait`].
#[derive(Clone)]
pub struct Publisher {
    client: Client,
    topic: Arc<str>,
    numbers: Arc<Numbers>,
}

/// Of counted messages, see [`Client::wait`].
#[derive(Default)]
struct Numbers {
    last: AtomicU64,
    /// by tier; what was waited for, with whatever result
    waited: [AtomicU64; 3],
}

impl Publisher {
    pub(crate) fn new(client: Client, topic: Arc<str>) -> Self {
        Self { client, topic, numbers: Arc::default() }
    }

    /// The topic's name.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Publishes a message, waiting while what waits for the link fills the outbox. Without
    /// [`DataFlags::COUNTED`] it is sent once: lost if the link is lost just then.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn publish(&self, payload: &[u8], flags: DataFlags) -> Result<(), PublishError> {
        let number = self.client.publish(&self.topic, payload, flags).await?;
        self.note(number, flags);
        Ok(())
    }

    /// Publishes a message that is sent again after a reconnect until the relay has it; returns its
    /// number, for [`Client::wait`].
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn publish_counted(
        &self,
        payload: &[u8],
        flags: DataFlags,
    ) -> Result<u64, PublishError> {
        let flags = flags.with(DataFlags::COUNTED);
        let number = self.client.publish(&self.topic, payload, flags).await?;
        self.note(number, flags);
        Ok(number)
    }

    /// Publishes a message at once or not at all.
    ///
    /// # Errors
    /// [`PublishError`]; [`PublishError::NotNow`] where [`Publisher::publish`] would wait.
    pub fn try_publish(&self, payload: &[u8], flags: DataFlags) -> Result<(), PublishError> {
        let number = self.client.try_publish(&self.topic, payload, flags)?;
        self.note(number, flags);
        Ok(())
    }

    /// Waits until all counted messages of this publisher are where `tier` says. It waits as long
    /// as it takes. What an earlier wait called doubtful is not reported again.
    ///
    /// # Errors
    /// [`WaitError`].
    pub async fn wait(&self, tier: Tier) -> Result<(), WaitError> {
        let to = self.numbers.last.load(Ordering::Relaxed);
        let waited = &self.numbers.waited[tier as usize];
        let done = self.client.wait_between(waited.load(Ordering::Relaxed), to, tier).await;
        if !matches!(done, Err(WaitError::Ended(_))) {
            waited.fetch_max(to, Ordering::Relaxed);
        }
        done
    }

    fn note(&self, number: u64, flags: DataFlags) {
        if flags.contains(DataFlags::COUNTED) {
            self.numbers.last.fetch_max(number, Ordering::Relaxed);
        }
    }
}
