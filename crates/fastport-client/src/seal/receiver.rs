//! Opening what comes in.

use std::collections::HashMap;

use bytes::Bytes;
use fastport_seal::{
    Content, Freshness, KeyId, Known, MESSAGE_HEAD, Scope, SenderId, Senders, SessionKey,
    StreamOpener, open, open_offer,
};
use fastport_wire::frame::DataFlags;

use super::figures::{NotOpened, SealFigures};
use super::{SealOptions, SealedNames, SealedTopics};
use crate::subscription::Delivery;

/// Opens the messages of all senders of a session.
pub(crate) struct Receiver {
    scopes: Vec<Scope>,
    senders: Table,
    topics: SealedTopics,
    names: SealedNames,
    figures: SealFigures,
}

impl Receiver {
    pub(crate) fn new(options: &SealOptions, session: &str) -> Self {
        let scope = |key: &SessionKey| key.scope(session);
        let words = options.window.div_ceil(64).max(1);
        Self {
            scopes: options.keys.keys().iter().map(scope).collect(),
            senders: Table { known: HashMap::new(), most: options.senders, words },
            topics: SealedTopics::new(&options.topics),
            names: SealedNames::new(options.prefix.as_deref()),
            figures: SealFigures::default(),
        }
    }

    pub(crate) fn figures(&self) -> SealFigures {
        self.figures
    }

    /// Opens a message, if it is sealed; refuses it, if it should be.
    pub(crate) fn open(
        &mut self,
        delivery: Delivery,
        freshness: Freshness,
    ) -> Result<Delivery, NotOpened> {
        let opened = self.try_open(delivery, freshness);
        match &opened {
            Ok(delivery) => self.figures.opened += u64::from(delivery.sealed_by.is_some()),
            Err(cause) => self.figures.note(*cause),
        }
        opened
    }

    fn try_open(
        &mut self,
        mut delivery: Delivery,
        freshness: Freshness,
    ) -> Result<Delivery, NotOpened> {
        if !delivery.flags.contains(DataFlags::SEALED) {
            return match self.topics.contains(&delivery.topic) {
                true => Err(NotOpened::Unsealed),
                false => Ok(delivery),
            };
        }
        let schema = delivery.schema.as_deref().unwrap_or_default();
        let content = content(self.names.of(&delivery.topic), delivery.flags, schema);
        let mut buffer = delivery.payload.to_vec();
        let opened = open(&self.scopes, &mut self.senders, content, freshness, &mut buffer)?;
        let (length, sender) = (opened.plain.len(), opened.sender);
        delivery.payload = Bytes::from(buffer).slice(MESSAGE_HEAD..MESSAGE_HEAD + length);
        delivery.flags = without_sealed(delivery.flags);
        delivery.sealed_by = Some(sender);
        Ok(delivery)
    }

    /// Opens what the offer of a stream says of it.
    pub(crate) fn open_offer(
        &mut self,
        topic: &str,
        sealed: &[u8],
    ) -> Result<(Vec<u8>, SenderId, StreamOpener), NotOpened> {
        let mut buffer = sealed.to_vec();
        let Self { scopes, senders, figures, names, .. } = self;
        match open_offer(scopes, senders, names.of(topic), Freshness::New, &mut buffer) {
            Ok((opened, chunks)) => {
                figures.opened += 1;
                Ok((opened.plain.to_vec(), opened.sender, chunks))
            }
            Err(error) => {
                figures.note(error.into());
                Err(error.into())
            }
        }
    }
}

/// As what a message on a topic is sealed.
pub(crate) fn content<'a>(topic: &'a str, flags: DataFlags, schema: &'a [u8]) -> Content<'a> {
    match flags.contains(DataFlags::READINGS) {
        true => Content::readings(topic, schema),
        false => Content::message(topic),
    }
}

fn without_sealed(flags: DataFlags) -> DataFlags {
    DataFlags::from_bits(flags.bits() & !DataFlags::SEALED.bits())
}

/// The senders that are known, up to `most`: none is forgotten, since it could then be replayed.
struct Table {
    known: HashMap<(KeyId, SenderId), Known<Box<[u64]>>>,
    most: usize,
    words: usize,
}

impl Senders for Table {
    type Bits = Box<[u64]>;

    fn bits(&self) -> Self::Bits {
        vec![0; self.words].into()
    }

    fn find(&mut self, key: KeyId, sender: SenderId) -> Option<&mut Known<Self::Bits>> {
        self.known.get_mut(&(key, sender))
    }

    fn add(&mut self, known: Known<Self::Bits>) -> bool {
        let has_room = self.known.len() < self.most;
        if has_room {
            self.known.insert((known.key(), known.sender()), known);
        }
        has_room
    }
}
