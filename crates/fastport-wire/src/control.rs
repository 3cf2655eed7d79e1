//! Control messages. On the wire each is one CBOR map whose keys are the numbers of [`Fields`], in
//! the order of its declaration; key 0 says which message it is. JSON has the same messages with
//! the keys by name (module `json`, feature `std`). Unknown keys are ignored.

mod numbers;

use serde::{Deserialize, Serialize};

pub use self::numbers::{ByeReason, ErrorCode, Method, Tier, WhenFull, features, offers, options};
use crate::WireError;

/// The most bytes that a message's body takes beside its texts and byte strings: 32 keys, each with
/// a number or a length of at most 9 bytes.
pub const BODY_ROOM: usize = 512;

/// The version of the protocol, in HELLO and WELCOME.
pub const VERSION: u8 = 2;

/// Every field a control message can have. Its position is its CBOR key: only append.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fields<'a> {
    /// Key 0. Which message; see the numbers of [`Control`].
    pub op: u8,
    /// Key 1. Chosen by the asker, repeated in OK or ERROR.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<u32>,
    /// Key 2. A session's name, at most 64 bytes.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub session: Option<&'a str>,
    /// Key 3. A topic or a filter, as the message says.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub topic: Option<&'a str>,
    /// Key 4. A topic id or stream id, as the message says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// Key 5. An [`ErrorCode`] or [`ByeReason`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u8>,
    /// Key 6. For people.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub text: Option<&'a str>,
    /// Key 7. The protocol's [`VERSION`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u8>,
    /// Key 8. A [`Method`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<u8>,
    /// Key 9. Whose credential the peer will prove to have, at most 64 bytes.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub identity: Option<&'a str>,
    /// Key 10. 16 random bytes.
    #[serde(default, borrow, with = "bytes", skip_serializing_if = "Option::is_none")]
    pub nonce: Option<&'a [u8]>,
    /// Key 11. A password, or a MAC over the handshake.
    #[serde(default, borrow, with = "bytes", skip_serializing_if = "Option::is_none")]
    pub proof: Option<&'a [u8]>,
    /// Key 12. The link epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// Key 13. How many counted frames of the epoch the sender of this has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<u64>,
    /// Key 14. [`features`] of a HELLO or WELCOME, [`options`] of a SUBSCRIBE, data flags of an EMIT,
    /// [`offers`] of an OFFER.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<u32>,
    /// Key 15. A [`WhenFull`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when_full: Option<u8>,
    /// Key 16. Seconds between signs of life; 0: none wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keepalive: Option<u32>,
    /// Key 17. How many messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Key 18. Milliseconds into the past.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age: Option<u64>,
    /// Key 19. A readings schema.
    #[serde(default, borrow, with = "bytes", skip_serializing_if = "Option::is_none")]
    pub schema: Option<&'a [u8]>,
    /// Key 20. A payload.
    #[serde(default, borrow, with = "bytes", skip_serializing_if = "Option::is_none")]
    pub data: Option<&'a [u8]>,
    /// Key 21. Milliseconds since 1970-01-01T00:00:00Z.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<u64>,
    /// Key 22. The most bytes a payload may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_limit: Option<u32>,
    /// Key 23. Milliseconds to wait before coming back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<u32>,
    /// Key 24. What the peer calls itself, or a file's name.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub name: Option<&'a str>,
    /// Key 25. A stream's size in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Key 26. Where in a stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Key 27. SHA-256 of a whole stream.
    #[serde(default, borrow, with = "bytes", skip_serializing_if = "Option::is_none")]
    pub digest: Option<&'a [u8]>,
    /// Key 28. A [`Tier`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<u8>,
    /// Key 29. Seconds for which the relay holds the peer's state after its link is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linger: Option<u32>,
    /// Key 30. The epoch goes on where it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumed: Option<bool>,
    /// Key 31. One receiver's part of an offered stream, towards its sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<u32>,
}

/// Byte strings as CBOR byte strings, borrowed.
mod bytes {
    use core::fmt;

    use serde::de::{Deserializer, Error, Visitor};
    use serde::ser::Serializer;

    // serde's `with` names both signatures; the reference to an Option is its wish
    #[allow(clippy::ref_option)]
    pub(super) fn serialize<S: Serializer>(
        value: &Option<&[u8]>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(bytes) => serializer.serialize_bytes(bytes),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<&'de [u8]>, D::Error> {
        struct Borrowed;
        impl<'de> Visitor<'de> for Borrowed {
            type Value = Option<&'de [u8]>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a byte string")
            }

            fn visit_borrowed_bytes<E: Error>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
                Ok(Some(bytes))
            }
        }
        deserializer.deserialize_bytes(Borrowed)
    }
}

