//! What is sealed, and for which topic.

/// What is sealed, and where it belongs: all of it is bound into the seal. A message that comes on
/// another topic, as readings that were text, or under another schema, does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content<'a> {
    kind: Kind,
    topic: &'a str,
    schema: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Message,
    Readings,
    Offer,
}

impl<'a> Content<'a> {
    /// A message on that topic.
    #[must_use]
    pub const fn message(topic: &'a str) -> Self {
        Self { kind: Kind::Message, topic, schema: &[] }
    }

    /// A message on that topic with the flag readings, under that schema; empty: under none.
    #[must_use]
    pub const fn readings(topic: &'a str, schema: &'a [u8]) -> Self {
        Self { kind: Kind::Readings, topic, schema }
    }

    /// What the offer of a stream on that topic says of it.
    #[must_use]
    pub const fn offer(topic: &'a str) -> Self {
        Self { kind: Kind::Offer, topic, schema: &[] }
    }

    pub(crate) const fn topic(&self) -> &'a str {
        self.topic
    }

    pub(crate) const fn schema(&self) -> &'a [u8] {
        self.schema
    }

    pub(crate) const fn kind(&self) -> u8 {
        match self.kind {
            Kind::Message => 0x00,
            Kind::Readings => 0x01,
            Kind::Offer => 0x02,
        }
    }
}