/// How a [`Fields`] entry becomes a message's field: required, or optional.
trait FromField<T>: Sized {
    fn from_field(field: Option<T>) -> Result<Self, WireError>;
    fn into_field(self) -> Option<T>;
}

impl<T> FromField<T> for Option<T> {
    fn from_field(field: Option<T>) -> Result<Self, WireError> {
        Ok(field)
    }

    fn into_field(self) -> Option<T> {
        self
    }
}

macro_rules! required {
    ($($kind:ty),*) => { $(
        impl<'a> FromField<$kind> for $kind {
            fn from_field(field: Option<$kind>) -> Result<Self, WireError> {
                let _: core::marker::PhantomData<&'a ()> = core::marker::PhantomData;
                field.ok_or(WireError::BadControl)
            }

            fn into_field(self) -> Option<$kind> {
                Some(self)
            }
        }
    )* };
}

required!(u8, u32, u64, bool, &'a str, &'a [u8]);

/// Declares the messages: their structs, the enum of all, and the ways to and from [`Fields`].
macro_rules! messages {
    ($(
        $(#[$doc:meta])*
        $name:ident = $number:literal, $text:literal {
            $( $(#[$field_doc:meta])* $field:ident : $kind:ty ),* $(,)?
        }
    )*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
            pub struct $name<'a> {
                $( $(#[$field_doc])* pub $field: $kind, )*
                /// Holds the lifetime where no field borrows.
                pub borrow: core::marker::PhantomData<&'a ()>,
            }

            impl<'a> From<$name<'a>> for Control<'a> {
                fn from(message: $name<'a>) -> Self {
                    Self::$name(message)
                }
            }
        )*

        /// One control message. The discriminant in the documentation is its `op`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[non_exhaustive]
        #[allow(missing_docs, reason = "each variant is documented on its struct")]
        pub enum Control<'a> {
            $( $name($name<'a>), )*
        }

        impl<'a> Control<'a> {
            /// The names used in JSON, with their numbers.
            pub const OPS: &'static [(&'static str, u8)] = &[ $( ($text, $number), )* ];

            /// Reads a message from its fields.
            ///
            /// # Errors
            /// [`WireError::UnknownOp`]; [`WireError::BadControl`] when a field it must have is
            /// not there.
            pub fn from_fields(fields: &Fields<'a>) -> Result<Self, WireError> {
                match fields.op {
                    $(
                        $number => Ok(Self::$name($name {
                            $( $field: FromField::from_field(fields.$field)?, )*
                            borrow: core::marker::PhantomData,
                        })),
                    )*
                    unknown => Err(WireError::UnknownOp(unknown)),
                }
            }

            /// The message as fields.
            #[must_use]
            pub fn to_fields(&self) -> Fields<'a> {
                match *self {
                    $(
                        Self::$name(message) => {
                            let _ = message;
                            Fields {
                                op: $number,
                                $( $field: FromField::into_field(message.$field), )*
                                ..Fields::default()
                            }
                        }
                    )*
                }
            }

            /// The message's name, as in JSON.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self {
                    $( Self::$name(_) => $text, )*
                }
            }
        }
    };
}

messages! {
    /// The first message of a peer.
    Hello = 0, "hello" {
        /// [`VERSION`].
        version: u8,
        /// The session to join.
        session: &'a str,
        /// A [`Method`]; none: [`Method::Open`].
        method: Option<u8>,
        /// Whose credential will be proven; a device's id.
        identity: Option<&'a str>,
        /// 16 bytes, for [`Method::DeviceKey`].
        nonce: Option<&'a [u8]>,
        /// Chosen at random when the peer's state is new; the same again to resume.
        epoch: u64,
        /// Counted frames of the epoch the peer has from the relay; 0 when the epoch is new.
        taken: Option<u64>,
        /// [`features`].
        flags: Option<u32>,
        /// What happens to the peer's outbox when it is full: a [`WhenFull`].
        when_full: Option<u8>,
        /// Wish: seconds between signs of life.
        keepalive: Option<u32>,
        /// Wish: seconds for which the relay holds the peer's state after its link is gone.
        linger: Option<u32>,
        /// What the peer calls itself; a newer link of the same identity and name replaces this one.
        name: Option<&'a str>,
    }
    /// Asks for a [`Proof`].
    Challenge = 1, "challenge" {
        /// The [`Method`] to prove by.
        method: u8,
        /// 16 bytes, for [`Method::DeviceKey`].
        nonce: Option<&'a [u8]>,
    }
    /// The answer to a [`Challenge`].
    Proof = 2, "proof" {
        /// The password in UTF-8, or the 32 bytes of the peer's MAC.
        proof: &'a [u8],
    }
    /// The peer is in its session.
    Welcome = 3, "welcome" {
        /// [`VERSION`].
        version: u8,
        /// The epoch of the HELLO goes on; otherwise both counts begin at 0.
        resumed: bool,
        /// Counted frames of the epoch that the relay has from the peer.
        taken: u64,
        /// Seconds after which a silent link is asked, and after as many again closed; 0: never.
        keepalive: Option<u32>,
        /// Seconds for which the relay holds the peer's state after its link is gone.
        linger: Option<u32>,
        /// The most bytes a payload may have.
        payload_limit: u32,
        /// The relay's clock.
        clock: Option<u64>,
        /// The relay's MAC, for [`Method::DeviceKey`].
        proof: Option<&'a [u8]>,
        /// Of HELLO's [`features`] those that need both sides, as far as they are in force.
        flags: Option<u32>,
        /// The relay's software and version, for people.
        text: Option<&'a str>,
    }
    /// Asks to publish on a topic. Answered by a TOPIC frame and [`Ok`] with the id.
    Open = 4, "open" {
        /// Repeated in the answer.
        request: u32,
        /// The topic's name.
        topic: &'a str,
        /// The schema of its readings.
        schema: Option<&'a [u8]>,
        /// The [`Tier`] the publisher means to wait for; none: [`Tier::Taken`].
        tier: Option<u8>,
    }
    /// Gives back the right to publish on a topic id.
    CloseTopic = 5, "close-topic" {
        /// Repeated in the answer, where one is wanted.
        request: Option<u32>,
        /// The topic id.
        id: u32,
    }
    /// Asks for the messages of all topics that a filter selects.
    Subscribe = 6, "subscribe" {
        /// Repeated in the answer.
        request: u32,
        /// The filter.
        topic: &'a str,
        /// [`options`].
        flags: Option<u32>,
        /// As [`History`]: messages of each topic before the first live one; none: 0.
        count: Option<u64>,
        /// As [`History`].
        age: Option<u64>,
    }
    /// Ends a subscription.
    Unsubscribe = 7, "unsubscribe" {
        /// Repeated in the answer.
        request: u32,
        /// The filter, as in its SUBSCRIBE.
        topic: &'a str,
    }
    /// Asks for retained messages. They come as DATA in order, then [`Ok`] with their count.
    History = 8, "history" {
        /// Repeated in the answer.
        request: u32,
        /// A filter.
        topic: &'a str,
        /// At most that many of each topic, the newest; none: all.
        count: Option<u64>,
        /// Not older than that; none: any.
        age: Option<u64>,
    }
    /// Offers a stream on a topic.
    Offer = 9, "offer" {
        /// The topic.
        topic: &'a str,
        /// The stream, chosen by its sender; the relay gives it another towards receivers.
        id: u32,
        /// The file's name.
        name: Option<&'a str>,
        /// Bytes, when known.
        size: Option<u64>,
        /// SHA-256 of the whole, when known.
        digest: Option<&'a [u8]>,
        /// [`offers`].
        flags: Option<u32>,
        /// Of a sealed stream: what the offer says, sealed.
        data: Option<&'a [u8]>,
    }
    /// Takes an offered stream, or says that its receiver has it all.
    Accept = 10, "accept" {
        /// The stream.
        id: u32,
        /// From where; none: from its start. At its end: it is there, and found sound.
        offset: Option<u64>,
        /// To the sender: which receiver's part this is about; the id of its CHUNKs and CREDITs.
        stream: Option<u32>,
    }
    /// Refuses an offered stream.
    Decline = 11, "decline" {
        /// The stream.
        id: u32,
        /// An [`ErrorCode`].
        code: Option<u8>,
    }
    /// Ends a stream before its end, by either side.
    Cancel = 12, "cancel" {
        /// The stream.
        id: u32,
        /// An [`ErrorCode`].
        code: Option<u8>,
        /// About what the peer offers: that receiver's part, or 0: all of it. None: what it takes.
        stream: Option<u32>,
    }
    /// Makes a session, where the relay's configuration lets peers do so.
    CreateSession = 13, "create-session" {
        /// Repeated in the answer.
        request: u32,
        /// Its name.
        session: &'a str,
        /// The password of its first identity, whose name is `identity`; none: an open session.
        proof: Option<&'a [u8]>,
        /// The first identity; none: `user`.
        identity: Option<&'a str>,
    }
    /// A request failed, or what the peer did ends its link.
    Error = 14, "error" {
        /// The request that failed; none: the link is closed.
        request: Option<u32>,
        /// An [`ErrorCode`].
        code: u8,
        /// For people: what, where, and what to do.
        text: Option<&'a str>,
        /// Milliseconds after which trying again may help; none: it will not.
        retry: Option<u32>,
    }
    /// The sender closes the link in good order.
    Bye = 15, "bye" {
        /// A [`ByeReason`].
        code: u8,
        /// Milliseconds to wait before coming back.
        retry: Option<u32>,
    }
    /// A request succeeded.
    Ok = 16, "ok" {
        /// The request.
        request: u32,
        /// OPEN: the topic id.
        id: Option<u32>,
        /// SUBSCRIBE, HISTORY: how many retained messages came before this.
        count: Option<u64>,
        /// STATUS: a JSON object.
        text: Option<&'a str>,
    }
    /// Publishes one message on a topic by name, for peers that do not keep ids.
    Emit = 17, "emit" {
        /// Answered by OK once taken, where set.
        request: Option<u32>,
        /// The topic's name.
        topic: &'a str,
        /// DATA flags (counted, keep, sealed).
        flags: Option<u32>,
        /// The payload.
        data: &'a [u8],
    }
    /// Asks for the figures of the relay that the peer may see. Answered by [`Ok`] with text.
    Status = 18, "status" {
        /// Repeated in the answer.
        request: u32,
    }
}

impl<'a> Control<'a> {
    /// Reads the body of a CONTROL frame.
    ///
    /// # Errors
    /// [`WireError::BadControl`] when it is not one CBOR map of the known shape with all fields the
    /// message must have; [`WireError::UnknownOp`].
    pub fn decode(body: &'a [u8]) -> Result<Self, WireError> {
        Self::from_fields(&fields_of(body)?)
    }

    /// The `request` and `op` of a message that [`Control::decode`] refused, as far as they can be
    /// read: whom to answer that it is not known.
    #[must_use]
    pub fn request_of(body: &'a [u8]) -> Option<u32> {
        fields_of(body).ok()?.request
    }

    /// Writes the body of a CONTROL frame to the front of `out`; returns its length.
    ///
    /// # Errors
    /// [`WireError::NoRoom`].
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, WireError> {
        let writer = serde_cbor::ser::SliceWrite::new(out);
        let mut serializer = serde_cbor::Serializer::new(writer).packed_format();
        self.to_fields().serialize(&mut serializer).map_err(|_| WireError::NoRoom)?;
        Ok(serializer.into_inner().bytes_written())
    }
}

fn fields_of(body: &[u8]) -> Result<Fields<'_>, WireError> {
    // serde would take an array for a map's values in order
    if body.first().is_none_or(|first| first >> 5 != CBOR_MAP) {
        return Err(WireError::BadControl);
    }
    serde_cbor::de::from_slice_with_scratch(body, &mut []).map_err(|_| WireError::BadControl)
}

/// The major type of a map (RFC 8949, section 3.1).
const CBOR_MAP: u8 = 5;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_has_these_bytes() {
        let message = Control::Open(Open { request: 1, topic: "a/b", ..Open::default() });
        let mut out = [0; 32];
        let length = message.encode(&mut out).expect("32 bytes are enough");
        // {0: 4, 1: 1, 3: "a/b"}
        assert_eq!(&out[..length], b"\xa3\x00\x04\x01\x01\x03\x63a/b");
        assert_eq!(Control::decode(&out[..length]), Ok(message));
    }

    #[test]
    fn unknown_keys_are_ignored() {
        // {0: 18, 1: 7, 99: [1]}
        let body = b"\xa3\x00\x12\x01\x07\x18\x63\x81\x01";
        let expected = Control::Status(Status { request: 7, ..Status::default() });
        assert_eq!(Control::decode(body), Ok(expected));
    }

    #[test]
    fn each_fault_has_its_name() {
        for (body, error) in [
            (&b""[..], WireError::BadControl),
            (b"\xa1\x00\x18\xc8", WireError::UnknownOp(200)),
            (b"\xa1\x00\x04", WireError::BadControl),
            (b"\xa2\x00\x12\x01\x61a", WireError::BadControl),
            (b"\xa2\x00\x12\x01\x07\x00", WireError::BadControl),
            (b"\xa3\x00\x04\x01\x01\x03\x61\xff", WireError::BadControl),
            (b"\x00", WireError::BadControl),
        ] {
            assert_eq!(Control::decode(body), Err(error), "{body:x?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_message_that_comes_back_or_an_error(
            body in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let Ok(message) = Control::decode(&body) else { return Ok(()) };
            let mut out = [0; 256];
            let length = message.encode(&mut out).expect("256 bytes are enough");
            prop_assert_eq!(Control::decode(&out[..length]), Ok(message));
        }
    }
}
